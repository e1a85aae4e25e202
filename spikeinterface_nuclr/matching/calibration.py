"""Calibration without labels: from comparisons to probabilities, learnt where the truth is known.

Halves of one recording hold the same units, so a comparison of halves shows what the same neuron looks like, and what
other neurons look like. Two sessions agree less than two halves do, and share fewer units. So the halves are made
harder: random units are removed from either, and the activity of one half is blurred, more and more. The probability
is learnt from all of these comparisons together, as a function of how well a pair matches *and* of how well the two
recordings match as a whole, so that it is low where the recordings hardly agree.
"""

from collections.abc import Iterator

import numpy as np

from .evidence import Evidence, GroupEvidence
from .relations import RawMatch, compare

# Blur, and fraction of the units of either half that are in both, of the comparisons of halves.
BLURS, OVERLAPS = (0.0, 0.2, 0.4, 0.6), (0.0, 0.33, 0.67, 1.0)
# Pairs that correspond less have no chance, and are left out, except each unit's best.
LEAST_WEIGHT = 1e-3
# Fewest units of either half.
LEAST_UNITS = 4
# Largest number of recordings whose halves are compared, evenly chosen from all.
MOST_CALIBRATED = 8
_MAX_LOGIT = 7.0

# What the probability of a pair is a function of. The recordings as a whole are described by averages over pairs,
# weighted by how much these correspond.
FEATURES = (
    "weight",  # log odds of the weight
    "agreement, standardised",  # over the other candidates of both units
    "similarity, standardised",
    "agreement",
    "mean agreement of the recordings",
    "fraction of units that correspond",
    "mean similarity, standardised, of the recordings",
    "weight × mean agreement",
    "agreement, standardised × mean agreement",
    "weight × mean similarity",
)


def features_of(match: RawMatch) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of a comparison that have a chance, or are a unit's best, and what is known about each.

    Returns
    -------
    pairs : int64, shape (m, 2)
    rows : float64, shape (m, len(FEATURES))
    """
    weight = match.weight.astype(np.float64)
    if not weight.size:
        return np.empty((0, 2), dtype=np.int64), np.empty((0, len(FEATURES)))
    best = [weight == weight.max(axis=axis, keepdims=True) for axis in (0, 1)]
    pairs = np.argwhere((weight > LEAST_WEIGHT) | best[0] | best[1])
    chosen = tuple(pairs.T)
    log_odds = np.clip(
        np.log(np.maximum(weight[chosen], 1e-30)) - np.log1p(-np.minimum(weight[chosen], 1 - 1e-6)),
        -_MAX_LOGIT,
        _MAX_LOGIT,
    )
    agreement, similarity = _standardised(match.agreement), _standardised(match.similarity)
    total = max(float(weight.sum()), 1e-9)
    of_all = [
        float((weight * match.agreement).sum()) / total,
        float(weight.sum()) / np.sqrt(max(weight.size, 1)),
        float((weight * similarity).sum()) / total,
    ]
    agreement, similarity, raw = agreement[chosen], similarity[chosen], match.agreement[chosen]
    constant = [np.full(len(pairs), value) for value in of_all]
    products = [log_odds * of_all[0], agreement * of_all[0], log_odds * of_all[2]]
    return pairs, np.stack([log_odds, agreement, similarity, raw, *constant, *products], axis=1)


def can_be_imitated(group: GroupEvidence) -> bool:
    """Whether a group has halves with enough units to be compared."""
    return group.halves is not None and len(group.halves[0]) >= LEAST_UNITS


def imitations(group: GroupEvidence, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Comparisons of the halves of a recording, made harder in several ways.

    Yields
    ------
    rows : float64, shape (m, len(FEATURES))
    same : bool, shape (m,)
        Whether each candidate pair is the same unit.
    """
    if not can_be_imitated(group):
        return
    first, second = group.halves
    for blur in BLURS:
        for overlap in OVERLAPS:
            # Of n units, n / (2 - overlap) in either half: together they are all.
            order, count = rng.permutation(len(first)), round(len(first) / (2 - overlap))
            units = np.sort(order[:count]), np.sort(order[len(order) - count :])
            if count < LEAST_UNITS:
                continue
            # Blurred before units are removed: the units that drift may resemble are not all recorded.
            sides: tuple[Evidence, Evidence] = first.select(units[0]), second.blurred(blur, rng).select(units[1])
            pairs, rows = features_of(compare(*sides, group.weights))
            yield rows, units[0][pairs[:, 0]] == units[1][pairs[:, 1]]


def logit(probability):
    """Log odds, finite also for 0 and 1."""
    probability = np.clip(probability, 1e-9, 1 - 1e-9)
    return np.log(probability) - np.log1p(-probability)


def capped(probability: np.ndarray) -> np.ndarray:
    """Probabilities (n_first, n_second) of which no row or column has a sum above 1."""
    rows, columns = probability.sum(axis=1, keepdims=True), probability.sum(axis=0, keepdims=True)
    return probability / np.maximum(np.maximum(rows, columns), 1)


def _standardised(values: np.ndarray) -> np.ndarray:
    """Values (n_first, n_second) with mean 0 and deviation 1 in each row and column, as far as both are possible."""
    values = values.astype(np.float64)
    if not values.size:
        return values
    for _ in range(3):
        means = [values.mean(axis=axis, keepdims=True) for axis in (0, 1)]
        values = values - means[0] - means[1] + values.mean()
        # Both at once, so that neither order of the recordings is preferred.
        deviations = [np.sqrt((values**2).mean(axis=axis, keepdims=True)) for axis in (0, 1)]
        scale = np.sqrt(deviations[0] * deviations[1])
        values = values / np.where(scale > 1e-9, scale, 1)
    return values
