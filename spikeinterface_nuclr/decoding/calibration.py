"""Whether probabilities mean what they say: temperatures, reliability, and when to abstain.

Everything here takes predictions on animals that the decoder was not fitted to. By hand, although scikit-learn has
CalibratedClassifierCV, calibration_curve and log_loss: the first fits one temperature only, the second does not say how
many units its bins hold, and the third gives no losses of single units.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import special

from .splits import outside_and_inside

BINS = 10
# That a threshold keeps its word, and that a temperature helps.
CONFIDENCE = 0.95
# log of the range in which a temperature is looked for.
_RANGE = (np.log(0.05), np.log(20.0))
# What a probability of zero counts as, in a loss: a class that a fold has not seen.
_FLOOR = 1e-6
# Predictions of a class below which it has no temperature of its own.
_FEWEST = 50
# Shares of the predictions that are tried as accepted.
_SHARES = np.arange(1, 21) / 20

# Along the last axis.
softmax = partial(special.softmax, axis=-1)


def tempered(probability: np.ndarray, temperatures: np.ndarray) -> np.ndarray:
    """Probabilities made flatter (temperature above 1) or sharper (below).

    p^(1/T), normalised: of a softmax, the softmax of its logits divided by T (Guo et al. 2017). T is that of the most
    probable class, so that the order of the classes stays.

    Parameters
    ----------
    probability : float array, shape (n, k)
    temperatures : float array, shape (k,)
        Of each class.
    """
    with np.errstate(divide="ignore"):
        return softmax(np.log(probability) / temperatures[probability.argmax(axis=1), None])


def log_losses(probability: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """-log of the probability (n, k) of each true class (n,): float array, shape (n,)."""
    return -np.log(np.maximum(probability[np.arange(len(truth)), truth], _FLOOR))


def fit_temperatures(probability: np.ndarray, truth: np.ndarray, folds: list[np.ndarray]) -> np.ndarray:
    """Temperatures that make the probabilities of new animals more honest; ones where none do.

    None, one for all classes, and one for each predicted class are compared by log loss on each fold, fitted to the
    others. The next in this order is taken where it gains, with a confidence of 95 % (t test over the folds).

    Parameters
    ----------
    probability : float array, shape (n, k)
    truth : int array, shape (n,)
    folds : list of int arrays
        Positions of whole animals (or units of one animal).

    Returns
    -------
    float array, shape (k,)
    """
    from scipy.stats import t

    level = t.ppf(CONFIDENCE, len(folds) - 1)
    best, taken = _no_temperature, _fold_losses(_no_temperature, probability, truth, folds)
    for candidate in (_one_temperature, _class_temperatures):
        losses = _fold_losses(candidate, probability, truth, folds)
        gain = taken - losses
        if gain.mean() > level * gain.std(ddof=1) / np.sqrt(len(folds)):
            best, taken = candidate, losses
    return best(probability, truth)


def name_of(temperatures: np.ndarray) -> str:
    """What was chosen: "none", "one temperature", or "a temperature for each class"."""
    if (temperatures == 1).all():
        return "none"
    return "one temperature" if len(np.unique(temperatures)) == 1 else "a temperature for each class"


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> dict[str, np.ndarray]:
    """How often predictions of a confidence are right.

    Parameters
    ----------
    confidence : float array, shape (n,)
    correct : bool array, shape (n,)
    bins : int
        Of equally many predictions each, so that none stands on a handful.

    Returns
    -------
    dict of str to array, shape (bins,)
        "confidence" and "accuracy" (means), and "count".
    """
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return {
        "confidence": np.array([confidence[part].mean() for part in parts]),
        "accuracy": np.array([correct[part].mean() for part in parts]),
        "count": np.array([len(part) for part in parts]),
    }


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> float:
    """Mean distance between confidence and accuracy over the bins of `reliability` (Naeini et al. 2015)."""
    if not len(confidence):
        return float("nan")
    table = reliability(confidence, correct, bins)
    gaps = np.abs(table["confidence"] - table["accuracy"])
    return float((gaps * table["count"]).sum() / table["count"].sum())


def calibration_error_by_chance(confidence: np.ndarray, seed: int = 0, draws: int = 200) -> float:
    """Mean `expected_calibration_error` of a perfectly calibrated decoder with these confidences: its bias.

    Distances from a diagonal are never negative, so that few units alone give an error.
    """
    rng = np.random.default_rng(seed)
    return float(
        np.mean(
            [expected_calibration_error(confidence, rng.random(len(confidence)) < confidence) for _ in range(draws)]
        )
    )


def squared_distances(probability: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Squared distance of the probabilities (n, k) of each unit from its true class (n,), from 0 to 2: shape (n,).

    By hand: scikit-learn's brier_score_loss gives their mean only.
    """
    return ((probability - np.eye(probability.shape[1])[truth]) ** 2).sum(axis=1)


def brier_score(probability: np.ndarray, truth: np.ndarray) -> float:
    """Mean of the `squared_distances` (Brier 1950)."""
    return float(squared_distances(probability, truth).mean())


