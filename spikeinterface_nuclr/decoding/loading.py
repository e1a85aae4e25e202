"""Loading a decoder or a regressor by name, whichever the file holds."""

from pathlib import Path

from ..errors import CheckpointError, InputError
from ..model import model_file
from . import storage
from .decoder import Decoder
from .regressor import Regressor


def local_decoder(name, sha256) -> Decoder | None:
    """The decoder that a file names, if it is bundled or lies on this machine; None otherwise.

    Names in somebody's file must not make this machine ask the network.
    """
    if not isinstance(name, str) or not isinstance(sha256, str) or not sha256 or "://" in name:
        return None
    try:
        return Decoder.load(name, sha256=sha256)
    except (CheckpointError, InputError, OSError, ValueError):
        return None


def load_predictor(name: str | Path) -> Decoder | Regressor:
    """Load a decoder or regressor by bundled name, path, or ``hf://`` name.

    Raises
    ------
    CheckpointError
        As in `Decoder.load`.
    """
    kind = model_file.kind_of_model(storage.place_of(name))
    return (Regressor if kind == Regressor.KIND else Decoder).load(name)
