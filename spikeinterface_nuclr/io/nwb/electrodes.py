"""Electrodes, electrode groups and devices of an NWB file: the probe of each unit."""

import re
import warnings
from dataclasses import dataclass

import numpy as np

from ...errors import InputError, RecordingWarning
from ..columns import as_names, as_text, flat
from ..probes import Probes, most_common
from .datasets import check_stored, ragged, read_whole

# Columns of units with the id of one electrode, as in files of the Allen Institute and of SpikeInterface. Columns
# without "id" may number the channels of each probe from 0.
_ELECTRODE_ID = re.compile(r"((peak|main|max|primary|best|extremum)_)?(channel|electrode)_id")
# Columns of units with the name of a probe.
_PROBE = re.compile(r"(probe|device|electrode_group|insertion)(_?(name|id|label|index|number))?|group_?name", re.I)
_REMEDY = "add a units column electrodes, electrode_group or probe_name, name another by group_by="


class ElectrodeGroups:
    """The electrode groups of a table of electrodes, or of a file without electrodes.

    Attributes
    ----------
    labels : array of str, shape (n_electrodes,)
        Label of each electrode's group: its group_name if that is unique, else the name of the group object, or both.
    names : dict of str to set of str
        All names of each group, by label: the label, the group object's name, its electrodes' group_name, its device.
    """

    def __init__(self, nwbfile, table, name: str):
        self.labels = np.empty(0, dtype=str)
        if table is None or not len(table):
            self.names = {group.name: _names(group) for group in nwbfile.electrode_groups.values()}
            return
        groups = [None] * len(table)
        if "group" in table.colnames:
            check_stored(table["group"].data, f"{name}: electrodes/group")
            objects = _objects(table["group"]) or groups
            groups = [group if hasattr(group, "neurodata_type") else None for group in objects]
        object_names = _object_names(groups)
        group_names = object_names
        if "group_name" in table.colnames:
            group_names = as_names(read_whole(table["group_name"].data, f"{name}: electrodes/group_name"))
        n_groups = len(set(zip(object_names.tolist(), group_names.tolist(), strict=True)))
        if n_groups == len(set(group_names.tolist())):
            self.labels = group_names
        elif n_groups == len(set(object_names.tolist())):
            self.labels = object_names
        else:
            self.labels = np.array([f"{a}/{b}" for a, b in zip(object_names, group_names, strict=True)])
        self.names = {}
        for label, name, group in zip(self.labels.tolist(), group_names.tolist(), groups, strict=True):
            self.names.setdefault(label, {label, name}).update(_names(group))

    @property
    def all_names(self) -> set[str]:
        """All names of all groups."""
        return set().union(*self.names.values())

    def aliases(self, name: str) -> set[str]:
        """All names of the group with this name, or of the groups of the device with this name."""
        return {name}.union(*(names for names in self.names.values() if name in names))


@dataclass(frozen=True, eq=False)
class UnitElectrodes:
    """The electrodes of each unit.

    Attributes
    ----------
    table : pynwb electrodes table or None
    groups : ElectrodeGroups
        The groups of that table.
    rows : list of int64 arrays, or None
        Each unit's rows of the table, empty if it has none. None if the file does not state them.
    by_id : bool
        Whether the rows come from a column of ids instead of references.
    """

    table: object
    groups: ElectrodeGroups
    rows: list[np.ndarray] | None = None
    by_id: bool = False

    def most_common(self, values: np.ndarray) -> np.ndarray:
        """The most common of the values (text per electrode) on each unit's electrodes; empty if it has none."""
        return np.array([most_common(values[rows]) for rows in self.rows])


