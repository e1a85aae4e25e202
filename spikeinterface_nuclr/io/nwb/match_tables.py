"""write_matches: which units of several recordings are the same neuron, as a table in each NWB file."""

import json
import warnings
from pathlib import Path

import numpy as np

from ...errors import InputError, RecordingWarning
from ...population import Population
from ...unit_matches import UnitMatches
from .file import open_nwb
from .matching import column_texts, match_rows
from .output import check_places, output_of, size_of
from .population import read_nwbfile
from .reading import MATCHES, contents, is_ours, stored_matches
from .rois import choose_rois, tables_of
from .tables import MatchTable, Plan, free_name
from .writing import check_choices, write_plan


def write_matches(
    matches: UnitMatches,
    paths,
    *,
    in_place: bool = False,
    name: str = MATCHES,
    if_exists: str = "error",
    overwrite: bool = False,
) -> list[Path]:
    """Write matches into the NWB files of the matched recordings, into ``processing["nuclr"]`` of each.

    Each file gets a table with the units of the other recordings that its units may be, and the number that each neuron
    has in all of them. The files are written one after another, each as safely as by `write_nwb`; all are checked
    before the first is written.

    Parameters
    ----------
    matches : UnitMatches
    paths : list of str or Path
        The NWB file of each recording, in the order of `matches.recordings`.
    in_place : bool, default: False
        Replace the files themselves. Default: write a copy ``<name>_nuclr.nwb`` beside each.
    name : str, default: "UnitMatches"
        Name of the tables.
    if_exists : {"error", "replace", "new_name"}
        What to do if a file has a table of this name.
    overwrite : bool, default: False
        Replace copies that exist.

    Returns
    -------
    list of Path
        The files that were written.

    Raises
    ------
    InputError
        A file cannot be read or written, its units are others than those that were matched, or their spikes have
        changed since.

    Examples
    --------
    >>> from pynwb import NWBHDF5IO
    >>> from pynwb.testing.mock.file import mock_NWBFile
    >>> from spikeinterface_nuclr import match_units, simulate_days, write_matches
    >>> paths = ["monday.nwb", "tuesday.nwb"]
    >>> for day, path in zip(simulate_days(2, n_units=20, duration=120.0), paths):
    ...     nwbfile = mock_NWBFile()
    ...     for times in day.spike_times:
    ...         nwbfile.add_unit(spike_times=times)
    ...     with NWBHDF5IO(path, "w") as io:
    ...         io.write(nwbfile)
    >>> matches = match_units(paths, progress=False)
    >>> [path.name for path in write_matches(matches, paths)]
    ['monday_nuclr.nwb', 'tuesday_nuclr.nwb']
    """
    paths = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    if len(paths) != len(matches.recordings):
        raise InputError(f"paths: give the NWB file of each of the {len(matches.recordings)} recordings")
    if len({path.resolve() for path in paths}) < len(paths):
        raise InputError("paths: a file is given twice")
    check_choices(name, if_exists)
    outputs, identifiers = [], []
    for number, path in enumerate(paths):
        if not path.exists():
            raise InputError(f"{path}: no such file")
        outputs.append(output_of(path, None, in_place=in_place, units_only=False))
        check_places(path, outputs[-1], in_place=in_place, overwrite=overwrite, imaged=_signal(matches) == "traces")
        with open_nwb(path) as nwbfile:
            _plan(path, nwbfile, matches, number, [""] * len(paths), name, if_exists)
            identifiers.append(str(nwbfile.identifier))
    for number, (path, output) in enumerate(zip(paths, outputs, strict=True)):
        write_plan(
            path, output, lambda nwbfile, p=path, k=number: _plan(p, nwbfile, matches, k, identifiers, name, if_exists),
            overwrite=overwrite or in_place,
        )  # fmt: skip
    return outputs


def check_targets(paths: list, if_exists: str, name: str = MATCHES, *, skip_unreadable: bool = False) -> None:
    """InputError, before anything is matched, if matches cannot be written into one of these files."""
    check_choices(name, if_exists)
    for path in map(Path, paths):
        try:
            with open_nwb(path) as nwbfile:
                exists, imaged = name in contents(nwbfile), nwbfile.units is None
        except InputError:
            if skip_unreadable:
                continue
            raise
        if exists and if_exists == "error":
            raise InputError(f"{path}: it holds {name!r} already: give --if-exists replace or new_name")
        check_places(path, path.resolve(), in_place=True, overwrite=True, imaged=imaged)


