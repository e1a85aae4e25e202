"""Classifier: calibrated probabilities of classes from one or several tables of features."""

from dataclasses import dataclass, field

import numpy as np

from ..errors import InputError
from .calibration import fit_temperatures, softmax, tempered
from .labelled import FEATURES, Labelled
from .readout import Basis, Readout, choose_of_classes
from .splits import ANIMALS, Split, folds_of, outside_and_inside

# Most units that are used for choices and shuffles, to limit the time.
_MAX_UNITS = 20_000


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

    def agreement(self, tables: dict[str, np.ndarray]) -> np.ndarray:
        """Fraction of the members whose most probable class is that of their mean, shape (n,)."""
        best = self.probability(tables).argmax(axis=1)
        names = [name for name in self.readouts if name != FEATURES]
        return np.mean([self.readouts[name](tables[name]).argmax(axis=1) == best for name in names], axis=0)

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


def fit_classifier(
    labelled: Labelled, *, readout: str = "linear", balanced: bool = True, seed: int = 0
) -> tuple[Classifier, HeldOut]:
    """Fit logistic regression to each table of features, and calibrate the probabilities.

    The regularisation strength, and for a kernel its width, with the smallest log loss on left-out animals are used,
    and the temperatures are fitted to the same predictions. These choices use at most 20,000 units, drawn at random.

    Parameters
    ----------
    labelled : Labelled
        Labels must be classes.
    readout : {"linear", "kernel"}
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
        strength, width, held_out[name] = choose_of_classes(
            subset.tables[name], subset_truth, folds, len(classes), balanced, readout
        )
        readouts[name] = Basis(rows, width).classes(truth, len(classes), strength, balanced)
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
    """Predictions of classifiers that are fitted to other labels of the same units, with the same choices.

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
    bases = {name: Basis(rows, classifier.readouts[name].width) for name, rows in fit.tables.items()}
    predicted = []
    for labels in relabelled:
        classes, truth = np.unique(labels[units], return_inverse=True)
        outputs = {
            name: softmax(
                basis.classes(truth, len(classes), classifier.readouts[name].strength, balanced)(test.tables[name])
            )
            for name, basis in bases.items()
        }
        predicted.append(classes[averaged(outputs).argmax(axis=1)])
    return np.stack(predicted)


def _subset(rows, seed: int) -> np.ndarray:
    """Positions of at most `_MAX_UNITS` rows, drawn at random."""
    units = np.arange(len(rows))
    if len(units) <= _MAX_UNITS:
        return units
    return np.sort(np.random.default_rng([seed, 2]).choice(units, _MAX_UNITS, replace=False))


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
