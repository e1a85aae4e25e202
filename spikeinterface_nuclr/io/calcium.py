"""Assembly of a Population from calcium traces: a regular grid of frames, frames without data, dF/F and scaling."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError, RecordingWarning
from ..population import Population
from ..traces import delta_f, scaled

_SLOWEST, _FASTEST = 1 / 60, 20_000.0  # frames per second: outside of these, times are in another unit
_SUSTAINED = 11  # successive frames from which a rate is estimated
_VARIATION = 0.55  # of the usual interval: 0.5 would be the limit between 30 and 20 frames per second
_LONGEST, _EMPTY = 10, 64_000_000  # limits of the empty frames that fill pauses: times the recorded frames, or values
_PLACE = 15  # values that use as much memory as one place of the grid itself
_ROUNDING, _RESOLUTION = 0.001, 0.1  # of a frame: times in files are rounded
_BLOCK = 4_000_000  # values processed at once
# Kinds of values of a source, and the description of their preparation in the metadata.
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
        Frames that do not follow the previous one at the usual interval: no window crosses a border.
    column : int64, shape (n_frames,)
        Place of each frame in the source's data.
    rate : float or None
        Frames per second if the source states a fixed rate, None if it gives the time of each frame.
    """

    begin: np.ndarray
    end: np.ndarray
    border: np.ndarray
    column: np.ndarray
    rate: float | None = None

    def __len__(self):
        return len(self.begin)

    def part(self, mask: np.ndarray) -> "Frames":
        """The frames where the mask is True; each gap leaves a border."""
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
        margin = _ROUNDING * (self.end - self.begin)
        return self.begin + margin, self.end - margin


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular grid in time, and the frame at each of its places.

    Attributes
    ----------
    start : float
        Second at which the first place begins.
    sampling_frequency : float
        Places per second.
    column : int64, shape (n_places,)
        Position in the source's data of the frame at each place, -1 for an empty place.
    following : int64, shape (n_places,), or None
        Position of the next frame, towards which the value is interpolated.
    share : float32, shape (n_places,), or None
        Weight of the next frame.
    border : bool, shape (n_places,)
        Places at which a window may begin but that no window crosses.
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

    def resample(self, values: np.ndarray, out: np.ndarray) -> None:
        """Resample the source's data (n_units, n_frames) to the grid: float32 `out`, NaN at empty places."""
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
    excluded: np.ndarray | None = None,
    metadata: dict,
    **annotations,
) -> Population:
    """Make the Population of an imaging source, from its first valid frame to its last.

    Frames in which a neuron's value is NaN or infinite are unobserved for that neuron.

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
        Intervals in seconds; frames outside of them are excluded.
    excluded : bool array, shape (n_frames,), optional
        Frames without valid data.
    metadata : dict
    **annotations
        `group` and `properties` of the Population.
    """
    if kind not in KINDS:
        raise InputError(f"traces must be one of {', '.join(KINDS)}, not {kind!r}")
    if not values.size:
        raise InputError(f"{name}: it has {len(values)} neurons in {len(frames)} frames: there is nothing to read")
    if excluded is not None:
        frames = frames.part(~excluded)
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
    step = max(_BLOCK // len(grid), 1)
    for low in range(0, len(values), step):
        grid.resample(values[low : low + step], traces[low : low + step])
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
            **annotations,
        )
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def _observed(traces: np.ndarray, grid: Grid) -> Iterator[np.ndarray]:
    """Intervals in which each neuron has data, (k, 2): the same array for successive neurons with equal intervals."""
    previous, intervals = np.empty(0, dtype=bool), None
    for row in traces:
        valid = np.isfinite(row)
        if not np.array_equal(valid, previous):
            first = np.flatnonzero(valid & (grid.border | ~np.append(False, valid[:-1])))
            last = np.flatnonzero(valid & np.append(grid.border[1:] | ~valid[1:], True))
            previous = valid
            intervals = grid.start + np.stack([first, last + 1], axis=1) / grid.sampling_frequency
        yield intervals


def _check_signal(name: str, unit_ids, silent: np.ndarray) -> None:
    """Raise InputError if no neuron has a signal; warn if some have none."""
    if silent.all():
        raise InputError(f"{name}: no neuron has a signal above its baseline: check what its values are (traces=)")
    if silent.any():
        warnings.warn(
            f"{name}: {silent.sum()} of {len(silent)} neurons, such as {np.asarray(unit_ids)[silent][0]}, have no "
            "signal above their baseline and get no embedding",
            RecordingWarning,
            stacklevel=7,
        )


