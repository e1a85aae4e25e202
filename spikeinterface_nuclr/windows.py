"""Where windows may lie in a recording. Training and inference share this code.

Observed time is laid end to end on one axis of whole bins (`Timeline`). On that axis a window is a slice,
whether it comes from one long interval or is stitched from many short trials. No array is as long as the
axis: memory and time grow with the numbers of spikes, intervals and requested windows, so a stray spike that stretches
the recording costs no more than any other.
"""

import bisect
from dataclasses import dataclass, replace

import numpy as np

from .errors import InputError
from .intervals import numbers_in, overlaps, union
from .population import Population

# A spike on a bin's edge belongs to the bin that starts there. Floating-point division can put it a hair
# below the edge (0.58 / 0.02 = 28.999…), so quotients are raised by a hundred-millionth of a bin before the floor.
_ROUNDING = 1e-8
# Spacing of floating-point times, in bins, above which times are too coarse to be binned.
_COARSE = 1e-3


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
        """Bin of the axis in which each of the `times` lies, -1 outside of it: int64, as long as `times`."""
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
        """Number of the frame of each of the `bins`, of traces of `count` frames that begin at `start` seconds."""
        frames = np.round((self.time(bins) - start) * sampling_frequency)
        # Rounding may name the frame after the last.
        return np.minimum(frames.astype(np.int64), count - 1)

    def slices(self, intervals: np.ndarray) -> np.ndarray:
        """Slices of the axis whose bins lie entirely within one of the `intervals`: ascending int64, shape (m, 2).

        `intervals` are sorted seconds, shape (k, 2). Slices of different intervals stay apart where they touch.
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

    Raises
    ------
    InputError
        Times are so large that neighbouring floating-point numbers lie too far apart for the bins.
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


class Starts:
    """First bins of windows at regular steps in each run of a timeline, in order, computed on demand.

    Parameters
    ----------
    line : Timeline
    layout : Layout
    step : int, optional
        Bins from one start to the next, a multiple of the line's quantum. Default: the quantum, which gives every bin
        at which a window may begin.
    """

    def __init__(self, line: Timeline, layout: Layout, step: int | None = None):
        self._line, self._width, self._step = line, layout.window_bins, step or line.quantum
        places = (line.runs[:, 1] - line.runs[:, 0] - self._width) // self._step + 1
        self._before = np.concatenate([[0], np.cumsum(places)])

    def __len__(self) -> int:
        return int(self._before[-1])

    def __getitem__(self, number) -> int:
        if not 0 <= number < len(self):
            raise IndexError(number)
        return int(self.at(number))

    def at(self, numbers: np.ndarray) -> np.ndarray:
        """The starts of these numbers: int64, as `numbers`."""
        run = self._run(numbers)
        return self._line.runs[run, 0] + (numbers - self._before[run]) * self._step

    def near(self, number: int, distance: float) -> tuple[int, int]:
        """The numbers [low, high) of the starts at most `distance` seconds from that of this number."""

        def time(i):
            return float(self._line.time(self[i]))

        here = time(number)
        low = bisect.bisect_left(range(len(self)), here - distance, key=time)
        return low, bisect.bisect_right(range(len(self)), here + distance, key=time)

    def touching(self, bins: np.ndarray) -> np.ndarray:
        """Numbers of the windows that hold one of the sorted `bins`: ranges, ascending, int64, shape (k, 2)."""
        return self._ranges(bins, bins - self._width + 1, bins)

    def within(self, slices: np.ndarray) -> np.ndarray:
        """Numbers of the windows that lie entirely in each of the sorted `slices`: int64 ranges, as `slices`."""
        return self._ranges(slices[:, 0], slices[:, 0], slices[:, 1] - self._width)

    def alone(self, numbers: np.ndarray) -> np.ndarray:
        """Which of these windows are disjoint, counted from the first of each run: bool, as `numbers`."""
        return (numbers - self._before[self._run(numbers)]) % -(-self._width // self._step) == 0

    def _run(self, numbers):
        return np.searchsorted(self._before, numbers, side="right") - 1

    def _ranges(self, place: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Numbers of the starts from bin `low` to bin `high` in the run that `place` lies in."""
        if not len(self):
            return np.zeros((len(place), 2), dtype=np.int64)
        run = np.searchsorted(self._line.runs[:, 0], place, side="right") - 1
        origin, before = self._line.runs[run, 0], self._before[run]
        first = before - (origin - low) // self._step
        last = before + (high - origin) // self._step + 1
        first, last = (np.clip(x, before, self._before[run + 1]) for x in (first, last))
        return np.stack([first, np.maximum(first, last)], axis=1)


