"""Checks that a copy of an NWB file must pass before it may replace the file.

Apart from the added objects, it must be identical to the original, object by object. Stored data are compared block by
block, without decompressing them; texts of variable length and references, which are stored in a heap, by value.
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
from ...predictions import Identities
from .file import OpenFile
from .matching import texts
from .reading import contents, stored_matches, stored_prediction, stored_table
from .specification import specification_place
from .tables import MatchTable, Part, Plan

_OF_EMBEDDINGS = ("embedding", "num_windows", "split_half_similarity")
_BLOCK = 1 << 20  # bytes read at once
_ROWS = 100_000  # values read at once


def check_valid(path: Path, original: OpenFile, copy: OpenFile) -> None:
    """Raise InputError if pynwb finds a fault in the copy that it does not find in the original.

    Issue a RecordingWarning if pynwb cannot validate the original either, as with incomplete specifications.
    """
    try:
        faults = _faults(copy)
    except Exception as problem:  # pynwb raises various errors for specifications that it cannot use
        if _can_be_validated(original):
            raise
        warnings.warn(
            f"{path}: pynwb cannot validate it ({reason_of(problem)}): the written file is only compared with it "
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
    """Raise InputError if the results read from the copy differ from the planned ones."""
    same = all(_reads_back(copy.nwbfile, part) for part in plan.parts)
    if not (same and all(_matches_read_back(copy.nwbfile, table) for table in plan.matches)):
        raise InputError(f"{path}: the results differ when read back: nothing was written; report this, with the file")


def _reads_back(nwbfile, part: Part) -> bool:
    stored = stored_table(nwbfile, part.name)
    same = np.array_equal(stored.rows, part.rows) and _same_rows(stored.embeddings, part.embeddings, _OF_EMBEDDINGS)
    for name, written in part.predictions.items():
        read = stored_prediction(nwbfile, name, stored)
        facts = ("classes",) if isinstance(written, Identities) else ("coverage",)
        columns = (*facts, *written.ROWS[1:], *written.optional_rows())
        same &= read.target == written.target and _same_rows(read, written, columns)
        if isinstance(written, Identities):  # a column for other readers: this package derives it
            same &= texts(contents(nwbfile)[name]["label"].data[:]) == written.label.tolist()
    return same


def _matches_read_back(nwbfile, written: MatchTable) -> bool:
    read = stored_matches(nwbfile, written.name)
    same = np.array_equal(read.rows, written.rows)
    for name, values in written.columns.items():
        column = read.columns[name]
        if values.dtype.kind == "U":
            same &= column.tolist() == values.tolist()
        else:
            same &= np.array_equal(column, values.astype(column.dtype), equal_nan=values.dtype.kind == "f")
    return same


def _same_rows(read, written, columns: tuple[str, ...]) -> bool:
    """Whether the names of the units and these columns equal those that were written."""
    same = [str(unit) for unit in read.unit_ids] == [str(unit) for unit in written.unit_ids]
    for name in columns:
        a, b = np.asarray(getattr(read, name)), np.asarray(getattr(written, name))
        same &= np.array_equal(a, b.astype(a.dtype), equal_nan=a.dtype.kind == "f")
    return same


def check_unchanged(path: Path, original: OpenFile, copy_path: Path, copy: OpenFile, added: list[str]) -> None:
    """Raise InputError if the copy differs from the original in any object outside the paths `added`."""
    added = [*added, specification_place(original.hdf5 or path)]
    before, after = _description(path, original, added), _description(copy_path, copy, added)
    for place in sorted(before.keys() | after.keys()):
        if before.get(place) != after.get(place):
            raise InputError(
                f"{path}: a copy would differ at {place}, which is none of ours: nothing was written; write a side "
                "file of its units (units_only=True, --units-only)"
            )


def _description(path: Path, opened: OpenFile, added: list[str]) -> dict[str, tuple] | dict[str, str]:
    """Each object of the file by path: kind, type, shape, filters, attributes, and the hash of its data."""
    if opened.hdf5 is None:
        return _describe_zarr(path, added)
    with open(path, "rb") as raw:
        return _Description(opened.hdf5, raw, added).objects


class _Description:
    """The objects of an open HDF5 file by path, except those at the paths `added`."""

    def __init__(self, file: h5py.File, raw, added: list[str]):
        self._file, self._raw, self._added = file, raw, added
        self._visited: dict[int, str] = {}
        self._names: dict[int, str] = {}
        self.objects: dict[str, tuple] = {}
        self._describe("/", file["/"])
        # The group is added to a file without processed data.
        if not any(place.startswith("/processing/") for place in self.objects):
            self.objects.pop("/processing", None)

    def _describe(self, place: str, item) -> None:
        address = h5py.h5o.get_info(item.id).addr
        if address in self._visited:  # another name, or a group inside itself
            self.objects[place] = ("again", self._visited[address])
            return
        self._visited[address] = place
        self.objects[place] = (type(item).__name__, self._attributes(item, place))
        if isinstance(item, h5py.Dataset):
            form = (str(item.dtype), item.shape, item.maxshape, item.chunks, item.compression, item.external)
            self.objects[place] += (*form, _sources(item) if item.is_virtual else self._hash(item))
        elif isinstance(item, h5py.Datatype):
            self.objects[place] += (str(item.dtype),)
        else:
            for name in item:
                self._describe_child(item, name, f"{place.rstrip('/')}/{name}")

    def _describe_child(self, group: h5py.Group, name: str, place: str) -> None:
        if place in self._added:
            return
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.HardLink):
            self._describe(place, group[name])
        else:
            self.objects[place] = (type(link).__name__, link.path, getattr(link, "filename", None))

    def _attributes(self, item, place: str) -> str:
        attributes = {}
        columns = {path.rpartition("/")[2] for path in self._added if path.rpartition("/")[0] == place}
        for name in sorted(set(item.attrs) - {".specloc"}):
            attribute = item.attrs.get_id(name)
            try:
                value = self._plain(item.attrs[name])
                text = h5py.check_string_dtype(attribute.dtype)
                kind = text.encoding if text else str(attribute.dtype.metadata or attribute.dtype)
            except (TypeError, OSError, ValueError):  # a type without equivalent in numpy
                value, kind = attribute.get_storage_size(), ""
            if columns and name == "colnames":
                value, kind = [column for column in value if column not in columns], ""
            attributes[name] = (kind, value)
        return json.dumps(attributes, default=str)

    def _hash(self, dataset: h5py.Dataset) -> str | None:
        """Hash of the stored data; None if there are none."""
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
        elif dataset.size and not dataset.external:  # small data, stored in the header
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
        """The value with references as the paths of their targets; a removed target has none."""
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
        """The path of a reference's target, cached because HDF5 searches the whole file for it."""
        try:
            item = self._file[reference]
            address = h5py.h5o.get_info(item.id).addr
            if address not in self._names:
                self._names[address] = item.name
            return self._names[address]
        except (ValueError, OSError, RuntimeError, KeyError) as error:
            return f"nothing ({type(error).__name__})"


