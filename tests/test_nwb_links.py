"""What an NWB file points to outside itself: never shown unasked, never lost in a copy, never written into."""

import os
import shutil

import h5py
import numpy as np
import pynwb
import pytest
from h5tree import differences
from nwb_files import add_units, new_nwb, write_nwb_file
from ophys_files import activity, add_series, ophys_file

from spikeinterface_nuclr import (
    InputError,
    RecordingWarning,
    embed,
    read_nwb,
    read_population,
    write_nwb,
)
from spikeinterface_nuclr.io.nwb.links import pointers_of

QUICK = {"precision": "float32", "device": "cpu", "progress": False}


@pytest.fixture
def session(session, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    return session


def refusal(path, *arguments, **options):
    """What write_nwb says no with; everything in the folder stays as it was."""
    before = {file: file.read_bytes() for file in path.parent.rglob("*") if file.is_file()}
    with pytest.raises(InputError) as caught:
        write_nwb(path, *arguments, **options)
    assert "\n" not in str(caught.value)
    assert {file: file.read_bytes() for file in path.parent.rglob("*") if file.is_file()} == before
    return str(caught.value)


def same(written, embeddings):
    assert np.array_equal(read_nwb(written)[0].embedding, embeddings.embedding, equal_nan=True)


# --- data that are the bytes of any other file ------------------------------------------------------------------------


def secret_inside(path, place, secret):
    """Replace a dataset by one whose bytes are another file's."""
    with h5py.File(path, "r+") as file:
        attributes = dict(file[place].attrs)
        del file[place]
        size = secret.stat().st_size
        stored = file.create_dataset(place, (20,), f"S{size // 20}", external=[(str(secret), 0, size)])
        stored.attrs.update(attributes)


@pytest.mark.parametrize("hops", [0, 1, 2], ids=["in the file", "behind a link", "behind a virtual dataset"])
def test_raw_external_storage_is_refused(session, embeddings, hops, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_bytes(b"root:x:0:0:" * 40)
    holder = session if not hops else shutil.copy(session, tmp_path / "holder.nwb")
    secret_inside(holder, "units/unit_name", secret)
    with h5py.File(session, "r+") as file:
        if hops == 1:
            file["scratch/x"] = h5py.ExternalLink("holder.nwb", "/units")
        if hops == 2:
            layout = h5py.VirtualLayout((20,), "S22")
            layout[:] = h5py.VirtualSource(str(holder), "units/unit_name", (20,))
            file.create_virtual_dataset("scratch/x", layout)
    for options in ({}, {"units_only": True}, {"in_place": True}):
        message = refusal(session, embeddings, **options)
        assert f"{holder}: /units/unit_name takes its data from the bytes of {secret}" in message
    with pytest.raises(InputError, match="could be any file of this machine"):
        read_population(session)
    with pytest.raises(InputError, match="could be any file of this machine"):
        read_nwb(session)


def test_names_of_one_object_stay_its_names(session, embeddings):
    with h5py.File(session, "r+") as file:
        file["acquisition/again"] = file["acquisition/raw"]
        file["acquisition/raw"].attrs["of"] = file["units"].ref
    before = shutil.copy(session, session.with_name("before.nwb"))
    for _ in range(2):
        same(write_nwb(session, embeddings, in_place=True, if_exists="replace"), embeddings)
    with h5py.File(session) as file:
        assert file["acquisition/again"] == file["acquisition/raw"]
    assert differences(before, session)[0::2] == ([], [])


def test_a_group_inside_itself_is_refused(session, embeddings):
    with h5py.File(session, "r+") as file:
        file["acquisition/raw/inside"] = file["acquisition/raw"]
    assert "not a readable NWB file (" in refusal(session, embeddings)


def test_links_that_lead_round_and_round_are_refused(session, embeddings):
    with h5py.File(session, "r+") as file:
        file["scratch/a"], file["scratch/b"] = h5py.SoftLink("/scratch/b"), h5py.SoftLink("/scratch/a")
    assert "not a readable NWB file (" in refusal(session, embeddings)


# --- pointers that lead elsewhere from another folder -----------------------------------------------------------------


def external_link(file, folder):
    with h5py.File(folder / "raw.h5", "w") as raw:
        raw["data"] = np.arange(5)
    file["acquisition/linked"] = h5py.ExternalLink("raw.h5", "/data")


def virtual_dataset(file, folder):
    with h5py.File(folder / "raw.h5", "w") as raw:
        raw["data"] = np.arange(100.0)
    attributes = dict(file["acquisition/raw/data"].attrs)
    del file["acquisition/raw/data"]
    layout = h5py.VirtualLayout((100,), "f8")
    layout[:] = h5py.VirtualSource("raw.h5", "data", (100,))
    file.create_virtual_dataset("acquisition/raw/data", layout).attrs.update(attributes)


def video(file, folder):
    (folder / "movie.avi").write_bytes(b"0")
    movie = file.create_group("acquisition/movie")
    movie.attrs.update(file["acquisition/raw"].attrs)
    movie.attrs.update({"neurodata_type": "ImageSeries", "namespace": "core", "object_id": "x"})
    movie["external_file"] = np.array(["./movie.avi"], dtype=h5py.string_dtype())
    movie["external_file"].attrs["starting_frame"] = np.array([0])
    movie["format"] = "external"
    file.copy("acquisition/raw/starting_time", movie)
    movie.create_dataset("data", (0, 0, 0), "u1").attrs.update(file["acquisition/raw/data"].attrs)


@pytest.mark.parametrize(
    ("make", "place", "target", "kind"),
    [
        (external_link, "/acquisition/linked", "raw.h5", "link"),
        (virtual_dataset, "/acquisition/raw/data", "raw.h5", "virtual dataset"),
        (video, "/acquisition/movie/external_file", "./movie.avi", "video"),
    ],
)
def test_what_lies_beside_the_file_is_not_lost(session, embeddings, make, place, target, kind, tmp_path):
    with h5py.File(session, "r+") as file:
        make(file, tmp_path)
    assert [(p.place, p.kind, p.target) for p in pointers_of(session)] == [(place, kind, target)]
    output = tmp_path / "elsewhere" / "copy.nwb"
    message = refusal(session, embeddings, output)
    assert f"{place} points to {target} beside it ({kind}): write the copy into the same folder" in message
    before = shutil.copy(session, tmp_path / "before.nwb")
    same(write_nwb(session, embeddings, in_place=True), embeddings)
    assert differences(before, session)[0::2] == ([], [])


def test_a_side_file_needs_nothing_of_what_lies_beside_the_file(session, embeddings, tmp_path):
    with h5py.File(session, "r+") as file:
        external_link(file, tmp_path)
        virtual_dataset(file, tmp_path)
    same(write_nwb(session, embeddings, tmp_path / "elsewhere" / "side.nwb", units_only=True), embeddings)


def test_names_that_are_the_same_everywhere_are_fine(session, embeddings, tmp_path):
    with h5py.File(session, "r+") as file:
        video(file, tmp_path)
        names = ["/data/movie.avi", "https://dandiarchive.org/movie.avi", "D:\\data\\movie.avi"]
        attributes = dict(file["acquisition/movie/external_file"].attrs)
        del file["acquisition/movie/external_file"]
        file["acquisition/movie/external_file"] = np.array(names, dtype=h5py.string_dtype())
        file["acquisition/movie/external_file"].attrs.update(attributes | {"starting_frame": np.zeros(3, dtype=int)})
    same(write_nwb(session, embeddings, tmp_path / "elsewhere" / "copy.nwb"), embeddings)


# --- what is to be extended lies in another file ----------------------------------------------------------------------


@pytest.fixture
def linked(session, tmp_path):
    """A file whose units are those of session.nwb."""
    path = write_nwb_file(tmp_path / "linked.nwb", new_nwb())
    with h5py.File(path, "r+") as file:
        file["units"] = h5py.ExternalLink("session.nwb", "/units")
    return path


def test_units_in_another_file(nuclr, linked, embeddings, checkpoint, tmp_path):
    assert read_population(linked).n_units == 20
    for options in ({}, {"in_place": True}):
        message = refusal(linked, embeddings, **options)
        assert "its units table lies in session.nwb, behind a link: write into that file, or write a side" in message
    same(write_nwb(linked, embeddings, units_only=True), embeddings)  # of the same folder: nothing to be said
    model = checkpoint.save(tmp_path / "small.safetensors")
    done = nuclr("embed", linked, "--in-place", "--model", model, code=3)
    assert "lies in session.nwb" in done.stderr
    assert "window" not in done.stderr  # of the progress bar: it is said beforehand


def test_a_side_file_says_what_it_takes_from_other_folders(linked, session, embeddings, tmp_path_factory):
    hidden = shutil.move(session, tmp_path_factory.mktemp("private") / "hidden.nwb")
    with h5py.File(linked, "r+") as file:
        del file["units"]
        file["units"] = h5py.ExternalLink(str(hidden), "/units")
    with pytest.warns(RecordingWarning, match=r"its units lie in .*hidden\.nwb, behind a link; the side file includes"):
        side = write_nwb(linked, embeddings, units_only=True)
    same(side, embeddings)


def test_a_side_file_says_what_single_columns_come_from(session, embeddings, tmp_path_factory):
    hidden = shutil.copy(session, tmp_path_factory.mktemp("private") / "hidden.nwb")
    with h5py.File(session, "r+") as file:
        attributes = dict(file["units/unit_name"].attrs)
        del file["units/unit_name"]
        layout = h5py.VirtualLayout((20,), h5py.string_dtype())
        layout[:] = h5py.VirtualSource(str(hidden), "units/unit_name", (20,))
        file.create_virtual_dataset("units/unit_name", layout).attrs.update(attributes)
    with pytest.warns(RecordingWarning, match=r"its units lie in .*hidden\.nwb"):
        write_nwb(session, embeddings, units_only=True)


def test_a_processing_module_in_another_file(session, embeddings, tmp_path):
    with h5py.File(tmp_path / "processed.h5", "w") as other:
        other.create_group("processing")
    with h5py.File(session, "r+") as file:
        if "processing" in file:
            del file["processing"]
        file["processing"] = h5py.ExternalLink("processed.h5", "/processing")
    assert "/processing lies in processed.h5, behind a link: write into that file" in refusal(session, embeddings)


def imaged(path):
    nwbfile = ophys_file((12,))
    dff = activity(12, 400, 0)
    add_series(nwbfile, dff)
    nwbfile.add_acquisition(pynwb.TimeSeries(name="kept", data=dff.T, unit="a.u.", rate=5.0))
    return write_nwb_file(path, nwbfile)


def test_rois_in_another_file(calcium_checkpoint, tmp_path):
    path = imaged(tmp_path / "imaged.nwb")
    found = embed(read_population(path), calcium_checkpoint, **QUICK)
    shutil.copy(path, tmp_path / "rois.nwb")
    with h5py.File(path, "r+") as file:
        del file["processing/ophys/ImageSegmentation"]
        file["processing/ophys/ImageSegmentation"] = h5py.ExternalLink(
            "rois.nwb", "/processing/ophys/ImageSegmentation"
        )
    for options in ({}, {"in_place": True}, {"units_only": True}):
        message = refusal(path, found, **options)
        assert "behind a link: write into that file" in message or "not a readable NWB file" in message


def test_a_side_file_of_rois_keeps_what_lies_beside_it(calcium_checkpoint, tmp_path):
    path = imaged(tmp_path / "imaged.nwb")
    found = embed(read_population(path), calcium_checkpoint, **QUICK)
    (tmp_path / "elsewhere").mkdir()
    with h5py.File(path, "r+") as file:
        file["general/notes_of_the_rig"] = h5py.ExternalLink("rig.h5", "/notes")
    message = refusal(path, found, tmp_path / "elsewhere" / "side.nwb", units_only=True)
    assert "/general/notes_of_the_rig points to rig.h5 beside it" in message
    same(write_nwb(path, found, units_only=True), found)


def test_a_side_file_of_rois_leaves_no_holes(calcium_checkpoint, tmp_path):
    """A virtual dataset whose source stays behind would read as zeros."""
    path = imaged(tmp_path / "imaged.nwb")
    found = embed(read_population(path), calcium_checkpoint, **QUICK)
    with h5py.File(path, "r+") as file:
        place = next(iter(file["processing/ophys/DfOverF"].values())).name + "/data"
        attributes, kept = dict(file[place].attrs), file["acquisition/kept/data"]
        del file[place]
        layout = h5py.VirtualLayout(kept.shape, kept.dtype)
        layout[...] = h5py.VirtualSource(kept)
        file.create_virtual_dataset(place, layout).attrs.update(attributes)
    assert f"{place} is a virtual dataset: write a copy of the whole file" in refusal(path, found, units_only=True)
    same(write_nwb(path, found), found)


def test_a_side_file_of_rois_keeps_names_and_regions(calcium_checkpoint, tmp_path):
    path = imaged(tmp_path / "imaged.nwb")
    found = embed(read_population(path), calcium_checkpoint, **QUICK)
    with h5py.File(path, "r+") as file:
        series = next(iter(file["processing/ophys/DfOverF"].values()))
        series.attrs.create("roi", series["data"].regionref[2:5, :3], dtype=h5py.regionref_dtype)
        file["general/again"] = file["general/devices"]
        place = series.name
    with h5py.File(write_nwb(path, found, units_only=True)) as file:
        series = file[place]
        assert file["general/again"] == file["general/devices"]
        assert file[series["rois"].attrs["table"]].name.endswith("/PlaneSegmentation")
        assert series["data"].regionref.selection(series.attrs["roi"]) == (3, 3)
        assert file[series.attrs["roi"]] == series["data"]


# --- Zarr -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(session, tmp_path):
    hdmf_zarr = pytest.importorskip("hdmf_zarr")
    path = tmp_path / "session.nwb.zarr"
    with pynwb.NWBHDF5IO(session, "r") as source, hdmf_zarr.NWBZarrIO(str(path), "w") as target:
        target.export(source, write_args={"link_data": False})
    return path


def move_out(store, name, to):
    """A part of the store becomes a symbolic link to where it is moved to."""
    to.parent.mkdir(exist_ok=True)
    shutil.move(store / name, to)
    (store / name).symlink_to(os.path.relpath(to, (store / name).parent))


@pytest.mark.slow
def test_symbolic_links_of_a_store_stay_links(store, embeddings, tmp_path):
    move_out(store, "acquisition/raw/data/0", tmp_path / "annex" / "chunk")
    content = (tmp_path / "annex" / "chunk").read_bytes()
    assert [(p.place, p.kind) for p in pointers_of(store)] == [("/acquisition/raw/data/0", "symbolic link")]
    for written in (write_nwb(store, embeddings), write_nwb(store, embeddings, in_place=True)):
        assert (written / "acquisition/raw/data/0").is_symlink()
        assert (written / "acquisition/raw/data/0").read_bytes() == content
        same(written, embeddings)
    message = refusal(store, embeddings, tmp_path / "elsewhere" / "copy.zarr")
    assert "points to ../../../../annex/chunk beside it (symbolic link): write the copy into the same folder" in message
    assert "is a symbolic link to ../../../../annex/chunk, which a side file would include" in refusal(
        store, embeddings, tmp_path / "side.nwb", units_only=True
    )


def test_nothing_is_written_through_a_link(store, embeddings, tmp_path):
    write_nwb(store, embeddings, in_place=True)
    move_out(store, "processing", tmp_path / "annex" / "processing")
    message = refusal(store, embeddings, in_place=True, if_exists="replace")
    assert "/processing lies in ../annex/processing, behind a link: write into that file" in message


def test_links_inside_a_store_are_its_own(store, embeddings, tmp_path):
    move_out(store, "acquisition/raw/data/0", store / "kept")
    assert pointers_of(store) == []
    written = write_nwb(store, embeddings, tmp_path / "elsewhere" / "copy.zarr")
    assert os.path.realpath(written / "acquisition/raw/data/0") == str(written / "kept")


@pytest.mark.slow
def test_links_to_another_store(store, embeddings, population, tmp_path):
    import hdmf_zarr

    nwbfile = add_units(new_nwb(), population.spike_times, unit_name=population.unit_ids)
    with hdmf_zarr.NWBZarrIO(str(store), "r") as source:
        raw = source.read().acquisition["raw"].data
        nwbfile.add_acquisition(pynwb.TimeSeries(name="raw", data=raw, unit="V", rate=10.0))
        with hdmf_zarr.NWBZarrIO(str(tmp_path / "linked.nwb.zarr"), "w") as target:
            target.write(nwbfile, link_data=True)
    linked = tmp_path / "linked.nwb.zarr"
    assert [(p.place, p.kind) for p in pointers_of(linked)] == [("/acquisition/raw/data", "link")]
    same(write_nwb(linked, embeddings), embeddings)
    message = refusal(linked, embeddings, tmp_path / "elsewhere" / "copy.zarr")
    assert "/acquisition/raw/data points to ../session.nwb.zarr beside it (link)" in message
