"""The output file and whether it can be written: links, permissions, locks, disk space."""

import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from ...errors import InputError
from ...files import check_writable
from .links import Pointer, pointers_of

# Places at which a copy of the whole file is extended.
_EXTENDED = ("/units", "/processing", "/processing/nuclr", "/specifications", "/specifications/ndx-nuclr")


def output_of(path: Path, output, *, in_place: bool, units_only: bool) -> Path:
    """The file to write; InputError if the request contradicts itself."""
    if in_place and (output is not None or units_only):
        raise InputError("in_place replaces the file itself: leave out output and units_only")
    if in_place:
        return path.resolve()  # the target of a link, not the link
    if output is None:
        stem, suffix = re.fullmatch(r"(.*?)((?:\.nwb)?(?:\.zarr)?)", path.name).groups()
        return path.with_name(f"{stem}_nuclr{'.nwb' if units_only or not suffix else suffix}")
    output = Path(output)
    if output.is_symlink():
        output = output.resolve()
    if output.resolve() == path.resolve():
        raise InputError(f"{output}: is the file itself: give in_place=True (--in-place) to replace it")
    if path.is_dir() and not units_only and output.suffix not in (".zarr", ".nwb"):
        raise InputError(f"{output}: unknown format {output.suffix!r}: use .zarr")
    if (not path.is_dir() or units_only) and output.suffix != ".nwb":
        raise InputError(f"{output}: unknown format {output.suffix!r}: use .nwb")
    return output


def check_places(
    path: Path, output: Path, *, in_place: bool, overwrite: bool, units_only: bool = False, imaged: bool = False,
    pointers: list[Pointer] | None = None,
) -> None:  # fmt: skip
    """Raise InputError if the output cannot be written, or the file to be replaced is read-only or open.

    Also raise it if a copy of the file would differ: a relative pointer would lead elsewhere, or an object to be
    extended is in another file (for imaged neurons, the units table may be). `pointers` are those of the file, if it
    has been read already.
    """
    check_writable(output, overwrite=overwrite or in_place)
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: you have no permission to read it: ask its owner")
    if in_place:
        writable = os.stat(path).st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
        if not writable or not os.access(path, os.W_OK):
            raise InputError(
                f"{path}: is read-only: name an output (-o), or write a side file of its units (units_only=True, "
                "--units-only)"
            )
    with locked(path, exclusive=in_place):
        pass
    if not units_only:
        _check_pointers(path, output, pointers_of(path) if pointers is None else pointers, imaged=imaged)


def _check_pointers(path: Path, output: Path, pointers: list[Pointer], *, imaged: bool) -> None:
    for pointer in pointers:
        if pointer.place == "/units" and pointer.kind == "link" and not imaged:
            raise InputError(
                f"{path}: its units table lies in {pointer.target}, behind a link: write into that file, or write a "
                "side file of the units (units_only=True, --units-only)"
            )
        extended = pointer.place in _EXTENDED and (pointer.place != "/units" or pointer.kind == "symbolic link")
        if extended or (imaged and pointer.kind == "link" and _leads_to_rois(path, pointer.place)):
            raise InputError(f"{path}: {pointer.place} lies in {pointer.target}, behind a link: write into that file")
    check_relative(path, pointers, output)


def _leads_to_rois(path: Path, place: str) -> bool:
    """Whether a link leads to a table of ROIs or a container of one."""
    if path.is_dir() or not place.startswith("/processing/"):
        return False
    with h5py.File(path, "r") as file:
        attributes = file[place].attrs if place in file else {}
        return attributes.get("neurodata_type") in ("PlaneSegmentation", "ImageSegmentation", "ProcessingModule")


def check_relative(path: Path, pointers: list, output: Path) -> None:
    """Raise InputError if a pointer of the file would lead elsewhere from the folder of the output."""
    if path.resolve().parent == output.resolve().parent:
        return
    for pointer in pointers:
        if pointer.relative:
            raise InputError(
                f"{path}: {pointer.place} points to {pointer.target} beside it ({pointer.kind}): write the copy into "
                "the same folder"
            )


@contextmanager
def locked(path: Path, *, exclusive: bool) -> Iterator[None]:
    """Hold the lock with which HDF5 itself separates writers from readers; raise InputError if others hold it.

    The shared lock excludes writers, the exclusive one also readers. Zarr and some file systems have no locks. filelock
    cannot be used here: it takes locks on files of its own, which HDF5 does not check.
    """
    try:
        import fcntl
    except ImportError:  # Windows, where an open file cannot be replaced anyway
        yield
        return
    if path.is_dir():
        yield
        return
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{path}: is open in another program, or here: close it first") from None
        except OSError:  # a file system without locks
            pass
        yield


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a Zarr store."""
    return sum(f.lstat().st_size for f in path.rglob("*")) if path.is_dir() else path.stat().st_size


def stamp(path: Path) -> tuple:
    """Inode, size and modification time, which show whether a file or a Zarr store was replaced or changed."""
    files = [path, path / ".zmetadata"] if path.is_dir() else [path]
    states = [file.stat() for file in files if file.exists()]
    return tuple((state.st_ino, state.st_size, state.st_mtime_ns) for state in states)


def check_space(path: Path, temporary: Path, needed: int) -> None:
    """Raise InputError if the disk has fewer free bytes than a copy of `path` needs."""
    free = shutil.disk_usage(temporary.parent).free
    if free < needed:
        raise InputError(
            f"{path}: {needed / 1e6:,.0f} MB are needed in {temporary.parent}, {free / 1e6:,.0f} MB are free: name an "
            "output elsewhere, or write a side file of the units (units_only=True, --units-only)"
        )
