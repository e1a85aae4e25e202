"""load_checkpoint: find the file of a model by name or path, and read it."""

from dataclasses import replace
from pathlib import Path

from ..errors import CheckpointError
from . import model_file
from .checkpoint import Checkpoint
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
    if isinstance(model, Checkpoint):
        return model
    model = DEFAULT_MODELS[signal] if model is None else str(model)
    whole, ending = model_file.split_member(model)
    if ending:
        members, number = load_checkpoint(whole).members, int(ending[1:])
        if not 1 <= number <= len(members):
            raise CheckpointError(f"{model}: {whole} has {len(members)} member(s), numbered from 1")
        model_file.check_sha256(members[number - 1], model, sha256)
        return members[number - 1]
    path, name, revision = model_file.find(
        model, BUNDLED, Checkpoint.KIND, "checkpoint", sha256=sha256, default_file="model.safetensors"
    )
    if path.suffix in PICKLED:
        checkpoint = replace(convert_checkpoint(path), name=name)
    else:
        checkpoint = Checkpoint._read(path, name)
    if revision:
        checkpoint = replace(checkpoint, revision=revision)._with_example(checkpoint.example)
    model_file.check_sha256(checkpoint, name, sha256)
    return checkpoint


def bundled_models() -> list[str]:
    """Names of the checkpoints that are bundled with the package."""
    return model_file.bundled(BUNDLED)
