"""Nothing that a folder or a store of SpikeInterface holds is run: pickles in every member are refused by name."""

import json
import pickle
import shutil
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import spikeinterface.core as si
import zarr

from spikeinterface_nuclr import InputError, read_population
from spikeinterface_nuclr.io import kind_of
from spikeinterface_nuclr.io.untrusted import check_npy, check_npz, check_zarr


class Bomb:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path):
    path = tmp_path / "was-run"
    yield path
    assert not path.exists(), "something of the file was run"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A sorting and an analyzer in every form in which SpikeInterface saves them."""
    folder = tmp_path_factory.mktemp("saved")
    recording, sorting = si.generate_ground_truth_recording(durations=[30.0], num_units=6, num_channels=4, seed=0)
    sorting.set_property("quality", np.array(["good", "mua"] * 3))
    sorting.save(folder=folder / "folder")
    sorting.save(folder=folder / "npz", format="npz_folder")
    sorting.save(folder=folder / "sorting.zarr", format="zarr")
    analyzer = si.create_sorting_analyzer(sorting, recording, sparse=True)
    analyzer.compute(["random_spikes", "templates"])
    analyzer.save_as(folder=folder / "analyzer", format="binary_folder")
    analyzer.save_as(folder=folder / "analyzer.zarr", format="zarr")
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


KINDS = ("folder", "npz", "sorting.zarr", "analyzer", "analyzer.zarr")


@pytest.mark.parametrize("kind", KINDS)
def test_what_spikeinterface_saved_is_read(saved, kind):
    assert read_population(saved / kind).n_units == 6


def _npy_members(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*.npy") if "extensions" not in path.parts]


@pytest.mark.parametrize("kind", ["folder", "npz", "analyzer"])
@pytest.mark.parametrize("form", ["objects", "bare pickle", "structured", "zip"])
def test_pickles_in_npy_members_are_refused(folder, kind, form, mark):
    members = [*_npy_members(folder / kind), next((folder / kind).rglob("properties")) / "extra.npy"]
    for member in members:
        before = member.read_bytes() if member.exists() else None
        objects = np.array([Bomb(mark)] * 6, dtype=object)
        if form == "objects":
            np.save(member, objects, allow_pickle=True)
        elif form == "structured":
            np.save(member, np.array([(1, Bomb(mark))] * 6, dtype=[("a", int), ("b", object)]), allow_pickle=True)
        elif form == "zip":
            with open(member, "wb") as file:
                np.savez(file, a=objects)
        else:
            member.write_bytes(pickle.dumps(objects))
        with pytest.raises(InputError, match=member.name) as caught:
            read_population(folder / kind)
        assert len(str(caught.value).splitlines()) == 1
        member.unlink() if before is None else member.write_bytes(before)
    assert read_population(folder / kind).n_units == 6


def test_pickles_in_an_npz_sorting_are_refused(folder, mark):
    path = folder / "npz" / "sorting_cached.npz"
    with np.load(path) as file:
        held = dict(file)
    np.savez(path, **{**held, "unit_ids": np.array([Bomb(mark)], dtype=object)})
    with pytest.raises(InputError, match=r"sorting_cached\.npz: unit_ids"):
        read_population(folder / "npz")


def _pickled(store: Path, array: Path, mark: Path, how: str) -> None:
    """Make an array of a Zarr store one of pickles, by its codecs or by its filters."""
    array = store / array
    metadata = json.loads((array / ".zarray").read_text())
    content = pickle.dumps(np.array([Bomb(mark)] * 6, dtype=object))
    metadata |= {"compressor": None, "dtype": "|O", "shape": [6], "chunks": [6], "fill_value": None}
    metadata["filters"] = [{"id": "pickle", "protocol": 5}]
    if how == "compressor":
        metadata |= {"filters": None, "compressor": {"id": "pickle", "protocol": 5}, "dtype": "<i8", "fill_value": 0}
    (array / ".zarray").write_text(json.dumps(metadata))
    for chunk in array.iterdir():
        if not chunk.name.startswith(".z"):
            chunk.unlink()
    (array / "0").write_bytes(content)
    zarr.consolidate_metadata(str(store))


@pytest.mark.parametrize("kind", ["sorting.zarr", "analyzer.zarr"])
@pytest.mark.parametrize("how", ["filter", "compressor"])
def test_pickles_in_zarr_members_are_refused(saved, tmp_path, kind, how, mark):
    arrays = [path.parent.relative_to(saved / kind) for path in (saved / kind).rglob(".zarray")]
    # What is not read; SpikeInterface 0.105.0 has the provenance of the sorting beside it.
    unread = ("extensions", "recording", "sorting_provenance")
    arrays = [array for array in arrays if array.parts[0] not in unread]
    assert len(arrays) > 5
    for number, array in enumerate(arrays):
        store = shutil.copytree(saved / kind, tmp_path / f"{number}.zarr")
        _pickled(store, array, mark, how)
        with pytest.raises(InputError, match=array.as_posix()):
            read_population(store)


def test_a_pickle_that_only_the_consolidated_metadata_name_is_refused(folder, mark):
    store = folder / "sorting.zarr"
    zarr.consolidate_metadata(str(store))
    listed = json.loads((store / ".zmetadata").read_text())
    listed["metadata"]["unit_ids/.zarray"]["filters"] = [{"id": "pickle", "protocol": 5}]
    (store / ".zmetadata").write_text(json.dumps(listed))
    with pytest.raises(InputError, match=r"unit_ids.*pickle"):
        read_population(store)


def test_members_behind_links_are_looked_at_and_loops_end(folder, tmp_path, mark):
    store = folder / "sorting.zarr"
    shutil.move(store / "properties", tmp_path / "elsewhere")
    (store / "properties").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(store)
    _pickled(store, Path("properties/quality"), mark, "filter")
    with pytest.raises(InputError, match="pickle"):
        read_population(store)


@pytest.mark.parametrize("kind", ["analyzer", "analyzer.zarr"])
def test_pickles_that_are_never_opened_are_no_reason_to_refuse(folder, kind, mark):
    """A recording's provenance and the models of other extensions are not ours to load."""
    if kind == "analyzer":
        (folder / kind / "recording.pickle").write_bytes(pickle.dumps(Bomb(mark)))
        (folder / kind / "extensions" / "templates" / "model.pkl").write_bytes(pickle.dumps(Bomb(mark)))
        (folder / kind / "recording.json").unlink(missing_ok=True)
    else:
        root = zarr.open(str(folder / kind))
        root.create_dataset("recording", data=np.array([Bomb(mark)], dtype=object), object_codec=numcodecs.Pickle(),
                            overwrite=True)  # fmt: skip
        zarr.consolidate_metadata(root.store)
    assert read_population(folder / kind).n_units == 6


