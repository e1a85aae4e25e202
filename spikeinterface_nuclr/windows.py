"""Where windows may lie in a recording, and the patches inside them. Training and inference share this code.

Observed time is laid end to end on one axis of whole bins (`Timeline`). On that axis a window is a slice,
whether it comes from one long interval or is stitched from many short trials, and overlapping windows are
overlapping slices of counts that were binned once.
"""

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from .errors import InputError
from .population import Population, union

# A spike on a bin's edge belongs to the bin that starts there. Floating-point division can put it a hair
# below the edge (0.58 / 0.02 = 28.999…), so quotients are raised by a hundred-millionth of a bin before the floor.
_ROUNDING = 1e-8


@dataclass(frozen=True)
class Layout:
    """How a window is cut: `num_patches` patches of `patch_size` bins of `bin_s` seconds.

    For traces a bin is a frame: `bin_s` is one over the sampling frequency.
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
        """This layout in frames of traces, whose bins are these; itself where there are none (None)."""
        return self if sampling_frequency is None else replace(self, bin_s=1 / sampling_frequency)


@dataclass(frozen=True, eq=False)
class Timeline:
    """The observed time of some neurons, laid end to end in whole bins.

    Attributes
    ----------
    bin_s : float
        Length of a bin in seconds.
    piece_start : float64, shape (k,)
        Time in seconds at which each piece of observed time begins.
    piece_first : int64, shape (k + 1,)
        Bin of the axis at which each piece begins, and the axis's length.
    runs : int64, shape (r, 2)
        Slices of the axis in which windows may lie. No window crosses from one run to another.
    quantum : int
        Windows of a run begin at multiples of this many bins from its first bin.
    stitched : {"", "patches", "bins"}
        Empty where every window is contiguous in time; else what the windows are stitched from.
    observed_s : float
        Seconds observed, those that are on no run included.
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
        """Bin of the axis for each of the sorted `times` that has one; sorted int64, at most as long as `times`."""
        if len(self.piece_start) == 0 or len(times) == 0:
            return np.empty(0, dtype=np.int64)
        piece = np.searchsorted(self.piece_start, times[[0, -1]], side="right") - 1
        if piece[0] != piece[1] or piece[0] < 0:
            bins = self.locate(times)
            return bins[bins >= 0]
        # All in one piece, as in most recordings: nothing to look up for each spike.
        quotient = times - self.piece_start[piece[0]]
        quotient /= self.bin_s
        quotient += _ROUNDING
        bins = quotient.astype(np.int64)
        bins += self.piece_first[piece[0]]
        return bins[: np.searchsorted(bins, self.piece_first[piece[0] + 1])]

    def locate(self, times: np.ndarray) -> np.ndarray:
        """Bin of the axis in which each of the `times` lies, -1 where it has none: int64, as long as `times`."""
        if len(self.piece_start) == 0:
            return np.full(len(times), -1, dtype=np.int64)
        piece = np.searchsorted(self.piece_start, times, side="right") - 1
        bins = ((times - self.piece_start[piece]) / self.bin_s + _ROUNDING).astype(np.int64) + self.piece_first[piece]
        return np.where((piece >= 0) & (bins < self.piece_first[piece + 1]), bins, -1)

    def time(self, bins: np.ndarray) -> np.ndarray:
        """Time in seconds at which each bin of the axis begins, float64."""
        piece = np.searchsorted(self.piece_first, bins, side="right") - 1
        return self.piece_start[piece] + (bins - self.piece_first[piece]) * self.bin_s

    def frames(self, low: int, high: int, start: float, sampling_frequency: float, count: int) -> np.ndarray:
        """Number of the frame of each bin in [low, high), of traces of `count` frames that begin at `start` seconds."""
        frames = np.round((self.time(np.arange(low, high)) - start) * sampling_frequency)
        # Rounding may name the frame after the last.
        return np.minimum(frames.astype(np.int64), count - 1)

    def coverage(self, intervals: np.ndarray) -> np.ndarray:
        """Number of the interval in which each bin lies whole, -1 outside of all: int64, shape (num_bins,).

        `intervals` are sorted seconds, shape (k, 2).
        """
        number = np.full(self.num_bins, -1, dtype=np.int64)
        for start, first, last in zip(self.piece_start, self.piece_first[:-1], self.piece_first[1:], strict=True):
            low = np.ceil((intervals[:, 0] - start) / self.bin_s - _ROUNDING).astype(np.int64) + first
            high = np.floor((intervals[:, 1] - start) / self.bin_s + _ROUNDING).astype(np.int64) + first
            low, high = np.clip(low, first, last), np.clip(high, first, last)
            for k in np.flatnonzero(low < high):
                number[low[k] : high[k]] = k
        return number


