"""Baselines and controls that embeddings are compared with, for spikes and for traces.

Most baselines use features of single neurons; those with "population" in their name add population features.
"""

import dataclasses
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError, reading
from ..files import check_format, written_whole
from ..population import Population
from ..unit_embeddings import read_array
from .features import (
    autocorrelogram,
    firing_rate,
    interval_histogram,
    population_features,
    spectrum,
    trace_autocorrelation,
)
from .labelled import Labelled, per_recording
from .scores import EMBEDDING, FUSED, POOLED, SHUFFLED
from .splits import check_seed

# Raise it when a feature changes, so that features in files are recomputed.
FEATURES_VERSION = 1
# Signal -> name -> features.
BASELINES = {
    "spikes": {
        "rate": (firing_rate,),
        "rate, intervals": (firing_rate, interval_histogram),
        "rate, intervals, autocorrelogram": (firing_rate, interval_histogram, autocorrelogram),
        "rate, intervals, population": (firing_rate, interval_histogram, population_features),
        "rate, intervals, autocorrelogram, population": (
            firing_rate, interval_histogram, autocorrelogram, population_features
        ),
    },
    "traces": {
        "spectrum": (spectrum,),
        "spectrum, autocorrelation": (spectrum, trace_autocorrelation),
        "spectrum, autocorrelation, population": (spectrum, trace_autocorrelation, population_features),
    },
}  # fmt: skip


def baseline_features(population: Population) -> dict[str, np.ndarray]:
    """Features of every baseline for this signal: float arrays, shape (n_units, k), NaN where undefined."""
    baselines = BASELINES[population.signal]
    unique = dict.fromkeys(function for functions in baselines.values() for function in functions)
    features = {function: function(population) for function in unique}
    return {name: np.hstack([features[function] for function in functions]) for name, functions in baselines.items()}


def comparison_tables(labelled: Labelled, recordings: list, populations, others) -> dict[str, np.ndarray]:
    """Feature tables of the labelled units by method: the baselines of `populations`, and `others`."""
    tables: dict[str, list] = {}
    if populations is not None:
        if len(populations) != len(recordings):
            raise InputError(f"populations: give one for each of the {len(recordings)} recordings")
        features = [baseline_features(population) for population in populations]
        if any(arrays.keys() != features[0].keys() for arrays in features):
            raise InputError("populations: some hold spikes and some traces: evaluate them separately")
        tables = {name: per_recording(name, [arrays[name] for arrays in features], recordings) for name in features[0]}
    for name, arrays in (others or {}).items():
        if not isinstance(name, str) or name in (EMBEDDING, FUSED, POOLED, SHUFFLED, *tables):
            raise InputError(f"others: {name!r} cannot be the name of a method, or is that of another: rename it")
        tables[name] = per_recording(name, arrays, recordings)
    return {name: _labelled_rows(name, arrays, labelled) for name, arrays in tables.items()}


def _labelled_rows(name: str, arrays: list, labelled: Labelled) -> np.ndarray:
    """Rows of the labelled units from one array per recording: float64, shape (n, k), NaN where not finite."""
    try:
        arrays = [np.asarray(array, dtype=float) for array in arrays]
    except (TypeError, ValueError):
        raise InputError(f"{name}: contains values that are not numbers") from None
    shapes = {array.shape[1:] for array in arrays}
    if len(shapes) > 1 or len(*shapes) != 1:
        raise InputError(f"{name}: give arrays of shape (n_units, k), with the same k for all recordings")
    rows = np.empty((len(labelled), *shapes.pop()))
    for number in np.unique(labelled.recordings):
        units = labelled.recordings == number
        rows[units] = arrays[number][labelled.units[units]]
    rows[~np.isfinite(rows)] = np.nan
    if np.isnan(rows).all():
        raise InputError(f"{name}: is NaN for all labelled units: leave it out")
    return rows


def shuffled_spikes(population: Population, seed: int = 0) -> Population:
    """A control for spikes: the population with each neuron's interspike intervals in random order.

    Intervals are shuffled within each observed interval, which keeps firing rates and interval distributions. It
    destroys the order of a neuron's intervals (autocorrelogram, slow changes) and all relations between neurons. What a
    decoder can still predict from this control does not depend on the population.
    """
    if population.signal != "spikes":
        raise InputError("the population holds traces: use shifted_traces")
    check_seed(seed)
    rng = np.random.default_rng(seed)
    trains = [_shuffled(times, population.observed_of(unit), rng) for unit, times in enumerate(population.spike_times)]
    return dataclasses.replace(population, spike_times=trains)


