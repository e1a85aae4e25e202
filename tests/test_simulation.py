import numpy as np
import pytest

from spikeinterface_nuclr import (
    InputError,
    read_population,
    simulate_fluorescence,
    simulate_population,
    simulate_relations,
    simulate_sequences,
)
from spikeinterface_nuclr.decoding.features import firing_rate, interval_histogram, population_features
from spikeinterface_nuclr.simulation import CELL_TYPES, REGIONS, simulate_analyzer


def test_the_same_seed_gives_the_same_spikes():
    a, b, c = (simulate_population(10, 30.0, seed) for seed in (1, 1, 2))
    assert a.fingerprint() == b.fingerprint() != c.fingerprint()


def test_cell_types_fire_as_described():
    population = simulate_population(60, 200.0, seed=0)
    rate = population.num_spikes / 200.0
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


def separation(values, first):
    """Differences of the means of two kinds of neurons in each column, in standard deviations."""
    values = np.nan_to_num(values)
    return np.abs(values[first].mean(axis=0) - values[~first].mean(axis=0)) / np.maximum(values.std(axis=0), 1e-9)


def test_relations_are_between_neurons():
    populations = [simulate_relations(40, 200.0, seed) for seed in range(4)]
    chorister = np.concatenate([population.properties["cell_type"] == "chorister" for population in populations])
    alone = np.concatenate([np.hstack([firing_rate(p), interval_histogram(p)]) for p in populations])
    assert separation(alone, chorister).max() < 0.4
    size = np.concatenate([population_features(population)[:, -1] for population in populations])
    assert np.mean((size > 0.1) == chorister) > 0.95


@pytest.fixture(scope="module")
def sequences():
    return [simulate_sequences(60, 200.0, seed) for seed in range(10)]


def test_sequences_look_alike_to_counts_and_correlations(sequences):
    features = [np.hstack([firing_rate(p), interval_histogram(p), population_features(p)]) for p in sequences]
    for target, kind in (("cell_type", "ordered"), ("parity", "odd")):
        first = np.concatenate([population.properties[target] == kind for population in sequences])
        # 0.08 is the standard error between halves of 600 neurons.
        assert separation(np.concatenate(features), first).max() < 0.3


def members(population, bin_s):
    """Counts of each whole triplet's members, float array (3, bins), and the positions of the members."""
    edges = np.arange(round(population.stop / bin_s) + 1) * bin_s
    for number in np.unique(population.properties["triplet"]):
        units = np.flatnonzero(population.properties["triplet"] == number)
        if len(units) == 3:
            counts = np.stack([np.histogram(population.spike_times[unit], edges)[0] for unit in units])
            yield units[0], counts - counts.mean(axis=1, keepdims=True)


def test_members_of_ordered_triplets_follow_each_other(sequences):
    one_sided = {"ordered": [], "unordered": []}
    for population in sequences[:3]:
        for unit, counts in members(population, 0.04):
            later = counts[:, :-1] @ counts[:, 1:].T  # [i, j]: j fires one place after i
            asymmetry = np.abs(later - later.T)[np.triu_indices(3, 1)] / (later + later.T)[np.triu_indices(3, 1)]
            one_sided[population.properties["cell_type"][unit]].append(asymmetry.min())
    assert len(one_sided["ordered"]) == len(one_sided["unordered"]) == 30
    assert np.quantile(one_sided["ordered"], 0.1) > np.quantile(one_sided["unordered"], 0.9)


def test_it_takes_three_to_see_the_parity(sequences):
    together = {"even": [], "odd": []}
    for population in sequences[:3]:
        for unit, counts in members(population, 0.02):
            nearby = np.stack([np.convolve(row, np.ones(7), "same") for row in counts])
            together[population.properties["parity"][unit]].append(nearby.prod(axis=0).mean())
    assert np.quantile(together["odd"], 0.1) > 0 > np.quantile(together["even"], 0.9)


def test_a_triplet_may_be_recorded_in_part():
    population = simulate_sequences(10, 30.0, seed=2)
    assert population.n_units == 10
    assert np.bincount(population.properties["triplet"]).max() <= 3
    assert population.fingerprint() == simulate_sequences(10, 30.0, seed=2).fingerprint()
    assert simulate_sequences(1, 0.01).n_units == 1


def test_the_analyzer_holds_the_population():
    population, analyzer = simulate_population(5, 20.0, 4), simulate_analyzer(5, 20.0, 4)
    assert analyzer.unit_ids.tolist() == population.unit_ids.tolist()
    assert analyzer.get_sorting_property("brain_area").tolist() == population.properties["brain_area"].tolist()
    counts = [len(analyzer.sorting.get_unit_spike_train(u, segment_index=0)) for u in analyzer.unit_ids]
    assert counts == population.num_spikes.tolist()


def test_nothing_to_simulate_is_refused():
    with pytest.raises(InputError, match="n_units=0"):
        simulate_population(n_units=0)
    with pytest.raises(InputError, match="duration=0"):
        simulate_sequences(duration=0)


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
