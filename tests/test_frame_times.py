"""Frames of imaged neurons at their true times: rates that change, drift, jitter, pauses, times that cannot be."""

import warnings

import numpy as np
import pytest
from nwb_files import write_nwb_file
from ophys_files import add_series, ophys_file

from spikeinterface_nuclr import InputError, RecordingWarning, read_population, simulate_fluorescence
from spikeinterface_nuclr.io.calcium import grid_of, regular_frames, timed_frames


def recording(times, invalid=()):
    """A recording whose values number its frames, beginning at 1."""
    nwbfile = ophys_file((3,))
    add_series(nwbfile, np.tile(np.arange(1.0, len(times) + 1), (3, 1)), timestamps=times)
    for start, stop in invalid:
        nwbfile.add_invalid_time_interval(start_time=start, stop_time=stop)
    return nwbfile


def frames_in(population):
    """Numbers of the frames that are observed."""
    values = np.concatenate([population.traces[0, a:b] for a, b in population.frames_of(population.observed)])
    return np.unique(values.astype(int) - 1)


def read(nwbfile, **options):
    return read_population(nwbfile, traces="preprocessed", **options)


def step(first, second, n=500):
    return np.concatenate([np.arange(n) / first, n / first + np.arange(n) / second])


def drift(first, last, n=2000):
    return np.concatenate([[0], np.cumsum(1 / np.linspace(first, last, n - 1))])


CHANGING = {
    "a slower second half": step(10, 8),
    "a faster second half": step(8, 10),
    "half the rate": step(10, 5),
    "twice the rate": step(10, 20),
    "two thirds of the rate": step(30, 20),
    "three halves of the rate": step(10, 15),
    "a rate that swings": np.append(0, np.cumsum(0.1 * (1 + 0.5 * np.sin(np.arange(3000) / 200)))),
    "four times the rate": step(5, 20),
    "a drift that is slow": drift(10, 10.1),
    "a drift that is fast": drift(10, 7) + 1e6,
    "a pause, then another rate": step(10, 8) + np.repeat([0, 33.33], 500),
    "a short time at another rate": np.cumsum(np.repeat([0.1, 0.02, 0.1], [400, 30, 400])),
}


@pytest.mark.parametrize("times", CHANGING.values(), ids=CHANGING)
def test_frames_of_a_rate_that_changes_keep_their_times(times):
    begin, end = np.percentile(times, [40, 60])
    usual = np.diff(times).max(initial=0, where=np.diff(times) < 1)
    with pytest.warns(RecordingWarning, match=r"NWBFile: its frame rate varies \(.* interpolated to"):
        whole = read(recording(times))
    assert whole.start == times[0]
    assert whole.stop == pytest.approx(times[-1] + usual, abs=1.01 * usual)
    assert np.array_equal(frames_in(whole), np.arange(len(times)))
    assert len(whole.observed) == 1 + (np.diff(times).max() > 1)
    # Values between two frames lie between theirs: each is at its time.
    places = whole.start + np.arange(whole.traces.shape[1]) / whole.sampling_frequency
    seen = np.zeros(len(places), dtype=bool)
    for a, b in whole.frames_of(whole.observed):
        seen[a:b] = True
    expected = np.interp(places, times, np.arange(1.0, len(times) + 1))
    away = np.abs(whole.traces[0] - expected)[seen & (places <= times[-1])]
    assert (away > 0.01).sum() <= 1 / usual  # the frame before a pause lasts

    with warnings.catch_warnings():  # what is left may be of one rate
        warnings.filterwarnings("ignore", "NWBFile: its frame rate varies", RecordingWarning)
        cut = read(recording(times, [(begin, end)]))
    touched = (times < end - 1e-3) & (np.append(times[1:], np.inf) > begin + 1e-3)
    assert set(np.flatnonzero(~touched)) >= set(frames_in(cut)) >= set(np.flatnonzero(~touched)[1:-1])
    assert not ((cut.observed[:, 1] > begin + usual) & (cut.observed[:, 0] < end - usual)).any()


