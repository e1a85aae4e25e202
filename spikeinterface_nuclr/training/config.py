"""PretrainConfig: the settings of a training run, from Python, a TOML file or the command line."""

import inspect
import json
import re
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import torch

from ..errors import CheckpointError, InputError, reading
from ..model.config import EncoderConfig, check_types
from .losses import FORMS, TEMPERATURE_SCOPES
from .views import TOO_FEW_UNITS

OBJECTIVES = (*FORMS, "vicreg")
OPTIMIZERS = ("adamw", "muon")
# Settings that can be named in the place of a file: the published ones, and those of nuclr-starter, for a CPU.
_NAMED = {"published": None, "laptop": Path(__file__).with_name("laptop.toml")}
# What the latter are where torch lacks Muon.
_WITHOUT_MUON = {"optimizer": "adamw", "learning_rate": 1e-3}
_LARGEST = 2**62  # largest integer setting


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of a training run. The defaults are the published settings (Arora et al. 2025).

    Parameters
    ----------
    encoder : EncoderConfig
        Architecture of the network; when fine-tuning, that of the initial weights.
    steps : int
        Optimiser steps.
    samples : int
        Populations per step, over all processes, each in two views.
    batch_size : int
        Neurons × patches computed at once. Larger steps accumulate the gradients of several batches, which gives the
        same step, except for "vicreg", whose statistics are computed per batch.
    max_units : int
        Largest number of neurons in a view; 0 is no limit.
    min_unit_fraction : float
        Each view is a random subset of the neurons, at least this fraction of them. With 1, all are used.
    max_view_distance_s : float
        Largest distance in seconds between the two windows of a sample.
    optimizer : {"adamw", "muon"}
        "muon" orthogonalises the updates of the matrices inside the encoder's blocks (Jordan et al. 2024; scaled to the
        size of AdamW's updates, Liu et al. 2025) and uses AdamW for all other weights. It needs torch 2.9 or newer.
    learning_rate : float
        Peak learning rate.
    weight_decay : float
        Weight decay of matrices.
    clip : float
        Largest norm of the gradient.
    warmup : float
        Fraction of the steps with linear warm-up of the learning rate, which then decays to 0 along a cosine.
    objective : {"dcl_full", "dcl", "infonce", "vicreg"}
        `ContrastiveLoss` of this form, or `VICRegLoss`.
    temperature : float
        Of the objective, as in `ContrastiveLoss`.
    temperature_scope : {"cross-view", "all"}
        Which similarities it divides, as in `ContrastiveLoss`.
    seed : int
        Seed of the initial weights, the views and the dropout.
    monitor_every : int
        Steps between two evaluations on the held-out animals, at which the state is saved as well.
    monitor_s : float
        Seconds at the beginning of each held-out recording to evaluate.
    probe : str
        A column of labels, such as "brain_area", for a linear probe on the embeddings of the held-out animals. Its
        score is logged but does not influence the choice of weights. Empty: none.

    Examples
    --------
    >>> from spikeinterface_nuclr import PretrainConfig
    >>> config = PretrainConfig(steps=1000).updated({"encoder": {"dim": 128}})
    >>> config.steps, config.encoder.dim
    (1000, 128)
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    steps: int = 50_000
    samples: int = 128
    batch_size: int = 100_000
    max_units: int = 0
    min_unit_fraction: float = 0.5
    max_view_distance_s: float = 30.0
    optimizer: str = "adamw"
    learning_rate: float = 5e-4
    weight_decay: float = 0.01
    clip: float = 1.0
    warmup: float = 1 / 300
    objective: str = "dcl_full"
    temperature: float = 0.2
    temperature_scope: str = "cross-view"
    seed: int = 0
    monitor_every: int = 500
    monitor_s: float = 1200.0
    probe: str = ""

    def __post_init__(self):
        check_types(self, [f.name for f in fields(self)[1:]], InputError)
        for name in (f.name for f in fields(self)[1:]):
            if isinstance(getattr(self, name), int) and getattr(self, name) > _LARGEST:
                raise InputError(f"{name} must be at most {_LARGEST}")
        positive = ("steps", "samples", "batch_size", "learning_rate", "clip", "temperature")
        for name in (*positive, "monitor_every", "monitor_s"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be positive, not {getattr(self, name)!r}")
        for name in ("max_view_distance_s", "weight_decay", "seed"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} must not be negative, but is {getattr(self, name)!r}")
        if not 0 <= self.warmup <= 1:
            raise InputError(f"warmup must lie in [0, 1], not {self.warmup!r}")
        if not 0 < self.min_unit_fraction <= 1:
            raise InputError(f"min_unit_fraction must lie in (0, 1], not {self.min_unit_fraction!r}")
        if self.encoder.members > 1:
            raise InputError("encoder.members must be 1: train the members of an ensemble one by one and join them")
        if self.max_units and self.max_units <= TOO_FEW_UNITS:
            raise InputError(f"max_units must be above {TOO_FEW_UNITS}: smaller views teach little")
        choices = {"objective": OBJECTIVES, "temperature_scope": TEMPERATURE_SCOPES, "optimizer": OPTIMIZERS}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} must be one of {allowed}, not {getattr(self, name)!r}")
        if self.optimizer == "muon" and not hasattr(torch.optim, "Muon"):
            raise InputError(f"optimizer 'muon' needs torch 2.9 or newer, this is {torch.__version__}: use 'adamw'")

    def to_dict(self) -> dict:
        """A JSON-serialisable dict, with the settings of the encoder in a nested dict."""
        return asdict(self)

    def updated(self, values: dict, where: str = "config") -> "PretrainConfig":
        """A copy with some values changed; those of the encoder are in a dict under "encoder".

        Raises
        ------
        InputError
            Begins with `where` and names the unknown or invalid entry.
        """
        values = dict(values)
        encoder = values.pop("encoder", {})
        if not isinstance(encoder, dict):
            raise InputError(f"{where}: encoder must be a table, [encoder]")
        for config, changes, table in ((self, values, ""), (self.encoder, encoder, "encoder.")):
            unknown = sorted(set(changes) - {f.name for f in fields(config)})
            if unknown:
                raise InputError(f"{where}: {table}{unknown[0]} is unknown: `nuclr train --show-config` lists them all")
            nested = [name for name, value in changes.items() if isinstance(value, dict | list)]
            if nested:
                raise InputError(f"{where}: {table}{nested[0]} must be one value, not a table or a list")
        try:
            return replace(self, encoder=replace(self.encoder, **encoder), **values)
        except (CheckpointError, InputError) as error:
            raise InputError(f"{where}: {error}") from None

    def to_toml(self) -> str:
        """The content of a TOML file for `read_config`, with a comment on each setting."""
        lines = []
        for head, config in (([], self), (["", "[encoder]"], self.encoder)):
            lines += head
            comments = _comments(type(config))
            for name in (setting.name for setting in fields(config) if setting.name != "encoder"):
                line = f"{name} = {json.dumps(getattr(config, name))}"
                lines.append(f"{line:32}  # {comments[name]}" if name in comments else line)
        return "\n".join(lines) + "\n"


