"""Checks that a copy of an NWB file has to pass before it may replace the file.

Beside what was added it holds exactly what the original holds, object by object: data are compared as they lie on the
disk, block by block, whatever filter packed them; where they only lead to a heap (texts of any length, references), by
value.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from ...errors import InputError, RecordingWarning, reason_of
from .file import OpenFile
from .matching import texts
from .reading import contents, stored_identities, stored_table
from .specification import specification_place
from .tables import Part, Plan

_OF_EMBEDDINGS = ("embedding", "num_windows", "split_half_similarity")
_OF_IDENTITIES = ("classes", "best_label", "reason", "probability", "confidence")
_BLOCK = 1 << 20  # bytes read at once
_ROWS = 100_000  # values read at once


def check_valid(path: Path, original: OpenFile, copy: OpenFile) -> None:
    """Raise InputError if pynwb finds a fault in the copy that it does not find in the original.

    Issue a RecordingWarning if pynwb cannot validate the original at all, as where its specifications are incomplete.
    """
    try:
        faults = _faults(copy)
    except Exception as problem:  # pynwb raises what it pleases on specifications that it cannot use
        if _can_be_validated(original):
            raise
        warnings.warn(
            f"{path}: pynwb cannot validate it ({reason_of(problem)}): what was written is only compared with it "
            "object by object, and read back",
            RecordingWarning,
            stacklevel=2,
        )
        return
    if faults:
        faults -= _faults(original)
    if faults:
        raise InputError(f"{path}: the copy would not be valid NWB ({min(faults)}): nothing was written")


def _can_be_validated(opened: OpenFile) -> bool:
    try:
        _faults(opened)
    except Exception:
        return False
    return True


def _faults(opened: OpenFile) -> set[str]:
    import pynwb

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {str(fault) for fault in pynwb.validate(io=opened.io)}


def check_read_back(path: Path, copy: OpenFile, plan: Plan) -> None:
    """Raise InputError if reading the copy does not give what was planned."""
    if not all(_comes_back(copy.nwbfile, part) for part in plan.parts):
        raise InputError(f"{path}: what was written does not come back: nothing was kept; report this, with the file")


def _comes_back(nwbfile, part: Part) -> bool:
    found = stored_table(nwbfile, part.name)
    same = np.array_equal(found.rows, part.rows) and _same_rows(found.embeddings, part.embeddings, _OF_EMBEDDINGS)
    for name, written in part.identities.items():
        read = stored_identities(nwbfile, name, found)
        columns = _OF_IDENTITIES if written.novelty is None else (*_OF_IDENTITIES, "novelty")
        same &= read.target == written.target and _same_rows(read, written, columns)
        # Read by others only: ours derives it.
        same &= texts(contents(nwbfile)[name]["label"].data[:]) == written.label.tolist()
    return same


def _same_rows(read, written, columns: tuple[str, ...]) -> bool:
    """Whether the units, by name, and these columns are those that were written."""
    same = [str(unit) for unit in read.unit_ids] == [str(unit) for unit in written.unit_ids]
    for name in columns:
        a, b = np.asarray(getattr(read, name)), np.asarray(getattr(written, name))
        same &= np.array_equal(a, b.astype(a.dtype), equal_nan=a.dtype.kind == "f")
    return same


def check_unchanged(path: Path, original: OpenFile, copy_path: Path, copy: OpenFile, ours: list[str]) -> None:
    """Raise InputError if the copy differs from the original in any object outside the paths `added`."""
    ours = [*ours, specification_place(original.hdf5 or path)]
    before, after = _described(path, original, ours), _described(copy_path, copy, ours)
    for place in sorted(before.keys() | after.keys()):
        if before.get(place) != after.get(place):
            raise InputError(
                f"{path}: a copy would differ at {place}, which is none of ours: nothing was written; write a side "
                "file of its units (units_only=True, --units-only)"
            )


def _described(path: Path, opened: OpenFile, ours: list[str]) -> dict[str, tuple] | dict[str, str]:
    """What is at every path of the file: kind, type, shape, filters, attributes, and the hash of the data."""
    if opened.hdf5 is None:
        return _describe_zarr(path, ours)
    with open(path, "rb") as raw:
        return _Description(opened.hdf5, raw, ours).found


class _Description:
    """What an open HDF5 file holds, by path, but for what stands at the paths `ours`."""

    def __init__(self, file: h5py.File, raw, ours: list[str]):
        self._file, self._raw, self._ours = file, raw, ours
        self._seen: dict[int, str] = {}
        self._names: dict[int, str] = {}
        self.found: dict[str, tuple] = {}
        self._describe("/", file["/"])
        # A file without processed data has no such group; ours brings it.
        if not any(place.startswith("/processing/") for place in self.found):
            self.found.pop("/processing", None)

    def _describe(self, place: str, thing) -> None:
        address = h5py.h5o.get_info(thing.id).addr
        if address in self._seen:  # another name, or a group inside itself
            self.found[place] = ("again", self._seen[address])
            return
        self._seen[address] = place
        self.found[place] = (type(thing).__name__, self._attributes(thing, place))
        if isinstance(thing, h5py.Dataset):
            form = (str(thing.dtype), thing.shape, thing.maxshape, thing.chunks, thing.compression, thing.external)
            self.found[place] += (*form, _sources(thing) if thing.is_virtual else self._hash(thing))
        elif isinstance(thing, h5py.Datatype):
            self.found[place] += (str(thing.dtype),)
        else:
            for name in thing:
                self._describe_child(thing, name, f"{place.rstrip('/')}/{name}")

    def _describe_child(self, group: h5py.Group, name: str, place: str) -> None:
        if place in self._ours:
            return
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.HardLink):
            self._describe(place, group[name])
        else:
            self.found[place] = (type(link).__name__, link.path, getattr(link, "filename", None))

    def _attributes(self, thing, place: str) -> str:
        found = {}
        columns = {path.rpartition("/")[2] for path in self._ours if path.rpartition("/")[0] == place}
        for name in sorted(set(thing.attrs) - {".specloc"}):
            attribute = thing.attrs.get_id(name)
            try:
                value = self._plain(thing.attrs[name])
                text = h5py.check_string_dtype(attribute.dtype)
                kind = text.encoding if text else str(attribute.dtype.metadata or attribute.dtype)
            except (TypeError, OSError, ValueError):  # of a type that numpy does not have
                value, kind = attribute.get_storage_size(), ""
            if columns and name == "colnames":
                value, kind = [column for column in value if column not in columns], ""
            found[name] = (kind, value)
        return json.dumps(found, default=str)

    def _hash(self, dataset: h5py.Dataset) -> str | None:
        """Of the data on the disk; None if there are none."""
        digest = hashlib.sha256()
        if dataset.shape is None:
            return None
        if dataset.dtype.hasobject:
            try:
                for values in _blocks(dataset):
                    digest.update(json.dumps(self._plain(values), default=str).encode())
                return digest.hexdigest()
            except OSError:  # a filter that is not installed here
                digest = hashlib.sha256()
        if dataset.chunks is not None:
            dataset.id.chunk_iter(lambda chunk: self._add_chunk(digest, chunk))
        elif (begin := dataset.id.get_offset()) is not None:
            self._add_bytes(digest, begin, dataset.id.get_storage_size())
        elif dataset.size and not dataset.external:  # small, and kept with its header
            digest.update(np.ascontiguousarray(dataset[()]).tobytes())
        return digest.hexdigest()

    def _add_chunk(self, digest, chunk) -> None:
        digest.update(str((chunk.chunk_offset, chunk.filter_mask)).encode())
        self._add_bytes(digest, chunk.byte_offset, chunk.size)

    def _add_bytes(self, digest, begin: int, size: int) -> None:
        self._raw.seek(begin)
        while size > 0 and (block := self._raw.read(min(size, _BLOCK))):
            digest.update(block)
            size -= len(block)

    def _plain(self, value):
        """The value with references as the paths that they lead to: what was removed is at none."""
        if isinstance(value, h5py.RegionReference):
            return [self._name(value), str(self._file[value].regionref.selection(value))] if value else None
        if isinstance(value, h5py.Reference):
            return self._name(value) if value else None
        if isinstance(value, np.ndarray) and value.dtype.kind in "iufb":
            return [value.shape, hashlib.sha256(value.tobytes()).hexdigest()]
        if isinstance(value, np.ndarray | list | tuple):
            return [self._plain(v) for v in value]
        if isinstance(value, np.void) and value.dtype.names:
            return [self._plain(value[name]) for name in value.dtype.names]
        return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)

    def _name(self, reference) -> str:
        """The path of what a reference leads to. HDF5 looks through the whole file for it, so it is asked for once."""
        try:
            thing = self._file[reference]
            address = h5py.h5o.get_info(thing.id).addr
            if address not in self._names:
                self._names[address] = thing.name
            return self._names[address]
        except (ValueError, OSError, RuntimeError, KeyError) as error:
            return f"nothing ({type(error).__name__})"


def _sources(dataset: h5py.Dataset) -> list[tuple]:
    """Of a virtual dataset: which part of it is which part of what."""
    sources = dataset.virtual_sources()
    return [(one.file_name, one.dset_name, one.vspace.encode(), one.src_space.encode()) for one in sources]


def _blocks(dataset: h5py.Dataset) -> Iterator:
    """The values, some rows at a time."""
    if not dataset.shape:
        yield dataset[()]
        return
    rows = max(1, _ROWS // max(1, int(np.prod(dataset.shape[1:], dtype=object))))
    for begin in range(0, dataset.shape[0], rows):
        yield dataset[begin : begin + rows]


def _describe_zarr(path: Path, ours: list[str]) -> dict[str, str]:
    """Hash of every file of the store, but for those that list others; where symbolic links lead to."""
    found = {}
    for folder, folders, files in os.walk(path):
        for file in (Path(folder, name) for name in (*folders, *files)):
            place = "/" + file.relative_to(path).as_posix()
            parts = [place, *(f"/{parent.as_posix()}" for parent in file.relative_to(path).parents)]
            if place in ("/.zmetadata", "/processing/.zgroup", "/processing/.zattrs") or any(p in ours for p in parts):
                continue
            columns = {p.rpartition("/")[2] for p in ours if f"{p.rpartition('/')[0]}/.zattrs" == place}
            if file.is_symlink():
                found[place] = f"link to {os.readlink(file)}"
            elif columns:
                content = json.loads(file.read_text(encoding="utf-8"))
                content["colnames"] = [name for name in content.get("colnames", ()) if name not in columns]
                found[place] = json.dumps(content, sort_keys=True)
            elif not file.is_dir():
                found[place] = _hash_file(file)
    return found


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
