"""What all imaged recordings share: the regular grid of frames, frames without data, dF/F and scaling."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError, RecordingWarning
from ..population import Population
from ..traces import delta_f, scaled

_SLOWEST, _FASTEST = 1 / 60, 20_000.0  # frames per second: beyond, times are in another unit
_SUSTAINED = 11  # successive frames from which a rate is estimated
_VARIATION = 0.55  # of the usual interval: half would be the limit between 30 and 20 frames per second
_LONGEST, _EMPTY = 10, 64_000_000  # pauses are held as empty frames: times the recorded ones, or so many values
_PLACE = 15  # values that take the memory of a place of the grid itself
_ROUNDING, _RESOLUTION = 0.001, 0.1  # of a frame: times in files are rounded
_BLOCK = 4_000_000  # values processed at once
# Kinds of values of a source, and how the traces made of them are described.
KINDS = {
    "fluorescence": "dF/F of a running baseline, divided by its 99th percentile",
    "dff": "dF/F as given, divided by its 99th percentile",
    "preprocessed": "as given",
}


@dataclass(frozen=True, eq=False)
class Frames:
    """When the frames of a recording were taken.

    Attributes
    ----------
    begin, end : float64, shape (n_frames,)
        Seconds, ascending.
    border : bool, shape (n_frames,)
        Frames that do not follow the one before them at the usual interval: no window crosses there.
    column : int64, shape (n_frames,)
        Place of each frame in the source's data.
    rate : float or None
        Frames per second where the source states a fixed rate, None where it gives the time of each frame.
    """

    begin: np.ndarray
    end: np.ndarray
    border: np.ndarray
    column: np.ndarray
    rate: float | None = None

    def __len__(self):
        return len(self.begin)

    def part(self, mask: np.ndarray) -> "Frames":
        """Those frames where the mask is True; what is left out is a border."""
        stretch, column = np.cumsum(self.border)[mask], self.column[mask]
        border = (np.diff(stretch, prepend=-1) != 0) | (np.diff(column, prepend=-2) != 1)
        return Frames(self.begin[mask], self.end[mask], border, column, self.rate)

    def within(self, intervals: np.ndarray) -> "Frames":
        """The frames that lie entirely in one of the sorted `intervals` (k, 2), with a border between intervals."""
        begin, end = self._limits()
        k = np.searchsorted(intervals[:, 0], begin, side="right") - 1
        border = self.border | (np.diff(k, prepend=-1) != 0)
        return replace(self, border=border).part((k >= 0) & (end <= intervals[np.maximum(k, 0), 1]))

    def touching(self, intervals: np.ndarray) -> np.ndarray:
        """Which frames share time with one of the sorted `intervals` (k, 2): bool, shape (n_frames,)."""
        begin, end = self._limits()
        k = np.searchsorted(intervals[:, 0], end) - 1
        return (k >= 0) & (intervals[np.maximum(k, 0), 1] > begin)

    def _limits(self) -> tuple[np.ndarray, np.ndarray]:
        less = _ROUNDING * (self.end - self.begin)
        return self.begin + less, self.end - less


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular grid in time, and which frames lie at its places.

    Attributes
    ----------
    start : float
        Second at which the first place begins.
    sampling_frequency : float
        Places per second.
    column : int64, shape (n_places,)
        Position in the source's data of the frame at each place, -1 where there is none.
    following : int64, shape (n_places,), or None
        Position of the frame towards which it is interpolated.
    share : float32, shape (n_places,), or None
        Weight of that frame.
    border : bool, shape (n_places,)
        Places that no window crosses into.
    """

    start: float
    sampling_frequency: float
    column: np.ndarray
    border: np.ndarray
    following: np.ndarray | None = None
    share: np.ndarray | None = None

    def __len__(self):
        return len(self.column)

    @property
    def stop(self) -> float:
        """Second at which the last place ends."""
        return self.start + len(self) / self.sampling_frequency

    def lay(self, values: np.ndarray, out: np.ndarray) -> None:
        """Place the source's data (n_units, n_frames) on the grid: float32 `out`, NaN where there is no frame."""
        with np.errstate(over="ignore", invalid="ignore"):
            out[:] = values[:, self.column]
            if self.share is not None:
                step = values[:, self.following].astype(np.float32) - out
                out += np.where(np.isfinite(step), self.share * step, np.float32(0))
        out[:, self.column < 0] = np.nan
        out[~np.isfinite(out)] = np.nan


