"""Impossible spike times: sentinels, damaged values, samples or milliseconds in place of seconds."""

import warnings

import numpy as np

from ..errors import InputError, RecordingWarning

_DAY = 86_400.0
_YEAR = 365 * _DAY
_EMPTY = 0.99  # fraction of a recording without a spike of any unit
_FEW = 0.1  # fraction of all spikes
_LONG = 100.0  # seconds between successive spikes
_ENOUGH = 20  # spikes from which a unit's rate is judged
_MANY = 100  # spikes that cannot all fall on whole seconds by chance


def check_spread(name: str, unit_ids, trains: list[np.ndarray]) -> None:
    """Raise InputError, naming a unit and its spike, if the spikes span more time than a recording can.

    They span more than a year, or a few lie beyond a pause of over a day that makes up nearly all of the recording.
    """
    times = np.sort(np.concatenate(trains))
    span = times[-1] - times[0] if len(times) else 0.0
    if span < _DAY:
        return
    pauses = np.diff(times)
    k = int(pauses.argmax())
    n_before, n_after = k + 1, len(times) - k - 1
    isolated = pauses[k] > max(_DAY, _EMPTY * span)
    if span < _YEAR and not (isolated and min(n_before, n_after) <= _FEW * len(times)):
        return
    # The last spike; with such a pause, the spike beyond it on the side with fewer spikes, or farther from 0.
    outlier = times[-1]
    if isolated:
        is_early = (n_before, -abs(times[0])) < (n_after, -abs(times[-1]))
        outlier = times[k] if is_early else times[k + 1]
    unit = next(unit for unit, train in zip(unit_ids, trains, strict=True) if outlier in train)
    distance = f", {pauses[k]:.3g} s from the nearest other" if isolated else ""
    raise InputError(
        f"{name}: unit {unit}: a spike at {outlier:.10g} s{distance}, is impossible: the recording would last "
        f"{span / _DAY:,.0f} days. Remove it, give times in seconds, or give observed="
    )


def check_observed(name: str, observed) -> None:
    """Raise InputError if observed time exceeds a year in total."""
    for intervals in [observed] if isinstance(observed, np.ndarray) else observed:
        length = np.ptp(intervals, axis=1).sum() if len(intervals) else 0.0
        if length > _YEAR:
            raise InputError(
                f"{name}: its observed time would be {length / _DAY:,.0f} days, from {intervals[0, 0]:g} to "
                f"{intervals[-1, 1]:g} s: give observed= in seconds"
            )


def warn_of_other_units(name: str, trains: list[np.ndarray]) -> None:
    """Issue a RecordingWarning if spike times look like samples or milliseconds, not seconds."""
    n_spikes = sum(map(len, trains))
    intervals = [np.median(np.diff(times)) for times in trains if len(times) >= _ENOUGH]
    if n_spikes >= _MANY and all((times == np.floor(times)).all() for times in trains):
        warning = f"all {n_spikes:,} spike times are whole numbers: are they samples or milliseconds, not seconds?"
    elif intervals and np.median(intervals) > _LONG:
        warning = f"its units fire every {np.median(intervals):,.0f} s: are their times milliseconds, not seconds?"
    else:
        return
    warnings.warn(f"{name}: {warning} Give spike times in seconds", RecordingWarning, stacklevel=4)
