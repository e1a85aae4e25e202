"""Checkpoint: an encoder's config, weights and card, and where to find them."""

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from . import model_file
from .encoder import Encoder
from .encoder_config import EncoderConfig
from .errors import CheckpointError
from .files import written_whole

# What is loaded where no model is named, by what a recording holds.
DEFAULT_MODELS = {"spikes": "nuclr-starter", "traces": "nuclr-starter-calcium"}
# Suffixes of public checkpoints, which `conversion.py` reads.
PICKLED = (".pt", ".pth", ".ckpt")
_BUNDLED = Path(__file__).parent / "models"
_KIND = "nuclr"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A trained encoder on its way between disk and device.

    Attributes
    ----------
    config : EncoderConfig
    weights : dict of str to float32 Tensor
        As `Encoder.state_dict()`.
    card : dict
        What it was trained on and how, what it is good for and what not. Plain values for JSON.
    name, revision : str
        Where it was loaded from: a bundled name, a path or an ``hf://`` name, and the Hub's commit.
    """

    config: EncoderConfig
    weights: dict[str, torch.Tensor]
    card: dict = field(default_factory=dict)
    name: str = ""
    revision: str = ""

    def __post_init__(self):
        _check_weights(self.config, self.weights, self.name or "checkpoint")

    @cached_property
    def sha256(self) -> str:
        """Its identity: a hash (hex) of the config and the weights, which decide the embeddings.

        Whatever the card says, whatever the file is called, and however the weights were read, it is the same.
        """
        return model_file.identity_of(_KIND, self._arrays, {"config": self.config.to_dict()})

    @property
    def _arrays(self) -> dict[str, np.ndarray]:
        return {key: value.detach().cpu().numpy() for key, value in self.weights.items()}

    @cached_property
    def _bytes(self) -> bytes:
        return model_file.to_bytes(_KIND, self._arrays, {"config": self.config.to_dict()}, self.card, self.sha256)

    def save(self, path, *, overwrite: bool = False) -> Path:
        """Write a ``.safetensors`` file, whole or not at all."""
        with written_whole(path, overwrite=overwrite) as temporary:
            temporary.write_bytes(self._bytes)
        return Path(path)

    def encoder(self, device="cpu", dtype: torch.dtype = torch.float32) -> Encoder:
        """The network with these weights on `device`, in evaluation mode."""
        with torch.device("meta"):
            encoder = Encoder(self.config)
        weights = {key: value.to(device=device, dtype=dtype, copy=True) for key, value in self.weights.items()}
        encoder.load_state_dict(weights, assign=True)
        return encoder.eval()

    def __repr__(self):
        n = sum(w.numel() for w in self.weights.values())
        return f"Checkpoint({self.name or 'unnamed'!r}, {n:,} parameters, sha256 {self.sha256[:12]}…)"


def load_checkpoint(
    model: str | Path | None = None, *, sha256: str | None = None, signal: str = "spikes"
) -> Checkpoint:
    """Find and read a checkpoint.

    Parameters
    ----------
    model : str or Path, optional
        The name of a bundled model (default: ``nuclr-starter``, of traces ``nuclr-starter-calcium``), a path to a
        ``.safetensors`` file of ours or a public ``.pt`` file, or ``hf://owner/repo[/file][@revision]`` on the Hugging
        Face Hub. What the Hub gave once is read from its cache ever after, without a network.
    sha256 : str, optional
        Identity that `Checkpoint.sha256` must be. Where a path leads nowhere any more, a bundled model of this identity
        is taken.
    signal : {"spikes", "traces"}
        What the default is for.

    Returns
    -------
    Checkpoint

    Raises
    ------
    CheckpointError
        Names the model and what is wrong with it.
    """
    if isinstance(model, Checkpoint):
        return model
    model = DEFAULT_MODELS[signal] if model is None else str(model)
    if model.startswith("hf://"):
        from .hub import fetch

        path, revision = fetch(model)
    else:
        path, revision = _local(model, sha256), ""
        model = path.stem if path.parent == _BUNDLED else model
    checkpoint = read_checkpoint(path, name=model, revision=revision)
    if sha256 is not None and checkpoint.sha256 != sha256:
        raise CheckpointError(f"{model}: its sha256 is {checkpoint.sha256}, not the expected {sha256}")
    return checkpoint


def bundled_models() -> list[str]:
    """Names of the checkpoints that come with the package."""
    return sorted(path.stem for path in _BUNDLED.glob("*.safetensors"))


def _local(model: str, sha256: str | None) -> Path:
    bundled = _BUNDLED / f"{model}.safetensors"
    if model in bundled_models():
        return bundled
    path = Path(model)
    if os.path.isfile(path):  # also False of a name that no system takes
        return path
    if os.path.isdir(path):
        raise CheckpointError(f"{model}: is a directory: name a .safetensors file inside it")
    moved = model_file.with_identity(_BUNDLED, _KIND, sha256)
    if moved is not None:
        return moved
    raise CheckpointError(
        f"{model}: no such checkpoint: give a path to a .safetensors file, an hf:// name or a bundled name "
        f"({', '.join(bundled_models())})"
    )


def read_checkpoint(path: Path, *, name: str = "", revision: str = "") -> Checkpoint:
    """The checkpoint in one file: ours (``.safetensors``) or a public one (``.pt``)."""
    name = name or str(path)
    if path.suffix in PICKLED:
        from .conversion import convert_checkpoint

        found = convert_checkpoint(path)
        return Checkpoint(found.config, found.weights, found.card, name, revision)
    arrays, facts, card, identity = model_file.read(path, name, _KIND, "NuCLR checkpoint")
    try:
        config = EncoderConfig.from_dict(facts.get("config"))
    except CheckpointError as error:
        raise CheckpointError(f"{name}: {error}") from None
    weights = {key: torch.from_numpy(values) for key, values in arrays.items()}
    checkpoint = Checkpoint(config, weights, card, name, revision)
    model_file.check_identity(name, identity, checkpoint.sha256)
    return checkpoint


def _check_weights(config: EncoderConfig, weights: dict, name: str) -> None:
    with torch.device("meta"):
        expected = {key: value.shape for key, value in Encoder(config).state_dict().items()}
    for key in sorted(expected.keys() | weights.keys()):
        if key not in weights:
            raise CheckpointError(f"{name}: the weight {key} is missing")
        if key not in expected:
            raise CheckpointError(f"{name}: the weight {key} is unknown")
        if weights[key].shape != expected[key]:
            have, want = tuple(weights[key].shape), tuple(expected[key])
            raise CheckpointError(f"{name}: the weight {key} has shape {have}, its config asks for {want}")
        if weights[key].dtype != torch.float32 or not torch.isfinite(weights[key]).all():
            raise CheckpointError(f"{name}: the weight {key} is not finite float32")
