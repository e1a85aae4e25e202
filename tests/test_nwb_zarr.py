"""NWB files in Zarr: the same promises as for HDF5."""

import hashlib
import os
import pkgutil
import shutil
from pathlib import Path

import numpy as np
import pynwb
import pytest
from nwb_files import add_units, in_child, kill_after, new_nwb, write_nwb_file

from spikeinterface_nuclr import InputError, embed, read_nwb, read_population, write_nwb

hdmf_zarr = pytest.importorskip("hdmf_zarr")
QUICK = {"precision": "float32", "device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def original(population, tmp_path_factory):
    folder = tmp_path_factory.mktemp("zarr")
    nwbfile = add_units(new_nwb(), population.spike_times, unit_name=population.unit_ids)
    nwbfile.create_processing_module("behavior", "x").add(
        pynwb.TimeSeries(name="speed", data=np.arange(100.0), unit="m/s", rate=10.0)
    )
    hdf5 = write_nwb_file(folder / "session.nwb", nwbfile)
    with pynwb.NWBHDF5IO(hdf5, "r") as source, hdmf_zarr.NWBZarrIO(str(folder / "session.nwb.zarr"), "w") as target:
        target.export(source, write_args={"link_data": False})
    return folder / "session.nwb.zarr"


@pytest.fixture
def session(original, tmp_path):
    return shutil.copytree(original, tmp_path / "session.nwb.zarr")


@pytest.fixture(scope="module")
def embeddings(original, checkpoint):
    return embed(read_population(original), checkpoint, **QUICK)


def hashes(store):
    """Hash of each file of the store."""
    return {
        str(file.relative_to(store)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in store.rglob("*")
        if file.is_file()
    }


def only_ours_is_new(before, after):
    a, b = hashes(before), hashes(after)
    assert {name for name in a if a[name] != b.get(name)} <= {".zmetadata"}
    assert {name.rsplit("/", 1)[0] for name in b.keys() - a.keys() if not name.startswith("specifications/ndx-nuclr")}
    assert all(name.startswith(("processing/nuclr", "specifications/ndx-nuclr")) for name in b.keys() - a.keys())


def same(found, embeddings):
    assert found.unit_ids.tolist() == embeddings.unit_ids.tolist()
    assert np.array_equal(found.embedding, embeddings.embedding, equal_nan=True)
    assert np.array_equal(found.num_windows, embeddings.num_windows)


def test_a_copy_gets_the_embeddings_and_nothing_else_changes(session, original, embeddings):
    written = write_nwb(session, embeddings)
    assert written == session.with_name("session_nuclr.nwb.zarr")
    assert hashes(session) == hashes(original)
    only_ours_is_new(original, written)
    same(read_nwb(written)[0], embeddings)
    with hdmf_zarr.NWBZarrIO(str(written), "r") as io:
        assert pynwb.validate(io=io) == []
        nwbfile = io.read()
        assert nwbfile.processing["nuclr"]["UnitEmbeddings"]["neuron"].table is nwbfile.units


def test_in_place_and_replaced(session, original, embeddings, tmp_path):
    write_nwb(session, embeddings, in_place=True)
    only_ours_is_new(original, session)
    with pytest.raises(InputError, match="it holds 'UnitEmbeddings' already"):
        write_nwb(session, embeddings, in_place=True)
    part = embeddings.select([4, 2])
    write_nwb(session, part, in_place=True, if_exists="replace", publish=True)
    same(read_nwb(session)[0], part)
    published = read_population(session).properties["nuclr_num_windows"]
    assert published[[4, 2]].tolist() == part.num_windows.tolist()
    assert os.listdir(tmp_path) == ["session.nwb.zarr"]


def test_a_side_file_in_hdf5(session, embeddings, tmp_path):
    side = write_nwb(session, embeddings, tmp_path / "side.nwb", units_only=True)
    assert side.is_file()
    same(read_nwb(side)[0], embeddings)


def test_embeddings_survive_export_from_hdf5_to_zarr_and_back(population, checkpoint, tmp_path):
    nwbfile = add_units(new_nwb(), population.spike_times, unit_name=population.unit_ids)
    path = write_nwb_file(tmp_path / "a.nwb", nwbfile)
    found = embed(population, checkpoint, **QUICK)
    write_nwb(path, found, in_place=True)
    with pynwb.NWBHDF5IO(path, "r") as source, hdmf_zarr.NWBZarrIO(str(tmp_path / "b.zarr"), "w") as target:
        target.export(source, write_args={"link_data": False})
    same(read_nwb(tmp_path / "b.zarr")[0], found)
    with (
        hdmf_zarr.NWBZarrIO(str(tmp_path / "b.zarr"), "r") as source,
        pynwb.NWBHDF5IO(tmp_path / "c.nwb", "w") as target,
    ):
        target.export(source, write_args={"link_data": False})
    same(read_nwb(tmp_path / "c.nwb")[0], found)


def test_formats_are_not_mixed(session, embeddings, tmp_path):
    with pytest.raises(InputError, match=r"unknown format '\.h5': use \.zarr"):
        write_nwb(session, embeddings, tmp_path / "o.h5")


def half_of(source, target, **_):
    """Copy half of a store."""
    files = sorted(file for file in Path(source).rglob("*") if file.is_file())
    for file in files[: len(files) // 2]:
        copy = Path(target) / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)


MOMENTS = {  # of a write: a function that it calls, and what is done in its place before the process stops
    "while it copies": ("shutil:copytree", half_of),
    "after it appends": ("spikeinterface_nuclr.io.nwb.tables:append", None),
    "before the store is on the disk": ("spikeinterface_nuclr.files:_sync_file_system", lambda *_: None),
    "before the swap": ("spikeinterface_nuclr.files:exchange", lambda *_: None),
    "after the swap": ("spikeinterface_nuclr.files:exchange", None),
}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_kill_leaves_the_old_store_or_the_new_one(session, original, embeddings, monkeypatch):
    before = hashes(original)

    def write(moment):
        place, instead = MOMENTS[moment]
        work = instead or pkgutil.resolve_name(place)

        def stopping(*arguments, **options):
            work(*arguments, **options)
            os._exit(9)

        monkeypatch.setattr(place.replace(":", "."), stopping)
        write_nwb(session, embeddings, in_place=True)

    for moment in MOMENTS:
        code, _ = in_child(write, moment)
        assert code == 9
        if moment == "after the swap":
            same(read_nwb(session)[0], embeddings)
        else:
            assert hashes(session) == before
    write_nwb(session, embeddings, in_place=True, if_exists="replace")
    assert os.listdir(session.parent) == [session.name]


KILLED = """
import sys
from spikeinterface_nuclr import UnitEmbeddings, write_nwb
import hdmf_zarr, ndx_nuclr
found = UnitEmbeddings.load(sys.argv[2])
print('ready', flush=True)
write_nwb(sys.argv[1], found, in_place=True)
"""


@pytest.mark.slow
def test_kills_at_random_moments_leave_the_old_store_or_the_new_one(session, original, embeddings, tmp_path, rng):
    saved = embeddings.save(tmp_path / "e.npz")
    before = hashes(original)
    for moment in rng.uniform(0, 2.0, 6):
        shutil.rmtree(session)
        shutil.copytree(original, session)
        kill_after(moment, KILLED, session, saved)
        if hashes(session) != before:
            same(read_nwb(session)[0], embeddings)
