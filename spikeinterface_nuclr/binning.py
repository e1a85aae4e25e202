"""The activity inside windows: counts of spikes, or frames of traces, in the bins of a timeline.

Counts are binned once; overlapping windows are overlapping slices of them.
"""

from collections.abc import Iterator

import numpy as np

from .intervals import numbers_in
from .population import Population
from .windows import Layout, Timeline


def bin_activity(population: Population, units: np.ndarray, line: Timeline, low, high) -> np.ndarray:
    """Spike counts (or trace frames) of `units` in the bins [low, high) of the timeline.

    Parameters
    ----------
    low, high : int, or int arrays of shape (k,)
        One slice of the timeline, or several in order.

    Returns
    -------
    uint16 (float32 for traces), shape (n, bins)
        The slices' bins, slice after slice.
    """
    low, high = np.atleast_1d(low), np.atleast_1d(high)
    if population.traces is not None:
        bins = numbers_in(np.stack([low, high], axis=1))
        frames = line.frames(bins, population.start, population.sampling_frequency, population.traces.shape[1])
        return population.traces[np.ix_(units, frames)]
    shift = np.cumsum(high - low) - high  # from a bin of the axis to its place in the result
    # Two bytes a bin: at 50 bins a second most of them are empty, and touching them is most of the work. With one
    # index array and a value of the array's own type, add.at takes its fast way.
    out = np.zeros((len(units), high[-1] + shift[-1]), dtype=np.uint16)
    one = np.uint16(1)
    t0, t1 = line.time(np.array([low[0], high[-1] - 1]))
    for row, unit in enumerate(units):
        times = population.spike_times[unit]
        # One bin of slack on both sides; `bins` decides to which bin a spike belongs.
        a, b = np.searchsorted(times, [t0 - line.bin_s, t1 + 2 * line.bin_s])
        bins = line.bins(times[a:b])
        inside = np.stack([np.searchsorted(bins, low), np.searchsorted(bins, high)], axis=1)
        counts = np.ptp(inside, axis=1)
        bins = bins[inside[0, 0] : inside[0, 1]] if len(low) == 1 else bins[numbers_in(inside)]
        np.add.at(out[row], bins + np.repeat(shift, counts), one)
    return out


def iter_windows(
    population: Population, units: np.ndarray, line: Timeline, first: np.ndarray, layout: Layout, max_bins: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Counts of successive windows, a few at a time, each stretch of time binned once.

    Parameters
    ----------
    first : int64, shape (n_windows,)
        First bin of each window, ascending.
    max_bins : int
        At most this many values (units × bins) are held at once, but always one window.

    Yields
    ------
    index : int
        Position in `first` of the first window of the chunk.
    counts : as of `bin_activity`, shape (k, n, window_bins)
    """
    width = layout.window_bins
    budget = max(max_bins // max(len(units), 1), width)
    # Where windows were left out, the bins between are not allocated.
    steps = np.diff(first)
    apart = steps >= 2 * width
    place = np.concatenate([[0], np.cumsum(np.where(apart, width, steps))])
    begin = 0
    while begin < len(first):
        fit = int(np.searchsorted(place, place[begin] + budget - width, side="right"))
        # Windows that overlap take more room side by side than the time they lie in.
        end = max(min(fit, begin + budget // width), begin + 1)
        ends = np.append(begin + np.flatnonzero(apart[begin : end - 1]), end - 1)
        low = first[np.append(begin, ends[:-1] + 1)]
        activity = bin_activity(population, units, line, low, first[ends] + width)
        slices = np.lib.stride_tricks.sliding_window_view(activity, width, axis=1)
        yield begin, slices[:, place[begin:end] - place[begin]].transpose(1, 0, 2)
        begin = end
