"""A folder of the International Brain Laboratory's ALF files -> Population.

Arrays are read without SpikeInterface's reader, which needs ONE-api, returns samples instead of times on the session's
clock, and drops what is known about the clusters.
"""

import csv
import re
import warnings
from pathlib import Path

import numpy as np

from ..errors import InputError, RecordingWarning, reading
from ..population import Population
from .assembly import assemble
from .npy import load_numbers
from .probes import Probes, choose_group

# Object, attribute, and what may follow: [namespace_]object.attribute[.uuid].npy
_NAME = re.compile(r"(?:_\w+?_)?(spikes|clusters|channels)\.(\w+?)(?:\.[0-9a-fA-F-]{8,})?\.(npy|csv|pqt)$")
_REVISION = re.compile("#.*#")
# Depth of a probe's folder below a session's, such as alf/probe00/pykilosort/#2024-05-06#.
_DEEPEST = 4
# Attributes of channels, and the properties that units on them get.
_OF_CHANNELS = {"brainLocationIds_ccf_2017": "atlas_id", "mlapdv": "mlapdv", "localCoordinates": "site"}


def alf_folders(path: Path) -> dict[Path, list[Path]]:
    """The folders with spikes at or below a path, each followed by those of its revisions, the last one last."""
    # Only the folders of a session are searched: others may hold any number of files.
    deepest = _DEEPEST if (path / "alf").is_dir() or path.name == "alf" or path.name.startswith("probe") else 0
    patterns = ("/".join(["*"] * depth + ["*spikes.times*.npy"]) for depth in range(deepest + 1))
    found: dict[Path, list[Path]] = {}
    for folder in sorted({file.parent for p in patterns for file in path.glob(p) if _NAME.match(file.name)}, key=str):
        base = folder.parent if _REVISION.fullmatch(folder.name) and folder != path else folder
        found.setdefault(base, [base])
        found[base] += [folder] if folder != base else []
    return found


def read_alf(path: Path, *, group_by, observed, keep_rejected: bool = False) -> Population:
    """The Population of a folder of ALF files: of one probe, or of a session with several.

    Times are on the session's clock, so all probes form one Population; each is a group. Units of several probes are
    called ``probe00:12``.

    Parameters
    ----------
    path : Path
    group_by : str or None
        As in `read_population`; by default the probe.
    observed : array, shape (k, 2), optional
    keep_rejected : bool
        Keep clusters whose curated ``label`` in ``clusters.metrics.csv`` is "noise".
    """
    probes = _by_probe(path)
    names, several = list(probes), len(probes) > 1
    ids, trains, columns = [], [], []
    for name, folders in probes.items():
        clusters, times, properties = _read_probe(folders, keep_rejected=keep_rejected)
        ids += [f"{name}:{cluster}" for cluster in clusters] if several else clusters
        trains += times
        columns.append((len(clusters), {**properties, "probe": np.full(len(clusters), name)}))
    properties = _joined(columns)
    stated = Probes("channels", tuple(names), properties["probe"] if several else None)
    group = choose_group(str(path), properties, group_by, lambda: stated)
    return assemble(
        str(path), ids, trains, observed=observed, group=group, properties=properties, metadata={"source": str(path)}
    )


def _by_probe(path: Path) -> dict[str, list[Path]]:
    """The folder of each probe, followed by those of its revisions; InputError for two sortings of one probe."""
    probes: dict[str, list[Path]] = {}
    for base, folders in alf_folders(path).items():
        name = _probe_of(base, path)
        if name in probes:
            raise InputError(f"{path}: two sortings of {name}, {probes[name][0]} and {base}: name one of these folders")
        probes[name] = folders
    return probes


def _probe_of(folder: Path, path: Path) -> str:
    """The probe of a folder: the part of its path that is called so, else the first part that says something."""
    parts = folder.relative_to(path).parts or (path.name,)
    probes = [part for part in parts if part.lower().startswith("probe")]
    return probes[0] if probes else next((part for part in parts if part != "alf"), path.name)


def _read_probe(folders: list[Path], *, keep_rejected: bool) -> tuple[list[int], list, dict[str, np.ndarray]]:
    """Clusters, their spike times, and what is known about them; revisions replace single files of the first folder."""
    folder = folders[0]
    listed = (file for one in folders for file in sorted(one.iterdir()))
    files = {match.groups()[:2]: file for file in listed if (match := _NAME.match(file.name))}
    for needed in ("times", "clusters"):
        if ("spikes", needed) not in files:
            raise InputError(f"{folder}: it has no spikes.{needed}.npy: download the object spikes again")
    times, which = (_column(files["spikes", name]) for name in ("times", "clusters"))
    if len(times) != len(which):
        raise InputError(f"{folder}: {len(times):,} spikes.times for {len(which):,} spikes.clusters: download it again")
    if which.dtype.kind not in "iu" or (len(which) and which.min() < 0):
        raise InputError(f"{files['spikes', 'clusters']}: holds other than numbers of clusters: download it again")
    which = which.astype(np.int64)
    clusters = np.unique(which)
    known = _of_clusters(files, int(clusters.max(initial=-1)) + 1)
    if not keep_rejected and "label" in known:
        clusters = clusters[[str(label).lower() != "noise" for label in known["label"][clusters]]]
    order = np.argsort(which, kind="stable")
    low, high = (np.searchsorted(which[order], clusters, side=side) for side in ("left", "right"))
    trains = [np.sort(times[order[a:b]].astype(np.float64)) for a, b in zip(low, high, strict=True)]
    return clusters.tolist(), trains, {name: values[clusters] for name, values in known.items()}


