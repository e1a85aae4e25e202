"""Every kind of source gives the same Population of the same spikes."""

import json
import os
import pickle

import neo
import numpy as np
import probeinterface
import pytest
import quantities as pq
import spikeinterface.core as si
from nwb_files import add_units, new_nwb, write_nwb_file
from spikeinterface.generation import NoiseGeneratorRecording, generate_ground_truth_recording

from spikeinterface_nuclr import InputError, Population, embed, read_population, simulate_population
from spikeinterface_nuclr.errors import RecordingWarning
from spikeinterface_nuclr.io.manifest import list_sources
from spikeinterface_nuclr.simulation import analyzer_of

FS = 30_000.0


@pytest.fixture(scope="module")
def trains(population):
    """Spike times on the sampling grid, so that every source can hold them exactly."""
    return {u: np.round(t * FS) / FS for u, t in zip(population.unit_ids, population.spike_times, strict=True)}


def same_spikes(found, trains, tolerance=0.0):
    for times, expected in zip(found.spike_times, trains, strict=True):
        assert len(times) == len(expected)
        assert np.abs(times - expected).max(initial=0) <= tolerance


# --- SpikeInterface ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def analyzer(population):
    return analyzer_of(population)


@pytest.mark.parametrize("form", ["memory", "binary_folder", "zarr", "folder path", "zarr path"])
def test_an_analyzer_in_every_form(analyzer, population, trains, form, tmp_path):
    source = analyzer
    if form != "memory":
        name = "a.zarr" if "zarr" in form else "a"
        saved = "zarr" if "zarr" in form else "binary_folder"
        source = analyzer.save_as(folder=tmp_path / name, format=saved)
        if "path" in form:
            source = tmp_path / name
    found = read_population(source)
    assert found.unit_ids.tolist() == population.unit_ids.tolist()
    same_spikes(found, trains.values(), 1e-12)
    assert (found.start, found.stop) == (0.0, 60.0)
    assert found.properties["cell_type"].tolist() == population.properties["cell_type"].tolist()


def test_an_analyzers_recording_is_never_unpickled(analyzer, tmp_path):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    analyzer.save_as(folder=tmp_path / "a", format="binary_folder")
    (tmp_path / "a" / "recording.pickle").write_bytes(pickle.dumps(Attack()))
    assert read_population(tmp_path / "a").n_units == 20
    assert not (tmp_path / "executed").exists()


def two_segments(ids):
    samples = [{u: np.arange(5, 400_000, 1000 * (i + 1)) for i, u in enumerate(ids)} for _ in range(2)]
    return si.NumpySorting.from_unit_dict(samples, FS)


@pytest.mark.parametrize("ids", [["a", "b"], [7, 3]])
def test_segments_become_separate_intervals(ids):
    sorting = two_segments(ids)
    found = read_population(sorting)
    assert found.unit_ids.tolist() == ids
    # The last spike falls into second 14 of each segment; then one second of nothing.
    assert found.observed.tolist() == [[0.0, 14.0], [15.0, 29.0]]
    assert found.spike_times[0][400] == pytest.approx(15.0 + 5 / FS)
    recording = NoiseGeneratorRecording(num_channels=2, sampling_frequency=FS, durations=[13.5, 13.6], seed=0)
    sorting.register_recording(recording)
    assert read_population(sorting).observed.tolist() == [[0.0, 13.5], [15.0, 28.6]]


def test_a_sorting_folder(tmp_path):
    two_segments(["a", "b"]).save(folder=tmp_path / "s")
    two_segments(["a", "b"]).save(folder=tmp_path / "z.zarr", format="zarr")
    for folder in ("s", "z.zarr"):
        assert read_population(tmp_path / folder).num_spikes.tolist() == [800, 400]


def test_a_folder_that_names_another_class_runs_nothing(tmp_path):
    two_segments(["a", "b"]).save(folder=tmp_path / "s")
    written = json.loads((tmp_path / "s" / "si_folder.json").read_text())
    written["class"], written["kwargs"] = "subprocess.Popen", {"args": ["touch", str(tmp_path / "executed")]}
    (tmp_path / "s" / "si_folder.json").write_text(json.dumps(written))
    with pytest.raises(InputError, match="accepted is"):
        read_population(tmp_path / "s")
    assert not (tmp_path / "executed").exists()


