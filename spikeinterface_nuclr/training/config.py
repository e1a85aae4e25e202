"""PretrainConfig: everything that fixes a training run, from Python, a TOML file or the command line."""

import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import torch

from ..errors import CheckpointError, InputError, reading
from ..model.config import EncoderConfig, check_types
from .losses import FORMS, TEMPERATURE_SCOPES
from .views import TOO_FEW_UNITS

OBJECTIVES = (*FORMS, "vicreg")
OPTIMIZERS = ("adamw", "muon")
_LARGEST = 2**62  # whole number that counts, seeds and floats can hold


@dataclass(frozen=True)
class PretrainConfig:
    """Everything that fixes a training run. The defaults are the published settings (Arora et al. 2025).

    Parameters
    ----------
    encoder : EncoderConfig
        The network; of a fine-tuning run, that of the weights it starts from.
    steps : int
        Optimiser steps.
    samples : int
        Populations in a step, each seen in two views, of all processes together.
    batch_size : int
        Neurons × patches computed at once. A step that holds more adds up the gradients of several batches: the same
        step, but for "vicreg", whose statistics are those of a batch.
    max_units : int
        Most neurons of one view; 0 is no limit.
    min_unit_fraction : float
        Each view keeps a random part of the neurons, at least this share of them. 1 keeps all.
    max_view_distance_s : float
        Largest distance in seconds between the windows of a sample.
    optimizer : {"adamw", "muon"}
        "muon" moves the matrices inside the encoder's blocks along the orthogonal part of their gradient (Jordan et al.
        2024; with updates of AdamW's size, Liu et al. 2025) and the rest by AdamW. It needs torch 2.9 or newer.
    learning_rate, weight_decay, clip : float
        Peak learning rate, weight decay of matrices, largest norm of the gradient.
    warmup : float
        Share of the steps in which the learning rate climbs; then it falls along a cosine to 0.
    objective : {"dcl_full", "dcl", "infonce", "vicreg"}
    temperature, temperature_scope
        As `ContrastiveLoss`.
    seed : int
        Fixes the first weights, the views and the dropout.
    monitor_every : int
        Steps between two looks at the held-out animals, and between two saved states.
    monitor_s : float
        Seconds at the beginning of each held-out recording that are looked at.
    probe : str
        A column of labels, such as "brain_area", that a linear probe reads from the embeddings of the held-out animals
        at each look. It is logged and decides nothing. Empty: none.

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
        if self.max_units and self.max_units <= TOO_FEW_UNITS:
            raise InputError(f"max_units must be above {TOO_FEW_UNITS}: smaller views teach little")
        choices = {"objective": OBJECTIVES, "temperature_scope": TEMPERATURE_SCOPES, "optimizer": OPTIMIZERS}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise InputError(f"{name} must be one of {known}, not {getattr(self, name)!r}")
        if self.optimizer == "muon" and not hasattr(torch.optim, "Muon"):
            raise InputError(f"optimizer 'muon' needs torch 2.9 or newer, this is {torch.__version__}: use 'adamw'")

    def to_dict(self) -> dict:
        """Plain values for JSON, the encoder's in a dict of their own."""
        return asdict(self)

    def updated(self, values: dict, where: str = "config") -> "PretrainConfig":
        """This config with some values changed; those of the encoder are under "encoder".

        Raises
        ------
        InputError
            Begins with `where` and names the entry that is unknown or wrong.
        """
        values = dict(values)
        encoder = values.pop("encoder", {})
        if not isinstance(encoder, dict):
            raise InputError(f"{where}: encoder must be a table, [encoder]")
        for known, given, table in ((self, values, ""), (self.encoder, encoder, "encoder.")):
            unknown = sorted(set(given) - {f.name for f in fields(known)})
            if unknown:
                raise InputError(f"{where}: {table}{unknown[0]} is unknown: `nuclr train --show-config` lists them all")
            nested = [name for name, value in given.items() if isinstance(value, dict | list)]
            if nested:
                raise InputError(f"{where}: {table}{nested[0]} must be one value, not a table or a list")
        try:
            return replace(self, encoder=replace(self.encoder, **encoder), **values)
        except (CheckpointError, InputError) as error:
            raise InputError(f"{where}: {error}") from None

    def to_toml(self) -> str:
        """As a TOML file that `read_config` reads."""
        values = self.to_dict()
        encoder = values.pop("encoder")
        tables = ("", values), ("\n[encoder]\n", encoder)
        return "".join(
            head + "".join(f"{name} = {json.dumps(value)}\n" for name, value in table.items()) for head, table in tables
        )


def read_config(path=None, settings=(), start: PretrainConfig | None = None) -> PretrainConfig:
    """The config of a TOML file, with single values set over it.

    Parameters
    ----------
    path : path, optional
        A TOML file: the parameters of `PretrainConfig`, those of the encoder in a table ``[encoder]``.
    settings : iterable of str
        Such as ``"steps=1000"`` and ``"encoder.dim=128"``; values are written as in TOML, texts with or without quotes.
    start : PretrainConfig, optional
        What holds where nothing is said. Default: the published settings.
    """
    values: dict = {}
    if path is not None:
        with reading(path, "TOML file"):
            values = _parsed(Path(path).read_text(encoding="utf-8"))
    for setting in settings:
        for name, value in _setting(setting).items():
            table = values.get(name)
            values[name] = table | value if isinstance(table, dict) and isinstance(value, dict) else value
    where = ", ".join([*([str(path)] if path is not None else []), *settings])
    return (start or PretrainConfig()).updated(values, where)


def _setting(setting: str) -> dict:
    name, equals, value = setting.partition("=")
    for written in (value, json.dumps(value)) if equals else ():
        try:
            return _parsed(f"{name} = {written}")
        except (ValueError, RecursionError):
            continue
    raise InputError(f"{setting}: a setting is NAME=VALUE, such as steps=1000 or encoder.dim=128")


def _parsed(text: str) -> dict:
    try:
        import tomllib
    except ImportError:  # Python 3.10
        try:
            import tomli as tomllib
        except ImportError:
            raise InputError("settings need tomli: pip install 'spikeinterface-nuclr[train]'") from None
    return tomllib.loads(text)
