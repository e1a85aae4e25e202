"""Evaluation of decoders on new animals, compared with baselines and controls."""

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from numbers import Integral
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from ..errors import InputError, RecordingWarning
from ..files import write_folder
from ..population import Population
from ..predictions import UNKNOWN
from ..text import for_csv
from . import calibration, scores
from .baselines import comparison_tables
from .classifier import fit_classifier, refitted_labels
from .labelled import Labelled, by_each, checkpoint_of, label_units, per_recording
from .neighbours import with_pooled
from .parallel import check_jobs, in_parallel
from .readout import check_readout
from .scores import EMBEDDING, FUSED, TARGET_ERRORS, threshold_column
from .splits import Split, check_seed, check_splits, scorable, split_units
from .verdict import compared, verdict_of


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Predictions on test units, and their scores.

    Attributes
    ----------
    target, protocol : str
    classes : str array, shape (k,)
        All classes of training and test units.
    predictions : pandas DataFrame
        One row per method and test unit. Columns: method, split, animal, recording, unit, unit_id, truth; label
        ("unknown" where the decoder abstains at a target error of 10 %), best_label, confidence; confidence_before and
        brier_before (before calibration); threshold_5 and threshold_10 (confidence above which at most 5 % and 10 % of
        labels are wrong, from `abstention_threshold` on the training animals; infinite with a single training animal,
        unless it is also the test animal); calibration (the kind chosen); and ``p(…)``, the probability of each class.
    animal_scores : pandas DataFrame
        One row per method, score and test animal: method, score, animal, value.
    scores : pandas DataFrame
        One row per method and score: method, score, value, low, high, animals, p. For "macro-F1" and "balanced
        accuracy", value is the mean over test animals, and low and high are its 95 % t interval, if there are three or
        more (for shuffled labels: the range of 95 % of the shuffles). ``p``, for the embedding, is the fraction of
        shuffles that score at least as high as the true labels, counting the true labels; with 20 shuffles, it is at
        least 0.048.
    unscored : dict of str to int
        Number of units of each class that no training animal has. No decoder can learn these classes, so the units are
        left out of all scores.
    provenance : dict
        Checkpoint, parameters and versions, as plain values for JSON.

    Examples
    --------
    >>> from spikeinterface_nuclr import embed, evaluate, simulate_population
    >>> populations = [simulate_population(20, 30.0, seed=seed) for seed in range(3)]
    >>> embeddings = [embed(population, progress=False) for population in populations]
    >>> labels = [population.properties["cell_type"] for population in populations]
    >>> evaluation = evaluate(embeddings, labels, shuffles=0, progress=False)
    >>> evaluation.per_class().index.tolist()
    ['bursting', 'fast', 'regular']
    >>> path = evaluation.save("report")
    """

    target: str
    protocol: str
    classes: np.ndarray
    predictions: object
    animal_scores: object
    scores: object
    unscored: dict[str, int]
    provenance: dict

    @property
    def methods(self) -> list[str]:
        """Names of the methods with predictions, the embedding first."""
        return list(dict.fromkeys(self.predictions["method"]))

    @property
    def comparison(self):
        """Differences between the embedding and every other method, paired by animal: see `verdict.compared`."""
        return compared(self.animal_scores)

    @property
    def verdict(self) -> str:
        """The conclusion in a few sentences: what the scores show, and what follows for use."""
        return verdict_of(self.scores, self.comparison, self.provenance)

    def to_dataframe(self):
        """The scores as a pandas DataFrame, with one row per method and one column per score.

        The first column, "verdict", contains the verdict in the row of the embedding, and in the other rows the outcome
        of the comparison with the embedding.
        """
        order = list(dict.fromkeys(self.scores["method"]))
        table = self.scores.pivot(index="method", columns="score", values="value").reindex(order)
        outcomes = {EMBEDDING: self.verdict, **self.comparison["outcome"]}
        table.insert(0, "verdict", [outcomes.get(method, "") for method in order])
        return table

    def per_class(self, method: str = EMBEDDING):
        """Precision, recall, f1 and support of each class over all test units, as a pandas DataFrame.

        NaN for a class without scored units.
        """
        import pandas as pd

        rows = self.predictions_of(method)
        table = scores.per_class(rows["truth"].to_numpy(), rows["best_label"].to_numpy(), self.classes)
        return pd.DataFrame.from_dict(table, orient="index")

    def confusion(self, method: str = EMBEDDING) -> np.ndarray:
        """Number of units of each class (row) by best label (column): int, shape (k, k)."""
        rows = self.predictions_of(method)
        return scores.confusion(rows["truth"].to_numpy(), rows["best_label"].to_numpy(), self.classes)

    def predictions_of(self, method: str):
        """The predictions of one method."""
        if method not in self.methods:
            raise InputError(f"there is no method {method!r}: use one of {', '.join(self.methods)}")
        return self.predictions[self.predictions["method"] == method]

    def save(self, folder, *, overwrite: bool = False) -> Path:
        """Write ``predictions.csv``, the tables of scores, and ``provenance.json`` into a folder.

        Raises
        ------
        InputError
            One of these files exists, and `overwrite` is False.
        """
        return write_folder(folder, self.writers(), overwrite=overwrite)

    def writers(self) -> dict[str, Callable[[Path], object]]:
        """Functions that write the files of `save`, by file name."""
        provenance = json.dumps({"verdict": self.verdict, **self.provenance}, indent=1, ensure_ascii=False) + "\n"
        return {
            "predictions.csv": lambda path: for_csv(self.predictions).to_csv(path, index=False),
            "scores.csv": lambda path: for_csv(self.scores).to_csv(path, index=False),
            "animal_scores.csv": lambda path: for_csv(self.animal_scores).to_csv(path, index=False),
            "per_class.csv": lambda path: for_csv(self.per_class()).to_csv(path, index_label="class"),
            "provenance.json": lambda path: path.write_text(provenance, encoding="utf-8"),
        }

    def __repr__(self):
        return (
            f"{self.verdict}\nEvaluation({self.target!r}, {self.protocol}, {self.provenance['readout']} read-out, "
            f"{len(self.methods)} methods)"
        )


def evaluate(
    embeddings,
    labels,
    animals=None,
    protocol: str = "leave-one-animal-out",
    *,
    target: str = "label",
    populations: Sequence[Population] | Population | None = None,
    others: dict[str, list] | None = None,
    features=None,
    positions=None,
    probes=None,
    test_animals: Sequence[str] = (),
    splits: list[Split] | None = None,
    readout: str = "linear",
    balanced: bool = True,
    shuffles: int = 20,
    seed: int = 0,
    n_jobs: int = -1,
    progress: bool = True,
) -> Evaluation:
    """Evaluate how well a decoder of embeddings predicts a label in test animals.

    All settings of the decoder, such as the regularisation strength, are chosen within the training animals.
    The result does not depend on the number of processes.

    Parameters
    ----------
    embeddings, labels, animals
        As in `fit_decoder`; labels must be classes.
    protocol : {"leave-one-animal-out", "zero-shot", "within-animal"}
        How training and test units are split (`split_units`). Scores within animals say little about new animals.
    target : str
        Name of the label.
    populations : list of Population, optional
        The embedded populations, in the same order. If given, the baselines (`decoding.baselines`) are scored too.
    others : dict of str to list of arrays, optional
        Other features to compare with the embeddings, by name: one array (n_units, k) per recording, such as embeddings
        of shuffled spikes. Rows of NaN are units without features; they are left out for every method.
    features : list of pandas DataFrames, optional
        As in `fit_decoder`: the decoder of embeddings and features is scored next to that of embeddings alone.
    positions : list of arrays, optional
        Positions of the units of each recording in µm, (n_units,) or (n_units, d). If given, the embedding's
        probabilities pooled over neighbours are scored too.
    probes : list of arrays, optional
        Probe of each unit, one array per recording; only units of one probe are neighbours. Default: the groups of
        `populations`, if given.
    test_animals : sequence of str
        For the protocol "zero-shot".
    splits : list of Split, optional
        Custom splits, instead of those of the protocol. Positions refer to the units with an embedding and a label.
    readout : {"linear", "kernel"}
        As in `fit_decoder`; it reads the embeddings, the baselines and all other features.
    balanced : bool, default: True
        As in `fit_decoder`.
    shuffles : int, default: 20
        Number of label shuffles within animals. Decoders of shuffled labels use the settings chosen for the
        true labels. Labels are not shuffled if each animal has a single class.
    seed : int, default: 0
        Seed of folds and shuffles.
    n_jobs : int, default: -1
        Number of processes, as in joblib; -1 uses all processor cores. Small data are fitted in this process.
    progress : bool, default: True

    Returns
    -------
    Evaluation

    Raises
    ------
    InputError
        An argument does not match the embeddings; or an animal is on both sides of a split, and the protocol is not
        "within-animal".

    Warns
    -----
    RecordingWarning
        Some units cannot be scored, because no training animal has their class; or labels cannot be shuffled, because
        each animal has a single class.

    Examples
    --------
    >>> from spikeinterface_nuclr import embed, evaluate, simulate_population
    >>> populations = [simulate_population(20, 30.0, seed=seed) for seed in range(3)]
    >>> embeddings = [embed(population, progress=False) for population in populations]
    >>> labels = [population.properties["cell_type"] for population in populations]
    >>> evaluation = evaluate(embeddings, labels, populations=populations, shuffles=0, progress=False)
    >>> evaluation.to_dataframe().index[0]
    'embedding'
    """
    check_jobs(n_jobs)
    check_seed(seed)
    check_readout(readout)
    if not isinstance(shuffles, Integral) or shuffles < 0:
        raise InputError(f"shuffles must be a whole number from 0 on, not {shuffles!r}")
    fused = label_units(embeddings, labels, animals, features)
    labelled = fused.without_features()
    recordings = embeddings if isinstance(embeddings, list) else [embeddings]
    populations = [populations] if isinstance(populations, Population) else populations
    tables = comparison_tables(labelled, recordings, populations, others)
    # All methods are scored on the same units.
    keep = np.all([np.ones(len(labelled), dtype=bool), *(np.isfinite(t).any(axis=1) for t in tables.values())], axis=0)
    if splits is not None:
        check_splits(splits, labelled.animals, protocol)
        position = np.cumsum(keep) - 1
        splits = [Split(s.name, *(position[side[keep[side]]] for side in (s.fit, s.test))) for s in splits]
    labelled, fused = labelled.select(keep), fused.select(keep)
    tables = {name: rows[keep] for name, rows in tables.items()}
    if splits is None:
        splits = split_units(labelled.animals, labelled.labels, protocol, test_animals, seed)
    check_splits(splits, labelled.animals, protocol)
    splits, unscored = scorable(splits, labelled.labels)
    _warn_of_unscored(unscored)
    if shuffles and not _shuffling_changes_labels(labelled, splits):
        warnings.warn(
            "labels are not shuffled, since each animal holds one class: chance is not tested",
            RecordingWarning,
            stacklevel=2,
        )
        shuffles = 0
    methods = {EMBEDDING: labelled} | ({FUSED: fused} if fused.columns else {})
    methods |= {name: labelled.with_table(rows, name) for name, rows in tables.items()}
    positions = None if positions is None else _positions(positions, recordings)
    numbers = sum(rows.size for rows in labelled.tables.values()) * len(splits)
    with tqdm(total=(len(methods) + bool(shuffles)) * len(splits), desc="evaluating", disable=not progress) as bar:
        tasks = [(name, units, split, readout, balanced, seed) for name, units in methods.items() for split in splits]
        results = list(in_parallel(_fit_and_predict, tasks, n_jobs, numbers, bar))
        rng = np.random.default_rng([seed, 1])
        shuffled = [_shuffled_labels(labelled, splits, rng) for _ in range(shuffles)]
        tasks = [
            (classifier, labelled, split, shuffled, balanced)
            for split, (_, classifier) in zip(splits, results, strict=False)
        ]
        predicted = list(in_parallel(refitted_labels, tasks if shuffles else [], n_jobs, numbers, bar))
    tested = np.concatenate([split.test for split in splits])
    null = scores.of_shuffles(shuffled, predicted, labelled.animals, tested)
    predictions = _concatenate([rows for rows, _ in results], np.unique(labelled.labels), recordings)
    if positions is not None:
        if probes is None and populations is not None:
            probes = [population.group for population in populations]
        probes = None if probes is None else per_recording("probes", probes, recordings)
        predictions = with_pooled(predictions, positions, probes)
    chosen = predictions[predictions["method"] == EMBEDDING].groupby("calibration")["split"].nunique()
    provenance = {
        "target": target, "protocol": protocol,
        "checkpoint_sha256": list(dict.fromkeys(map(checkpoint_of, labelled.tables))),
        "features": list(fused.columns),
        "units": len(labelled), "animals": labelled.animal_names, "test_animals": list(test_animals),
        "splits": len(splits), "unscored": unscored, "calibration": {k: int(n) for k, n in chosen.items()},
        "readout": readout, "balanced": balanced, "shuffles": shuffles, "seed": seed,
        "versions": {name: version(name) for name in ("spikeinterface-nuclr", "scikit-learn", "numpy")},
    }  # fmt: skip
    animal_scores = scores.by_animal(predictions)
    table = scores.score_table(predictions, animal_scores, null)
    return Evaluation(
        target, protocol, np.unique(labelled.labels), predictions, animal_scores, table, unscored, provenance
    )


def _warn_of_unscored(unscored: dict[str, int]) -> None:
    if unscored:
        listed = ", ".join(f"{name!r} ({count} units)" for name, count in unscored.items())
        warnings.warn(f"not scored, because no training animal has the class: {listed}", RecordingWarning, stacklevel=3)


def _positions(positions, recordings: list) -> list[np.ndarray]:
    """Positions of every unit, one float array per recording."""
    positions = per_recording("positions", positions, recordings)
    try:
        return [np.asarray(array, dtype=float) for array in positions]
    except ValueError:
        raise InputError("positions must be numbers, in µm") from None


def _fit_and_predict(method: str, labelled: Labelled, split: Split, readout: str, balanced: bool, seed: int):
    """The predictions of one method for one split, and the fitted classifier."""
    import pandas as pd

    fit, test = labelled.select(split.fit), labelled.select(split.test)
    classifier, held_out = fit_classifier(fit, readout=readout, balanced=balanced, seed=seed)
    probability, before = classifier.probability(test.tables), classifier.raw(test.tables)
    left_out_confidence = held_out.predicted.max(axis=1)
    correct = held_out.predicted.argmax(axis=1) == held_out.truth
    # Within one animal, the test units are like its other units, so the left-out predictions count as independent.
    within = fit.animal_names == test.animal_names and len(fit.animal_names) == 1
    clusters = None if within else held_out.clusters
    thresholds = {
        threshold_column(error): calibration.abstention_threshold(left_out_confidence, correct, error, clusters)
        for error in TARGET_ERRORS
    }
    best = classifier.classes[probability.argmax(axis=1)]
    confidence = probability.max(axis=1)
    frame = {
        "method": method,
        "split": split.name,
        "animal": test.animals,
        "recording": test.recordings,
        "unit": test.units,
        "truth": test.labels,
        "label": np.where(confidence >= thresholds[threshold_column(TARGET_ERRORS[-1])], best, UNKNOWN),
        "best_label": best,
        "confidence": confidence,
        "confidence_before": before.max(axis=1),
        "brier_before": calibration.squared_distances(before, np.searchsorted(classifier.classes, test.labels)),
        **thresholds,
        "calibration": calibration.name_of(classifier.temperatures),
    }
    frame |= {_column(name): probability[:, k] for k, name in enumerate(classifier.classes)}
    return pd.DataFrame(frame), classifier


def _shuffled_labels(labelled: Labelled, splits: list[Split], rng: np.random.Generator) -> np.ndarray:
    """The labels, shuffled within animals; test units and other units separately."""
    return scores.shuffled_within(labelled.labels, _shuffle_groups(labelled, splits), rng)


def _shuffle_groups(labelled: Labelled, splits: list[Split]) -> np.ndarray:
    """Group of each unit, within which labels are shuffled: int, shape (n,), by animal and by whether it is scored."""
    scored = np.isin(np.arange(len(labelled)), np.concatenate([split.test for split in splits]))
    return 2 * np.unique(labelled.animals, return_inverse=True)[1] + scored


def _shuffling_changes_labels(labelled: Labelled, splits: list[Split]) -> bool:
    """Whether any group has more than one class."""
    groups = _shuffle_groups(labelled, splits)
    return any(len(np.unique(labelled.labels[groups == group])) > 1 for group in np.unique(groups))


def _concatenate(parts: list, classes: np.ndarray, recordings: list):
    """All predictions, with unit ids, and a probability of 0 for classes without training units."""
    import pandas as pd

    table = pd.concat(parts, ignore_index=True)
    columns = [_column(name) for name in classes]
    table[columns] = table.reindex(columns=columns).fillna(0.0)
    unit_ids = [by_each(recording)[0].unit_ids for recording in recordings]
    ids = [str(unit_ids[recording][unit]) for recording, unit in zip(table["recording"], table["unit"], strict=True)]
    table.insert(table.columns.get_loc("unit") + 1, "unit_id", ids)
    other_columns = [column for column in table.columns if column not in columns]
    return table[other_columns + columns]


def _column(name: str) -> str:
    return f"p({name})"
