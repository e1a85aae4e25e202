"""Matching two recordings by what their units are like, and by how they relate to one another.

A unit's correlations with the other units identify it far better than its own activity does, but to compare them, one
has to know which of the others is which. So both are found together: a first guess from the embeddings says which
units may correspond; under this guess, the units' correlations are compared; this improves the guess, and so on. This
is graduated assignment (Gold & Rangarajan 1996, IEEE Trans. Pattern Anal. Mach. Intell. 18, 377-388) for a problem in
which units may have no partner.
"""

from dataclasses import dataclass

import numpy as np

from ..unit_matches import similarity_of
from .evidence import Evidence

# Log odds per unit of cosine similarity of the embeddings, and of agreement of the correlations (which lies in
# [-1, 1]). Results hardly depend on them (benchmarks/matching.py); calibration comes afterwards.
SIMILARITY_SLOPE, AGREEMENT_SLOPE = 8.0, 40.0
# Agreement counts fully from this step on.
WARM_UP, MAX_STEPS = 20, 60
# Odds of having no partner, against an average partner.
NO_PARTNER = 5.0
# Largest change of a unit's probabilities at which iterations end.
_TOLERANCE = 1e-3
_SINKHORN_STEPS = 15


@dataclass(frozen=True, eq=False)
class RawMatch:
    """Two recordings compared, before calibration. All arrays have the shape (n_first, n_second).

    Attributes
    ----------
    similarity : float32
        Of embeddings, in [-1, 1].
    agreement : float32
        Correlation, in [-1, 1], of a unit's correlations with those of another, over units that correspond.
    weight : float32
        How much each pair corresponds; rows and columns have sums of at most 1. Not yet a probability.
    """

    similarity: np.ndarray
    agreement: np.ndarray
    weight: np.ndarray


def compare(first: Evidence, second: Evidence, weights: np.ndarray) -> RawMatch:
    """Match the units of two recordings.

    Parameters
    ----------
    first, second : Evidence
        Of n_first and n_second units.
    weights : float, shape (scales,)
        Weights of the scales of correlations.
    """
    similarity = similarity_of(first.embedding, second.embedding)
    if not similarity.size:
        return RawMatch(similarity, similarity, similarity)
    logits = SIMILARITY_SLOPE * (similarity - similarity.mean()) - np.float32(0.5 * np.log(similarity.size))
    if not (len(first.correlations) and len(second.correlations)) or min(similarity.shape) < 3:
        return RawMatch(similarity, np.zeros_like(similarity), one_to_one(np.exp(logits), NO_PARTNER))
    weights = (weights / weights.sum()).astype(np.float32)
    weight, agreement = None, np.zeros_like(similarity)
    for step in range(MAX_STEPS):
        slope = AGREEMENT_SLOPE * min(step / WARM_UP, 1)
        new = one_to_one(np.exp(logits + slope * agreement), NO_PARTNER)
        change = np.inf if weight is None else float(np.abs(new - weight).max())
        weight = new if weight is None else (weight + new) / 2
        agreement = agreement_of(first.correlations, second.correlations, weight, weights)
        if step > WARM_UP and change < _TOLERANCE:
            break
    return RawMatch(similarity, agreement, weight)


def agreement_of(first: np.ndarray, second: np.ndarray, weight: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Correlation of the correlations of each pair of units, over the pairs of units that correspond.

    Parameters
    ----------
    first, second : float32, shapes (scales, n_first, n_first) and (scales, n_second, n_second)
        Correlations.
    weight : float32, shape (n_first, n_second)
        How much each pair corresponds.
    weights : float32, shape (scales,)

    Returns
    -------
    float32, shape (n_first, n_second)
    """
    rows, columns = weight.sum(axis=1), weight.sum(axis=0)
    total = max(float(rows.sum()), 1e-9)
    result = np.zeros_like(weight)
    for a, b, share in zip(first, second, weights, strict=True):
        a, b = a - (a @ rows)[:, None] / total, b - (b @ columns)[:, None] / total
        power = np.sqrt((a**2 @ rows)[:, None] * (b**2 @ columns))
        result += share * (a @ weight @ b.T) / np.maximum(power, 1e-9)
    return np.clip(result, -1, 1)


def one_to_one(odds: np.ndarray, no_partner: float) -> np.ndarray:
    """Scale odds (n_first, n_second) so that rows and columns, each with no partner as a choice, have sums of 1.

    Sinkhorn's algorithm, updated on both sides at once, so that neither order of the recordings is preferred.
    """
    row, column = np.ones(odds.shape[0], dtype=odds.dtype), np.ones(odds.shape[1], dtype=odds.dtype)
    for _ in range(_SINKHORN_STEPS):
        row, column = (
            np.sqrt(row / (odds @ column + no_partner)),
            np.sqrt(column / (odds.T @ row + no_partner)),
        )
    return odds * row[:, None] * column
