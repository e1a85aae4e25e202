"""NWB files, checked and opened for reading; their session, subject and invalid times."""

import mmap
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from ...errors import REFUSALS, InputError, reading, reason_of
from ...intervals import union
from ..columns import as_text
from ..untrusted import check_zarr
from .datasets import check_stored, ragged, seconds
from .links import Pointer, check_storage, open_hdf5, pointers_in, pointers_of

_SIGNATURE, _VERSION, _HEADER = b"GCOL", 1, 16  # of a global heap collection; HDF5 File Format Specification, III.E
_SEARCHED = 64_000_000  # bytes at either end of a file, where large files keep their texts
# Libraries that raise on damaged data while a file is read.
_LIBRARIES = {"h5py", "hdmf", "pynwb", "zarr", "numcodecs", "hdmf_zarr"}


def check_heaps(path: Path) -> None:
    """Raise InputError if a heap has an entry of size 0, at which HDF5 would loop forever."""
    if not path.stat().st_size:
        return
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for low, high in ((0, _SEARCHED), (max(len(content) - _SEARCHED, _SEARCHED), len(content))):
            place = content.find(_SIGNATURE, low, high)
            while place >= 0:
                if _never_ends(content, place):
                    raise InputError(f"{path}: not a readable NWB file (a heap of its texts is damaged)")
                place = content.find(_SIGNATURE, place + len(_SIGNATURE), high)


def _never_ends(content: mmap.mmap, place: int) -> bool:
    """Whether the entries of the heap at `place` lead to a free entry of size 0."""

    def number(begin: int, length: int) -> int:
        return int.from_bytes(content[begin : begin + length], "little")

    end = place + number(place + 8, 8)
    if content[place + 4 : place + 5] != bytes([_VERSION]) or end > len(content):
        return False  # the signature within other data, or a heap that HDF5 itself refuses
    entry = place + _HEADER
    while entry + _HEADER <= end:
        index, size = number(entry, 2), number(entry + 8, 8)
        if index == size == 0:
            return True
        entry += _HEADER + -(-size // 8) * 8 if index else size
    return False


def is_zarr_nwb(path: Path) -> bool:
    """Whether the folder is an NWB file in Zarr."""
    attributes = path / ".zattrs"
    return attributes.is_file() and "NWBFile" in attributes.read_text(errors="replace")


def io_class(path: Path):
    """The pynwb class that opens the file, or the Zarr store, at `path`."""
    if not path.is_dir():
        from pynwb import NWBHDF5IO

        return NWBHDF5IO
    try:
        from hdmf_zarr import NWBZarrIO
    except ImportError:
        remedy = "an extra: pip install 'spikeinterface-nuclr[zarr]'" if sys.version_info < (3, 14) else "Python 3.13"
        raise InputError(f"{path}: a Zarr file needs {remedy}") from None
    return NWBZarrIO


@dataclass(frozen=True, eq=False)
class OpenFile:
    """An NWB file, open for reading.

    Attributes
    ----------
    nwbfile : pynwb NWBFile
    io : NWBHDF5IO or NWBZarrIO
    hdf5 : h5py File or None
        The underlying file; None for a Zarr store.
    pointers : list of Pointer
        All pointers in the file to other files.
    """

    nwbfile: object
    io: object
    hdf5: h5py.File | None
    pointers: list[Pointer]


@contextmanager
def open_nwb(path: Path) -> Iterator:
    """Open an NWB file with `open_file` and yield its NWBFile."""
    with open_file(path) as opened:
        yield opened.nwbfile


@contextmanager
def open_file(path: Path) -> Iterator[OpenFile]:
    """Check an NWB file and open it once for all its readers.

    Raise InputError, naming the file, if it cannot be read, now or in the block. Errors that code other than the
    reading libraries raises in the block are not caused by the file, and pass through.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file")
    nwb_io = io_class(path)
    with ExitStack() as stack:
        hdf5, source = None, {"path": os.fspath(path)}
        if path.is_dir():
            check_zarr(path, references=True)
            pointers = pointers_of(path)
        else:
            with reading(path, "NWB file"):
                check_heaps(path)
                hdf5 = stack.enter_context(open_hdf5(path))
                pointers = pointers_in(hdf5)
            check_storage(path, pointers)
            with reading(path, "NWB file"):
                _check_regions(hdf5, path)
            source = {"file": hdf5}
        with reading(path, "NWB file"):
            io = stack.enter_context(nwb_io(mode="r", **source))
            nwbfile = io.read()
        try:
            yield OpenFile(nwbfile, io, hdf5, pointers)
        except Exception as error:
            if isinstance(error, REFUSALS) or not _raised_by_a_library(error):
                raise
            raise InputError(f"{path}: not a readable NWB file ({reason_of(error)})") from error


def _check_regions(file: h5py.File, path: Path) -> None:
    """Raise InputError if a DynamicTableRegion, which hdmf reads at once, claims more than the file can hold."""

    def check(place: str, item) -> None:
        if item.attrs.get("neurodata_type") == "DynamicTableRegion":
            check_stored(item, f"{path}: {place}")

    file.visititems(check)


def _raised_by_a_library(error: BaseException) -> bool:
    """Whether the reading libraries raised the error, as for damaged data, or memory ran out."""
    if isinstance(error, MemoryError):
        return True
    trace = error.__traceback__
    while trace.tb_next:
        trace = trace.tb_next
    return trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] in _LIBRARIES


def file_facts(nwbfile, name: str) -> dict:
    """Metadata of the recording: source, session, subject and species."""
    subject = nwbfile.subject
    return {
        "source": name,
        "session": nwbfile.session_id or nwbfile.identifier,
        "subject": _stripped(subject.subject_id) if subject is not None else None,
        "species": _stripped(subject.species) if subject is not None else None,
    }


def _stripped(text) -> str | None:
    return (text and as_text([text])[0].strip()) or None


def invalid_intervals(nwbfile, name: str) -> np.ndarray | None:
    """Intervals in seconds that the file marks as invalid, sorted, shape (k, 2)."""
    limits, _ = tagged_intervals(nwbfile, name)
    return union(limits) if len(limits) else None


def tagged_intervals(nwbfile, name: str) -> tuple[np.ndarray, list[set[str]]]:
    """Intervals in seconds that the file marks as invalid, shape (k, 2), and the tags of each."""
    table = nwbfile.invalid_times
    if table is None or not len(table):
        return np.empty((0, 2)), []
    label = f"{name}: invalid_times"
    starts, stops = (seconds(table[column].data, f"{label}/{column}") for column in ("start_time", "stop_time"))
    limits = np.stack([starts, stops], axis=1)
    tags = ragged(table["tags"], f"{label}/tags") if "tags" in table.colnames else [()] * len(limits)
    if len(tags) != len(limits):
        raise InputError(f"{label}: it has tags for {len(tags)} of {len(limits)} intervals: the file is damaged")
    return checked_rows(limits, label), [{tag.strip() for tag in as_text(row).tolist()} for row in tags]


def checked_rows(intervals: np.ndarray, name: str) -> np.ndarray:
    """Return the intervals (k, 2); raise InputError, prefixed with `name`, for NaN and negative lengths.

    Infinite limits mean the beginning and the end of the recording.
    """
    invalid = ~(intervals[:, 1] >= intervals[:, 0])
    if invalid.any():
        a, b = intervals[invalid][0]
        raise InputError(f"{name}: {a:g} to {b:g} s is not an interval: correct the file or give observed=")
    return intervals
