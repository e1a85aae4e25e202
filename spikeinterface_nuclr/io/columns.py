"""Columns of a source's unit table as plain arrays: one number, truth value or text per unit."""

import warnings

import numpy as np

from ..errors import RecordingWarning

_NUMBERS = bool | np.bool_ | int | float | np.number


def plain_columns(columns: dict, name: str = "") -> dict[str, np.ndarray]:
    """The columns that hold one number, truth value or text per unit.

    Bytes, and mixtures of text and numbers, become text; None becomes NaN among numbers and an empty entry among text.
    Columns of shape (n, 1) lose their second axis. Columns with several numbers per unit or with NWB objects are not
    properties; any other column that is skipped causes a RecordingWarning, prefixed with `name`.
    """
    plain = {}
    for column, values in columns.items():
        values = flat(values)
        if values.ndim != 1:
            continue
        if values.dtype.kind == "O":
            values = _unpacked(values)
        elif values.dtype.kind in "SM":
            values = as_text(values)
        if values is None:
            continue
        if values.dtype.kind in "iufbU":
            plain[column] = values
        else:
            warnings.warn(
                f"{name}: the column {column} contains neither numbers nor text and is skipped",
                RecordingWarning,
                stacklevel=4,
            )
    return plain


def flat(values) -> np.ndarray:
    """The values as an array, with one axis if all other axes have length 1."""
    try:
        values = np.atleast_1d(values)
    except ValueError:  # a list of arrays of several lengths
        values = np.fromiter(values, dtype=object, count=len(values))
    return values.reshape(len(values)) if values.ndim > 1 and values.size == len(values) else values


def as_text(values) -> np.ndarray:
    """The values as text: bytes are decoded as UTF-8, else as Latin-1; None and NaN become empty."""
    values = flat(values)
    if values.dtype.kind == "U":
        return values
    return np.array([_text(value) for value in values.tolist()], dtype=str)


def as_names(values) -> np.ndarray:
    """The values as text, whole numbers without a decimal point: 1.0 names the same shank as 1."""
    values = flat(values)
    if values.dtype.kind == "f":
        return np.array(["" if np.isnan(v) else f"{v:.0f}" if float(v).is_integer() else str(v) for v in values])
    return np.char.strip(as_text(values)) if len(values) else np.empty(0, dtype=str)


def decoded(data: bytes) -> str:
    """The text in these bytes: UTF-8, else Latin-1, which older programs use."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _text(value) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    return decoded(value) if isinstance(value, bytes) else str(value)


def _unpacked(values: np.ndarray) -> np.ndarray | None:
    """Objects as an array of numbers or text if they are; None if they are NWB objects."""
    present = [value for value in values if value is not None]
    if all(isinstance(value, _NUMBERS) for value in present):
        if len(present) == len(values):
            return np.array(present)
        return np.array([np.nan if value is None else float(value) for value in values])
    if all(isinstance(value, str | bytes | _NUMBERS) for value in present):
        return as_text(values)
    if all(hasattr(value, "neurodata_type") for value in present):
        return None
    return values
