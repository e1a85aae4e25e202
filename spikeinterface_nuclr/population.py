"""Population: simultaneously recorded neurons, their activity, and when each was observed."""

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from .errors import InputError
from .intervals import checked_intervals, inside, intersection


@dataclass(frozen=True, eq=False)
class Population:
    """Simultaneously recorded neurons, as spike trains or as traces.

    Parameters
    ----------
    unit_ids : array-like of int or str, shape (n_units,)
        Unique names of the neurons.
    spike_times : list of array-like of float, optional
        One sorted array of spike times in seconds for each unit. Required unless `traces` is given.
    observed : array-like, shape (k, 2), or list of n_units such arrays, optional
        Intervals in seconds in which spikes would have been detected: one set for all units, or one
        set per unit. Default: from `start` to `stop`, without gaps. Intervals that touch stay
        separate: no window crosses their border.
    group : array-like, shape (n_units,), optional
        Probe or shank of each unit. Each group is embedded separately. Default: one group.
    start, stop : float, optional
        Limits of the recording in seconds. Default: those of `observed`, if given. Otherwise, from the time of the
        first spike, rounded down to a second, to that of the last spike, so that results do not depend on the
        recording's clock (for traces: from 0 to their end).
    traces : array-like of float, shape (n_units, n_frames), optional
        Continuous activity (such as dF/F) instead of spike times.
    sampling_frequency : float, optional
        Frames per second of `traces`.
    properties : mapping of str to array-like of length n_units, optional
        Further properties of each unit (brain area, depth, quality, …).
    metadata : mapping, optional
        Metadata of the recording (source, session, subject, …).

    Raises
    ------
    InputError
        A ValueError that names the unit or parameter and the problem.

    Examples
    --------
    >>> from spikeinterface_nuclr import Population
    >>> population = Population(["a", "b"], [[0.5, 1.2], [0.1]], stop=2.0)
    >>> population.num_spikes
    array([2, 1])
    """

    unit_ids: np.ndarray
    spike_times: tuple[np.ndarray, ...] | None = None
    # Those that are not given are set when the population is made.
    observed: np.ndarray | tuple[np.ndarray, ...] = None  # type: ignore[assignment]
    group: np.ndarray = None  # type: ignore[assignment]
    start: float = None  # type: ignore[assignment]
    stop: float = None  # type: ignore[assignment]
    traces: np.ndarray | None = None
    sampling_frequency: float | None = None
    properties: Mapping[str, np.ndarray] = field(default_factory=dict)
    metadata: Mapping[str, object] = field(default_factory=dict)

    if TYPE_CHECKING:  # the constructor takes more than the attributes hold

        def __init__(
            self,
            unit_ids: ArrayLike,
            spike_times: Sequence[ArrayLike] | None = None,
            observed: ArrayLike | Sequence[ArrayLike] | None = None,
            group: ArrayLike | None = None,
            start: float | None = None,
            stop: float | None = None,
            traces: ArrayLike | None = None,
            sampling_frequency: float | None = None,
            properties: Mapping[str, ArrayLike] = ...,
            metadata: Mapping[str, object] = ...,
        ): ...

    def __post_init__(self):
        ids = _checked_ids(self.unit_ids)
        n = len(ids)
        spikes = traces = None
        if (self.spike_times is None) == (self.traces is None):
            raise InputError("a Population takes spike_times or traces: give one of the two")
        for name in ("start", "stop", "sampling_frequency"):
            if not isinstance(getattr(self, name), int | float | np.number | None):
                raise InputError(f"{name} must be a number, not {getattr(self, name)!r}")
        if self.traces is not None:
            traces = _checked_traces(self.traces, self.sampling_frequency, ids)
        else:
            if not isinstance(self.spike_times, list | tuple | np.ndarray):
                raise InputError(f"spike_times must be a list of arrays, not {type(self.spike_times).__name__}")
            if len(self.spike_times) != n:
                raise InputError(f"spike_times has {len(self.spike_times)} entries for {n} unit_ids: give one a unit")
            spikes = tuple(checked_train(u, t) for u, t in zip(ids, self.spike_times, strict=True))

        observed, start, stop = self.observed, self.start, self.stop
        if observed is not None:
            observed = _checked_observed(observed, ids)
            edges = observed if isinstance(observed, np.ndarray) else np.concatenate(observed)
            if len(edges) == 0:
                raise InputError("observed holds no interval: give at least one (start, stop) in seconds")
            start = float(edges.min()) if start is None else float(start)
            stop = float(edges.max()) if stop is None else float(stop)
            if edges.min() < start or edges.max() > stop:
                raise InputError(f"observed reaches outside the recording ({start:g}–{stop:g} s): widen start/stop")
        if stop is None:
            if traces is not None:
                stop = (start or 0.0) + traces.shape[1] / self.sampling_frequency
            else:
                stop = max((t[-1] for t in spikes if len(t)), default=None)
                if stop is None:
                    raise InputError("no unit has a spike, so the recording's length is unknown: give stop=")
        stop = float(stop)
        if start is None:
            start = 0.0 if traces is not None else default_start(spikes)
        start = float(start)
        if not (np.isfinite(start) and np.isfinite(stop)) or stop < start:
            raise InputError(f"the recording's length is negative or not finite: start={start:g}, stop={stop:g} s")
        if observed is None:
            observed = np.array([[start, stop]])
        if spikes is not None:
            _check_inside(ids, spikes, observed, start, stop)
        else:
            end = start + traces.shape[1] / self.sampling_frequency
            if stop > end + 0.5 / self.sampling_frequency:
                raise InputError(f"the traces end at {end:g} s, before the recording's stop at {stop:g} s: lower stop")

        group = np.zeros(n, dtype="U1") if self.group is None else np.asarray(self.group)
        if group.shape != (n,):
            raise InputError(f"group has shape {group.shape} for {n} units: give one label a unit")
        properties = {name: np.asarray(values) for name, values in dict(self.properties).items()}
        for name, values in properties.items():
            if values.ndim == 0 or len(values) != n:
                raise InputError(f"property {name!r} has {values.shape} values for {n} units")
        for name, values in {"unit_ids": ids, "group": group, **properties}.items():
            _check_characters(values, name)

        values = dict(
            unit_ids=ids, spike_times=spikes, observed=observed, start=start, stop=stop, traces=traces,
            sampling_frequency=None if traces is None else float(self.sampling_frequency),
            group=group.astype(str), properties=properties, metadata=dict(self.metadata),
        )  # fmt: skip
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def n_units(self) -> int:
        """Number of units."""
        return len(self.unit_ids)

    @property
    def signal(self) -> str:
        """Kind of activity: "spikes" or "traces"."""
        return "spikes" if self.traces is None else "traces"

    @property
    def num_spikes(self) -> np.ndarray | None:
        """Number of spikes of each unit, int64, shape (n_units,); None for traces."""
        if self.spike_times is None:
            return None
        return np.array([len(t) for t in self.spike_times], dtype=np.int64)

    @property
    def num_frames(self) -> np.ndarray | None:
        """Number of frames of each unit's trace, int64, shape (n_units,); None for spikes."""
        if self.traces is None:
            return None
        return np.full(self.n_units, self.traces.shape[1], dtype=np.int64)

    def observed_of(self, unit: int) -> np.ndarray:
        """Observed intervals of the unit at position `unit`, float64 seconds, shape (k, 2)."""
        return self.observed if isinstance(self.observed, np.ndarray) else self.observed[unit]

    def observed_sets(self, units) -> tuple[list[np.ndarray], np.ndarray]:
        """Distinct sets of observed intervals of the units at these positions, and the index of each unit's set."""
        if isinstance(self.observed, np.ndarray):
            return [self.observed], np.zeros(len(units), dtype=np.int64)
        sets = {self.observed[unit].tobytes(): self.observed[unit] for unit in units}
        numbers = {key: number for number, key in enumerate(sets)}
        which = np.array([numbers[self.observed[unit].tobytes()] for unit in units], dtype=np.int64)
        return list(sets.values()), which

    def frames_of(self, intervals: np.ndarray) -> np.ndarray:
        """Half-open ranges of frames in the intervals (k, 2), given in seconds: int64, shape (k, 2)."""
        frames = np.round((intervals - self.start) * self.sampling_frequency).astype(np.int64)
        return np.clip(frames, 0, self.traces.shape[1])  # an interval may begin or end within a frame

    def groups(self) -> Iterator[tuple[str, np.ndarray]]:
        """Each group's label and the positions of its units, in order of first appearance."""
        labels, first, number = np.unique(self.group, return_index=True, return_inverse=True)
        members = np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))[:-1])
        for k in np.argsort(first):
            yield str(labels[k]), members[k]

    def select(self, units) -> "Population":
        """A Population of the units at these positions (or where a mask is True)."""
        index = np.arange(self.n_units)[np.asarray(units)]
        shared = isinstance(self.observed, np.ndarray)
        return Population(
            self.unit_ids[index],
            None if self.spike_times is None else [self.spike_times[i] for i in index],
            observed=self.observed if shared else [self.observed[i] for i in index],
            group=self.group[index],
            start=self.start,
            stop=self.stop,
            traces=None if self.traces is None else self.traces[index],
            sampling_frequency=self.sampling_frequency,
            properties={name: values[index] for name, values in self.properties.items()},
            metadata=self.metadata,
        )

    def within(self, intervals) -> "Population":
        """The same neurons within parts of the recording: sorted half-open intervals in seconds, shape (k, 2)."""
        intervals = checked_intervals(intervals, "intervals")
        if not len(intervals):
            raise InputError("intervals holds no interval: give at least one (start, stop) in seconds")
        start, stop = max(intervals[0, 0], self.start), min(intervals[-1, 1], self.stop)

        def spikes_within(times):
            k = np.searchsorted(intervals[:, 0], times, side="right") - 1
            return times[(k >= 0) & (times < intervals[k, 1])]

        if self.traces is not None:
            first, last = self.frames_of(np.array([start, stop]))
        observed = self.observed
        if isinstance(observed, np.ndarray):
            observed = intersection(observed, intervals)
        else:
            observed = [intersection(o, intervals) for o in observed]
        return Population(
            self.unit_ids,
            None if self.spike_times is None else [spikes_within(times) for times in self.spike_times],
            observed=observed,
            group=self.group,
            start=start,
            stop=stop,
            traces=None if self.traces is None else self.traces[:, first:last],
            sampling_frequency=self.sampling_frequency,
            properties=self.properties,
            metadata=self.metadata,
        )

    def fingerprint(self) -> str:
        """sha256 (hex) of the unit ids, spike counts and spike times, or of the traces with their start and rate."""
        digest = hashlib.sha256()
        digest.update("\0".join(map(str, self.unit_ids)).encode())
        digest.update((self.num_spikes if self.traces is None else self.num_frames).tobytes())
        if self.traces is not None:
            digest.update(np.array([self.start, self.sampling_frequency]).tobytes())
        for row in self.spike_times if self.traces is None else self.traces:
            digest.update(np.ascontiguousarray(row).tobytes())
        return digest.hexdigest()

    def context_fingerprint(self) -> str:
        """sha256 (hex) of each unit's group and observed intervals."""
        digest = hashlib.sha256("\0".join(self.group).encode())
        shared = isinstance(self.observed, np.ndarray)
        for intervals in [self.observed] if shared else self.observed:
            digest.update(np.int64(len(intervals)).tobytes() + np.ascontiguousarray(intervals).tobytes())
        return digest.hexdigest()

    def __repr__(self):
        activity = "traces" if self.spike_times is None else f"{self.num_spikes.sum():,} spikes"
        n_groups = len(np.unique(self.group))
        return f"Population({self.n_units} units, {activity}, {self.start:g}–{self.stop:g} s, {n_groups} group(s))"