def timeline(population: Population, units: np.ndarray, layout: Layout, *, skip_silence: bool = False) -> Timeline:
    """Lay out the time in which windows of `units` may lie.

    Windows are contiguous where any observed interval holds one. Where all intervals are shorter than a window
    (trials), they are laid end to end: in whole patches where these keep at least half of the time, else in whole bins.

    Parameters
    ----------
    population : Population
    units : int array, shape (n,)
        Positions of the units, all of one group.
    layout : Layout
    skip_silence : bool, default: False
        Leave out every whole second in which no unit of `units` fires, and one second on each side: on a large
        probe such a second is lost data. Off by default, because in small or bursting populations silence is
        activity. Trials are stitched whole, silent or not.

    Returns
    -------
    Timeline
    """
    if isinstance(population.observed, np.ndarray):
        intervals = population.observed
    else:
        intervals = union(np.concatenate([population.observed_of(i) for i in units]))
    observed_s = float(np.ptp(intervals, axis=1).sum())
    lengths = _whole_bins(intervals, layout.bin_s)
    if (lengths >= layout.window_bins).any() or not len(intervals):
        if skip_silence:
            intervals = _without_silence(intervals, population, units)
            lengths = _whole_bins(intervals, layout.bin_s)
        keep = lengths >= layout.window_bins
        intervals, lengths = intervals[keep], lengths[keep]
        first = np.concatenate([[0], np.cumsum(lengths)])
        runs = np.stack([first[:-1], first[1:]], axis=1)
        return Timeline(layout.bin_s, intervals[:, 0], first, runs, 1, "", observed_s)

    patched = lengths // layout.patch_size * layout.patch_size
    quantum = layout.patch_size if 2 * patched.sum() >= lengths.sum() else 1
    lengths = lengths // quantum * quantum
    intervals, lengths = intervals[lengths > 0], lengths[lengths > 0]
    first = np.concatenate([[0], np.cumsum(lengths)])
    whole = first[-1] >= layout.window_bins
    runs = np.array([[0, first[-1]]] if whole else np.empty((0, 2)), dtype=np.int64)
    stitched = "patches" if quantum > 1 else "bins"
    return Timeline(layout.bin_s, intervals[:, 0], first, runs, quantum, stitched if whole else "", observed_s)


def place_windows(line: Timeline, layout: Layout, overlap: float = 0.0) -> np.ndarray:
    """First bin of each window that tiles the timeline, in order of time.

    Parameters
    ----------
    line : Timeline
    layout : Layout
    overlap : float, default: 0.0
        Share of a window that the next one repeats, in [0, 1).

    Returns
    -------
    int64, shape (n_windows,)
        What is left over at the end of a run, shorter than a window, is dropped.
    """
    if not isinstance(overlap, int | float) or not 0 <= overlap < 1:
        raise InputError(f"overlap must lie in [0, 1), not {overlap!r}")
    step = round(layout.window_bins * (1 - overlap) / line.quantum) * line.quantum
    step = max(step, line.quantum)
    starts = [np.arange(a, b - layout.window_bins + 1, step) for a, b in line.runs]
    return np.concatenate(starts).astype(np.int64) if starts else np.empty(0, dtype=np.int64)


class Starts:
    """Every bin of a timeline at which a window may begin, in order; none of them is held in memory.

    Parameters
    ----------
    line : Timeline
    layout : Layout
    """

    def __init__(self, line: Timeline, layout: Layout):
        self._line = line
        places = (line.runs[:, 1] - line.runs[:, 0] - layout.window_bins) // line.quantum + 1
        self._before = np.concatenate([[0], np.cumsum(places)])

    def __len__(self) -> int:
        return int(self._before[-1])

    def __getitem__(self, number) -> int:
        if not 0 <= number < len(self):
            raise IndexError(number)
        run = np.searchsorted(self._before, number, side="right") - 1
        return int(self._line.runs[run, 0] + (number - self._before[run]) * self._line.quantum)

    def near(self, number: int, distance: float) -> tuple[int, int]:
        """The numbers [low, high) of the starts at most `distance` seconds from that of this number."""

        def time(i):
            return float(self._line.time(self[i]))

        here = time(number)
        low = bisect.bisect_left(range(len(self)), here - distance, key=time)
        return low, bisect.bisect_right(range(len(self)), here + distance, key=time)


