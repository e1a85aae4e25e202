"""A phy or Kilosort folder -> Population.

params.py is a Python program: sample_rate is parsed from its text, and no code is executed. phylib's reader runs it
and therefore cannot be used.
"""

import ast
import csv
import io
import warnings
from pathlib import Path

import numpy as np

from ..errors import InputError, RecordingWarning, reading
from ..population import Population
from .assembly import assemble
from .columns import decoded
from .npy import load_numbers
from .probes import choose_group

Rows = dict[int, dict[str, str]]
_LONGEST = 1_000_000  # bytes of a params.py, which sets a few names


def is_phy_folder(path: Path) -> bool:
    """Whether the folder is one of phy or Kilosort."""
    return (path / "spike_times.npy").is_file()


def read_phy(path: Path, *, group_by, observed, sampling_frequency=None, keep_rejected: bool = False) -> Population:
    """The Population of a phy or Kilosort folder. Its recording begins at sample 0.

    Parameters
    ----------
    path : Path
    group_by : str or None
        A column of the cluster tables ("sh" for phy's shank).
    observed : array, shape (k, 2), optional
    sampling_frequency : float, optional
        Samples per second. Required without a params.py that states them.
    keep_rejected : bool
        Keep clusters whose group is "noise".
    """
    name = str(path)
    samples = _whole_numbers(path / "spike_times.npy", "samples")
    for file in ("spike_clusters.npy", "spike_templates.npy"):
        if (path / file).is_file():
            clusters = _whole_numbers(path / file, "clusters")
            break
    else:
        raise InputError(f"{name}: it has no spike_clusters.npy: export it from phy or Kilosort again")
    if len(samples) != len(clusters):
        raise InputError(f"{name}: {len(samples):,} spike times for {len(clusters):,} cluster labels: export it again")
    fs = sample_rate(path) if sampling_frequency is None else sampling_frequency
    if not (np.isfinite(fs) and fs > 0):
        raise InputError(f"{path}: a sampling frequency of {fs!r} Hz is impossible: give sampling_frequency= in Hz")

    tables = cluster_tables(path)
    ids = np.unique(clusters)
    if len(ids) == 0:
        raise InputError(f"{name}: it has no spikes")
    if not keep_rejected:
        noise = {unit for unit, row in tables.items() if row.get("group", "").lower() == "noise"}
        ids = ids[[int(unit) not in noise for unit in ids]]
    if len(ids) == 0:
        raise InputError(f"{name}: every cluster is noise: give keep_rejected=True (--keep-rejected) to keep them")
    order = np.argsort(clusters, kind="stable")
    first = np.searchsorted(clusters[order], ids)
    end = np.searchsorted(clusters[order], ids, side="right")
    # phy lists spikes in order of time, but files edited by hand may not be sorted.
    trains = [np.sort(samples[order[a:b]].astype(np.float64) / fs) for a, b in zip(first, end, strict=True)]

    properties = cluster_columns(tables, ids)
    if "group" in properties and "quality" not in properties:
        properties["quality"] = properties.pop("group")
    return assemble(
        name,
        ids,
        trains,
        observed=observed,
        start=0.0,
        group=choose_group(name, properties, group_by),
        properties=properties,
        metadata={"source": name},
    )


def _whole_numbers(path: Path, quantity: str) -> np.ndarray:
    """The numbers in a file of samples or clusters, which count from 0."""
    values = load_numbers(path, mapped=True).ravel()
    if not np.isfinite(values).all():
        raise InputError(f"{path}: does not contain plain numbers: export it from phy or Kilosort again")
    invalid = np.flatnonzero((values < 0) | (values != np.floor(values)) | (values >= 2.0**63))
    if len(invalid):
        raise InputError(
            f"{path}: entry {invalid[0]:,} is {values[invalid[0]]}, and {quantity} are whole numbers from 0: export it "
            "from phy or Kilosort again"
        )
    return values.astype(np.int64)


def sample_rate(folder: Path) -> float:
    """The value of `sample_rate` after a run of params.py, without running it.

    Raise InputError if the file is missing or sets it in any other way than by assigning a plain number.
    """
    path = folder / "params.py"
    if not path.is_file():
        raise InputError(f"{folder}: it has no params.py: give sampling_frequency= (--sampling-frequency) in Hz")
    with reading(path, "Python file", "give sampling_frequency= in Hz"):
        if path.stat().st_size > _LONGEST:
            raise InputError(f"{path}: is too long for a params.py: give sampling_frequency= in Hz")
        statements = _parsed(decoded(path.read_bytes())).body
    value = None
    for statement in statements:
        if _assigns_plainly(statement):
            value = statement.value
        elif _binds(statement):
            value = None
    rate = value and _number(value)
    if rate is None:
        raise InputError(f"{path}: it does not set sample_rate to a plain number: give sampling_frequency= in Hz")
    return rate


def _parsed(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes such as C:\data
        try:
            return ast.parse(text)
        except SyntaxError:  # a Windows path such as 'C:\users', which is not valid Python and not needed here
            return ast.parse(text.replace("\\", "\\\\"))


def _assigns_plainly(statement: ast.stmt) -> bool:
    """Whether the statement is ``sample_rate = …``, with or without an annotation, and nothing else."""
    if isinstance(statement, ast.Assign):
        return all(isinstance(target, ast.Name) for target in statement.targets) and any(
            target.id == "sample_rate" for target in statement.targets
        )
    return (
        isinstance(statement, ast.AnnAssign)
        and statement.value is not None
        and isinstance(statement.target, ast.Name)
        and statement.target.id == "sample_rate"
    )


def _binds(statement: ast.stmt) -> bool:
    """Whether the statement may set or delete sample_rate in another way, such as inside an ``if``."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return statement.name == "sample_rate"
    if isinstance(statement, ast.AnnAssign) and statement.value is None:
        return False
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and node.id == "sample_rate" and not isinstance(node.ctx, ast.Load):
            return True
        if isinstance(node, ast.alias) and (node.asname or node.name) in ("sample_rate", "*"):
            return True
    return False


def _number(value: ast.expr) -> float | None:
    try:
        number = ast.literal_eval(value)
        return float(number) if isinstance(number, int | float) and not isinstance(number, bool) else None
    except (ValueError, TypeError, SyntaxError, OverflowError, MemoryError, RecursionError):
        return None


def cluster_tables(path: Path) -> Rows:
    """Entries of a folder's cluster tables: cluster id -> column -> text. Empty entries are ignored.

    If tables contradict each other, tables of one column (cluster_group.tsv) override cluster_info.tsv, and both
    override the .csv files of older versions of phy, with a RecordingWarning.
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
    """The tables' columns for these clusters: numbers if all entries are numbers, else text."""
    columns = sorted({column for row in tables.values() for column in row})
    return {column: _typed([tables.get(int(unit), {}).get(column, "") for unit in ids]) for column in columns}


def _table(file: Path) -> Rows:
    """The rows of one file, without empty entries and surrounding blanks."""
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
        warnings.warn(f"{file}: no row names a cluster_id; it is skipped", RecordingWarning, stacklevel=4)
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
