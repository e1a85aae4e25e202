"""Controls: activity that keeps what each neuron does alone and loses what it does with the others."""

import dataclasses

import numpy as np

from ..errors import InputError
from ..population import Population
from .splits import check_seed


def shuffled_spikes(population: Population, seed: int = 0) -> Population:
    """The population with the intervals between each neuron's spikes in another order.

    Within each observed interval, so that rates and distributions of intervals stay as they are. The order of a
    neuron's intervals (its autocorrelogram, its slow changes) goes, and with it every relation between neurons. What a
    decoder still reads from it, it did not read from the population.
    """
    if population.signal != "spikes":
        raise InputError("the population holds traces: intervals are between spikes")
    check_seed(seed)
    rng = np.random.default_rng(seed)
    trains = [_shuffled(times, population.observed_of(unit), rng) for unit, times in enumerate(population.spike_times)]
    return dataclasses.replace(population, spike_times=trains)


def shifted_traces(population: Population, seed: int = 0) -> Population:
    """The population with each neuron's trace moved in time by an amount of its own, what passes the end first again.

    Within its observed time. A trace keeps its values and, but for two seams, their order; its relations to other
    neurons go. What a decoder still reads from it, it did not read from the population.
    """
    if population.signal != "traces":
        raise InputError("the population holds spikes: shuffle their intervals")
    check_seed(seed)
    rng = np.random.default_rng(seed)
    traces = population.traces.copy()
    for unit, trace in enumerate(traces):
        frames = population.frames_of(population.observed_of(unit))
        seen = np.concatenate([np.empty(0, dtype=int), *(np.arange(a, b) for a, b in frames)])
        trace[seen] = np.roll(trace[seen], rng.integers(max(len(seen), 1)))
    return dataclasses.replace(population, traces=traces)


# Raise it when a control changes, so that embeddings of it that are kept in files are computed again.
CONTROLS_VERSION = 2
# Signal -> what the control is called, and how it is made.
CONTROLS = {"spikes": ("shuffled spikes", shuffled_spikes), "traces": ("shifted traces", shifted_traces)}


def _shuffled(times: np.ndarray, observed: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Spike times (n,) whose intervals are in another order within each observed interval (m, 2)."""
    begin, end = observed.T
    first, last = np.searchsorted(times, begin), np.searchsorted(times, end, side="right")
    # A spike on a border that two intervals share belongs to the second.
    last[:-1] = np.minimum(last[:-1], first[1:])
    counts = last - first
    # Each interval's begin, its spikes and its end, one interval after another.
    starts = np.cumsum(counts + 2) - (counts + 2)
    edges = np.empty(int((counts + 2).sum()))
    edges[starts], edges[starts + counts + 1] = begin, end
    is_spike = np.ones(len(edges), dtype=bool)
    is_spike[starts] = is_spike[starts + counts + 1] = False
    edges[is_spike] = times[first[0] : last[-1]] if len(observed) else []
    # The last gap, to the interval's end, takes part: without it no spike would ever move to the end.
    interval = np.repeat(np.arange(len(counts)), counts + 1)
    gaps = np.diff(edges)[np.delete(np.arange(len(edges) - 1), starts[1:] - 1)]
    shuffled = gaps[np.lexsort((rng.random(len(gaps)), interval))]
    passed = np.cumsum(shuffled)
    passed -= np.repeat(passed[starts - np.arange(len(counts))] - shuffled[starts - np.arange(len(counts))], counts + 1)
    moved = np.minimum(begin[interval] + passed, end[interval])
    return np.delete(moved, np.cumsum(counts + 1) - 1)
