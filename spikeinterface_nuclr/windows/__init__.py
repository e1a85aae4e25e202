"""Placement of windows in a recording, shared by training and inference.

Observed time is concatenated to one axis of whole bins (`Timeline`). On that axis a window is a slice, whether it comes
from one long interval or is stitched from many short trials. No array is as long as the axis: memory and time grow with
the numbers of spikes, intervals and requested windows, so a stray spike that extends the recording costs no more than
any other.
"""

import bisect
from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError
from ..intervals import numbers_in, overlaps, union
from ..population import Population

# A spike on a bin's edge belongs to the bin that starts there. Floating-point division can place it just below the edge
# (0.58 / 0.02 = 28.999…), so a hundred-millionth of a bin is added to quotients before rounding down.
_ROUNDING = 1e-8
# Largest spacing of floating-point times, in bins, at which times can be binned.
_COARSE = 1e-3


@dataclass(frozen=True)
class Layout:
    """Layout of a window: `num_patches` patches of `patch_size` bins of `bin_s` seconds.

    For traces a bin is a frame: `bin_s` is the inverse of the sampling frequency.
    """

    bin_s: float
    patch_size: int
    num_patches: int

    @property
    def window_bins(self) -> int:
        """Bins in a window."""
        return self.num_patches * self.patch_size

    @property
    def window_s(self) -> float:
        """Length of a window in seconds."""
        return self.window_bins * self.bin_s

    def of(self, sampling_frequency: float | None) -> "Layout":
        """The same layout with the frames of traces as bins; unchanged for spikes (None)."""
        return self if sampling_frequency is None else replace(self, bin_s=1 / sampling_frequency)


@dataclass(frozen=True, eq=False)
class Timeline:
    """The observed time of a group of neurons, concatenated in whole bins.

    Attributes
    ----------
    bin_s : float
        Length of a bin in seconds.
    piece_start : float64, shape (k,)
        Time in seconds at which each piece of observed time begins.
    piece_first : int64, shape (k + 1,)
        Bin of the axis at which each piece begins, and the length of the axis.
    runs : int64, shape (r, 2)
        Slices of the axis in which windows may lie. No window crosses from one run to another.
    quantum : int
        Windows of a run begin at multiples of this number of bins from its first bin.
    stitched : {"", "patches", "bins"}
        Empty if every window is contiguous in time; otherwise the elements from which windows are stitched.
    observed_s : float
        Observed seconds, including those outside of all runs.
    """

    bin_s: float
    piece_start: np.ndarray
    piece_first: np.ndarray
    runs: np.ndarray
    quantum: int
    stitched: str
    observed_s: float

    @property
    def num_bins(self) -> int:
        """Length of the axis in bins."""
        return int(self.piece_first[-1])

    def bins(self, times: np.ndarray) -> np.ndarray:
        """Bins of those of the sorted `times` that lie on the axis: sorted int64, at most as long as `times`."""
        if len(self.piece_start) == 0 or len(times) == 0:
            return np.empty(0, dtype=np.int64)
        piece = np.searchsorted(self.piece_start, times[[0, -1]], side="right") - 1
        if piece[0] != piece[1] or piece[0] < 0:
            bins = self.locate(times)
            return bins[bins >= 0]
        # All in one piece, as in most recordings: no lookup for each spike.
        quotient = times - self.piece_start[piece[0]]
        quotient /= self.bin_s
        quotient += _ROUNDING
        bins = quotient.astype(np.int64)
        bins += self.piece_first[piece[0]]
        return bins[: np.searchsorted(bins, self.piece_first[piece[0] + 1])]

    def locate(self, times: np.ndarray) -> np.ndarray:
        """Bin of the axis for each of the `times`, -1 outside of it: int64, as long as `times`."""
        if len(self.piece_start) == 0:
            return np.full(len(times), -1, dtype=np.int64)
        piece = np.searchsorted(self.piece_start, times, side="right") - 1
        bins = ((times - self.piece_start[piece]) / self.bin_s + _ROUNDING).astype(np.int64) + self.piece_first[piece]
        return np.where((piece >= 0) & (bins < self.piece_first[piece + 1]), bins, -1)

    def time(self, bins: np.ndarray) -> np.ndarray:
        """Time in seconds at which each bin of the axis begins, float64."""
        piece = np.searchsorted(self.piece_first, bins, side="right") - 1
        return self.piece_start[piece] + (bins - self.piece_first[piece]) * self.bin_s

    def frames(self, bins: np.ndarray, start: float, sampling_frequency: float, count: int) -> np.ndarray:
        """Index of the frame in each of the `bins`, for traces of `count` frames that begin at `start` seconds."""
        frames = np.round((self.time(bins) - start) * sampling_frequency)
        # Rounding may give the frame after the last.
        return np.minimum(frames.astype(np.int64), count - 1)

    def slices(self, intervals: np.ndarray) -> np.ndarray:
        """Slices of the axis whose bins lie entirely within one of the `intervals`: ascending int64, shape (m, 2).

        `intervals` are sorted, in seconds, shape (k, 2). Slices of different intervals stay separate where they touch.
        """
        lengths = np.diff(self.piece_first)
        pieces = np.stack([self.piece_start, self.piece_start + lengths * self.bin_s], axis=1)
        piece, k = overlaps(pieces, intervals)
        low, high = ((intervals[k] - self.piece_start[piece, None]) / self.bin_s).T
        low, high = np.ceil(low - _ROUNDING), np.floor(high + _ROUNDING)
        slices = np.clip(np.stack([low, high], axis=1), 0, lengths[piece, None]).astype(np.int64)
        slices += self.piece_first[piece, None]
        return slices[slices[:, 0] < slices[:, 1]]


