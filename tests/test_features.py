import numpy as np
import pytest

from spikeinterface_nuclr import InputError, Population
from spikeinterface_nuclr.decoding import features as population_module
from spikeinterface_nuclr.decoding.baselines import baseline_features
from spikeinterface_nuclr.decoding.features import (
    INTERVAL_EDGES,
    LAGS,
    LAGS_S,
    QUANTILES,
    autocorrelogram,
    firing_rate,
    interval_histogram,
    population_features,
    spectrum,
    trace_autocorrelation,
    unit_features,
)

# Columns of `population_features`: those of the first, second and third length of bins.
SCALES = [slice(0, 11), slice(11, 22), slice(22, 33)]
ZERO_LAG = LAGS.index(0)


def test_rates_are_of_observed_time():
    trains = [np.arange(0.05, 10, 0.1), np.array([0.5]), np.empty(0)]
    whole = Population(["a", "b", "c"], trains, stop=10.0)
    assert firing_rate(whole)[:, 0] == pytest.approx([1.0, -1.0, np.log10(0.05)])
    half = whole.within([[0.0, 5.0]])
    assert firing_rate(half)[0, 0] == pytest.approx(1.0)
    partly = Population([0, 1], [trains[0], []], observed=[np.array([[0.0, 10.0]]), np.empty((0, 2))])
    assert np.isnan(firing_rate(partly)[1, 0])


def test_features_for_people_agree_with_plain_loops():
    rng = np.random.default_rng(0)
    poisson, regular = np.sort(rng.uniform(0, 300, 3000)), np.arange(0.05, 300, 0.13)
    burst = np.sort(np.concatenate([regular, regular + 0.004]))
    copy = np.clip(poisson + rng.normal(0, 0.01, 3000), 0, 300)
    trains = [poisson, regular, burst, np.sort(copy), np.array([5.0]), np.empty(0)]
    population = Population(list("abcdef"), trains, stop=300.0)
    table = unit_features(population)
    assert table.loc["a", "rate (Hz)"] == pytest.approx(10)
    assert table.loc["a", "CV2 of intervals"] == pytest.approx(1, abs=0.05)
    assert table.loc["b", "CV2 of intervals"] == pytest.approx(0, abs=1e-6)
    assert table.loc["b", "median interval (ms)"] == pytest.approx(130)
    assert table.loc["c", "intervals < 10 ms (%)"] == pytest.approx(50, abs=0.1)
    assert table.loc["a", "population coupling"] > 0.5
    coupling = population_features(population)[:, SCALES[1]][:, ZERO_LAG]
    np.testing.assert_array_equal(table["population coupling"], coupling)
    assert table.loc[["e", "f"], "median interval (ms)"].isna().all()
    gap = Population(["a"], [np.array([0.0, 0.1, 0.2, 5.0, 5.3])], observed=[[0.0, 1.0], [5.0, 6.0]])
    row = unit_features(gap).loc["a"]
    assert row["median interval (ms)"] == pytest.approx(100)
    assert row["CV2 of intervals"] == pytest.approx(0, abs=1e-9)
    assert np.isnan(row["population coupling"])
    traces = Population([0, 1], traces=rng.random((2, 900)), sampling_frequency=10.0)
    assert unit_features(traces).columns.tolist() == ["population coupling"]


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


def together(rng, n=12, seconds=200.0, **where):
    """Neurons that follow one slow drive, each by an amount of its own."""
    drive = np.repeat(rng.gamma(2.0, 0.5, int(seconds)), 10)
    weights = np.linspace(0, 1, n)
    counts = [rng.poisson(0.5 * (w * drive + 1 - w)) for w in weights]
    trains = [np.repeat(np.arange(len(drive)) / 10, c) + rng.uniform(0, 0.1, c.sum()) for c in counts]
    return Population(range(n), [np.sort(t) for t in trains], start=0.0, stop=seconds, **where)


def test_population_features_are_correlations_of_counts(rng):
    population = together(rng)
    rows = population_features(population)
    for columns, bin_s in zip(SCALES, (0.02, 0.1, 0.5), strict=True):
        edges = np.arange(round(200 / bin_s) + 1) * bin_s
        counts = np.stack([np.histogram(t, edges)[0] for t in population.spike_times]).astype(float)
        others = counts.sum(axis=0) - counts
        for unit in (0, 5, 11):
            for place, lag in enumerate(LAGS):
                now = slice(max(-lag, 0), counts.shape[1] - max(lag, 0))
                later = slice(now.start + lag, now.stop + lag)
                want = np.corrcoef(counts[unit, now], others[unit, later])[0, 1]
                assert rows[unit, columns][place] == pytest.approx(want, abs=0.01)
        pairs = np.corrcoef(counts)
        np.fill_diagonal(pairs, np.nan)
        np.testing.assert_allclose(rows[:, columns][:, 5:10].T, np.nanquantile(pairs, QUANTILES, axis=1), atol=1e-5)
        np.testing.assert_allclose(rows[:, columns][:, 10], np.nanmean(np.abs(pairs), axis=1), atol=1e-5)