def assemble_traces(
    name: str,
    unit_ids,
    values: np.ndarray,
    frames: Frames,
    *,
    kind: str,
    observed: np.ndarray | None = None,
    left_out: np.ndarray | None = None,
    metadata: dict,
    **known,
) -> Population:
    """Make the Population of an optical source, from its first valid frame to its last.

    Frames that are NaN or infinite in a neuron are not observed of it.

    Parameters
    ----------
    name : str
        The source, for messages.
    unit_ids : sequence
    values : float array, shape (n_units, n_frames)
        Not changed; copied once.
    frames : Frames
    kind : str
        One of KINDS.
    observed : array (k, 2), optional
        Intervals in seconds outside of which there is no data.
    left_out : bool array, shape (n_frames,), optional
        Frames without valid data.
    metadata : dict
    **known
        `group` and `properties` of the Population.
    """
    if kind not in KINDS:
        raise InputError(f"traces must be one of {', '.join(KINDS)}, not {kind!r}")
    if not values.size:
        raise InputError(f"{name}: it holds {len(values)} neurons in {len(frames)} frames: nothing to read")
    if left_out is not None:
        frames = frames.part(~left_out)
    if observed is not None:
        if not len(observed):
            raise InputError("observed holds no interval: give at least one (start, stop) in seconds")
        frames = frames.within(observed)
    if not len(frames):
        raise InputError(
            f"{name}: no frame is left: all are invalid or outside observed time: correct them, or observed="
        )
    grid = grid_of(frames, name, len(values))
    traces = np.empty((len(values), len(grid)), dtype=np.float32)
    together = max(_BLOCK // len(grid), 1)
    for low in range(0, len(values), together):
        grid.lay(values[low : low + together], traces[low : low + together])
    if not any(np.isfinite(row).any() for row in traces):
        raise InputError(f"{name}: no frame is left: all are NaN: correct its data")
    if kind == "fluorescence":
        delta_f(traces, grid.sampling_frequency, out=traces)
    if kind != "preprocessed":
        scaled(traces, out=traces)
    prepared = KINDS[kind]
    if grid.share is not None:
        prepared += f", interpolated to {grid.sampling_frequency:.4g} frames per second"
    observed = list(_observed(traces, grid))
    _check_signal(name, unit_ids, np.array([not len(intervals) for intervals in observed]))
    for row in traces:
        row[~np.isfinite(row)] = 0
    try:
        return Population(
            unit_ids,
            traces=traces,
            sampling_frequency=grid.sampling_frequency,
            observed=observed[0] if all(intervals is observed[0] for intervals in observed) else observed,
            start=grid.start,
            stop=grid.stop,
            metadata={**metadata, "prepared": prepared},
            **known,
        )
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def _observed(traces: np.ndarray, grid: Grid) -> Iterator[np.ndarray]:
    """Intervals of the frames in which each neuron has data, (k, 2): one array for successive equal neurons."""
    same, intervals = np.empty(0, dtype=bool), None
    for row in traces:
        seen = np.isfinite(row)
        if not np.array_equal(seen, same):
            first = np.flatnonzero(seen & (grid.border | ~np.append(False, seen[:-1])))
            last = np.flatnonzero(seen & np.append(grid.border[1:] | ~seen[1:], True))
            same = seen
            intervals = grid.start + np.stack([first, last + 1], axis=1) / grid.sampling_frequency
        yield intervals


def _check_signal(name: str, unit_ids, silent: np.ndarray) -> None:
    """InputError where no neuron has a signal, a warning where some have none."""
    if silent.all():
        raise InputError(f"{name}: no neuron has a signal above its baseline: check what its values are (traces=)")
    if silent.any():
        warnings.warn(
            f"{name}: {silent.sum()} of {len(silent)} neurons, such as {np.asarray(unit_ids)[silent][0]}, have no "
            "signal above their baseline and are left without an embedding",
            RecordingWarning,
            stacklevel=7,
        )


def regular_frames(count: int, rate: float, start: float = 0.0, *, name: str) -> Frames:
    """Frames at a fixed rate; InputError, which begins with `name`, where rate or start is impossible."""
    if not (np.isfinite(rate) and rate > 0):
        raise InputError(f"{name}: a rate of {rate} frames per second is impossible: correct it")
    if not np.isfinite(start):
        raise InputError(f"{name}: begins at {start} s: correct its starting time")
    begin, end = (start + np.arange(first, count + first) / rate for first in (0, 1))
    _check_seconds(begin, rate, name)
    return Frames(begin, end, np.arange(count) == 0, np.arange(count), float(rate))


def timed_frames(times, name: str) -> Frames:
    """Frames at these times (seconds); InputError, which begins with `name`, where they are not finite and increasing.

    A frame lasts until the next one begins. Intervals that differ from those around them by more than half are pauses.
    """
    times = np.asarray(times)
    if times.ndim != 1 or times.dtype.kind not in "iuf":
        raise InputError(f"{name}: its timestamps are not a list of seconds, but {times.dtype} of shape {times.shape}")
    times = times.astype(np.float64)
    if len(times) < 2:
        raise InputError(f"{name}: it has {len(times)} frame(s): too few to know their rate")
    with np.errstate(invalid="ignore", over="ignore"):
        intervals = np.diff(times)
    wrong = np.flatnonzero(~((intervals > 0) & np.isfinite(intervals)))
    if len(wrong):
        k = wrong[0] + 1
        raise InputError(f"{name}: frame {k}, at {times[k]} s, does not follow frame {k - 1}: correct its timestamps")
    _check_seconds(times, 1 / float(np.median(intervals)), name)
    usual = _usual(intervals)
    regular = _regular(intervals, usual)
    length = np.append(np.where(regular, intervals, np.minimum(intervals, usual)), usual[-1])
    return Frames(times, times + length, np.concatenate([[True], ~regular]), np.arange(len(times)))


def _check_seconds(times: np.ndarray, rate: float, name: str) -> None:
    if not _SLOWEST <= rate <= _FASTEST:
        raise InputError(
            f"{name}: frames {1 / rate:.4g} s apart: times are in seconds, rates in frames per second: correct them"
        )
    if len(times) and np.spacing(np.abs(times[[0, -1]]).max()) * rate > _RESOLUTION:
        raise InputError(f"{name}: times up to {times[-1]:.4g} s are too large to tell frames apart: correct them")


def _usual(intervals: np.ndarray) -> np.ndarray:
    """The local usual interval between frames: a running median, or slightly less where pauses are frequent."""
    from scipy.ndimage import percentile_filter

    return percentile_filter(intervals, 40, size=_SUSTAINED, mode="mirror")


def _regular(intervals: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Which intervals between frames are not pauses: those close to the usual one around, before or after them."""
    places, regular = np.arange(len(intervals)), np.zeros(len(intervals), dtype=bool)
    for shift in (-_SUSTAINED // 2, 0, _SUSTAINED // 2 + 1):  # beside a step in rate, one of these is its own
        near = usual[np.clip(places + shift, 0, len(intervals) - 1)]
        regular |= np.abs(intervals - near) < _VARIATION * near
    return regular


def grid_of(frames: Frames, name: str, n_units: int = 1) -> Grid:
    """The regular grid of these frames, for the traces of so many neurons.

    Regular frames get a place each; so do those that jitter about a regular time by less than half a frame, and pauses
    become whole numbers of empty places. Frames of a rate that changes or drifts are interpolated linearly to the
    fastest sustained rate, with a RecordingWarning. InputError, which begins with `name`, where nearly all places would
    be empty, and these would take much memory.
    """
    if frames.rate is not None:
        return _placed(frames, frames.column - frames.column[0], frames.rate)
    follows = ~frames.border[1:]
    intervals = np.diff(frames.begin)[follows] if follows.any() else frames.end - frames.begin
    rate = float(1 / intervals.mean())
    _check_span(frames, rate, name, n_units)
    slots = _slots(frames, rate)
    return _interpolated(frames, intervals, name, n_units) if slots is None else _placed(frames, slots, rate)


def _check_span(frames: Frames, rate: float, name: str, n_units: int) -> None:
    seconds, count = frames.end[-1] - frames.begin[0], frames.column[-1] - frames.column[0] + 1
    if seconds * rate > max(_LONGEST * count + 1, _EMPTY / (n_units + _PLACE)):
        raise InputError(
            f"{name}: {len(frames):,} frames, up to {rate:.4g} per second, lie in {seconds:,.0f} s, mostly in pauses: "
            "correct its timestamps, or read a part of it (observed=)"
        )


def _slots(frames: Frames, rate: float) -> np.ndarray | None:
    """Place of each frame on a grid of this rate: int64; None where frames lie more than half a place beside theirs."""
    late = (frames.begin - frames.begin[0]) * rate - np.arange(len(frames))
    first = np.flatnonzero(frames.border)
    high, low = np.maximum.reduceat(late, first), np.minimum.reduceat(late, first)
    shift = np.maximum.accumulate(np.round((high + low) / 2))  # a pause is rounded to whole places
    if (high - low).max() > 1 or np.abs((high + low) / 2 - shift).max() > 0.5 + _ROUNDING:
        return None
    return np.arange(len(frames)) + np.repeat(shift.astype(np.int64), np.diff(first, append=len(frames)))


def _placed(frames: Frames, slots: np.ndarray, rate: float) -> Grid:
    column, border = np.full(slots[-1] + 1, -1), np.zeros(slots[-1] + 1, dtype=bool)
    column[slots], border[slots] = frames.column, frames.border
    return Grid(float(frames.begin[0]), rate, column, border)


def _interpolated(frames: Frames, intervals: np.ndarray, name: str, n_units: int) -> Grid:
    from scipy.ndimage import median_filter

    usual = median_filter(intervals, _SUSTAINED, mode="nearest")
    rate = float(1 / usual.min())
    _check_span(frames, rate, name, n_units)
    warnings.warn(
        f"{name}: its frame rate varies ({1 / usual.max():.4g} to {rate:.4g} per second): its traces are "
        f"interpolated to {rate:.4g} frames per second",
        RecordingWarning,
        stacklevel=8,
    )
    tolerance = _ROUNDING / rate
    times = frames.begin[0] + np.arange(int((frames.end[-1] - frames.begin[0]) * rate + 1 - _ROUNDING)) / rate
    # The frame that was being taken at each time, on its way to the next one where that follows it.
    shown = np.searchsorted(frames.begin, times + tolerance, side="right") - 1
    follows = np.append(~frames.border[1:], False)[shown]
    length = (frames.end - frames.begin)[shown]
    share = np.where(follows, np.clip((times - frames.begin[shown]) / length, 0, 1), 0).astype(np.float32)
    stretch = np.cumsum(frames.border)[shown]
    return Grid(
        float(frames.begin[0]),
        rate,
        column=np.where(times < frames.end[shown] - tolerance, frames.column[shown], -1),
        border=np.diff(stretch, prepend=-1) != 0,
        following=frames.column[np.where(follows, shown + 1, shown)],
        share=share,
    )
