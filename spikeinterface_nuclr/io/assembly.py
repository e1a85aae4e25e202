"""Assembly of a Population from any source of spikes: observed time, and spikes outside of it."""

import math
import warnings

import numpy as np

from ..errors import InputError, RecordingWarning
from ..intervals import inside, subtract
from ..population import Population, checked_train, default_start
from .outliers import check_observed, check_spread, warn_of_other_units


def assemble(
    name: str,
    unit_ids,
    trains: list[np.ndarray],
    *,
    observed: np.ndarray | None = None,
    recorded=None,
    start: float | None = None,
    invalid=None,
    **annotations,
) -> Population:
    """Make the Population of a source, without spikes outside observed time.

    Parameters
    ----------
    name : str
        The source, for messages.
    unit_ids, trains : sequences of equal length
    observed : array (k, 2), optional
        Observed time in seconds set by the user. It replaces `recorded`, `start` and `invalid`.
    recorded : array (k, 2), or list of one per unit, optional
        Observed time stated by the source. Default: to the end of the second of the last spike.
    start : float, optional
        Start of observed time if `recorded` is None. Default: the second of the first spike.
    invalid : array (k, 2), or list of one per unit, optional
        Intervals removed from the observed time.
    **annotations
        `group`, `properties` and `metadata` of the Population.
    """
    if len(unit_ids) == 0:
        raise InputError(f"{name}: it has no units")
    try:
        trains = [checked_train(unit, times) for unit, times in zip(unit_ids, trains, strict=True)]
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    if observed is None:
        observed = _limits(name, unit_ids, trains, start) if recorded is None else recorded
        if invalid is not None:
            observed = _without(observed, invalid)
            if not any(map(len, [observed] if isinstance(observed, np.ndarray) else observed)):
                raise InputError(f"{name}: its invalid times cover all observed time: correct them, or give observed=")
    else:
        invalid = None
    check_observed(name, observed)
    trains = _within(name, trains, observed, invalid)
    warn_of_other_units(name, trains)
    try:
        return Population(unit_ids, trains, observed=observed, **annotations)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def _limits(name: str, unit_ids, trains, start: float | None) -> np.ndarray:
    spiking = [times for times in trains if len(times)]
    if not spiking:
        raise InputError(f"{name}: no unit has a spike, so there is nothing to embed")
    check_spread(name, unit_ids, trains)
    stop = float(max(math.ceil(times[-1]) for times in spiking))
    return np.array([[default_start(spiking) if start is None else start, stop]])


def _without(observed, invalid):
    """Observed minus invalid time, each common to all units or a list with one per unit; equal pairs are cut once."""
    if isinstance(observed, np.ndarray) and isinstance(invalid, np.ndarray):
        return subtract(observed, invalid)
    count = len(invalid if isinstance(observed, np.ndarray) else observed)
    differences: dict[tuple[bytes, bytes], np.ndarray] = {}
    pieces = []
    for a, b in zip(_each(observed, count), _each(invalid, count), strict=True):
        key = (a.tobytes(), b.tobytes())
        if key not in differences:
            differences[key] = subtract(a, b) if len(b) else a
        pieces.append(differences[key])
    return pieces


def _each(intervals, count: int) -> list[np.ndarray]:
    return [intervals] * count if isinstance(intervals, np.ndarray) else intervals


def _within(name: str, trains, observed, invalid) -> list[np.ndarray]:
    """The spikes in observed time; a warning counts the others, except those in invalid time."""
    selected, unobserved = [], 0
    excluded = [np.empty((0, 2))] * len(trains) if invalid is None else _each(invalid, len(trains))
    for times, intervals, invalid_intervals in zip(trains, _each(observed, len(trains)), excluded, strict=True):
        mask = inside(times, intervals)
        unobserved += int((~mask & ~inside(times, invalid_intervals)).sum())
        selected.append(times[mask])
    if unobserved:
        total = sum(map(len, trains))
        warnings.warn(
            f"{name}: {unobserved:,} of {total:,} spikes lie outside the observed time and are excluded",
            RecordingWarning,
            stacklevel=4,
        )
    return selected
