"""Lists of sources: paths, patterns, folders and CSV manifests."""

import csv
import glob
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError, reason_of
from .folders import recording_in

MANIFEST_COLUMNS = ("source", "animal", "session", "probe", "weight")


@dataclass(frozen=True, eq=False)
class Listed:
    """One source, and its entries in the manifest.

    Attributes
    ----------
    source : path or object
        As `read_population` accepts it.
    name : str
        The path, or the source in an object's metadata.
    animal, session, probe : str
        Empty if not stated. With `probe`, all units of the source belong to that one probe.
    weight : float
        Relative frequency with which the source is sampled in training.
    """

    source: object
    name: str
    animal: str = ""
    session: str = ""
    probe: str = ""
    weight: float = 1.0

    @property
    def key(self) -> str:
        """A file name that does not depend on how the path of this source is written."""
        location = os.fsencode(self.source.resolve() if isinstance(self.source, Path) else self.name)
        digest = hashlib.sha256(location + b"\0" + self.probe.encode()).hexdigest()[:8]
        return f"{os.fsencode(Path(self.name).stem).decode(errors='replace').lstrip('.')}-{digest}"

    def reading(self, keywords: dict) -> dict:
        """Keywords of `read_population` for this source: where all units are of one probe, they are not divided."""
        return {**keywords, "group_by": None} if self.probe else keywords

    def refusal(self, error: Exception) -> str:
        """Why the source cannot be used, in one line: "NAME: reason"."""
        reason = reason_of(error)
        return reason if reason.startswith(f"{self.name}: ") else f"{self.name}: {reason}"

    @property
    def stamp(self) -> list:
        """Changes when the file or its entries change; empty for objects, whose changes cannot be detected."""
        if not isinstance(self.source, Path) or not self.source.exists():
            return []
        paths = [self.source, *self.source.rglob("*")] if self.source.is_dir() else [self.source]
        stats = [path.stat() if path.exists() else path.lstat() for path in paths]
        size, modified = sum(s.st_size for s in stats), max(s.st_mtime_ns for s in stats)
        return [self.animal, self.session, self.probe, self.weight, size, modified]


def list_sources(sources) -> list[Listed]:
    """List every source that `sources` names.

    Parameters
    ----------
    sources : path, object, or iterable of these
        A path; a pattern as of `glob` (``**`` matches any depth of folders); a plain folder, for the NWB files in it;
        a ``.csv`` manifest; or an object that `read_population` accepts. A manifest has a column ``source`` (a path or
        pattern relative to the manifest's folder) and may have ``animal``, ``session``, ``probe`` and ``weight``; empty
        entries are read from the source, and an empty weight is 1.

    Returns
    -------
    list of Listed
        In the order given, each file once.

    Raises
    ------
    InputError
        A pattern matches no file, a manifest is not readable, or two objects have the same name.
    """
    if isinstance(sources, str | Path) or not np.iterable(sources):
        sources = [sources]
    unique: dict[object, Listed] = {}
    for number, source in enumerate(sources):
        if isinstance(source, str | Path):
            listed = _read_manifest(Path(source)) if Path(source).suffix == ".csv" else _files(str(source))
            for entry in listed:
                unique.setdefault((entry.source.resolve(), entry.probe), entry)
        else:
            name = str(getattr(source, "metadata", {}).get("source") or f"{type(source).__name__} {number}")
            if name in unique:
                raise InputError(f"two sources are called {name}: give each a name, metadata={{'source': …}}")
            unique[name] = Listed(source, name)
    return list(unique.values())


def _files(pattern: str, folder: Path = Path(), **entries) -> list[Listed]:
    """The files of a path or pattern relative to `folder`."""
    paths = [folder / pattern]
    if not paths[0].exists() and glob.has_magic(pattern):
        paths = sorted(folder / path for path in glob.glob(pattern, root_dir=folder, recursive=True))
        if not paths:
            raise InputError(f"{folder / pattern}: no file matches this pattern")
    return [Listed(file, str(file), **entries) for path in paths for file in (_inside(path) or [path])]


def _inside(path: Path) -> list[Path]:
    """The NWB files in a folder that is not itself a recording."""
    if not path.is_dir() or (path / ".zgroup").exists() or recording_in(path)[0]:
        return []
    return sorted(path.rglob("[!.]*.nwb"))


def _read_manifest(path: Path) -> list[Listed]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), reader.fieldnames or []
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: not a readable manifest ({reason_of(error)})") from None
    unknown = sorted(set(columns) - set(MANIFEST_COLUMNS))
    if "source" not in columns or unknown:
        raise InputError(
            f"{path}: a manifest has the column source and may have animal, session, probe, weight"
            + (f", not {unknown[0]}" if unknown else "")
        )
    listed = []
    for line, row in enumerate(rows, start=2):
        if None in row or not row["source"]:
            raise InputError(f"{path}: line {line} has {'no source' if None not in row else 'too many entries'}")
        entries = {column: (row.get(column) or "").strip() for column in MANIFEST_COLUMNS[1:]}
        weight = _weight(entries.pop("weight") or "1", f"{path}: line {line}")
        listed += _files(row["source"].strip(), path.parent, **entries, weight=weight)
    return listed


def _weight(text: str, line: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = -1.0
    if not 0 < weight < float("inf"):
        raise InputError(f"{line}: weight must be a positive number, not {text!r}")
    return weight
