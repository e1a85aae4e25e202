"""Baselines of imaged neurons: what traces say without a network.

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
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


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


def population_correlation(population: Population) -> np.ndarray:
    """How a neuron goes with the others of its group: its correlation with their mean, and quantiles of its
    correlations with each (5, 25, 50, 75, 95 %).

    Frames count in which both were observed. Shape (n_units, 6); NaN for a neuron that is alone, or never changes.
    """
    _rate(population)
    seen = np.zeros(population.traces.shape, dtype=bool)
    for unit in range(population.n_units):
        for a, b in population.frames_of(population.observed_of(unit)):
            seen[unit, a:b] = True
    rows = np.full((population.n_units, 1 + len(QUANTILES)), np.nan)
    for _, units in population.groups():
        if len(units) < 2:
            continue
        of = seen[units].astype(np.float32)
        count = np.maximum(of.sum(axis=1, keepdims=True), 1)
        z = np.where(seen[units], population.traces[units], np.float32(0))
        z = (z - z.sum(axis=1, keepdims=True) / count) * of
        spread = np.sqrt((z**2).sum(axis=1, keepdims=True) / count)
        active = spread[:, 0] > 1e-6 * np.abs(population.traces[units]).max(axis=1, initial=0.0)
        z /= np.where(active[:, None], spread, 1)
        shared = of @ of.T
        pairs = np.where(shared > 0, z @ z.T / np.maximum(shared, 1), np.nan)
        pairs[:, ~active] = np.nan
        np.fill_diagonal(pairs, np.nan)
        others = z.sum(axis=0) - z
        spread = np.maximum(np.sqrt((others**2 * of).sum(axis=1) / count[:, 0]), 1e-30)
        rows[units, 0] = (z * others).sum(axis=1) / count[:, 0] / spread
        told = active & np.isfinite(pairs).any(axis=1)
        rows[units[told], 1:] = np.nanquantile(pairs[told], QUANTILES, axis=1).T
        rows[units[~told]] = np.nan
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
