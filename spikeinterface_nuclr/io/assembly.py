"""What all sources of spikes share: the limits of the recording, and spikes outside of them."""

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
    **known,
) -> Population:
    """Make the Population of a source, leaving out spikes outside observed time.

    Parameters
    ----------
    name : str
        The source, for messages.
    unit_ids, trains : sequences of equal length
    observed : array (k, 2), optional
        Observed time given by the user, which replaces what the source states (the arguments that follow).
    recorded : array (k, 2), or list of one a unit, optional
        Observed time stated by the source. Default: until the end of the second of the last spike.
    start : float, optional
        Start of observed time where `recorded` is None. Default: the second of the first spike.
    invalid : array (k, 2), or list of one a unit, optional
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
    if observed is None:
        observed = _limits(name, unit_ids, trains, start) if recorded is None else recorded
        if invalid is not None:
            observed = _without(observed, invalid)
            if not any(map(len, [observed] if isinstance(observed, np.ndarray) else observed)):
                raise InputError(f"{name}: its invalid times cover all observed time: correct them, or give observed=")
    else:
        invalid = None
    check_observed(name, observed)
    kept = _within(name, trains, observed, invalid)
    warn_of_other_units(name, kept)
    try:
        return Population(unit_ids, kept, observed=observed, **known)
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
    """Observed time less invalid time, each of all units or a list of one a unit; the same sets are cut only once."""
    if isinstance(observed, np.ndarray) and isinstance(invalid, np.ndarray):
        return subtract(observed, invalid)
    count = len(invalid if isinstance(observed, np.ndarray) else observed)
    cut: dict[tuple[bytes, bytes], np.ndarray] = {}
    pieces = []
    for a, b in zip(_each(observed, count), _each(invalid, count), strict=True):
        key = (a.tobytes(), b.tobytes())
        if key not in cut:
            cut[key] = subtract(a, b) if len(b) else a
        pieces.append(cut[key])
    return pieces


def _each(intervals, count: int) -> list[np.ndarray]:
    return [intervals] * count if isinstance(intervals, np.ndarray) else intervals


def _within(name: str, trains, observed, invalid) -> list[np.ndarray]:
    """The spikes in observed time, with a warning of others that do not lie in invalid time."""
    kept, unobserved = [], 0
    holes = [np.empty((0, 2))] * len(trains) if invalid is None else _each(invalid, len(trains))
    for times, intervals, hole in zip(trains, _each(observed, len(trains)), holes, strict=True):
        seen = inside(times, intervals)
        unobserved += int((~seen & ~inside(times, hole)).sum())
        kept.append(times[seen])
    if unobserved:
        total = sum(map(len, trains))
        warnings.warn(
            f"{name}: {unobserved:,} of {total:,} spikes lie outside the observed time and are left out",
            RecordingWarning,
            stacklevel=4,
        )
    return kept
