"""Pointers from an NWB file to other files: links, data in other files, videos, symbolic links of a store."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import h5py
import numpy as np

from ...errors import InputError, reading
from ..untrusted import read_json

_MOST_NAMES = 1_000_000  # of videos in one series


@dataclass(frozen=True)
class Pointer:
    """A place in a file that refers to another file.

    Attributes
    ----------
    place : str
        Path in the file.
    kind : {"link", "external storage", "virtual dataset", "video", "symbolic link"}
    target : str
        The other file, as named at that place.
    """

    place: str
    kind: str
    target: str

    @property
    def relative(self) -> bool:
        """Whether the target depends on the folder of the file, so that it differs for a copy elsewhere."""
        return not (os.path.isabs(self.target) or PureWindowsPath(self.target).is_absolute() or "://" in self.target)


def pointers_of(path: Path) -> list[Pointer]:
    """All pointers in an NWB file, HDF5 or Zarr, to other files."""
    with reading(path, "NWB file"):
        if path.is_dir():
            return [*_symbolic_links(path), *_zarr_links(path)]
        with open_hdf5(path) as file:
            return pointers_in(file)


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file, open for reading; InputError if it is open for writing."""
    try:
        file = h5py.File(path, "r")
    except BlockingIOError:
        raise InputError(f"{path}: is open for writing in another program, or here: close it first") from None
    with file:
        yield file


def check_storage(path: Path, pointers: list[Pointer]) -> None:
    """Raise InputError if an HDF5 file, or one that it links to, has external storage: bytes of any other file.

    Such a file could expose any file of the machine that reads it. NWB does not use external storage.

    Parameters
    ----------
    path : Path
    pointers : list of Pointer
        The pointers in the file.
    """
    remaining, visited = [(path, pointers)], {path.resolve()}
    while remaining:
        file, pointers = remaining.pop()
        for pointer in pointers:
            if pointer.kind == "external storage":
                raise InputError(
                    f"{file}: {pointer.place} takes its data from the bytes of {pointer.target}, which could be any "
                    "file of this machine: refused; put the data into the file itself (h5repack)"
                )
            if pointer.kind in ("link", "virtual dataset"):
                for target in (file.parent / pointer.target, Path(pointer.target)):
                    if target.resolve() not in visited and _is_hdf5(target):
                        visited.add(target.resolve())
                        remaining.append((target, pointers_of(target)))


def _is_hdf5(path: Path) -> bool:
    return path.is_file() and h5py.is_hdf5(path)


def pointers_in(file: h5py.File) -> list[Pointer]:
    """All pointers in an open HDF5 file to other files."""
    pointers = []

    def add_link(name, link):
        if isinstance(link, h5py.ExternalLink):
            pointers.append(Pointer(f"/{name}", "link", link.filename))

    def add_dataset(name, item):
        if isinstance(item, h5py.Dataset):
            pointers.extend(_pointers_in_dataset(f"/{name}", item))

    file.visititems_links(add_link)
    file.visititems(add_dataset)
    return pointers


def _pointers_in_dataset(place: str, dataset: h5py.Dataset) -> Iterator[Pointer]:
    if dataset.external:
        yield from (Pointer(place, "external storage", os.fsdecode(name)) for name, _, _ in dataset.external)
    elif dataset.is_virtual:
        names = {source.file_name for source in dataset.virtual_sources()} - {"."}
        yield from (Pointer(place, "virtual dataset", name) for name in sorted(names))
    elif place.endswith("/external_file") and h5py.check_string_dtype(dataset.dtype):  # of an ImageSeries
        if dataset.size > _MOST_NAMES:
            raise ValueError(f"{place} claims to name {dataset.size:,} files")
        yield from (Pointer(place, "video", name) for name in np.ravel(dataset.asstr(errors="replace")[()]))


def _symbolic_links(store: Path) -> Iterator[Pointer]:
    """Symbolic links that lead out of the store, or would do so in a copy of it."""
    root = store.resolve()
    for folder, folders, files in os.walk(store):
        for path in (Path(folder, name) for name in (*folders, *files)):
            if path.is_symlink():
                target = os.readlink(path)
                if os.path.isabs(target) or not path.resolve().is_relative_to(root):
                    yield Pointer(f"/{path.relative_to(store).as_posix()}", "symbolic link", target)


def _zarr_links(store: Path) -> Iterator[Pointer]:
    """Links and references to other stores; references in arrays are pickles and are not read.

    hdmf-zarr names the store itself ".", and other stores relative to it.
    """
    for path in store.rglob(".zattrs"):
        attributes = read_json(path)
        place = f"/{path.parent.relative_to(store).as_posix()}".removesuffix("/.")
        for link in attributes.get("zarr_link") or ():
            if link.get("source", ".") != ".":
                yield Pointer(f"{place}/{link['name']}", "link", link["source"])
        for value in attributes.values():
            reference = value.get("value") if isinstance(value, dict) else None
            if isinstance(reference, dict) and reference.get("source", ".") != ".":
                yield Pointer(place, "link", reference["source"])
