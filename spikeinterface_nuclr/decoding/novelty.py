"""How unlike the neurons that a decoder was fitted to another one is."""

from dataclasses import dataclass

import numpy as np

from .splits import outside_and_inside

NEIGHBOURS = 5
# Rows kept of the training embeddings: enough to say what is near, and a megabyte at dim 128.
_KEPT = 2_000
# Share of the neurons of unseen animals of the same kind that are taken for novel.
_ALARMS = 0.01


@dataclass(frozen=True, eq=False)
class Reference:
    """Embeddings that a decoder was fitted to.

    Attributes
    ----------
    rows : float32, shape (r, dim)
        Standardised.
    typical : float
        Median distance of neurons of one training animal from those of the others.
    limit : float
        The 99th percentile of these distances, in units of the median.
    """

    rows: np.ndarray
    typical: float
    limit: float

    def novelty(self, rows: np.ndarray) -> np.ndarray:
        """Distance of standardised rows (n, dim) from the reference, 1 for a typical neuron of a new animal.

        The mean distance to the five nearest.
        """
        return _distance(rows, self.rows) / self.typical


def fit_reference(rows: np.ndarray, folds: list[np.ndarray], seed: int = 0) -> Reference:
    """The reference that standardised rows (n, dim) make.

    Parameters
    ----------
    folds : list of int arrays
        Positions of the rows of some of the animals each, to learn how far apart animals lie.
    seed : int
        Of the draw, where there are too many rows to keep.
    """
    rng = np.random.default_rng(seed)
    apart = []
    for others, fold in outside_and_inside(folds, len(rows)):
        apart.append(_distance(rows[fold], rows[_some(others, rng)]))
    apart = np.concatenate(apart)
    typical = max(float(np.median(apart)), 1e-6)
    limit = float(np.quantile(apart, 1 - _ALARMS)) / typical
    return Reference(rows[_some(np.arange(len(rows)), rng)].astype(np.float32), typical, limit)


def _some(positions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return positions if len(positions) <= _KEPT else np.sort(rng.choice(positions, _KEPT, replace=False))


def _distance(rows: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Mean Euclidean distance of each row to its nearest neighbours in the reference: shape (n,).

    By hand: scikit-learn's distances differ by 1e-14, so that a decoder fitted again would have another identity.
    """
    nearest = min(NEIGHBOURS, len(reference))
    reference = reference.astype(np.float64)
    lengths = (reference**2).sum(axis=1)
    distance = np.empty(len(rows))
    for low in range(0, len(rows), 1000):
        block = rows[low : low + 1000].astype(np.float64)
        squared = (block**2).sum(axis=1)[:, None] + lengths - 2 * block @ reference.T
        squared = np.partition(np.maximum(squared, 0), nearest - 1, axis=1)[:, :nearest]
        distance[low : low + 1000] = np.sqrt(squared).mean(axis=1)
    return distance
