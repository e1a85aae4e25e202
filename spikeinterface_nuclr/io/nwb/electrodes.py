"""Electrodes, electrode groups and devices of an NWB file: on which probe each unit was recorded."""

import re
import warnings
from dataclasses import dataclass

import numpy as np

from ...errors import InputError, RecordingWarning
from ..columns import as_names, as_text, flat
from ..probes import Probes, most_common
from .datasets import check_stored, ragged, read_whole

# Columns of units that name one electrode by its id, as in files of the Allen Institute and of SpikeInterface. Columns
# without "id" may count the channels of each probe.
_ELECTRODE_ID = re.compile(r"((peak|main|max|primary|best|extremum)_)?(channel|electrode)_id")
# Columns of units that name a probe.
_PROBE = re.compile(r"(probe|device|electrode_group|insertion)(_?(name|id|label|index|number))?|group_?name", re.I)
_REMEDY = "add a units column electrodes, electrode_group or probe_name, name another by group_by="


class ElectrodeGroups:
    """The groups that a table's electrodes form, or those that a file without electrodes lists.

    Attributes
    ----------
    of_electrodes : array of str, shape (n_electrodes,)
        Label of each electrode's group: its group_name, unless groups share it; then the group's own name, or both.
    names : dict of str to set of str
        All names of each group, by its label: that label, the group's own name, its electrodes' group_name, its device.
    """

    def __init__(self, nwbfile, table, name: str):
        self.of_electrodes = np.empty(0, dtype=str)
        if table is None or not len(table):
            self.names = {group.name: _called(group) for group in nwbfile.electrode_groups.values()}
            return
        groups = [None] * len(table)
        if "group" in table.colnames:
            check_stored(table["group"].data, f"{name}: electrodes/group")
            held = _objects(table["group"]) or groups
            groups = [group if hasattr(group, "neurodata_type") else None for group in held]
        own = _own_names(groups)
        given = own
        if "group_name" in table.colnames:
            given = as_names(read_whole(table["group_name"].data, f"{name}: electrodes/group_name"))
        n_groups = len(set(zip(own.tolist(), given.tolist(), strict=True)))
        if n_groups == len(set(given.tolist())):
            self.of_electrodes = given
        elif n_groups == len(set(own.tolist())):
            self.of_electrodes = own
        else:
            self.of_electrodes = np.array([f"{a}/{b}" for a, b in zip(own, given, strict=True)])
        self.names = {}
        for label, called, group in zip(self.of_electrodes.tolist(), given.tolist(), groups, strict=True):
            self.names.setdefault(label, {label, called}).update(_called(group))

    @property
    def all_names(self) -> set[str]:
        """All names of all groups."""
        return set().union(*self.names.values())

    def called(self, label: str) -> set[str]:
        """All names of the group with this name, or of the groups of the device with this name."""
        return {label}.union(*(names for names in self.names.values() if label in names))


@dataclass(frozen=True, eq=False)
class UnitElectrodes:
    """On which electrodes each unit was recorded.

    Attributes
    ----------
    table : pynwb electrodes table or None
    groups : ElectrodeGroups
        Of that table.
    rows : list of int64 arrays, or None
        Each unit's rows of the table, empty where it has none. None if the file does not state them.
    by_id : bool
        Whether the rows come from a column of ids rather than from references.
    """

    table: object
    groups: ElectrodeGroups
    rows: list[np.ndarray] | None = None
    by_id: bool = False

    def most_common(self, values: np.ndarray) -> np.ndarray:
        """The text, given per electrode, that most of each unit's electrodes share; empty if it has none."""
        return np.array([most_common(values[rows]) for rows in self.rows])


