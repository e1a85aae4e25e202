"""What every optical source shares on its way to a Population: frames in time, frames without data, dF/F, one scale."""

import warnings
from dataclasses import dataclass

import numpy as np

from ..errors import InputError, RecordingWarning
from ..population import Population
from ..traces import delta_f, scaled

# What the values of a source are, and what is said of the traces that come of them.
KINDS = {
    "fluorescence": "dF/F of a running baseline, divided by its 99th percentile",
    "dff": "dF/F as given, divided by its 99th percentile",
    "ready": "as given",
}
_LONGEST = 10  # times the recorded frames: pauses are held as empty frames


@dataclass(frozen=True, eq=False)
class Frames:
    """When the frames of a recording were taken, on a regular grid.

    Attributes
    ----------
    start : float
        Time of the first frame in seconds.
    sampling_frequency : float
        Frames per second.
    slots : int64, shape (n_frames,)
        Place of each frame on the grid, ascending from 0. Places in between are of frames that are missing.
    begins : bool, shape (n_frames,)
        Frames that do not follow the one before them at the usual interval: no window crosses there.
    """

    start: float
    sampling_frequency: float
    slots: np.ndarray
    begins: np.ndarray

    @property
    def times(self) -> np.ndarray:
        """Seconds at which each frame begins, on the grid."""
        return self.start + self.slots / self.sampling_frequency

    def outside(self, intervals: np.ndarray) -> np.ndarray:
        """Which frames do not lie in one of the `intervals` (k, 2) whole: bool, shape (n_frames,)."""
        k = self._interval(intervals)
        return (k < 0) | (self._limits()[1] > intervals[np.maximum(k, 0), 1])

    def crossing(self, intervals: np.ndarray) -> np.ndarray:
        """Which frames are the first in one of the `intervals`: bool, shape (n_frames,)."""
        return np.diff(self._interval(intervals), prepend=-1) != 0

    def touching(self, intervals: np.ndarray) -> np.ndarray:
        """Which frames share time with one of the `intervals` (k, 2): bool, shape (n_frames,)."""
        begin, end = self._limits()
        k = np.searchsorted(intervals[:, 0], end) - 1
        return (k >= 0) & (intervals[np.maximum(k, 0), 1] > begin)

    def _interval(self, intervals: np.ndarray) -> np.ndarray:
        """Number of the last of the `intervals` that begins before each frame, -1 where none does."""
        return np.searchsorted(intervals[:, 0], self._limits()[0], side="right") - 1

    def _limits(self) -> tuple[np.ndarray, np.ndarray]:
        # A thousandth of a frame less on both sides: times in files are rounded.
        period = 1 / self.sampling_frequency
        return self.times + 0.001 * period, self.times + 0.999 * period


def regular_frames(count: int, sampling_frequency: float, start: float = 0.0) -> Frames:
    """Frames at a fixed rate."""
    return Frames(start, sampling_frequency, np.arange(count), np.arange(count) == 0)


