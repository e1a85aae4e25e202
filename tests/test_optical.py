"""Imaged neurons, from NWB files, suite2p folders and arrays."""

import collections
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hdmf.backends.hdf5 import H5DataIO
from nwb_files import add_units, write_nwb_file
from ophys_files import RATE, activity, add_series, ophys_file, raw

from spikeinterface_nuclr import InputError, RecordingWarning, read_population
from spikeinterface_nuclr.io.npy import Unreadable, read_settings
from spikeinterface_nuclr.traces import delta_f, scaled


def test_delta_f_of_an_nwb_file_is_divided_by_its_percentile(tmp_path):
    dff = activity()
    nwbfile = ophys_file(cell_type=np.resize(["PV", "SST"], 12))
    add_series(nwbfile, dff, starting_time=3.0)
    path = write_nwb_file(tmp_path / "a.nwb", nwbfile)
    for source in (nwbfile, path, str(path)):
        found = read_population(source)
        assert found.unit_ids.tolist() == list(range(100, 112))
        assert np.array_equal(found.traces, scaled(dff))
        assert found.sampling_frequency == RATE
        assert found.observed.tolist() == [[3.0, 123.0]]
        assert found.properties["cell_type"][:3].tolist() == ["PV", "SST", "PV"]
        assert len(np.unique(found.group)) == 1
        assert found.metadata["series"] == "ophys/DfOverF/RoiResponseSeries"
        assert found.metadata["subject"] == "mouse-1"
        assert "99th percentile" in found.metadata["prepared"]


def test_raw_fluorescence_becomes_delta_f():
    dff = activity()
    nwbfile = ophys_file()
    add_series(nwbfile, raw(dff), container="Fluorescence", conversion=2.0)
    found = read_population(nwbfile)
    assert np.allclose(found.traces, scaled(delta_f(raw(dff), RATE)), atol=1e-4)
    as_it_is = read_population(nwbfile, traces="dff")
    assert np.allclose(as_it_is.traces, scaled(raw(dff)), atol=1e-4)
    assert read_population(nwbfile, traces="preprocessed").traces.max() > 1000


def test_a_ratio_to_the_baseline_loses_its_one():
    dff = activity()
    nwbfile = ophys_file()
    add_series(nwbfile, dff + 1, unit="F/F0")
    assert np.allclose(read_population(nwbfile).traces, scaled(dff), atol=1e-4)


def test_a_choice_is_asked_for():
    nwbfile = ophys_file()
    dff = activity()
    add_series(nwbfile, dff)
    add_series(nwbfile, raw(dff), container="Fluorescence")
    add_series(nwbfile, raw(dff) / 10, "Denoised", container="Fluorescence")
    with pytest.raises(
        InputError, match=r"several .* series= \(--series\): one of ophys/DfOverF/RoiResponseSeries, oph"
    ):
        read_population(nwbfile)
    with pytest.raises(InputError, match="several"):
        read_population(nwbfile, series="Fluorescence")
    with pytest.raises(InputError, match="several"):
        read_population(nwbfile, series="RoiResponseSeries")
    for name in ("DfOverF", "DfOverF/RoiResponseSeries", "ophys/DfOverF/RoiResponseSeries", "ophys/DfOverF"):
        assert np.array_equal(read_population(nwbfile, series=name).traces, scaled(dff))
    assert read_population(nwbfile, series="Denoised").metadata["series"] == "ophys/Fluorescence/Denoised"
    with pytest.raises(InputError, match="no series 'dff'; it has: ophys/DfOverF/RoiResponseSeries, ophys/Fluor"):
        read_population(nwbfile, series="dff")


def test_units_come_first_unless_a_series_is_named():
    nwbfile = add_units(ophys_file(), [[1.0, 2.0], [1.5]])
    add_series(nwbfile, activity())
    assert read_population(nwbfile).signal == "spikes"
    assert read_population(nwbfile, series="DfOverF").n_units == 12
    with pytest.raises(InputError, match=r"its units are read: traces and keep_rejected apply to ROI responses"):
        read_population(nwbfile, keep_rejected=True)


