"""Learning curves: scores as a function of the number of labels and of training animals."""

from numbers import Integral

import numpy as np
from tqdm.auto import tqdm

from ..errors import InputError
from . import scores
from .classifier import fit_classifier
from .labelled import Labelled, label_units
from .parallel import check_jobs, in_parallel
from .readout import check_readout
from .splits import Split, check_seed, check_splits, scorable, split_units

SHARES = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
_MAX_STEPS = 8


def label_efficiency(
    embeddings, labels, animals=None, protocol: str = "leave-one-animal-out", *, test_animals=(), shares=SHARES,
    repeats: int = 3, readout: str = "linear", balanced: bool = True, seed: int = 0, n_jobs: int = -1,
    progress: bool = True,
):  # fmt: skip
    """Scores as a function of the number of labels.

    Every choice, such as the regularisation strength, is repeated with each subset of labels.

    Parameters
    ----------
    embeddings, labels, animals, protocol, test_animals, readout, balanced, n_jobs
        As in `evaluate`.
    shares : sequence of float
        Fractions of the training units, drawn at random from each class, at least one unit of each.
    repeats : int, default: 3
        Random draws of each fraction.
    seed : int, default: 0
    progress : bool, default: True

    Returns
    -------
    pandas DataFrame
        One row per fraction, repeat and test animal: share, units (number of training units), repeat, test_animal,
        macro_f1.

    Examples
    --------
    >>> from spikeinterface_nuclr import embed, label_efficiency, simulate_population
    >>> populations = [simulate_population(20, 30.0, seed=seed) for seed in range(3)]
    >>> embeddings = [embed(population, progress=False) for population in populations]
    >>> labels = [population.properties["cell_type"] for population in populations]
    >>> table = label_efficiency(embeddings, labels, shares=(0.2, 1.0), repeats=1, progress=False)
    >>> table.groupby("share")["units"].max().tolist()
    [8, 40]
    """
    _check(repeats, readout, n_jobs, seed)
    invalid = [share for share in shares if not 0 < share <= 1]
    if invalid:
        raise InputError(f"shares must lie in (0, 1], not {invalid[0]!r}")
    labelled = label_units(embeddings, labels, animals)
    splits = split_units(labelled.animals, labelled.labels, protocol, test_animals, seed)
    check_splits(splits, labelled.animals, protocol)
    splits, _ = scorable(splits, labelled.labels)
    draws = []
    for share in shares:
        for repeat in range(repeats if share < 1 else 1):
            rng = np.random.default_rng([seed, repeat, round(1e6 * share)])
            subsets = [
                Split(split.name, np.sort(split.fit[_draw(labelled.labels[split.fit], share, rng)]), split.test)
                for split in splits
            ]
            units = int(np.mean([len(split.fit) for split in subsets]))
            draws.append(({"share": share, "units": units, "repeat": repeat}, subsets))
    return _score(labelled, draws, readout, balanced, seed, n_jobs, progress)


def animal_scaling(
    embeddings, labels, animals=None, protocol: str = "leave-one-animal-out", *, test_animals=(), repeats: int = 3,
    readout: str = "linear", balanced: bool = True, seed: int = 0, n_jobs: int = -1, progress: bool = True,
):  # fmt: skip
    """Scores as a function of the number of training animals, from one to all, in at most eight steps.

    Parameters and columns as in `label_efficiency`, with ``animals`` in place of ``share`` and ``units``.

    Examples
    --------
    >>> from spikeinterface_nuclr import animal_scaling, embed, simulate_population
    >>> populations = [simulate_population(20, 30.0, seed=seed) for seed in range(3)]
    >>> embeddings = [embed(population, progress=False) for population in populations]
    >>> labels = [population.properties["cell_type"] for population in populations]
    >>> table = animal_scaling(embeddings, labels, repeats=1, progress=False)
    >>> sorted(set(table["animals"].tolist()))
    [1, 2]
    """
    if protocol == "within-animal":
        raise InputError("within-animal fits to a single animal: choose another protocol")
    _check(repeats, readout, n_jobs, seed)
    labelled = label_units(embeddings, labels, animals)
    splits, _ = scorable(split_units(labelled.animals, labelled.labels, protocol, test_animals, seed), labelled.labels)
    most = min(len(np.unique(labelled.animals[split.fit])) for split in splits)
    draws = []
    for count in np.unique(np.geomspace(1, most, _MAX_STEPS).round().astype(int)).tolist():
        for repeat in range(repeats if count < most else 1):
            rng = np.random.default_rng([seed, repeat, count])
            subsets = []
            for split in splits:
                names = np.unique(labelled.animals[split.fit])
                mask = np.isin(labelled.animals[split.fit], rng.choice(names, count, replace=False))
                subsets.append(Split(split.name, split.fit[mask], split.test))
            draws.append(({"animals": count, "repeat": repeat}, subsets))
    return _score(labelled, draws, readout, balanced, seed, n_jobs, progress)


def _check(repeats: int, readout: str, n_jobs: int, seed: int) -> None:
    """InputError if one of these settings is invalid."""
    check_readout(readout)
    check_jobs(n_jobs)
    check_seed(seed)
    if not isinstance(repeats, Integral) or repeats < 1:
        raise InputError(f"repeats must be a whole number from 1 on, not {repeats!r}")


def _score(labelled: Labelled, draws: list, readout: str, balanced: bool, seed: int, n_jobs: int, progress: bool):
    """macro-F1 in each test animal for each draw, as a pandas DataFrame whose first columns identify the draw."""
    import pandas as pd

    tasks = [(labelled, split, readout, balanced, seed) for _, subsets in draws for split in subsets]
    numbers = sum(rows.size for rows in labelled.tables.values()) * len(tasks)
    with tqdm(total=len(tasks), desc="learning curves", disable=not progress) as bar:
        predicted = in_parallel(_predict, tasks, n_jobs, numbers, bar)
        rows = []
        for columns, subsets in draws:
            labels = np.concatenate([next(predicted) for _ in subsets])
            units = np.concatenate([split.test for split in subsets])
            animals = labelled.animals[units]
            macro_f1 = scores.of_animals(scores.macro_f1, labelled.labels[units], labels, animals)
            rows += [
                {**columns, "test_animal": animal, "macro_f1": score}
                for animal, score in zip(np.unique(animals).tolist(), macro_f1.tolist(), strict=True)
            ]
    return pd.DataFrame(rows)


def _predict(labelled: Labelled, split: Split, readout: str, balanced: bool, seed: int) -> np.ndarray:
    """Labels of the test units, predicted from the training units; if these have a single class, that class."""
    fit, test = labelled.select(split.fit), labelled.select(split.test)
    classes = np.unique(fit.labels)
    if len(classes) == 1:
        return np.repeat(classes, len(test))
    classifier, _ = fit_classifier(fit, readout=readout, balanced=balanced, seed=seed)
    return classifier.classes[classifier.raw(test.tables).argmax(axis=1)]


def _draw(labels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Positions of a fraction of each class; scikit-learn's stratified splits may leave out a rare class."""
    classes = [np.flatnonzero(labels == name) for name in np.unique(labels)]
    return np.concatenate([rng.choice(units, max(round(share * len(units)), 1), replace=False) for units in classes])
