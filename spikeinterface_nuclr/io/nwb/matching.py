"""Matching of embedded neurons to the rows of an NWB table of units or ROIs."""

import numpy as np

from ...errors import InputError
from ...unit_embeddings import UnitEmbeddings


def match_rows(units, unit_ids: np.ndarray, column: str | None = None) -> tuple[np.ndarray, str]:
    """Row of the table for each unit id, int64, shape (n,), and the column that names them.

    Parameters
    ----------
    units : pynwb.misc.Units or pynwb.ophys.PlaneSegmentation
    unit_ids : array, shape (n,)
    column : str, optional
        Column that holds the ids. Default: the first of ``unit_name`` and ``id`` that names every unit once.

    Raises
    ------
    InputError
        A unit is missing in the table, or occurs twice.
    """
    wanted = [str(unit) for unit in unit_ids]
    refusals, columns = [], [column]
    if column is None:
        # `unit_name` counts where it names each row once, as for read_population.
        alike = "unit_name" in units.colnames and len(set(column_texts(units, "unit_name"))) < len(units)
        refusals = [f"the {_called(units)}'s 'unit_name' gives several rows one name"] if alike else []
        columns = ["unit_name", "id"] if "unit_name" in units.colnames and not alike else ["id"]
    for name in columns:
        if name not in _names(units):
            raise InputError(
                f"the {_called(units)} has no column {name!r} to match units by; it has: {', '.join(_names(units))}"
            )
        present = column_texts(units, name)
        reason = _refusal(f"the {_called(units)}'s {name!r}", wanted, present)
        if not reason:
            row = {text: i for i, text in enumerate(present)}
            return np.array([row[unit] for unit in wanted], dtype=np.int64), name
        refusals.append(reason)
    hint = (
        "" if column is not None else ": name the column that holds them (match=), or select the units that are there"
    )
    raise InputError("; ".join(refusals) + hint)


def column_texts(units, name: str) -> list[str]:
    """The values of a column of one value a row, as text."""
    return texts(units.id[:] if name == "id" else units[name][:])


def texts(values) -> list[str]:
    """The values as text; some files hold it as bytes."""
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def check_spike_counts(units, read_counts: np.ndarray, rows: np.ndarray, embeddings: UnitEmbeddings) -> None:
    """InputError for the first unit that has another number of spikes in the units table than when it was embedded.

    The number of all its spikes will do, and so will `read_counts`, (len(units),), of those inside its observed time.
    """
    if embeddings.num_spikes is None:
        raise InputError(
            "the embeddings do not say how many spikes each unit had: embed it again, or give allow_stale=True"
        )
    stored = spike_counts(units)
    for unit, row, count in zip(embeddings.unit_ids, rows, embeddings.num_spikes, strict=True):
        if count not in (stored[row], read_counts[row]):
            raise InputError(
                f"unit {unit}: it had {count:,} spikes when it was embedded, row {row} of the units table has "
                f"{stored[row]:,}: embed it again, or give allow_stale=True"
            )


def spike_counts(units) -> np.ndarray:
    """Spikes of each row of a units table, int64, shape (len(units),)."""
    return np.diff(np.asarray(units["spike_times"].data[:], dtype=np.int64), prepend=0)


def _names(units) -> list[str]:
    return ["id", *units.colnames]


def _called(table) -> str:
    return "units table" if table.name == "units" else f"table {table.name!r}"


def _refusal(column: str, wanted: list[str], present: list[str]) -> str:
    """Why this column, as it is called, does not name the units; empty if it does."""
    values, counts = np.unique(present, return_counts=True)
    twice = set(values[counts > 1].tolist()) & set(wanted)
    known = set(present)
    missing = [unit for unit in wanted if unit not in known]
    if missing:
        return (
            f"{len(missing)} of {len(wanted)} units, such as {missing[0]}, are not in {column} "
            f"({', '.join(present[:2])}, …)"
        )
    if twice:
        return f"unit {min(twice)} occurs more than once in {column}"
    if len(set(wanted)) < len(wanted):
        return "the embeddings name a unit twice"
    return ""
