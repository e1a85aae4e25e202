"""NWB files of ROI responses as people have them: what is dF/F, what is a ROI, what claims more than it holds."""

import h5py
import numpy as np
import pytest
from hdmf.common import DynamicTable, VectorData
from nwb_files import write_nwb_file
from ophys_files import RATE, activity, add_series, ophys_file, raw
from pynwb.ophys import RoiResponseSeries

from spikeinterface_nuclr import InputError, read_population
from spikeinterface_nuclr.traces import delta_f, scaled

SERIES = "processing/ophys/DfOverF/RoiResponseSeries"


def table_of(name, values=(1.0, 2.0)):
    return DynamicTable(name=name, description="x", columns=[VectorData(name="x", description="x", data=list(values))])


@pytest.fixture
def path(tmp_path):
    nwbfile = ophys_file((4,))
    add_series(nwbfile, activity(4))
    return write_nwb_file(tmp_path / "a.nwb", nwbfile)


# --- dF/F -------------------------------------------------------------------------------------------------------------


def is_dff(**how):
    dff = activity(4)
    nwbfile = ophys_file((4,))
    add_series(nwbfile, dff, **{"container": "Fluorescence", **how})
    found = read_population(nwbfile)
    assert np.allclose(found.traces, scaled(dff)) or np.allclose(found.traces, scaled(delta_f(dff, RATE)))
    assert ("as given" in found.metadata["prepared"]) == np.allclose(found.traces, scaled(dff))
    return np.allclose(found.traces, scaled(dff))


@pytest.mark.parametrize(
    "unit",
    [
        *("dF/F", "DF/F", "df/f", "dF/F0", "ΔF/F", "∆F/F", "ΔF/F₀", "delta F/F", "Delta F over F", "deltaF/F", "dFoF"),
        *(
            "df_over_f",
            "dF/F (%)",
            "% dF/F",
            "percent dF/F",
            "dff",
            "(F-F0)/F0",
            "(F - F_0) / F_0",
            "dR/R",
            "$\\Delta F/F$",
        ),
    ],
)
def test_units_of_delta_f(unit):
    assert is_dff(unit=unit)


@pytest.mark.parametrize("name", ["dff", "DFF", "dF_F", "DeltaFOverF", "RoiResponseSeriesDff", "dff_traces", "deltaf"])
def test_series_called_delta_f(name):
    assert is_dff(name=name) == (name != "deltaf")


@pytest.mark.parametrize("container", ["Dff", "dFoF", "FluorescenceDfOverF", "df_over_f"])
def test_containers_called_delta_f(container):
    assert is_dff(container=container)


@pytest.mark.parametrize("name", ["RoiResponseSeries", "Different", "sound_fft", "buffer", "Fluorescence", "raw_F"])
@pytest.mark.parametrize("unit", ["n.a.", "a.u.", "F", "lumens"])
def test_raw_fluorescence_is_so(name, unit):
    assert not is_dff(name=name, unit=unit)


@pytest.mark.parametrize("unit", ["%", "percent", "z-score", "z scored", "normalized"])
def test_units_that_may_be_anything_are_asked_about(unit):
    nwbfile = ophys_file((4,))
    add_series(nwbfile, activity(4), container="Fluorescence", unit=unit)
    with pytest.raises(InputError, match=rf"has the unit '{unit}': say what its values are: traces= \(--traces\)"):
        read_population(nwbfile)
    assert np.array_equal(read_population(nwbfile, traces="dff").traces, scaled(activity(4)))


@pytest.mark.parametrize("name", ["ZScored", "z_scored_F", "F_zscore"])
def test_names_of_z_scores_are_asked_about(name):
    nwbfile = ophys_file((4,))
    add_series(nwbfile, activity(4), name, container="Fluorescence")
    with pytest.raises(InputError, match=f"{name} has the unit 'n.a.': say what its values are"):
        read_population(nwbfile)


