"""What every source shares on its way to a Population: the recording's end, spikes out of observed time, labels."""

import math
import warnings

import numpy as np

from ..errors import InputError, RecordingWarning
from ..population import Population, checked_train, default_start, inside

# Curation labels that some tools store in a column called "group". They are no probes.
QUALITY_LABELS = {"good", "mua", "noise", "unsorted", "nan", "none", ""}


def assemble(
    name: str,
    unit_ids,
    trains: list[np.ndarray],
    *,
    observed=None,
    invalid: np.ndarray | None = None,
    **known,
) -> Population:
    """A Population of what a source says, with spikes outside observed time left out.

    Where the source does not know its end, it is the end of the second of the last spike; its start is that of
    `default_start`, or the second of an earlier first spike.

    Parameters
    ----------
    name : str
        The source, for messages.
    unit_ids, trains : sequences of equal length
    observed : array (k, 2), or list of one a unit, optional
    invalid : array (k, 2), optional
        Intervals cut out of the observed time.
    **known
        `group`, `properties` and `metadata` of the Population.
    """
    if len(unit_ids) == 0:
        raise InputError(f"{name}: it holds no units")
    try:
        trains = [checked_train(unit, times) for unit, times in zip(unit_ids, trains, strict=True)]
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    spiking = [times for times in trains if len(times)]
    if observed is None:
        if not spiking:
            raise InputError(f"{name}: no unit has a spike")
        stop = float(max(math.ceil(t[-1]) for t in spiking))
        start = min(default_start(spiking, stop), *(math.floor(t[0]) for t in spiking))
        observed = np.array([[start, stop]], dtype=np.float64)
    if invalid is not None and len(invalid):
        if isinstance(observed, np.ndarray):
            observed = subtract(observed, invalid)
        else:
            observed = [subtract(o, invalid) for o in observed]
        if not any(len(o) for o in ([observed] if isinstance(observed, np.ndarray) else observed)):
            raise InputError(f"{name}: its invalid times leave nothing of its observed time")

    kept, unobserved = [], 0
    for i, times in enumerate(trains):
        intervals = observed if isinstance(observed, np.ndarray) else observed[i]
        seen = inside(times, intervals)
        expected = inside(times, invalid) if invalid is not None else False
        unobserved += int((~seen & ~expected).sum())
        kept.append(times[seen])
    if unobserved:
        total = sum(map(len, trains))
        warnings.warn(
            f"{name}: {unobserved:,} of {total:,} spikes lie outside the observed time and are left out",
            RecordingWarning,
            stacklevel=3,
        )
    try:
        return Population(unit_ids, kept, observed=observed, **known)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def subtract(intervals: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """What is left of the sorted `intervals` outside of `holes`: float64, shape (k, 2)."""
    for a, b in holes:
        left = np.stack([intervals[:, 0], np.minimum(intervals[:, 1], a)], axis=1)
        right = np.stack([np.maximum(intervals[:, 0], b), intervals[:, 1]], axis=1)
        pieces = np.concatenate([left, right])
        pieces = pieces[pieces[:, 1] > pieces[:, 0]]
        intervals = np.unique(pieces[np.argsort(pieces[:, 0])], axis=0)
    return intervals


def plain_columns(columns: dict) -> dict[str, np.ndarray]:
    """The columns that hold one number, truth value or text a unit; text in objects becomes text."""
    plain = {}
    for name, values in columns.items():
        values = np.asarray(values)
        if values.dtype == object and all(isinstance(v, str | bytes) for v in values.flat):
            values = np.array([v.decode() if isinstance(v, bytes) else v for v in values])
        if values.ndim == 1 and values.dtype.kind in "iufbU":
            plain[name] = values
    return plain


def most_common(values: np.ndarray) -> str:
    """The text that occurs most often among `values`; empty where there is none."""
    if len(values) == 0:
        return ""
    names, counts = np.unique(values, return_counts=True)
    return str(names[counts.argmax()])


def choose_group(name: str, properties: dict, group_by: str | None, probes=lambda: None):
    """Probe of each unit: the named property, else the probes that the source itself knows, else one for all.

    `probes` is asked only when no property answers. Raises InputError where a property other than the default "group"
    is asked for and absent.
    """
    if group_by is None:
        return None
    if group_by in properties:
        values = np.asarray(properties[group_by]).astype(str)
        if group_by != "group" or not {v.lower() for v in np.unique(values)} <= QUALITY_LABELS:
            return values
    elif group_by != "group":
        have = ", ".join(sorted(properties)) or "none"
        raise InputError(f"{name}: it has no unit property {group_by!r} to group by; it has: {have}")
    return probes()