def _of_clusters(files: dict, count: int) -> dict[str, np.ndarray]:
    """One number or text of each cluster, for at least `count` of them, by name."""
    found: dict[str, np.ndarray] = {}
    for (kind, name), file in files.items():
        if kind == "clusters" and file.suffix == ".npy":
            values = load_numbers(file)
            if values.ndim == 1 and len(values) >= count:
                found[name] = values
    for name in ("metrics", "uuids"):
        if file := files.get(("clusters", name)):
            found |= _table(file, count)
    channels = found.get("channels")
    if channels is not None and channels.dtype.kind in "iu":
        found |= _of_channels(files, channels)
    if "depths" in found:
        found["depth"] = found.pop("depths")
    return found


def _of_channels(files: dict, channels: np.ndarray) -> dict[str, np.ndarray]:
    """Properties of the channel of each cluster: atlas id, and coordinates in µm."""
    found = {}
    for name, called in _OF_CHANNELS.items():
        file = files.get(("channels", name))
        if file is None:
            continue
        values = load_numbers(file)
        wrong = channels[(channels < 0) | (channels >= len(values))]
        if len(wrong):
            raise InputError(f"{file}: has {len(values)} channels, the clusters name number {wrong[0]}")
        rows = values[channels]
        if rows.ndim == 1:
            found[called] = rows
        else:
            axes = ("ml", "ap", "dv") if called == "mlapdv" else ("x", "y", "z")
            found |= {f"{called}_{axis}": column for axis, column in zip(axes, rows.T, strict=False)}
    if "site_y" in found:
        found.setdefault("depths", found["site_y"])
    return found


def _table(file: Path, count: int) -> dict[str, np.ndarray]:
    """Columns of a table of clusters: one entry for each number of a cluster below `count`."""
    rows = _rows(file)
    with reading(file, "table of clusters", "download it again"):
        numbers = [int(float(row.get("cluster_id") or k)) for k, row in enumerate(rows)]
    found = {}
    for name in [name for name in (rows[0] if rows else {}) if name and name != "cluster_id"]:
        texts = [""] * count
        for number, row in zip(numbers, rows, strict=True):
            if 0 <= number < count:
                texts[number] = row[name] or ""
        found[name] = _numbers_or_text(texts)
    return found


def _rows(file: Path) -> list[dict[str, str]]:
    """Rows of a table, as text; none, with a RecordingWarning, of a Parquet file that cannot be read here."""
    with reading(file, "table of clusters", "download it again"):
        if file.suffix == ".csv":
            with open(file, newline="", encoding="utf-8") as stream:
                return list(csv.DictReader(stream))
        import pandas as pd

        try:
            table = pd.read_parquet(file)
        except ImportError:
            warnings.warn(f"{file}: not read, which needs pyarrow: pip install pyarrow", RecordingWarning, stacklevel=5)
            return []
        return table.reset_index(drop=table.index.name is None).astype(object).fillna("").astype(str).to_dict("records")


def _numbers_or_text(texts: list[str]) -> np.ndarray:
    try:
        return np.array([float(text) if text else np.nan for text in texts])
    except ValueError:
        return np.array(texts)


def _column(file: Path) -> np.ndarray:
    """Numbers of shape (n,) or (n, 1)."""
    values = load_numbers(file)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise InputError(f"{file}: has shape {values.shape}, not one number for each spike: download it again")
    return values


def _joined(columns: list[tuple[int, dict[str, np.ndarray]]]) -> dict[str, np.ndarray]:
    """Properties of the units of all probes; NaN or empty where a probe has none."""
    names = list(dict.fromkeys(name for _, properties in columns for name in properties))
    result = {}
    for name in names:
        parts = [properties.get(name) for _, properties in columns]
        numbers = all(part is None or part.dtype.kind in "biuf" for part in parts)
        missing = np.nan if numbers else ""
        filled = [
            np.full(count, missing) if part is None else part if numbers else part.astype(str)
            for (count, _), part in zip(columns, parts, strict=True)
        ]
        result[name] = np.concatenate(filled)
    return result