def test_planes_of_raw_fluorescence_and_delta_f_are_not_joined():
    nwbfile = ophys_file((3, 4))
    add_series(nwbfile, activity(3), "P0", container="Fluorescence", plane="Plane0", unit="dF/F")
    add_series(nwbfile, raw(activity(4)), "P1", container="Fluorescence", plane="Plane1", unit="a.u.")
    with pytest.raises(InputError, match="ophys/Fluorescence holds raw fluorescence and dF/F: give one of them"):
        read_population(nwbfile)
    assert read_population(nwbfile, series="P1").n_units == 4


# --- ROIs -------------------------------------------------------------------------------------------------------------


def test_a_series_that_names_a_roi_twice():
    nwbfile = ophys_file((4,))
    add_series(nwbfile, activity(3), rows=[1, 1, 2])
    for series in (None, "ophys/DfOverF/RoiResponseSeries"):
        with pytest.raises(InputError, match="ophys/DfOverF/RoiResponseSeries names ROI 101 2 times"):
            read_population(nwbfile, series=series)


@pytest.mark.parametrize(("row", "says"), [(-1, "ROI row -1"), (4, "ROI row 4, but PlaneSegmentation has 4")])
def test_rois_that_are_no_rows_of_their_table(path, row, says):
    with h5py.File(path, "a") as file:
        file[f"{SERIES}/rois"][2] = row
    with pytest.raises(InputError, match=rf"a\.nwb: ophys/DfOverF/RoiResponseSeries refers to {says}"):
        read_population(path)


def test_rois_that_are_no_numbers(path):
    with h5py.File(path, "a") as file:
        attributes = dict(file[f"{SERIES}/rois"].attrs)
        del file[f"{SERIES}/rois"]
        file[f"{SERIES}/rois"] = np.array([0.5, 1.0, 2.0, 3.0])
        file[f"{SERIES}/rois"].attrs.update(attributes)
    with pytest.raises(InputError, match=r"a\.nwb: ophys/DfOverF/RoiResponseSeries refers to ROIs that are not rows"):
        read_population(path)


def test_a_series_that_is_not_asked_for_may_be_damaged(tmp_path):
    nwbfile = ophys_file((4,))
    add_series(nwbfile, activity(4))
    add_series(nwbfile, raw(activity(4)), container="Fluorescence", rows=[1, 1, 2, 3])
    assert np.array_equal(read_population(nwbfile, series="DfOverF").traces, scaled(activity(4)))


def test_images_in_the_table_are_no_properties(tmp_path):
    nwbfile = ophys_file((4,), footprint=np.ones((4, 8, 8)), depth=np.arange(4.0), pair=np.ones((4, 2)))
    add_series(nwbfile, activity(4))
    path = write_nwb_file(tmp_path / "a.nwb", nwbfile)
    for source in (nwbfile, path):
        assert set(read_population(source).properties) == {"plane", "depth"}


def test_tables_beside_the_rois(tmp_path, path):
    nwbfile = ophys_file((4,))
    add_series(nwbfile, activity(4))
    for module in ("behavior", "nuclr"):
        nwbfile.create_processing_module(module, "x").add(table_of("licks"))
    nwbfile.processing["ophys"].add(table_of("notes"))
    beside = write_nwb_file(tmp_path / "beside.nwb", nwbfile)
    for source in (nwbfile, beside):
        assert np.array_equal(read_population(source).traces, read_population(path).traces)


def test_tables_alone(tmp_path):
    nwbfile = ophys_file((4,))
    nwbfile.create_processing_module("misc", "x").add(table_of("t"))
    with pytest.raises(InputError, match="it holds no ROI responses"):
        read_population(write_nwb_file(tmp_path / "none.nwb", nwbfile))


def test_a_series_without_a_container():
    nwbfile = ophys_file((4,))
    table = nwbfile.processing["ophys"]["ImageSegmentation"]["PlaneSegmentation"]
    region = table.create_roi_table_region("x", region=[0, 1, 2, 3])
    series = RoiResponseSeries(name="dff", data=activity(4).T, unit="n.a.", rois=region, rate=RATE)
    nwbfile.processing["ophys"].add(series)
    found = read_population(nwbfile)
    assert found.metadata["series"] == "ophys/dff"
    assert np.array_equal(found.traces, scaled(activity(4)))


# --- more than the file holds -----------------------------------------------------------------------------------------


