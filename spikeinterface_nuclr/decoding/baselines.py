"""Which features stand beside a score, by what the recordings hold.

The first baselines are of single neurons; those with "population" know how each neuron goes with the others.
"""

import numpy as np

from ..population import Population
from .features import autocorrelogram, firing_rate, interval_histogram
from .population_features import population_features
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
