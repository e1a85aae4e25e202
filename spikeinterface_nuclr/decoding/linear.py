"""Linear read-outs: logistic or ridge regression of standardised features, regularised by cross-validation."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..errors import InputError
from .calibration import fit_temperatures, softmax, tempered
from .labelled import FEATURES, Labelled
from .logistic import LogisticRows, moments, standardised
from .splits import ANIMALS, Split, folds_of, outside_and_inside

# Inverse regularisation strengths that are tried.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
# Most units that are used for choices and shuffles, to limit the time.
_MAX_UNITS = 20_000


@dataclass(frozen=True, eq=False)
class Readout:
    """A linear map of one table of features.

    Attributes
    ----------
    mean, scale : float64, shape (k,)
        Mean and standard deviation of the training units.
    weight : float64, shape (outputs, k)
    bias : float64, shape (outputs,)
        -inf for a class without training units.
    strength : float
        Inverse regularisation strength.
    """

    mean: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    strength: float

    def standardised(self, rows: np.ndarray) -> np.ndarray:
        """Rows (n, k), standardised like the training units; NaN is replaced by the mean."""
        return standardised(rows, self.mean, self.scale)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Outputs (n, outputs)."""
        return self.standardised(rows) @ self.weight.T + self.bias


@dataclass(frozen=True, eq=False)
class Classifier:
    """Probabilities of classes from one or several tables.

    Attributes
    ----------
    classes : str array, shape (k,)
    readouts : dict of str to Readout
        One for each table of features, by its name.
    temperatures : float array, shape (k,)
        Temperature of each class, as in `tempered`.
    """

    classes: np.ndarray
    readouts: dict[str, Readout]
    temperatures: np.ndarray

    def probability(self, tables: dict[str, np.ndarray]) -> np.ndarray:
        """Calibrated probabilities, shape (n, k)."""
        return tempered(self.raw(tables), self.temperatures)

    def raw(self, tables: dict[str, np.ndarray]) -> np.ndarray:
        """Probabilities before calibration, shape (n, k)."""
        return averaged({name: softmax(readout(tables[name])) for name, readout in self.readouts.items()})


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Cross-validated predictions on training units, for calibration.

    Attributes
    ----------
    units : int array, shape (n,)
        Positions of the units among the training units.
    truth : int array, shape (n,)
        Class numbers.
    predicted : float64, shape (n, k)
        Calibrated probabilities.
    clusters : int array, shape (n,)
        Number of each unit's animal; 0 for all units if no animal was left out, because units of training animals are
        not evidence about new animals, however many they are.
    folds : list of int arrays
        Positions of the units of each fold.
    left_out : str
        Kind of the folds, such as "animals" or "units of one animal".
    """

    units: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    clusters: np.ndarray
    folds: list[np.ndarray] = field(repr=False)
    left_out: str


def fit_classifier(labelled: Labelled, *, balanced: bool = True, seed: int = 0) -> tuple[Classifier, HeldOut]:
    """Fit logistic regression to each table of features, and calibrate the probabilities.

    The regularisation strength (`STRENGTHS`) with the smallest log loss on left-out animals is used, and the
    temperatures are fitted to the same predictions. These choices use at most 20,000 units, drawn at random.

    Parameters
    ----------
    labelled : Labelled
        Labels must be classes.
    balanced : bool, default: True
        Weight classes equally, however many units they have.
    seed : int

    Raises
    ------
    InputError
        There are fewer than two classes.
    """
    classes, truth = np.unique(labelled.labels, return_inverse=True)
    if len(classes) < 2:
        raise InputError(f"a decoder needs two classes or more, the labels hold only {', '.join(classes) or 'none'}")
    units = _subset(truth, seed)
    subset, subset_truth = labelled.select(units), truth[units]
    folds, left_out_kind = _folds(subset, subset_truth, seed)
    held_out, readouts = {}, {}
    for name, rows in labelled.tables.items():
        strength, held_out[name] = _choose_strength(subset.tables[name], subset_truth, folds, len(classes), balanced)
        readouts[name] = _readout(LogisticRows(rows), truth, len(classes), strength, balanced)
    predicted = averaged(held_out)
    temperatures = fit_temperatures(predicted, subset_truth, folds)
    numbers = np.unique(subset.animals, return_inverse=True)[1]
    clusters = numbers if left_out_kind == ANIMALS else np.zeros_like(numbers)
    return (
        Classifier(classes, readouts, temperatures),
        HeldOut(units, subset_truth, tempered(predicted, temperatures), clusters, folds, left_out_kind),
    )


def refitted_labels(
    classifier: Classifier, labelled: Labelled, split: Split, relabelled: list[np.ndarray], balanced: bool
) -> np.ndarray:
    """Predictions of classifiers that are fitted to other labels of the same units, with the same regularisation.

    At most 20,000 training units, drawn at random, are used.

    Parameters
    ----------
    relabelled : list of str array, shape (n,)
        Each a set of labels of all labelled units.

    Returns
    -------
    str array, shape (len(relabelled), test units)
    """
    units = split.fit[_subset(split.fit, seed=0)]
    fit, test = labelled.select(units), labelled.select(split.test)
    parts = {name: LogisticRows(rows) for name, rows in fit.tables.items()}
    predicted = []
    for labels in relabelled:
        classes, truth = np.unique(labels[units], return_inverse=True)
        outputs = {
            name: softmax(_readout(rows, truth, len(classes), classifier.readouts[name].strength, balanced)(values))
            for (name, rows), values in zip(parts.items(), test.tables.values(), strict=True)
        }
        predicted.append(classes[averaged(outputs).argmax(axis=1)])
    return np.stack(predicted)


def left_out(rows: np.ndarray, truth: np.ndarray, folds: list[np.ndarray], fit: Callable) -> np.ndarray:
    """Cross-validated outputs (n, outputs): each fold by a read-out ``fit(rows, truth)`` of the other folds."""
    pairs = outside_and_inside(folds, len(truth))
    parts = [fit(rows[others], truth[others])(rows[fold]) for others, fold in pairs]
    outputs = np.empty((len(truth), parts[0].shape[1]))
    outputs[np.concatenate(folds)] = np.concatenate(parts)
    return outputs


def _readout(rows: LogisticRows, truth: np.ndarray, classes: int, strength: float, balanced: bool) -> Readout:
    """Logistic regression of class numbers (n,); classes may be missing."""
    if len(np.unique(truth)) > 1:
        weight, bias = rows.fit(truth, classes, strength, balanced)
    else:  # a single class
        weight, bias = np.zeros((classes, len(rows.mean))), np.full(classes, -np.inf)
        bias[truth[0]] = 0.0
    return Readout(rows.mean, rows.scale, weight, bias, strength)


def _choose_strength(rows: np.ndarray, truth: np.ndarray, folds: list[np.ndarray], classes: int, balanced: bool):
    """The strength with the smallest cross-validated loss, and its left-out probabilities (n, k).

    Starts from the strongest regularisation and stops when the loss rises, because the weakest takes longest to fit.
    """
    parts = [(LogisticRows(rows[others]), others, fold) for others, fold in outside_and_inside(folds, len(truth))]
    best = best_loss = best_probability = None
    for strength in STRENGTHS:
        probability = np.empty((len(truth), classes))
        for part, others, fold in parts:
            probability[fold] = softmax(_readout(part, truth[others], classes, strength, balanced)(rows[fold]))
        loss = _loss(probability, truth, balanced)
        if best is not None and loss >= best_loss:
            break
        best, best_loss, best_probability = strength, loss, probability
    return best, best_probability


def _subset(rows, seed: int) -> np.ndarray:
    """Positions of at most `_MAX_UNITS` rows, drawn at random."""
    units = np.arange(len(rows))
    if len(units) <= _MAX_UNITS:
        return units
    return np.sort(np.random.default_rng([seed, 2]).choice(units, _MAX_UNITS, replace=False))


def fit_ridge(rows: np.ndarray, values: np.ndarray, strength: float) -> Readout:
    """Ridge regression of values (n,) on rows (n, k)."""
    from sklearn.linear_model import Ridge

    mean, scale = moments(rows)
    model = Ridge(alpha=1 / strength).fit(standardised(rows, mean, scale), values)
    return Readout(mean, scale, model.coef_[None], np.array([model.intercept_]), strength)


def averaged(outputs: dict[str, np.ndarray]) -> np.ndarray:
    """Mean over checkpoints, then the mean of that and the output of other features (late fusion)."""
    embeddings = [values for name, values in outputs.items() if name != FEATURES]
    means = [np.mean(embeddings, axis=0)] if embeddings else []
    return np.mean([*means, *(outputs[name] for name in outputs if name == FEATURES)], axis=0)


def _folds(labelled: Labelled, truth: np.ndarray, seed: int) -> tuple[list[np.ndarray], str]:
    """Folds of animals; of units, if the other animals of a fold have a single class. And the kind of the folds."""
    folds, kind = folds_of(labelled.animals, labelled.labels, seed)
    rest = [others for others, _ in outside_and_inside(folds, len(truth))]
    if kind == ANIMALS and any(len(np.unique(truth[others])) < 2 for others in rest):
        folds, _ = folds_of(np.zeros(len(truth)), labelled.labels, seed)
        kind = "units, since leaving out animals leaves one class"
    return folds, kind


def _loss(probability: np.ndarray, truth: np.ndarray, balanced: bool) -> float:
    """Mean log loss of the units whose class was in the training folds.

    scikit-learn's log_loss would include the others, whose true class has a probability of 0.
    """
    true_class = probability[np.arange(len(truth)), truth]
    scored = true_class > 0
    weights = 1 / np.bincount(truth)[truth] if balanced else np.ones(len(truth))
    return float(np.average(-np.log(true_class[scored]), weights=weights[scored])) if scored.any() else np.inf