def _checked_ids(unit_ids) -> np.ndarray:
    ids = np.asarray(unit_ids)
    if ids.ndim != 1 or len(ids) == 0:
        raise InputError("the population has no units: give a one-dimensional, non-empty list of unit_ids")
    if ids.dtype.kind not in "iuU":
        ids = ids.astype(str)
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise InputError(f"unit id {values[counts > 1][0]!s} occurs {counts.max()} times: ids must be unique")
    return ids


def _check_characters(values: np.ndarray, name: str) -> None:
    """InputError if an array of text holds invalid Unicode characters, as in damaged files."""
    if values.dtype.kind == "U" and values.size and values.itemsize:
        native = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("="), copy=False)
        if native.reshape(-1).view(np.uint32).max() > sys.maxunicode:
            raise InputError(f"{name} holds text with characters that do not exist: the file is damaged")


def checked_train(unit, times) -> np.ndarray:
    """One unit's spike times as float64 seconds; InputError that names the unit if they are not finite and sorted."""
    try:
        times = np.asarray(times, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"unit {unit}: spike times are not numbers of seconds") from None
    if times.ndim != 1:
        raise InputError(f"unit {unit}: spike times have shape {times.shape}, not (n_spikes,)")
    if not np.isfinite(times).all():
        raise InputError(f"unit {unit}: {(~np.isfinite(times)).sum()} spike times are NaN or infinite: remove them")
    if (np.diff(times) < 0).any():
        raise InputError(f"unit {unit}: spike times are not sorted: sort them")
    times = times.view()
    times.flags.writeable = False
    return times


