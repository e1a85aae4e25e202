"""Evaluation of decoders on new animals, compared with baselines and controls."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from ..errors import InputError, RecordingWarning
from ..population import Population
from ..predictions import UNKNOWN
from ..text import for_csv
from . import calibration, scores
from .classifier import fit_classifier, refitted_labels
from .comparison import Comparison
from .labelled import Labelled, checkpoint_of, per_recording
from .labels import as_labels
from .methods import Methods, check_settings, methods_of
from .neighbours import with_pooled
from .parallel import in_parallel
from .scores import EMBEDDING, MAIN, TARGET_ERRORS, threshold_column
from .splits import Split, scorable


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation(Comparison):
    """Predictions of classes on test units, and their scores.

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

    MAIN = MAIN

    classes: np.ndarray
    unscored: dict[str, int]

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

    def writers(self) -> dict[str, Callable[[Path], object]]:
        """Functions that write the files of `save`, by file name."""
        per_class = {"per_class.csv": lambda path: for_csv(self.per_class()).to_csv(path, index_label="class")}
        return super().writers() | per_class


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
    check_settings(readout, shuffles, seed, n_jobs)
    methods = methods_of(
        embeddings, labels, animals, protocol, populations=populations, others=others, features=features,
        test_animals=test_animals, splits=splits, seed=seed, read=as_labels,
    )  # fmt: skip
    labelled, recordings = methods.embedding, methods.recordings
    splits, unscored = scorable(methods.splits, labelled.labels)
    methods = methods.with_splits(splits)
    _warn_of_unscored(unscored)
    shuffles = methods.worth_shuffling(shuffles)
    positions = None if positions is None else _positions(positions, recordings)
    numbers, by_name = methods.numbers, methods.by_name
    with tqdm(total=(len(by_name) + bool(shuffles)) * len(splits), desc="evaluating", disable=not progress) as bar:
        tasks = [(name, units, split, readout, balanced, seed) for name, units in by_name.items() for split in splits]
        results = list(in_parallel(_fit_and_predict, tasks, n_jobs, numbers, bar))
        rng = np.random.default_rng([seed, 1])
        groups = methods.shuffle_groups()
        shuffled = [scores.shuffled_within(labelled.labels, groups, rng) for _ in range(shuffles)]
        tasks = [
            (classifier, labelled, split, shuffled, balanced)
            for split, (_, classifier) in zip(splits, results, strict=False)
        ]
        predicted = list(in_parallel(refitted_labels, tasks if shuffles else [], n_jobs, numbers, bar))
    null = scores.of_shuffles(shuffled, predicted, labelled.animals, methods.tested)
    predictions = _concatenate([rows for rows, _ in results], np.unique(labelled.labels), methods)
    if positions is not None:
        if probes is None and methods.populations is not None:
            probes = [population.group for population in methods.populations]
        probes = None if probes is None else per_recording("probes", probes, recordings)
        predictions = with_pooled(predictions, positions, probes)
    chosen = predictions[predictions["method"] == EMBEDDING].groupby("calibration")["split"].nunique()
    provenance = {
        "target": target, "protocol": protocol,
        "checkpoint_sha256": list(dict.fromkeys(map(checkpoint_of, labelled.tables))),
        "features": list(methods.columns),
        "units": len(labelled), "animals": labelled.animal_names, "test_animals": list(test_animals),
        "splits": len(splits), "unscored": unscored, "calibration": {k: int(n) for k, n in chosen.items()},
        "readout": readout, "balanced": balanced, "shuffles": shuffles, "seed": seed,
        "versions": {name: version(name) for name in ("spikeinterface-nuclr", "scikit-learn", "numpy")},
    }  # fmt: skip
    animal_scores = scores.by_animal(predictions)
    table = scores.score_table(predictions, animal_scores, null)
    classes = np.unique(labelled.labels)
    return Evaluation(target, protocol, predictions, animal_scores, table, provenance, classes, unscored)


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


def _concatenate(parts: list, classes: np.ndarray, methods: Methods):
    """All predictions, with unit ids, and a probability of 0 for classes without training units."""
    import pandas as pd

    table = pd.concat(parts, ignore_index=True)
    columns = [_column(name) for name in classes]
    table[columns] = table.reindex(columns=columns).fillna(0.0)
    table.insert(table.columns.get_loc("unit") + 1, "unit_id", methods.unit_ids_of(table))
    other_columns = [column for column in table.columns if column not in columns]
    return table[other_columns + columns]


def _column(name: str) -> str:
    return f"p({name})"