def shifted_traces(population: Population, seed: int = 0) -> Population:
    """A control for traces: the population with each neuron's trace shifted circularly by a random amount.

    Traces are shifted within their observed time. A trace keeps its values and, except at two seams, their order; its
    relations to other neurons are destroyed. What a decoder can still predict from this control does not depend on the
    population.
    """
    if population.signal != "traces":
        raise InputError("the population holds spikes: use shuffled_spikes")
    check_seed(seed)
    rng = np.random.default_rng(seed)
    traces = population.traces.copy()
    for unit, trace in enumerate(traces):
        frames = population.frames_of(population.observed_of(unit))
        observed = np.concatenate([np.empty(0, dtype=int), *(np.arange(a, b) for a, b in frames)])
        trace[observed] = np.roll(trace[observed], rng.integers(max(len(observed), 1)))
    return dataclasses.replace(population, traces=traces)


# Raise it when a control changes, so that its embeddings in files are recomputed.
CONTROLS_VERSION = 2
# Signal -> name of the control, and the function that computes it.
CONTROLS = {"spikes": ("shuffled spikes", shuffled_spikes), "traces": ("shifted traces", shifted_traces)}


def _shuffled(times: np.ndarray, observed: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Spike times (n,) with their intervals in random order within each observed interval (m, 2)."""
    begin, end = observed.T
    first, last = np.searchsorted(times, begin), np.searchsorted(times, end, side="right")
    # A spike on a border that two intervals share belongs to the second.
    last[:-1] = np.minimum(last[:-1], first[1:])
    counts = last - first
    # Start, spikes and end of each observed interval, concatenated.
    starts = np.cumsum(counts + 2) - (counts + 2)
    edges = np.empty(int((counts + 2).sum()))
    edges[starts], edges[starts + counts + 1] = begin, end
    is_spike = np.ones(len(edges), dtype=bool)
    is_spike[starts] = is_spike[starts + counts + 1] = False
    edges[is_spike] = times[first[0] : last[-1]] if len(observed) else []
    # The gap from the last spike to the interval's end is shuffled too: otherwise no spike would move past the last.
    interval = np.repeat(np.arange(len(counts)), counts + 1)
    gaps = np.diff(edges)[np.delete(np.arange(len(edges) - 1), starts[1:] - 1)]
    shuffled = gaps[np.lexsort((rng.random(len(gaps)), interval))]
    elapsed = np.cumsum(shuffled)
    first_gap = starts - np.arange(len(counts))
    elapsed -= np.repeat(elapsed[first_gap] - shuffled[first_gap], counts + 1)
    shuffled_times = np.minimum(begin[interval] + elapsed, end[interval])
    return np.delete(shuffled_times, np.cumsum(counts + 1) - 1)


@dataclass(frozen=True, eq=False)
class BaselineFeatures:
    """Features of every baseline of one population, to store in a file.

    Attributes
    ----------
    features : dict of str to float array, shape (n_units, k)
        Result of `baseline_features`.
    provenance : dict
        Result of `provenance_of`.
    """

    features: dict[str, np.ndarray]
    provenance: dict

    @classmethod
    def compute(cls, population: Population) -> "BaselineFeatures":
        """Compute the features of a population."""
        return cls(baseline_features(population), cls.provenance_of(population))

    @staticmethod
    def provenance_of(population: Population) -> dict:
        """Everything that determines the features of a population, as plain values for JSON."""
        return {
            "features_version": FEATURES_VERSION,
            "baselines": list(BASELINES[population.signal]),
            "population_fingerprint": population.fingerprint(),
            "context_fingerprint": population.context_fingerprint(),
        }

    def save(self, path, *, overwrite: bool = False) -> Path:
        """Write an ``.npz`` file that `load` reads."""
        path = check_format(path, ".npz")
        about = json.dumps({"names": list(self.features), **self.provenance})
        arrays = {f"features_{k}": rows for k, rows in enumerate(self.features.values())}
        with written_whole(path, overwrite=overwrite) as temporary:
            np.savez(temporary, about=np.array(about), **arrays)
        return path

    @classmethod
    def load(cls, path) -> "BaselineFeatures":
        """Read a file written by `save`; InputError if it is damaged or something else."""
        with reading(path, ".npz file of features", "recompute them"), zipfile.ZipFile(path) as file:
            provenance = json.loads(str(read_array(file, file.getinfo("about.npy"), path)))
            names = provenance.pop("names")
            members = [file.getinfo(f"features_{k}.npy") for k in range(len(names))]
            features = {name: read_array(file, member, path) for name, member in zip(names, members, strict=True)}
        return cls(features, provenance)
