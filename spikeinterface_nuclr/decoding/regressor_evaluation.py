"""Evaluation of regressors on new animals: of numbers such as depth, compared with baselines and controls."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from tqdm.auto import tqdm

from ..errors import RecordingWarning
from ..population import Population
from .classifier import averaged
from .comparison import Comparison
from .labelled import Labelled, checkpoint_of
from .labels import as_values
from .methods import check_settings, methods_of
from .parallel import in_parallel
from .readout import Basis, Readout
from .regressor import check_enough, fit_readouts, half_width
from .scores import EMBEDDING, SHUFFLED, interval, of_shuffles, shuffled_within
from .splits import FEWEST_VALUES, Split, with_range

MAIN = "rank correlation"
# Coverages at which intervals are scored.
COVERAGES = (0.5, 0.9)


def rank_correlation(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Spearman's rank correlation; 0 for constant predictions."""
    from scipy.stats import spearmanr

    if np.ptp(predicted) == 0 or np.ptp(truth) == 0:
        return 0.0
    return float(spearmanr(truth, predicted).statistic)


def r2(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Coefficient of determination: scikit-learn's ``r2_score``. Below 0, the animal's own mean is nearer."""
    from sklearn.metrics import r2_score

    return float(r2_score(truth, predicted))


def mean_absolute_error(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean absolute error, in the unit of the values."""
    return float(np.abs(truth - predicted).mean())


# Scores of predictions that are averaged over animals, the main one first.
AVERAGED = {MAIN: rank_correlation, "r2": r2, "mean absolute error": mean_absolute_error}
_RANGES = {MAIN: (-1, 1), "r2": (-np.inf, 1), "mean absolute error": (0, np.inf)}


@dataclass(frozen=True, eq=False, repr=False)
class RegressorEvaluation(Comparison):
    """Predictions of a number on test units, and their scores.

    Attributes
    ----------
    target, protocol : str
    predictions : pandas DataFrame
        One row per method and test unit. Columns: method, split, animal, recording, unit, unit_id, truth, value, and
        half_50 and half_90, the half-widths of its intervals.
    animal_scores : pandas DataFrame
        One row per method, score and test animal: method, score, animal, value.
    scores : pandas DataFrame
        One row per method and score: method, score, value, low, high, animals, p. The scores are means over test
        animals: "rank correlation" (Spearman's), "r2" (below 0, the animal's own mean is nearer to the truth), "mean
        absolute error", and the fraction of true values "inside 50 % intervals" and "inside 90 % intervals". low and
        high are 95 % t intervals, if there are three or more animals (for shuffled values: the range of 95 % of the
        shuffles). ``p``, for the embedding, as in `Evaluation`.
    provenance : dict
        Checkpoint, parameters and versions, as plain values for JSON.
    unscored : dict of str to int
        Number of units of each animal with fewer than five different values, which are left out of all scores.

    Examples
    --------
    >>> from spikeinterface_nuclr import embed, evaluate_regressor, simulate_population
    >>> populations = [simulate_population(20, 30.0, seed=seed) for seed in range(3)]
    >>> embeddings = [embed(population, progress=False) for population in populations]
    >>> depths = [population.properties["depth"] for population in populations]
    >>> evaluation = evaluate_regressor(embeddings, depths, target="depth_um", shuffles=0, progress=False)
    >>> evaluation.to_dataframe().index.tolist()
    ['embedding']
    >>> path = evaluation.save("report")
    """

    MAIN = MAIN

    unscored: dict[str, int]


def evaluate_regressor(
    embeddings,
    values,
    animals=None,
    protocol: str = "leave-one-animal-out",
    *,
    target: str = "value",
    populations: Sequence[Population] | Population | None = None,
    others: dict[str, list] | None = None,
    features=None,
    test_animals: Sequence[str] = (),
    splits: list[Split] | None = None,
    readout: str = "linear",
    shuffles: int = 20,
    seed: int = 0,
    n_jobs: int = -1,
    progress: bool = True,
) -> RegressorEvaluation:
    """Evaluate how well a regressor of embeddings predicts a number in test animals; for classes, use `evaluate`.

    All settings of the regressor, and the width of its intervals, are chosen within the training animals.

    Parameters
    ----------
    embeddings, values, animals
        As in `fit_regressor`.
    protocol, populations, others, features, test_animals, splits, readout, seed, n_jobs, progress
        As in `evaluate`.
    target : str
        Name of the value.
    shuffles : int, default: 20
        Number of shuffles of the values within animals. Regressors of shuffled values use the settings chosen for the
        true values.

    Returns
    -------
    RegressorEvaluation

    Raises
    ------
    InputError
        An argument does not match the embeddings; an animal is on both sides of a split, and the protocol is not
        "within-animal"; or no test animal has five different values.

    Warns
    -----
    RecordingWarning
        Animals with fewer than five different values are not scored.

    Examples
    --------
    >>> from spikeinterface_nuclr import embed, evaluate_regressor, simulate_population
    >>> populations = [simulate_population(20, 30.0, seed=seed) for seed in range(3)]
    >>> embeddings = [embed(population, progress=False) for population in populations]
    >>> depths = [population.properties["depth"] for population in populations]
    >>> evaluation = evaluate_regressor(embeddings, depths, populations=populations, shuffles=0, progress=False)
    >>> evaluation.methods[:2]
    ['embedding', 'rate']
    """
    check_settings(readout, shuffles, seed, n_jobs)
    methods = methods_of(
        embeddings, values, animals, protocol, populations=populations, others=others, features=features,
        test_animals=test_animals, splits=splits, seed=seed, read=as_values,
    )  # fmt: skip
    labelled = methods.embedding
    splits, unscored = with_range(methods.splits, labelled.animals, labelled.labels)
    if unscored:
        warnings.warn(
            f"not scored, because they have fewer than {FEWEST_VALUES} different values: {', '.join(unscored)}",
            RecordingWarning,
            stacklevel=2,
        )
    for split in splits:
        check_enough(len(split.fit), f"split {split.name!r}: ")
    methods = methods.with_splits(splits)
    numbers, by_name = methods.numbers, methods.by_name
    with tqdm(total=(len(by_name) + bool(shuffles)) * len(splits), desc="evaluating", disable=not progress) as bar:
        tasks = [(name, units, split, readout, seed) for name, units in by_name.items() for split in splits]
        results = list(in_parallel(_fit_and_predict, tasks, n_jobs, numbers, bar))
        rng, groups = np.random.default_rng([seed, 1]), methods.shuffle_groups()
        shuffled = [shuffled_within(labelled.labels, groups, rng) for _ in range(shuffles)]
        tasks = [(fitted, labelled, split, shuffled) for split, (_, fitted) in zip(splits, results, strict=False)]
        predicted = list(in_parallel(_refitted, tasks if shuffles else [], n_jobs, numbers, bar))
    null = of_shuffles(shuffled, predicted, labelled.animals, methods.tested, AVERAGED)
    predictions = _concatenate([rows for rows, _ in results], methods)
    animal_scores = _by_animal(predictions)
    provenance = {
        "target": target, "protocol": protocol,
        "checkpoint_sha256": list(dict.fromkeys(map(checkpoint_of, labelled.tables))),
        "features": list(methods.columns),
        "units": len(labelled), "animals": labelled.animal_names, "test_animals": list(test_animals),
        "splits": len(splits), "unscored": unscored, "readout": readout, "shuffles": shuffles, "seed": seed,
        "versions": {name: version(name) for name in ("spikeinterface-nuclr", "scikit-learn", "numpy")},
    }  # fmt: skip
    table = _score_table(animal_scores, null)
    return RegressorEvaluation(target, protocol, predictions, animal_scores, table, provenance, unscored)


def _fit_and_predict(method: str, labelled: Labelled, split: Split, readout: str, seed: int):
    """The predictions of one method for one split, and the fitted read-outs."""
    import pandas as pd

    fit, test = labelled.select(split.fit), labelled.select(split.test)
    readouts, left_out, _ = fit_readouts(fit, readout, seed)
    errors = np.abs(left_out - fit.labels)
    value = averaged({name: fitted(test.tables[name])[:, 0] for name, fitted in readouts.items()})
    frame = {
        "method": method, "split": split.name, "animal": test.animals, "recording": test.recordings,
        "unit": test.units, "truth": test.labels, "value": value,
    }  # fmt: skip
    return pd.DataFrame(frame | {_half_column(part): half_width(errors, part) for part in COVERAGES}), readouts


def _refitted(readouts: dict[str, Readout], labelled: Labelled, split: Split, shuffled: list[np.ndarray]) -> np.ndarray:
    """Predictions of regressions of other values, with the same settings: float array, shape (shuffles, test units)."""
    fit, test = labelled.select(split.fit), labelled.select(split.test)
    bases = {name: Basis(rows, readouts[name].width) for name, rows in fit.tables.items()}
    return np.stack(
        [
            averaged(
                {
                    name: basis.values(values[split.fit], readouts[name].strength)(test.tables[name])[:, 0]
                    for name, basis in bases.items()
                }
            )
            for values in shuffled
        ]
    )


def _concatenate(parts: list, methods):
    import pandas as pd

    table = pd.concat(parts, ignore_index=True)
    table.insert(table.columns.get_loc("unit") + 1, "unit_id", methods.unit_ids_of(table))
    return table


def _by_animal(predictions):
    """Scores of each method in each animal. Columns: method, score, animal, value."""
    import pandas as pd

    rows = []
    for method, method_rows in predictions.groupby("method", sort=False):
        for animal, part in method_rows.groupby("animal"):
            truth, value = part["truth"].to_numpy(), part["value"].to_numpy()
            scores = {name: score(truth, value) for name, score in AVERAGED.items()}
            for coverage in COVERAGES:
                scores[inside(coverage)] = float((np.abs(truth - value) <= part[_half_column(coverage)]).mean())
            rows += [(method, name, animal, score) for name, score in scores.items()]
    return pd.DataFrame(rows, columns=["method", "score", "animal", "value"])


def _score_table(animal_scores, null: np.ndarray):
    """Means over animals with intervals, one row per method and score, and the scores of shuffled values."""
    import pandas as pd

    rows = []
    for (method, name), part in animal_scores.groupby(["method", "score"], sort=False):
        values = part["value"].to_numpy()
        p = np.nan
        if method == EMBEDDING and len(null) and name in AVERAGED:
            column = null[:, list(AVERAGED).index(name)]
            better = column <= values.mean() if name == "mean absolute error" else column >= values.mean()
            p = (1 + better.sum()) / (1 + len(null))  # the true values count as one more shuffle
        low, high = np.clip(interval(values), *_RANGES.get(name, (0, 1)))
        rows.append((method, name, values.mean(), low, high, len(values), p))
    for name, column in zip(AVERAGED, null.T, strict=True) if len(null) else ():
        low, high = np.quantile(column, [0.025, 0.975])
        rows.append((SHUFFLED, name, column.mean(), low, high, animal_scores["animal"].nunique(), np.nan))
    return pd.DataFrame(rows, columns=["method", "score", "value", "low", "high", "animals", "p"])


def inside(coverage: float) -> str:
    """Name of the score: the fraction of true values inside intervals of this coverage."""
    return f"inside {coverage:.0%} intervals".replace("%", " %")


def _half_column(coverage: float) -> str:
    return f"half_{round(100 * coverage)}"
