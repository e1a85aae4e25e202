"""phy's tables of clusters: cluster_group.tsv, cluster_info.tsv and others, of every age."""

import csv
import io
import warnings
from pathlib import Path

import numpy as np

from ..errors import RecordingWarning, reading
from .columns import decoded

Rows = dict[int, dict[str, str]]


def cluster_tables(path: Path) -> Rows:
    """Entries of a folder's cluster tables: cluster id -> column -> text. Empty entries are ignored.

    Where tables contradict each other, those of one column (cluster_group.tsv) override cluster_info.tsv, and both
    override the .csv files of an older phy, with a RecordingWarning.
    """
    files = [*path.glob("cluster_*.tsv"), *path.glob("cluster_*.csv")]
    rows: Rows = {}
    origin: dict[tuple[int, str], str] = {}
    for file in sorted(files, key=lambda file: (file.suffix == ".tsv", file.stem != "cluster_info", file.name)):
        table = _table(file)
        _warn_of_contradictions(rows, table, origin, file)
        for unit, row in table.items():
            rows.setdefault(unit, {}).update(row)
            origin |= {(unit, column): file.name for column in row}
    return rows


def cluster_columns(tables: Rows, ids: np.ndarray) -> dict[str, np.ndarray]:
    """The tables' columns for these clusters: numbers where all entries are such, else text."""
    columns = sorted({column for row in tables.values() for column in row})
    return {column: _typed([tables.get(int(unit), {}).get(column, "") for unit in ids]) for column in columns}


def _table(file: Path) -> Rows:
    """One file's rows, without empty entries and surrounding blanks."""
    rows: Rows = {}
    with reading(file, "cluster table", "export it from phy again"):
        text = decoded(file.read_bytes())
        delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
        lines = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))
    for line in lines:
        entries = {_name(column): entry.strip() for column, entry in line.items() if column and entry}
        key = entries.pop("cluster_id", None) or entries.pop("id", None)
        unit = _whole_number(key)
        if unit is not None:
            rows.setdefault(unit, {}).update((column, entry) for column, entry in entries.items() if entry)
    if lines and not rows:
        warnings.warn(f"{file}: no row names a cluster_id; it is left out", RecordingWarning, stacklevel=4)
    return rows


def _name(column: str) -> str:
    """A column's name without surrounding blanks; lower case for the columns that this module interprets."""
    column = column.strip()
    return column.lower() if column.lower() in ("group", "cluster_id", "id") else column


def _warn_of_contradictions(rows: Rows, table: Rows, origin: dict, file: Path) -> None:
    contradicted: dict[tuple[str, str], list[int]] = {}
    for unit, row in table.items():
        for column, entry in row.items():
            if not _same(rows.get(unit, {}).get(column, entry), entry):
                contradicted.setdefault((origin[unit, column], column), []).append(unit)
    for (other, column), units in contradicted.items():
        unit = units[0]
        warnings.warn(
            f"{file}: contradicts {other} on the {column} of {len(units)} clusters, such as {unit} "
            f"({table[unit][column]}, not {rows[unit][column]}), and overrides it: remove the outdated one",
            RecordingWarning,
            stacklevel=4,
        )


def _same(a: str, b: str) -> bool:
    if a.lower() == b.lower():
        return True
    try:
        return float(a) == float(b)
    except ValueError:
        return False


def _whole_number(text: str | None) -> int | None:
    try:
        number = float(text)
    except (TypeError, ValueError):
        return None
    return int(number) if number.is_integer() else None


def _typed(values: list[str]) -> np.ndarray:
    try:
        return np.array([float(value) if value else np.nan for value in values])
    except ValueError:
        return np.array(values)
