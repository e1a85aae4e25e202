"""Scores of predicted classes, by animal: an animal is what a result should hold for, not a neuron."""

import numpy as np


def macro_f1(truth: np.ndarray, said: np.ndarray) -> float:
    """Mean over the classes that occur in `truth` of the harmonic mean of precision and recall."""
    return float(np.mean([row["f1"] for row in per_class(truth, said).values()]))


def balanced_accuracy(truth: np.ndarray, said: np.ndarray) -> float:
    """Mean over the classes that occur in `truth` of the share of their units that are recognised."""
    return float(np.mean([row["recall"] for row in per_class(truth, said).values()]))


def per_class(truth: np.ndarray, said: np.ndarray, classes=None) -> dict[str, dict[str, float]]:
    """Precision, recall, f1 and support of each class (default: of those that occur in `truth`); 0 for 0/0."""
    table = {}
    for name in np.unique(truth) if classes is None else classes:
        own, called = truth == name, said == name
        hits, support = int((own & called).sum()), int(own.sum())
        precision, recall = hits / max(int(called.sum()), 1), hits / max(support, 1)
        f1 = 2 * hits / max(int(called.sum()) + support, 1)
        table[str(name)] = {"precision": precision, "recall": recall, "f1": f1, "support": support}
    return table


def confusion(truth: np.ndarray, said: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Units of each class (row) that were given each label (column): int, shape (k, k)."""
    return np.array([[int(((truth == a) & (said == b)).sum()) for b in classes] for a in classes])


def of_animals(score, truth: np.ndarray, said: np.ndarray, animals: np.ndarray) -> np.ndarray:
    """A score in each animal, in sorted order."""
    return np.array([score(truth[animals == name], said[animals == name]) for name in np.unique(animals)])


def interval(values: np.ndarray, seed: int = 0, draws: int = 10_000) -> tuple[float, float]:
    """95 % of the means of animals drawn with replacement; NaN of a single animal, which says nothing of others."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return float("nan"), float("nan")
    means = np.random.default_rng(seed).choice(values, (draws, len(values))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def shuffled_within(labels: np.ndarray, animals: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Labels in another order within each animal: what can be had without knowing the neurons."""
    labels = labels.copy()
    for name in np.unique(animals):
        labels[animals == name] = rng.permutation(labels[animals == name])
    return labels