def place_windows(line: Timeline, layout: Layout, overlap: float = 0.0) -> Starts:
    """First bin of each window that tiles the timeline, in order of time.

    Parameters
    ----------
    line : Timeline
    layout : Layout
    overlap : float, default: 0.0
        Share of a window that the next one repeats, in [0, 1).

    Returns
    -------
    Starts
        What is left over at the end of a run, shorter than a window, is dropped.
    """
    if not isinstance(overlap, int | float) or not 0 <= overlap < 1:
        raise InputError(f"overlap must lie in [0, 1), not {overlap!r}")
    step = round(layout.window_bins * (1 - overlap) / line.quantum) * line.quantum
    return Starts(line, layout, max(step, line.quantum))


def windows_to_bin(population: Population, units: np.ndarray, line: Timeline, starts: Starts) -> np.ndarray:
    """Numbers of the windows to bin: all, or, where fewer than half hold a spike of `units`, only those that do.

    Few silent windows are kept: which windows are batched together, and so the last bit of an embedding, then does not
    depend on them.
    """
    if population.spike_times is None or not len(starts):
        return np.arange(len(starts))
    busiest = max(units, key=lambda unit: len(population.spike_times[unit]))
    for some in ([busiest], units):
        touched = [union(starts.touching(line.bins(population.spike_times[unit]))) for unit in some]
        ranges = union(np.concatenate(touched))
        if 2 * np.ptp(ranges, axis=1).sum() >= len(starts):
            return np.arange(len(starts))
    return numbers_in(ranges)


class Membership:
    """In which windows each unit was observed throughout.

    A contiguous window has to lie within one of a unit's intervals, a stitched one within any of them.

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
        # The axis once for each set, end to end, so that one search serves all of them. An empty slice comes first,
        # for windows before all others.
        self._origin = np.arange(len(sets)) * (line.num_bins + 1)
        self._low, self._high = np.insert(self._slices + self._origin[self._owner, None], 0, -1, axis=0).T

    def of(self, first: np.ndarray) -> np.ndarray:
        """Whether each window, given by its first bin (k,), holds each unit: bool, shape (k, n)."""
        first = first[:, None] + self._origin
        before = np.searchsorted(self._low, first, side="right") - 1
        return (first + self._width <= self._high[before])[:, self._set]

    def anywhere(self, starts: Starts) -> np.ndarray:
        """Whether any window of `starts` holds each unit: bool, shape (n,)."""
        fit = np.ptp(starts.within(self._slices), axis=1) > 0
        return np.isin(self._set, self._owner[fit])


def observed_windows(
    population: Population, units: np.ndarray, line: Timeline, starts: Starts, layout: Layout
) -> np.ndarray:
    """In which of the windows each unit was observed throughout: bool, shape (n_windows, n)."""
    return Membership(population, units, line, layout).of(starts.at(np.arange(len(starts))))


def _joined(slices: np.ndarray) -> np.ndarray:
    """The sorted slices, with touching ones joined."""
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
    # The whole seconds of all intervals end to end, and after each interval's a place for what is left of it.
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
    # The seconds beside a silent one go with it; what is left after the last whole second stays with that.
    begin, end = begin + (begin > 0), end - (end < seconds[k])
    kept = np.stack([begin, np.where(end == seconds[k], length[k], end)], axis=1)
    return (start[k, None] + kept)[begin < end]
