"""Which ROIs of an NWB file curation has rejected, however its columns are called and filled."""

import warnings

import h5py
import numpy as np
import pytest
from nwb_files import write_nwb_file
from ophys_files import activity, add_series, ophys_file

from spikeinterface_nuclr import InputError, RecordingWarning, read_population
from spikeinterface_nuclr.io.curation import kept_rois

KEPT = [100, 102]


def read(**columns):
    nwbfile = ophys_file((3,), **columns)
    add_series(nwbfile, activity(3))
    return read_population(nwbfile).unit_ids.tolist()


@pytest.mark.parametrize(
    "column", ["is_accepted", "Is Accepted", "isAccepted", "accepted", "keep", "is_cell", "valid", "include"]
)
def test_columns_that_keep(column):
    assert read(**{column: [True, False, True]}) == KEPT


@pytest.mark.parametrize("column", ["is_rejected", "rejected", "IsRejected", "excluded", "discard"])
def test_columns_that_reject(column):
    assert read(**{column: [False, True, False]}) == KEPT


@pytest.mark.parametrize(
    ("yes", "no"),
    [
        ("True", "False"),
        ("TRUE", "false"),
        ("yes", "no"),
        ("Y", "N"),
        ("1", "0"),
        ("1.0", "0.0"),
        (1.0, 0.0),
        (np.uint8(1), np.uint8(0)),
        ("cell", "not cell"),
        ("Cell", "Not a cell"),
        ("accepted", "rejected"),
        ("keep", "discard"),
        ("good", "bad"),
        ("valid", "Invalid"),
        (" true ", " false "),
    ],
)
@pytest.mark.parametrize("column", ["accepted", "iscell"])
def test_words_for_yes_and_no(column, yes, no):
    assert read(**{column: [yes, no, yes]}) == KEPT


def test_words_that_judge_do_so_in_any_column():
    assert read(is_rejected=["accepted", "rejected", "accepted"]) == KEPT
    assert read(rejected=["no", "yes", "no"]) == KEPT


def test_bytes_and_missing_entries():
    mask = kept_rois({"accepted": np.array([b"yes", b"no", b"", b"nan"])}, 4, "x")
    assert mask.tolist() == [True, False, True, True]
    assert kept_rois({"accepted": np.array([1.0, 0.0, np.nan])}, 3, "x").tolist() == [True, False, True]
    assert kept_rois({"rejected": np.array([None, True, False], dtype=object)}, 3, "x").tolist() == [True, False, True]


def test_a_table_of_probabilities_begins_with_the_verdict():
    assert read(iscell=[[1.0, 0.9], [0.0, 0.8], [1.0, 0.1]]) == KEPT


@pytest.mark.parametrize("columns", [("accepted", "rejected"), ("is_accepted", "is_rejected")])
def test_what_nobody_has_curated_is_kept(columns):
    accepted, rejected = columns
    assert read(**{accepted: [False] * 3, rejected: [False] * 3}) == [100, 101, 102]
    assert read(**{accepted: [True, False, True], rejected: [False, True, False]}) == KEPT


@pytest.mark.parametrize(
    ("column", "values", "says"),
    [
        ("accepted", ["maybe", "no", "yes"], "'accepted' holds 'maybe', neither yes nor no"),
        ("is_cell", [0.9, 0.1, 0.7], "'is_cell' holds '0.1', '0.7', '0.9', neither"),
        ("rejected", [2, -1, 0], "'rejected' holds '-1', '2', neither"),
        ("keep", [*"abc"], "holds 'a', 'b', 'c', neither"),
    ],
)
def test_entries_that_are_not_understood_are_told(column, values, says):
    with pytest.warns(RecordingWarning, match=f"NWBFile: PlaneSegmentation: the ROI column {says}|{says}"):
        assert read(**{column: values}) == [100, 101, 102]


def test_a_column_of_several_entries_a_roi_is_told():
    nwbfile = ophys_file((3,))
    table = nwbfile.processing["ophys"]["ImageSegmentation"]["PlaneSegmentation"]
    table.add_column("accepted", "x", data=[[1, 0], [1], [0]], index=True)
    add_series(nwbfile, activity(3))
    with pytest.warns(RecordingWarning, match="the ROI column 'accepted' holds 'several per ROI'"):
        assert read_population(nwbfile).n_units == 3


def test_curation_in_files(tmp_path):
    """Text comes from HDF5 in variable and in fixed length."""
    nwbfile = ophys_file((3,), accepted=["yes", "no", "yes"], is_rejected=[False, False, True])
    add_series(nwbfile, activity(3))
    path = write_nwb_file(tmp_path / "a.nwb", nwbfile)
    assert read_population(path).unit_ids.tolist() == [100]
    assert read_population(path, keep_rejected=True).n_units == 3
    with h5py.File(path, "a") as file:
        table = file["processing/ophys/ImageSegmentation/PlaneSegmentation"]
        attributes = dict(table["accepted"].attrs)
        del table["accepted"]
        table["accepted"] = np.array([b"accepted", b"rejected", b"rejected"])
        table["accepted"].attrs.update(attributes)
        table["is_rejected"][:] = False
    assert read_population(path).unit_ids.tolist() == [100]


def test_when_words_reject_every_roi():
    with pytest.raises(InputError, match="every ROI is rejected: give keep_rejected=True"):
        read(accepted=["no"] * 3)


def test_columns_of_other_names_say_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(quality=["bad", "good", "bad"], cell_type=["PV", "SST", "PV"]) == [100, 101, 102]