@pytest.mark.parametrize("times", CHANGING.values(), ids=CHANGING)
@pytest.mark.filterwarnings("ignore:NWBFile. its frame rate varies")
def test_observed_cuts_by_true_times(times):
    begin, end = np.percentile(times, [20, 70])
    found = read(recording(times), observed=[[begin, end]])
    ends = np.append(times[1:], np.inf)
    assert np.array_equal(frames_in(found), np.flatnonzero((times >= begin - 1e-6) & (ends <= end + 1e-3)))
    period = 1 / found.sampling_frequency
    assert begin - 1e-6 <= found.observed[0, 0]
    assert found.observed[-1, 1] <= end + period


def test_a_part_of_one_rate_is_not_interpolated(recwarn):
    times = step(10, 8)
    first, second = (read(recording(times), observed=[part]) for part in ([0, 50], [50, 112.5]))
    assert not recwarn.list
    assert first.sampling_frequency == pytest.approx(10)
    assert second.sampling_frequency == pytest.approx(8)
    assert np.array_equal(first.traces[0], np.arange(1, 501))
    assert np.array_equal(second.traces[0], np.arange(501, 1001))
    assert np.allclose(second.observed, [[50, 112.5]])


@pytest.mark.parametrize("jitter", [0.01, 0.1, 0.2])
def test_jitter_changes_no_value(jitter, recwarn):
    times = np.arange(3000) / 10 + np.random.default_rng(0).uniform(-jitter, jitter, 3000) / 10
    found = read(recording(times))
    assert not recwarn.list
    assert np.array_equal(found.traces[0], np.arange(1, 3001))
    assert found.sampling_frequency == pytest.approx(10, rel=1e-3)
    cut = read(recording(times, [(100.0, 120.0)]))
    kept = frames_in(cut)
    ends = np.append(times[1:], np.inf)
    assert np.array_equal(kept, np.flatnonzero((times > 120 - 1e-4) | (ends < 100 + 1e-4)))


def test_intervals_that_add_up_are_followed():
    """Each interval varies by itself, so that the frames walk away from any grid."""
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.normal(0.1, 0.01, 20_000))
    rate = (len(times) - 1) / np.ptp(times)
    assert np.abs((times - times[0]) * rate - np.arange(len(times))).max() > 3
    with pytest.warns(RecordingWarning, match="its frame rate varies"):
        found = read(recording(times), observed=[[500.0, 1000.0]])
    kept = frames_in(found)
    assert times[kept[0]] == pytest.approx(500, abs=0.2)
    assert times[kept[-1]] == pytest.approx(1000, abs=0.3)


def test_pauses_are_gaps_that_hold_no_frame(recwarn):
    times = np.arange(600) / 5 + np.repeat([0, 7.77, 60.0], 200)
    found = read(recording(times))
    assert not recwarn.list
    assert np.array_equal(frames_in(found), np.arange(600))
    assert np.allclose(found.observed, [[0, 40], [47.77, 87.77], [140, 180]], atol=0.1)
    cut = read(recording(times), observed=[[60, 150]])
    assert np.allclose(cut.observed, [[60, 87.8], [140, 150]], atol=0.21)


def test_sessions_of_one_day_are_read_together():
    times = np.arange(600) / 5 + np.repeat([0, 36_000.0], 300)
    found = read(recording(times))
    assert np.allclose(found.observed, [[0, 60], [36_060, 36_120]])
    assert np.array_equal(frames_in(found), np.arange(600))


def test_frames_beyond_a_pause_of_months_are_read_by_observed():
    times = np.arange(600) / 5 + np.repeat([0, 1e7], 300)
    with pytest.raises(InputError, match=r"mostly in pauses: correct its timestamps, or read a part .*\(observed=\)"):
        read(recording(times))
    second = read(recording(times), observed=[[1e7, 1e7 + 1000]])
    assert np.allclose(second.observed, [[1e7 + 60, 1e7 + 120]])
    assert second.start == pytest.approx(1e7 + 60)
    assert second.traces.shape == (3, 300)


@pytest.mark.parametrize(("first", "second"), [(10, 6.5), (6.5, 10), (10, 15), (30, 14)])
def test_a_step_of_rates_that_jitter_is_no_pause(first, second):
    rng = np.random.default_rng(2)
    times = np.cumsum(np.diff(step(first, second), prepend=0) * rng.uniform(0.85, 1.15, 1000))
    frames = timed_frames(times, "x")
    assert frames.border.nonzero()[0].tolist() == [0]
    times[700:] += 5 / second
    assert timed_frames(times, "x").border.nonzero()[0].tolist() == [0, 700]


