"""load_checkpoint: find the file of a model by name or path, and read it."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CheckpointError
from . import model_file
from .contents import Contents

if TYPE_CHECKING:
    from .checkpoint import Checkpoint

# Default model for each signal.
DEFAULT_MODELS = {"spikes": "nuclr-starter", "traces": "nuclr-starter-calcium"}
# Suffixes of public checkpoints, read by `public_weights.py`.
PICKLED = (".pt", ".pth", ".ckpt")
BUNDLED = Path(__file__).parent / "bundled"


def load_checkpoint(
    model: str | Path | None = None, *, sha256: str | None = None, signal: str = "spikes"
) -> "Checkpoint":
    """Find and read a checkpoint.

    Parameters
    ----------
    model : str, Path or Checkpoint, optional
        The name of a bundled model (default: ``nuclr-starter``, for traces ``nuclr-starter-calcium``), a path to a
        ``.safetensors`` file of this package or a public ``.pt`` file, or ``hf://owner/repo[/file][@revision]`` on the
        Hugging Face Hub. Files from the Hub are cached and then need no network. ``NAME#1`` is the first member of an
        ensemble.
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

    Examples
    --------
    >>> from spikeinterface_nuclr import load_checkpoint
    >>> checkpoint = load_checkpoint("nuclr-starter")
    >>> checkpoint.config.dim, checkpoint.config.signal
    (128, 'spikes')
    """
    from .checkpoint import Checkpoint

    return model if isinstance(model, Checkpoint) else _load(Checkpoint, model, sha256, signal)


def load_contents(model: str | Path | None = None, *, signal: str = "spikes") -> Contents:
    """What the file of a checkpoint holds, found as by `load_checkpoint`, to describe it; without PyTorch.

    A public ``.pt`` file, which PyTorch reads, is loaded as a Checkpoint.
    """
    return _load(Contents, model, None, signal)


def _load(kind: type, model: str | Path | None, sha256: str | None, signal: str):
    """Find and read a model as a Checkpoint or as Contents."""
    model = DEFAULT_MODELS[signal] if model is None else str(model)
    whole, ending = model_file.split_member(model)
    if ending:
        members, number = _load(kind, whole, None, signal).members, int(ending[1:])
        if not 1 <= number <= len(members):
            raise CheckpointError(f"{model}: {whole} has {len(members)} member(s), numbered from 1")
        model_file.check_sha256(members[number - 1], model, sha256)
        return members[number - 1]
    path, name, revision = model_file.find(
        model, BUNDLED, Contents.KIND, "checkpoint", sha256=sha256, default_file="model.safetensors"
    )
    if path.suffix in PICKLED:
        from .public_weights import convert_checkpoint

        loaded = replace(convert_checkpoint(path), name=name)
    else:
        loaded = kind._read(path, name)
    if revision:
        loaded = replace(loaded, revision=revision)._with_example(loaded.example)
    model_file.check_sha256(loaded, name, sha256)
    return loaded


def bundled_models() -> list[str]:
    """Names of the checkpoints that are bundled with the package."""
    return model_file.bundled(BUNDLED)