def timeline(population: Population, units: np.ndarray, layout: Layout, *, skip_silence: bool = False) -> Timeline:
    """Concatenate the observed time in which windows of `units` may lie.

    Windows are contiguous if at least one observed interval is as long as a window. If all intervals are shorter
    (trials), they are stitched: in whole patches if these cover at least half of the time, otherwise in whole bins.

    Parameters
    ----------
    population : Population
    units : int array, shape (n,)
        Positions of the units, all of one group.
    layout : Layout
    skip_silence : bool, default: False
        Leave out every whole second in which none of the units fires, and one second on each side: on a large probe
        such a second is missing data. Off by default, because in small or bursting populations silence is normal.
        Trials are stitched whole, whether silent or not.

    Returns
    -------
    Timeline

    Raises
    ------
    InputError
        Times are so large that the spacing of floating-point numbers is too coarse for the bins.
    """
    sets, _ = population.observed_sets(units)
    intervals = sets[0] if len(sets) == 1 else union(np.concatenate(sets))
    latest = np.abs(intervals).max(initial=0.0)
    if np.spacing(latest) > _COARSE * layout.bin_s:
        raise InputError(
            f"the observed time reaches {latest:g} s, where times are too coarse for bins of {layout.bin_s:g} s: "
            "give spike times in seconds and remove impossible ones"
        )
    observed_s = float(np.ptp(intervals, axis=1).sum())
    lengths = _whole_bins(intervals, layout.bin_s)
    if (lengths >= layout.window_bins).any() or not len(intervals):
        if skip_silence:
            intervals = _without_silence(intervals, population, units)
            lengths = _whole_bins(intervals, layout.bin_s)
        long_enough = lengths >= layout.window_bins
        intervals, lengths = intervals[long_enough], lengths[long_enough]
        first = np.concatenate([[0], np.cumsum(lengths)])
        runs = np.stack([first[:-1], first[1:]], axis=1)
        return Timeline(layout.bin_s, intervals[:, 0], first, runs, 1, "", observed_s)

    patched = lengths // layout.patch_size * layout.patch_size
    quantum = layout.patch_size if 2 * patched.sum() >= lengths.sum() else 1
    lengths = lengths // quantum * quantum
    intervals, lengths = intervals[lengths > 0], lengths[lengths > 0]
    first = np.concatenate([[0], np.cumsum(lengths)])
    has_window = first[-1] >= layout.window_bins
    runs = np.array([[0, first[-1]]] if has_window else np.empty((0, 2)), dtype=np.int64)
    stitched = "patches" if quantum > 1 else "bins"
    return Timeline(layout.bin_s, intervals[:, 0], first, runs, quantum, stitched if has_window else "", observed_s)


