import numpy as np
import pytest

from spikeinterface_nuclr import InputError, read_population, simulate_fluorescence, simulate_population
from spikeinterface_nuclr.simulation import CELL_TYPES, REGIONS, simulate_analyzer


def test_the_same_seed_gives_the_same_spikes():
    a, b, c = (simulate_population(10, 30.0, seed) for seed in (1, 1, 2))
    assert a.fingerprint() == b.fingerprint() != c.fingerprint()


def test_cell_types_fire_as_described():
    population = simulate_population(60, 200.0, seed=0)
    rate = population.spike_counts / 200.0
    kinds = population.properties["cell_type"]
    assert set(kinds) == set(CELL_TYPES)
    assert np.median(rate[kinds == "fast"]) > 2 * np.median(rate[kinds == "regular"])
    short = np.array([np.mean(np.diff(t) < 0.01) for t in population.spike_times])
    assert short[kinds == "bursting"].min() > 3 * short[kinds == "regular"].max()
    assert min(np.diff(t).min() for t in population.spike_times if len(t) > 1) > 0.001


def test_neurons_of_a_region_share_a_drive():
    population = simulate_population(60, 300.0, seed=3)
    counts = np.array([np.histogram(t, bins=np.arange(0, 300.5, 0.5))[0] for t in population.spike_times])
    correlation = np.corrcoef(counts)
    region = population.properties["brain_area"]
    same = (region[:, None] == region) & ~np.eye(60, dtype=bool)
    other = region[:, None] != region
    assert set(region) == set(REGIONS)
    assert correlation[same].mean() > correlation[other].mean() + 0.05


def test_the_analyzer_holds_the_population():
    population, analyzer = simulate_population(5, 20.0, 4), simulate_analyzer(5, 20.0, 4)
    assert analyzer.unit_ids.tolist() == population.unit_ids.tolist()
    assert analyzer.get_sorting_property("brain_area").tolist() == population.properties["brain_area"].tolist()
    counts = [len(analyzer.sorting.get_unit_spike_train(u, segment_index=0)) for u in analyzer.unit_ids]
    assert counts == population.spike_counts.tolist()


def test_nothing_to_simulate_is_refused():
    with pytest.raises(InputError, match="n_units=0"):
        simulate_population(n_units=0)


def test_fluorescence_follows_the_spikes():
    population = simulate_population(20, 120.0, seed=4)
    fluorescence = simulate_fluorescence(population, 10.0, noise=0.0)
    assert fluorescence.shape == (20, 1200)
    assert fluorescence.min() > 0
    found = read_population(fluorescence, sampling_frequency=10.0, traces="fluorescence")
    counts = np.stack([np.histogram(t, np.arange(1201) / 10)[0] for t in population.spike_times])
    kernel = np.exp(-np.arange(30) / 7)
    expected = [np.convolve(row, kernel)[:1200] for row in counts]
    assert min(np.corrcoef(a, b)[0, 1] for a, b in zip(found.traces, expected, strict=True)) > 0.95
    assert np.array_equal(fluorescence, simulate_fluorescence(population, 10.0, noise=0.0))
