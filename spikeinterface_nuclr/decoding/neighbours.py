"""Pooling over neighbours: units that lie close together on a probe lie in the same region."""

import numpy as np

from .scores import EMBEDDING, POOLED

RADIUS_UM = 60.0
COUNT = 5


def pooled(
    probability: np.ndarray, position: np.ndarray, probe: np.ndarray, radius: float = RADIUS_UM, count: int = COUNT
) -> np.ndarray:
    """Mean probabilities of each unit and its nearest neighbours.

    The five nearest units within 60 µm on the same probe, itself included, as BrainWideBench does.

    Parameters
    ----------
    probability : float array, shape (n, k)
        NaN rows of units without an embedding are nobody's neighbours, and stay NaN.
    position : float array, shape (n,) or (n, d)
        µm along the probe, or in the plane or in space. A unit whose place is not known (NaN) has no neighbours.
    probe : array, shape (n,)
        What each unit was recorded with.
    radius : float
        Largest distance in µm.
    count : int
        Most units that are averaged.

    Returns
    -------
    float array, shape (n, k)
    """
    from scipy.spatial.distance import cdist

    position = np.asarray(position, dtype=float).reshape(len(probability), -1)
    mean = probability.copy()
    known = np.isfinite(probability).all(axis=1) & np.isfinite(position).all(axis=1)
    for label in np.unique(probe):
        of = np.flatnonzero((probe == label) & known)
        distance = cdist(position[of], position[of])
        # Itself first, also beside units at the same place; then by distance, then in their order: many units share a
        # channel, and scikit-learn's neighbours take any of them.
        np.fill_diagonal(distance, -1.0)
        for unit, row in zip(of, distance, strict=True):
            nearest = np.argsort(row, kind="stable")[:count]
            mean[unit] = probability[of[nearest[row[nearest] <= radius]]].mean(axis=0)
    return mean


def with_pooled(predictions, positions: list[np.ndarray], probes: list | None):
    """An evaluation's predictions with those of the embedding pooled over neighbours on the same probe.

    Parameters
    ----------
    predictions : pandas DataFrame
        As of `Evaluation`.
    positions, probes
        Of each recording, as of `evaluate`.
    """
    import pandas as pd

    rows = predictions[predictions["method"] == EMBEDDING].copy()
    columns = [column for column in rows.columns if column.startswith("p(")]
    probability = rows[columns].to_numpy(copy=True)
    # Within animals, a neighbour of another fold was read by a decoder that knew this unit's label.
    for (_, number), of in rows.reset_index(drop=True).groupby(["split", "recording"]).indices.items():
        units = rows["unit"].to_numpy()[of]
        probe = np.zeros(len(units)) if probes is None else np.asarray(probes[number])[units]
        probability[of] = pooled(probability[of], positions[number][units], probe)
    rows[columns] = probability
    rows["method"], rows["confidence"] = POOLED, probability.max(axis=1)
    rows["best_label"] = rows["label"] = [columns[k][2:-1] for k in probability.argmax(axis=1)]
    return pd.concat([predictions, rows], ignore_index=True)