def _sources(dataset: h5py.Dataset) -> list[tuple]:
    """Mapping of a virtual dataset: file, dataset, and the selections in both."""
    sources = dataset.virtual_sources()
    return [(s.file_name, s.dset_name, s.vspace.encode(), s.src_space.encode()) for s in sources]


def _blocks(dataset: h5py.Dataset) -> Iterator:
    """The values, some rows at a time."""
    if not dataset.shape:
        yield dataset[()]
        return
    rows = max(1, _ROWS // max(1, int(np.prod(dataset.shape[1:], dtype=object))))
    for begin in range(0, dataset.shape[0], rows):
        yield dataset[begin : begin + rows]


def _describe_zarr(path: Path, added: list[str]) -> dict[str, str]:
    """Hash of every file of the store, except those that list others; targets of symbolic links."""
    files_content = {}
    for folder, folders, files in os.walk(path):
        for file in (Path(folder, name) for name in (*folders, *files)):
            place = "/" + file.relative_to(path).as_posix()
            parts = [place, *(f"/{parent.as_posix()}" for parent in file.relative_to(path).parents)]
            if place in ("/.zmetadata", "/processing/.zgroup", "/processing/.zattrs") or any(p in added for p in parts):
                continue
            columns = {p.rpartition("/")[2] for p in added if f"{p.rpartition('/')[0]}/.zattrs" == place}
            if file.is_symlink():
                files_content[place] = f"link to {os.readlink(file)}"
            elif columns:
                content = json.loads(file.read_text(encoding="utf-8"))
                content["colnames"] = [name for name in content.get("colnames", ()) if name not in columns]
                files_content[place] = json.dumps(content, sort_keys=True)
            elif not file.is_dir():
                files_content[place] = _hash_file(file)
    return files_content


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
