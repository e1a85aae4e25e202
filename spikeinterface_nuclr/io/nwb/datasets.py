"""Datasets and columns of an NWB file, HDF5 or Zarr: checked, then read in one step."""

import os
from itertools import pairwise
from pathlib import Path

import numpy as np

from ...errors import InputError
from ...files import check_declared
from ..columns import flat


def read_whole(data, name: str):
    """All of a dataset; InputError, prefixed with `name`, if it claims more than its file can hold."""
    check_stored(data, name)
    return data[:]


def check_stored(data, name: str, memory: int = 0) -> None:
    """Raise InputError, prefixed with `name`, if a dataset claims more than its file can hold.

    `memory` is the number of bytes needed to use the dataset, if that is more than its own size.
    """
    stored = raw_dataset(data)
    if hasattr(stored, "nbytes_stored"):
        check_declared(name, max(stored.nbytes, memory), stored.nbytes_stored)
    elif hasattr(stored, "id") and hasattr(stored.id, "get_storage_size"):
        check_declared(name, max(stored.nbytes, memory), _virtual_size(stored) or stored.id.get_storage_size())


def _virtual_size(dataset) -> int:
    """Total size of the files that a virtual dataset of HDF5 maps; 0 for other datasets."""
    if not dataset.is_virtual:
        return 0
    folder = Path(dataset.file.filename).parent
    files = {dataset.file.filename if s.file_name == "." else folder / s.file_name for s in dataset.virtual_sources()}
    return sum(os.path.getsize(file) for file in files if os.path.isfile(file))


def ragged(column, name: str) -> list:
    """The rows of an indexed column, read from disk in one step; an unindexed column has one value per row.

    Raise InputError, prefixed with `name`, if the index does not fit its data.
    """
    if not hasattr(column, "target"):
        return list(_array(column.data, name))
    inner = column.target
    data = ragged(inner, name) if hasattr(inner, "target") else _array(inner.data, name)
    return [data[a:b] for a, b in pairwise([0, *checked_index(column, name)])]


def checked_index(column, name: str) -> np.ndarray:
    """End of each row of an indexed column in its data: int64; InputError if the index does not fit the data."""
    ends = _array(column.data, f"{name}_index")
    count = len(column.target.data)
    if ends.ndim != 1 or ends.dtype.kind not in "iu":
        raise InputError(f"{name}_index: does not hold whole numbers: the file is damaged")
    ends = ends.astype(np.int64)
    decreases = np.flatnonzero(np.diff(ends, prepend=0) < 0)
    if len(decreases):
        k = decreases[0]
        raise InputError(
            f"{name}_index: falls from {ends[k - 1] if k else 0:,} to {ends[k]:,} at row {k}: the file is damaged"
        )
    if (ends[-1] if len(ends) else 0) != count:
        raise InputError(
            f"{name}_index: points to {ends[-1] if len(ends) else 0:,} values, and {name.rpartition('/')[2]} holds "
            f"{count:,}: the file is damaged"
        )
    return ends


def seconds(data, name: str) -> np.ndarray:
    """The values of a dataset as float64 seconds; InputError, prefixed with `name`, if they are not numbers."""
    values = _array(data, name)
    if values.ndim != 1 or values.dtype.kind not in "iuf":
        raise InputError(f"{name}: does not hold numbers of seconds: the file is damaged")
    return values.astype(np.float64)


def raw_dataset(data):
    """The h5py or Zarr array that hdmf has wrapped."""
    return getattr(data, "dset", getattr(data, "dataset", data))


def _array(data, name: str) -> np.ndarray:
    return flat(read_whole(data, name))
