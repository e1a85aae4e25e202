import numpy as np
import pytest

from spikeinterface_nuclr import InputError, Population
from spikeinterface_nuclr.windows import Layout, Membership, place_windows, timeline
from spikeinterface_nuclr.windows.binning import bin_activity, iter_windows

LAYOUT = Layout(bin_s=0.02, patch_size=50, num_patches=10)


def first_bins(line, overlap=0.0, layout=LAYOUT):
    placed = place_windows(line, layout, overlap)
    return placed.at(np.arange(len(placed)))


def starts(population, overlap=0.0, layout=LAYOUT, **options):
    line = timeline(population, np.arange(population.n_units), layout, **options)
    return line.time(first_bins(line, overlap, layout)), line


def members(population):
    units = np.arange(population.n_units)
    line = timeline(population, units, LAYOUT)
    membership = Membership(population, units, line, LAYOUT)
    found = membership.of(first_bins(line))
    assert membership.anywhere(place_windows(line, LAYOUT)).tolist() == found.any(axis=0).tolist()
    return found.tolist()


def test_windows_tile_observed_time_and_drop_the_rest():
    times, line = starts(Population(["a"], [[0.5]], stop=35.0))
    assert times.tolist() == [0.0, 10.0, 20.0]
    assert line.stitched == ""


def test_windows_never_cross_a_gap():
    population = Population(["a"], [[1.0]], observed=[[0.0, 25.0], [30.0, 39.0], [40.0, 61.0]])
    times, _ = starts(population)
    assert times.tolist() == [0.0, 10.0, 40.0, 50.0]


def test_touching_intervals_are_a_border():
    times, _ = starts(Population(["a"], [[1.0]], observed=[[0.0, 15.0], [15.0, 40.0]]))
    assert times.tolist() == [0.0, 15.0, 25.0]


def test_overlap_repeats_part_of_a_window():
    times, _ = starts(Population(["a"], [[0.5]], stop=30.0), overlap=0.5)
    assert times.tolist() == [0.0, 5.0, 10.0, 15.0, 20.0]


@pytest.mark.parametrize("overlap", [1.0, -0.1, 2])
def test_overlap_outside_its_range_is_refused(overlap):
    with pytest.raises(InputError, match=r"overlap must lie in \[0, 1\)"):
        starts(Population(["a"], [[0.5]], stop=30.0), overlap=overlap)


def test_a_recording_shorter_than_a_window_has_none():
    times, _ = starts(Population(["a"], [[0.5]], stop=9.9))
    assert len(times) == 0


def test_trials_shorter_than_a_patch_are_stitched_bin_by_bin():
    trials = np.arange(60)[:, None] * 3.0 + np.array([[0.0, 0.4]])
    population = Population(["a"], [trials[:, 0] + 0.01], observed=trials)
    _, line = starts(population)
    assert line.stitched == "bins"
    assert line.num_bins == 60 * 20
    assert len(place_windows(line, LAYOUT)) == 2
    counts = bin_activity(population, np.array([0]), line, 0, line.num_bins)
    assert np.flatnonzero(counts[0]).tolist() == list(range(0, 1200, 20))


def test_trials_longer_than_a_patch_are_stitched_patch_by_patch():
    trials = np.arange(12)[:, None] * 9.0 + np.array([[0.0, 2.7]])
    _, line = starts(Population(["a"], [[0.5]], observed=trials))
    assert line.stitched == "patches"
    # Two patches of each trial, its last 0.7 s dropped.
    assert line.num_bins == 12 * 100
    assert first_bins(line, 0.5).tolist() == [0, 250, 500]
    assert first_bins(line, 0.33).tolist() == [0, 350, 700]


def test_silent_seconds_are_left_out_with_their_neighbours_on_request():
    spikes = np.concatenate([np.arange(0, 30, 0.25), np.arange(31, 60, 0.25)])
    population = Population(["a", "b"], [spikes, spikes[::2]], stop=60.0)
    assert starts(population)[0].tolist() == [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]
    # Second 30 is silent: 29 to 32 are left out.
    assert starts(population, skip_silence=True)[0].tolist() == [0.0, 10.0, 32.0, 42.0]


def test_silence_that_leaves_no_window_does_not_turn_into_stitching():
    population = Population(["a"], [np.arange(0.0, 60.0, 5.0)], stop=60.0)
    times, line = starts(population, skip_silence=True)
    assert len(times) == 0
    assert line.stitched == ""


def test_a_unit_belongs_to_windows_in_which_it_was_observed_throughout():
    everywhere, late = np.array([[0.0, 40.0]]), np.array([[12.0, 40.0]])
    population = Population(["a", "b"], [[1.0], [15.0]], observed=[everywhere, late])
    assert members(population) == [[True, False], [True, False], [True, True], [True, True]]


