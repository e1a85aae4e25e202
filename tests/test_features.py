import numpy as np
import pytest

from spikeinterface_nuclr import InputError, Population
from spikeinterface_nuclr.decoding.baselines import baseline_features
from spikeinterface_nuclr.decoding.features import INTERVAL_EDGES, autocorrelogram, firing_rate, interval_histogram
from spikeinterface_nuclr.decoding.trace_features import (
    LAGS_S,
    population_correlation,
    spectrum,
    trace_autocorrelation,
)


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


def slow_waves(frequencies, rate=2.0, seconds=600.0, **known):
    times = np.arange(round(seconds * rate)) / rate
    return Population(
        range(len(frequencies)),
        traces=[np.sin(2 * np.pi * f * times + k) for k, f in enumerate(frequencies)],
        sampling_frequency=rate,
        **known,
    )


def test_the_spectrum_of_waves():
    for rate in (1.4, 2.0, 7.0):
        rows = spectrum(slow_waves([1 / 120, 5.5 / 120, 0.4], rate))
        assert rows.argmax(axis=1).tolist() == [0, 3, 6]
        assert rows.max(axis=1).min() > -0.1
    assert np.isnan(spectrum(slow_waves([0.1], seconds=100.0))).all()


def test_the_autocorrelation_of_waves():
    period = LAGS_S[10]
    rows = trace_autocorrelation(slow_waves([1 / period, 0.5 / period], rate=20.0))
    assert rows[0, 10] == pytest.approx(1, abs=0.05)
    assert rows[1, 10] == pytest.approx(-1, abs=0.05)
    assert np.isnan(trace_autocorrelation(slow_waves([0.1], seconds=60.0))).all()


def test_correlations_with_the_others(rng):
    shared = rng.standard_normal(1000)
    traces = np.stack([*(shared + 0.3 * rng.standard_normal((8, 1000))), rng.standard_normal(1000), np.zeros(1000)])
    rows = population_correlation(Population(range(10), traces=traces, sampling_frequency=2.0))
    assert (rows[:8, 0] > 0.9).all()
    assert (rows[:8, 3] > 0.8).all()
    assert np.abs(rows[8, 0]) < 0.15
    assert np.isnan(rows[9]).all()  # it never changes
    apart = Population(range(10), traces=traces, sampling_frequency=2.0, group=list("aaaaaaaabc"))
    assert np.isnan(population_correlation(apart)[8:]).all()
    observed = [np.array([[0.0, 500.0]])] * 7 + [np.array([[0.0, 100.0]])] + [np.empty((0, 2))] * 2
    partly = population_correlation(Population(range(10), traces=traces, sampling_frequency=2.0, observed=observed))
    assert partly[7, 3] == pytest.approx(rows[7, 3], abs=0.05)
    assert np.isnan(partly[8:]).all()


def test_each_signal_has_its_baselines(population):
    assert baseline_features(population)["rate"].shape == (20, 1)
    traces = baseline_features(slow_waves([0.1, 0.2]))
    assert traces["spectrum, autocorrelation, correlations"].shape == (2, 33)
    with pytest.raises(InputError, match="these features are of traces"):
        spectrum(population)