def selective_risk(confidence: np.ndarray, correct: np.ndarray) -> dict[str, np.ndarray]:
    """Error among the most confident predictions.

    Returns
    -------
    dict of str to float array, shape (distinct confidences,)
        "threshold", falling; "coverage", the share of predictions at least so confident; "risk", the share of these
        that are wrong (El-Yaniv & Wiener 2010).
    """
    order = np.argsort(-confidence, kind="stable")
    ordered, wrong = confidence[order], np.cumsum(~correct[order].astype(bool))
    # Equal confidences are accepted together.
    last = np.flatnonzero(np.append(np.diff(ordered) != 0, True)) if len(ordered) else np.empty(0, dtype=int)
    return {"threshold": ordered[last], "coverage": (last + 1) / max(len(ordered), 1), "risk": wrong[last] / (last + 1)}


def abstention_threshold(
    confidence: np.ndarray, correct: np.ndarray, target_error: float, clusters: np.ndarray | None = None
) -> float:
    """The confidence from which on predictions for new animals are wrong in at most a share `target_error`.

    That holds with a confidence of 95 % (`CONFIDENCE`) over the animals that happened to be at hand, as far as they
    differ as new animals do: a rare kind of animal in which most is wrong, and that is not among them, is not covered.
    Thresholds are tested from a strict one towards laxer ones, each against "more are wrong than that", and the last
    before the first that fails is taken (fixed-sequence testing, as in learn then test: Angelopoulos et al. 2021). How
    strict the first is depends on how many predictions a test needs, and not on which of them are right.

    Parameters
    ----------
    confidence : float array, shape (n,)
    correct : bool array, shape (n,)
    target_error : float
        In (0, 1].
    clusters : array, shape (n,), optional
        The animal of each prediction, since neurons of one animal are right and wrong together. Default: predictions
        are independent.

    Returns
    -------
    float
        0 where all may be accepted, infinite where no threshold passes: always so with predictions of a single animal
        among `clusters`.
    """
    if target_error >= 1:
        return 0.0
    if not len(confidence):
        return float("inf")
    clusters = np.arange(len(confidence)) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    thresholds = np.unique(np.quantile(confidence, 1 - _SHARES, method="higher"))[::-1]
    found = float("inf")
    for threshold in thresholds:
        accepted = confidence >= threshold
        kept = np.bincount(clusters[accepted])
        wrong = np.bincount(clusters[accepted], ~correct[accepted].astype(bool))[kept > 0]
        kept = kept[kept > 0]
        if kept.sum() * _share_of_units(kept) < _units_needed(target_error):
            continue
        if error_bound(wrong, kept) > target_error:
            break
        found = float(threshold)
    return 0.0 if found == confidence.min() else found


def error_bound(wrong: np.ndarray, kept: np.ndarray) -> float:
    """Upper bound, of confidence `CONFIDENCE`, of the share of predictions that are wrong in new animals.

    Clopper–Pearson's, with as many predictions as would be as informative if they were independent (Korn & Graubard
    1998, Survey Methodology 24): fewer, the more the share differs between animals and the fewer animals there are.
    By hand: that number is no whole one, which scipy's binomtest asks for.

    Parameters
    ----------
    wrong, kept : arrays, shape (n_animals,)
        Predictions of each animal that are wrong, and all of them.
    """
    from scipy.stats import beta

    n, animals = kept.sum(), len(kept)
    if animals < 2:
        return 1.0
    share = wrong.sum() / n
    if share == 1:
        return 1.0
    effective = float(n)
    if share > 0:
        variance = animals / (animals - 1) * ((wrong - share * kept) ** 2).sum() / n**2
        effective = min(effective, share * (1 - share) / max(variance, 1e-30))
    effective *= _share_of_units(kept)
    return float(beta.ppf(CONFIDENCE, share * effective + 1, (1 - share) * effective))


def _share_of_units(kept: np.ndarray) -> float:
    """How much less than its units a sample is worth because its variance is known from few animals only."""
    from scipy.stats import t

    if len(kept) < 2:
        return 0.0
    level = (1 + CONFIDENCE) / 2
    return float((t.ppf(level, kept.sum() - 1) / t.ppf(level, len(kept) - 1)) ** 2)


def _units_needed(target_error: float) -> float:
    """Three times the predictions of which none must be wrong for the bound to be as low."""
    return 3 * np.log(1 - CONFIDENCE) / np.log(1 - target_error)


def _no_temperature(probability: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.ones(probability.shape[1])


def _one_temperature(probability: np.ndarray, truth: np.ndarray) -> np.ndarray:
    from scipy.optimize import minimize_scalar

    ones = np.ones(probability.shape[1])
    found = minimize_scalar(
        lambda log_t: log_losses(tempered(probability, np.exp(log_t) * ones), truth).mean(),
        bounds=_RANGE,
        method="bounded",
    )
    return float(np.exp(found.x)) * ones


def _class_temperatures(probability: np.ndarray, truth: np.ndarray) -> np.ndarray:
    temperatures = _one_temperature(probability, truth)
    predicted = probability.argmax(axis=1)
    for number in range(len(temperatures)):
        rows = predicted == number
        if rows.sum() >= _FEWEST:
            temperatures[number] = _one_temperature(probability[rows], truth[rows])[0]
    return temperatures


def _fold_losses(fit, probability: np.ndarray, truth: np.ndarray, folds: list[np.ndarray]) -> np.ndarray:
    """Mean log loss on each fold, with temperatures fitted to the others: shape (folds,)."""
    losses = []
    for others, fold in outside_and_inside(folds, len(truth)):
        temperatures = fit(probability[others], truth[others])
        losses.append(log_losses(tempered(probability[fold], temperatures), truth[fold]).mean())
    return np.array(losses)


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
