"""Linear read-outs: standardise, then logistic or ridge regression, with its strength chosen across animals."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ..errors import InputError
from .calibration import fit_temperature, softmax, tempered
from .labelled import FEATURES, Labelled
from .splits import Split, folds_of

# Inverse strengths of the penalty that are tried.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
# Most weights for which Newton's method is the faster one.
_NEWTON = 1_000


@dataclass(frozen=True, eq=False)
class Readout:
    """A linear map of one table of numbers.

    Attributes
    ----------
    mean, scale : float64, shape (k,)
        Of the units that it was fitted to.
    weight : float64, shape (outputs, k)
    bias : float64, shape (outputs,)
        -inf for a class that was not seen.
    strength : float
        Inverse strength of the penalty.
    """

    mean: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    strength: float

    def standardised(self, rows: np.ndarray) -> np.ndarray:
        """Rows (n, k) in units of the fitted ones; what is not known is put at their mean."""
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
        By the table that each reads.
    temperature : float
    """

    classes: np.ndarray
    readouts: dict[str, Readout]
    temperature: float = 1.0

    def probability(self, tables: dict[str, np.ndarray]) -> np.ndarray:
        """Calibrated probabilities, shape (n, k)."""
        return tempered(self.raw(tables), self.temperature)

    def raw(self, tables: dict[str, np.ndarray]) -> np.ndarray:
        """Probabilities before calibration, shape (n, k)."""
        return averaged({name: softmax(readout(tables[name])) for name, readout in self.readouts.items()})

    def refitted(self, labelled: Labelled, balanced: bool) -> "Classifier":
        """A classifier of the same strengths, fitted to other units, without a temperature."""
        classes, truth = np.unique(labelled.labels, return_inverse=True)
        return Classifier(
            classes,
            {
                name: fit_logistic(labelled.tables[name], truth, len(classes), readout.strength, balanced)
                for name, readout in self.readouts.items()
            },
        )


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Predictions on units that the fit of the moment had not seen: what calibration learns from.

    Attributes
    ----------
    truth : int or float array, shape (n,)
        Class numbers or values.
    predicted : float64, shape (n, k) or (n,)
        Calibrated probabilities, or values.
    folds : list of int arrays
        Which units were left out together.
    of : str
        What was left out: "animals", or "units of one animal".
    """

    truth: np.ndarray
    predicted: np.ndarray
    folds: list[np.ndarray] = field(repr=False)
    of: str


def fit_classifier(labelled: Labelled, *, balanced: bool = True, seed: int = 0) -> tuple[Classifier, HeldOut]:
    """Fit logistic regression to each table.

    Its strength is, of `STRENGTHS`, that with the smallest log loss on animals left out, whose predictions also set the
    temperature.

    Parameters
    ----------
    labelled : Labelled
        With labels that name classes.
    balanced : bool, default: True
        Classes count alike, however many units they have.
    seed : int

    Raises
    ------
    InputError
        There are fewer than two classes.
    """
    classes, truth = np.unique(labelled.labels, return_inverse=True)
    if len(classes) < 2:
        raise InputError(f"a decoder needs two classes or more, the labels hold only {', '.join(classes) or 'none'}")
    folds, of = _folds(labelled, truth, seed)
    how = {"classes": len(classes), "balanced": balanced}
    held, chosen = {}, {}
    for name, rows in labelled.tables.items():
        tried = {
            strength: softmax(left_out(rows, truth, folds, partial(fit_logistic, **how, strength=strength)))
            for strength in STRENGTHS
        }
        chosen[name] = min(tried, key=lambda strength: _loss(tried[strength], truth, balanced))
        held[name] = tried[chosen[name]]
    predicted = averaged(held)
    temperature = fit_temperature(predicted, truth)
    readouts = {name: fit_logistic(rows, truth, **how, strength=chosen[name]) for name, rows in labelled.tables.items()}
    return Classifier(classes, readouts, temperature), HeldOut(truth, tempered(predicted, temperature), folds, of)


def refitted_labels(
    labelled: Labelled, splits: list[Split], fits: dict[str, Classifier], balanced: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, what is said of them, and animals of all test units, each shape (n,).

    By the classifier of each split's name, refitted to what the split fits to here.
    """
    truth, said, animals = [], [], []
    for split in splits:
        test = labelled.select(split.test)
        classifier = fits[split.name].refitted(labelled.select(split.fit), balanced)
        said.append(classifier.classes[classifier.raw(test.tables).argmax(axis=1)])
        truth.append(test.labels)
        animals.append(test.animals)
    return np.concatenate(truth), np.concatenate(said), np.concatenate(animals)


