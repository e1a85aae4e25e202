"""Copies of NWB files: compared byte by byte, replaced in, private, written by one process at a time."""

import os
import shutil
import subprocess
import sys
import threading
import tracemalloc

import h5py
import numpy as np
import pynwb
import pytest
from h5tree import differences

import spikeinterface_nuclr.io.nwb.tables
from spikeinterface_nuclr import InputError, read_nwb, write_nwb
from spikeinterface_nuclr.io.nwb.file import OpenFile
from spikeinterface_nuclr.io.nwb.hdf5 import copy_without
from spikeinterface_nuclr.io.nwb.verifying import check_unchanged

QUICK = {"precision": "float32", "device": "cpu", "progress": False}


def mode(path):
    return path.stat().st_mode & 0o777


# --- nothing else changes ---------------------------------------------------------------------------------------------

SIZE = 1_500_000  # of 12 MB


def everything(path, **options):
    """A dataset of each kind that HDF5 knows, big ones too."""
    numbers = np.arange(SIZE, dtype="f8")
    with h5py.File(path, "w", **options) as file:
        file["contiguous"] = numbers
        file.create_dataset("chunked", data=numbers, chunks=(100_000,))
        file.create_dataset("packed", data=numbers, chunks=(100_000,), compression="gzip", compression_opts=1)
        file.create_dataset("growing", data=numbers, chunks=(100_000,), maxshape=(None,), shuffle=True, fletcher32=True)
        file.create_dataset("sparse", (SIZE,), "f8", chunks=(100_000,), fillvalue=1.0)
        compact = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        compact.set_layout(h5py.h5d.COMPACT)
        space, kind = h5py.h5s.create_simple((3,)), h5py.h5t.NATIVE_DOUBLE
        h5py.h5d.create(file.id, b"compact", kind, space, compact).write(space, space, np.arange(3.0))
        file["texts"] = ["a", "b\n", "é"] * 100
        lists = file.create_dataset("lists", (2,), h5py.vlen_dtype("i4"))
        lists[0], lists[1] = [1, 2], [3]
        file["references"] = np.array([file["compact"].ref, h5py.Reference()], dtype=h5py.ref_dtype)
        file["regions"] = np.array([file["contiguous"].regionref[2:5]], dtype=h5py.regionref_dtype)
        pair = np.dtype([("number", "i4"), ("what", h5py.ref_dtype)])
        file["rows"] = np.array([(1, file["compact"].ref)], dtype=pair)
        file["kind"] = np.dtype("i2")
        file["empty"] = h5py.Empty("f8")
        file["again"] = file["compact"]
        file["soft"] = h5py.SoftLink("/compact")
        group = file.create_group("group")
        group["inside"] = group
        group.attrs["words"], group.attrs["of"] = ["x", "y"], file["texts"].ref
    return path


