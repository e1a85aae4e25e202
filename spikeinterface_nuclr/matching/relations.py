"""Matching two recordings by what their units are like, and by how they relate to one another.

A unit's correlations with the other units identify it far better than its own activity does, but to compare them, one
has to know which of the others is which. So both are found together: a first guess from the embeddings says which
units may correspond; under this guess, the units' correlations are compared; this improves the guess, and so on. This
is graduated assignment (Gold & Rangarajan 1996, IEEE Trans. Pattern Anal. Mach. Intell. 18, 377-388) for a problem in
which units may have no partner.

Where recordings agree little, it may end in a wrong correspondence, another one from every start. So it is started
several times, and the results are averaged, the more weight the better the correlations agree: a pair on which the
starts disagree is uncertain.
"""

from dataclasses import dataclass

import numpy as np

from ..unit_matches import similarity_of
from .evidence import Evidence

# Log odds per unit of cosine similarity of the embeddings, and of agreement of the correlations (which lies in
# [-1, 1]). Chosen in mice and Aplysia that are not tested; calibration comes afterwards.
SIMILARITY_SLOPE, AGREEMENT_SLOPE = 8.0, 40.0
# Agreement counts fully from this step on.
WARM_UP, MAX_STEPS = 20, 60
# Steps with one scale of correlations, whose result is another start, and steps from a start.
SCALE_STEPS, REFINING_STEPS = 30, 20
# Log weight of a result per unit of its mean agreement.
SELECTIVITY = 100.0
# Odds of having no partner, against an average partner.
NO_PARTNER = 5.0
# Largest change of a unit's probabilities at which iterations end.
_TOLERANCE = 1e-3
_SINKHORN_STEPS = 15


@dataclass(frozen=True, eq=False)
class RawMatch:
    """Two groups of units compared, before calibration. All arrays have the shape (n_first, n_second).

    Attributes
    ----------
    similarity : float32
        Of embeddings, in [-1, 1].
    agreement : float32
        Correlation, in [-1, 1], of a unit's correlations with those of another, over units that correspond.
    weight : float32
        How much each pair corresponds; rows and columns have sums of at most 1. Not yet a probability.
    log_total : float
        Logarithm of the summed weights of the results that were averaged.
    """

    similarity: np.ndarray
    agreement: np.ndarray
    weight: np.ndarray
    log_total: float


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
    logits = _logits(similarity)
    if not related(first, second):
        odds = one_to_one(np.exp(logits), NO_PARTNER) if similarity.size else similarity
        return RawMatch(similarity, np.zeros_like(similarity), odds, 0.0)
    sides = first.correlations, second.correlations
    weights = (weights / weights.sum()).astype(np.float32)
    results = [_matched(logits, *sides, weights)]
    for scale in range(len(weights)):
        alone = (side[scale : scale + 1] for side in sides)
        start, _ = _matched(logits, *alone, np.ones(1, dtype=np.float32), steps=SCALE_STEPS)
        results.append(_matched(logits, *sides, weights, start))
    shares = SELECTIVITY * np.array([_mean_agreement(*result) for result in results])
    log_total = float(np.logaddexp.reduce(shares))
    weight = sum(
        np.float32(np.exp(share - log_total)) * weight for share, (weight, _) in zip(shares, results, strict=True)
    )
    return RawMatch(similarity, agreement_of(*sides, weight, weights), weight, log_total)


def compare_from(
    first: Evidence, second: Evidence, weights: np.ndarray, known: RawMatch, start: np.ndarray
) -> RawMatch:
    """What is known of two recordings, averaged with the result from one more start, of the shape (n_first, n_second).

    The agreement in `known` is not used. There must be correlations to compare (`related`).
    """
    sides = first.correlations, second.correlations
    weights = (weights / weights.sum()).astype(np.float32)
    found, agreement = _matched(_logits(known.similarity), *sides, weights, one_to_one(start, NO_PARTNER))
    log_share = SELECTIVITY * _mean_agreement(found, agreement)
    log_total = float(np.logaddexp(known.log_total, log_share))
    shares = (np.float32(np.exp(log - log_total)) for log in (known.log_total, log_share))
    weight = sum(share * weight for share, weight in zip(shares, (known.weight, found), strict=True))
    return RawMatch(known.similarity, agreement_of(*sides, weight, weights), weight, log_total)


def related(first: Evidence, second: Evidence) -> bool:
    """Whether there are correlations to compare."""
    return bool(len(first.correlations) and len(second.correlations)) and min(len(first), len(second)) > 2


def _logits(similarity: np.ndarray) -> np.ndarray:
    """Log odds of each pair by the embeddings alone."""
    if not similarity.size:
        return similarity
    return SIMILARITY_SLOPE * (similarity - similarity.mean()) - np.float32(0.5 * np.log(similarity.size))


def _matched(
    logits: np.ndarray, first: np.ndarray, second: np.ndarray, weights: np.ndarray, start: np.ndarray | None = None,
    steps: int = MAX_STEPS,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Weight and agreement of each pair after graduated assignment from a start, or from the embeddings."""
    weight, agreement = start, np.zeros_like(logits)
    if start is not None:
        agreement, steps = agreement_of(first, second, start, weights), REFINING_STEPS
    for step in range(steps):
        slope = AGREEMENT_SLOPE * (1 if start is not None else min(step / WARM_UP, 1))
        new = one_to_one(np.exp(logits + slope * agreement), NO_PARTNER)
        change = np.inf if weight is None else float(np.abs(new - weight).max())
        weight = new if weight is None else (weight + new) / 2
        agreement = agreement_of(first, second, weight, weights)
        if change < _TOLERANCE and (start is not None or step > WARM_UP):
            break
    return weight, agreement


def _mean_agreement(weight: np.ndarray, agreement: np.ndarray) -> float:
    """Mean agreement of the pairs that correspond."""
    return float((weight * agreement).sum() / max(float(weight.sum()), 1e-9))


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
