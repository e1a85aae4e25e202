"""Which features stand beside a score, by what the recordings hold: each baseline adds one to those before it."""

import numpy as np

from ..population import Population
from .features import autocorrelogram, firing_rate, interval_histogram
from .trace_features import population_correlation, spectrum, trace_autocorrelation

# Raise it when a feature changes, so that those kept in files are computed again.
FEATURES_VERSION = 1
# Signal -> name -> features. Those of spikes are a neuron's own; of traces, the last knows the population too.
BASELINES = {
    "spikes": {
        "rate": (firing_rate,),
        "rate, intervals": (firing_rate, interval_histogram),
        "rate, intervals, autocorrelogram": (firing_rate, interval_histogram, autocorrelogram),
    },
    "traces": {
        "spectrum": (spectrum,),
        "spectrum, autocorrelation": (spectrum, trace_autocorrelation),
        "spectrum, autocorrelation, correlations": (spectrum, trace_autocorrelation, population_correlation),
    },
}


def baseline_features(population: Population) -> dict[str, np.ndarray]:
    """The features of every baseline of the population's signal: float arrays, shape (n_units, k)."""
    baselines = BASELINES[population.signal]
    known = {function: function(population) for functions in baselines.values() for function in functions}
    return {name: np.hstack([known[function] for function in functions]) for name, functions in baselines.items()}
