"""The training loop: many recordings in, a Checkpoint out."""

import fnmatch
import math
import time
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from tqdm.auto import tqdm

from ..checkpoint import Checkpoint
from ..device import choose_device, choose_precision
from ..embedding import check_signal
from ..encoder import Encoder, EncoderConfig
from ..errors import InputError
from ..files import check_writable
from ..population import Population
from ..sources import expand_sources, read_population
from .losses import FORMS, SCALINGS, ContrastiveLoss, VICRegLoss
from .monitors import rank_me, reidentification
from .state import RunState
from .views import TOO_FEW_UNITS, Recording, draw_views


@dataclass(frozen=True)
class PretrainConfig:
    """Everything that fixes a training run.

    Parameters
    ----------
    encoder : EncoderConfig
    steps : int
        Optimiser steps.
    samples : int
        Populations in a batch, each seen in two views.
    max_units : int, optional
        Most neurons of one view.
    max_distance : float
        Largest distance in seconds between the windows of a sample.
    learning_rate, weight_decay, clip : float
        Peak learning rate, weight decay of matrices, largest norm of the gradient.
    warmup : float
        Share of the steps in which the learning rate climbs; then it falls along a cosine to 0.
    objective : {"dcl_full", "dcl", "infonce", "vicreg"}
    temperature, scaling
        As `ContrastiveLoss`.
    seed : int
        Fixes the first weights, the views and the dropout.
    monitor_every : int
        Steps between two looks at the held-out recordings, and between two saved states.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    steps: int = 50_000
    samples: int = 128
    max_units: int | None = None
    max_distance: float = 30.0
    learning_rate: float = 5e-4
    weight_decay: float = 0.01
    clip: float = 1.0
    warmup: float = 1 / 300
    objective: str = "dcl_full"
    temperature: float = 0.2
    scaling: str = "cross-view"
    seed: int = 0
    monitor_every: int = 500

    def __post_init__(self):
        for name in ("steps", "samples", "learning_rate", "clip", "temperature", "monitor_every"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be positive, not {getattr(self, name)!r}")
        if not self.max_distance >= 0:
            raise InputError(f"max_distance must not be negative, but is {self.max_distance!r}")
        if not 0 <= self.warmup <= 1:
            raise InputError(f"warmup must lie in [0, 1], not {self.warmup!r}")
        if self.seed < 0:
            raise InputError(f"seed must not be negative, but is {self.seed!r}")
        if self.max_units is not None and self.max_units <= TOO_FEW_UNITS:
            raise InputError(f"max_units must be above {TOO_FEW_UNITS}: smaller views teach little")
        for name, known in (("objective", (*FORMS, "vicreg")), ("scaling", SCALINGS)):
            if getattr(self, name) not in known:
                raise InputError(f"{name} must be one of {known}, not {getattr(self, name)!r}")


def pretrain(
    sources,
    output,
    config: PretrainConfig | None = None,
    *,
    hold_out: list[str] | tuple[str, ...] = (),
    card: dict | None = None,
    device: str = "auto",
    precision: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> Checkpoint:
    """Train an encoder without labels.

    Parameters
    ----------
    sources : list
        Anything `read_population` takes, or folders, which are searched for NWB files.
    output : path
        The ``.safetensors`` file to write. Beside it stand its log (``.log.csv``) and, until the end, its state
        (``.state.safetensors``), from which `resume` goes on.
    config : PretrainConfig, optional
    hold_out : list of str
        Patterns (as of `fnmatch`) of source names that are kept out of training and only monitored. Each has to match.
    card : dict, optional
        What to say of the checkpoint, beside what the run itself knows, which it cannot overrule.
    device : str, default: "auto"
    precision : {"auto", "bfloat16", "float32"}
        "bfloat16" is autocast over float32 weights.
    resume : bool, default: False
        Go on from the saved state of an interrupted run of the same config and sources.
    overwrite : bool, default: False
    progress : bool, default: True

    Returns
    -------
    Checkpoint
    """
    config = config or PretrainConfig()
    output = check_writable(output, overwrite=overwrite)
    log_path, state_path = output.with_suffix(".log.csv"), output.with_suffix(".state.safetensors")
    if not resume:
        if state_path.exists() and not overwrite:
            raise InputError(f"{state_path}: an unfinished run: go on with --resume, or begin anew with --overwrite")
        check_writable(log_path, overwrite=overwrite)
    device = choose_device(device)
    precision = choose_precision(precision, device)
    if precision not in ("float32", "bfloat16"):
        raise InputError(f"precision {precision!r} is not for training: use auto, float32 or bfloat16")
    recordings, validation, fingerprints = _read(sources, list(hold_out), config)
    weights = np.sqrt([r.n_units * r.num_starts for r in recordings])
    weights /= weights.sum()

    torch.manual_seed(config.seed)
    encoder = Encoder(config.encoder).to(device)
    loss_function = _objective(config).to(device)
    modules = torch.nn.ModuleDict({"encoder": encoder, "loss": loss_function})
    optimizer = _optimizer(modules, config)
    run = {"config": asdict(config), "recordings": fingerprints, "hold_out": list(hold_out), "precision": precision}
    state = RunState(state_path, run)
    if resume:
        state.load(modules, optimizer)

    began = time.monotonic() - state.seconds
    bar = tqdm(total=config.steps, initial=state.step, desc="training", unit="step", disable=not progress)
    while state.step < config.steps:
        # Every step has a seed of its own, so that a resumed run needs no generator's state.
        rng = np.random.default_rng([config.seed, state.step])
        torch.manual_seed(int(rng.integers(2**62)))
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _schedule(state.step, config)
        views = draw_views(
            recordings, weights, rng,
            samples=config.samples, max_distance=config.max_distance, max_units=config.max_units,
        )  # fmt: skip
        loss = training_step(encoder, loss_function, views, device, precision)
        if not torch.isfinite(loss):
            raise InputError(f"the loss is not finite at step {state.step}: lower the learning rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(modules.parameters(), config.clip)
        optimizer.step()
        state.step += 1
        bar.update()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
        if state.step % config.monitor_every == 0 or state.step == config.steps:
            state.seconds = time.monotonic() - began
            looked = {"step": state.step, "seconds": round(state.seconds), "loss": loss.item()}
            state.rows.append({**looked, **_monitor(encoder, validation, device)})
            state.save(modules, optimizer)
            state.write_log(log_path)
    bar.close()

    measured = {
        "training": asdict(config),
        "training_seconds": round(state.seconds),
        "training_device": str(device),
        "training_precision": precision,
        "recordings": len(recordings),
        "held_out": list(hold_out),
        "monitors": state.rows[-1],
    }
    checkpoint = _checkpoint(encoder, {**(card or {}), **measured}, name=str(output))
    checkpoint.save(output, overwrite=overwrite)
    state.remove()
    return checkpoint


def training_step(encoder, loss_function, views, device, precision: str) -> torch.Tensor:
    """The loss of one batch, both views in one pass of the encoder."""
    encoder.train()
    patches = torch.from_numpy(np.concatenate(views.patches)).to(device)
    sizes = np.concatenate(views.sizes)
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bfloat16"):
        x1, x2 = encoder(patches, sizes).split([len(p) for p in views.patches])
    units = (torch.from_numpy(u).to(device) for u in views.units)
    return loss_function(x1.float(), x2.float(), *views.sizes, *units)


def _read(sources, hold_out: list[str], config: PretrainConfig):
    """Recordings to train on, populations to monitor, and what identifies them all."""
    recordings, validation, fingerprints, unmatched = [], [], [], set(hold_out)
    for source in expand_sources(sources):
        population = read_population(source)
        check_signal(population, config.encoder, "the encoder to train")
        fingerprints.append(population.fingerprint())
        matching = [pattern for pattern in hold_out if fnmatch.fnmatch(str(source), pattern)]
        unmatched -= set(matching)
        if matching:
            validation.append(population)
        else:
            made = (Recording(population, units, config.encoder.layout) for _, units in population.groups())
            recordings += [r for r in made if r.num_starts and r.n_units > TOO_FEW_UNITS]
    if unmatched:
        raise InputError(f"hold_out {sorted(unmatched)[0]!r} matches no source: nothing would be held out by it")
    if not recordings:
        raise InputError(f"no recording is left to train on: each needs a window and more than {TOO_FEW_UNITS} units")
    return recordings, validation, fingerprints


def _objective(config: PretrainConfig):
    dim = config.encoder.dim
    if config.objective == "vicreg":
        return VICRegLoss(dim)
    return ContrastiveLoss(dim, config.temperature, config.objective, config.scaling)


def _optimizer(modules, config: PretrainConfig) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only: biases and norms have one dimension."""
    parameters = list(modules.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def _schedule(step: int, config: PretrainConfig) -> float:
    warm = max(round(config.warmup * config.steps), 1)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(config.steps - warm, 1)))


def _checkpoint(encoder: Encoder, card: dict | None = None, name: str = "") -> Checkpoint:
    weights = {key: value.detach().float().cpu() for key, value in encoder.state_dict().items()}
    return Checkpoint(encoder.config, weights, card or {}, name)


def _monitor(encoder: Encoder, validation: list[Population], device) -> dict:
    """Label-free monitors on the held-out recordings; none where nothing is held out."""
    if not validation:
        return {}
    checkpoint = _checkpoint(encoder)
    looks = [reidentification(population, checkpoint, device=str(device)) for population in validation]
    shares = [hits.mean() for hits, _ in looks if len(hits)]
    return {
        "reidentification": float(np.mean(shares)) if shares else float("nan"),
        "rank_me": rank_me(np.concatenate([embedding for _, embedding in looks])),
    }
