"""Where a written file goes, and whether it may: links, permissions, locks, room on the disk."""

import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError
from ..files import check_writable


def output_of(path: Path, output, *, in_place: bool, units_only: bool) -> Path:
    """The file to write; InputError where the request contradicts itself."""
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


def check_places(path: Path, output: Path, *, in_place: bool, overwrite: bool) -> None:
    """InputError where the output cannot be written, or the file to be replaced is read-only or open."""
    check_writable(output, overwrite=overwrite or in_place)
    if in_place:
        writable = os.stat(path).st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
        if not writable or not os.access(path, os.W_OK):
            raise InputError(
                f"{path}: is read-only: name an output (-o), or write a side file of its units (units_only=True, "
                "--units-only)"
            )
        with locked(path, exclusive=True):
            pass


@contextmanager
def locked(path: Path, *, exclusive: bool) -> Iterator[None]:
    """Hold the lock by which HDF5 itself keeps writers and readers of a file apart; InputError where others hold it.

    The shared lock keeps writers off, the exclusive one also readers. Zarr has none, nor have some file systems.
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
    return sum(f.stat().st_size for f in path.rglob("*")) if path.is_dir() else path.stat().st_size


def stamp(path: Path) -> tuple:
    """What tells whether a file, or a Zarr store, was replaced or changed since."""
    marks = [path, path / ".zmetadata"] if path.is_dir() else [path]
    found = [mark.stat() for mark in marks if mark.exists()]
    return tuple((state.st_ino, state.st_size, state.st_mtime_ns) for state in found)


def check_space(path: Path, temporary: Path, needed: int) -> None:
    """InputError where the disk has no room for this many bytes for a copy of `path`."""
    free = shutil.disk_usage(temporary.parent).free
    if free < needed:
        raise InputError(
            f"{path}: {needed / 1e6:,.0f} MB are needed in {temporary.parent}, {free / 1e6:,.0f} MB are free: name an "
            "output elsewhere, or write a side file of the units (units_only=True, --units-only)"
        )
