"""Sources of labels, or of numbers: a unit property of the recordings, or a separate CSV file."""

import csv
import dataclasses
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..errors import InputError, reading
from ..population import Population
from .labels import LabelError, as_labels, as_values
from .regions import roll_up


@dataclass(frozen=True)
class LabelRule:
    """Labels from a unit property.

    Attributes
    ----------
    column : str
        The property.
    level : str
        As in `roll_up`; empty for labels that are not Allen acronyms.
    classes : dict of str to str
        Label -> class; labels that it does not contain are ignored. If empty, labels are classes.

    Examples
    --------
    >>> from spikeinterface_nuclr import LabelRule, simulate_population
    >>> rule = LabelRule("cell_type", classes={"fast": "narrow", "regular": "broad"})
    >>> rule.labels_of(simulate_population(6, 10.0), "a recording").tolist()
    ['narrow', 'broad', 'broad', '', '', 'broad']
    """

    column: str
    level: str = ""
    classes: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the labels, for messages."""
        return repr(self.column)

    def check(self, names: list[str]) -> None:
        """InputError if the level is unknown. The property itself is checked when each recording is read."""
        _as_classes(np.empty(0, dtype=str), self.level, self.classes)

    def labels_of(self, population: Population, name: str) -> np.ndarray:
        """The class of each unit of the recording `name`: str array, shape (n_units,); "" if it has none."""
        labels, _ = as_labels(unit_property(population, self.column, name), f"{name}: {self.column!r}")
        return _as_classes(labels, self.level, self.classes)


@dataclass(frozen=True)
class ValueRule:
    """Numbers, such as depths, from a unit property.

    Attributes
    ----------
    column : str
        The property.

    Examples
    --------
    >>> from spikeinterface_nuclr import ValueRule, simulate_population
    >>> ValueRule("depth").labels_of(simulate_population(6, 10.0), "a recording").shape
    (6,)
    """

    column: str

    @property
    def name(self) -> str:
        """Name of the values, for messages."""
        return repr(self.column)

    def check(self, names: list[str]) -> None:
        """Nothing: the property is checked when each recording is read."""

    def labels_of(self, population: Population, name: str) -> np.ndarray:
        """The value of each unit of the recording `name`: float64 array, shape (n_units,); NaN if it has none."""
        return as_values(unit_property(population, self.column, name), f"{name}: {self.column!r}")[0]


@dataclass(frozen=True, eq=False)
class LabelTable:
    """Labels from a CSV file with the columns ``source``, ``unit`` and ``label``.

    A source is a path, absolute or relative to the folder of the CSV file. If it does not exist, it is matched to the
    end of the paths of the recordings, so a file name is enough. Units without a row have no label.

    Attributes
    ----------
    path : Path
        The CSV file.
    cells : dict of str to dict of str to tuple
        Source -> unit -> line number and class ("" for none).

    Examples
    --------
    >>> table = LabelTable.read("labels.csv")  # doctest: +SKIP
    >>> table.labels_of(read_population("m0.nwb"), "m0.nwb")  # doctest: +SKIP
    array(['PV', '', 'SST'], dtype='<U3')
    """

    COLUMN: ClassVar[str] = "label"

    path: Path
    cells: dict[str, dict[str, tuple]]

    @classmethod
    def read(cls, path, level: str = "", classes: dict[str, str] | None = None) -> "LabelTable":
        """Read the file; `level` and `classes` as in `LabelRule`.

        Raises
        ------
        InputError
            The file cannot be used; the message names the line and column, if possible.
        """
        path = Path(path)
        rows = _read_rows(path, "label")
        name = f"{path}: column label"
        labels, _ = as_labels([row["label"] for _, row in rows], name)
        try:
            labels = _as_classes(labels, level, classes or {})
        except InputError as error:
            raise LabelError(f"{name}: {error}") from None
        return cls(path, _cells(path, rows, labels.tolist()))

    @property
    def name(self) -> str:
        """Name of the labels, for messages."""
        return f"{self.path}: column {self.COLUMN}"

    def check(self, names: list[str]) -> None:
        """InputError if a source of the table matches none, or several, of the recordings `names`."""
        for source, units in self.cells.items():
            matches = [name for name in dict.fromkeys(names) if self._matches(source, name)]
            cell = f"{self.path}: line {next(iter(units.values()))[0]}, column source"
            if not matches:
                raise LabelError(f"{cell}: {source!r} is none of the recordings given: give it too, or remove its rows")
            if len(matches) > 1:
                raise LabelError(
                    f"{cell}: {source!r} may be {matches[0]} or {matches[1]}: write more of its path, or all of it"
                )

    def labels_of(self, population: Population, name: str) -> np.ndarray:
        """The class of each unit of the recording `name`: str array, shape (n_units,); "" if it has none."""
        return np.array(self._column_of(population, name, ""), dtype=str)

    def _column_of(self, population: Population, name: str, missing) -> list:
        """The table's entry for each unit of the recording `name`."""
        ids = [_unit_text(str(unit)) for unit in population.unit_ids.tolist()]
        labels: dict[str, tuple] = {}
        for source, units in self.cells.items():
            for unit, (line, label) in units.items() if self._matches(source, name) else ():
                if unit in labels:
                    raise _labelled_twice(self.path, line, unit, name, labels[unit][0])
                labels[unit] = (line, label)
        unknown = labels.keys() - set(ids)
        if unknown:
            line, unit = min((labels[unit][0], unit) for unit in unknown)
            raise LabelError(
                f"{self.path}: line {line}, column unit: {name} has no unit {unit!r} (it has "
                f"{', '.join(ids[:3])}{', …' if len(ids) > 3 else ''}): correct or remove the row, or keep rejected "
                "units (--keep-rejected)"
            )
        return [labels.get(unit, (0, missing))[1] for unit in ids]

    def _matches(self, source: str, name: str) -> bool:
        """Whether a source of the table is the recording `name`."""
        path = self.path.parent / source
        if os.path.exists(path):  # False for text that cannot be a path
            return path.resolve() == Path(name).resolve()
        tail = Path(source).parts
        return source == name or Path(name).absolute().parts[-len(tail) :] == tail