def default_start(trains) -> float:
    """Default start of a recording: the time of its first spike, rounded down to a second; 0 without spikes."""
    return float(np.floor(min((times[0] for times in trains if len(times)), default=0.0)))


def _checked_traces(traces, sampling_frequency, ids) -> np.ndarray:
    try:
        traces = np.asarray(traces, dtype=np.float32)
    except (TypeError, ValueError):
        raise InputError("traces are not an array of numbers of shape (n_units, n_frames)") from None
    if traces.ndim != 2 or len(traces) != len(ids):
        raise InputError(f"traces have shape {traces.shape}, not (n_units, n_frames) of {len(ids)} units")
    if sampling_frequency is None or not sampling_frequency > 0:
        raise InputError("traces need a positive sampling_frequency in frames per second")
    bad = ~np.isfinite(traces).all(axis=1)
    if bad.any():
        raise InputError(f"unit {ids[bad][0]}: its trace holds NaN or infinite frames")
    return traces


def _checked_observed(observed, ids):
    """One (k, 2) array for all units, or a tuple of one per unit."""
    if isinstance(observed, list | tuple) and len(observed) == len(ids) and any(np.ndim(o) == 2 for o in observed):
        per_unit = tuple(checked_intervals(o, f"unit {u}: observed") for u, o in zip(ids, observed, strict=True))
        same = all(np.array_equal(per_unit[0], o) for o in per_unit[1:])
        return per_unit[0] if same else per_unit
    return checked_intervals(observed, "observed")


def _check_inside(ids, spikes, observed, start, stop):
    for i, (unit, times) in enumerate(zip(ids, spikes, strict=True)):
        if len(times) == 0:
            continue
        if times[0] < start or times[-1] > stop:
            bad = times[0] if times[0] < start else times[-1]
            raise InputError(f"unit {unit}: a spike at {bad:g} s lies outside the recording ({start:g}–{stop:g} s)")
        outside = ~inside(times, observed if isinstance(observed, np.ndarray) else observed[i])
        if outside.any():
            raise InputError(
                f"unit {unit}: {outside.sum()} spikes lie outside its observed time, the first at "
                f"{times[outside][0]:g} s: drop them or widen observed"
            )
