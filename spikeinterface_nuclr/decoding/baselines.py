"""Which features stand beside a score, by what the recordings hold.

The first baselines are of single neurons; those with "population" know how each neuron goes with the others.
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

# Raise it when a feature changes, so that those kept in files are computed again.
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
    """Features of every baseline of the population's signal: float arrays, shape (n_units, k), NaN where unknown."""
    baselines = BASELINES[population.signal]
    functions = dict.fromkeys(function for of in baselines.values() for function in of)
    features = {function: function(population) for function in functions}
    return {name: np.hstack([features[function] for function in of]) for name, of in baselines.items()}


def tables_beside(labelled: Labelled, recordings: list, populations, others) -> dict[str, np.ndarray]:
    """Numbers of the labelled units by every other method."""
    given: dict[str, list] = {}
    if populations is not None:
        if len(populations) != len(recordings):
            raise InputError(f"populations: give one for each of the {len(recordings)} recordings")
        features = [baseline_features(population) for population in populations]
        if any(of.keys() != features[0].keys() for of in features):
            raise InputError("populations: some hold spikes and some traces: evaluate them apart")
        given = {name: per_recording(name, [of[name] for of in features], recordings) for name in features[0]}
    for name, arrays in (others or {}).items():
        if not isinstance(name, str) or name in (EMBEDDING, FUSED, POOLED, SHUFFLED, *given):
            raise InputError(f"others: {name!r} cannot be the name of a method, or is that of another: rename it")
        given[name] = per_recording(name, arrays, recordings)
    return {name: _rows(name, arrays, labelled) for name, arrays in given.items()}


def _rows(name: str, arrays: list, labelled: Labelled) -> np.ndarray:
    """The labelled units' rows of one array a recording: float64, shape (n, k), NaN where they are not finite."""
    try:
        arrays = [np.asarray(one, dtype=float) for one in arrays]
    except (TypeError, ValueError):
        raise InputError(f"{name}: holds something else than numbers") from None
    shapes = {one.shape[1:] for one in arrays}
    if len(shapes) > 1 or len(*shapes) != 1:
        raise InputError(f"{name}: give arrays of shape (n_units, k), with one k for all recordings")
    rows = np.empty((len(labelled), *shapes.pop()))
    for number in np.unique(labelled.recordings):
        units = labelled.recordings == number
        rows[units] = arrays[number][labelled.units[units]]
    rows[~np.isfinite(rows)] = np.nan
    if np.isnan(rows).all():
        raise InputError(f"{name}: knows no number of any labelled unit: leave it out")
    return rows


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


@dataclass(frozen=True, eq=False)
class BaselineFeatures:
    """Features of every baseline of one population.

    Attributes
    ----------
    features : dict of str to float array, shape (n_units, k)
        As `baseline_features` gives them.
    provenance : dict
        What they were computed from, as of `provenance_of`.
    """

    features: dict[str, np.ndarray]
    provenance: dict

    @classmethod
    def compute(cls, population: Population) -> "BaselineFeatures":
        """The features of a population."""
        return cls(baseline_features(population), cls.provenance_of(population))

    @staticmethod
    def provenance_of(population: Population) -> dict:
        """What decides the features of a population: plain values for JSON."""
        return {
            "features_version": FEATURES_VERSION,
            "baselines": list(BASELINES[population.signal]),
            "population_fingerprint": population.fingerprint(),
            "context_fingerprint": population.context_fingerprint(),
        }

    def save(self, path, *, overwrite: bool = False) -> Path:
        """Write ``.npz``, to be read by `load`."""
        path = check_format(path, ".npz")
        about = json.dumps({"names": list(self.features), **self.provenance})
        arrays = {f"features_{k}": rows for k, rows in enumerate(self.features.values())}
        with written_whole(path, overwrite=overwrite) as temporary:
            np.savez(temporary, about=np.array(about), **arrays)
        return path

    @classmethod
    def load(cls, path) -> "BaselineFeatures":
        """Read what `save` wrote; InputError where the file is damaged, or none of these."""
        with reading(path, ".npz file of features", "compute them again"), zipfile.ZipFile(path) as file:
            provenance = json.loads(str(read_array(file, file.getinfo("about.npy"), path)))
            names = provenance.pop("names")
            members = [file.getinfo(f"features_{k}.npy") for k in range(len(names))]
            features = {name: read_array(file, one, path) for name, one in zip(names, members, strict=True)}
        return cls(features, provenance)
