"""Pooling of probabilities over neighbouring units, which mostly lie in the same brain region."""

from dataclasses import replace

import numpy as np

from ..predictions import Identities
from .scores import EMBEDDING, POOLED

RADIUS_UM = 60.0
COUNT = 5


def pooled(
    probability: np.ndarray, position: np.ndarray, probe: np.ndarray, radius: float = RADIUS_UM, count: int = COUNT
) -> np.ndarray:
    """Mean probabilities of each unit and its nearest neighbours.

    By default, the five nearest units within 60 µm on the same probe, the unit itself included, as in BrainWideBench.

    Parameters
    ----------
    probability : float array, shape (n, k)
        Rows of NaN (units without an embedding) are not used as neighbours, and stay NaN.
    position : float array, shape (n,) or (n, d)
        Depth along the probe in µm, or coordinates in a plane or in space. A unit with NaN has no neighbours.
    probe : array, shape (n,)
        Probe of each unit.
    radius : float
        Largest distance in µm.
    count : int
        Largest number of units that are averaged.

    Returns
    -------
    float array, shape (n, k)
    """
    from scipy.spatial.distance import cdist

    position = np.asarray(position, dtype=float).reshape(len(probability), -1)
    mean = probability.copy()
    usable = np.isfinite(probability).all(axis=1) & np.isfinite(position).all(axis=1)
    for name in np.unique(probe):
        units = np.flatnonzero((probe == name) & usable)
        distance = cdist(position[units], position[units])
        # The unit itself first, then by distance, then by index: many units share a channel, and the order in which
        # scikit-learn's neighbours breaks ties is not defined.
        np.fill_diagonal(distance, -1.0)
        for unit, row in zip(units, distance, strict=True):
            nearest = np.argsort(row, kind="stable")[:count]
            mean[unit] = probability[units[nearest[row[nearest] <= radius]]].mean(axis=0)
    return mean


def with_neighbours(identities: Identities, position: np.ndarray, probe: np.ndarray) -> Identities:
    """Identities whose probabilities are averaged over neighbours on the same probe, as `pooled` does.

    The best label and the confidence are those of the averages. The reasons to abstain are those of the units
    themselves, because thresholds of averages are not known.
    """
    probability = pooled(identities.probability.astype(np.float64), position, probe).astype(np.float32)
    known = np.isfinite(probability).all(axis=1)
    best = identities.classes[np.nan_to_num(probability).argmax(axis=1)]
    return replace(
        identities,
        probability=probability,
        confidence=probability.max(axis=1),
        best_label=np.where(known, best, ""),
        agreement=None,
    )


def with_pooled(predictions, positions: list[np.ndarray], probes: list | None):
    """Append predictions of the embedding pooled over neighbours on the same probe to an evaluation's predictions.

    Parameters
    ----------
    predictions : pandas DataFrame
        As in `Evaluation`.
    positions, probes
        One array per recording, as in `evaluate`.
    """
    import pandas as pd

    rows = predictions[predictions["method"] == EMBEDDING].copy()
    columns = [column for column in rows.columns if column.startswith("p(")]
    probability = rows[columns].to_numpy(copy=True)
    # By split too: within animals, the decoder of another fold was fitted to this unit's label.
    for (_, number), indices in rows.reset_index(drop=True).groupby(["split", "recording"]).indices.items():
        units = rows["unit"].to_numpy()[indices]
        probe = np.zeros(len(units)) if probes is None else np.asarray(probes[number])[units]
        probability[indices] = pooled(probability[indices], positions[number][units], probe)
    rows[columns] = probability
    rows["method"], rows["confidence"] = POOLED, probability.max(axis=1)
    rows["best_label"] = rows["label"] = [columns[k][2:-1] for k in probability.argmax(axis=1)]
    return pd.concat([predictions, rows], ignore_index=True)