def left_out(rows: np.ndarray, truth: np.ndarray, folds: list[np.ndarray], fit: Callable) -> np.ndarray:
    """Outputs (n, outputs) for every row by a read-out, ``fit(rows, truth)``, that did not see its fold."""
    parts = []
    for fold in folds:
        others = np.delete(np.arange(len(truth)), fold)
        parts.append(fit(rows[others], truth[others])(rows[fold]))
    outputs = np.empty((len(truth), parts[0].shape[1]))
    outputs[np.concatenate(folds)] = np.concatenate(parts)
    return outputs


def fit_logistic(rows: np.ndarray, truth: np.ndarray, classes: int, strength: float, balanced: bool) -> Readout:
    """Multinomial logistic regression of class numbers (n,) on rows (n, k)."""
    from sklearn.linear_model import LogisticRegression

    mean, scale = moments(rows)
    seen = np.unique(truth)
    weight, bias = np.zeros((classes, rows.shape[1])), np.full(classes, -np.inf)
    if len(seen) == 1:  # there is nothing to tell apart
        bias[seen] = 0.0
        return Readout(mean, scale, weight, bias, strength)
    # Newton's steps are few, but each solves a system of all weights.
    few = len(seen) * rows.shape[1] <= _NEWTON
    solver = {"solver": "newton-cholesky", "tol": 1e-6} if few else {"solver": "lbfgs"}
    model = LogisticRegression(C=strength, class_weight="balanced" if balanced else None, max_iter=1000, **solver)
    model.fit(standardised(rows, mean, scale), truth)
    if len(seen) == 2:  # scikit-learn keeps one row for two classes
        weight[seen], bias[seen] = np.stack([-model.coef_[0], model.coef_[0]]) / 2, model.intercept_ * [-0.5, 0.5]
    else:
        weight[seen], bias[seen] = model.coef_, model.intercept_
    return Readout(mean, scale, weight, bias, strength)


def fit_ridge(rows: np.ndarray, values: np.ndarray, strength: float) -> Readout:
    """Ridge regression of values (n,) on rows (n, k)."""
    from sklearn.linear_model import Ridge

    mean, scale = moments(rows)
    model = Ridge(alpha=1 / strength).fit(standardised(rows, mean, scale), values)
    return Readout(mean, scale, model.coef_[None], np.array([model.intercept_]), strength)


def averaged(outputs: dict[str, np.ndarray]) -> np.ndarray:
    """Mean over checkpoints, then that of this and what other features say (late fusion)."""
    embeddings = [values for name, values in outputs.items() if name != FEATURES]
    means = [np.mean(embeddings, axis=0)] if embeddings else []
    return np.mean([*means, *(outputs[name] for name in outputs if name == FEATURES)], axis=0)


def moments(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column, of the values that are known; 0 and 1 where none is."""
    known = np.isfinite(rows)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, rows, 0).sum(axis=0) / count
    scale = np.sqrt((np.where(known, rows - mean, 0) ** 2).sum(axis=0) / count)
    return mean, np.where(scale > 1e-12, scale, 1.0)


def standardised(rows: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Rows (n, k) less the mean, over the scale; 0 where they are not known."""
    return np.nan_to_num((rows - mean) / scale, nan=0.0)


def _folds(labelled: Labelled, truth: np.ndarray, seed: int) -> tuple[list[np.ndarray], str]:
    folds, of = folds_of(labelled.animals, labelled.labels, seed)
    if any(len(np.unique(np.delete(truth, fold))) < 2 for fold in folds):
        # Where the animals that remain hold one class, leaving animals out says nothing.
        folds, of = folds_of(np.zeros(len(truth)), labelled.labels, seed)
        of = "units, since leaving out animals leaves one class"
    return folds, of


def _loss(probability: np.ndarray, truth: np.ndarray, balanced: bool) -> float:
    """-log of the true class's probability, of the units whose class the fit knew."""
    own = probability[np.arange(len(truth)), truth]
    known = own > 0
    weights = 1 / np.bincount(truth)[truth] if balanced else np.ones(len(truth))
    return float(np.average(-np.log(own[known]), weights=weights[known])) if known.any() else np.inf
