"""Where a written file goes, and whether it may: links, permissions, locks, room on the disk."""

import glob
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
from filelock import SoftFileLock, Timeout

from ...errors import InputError
from ...files import check_writable, is_running
from .links import Pointer, pointers_of

# What a copy of the whole file is extended at.
_EXTENDED = ("/units", "/processing", "/processing/nuclr", "/specifications", "/specifications/ndx-nuclr")


def output_of(path: Path, output, *, in_place: bool, units_only: bool) -> Path:
    """The file to write; InputError if the request contradicts itself."""
    if in_place and (output is not None or units_only):
        raise InputError("in_place replaces the file itself: leave out output and units_only")
    if in_place:
        return path.resolve()  # what a link points to, not the link
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

    Or where a copy of the file would not be one: what it points to is not where it looks for it, or what is to be
    extended lies in another file. Imaged neurons are no rows of the units table, wherever that is. `pointers` are those
    of the file, where it has been read already.
    """
    check_writable(output, overwrite=overwrite or in_place)
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: you may not read it: ask its owner for permission")
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
    """Whether a link leads to a table of ROIs, or to what holds one."""
    if path.is_dir() or not place.startswith("/processing/"):
        return False
    with h5py.File(path, "r") as file:
        attributes = file[place].attrs if place in file else {}
        return attributes.get("neurodata_type") in ("PlaneSegmentation", "ImageSegmentation", "ProcessingModule")


def check_relative(path: Path, pointers: list, output: Path) -> None:
    """Raise InputError if one of the pointers of a file leads elsewhere from the folder of the output."""
    if path.resolve().parent == output.resolve().parent:
        return
    for pointer in pointers:
        if pointer.relative:
            raise InputError(
                f"{path}: {pointer.place} points to {pointer.target} beside it ({pointer.kind}): write the copy into "
                "the same folder"
            )


@contextmanager
def alone(output: Path) -> Iterator[None]:
    """Keep other processes of this package from writing the same file; InputError if one does.

    By a file beside it, ``.NAME.lock``, which does where file systems have no locks, as of clusters. What a killed
    process of this machine left does not count.
    """
    lock = SoftFileLock(output.with_name(f".{output.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            f"{output}: another process is writing it: write again when it is done, or, if there is none, delete "
            f"{lock.lock_file}"
        ) from None
    except OSError as error:
        raise InputError(f"{output.parent}: cannot write there ({error.strerror}): choose another folder") from None
    try:
        _sweep_marks(output)
        yield
    finally:
        lock.release()


def _sweep_marks(output: Path) -> None:
    """Remove what filelock leaves of a process that is killed while it takes over a lock, ``.NAME.lock.break.ID.…``."""
    for left in output.parent.glob(f".{glob.escape(output.name)}.lock.break.*"):
        process = left.name.split(".")[-2]
        if process.isdigit() and not is_running(int(process)):
            left.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, *, exclusive: bool) -> Iterator[None]:
    """Hold the lock by which HDF5 itself keeps writers and readers of a file apart; InputError if others hold it.

    The shared lock keeps writers off, the exclusive one also readers. Zarr has none, nor have some file systems. By
    hand: filelock takes locks on files of its own, which it empties, and HDF5 knows nothing of those.
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
    """Bytes of a file, or of all files of a Zarr store."""
    return sum(f.lstat().st_size for f in path.rglob("*")) if path.is_dir() else path.stat().st_size


def stamp(path: Path) -> tuple:
    """What tells whether a file, or a Zarr store, was replaced or changed since."""
    marks = [path, path / ".zmetadata"] if path.is_dir() else [path]
    found = [mark.stat() for mark in marks if mark.exists()]
    return tuple((state.st_ino, state.st_size, state.st_mtime_ns) for state in found)


def check_space(path: Path, temporary: Path, needed: int) -> None:
    """Raise InputError if the disk has no room for this many bytes for a copy of `path`."""
    free = shutil.disk_usage(temporary.parent).free
    if free < needed:
        raise InputError(
            f"{path}: {needed / 1e6:,.0f} MB are needed in {temporary.parent}, {free / 1e6:,.0f} MB are free: name an "
            "output elsewhere, or write a side file of the units (units_only=True, --units-only)"
        )
