"""A saved analyzer with embeddings and identities, as spikeinterface-gui opens it."""

import dataclasses
import warnings

import spikeinterface as si

from spikeinterface_nuclr import compute_nuclr_embedding, compute_nuclr_identity, simulate_population
from spikeinterface_nuclr.simulation import analyzer_of

NEEDED = ["random_spikes", "templates", "unit_locations", "noise_levels"]


def saved_analyzer(folder, *, format="binary_folder", seed=500, units=24, silent=False):
    """Simulated units, whose true types are not among its properties; with `silent`, the last has no spikes."""
    population = simulate_population(units, 60.0, seed=seed)
    truth = population.properties["cell_type"]
    trains = list(population.spike_times)
    if silent:
        trains[-1] = trains[-1][:0]
    population = dataclasses.replace(population, properties={}, spike_times=trains)
    analyzer = analyzer_of(population)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        analyzer.compute(NEEDED)
        compute_nuclr_embedding(analyzer, progress_bar=False)
        compute_nuclr_identity(analyzer, "simulated-cell-type")
        saved = analyzer.save_as(folder=folder, format=format)
    return si.load_sorting_analyzer(saved.folder), truth
