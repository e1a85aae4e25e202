"""Traces: compute dF/F from fluorescence, normalise it, and resample it to another frame rate.

NaN marks frames without a value.
"""

import dataclasses
import warnings

import numpy as np

from .errors import InputError
from .population import Population

# As in suite2p: the 8th percentile over a minute.
BASELINE_S, BASELINE_PERCENTILE = 60.0, 8.0
SCALE_PERCENTILE = 99.0
# Frame rates that differ by less are treated as equal: a window of 30 s is then at most 0.3 s shorter or longer.
SAME_RATE = 0.01

_STEPS = 10  # positions of the running percentile per window
_STEADY = 0.2  # fraction of its median that a baseline must exceed to be divided by
_BLOCK = 4_000_000  # values whose baselines are computed at once
_REACH, _KAISER = 10, 5.0  # resampling filter: half-width in frames of the slower rate, beta of the Kaiser window
_ROUNDING = 1e-6  # of a frame
_FASTER = 100  # largest ratio of the new frame rate to the recorded one


def delta_f(fluorescence: np.ndarray, sampling_frequency: float, out: np.ndarray | None = None) -> np.ndarray:
    """Compute dF/F from raw fluorescence: (F - F0) / F0.

    F0 is the 8th percentile of the minute around each frame, computed every six seconds and interpolated linearly (for
    shorter recordings, the 8th percentile of the whole recording). If a neuron's F0 falls below a fifth of its median,
    as it may after background subtraction, the ratio is undefined and F - F0 is returned for this neuron.

    Parameters
    ----------
    fluorescence : float array, shape (n_units, n_frames)
        NaN frames are excluded from the baseline and stay NaN.
    sampling_frequency : float
        Frames per second.
    out : float32 array, optional
        Array for the result; it may be `fluorescence` itself.

    Returns
    -------
    float32, shape (n_units, n_frames)
    """
    out = np.empty(fluorescence.shape, dtype=np.float32) if out is None else out
    if not fluorescence.size:
        return out
    # The minute counts recorded frames: those in which at least one neuron has a value.
    is_recorded = np.zeros(fluorescence.shape[1], dtype=bool)
    for row in fluorescence:
        is_recorded |= np.isfinite(row)
    recorded, width = np.flatnonzero(is_recorded), max(round(BASELINE_S * sampling_frequency), 1)
    block = max(_BLOCK // fluorescence.shape[1], 1)
    for low in range(0, len(fluorescence), block):
        part, change = fluorescence[low : low + block], out[low : low + block]
        baseline = _running_percentile(part, recorded, width)
        with np.errstate(over="ignore", invalid="ignore"):
            steady = np.array([row.min() > _STEADY * abs(np.median(row)) for row in baseline])
            np.subtract(part, baseline, out=change)
            np.divide(change, baseline, out=change, where=steady[:, None])
    return out


def _running_percentile(traces: np.ndarray, recorded: np.ndarray, width: int) -> np.ndarray:
    """The baseline of each frame over `width` of the frames `recorded`; interpolated in other frames."""
    if not len(recorded):
        return np.zeros(traces.shape, dtype=np.float32)
    n = len(recorded)
    width = min(width, n)
    starts = np.unique(np.append(np.arange(0, n - width + 1, max(width // _STEPS, 1)), n - width))
    levels = np.empty((len(traces), len(starts)), dtype=np.float32)
    for column, start in enumerate(starts):
        part = traces[:, recorded[start : start + width]]
        percentile = np.nanpercentile if np.isnan(part).any() else np.percentile
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a neuron may have no value in these frames
            levels[:, column] = percentile(part, BASELINE_PERCENTILE, axis=1)
    centres = recorded[starts + width // 2]
    baseline = np.empty(traces.shape, dtype=np.float32)
    for row, level in zip(baseline, levels, strict=True):
        finite = np.isfinite(level)
        row[:] = np.interp(np.arange(traces.shape[1]), centres[finite], level[finite]) if finite.any() else 0.0
    return baseline


def scaled(delta: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Divide each neuron's trace by its 99th percentile over the session (Arora et al. 2025).

    Returns float32, shape (n_units, n_frames). Traces whose 99th percentile is not positive become NaN. `out` is an
    array for the result; it may be `delta` itself.
    """
    out = np.empty(delta.shape, dtype=np.float32) if out is None else out
    for trace, row in zip(delta, out, strict=True):
        finite = trace[np.isfinite(trace)]
        scale = np.float32(np.percentile(finite, SCALE_PERCENTILE)) if len(finite) else 0.0
        if 0 < scale < np.inf:
            with np.errstate(over="ignore", invalid="ignore"):
                np.divide(trace, scale, out=row)
        else:
            row[:] = np.nan
    return out


def same_rate(a: float, b: float) -> bool:
    """Whether two frame rates are close enough to be treated as equal."""
    return abs(a / b - 1) < SAME_RATE


def resampled(population: Population, frame_rate: float) -> Population:
    """Resample the traces of a population to another frame rate.

    Traces are low-pass filtered below the Nyquist frequency of the slower rate to avoid aliasing. The filter is a sinc
    with a Kaiser window (beta 5) of ten frames of the slower rate on each side; it attenuates frequencies above 1.2
    times the new Nyquist frequency to less than 1 %. Each observed interval is filtered separately, extended by its
    mirror image at both ends, and keeps the frames of the new rate that lie entirely within it.

    Parameters
    ----------
    population : Population
        With traces.
    frame_rate : float
        Frames per second. If it differs by less than 1 % from that of the traces, they are returned unchanged.

    Returns
    -------
    Population

    Raises
    ------
    InputError
        The population holds spikes, the rate is not positive or exceeds 100 times that of the traces, or the traces
        are shorter than one frame at the new rate.

    Examples
    --------
    >>> import numpy as np
    >>> from spikeinterface_nuclr import Population, resampled
    >>> population = Population(["a", "b"], traces=np.random.default_rng(0).random((2, 300)), sampling_frequency=30.0)
    >>> resampled(population, 5.0).traces.shape
    (2, 50)
    """
    if population.traces is None:
        raise InputError("the population holds spikes: only traces have a frame rate")
    if not (isinstance(frame_rate, int | float | np.number) and np.isfinite(frame_rate) and frame_rate > 0):
        raise InputError(f"frame_rate must be a positive number of frames per second, not {frame_rate!r}")
    rate, frames = population.sampling_frequency, population.traces.shape[1]
    if same_rate(rate, frame_rate):
        return population
    if frame_rate > _FASTER * rate:
        raise InputError(
            f"traces of {rate:.4g} frames per second cannot be resampled to {frame_rate:.4g}: check their rate"
        )
    length = int(frames / rate * frame_rate + _ROUNDING)
    if not length:
        raise InputError(f"the traces are shorter than one frame at {frame_rate:g} frames per second")
    traces = np.zeros((population.n_units, length), dtype=np.float32)
    observed: list[np.ndarray] = [np.empty((0, 2))] * population.n_units
    sets, which = population.observed_sets(np.arange(population.n_units))
    for number, intervals in enumerate(sets):
        units, old = np.flatnonzero(which == number), population.frames_of(intervals)
        limits = old / rate * frame_rate
        new = np.stack([np.ceil(limits[:, 0] - _ROUNDING), np.floor(limits[:, 1] + _ROUNDING)], axis=1).astype(int)
        for (a, b), (begin, end) in zip(old, new, strict=True):
            if begin < end:
                positions = np.arange(begin, end) * (rate / frame_rate) - a
                weights = _sinc_weights(positions, b - a, min(frame_rate / rate, 1.0))
                traces[units, begin:end] = (weights @ population.traces[units, a:b].T).T
        new = new[new[:, 0] < new[:, 1]]
        for unit in units:
            observed[unit] = population.start + new / frame_rate
    return dataclasses.replace(
        population,
        traces=traces,
        sampling_frequency=float(frame_rate),
        observed=observed[0] if isinstance(population.observed, np.ndarray) else observed,
        stop=population.start + length / frame_rate,
    )


def _sinc_weights(positions: np.ndarray, frames: int, cutoff: float):
    """Weights of an interval's frames in its values at `positions`, in frames: sparse, (len(positions), frames)."""
    from scipy.sparse import csr_matrix

    reach = _REACH / cutoff
    offsets = np.arange(-int(reach), int(reach) + 2)
    taps = np.floor(positions).astype(int)[:, None] + offsets
    distance = positions[:, None] - taps
    window = np.i0(_KAISER * np.sqrt(np.clip(1 - (distance / reach) ** 2, 0, None)))
    weights = np.where(np.abs(distance) < reach, np.sinc(cutoff * distance) * window, 0.0)
    weights /= weights.sum(axis=1, keepdims=True)  # a constant stays the same
    taps %= 2 * frames
    taps = np.where(taps < frames, taps, 2 * frames - 1 - taps)
    rows = np.repeat(np.arange(len(positions)), len(offsets))
    shape = len(positions), frames
    return csr_matrix((weights.ravel().astype(np.float32), (rows, taps.ravel())), shape=shape)