def unit_electrodes(nwbfile, unit_ids, properties: dict, name: str) -> UnitElectrodes:
    """The electrodes that the units table references, else those that it names by their ids."""
    units = nwbfile.units
    if "electrodes" in units.colnames:
        column = units["electrodes"]
        table = getattr(column, "target", column).table
        rows = [np.atleast_1d(row) for row in ragged(column, f"{name}: units/electrodes")]
        rows = _checked_rows(rows, unit_ids, len(table.id), name)
        groups = ElectrodeGroups(nwbfile, table, name)
        if _list_the_same(rows, groups.of_electrodes):
            warnings.warn(
                f"{name}: every unit lists the same {len(rows[0])} electrodes, of several groups: its probe and area "
                "are not known from them",
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
                _warn_of_none(column, [unit for unit, row in zip(unit_ids, rows, strict=True) if not len(row)], name)
                return UnitElectrodes(table, groups, rows, by_id=True)
    return UnitElectrodes(table, groups)


def unit_areas(electrodes: UnitElectrodes, name: str) -> np.ndarray:
    """The location of most of each unit's electrodes: text, shape (n_units,).

    It is empty where all units of a group list the same electrodes of several areas, as files of dense waveforms do.
    """
    locations = as_text(read_whole(electrodes.table["location"].data, f"{name}: electrodes/location"))
    areas, labels = electrodes.most_common(locations), electrodes.most_common(electrodes.groups.of_electrodes)
    for label in np.unique(labels):
        units = np.flatnonzero(labels == label)
        if _list_the_same([electrodes.rows[unit] for unit in units], locations):
            areas[units] = ""
            warnings.warn(
                f"{name}: all {len(units)} units of group {label} list the same electrodes, of several areas: their "
                "area is not known from them",
                RecordingWarning,
                stacklevel=5,
            )
    return areas


def unit_probes(nwbfile, electrodes: UnitElectrodes, properties: dict) -> Probes:
    """The probe of each unit: from its electrode group, its electrodes, or a column that names it."""
    groups = electrodes.groups
    labels = _grouped(nwbfile.units)
    if labels is None and not electrodes.by_id and electrodes.rows is not None:
        labels = electrodes.most_common(groups.of_electrodes)
    if labels is None:
        labels = _stated_probes(nwbfile.units, groups, properties)
    if labels is None and electrodes.rows is not None:
        labels = electrodes.most_common(groups.of_electrodes)
    return Probes("electrodes", tuple(groups.names), labels, _REMEDY, tuple(sorted(groups.all_names)))


def _grouped(units) -> np.ndarray | None:
    """Name of each unit's electrode_group; None if no unit has one."""
    held = _objects(units["electrode_group"]) if "electrode_group" in units.colnames else []
    if all(group is None for group in held):
        return None
    return np.array([getattr(group, "name", group) or "" for group in held], dtype=str)


def _objects(column) -> list:
    """The objects that a column references; none where they cannot be decoded."""
    try:
        return list(column[:])
    except RuntimeError:  # numcodecs 0.15.2 and newer decode no pickles, which hdmf-zarr makes of references
        return []


def _stated_probes(units, groups: ElectrodeGroups, properties: dict) -> np.ndarray | None:
    """The probe of each unit as a column states it.

    That is electrode_group, else a column whose values name groups or devices, else one whose name is that of a probe.
    """
    labels = _grouped(units)
    if labels is not None:
        return labels
    columns = [as_names(values) for column, values in properties.items() if _PROBE.fullmatch(column)]
    for labels in columns:
        if set(labels.tolist()) - {""} and set(labels.tolist()) <= {"", *groups.all_names}:
            return labels
    return next((labels for labels in columns if len(set(labels.tolist()) - {""}) > 1), None)


def _agrees(rows: list[np.ndarray], groups: ElectrodeGroups, stated: np.ndarray | None, name: str) -> bool:
    """Whether electrodes named by ids agree with the stated probes; a warning where all are of one group.

    Ids that count the channels of each probe from 0 disagree: units of two probes then share a group's electrodes.
    """
    labels = [groups.of_electrodes[row[0]] if len(row) else "" for row in rows]
    if stated is not None:
        pairs = {pair for pair in zip(labels, stated.tolist(), strict=True) if all(pair)}
        return len(pairs) == len({label for label, _ in pairs})
    if len(groups.names) > 1 and len(set(labels) - {""}) == 1:
        warnings.warn(
            f"{name} names electrodes of one of {len(groups.names)} groups only, {max(labels)}: if it counts the "
            "channels of each probe, add a units column electrodes or probe_name",
            RecordingWarning,
            stacklevel=6,
        )
    return True


def _checked_rows(rows: list[np.ndarray], unit_ids, count: int, name: str) -> list[np.ndarray]:
    """The rows without -1, which some programs write for no electrode; InputError for others outside the table."""
    without = []
    for k, (unit, row) in enumerate(zip(unit_ids, rows, strict=True)):
        if row.dtype.kind not in "iu" and len(row):
            raise InputError(f"{name}: unit {unit}: its electrodes are not row numbers: the file is damaged")
        wrong = (row < -1) | (row >= count)
        if wrong.any():
            raise InputError(
                f"{name}: unit {unit}: electrode {row[wrong][0]} is not in the table of {count} electrodes: correct "
                "the file"
            )
        if (row == -1).any():
            without.append(str(unit))
        rows[k] = row[row != -1].astype(np.int64)
    _warn_of_none("electrode -1", without, name)
    return rows


def _list_the_same(rows: list[np.ndarray], values: np.ndarray) -> bool:
    """Whether several units list the same electrodes, whose values (one per electrode) differ."""
    first = rows[0]
    return len(rows) > 1 and len(np.unique(values[first])) > 1 and all(np.array_equal(first, row) for row in rows)


def _warn_of_none(what: str, units: list, name: str) -> None:
    if units:
        warnings.warn(
            f"{name}: the {what} of {len(units)} units, such as {units[0]}, is not an electrode: their "
            "probe and area are not known from it",
            RecordingWarning,
            stacklevel=6,
        )


def _rows_of_ids(electrodes, values: np.ndarray, name: str) -> list[np.ndarray] | None:
    """The row of the electrode that each unit names by id, or by channel_name where that is unique."""
    if values.dtype.kind == "U":
        if "channel_name" not in electrodes.colnames:
            return None
        ids = as_text(read_whole(electrodes["channel_name"].data, f"{name}: electrodes/channel_name"))
    else:
        ids = flat(read_whole(electrodes.id.data, f"{name}: electrodes/id"))
    row = {electrode: k for k, electrode in enumerate(ids.tolist())}
    named = [value for value in values.tolist() if value not in ("", -1) and value == value]
    if len(row) < len(ids) or not named or not all(value in row for value in named):
        return None
    return [np.array([row[v]] if v in row else [], dtype=np.int64) for v in values.tolist()]


def _own_names(groups: list) -> np.ndarray:
    """Name of each electrode's group, with its device's before it where several groups have that name."""
    distinct = {id(group): group for group in groups if group is not None}
    names = [group.name for group in distinct.values()]
    own = {
        number: f"{group.device.name}/{group.name}" if names.count(group.name) > 1 and group.device else group.name
        for number, group in distinct.items()
    }
    return np.array([own.get(id(group), "") for group in groups], dtype=str)


def _called(group) -> set[str]:
    """The names of an electrode group and of its device."""
    if group is None:
        return set()
    return {group.name} | ({group.device.name} if group.device is not None else set())