def unit_electrodes(nwbfile, unit_ids, properties: dict, name: str) -> UnitElectrodes:
    """The electrodes that the units table references, else those whose ids it states."""
    units = nwbfile.units
    if "electrodes" in units.colnames:
        column = units["electrodes"]
        table = getattr(column, "target", column).table
        rows = [np.atleast_1d(row) for row in ragged(column, f"{name}: units/electrodes")]
        rows = _checked_rows(rows, unit_ids, len(table.id), name)
        groups = ElectrodeGroups(nwbfile, table, name)
        if _share_electrodes(rows, groups.labels):
            warnings.warn(
                f"{name}: every unit lists the same {len(rows[0])} electrodes, of several groups: they do not "
                "determine its probe and area",
                RecordingWarning,
                stacklevel=4,
            )
        elif any(map(len, rows)):
            return UnitElectrodes(table, groups, rows)
    table = nwbfile.electrodes
    groups = ElectrodeGroups(nwbfile, table, name)
    for column, values in properties.items():
        if table is not None and _ELECTRODE_ID.fullmatch(column):
            rows = _rows_of_ids(table, values, name)
            stated = _stated_probes(units, groups, properties)
            if rows is not None and _agrees(rows, groups, stated, f"{name}: {column}"):
                _warn_of_missing(column, [unit for unit, row in zip(unit_ids, rows, strict=True) if not len(row)], name)
                return UnitElectrodes(table, groups, rows, by_id=True)
    return UnitElectrodes(table, groups)


def unit_areas(electrodes: UnitElectrodes, name: str) -> np.ndarray:
    """The most common location of each unit's electrodes: text, shape (n_units,).

    Empty if all units of a group list the same electrodes of several areas, as in files of dense waveforms.
    """
    locations = as_text(read_whole(electrodes.table["location"].data, f"{name}: electrodes/location"))
    areas, labels = electrodes.most_common(locations), electrodes.most_common(electrodes.groups.labels)
    for label in np.unique(labels):
        units = np.flatnonzero(labels == label)
        if _share_electrodes([electrodes.rows[unit] for unit in units], locations):
            areas[units] = ""
            warnings.warn(
                f"{name}: all {len(units)} units of group {label} list the same electrodes, of several areas: they do "
                "not determine the unit's area",
                RecordingWarning,
                stacklevel=5,
            )
    return areas


def unit_probes(nwbfile, electrodes: UnitElectrodes, properties: dict) -> Probes:
    """The probe of each unit: from its electrode group, its electrodes, or a column with its name."""
    groups = electrodes.groups
    labels = _unit_groups(nwbfile.units)
    if labels is None and not electrodes.by_id and electrodes.rows is not None:
        labels = electrodes.most_common(groups.labels)
    if labels is None:
        labels = _stated_probes(nwbfile.units, groups, properties)
    if labels is None and electrodes.rows is not None:
        labels = electrodes.most_common(groups.labels)
    return Probes("electrodes", tuple(groups.names), labels, _REMEDY, tuple(sorted(groups.all_names)))


def _unit_groups(units) -> np.ndarray | None:
    """Name of each unit's electrode_group; None if no unit has one."""
    groups = _objects(units["electrode_group"]) if "electrode_group" in units.colnames else []
    if all(group is None for group in groups):
        return None
    return np.array([getattr(group, "name", group) or "" for group in groups], dtype=str)


def _objects(column) -> list:
    """The objects that a column references; an empty list if they cannot be decoded."""
    try:
        return list(column[:])
    except RuntimeError:  # numcodecs from 0.15.2 does not decode pickles, in which hdmf-zarr stores references
        return []


def _stated_probes(units, groups: ElectrodeGroups, properties: dict) -> np.ndarray | None:
    """The probe of each unit according to a column of the units table.

    The column is electrode_group, else one whose values name groups or devices, else one that is named like a probe.
    """
    labels = _unit_groups(units)
    if labels is not None:
        return labels
    columns = [as_names(values) for column, values in properties.items() if _PROBE.fullmatch(column)]
    for labels in columns:
        if set(labels.tolist()) - {""} and set(labels.tolist()) <= {"", *groups.all_names}:
            return labels
    return next((labels for labels in columns if len(set(labels.tolist()) - {""}) > 1), None)


