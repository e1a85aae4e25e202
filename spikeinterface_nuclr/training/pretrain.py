"""pretrain: many recordings in, a Checkpoint out. Devices, processes and precision are Lightning Fabric's."""

import math
import time
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from ..errors import InputError
from ..model.checkpoint import Checkpoint
from ..model.device import choose_device, choose_precision
from ..model.encoder import Encoder
from ..model.loading import load_checkpoint
from .animals import beginnings, divide
from .building import build_store
from .config import PretrainConfig
from .losses import ContrastiveLoss, VICRegLoss
from .monitors import look
from .runs import Run
from .store import Store, is_store
from .views import Recording, Views, draw_sample, packed

PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed"}
_PATIENCE = timedelta(hours=12)  # of the other processes while one looks at the held-out animals


def pretrain(
    sources,
    output,
    config: PretrainConfig | None = None,
    *,
    initial: str | Path | Checkpoint | None = None,
    hold_out: list[str] | tuple[str, ...] = (),
    exclude: list[str] | tuple[str, ...] = (),
    card: dict | None = None,
    reading: dict | None = None,
    device: str = "auto",
    precision: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    n_jobs: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    plot: bool = False,
    progress: bool = True,
) -> Checkpoint:
    """Train an encoder without labels, from scratch or from the weights of another.

    Parameters
    ----------
    sources : path or list
        A store that `build_store` made; or what `build_store` takes, of which a store is made beside the output for
        the time of the run.
    output : path
        The ``.safetensors`` file to write, with the best weights so far at each look at the held-out animals; without
        such animals, the last. Beside it stand the log (``.log.csv``), that of TensorBoard (``.tensorboard``), until
        the end the state from which `resume` goes on (``.state.safetensors``), and, where the last weights were not
        the best, these (``.last.safetensors``).
    config : PretrainConfig, optional
        Default: the published settings, with the encoder of `initial` where one is given.
    initial : str, Path or Checkpoint, optional
        As `load_checkpoint`: the weights to start from, to fine-tune them. The projector starts from scratch.
    hold_out : list of str
        Animals (names, or patterns as of `fnmatch`) that are only monitored. The weights that are kept are those with
        the best re-identification on them, so they are no test.
    exclude : list of str
        Animals that are neither trained on nor looked at: those to test on later.
    card : dict, optional
        What to say of the checkpoint, beside what the run itself knows, which it cannot overrule.
    reading : dict, optional
        Keywords of `read_population` for sources that are not a store, such as {"series": "DfOverF"}.
    device : str, default: "auto"
    precision : {"auto", "bfloat16", "float32"}
        "bfloat16" is autocast over float32 weights.
    devices, nodes : int, default: 1
        Processes (GPUs, where there are any) on each node, and nodes. A step's samples are shared among all. Processes
        that no launcher has started (SLURM, torchrun) run the calling script from its beginning.
    n_jobs : int, optional
        Processes that draw views beside each training process. Default: none on a processor, four for a GPU.
    resume : bool, default: False
        Go on from the saved state of an interrupted run of the same config and recordings.
    overwrite : bool, default: False
    plot : bool, default: False
        Draw the curves of the log at each look (``.curves.png``).
    progress : bool, default: True

    Returns
    -------
    Checkpoint
        As in `output`.

    Raises
    ------
    InputError
        A parameter, a source or the output cannot be used, or the loss is not finite.
    CheckpointError
        The recordings hold another signal than the encoder takes, or `initial` cannot be had.
    DeviceError
        The device is absent.

    Examples
    --------
    >>> from spikeinterface_nuclr import EncoderConfig, PretrainConfig, pretrain, simulate_relations
    >>> populations = [simulate_relations(12, 30.0, seed=seed) for seed in range(2)]
    >>> encoder = EncoderConfig(dim=16, heads=2, head_dim=8, num_patches=4)  # tiny, to be quick
    >>> config = PretrainConfig(encoder=encoder, steps=2, samples=1)
    >>> checkpoint = pretrain(populations, "model.safetensors", config, device="cpu", progress=False)
    >>> checkpoint.card["recordings"]
    2
    """
    try:
        import tensorboard  # noqa: F401 (needed at the first look, hours from now)
        from lightning_fabric import Fabric
        from lightning_fabric.strategies import DDPStrategy
    except ImportError:
        raise InputError("training needs more packages: pip install 'spikeinterface-nuclr[train]'") from None
    start = None if initial is None else load_checkpoint(initial)
    config = _with_encoder_of(start, config)
    run = Run(output, resume=resume, overwrite=overwrite)
    device = choose_device(device)
    precision = choose_precision(precision, device)
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r} is not for training: use auto, float32 or bfloat16")
    several = devices * nodes > 1
    try:
        store = _store(sources, run, config, reading or {}, several=several, progress=progress)
        recordings, validation = divide(store, list(hold_out), list(exclude), config)
    except Exception:
        if not resume:
            run.discard_store()
        raise
    run.identify(
        config=config.to_dict(), recordings=store.fingerprint(), precision=precision,
        hold_out=list(hold_out), exclude=list(exclude), initial=start.sha256 if start else "",
    )  # fmt: skip

    torch.manual_seed(config.seed)
    network = Network(config, start)
    fabric = Fabric(
        accelerator=device.type,
        devices=devices if several or device.index is None else [device.index],
        num_nodes=nodes,
        strategy=DDPStrategy(timeout=_PATIENCE) if several else "auto",
        precision=PRECISIONS[precision],
    )
    fabric.launch()
    model, *optimizers = fabric.setup(network, *optimizers_of(network, config))
    if resume:
        run.load(network, optimizers)
    facts = {
        "training": config.to_dict(),
        "training_device": str(device),
        "training_precision": precision,
        "training_processes": fabric.world_size,
        "recordings": len(recordings),
        "animals": len({recording.probe.animal for recording in recordings}),
        "held_out": list(hold_out),
        "excluded": list(exclude),
    }
    if start:
        facts["initial"] = {"name": start.name, "sha256": start.sha256}

    populations = beginnings(validation, config) if fabric.is_global_zero else []

    def look_and_save(row: dict) -> None:
        looked = network.checkpoint({**(card or {}), **facts, "training_seconds": row["seconds"]})
        row |= look(populations, looked, device=str(device), probe=config.probe)
        run.record(row, looked, network, optimizers, plot=plot)

    _train(fabric, model, optimizers, recordings, config, run, look_and_save, n_jobs, progress=progress)
    if fabric.is_global_zero:
        run.finish()
    fabric.barrier()
    return load_checkpoint(run.output)