def test_planes_are_read_together():
    nwbfile = ophys_file((3, 4))
    first, second = np.split(activity(7), [3])
    add_series(nwbfile, first, "P0", plane="Plane0")
    add_series(nwbfile, second[:, :-1], "P1", plane="Plane1", starting_time=0.1)
    found = read_population(nwbfile)
    assert found.unit_ids.tolist() == [f"Plane0/{100 + k}" for k in range(3)] + [f"Plane1/{100 + k}" for k in range(4)]
    assert found.traces.shape == (7, 599)
    assert len(np.unique(found.group)) == 1
    assert found.metadata["series"] == "ophys/DfOverF"
    assert [len(units) for _, units in read_population(nwbfile, group_by="plane").groups()] == [3, 4]
    assert read_population(nwbfile, series="P1").unit_ids.tolist() == [100, 101, 102, 103]


def test_planes_of_one_table():
    """As suite2p itself writes them."""
    nwbfile = ophys_file((7,))
    add_series(nwbfile, activity(3), "plane 0", rows=[0, 1, 2])
    add_series(nwbfile, activity(4), "plane 1", rows=[6, 5, 4, 3])
    assert read_population(nwbfile).unit_ids.tolist() == [100, 101, 102, 106, 105, 104, 103]
    assert [len(units) for _, units in read_population(nwbfile, group_by="plane").groups()] == [3, 4]


def test_what_is_around_neurons_is_no_plane():
    """neuroconv writes the background as a table of its own, CaImAn as more rows of the ROIs' own."""
    nwbfile = ophys_file((5, 2))
    add_series(nwbfile, raw(activity(5)), plane="Plane0", container="Fluorescence")
    add_series(nwbfile, raw(activity(2)), "Neuropil", plane="Plane1", container="Fluorescence")
    assert read_population(nwbfile).n_units == 5
    assert read_population(nwbfile, series="Neuropil").n_units == 2
    several = ophys_file((3, 4))
    for kind in ("RoiResponseSeriesPlane", "NeuropilPlane", "DeconvolvedPlane"):
        for plane, rois in enumerate((3, 4)):
            add_series(several, raw(activity(rois)), f"{kind}{plane}", container="Fluorescence", plane=f"Plane{plane}")
    assert read_population(several).n_units == 7
    caiman = ophys_file((6,), accepted=[False] * 6, rejected=[False] * 6, keep=[True, True, False, True, True, True])
    add_series(caiman, raw(activity(5)), rows=list(range(5)), container="Fluorescence")
    add_series(caiman, raw(activity(1)), "Background_Fluorescence_Response", rows=[5], container="Fluorescence")
    assert read_population(caiman).unit_ids.tolist() == [100, 101, 103, 104]


def test_a_column_called_group_is_no_probe():
    nwbfile = ophys_file((4,), group=["PV", "PV", "SST", "SST"], plane=["L2", "L2", "L5", "L5"])
    add_series(nwbfile, activity(4))
    assert len(list(read_population(nwbfile).groups())) == 1
    assert [label for label, _ in read_population(nwbfile, group_by="plane").groups()] == ["L2", "L5"]


def test_planes_of_other_times_are_not_joined():
    nwbfile = ophys_file((3, 4))
    add_series(nwbfile, activity(3), "P0", plane="Plane0")
    add_series(nwbfile, activity(4), "P1", plane="Plane1", starting_time=30.0)
    with pytest.raises(InputError, match="P0 and ophys/DfOverF/P1 were not recorded in the same frames"):
        read_population(nwbfile)


def test_a_series_of_some_rois():
    nwbfile = ophys_file(cell_type=np.resize(["PV", "SST"], 12))
    add_series(nwbfile, activity(2), rows=[5, 2])
    found = read_population(nwbfile)
    assert found.unit_ids.tolist() == [105, 102]
    assert found.properties["cell_type"].tolist() == ["SST", "PV"]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("accepted", [1, 0, 1]),
        ("Accepted", [True, False, True]),
        ("rejected", [0, 1, 0]),
        ("iscell", [[1.0, 0.9], [0.0, 0.1], [1.0, 0.7]]),
    ],
)
def test_rejected_rois_are_left_out(column, values):
    nwbfile = ophys_file((3,), **{column: values})
    add_series(nwbfile, activity(3))
    assert read_population(nwbfile).unit_ids.tolist() == [100, 102]
    assert read_population(nwbfile, keep_rejected=True).unit_ids.tolist() == [100, 101, 102]


def test_when_every_roi_is_rejected():
    nwbfile = ophys_file((3,), accepted=[0, 0, 0])
    add_series(nwbfile, activity(3))
    with pytest.raises(InputError, match=r"every ROI is rejected: give keep_rejected=True \(--keep-rejected\)"):
        read_population(nwbfile)


