"""Whatever the clock of a recording, its windows begin with it and cross no pause."""

import h5py  # noqa: F401
import numpy as np
import probeinterface
import pytest
import spikeinterface.core as si
from nwb_files import add_units, new_nwb
from spikeinterface.generation import NoiseGeneratorRecording

import spikeinterface_nuclr  # noqa: F401 (registers the extensions)
from spikeinterface_nuclr import InputError, Population, embed, read_population
from spikeinterface_nuclr.errors import RecordingWarning

FS = 1_000.0
SAMPLES = {unit: np.arange(37 + 11 * k, 60_000, 130 + 17 * k) for k, unit in enumerate("abcd")}


def recording(*durations, sampling_frequency=FS):
    made = NoiseGeneratorRecording(2, sampling_frequency=sampling_frequency, durations=list(durations), seed=0)
    probe = probeinterface.generate_linear_probe(2)
    probe.set_device_channel_indices([0, 1])
    made.set_probe(probe)
    return made


def sorting(recording=None, segments=1, sampling_frequency=FS):
    made = si.NumpySorting.from_unit_dict([SAMPLES] * segments, sampling_frequency)
    if recording is not None:
        made.register_recording(recording)
    return made


def analyzer(recording, segments=1):
    return si.create_sorting_analyzer(
        sorting(segments=segments), recording, sparse=False, main_channel_indices=np.zeros(4, dtype=int)
    )


SOURCES = [sorting, analyzer]


def times(unit, start=0.0):
    return SAMPLES[unit] / FS + start


# --- SpikeInterface -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0.0, 1000.0, -20.5, 1.7e9])
@pytest.mark.parametrize("make", SOURCES)
def test_a_recordings_start_is_that_of_its_clock(make, start):
    rec = recording(60.0)
    rec.shift_times(start)
    found = read_population(make(rec))
    assert found.observed.tolist() == [[start, start + 60.0]]
    assert np.array_equal(found.spike_times[0], times("a", start))
    spikeinterface = sorting(rec).get_unit_spike_train("b", return_times=True)
    assert np.array_equal(found.spike_times[1], spikeinterface)


@pytest.mark.parametrize("make", SOURCES)
def test_observed_counts_on_the_recordings_clock(make):
    rec = recording(60.0)
    rec.shift_times(1000.0)
    with pytest.warns(RecordingWarning, match="spikes lie outside the observed time"):
        found = read_population(make(rec), observed=[[1010.0, 1020.0], [1030.0, 1040.0]])
    assert found.observed.tolist() == [[1010.0, 1020.0], [1030.0, 1040.0]]
    assert found.num_spikes[0] == sum(1010 <= t <= 1020 or 1030 <= t <= 1040 for t in times("a", 1000.0))


def test_times_of_a_sorting_may_be_shifted_by_themselves():
    alone = sorting()
    alone.shift_times(500.0)
    assert read_population(alone).observed.tolist() == [[500.0, 560.0]]
    rec = recording(60.0)
    rec.shift_times(1000.0)
    registered = sorting(rec)
    registered.shift_times(3.5)
    assert read_population(registered).observed.tolist() == [[1003.5, 1063.5]]


def paused(*at, by=100.0, seconds=60.0, start=0.0):
    """A recording with pauses at these seconds of recorded time."""
    rec = recording(seconds)
    vector = start + np.arange(rec.get_num_samples()) / FS
    for second in at:
        vector[int(second * FS) :] += by
    rec.set_times(vector)
    return rec


@pytest.mark.parametrize("make", SOURCES)
@pytest.mark.parametrize(
    ("at", "by"), [((25.0,), 1000.0), ((25.0,), 0.05), ((10.0, 40.0), 7.0), ((0.001, 59.999), 2.0)]
)
def test_a_pause_is_a_border(make, at, by):
    rec = paused(*at, by=by, start=5.0)
    found = read_population(make(rec))
    limits = np.array([0.0, *(x for x in at for _ in range(2)), 60.0]).reshape(-1, 2)
    expected = 5.0 + limits + by * np.arange(len(limits))[:, None]
    assert np.allclose(found.observed, expected, atol=1e-9)
    assert np.array_equal(found.spike_times[2], sorting(rec).get_unit_spike_train("c", return_times=True))


def test_blocks_of_a_long_time_vector_join(monkeypatch):
    rec = paused(10.0, 40.0, by=7.0)
    whole = read_population(sorting(rec))
    for block in (7_001, 10_000, 40_001):
        monkeypatch.setattr("spikeinterface_nuclr.io.clocks._BLOCK", block)
        pieces = read_population(sorting(rec))
        assert pieces.observed.tolist() == whole.observed.tolist()
        assert pieces.fingerprint() == whole.fingerprint()


def test_jitter_and_drift_are_no_pauses():
    rec = recording(60.0)
    steps = np.random.default_rng(0).uniform(0.8, 1.3, rec.get_num_samples()) / FS
    rec.set_times(np.cumsum(steps) + 3.0)
    found = read_population(sorting(rec))
    assert len(found.observed) == 1
    assert np.array_equal(found.spike_times[0], sorting(rec).get_unit_spike_train("a", return_times=True))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda t: np.concatenate([t[:30_000], t[:30_000]]), "time of sample 30,000 of its recording does not follow"),
        (lambda t: np.where(np.arange(len(t)) == 17, np.nan, t), "time of sample 17 of its recording does not follow"),
        (lambda t: t * 1000, "samples of its recording are 1 s apart, not 0.001 s as at 1000 Hz"),
        (lambda t: t * 0, "samples of its recording are 1.67e-08 s apart"),
        (lambda t: t * 1.2, "samples of its recording are 0.0012 s apart"),
    ],
    ids=["back", "NaN", "milliseconds", "constant", "another rate"],
)
def test_a_time_vector_that_is_none_is_refused(spoil, says):
    rec = recording(60.0)
    rec.set_times(spoil(np.arange(60_000) / FS))
    with pytest.raises(InputError, match=says):
        read_population(sorting(rec))


