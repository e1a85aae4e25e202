"""Baselines: what a neuron's own spike train says, without its population and without a network.

No interval between two spikes is counted that a gap in the observed time lies in.
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
        intervals = _differences(population, unit, 1)
        logs = np.clip(np.log10(np.maximum(intervals, 1e-9)), INTERVAL_EDGES[0], INTERVAL_EDGES[-1])
        row[:] = np.sqrt(np.histogram(logs, INTERVAL_EDGES)[0] / max(len(intervals), 1))
    return rows


def autocorrelogram(population: Population) -> np.ndarray:
    """Spikes per second that follow a spike, in 50 bins of 10 ms, as log(1 + rate): shape (n_units, 50)."""
    _check_spikes(population)
    rows = np.zeros((population.n_units, LAGS))
    for unit, row in enumerate(rows):
        count = len(population.spike_times[unit])
        pairs, order = np.zeros(LAGS), 1
        while order < count:
            differences = _differences(population, unit, order)
            near = differences[differences < LAG_S * LAGS]
            if not len(near):
                break
            pairs += np.histogram(near, LAGS, (0, LAG_S * LAGS))[0]
            order += 1
        row[:] = np.log1p(pairs / max(count, 1) / LAG_S)
    return rows


def _check_spikes(population: Population) -> None:
    if population.signal != "spikes":
        raise InputError("the population holds traces: rates and intervals are of spikes")


def _differences(population: Population, unit: int, order: int) -> np.ndarray:
    """Seconds from each spike of a unit to the order-th after it, where no gap lies between them."""
    times, intervals = population.spike_times[unit], population.observed_of(unit)
    within = np.searchsorted(intervals[:, 0], times, side="right")
    return (times[order:] - times[:-order])[within[order:] == within[:-order]]
