"""pretrain: train an encoder on many recordings, on the devices and processes of Lightning Fabric."""

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
from ..io.where import selects
from ..model.checkpoint import Checkpoint
from ..model.device import choose_device, choose_precision
from ..model.encoder import Encoder
from ..model.loading import load_checkpoint
from .animals import divide, monitored_populations
from .building import build_store
from .config import PretrainConfig
from .losses import ContrastiveLoss, VICRegLoss
from .monitors import monitor
from .runs import Run
from .store import Store, is_store
from .views import Recording, Views, draw_sample, packed
from .watch import Watch

PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed"}
_TIMEOUT = timedelta(hours=12)  # other processes wait while one evaluates the held-out animals


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
    """Train an encoder without labels, from scratch or from existing weights.

    Parameters
    ----------
    sources : path or list
        A store from `build_store`, or sources for `build_store`, from which a temporary store is built beside the
        output.
    output : path
        The ``.safetensors`` file to write. It holds the weights with the best re-identification of held-out animals so
        far, or the last weights if no animals are held out. Further files are written beside it: the log
        (``.log.csv``), the log of TensorBoard (``.tensorboard``), until the end of the run the state for `resume`
        (``.state.safetensors``), and the last weights if they were not the best (``.last.safetensors``).
    config : PretrainConfig, optional
        Default: the published settings, with the encoder of `initial` if given.
    initial : str, Path or Checkpoint, optional
        Weights to fine-tune, as in `load_checkpoint`. The projector is initialised randomly.
    hold_out : list of str
        Animals (names or `fnmatch` patterns) that are not trained on, only monitored. Do not use them as a test set:
        the weights with the best re-identification of these animals are selected.
    exclude : list of str
        Animals that are neither trained on nor monitored, for testing later.
    card : dict, optional
        Entries for the checkpoint's card. Entries that the run itself writes take precedence.
    reading : dict, optional
        Keywords of `read_population` for sources that are not a store, such as {"series": "DfOverF"}.
    device : str, default: "auto"
        As in `embed`.
    precision : {"auto", "bfloat16", "float32"}
        "bfloat16" uses autocast with float32 weights.
    devices, nodes : int, default: 1
        Number of processes (GPUs, if available) on each node, and number of nodes. The samples of a step are divided
        among them. Without a launcher (SLURM, torchrun), further processes run the calling script from its beginning.
        If one fails, the others exit within a minute.
    n_jobs : int, optional
        Number of processes that draw views for each training process. Default: none on a CPU, four for a GPU.
    resume : bool, default: False
        Continue an interrupted run with the same config and recordings from its saved state.
    overwrite : bool, default: False
        Replace existing output files.
    plot : bool, default: False
        Plot the log at each evaluation (``.curves.png``).
    progress : bool, default: True

    Returns
    -------
    Checkpoint
        The checkpoint in `output`.

    Raises
    ------
    InputError
        A parameter, a source or the output cannot be used, or the loss is not finite.
    CheckpointError
        The recordings hold another signal than the encoder takes, or `initial` cannot be loaded.
    DeviceError
        The device is not available.

    Examples
    --------
    >>> from spikeinterface_nuclr import EncoderConfig, PretrainConfig, pretrain, simulate_population
    >>> populations = [simulate_population(12, 30.0, seed=seed) for seed in range(2)]
    >>> encoder = EncoderConfig(dim=16, heads=2, head_dim=8, num_patches=4)  # tiny, to be quick
    >>> config = PretrainConfig(encoder=encoder, steps=2, samples=1)
    >>> checkpoint = pretrain(populations, "model.safetensors", config, device="cpu", progress=False)
    >>> checkpoint.card["recordings"]
    2
    """
    try:
        import tensorboard  # noqa: F401 (checked now, because it is first needed after hours of training)
        from lightning_fabric import Fabric
        from lightning_fabric.strategies import DDPStrategy
    except ImportError:
        raise InputError("training needs more packages: pip install 'spikeinterface-nuclr[train]'") from None
    start = None if initial is None else load_checkpoint(initial)
    if start and start.config.members > 1:
        raise InputError(f"{start.name}: is an ensemble: start from one of its members, such as {start.name}#1")
    config = _resolved_config(start, config)
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
        strategy=DDPStrategy(timeout=_TIMEOUT) if several else "auto",
        precision=PRECISIONS[precision],
    )
    fabric.launch()
    with Watch(fabric.global_rank, fabric.world_size):
        model, *optimizers = fabric.setup(network, *optimizers_of(network, config))
        if resume:
            run.load(network, optimizers)
        facts = {
            "training": config.to_dict(),
            "training_device": str(device),
            "training_precision": precision,
            "training_processes": fabric.world_size,
            "recordings": len(recordings),
            "training_animals": sorted({recording.probe.animal for recording in recordings}),
            "held_out": list(hold_out),
            "excluded": list(exclude),
        }
        if start:
            facts["initial"] = {"name": start.name, "sha256": start.sha256}
        populations = monitored_populations(validation, config) if fabric.is_global_zero else []

        def evaluate_and_save(row: dict) -> None:
            checkpoint = network.checkpoint({**(card or {}), **facts, "training_seconds": row["seconds"]})
            row |= monitor(populations, checkpoint, device=str(device), probe=config.probe)
            run.record(row, checkpoint, network, optimizers, plot=plot)

        _train(fabric, model, optimizers, recordings, config, run, evaluate_and_save, n_jobs, progress=progress)
        if fabric.is_global_zero:
            run.finish()
        fabric.barrier()
    return load_checkpoint(run.output)