@pytest.mark.parametrize("length", [2, 3, 5, 11, 30])
def test_pauses_between_short_bursts_are_pauses(length):
    times = np.concatenate([burst + np.arange(length) / 10 for burst in 5.0 * np.arange(20)])
    frames = timed_frames(times, "x")
    assert frames.border.nonzero()[0].tolist() == list(range(0, 20 * length, length))
    assert np.allclose(frames.end - frames.begin, 0.1)


def test_bursts_of_frames_are_apart():
    times = np.concatenate([60.0 * trial + np.arange(50) / 10 for trial in range(3)])
    found = grid_of(timed_frames(times[:100], "x"), "x")
    assert found.border.nonzero()[0].tolist() == [0, 600]
    assert (found.column >= 0).sum() == 100


@pytest.mark.parametrize(
    ("times", "says"),
    [
        (np.arange(100) * np.nan, "frame 1, at nan s, does not follow frame 0"),
        (np.append(np.arange(99.0), np.inf), "frame 99, at inf s, does not follow"),
        (np.arange(100.0)[::-1], "frame 1, at 98.0 s, does not follow frame 0"),
        (np.append(np.arange(99.0), 3.0), "frame 99, at 3.0 s, does not follow"),
        (np.arange(100) * 200.0, "frames 200 s apart: times are in seconds"),
        (np.arange(100) * 1e8 + 1.7e18, "frames 1e\\+08 s apart"),
        (np.arange(100) * 1e-6, "frames 1e-06 s apart"),
        (1e16 + np.arange(0.0, 200.0, 2.0), "times up to 1e\\+16 s are too large to distinguish frames"),
        (np.append(np.arange(99.0), 1e9), "mostly in pauses"),
        (np.append(np.arange(99.0), 2.0**64 - 1), "times up to 1.845e\\+19 s are too large"),
        (np.append(np.arange(99.0), 1e300), "times up to 1e\\+300 s are too large"),
        (np.array([-1e308, 1e308]), "does not follow"),
        (np.array([5e-324, 1e-323]), "frames .* s apart"),
        (np.array(["a", "b"]), "not a list of seconds"),
        (np.zeros((3, 3)), "not a list of seconds"),
        (np.array([0.0]), r"1 frame\(s\): too few"),
    ],
)
def test_times_that_cannot_be_are_refused_in_one_line(times, says):
    with pytest.raises(InputError, match=f"^x: .*{says}"):
        grid_of(timed_frames(times, "x"), "x")


@pytest.mark.parametrize(
    ("rate", "start", "says"),
    [
        (0.0, 0.0, "a rate of 0.0 frames"),
        (np.nan, 0.0, "a rate of nan"),
        (-3.0, 0.0, "a rate of -3"),
        (1e-300, 0.0, "s apart"),
        (1e300, 0.0, "s apart"),
        (10.0, np.nan, "begins at nan s"),
        (10.0, 1e17, "too large"),
    ],
)
def test_rates_that_cannot_be_are_refused_in_one_line(rate, start, says):
    with pytest.raises(InputError, match=f"^x: .*{says}"):
        regular_frames(100, rate, start, name="x")


def test_a_file_of_a_changing_rate_is_embedded_by_its_own_times(tmp_path, population):
    """Interpolated dF/F is that of the same neurons at one rate."""
    fluorescence = simulate_fluorescence(population, 20.0)
    times = np.concatenate([np.arange(0, 30, 0.1), np.arange(30, 60, 0.15)])
    nwbfile = ophys_file((population.n_units,))
    regular = np.arange(fluorescence.shape[1]) / 20
    values = np.stack([np.interp(times, regular, row) for row in fluorescence])
    add_series(nwbfile, values, container="Fluorescence", timestamps=times)
    path = write_nwb_file(tmp_path / "a.nwb", nwbfile)
    with pytest.warns(RecordingWarning, match=r"a\.nwb: its frame rate varies \(6.667 to 10 per second\)"):
        found = read_population(path)
    expected = read_population(fluorescence[:, ::2], sampling_frequency=10.0, traces="fluorescence")
    assert found.metadata["prepared"].endswith("percentile, interpolated to 10 frames per second")
    count = min(found.traces.shape[1], expected.traces.shape[1])
    same = [np.corrcoef(a[:count], b[:count])[0, 1] for a, b in zip(found.traces, expected.traces, strict=True)]
    assert np.median(same) > 0.8