def test_the_templates_that_tell_a_unit_s_probe_are_looked_at_first(tmp_path, mark):
    recording, sorting = si.generate_ground_truth_recording(durations=[30.0], num_units=6, num_channels=8, seed=0)
    recording.set_property("group", [0] * 4 + [1] * 4)
    sorting = si.NumpySorting(sorting.to_spike_vector(), sorting.sampling_frequency, sorting.unit_ids)
    analyzer = si.create_sorting_analyzer(sorting, recording, sparse=False)
    analyzer.compute(["random_spikes", "templates"])
    saved = analyzer.save_as(folder=tmp_path / "an", format="binary_folder")
    (saved.folder / "sorting" / "properties" / "main_channel_id.npy").unlink(missing_ok=True)
    assert len(np.unique(read_population(tmp_path / "an").group)) == 2
    (saved.folder / "extensions" / "templates" / "average.pkl").write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(InputError, match=r"average\.pkl: is a pickle"):
        read_population(tmp_path / "an")


@pytest.mark.parametrize(
    "content",
    [b"[]", b"3", b'"text"', b"{", b'{"spikeinterface_info": 3}', b'{"object": ["SortingAnalyzer"]}', b"\xff\xfe",
     b'{"object": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", b'{"class": 7, "zarr_class_info": [1]}'],
)  # fmt: skip
@pytest.mark.parametrize("marker", ["spikeinterface_info.json", ".zattrs", "si_folder.json"])
def test_odd_json_is_a_folder_of_no_known_kind(tmp_path, content, marker):
    (tmp_path / marker).write_bytes(content)
    assert kind_of(tmp_path) == "other"
    with pytest.raises(InputError, match=str(tmp_path)) as caught:
        read_population(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_headers_that_lie_about_their_size_are_refused(tmp_path):
    path = tmp_path / "a.npy"
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    with pytest.raises(InputError, match="claims 8,000,000,000,000 bytes"):
        check_npy(path)
    path.write_bytes(b"\x93NUMPY\x01\x00" + b"\xff\xff" + b"{'descr': " + b"(" * 60_000)
    with pytest.raises(InputError, match=r"a\.npy"):
        check_npy(path)


def test_an_npz_that_unpacks_to_far_more_than_it_is_is_refused(tmp_path):
    import zipfile

    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(2):
            with archive.open(f"{number}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array_header_1_0(
                    file, {"descr": "|u1", "fortran_order": False, "shape": (40_000_000,)}
                )
                file.write(bytes(40_000_000))
    with pytest.raises(InputError, match=r"bomb.npz: claims 0\.1 GB"):
        check_npz(path)


@pytest.mark.skipif(not hasattr(zarr.Group, "create_dataset"), reason="zarr 3")
def test_references_that_hdmf_pickles_pass_and_anything_else_does_not(tmp_path, mark):
    root = zarr.open(str(tmp_path / "s.zarr"), mode="w")
    references = np.array([{"source": ".", "path": "/a", "object_id": None}] * 3, dtype=object)
    root.create_dataset("units/electrode_group", data=references, object_codec=numcodecs.Pickle())
    check_zarr(tmp_path / "s.zarr", references=True)
    root.create_dataset("units/evil", data=np.array([Bomb(mark)], dtype=object), object_codec=numcodecs.Pickle())
    with pytest.raises(InputError, match=r"units/evil: asks for pathlib"):
        check_zarr(tmp_path / "s.zarr", references=True)


@pytest.mark.skipif(not hasattr(zarr.Group, "create_dataset"), reason="zarr 3")
def test_a_zarr_array_of_fill_values_is_refused(tmp_path):
    root = zarr.open(str(tmp_path / "s.zarr"), mode="w")
    root.create_dataset("a", shape=(10**12,), chunks=(10**6,), dtype="f8")
    with pytest.raises(InputError, match=r"a: claims 8,000\.0 GB"):
        check_zarr(tmp_path / "s.zarr")


def test_pickles_in_every_member_of_an_nwb_store_are_refused(tmp_path, mark):
    nwb_zarr = pytest.importorskip("hdmf_zarr")
    from datetime import datetime, timezone

    import pynwb

    nwbfile = pynwb.NWBFile("s", "i", datetime(2026, 1, 1, tzinfo=timezone.utc))
    group = nwbfile.create_electrode_group("p", "d", "x", nwbfile.create_device("d"))
    nwbfile.add_electrode(location="CA1", group=group, group_name="p")
    for k in range(4):
        nwbfile.add_unit(spike_times=np.arange(1.5, 30.0 + k), electrodes=[0])
    with nwb_zarr.NWBZarrIO(str(tmp_path / "s.nwb.zarr"), "w") as io:
        io.write(nwbfile)
    store = tmp_path / "s.nwb.zarr"
    assert read_population(store).n_units == 4  # hdmf's own pickles, of references, are no reason to refuse
    arrays = [p.parent.relative_to(store) for p in store.rglob(".zarray") if "specifications" not in p.parts]
    assert len(arrays) > 10
    for array in arrays:
        before = shutil.copytree(store / array, tmp_path / "before", dirs_exist_ok=True)
        _pickled(store, array, mark, "filter")
        with pytest.raises(InputError, match=array.as_posix()):
            read_population(store)
        shutil.rmtree(store / array)
        shutil.move(before, store / array)


@pytest.mark.parametrize(
    "changed", [{"dtype": "text\n"}, {"dtype": 3}, {"shape": None}, {"shape": ["a"]}, {"filters": 7}]
)
def test_odd_metadata_of_an_array_are_named(folder, changed):
    path = folder / "sorting.zarr" / "unit_ids" / ".zarray"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    with pytest.raises(InputError, match=r"sorting\.zarr: unit_ids: not a readable Zarr array") as caught:
        read_population(folder / "sorting.zarr")
    assert len(str(caught.value).splitlines()) == 1
