"""Checkpoint: an encoder's config, weights and card, and where to find them."""

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors

from .encoder import Encoder, EncoderConfig
from .errors import CheckpointError
from .files import written_whole

# What is loaded where no model is named, by what a recording holds.
DEFAULT_MODELS = {"spikes": "nuclr-starter", "traces": "nuclr-starter-calcium"}
FORMAT_VERSION = 1
# Suffixes of public checkpoints, which `conversion.py` reads.
PICKLED = (".pt", ".pth", ".ckpt")
_BUNDLED = Path(__file__).parent / "models"
# All metadata sits under one key: safetensors writes several in no fixed order, which would change the file's hash.
_METADATA_KEY = "nuclr"


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
    def _bytes(self) -> bytes:
        content = {"format": FORMAT_VERSION, "config": self.config.to_dict(), "card": self.card}
        weights = {key: value.contiguous() for key, value in self.weights.items()}
        return to_safetensors(weights, {_METADATA_KEY: json.dumps(content, ensure_ascii=False, sort_keys=True)})

    @cached_property
    def sha256(self) -> str:
        """Hash (hex) of the file that `save` writes. Config, weights and card fix it, however they were read."""
        return hashlib.sha256(self._bytes).hexdigest()

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
        Hash (hex) that `Checkpoint.sha256` must have.
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
        path, revision = _local(model), ""
    checkpoint = read_checkpoint(path, name=model, revision=revision)
    if sha256 is not None and checkpoint.sha256 != sha256:
        raise CheckpointError(f"{model}: its sha256 is {checkpoint.sha256}, not the expected {sha256}")
    return checkpoint


def bundled_models() -> list[str]:
    """Names of the checkpoints that come with the package."""
    return sorted(path.stem for path in _BUNDLED.glob("*.safetensors"))


def _local(model: str) -> Path:
    bundled = _BUNDLED / f"{model}.safetensors"
    if model in bundled_models():
        return bundled
    path = Path(model)
    if path.is_file():
        return path
    if path.is_dir():
        raise CheckpointError(f"{model}: is a directory: name a .safetensors file inside it")
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
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{name}: not a readable safetensors file ({error}): fetch it again") from None
    if _METADATA_KEY not in metadata:
        raise CheckpointError(f"{name}: a safetensors file, but not a NuCLR checkpoint: its metadata has no 'nuclr'")
    try:
        content = json.loads(metadata[_METADATA_KEY])
        version, config, card = content["format"], dict(content["config"]), dict(content["card"])
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(f"{name}: its metadata is damaged: fetch it again") from None
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{name}: format {version}, this version reads {FORMAT_VERSION}: upgrade the package")
    try:
        config = EncoderConfig.from_dict(config)
    except (CheckpointError, TypeError) as error:
        raise CheckpointError(f"{name}: {error}") from None
    return Checkpoint(config, weights, card, name, revision)


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
