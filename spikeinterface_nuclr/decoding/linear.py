"""Linear read-outs: standardise, then logistic or ridge regression, with its strength chosen across animals."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..errors import InputError
from .calibration import fit_temperatures, softmax, tempered
from .labelled import FEATURES, Labelled
from .logistic import LogisticRows, moments, standardised
from .splits import ANIMALS, Split, folds_of, outside_and_inside

# Inverse strengths of the penalty that are tried.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
# Units that a choice or a shuffle rests on: more would change it less than they would take time.
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
        Which of them belong together: those of an animal; all of them, where no animal was left out, since units of
        animals that were fitted to say nothing of others, however many they are.
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
        readouts[name] = _readout(LogisticRows(rows), truth, len(classes), strength, balanced)
    predicted = averaged(held)
    temperatures = fit_temperatures(predicted, truth_of_some, folds)
    numbers = np.unique(some.animals, return_inverse=True)[1]
    clusters = numbers if of == ANIMALS else np.zeros_like(numbers)
    return (
        Classifier(classes, readouts, temperatures),
        HeldOut(drawn, truth_of_some, tempered(predicted, temperatures), clusters, folds, of),
    )


def refitted_labels(
    classifier: Classifier, labelled: Labelled, split: Split, relabelled: list[np.ndarray], balanced: bool
) -> np.ndarray:
    """What classifiers of the same strengths predict when they are fitted to other labels of the same units.

    Of more than 20,000 units, as many are drawn at random to fit to.

    Parameters
    ----------
    relabelled : list of str array, shape (n,)
        Labels of all of the labelled units.

    Returns
    -------
    str array, shape (len(relabelled), test units)
    """
    units = split.fit[_drawn(split.fit, seed=0)]
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
    """Outputs (n, outputs) for every row by a read-out, ``fit(rows, truth)``, that did not see its fold."""
    pairs = outside_and_inside(folds, len(truth))
    parts = [fit(rows[others], truth[others])(rows[fold]) for others, fold in pairs]
    outputs = np.empty((len(truth), parts[0].shape[1]))
    outputs[np.concatenate(folds)] = np.concatenate(parts)
    return outputs


def _readout(rows: LogisticRows, truth: np.ndarray, classes: int, strength: float, balanced: bool) -> Readout:
    """Logistic regression of class numbers (n,), of which some may not occur."""
    if len(np.unique(truth)) > 1:
        weight, bias = rows.fit(truth, classes, strength, balanced)
    else:  # there is nothing to tell apart
        weight, bias = np.zeros((classes, len(rows.mean))), np.full(classes, -np.inf)
        bias[truth[0]] = 0.0
    return Readout(rows.mean, rows.scale, weight, bias, strength)


def _chosen(rows: np.ndarray, truth: np.ndarray, folds: list[np.ndarray], classes: int, balanced: bool):
    """The strength with the smallest loss on the folds, and its probabilities (n, k) of the units left out.

    Tried from the strongest penalty on: the loss falls and then rises, and the weakest penalties take longest.
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


def _drawn(labelled, seed: int) -> np.ndarray:
    """Positions of at most `_MOST` of the units."""
    units = np.arange(len(labelled))
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


def _folds(labelled: Labelled, truth: np.ndarray, seed: int) -> tuple[list[np.ndarray], str]:
    folds, of = folds_of(labelled.animals, labelled.labels, seed)
    if of == ANIMALS and any(len(np.unique(truth[others])) < 2 for others, _ in outside_and_inside(folds, len(truth))):
        # Where the animals that remain hold one class, leaving animals out says nothing.
        folds, of = folds_of(np.zeros(len(truth)), labelled.labels, seed)
        of = "units, since leaving out animals leaves one class"
    return folds, of


def _loss(probability: np.ndarray, truth: np.ndarray, balanced: bool) -> float:
    """-log of the true class's probability, of the units whose class the fit knew.

    By hand: scikit-learn's log_loss counts the others too, whose probability is 0.
    """
    own = probability[np.arange(len(truth)), truth]
    known = own > 0
    weights = 1 / np.bincount(truth)[truth] if balanced else np.ones(len(truth))
    return float(np.average(-np.log(own[known]), weights=weights[known])) if known.any() else np.inf