def _train(fabric, model, optimizers, recordings, config, run, look_and_save, n_jobs, *, progress: bool) -> None:
    """The steps of a run from where it stands to its end."""
    began, neurons, logged = time.monotonic(), 0, []
    before = run.seconds
    with tqdm(
        total=config.steps, initial=run.step, desc="training", unit="step",
        disable=not progress or not fabric.is_global_zero,
    ) as bar:  # fmt: skip
        for batches in _steps(fabric, recordings, config, run.step, n_jobs):
            if isinstance(batches, InputError):
                raise batches
            # Every step has seeds of its own, so that a resumed run needs no generator's state.
            torch.manual_seed(int(_generator(config, run.step, "dropout", fabric.global_rank).integers(2**62)))
            for group in (group for optimizer in optimizers for group in optimizer.param_groups):
                group["lr"] = config.learning_rate * _schedule(run.step, config)
            parts = training_step(fabric, model, optimizers, batches, config.clip)
            loss = sum(parts.values())
            if not math.isfinite(loss):
                raise InputError(f"the loss is not finite at step {run.step}: lower the learning rate")
            run.step += 1
            logged.append(parts)
            seconds = time.monotonic() - began
            neurons += fabric.world_size * sum(len(patches) for views in batches for patches in views.patches)
            bar.set_postfix_str(f"loss {loss:.3f}, {neurons / seconds:.0f} neuron-windows/s", refresh=False)
            bar.update()
            if run.step % config.monitor_every == 0 or run.step == config.steps:
                run.seconds = before + seconds
                means = {name: float(np.mean([parts[name] for parts in logged])) for name in parts}
                if fabric.is_global_zero:
                    row = {"step": run.step, "seconds": round(run.seconds), "loss": sum(means.values()), **means}
                    look_and_save(row)
                logged = []


def training_step(fabric, model, optimizers, batches: list[Views], clip: float) -> dict[str, float]:
    """One step of the optimisers on a process's share of the samples: the parts of the loss of all of them.

    The loss is the mean over the samples of all batches of all processes, weighted by their matches.
    """
    model.train()
    matches = torch.tensor(float(sum(views.matches for views in batches)), device=fabric.device)
    matches = fabric.all_reduce(matches, reduce_op="sum")
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    total: dict[str, torch.Tensor] = {}
    for number, views in enumerate(batches):
        last = number == len(batches) - 1
        with nullcontext() if last else fabric.no_backward_sync(model):
            parts = model(*(_on(fabric.device, pair) for pair in (views.patches, views.units)), views.sizes)
            share = views.matches / matches
            # Processes average their gradients; what is wanted is the sum.
            fabric.backward(sum(parts.values()) * share * fabric.world_size)
        for name, part in parts.items():
            total[name] = total.get(name, 0.0) + part.detach() * share
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)  # Fabric's clips what one optimiser moves
    for optimizer in optimizers:
        optimizer.step()
    summed = fabric.all_reduce(torch.stack(list(total.values())), reduce_op="sum")
    return dict(zip(total, summed.tolist(), strict=True))


