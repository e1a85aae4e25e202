"""Calibration of probabilities: temperature scaling, reliability and abstention thresholds.

All functions take predictions on animals that the decoder was not fitted to. scikit-learn's CalibratedClassifierCV,
calibration_curve and log_loss are not used, because the first fits a single temperature, the second does not return the
number of units per bin, and the third does not return losses of single units.
"""

from functools import partial

import numpy as np
from scipy import special  # not scipy.stats, which takes half a second to import

from .splits import outside_and_inside

BINS = 10
# Confidence level of the bound on the error rate, and of the test whether a temperature helps.
CONFIDENCE = 0.95
# log of the search range of temperatures.
_RANGE = (np.log(0.05), np.log(20.0))
# Lower limit of a probability in a loss: a class that a fold was not fitted to has a probability of zero.
_FLOOR = 1e-6
# A class with fewer predictions uses the common temperature.
_FEWEST = 50
# Fractions of the predictions that the tested thresholds accept.
_FRACTIONS = np.arange(1, 21) / 20

# Along the last axis.
softmax = partial(special.softmax, axis=-1)


def tempered(probability: np.ndarray, temperatures: np.ndarray) -> np.ndarray:
    """Apply temperature scaling (Guo et al. 2017) to probabilities: flatter for temperatures above 1, else sharper.

    p^(1/T), normalised, which for a softmax equals dividing its logits by T. T is the temperature of the most probable
    class, so that the order of the classes is kept.

    Parameters
    ----------
    probability : float array, shape (n, k)
    temperatures : float array, shape (k,)
        Temperature of each class.

    Returns
    -------
    float array, shape (n, k)
    """
    with np.errstate(divide="ignore"):
        return softmax(np.log(probability) / temperatures[probability.argmax(axis=1), None])