def test_epoch_times_of_a_file_start_with_its_spikes():
    found = read_population(add_units(new_nwb(), [1.7e9 + np.arange(0.5, 30)]))
    assert (found.start, found.stop) == (1.7e9, 1.7e9 + 30)


def two_probe_recording():
    group = probeinterface.ProbeGroup()
    for i in range(2):
        probe = probeinterface.generate_linear_probe(num_elec=4)
        probe.move([1000.0 * i, 0.0])
        probe.set_device_channel_indices(np.arange(4) + 4 * i)
        group.add_probe(probe)
    recording = NoiseGeneratorRecording(num_channels=8, sampling_frequency=FS, durations=[20.0], seed=0)
    recording.set_probegroup(group, group_mode="by_probe")
    return recording


def test_probes_come_from_the_analyzers_channels():
    sorting = si.NumpySorting.from_unit_dict([{u: np.arange(100, 500_000, 900) for u in "abcd"}], FS)
    analyzer = si.create_sorting_analyzer(
        sorting, two_probe_recording(), sparse=False, main_channel_indices=np.array([0, 7, 2, 5])
    )
    found = read_population(analyzer)
    assert len(np.unique(found.group)) == 2
    assert found.group[0] == found.group[2] != found.group[1] == found.group[3]
    assert set(read_population(analyzer, group_by=None).group) == {""}
    analyzer.set_sorting_property("shank", np.array(["x", "x", "y", "y"]))
    assert read_population(analyzer, group_by="shank").group.tolist() == ["x", "x", "y", "y"]
    with pytest.raises(InputError, match=r"no unit property 'probe' to group by; it has: .*shank"):
        read_population(analyzer, group_by="probe")


def test_probes_come_from_templates_where_nothing_else_tells():
    recording, sorting = generate_ground_truth_recording(durations=[10.0], num_channels=8, num_units=4, seed=0)
    recording.set_property("group", np.repeat([0, 1], 4))
    analyzer = si.create_sorting_analyzer(sorting, recording, sparse=False)
    expected = read_population(analyzer).group.tolist()
    analyzer.sorting.delete_property("main_channel_id")
    with pytest.raises(InputError, match="2 groups"):
        read_population(analyzer)
    analyzer.compute(["random_spikes", "templates"])
    assert read_population(analyzer).group.tolist() == expected
    everywhere = si.ChannelSparsity(np.ones((4, 8), dtype=bool), analyzer.unit_ids, analyzer.channel_ids)
    dense = si.create_sorting_analyzer(sorting, recording, sparsity=everywhere)
    dense.sorting.delete_property("main_channel_id")
    with pytest.raises(InputError, match="2 groups"):
        read_population(dense)


def test_text_kept_as_objects_is_text():
    sorting = two_segments(["a", "b"])
    sorting.set_property("quality", np.array(["good", "mua"], dtype=object))
    assert read_population(sorting, group_by="quality").group.tolist() == ["good", "mua"]


def test_probes_that_cannot_be_told_are_asked_for():
    sorting = si.NumpySorting.from_unit_dict([{u: np.arange(100, 500_000, 900) for u in "ab"}], FS)
    sorting.register_recording(two_probe_recording())
    with pytest.raises(InputError, match="2 groups, and which unit belongs to which is unknown"):
        read_population(sorting)
    assert read_population(sorting, group_by=None).n_units == 2
    sorting.set_property("group", np.array([1, 0]))
    assert read_population(sorting).group.tolist() == ["1", "0"]


# --- NWB --------------------------------------------------------------------------------------------------------------


def test_nwb_object_and_path(population, trains, tmp_path):
    columns = dict(unit_name=population.unit_ids, brain_area=population.properties["brain_area"])
    nwbfile = add_units(new_nwb(), trains.values(), **columns)
    for source in (nwbfile, write_nwb_file(tmp_path / "s.nwb", nwbfile), str(tmp_path / "s.nwb")):
        found = read_population(source)
        assert found.unit_ids.tolist() == population.unit_ids.tolist()
        same_spikes(found, trains.values())
        assert found.properties["brain_area"].tolist() == population.properties["brain_area"].tolist()
        assert found.metadata["subject"] == "mouse-1"
        assert (found.start, found.stop) == (0.0, 60.0)