def regular_frames(count: int, rate: float, start: float = 0.0, *, name: str) -> Frames:
    """Frames at a fixed rate; InputError, prefixed with `name`, if rate or start is impossible."""
    if not (np.isfinite(rate) and rate > 0):
        raise InputError(f"{name}: a rate of {rate} frames per second is impossible: correct it")
    if not np.isfinite(start):
        raise InputError(f"{name}: begins at {start} s: correct its starting time")
    begin, end = (start + np.arange(first, count + first) / rate for first in (0, 1))
    _check_seconds(begin, rate, name)
    return Frames(begin, end, np.arange(count) == 0, np.arange(count), float(rate))


def timed_frames(times, name: str) -> Frames:
    """Frames at these times (seconds); InputError, prefixed with `name`, if they are not finite and increasing.

    A frame lasts until the next one begins. Intervals that differ from their neighbours by more than half are pauses.
    """
    times = np.asarray(times)
    if times.ndim != 1 or times.dtype.kind not in "iuf":
        raise InputError(f"{name}: its timestamps are not a list of seconds, but {times.dtype} of shape {times.shape}")
    times = times.astype(np.float64)
    if len(times) < 2:
        raise InputError(f"{name}: it has {len(times)} frame(s): too few to determine their rate")
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
        raise InputError(f"{name}: times up to {times[-1]:.4g} s are too large to distinguish frames: correct them")


def _usual(intervals: np.ndarray) -> np.ndarray:
    """The local usual interval between frames: a running median, or slightly less where pauses are frequent."""
    from scipy.ndimage import percentile_filter

    return percentile_filter(intervals, 40, size=_SUSTAINED, mode="mirror")


def _regular(intervals: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Mask of the intervals that are not pauses: those close to the usual interval around, before or after them."""
    places, regular = np.arange(len(intervals)), np.zeros(len(intervals), dtype=bool)
    for shift in (-_SUSTAINED // 2, 0, _SUSTAINED // 2 + 1):  # beside a step in rate, one of these applies
        near = usual[np.clip(places + shift, 0, len(intervals) - 1)]
        regular |= np.abs(intervals - near) < _VARIATION * near
    return regular


def grid_of(frames: Frames, name: str, n_units: int = 1) -> Grid:
    """The regular grid of these frames, for the traces of `n_units` neurons.

    Regular frames, and frames that jitter by less than half a frame, get a place each; pauses become whole numbers of
    empty places. If the frame rate changes or drifts, frames are interpolated linearly to the fastest sustained rate,
    with a RecordingWarning. Raise InputError, prefixed with `name`, if nearly all places would be empty and would take
    much memory.
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
            f"{name}: {len(frames):,} frames, up to {rate:.4g} per second, span {seconds:,.0f} s, mostly in pauses: "
            "correct its timestamps, or read a part of it (observed=)"
        )


def _slots(frames: Frames, rate: float) -> np.ndarray | None:
    """Place of each frame on a grid of this rate: int64; None if a frame is off by more than half a place."""
    delay = (frames.begin - frames.begin[0]) * rate - np.arange(len(frames))
    first = np.flatnonzero(frames.border)
    high, low = np.maximum.reduceat(delay, first), np.minimum.reduceat(delay, first)
    shift = np.maximum.accumulate(np.round((high + low) / 2))  # pauses are rounded to whole places
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
    # The frame exposed at each time, interpolated towards the next one unless a border lies between.
    index = np.searchsorted(frames.begin, times + tolerance, side="right") - 1
    follows = np.append(~frames.border[1:], False)[index]
    length = (frames.end - frames.begin)[index]
    share = np.where(follows, np.clip((times - frames.begin[index]) / length, 0, 1), 0).astype(np.float32)
    stretch = np.cumsum(frames.border)[index]
    return Grid(
        float(frames.begin[0]),
        rate,
        column=np.where(times < frames.end[index] - tolerance, frames.column[index], -1),
        border=np.diff(stretch, prepend=-1) != 0,
        following=frames.column[np.where(follows, index + 1, index)],
        share=share,
    )