def test_times_that_jitter_are_regular():
    rng = np.random.default_rng(0)
    times = 1e6 + np.arange(600) / RATE + rng.uniform(-0.02, 0.02, 600)
    nwbfile = ophys_file()
    add_series(nwbfile, activity(), timestamps=times)
    found = read_population(nwbfile)
    assert found.sampling_frequency == pytest.approx(RATE, rel=1e-3)
    assert found.traces.shape == (12, 600)
    assert np.allclose(found.observed, [[times[0], times[0] + 120.0]], atol=0.1)


def test_no_window_crosses_dropped_frames_or_pauses():
    times = np.arange(600) / RATE
    kept = np.delete(np.arange(600), [100, 101, 300])
    shifted = times[kept] + np.where(kept > 400, 12.34, 0.0)  # a pause that is no whole number of frames
    dff = activity()
    nwbfile = ophys_file()
    add_series(nwbfile, dff[:, kept], timestamps=shifted)
    found = read_population(nwbfile)
    assert found.sampling_frequency == pytest.approx(RATE)
    edges = [[0.0, 20.0], [20.4, 60.0], [60.2, 80.2], [92.54, 132.34]]
    assert np.allclose(found.observed, edges, atol=0.5 / RATE)
    rows = scaled(dff[:, kept])
    for frame, place in ((0, 0), (99, 99), (100, 102), (297, 299), (298, 301)):
        assert np.array_equal(found.traces[:, place], rows[:, frame])
    assert not found.traces[:, 100:102].any()


def test_a_frame_too_many_is_a_border():
    """Two frames at a tenth of the usual interval: what lies between is no regular recording."""
    times = np.arange(400) / RATE
    times[200:] -= 0.9 / RATE
    nwbfile = ophys_file()
    add_series(nwbfile, activity(n_frames=400), timestamps=times)
    with pytest.warns(RecordingWarning, match="its frame rate varies"):
        found = read_population(nwbfile)
    assert len(found.observed) == 2
    assert found.observed[0, 1] == pytest.approx(40.0, abs=0.3)


@pytest.mark.parametrize(
    ("times", "says"),
    [
        (np.zeros(600), "frame 1, at 0.0 s, does not follow frame 0: correct its timestamps"),
        (np.full(600, np.nan), "does not follow"),
        (np.arange(10.0), "10 timestamps for 600 frames"),
        (np.concatenate([np.arange(599.0), [1e9]]), "mostly in pauses"),
    ],
)
def test_impossible_times_are_named(times, says):
    nwbfile = ophys_file()
    series = add_series(nwbfile, activity(), timestamps=np.arange(600.0))
    series.fields["timestamps"] = times
    with pytest.raises(InputError, match=f"^NWBFile: .*{says}"):
        read_population(nwbfile)


def test_frames_without_data_are_not_observed():
    dff = activity()
    dff[:, 50:60] = np.nan
    dff[4, 200:300] = np.inf
    nwbfile = ophys_file()
    add_series(nwbfile, dff)
    nwbfile.add_invalid_time_interval(start_time=80.01, stop_time=82.0)
    found = read_population(nwbfile)
    shared = [[0.0, 10.0], [12.0, 80.0], [82.0, 120.0]]
    assert np.allclose(found.observed_of(0), shared)
    assert np.allclose(found.observed_of(4), [[0.0, 10.0], [12.0, 40.0], [60.0, 80.0], [82.0, 120.0]])
    assert np.isfinite(found.traces).all()
    cut = read_population(nwbfile, observed=[[20.0, 70.0]])
    assert np.allclose(cut.observed_of(0), [[20.0, 70.0]])


def test_frames_that_control_calls_bad_are_not_observed():
    nwbfile = ophys_file()
    control = np.zeros(600, dtype=np.uint8)
    control[100:110], control[300:400] = 1, 2
    add_series(nwbfile, activity(), control=control, control_description=["imaging", "motion artifact", "stimulus on"])
    with pytest.warns(RecordingWarning, match="10 of 600 frames of .* are labelled 'motion artifact'"):
        assert np.allclose(read_population(nwbfile).observed, [[0.0, 20.0], [22.0, 120.0]])


@pytest.mark.parametrize("label", ["locomotion", "blank screen", "no artifact", "motion corrected", "reward drop"])
def test_frames_that_control_calls_something_else_are_data(label):
    nwbfile = ophys_file()
    control = np.repeat([0, 1], 300).astype(np.uint8)
    add_series(nwbfile, activity(), control=control, control_description=["rest", label])
    assert len(read_population(nwbfile).observed) == 1