def log_losses(probability: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """-log of the probability (n, k) of each true class (n,): float array, shape (n,)."""
    return -np.log(np.maximum(probability[np.arange(len(truth)), truth], _FLOOR))


def fit_temperatures(probability: np.ndarray, truth: np.ndarray, folds: list[np.ndarray]) -> np.ndarray:
    """Fit the temperatures that calibrate probabilities in held-out animals; all 1 if none improves them.

    Candidates are no temperature, one for all classes, and one for each predicted class. They are compared by the log
    loss on each fold after fitting to the others. A more complex candidate is used only if it is better with 95 %
    confidence (t test over folds).

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
    level = special.stdtrit(len(folds) - 1, CONFIDENCE)
    best, best_losses = _no_temperature, _fold_losses(_no_temperature, probability, truth, folds)
    for candidate in (_one_temperature, _class_temperatures):
        losses = _fold_losses(candidate, probability, truth, folds)
        gain = best_losses - losses
        if gain.mean() > level * gain.std(ddof=1) / np.sqrt(len(folds)):
            best, best_losses = candidate, losses
    return best(probability, truth)


def name_of(temperatures: np.ndarray) -> str:
    """Name of the chosen calibration: "none", "one temperature", or "a temperature for each class"."""
    if (temperatures == 1).all():
        return "none"
    return "one temperature" if len(np.unique(temperatures)) == 1 else "a temperature for each class"


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> dict[str, np.ndarray]:
    """Accuracy of predictions, by bins of confidence.

    Parameters
    ----------
    confidence : float array, shape (n,)
    correct : bool array, shape (n,)
    bins : int
        Number of bins, with equally many predictions each, so that no bin has only a few.

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
    """Mean absolute difference of confidence and accuracy over the bins of `reliability` (Naeini et al. 2015)."""
    if not len(confidence):
        return float("nan")
    table = reliability(confidence, correct, bins)
    gaps = np.abs(table["confidence"] - table["accuracy"])
    return float((gaps * table["count"]).sum() / table["count"].sum())


def calibration_error_by_chance(confidence: np.ndarray, seed: int = 0, draws: int = 200) -> float:
    """Mean `expected_calibration_error` of a perfectly calibrated decoder with these confidences: its bias.

    Absolute differences are never negative, so the error is above 0 for any finite number of units.
    """
    rng = np.random.default_rng(seed)
    return float(
        np.mean(
            [expected_calibration_error(confidence, rng.random(len(confidence)) < confidence) for _ in range(draws)]
        )
    )


def squared_distances(probability: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Squared distance of each unit's probabilities (n, k) from its true class (n,), from 0 to 2: shape (n,).

    scikit-learn's brier_score_loss returns only their mean.
    """
    return ((probability - np.eye(probability.shape[1])[truth]) ** 2).sum(axis=1)


def brier_score(probability: np.ndarray, truth: np.ndarray) -> float:
    """Mean of the `squared_distances` (Brier 1950)."""
    return float(squared_distances(probability, truth).mean())


def selective_risk(confidence: np.ndarray, correct: np.ndarray) -> dict[str, np.ndarray]:
    """Error rate among predictions above each confidence.

    Returns
    -------
    dict of str to float array, shape (distinct confidences,)
        "threshold", decreasing; "coverage", the fraction of predictions with at least that confidence; "risk", the
        fraction of these that are wrong (El-Yaniv & Wiener 2010).
    """
    order = np.argsort(-confidence, kind="stable")
    ordered, wrong = confidence[order], np.cumsum(~correct[order].astype(bool))
    # Equal confidences are accepted together.
    last = np.flatnonzero(np.append(np.diff(ordered) != 0, True)) if len(ordered) else np.empty(0, dtype=int)
    return {"threshold": ordered[last], "coverage": (last + 1) / max(len(ordered), 1), "risk": wrong[last] / (last + 1)}


def abstention_threshold(
    confidence: np.ndarray, correct: np.ndarray, target_error: float, clusters: np.ndarray | None = None
) -> float:
    """The confidence above which at most a fraction `target_error` of predictions in new animals is wrong.

    The bound holds with 95 % confidence (`CONFIDENCE`) for animals that vary as those in `clusters` do. A rare kind of
    animal in which most predictions are wrong is not covered unless one of these animals is of that kind.

    Thresholds are tested from the strictest towards the laxest, and the last one before the first failure is used
    (fixed-sequence testing, as in learn then test: Angelopoulos et al. 2021). Which threshold is tested first depends
    on the number of predictions that a test needs, not on which of them are correct.

    Parameters
    ----------
    confidence : float array, shape (n,)
    correct : bool array, shape (n,)
    target_error : float
        In (0, 1].
    clusters : array, shape (n,), optional
        The animal of each prediction, because errors are correlated within an animal. Default: predictions are
        independent.

    Returns
    -------
    float
        0 if all predictions can be accepted; infinite if no threshold passes, as always with a single animal in
        `clusters`.
    """
    if target_error >= 1:
        return 0.0
    if not len(confidence):
        return float("inf")
    clusters = np.arange(len(confidence)) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    thresholds = np.unique(np.quantile(confidence, 1 - _FRACTIONS, method="higher"))[::-1]
    passed = float("inf")
    for threshold in thresholds:
        accepted = confidence >= threshold
        counts = np.bincount(clusters[accepted])
        wrong = np.bincount(clusters[accepted], ~correct[accepted].astype(bool))[counts > 0]
        counts = counts[counts > 0]
        if counts.sum() * _design_factor(counts) < _units_needed(target_error):
            continue
        if error_bound(wrong, counts) > target_error:
            break
        passed = float(threshold)
    return 0.0 if passed == confidence.min() else passed


def error_bound(wrong: np.ndarray, counts: np.ndarray) -> float:
    """Upper bound, with confidence `CONFIDENCE`, of the error rate in new animals.

    Clopper and Pearson's bound with the effective sample size of Korn & Graubard (1998, Survey Methodology 24), which
    decreases with the variance between animals and with fewer animals. scipy's binomtest is not used, because it
    requires a whole number of predictions.

    Parameters
    ----------
    wrong, counts : arrays, shape (n_animals,)
        Number of wrong predictions, and of all predictions, in each animal.
    """
    n, animals = counts.sum(), len(counts)
    if animals < 2:
        return 1.0
    rate = wrong.sum() / n
    if rate == 1:
        return 1.0
    effective = float(n)
    if rate > 0:
        variance = animals / (animals - 1) * ((wrong - rate * counts) ** 2).sum() / n**2
        effective = min(effective, rate * (1 - rate) / max(variance, 1e-30))
    effective *= _design_factor(counts)
    return float(special.betaincinv(rate * effective + 1, (1 - rate) * effective, CONFIDENCE))


def _design_factor(counts: np.ndarray) -> float:
    """Factor by which the effective sample size is reduced because the variance is estimated from few animals."""
    if len(counts) < 2:
        return 0.0
    level = (1 + CONFIDENCE) / 2
    return float((special.stdtrit(counts.sum() - 1, level) / special.stdtrit(len(counts) - 1, level)) ** 2)


def _units_needed(target_error: float) -> float:
    """Three times the number of predictions that, all correct, would give a bound of `target_error`."""
    return 3 * np.log(1 - CONFIDENCE) / np.log(1 - target_error)


def _no_temperature(probability: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.ones(probability.shape[1])


def _one_temperature(probability: np.ndarray, truth: np.ndarray) -> np.ndarray:
    from scipy.optimize import minimize_scalar

    ones = np.ones(probability.shape[1])
    minimum = minimize_scalar(
        lambda log_t: log_losses(tempered(probability, np.exp(log_t) * ones), truth).mean(),
        bounds=_RANGE,
        method="bounded",
    )
    return float(np.exp(minimum.x)) * ones


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
