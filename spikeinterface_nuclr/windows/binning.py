"""Spike counts, or frames of traces, in the bins of a timeline.

Spikes are binned once; overlapping windows are overlapping slices of the counts.
"""

from collections.abc import Iterator

import numpy as np

from ..intervals import numbers_in
from ..population import Population
from . import Layout, Timeline


def bin_activity(population: Population, units: np.ndarray, line: Timeline, low, high) -> np.ndarray:
    """Spike counts (or trace frames) of `units` in the bins [low, high) of the timeline.

    Parameters
    ----------
    low, high : int, or int arrays of shape (k,)
        One slice of the timeline, or several in order.

    Returns
    -------
    uint16 (float32 for traces), shape (n, bins)
        The bins of the slices, one slice after another.
    """
    low, high = np.atleast_1d(low), np.atleast_1d(high)
    if population.traces is not None:
        bins = numbers_in(np.stack([low, high], axis=1))
        frames = line.frames(bins, population.start, population.sampling_frequency, population.traces.shape[1])
        return population.traces[np.ix_(units, frames)]
    shift = np.cumsum(high - low) - high  # from a bin of the axis to its column of the result
    # Two bytes per bin: at 50 bins per second most bins are empty, and writing them dominates the cost. With a single
    # index array and a value of the same dtype as the array, np.add.at takes its fast path.
    out = np.zeros((len(units), high[-1] + shift[-1]), dtype=np.uint16)
    increment = np.uint16(1)
    t0, t1 = line.time(np.array([low[0], high[-1] - 1]))
    for row, unit in enumerate(units):
        times = population.spike_times[unit]
        # One bin of slack on both sides; `line.bins` assigns the spikes to bins.
        a, b = np.searchsorted(times, [t0 - line.bin_s, t1 + 2 * line.bin_s])
        bins = line.bins(times[a:b])
        inside = np.stack([np.searchsorted(bins, low), np.searchsorted(bins, high)], axis=1)
        counts = np.ptp(inside, axis=1)
        bins = bins[inside[0, 0] : inside[0, 1]] if len(low) == 1 else bins[numbers_in(inside)]
        np.add.at(out[row], bins + np.repeat(shift, counts), increment)
    return out


def iter_windows(
    population: Population, units: np.ndarray, line: Timeline, first: np.ndarray, layout: Layout, max_bins: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Iterate over the counts of successive windows in chunks, binning each stretch of time once.

    Parameters
    ----------
    first : int64, shape (n_windows,)
        First bin of each window, ascending.
    max_bins : int
        Most values (units × bins) in memory at once; a chunk holds at least one window.

    Yields
    ------
    index : int
        Position in `first` of the first window of the chunk.
    counts : uint16 (float32 for traces), shape (k, n, window_bins)
    """
    width = layout.window_bins
    budget = max(max_bins // max(len(units), 1), width)
    # Bins in gaps between windows are not allocated.
    steps = np.diff(first)
    gap = steps >= 2 * width
    column = np.concatenate([[0], np.cumsum(np.where(gap, width, steps))])
    begin = 0
    while begin < len(first):
        limit = int(np.searchsorted(column, column[begin] + budget - width, side="right"))
        # Overlapping windows take more memory when copied than the bins that they cover.
        end = max(min(limit, begin + budget // width), begin + 1)
        ends = np.append(begin + np.flatnonzero(gap[begin : end - 1]), end - 1)
        low = first[np.append(begin, ends[:-1] + 1)]
        activity = bin_activity(population, units, line, low, first[ends] + width)
        slices = np.lib.stride_tricks.sliding_window_view(activity, width, axis=1)
        yield begin, slices[:, column[begin:end] - column[begin]].transpose(1, 0, 2)
        begin = end
