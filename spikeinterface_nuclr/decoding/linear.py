"""Linear read-outs: standardise, then logistic or ridge regression, with its strength chosen across animals."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from threadpoolctl import threadpool_limits

from ..errors import InputError
from .calibration import fit_temperatures, softmax, tempered
from .labelled import FEATURES, Labelled
from .splits import Split, folds_of

# Inverse strengths of the penalty that are tried.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
# Most weights for which Newton's method is the faster one.
_NEWTON = 200
# Units that a choice rests on: of more, the strength matters less than the time it takes to choose it.
_MOST = 20_000


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
    temperatures : float array, shape (k,)
        As of `tempered`: of the most probable class.
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

    def refitted(self, labelled: Labelled, balanced: bool) -> "Classifier":
        """A classifier of the same strengths, fitted to other labels of the same units, without temperatures."""
        classes, truth = np.unique(labelled.labels, return_inverse=True)
        readouts = {
            name: LogisticPath(labelled.tables[name], truth, len(classes), balanced).readout(readout.strength)
            for name, readout in self.readouts.items()
        }
        return Classifier(classes, readouts, np.ones(len(classes)))


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Predictions on units that the fit of the moment had not seen: what calibration learns from.

    Attributes
    ----------
    units : int array, shape (n,)
        Positions of the units in what was fitted to.
    truth : int or float array, shape (n,)
        Class numbers or values.
    predicted : float64, shape (n, k) or (n,)
        Calibrated probabilities, or values.
    clusters : int array, shape (n,)
        Which of them belong together: those of an animal; of a single animal, each stands for itself.
    folds : list of int arrays
        Which of them were left out together.
    of : str
        What was left out: "animals", or "units of one animal".
    """

    units: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    clusters: np.ndarray
    folds: list[np.ndarray] = field(repr=False)
    of: str


# Matrices here are small: more threads wait for each other longer than they compute.
@threadpool_limits.wrap(limits=1)
def fit_classifier(labelled: Labelled, *, balanced: bool = True, seed: int = 0) -> tuple[Classifier, HeldOut]:
    """Fit logistic regression to each table.

    Its strength is, of `STRENGTHS`, that with the smallest log loss on animals left out, whose predictions also choose
    the temperatures. Choices rest on at most 20,000 units, drawn at random.

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
    drawn = _drawn(truth, seed)
    some, truth_of_some = labelled.select(drawn), truth[drawn]
    folds, of = _folds(some, truth_of_some, seed)
    held, readouts = {}, {}
    for name, rows in labelled.tables.items():
        strength, held[name] = _chosen(some.tables[name], truth_of_some, folds, len(classes), balanced)
        readouts[name] = LogisticPath(rows, truth, len(classes), balanced).readout(strength)
    predicted = averaged(held)
    temperatures = fit_temperatures(predicted, truth_of_some, folds)
    one = len(some.animal_names) == 1
    clusters = np.arange(len(drawn)) if one else np.unique(some.animals, return_inverse=True)[1]
    return (
        Classifier(classes, readouts, temperatures),
        HeldOut(drawn, truth_of_some, tempered(predicted, temperatures), clusters, folds, of),
    )


@threadpool_limits.wrap(limits=1)
def refitted_labels(
    labelled: Labelled, splits: list[Split], fits: dict[str, Classifier], balanced: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, what is predicted, and animals of all test units, each shape (n,).

    By the classifier of each split's name, refitted to what the split fits to here.
    """
    truth, predicted, animals = [], [], []
    for split in splits:
        test = labelled.select(split.test)
        classifier = fits[split.name].refitted(labelled.select(split.fit), balanced)
        predicted.append(classifier.classes[classifier.raw(test.tables).argmax(axis=1)])
        truth.append(test.labels)
        animals.append(test.animals)
    return np.concatenate(truth), np.concatenate(predicted), np.concatenate(animals)


def left_out(rows: np.ndarray, truth: np.ndarray, folds: list[np.ndarray], fit: Callable) -> np.ndarray:
    """Outputs (n, outputs) for every row by a read-out, ``fit(rows, truth)``, that did not see its fold."""
    parts = []
    for fold in folds:
        others = np.delete(np.arange(len(truth)), fold)
        parts.append(fit(rows[others], truth[others])(rows[fold]))
    outputs = np.empty((len(truth), parts[0].shape[1]))
    outputs[np.concatenate(folds)] = np.concatenate(parts)
    return outputs


class LogisticPath:
    """Multinomial logistic regressions of class numbers (n,) on the same rows (n, k), one strength after another.

    The rows are standardised once, and each fit begins where the one before ended.
    """

    def __init__(self, rows: np.ndarray, truth: np.ndarray, classes: int, balanced: bool):
        from sklearn.linear_model import LogisticRegression

        self.classes, self.truth, self.seen = classes, truth, np.unique(truth)
        self.mean, self.scale = moments(rows)
        self.rows = standardised(rows, self.mean, self.scale)
        weights = rows.shape[1] * (len(self.seen) if len(self.seen) > 2 else 1)
        # Newton's steps are few, but each solves a system of all weights.
        solver = {"solver": "newton-cholesky", "tol": 1e-6} if weights <= _NEWTON else {"solver": "lbfgs"}
        self.model = LogisticRegression(
            class_weight="balanced" if balanced else None, max_iter=1000, warm_start=True, **solver
        )

    def readout(self, strength: float) -> Readout:
        """The regression of this strength."""
        weight, bias = np.zeros((self.classes, self.rows.shape[1])), np.full(self.classes, -np.inf)
        if len(self.seen) == 1:  # there is nothing to tell apart
            bias[self.seen] = 0.0
            return Readout(self.mean, self.scale, weight, bias, strength)
        self.model.set_params(C=strength).fit(self.rows, self.truth)
        if len(self.seen) == 2:  # scikit-learn keeps one row for two classes
            weight[self.seen] = np.stack([-self.model.coef_[0], self.model.coef_[0]]) / 2
            bias[self.seen] = self.model.intercept_ * [-0.5, 0.5]
        else:
            weight[self.seen], bias[self.seen] = self.model.coef_, self.model.intercept_
        return Readout(self.mean, self.scale, weight, bias, strength)


def _chosen(rows: np.ndarray, truth: np.ndarray, folds: list[np.ndarray], classes: int, balanced: bool):
    """The strength with the smallest loss on the folds, and its probabilities (n, k) of the units left out.

    Tried from the strongest penalty on: the loss falls and then rises, and the weakest penalties take longest.
    """
    others = [np.delete(np.arange(len(truth)), fold) for fold in folds]
    paths = [LogisticPath(rows[part], truth[part], classes, balanced) for part in others]
    best = best_loss = best_probability = None
    for strength in STRENGTHS:
        probability = np.empty((len(truth), classes))
        for path, fold in zip(paths, folds, strict=True):
            probability[fold] = softmax(path.readout(strength)(rows[fold]))
        loss = _loss(probability, truth, balanced)
        if best is not None and loss >= best_loss:
            break
        best, best_loss, best_probability = strength, loss, probability
    return best, best_probability


def _drawn(truth: np.ndarray, seed: int) -> np.ndarray:
    """Positions of at most `_MOST` units."""
    units = np.arange(len(truth))
    if len(units) <= _MOST:
        return units
    return np.sort(np.random.default_rng([seed, 2]).choice(units, _MOST, replace=False))


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
