"""NWB files: opened for reading, and what they say of the whole recording."""

import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..errors import InputError, reason_of
from ..population import union
from .untrusted import check_zarr


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
        raise InputError(f"{path}: a Zarr file needs an extra: pip install 'spikeinterface-nuclr[zarr]'") from None
    return NWBZarrIO


@contextmanager
def open_nwb(path: Path):
    """The NWBFile in `path`, open for reading; anything that cannot be read is an InputError naming the file."""
    if not path.exists():
        raise InputError(f"{path}: no such file")
    opened = io_class(path)
    if path.is_dir():
        check_zarr(path, references=True)
    try:
        with opened(os.fspath(path), mode="r") as io:
            yield io.read()
    except InputError:
        raise
    except BlockingIOError:
        raise InputError(f"{path}: is open for writing in another program, or here: close it first") from None
    except Exception as error:  # the libraries below raise what they please on a damaged file
        raise InputError(f"{path}: not a readable NWB file ({reason_of(error)})") from error


def file_facts(nwbfile, name: str) -> dict:
    """What a file says of its recording."""
    subject = nwbfile.subject
    return {
        "source": name,
        "session": nwbfile.session_id or nwbfile.identifier,
        "subject": subject.subject_id if subject is not None else None,
        "species": subject.species if subject is not None else None,
    }


def invalid_intervals(nwbfile, name: str) -> np.ndarray | None:
    """Times in seconds that the file calls invalid, sorted, shape (k, 2)."""
    table = nwbfile.invalid_times
    if table is None or not len(table):
        return None
    limits = np.stack([table["start_time"][:], table["stop_time"][:]], axis=1).astype(np.float64)
    return union(checked_rows(limits, f"{name}: invalid_times"))


def checked_rows(intervals: np.ndarray, name: str) -> np.ndarray:
    """The intervals (k, 2) as they are; InputError, which begins with `name`, for the first that is none."""
    wrong = ~(intervals[:, 1] >= intervals[:, 0])
    if wrong.any() or not np.isfinite(intervals).all():
        a, b = intervals[wrong | ~np.isfinite(intervals).all(axis=1)][0]
        raise InputError(f"{name}: {a:g} to {b:g} s is no interval: correct the file or give observed=")
    return intervals