def test_control_without_a_meaning_is_told():
    nwbfile = ophys_file()
    add_series(nwbfile, activity(), control=np.ones(600, dtype=np.uint8))
    with pytest.warns(RecordingWarning, match="without control_description"):
        assert len(read_population(nwbfile).observed) == 1


def test_neurons_without_signal_are_told():
    dff = activity()
    dff[3] = np.nan
    dff[5] = -np.abs(dff[5])
    nwbfile = ophys_file()
    add_series(nwbfile, dff)
    with pytest.warns(RecordingWarning, match="2 of 12 neurons, such as 103, have no signal"):
        found = read_population(nwbfile)
    assert [len(found.observed_of(unit)) for unit in (2, 3, 5)] == [1, 0, 0]


def test_data_lying_on_its_side_is_read():
    dff = activity()
    nwbfile = ophys_file()
    series = add_series(nwbfile, dff)
    series.fields["data"] = dff
    assert np.array_equal(read_population(nwbfile).traces, scaled(dff))
    series.fields["data"] = dff[:, :, None]
    with pytest.raises(InputError, match=r"has data of shape .* for 12 ROIs"):
        read_population(nwbfile)


def test_data_as_a_list_are_read():
    nwbfile = ophys_file()
    dff = activity()
    series = add_series(nwbfile, dff)
    for values in (dff.T, dff):
        series.fields["data"] = values.tolist()
        assert np.array_equal(read_population(nwbfile).traces, scaled(dff))


def test_data_that_are_to_be_compressed_are_read():
    nwbfile = ophys_file()
    dff = activity()
    series = add_series(nwbfile, dff)
    series.fields["data"] = H5DataIO(dff.T, compression="gzip")
    assert np.array_equal(read_population(nwbfile).traces, scaled(dff))


def test_nothing_is_left():
    for rois, frames, says in ((0, 600, "have no ROI"), (12, 0, "12 neurons in 0 frames")):
        nwbfile = ophys_file((rois,))
        add_series(nwbfile, np.zeros((rois, frames), dtype=np.float32))
        with pytest.raises(InputError, match=says):
            read_population(nwbfile)
    nwbfile = ophys_file()
    add_series(nwbfile, -np.ones((12, 600)))
    with pytest.raises(InputError, match=r"no neuron has a signal above its baseline: check what .* \(traces=\)"):
        read_population(nwbfile)
    nwbfile = ophys_file()
    add_series(nwbfile, np.full((12, 600), np.nan))
    with pytest.raises(InputError, match="no frame is left: all are NaN"):
        read_population(nwbfile)
    with pytest.raises(InputError, match="its units table is missing or empty, and it holds no ROI responses"):
        read_population(ophys_file())


# --- suite2p ----------------------------------------------------------------------------------------------------------


class Unknown:
    """What is not of numpy: ops.npy holds paths and dates."""


def write_plane(folder, dff, neuropil=True, **ops):
    folder.mkdir(parents=True)
    around = 50 + 5 * np.random.default_rng(1).random(dff.shape)
    fluorescence = raw(dff) + (0.7 * around if neuropil else 0)
    np.save(folder / "F.npy", fluorescence.astype(np.float32))
    if neuropil:
        np.save(folder / "Fneu.npy", around.astype(np.float32))
    cells = np.ones((len(dff), 2), dtype=np.float32)
    cells[1] = 0, 0.25
    np.save(folder / "iscell.npy", cells)
    content = {"fs": RATE, "neucoeff": 0.7, "Lx": np.int64(512), "meanImg": np.ones((3, 3)), "date_proc": Unknown()}
    np.save(folder / "ops.npy", content | ops, allow_pickle=True)
    return folder


def test_a_suite2p_folder(tmp_path):
    dff = activity()
    write_plane(tmp_path / "suite2p" / "plane0", dff)
    expected = scaled(delta_f(raw(dff), RATE))
    for path in (tmp_path, tmp_path / "suite2p", tmp_path / "suite2p" / "plane0"):
        found = read_population(path)
        assert found.unit_ids.tolist() == [0, *range(2, 12)]
        assert np.abs(found.traces - np.delete(expected, 1, axis=0)).max() < 0.01
        assert found.sampling_frequency == RATE
    everything = read_population(path, keep_rejected=True)
    assert everything.properties["cell_probability"][1] == pytest.approx(0.25)