def test_time_is_read_in_blocks(rng, monkeypatch):
    population = together(rng).within([[0.0, 61.3], [80.0, 200.0]])
    whole = population_features(population)
    monkeypatch.setattr(population_module, "_BLOCK", 200)
    np.testing.assert_allclose(population_features(population), whole, atol=1e-5)


def test_no_lag_crosses_a_gap(rng):
    # A neuron fires at the end of each trial, the others at the beginning of the next: nothing follows within a trial.
    starts = 10.0 * np.arange(300)
    early, late = starts + 0.01, starts + 0.89
    trains = [late, *(np.sort(np.where(rng.uniform(size=300) < 0.8, early, early + 0.4)) for _ in range(5))]
    trials = np.stack([starts, starts + 0.9], axis=1)
    rows = population_features(Population(range(6), trains, observed=trials))
    assert rows[0, SCALES[0]][LAGS.index(1)] == pytest.approx(0, abs=0.05)
    # The same spikes on another clock, and with the pauses cut short.
    for moved in (starts + 12_345.678, np.arange(300) * 0.95):
        elsewhere = [np.sort(t + moved - starts) for t in trains]
        population = Population(range(6), elsewhere, observed=trials + (moved - starts)[:, None])
        np.testing.assert_allclose(population_features(population), rows, atol=1e-5)


def test_bins_are_as_short_as_trials(rng):
    whole = together(rng)
    starts = np.arange(0, 200, 0.5)
    trials = whole.within(np.stack([starts, starts + 0.4], axis=1))
    rows = population_features(trials)
    assert np.isfinite(rows[:, SCALES[2]][:, [ZERO_LAG, *range(5, 11)]]).all()
    assert np.isnan(rows[:, SCALES[2]][:, [0, 1, 3, 4]]).all()  # no trial holds two bins
    assert (
        np.corrcoef(rows[:, SCALES[2]][:, ZERO_LAG], population_features(whole)[:, SCALES[2]][:, ZERO_LAG])[0, 1] > 0.9
    )


def test_only_neurons_observed_together_are_related(rng):
    whole = together(rng)
    halves = [np.array([[0.0, 100.0]])] * 6 + [np.array([[100.0, 200.0]])] * 6
    trains = [t[(t >= a) & (t < b)] for t, [(a, b)] in zip(whole.spike_times, halves, strict=True)]
    apart = population_features(Population(range(12), trains, observed=halves, start=0.0, stop=200.0))
    first = population_features(whole.select(range(6)).within([[0.0, 100.0]]))
    np.testing.assert_allclose(apart[:6], first, atol=1e-5)
    probes = together(rng, group=list("aaaaaabbbbbc"))
    rows = population_features(probes)
    np.testing.assert_allclose(rows[:6], population_features(probes.select(range(6))), atol=1e-5)
    assert np.isnan(rows[11]).all()


def test_a_silent_neuron_has_no_population_features(rng):
    population = together(rng)
    silent = [*population.spike_times[:-1], []]
    rows = population_features(Population(range(12), silent, start=0.0, stop=200.0))
    assert np.isnan(rows[11]).all()
    np.testing.assert_allclose(rows[:11], population_features(population.select(range(11))), atol=1e-5)
    alone = population_features(Population(list("abc"), [population.spike_times[0], [], []], start=0.0, stop=200.0))
    assert np.isnan(alone).all()


@pytest.mark.parametrize("rate", [0.4, 2.0, 7.3])
def test_population_features_of_traces(rng, rate):
    shared = rng.standard_normal(6000)
    followers = shared + 0.3 * rng.standard_normal((8, 6000))
    traces = np.stack([*followers, rng.standard_normal(6000), np.full(6000, 0.1)])
    traces[0] = 1000 * traces[0] + 3e4  # its unit is its own
    rows = population_features(Population(range(10), traces=traces, sampling_frequency=rate))
    assert rows.shape == (10, 22)
    for columns in SCALES[:2]:
        assert (rows[:8, columns][:, ZERO_LAG] > 0.85).all()
        assert (rows[:8, columns][:, 7] > 0.8).all()
        assert (np.abs(rows[8, columns]) < 0.3).all()
    assert np.isnan(rows[9]).all()  # it never changes
    observed = [np.array([[0.0, 6000 / rate]])] * 7 + [np.array([[0.0, 3000 / rate]])] + [np.empty((0, 2))] * 2
    partly = population_features(Population(range(10), traces=traces, sampling_frequency=rate, observed=observed))
    assert partly[7, 7] == pytest.approx(rows[7, 7], abs=0.05)
    assert np.isnan(partly[8:]).all()


def test_each_signal_has_its_baselines(population):
    spikes = baseline_features(population)
    assert spikes["rate"].shape == (20, 1)
    assert spikes["rate, intervals, autocorrelogram, population"].shape == (20, 1 + 30 + 50 + 33)
    traces = baseline_features(slow_waves([0.1, 0.2]))
    assert traces["spectrum, autocorrelation, population"].shape == (2, 7 + 20 + 22)
    with pytest.raises(InputError, match="these features need traces"):
        spectrum(population)