def _train(fabric, model, optimizers, recordings, config, run, evaluate_and_save, n_jobs, *, progress: bool) -> None:
    """Run the remaining steps."""
    began, neurons, logged = time.monotonic(), 0, []
    before = run.seconds
    with tqdm(
        total=config.steps, initial=run.step, desc="training", unit="step",
        disable=not progress or not fabric.is_global_zero,
    ) as bar:  # fmt: skip
        for batches in _steps(fabric, recordings, config, run.step, n_jobs):
            if isinstance(batches, InputError):
                raise batches
            # Each step has its own seed, so that resuming needs no state of a generator.
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
                    evaluate_and_save(row)
                logged = []


def training_step(fabric, model, optimizers, batches: list[Views], clip: float) -> dict[str, float]:
    """Make one optimiser step with this process's samples, and return the terms of the loss over all processes.

    The loss is the mean over the samples of all batches and processes, weighted by their numbers of matches.
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
            parts = model(*(_tensors(fabric.device, pair) for pair in (views.patches, views.units)), views.sizes)
            share = views.matches / matches
            # Gradients are averaged over processes, but must be summed.
            fabric.backward(sum(parts.values()) * share * fabric.world_size)
        for name, part in parts.items():
            total[name] = total.get(name, 0.0) + part.detach() * share
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)  # Fabric's function clips for each optimiser separately
    for optimizer in optimizers:
        optimizer.step()
    summed = fabric.all_reduce(torch.stack(list(total.values())), reduce_op="sum")
    return dict(zip(total, summed.tolist(), strict=True))


class Network(nn.Module):
    """The trained modules: an encoder, and an objective with its projector.

    Parameters
    ----------
    config : PretrainConfig
    start : Checkpoint, optional
        Initial weights of the encoder. Default: random weights.
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
        """Terms of the loss, with both views in one pass of the encoder; arguments as in `Views`."""
        embeddings = self.encoder(torch.cat(patches), np.concatenate(sizes)).split([len(p) for p in patches])
        return self.objective(*(x.float() for x in embeddings), *sizes, *units)

    def checkpoint(self, card: dict) -> Checkpoint:
        """A checkpoint of the encoder's current weights."""
        weights = {key: value.detach().float().cpu().clone() for key, value in self.encoder.state_dict().items()}
        return Checkpoint(self.encoder.config, weights, card)