def test_suite2p_planes_are_joined_in_order(tmp_path):
    for plane in (0, 1, 10):
        write_plane(tmp_path / f"plane{plane}", activity(3, 600 - plane))
    found = read_population(tmp_path)
    assert found.unit_ids.tolist() == ["plane0/0", "plane0/2", "plane1/0", "plane1/2", "plane10/0", "plane10/2"]
    assert found.traces.shape == (6, 590)
    assert len(list(read_population(tmp_path, group_by="plane").groups())) == 3


def test_suite2p_bad_frames_are_not_observed(tmp_path):
    bad = np.zeros(600, dtype=bool)
    bad[100:110] = True
    write_plane(tmp_path / "plane0", activity(), badframes=bad)
    assert np.allclose(read_population(tmp_path).observed, [[0.0, 20.0], [22.0, 120.0]])


def test_suite2p_without_ops_needs_a_rate(tmp_path):
    folder = write_plane(tmp_path / "plane0", activity(), neuropil=False)
    (folder / "ops.npy").unlink()
    (folder / "iscell.npy").unlink()
    with pytest.raises(InputError, match=r"does not give one frame rate \(fs\): give sampling_frequency="):
        read_population(folder)
    assert read_population(folder, sampling_frequency=RATE).n_units == 12


class Trap:
    def __reduce__(self):
        return print, ("this file ran code",)


def test_nothing_in_ops_is_run(tmp_path, capsys):
    write_plane(tmp_path / "plane0", activity(), trap=Trap())
    pickle.loads(pickle.dumps(Trap()))
    assert "ran code" in capsys.readouterr().out
    assert read_population(tmp_path).sampling_frequency == RATE
    assert not capsys.readouterr().out


def test_a_damaged_suite2p_folder_is_named(tmp_path):
    folder = write_plane(tmp_path / "plane0", activity())
    np.save(folder / "Fneu.npy", np.ones((12, 5)))
    with pytest.raises(InputError, match=r"Fneu\.npy: has shape \(12, 5\)"):
        read_population(folder)
    np.save(folder / "iscell.npy", np.ones((3, 2)))
    with pytest.raises(InputError, match=r"iscell\.npy: has 3 rows for 12 ROIs"):
        read_population(folder)
    (folder / "ops.npy").write_bytes(b"\x93NUMPY no")
    with pytest.raises(InputError, match=r"ops\.npy: not a readable file of settings"):
        read_population(folder)


def test_suite2p_since_it_has_several_files_of_settings(tmp_path):
    folder = write_plane(tmp_path / "plane0", activity())
    expected = read_population(folder)
    (folder / "ops.npy").unlink()
    settings = {"fs": RATE, "extraction": collections.OrderedDict(neuropil_coefficient=0.2)}
    np.save(folder / "settings.npy", settings | {"extraction": {"neuropil_coefficient": 0.7}}, allow_pickle=True)
    found = read_population(folder)
    assert np.array_equal(found.traces, expected.traces)
    bad = np.zeros(600, dtype=bool)
    bad[:50] = True
    np.save(folder / "reg_outputs.npy", {"badframes": bad, "tree": settings}, allow_pickle=True)
    assert np.allclose(read_population(folder).observed, [[10.0, 120.0]])


def test_settings_hold_what_numpy_pickles(tmp_path):
    content = {"a": 1.5, "b": np.float32(2.5), "c": np.arange(6).reshape(2, 3, order="F"), "d": "text", "e": [1, 2]}
    content |= {"f": np.array(["x"]), "g": np.array([None]), "h": {"i": np.int64(3)}, "big": np.arange(3, dtype=">i4")}
    np.save(tmp_path / "ops.npy", content, allow_pickle=True)
    found = read_settings(tmp_path / "ops.npy")
    assert (found["a"], found["b"], found["d"], found["h"]["i"]) == (1.5, 2.5, "text", 3)
    assert np.array_equal(found["c"], content["c"])
    assert np.array_equal(found["big"], content["big"])
    assert found["e"] == [1, 2]
    assert all(isinstance(found[key], Unreadable) for key in "fg")


