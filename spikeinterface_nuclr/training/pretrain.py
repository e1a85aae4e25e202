"""The training loop: many recordings in, a Checkpoint out."""

import csv
import fnmatch
import json
import math
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tqdm.auto import tqdm

from ..checkpoint import Checkpoint
from ..device import choose_device, choose_precision
from ..encoder import Encoder, EncoderConfig
from ..errors import InputError
from ..files import check_writable, written_whole
from ..population import Population
from ..sources import expand_sources, read_population
from .losses import ContrastiveLoss, VICRegLoss
from .monitors import rank_me, reidentification
from .views import Recording, draw_views


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
        Patterns (as of `fnmatch`) of source names that are kept out of training and only monitored.
    card : dict, optional
        What to say of the checkpoint, beside what is known from the run.
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
    state_path, log_path = output.with_suffix(".state.safetensors"), output.with_suffix(".log.csv")
    if not resume:
        check_writable(log_path, overwrite=overwrite)
    device = choose_device(device)
    precision = choose_precision(precision, device)
    named = [(str(source), read_population(source)) for source in expand_sources(sources)]
    held = [any(fnmatch.fnmatch(name, pattern) for pattern in hold_out) for name, _ in named]
    recordings = _recordings([p for (_, p), h in zip(named, held, strict=True) if not h], config)
    validation = [p for (_, p), h in zip(named, held, strict=True) if h]
    if not recordings:
        raise InputError("no recording is left to train on: each needs a window and more than ten units")
    weights = np.sqrt([r.n_units * r.num_starts for r in recordings])
    weights /= weights.sum()

    torch.manual_seed(config.seed)
    encoder = Encoder(config.encoder).to(device)
    loss_function = _objective(config).to(device)
    modules = torch.nn.ModuleDict({"encoder": encoder, "loss": loss_function})
    optimizer = _optimizer(modules, config)
    run = {"config": asdict(config), "recordings": [r.n_units for r in recordings]}
    step, seconds = _load_state(state_path, modules, optimizer, run) if resume else (0, 0.0)

    log = _Log(log_path, append=step > 0)
    began = time.monotonic() - seconds
    bar = tqdm(total=config.steps, initial=step, desc="training", unit="step", disable=not progress)
    while step < config.steps:
        rng = np.random.default_rng([config.seed, step])
        torch.manual_seed(int(rng.integers(2**62)))
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _schedule(step, config)
        views = draw_views(
            recordings, weights, rng,
            samples=config.samples, max_distance=config.max_distance, max_units=config.max_units,
        )  # fmt: skip
        loss = training_step(encoder, loss_function, views, device, precision)
        if not torch.isfinite(loss):
            raise InputError(f"the loss is not finite at step {step}: lower the learning rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(modules.parameters(), config.clip)
        optimizer.step()
        step += 1
        bar.update()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
        if step % config.monitor_every == 0 or step == config.steps:
            seconds = time.monotonic() - began
            log.write(step=step, seconds=round(seconds), loss=loss.item(), **_monitor(encoder, validation, device))
            _save_state(state_path, modules, optimizer, run, step, seconds)
    bar.close()

    known = {
        "training": asdict(config),
        "training_seconds": round(seconds),
        "training_device": str(device),
        "recordings": len(recordings),
        "held_out": list(hold_out),
        "monitors": log.last,
    }
    weights = {key: value.detach().float().cpu() for key, value in encoder.state_dict().items()}
    checkpoint = Checkpoint(config.encoder, weights, {**known, **(card or {})}, name=str(output))
    checkpoint.save(output, overwrite=overwrite)
    state_path.unlink(missing_ok=True)
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


def _recordings(populations: list[Population], config: PretrainConfig) -> list[Recording]:
    made = (Recording(p, units, config.encoder.layout) for p in populations for _, units in p.groups())
    return [r for r in made if r.num_starts and r.n_units > 10]


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


def _monitor(encoder: Encoder, validation: list[Population], device) -> dict:
    """Label-free monitors on the held-out recordings; none where nothing is held out."""
    if not validation:
        return {}
    weights = {key: value.detach().float().cpu() for key, value in encoder.state_dict().items()}
    checkpoint = Checkpoint(encoder.config, weights)
    looks = [reidentification(population, checkpoint, device=str(device)) for population in validation]
    shares = [hits.mean() for hits, _ in looks if len(hits)]
    return {
        "reidentification": float(np.mean(shares)) if shares else float("nan"),
        "rank_me": rank_me(np.concatenate([embedding for _, embedding in looks])),
    }


class _Log:
    """A CSV file with one row a look."""

    columns = ("step", "seconds", "loss", "reidentification", "rank_me")

    def __init__(self, path: Path, append: bool):
        self._path, self.last = path, {}
        if not append:
            with open(path, "w", newline="") as file:
                csv.DictWriter(file, self.columns).writeheader()

    def write(self, **values):
        self.last = values
        with open(self._path, "a", newline="") as file:
            csv.DictWriter(file, self.columns).writerow(values)


def _save_state(path: Path, modules, optimizer, run: dict, step: int, seconds: float) -> None:
    tensors = {f"model.{key}": value for key, value in modules.state_dict().items()}
    for number, parameter in enumerate(p for group in optimizer.param_groups for p in group["params"]):
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer.{number}.{key}"] = value
    metadata = {"run": json.dumps(run, sort_keys=True), "step": str(step), "seconds": str(seconds)}
    with written_whole(path, overwrite=True) as temporary:
        save_file({key: value.contiguous() for key, value in tensors.items()}, os.fspath(temporary), metadata)


def _load_state(path: Path, modules, optimizer, run: dict) -> tuple[int, float]:
    if not path.is_file():
        raise InputError(f"{path}: no saved state to resume from: start without --resume")
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    if json.loads(metadata["run"]) != json.loads(json.dumps(run)):
        raise InputError(f"{path}: was saved by a run of another config or other sources: start without --resume")
    modules.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    for number, parameter in enumerate(p for group in optimizer.param_groups for p in group["params"]):
        prefix = f"optimizer.{number}."
        state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        optimizer.state[parameter] = {k: v if k == "step" else v.to(parameter.device) for k, v in state.items()}
    return int(metadata["step"]), float(metadata["seconds"])