def test_nwb_in_zarr(trains, tmp_path):
    hdmf_zarr = pytest.importorskip("hdmf_zarr")
    with hdmf_zarr.NWBZarrIO(str(tmp_path / "s.nwb.zarr"), "w") as io:
        io.write(add_units(new_nwb(), trains.values(), unit_name=list(trains)))
    found = read_population(tmp_path / "s.nwb.zarr")
    assert found.unit_ids.tolist() == list(trains)
    same_spikes(found, trains.values())


def test_nwb_ids_where_names_are_missing_or_not_unique():
    assert read_population(add_units(new_nwb(), [[1.0], [2.0]])).unit_ids.tolist() == [0, 1]
    same_name = add_units(new_nwb(), [[1.0], [2.0]], unit_name=["a", "a"])
    assert read_population(same_name).unit_ids.tolist() == [0, 1]


def test_nwb_observed_intervals_are_honoured():
    nwbfile = new_nwb()
    nwbfile.add_unit(spike_times=[1.0, 30.0], obs_intervals=[[0.0, 10.0], [25.0, 40.0]])
    nwbfile.add_unit(spike_times=[2.0, 12.0], obs_intervals=[[0.0, 20.0]])
    nwbfile.add_unit(spike_times=[3.0, 22.0], obs_intervals=[[0.0, 20.0]])
    with pytest.warns(RecordingWarning, match="1 of 6 spikes lie outside the observed time"):
        found = read_population(nwbfile)
    assert found.observed_of(0).tolist() == [[0.0, 10.0], [25.0, 40.0]]
    assert found.observed_of(1).tolist() == [[0.0, 20.0]]
    assert found.spike_times[2].tolist() == [3.0]


def test_nwb_units_without_intervals_were_observed_with_the_others():
    trials = np.arange(40)[:, None] * 3.0 + np.array([[0.0, 0.4]])
    nwbfile = new_nwb()
    nwbfile.add_unit(spike_times=trials[:, 0] + 0.1, obs_intervals=trials)
    nwbfile.add_unit(spike_times=[0.2], obs_intervals=np.empty((0, 2)))
    found = read_population(nwbfile)
    assert np.array_equal(found.observed_of(0), trials)
    assert np.array_equal(found.observed_of(1), trials)


def test_intervals_given_by_the_user_replace_those_of_the_source():
    nwbfile = add_units(new_nwb(), [[1.0, 15.0]])
    with pytest.warns(RecordingWarning, match="1 of 2 spikes"):
        assert read_population(nwbfile, observed=[[10.0, 30.0]]).observed.tolist() == [[10.0, 30.0]]
    with pytest.raises(InputError, match="observed must be intervals"):
        read_population(nwbfile, observed=[0, 10])


@pytest.mark.parametrize("bad", [[30.0, 0.0], [0.0, np.nan]])
def test_impossible_intervals_of_a_file_are_named(bad):
    nwbfile = new_nwb()
    nwbfile.add_unit(spike_times=[1.0], obs_intervals=[bad])
    with pytest.raises(InputError, match=r"obs_intervals of row 0: .* is not an interval"):
        read_population(nwbfile)
    nwbfile = add_units(new_nwb(), [[1.0]])
    nwbfile.add_invalid_time_interval(start_time=bad[0], stop_time=bad[1])
    with pytest.raises(InputError, match=r"invalid_times: .* is not an interval"):
        read_population(nwbfile)


def test_options_for_phy_are_refused_elsewhere():
    with pytest.raises(InputError, match="sampling_frequency does not apply to this kind of source"):
        read_population(add_units(new_nwb(), [[1.0]]), sampling_frequency=30_000.0)


