"""load_checkpoint: find the file of a model by name or path, and read it."""

import os
from pathlib import Path

import torch

from ..errors import CheckpointError
from . import model_file
from .checkpoint import KIND, Checkpoint
from .config import EncoderConfig
from .hub import fetch
from .public_weights import convert_checkpoint

# Default model for each signal.
DEFAULT_MODELS = {"spikes": "nuclr-starter", "traces": "nuclr-starter-calcium"}
# Suffixes of public checkpoints, read by `public_weights.py`.
PICKLED = (".pt", ".pth", ".ckpt")
BUNDLED = Path(__file__).parent / "bundled"


def load_checkpoint(
    model: str | Path | None = None, *, sha256: str | None = None, signal: str = "spikes"
) -> Checkpoint:
    """Find and read a checkpoint.

    Parameters
    ----------
    model : str or Path, optional
        The name of a bundled model (default: ``nuclr-starter``, for traces ``nuclr-starter-calcium``), a path to a
        ``.safetensors`` file of this package or a public ``.pt`` file, or ``hf://owner/repo[/file][@revision]`` on the
        Hugging Face Hub. Files from the Hub are cached and then need no network.
    sha256 : str, optional
        Expected `Checkpoint.sha256`. If a path no longer exists, a bundled model with this identity is loaded.
    signal : {"spikes", "traces"}
        Signal that selects the default model.

    Returns
    -------
    Checkpoint

    Raises
    ------
    CheckpointError
        The model cannot be found or read, or its identity is not the expected one.
    """
    if isinstance(model, Checkpoint):
        return model
    model = DEFAULT_MODELS[signal] if model is None else str(model)
    if model.startswith("hf://"):
        path, revision = fetch(model)
    else:
        path, revision = _local(model, sha256), ""
        model = path.stem if path.parent == BUNDLED else model
    checkpoint = read_checkpoint(path, name=model, revision=revision)
    if sha256 is not None and checkpoint.sha256 != sha256:
        raise CheckpointError(f"{model}: its sha256 is {checkpoint.sha256}, not the expected {sha256}")
    return checkpoint


def bundled_models() -> list[str]:
    """Names of the checkpoints that are bundled with the package."""
    return sorted(path.stem for path in BUNDLED.glob("*.safetensors"))


def _local(model: str, sha256: str | None) -> Path:
    bundled = BUNDLED / f"{model}.safetensors"
    if model in bundled_models():
        return bundled
    path = Path(model)
    if os.path.isfile(path):  # False also for names that are invalid on this system
        return path
    if os.path.isdir(path):
        raise CheckpointError(f"{model}: is a directory: name a .safetensors file inside it")
    moved = model_file.with_identity(BUNDLED, KIND, sha256)
    if moved is not None:
        return moved
    raise CheckpointError(
        f"{model}: no such checkpoint: give a path to a .safetensors file, an hf:// name or a bundled name "
        f"({', '.join(bundled_models())})"
    )


def read_checkpoint(path: Path, *, name: str = "", revision: str = "") -> Checkpoint:
    """Read a checkpoint from a ``.safetensors`` file of this package or a public ``.pt`` file."""
    name = name or str(path)
    if path.suffix in PICKLED:
        public = convert_checkpoint(path)
        return Checkpoint(public.config, public.weights, public.card, name, revision)
    arrays, facts, card, identity = model_file.read(path, name, KIND, "NuCLR checkpoint")
    try:
        config = EncoderConfig.from_dict(facts.get("config"))
    except CheckpointError as error:
        raise CheckpointError(f"{name}: {error}") from None
    weights = {key: torch.from_numpy(values) for key, values in arrays.items()}
    checkpoint = Checkpoint(config, weights, card, name, revision)
    model_file.check_identity(name, identity, checkpoint.sha256)
    return checkpoint
