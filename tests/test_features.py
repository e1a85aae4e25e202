import numpy as np
import pytest

from spikeinterface_nuclr import InputError, Population
from spikeinterface_nuclr.decoding.features import INTERVAL_EDGES, autocorrelogram, firing_rate, interval_histogram


def test_rates_are_of_observed_time():
    trains = [np.arange(0.05, 10, 0.1), np.array([0.5]), np.empty(0)]
    whole = Population(["a", "b", "c"], trains, stop=10.0)
    assert firing_rate(whole)[:, 0] == pytest.approx([1.0, -1.0, np.log10(0.05)])
    half = whole.within([[0.0, 5.0]])
    assert firing_rate(half)[0, 0] == pytest.approx(1.0)
    partly = Population([0, 1], [trains[0], []], observed=[np.array([[0.0, 10.0]]), np.empty((0, 2))])
    assert np.isnan(firing_rate(partly)[1, 0])


def test_intervals_across_gaps_are_not_counted():
    times = np.concatenate([np.arange(0, 1, 0.1), np.arange(5, 6, 0.1)])
    observed = Population(["a"], [times], observed=[[0.0, 1.0], [5.0, 6.0]])
    [row] = interval_histogram(observed)
    assert (row > 0).sum() == 1
    assert INTERVAL_EDGES[row.argmax()] <= -1 <= INTERVAL_EDGES[row.argmax() + 1]
    assert (row**2).sum() == pytest.approx(1)
    [seen] = interval_histogram(Population(["a"], [times]))
    assert (seen > 0).sum() == 2
    assert not interval_histogram(Population(["a"], [[0.5]])).any()


def test_the_autocorrelogram_of_a_clock_and_of_chance(rng):
    clock, poisson = np.arange(0.0, 100, 0.1), np.sort(rng.uniform(0, 1000, 20_000))
    rows = autocorrelogram(Population(["a", "b"], [clock + 1e-6 * np.arange(1000), poisson]))
    assert np.flatnonzero(rows[0]).tolist() == [10, 20, 30, 40]
    assert np.expm1(rows[0][10]) == pytest.approx(100, rel=0.01)
    assert np.expm1(rows[1]) == pytest.approx(20, rel=0.1)


def test_traces_have_no_rate():
    traces = Population(["a"], traces=[[0.0, 1.0]], sampling_frequency=1.0)
    for feature in (firing_rate, interval_histogram, autocorrelogram):
        with pytest.raises(InputError, match="holds traces"):
            feature(traces)