def test_nwb_invalid_times_are_cut_out_silently(recwarn):
    nwbfile = add_units(new_nwb(), [[1.0, 15.0, 40.0]])
    nwbfile.add_invalid_time_interval(start_time=10.0, stop_time=20.0)
    found = read_population(nwbfile)
    assert found.observed.tolist() == [[1.0, 10.0], [20.0, 40.0]]
    assert found.spike_times[0].tolist() == [1.0, 40.0]
    assert not [w for w in recwarn if w.category is RecordingWarning]


@pytest.mark.parametrize("how", ["electrode_group", "electrodes", "group column", "quality column"])
def test_nwb_probes(how):
    nwbfile = new_nwb()
    device = nwbfile.create_device("probe")
    groups = [nwbfile.create_electrode_group(f"g{i}", "d", "CA1", device) for i in range(2)]
    for group in groups:
        for _ in range(2):
            nwbfile.add_electrode(group=group, location="CA1" if group.name == "g0" else "DG")
    if "column" in how:
        nwbfile.add_unit_column("group", "a column called group")
    for i in (0, 1, 0):
        further = {
            "electrode_group": dict(electrode_group=groups[i]),
            "electrodes": dict(electrodes=[2 * i, 2 * i + 1]),
            "group column": dict(group=f"g{i}"),
            "quality column": dict(group="good", electrode_group=groups[i]),
        }[how]
        nwbfile.add_unit(spike_times=[1.0], **further)
    found = read_population(nwbfile)
    assert found.group.tolist() == ["g0", "g1", "g0"]
    if how == "electrodes":
        assert found.properties["brain_area"].tolist() == ["CA1", "DG", "CA1"]


def test_nwb_empty_trains_are_units_without_spikes():
    found = read_population(add_units(new_nwb(), [[1.0], [], [2.5]]))
    assert found.num_spikes.tolist() == [1, 0, 1]
    assert found.stop == 3.0


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: new_nwb(), "units table is missing or empty"),
        (lambda: add_units(new_nwb(), [[]]), "no unit has a spike"),
        (lambda: add_units(new_nwb(), [[2.0, 1.0]]), "unit 0: spike times are not sorted"),
        (lambda: add_units(new_nwb(), [[1.0, np.nan]]), "unit 0: 1 spike times are NaN"),
    ],
)
def test_nwb_that_cannot_be_used(make, says):
    with pytest.raises(InputError, match=says):
        read_population(make())


def test_nwb_times_before_zero_are_read(population):
    found = read_population(add_units(new_nwb(), [[-3.5, 1.0]]))
    assert (found.start, found.stop) == (-4.0, 1.0)


# --- phy, neo, and what is none of these ------------------------------------------------------------------------------


@pytest.fixture
def phy(tmp_path, trains):
    folder = tmp_path / "phy"
    folder.mkdir()
    samples = np.concatenate([np.round(t * FS) for t in trains.values()]).astype(np.uint64)
    clusters = np.repeat(np.arange(len(trains)) * 2, [len(t) for t in trains.values()]).astype(np.int32)
    order = np.argsort(samples, kind="stable")
    np.save(folder / "spike_times.npy", samples[order][:, None])
    np.save(folder / "spike_clusters.npy", clusters[order])
    (folder / "params.py").write_text("dat_path = 'recording.dat'\nsample_rate = 30000.0\nhp_filtered = False\n")
    rows = "".join(f"{c}\t{'noise' if c == 4 else 'good'}\n" for c in range(0, 40, 2))
    (folder / "cluster_group.tsv").write_text("cluster_id\tgroup\n" + rows)
    (folder / "cluster_depth.tsv").write_text("cluster_id\tdepth\n0\t12.5\n2\t30\n")
    return folder


def test_a_phy_folder(phy, trains):
    found = read_population(phy)
    assert found.unit_ids.tolist() == [c for c in range(0, 40, 2) if c != 4]
    same_spikes(found, [t for i, t in enumerate(trains.values()) if i != 2])
    assert found.properties["depth"][:2].tolist() == [12.5, 30.0]
    assert set(found.properties["quality"]) == {"good"}
    assert set(found.group) == {""}
    assert read_population(phy, keep_rejected=True).n_units == 20


