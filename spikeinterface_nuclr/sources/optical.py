"""What all optical sources share: frames without data, dF/F, scaling."""

import warnings
from collections.abc import Iterator

import numpy as np

from ..errors import InputError, RecordingWarning
from ..population import Population
from ..traces import delta_f, scaled
from .frames import Frames, Grid, grid_of

# Kinds of values of a source, and how the traces made of them are described.
KINDS = {
    "fluorescence": "dF/F of a running baseline, divided by its 99th percentile",
    "dff": "dF/F as given, divided by its 99th percentile",
    "ready": "as given",
}
_BLOCK = 4_000_000  # values processed at once


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
    if kind != "ready":
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