@pytest.mark.parametrize(
    "attack",
    [
        # Objects at forged addresses; a function of numpy's given another module; a type given another state.
        b"cnumpy\nndarray\n((tcnumpy\ndtype\n(Vobject\ntRC\x08AAAAAAAAtR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(N}V__module__\nVevil\nstb.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntC\x01btR(I1\n(tcos\nsystem\nI00\n(ltb.",
        b"cos\nsystem\n(Vtouch evil\ntR.",
    ],
)
def test_no_pickle_reaches_numpy_or_anything_else(tmp_path, attack):
    with open(tmp_path / "ops.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        file.write(attack)
    with pytest.raises(InputError, match=r"ops\.npy: not a readable file of settings"):
        read_settings(tmp_path / "ops.npy")
    assert np.array_equal(pickle.loads(pickle.dumps(np.arange(3))), np.arange(3))
    assert not Path("evil").exists()


# --- arrays -----------------------------------------------------------------------------------------------------------


def test_masked_frames_are_not_observed():
    masked = np.ma.masked_array(activity(), mask=np.zeros((12, 600), dtype=bool))
    masked[:, 100:110] = np.ma.masked
    found = read_population(masked, sampling_frequency=RATE, traces="dff")
    assert np.allclose(found.observed, [[0.0, 20.0], [22.0, 120.0]])


def test_borders_of_given_intervals_are_kept():
    found = read_population(activity(), sampling_frequency=RATE, traces="dff", observed=[[0.0, 40.0], [40.0, 90.0]])
    assert np.allclose(found.observed, [[0.0, 40.0], [40.0, 90.0]])
    with pytest.raises(InputError, match="observed holds no interval"):
        read_population(activity(), sampling_frequency=RATE, traces="dff", observed=[])


def test_arrays_and_their_files(tmp_path):
    dff = activity()
    np.save(tmp_path / "dff.npy", dff)
    for source in (dff, tmp_path / "dff.npy"):
        found = read_population(source, sampling_frequency=RATE, traces="dff")
        assert np.array_equal(found.traces, scaled(dff))
        assert found.unit_ids.tolist() == list(range(12))
    ready = read_population(dff, sampling_frequency=RATE, traces="preprocessed")
    assert np.array_equal(ready.traces, dff)


@pytest.mark.parametrize(
    ("array", "options", "says"),
    [
        (activity(), {"traces": "dff"}, "give its frames per second: sampling_frequency="),
        (activity(), {"sampling_frequency": 5.0}, "say what its values are: traces="),
        (
            activity(),
            {"sampling_frequency": 5.0, "traces": "spikes"},
            "traces must be one of fluorescence, dff, preprocessed",
        ),
        (activity()[0], {"sampling_frequency": 5.0, "traces": "dff"}, "not an array of traces"),
        (np.array([["a"]]), {"sampling_frequency": 5.0, "traces": "dff"}, "not an array of traces"),
    ],
)
def test_arrays_that_cannot_be_read(array, options, says):
    with pytest.raises(InputError, match=says):
        read_population(array, **options)


def test_an_array_on_its_side_is_told():
    with pytest.warns(RecordingWarning, match="600 neurons of 12 frames: is it transposed"):
        read_population(activity().T, sampling_frequency=RATE, traces="dff")


@pytest.mark.slow
def test_real_worms(recordings):
    for path in sorted((recordings / "worm").glob("*.nwb")):
        found = read_population(path, series="DfOverF")
        assert 130 <= found.n_units <= 146
        assert 1.3 < found.sampling_frequency < 1.7
        assert len(found.observed) == 1
        assert np.allclose(np.percentile(found.traces, 99, axis=1), 1, atol=1e-4)


@pytest.mark.parametrize("kind", ["fluorescence", "dff", "preprocessed"])
def test_reading_holds_one_copy_more(tmp_path, monkeypatch, kind):
    """The traces that are returned, what they are made of, and blocks of a fixed size."""
    for module in ("traces", "io.calcium", "io.nwb.rois"):
        monkeypatch.setattr(f"spikeinterface_nuclr.{module}._BLOCK", 50_000)
    traces = raw(activity(400, 3_000)).astype(np.float32)
    nwbfile = ophys_file((400,))
    add_series(nwbfile, traces.astype(np.float64))
    path = write_nwb_file(tmp_path / "a.nwb", nwbfile)
    np.save(tmp_path / "a.npy", traces)
    for source, options in ((path, {}), (tmp_path / "a.npy", {"sampling_frequency": RATE})):
        read_population(source, traces=kind, observed=[[0.0, 60.0]], **options)  # what is imported once
        tracemalloc.start()
        found = read_population(source, traces=kind, **options)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found.traces.nbytes == traces.nbytes
        assert peak < 2.5 * traces.nbytes