def test_a_phy_folder_without_params_needs_a_sampling_frequency(phy):
    (phy / "params.py").unlink()
    with pytest.raises(InputError, match=r"it has no params\.py: give sampling_frequency="):
        read_population(phy)
    assert read_population(phy, sampling_frequency=FS).n_units == 19
    (phy / "cluster_group.tsv").unlink()
    assert read_population(phy, sampling_frequency=FS).n_units == 20


def test_params_py_is_read_and_not_run(phy, tmp_path):
    (phy / "params.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'executed')!r})\nsample_rate = 30000\n")
    assert read_population(phy).n_units == 19
    assert not (tmp_path / "executed").exists()
    (phy / "params.py").write_text("dat_path = 'C:\\users'\nsample_rate: float = 30000.  # Hz\n")
    assert read_population(phy).n_units == 19


@pytest.mark.parametrize("rate", ["compute()", "-5", "0", "1e400", "None"])
def test_an_impossible_sample_rate_is_named(phy, rate):
    (phy / "params.py").write_text(f"sample_rate = {rate}\n")
    with pytest.raises(InputError, match=r"sample_rate|a sampling frequency of"):
        read_population(phy)


def test_cluster_tables_as_people_save_them(phy):
    table = (phy / "cluster_group.tsv").read_text()
    (phy / "cluster_group.tsv").write_text(table, encoding="utf-8-sig")
    assert read_population(phy).n_units == 19
    (phy / "cluster_group.tsv").write_text(table.replace("\t", ",").replace("4,noise", "4.0,noise"))
    assert read_population(phy).n_units == 19
    (phy / "cluster_group.tsv").write_text(table.replace("cluster_id", "which"))
    with pytest.warns(RecordingWarning, match=r"cluster_group\.tsv: no row names a cluster_id"):
        assert read_population(phy).n_units == 20


def test_a_damaged_phy_folder_is_named(phy):
    clusters = np.load(phy / "spike_clusters.npy")
    np.save(phy / "spike_clusters.npy", np.zeros(3, dtype=int))
    with pytest.raises(InputError, match="spike times for 3 cluster labels"):
        read_population(phy)
    np.save(phy / "spike_clusters.npy", np.where(clusters == 4, np.nan, clusters))
    with pytest.raises(InputError, match=r"spike_clusters\.npy: does not contain plain numbers"):
        read_population(phy)
    (phy / "spike_times.npy").write_bytes(b"no numbers")
    with pytest.raises(InputError, match=r"spike_times\.npy: not a .*\.npy file"):
        read_population(phy)


def neo_segment(trains, start=0.0, stop=60.0):
    segment = neo.Segment()
    for name, times in trains.items():
        train = neo.SpikeTrain(
            (times + start) * 1000 * pq.ms, t_start=start * pq.s, t_stop=stop * pq.s, name=name, area="CA1"
        )
        segment.spiketrains.append(train)
    return segment


def test_neo_in_every_form(trains):
    segment = neo_segment(trains)
    block = neo.Block()
    block.segments.append(segment)
    for source in (segment, block, list(segment.spiketrains), segment.spiketrains):
        found = read_population(source)
        assert found.unit_ids.tolist() == list(trains)
        same_spikes(found, trains.values(), 1e-9)
        assert found.observed.tolist() == [[0.0, 60.0]]
        assert set(found.properties["area"]) == {"CA1"}


def test_a_single_neo_train_is_no_array(trains):
    train = neo.SpikeTrain(next(iter(trains.values())) * pq.s, t_stop=60.0 * pq.s)
    assert read_population(train).n_units == 1


def test_neo_segments_keep_their_times_where_they_can():
    trains = {"a": np.array([1.0, 2.0]), "b": np.array([3.0])}
    block = neo.Block()
    block.segments.append(neo_segment(trains, 0.0, 10.0))
    block.segments.append(neo_segment(trains, 20.0, 30.0))
    assert read_population(block).observed.tolist() == [[0.0, 10.0], [20.0, 30.0]]
    block.segments[1] = neo_segment(trains, 10.0, 20.0)
    assert read_population(block).observed.tolist() == [[0.0, 10.0], [10.0, 20.0]]
    block.segments[1] = neo_segment(trains, 0.0, 10.0)
    found = read_population(block)
    assert found.observed.tolist() == [[0.0, 10.0], [11.0, 21.0]]
    assert found.spike_times[1].tolist() == [3.0, 14.0]


