"""Which features stand beside a score, by what the recordings hold.

The first baselines are of single neurons; those with "population" know how each neuron goes with the others.
"""

import numpy as np

from ..errors import InputError
from ..population import Population
from .features import autocorrelogram, firing_rate, interval_histogram
from .labelled import Labelled, per_recording
from .population_features import population_features
from .scores import EMBEDDING, FUSED, POOLED, SHUFFLED
from .trace_features import spectrum, trace_autocorrelation

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
