"""A phy or Kilosort folder -> Population."""

from pathlib import Path

import numpy as np

from ..errors import InputError
from ..population import Population
from .assembly import assemble
from .npy import load_numbers
from .phy_params import sample_rate
from .phy_tables import cluster_columns, cluster_tables
from .probes import choose_group


def is_phy_folder(path: Path) -> bool:
    """Whether the folder holds what phy and Kilosort write."""
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
        Samples per second. Required where params.py does not state them.
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


def _whole_numbers(path: Path, what: str) -> np.ndarray:
    """The numbers in a file of samples or clusters, which count from 0."""
    values = load_numbers(path, mapped=True).ravel()
    if not np.isfinite(values).all():
        raise InputError(f"{path}: does not hold plain numbers: export it from phy or Kilosort again")
    wrong = np.flatnonzero((values < 0) | (values != np.floor(values)) | (values >= 2.0**63))
    if len(wrong):
        raise InputError(
            f"{path}: entry {wrong[0]:,} is {values[wrong[0]]}, and {what} are whole numbers from 0 on: export it "
            "from phy or Kilosort again"
        )
    return values.astype(np.int64)
