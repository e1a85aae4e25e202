"""Baselines: what a single spike train shows, without its population and without a network.

Inter-spike intervals that contain a gap in the observed time are not counted. By hand: SpikeInterface's correlograms
know no gaps.
"""

import numpy as np

from ..errors import InputError
from ..population import Population

# log10 of seconds: 0.3 ms to 100 s.
INTERVAL_EDGES = np.linspace(-3.5, 2.0, 31)
LAG_S, LAGS = 0.01, 50


def firing_rate(population: Population) -> np.ndarray:
    """log10 of spikes per observed second, a silent neuron's as if it had half a spike.

    Shape (n_units, 1); NaN where a neuron was never observed.
    """
    _check_spikes(population)
    seconds = np.array([np.ptp(population.observed_of(unit), axis=1).sum() for unit in range(population.n_units)])
    rate = np.maximum(population.spike_counts, 0.5) / np.where(seconds > 0, seconds, np.nan)
    return np.log10(rate)[:, None]


def interval_histogram(population: Population) -> np.ndarray:
    """Square roots of the shares of log10 inter-spike intervals in 30 bins from 0.3 ms to 100 s.

    Shape (n_units, 30); zeros where a neuron has no interval.
    """
    _check_spikes(population)
    rows = np.zeros((population.n_units, len(INTERVAL_EDGES) - 1))
    for unit, row in enumerate(rows):
        times, interval = _with_intervals(population, unit)
        intervals = np.diff(times)[np.diff(interval) == 0]
        logs = np.clip(np.log10(np.maximum(intervals, 1e-9)), INTERVAL_EDGES[0], INTERVAL_EDGES[-1])
        row[:] = np.sqrt(np.histogram(logs, INTERVAL_EDGES)[0] / max(len(intervals), 1))
    return rows


def autocorrelogram(population: Population) -> np.ndarray:
    """Spikes per second that follow a spike, in 50 bins of 10 ms, as log(1 + rate): shape (n_units, 50)."""
    _check_spikes(population)
    rows = np.zeros((population.n_units, LAGS))
    for unit, row in enumerate(rows):
        times, interval = _with_intervals(population, unit)
        earlier, pairs = np.arange(len(times) - 1), np.zeros(LAGS)
        for order in range(1, len(times)):
            # A spike whose order-th successor is too late has none that comes in time after that.
            earlier = earlier[earlier + order < len(times)]
            later = earlier + order
            near = (times[later] - times[earlier] < LAG_S * LAGS) & (interval[later] == interval[earlier])
            earlier, later = earlier[near], later[near]
            if not len(earlier):
                break
            pairs += np.histogram(times[later] - times[earlier], LAGS, (0, LAG_S * LAGS))[0]
        row[:] = np.log1p(pairs / max(len(times), 1) / LAG_S)
    return rows


def _check_spikes(population: Population) -> None:
    if population.signal != "spikes":
        raise InputError("the population holds traces: rates and intervals are of spikes")


def _with_intervals(population: Population, unit: int) -> tuple[np.ndarray, np.ndarray]:
    """A unit's spike times, and the number of the observed interval in which each lies."""
    times, intervals = population.spike_times[unit], population.observed_of(unit)
    return times, np.searchsorted(intervals[:, 0], times, side="right")
