"""What more labels, and more animals, would buy.

Decoders of a part have the strengths that all units of the split would choose, so that curves differ by what is fitted
to and by nothing else.
"""

import numpy as np
from tqdm.auto import tqdm

from ..errors import InputError
from . import scores
from .labelled import Labelled, label_units
from .linear import Classifier, fit_classifier, refitted_labels
from .splits import Split, check_splits, split_units

SHARES = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)


def label_efficiency(
    embeddings, labels, animals=None, protocol: str = "leave-one-animal-out", *, test_animals=(), shares=SHARES,
    repeats: int = 3, balanced: bool = True, seed: int = 0, progress: bool = True,
):  # fmt: skip
    """Scores with a part of the labels only.

    Parameters
    ----------
    embeddings, labels, animals, protocol, test_animals, balanced
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
        A row for each share, repeat and test animal: share, units, repeat, animal_tested, macro_f1.
    """
    labelled = label_units(embeddings, labels, animals)
    splits = split_units(labelled.animals, labelled.labels, protocol, test_animals, seed)
    check_splits(splits, labelled.animals, protocol)
    whole = _fits(labelled, splits, balanced, seed)
    rows = []
    for share in tqdm(shares, desc="labels", disable=not progress):
        for repeat in range(repeats if share < 1 else 1):
            rng = np.random.default_rng([seed, repeat, round(1e6 * share)])
            drawn = [
                Split(split.name, np.sort(split.fit[_drawn(labelled.labels[split.fit], share, rng)]), split.test)
                for split in splits
            ]
            units = int(np.mean([len(split.fit) for split in drawn]))
            for animal, score in _animal_scores(labelled, drawn, whole, balanced).items():
                rows.append(
                    {"share": share, "units": units, "repeat": repeat, "animal_tested": animal, "macro_f1": score}
                )
    return _frame(rows)


def animal_scaling(
    embeddings, labels, animals=None, protocol: str = "leave-one-animal-out", *, test_animals=(), repeats: int = 3,
    balanced: bool = True, seed: int = 0, progress: bool = True,
):  # fmt: skip
    """Scores with some of the animals only, from one to all that a split fits to.

    Parameters and columns as of `label_efficiency`, with ``animals`` in place of ``share``.
    """
    if protocol == "within-animal":
        raise InputError("within animals there is one animal to fit to: choose another protocol")
    labelled = label_units(embeddings, labels, animals)
    splits = split_units(labelled.animals, labelled.labels, protocol, test_animals, seed)
    whole = _fits(labelled, splits, balanced, seed)
    most = min(len(np.unique(labelled.animals[split.fit])) for split in splits)
    rows = []
    for count in tqdm(range(1, most + 1), desc="animals", disable=not progress):
        for repeat in range(repeats):
            rng = np.random.default_rng([seed, repeat, count])
            drawn = []
            for split in splits:
                names = np.unique(labelled.animals[split.fit])
                of = np.isin(labelled.animals[split.fit], rng.choice(names, count, replace=False))
                drawn.append(Split(split.name, split.fit[of], split.test))
            for animal, score in _animal_scores(labelled, drawn, whole, balanced).items():
                rows.append({"animals": count, "repeat": repeat, "animal_tested": animal, "macro_f1": score})
    return _frame(rows)


def _fits(labelled: Labelled, splits: list[Split], balanced: bool, seed: int) -> dict[str, Classifier]:
    """A classifier of all that each split fits to."""
    return {split.name: fit_classifier(labelled.select(split.fit), balanced=balanced, seed=seed)[0] for split in splits}


def _animal_scores(labelled: Labelled, splits: list[Split], whole: dict, balanced: bool) -> dict[str, float]:
    """macro-F1 in each test animal."""
    truth, said, animals = refitted_labels(labelled, splits, whole, balanced)
    found = scores.of_animals(scores.macro_f1, truth, said, animals)
    return dict(zip(np.unique(animals).tolist(), found.tolist(), strict=True))


def _drawn(labels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Positions of a share of each class."""
    of_classes = [np.flatnonzero(labels == name) for name in np.unique(labels)]
    return np.concatenate([rng.choice(of, max(round(share * len(of)), 1), replace=False) for of in of_classes])


def _frame(rows: list[dict]):
    import pandas as pd

    return pd.DataFrame(rows)
