import numpy as np
import pytest
from ophys_files import activity

from spikeinterface_nuclr import EncoderConfig, InputError, Population, build_store, simulate_population
from spikeinterface_nuclr.training.views import Recording, draw_sample, packed
from spikeinterface_nuclr.windows import Layout

LAYOUT = EncoderConfig().layout


def stored(population, folder, layout=LAYOUT):
    [probe] = build_store(population, folder, progress=False)[0].probes
    return Recording(probe, layout)


@pytest.fixture(scope="module")
def whole():
    return simulate_population(n_units=16, duration=60.0, seed=0)


@pytest.fixture(scope="module")
def recording(whole, tmp_path_factory):
    return stored(whole, tmp_path_factory.mktemp("store") / "s")


def draw(recording, rng, **options):
    return draw_sample([recording], np.ones(1), rng, **{"max_view_distance_s": 20.0, **options})


def test_a_window_of_a_recording_holds_the_spikes_of_that_time(whole, recording):
    start = 731
    patches, units = recording.window(start, np.ones(16, dtype=bool))
    edges = start * 0.02 + np.arange(501) * 0.02
    for counts, unit in zip(patches, units, strict=True):
        expected = np.histogram(whole.spike_times[unit], bins=edges)[0]
        # A spike on an edge may fall to either side in the histogram.
        assert np.abs(counts.ravel() - expected).sum() <= 2
    assert set(range(16)) - set(units) == {
        u for u in range(16) if not np.histogram(whole.spike_times[u], bins=edges[[0, -1]])[0]
    }


def test_the_second_window_is_near_the_first(recording, rng):
    for distance in (0.0, 5.0):
        pairs = np.array([recording.draw_starts(rng, distance) for _ in range(300)]) * LAYOUT.bin_s
        assert np.abs(np.diff(pairs)).max() <= distance + 1e-9
        assert pairs.min() >= 0
        assert pairs.max() + LAYOUT.window_s <= 60.0 + 1e-9
    assert np.abs(np.diff(pairs)).max() > 4.5


def test_no_window_crosses_a_gap(tmp_path, rng):
    whole = simulate_population(n_units=12, duration=60.0, seed=0)
    recording = stored(whole.within([[0.0, 25.0], [31.0, 60.0]]), tmp_path / "s")
    for start in np.array([recording.draw_starts(rng, 60.0) for _ in range(200)]).ravel():
        begin = recording.line.time(np.array([start]))[0]
        assert begin + LAYOUT.window_s <= 25.0 + 1e-9 or begin >= 31.0


def test_trials_are_stitched_patch_by_patch(tmp_path, rng):
    whole = simulate_population(n_units=12, duration=200.0, seed=0)
    trials = np.arange(0, 200, 2.0)[:, None] + [[0.0, 0.4]]
    recording = stored(whole.within(trials), tmp_path / "s", Layout(0.02, 20, 25))
    starts = np.array([recording.draw_starts(rng, 30.0) for _ in range(100)])
    assert (starts % 20 == 0).all()
    times = recording.line.time(starts)
    assert np.abs(np.diff(times)).max() <= 30.0
    assert np.allclose(times % 2.0, 0)


def test_views_keep_a_random_part_of_the_units_and_share_some(recording, rng):
    samples = [draw(recording, rng) for _ in range(40)]
    for sample in samples:
        for patches, units in zip(sample.patches, sample.units, strict=True):
            assert patches.shape == (len(units), 10, 50)
            assert patches.any(axis=(1, 2)).all()
            assert len(np.unique(units)) == len(units) > 10
        assert sample.matches == len(set(sample.units[0]) & set(sample.units[1])) > 0
    assert len({len(sample.units[0]) for sample in samples}) > 2
    whole = [draw(recording, rng, min_unit_fraction=1.0, max_view_distance_s=0.0) for _ in range(5)]
    assert all(np.array_equal(*sample.units) for sample in whole)


def test_large_populations_are_thinned_alike_in_both_views(tmp_path, rng):
    recording = stored(simulate_population(n_units=80, duration=40.0, seed=0), tmp_path / "s")
    thinned = [draw(recording, rng, max_units=24) for _ in range(60)]
    assert max(len(units) for sample in thinned for units in sample.units) <= 24
    # Of a pool of 48, two views of 12 to 24 units share more than two such views of all 80 would.
    assert np.mean([sample.matches for sample in thinned]) > 1.4 * 18 * 18 / 80


def test_units_are_part_of_windows_in_which_they_were_observed(tmp_path):
    whole = simulate_population(n_units=12, duration=60.0, seed=0)
    late = whole.within([[9.0, 60.0]]).spike_times
    observed = [np.array([[0.0, 60.0]])] * 11 + [np.array([[9.0, 60.0]])]
    trains = [*whole.spike_times[:11], late[11]]
    recording = stored(Population(whole.unit_ids, trains, observed=observed), tmp_path / "s")
    everyone = np.ones(12, dtype=bool)
    assert 11 not in recording.window(0, everyone)[1]
    assert 11 in recording.window(500, everyone)[1]


def test_populations_too_small_for_the_objective_are_refused(tmp_path, rng):
    recording = stored(simulate_population(n_units=11, duration=40.0, seed=0).select(range(10)), tmp_path / "s")
    with pytest.raises(InputError, match="no window has more than 10 active units"):
        draw(recording, rng)


def test_samples_are_packed_without_padding_and_none_is_lost(recording, rng):
    samples = [draw(recording, rng) for _ in range(30)]
    tokens = sum(sample.tokens for sample in samples)
    for limit in (1, 1000, 10**9):
        batches = list(packed(samples, limit))
        sizes = [sum(10 * len(p) for p in views.patches) for views in batches]
        assert sum(sizes) == tokens
        assert max(sizes) <= max(limit, max(sample.tokens for sample in samples))
        assert sum(views.matches for views in batches) == sum(sample.matches for sample in samples)
        for views in batches:
            assert [s.sum() for s in views.sizes] == [len(p) for p in views.patches] == [len(u) for u in views.units]
    assert len(batches) == 1


def test_both_views_of_traces_lose_neurons(tmp_path, rng):
    """Unit dropout reaches traces, which have no silent neurons to lose."""
    traces = activity(40, 900)
    layout = Layout(0.2, 4, 10)
    recording = stored(Population(range(40), traces=traces, sampling_frequency=5.0), tmp_path / "s", layout)
    sizes = []
    for _ in range(100):
        sample = draw(recording, rng, min_unit_fraction=0.5)
        for patches, units in zip(sample.patches, sample.units, strict=True):
            assert patches.shape == (len(units), 10, 4)
            [place] = {int(k) for k in range(860) if np.array_equal(traces[units[0], k : k + 40], patches[0].ravel())}
            assert np.array_equal(patches.reshape(len(units), -1), traces[units, place : place + 40])
            sizes.append(len(units))
        assert 0 < sample.matches <= min(map(len, sample.units))
    assert min(sizes) < 25
    assert max(sizes) > 35
    assert all(len(units) == 40 for units in draw(recording, rng, min_unit_fraction=1.0).units)


def test_windows_of_traces_are_of_frames(tmp_path):
    """A rate that differs a little from the layout's moves no window off its frames."""
    traces = activity(12, 3000)
    recording = stored(
        Population(range(12), traces=traces, sampling_frequency=5.03), tmp_path / "s", Layout(0.2, 4, 10)
    )
    for start in (0, 1234, 2960):
        patches, _ = recording.window(start, np.ones(12, dtype=bool))
        assert np.array_equal(patches.reshape(12, -1), traces[:, start : start + 40])
