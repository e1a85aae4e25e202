"""Matching of embedded neurons to the rows of an NWB table of units or ROIs."""

import numpy as np

from ...errors import InputError
from ...unit_embeddings import UnitEmbeddings


def match_rows(units, unit_ids: np.ndarray, column: str | None = None) -> tuple[np.ndarray, str]:
    """Row of the table for each unit id, int64, shape (n,), and the column that was matched.

    Parameters
    ----------
    units : pynwb.misc.Units or pynwb.ophys.PlaneSegmentation
    unit_ids : array, shape (n,)
    column : str, optional
        Column with the ids. Default: the first of ``unit_name`` and ``id`` that names every unit once.

    Raises
    ------
    InputError
        A unit is missing from the table, or occurs twice.
    """
    names = [str(unit) for unit in unit_ids]
    reasons, columns = [], [column]
    if column is None:
        # As in read_population, `unit_name` is used only if it is unique.
        repeated = "unit_name" in units.colnames and len(set(column_texts(units, "unit_name"))) < len(units)
        reasons = [f"the {_title(units)}'s 'unit_name' gives several rows one name"] if repeated else []
        columns = ["unit_name", "id"] if "unit_name" in units.colnames and not repeated else ["id"]
    for name in columns:
        if name not in _columns(units):
            raise InputError(
                f"the {_title(units)} has no column {name!r} to match units by; it has: {', '.join(_columns(units))}"
            )
        entries = column_texts(units, name)
        reason = _mismatch(f"the {_title(units)}'s {name!r}", names, entries)
        if not reason:
            row = {text: i for i, text in enumerate(entries)}
            return np.array([row[unit] for unit in names], dtype=np.int64), name
        reasons.append(reason)
    hint = "" if column is not None else ": name the column with their ids (match=), or select the units in the table"
    raise InputError("; ".join(reasons) + hint)


def column_texts(units, name: str) -> list[str]:
    """The values of a column with one value per row, as text."""
    return texts(units.id[:] if name == "id" else units[name][:])


def texts(values) -> list[str]:
    """The values as text; some files store bytes."""
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def check_spike_counts(units, read_counts: np.ndarray, rows: np.ndarray, embeddings: UnitEmbeddings) -> None:
    """Raise InputError for the first unit whose number of spikes differs from that at the time of embedding.

    Accepted is the number of all its spikes, or of those inside its observed time: `read_counts`, (len(units),).
    """
    if embeddings.num_spikes is None:
        raise InputError(
            "the embeddings do not state how many spikes each unit had: embed them again, or give allow_stale=True"
        )
    stored = spike_counts(units)
    for unit, row, count in zip(embeddings.unit_ids, rows, embeddings.num_spikes, strict=True):
        if count not in (stored[row], read_counts[row]):
            raise InputError(
                f"unit {unit}: it had {count:,} spikes when it was embedded, row {row} of the units table has "
                f"{stored[row]:,}: embed it again, or give allow_stale=True"
            )


def spike_counts(units) -> np.ndarray:
    """Number of spikes in each row of a units table, int64, shape (len(units),)."""
    return np.diff(np.asarray(units["spike_times"].data[:], dtype=np.int64), prepend=0)


def _columns(units) -> list[str]:
    return ["id", *units.colnames]


def _title(table) -> str:
    return "units table" if table.name == "units" else f"table {table.name!r}"


def _mismatch(column: str, names: list[str], entries: list[str]) -> str:
    """Why the entries of this column do not match the names of the units; empty if they do."""
    values, counts = np.unique(entries, return_counts=True)
    repeated = set(values[counts > 1].tolist()) & set(names)
    unique = set(entries)
    missing = [unit for unit in names if unit not in unique]
    if missing:
        return (
            f"{len(missing)} of {len(names)} units, such as {missing[0]}, are not in {column} "
            f"({', '.join(entries[:2])}, …)"
        )
    if repeated:
        return f"unit {min(repeated)} occurs more than once in {column}"
    if len(set(names)) < len(names):
        return "the embeddings name a unit twice"
    return ""
