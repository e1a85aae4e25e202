"""Predictions -> columns of a phy or Kilosort folder, as cluster_*.tsv files that phy shows."""

import re
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files import check_writable, written_whole
from ..predictions import UNKNOWN, Identities, Prediction
from ..text import for_csv
from .phy import is_phy_folder

# Ends of the names of further columns.
_LABELS, _NUMBERS = ("_probability",), ("_low", "_high")


def write_phy_columns(path, prediction: Prediction, *, overwrite: bool = False) -> list[Path]:
    """Write predictions into a phy or Kilosort folder, as columns of its cluster view.

    Labels become ``cluster_nuclr_<target>.tsv``, "unknown" where the decoder abstains, and
    ``cluster_nuclr_<target>_probability.tsv``; numbers ``cluster_nuclr_<target>.tsv``, and ``…_low`` and ``…_high`` for
    their intervals. No other file is touched.

    Parameters
    ----------
    path : str or Path
        The folder, with ``spike_times.npy``.
    prediction : Identities or Estimates
        Of the folder's clusters.
    overwrite : bool, default: False
        Replace columns of the same target.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    InputError
        The folder is none of phy's, a unit is no cluster id, or a file exists.

    Examples
    --------
    >>> from spikeinterface_nuclr import Decoder, embed, read_population, write_phy_columns
    >>> decoder = Decoder.load("simulated-cell-type")
    >>> identities = decoder.predict(embed(read_population("phy_folder")))  # doctest: +SKIP
    >>> write_phy_columns("phy_folder", identities)  # doctest: +SKIP
    [PosixPath('phy_folder/cluster_nuclr_cell_type.tsv'), ...]
    """
    folder = Path(path)
    if not is_phy_folder(folder):
        raise InputError(f"{folder}: holds no spike_times.npy: name a phy or Kilosort folder")
    ids = np.asarray(prediction.unit_ids)
    if ids.dtype.kind not in "iu":
        raise InputError(f"{folder}: unit {ids[:1].tolist()} is no cluster id, which are whole numbers")
    check_columns(folder, prediction.target, overwrite=overwrite)
    files = {folder / f"cluster_{name}.tsv": (name, values) for name, values in _columns(prediction).items()}
    with ExitStack() as stack:  # all are complete before the first appears
        for file, (name, values) in files.items():
            temporary = stack.enter_context(written_whole(file, overwrite=overwrite))
            _table(ids, name, values).to_csv(temporary, sep="\t", index=False, lineterminator="\n")
    return list(files)


def check_columns(folder: Path, target: str, *, overwrite: bool) -> None:
    """InputError if a column of this target exists that must not be replaced."""
    for suffix in ("", *_LABELS, *_NUMBERS):
        check_writable(folder / f"cluster_{columns_of(target)}{suffix}.tsv", overwrite=overwrite)


def columns_of(target: str) -> str:
    """Beginning of the names of a target's columns."""
    return f"nuclr_{re.sub('[^A-Za-z0-9_-]+', '_', target)}"


def _columns(prediction: Prediction) -> dict[str, np.ndarray]:
    """Columns of text, "" where nothing is known, by name."""
    name = columns_of(prediction.target)
    if isinstance(prediction, Identities):
        known = np.asarray(prediction.best_label) != ""
        labels = np.where(prediction.abstained, UNKNOWN, prediction.best_label)
        return {name: labels, f"{name}{_LABELS[0]}": _numbers(np.where(known, prediction.confidence, np.nan))}
    parts = zip(("", *_NUMBERS), (prediction.value, prediction.low, prediction.high), strict=True)
    return {f"{name}{suffix}": _numbers(values) for suffix, values in parts}


def _numbers(values: np.ndarray) -> np.ndarray:
    """Numbers as text, "" for NaN."""
    return np.array([f"{value:.4g}" if np.isfinite(value) else "" for value in values])


def _table(ids: np.ndarray, name: str, values: np.ndarray):
    """The rows that hold something."""
    import pandas as pd

    table = pd.DataFrame({"cluster_id": ids, name: values})
    return for_csv(table[table[name] != ""])
