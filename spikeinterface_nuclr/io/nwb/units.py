"""The units table of an NWB file -> Population."""

import re
import warnings
from collections.abc import Iterator

import numpy as np

from ...errors import InputError, RecordingWarning
from ...intervals import union
from ...population import Population
from ..assembly import assemble
from ..columns import as_text, plain_columns
from ..probes import choose_group
from .datasets import check_stored, checked_index, ragged, raw_dataset, read_whole
from .electrodes import ElectrodeGroups, unit_areas, unit_electrodes, unit_probes
from .file import checked_rows, file_facts, tagged_intervals

# Columns that describe the recording of spikes rather than the unit.
_NOT_PROPERTIES = {"spike_times", "obs_intervals", "electrodes", "waveforms", "waveform_mean", "waveform_sd"}


def read_units(nwbfile, *, name: str = "NWBFile", group_by, observed) -> Population:
    """The Population of an open NWBFile's units table."""
    units = nwbfile.units
    if units is None or len(units) == 0:
        raise InputError(f"{name}: its units table is missing or empty, and it holds no ROI responses")
    if "spike_times" not in units.colnames:
        raise InputError(f"{name}: its units table has no spike_times column, only {', '.join(units.colnames)}")
    _check_lengths(units, name)
    properties = _properties(units, name)
    unit_ids = _unit_ids(units, properties, name)
    electrodes = unit_electrodes(nwbfile, unit_ids, properties, name)
    probes = unit_probes(nwbfile, electrodes, properties)
    group = choose_group(name, properties, group_by, lambda: probes)
    invalid = None
    if observed is None:
        names = list(_probe_names(electrodes.groups, probes.labels, group))
        invalid = _invalid(nwbfile, name, electrodes.groups, names)
    elif nwbfile.invalid_times is not None and len(nwbfile.invalid_times):
        warnings.warn(
            f"{name}: observed= is given, so that its {len(nwbfile.invalid_times):,} invalid_times are not excluded",
            RecordingWarning,
            stacklevel=4,
        )
    if electrodes.rows is not None and "brain_area" not in properties and "location" in electrodes.table.colnames:
        properties["brain_area"] = unit_areas(electrodes, name)
    return assemble(
        name,
        unit_ids,
        ragged(units["spike_times"], f"{name}: units/spike_times"),
        observed=observed,
        recorded=_observed(units, name) if observed is None else None,
        invalid=invalid,
        group=group,
        properties=properties,
        metadata=file_facts(nwbfile, name),
    )


def _check_lengths(units, name: str) -> None:
    """Raise InputError if an index column does not fit its data or the units."""
    for column in units.columns:
        where = f"{name}: units/{column.name}"
        if hasattr(column, "target"):
            checked_index(column, where.removesuffix("_index"))
        required = column.name in ("spike_times_index", "obs_intervals_index", "electrodes_index")
        if required and len(column.data) != len(units.id):
            raise InputError(f"{where}: has {len(column.data):,} rows for {len(units.id):,} units: it is damaged")


def _unit_ids(units, properties: dict, name: str) -> np.ndarray:
    """The column `unit_name` if it is unique, else `id`."""
    if "unit_name" in properties:
        names = as_text(properties["unit_name"])
        if len(np.unique(names)) == len(names):
            return names
    return np.asarray(read_whole(units.id.data, f"{name}: units/id"))


def _observed(units, name: str):
    """Each unit's observed intervals. A unit without intervals is taken to be observed whenever any other unit is."""
    if "obs_intervals" not in units.colnames:
        return None
    where = f"{name}: obs_intervals"
    rows = []
    for k, row in enumerate(ragged(units["obs_intervals"], f"{name}: units/obs_intervals")):
        if len(row) and (row.dtype.kind not in "iuf" or row.shape[1:] != (2,)):
            raise InputError(
                f"{where} of row {k}: does not contain intervals of seconds, but {row.dtype} of shape {row.shape}"
            )
        rows.append(union(checked_rows(row.reshape(-1, 2).astype(np.float64), f"{where} of row {k}")))
    stated = [r for r in rows if len(r)]
    if not stated:
        return None
    any_unit = union(np.concatenate(stated))
    return [r if len(r) else any_unit for r in rows]


def _probe_names(groups: ElectrodeGroups, *labels: np.ndarray | None) -> Iterator[frozenset[str]]:
    """All names of each unit's probe, in lower case, from labels of the units; empty for units without a probe."""
    cache: dict[tuple, frozenset[str]] = {}
    for key in zip(*(column.tolist() for column in labels if column is not None), strict=True):
        if key not in cache:
            names = set().union(*(groups.aliases(label) for label in key if label))
            cache[key] = frozenset(name.lower() for name in names)
        yield cache[key]


def _invalid(nwbfile, name: str, groups: ElectrodeGroups, probes: list[frozenset[str]]):
    """Invalid time of all units, or a list with one per unit if tags of the intervals name probes.

    Intervals of other probes do not apply to a unit, unless it is unknown whether its probe is one of them.
    """
    limits, tags = tagged_intervals(nwbfile, name)
    if not len(limits):
        return None
    file_names = {name.lower() for name in groups.all_names}
    unit_names = set().union(*probes)
    tagged = [_words(tag) & (file_names | unit_names) for tag in tags]
    if not any(tagged) or not probes:
        return union(limits)
    invalid: dict[frozenset, np.ndarray] = {}
    for names in probes:
        if names not in invalid:
            spared = [bool(t and not t & names and (names & file_names or (names and t & unit_names))) for t in tagged]
            invalid[names] = union(limits[~np.array(spared)])
    return [invalid[names] for names in probes]


def _words(tags: set[str]) -> set[str]:
    """The tags in lower case, and the parts of tags that list several names."""
    return {part for tag in tags for part in (tag.lower(), *re.split(r"[\s,;|/]+", tag.lower()))}


def _properties(units, name: str) -> dict[str, np.ndarray]:
    """Columns with one value per unit: text, numbers and truth values."""
    columns = {}
    for column in units.colnames:
        vector = units[column]
        if column in _NOT_PROPERTIES or hasattr(vector, "target") or hasattr(vector, "table"):
            continue
        values = _read_values(vector, f"{name}: units/{column}")
        if len(values) == len(units.id):
            columns[column] = values
        else:
            warnings.warn(
                f"{name}: the column {column} has {len(values):,} values for {len(units.id):,} units and is skipped",
                RecordingWarning,
                stacklevel=5,
            )
    return plain_columns(columns, name)


def _read_values(vector, name: str):
    check_stored(vector.data, name)
    try:
        return vector[:]
    except UnicodeDecodeError:  # text of variable length that is not UTF-8
        return raw_dataset(vector.data)[:]
