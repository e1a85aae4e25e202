"""Scores of predicted classes. The animal is the unit of replication: main scores are means over animals."""

import numpy as np

from . import calibration

# Names of the methods of an evaluation, other than baselines and controls.
EMBEDDING = "embedding"
FUSED = "embedding and features, averaged"
POOLED = "embedding, pooled over neighbours"
SHUFFLED = "labels shuffled within animals"
MAIN = "macro-F1"
# Target errors at which abstention is scored.
TARGET_ERRORS = (0.05, 0.10)


def macro_f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean F1 over the classes that occur in `truth`: scikit-learn's ``f1_score``, with 0 for 0/0."""
    from sklearn.metrics import f1_score

    return float(f1_score(truth, predicted, labels=np.unique(truth), average="macro", zero_division=0))


def balanced_accuracy(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean recall over the classes that occur in `truth`: scikit-learn's ``recall_score``."""
    from sklearn.metrics import recall_score

    return float(recall_score(truth, predicted, labels=np.unique(truth), average="macro", zero_division=0))


# Scores that are averaged over animals, the main one first.
AVERAGED = {MAIN: macro_f1, "balanced accuracy": balanced_accuracy}


def per_class(truth: np.ndarray, predicted: np.ndarray, classes: np.ndarray) -> dict[str, dict[str, float]]:
    """Precision, recall, f1 and support of each class; NaN for a class without units."""
    from sklearn.metrics import precision_recall_fscore_support

    names = ("precision", "recall", "f1", "support")
    numbers = np.array(precision_recall_fscore_support(truth, predicted, labels=classes, zero_division=0), dtype=float)
    numbers[:3, numbers[3] == 0] = np.nan
    return {
        str(name): dict(zip(names, column.tolist(), strict=True))
        for name, column in zip(classes, numbers.T, strict=True)
    }


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Number of units of each class (row) by predicted class (column): int, shape (k, k)."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(truth, predicted, labels=classes)


def of_animals(score, truth: np.ndarray, predicted: np.ndarray, animals: np.ndarray) -> np.ndarray:
    """A score in each animal, sorted by name: float array, shape (n_animals,)."""
    return np.array([score(truth[animals == name], predicted[animals == name]) for name in np.unique(animals)])


def interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % t interval of the mean over animals; NaN below three animals.

    Parameters
    ----------
    values : array, shape (n_animals,)

    Notes
    -----
    For 3 to 40 animals, it contains the true mean in 95 % of cases if values are normally distributed, and in 89 to
    95 % if they are skewed. Percentile and BCa bootstraps do so less often (``benchmarks/coverage.py``).
    """
    from scipy.stats import sem, t

    values = np.asarray(values, dtype=float)
    if len(values) < 3:
        return float("nan"), float("nan")
    mean, error = values.mean(), sem(values)
    low, high = t.interval(0.95, len(values) - 1, mean, error) if error > 0 else (mean, mean)
    return float(low), float(high)


def shuffled_within(labels: np.ndarray, animals: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Labels in random order within each animal, for the chance level."""
    labels = labels.copy()
    for name in np.unique(animals):
        labels[animals == name] = rng.permutation(labels[animals == name])
    return labels


def of_shuffles(
    shuffled: list[np.ndarray], predicted: list[np.ndarray], animals: np.ndarray, units: np.ndarray, averaged=AVERAGED
) -> np.ndarray:
    """Scores of decoders of shuffled labels: float array, shape (shuffles, scores).

    Parameters
    ----------
    shuffled : list of arrays, shape (n,)
        Labels, or values, of all units, one array per shuffle.
    predicted : list of arrays, shape (shuffles, units of a split)
        Predictions for the test units, one array per split.
    animals : str array, shape (n,)
    units : int array, shape (m,)
        Positions of the test units of all splits.
    averaged : dict of str to callable
        The scores, which are averaged over animals.
    """
    rows = np.concatenate(predicted, axis=1) if predicted else []
    return np.array(
        [
            [of_animals(score, truth[units], row, animals[units]).mean() for score in averaged.values()]
            for truth, row in zip(shuffled, rows, strict=True)
        ]
    )


def by_animal(predictions):
    """Scores (`AVERAGED`) of each method in each animal, from predictions as in `Evaluation`.

    Returns
    -------
    pandas DataFrame
        Columns method, score, animal, value.
    """
    import pandas as pd

    rows = [
        (method, name, animal, score(rows["truth"].to_numpy(), rows["best_label"].to_numpy()))
        for method, method_rows in predictions.groupby("method", sort=False)
        for name, score in AVERAGED.items()
        for animal, rows in method_rows.groupby("animal")
    ]
    return pd.DataFrame(rows, columns=["method", "score", "animal", "value"])


def score_table(predictions, animal_scores, null: np.ndarray):
    """The table ``scores`` of an `Evaluation`: one row per method and score.

    Parameters
    ----------
    predictions, animal_scores : pandas DataFrames
        As in `Evaluation`.
    null : float array, shape (shuffles, 2)
        Scores of the shuffles, from `of_shuffles`.
    """
    import pandas as pd

    rows = []
    for method, method_rows in predictions.groupby("method", sort=False):
        for k, name in enumerate(AVERAGED):
            values = animal_scores.query("method == @method and score == @name")["value"].to_numpy()
            low, high = np.clip(interval(values), 0, 1)
            # Labels are shuffled for the embedding only. The true labels count as one more shuffle.
            tested = method == EMBEDDING and len(null)
            p = (1 + (null[:, k] >= values.mean()).sum()) / (1 + len(null)) if tested else np.nan
            rows.append((method, name, values.mean(), low, high, len(values), p))
        for name, value in _calibration_scores(method_rows).items():
            # Pooled probabilities have no uncalibrated version and no thresholds.
            if method == POOLED and ("before" in name or "%" in name):
                continue
            rows.append((method, name, value, np.nan, np.nan, method_rows["animal"].nunique(), np.nan))
    for k, name in enumerate(AVERAGED if len(null) else ()):
        low, high = np.quantile(null[:, k], [0.025, 0.975])
        rows.append((SHUFFLED, name, null[:, k].mean(), low, high, predictions["animal"].nunique(), np.nan))
    return pd.DataFrame(rows, columns=["method", "score", "value", "low", "high", "animals", "p"])


def _calibration_scores(rows) -> dict[str, float]:
    """Accuracy, calibration and abstention scores of all test units together."""
    correct = (rows["truth"] == rows["best_label"]).to_numpy()
    confidence, before = rows["confidence"].to_numpy(), rows["confidence_before"].to_numpy()
    columns = [column for column in rows.columns if column.startswith("p(")]
    truth = np.searchsorted([column[2:-1] for column in columns], rows["truth"].to_numpy(dtype=str))
    table = {
        "accuracy": correct.mean(),
        "ECE before": calibration.expected_calibration_error(before, correct),
        "ECE": calibration.expected_calibration_error(confidence, correct),
        "ECE by chance": calibration.calibration_error_by_chance(confidence),
        "Brier": calibration.brier_score(rows[columns].to_numpy(), truth),
        "Brier before": rows["brier_before"].mean(),
    }
    for error in TARGET_ERRORS:
        accepted = (confidence >= rows[threshold_column(error)]).to_numpy()
        table[f"coverage at {error:.0%} error"] = accepted.mean()
        table[f"error at {error:.0%} error"] = 1 - correct[accepted].mean() if accepted.any() else np.nan
    return {name: float(value) for name, value in table.items()}


def threshold_column(target_error: float) -> str:
    """The column of the predictions with the thresholds for a target error."""
    return f"threshold_{round(100 * target_error)}"
