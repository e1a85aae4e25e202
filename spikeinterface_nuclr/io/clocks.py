"""The clock of a SpikeInterface recording: when each sample was taken, and where recording paused."""

import numpy as np

from ..errors import InputError

_BLOCK = 1_000_000  # samples whose times are checked together
_JITTER = 1e-3  # seconds by which synchronised times of successive samples may differ from the sampling rate
_RATE = 0.1  # by which the mean step outside of pauses may differ from the nominal one


def sample_times(times_of, n_samples: int, fs: float, samples: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Times of selected samples, and the stretches without a pause, on the clock of a time vector.

    Parameters
    ----------
    times_of : callable
        ``times_of(low, high)`` gives the times in seconds of samples [low, high).
    n_samples : int
        Length of the time vector.
    fs : float
        Samples per second.
    samples : int array
        Sorted. Times before the first or after the last sample are extrapolated at the sampling rate.
    name : str
        The source, for messages.

    Returns
    -------
    times : float64, shape of `samples`
        Seconds.
    stretches : float64, shape (k, 2)
        Begin and end in seconds.

    Raises
    ------
    InputError
        The times decrease, are not finite, or do not advance at the sampling rate.
    """
    if not n_samples:
        return samples / fs, np.zeros((1, 2))
    times = np.empty(len(samples))
    start = end = None  # of all samples; of the previous block
    limits, paused = [], 0.0
    for low in range(0, n_samples, _BLOCK):
        high = min(low + _BLOCK, n_samples)
        block = np.asarray(times_of(low, high), dtype=np.float64)
        steps = np.diff(block, prepend=block[0] - 1 / fs if end is None else end)
        _check_order(steps, low, name)
        pauses = np.flatnonzero(steps > 1 / fs + max(_JITTER, 0.5 / fs))
        start, paused = (block[0] if start is None else start), paused + float(steps[pauses].sum())
        n_pauses = len(limits) // 2 + len(pauses)
        _check_rate(block[-1] - start + 1 / fs, high, paused, n_pauses, fs, name)
        limits += [limit for k in pauses for limit in (block[k] - steps[k] + 1 / fs, block[k])]
        a, b = np.searchsorted(samples, [low if low else np.iinfo(np.int64).min, high])
        b = len(samples) if high == n_samples else b
        index = samples[a:b].astype(np.int64) - low
        within = np.clip(index, 0, len(block) - 1)
        times[a:b] = block[within] + (index - within) / fs
        end = block[-1]
    return np.maximum.accumulate(times), np.array([start, *limits, end + 1 / fs]).reshape(-1, 2)


def _check_order(steps: np.ndarray, first: int, name: str) -> None:
    """Raise InputError if times are not finite or decrease; `first` is the sample of the first step."""
    invalid = np.flatnonzero(~(steps >= -_JITTER) | ~np.isfinite(steps))
    if len(invalid):
        raise InputError(
            f"{name}: the time of sample {first + invalid[0]:,} of its recording does not follow the one before it: "
            "correct the recording's times (set_times), or remove them (reset_times)"
        )


def _check_rate(elapsed: float, n_samples: int, paused: float, n_pauses: int, fs: float, name: str) -> None:
    """Raise InputError if the samples so far do not advance at the sampling rate outside of pauses.

    The mean step decides: rounded times have steps of 0, and a block may contain little more than a pause.
    """
    if 2 * n_pauses > n_samples:  # these are not pauses: the steps are in another unit
        paused, n_pauses = 0.0, 0
    step = (elapsed - paused) / (n_samples - n_pauses)
    if abs(step * fs - 1) > _RATE:
        raise InputError(
            f"{name}: the samples of its recording are {step:.3g} s apart, not "
            f"{1 / fs:.3g} s as at {fs:g} Hz: correct the recording's times (set_times), or remove them (reset_times)"
        )