CHANGES = {
    "contiguous": lambda file: file["contiguous"].__setitem__(SIZE - 1, -1),
    "chunked": lambda file: file["chunked"].__setitem__(SIZE - 1, -1),
    "packed": lambda file: file["packed"].__setitem__(SIZE // 2, -1),
    "growing": lambda file: file["growing"].__setitem__(3, -1),
    "sparse": lambda file: file["sparse"].__setitem__(3, 1.0),
    "compact": lambda file: file["compact"].__setitem__(0, 7),
    "texts": lambda file: file["texts"].__setitem__(299, "e"),
    "lists": lambda file: file["lists"].__setitem__(1, [4]),
    "references": lambda file: file["references"].__setitem__(1, file["texts"].ref),
    "regions": lambda file: file["regions"].__setitem__(0, file["contiguous"].regionref[2:6]),
    "rows": lambda file: file["rows"].__setitem__(0, (1, file["texts"].ref)),
    "soft": lambda file: (file.__delitem__("soft"), file.__setitem__("soft", h5py.SoftLink("/texts"))),
    "again": lambda file: (file.__delitem__("again"), file.__setitem__("again", file["texts"])),
    "group": lambda file: file["group"].attrs.__setitem__("words", ["x", "z"]),
    "kind": lambda file: (file.__delitem__("kind"), file.__setitem__("kind", np.dtype("i4"))),
    "more": lambda file: file.__setitem__("more", 1),
}


@pytest.fixture(scope="module")
def all_kinds(tmp_path_factory):
    return everything(tmp_path_factory.mktemp("kinds") / "a.h5")


def unchanged(original, copy, ours):
    """check_unchanged of two HDF5 files, which need not be NWB files for it."""
    with h5py.File(original, "r") as before, h5py.File(copy, "r") as after:
        opened = [OpenFile(None, None, file, []) for file in (before, after)]
        check_unchanged(original, opened[0], copy, opened[1], ours)


@pytest.mark.parametrize("what", CHANGES)
def test_every_object_is_compared(all_kinds, what, tmp_path):
    copy = shutil.copy(all_kinds, tmp_path / "b.h5")
    with h5py.File(copy, "r+") as file:
        CHANGES[what](file)
    named = "again" if what == "compact" else what  # the first of its names
    with pytest.raises(InputError, match=f"a copy would differ at /{named}, which is none of ours"):
        unchanged(all_kinds, copy, [])
    if what not in ("compact", "again", "texts"):  # which others refer to, or are
        unchanged(all_kinds, copy, [f"/{what}"])


@pytest.mark.parametrize("options", [{}, {"userblock_size": 512}, {"libver": "latest"}], ids=str)
def test_copies_are_alike_and_bytes_are_found(options, tmp_path):
    path = everything(tmp_path / "a.h5", **options)
    copy = shutil.copy(path, tmp_path / "b.h5")
    unchanged(path, copy, [])
    for name in ("contiguous", "packed"):
        with h5py.File(path) as file:
            stored = file[name].id
            begin = stored.get_offset() if name == "contiguous" else stored.get_chunk_info(7).byte_offset
        with open(copy, "r+b") as file:
            file.seek(begin + 5)
            old = file.read(1)
            file.seek(begin + 5)
            file.write(bytes([old[0] ^ 1]))
        with pytest.raises(InputError, match=f"would differ at /{name}"):
            unchanged(path, copy, [])
        shutil.copy(path, copy)


def test_data_of_a_filter_that_is_not_installed_are_compared(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((4,))
        plist.set_filter(32768, h5py.h5z.FLAG_OPTIONAL, ())  # one of somebody's own
        space = h5py.h5s.create_simple((8,))
        stored = h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_INT32, space, plist)
        for offset in (0, 4):
            stored.write_direct_chunk((offset,), b"packed" + bytes(10), 0)
    copy = shutil.copy(path, tmp_path / "b.h5")
    unchanged(path, copy, [])
    with h5py.File(copy, "r+") as file:
        file["x"].id.write_direct_chunk((4,), b"PACKED" + bytes(10), 0)
    with pytest.raises(InputError, match="would differ at /x"):
        unchanged(path, copy, [])


def test_comparing_keeps_little_in_memory(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["contiguous"] = np.zeros(6_000_000)
        file.create_dataset("one chunk", data=np.zeros(6_000_000), chunks=(6_000_000,))
    copy = shutil.copy(path, tmp_path / "b.h5")
    tracemalloc.start()
    unchanged(path, copy, [])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000


@pytest.mark.parametrize("options", [{}, {"libver": "latest"}, {"track_order": True}], ids=str)
def test_a_copy_object_by_object_is_alike(options, tmp_path):
    path, copy = everything(tmp_path / "a.h5", **options), tmp_path / "b.h5"
    with h5py.File(path, "r+") as file:
        file["group"].attrs.create("roi", file["chunked"].regionref[3:9], dtype=h5py.regionref_dtype)
        file["group"].attrs["nothing"], file["compact"].attrs["root"] = h5py.Empty("f4"), file.ref
    copy_without(path, copy, [])
    unchanged(path, copy, [])
    with h5py.File(copy) as file:
        assert file["again"] == file["compact"]
        assert file["group/inside"] == file["group"]


def test_references_to_what_is_left_out_are_empty(all_kinds, tmp_path):
    copy_without(all_kinds, tmp_path / "b.h5", ["/compact", "/contiguous", "/texts"])
    with h5py.File(tmp_path / "b.h5") as file:
        assert not {"compact", "contiguous", "texts"} & set(file)
        assert file[file["references"][0]] == file[file["rows"][0]["what"]] == file["again"]  # its other name stays
        assert not file["regions"][0]
        assert not file["group"].attrs["of"]


# --- replacing in a byte copy -----------------------------------------------------------------------------------------


def region_reference(file):
    data = file["acquisition/raw/data"]
    file["acquisition/raw"].attrs.create("roi", data.regionref[2:5], dtype=h5py.regionref_dtype)


def hard_link(file):
    file["acquisition/again"] = file["acquisition/raw"]


def links_to_the_units(file):
    file["scratch/spikes"] = h5py.SoftLink("/units/spike_times")


def test_a_table_is_replaced_whatever_else_the_file_holds(session, embeddings, tmp_path):
    with h5py.File(session, "r+") as file:
        for add in (region_reference, hard_link, links_to_the_units):
            add(file)
    before = shutil.copy(session, tmp_path / "before.nwb")
    for part in (embeddings, embeddings.select([3, 1])):
        write_nwb(session, part, in_place=True, if_exists="replace", publish=True)
        assert read_nwb(session)[0].unit_ids.tolist() == part.unit_ids.tolist()
    gone, _, changed = differences(before, session)
    assert (gone, changed) == ([], ["/units"])  # whose columns are two more
    assert pynwb.validate(path=str(session)) == []


@pytest.mark.parametrize("region", [False, True])
def test_a_table_that_others_refer_to_is_not_replaced(session, embeddings, region):
    write_nwb(session, embeddings, in_place=True)
    with h5py.File(session, "r+") as file:
        data = file["processing/nuclr/UnitEmbeddings/embedding"]
        if region:
            file["acquisition/raw"].attrs.create("of", data.regionref[:2], dtype=h5py.regionref_dtype)
        else:
            file["acquisition/raw"].attrs["of"] = data.ref
    before = session.read_bytes()
    with pytest.raises(InputError, match=r"/acquisition/raw refers to .*/UnitEmb.*, which would be removed"):
        write_nwb(session, embeddings.select([1, 2]), in_place=True, if_exists="replace")
    assert session.read_bytes() == before
    write_nwb(session, embeddings.select([1, 2]), in_place=True, if_exists="new_name")


# --- private files stay private ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"units_only": True}, {"in_place": True}], ids=str)
def test_a_private_file_is_private_all_the_time(session, embeddings, options, monkeypatch):
    session.chmod(0o600)
    append, seen = spikeinterface_nuclr.io.nwb.tables.append, []

    def look(path, *arguments):
        seen.append(mode(path))
        return append(path, *arguments)

    monkeypatch.setattr(spikeinterface_nuclr.io.nwb.tables, "append", look)
    written = write_nwb(session, embeddings, **options)
    assert (seen, mode(written)) == ([0o600], 0o600)
    session.chmod(0o640)
    assert mode(write_nwb(session, embeddings, written, overwrite=True) if not options else written) in (0o640, 0o600)


@pytest.mark.slow
def test_a_private_store_is_private_all_the_time(session, embeddings, tmp_path):
    hdmf_zarr = pytest.importorskip("hdmf_zarr")
    store = tmp_path / "session.nwb.zarr"
    with pynwb.NWBHDF5IO(session, "r") as source, hdmf_zarr.NWBZarrIO(str(store), "w") as target:
        target.export(source, write_args={"link_data": False})
    store.chmod(0o700)
    for written in (write_nwb(store, embeddings), write_nwb(store, embeddings, in_place=True)):
        assert mode(written) == 0o700
        assert mode(written / "processing/nuclr") == 0o700
        assert mode(written / "processing/nuclr/UnitEmbeddings/embedding/.zarray") == 0o600
    assert mode(write_nwb(store, embeddings, tmp_path / "side.nwb", units_only=True)) == 0o600


# --- one writer at a time ---------------------------------------------------------------------------------------------

WRITER = """
import sys, time
from pathlib import Path
from spikeinterface_nuclr.locks import alone
with alone(Path(sys.argv[1])):
    print("ready", flush=True)
    time.sleep(60)
"""


def test_another_writer_is_waited_for_by_the_user(session, embeddings):
    with subprocess.Popen([sys.executable, "-c", WRITER, session], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "ready\n"
        before = session.read_bytes()
        with pytest.raises(InputError, match=r"another process is writing it: .* delete .*\.session\.nwb\.lock"):
            write_nwb(session, embeddings, in_place=True)
        assert session.read_bytes() == before
        write_nwb(session, embeddings)  # a copy is another file
        writer.kill()
    # Nobody has to clean up after one that was killed, nor after one that was killed while it took over the lock.
    session.with_name(f".session.nwb.lock.break.{writer.pid}.0123abcd").touch()
    write_nwb(session, embeddings, in_place=True)
    assert sorted(os.listdir(session.parent)) == ["session.nwb", "session_nuclr.nwb"]


def test_no_update_is_lost_where_there_are_no_locks(session, embeddings, monkeypatch):
    import fcntl

    def no_locks(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    outcomes = []

    def write(name):
        try:
            write_nwb(session, embeddings, in_place=True, name=name)
            outcomes.append(name)
        except InputError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=write, args=(f"table{k}",)) for k in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    with pynwb.NWBHDF5IO(session, "r") as io:
        there = {name for name in io.read().processing["nuclr"].data_interfaces if name.startswith("table")}
    assert there == {outcome for outcome in outcomes if outcome.startswith("table")} != set()
    refused = [outcome for outcome in outcomes if not outcome.startswith("table")]
    assert all("another process is writing it" in line or "was changed by another program" in line for line in refused)


def test_the_file_is_looked_at_last_when_the_copy_is_on_the_disk(session, embeddings, monkeypatch, tmp_path):
    theirs = write_nwb(session, embeddings, tmp_path / "theirs.nwb", name="theirs")
    fsync = os.fsync

    def slow(descriptor):
        if theirs.exists() and os.path.samefile(f"/proc/self/fd/{descriptor}", session) is False:
            os.replace(theirs, session)  # another program's, on a machine that knows nothing of our lock
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    with pytest.raises(InputError, match="was changed by another program in the meantime: write again"):
        write_nwb(session, embeddings, in_place=True, name="ours")
    monkeypatch.undo()
    assert read_nwb(session)[0].unit_ids.tolist() == embeddings.unit_ids.tolist()
    with pynwb.NWBHDF5IO(session, "r") as io:
        assert "theirs" in io.read().processing["nuclr"].data_interfaces