class Starts:
    """First bins of windows at regular steps in each run of a timeline, in ascending order, computed on demand.

    Parameters
    ----------
    line : Timeline
    layout : Layout
    step : int, optional
        Bins between successive starts, a multiple of the line's quantum. Default: the quantum, for every possible
        start of a window.
    """

    def __init__(self, line: Timeline, layout: Layout, step: int | None = None):
        self._line, self._width, self._step = line, layout.window_bins, step or line.quantum
        counts = (line.runs[:, 1] - line.runs[:, 0] - self._width) // self._step + 1
        self._before = np.concatenate([[0], np.cumsum(counts)])

    def __len__(self) -> int:
        return int(self._before[-1])

    def __getitem__(self, number) -> int:
        if not 0 <= number < len(self):
            raise IndexError(number)
        return int(self.at(number))

    def at(self, numbers: np.ndarray) -> np.ndarray:
        """The starts with these numbers: int64, same shape."""
        run = self._run(numbers)
        return self._line.runs[run, 0] + (numbers - self._before[run]) * self._step

    def near(self, number: int, distance: float) -> tuple[int, int]:
        """The range [low, high) of numbers of the starts within `distance` seconds of start `number`."""

        def time(i):
            return float(self._line.time(self[i]))

        centre = time(number)
        low = bisect.bisect_left(range(len(self)), centre - distance, key=time)
        return low, bisect.bisect_right(range(len(self)), centre + distance, key=time)

    def touching(self, bins: np.ndarray) -> np.ndarray:
        """Numbers of the windows that contain one of the sorted `bins`: ascending int64 ranges, shape (k, 2)."""
        return self._ranges(bins, bins - self._width + 1, bins)

    def within(self, slices: np.ndarray) -> np.ndarray:
        """Numbers of the windows that lie entirely in each of the sorted `slices`: int64 ranges, same shape."""
        return self._ranges(slices[:, 0], slices[:, 0], slices[:, 1] - self._width)

    def disjoint(self, numbers: np.ndarray) -> np.ndarray:
        """Whether each window is in the disjoint series that begins with the first of its run: bool, same shape."""
        return (numbers - self._before[self._run(numbers)]) % -(-self._width // self._step) == 0

    def _run(self, numbers):
        return np.searchsorted(self._before, numbers, side="right") - 1

    def _ranges(self, bins: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Numbers of the starts from bin `low` to bin `high`, both included, in the runs that contain `bins`."""
        if not len(self):
            return np.zeros((len(bins), 2), dtype=np.int64)
        run = np.searchsorted(self._line.runs[:, 0], bins, side="right") - 1
        origin, before = self._line.runs[run, 0], self._before[run]
        first = before - (origin - low) // self._step
        last = before + (high - origin) // self._step + 1
        first, last = (np.clip(x, before, self._before[run + 1]) for x in (first, last))
        return np.stack([first, np.maximum(first, last)], axis=1)


def check_overlap(overlap: float) -> None:
    """InputError if it is no overlap of successive windows, as a fraction of their length."""
    if not isinstance(overlap, int | float) or not 0 <= overlap < 1:
        raise InputError(f"overlap must lie in [0, 1), not {overlap!r}")


def place_windows(line: Timeline, layout: Layout, overlap: float = 0.0) -> Starts:
    """Tile a timeline with windows.

    Parameters
    ----------
    line : Timeline
    layout : Layout
    overlap : float, default: 0.0
        Overlap of successive windows as a fraction of their length, in [0, 1).

    Returns
    -------
    Starts
        The remainder at the end of a run, shorter than a window, is dropped.
    """
    check_overlap(overlap)
    step = round(layout.window_bins * (1 - overlap) / line.quantum) * line.quantum
    return Starts(line, layout, max(step, line.quantum))


def windows_to_bin(population: Population, units: np.ndarray, line: Timeline, starts: Starts) -> np.ndarray:
    """Numbers of the windows to bin: all, or only those with a spike of `units` if these are fewer than half.

    A minority of silent windows is included, so that they do not change which windows are batched together, on which
    the last bit of an embedding depends.
    """
    if population.spike_times is None or not len(starts):
        return np.arange(len(starts))
    busiest = max(units, key=lambda unit: len(population.spike_times[unit]))
    for subset in ([busiest], units):
        active = [union(starts.touching(line.bins(population.spike_times[unit]))) for unit in subset]
        ranges = union(np.concatenate(active))
        if 2 * np.ptp(ranges, axis=1).sum() >= len(starts):
            return np.arange(len(starts))
    return numbers_in(ranges)


class Membership:
    """Which units were observed throughout which windows.

    A contiguous window must lie within a single one of a unit's intervals, a stitched window within their union.

    Parameters
    ----------
    population : Population
    units : int array, shape (n,)
    line : Timeline
    layout : Layout
    """

    def __init__(self, population: Population, units: np.ndarray, line: Timeline, layout: Layout):
        sets, self._set = population.observed_sets(units)
        slices = [_joined(line.slices(o)) if line.stitched else line.slices(o) for o in sets]
        self._owner = np.repeat(np.arange(len(sets)), [len(s) for s in slices])
        self._slices, self._width = np.concatenate(slices), layout.window_bins
        # The axis is repeated for each set, so that one search covers all of them. The first slice is empty, for
        # windows before all others.
        self._origin = np.arange(len(sets)) * (line.num_bins + 1)
        self._low, self._high = np.insert(self._slices + self._origin[self._owner, None], 0, -1, axis=0).T

    def of(self, first: np.ndarray) -> np.ndarray:
        """Whether each unit was observed throughout each window, given by its first bin (k,): bool, shape (k, n)."""
        first = first[:, None] + self._origin
        before = np.searchsorted(self._low, first, side="right") - 1
        return (first + self._width <= self._high[before])[:, self._set]

    def anywhere(self, starts: Starts) -> np.ndarray:
        """Whether each unit was observed throughout at least one window of `starts`: bool, shape (n,)."""
        has_window = np.ptp(starts.within(self._slices), axis=1) > 0
        return np.isin(self._set, self._owner[has_window])


def _joined(slices: np.ndarray) -> np.ndarray:
    """Merge sorted slices that touch."""
    if not len(slices):
        return slices
    border = np.flatnonzero(slices[1:, 0] > slices[:-1, 1])
    return np.stack([slices[np.append(0, border + 1), 0], slices[np.append(border, len(slices) - 1), 1]], axis=1)


def _whole_bins(intervals: np.ndarray, bin_s: float) -> np.ndarray:
    return np.floor((intervals[:, 1] - intervals[:, 0]) / bin_s + _ROUNDING).astype(np.int64)


def _without_silence(intervals: np.ndarray, population: Population, units: np.ndarray) -> np.ndarray:
    if population.spike_times is None or not len(intervals):
        return intervals
    start, length = intervals[:, 0], np.ptp(intervals, axis=1)
    seconds = np.floor(length + _ROUNDING).astype(np.int64)
    # An axis of the whole seconds of all intervals, with one more position after each interval for its remainder.
    origin = np.cumsum(seconds + 1) - (seconds + 1)
    active = []
    for unit in units:
        times = population.spike_times[unit]
        k = np.searchsorted(start, times, side="right") - 1
        inside = (k >= 0) & (times < intervals[k, 1])
        times, k = times[inside], k[inside]
        active.append(np.unique(origin[k] + np.minimum((times - start[k]).astype(np.int64), seconds[k])))
    active = np.unique(np.concatenate(active))
    k = np.searchsorted(origin, active, side="right") - 1
    active = active[active - origin[k] < seconds[k]]
    stretches = _joined(np.stack([active, active + 1], axis=1))
    k = np.searchsorted(origin, stretches[:, 0], side="right") - 1
    begin, end = (stretches - origin[k, None]).T
    # Seconds next to a silent one are removed too; the remainder of an interval belongs to its last whole second.
    begin, end = begin + (begin > 0), end - (end < seconds[k])
    offsets = np.stack([begin, np.where(end == seconds[k], length[k], end)], axis=1)
    return (start[k, None] + offsets)[begin < end]
