"""What more labels, and more animals, would buy: each part of the labels makes its own choices."""

from numbers import Integral

import numpy as np
from tqdm.auto import tqdm

from ..errors import InputError
from . import scores
from .labelled import Labelled, label_units
from .linear import fit_classifier
from .parallel import check_jobs, in_parallel
from .splits import Split, check_seed, check_splits, scorable, split_units

SHARES = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
_COUNTS = 8


def label_efficiency(
    embeddings, labels, animals=None, protocol: str = "leave-one-animal-out", *, test_animals=(), shares=SHARES,
    repeats: int = 3, balanced: bool = True, seed: int = 0, n_jobs: int = -1, progress: bool = True,
):  # fmt: skip
    """Scores with a part of the labels only, by which the strength of the penalty is chosen too.

    Parameters
    ----------
    embeddings, labels, animals, protocol, test_animals, balanced, n_jobs
        As of `evaluate`.
    shares : sequence of float
        Of the units that are fitted to, drawn at random from each class, at least one of each.
    repeats : int, default: 3
        Draws of each share.
    seed : int, default: 0
    progress : bool, default: True

    Returns
    -------
    pandas DataFrame
        A row for each share, repeat and test animal: share, units, repeat, test_animal, macro_f1.
    """
    _check(repeats, n_jobs, seed)
    wrong = [share for share in shares if not 0 < share <= 1]
    if wrong:
        raise InputError(f"shares must lie in (0, 1], not {wrong[0]!r}")
    labelled = label_units(embeddings, labels, animals)
    splits = split_units(labelled.animals, labelled.labels, protocol, test_animals, seed)
    check_splits(splits, labelled.animals, protocol)
    splits, _ = scorable(splits, labelled.labels)
    draws = []
    for share in shares:
        for repeat in range(repeats if share < 1 else 1):
            rng = np.random.default_rng([seed, repeat, round(1e6 * share)])
            drawn = [
                Split(split.name, np.sort(split.fit[_drawn(labelled.labels[split.fit], share, rng)]), split.test)
                for split in splits
            ]
            units = int(np.mean([len(split.fit) for split in drawn]))
            draws.append(({"share": share, "units": units, "repeat": repeat}, drawn))
    return _scored(labelled, draws, balanced, seed, n_jobs, progress)


def animal_scaling(
    embeddings, labels, animals=None, protocol: str = "leave-one-animal-out", *, test_animals=(), repeats: int = 3,
    balanced: bool = True, seed: int = 0, n_jobs: int = -1, progress: bool = True,
):  # fmt: skip
    """Scores with some of the animals only, from one to all that a split fits to, in at most eight steps.

    Parameters and columns as of `label_efficiency`, with ``animals`` in place of ``share``.
    """
    if protocol == "within-animal":
        raise InputError("within animals there is one animal to fit to: choose another protocol")
    _check(repeats, n_jobs, seed)
    labelled = label_units(embeddings, labels, animals)
    splits, _ = scorable(split_units(labelled.animals, labelled.labels, protocol, test_animals, seed), labelled.labels)
    most = min(len(np.unique(labelled.animals[split.fit])) for split in splits)
    draws = []
    for count in np.unique(np.geomspace(1, most, _COUNTS).round().astype(int)).tolist():
        for repeat in range(repeats if count < most else 1):
            rng = np.random.default_rng([seed, repeat, count])
            drawn = []
            for split in splits:
                names = np.unique(labelled.animals[split.fit])
                of = np.isin(labelled.animals[split.fit], rng.choice(names, count, replace=False))
                drawn.append(Split(split.name, split.fit[of], split.test))
            draws.append(({"animals": count, "repeat": repeat}, drawn))
    return _scored(labelled, draws, balanced, seed, n_jobs, progress)


def _check(repeats: int, n_jobs: int, seed: int) -> None:
    """InputError where there are no draws, no processes or no seed."""
    check_jobs(n_jobs)
    check_seed(seed)
    if not isinstance(repeats, Integral) or repeats < 1:
        raise InputError(f"repeats must be a whole number from 1 on, not {repeats!r}")


def _scored(labelled: Labelled, draws: list, balanced: bool, seed: int, n_jobs: int, progress: bool):
    """macro-F1 in each test animal by each draw, as a pandas DataFrame that begins with what the draw is called."""
    import pandas as pd

    tasks = [(labelled, split, balanced, seed) for _, drawn in draws for split in drawn]
    numbers = sum(rows.size for rows in labelled.tables.values()) * len(tasks)
    with tqdm(total=len(tasks), desc="learning curves", disable=not progress) as bar:
        predicted = in_parallel(_predicted, tasks, n_jobs, numbers, bar)
        rows = []
        for named, drawn in draws:
            labels = np.concatenate([next(predicted) for _ in drawn])
            units = np.concatenate([split.test for split in drawn])
            animals = labelled.animals[units]
            found = scores.of_animals(scores.macro_f1, labelled.labels[units], labels, animals)
            rows += [
                {**named, "test_animal": animal, "macro_f1": score}
                for animal, score in zip(np.unique(animals).tolist(), found.tolist(), strict=True)
            ]
    return pd.DataFrame(rows)


def _predicted(labelled: Labelled, split: Split, balanced: bool, seed: int) -> np.ndarray:
    """Labels of the test units by a classifier of what the split fits to; of one class only, that class."""
    fit, test = labelled.select(split.fit), labelled.select(split.test)
    classes = np.unique(fit.labels)
    if len(classes) == 1:
        return np.repeat(classes, len(test))
    classifier, _ = fit_classifier(fit, balanced=balanced, seed=seed)
    return classifier.classes[classifier.raw(test.tables).argmax(axis=1)]


def _drawn(labels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Positions of a share of each class. By hand: scikit-learn's stratified splits may leave a rare class out."""
    of_classes = [np.flatnonzero(labels == name) for name in np.unique(labels)]
    return np.concatenate([rng.choice(of, max(round(share * len(of)), 1), replace=False) for of in of_classes])