class Steps(Dataset):
    """The samples of one process in each step, in batches of at most `batch_size` tokens."""

    def __init__(self, recordings: list[Recording], config: PretrainConfig, rank: int, processes: int):
        self.recordings, self.config, self.rank, self.processes = recordings, config, rank, processes
        # A compromise between equal weights of recordings and weights proportional to neurons × seconds.
        weights = np.sqrt([recording.probe.n_units * recording.seconds for recording in recordings])
        weights *= [recording.probe.weight for recording in recordings]
        self.weights = weights / weights.sum()

    def __getitem__(self, step: int) -> list[Views] | InputError:
        # Each sample has its own generator, so that it does not depend on the process that draws it. An error is
        # returned, because an error raised in another process would arrive as a traceback.
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
        steps, batch_size=None, sampler=range(first, config.steps), num_workers=n_jobs, collate_fn=_identity
    )


def _identity(batches):
    return batches


def _generator(config: PretrainConfig, step: int, purpose: str, number: int) -> np.random.Generator:
    return np.random.default_rng([config.seed, step, ("sample", "dropout").index(purpose), number])


def _resolved_config(start: Checkpoint | None, config: PretrainConfig | None) -> PretrainConfig:
    """The config to train with; InputError if its encoder differs from that of the initial weights."""
    if start is None:
        return config or PretrainConfig()
    config = config or PretrainConfig(encoder=start.config)
    encoder, required = config.encoder.to_dict(), start.config.to_dict()
    for name in required:
        if name != "dropout" and encoder[name] != required[name]:
            raise InputError(
                f"encoder.{name} is {encoder[name]!r}, the weights of {start.name} have {required[name]!r}: "
                "use the same encoder config"
            )
    return config


def _store(sources, run: Run, config: PretrainConfig, reading: dict, *, several: bool, progress: bool) -> Store:
    if isinstance(sources, list | tuple) and len(sources) == 1 and is_store(sources[0]):
        [sources] = sources
    if isinstance(sources, Store) or is_store(sources):
        if selects(reading):
            raise InputError(
                "where and within select when a store is built: give them to build_store (nuclr store build)"
            )
        return sources if isinstance(sources, Store) else Store(sources)
    if several:
        raise InputError("several processes train from one store: build it first with `nuclr store build`")
    frame_rate = 1 / config.encoder.bin_s if config.encoder.signal == "traces" else None
    store, damaged = build_store(sources, run.store, frame_rate=frame_rate, progress=progress, **reading)
    if damaged:
        raise InputError(damaged[0])
    return store


def optimizers_of(network: Network, config: PretrainConfig) -> list[torch.optim.Optimizer]:
    """Optimisers of all parameters, with weight decay only on matrices, not on biases and norms."""
    matrices = [p for p in network.parameters() if p.ndim > 1]
    inner, optimizers = [], []
    if config.optimizer == "muon":
        inner = [p for name, p in network.encoder.named_parameters() if p.ndim > 1 and "blocks" in name]
        settings = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
        optimizers.append(torch.optim.Muon(inner, **settings, adjust_lr_fn="match_rms_adamw"))
    by_muon = {id(p) for p in inner}
    groups = [
        {"params": [p for p in matrices if id(p) not in by_muon], "weight_decay": config.weight_decay},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [*optimizers, torch.optim.AdamW(groups, lr=config.learning_rate)]


def _schedule(step: int, config: PretrainConfig) -> float:
    """Learning rate of a step as a fraction of its peak."""
    warmup = max(round(config.warmup * config.steps), 1)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(config.steps - warmup, 1)))


def _tensors(device, arrays) -> list[torch.Tensor]:
    return [torch.from_numpy(array).to(device, non_blocking=True) for array in arrays]
