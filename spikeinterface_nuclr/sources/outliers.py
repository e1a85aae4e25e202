"""Spike times that cannot be times: sentinels, damaged values, samples or milliseconds in place of seconds."""

import warnings

import numpy as np

from ..errors import InputError, RecordingWarning

_DAY = 86_400.0
_YEAR = 365 * _DAY
_EMPTY = 0.99  # of a recording, without a spike of any unit
_FEW = 0.1  # of all spikes
_SLOW = 0.01  # spikes a second
_ENOUGH = 20  # spikes of a unit that say something of its rate
_MANY = 100  # spikes that are no whole numbers of seconds by chance


def check_spread(name: str, unit_ids, trains: list[np.ndarray]) -> None:
    """InputError that names a unit and its spike where no recording could hold all spikes.

    They lie in more than a year, or a few of them beyond a pause of a day that makes up nearly all of the recording.
    """
    times = np.sort(np.concatenate(trains))
    span = times[-1] - times[0] if len(times) else 0.0
    if span < _DAY:
        return
    pauses = np.diff(times)
    k = int(pauses.argmax())
    n_before, n_after = k + 1, len(times) - k - 1
    lonely = pauses[k] > max(_DAY, _EMPTY * span)
    if span < _YEAR and not (lonely and min(n_before, n_after) <= _FEW * len(times)):
        return
    # The last spike; where there is such a pause, that beyond it on the side of fewer spikes, or farther from 0.
    strange = times[-1]
    if lonely:
        early = (n_before, -abs(times[0])) < (n_after, -abs(times[-1]))
        strange = times[k] if early else times[k + 1]
    unit = next(unit for unit, train in zip(unit_ids, trains, strict=True) if strange in train)
    alone = f", {pauses[k]:.3g} s from the nearest other" if lonely else ""
    raise InputError(
        f"{name}: unit {unit}: a spike at {strange:.10g} s{alone}, cannot be: the recording would last "
        f"{span / _DAY:,.0f} days. Remove it, give times in seconds, or give observed="
    )


def check_observed(name: str, observed) -> None:
    """InputError where observed time adds up to more than a year."""
    for intervals in [observed] if isinstance(observed, np.ndarray) else observed:
        length = np.ptp(intervals, axis=1).sum() if len(intervals) else 0.0
        if length > _YEAR:
            raise InputError(
                f"{name}: would have been observed for {length / _DAY:,.0f} days, from {intervals[0, 0]:g} to "
                f"{intervals[-1, 1]:g} s: give observed= in seconds"
            )


def warn_of_other_units(name: str, trains: list[np.ndarray], observed) -> None:
    """RecordingWarning where spike times within `observed` look like samples or milliseconds, not seconds."""
    spiking = [times for times in trains if len(times)]
    n_spikes = sum(map(len, spiking))
    if n_spikes >= _MANY and all((times == np.floor(times)).all() for times in spiking):
        looks = f"all {n_spikes:,} spike times are whole numbers: are they samples or milliseconds, not seconds?"
    else:
        sets = [observed] if isinstance(observed, np.ndarray) else observed
        length = max((np.ptp(intervals, axis=1).sum() for intervals in sets if len(intervals)), default=0.0)
        middle = float(np.median([len(times) for times in spiking])) if spiking else 0.0
        if middle < _ENOUGH or middle >= _SLOW * length:
            return
        looks = f"half of its units fire less than {_SLOW} spikes/s: are their times milliseconds, not seconds?"
    warnings.warn(f"{name}: {looks} Give spike times in seconds", RecordingWarning, stacklevel=4)
