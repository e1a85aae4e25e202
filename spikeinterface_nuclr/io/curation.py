"""Curation: the ROIs that columns of their table accept or reject."""

import re
import warnings
from collections.abc import Mapping

import numpy as np

from ..errors import RecordingWarning

# Column names of suite2p, CaImAn, neuroconv and the Allen Institute: lower case, letters and digits only.
_KEEPING = {
    *("accepted", "isaccepted", "accept", "keep", "kept", "included", "isincluded", "include"),
    *("iscell", "isneuron", "valid", "isvalid", "validroi", "isvalidroi"),
}
_DROPPING = {
    *("rejected", "isrejected", "reject", "excluded", "isexcluded", "exclude"),
    *("discarded", "isdiscarded", "discard", "invalid", "isinvalid"),
}
# Entries that confirm or negate the column's name, entries that are verdicts themselves, and missing verdicts.
_YES, _NO = {"1", "true", "t", "yes", "y"}, {"0", "false", "f", "no", "n"}
_KEPT = {"cell", "acell", "iscell", "neuron", "accepted", "accept", "keep", "kept", "good", "valid", "notrejected"}
_REJECTED = {
    *("notcell", "notacell", "noncell", "nocell", "notneuron", "noneuron", "nonneuron", "rejected", "reject"),
    *("notaccepted", "drop", "dropped", "discard", "discarded", "excluded", "bad", "invalid", "notvalid", "noise"),
}
_OPEN = {"", "nan", "none", "null", "na", "unknown", "unlabeled", "unlabelled", "uncurated", "undecided"}


def is_curation(column: str) -> bool:
    """Whether a column of this name accepts or rejects ROIs."""
    return _letters(column) in _KEEPING | _DROPPING


def kept_rois(columns: Mapping[str, np.ndarray | None], count: int, name: str) -> np.ndarray:
    """Mask of the ROIs that no column rejects: bool, shape (count,).

    Entries are truth values, 0 and 1, or words for these; in an array (n, k), as of suite2p, the first column counts.
    ROIs without an entry are kept. A column with any other entry is ignored, with a RecordingWarning.

    Parameters
    ----------
    columns : mapping of str to array or None
        Columns that satisfy `is_curation`, one entry per ROI; None for a column with several.
    count : int
        Number of ROIs.
    name : str
        The source, for messages.
    """
    verdicts = {}
    for column, values in columns.items():
        keeps = _letters(column) in _KEEPING
        words = ["several per ROI"] if values is None else [_word(value) for value in _first(values)]
        unclear = sorted({word for word in words if _verdict(word, keeps) is None})
        if unclear:
            listed = ", ".join(map(repr, unclear[:3])) + (", …" if len(unclear) > 3 else "")
            warnings.warn(
                f"{name}: the ROI column {column!r} holds {listed}, neither yes nor no: it is ignored, and no ROI is "
                "rejected by it",
                RecordingWarning,
                stacklevel=7,
            )
        else:
            verdicts[column] = np.array([_verdict(word, keeps) for word in words], dtype=np.int8)
    _forget_uncurated(verdicts)
    return np.all([np.ones(count, dtype=bool), *(values >= 0 for values in verdicts.values())], axis=0)


def _forget_uncurated(verdicts: dict[str, np.ndarray]) -> None:
    """Drop the columns accepted and rejected if no ROI is either, as CaImAn writes them before curation."""
    names = {_letters(column).removeprefix("is"): column for column in verdicts}
    accepted, rejected = names.get("accepted"), names.get("rejected")
    if accepted and rejected and (verdicts[accepted] <= 0).all() and (verdicts[rejected] >= 0).all():
        del verdicts[accepted], verdicts[rejected]


def _verdict(word: str, keeps: bool) -> int | None:
    """1 if the word keeps a ROI, -1 if it rejects it, 0 for a missing entry, None if it is not understood."""
    if word in _OPEN:
        return 0
    if word in _YES | _NO:
        return 1 if (word in _YES) == keeps else -1
    return 1 if word in _KEPT else -1 if word in _REJECTED else None


def _first(values: np.ndarray) -> np.ndarray:
    return values[:, 0] if values.ndim == 2 and values.shape[1] else values


def _word(value) -> str:
    """The entry in lower case; whole numbers without a decimal point."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    try:
        return f"{float(text):g}"
    except ValueError:
        return _letters(text)


def _letters(text: str) -> str:
    return re.sub(r"[\W_]", "", text).casefold()
