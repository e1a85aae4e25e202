"""The units table of an NWB file -> Population."""

import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..errors import InputError, first_line
from ..population import Population, union
from .assembly import assemble, choose_group, most_common, plain_columns

# Columns that describe the recording of spikes rather than the unit.
_NOT_PROPERTIES = {"spike_times", "obs_intervals", "electrodes", "waveforms", "waveform_mean", "waveform_sd"}


def read_nwb_path(path: Path, *, group_by, observed) -> Population:
    """The Population of the units table in this file (HDF5, or Zarr with the `zarr` extra)."""
    with open_nwb(path) as nwbfile:
        return read_nwbfile(nwbfile, name=os.fspath(path), group_by=group_by, observed=observed)


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
    try:
        with opened(os.fspath(path), mode="r") as io:
            yield io.read()
    except InputError:
        raise
    except BlockingIOError:
        raise InputError(f"{path}: is open for writing in another program, or here: close it first") from None
    except Exception as error:  # the libraries below raise what they please on a damaged file
        raise InputError(f"{path}: not a readable NWB file ({first_line(error)})") from error


def read_nwbfile(nwbfile, *, name: str = "NWBFile", group_by, observed) -> Population:
    """The Population of an open NWBFile's units table."""
    units = nwbfile.units
    if units is None or len(units) == 0:
        raise InputError(f"{name}: its units table is missing or empty: only sorted spikes are read")
    if "spike_times" not in units.colnames:
        raise InputError(f"{name}: its units table has no spike_times column, only {', '.join(units.colnames)}")
    trains = _ragged(units["spike_times"])
    if observed is None and "obs_intervals" in units.colnames:
        observed = _observed(units, name)
    invalid = None
    if nwbfile.invalid_times is not None and len(nwbfile.invalid_times):
        table = nwbfile.invalid_times
        limits = np.stack([table["start_time"][:], table["stop_time"][:]], axis=1).astype(np.float64)
        invalid = union(_checked(limits, f"{name}: invalid_times"))
    properties = _properties(units)
    subject = nwbfile.subject
    return assemble(
        name,
        _unit_ids(units),
        trains,
        observed=observed,
        invalid=invalid,
        group=choose_group(name, properties, group_by, lambda: _probes(units)),
        properties=properties,
        metadata={
            "source": name,
            "session": nwbfile.session_id or nwbfile.identifier,
            "subject": subject.subject_id if subject is not None else None,
            "species": subject.species if subject is not None else None,
        },
    )


def _ragged(column) -> list[np.ndarray]:
    """The rows of an indexed column, read from disk in one go."""
    if not hasattr(column, "target"):
        return [np.asarray(row) for row in column.data[:]]
    data, ends = np.asarray(column.target.data[:]), np.asarray(column.data[:], dtype=np.int64)
    return [data[a:b] for a, b in zip(np.concatenate([[0], ends[:-1]]), ends, strict=True)]


def _unit_ids(units) -> np.ndarray:
    """`unit_name` where it names each row once, else `id`."""
    if "unit_name" in units.colnames:
        names = np.asarray(units["unit_name"][:]).astype(str)
        if len(np.unique(names)) == len(names):
            return names
    return np.asarray(units.id[:])


def _observed(units, name: str):
    """Each unit's observed intervals. A unit with none listed was observed when any other was."""
    rows = [np.asarray(r, dtype=np.float64).reshape(-1, 2) for r in _ragged(units["obs_intervals"])]
    rows = [union(_checked(r, f"{name}: obs_intervals of row {row}")) for row, r in enumerate(rows)]
    listed = [r for r in rows if len(r)]
    if not listed:
        return None
    anyone = union(np.concatenate(listed))
    return [r if len(r) else anyone for r in rows]


def _checked(intervals: np.ndarray, name: str) -> np.ndarray:
    wrong = ~(intervals[:, 1] >= intervals[:, 0])
    if wrong.any() or not np.isfinite(intervals).all():
        a, b = intervals[wrong | ~np.isfinite(intervals).all(axis=1)][0]
        raise InputError(f"{name}: {a:g} to {b:g} s is no interval: correct the file or give observed=")
    return intervals


def _probes(units) -> np.ndarray | None:
    """Electrode group of each unit, or the one that most of its electrodes belong to."""
    if "electrode_group" in units.colnames:
        return np.array([group.name if group is not None else "" for group in units["electrode_group"][:]])
    regions = _electrode_rows(units)
    if regions is None:
        return None
    electrodes, rows = regions
    if "group_name" in electrodes.colnames:
        names = np.asarray(electrodes["group_name"][:]).astype(str)
    else:
        names = np.array([group.name for group in electrodes["group"][:]])
    return np.array([most_common(names[r]) for r in rows])


def _electrode_rows(units):
    if "electrodes" not in units.colnames:
        return None
    column = units["electrodes"]
    region = getattr(column, "target", column)
    return region.table, [np.atleast_1d(r).astype(np.int64) for r in _ragged(column)]


def _properties(units) -> dict[str, np.ndarray]:
    """One value a unit: text, numbers and truth values. `brain_area` falls back on the electrodes' location."""
    columns = {
        name: units[name][:]
        for name in units.colnames
        if name not in _NOT_PROPERTIES and not hasattr(units[name], "target") and not hasattr(units[name], "table")
    }
    properties = plain_columns(columns)
    regions = _electrode_rows(units)
    if regions is not None and "brain_area" not in properties and "location" in regions[0].colnames:
        locations = np.asarray(regions[0]["location"][:]).astype(str)
        properties["brain_area"] = np.array([most_common(locations[r]) for r in regions[1]])
    return properties
