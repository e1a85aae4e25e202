"""load_checkpoint: which file a model's name means, and the checkpoint in it."""

from dataclasses import replace
from pathlib import Path

from . import model_file
from .checkpoint import Checkpoint
from .public_weights import convert_checkpoint

# What is loaded where no model is named, by what a recording holds.
DEFAULT_MODELS = {"spikes": "nuclr-starter", "traces": "nuclr-starter-calcium"}
# Suffixes of public checkpoints, which `public_weights.py` reads.
PICKLED = (".pt", ".pth", ".ckpt")
BUNDLED = Path(__file__).parent / "bundled"


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
    path, name, revision = model_file.find(
        model, BUNDLED, Checkpoint.KIND, "checkpoint", sha256=sha256, default_file="model.safetensors"
    )
    if path.suffix in PICKLED:
        checkpoint = replace(convert_checkpoint(path), name=name)
    else:
        checkpoint = Checkpoint._read(path, name)
    if revision:
        checkpoint = replace(checkpoint, revision=revision)
    model_file.check_sha256(checkpoint, name, sha256)
    return checkpoint


def bundled_models() -> list[str]:
    """Names of the checkpoints that come with the package."""
    return model_file.bundled(BUNDLED)
