"""Novelty: how far an embedding lies from those of the labelled neurons, and which of these it resembles."""

from dataclasses import dataclass

import numpy as np

from .splits import outside_and_inside

NEIGHBOURS = 5
# Most rows of the training embeddings in the reference: enough for nearest neighbours, and 1 MB at dim 128.
_MAX_ROWS = 2_000
# Fraction of the neurons of left-out training animals that count as novel.
_FALSE_ALARMS = 0.01


@dataclass(frozen=True, eq=False)
class Reference:
    """Training embeddings of a decoder, from which novelty is measured.

    Attributes
    ----------
    rows : float32, shape (r, dim)
        Standardised embeddings.
    typical : float
        Median distance of neurons of a left-out training animal from those of the others.
    limit : float
        The 99th percentile of these distances, divided by the median.
    """

    rows: np.ndarray
    typical: float
    limit: float

    def novelty(self, rows: np.ndarray) -> np.ndarray:
        """Mean distance of standardised rows (n, dim) to the five nearest reference rows, divided by `typical`.

        It is 1 for a typical neuron of a new animal.
        """
        return _distance(rows, self.rows) / self.typical

    def distances(self, rows: np.ndarray) -> np.ndarray:
        """Distance of standardised rows (n, dim) to each reference row, divided by `typical`: shape (n, r)."""
        return np.sqrt(_squared_distances(rows, self.rows)) / self.typical


def fit_reference(rows: np.ndarray, folds: list[np.ndarray], seed: int = 0) -> tuple[Reference, np.ndarray]:
    """Fit the reference of standardised embeddings (n, dim).

    Parameters
    ----------
    folds : list of int arrays
        Positions of left-out animals, by which the scale of distances between animals is learnt.
    seed : int
        Seed of the random selection if there are too many rows.

    Returns
    -------
    Reference
    positions : int array, shape (r,)
        Which rows it keeps; the same for other embeddings of these units.
    """
    rng = np.random.default_rng(seed)
    distances = []
    for others, fold in outside_and_inside(folds, len(rows)):
        distances.append(_distance(rows[fold], rows[_subset(others, rng)]))
    distances = np.concatenate(distances)
    typical = max(float(np.median(distances)), 1e-6)
    limit = float(np.quantile(distances, 1 - _FALSE_ALARMS)) / typical
    kept = _subset(np.arange(len(rows)), rng)
    return Reference(rows[kept].astype(np.float32), typical, limit), kept


def _subset(positions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """At most `_MAX_ROWS` of the positions, at random."""
    return positions if len(positions) <= _MAX_ROWS else np.sort(rng.choice(positions, _MAX_ROWS, replace=False))


def _distance(rows: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Mean Euclidean distance of each row to its nearest neighbours in the reference: shape (n,)."""
    nearest = min(NEIGHBOURS, len(reference))
    distance = np.empty(len(rows))
    for low in range(0, len(rows), 1000):
        squared = _squared_distances(rows[low : low + 1000], reference)
        squared = np.partition(squared, nearest - 1, axis=1)[:, :nearest]
        distance[low : low + 1000] = np.sqrt(squared).mean(axis=1)
    return distance


def _squared_distances(rows: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Squared Euclidean distance of each row from each reference row.

    scikit-learn's distances are not used, because they vary by 1e-14: refitted decoders would have another sha256.
    """
    rows, reference = rows.astype(np.float64), reference.astype(np.float64)
    squared = (rows**2).sum(axis=1)[:, None] + (reference**2).sum(axis=1) - 2 * rows @ reference.T
    return np.maximum(squared, 0)