class Network(nn.Module):
    """What is trained: an encoder, and an objective with its projector.

    Parameters
    ----------
    config : PretrainConfig
    start : Checkpoint, optional
        Weights of the encoder. Default: random ones.
    """

    def __init__(self, config: PretrainConfig, start: Checkpoint | None = None):
        super().__init__()
        self.encoder = Encoder(config.encoder)
        if start:
            self.encoder.load_state_dict(start.weights)
        vicreg = config.objective == "vicreg"
        dim, contrast = config.encoder.dim, (config.temperature, config.objective, config.temperature_scope)
        self.objective = VICRegLoss(dim) if vicreg else ContrastiveLoss(dim, *contrast)

    def forward(self, patches, units, sizes) -> dict[str, torch.Tensor]:
        """Parts of the loss of some samples, both views in one pass of the encoder; arguments as of `Views`."""
        embeddings = self.encoder(torch.cat(patches), np.concatenate(sizes)).split([len(p) for p in patches])
        return self.objective(*(x.float() for x in embeddings), *sizes, *units)

    def checkpoint(self, card: dict) -> Checkpoint:
        """The encoder as it is now."""
        weights = {key: value.detach().float().cpu().clone() for key, value in self.encoder.state_dict().items()}
        return Checkpoint(self.encoder.config, weights, card)


class Steps(Dataset):
    """A process's share of the samples of each step, in batches of at most `batch_size` tokens."""

    def __init__(self, recordings: list[Recording], config: PretrainConfig, rank: int, processes: int):
        self.recordings, self.config, self.rank, self.processes = recordings, config, rank, processes
        # Between one vote a recording and one vote a neuron and second.
        weights = np.sqrt([recording.probe.n_units * recording.seconds for recording in recordings])
        weights *= [recording.probe.weight for recording in recordings]
        self.weights = weights / weights.sum()

    def __getitem__(self, step: int) -> list[Views] | InputError:
        # A sample has a generator of its own, so that it does not depend on which process draws it. An error is handed
        # over, not raised: from another process it would arrive as a whole traceback.
        try:
            samples = [
                draw_sample(
                    self.recordings,
                    self.weights,
                    _generator(self.config, step, "sample", number),
                    max_view_distance_s=self.config.max_view_distance_s,
                    min_unit_fraction=self.config.min_unit_fraction,
                    max_units=self.config.max_units or None,
                )
                for number in range(self.rank, self.config.samples, self.processes)
            ]
        except InputError as error:
            return error
        return list(packed(samples, self.config.batch_size))


def _steps(fabric, recordings, config: PretrainConfig, first: int, n_jobs: int | None) -> DataLoader:
    if config.samples < fabric.world_size:
        raise InputError(f"{config.samples} samples cannot be shared by {fabric.world_size} processes: raise samples")
    if n_jobs is None:
        n_jobs = 4 if fabric.device.type == "cuda" else 0
    steps = Steps(recordings, config, fabric.global_rank, fabric.world_size)
    return DataLoader(
        steps, batch_size=None, sampler=range(first, config.steps), num_workers=n_jobs, collate_fn=_as_drawn
    )


def _as_drawn(batches):
    return batches


def _generator(config: PretrainConfig, step: int, purpose: str, number: int) -> np.random.Generator:
    return np.random.default_rng([config.seed, step, ("sample", "dropout").index(purpose), number])


def _with_encoder_of(start: Checkpoint | None, config: PretrainConfig | None) -> PretrainConfig:
    if start is None:
        return config or PretrainConfig()
    config = config or PretrainConfig(encoder=start.config)
    given, wanted = config.encoder.to_dict(), start.config.to_dict()
    for name in wanted:
        if name != "dropout" and given[name] != wanted[name]:
            raise InputError(
                f"encoder.{name} is {given[name]!r}, the weights of {start.name} have {wanted[name]!r}: "
                "take the encoder of its own config"
            )
    return config


def _store(sources, run: Run, config: PretrainConfig, reading: dict, *, several: bool, progress: bool) -> Store:
    if isinstance(sources, list | tuple) and len(sources) == 1 and is_store(sources[0]):
        [sources] = sources
    if isinstance(sources, Store):
        return sources
    if is_store(sources):
        return Store(sources)
    if several:
        raise InputError("several processes train from one store: make it first, with `nuclr store build`")
    frame_rate = 1 / config.encoder.bin_s if config.encoder.signal == "traces" else None
    store, damaged = build_store(sources, run.store, frame_rate=frame_rate, progress=progress, **reading)
    if damaged:
        raise InputError(damaged[0])
    return store


def optimizers_of(network: Network, config: PretrainConfig) -> list[torch.optim.Optimizer]:
    """Weight decay on matrices only: biases and norms have one dimension."""
    matrices = [p for p in network.parameters() if p.ndim > 1]
    inner, optimizers = [], []
    if config.optimizer == "muon":
        inner = [p for name, p in network.encoder.named_parameters() if p.ndim > 1 and "blocks" in name]
        settings = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
        optimizers.append(torch.optim.Muon(inner, **settings, adjust_lr_fn="match_rms_adamw"))
    moved = {id(p) for p in inner}
    groups = [
        {"params": [p for p in matrices if id(p) not in moved], "weight_decay": config.weight_decay},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [*optimizers, torch.optim.AdamW(groups, lr=config.learning_rate)]


def _schedule(step: int, config: PretrainConfig) -> float:
    warm = max(round(config.warmup * config.steps), 1)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(config.steps - warm, 1)))


def _on(device, arrays) -> list[torch.Tensor]:
    return [torch.from_numpy(array).to(device, non_blocking=True) for array in arrays]
