"""The units table of an NWB file -> Population."""

import numpy as np

from ..errors import InputError
from ..population import Population, union
from .assembly import assemble, choose_group, most_common, plain_columns
from .nwb_file import checked_rows, file_facts, invalid_intervals

# Columns that describe the recording of spikes rather than the unit.
_NOT_PROPERTIES = {"spike_times", "obs_intervals", "electrodes", "waveforms", "waveform_mean", "waveform_sd"}


def read_units(nwbfile, *, name: str = "NWBFile", group_by, observed) -> Population:
    """The Population of an open NWBFile's units table."""
    units = nwbfile.units
    if units is None or len(units) == 0:
        raise InputError(f"{name}: its units table is missing or empty, and it holds no ROI responses")
    if "spike_times" not in units.colnames:
        raise InputError(f"{name}: its units table has no spike_times column, only {', '.join(units.colnames)}")
    trains = _ragged(units["spike_times"])
    if observed is None and "obs_intervals" in units.colnames:
        observed = _observed(units, name)
    properties = _properties(units)
    return assemble(
        name,
        _unit_ids(units),
        trains,
        observed=observed,
        invalid=invalid_intervals(nwbfile, name),
        group=choose_group(name, properties, group_by, lambda: _probes(units)),
        properties=properties,
        metadata=file_facts(nwbfile, name),
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
    rows = [union(checked_rows(r, f"{name}: obs_intervals of row {row}")) for row, r in enumerate(rows)]
    listed = [r for r in rows if len(r)]
    if not listed:
        return None
    anyone = union(np.concatenate(listed))
    return [r if len(r) else anyone for r in rows]


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