@pytest.mark.parametrize("what", ["text", "array", "missing", "empty folder", "folder", "truncated", "pickle", "None"])
def test_what_is_no_recording_gets_one_line(what, tmp_path, trains):
    source = tmp_path / "thing"
    if what == "text":
        source.write_text("spikes")
    elif what == "array":
        source = np.zeros(3)
    elif what == "empty folder":
        source.mkdir()
    elif what == "folder":
        source.mkdir()
        (source / "notes.txt").write_text("x")
    elif what == "truncated":
        whole = write_nwb_file(tmp_path / "whole.nwb", add_units(new_nwb(), trains.values())).read_bytes()
        source = tmp_path / "thing.nwb"
        source.write_bytes(whole[: len(whole) // 2])
    elif what == "pickle":
        source = tmp_path / "thing.pkl"
        source.write_bytes(b"\x80\x04.")
    elif what == "None":
        source = None
    with pytest.raises(InputError) as error:
        read_population(source)
    message = str(error.value)
    assert "\n" not in message
    assert "accepted is" in message or what in ("missing", "truncated", "pickle")
    assert "thing" in message or what in ("array", "None")


def test_a_population_is_returned_as_it_is(population):
    assert read_population(population) is population


def test_folders_of_nwb_files_are_expanded(tmp_path, trains, phy):
    (tmp_path / "deep").mkdir()
    for name in ("b.nwb", "deep/a.nwb"):
        write_nwb_file(tmp_path / name, add_units(new_nwb(), trains.values()))
    assert [one.source for one in list_sources([tmp_path])] == [tmp_path / "b.nwb", tmp_path / "deep" / "a.nwb"]
    assert [one.source for one in list_sources(phy)] == [phy]


# --- real recordings --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_real_nwb_equals_an_analyzer_of_its_spikes(recordings, checkpoint):
    population = read_population(recordings / "human" / "p27hmh" / "human-p27hmh_022310.nwb")
    assert isinstance(population, Population)
    analyzer = analyzer_of(population, sampling_frequency=16384.0)
    a, b = (embed(p, checkpoint, precision="float32", progress=False) for p in (population, read_population(analyzer)))
    assert a.unit_ids.tolist() == b.unit_ids.tolist()
    assert np.array_equal(a.num_windows, b.num_windows)
    assert np.array_equal(a.embedding, b.embedding)


@pytest.mark.slow
def test_real_trials_are_stitched(recordings, checkpoint):
    population = read_population(recordings / "steinmetz" / "cori" / "steinmetz-cori-01.nwb")
    found = embed(population, checkpoint, progress=False)
    assert found.provenance.stitched == "bins"
    silent = population.num_spikes == 0
    assert silent.any()
    assert np.isnan(found.embedding[silent]).all()
    assert np.isfinite(found.embedding[found.num_windows > 0]).all()
    # 114 trials of 0.4 s hold four windows of 10 s.
    assert found.num_windows.max() == 4


@pytest.mark.slow
def test_a_phy_folder_nobody_here_wrote(recordings):
    found = read_population(recordings / "formats" / "phy", sampling_frequency=30_000)
    labels = (recordings / "formats" / "phy" / "cluster_group.tsv").read_text()
    clusters = np.unique(np.load(recordings / "formats" / "phy" / "spike_clusters.npy"))
    noise = {int(line.split("\t")[0]) for line in labels.splitlines()[1:] if line.endswith("noise")}
    assert set(found.unit_ids) == set(clusters.tolist()) - noise


@pytest.mark.slow
def test_an_nwb_nobody_here_wrote(recordings):
    found = read_population(recordings / "formats" / "A8604-211122.nwb")
    assert found.unit_ids.tolist() == [6, 191, 206]
    assert "location" in found.properties


# --- units, and good periods


def test_units_are_read_by_their_ids_in_this_order():
    population = simulate_population(6, 20.0)
    found = read_population(population, units=["u004", "u001"])
    assert found.unit_ids.tolist() == ["u004", "u001"]
    np.testing.assert_array_equal(found.spike_times[1], population.spike_times[1])
    both = read_population(population, where="cell_type != 'none'", units=np.array(["u002"]))
    assert both.unit_ids.tolist() == ["u002"]
    for units, message in (("u001", "must be a list"), ([], "must be a list"), (["x"], "has no unit x"),
                           (["u001", "u001"], "names one twice")):  # fmt: skip
        with pytest.raises(InputError, match=message):
            read_population(population, units=units)


@pytest.mark.parametrize("signal", ["spikes", "traces"])
def test_parts_of_the_time_keep_their_gaps(signal):
    whole = simulate_population(4, 20.0)
    if signal == "traces":
        whole = Population(whole.unit_ids, traces=np.random.default_rng(0).random((4, 200)), sampling_frequency=10.0,
                           observed=[[0.0, 8.0], [12.0, 20.0]])  # fmt: skip
    else:
        whole = whole.within([[0.0, 8.0], [12.0, 20.0]])
    part = read_population(whole, within=[[5, 14]], units=["u002", "u001"])
    np.testing.assert_allclose(part.observed_of(0), [[5.0, 8.0], [12.0, 14.0]])
    assert (part.start, part.stop, part.n_units) == (5.0, 14.0, 2)
    for within, message in (([[30, 40]], "nothing was recorded within 30–40 s"), ([], "within no interval"),
                            ([[8.5, 11]], "nothing was recorded within 8.5–11 s: it lasts from 0 to 20 s"),
                            ([[0, 5], [3, 6]], "starts before"), ([[5, 1]], "negative length"), ("x", "must be"),
                            ([[0, np.nan]], "NaN")):  # fmt: skip
        with pytest.raises(InputError, match=message):
            read_population(whole, within=within)


@pytest.mark.parametrize("format", ["memory", "binary_folder", "zarr"])
@pytest.mark.parametrize("segments", [1, 2])
def test_units_are_observed_in_their_valid_periods(tmp_path, format, segments):
    from analyzers import FS, build_analyzer

    population = simulate_population(3, 400.0, seed=1)
    folder = {"memory": None, "binary_folder": tmp_path / "a", "zarr": tmp_path / "a.zarr"}[format]
    analyzer = build_analyzer(population, format=format, folder=folder, segments=segments)
    # Segment, first and last sample, unit; the third unit is never valid.
    periods = [(0, 0, 190 * FS, 0), (0, 5 * FS, 195 * FS, 1), *([(1, 0, 185 * FS, 1)] if segments == 2 else [])]
    analyzer.compute("valid_unit_periods", method="user_defined", user_defined_periods=np.array(periods, dtype=int))
    for source in (analyzer, *([folder] if folder else [])):
        with pytest.warns(RecordingWarning, match="lie outside the observed time"):
            found = read_population(source)
        second = [[5.0, 195.0], *([[201.0, 386.0]] if segments == 2 else [])]
        for unit, expected in enumerate(([[0.0, 190.0]], second, np.empty((0, 2)))):
            np.testing.assert_allclose(found.observed_of(unit), expected, atol=1e-3)
        whole = population.spike_times[0]
        assert found.num_spikes[0] == (np.floor(whole[whole < 200] * FS) < 190 * FS).sum()
        assert found.num_spikes[2] == 0
        with pytest.warns(RecordingWarning, match="lie outside the observed time"):
            assert read_population(source, observed=[[0.0, 50.0]]).num_spikes[2] > 0
    with pytest.warns(RecordingWarning):
        analyzer.compute("nuclr_embedding", progress_bar=False)
    assert np.isfinite(analyzer.get_extension("nuclr_embedding").get_data()).all(axis=1).tolist() == [True, True, False]
    extension = analyzer.get_extension("nuclr_embedding")
    assert extension.stale == ""
    analyzer.delete_extension("valid_unit_periods")
    assert "have changed since they were embedded" in extension.stale
