"""A phy or Kilosort folder -> Population. Its params.py is read as text, never run."""

import csv
import re
import warnings
from pathlib import Path

import numpy as np

from ..errors import InputError, RecordingWarning
from ..population import Population
from .assembly import assemble, choose_group
from .npy import load_numbers


def is_phy_folder(path: Path) -> bool:
    """Whether the folder holds what phy and Kilosort write."""
    return (path / "spike_times.npy").is_file()


def read_phy(path: Path, *, group_by, observed, sampling_frequency=None, keep_rejected: bool = False) -> Population:
    """The Population of a phy or Kilosort folder.

    Parameters
    ----------
    path : Path
    group_by : str or None
        A column of the cluster tables ("sh" for phy's shank).
    observed : array, shape (k, 2), optional
    sampling_frequency : float, optional
        Samples per second. Needed where params.py does not say.
    keep_rejected : bool
        Keep clusters whose group is "noise".
    """
    name = str(path)
    samples = _load(path / "spike_times.npy")
    for file in ("spike_clusters.npy", "spike_templates.npy"):
        if (path / file).is_file():
            clusters = _load(path / file)
            break
    else:
        raise InputError(f"{name}: it has no spike_clusters.npy: export it from phy or Kilosort again")
    if len(samples) != len(clusters):
        raise InputError(f"{name}: {len(samples):,} spike times for {len(clusters):,} cluster labels: export it again")
    fs = _sampling_frequency(path, sampling_frequency)

    tables = _cluster_tables(path)
    ids = np.unique(clusters).astype(np.int64)
    if len(ids) == 0:
        raise InputError(f"{name}: it holds no spikes")
    if not keep_rejected:
        noise = {unit for unit, row in tables.items() if row.get("group", "").lower() == "noise"}
        ids = ids[[int(unit) not in noise for unit in ids]]
    if len(ids) == 0:
        raise InputError(f"{name}: every cluster is noise: give keep_rejected=True (--keep-rejected) to keep them")
    order = np.argsort(clusters, kind="stable")
    at = np.searchsorted(clusters[order], ids)
    to = np.searchsorted(clusters[order], ids, side="right")
    # phy lists spikes in order of time, but files edited by hand need not be.
    trains = [np.sort(samples[order[a:b]].astype(np.float64) / fs) for a, b in zip(at, to, strict=True)]

    columns = sorted({column for row in tables.values() for column in row})
    properties = {c: _typed([tables.get(int(unit), {}).get(c, "") for unit in ids]) for c in columns}
    if "group" in properties and "quality" not in properties:
        properties["quality"] = properties.pop("group")
    return assemble(
        name,
        ids,
        trains,
        observed=observed,
        group=choose_group(name, properties, group_by),
        properties=properties,
        metadata={"source": name},
    )


def _load(path: Path) -> np.ndarray:
    values = load_numbers(path, mapped=True)
    if not np.isfinite(values).all():
        raise InputError(f"{path}: does not hold plain numbers: export it from phy or Kilosort again")
    return values.ravel()


def _sampling_frequency(path: Path, given: float | None) -> float:
    if given is None:
        if not (path / "params.py").is_file():
            raise InputError(f"{path}: it has no params.py: give sampling_frequency= (--sampling-frequency) in Hz")
        text = (path / "params.py").read_text(errors="replace")
        found = re.search(r"^\s*sample_rate\s*(?::\s*\w+\s*)?=\s*([-+\w.]+)\s*(?:#.*)?$", text, re.MULTILINE)
        try:
            given = float(found[1])
        except (TypeError, ValueError):
            raise InputError(
                f"{path / 'params.py'}: it sets no plain sample_rate: give sampling_frequency= in Hz"
            ) from None
    if not (np.isfinite(given) and given > 0):
        raise InputError(f"{path}: a sampling frequency of {given!r} Hz is impossible: give sampling_frequency= in Hz")
    return float(given)


def _cluster_tables(path: Path) -> dict[int, dict[str, str]]:
    """What the cluster_*.tsv and .csv files say: cluster id -> column -> text."""
    rows: dict[int, dict[str, str]] = {}
    for file in sorted([*path.glob("cluster_*.tsv"), *path.glob("cluster_*.csv")]):
        text = file.read_text(encoding="utf-8-sig", errors="replace")
        delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
        understood = False
        for row in csv.DictReader(text.splitlines(), delimiter=delimiter):
            key = row.pop("cluster_id", None) or row.pop("id", None)
            try:
                unit = int(float(key))
            except (TypeError, ValueError):
                continue
            understood = True
            rows.setdefault(unit, {}).update({k: v for k, v in row.items() if k and v is not None})
        if not understood and len(text.splitlines()) > 1:
            warnings.warn(f"{file}: no row names a cluster_id; it is left out", RecordingWarning, stacklevel=3)
    return rows


def _typed(values: list[str]) -> np.ndarray:
    try:
        return np.array([float(v) if v else np.nan for v in values])
    except ValueError:
        return np.array(values)