def _agrees(rows: list[np.ndarray], groups: ElectrodeGroups, stated: np.ndarray | None, name: str) -> bool:
    """Whether electrodes from ids agree with the stated probes; warn if all belong to one group.

    Ids that number the channels of each probe from 0 disagree: units of two probes then share a group's electrodes.
    """
    labels = [groups.labels[row[0]] if len(row) else "" for row in rows]
    if stated is not None:
        pairs = {pair for pair in zip(labels, stated.tolist(), strict=True) if all(pair)}
        return len(pairs) == len({label for label, _ in pairs})
    if len(groups.names) > 1 and len(set(labels) - {""}) == 1:
        warnings.warn(
            f"{name} names electrodes of one of {len(groups.names)} groups only, {max(labels)}: if it numbers the "
            "channels of each probe, add a units column electrodes or probe_name",
            RecordingWarning,
            stacklevel=6,
        )
    return True


def _checked_rows(rows: list[np.ndarray], unit_ids, count: int, name: str) -> list[np.ndarray]:
    """The rows without -1, which some programs write for no electrode; InputError for other rows outside the table."""
    units_without = []
    for k, (unit, row) in enumerate(zip(unit_ids, rows, strict=True)):
        if row.dtype.kind not in "iu" and len(row):
            raise InputError(f"{name}: unit {unit}: its electrodes are not row numbers: the file is damaged")
        outside = (row < -1) | (row >= count)
        if outside.any():
            raise InputError(
                f"{name}: unit {unit}: electrode {row[outside][0]} is not in the table of {count} electrodes: correct "
                "the file"
            )
        if (row == -1).any():
            units_without.append(str(unit))
        rows[k] = row[row != -1].astype(np.int64)
    _warn_of_missing("electrode -1", units_without, name)
    return rows


def _share_electrodes(rows: list[np.ndarray], values: np.ndarray) -> bool:
    """Whether several units list the same electrodes, and the values of these (one per electrode) differ."""
    first = rows[0]
    return len(rows) > 1 and len(np.unique(values[first])) > 1 and all(np.array_equal(first, row) for row in rows)


def _warn_of_missing(entry: str, units: list, name: str) -> None:
    if units:
        warnings.warn(
            f"{name}: the {entry} of {len(units)} units, such as {units[0]}, is not an electrode: it does "
            "not determine their probe and area",
            RecordingWarning,
            stacklevel=6,
        )


def _rows_of_ids(electrodes, values: np.ndarray, name: str) -> list[np.ndarray] | None:
    """The row of each unit's electrode, stated by its id, or by its channel_name if that is unique."""
    if values.dtype.kind == "U":
        if "channel_name" not in electrodes.colnames:
            return None
        ids = as_text(read_whole(electrodes["channel_name"].data, f"{name}: electrodes/channel_name"))
    else:
        ids = flat(read_whole(electrodes.id.data, f"{name}: electrodes/id"))
    row = {electrode: k for k, electrode in enumerate(ids.tolist())}
    stated = [value for value in values.tolist() if value not in ("", -1) and value == value]
    if len(row) < len(ids) or not stated or not all(value in row for value in stated):
        return None
    return [np.array([row[v]] if v in row else [], dtype=np.int64) for v in values.tolist()]


def _object_names(groups: list) -> np.ndarray:
    """Name of each electrode's group, preceded by its device's name if several groups have that name."""
    distinct = {id(group): group for group in groups if group is not None}
    names = [group.name for group in distinct.values()]
    labels = {
        number: f"{group.device.name}/{group.name}" if names.count(group.name) > 1 and group.device else group.name
        for number, group in distinct.items()
    }
    return np.array([labels.get(id(group), "") for group in groups], dtype=str)


def _names(group) -> set[str]:
    """The names of an electrode group and of its device."""
    if group is None:
        return set()
    return {group.name} | ({group.device.name} if group.device is not None else set())
