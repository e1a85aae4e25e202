"""A folder of the International Brain Laboratory's ALF files -> Population.

Arrays are read without SpikeInterface's reader, which needs ONE-api, returns samples instead of times on the session's
clock, and drops what is known about the clusters.
"""

import csv
import re
from pathlib import Path

import numpy as np

from ..errors import InputError, reading
from ..population import Population
from .assembly import assemble
from .npy import load_numbers
from .probes import Probes, choose_group

# Object, attribute, and what may follow: [namespace_]object.attribute[_unit][.uuid].npy
_NAME = re.compile(r"(?:_\w+?_)?(spikes|clusters|channels)\.(\w+?)(?:\.[0-9a-fA-F-]{8,})?\.(npy|csv)$")
# Depth of a probe's folder below a session's, such as alf/probe00/pykilosort/#2024-05-06#.
_DEEPEST = 4
# What is said of a channel, and what that is called for its units.
_OF_CHANNELS = {"brainLocationIds_ccf_2017": "atlas_id", "mlapdv": "mlapdv", "localCoordinates": "site"}


def alf_probes(path: Path) -> list[Path]:
    """The folders with spikes at or below a path, one of each probe; the last revision where there are several."""
    # Only the folders of a session are searched: others may hold any number of files.
    deepest = _DEEPEST if (path / "alf").is_dir() or path.name == "alf" or path.name.startswith("probe") else 0
    patterns = ("/".join(["*"] * depth + ["*spikes.times*.npy"]) for depth in range(deepest + 1))
    found = {file.parent for pattern in patterns for file in path.glob(pattern) if _NAME.match(file.name)}
    newest: dict[str, Path] = {}
    for folder in sorted(found, key=str):
        newest[_probe_of(folder, path)] = folder
    return list(newest.values())


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
    folders = alf_probes(path)
    names = [_probe_of(folder, path) for folder in folders]
    several = len(folders) > 1
    ids, trains, columns = [], [], []
    for folder, name in zip(folders, names, strict=True):
        clusters, times, properties = _read_probe(folder, keep_rejected=keep_rejected)
        ids += [f"{name}:{cluster}" for cluster in clusters] if several else clusters
        trains += times
        columns.append((len(clusters), {**properties, "probe": np.full(len(clusters), name)}))
    properties = _joined(columns)
    probes = Probes("channels", tuple(names), properties["probe"] if several else None)
    group = choose_group(str(path), properties, group_by, lambda: probes)
    return assemble(
        str(path), ids, trains, observed=observed, group=group, properties=properties, metadata={"source": str(path)}
    )


def _probe_of(folder: Path, path: Path) -> str:
    """The probe of a folder: the part of its path that is called so, else the name of the path."""
    parts = folder.relative_to(path).parts
    probes = [part for part in (*parts, path.name) if part.lower().startswith("probe")]
    return probes[0] if probes else next((part for part in parts if part != "alf" and "#" not in part), path.name)


def _read_probe(folder: Path, *, keep_rejected: bool) -> tuple[list[int], list[np.ndarray], dict[str, np.ndarray]]:
    """Clusters, their spike times, and what is known about them."""
    files = {match.groups()[:2]: file for file in sorted(folder.iterdir()) if (match := _NAME.match(file.name))}
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
    """What is said of the channel of each cluster: atlas id, and coordinates in µm."""
    found = {}
    for name, called in _OF_CHANNELS.items():
        file = files.get(("channels", name))
        if file is None:
            continue
        values = load_numbers(file)
        if len(channels) and channels.max() >= len(values):
            raise InputError(f"{file}: has {len(values)} channels, the clusters name number {channels.max()}")
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
    """Columns of a table of clusters, in rows of their number, or in order."""
    with reading(file, "table of clusters", "download it again"), open(file, newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
        numbers = [int(float(row["cluster_id"])) if row.get("cluster_id") else k for k, row in enumerate(rows)]
    size = max([count, *(number + 1 for number in numbers)])
    names = [name for name in (rows[0] if rows else {}) if name and name != "cluster_id"]
    found = {}
    for name in names:
        texts = [""] * size
        for number, row in zip(numbers, rows, strict=True):
            texts[number] = row[name] or ""
        found[name] = _numbers_or_text(texts)
    return found


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
