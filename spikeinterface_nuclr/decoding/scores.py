"""Scores of predicted classes, by animal: an animal is what a result should hold for, not a neuron."""

import numpy as np

from . import calibration

# Methods that every evaluation has, by name; baselines and controls have their own.
EMBEDDING = "embedding"
FUSED = "embedding and features, averaged"
POOLED = "embedding, pooled over neighbours"
SHUFFLED = "labels shuffled within animals"
MAIN = "macro-F1"
# Shares of wrong labels that abstention is scored at.
TARGET_ERRORS = (0.05, 0.10)


def macro_f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean of F1 over the classes that occur in `truth`: scikit-learn's ``f1_score``, with 0 for 0/0."""
    from sklearn.metrics import f1_score

    return float(f1_score(truth, predicted, labels=np.unique(truth), average="macro", zero_division=0))


def balanced_accuracy(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean of recall over the classes that occur in `truth`: scikit-learn's ``recall_score``."""
    from sklearn.metrics import recall_score

    return float(recall_score(truth, predicted, labels=np.unique(truth), average="macro", zero_division=0))


# Scores that are averaged over animals, the main one first.
AVERAGED = {MAIN: macro_f1, "balanced accuracy": balanced_accuracy}


def per_class(truth: np.ndarray, predicted: np.ndarray, classes: np.ndarray) -> dict[str, dict[str, float]]:
    """Precision, recall, f1 and support of each class; NaN for a class without units, which cannot be scored."""
    from sklearn.metrics import precision_recall_fscore_support

    names = ("precision", "recall", "f1", "support")
    numbers = np.array(precision_recall_fscore_support(truth, predicted, labels=classes, zero_division=0), dtype=float)
    numbers[:3, numbers[3] == 0] = np.nan
    return {
        str(name): dict(zip(names, column.tolist(), strict=True))
        for name, column in zip(classes, numbers.T, strict=True)
    }


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Units of each class (row) by predicted class (column): int, shape (k, k)."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(truth, predicted, labels=classes)


def of_animals(score, truth: np.ndarray, predicted: np.ndarray, animals: np.ndarray) -> np.ndarray:
    """A score in each animal, in sorted order."""
    return np.array([score(truth[animals == name], predicted[animals == name]) for name in np.unique(animals)])


def interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % t interval of the mean over animals; NaN below three animals, which say too little of others.

    Parameters
    ----------
    values : array, shape (n_animals,)

    Notes
    -----
    Of 3 to 40 normal values it covers in 95 % of cases, of skewed ones in 89 to 95 %; percentile and BCa bootstraps
    cover less often at these sizes (``benchmarks/coverage.py``).
    """
    from scipy.stats import sem, t

    values = np.asarray(values, dtype=float)
    if len(values) < 3:
        return float("nan"), float("nan")
    mean, error = values.mean(), sem(values)
    low, high = t.interval(0.95, len(values) - 1, mean, error) if error > 0 else (mean, mean)
    return float(low), float(high)


def shuffled_within(labels: np.ndarray, animals: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Labels in another order within each animal: what can be had without knowing the neurons."""
    labels = labels.copy()
    for name in np.unique(animals):
        labels[animals == name] = rng.permutation(labels[animals == name])
    return labels


def of_shuffles(
    shuffled: list[np.ndarray], predicted: list[np.ndarray], animals: np.ndarray, units: np.ndarray
) -> np.ndarray:
    """Every averaged score of decoders of shuffled labels: float array, shape (shuffles, 2).

    Parameters
    ----------
    shuffled : list of str array, shape (n,)
        Labels of all units, by shuffle.
    predicted : list of str array, shape (shuffles, units of a split)
        Of the units tested, split by split.
    animals : str array, shape (n,)
    units : int array, shape (m,)
        Positions of the units tested, split by split.
    """
    rows = np.concatenate(predicted, axis=1) if predicted else []
    return np.array(
        [
            [of_animals(score, truth[units], row, animals[units]).mean() for score in AVERAGED.values()]
            for truth, row in zip(shuffled, rows, strict=True)
        ]
    )


def by_animal(predictions):
    """Every averaged score of each method in each animal, from predictions as of `Evaluation`.

    Returns
    -------
    pandas DataFrame
        Columns method, score, animal, value.
    """
    import pandas as pd

    rows = [
        (method, name, animal, score(of["truth"].to_numpy(), of["best_label"].to_numpy()))
        for method, of_method in predictions.groupby("method", sort=False)
        for name, score in AVERAGED.items()
        for animal, of in of_method.groupby("animal")
    ]
    return pd.DataFrame(rows, columns=["method", "score", "animal", "value"])


def score_table(predictions, animal_scores, null: np.ndarray):
    """The table ``scores`` of an `Evaluation`: a row for each method and score.

    Parameters
    ----------
    predictions, animal_scores : pandas DataFrames
        As of `Evaluation`.
    null : float array, shape (shuffles, 2)
        The averaged scores of each shuffle.
    """
    import pandas as pd

    rows = []
    for method, of in predictions.groupby("method", sort=False):
        for k, name in enumerate(AVERAGED):
            values = animal_scores.query("method == @method and score == @name")["value"].to_numpy()
            low, high = np.clip(interval(values), 0, 1)
            # The null is the embedding's own. One more than was seen: with 20 shuffles, no p is below 1/21.
            tested = method == EMBEDDING and len(null)
            p = (1 + (null[:, k] >= values.mean()).sum()) / (1 + len(null)) if tested else np.nan
            rows.append((method, name, values.mean(), low, high, len(values), p))
        for name, value in _calibration_scores(of).items():
            # What was calibrated, before and by thresholds, is not what was pooled.
            if method == POOLED and ("before" in name or "%" in name):
                continue
            rows.append((method, name, value, np.nan, np.nan, of["animal"].nunique(), np.nan))
    for k, name in enumerate(AVERAGED if len(null) else ()):
        low, high = np.quantile(null[:, k], [0.025, 0.975])
        rows.append((SHUFFLED, name, null[:, k].mean(), low, high, predictions["animal"].nunique(), np.nan))
    return pd.DataFrame(rows, columns=["method", "score", "value", "low", "high", "animals", "p"])


def _calibration_scores(rows) -> dict[str, float]:
    """Of all test units together: accuracy, calibration, and what abstaining gives."""
    right = (rows["truth"] == rows["best_label"]).to_numpy()
    confidence, before = rows["confidence"].to_numpy(), rows["confidence_before"].to_numpy()
    columns = [column for column in rows.columns if column.startswith("p(")]
    truth = np.searchsorted([column[2:-1] for column in columns], rows["truth"].to_numpy(dtype=str))
    table = {
        "accuracy": right.mean(),
        "ECE before": calibration.expected_calibration_error(before, right),
        "ECE": calibration.expected_calibration_error(confidence, right),
        "ECE by chance": calibration.calibration_error_by_chance(confidence),
        "Brier": calibration.brier_score(rows[columns].to_numpy(), truth),
        "Brier before": rows["brier_before"].mean(),
    }
    for error in TARGET_ERRORS:
        kept = (confidence >= rows[threshold_column(error)]).to_numpy()
        table[f"coverage at {error:.0%} error"] = kept.mean()
        table[f"error at {error:.0%} error"] = 1 - right[kept].mean() if kept.any() else np.nan
    return {name: float(value) for name, value in table.items()}


def threshold_column(target_error: float) -> str:
    """The column of the predictions that holds the thresholds of a target error."""
    return f"threshold_{round(100 * target_error)}"
