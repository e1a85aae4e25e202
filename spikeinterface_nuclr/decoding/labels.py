"""Parsing of labels as people write them: classes, numbers, missing labels, and names of animals."""

import warnings
from numbers import Integral, Real

import numpy as np

from ..errors import InputError, RecordingWarning

# Text, in lower case, that counts as no label.
NO_LABEL = frozenset(
    {"", "nan", "none", "na", "n/a", "<na>", "#n/a", "null", "nat", "unknown", "unlabeled", "unlabelled"}
)
# More distinct numbers than this are values, not codes of classes such as clusters.
_MAX_CODES = 50


class LabelError(InputError):
    """The requested labels cannot be used for any recording."""


def as_labels(values, name: str = "labels") -> tuple[np.ndarray, np.ndarray]:
    """Parse labels of classes, and find the units that have one.

    Parameters
    ----------
    values : array or list, shape (n,)
        Text, bytes, whole numbers, or a mixture with None and NaN. Blanks around a label are removed.
    name : str
        Name of the labels, for messages.

    Returns
    -------
    labels : str array, shape (n,)
        "" for a missing label (`NO_LABEL`, None, NaN, masked). Whole numbers are written without a decimal point.
    has_label : bool array, shape (n,)

    Raises
    ------
    InputError
        A label is neither text nor a number.
    LabelError
        An InputError: the labels are numbers, and some are not whole.

    Warns
    -----
    RecordingWarning
        Units are labelled "NA", which may be meant as a name.
    """
    texts = np.array([_text(value, name) for value in _objects(values, name)], dtype=str)
    missing = np.array([text.casefold() in NO_LABEL for text in texts.tolist()], dtype=bool)
    if (texts == "NA").any():
        warnings.warn(
            f"{name}: {(texts == 'NA').sum()} units are labelled 'NA', which counts as no label: rename it if it is a "
            "class",
            RecordingWarning,
            stacklevel=2,
        )
    labels = np.where(missing, "", texts).astype(str)
    numbers = [_number(text) for text in labels[~missing].tolist()]
    if numbers and None not in numbers:
        fractional = next((number for number in numbers if not number.is_integer()), None)
        if fractional is not None:
            raise LabelError(
                f"{name}: holds numbers, such as {fractional:g}, not classes: use fit_regressor for numbers (--value)"
            )
        labels[~missing] = list(map(_whole, labels[~missing].tolist()))
    return labels, ~missing


def as_values(values, name: str = "values") -> tuple[np.ndarray, np.ndarray]:
    """Parse continuous values, and find the units that have one.

    Parameters
    ----------
    values : array or list, shape (n,)
        Numbers, or text that reads as a number. `NO_LABEL`, None, NaN and infinity are missing values.
    name : str
        Name of the values, for messages.

    Returns
    -------
    values : float64 array, shape (n,)
        NaN for a missing value.
    has_value : bool array, shape (n,)

    Raises
    ------
    InputError
        A value is not a number.
    """
    numbers = []
    for value in _objects(values, name):
        text = _text(value, name)
        number = _number(text)
        if number is None and text.casefold() not in NO_LABEL:
            raise InputError(f"{name}: {text[:40]!r} is no number: use fit_decoder for classes")
        numbers.append(np.nan if number is None else number)
    numbers = np.array(numbers, dtype=np.float64)
    return numbers, np.isfinite(numbers)


def check_classes(labels: list[np.ndarray], name: str = "labels", *, more: bool = False) -> None:
    """LabelError if labels (of several recordings, from `as_labels`) are continuous numbers, not codes of classes.

    If `more` recordings follow, only if these cannot make the numbers codes. Values, from `as_values`, pass.
    """
    if any(part.dtype.kind == "f" for part in labels):
        return
    texts = np.concatenate(labels).tolist()
    numbers = [text for text in texts if _number(text) is not None]
    if len(set(numbers)) > (_MAX_CODES if more else min(_MAX_CODES, len(numbers) / 2)):
        raise LabelError(
            f"{name}: {len(set(numbers))} different numbers in {len(numbers)} units are values, not classes: use "
            "fit_regressor for numbers (--value)"
        )


def is_labelled(labels: np.ndarray) -> np.ndarray:
    """Mask of the labels, or values, that are not missing."""
    return np.isfinite(labels) if labels.dtype.kind == "f" else labels != ""


def as_animals(animals, count: int, name: str) -> np.ndarray:
    """Names of the animals of `count` units: str array, shape (count,); InputError if one is missing."""
    single = isinstance(animals, str | bytes) or np.ndim(animals) == 0
    animals = animals.item() if single and isinstance(animals, np.ndarray) else animals
    names = np.array([_text(value, name) for value in _objects([animals] if single else animals, name)], dtype=str)
    if (names == "").any():
        raise InputError(f"{name}: the animal of some units is not named")
    names = np.repeat(names, count) if single else names
    if names.shape != (count,):
        raise InputError(f"{name}: animals has shape {names.shape} for {count} units")
    return names


def warn_of_similar(animals) -> None:
    """Warn if two names of animals differ only by case or blanks, since they may be the same animal."""
    names: dict[str, str] = {}
    for animal in dict.fromkeys(map(str, animals)):
        other = names.setdefault(key_of(animal), animal)
        if other != animal:
            warnings.warn(
                f"animals {other!r} and {animal!r} count as two: if they are the same, use one name for both",
                RecordingWarning,
                stacklevel=1,
            )


def key_of(animal: str) -> str:
    """A name of an animal without case and blanks, for comparison."""
    return "".join(animal.split()).casefold()


def _objects(values, name: str) -> list:
    """One Python object per unit; None where masked."""
    if isinstance(values, np.ma.MaskedArray):
        values = np.where(np.ma.getmaskarray(values), None, values.data.astype(object))
    if isinstance(values, list | tuple):
        values = np.fromiter(values, dtype=object, count=len(values))
    values = np.asarray(values)
    if values.ndim != 1:
        raise InputError(f"{name}: has shape {values.shape}, not one entry per unit")
    if values.dtype.kind not in "OSUTbiuf":
        raise InputError(f"{name}: is of dtype {values.dtype}, neither text nor numbers")
    return values.tolist()


def _text(value, name: str) -> str:
    """An entry as text, "" where it is None or NaN."""
    import pandas as pd

    if isinstance(value, bytes):
        try:
            return value.decode("utf-8").strip()
        except UnicodeDecodeError:
            raise InputError(f"{name}: {value[:40]!r} is not UTF-8 text: decode it first") from None
    if isinstance(value, str):
        return value.strip()
    if value is None or value is pd.NA or value is pd.NaT:
        return ""
    if isinstance(value, bool | np.bool_ | Integral):
        return str(value)
    if isinstance(value, Real):
        return "" if not np.isfinite(float(value)) else _whole(repr(float(value)))
    raise InputError(f"{name}: {str(value)[:40]!r} is of type {type(value).__name__}, neither text nor a number")


def _whole(text: str) -> str:
    """The text of a number, without a decimal point if it is whole."""
    number = float(text)
    return f"{number:.0f}" if number.is_integer() and not text.lstrip("+-").isdigit() else text


def _number(text: str) -> float | None:
    """The finite number that a text reads as, or None."""
    try:
        number = float(text)
    except ValueError:
        return None
    if "_" in text:  # Python reads 12 from "1_2", which may be the name of a cluster
        return None
    return number if np.isfinite(number) else None