def _comments(config: type) -> dict[str, str]:
    """The first sentence on each parameter, from the docstring of a config."""
    entries = re.findall(r"^(\w+) : (.*)\n((?:    .*\n)+)", inspect.getdoc(config) or "", re.MULTILINE)
    found = {}
    for name, kind, text in entries:
        sentence = re.split(r"(?<=(?<! al)\.)\s", " ".join(text.split()).replace("`", ""))[0]
        found[name] = f"{sentence} One of {kind.strip('{}')}." if kind.startswith("{") else sentence
    return found


def read_config(
    path=None, settings=(), start: PretrainConfig | None = None, *, keep_encoder: bool = False
) -> PretrainConfig:
    """Read a config from a TOML file, with overrides.

    Parameters
    ----------
    path : path or {"published", "laptop"}, optional
        A TOML file of parameters of `PretrainConfig`, those of the encoder in a table ``[encoder]``; or the name of
        settings that come with the package: the published ones, which need a GPU, or those of the bundled model for
        spikes, which took half an hour of one core (with AdamW in place of Muon before torch 2.9).
    settings : iterable of str
        Overrides such as ``"steps=1000"`` and ``"encoder.dim=128"``; values are written as in TOML, strings with or
        without quotes.
    start : PretrainConfig, optional
        Config to change. Default: the published settings.
    keep_encoder : bool, default: False
        Leave out what the file says of the encoder.
    """
    values: dict = {}
    named = path in _NAMED
    path = _NAMED[path] if named else path
    if path is not None:
        with reading(path, "TOML file"):
            values = _parsed(Path(path).read_text(encoding="utf-8"))
    if named and values.get("optimizer") == "muon" and not hasattr(torch.optim, "Muon"):
        values |= _WITHOUT_MUON
    if keep_encoder:
        values.pop("encoder", None)
    for setting in settings:
        for name, value in _setting(setting).items():
            table = values.get(name)
            values[name] = table | value if isinstance(table, dict) and isinstance(value, dict) else value
    where = ", ".join([*([str(path)] if path is not None else []), *settings])
    return (start or PretrainConfig()).updated(values, where)


def _setting(setting: str) -> dict:
    name, equals, value = setting.partition("=")
    for toml in (value, json.dumps(value)) if equals else ():
        try:
            return _parsed(f"{name} = {toml}")
        except (ValueError, RecursionError):
            continue
    raise InputError(f"{setting[:80]}: a setting is NAME=VALUE, such as steps=1000 or encoder.dim=128")


def _parsed(text: str) -> dict:
    try:
        import tomllib
    except ImportError:  # Python 3.10
        try:
            import tomli as tomllib
        except ImportError:
            raise InputError("settings need tomli: pip install 'spikeinterface-nuclr[train]'") from None
    return tomllib.loads(text)
