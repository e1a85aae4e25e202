"""Loading a decoder or a regressor by name, whichever the file holds."""

from pathlib import Path

from ..model import model_file
from . import storage
from .decoder import Decoder
from .regressor import Regressor


def load_predictor(name: str | Path) -> Decoder | Regressor:
    """Load a decoder or regressor by bundled name, path, or ``hf://`` name.

    Raises
    ------
    CheckpointError
        As in `Decoder.load`.
    """
    kind = model_file.kind_of_model(storage.place_of(name))
    return (Regressor if kind == Regressor.KIND else Decoder).load(name)