def observed_windows(
    population: Population, units: np.ndarray, line: Timeline, first: np.ndarray, layout: Layout
) -> tuple[np.ndarray, np.ndarray]:
    """In which windows each unit was observed throughout.

    A contiguous window has to lie within one of a unit's intervals, a stitched one within any of them.

    Returns
    -------
    seen : bool, shape (n_windows, n_sets)
        For each distinct set of observed intervals, whether it holds each window.
    which : int64, shape (n,)
        The set of each unit: ``seen[:, which]`` tells of windows and units.
    """
    sets, which = population.observed_sets(units)
    if isinstance(population.observed, np.ndarray):
        return np.ones((len(first), 1), dtype=bool), which
    return np.stack([_throughout(line, i, first, layout.window_bins) for i in sets], axis=1), which


def _throughout(line: Timeline, intervals: np.ndarray, first: np.ndarray, width: int) -> np.ndarray:
    number = line.coverage(intervals)
    if line.stitched:
        missed = np.concatenate([[0], np.cumsum(number < 0)])
        return missed[first + width] == missed[first]
    # Time runs on inside such a window, so one interval that holds both ends holds it all.
    return (number[first] >= 0) & (number[first] == number[first + width - 1])


def bin_activity(population: Population, units: np.ndarray, line: Timeline, low: int, high: int) -> np.ndarray:
    """Spike counts (or trace frames) of `units` in the bins [low, high) of the timeline.

    Returns
    -------
    uint16 (float32 for traces), shape (n, high - low)
    """
    if population.traces is not None:
        frames = line.frames(low, high, population.start, population.sampling_frequency, population.traces.shape[1])
        return population.traces[np.ix_(units, frames)]
    # Two bytes a bin: at 50 bins a second most of them are empty, and touching them is most of the work. With one
    # index array and a value of the array's own type, add.at takes its fast way.
    out = np.zeros((len(units), high - low), dtype=np.uint16)
    one = np.uint16(1)
    t0, t1 = line.time(np.array([low, high - 1]))
    for row, unit in enumerate(units):
        times = population.spike_times[unit]
        # One bin of slack on both sides; `bins` decides to which bin a spike belongs.
        a, b = np.searchsorted(times, [t0 - line.bin_s, t1 + 2 * line.bin_s])
        bins = line.bins(times[a:b])
        first, last = np.searchsorted(bins, [low, high])
        np.add.at(out[row], bins[first:last] - low, one)
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
    begin = 0
    while begin < len(first):
        fit = int(np.searchsorted(first, first[begin] + budget - width, side="right"))
        # Windows that overlap take more room side by side than the time they lie in.
        end = max(min(fit, begin + budget // width), begin + 1)
        low = first[begin]
        activity = bin_activity(population, units, line, low, first[end - 1] + width)
        slices = np.lib.stride_tricks.sliding_window_view(activity, width, axis=1)
        yield begin, slices[:, first[begin:end] - low].transpose(1, 0, 2)
        begin = end


def _whole_bins(intervals: np.ndarray, bin_s: float) -> np.ndarray:
    return np.floor((intervals[:, 1] - intervals[:, 0]) / bin_s + _ROUNDING).astype(np.int64)


def _without_silence(intervals: np.ndarray, population: Population, units: np.ndarray) -> np.ndarray:
    if population.spike_times is None:
        return intervals
    kept = []
    for a, b in intervals:
        seconds = int(np.floor(b - a + _ROUNDING))
        active = np.zeros(seconds + 1, dtype=bool)
        for unit in units:
            times = population.spike_times[unit]
            low, high = np.searchsorted(times, [a, b])
            active[np.minimum((times[low:high] - a).astype(np.int64), seconds)] = True
        silent = ~active[:seconds]
        near = silent.copy()
        near[1:] |= silent[:-1]
        near[:-1] |= silent[1:]
        edges = np.flatnonzero(np.diff(np.concatenate([[True], near, [True]])))
        ends = np.where(edges[1::2] == seconds, b - a, edges[1::2])
        kept.append(a + np.stack([edges[::2], ends], axis=1))
    return np.concatenate(kept) if kept else np.empty((0, 2))
