"""Traces: from fluorescence to dF/F, to a scale that neurons share, and to another frame rate.

NaN stands for a frame that a neuron has no value in.
"""

import dataclasses
import warnings

import numpy as np

from .errors import InputError
from .population import Population

# What suite2p's users know: the 8th percentile of a minute.
BASELINE_S, BASELINE_PERCENTILE = 60.0, 8.0
SCALE_PERCENTILE = 99.0
# Rates that differ by less are taken as equal: a window of 30 s is then at most 0.3 s shorter or longer.
SAME_RATE = 0.01

_STEPS = 10  # positions of the running percentile in each of its windows
_STEADY = 0.2  # share of a baseline's median that it must stay above to be divided by
_BLOCK = 4_000_000  # values whose baselines are held at once
_REACH, _KAISER = 10, 5.0  # of the resampling filter: frames of the slower rate, and the shape of its window
_ROUNDING = 1e-6  # of a frame
_FASTER = 100  # times the frame rate of the traces, to which they are interpolated at most


def delta_f(fluorescence: np.ndarray, sampling_frequency: float, out: np.ndarray | None = None) -> np.ndarray:
    """dF/F of raw fluorescence: (F - F0) / F0.

    F0 is a running percentile: the 8th of the minute around each frame, taken every six seconds and interpolated
    linearly between (of a shorter recording, the 8th of all of it). A neuron whose F0 falls below a fifth of its own
    median, as it may where a background was subtracted, has no such ratio: of it, F - F0 is taken.

    Parameters
    ----------
    fluorescence : float array, shape (n_units, n_frames)
        NaN frames are left out of the baseline, and stay NaN.
    sampling_frequency : float
        Frames per second.
    out : float32 array, optional
        Where the result is put; it may be `fluorescence` itself.

    Returns
    -------
    float32, shape (n_units, n_frames)
    """
    out = np.empty(fluorescence.shape, dtype=np.float32) if out is None else out
    if not fluorescence.size:
        return out
    # Frames without data of any neuron do not count: the minute is one of recorded frames.
    anybody = np.zeros(fluorescence.shape[1], dtype=bool)
    for row in fluorescence:
        anybody |= np.isfinite(row)
    seen, width = np.flatnonzero(anybody), max(round(BASELINE_S * sampling_frequency), 1)
    together = max(_BLOCK // fluorescence.shape[1], 1)
    for low in range(0, len(fluorescence), together):
        part, change = fluorescence[low : low + together], out[low : low + together]
        baseline = _running_percentile(part, seen, width)
        with np.errstate(over="ignore", invalid="ignore"):
            steady = np.array([row.min() > _STEADY * abs(np.median(row)) for row in baseline])
            np.subtract(part, baseline, out=change)
            np.divide(change, baseline, out=change, where=steady[:, None])
    return out


def _running_percentile(traces: np.ndarray, seen: np.ndarray, width: int) -> np.ndarray:
    """The baseline of each frame over `width` of the frames `seen`; of others, what lies between."""
    if not len(seen):
        return np.zeros(traces.shape, dtype=np.float32)
    width = min(width, len(seen))
    starts = np.unique(np.append(np.arange(0, len(seen) - width + 1, max(width // _STEPS, 1)), len(seen) - width))
    levels = np.empty((len(traces), len(starts)), dtype=np.float32)
    for column, start in enumerate(starts):
        part = traces[:, seen[start : start + width]]
        percentile = np.nanpercentile if np.isnan(part).any() else np.percentile
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a neuron may have none of these frames
            levels[:, column] = percentile(part, BASELINE_PERCENTILE, axis=1)
    centres = seen[starts + width // 2]
    baseline = np.empty(traces.shape, dtype=np.float32)
    for row, level in zip(baseline, levels, strict=True):
        known = np.isfinite(level)
        row[:] = np.interp(np.arange(traces.shape[1]), centres[known], level[known]) if known.any() else 0.0
    return baseline


def scaled(delta: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Each neuron's trace divided by its own 99th percentile over the session (Arora et al. 2025).

    float32, shape (n_units, n_frames). NaN throughout where that percentile is not positive: such a trace says nothing.
    `out` is where the result is put; it may be `delta` itself.
    """
    out = np.empty(delta.shape, dtype=np.float32) if out is None else out
    for trace, row in zip(delta, out, strict=True):
        known = trace[np.isfinite(trace)]
        scale = np.float32(np.percentile(known, SCALE_PERCENTILE)) if len(known) else 0.0
        if 0 < scale < np.inf:
            with np.errstate(over="ignore", invalid="ignore"):
                np.divide(trace, scale, out=row)
        else:
            row[:] = np.nan
    return out


def same_rate(a: float, b: float) -> bool:
    """Whether two frame rates are so close that traces of one are taken as of the other."""
    return abs(a / b - 1) < SAME_RATE


def resampled(population: Population, frame_rate: float) -> Population:
    """The same neurons with their traces at another frame rate.

    A frame of the new rate is a weighted mean of the frames around it, by a sinc under a Kaiser window (beta 5) that
    reaches ten frames of the slower rate to both sides. It keeps what the slower rate can hold and cuts what is faster:
    of a frequency 1.2 times the highest that the new rate can hold, less than a hundredth is left. Each stretch of
    observed time is resampled for itself; beyond its ends it goes on as its mirror image. A stretch keeps the frames of
    the new rate that lie within it whole.

    Parameters
    ----------
    population : Population
        Of traces.
    frame_rate : float
        Frames per second. Where it differs by less than 1 % from that of the traces, these stay as they are.

    Returns
    -------
    Population

    Raises
    ------
    InputError
        The population holds spikes, the rate is not positive or more than 100 times that of the traces, or the traces
        are shorter than a frame of it.

    Examples
    --------
    >>> import numpy as np
    >>> from spikeinterface_nuclr import Population, resampled
    >>> population = Population(["a", "b"], traces=np.random.default_rng(0).random((2, 300)), sampling_frequency=30.0)
    >>> resampled(population, 5.0).traces.shape
    (2, 50)
    """
    if population.traces is None:
        raise InputError("the population holds spikes: a frame rate is of traces")
    if not (isinstance(frame_rate, int | float | np.number) and np.isfinite(frame_rate) and frame_rate > 0):
        raise InputError(f"frame_rate must be a positive number of frames per second, not {frame_rate!r}")
    rate, frames = population.sampling_frequency, population.traces.shape[1]
    if same_rate(rate, frame_rate):
        return population
    if frame_rate > _FASTER * rate:
        raise InputError(
            f"traces of {rate:.4g} frames per second cannot be brought to {frame_rate:.4g}: check their rate"
        )
    length = int(frames / rate * frame_rate + _ROUNDING)
    if not length:
        raise InputError(f"the traces are shorter than one frame at {frame_rate:g} frames per second")
    traces = np.zeros((population.n_units, length), dtype=np.float32)
    observed: list[np.ndarray] = [np.empty((0, 2))] * population.n_units
    sets, which = population.observed_sets(np.arange(population.n_units))
    for number, intervals in enumerate(sets):
        units, stretches = np.flatnonzero(which == number), population.frames_of(intervals)
        limits = stretches / rate * frame_rate
        kept = np.stack([np.ceil(limits[:, 0] - _ROUNDING), np.floor(limits[:, 1] + _ROUNDING)], axis=1).astype(int)
        for (a, b), (begin, end) in zip(stretches, kept, strict=True):
            if begin < end:
                places = np.arange(begin, end) * (rate / frame_rate) - a
                weights = _sinc_weights(places, b - a, min(frame_rate / rate, 1.0))
                traces[units, begin:end] = (weights @ population.traces[units, a:b].T).T
        kept = kept[kept[:, 0] < kept[:, 1]]
        for unit in units:
            observed[unit] = population.start + kept / frame_rate
    return dataclasses.replace(
        population,
        traces=traces,
        sampling_frequency=float(frame_rate),
        observed=observed[0] if isinstance(population.observed, np.ndarray) else observed,
        stop=population.start + length / frame_rate,
    )


def _sinc_weights(places: np.ndarray, frames: int, cutoff: float):
    """Weights of a stretch's frames in its values at `places`, counted in frames: sparse, (len(places), frames)."""
    from scipy.sparse import csr_matrix

    reach = _REACH / cutoff
    offsets = np.arange(-int(reach), int(reach) + 2)
    taps = np.floor(places).astype(int)[:, None] + offsets
    distance = places[:, None] - taps
    window = np.i0(_KAISER * np.sqrt(np.clip(1 - (distance / reach) ** 2, 0, None)))
    weights = np.where(np.abs(distance) < reach, np.sinc(cutoff * distance) * window, 0.0)
    weights /= weights.sum(axis=1, keepdims=True)  # a constant stays what it is
    taps %= 2 * frames
    taps = np.where(taps < frames, taps, 2 * frames - 1 - taps)
    rows = np.repeat(np.arange(len(places)), len(offsets))
    shape = len(places), frames
    return csr_matrix((weights.ravel().astype(np.float32), (rows, taps.ravel())), shape=shape)