def test_a_border_of_one_unit_is_no_border_of_another():
    parted, whole = np.array([[0.0, 15.0], [15.0, 40.0]]), np.array([[0.0, 40.0]])
    population = Population(["a", "b"], [[1.0], [15.0]], observed=[parted, whole])
    assert members(population) == [[True, True], [False, True], [True, True], [True, True]]


def test_trials_seen_by_some_units_only():
    trials = np.arange(50)[:, None] * 3.0 + np.array([[0.0, 0.4]])
    population = Population(["a", "b"], [[0.1], [0.1]], observed=[trials, trials[:30]])
    assert members(population) == [[True, True], [True, False]]


def test_one_longer_trial_does_not_change_how_the_others_are_stitched():
    trials = np.arange(60)[:, None] * 3.0 + np.array([[0.0, 0.9]])
    trials[0, 1] = 1.2
    _, line = starts(Population(["a"], [[0.5]], observed=trials))
    assert line.stitched == "bins"
    assert len(place_windows(line, LAYOUT)) == 5


def test_times_since_1970_do_not_make_years_of_windows():
    epoch = 1_700_000_000.25
    population = Population(["a"], [epoch + np.arange(60)], stop=epoch + 60)
    assert population.start == 1_700_000_000.0
    assert len(starts(population)[0]) == 6


def test_overlapping_windows_stay_within_the_budget():
    population = Population(["a", "b"], [[1.0], [2.0]], stop=500.0)
    units = np.arange(2)
    line = timeline(population, units, LAYOUT)
    first = first_bins(line, 0.95)
    sizes = [counts.size for _, counts in iter_windows(population, units, line, first, LAYOUT, max_bins=20_000)]
    assert max(sizes) <= 20_000
    assert sum(sizes) == len(first) * 1000


def test_bins_match_the_definition(rng):
    spikes = np.sort(rng.uniform(0, 40, 5000))
    population = Population(["a"], [spikes], stop=40.0)
    line = timeline(population, np.array([0]), LAYOUT)
    expected = np.zeros(2000)
    np.add.at(expected, np.floor(spikes / 0.02).astype(int), 1)
    counts = bin_activity(population, np.array([0]), line, 0, 2000)
    assert np.array_equal(counts[0], expected)
    part = bin_activity(population, np.array([0]), line, 333, 1777)
    assert np.array_equal(part[0], expected[333:1777])


@pytest.mark.parametrize("offset", [0.0, 1234.5])
def test_spikes_on_the_edge_of_a_bin_belong_to_the_bin_that_starts_there(offset):
    # 0.58 / 0.02 is 28.999… in floating point.
    edges = offset + np.arange(500) * 0.02
    population = Population(["a"], [edges], observed=[[offset, offset + 10.0]])
    line = timeline(population, np.array([0]), LAYOUT)
    assert np.array_equal(bin_activity(population, np.array([0]), line, 0, 500), np.ones((1, 500)))


def test_chunks_of_windows_equal_windows_binned_one_by_one(rng):
    trains = [np.sort(rng.uniform(0, 95, 700)) for _ in range(3)]
    observed = np.array([[0.0, 47.0], [50.0, 95.0]])
    trains = [t[(t < 47) | (t > 50)] for t in trains]
    population = Population(list("abc"), trains, observed=observed)
    units = np.arange(3)
    line = timeline(population, units, LAYOUT)
    first = first_bins(line, 0.5)
    times = line.time(first)
    seen = 0
    for begin, counts in iter_windows(population, units, line, first, LAYOUT, max_bins=3 * 1300):
        assert len(counts) <= 4
        for window, got in enumerate(counts, start=begin):
            for unit, train in enumerate(trains):
                inside = train[(train >= times[window]) & (train < times[window] + 10)] - times[window]
                expected = np.bincount(np.floor(inside / 0.02 + 1e-6).astype(int), minlength=500)
                assert np.array_equal(got[unit], expected)
            seen += 1
    assert seen == len(first) == 16


def test_traces_are_cut_frame_by_frame():
    layout = Layout(bin_s=0.25, patch_size=4, num_patches=5)
    traces = np.arange(2 * 47, dtype=np.float32).reshape(2, 47)
    population = Population(["a", "b"], traces=traces, sampling_frequency=4.0, start=3.0)
    units = np.arange(2)
    line = timeline(population, units, layout)
    first = first_bins(line, layout=layout)
    assert line.time(first).tolist() == [3.0, 8.0]
    (_, counts), *rest = iter_windows(population, units, line, first, layout, max_bins=1000)
    assert not rest
    assert np.array_equal(counts[1], traces[:, 20:40])