def test_rounded_times_keep_their_rate():
    """Times to the millisecond, and single-precision times: successive samples share a time."""
    samples = np.arange(300_000)
    for times in (np.round(samples / 30_000, 3), (5_000 + samples / 30_000).astype(np.float32)):
        rec = NoiseGeneratorRecording(num_channels=2, sampling_frequency=30_000.0, durations=[10.0], seed=0)
        rec.set_times(times)
        made = si.NumpySorting.from_unit_dict([{"a": samples[::900], "b": samples[400::900]}], 30_000.0)
        made.register_recording(rec)
        found = read_population(made)
        assert len(found.observed) == 1
        assert np.isclose(np.ptp(found.observed), 10.0, atol=0.002)


def test_a_pause_before_the_last_sample(monkeypatch):
    """A block of one sample, whose only step is the pause."""
    monkeypatch.setattr("spikeinterface_nuclr.io.clocks._BLOCK", 59_999)
    found = read_population(sorting(paused(59.999, by=7.0)))
    assert np.allclose(found.observed, [[0.0, 59.999], [66.999, 67.0]])


def test_windows_cross_no_pause(checkpoint):
    rec = paused(30.5, by=1000.0)
    found = embed(read_population(sorting(rec)), checkpoint, progress=False)
    apart = [Population(list("abcd"), [t[(t >= a) & (t < b)] for t in map(times, "abcd")], start=a, stop=b)
             for a, b in ((0.0, 30.5), (30.5, 60.0))]  # fmt: skip
    counts = sum(embed(part, checkpoint, progress=False).num_windows for part in apart)
    assert found.num_windows.tolist() == counts.tolist()


@pytest.mark.parametrize("make", SOURCES)
def test_segments_keep_their_times_where_they_can(make):
    rec = recording(60.0, 60.0)
    rec.shift_times(100.0, segment_index=0)
    rec.shift_times(400.0, segment_index=1)
    found = read_population(make(rec, segments=2))
    assert found.observed.tolist() == [[100.0, 160.0], [400.0, 460.0]]
    assert np.array_equal(found.spike_times[0], np.concatenate([times("a", 100.0), times("a", 400.0)]))
    rec.shift_times(-300.0, segment_index=1)
    assert read_population(make(rec, segments=2)).observed.tolist() == [[100.0, 160.0], [161.0, 221.0]]
    rec.shift_times(60.0, segment_index=1)
    assert read_population(make(rec, segments=2)).observed.tolist() == [[100.0, 160.0], [160.0, 220.0]]


def test_segments_with_pauses():
    rec = recording(60.0, 60.0)
    vector = np.arange(60_000) / FS
    rec.set_times(vector + 50.0 * (vector >= 20), segment_index=0)
    rec.set_times(vector + 50.0 * (vector >= 30), segment_index=1)
    found = read_population(sorting(rec, segments=2))
    assert np.allclose(found.observed, [[0, 20], [70, 110], [111, 141], [191, 221]])


@pytest.mark.parametrize("saved", ["binary_folder", "zarr"])
def test_an_analyzer_is_up_to_date_with_and_without_its_recording(saved, tmp_path):
    """SpikeInterface saves no clock in an analyzer."""
    made = analyzer(paused(25.0, start=1000.0))
    made.compute("nuclr_embedding", progress_bar=False)
    folder = tmp_path / ("a.zarr" if saved == "zarr" else "a")
    made.save_as(folder=folder, format=saved)
    opened = si.load_sorting_analyzer(folder)
    for one in (made, opened, opened.select_units(["a", "b"])):
        assert one.get_extension("nuclr_embedding").stale == ""
    assert read_population(folder).observed.tolist() == [[0.0, 60.0]]


# --- sources that do not say when they begin --------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.0, 300.0, 650.0, -40.0, 1.7e9])
def test_a_file_begins_with_the_second_of_its_first_spike(population, checkpoint, shift):
    whole = np.round(np.array([t[0] for t in population.spike_times]).min())
    shifted = [np.round((t + shift) * 4096) / 4096 for t in population.spike_times]
    at_zero = [t - shift for t in shifted]
    found, expected = (read_population(add_units(new_nwb(), trains)) for trains in (shifted, at_zero))
    assert found.start == np.floor(whole) + shift
    assert found.stop - found.start == expected.stop - expected.start
    a, b = (embed(one, checkpoint, precision="float32", progress=False) for one in (found, expected))
    assert np.array_equal(a.embedding, b.embedding)
    assert Population(["a", "b"], [[3.5 + shift], [5.0 + shift]]).start == 3.0 + shift


def test_the_first_sample_is_known_of_a_sorting():
    samples = {unit: train[train > 30_000] for unit, train in SAMPLES.items()}
    found = read_population(si.NumpySorting.from_unit_dict([samples], FS))
    assert found.observed.tolist() == [[0.0, 60.0]]