def timed_frames(times: np.ndarray, name: str) -> Frames:
    """Frames at these times (seconds). Those within half an interval of the usual one are taken as regular.

    InputError, which begins with `name`, where the times are not finite and increasing.
    """
    times = np.asarray(times, dtype=np.float64)
    if len(times) < 2:
        raise InputError(f"{name}: it has {len(times)} frame(s): too few to know their rate")
    intervals = np.diff(times)
    wrong = np.flatnonzero(~(intervals > 0))
    if len(wrong):
        k = wrong[0] + 1
        raise InputError(f"{name}: frame {k}, at {times[k]} s, does not follow frame {k - 1}: correct its timestamps")
    usual = np.percentile(intervals, 50, method="lower")  # one that there is
    near = np.abs(intervals - usual) < usual / 2
    period = intervals[near].mean()
    begins = np.concatenate([[True], ~near])
    first = np.flatnonzero(begins)
    slots = np.arange(len(times))
    shift = 0  # by which a stretch lies later on the grid than its number of frames says
    for run, begin in enumerate(first):
        end = first[run + 1] if run + 1 < len(first) else len(times)
        shift = max(shift, round((times[begin] - times[0]) / period) - begin)
        slots[begin:end] += shift
    if slots[-1] >= _LONGEST * len(times):
        raise InputError(
            f"{name}: {len(times):,} frames lie in {(times[-1] - times[0]):,.0f} s, mostly in pauses: correct its "
            "timestamps, or split it"
        )
    return Frames(float(times[0]), float(1 / period), slots, begins)


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
    """A Population of what an optical source says.

    Frames that are NaN or infinite in a neuron are not observed of it.

    Parameters
    ----------
    name : str
        The source, for messages.
    unit_ids : sequence
    values : float array, shape (n_units, n_frames)
    frames : Frames
    kind : str
        One of KINDS.
    observed : array (k, 2), optional
        Intervals in seconds outside of which there is no data.
    left_out : bool array, shape (n_frames,), optional
        Frames that are no data.
    metadata : dict
    **known
        `group` and `properties` of the Population.
    """
    if kind not in KINDS:
        raise InputError(f"traces must be one of {', '.join(KINDS)}, not {kind!r}")
    if not values.size:
        raise InputError(f"{name}: it holds {len(values)} neurons in {len(frames.slots)} frames: nothing to read")
    traces = np.full((len(values), frames.slots[-1] + 1), np.nan, dtype=np.float32)
    traces[:, frames.slots] = values
    lost = np.zeros(len(frames.slots), dtype=bool) if left_out is None else left_out
    first = frames.begins
    if observed is not None:
        if not len(observed):
            raise InputError("observed holds no interval: give at least one (start, stop) in seconds")
        lost, first = lost | frames.outside(observed), first | frames.crossing(observed)
    traces[:, frames.slots[lost]] = np.nan
    traces[~np.isfinite(traces)] = np.nan
    if not np.isfinite(traces).any():
        raise InputError(f"{name}: no frame is left: all are NaN, invalid or outside observed time")
    if kind == "fluorescence":
        traces = delta_f(traces, frames.sampling_frequency)
    if kind != "ready":
        traces = scaled(traces)
    silent = ~np.isfinite(traces).any(axis=1)
    if silent.all():
        raise InputError(f"{name}: no neuron has a signal above its baseline: check what its values are (traces=)")
    if silent.any():
        warnings.warn(
            f"{name}: {silent.sum()} of {len(silent)} neurons, such as {np.asarray(unit_ids)[silent][0]}, have no "
            "signal above their baseline and are left without an embedding",
            RecordingWarning,
            stacklevel=3,
        )
    begins = np.zeros(traces.shape[1], dtype=bool)
    begins[frames.slots] = first
    observed = _observed(np.isfinite(traces), begins, frames)
    try:
        return Population(
            unit_ids,
            traces=np.nan_to_num(traces, copy=False),
            sampling_frequency=frames.sampling_frequency,
            observed=observed,
            start=frames.start,
            stop=frames.start + traces.shape[1] / frames.sampling_frequency,
            metadata={**metadata, "prepared": KINDS[kind]},
            **known,
        )
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def _observed(known: np.ndarray, begins: np.ndarray, frames: Frames):
    """Intervals of the frames that each neuron has, (n_units, n_frames): one set for all where they are alike."""
    if (known == known[0]).all():
        known = known[:1]
    sets = []
    for row in known:
        first = np.flatnonzero(row & (begins | ~np.concatenate([[False], row[:-1]])))
        last = np.flatnonzero(row & np.concatenate([begins[1:] | ~row[1:], [True]]))
        sets.append(frames.start + np.stack([first, last + 1], axis=1) / frames.sampling_frequency)
    return sets[0] if len(sets) == 1 else sets
