"""Baselines of imaged neurons: what a single trace shows, without its population and without a network.

All are taken over a neuron's observed frames, one after another. Frequencies and lags are in seconds, so that
recordings of different frame rates can be compared.
"""

import numpy as np

from ..errors import InputError
from ..population import Population

# Hz, from periods of two minutes to two seconds, which slow microscopes record too. Each band holds a frequency of a
# segment of two minutes.
BAND_EDGES = np.array([0.5, 1.5, 2.5, 4.5, 8.5, 16.5, 30.5, 60.5]) / 120
LAGS_S = np.geomspace(0.6, 60.0, 20)


def spectrum(population: Population) -> np.ndarray:
    """log10 of the share of a trace's variance in 7 bands from 1/120 to 1/2 Hz (Welch's method, 2-minute segments).

    Shape (n_units, 7); NaN where a neuron was not observed for two minutes.
    """
    from scipy.signal import welch

    rate = _rate(population)
    length = round(120 * rate)
    rows = np.full((population.n_units, len(BAND_EDGES) - 1), np.nan)
    for row, trace in zip(rows, _observed_traces(population), strict=True):
        if len(trace) < length:
            continue
        frequencies, power = welch(trace, rate, nperseg=length)
        bands = np.histogram(frequencies[1:], BAND_EDGES, weights=power[1:])[0]
        row[:] = np.log10(np.maximum(bands, 1e-6 * power[1:].sum()) / max(power[1:].sum(), 1e-30))
    return rows


def trace_autocorrelation(population: Population) -> np.ndarray:
    """A trace's correlation with itself 0.6 to 60 s later, at 20 lags: shape (n_units, 20), NaN where it is shorter."""
    lags = np.maximum(np.round(LAGS_S * _rate(population)).astype(int), 1)
    rows = np.full((population.n_units, len(lags)), np.nan)
    for row, trace in zip(rows, _observed_traces(population), strict=True):
        if len(trace) > 2 * lags[-1]:
            centred = trace - trace.mean()
            power = max(centred @ centred, 1e-30) / len(centred)
            row[:] = [centred[:-lag] @ centred[lag:] / (len(centred) - lag) / power for lag in lags]
    return rows


def _rate(population: Population) -> float:
    if population.signal != "traces":
        raise InputError("the population holds spikes: these features are of traces")
    return population.sampling_frequency


def _observed_traces(population: Population):
    for unit, trace in enumerate(population.traces):
        frames = population.frames_of(population.observed_of(unit))
        parts = [trace[a:b].astype(np.float64) for a, b in frames]
        yield np.concatenate(parts) if parts else np.empty(0)