def read_matches(path, *, name: str = MATCHES):
    """Read the matches in an NWB file. ndx-nuclr need not be installed.

    Parameters
    ----------
    path : str or Path
    name : str, default: "UnitMatches"
        Name of the table in ``nwbfile.processing["nuclr"]``.

    Returns
    -------
    pandas.DataFrame
        One row per pair of units: ``unit_id`` (of this file), ``neuron_id``, ``other_recording``,
        ``other_identifier``, ``other_unit``, ``probability``, ``similarity``, ``agreement``, ``named``.

    Raises
    ------
    InputError
        The file cannot be read, or holds no such table.

    Examples
    --------
    >>> from ndx_nuclr.testing.mock import mock_UnitMatches
    >>> from pynwb import NWBHDF5IO
    >>> from pynwb.testing.mock.file import mock_NWBFile
    >>> from spikeinterface_nuclr import read_matches
    >>> nwbfile = mock_NWBFile()
    >>> _ = mock_UnitMatches(nwbfile=nwbfile)
    >>> with NWBHDF5IO("session.nwb", "w") as io:
    ...     io.write(nwbfile)
    >>> read_matches("session.nwb").query("named")["other_unit"].tolist()
    ['u0', 'u2', 'u4', 'u6', 'u8']
    """
    import pandas as pd

    with open_nwb(Path(path)) as nwbfile:
        table = contents(nwbfile).get(name)
        if not is_ours(table, MATCHES):
            raise InputError(f"{path}: it holds no matches {name!r}: write them with nuclr match")
        stored = stored_matches(nwbfile, name)
        neurons = table["neuron"].table
        column = "unit_name" if "unit_name" in neurons.colnames else "id"
        ids = np.array(column_texts(neurons, column))
        if len(set(ids.tolist())) < len(ids):
            ids = np.asarray(neurons.id[:])
        return pd.DataFrame({"unit_id": ids[stored.rows], **stored.columns})


def _plan(path: Path, nwbfile, matches: UnitMatches, number: int, identifiers, name: str, if_exists: str) -> Plan:
    """The table to write into the file of the recording at this position."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecordingWarning)
        try:
            table, rows = _rows(nwbfile, matches, number, str(path))
        except InputError as error:
            line = str(error)
            raise InputError(line if line.startswith(f"{path}: ") else f"{path}: {line}") from None
    existing, unwanted = contents(nwbfile), []
    if name in existing and if_exists == "new_name":
        name = free_name(name, existing)
    elif name in existing and (if_exists == "error" or not is_ours(existing[name], MATCHES)):
        raise InputError(f"{path}: it holds {name!r} already: give if_exists='replace' or 'new_name', or another name=")
    elif name in existing:
        unwanted = [f"/processing/nuclr/{name}"]
    part = _match_table(matches, number, identifiers, rows, name, None if table is nwbfile.units else table.object_id)
    # Twice the arrays: HDF5 stores texts in a heap.
    size = size_of(path) + 400 * len(part.rows) + 1_000_000
    return Plan([], unwanted, "", {}, None, None, size, matches=[part])


def _rows(nwbfile, matches: UnitMatches, number: int, name: str):
    """The table of the matched units, and the row of each; InputError if they are others, or have changed."""
    source = _facts(matches, number)
    ids = matches.unit_ids[number]
    if _signal(matches) == "traces":
        series = dict(source.get("source") or {}).get("series")
        reading = {"series": series} if series else {}
        tables = tables_of(choose_rois(nwbfile, series, name))
        if len(tables) > 1:
            raise InputError("its ROIs lie in several tables: match and write the planes one by one (series=)")
        table = tables[0]
    else:
        reading, table = {}, nwbfile.units
        if table is None:
            raise InputError("it holds no units table: name the file with the matched units")
    rows, _ = match_rows(table, ids)
    population = read_nwbfile(nwbfile, name=name, group_by=None, **reading)
    _check_unchanged(population, ids, source.get("fingerprint"))
    return table, rows


def _check_unchanged(population: Population, ids: np.ndarray, fingerprint: str | None) -> None:
    """InputError if the activity of these units is not what was matched."""
    position = {str(unit): k for k, unit in enumerate(population.unit_ids.tolist())}
    missing = [unit for unit in ids.tolist() if str(unit) not in position]
    if missing:
        raise InputError(f"unit {missing[0]} was matched and is not in the file: match again")
    if fingerprint and population.select([position[str(unit)] for unit in ids.tolist()]).fingerprint() != fingerprint:
        raise InputError("its units' activity is not what was matched: match this file again")


def _match_table(
    matches: UnitMatches, number: int, identifiers: list[str], rows: np.ndarray, name: str, plane: str | None
) -> MatchTable:
    """The pairs of one recording's units, those of the most probable partner first for each unit."""
    parts = []
    for side in (0, 1):
        pairs = np.flatnonzero(matches.pair_recordings[:, side] == number)
        other = matches.pair_recordings[pairs, 1 - side]
        parts.append((pairs, matches.pair_units[pairs, side], other, matches.pair_units[pairs, 1 - side]))
    pairs, own, other, unit = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.lexsort((-matches.probability[pairs], other, rows[own]))
    pairs, own, other, unit = pairs[order], own[order], other[order], unit[order]
    columns = {
        "neuron_id": matches.neuron_id[number][own],
        "other_recording": np.array([matches.recordings[k] for k in other], dtype=str),
        "other_identifier": np.array([identifiers[k] for k in other], dtype=str),
        "other_unit": np.array([str(matches.unit_ids[k][u]) for k, u in zip(other, unit, strict=True)], dtype=str),
        **{column: getattr(matches, column)[pairs] for column in ("probability", "similarity", "agreement", "named")},
    }
    provenance = json.dumps(matches.provenance, ensure_ascii=False)
    return MatchTable(name, plane, rows[own], columns, matches.recordings[number], matches.target_error, provenance)


def _facts(matches: UnitMatches, number: int) -> dict:
    """What the provenance says about the recording at this position."""
    recordings = matches.provenance.get("recordings")
    facts = recordings.get(matches.recordings[number]) if isinstance(recordings, dict) else None
    return facts if isinstance(facts, dict) else {}


def _signal(matches: UnitMatches) -> str | None:
    return matches.provenance.get("signal")