def claim(path, member, shape):
    """Let a dataset have this shape, and nothing stored."""
    with h5py.File(path, "a") as file:
        old = file[f"{SERIES}/{member}"]
        attributes, dtype = dict(old.attrs), old.dtype
        del file[f"{SERIES}/{member}"]
        made = file.create_dataset(f"{SERIES}/{member}", shape, dtype, chunks=(1024, 4)[: len(shape)])
        made.attrs.update(attributes)


@pytest.mark.parametrize("members", [("data", "timestamps"), ("data", "starting_time"), ("control",), ("rois",)])
def test_datasets_of_fill_values_are_refused(tmp_path, members):
    nwbfile = ophys_file((4,))
    times = {"timestamps": np.arange(600.0)} if "timestamps" in members else {}
    add_series(nwbfile, activity(4), control=np.zeros(600, np.uint8), control_description=["x"], **times)
    path = write_nwb_file(tmp_path / "a.nwb", nwbfile)
    for member in members:
        if member != "starting_time":
            claim(path, member, (10**11, 4) if member == "data" else (10**11,))
    # pynwb itself reads the rows of the ROIs when it opens a file.
    with pytest.raises(InputError, match=r"^\S*a\.nwb: .*(claims .* GB and has 0\.0 MB on disk|Unable to allocate)"):
        read_population(path)


def test_zarr_arrays_of_fill_values_are_refused(tmp_path):
    pytest.importorskip("hdmf_zarr")
    import zarr
    from hdmf_zarr import NWBZarrIO

    nwbfile = ophys_file((4,))
    add_series(nwbfile, activity(4))
    path = tmp_path / "a.nwb.zarr"
    with NWBZarrIO(str(path), mode="w") as io:
        io.write(nwbfile)
    assert np.allclose(read_population(path).traces, scaled(activity(4)))
    zarr.open_group(str(path), "a")[SERIES]["data"].resize(10**11, 4)
    zarr.consolidate_metadata(str(path))
    with pytest.raises(InputError, match=r"data.* claims 1,600\.0 GB and has"):
        read_population(path)


@pytest.mark.parametrize("values", [np.full((600, 4), b"x"), np.ones((600, 4), dtype=complex)])
def test_data_that_are_no_numbers(path, values):
    with h5py.File(path, "a") as file:
        attributes = dict(file[f"{SERIES}/data"].attrs)
        del file[f"{SERIES}/data"]
        file[f"{SERIES}/data"] = values
        file[f"{SERIES}/data"].attrs.update(attributes)
    with pytest.raises(InputError, match=r"a\.nwb: .*(in place of numbers|not a readable)"):
        read_population(path)


@pytest.mark.parametrize("chunks", [None, True, (600, 1), (1, 12), (7, 5), (600, 12)])
@pytest.mark.parametrize("block", [50, 1000, 10**6])
def test_data_in_any_chunks_are_read_alike(tmp_path, monkeypatch, chunks, block):
    monkeypatch.setattr("spikeinterface_nuclr.io.nwb.rois._BLOCK", block)
    dff = activity()
    nwbfile = ophys_file((12,), accepted=np.arange(12) % 3 > 0)
    add_series(nwbfile, dff)
    path = write_nwb_file(tmp_path / "a.nwb", nwbfile)
    with h5py.File(path, "a") as file:
        attributes = dict(file[f"{SERIES}/data"].attrs)
        del file[f"{SERIES}/data"]
        file.create_dataset(f"{SERIES}/data", data=dff.T, chunks=chunks).attrs.update(attributes)
    assert np.array_equal(read_population(path).traces, scaled(dff[np.arange(12) % 3 > 0]))


def test_frames_that_nothing_is_stored_of_cost_no_memory(path):
    """A byte a frame is little; the time of each is more."""
    with h5py.File(path, "a") as file:
        attributes = dict(file[f"{SERIES}/data"].attrs)
        del file[f"{SERIES}/data"]
        file.create_dataset(f"{SERIES}/data", (15_000_000, 4), "u1", chunks=(1024, 4)).attrs.update(attributes)
    with pytest.raises(InputError, match=r"RoiResponseSeries/data: claims 1\.2 GB and has 0\.0 MB on disk"):
        read_population(path)