class ValueTable(LabelTable):
    """Numbers from a CSV file with the columns ``source``, ``unit`` and ``value``; otherwise as `LabelTable`.

    Examples
    --------
    >>> table = ValueTable.read("depths.csv")  # doctest: +SKIP
    >>> table.labels_of(read_population("m0.nwb"), "m0.nwb")  # doctest: +SKIP
    array([ 20.,  nan, 140.])
    """

    COLUMN = "value"

    @classmethod
    def read(cls, path) -> "ValueTable":
        """Read the file.

        Raises
        ------
        InputError
            The file cannot be used; the message names the line and column, if possible.
        """
        path = Path(path)
        rows = _read_rows(path, "value")
        values = [as_values([row["value"]], f"{path}: line {line}, column value")[0].item() for line, row in rows]
        return cls(path, _cells(path, rows, values))

    def labels_of(self, population: Population, name: str) -> np.ndarray:
        """The value of each unit of the recording `name`: float64 array, shape (n_units,); NaN if it has none."""
        return np.array(self._column_of(population, name, np.nan), dtype=np.float64)


LabelSource = LabelRule | LabelTable | ValueRule | ValueTable


def unit_property(population: Population, column: str, name: str) -> np.ndarray:
    """A property of the units of the recording `name`; InputError if it does not exist."""
    if column not in population.properties:
        existing = ", ".join(population.properties) or "none"
        raise InputError(f"{name}: its units have no property {column!r}; they have: {existing}")
    return population.properties[column]


def read_classes(path: Path) -> dict[str, str]:
    """The classes of labels, from a CSV file with the columns ``label`` and ``class``."""
    with (
        reading(path, "CSV file", "it needs the columns label and class"),
        open(path, newline="", encoding="utf-8-sig") as file,
    ):
        rows = list(csv.DictReader(file))
        pairs = {(row["label"].strip(), (row["class"] or "").strip()) for row in rows}
    classes = dict(pairs)
    if not classes or not all(classes.values()):
        raise InputError(f"{path}: has no rows, or a label without a class: fill in the columns label and class")
    if len(classes) < len(pairs):
        ambiguous = min(label for label, name in pairs if classes[label] != name)
        raise InputError(f"{path}: label {ambiguous!r} has two classes: keep one of its rows")
    return classes


def _as_classes(labels: np.ndarray, level: str, classes: dict[str, str]) -> np.ndarray:
    """The class of each label, or ""."""
    if level:
        labels = roll_up(labels, level)
    return np.array([classes.get(label, "") for label in labels.tolist()], dtype=str) if classes else labels


def _cells(path: Path, rows: list[tuple[int, dict[str, str]]], entries: list) -> dict[str, dict[str, tuple]]:
    """Source -> unit -> line number and entry of each row."""
    cells: dict[str, dict[str, tuple]] = {}
    for (line, row), entry in zip(rows, entries, strict=True):
        units, unit = cells.setdefault(row["source"], {}), _unit_text(row["unit"])
        if unit in units:
            raise _labelled_twice(path, line, unit, row["source"], units[unit][0])
        units[unit] = (line, entry)
    return cells


def _read_rows(path: Path, answer: str) -> list[tuple[int, dict[str, str]]]:
    """Line number and entries of each row of a table of labels, or of values (`answer`), without other columns."""
    rows, columns = [], ("source", "unit", answer)
    with (
        reading(path, "CSV file", f"save it as UTF-8 text with the columns source, unit and {answer}"),
        open(path, newline="", encoding="utf-8-sig") as file,
    ):
        table = csv.reader(file, strict=True)
        header = [column.strip() for column in next(table, [])]
        for column in columns:
            if header.count(column) != 1:
                raise InputError(
                    f"{path}: line 1: {'two columns are' if column in header else 'no column is'} called {column}: it "
                    f"needs the columns source, unit and {answer}, and has: {', '.join(header) or 'none'}"
                )
        for entries in table:
            if not any(entry.strip() for entry in entries):
                continue
            if len(entries) != len(header):
                raise InputError(
                    f"{path}: line {table.line_num}: has {len(entries)} entries for {len(header)} columns: quote "
                    "entries that contain a comma"
                )
            row = {column: entries[header.index(column)].strip() for column in columns}
            for column in ("source", "unit"):
                if not row[column]:
                    raise InputError(f"{path}: line {table.line_num}, column {column}: is empty: fill it in")
            rows.append((table.line_num, row))
    if not rows:
        raise InputError(f"{path}: has no rows: add one per unit, with its source, unit and {answer}")
    return rows


def _unit_text(unit: str) -> str:
    """A unit id as text; spreadsheets write whole numbers as 12.0."""
    return re.sub(r"^(-?\d+)\.0*$", r"\1", unit)


def _labelled_twice(path: Path, line: int, unit: str, source: str, earlier: int) -> LabelError:
    return LabelError(
        f"{path}: line {line}, column unit: unit {unit!r} of {source} has a label in line {earlier} already: remove one"
    )
