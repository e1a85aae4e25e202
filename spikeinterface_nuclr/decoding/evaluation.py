"""evaluate: how well a property is read from embeddings, beside what can be read without them."""

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
from ..identities import UNKNOWN
from ..population import Population
from ..text import for_csv
from . import calibration, scores
from .baselines import comparison_tables
from .labelled import Labelled, by_each, label_units, per_recording
from .linear import fit_classifier, refitted_labels
from .neighbours import with_pooled
from .parallel import check_jobs, in_parallel
from .scores import EMBEDDING, FUSED, TARGET_ERRORS, threshold_column
from .splits import Split, check_seed, check_splits, scorable, split_units
from .verdict import compared, verdict_of


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Predictions on units that were not fitted to, and their scores.

    Attributes
    ----------
    target, protocol : str
    classes : str array, shape (k,)
        Those that occur among the units that were fitted to or tested on.
    predictions : pandas DataFrame
        A row for each method and unit: method, split, animal, recording, unit, unit_id, truth, label ("unknown" where
        the decoder abstains at a target error of 10 %), best_label, confidence, confidence_before and brier_before
        (calibration), threshold_5 and threshold_10 (confidence from which on at most 5 % and 10 % of labels are wrong,
        by `abstention_threshold` on animals that were fitted to; infinite where that is one and another is tested),
        calibration (what was chosen), and a column ``p(…)`` a class.
    animal_scores : pandas DataFrame
        A row for each method, score and test animal: method, score, animal, value.
    scores : pandas DataFrame
        A row for each method and score: method, score, value, low, high, animals, p. Of "macro-F1" and "balanced
        accuracy": the mean over test animals, and its 95 % t interval where there are three or more (of the shuffled
        labels: 95 % of the shuffles). ``p``, of the embedding, is the share of shuffles that reach the value, the
        value itself counted in: with 20 shuffles no less than 0.048.
    unscored : dict of str to int
        Units whose class no other animal shows, so that no decoder could know it: by class. They are in no score.
    provenance : dict
        Checkpoint, parameters, versions. Plain values for JSON.
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
        """Those with predictions: the embedding first."""
        return list(dict.fromkeys(self.predictions["method"]))

    @property
    def comparison(self):
        """The embedding beside every other method, animal by animal: the pandas DataFrame of `verdict.compared`."""
        return compared(self.animal_scores)

    @property
    def verdict(self) -> str:
        """What the numbers show, and what follows for use, in a few sentences."""
        return verdict_of(self.scores, self.comparison, self.provenance)

    def to_dataframe(self):
        """The scores as a pandas DataFrame, a row a method, a column a score.

        The first column, "verdict", says in the embedding's row what the numbers show, and in the others how the
        embedding compares.
        """
        order = list(dict.fromkeys(self.scores["method"]))
        table = self.scores.pivot(index="method", columns="score", values="value").reindex(order)
        outcomes = {EMBEDDING: self.verdict, **self.comparison["outcome"]}
        table.insert(0, "verdict", [outcomes.get(method, "") for method in order])
        return table

    def per_class(self, method: str = EMBEDDING):
        """Precision, recall, f1 and support of each class over all test units, as a pandas DataFrame.

        NaN for a class of which no unit could be scored.
        """
        import pandas as pd

        rows = self.of(method)
        table = scores.per_class(rows["truth"].to_numpy(), rows["best_label"].to_numpy(), self.classes)
        return pd.DataFrame.from_dict(table, orient="index")

    def confusion(self, method: str = EMBEDDING) -> np.ndarray:
        """Units of each class (row) by their best label (column): int, shape (k, k)."""
        rows = self.of(method)
        return scores.confusion(rows["truth"].to_numpy(), rows["best_label"].to_numpy(), self.classes)

    def of(self, method: str):
        """The predictions of one method."""
        if method not in self.methods:
            raise InputError(f"no method {method!r}, only {', '.join(self.methods)}")
        return self.predictions[self.predictions["method"] == method]

    def save(self, folder, *, overwrite: bool = False) -> Path:
        """Write ``predictions.csv``, the tables of scores, and ``provenance.json`` into a folder.

        Raises
        ------
        InputError
            One of them exists in the folder, and `overwrite` is not set.
        """
        return write_folder(folder, self.writers(), overwrite=overwrite)

    def writers(self) -> dict[str, Callable[[Path], object]]:
        """What writes each file of `save`, by the file's name."""
        provenance = json.dumps({"verdict": self.verdict, **self.provenance}, indent=1, ensure_ascii=False) + "\n"
        return {
            "predictions.csv": lambda path: for_csv(self.predictions).to_csv(path, index=False),
            "scores.csv": lambda path: for_csv(self.scores).to_csv(path, index=False),
            "animal_scores.csv": lambda path: for_csv(self.animal_scores).to_csv(path, index=False),
            "per_class.csv": lambda path: for_csv(self.per_class()).to_csv(path, index_label="class"),
            "provenance.json": lambda path: path.write_text(provenance, encoding="utf-8"),
        }

    def __repr__(self):
        return f"{self.verdict}\nEvaluation({self.target!r}, {self.protocol}, {len(self.methods)} methods)"


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
    balanced: bool = True,
    shuffles: int = 20,
    seed: int = 0,
    n_jobs: int = -1,
    progress: bool = True,
) -> Evaluation:
    """Score a linear decoder of embeddings on units that it was not fitted to.

    Whatever is chosen (strength of the penalty, temperatures, confidence to abstain below) is chosen on the units that
    are fitted to, across their animals. The result does not depend on the number of processes.

    Parameters
    ----------
    embeddings, labels, animals
        As of `fit_decoder`; the labels name classes.
    protocol : {"leave-one-animal-out", "zero-shot", "within-animal"}
        As of `split_units`. A score within animals says little of new ones.
    target : str
        What the labels are.
    populations : list of Population, optional
        What was embedded, in the same order: gives the baselines (`decoding.baselines`), which know the population too.
    others : dict of str to list of arrays, optional
        Further numbers to set beside the embeddings, by name: an array (n_units, k) a recording, NaN rows where there
        is nothing to say, such as embeddings of shuffled spikes.
    features : list of pandas DataFrames, optional
        As of `fit_decoder`: scores what a decoder of embeddings and features says, beside that of the embeddings.
    positions : list of arrays, optional
        Of each recording, where its units lie in µm, (n_units,) or (n_units, d): gives the embedding's probabilities
        pooled over neighbours.
    probes : list of arrays, optional
        Of each recording, what each unit was recorded with, so that neighbours are on the same. Default: the groups of
        `populations`, where they are given.
    test_animals : sequence of str
        Of "zero-shot".
    splits : list of Split, optional
        Your own, in place of the protocol's. Positions count the units that have an embedding and a label.
    balanced : bool, default: True
        As of `fit_decoder`.
    shuffles : int, default: 20
        Times that the labels are shuffled within animals, fitted to and scored, with the strengths that were chosen
        for the true ones. None, where each animal holds one class.
    seed : int, default: 0
        Of folds and shuffles.
    n_jobs : int, default: -1
        Processes, as of joblib: -1 for all processor cores. Small data stay in this one.
    progress : bool, default: True

    Returns
    -------
    Evaluation

    Raises
    ------
    InputError
        Something does not fit; or an animal is on both sides of a split, and the protocol is not "within-animal".

    Warns
    -----
    RecordingWarning
        Some units cannot be scored, since their class occurs in no animal that is fitted to; or labels cannot be
        shuffled, since each animal holds one class.

    Examples
    --------
    >>> import spikeinterface_nuclr as nuclr
    >>> populations = [nuclr.simulate_population(30, 60.0, seed=k) for k in range(3)]
    >>> embeddings = [nuclr.embed(population, progress=False) for population in populations]
    >>> labels = [population.properties["cell_type"] for population in populations]
    >>> found = nuclr.evaluate(embeddings, labels, list("abc"), populations=populations, progress=False)
    >>> found.to_dataframe().index[0]
    'embedding'
    """
    check_jobs(n_jobs)
    check_seed(seed)
    if not isinstance(shuffles, Integral) or shuffles < 0:
        raise InputError(f"shuffles must be a whole number from 0 on, not {shuffles!r}")
    fused = label_units(embeddings, labels, animals, features)
    labelled = fused.without_features()
    recordings = embeddings if isinstance(embeddings, list) else [embeddings]
    populations = [populations] if isinstance(populations, Population) else populations
    tables = comparison_tables(labelled, recordings, populations, others)
    # The same neurons for all.
    keep = np.all([np.ones(len(labelled), dtype=bool), *(np.isfinite(t).any(axis=1) for t in tables.values())], axis=0)
    if splits is not None:
        check_splits(splits, labelled.animals, protocol)
        place = np.cumsum(keep) - 1
        splits = [Split(s.name, *(place[side[keep[side]]] for side in (s.fit, s.test))) for s in splits]
    labelled, fused = labelled.select(keep), fused.select(keep)
    tables = {name: rows[keep] for name, rows in tables.items()}
    if splits is None:
        splits = split_units(labelled.animals, labelled.labels, protocol, test_animals, seed)
    check_splits(splits, labelled.animals, protocol)
    splits, unscored = scorable(splits, labelled.labels)
    _warn_of_unscored(unscored)
    if shuffles and not _vary(labelled, splits):
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
        tasks = [(name, of, split, balanced, seed) for name, of in methods.items() for split in splits]
        results = list(in_parallel(_fitted, tasks, n_jobs, numbers, bar))
        rng = np.random.default_rng([seed, 1])
        shuffled = [_shuffled(labelled, splits, rng) for _ in range(shuffles)]
        tasks = [
            (classifier, labelled, split, shuffled, balanced)
            for split, (_, classifier) in zip(splits, results, strict=False)
        ]
        predicted = list(in_parallel(refitted_labels, tasks if shuffles else [], n_jobs, numbers, bar))
    null = scores.of_shuffles(shuffled, predicted, labelled.animals, np.concatenate([split.test for split in splits]))
    predictions = _together([rows for rows, _ in results], np.unique(labelled.labels), recordings)
    if positions is not None:
        if probes is None and populations is not None:
            probes = [population.group for population in populations]
        probes = None if probes is None else per_recording("probes", probes, recordings)
        predictions = with_pooled(predictions, positions, probes)
    chosen = predictions[predictions["method"] == EMBEDDING].groupby("calibration")["split"].nunique()
    provenance = {
        "target": target, "protocol": protocol, "checkpoint_sha256": list(labelled.tables),
        "features": list(fused.columns),
        "units": len(labelled), "animals": labelled.animal_names, "test_animals": list(test_animals),
        "splits": len(splits), "unscored": unscored, "calibration": {k: int(n) for k, n in chosen.items()},
        "balanced": balanced, "shuffles": shuffles, "seed": seed,
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
        warnings.warn(
            f"not scored, since no animal that is fitted to shows the class: {listed}", RecordingWarning, stacklevel=3
        )


def _positions(positions, recordings: list) -> list[np.ndarray]:
    """Places of every unit, a float array a recording."""
    positions = per_recording("positions", positions, recordings)
    try:
        return [np.asarray(one, dtype=float) for one in positions]
    except ValueError:
        raise InputError("positions must be numbers, in µm") from None


def _fitted(method: str, labelled: Labelled, split: Split, balanced: bool, seed: int):
    """Rows of the predictions of one method on one split, and the classifier that they are by."""
    import pandas as pd

    fit, test = labelled.select(split.fit), labelled.select(split.test)
    classifier, held = fit_classifier(fit, balanced=balanced, seed=seed)
    probability, before = classifier.probability(test.tables), classifier.raw(test.tables)
    sure, right = held.predicted.max(axis=1), held.predicted.argmax(axis=1) == held.truth
    # Within one animal, its other units are what errors are expected of.
    clusters = None if fit.animal_names == test.animal_names and len(fit.animal_names) == 1 else held.clusters
    thresholds = {
        threshold_column(error): calibration.abstention_threshold(sure, right, error, clusters)
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


def _shuffled(labelled: Labelled, splits: list[Split], rng: np.random.Generator) -> np.ndarray:
    """The labels in another order within animals, among the units that are scored."""
    return scores.shuffled_within(labelled.labels, _groups(labelled, splits), rng)


def _groups(labelled: Labelled, splits: list[Split]) -> np.ndarray:
    """Among which units labels are shuffled: numbers, shape (n,), of animals, and of their units that are scored."""
    scored = np.isin(np.arange(len(labelled)), np.concatenate([split.test for split in splits]))
    return 2 * np.unique(labelled.animals, return_inverse=True)[1] + scored


def _vary(labelled: Labelled, splits: list[Split]) -> bool:
    """Whether shuffling changes any label."""
    groups = _groups(labelled, splits)
    return any(len(np.unique(labelled.labels[groups == group])) > 1 for group in np.unique(groups))


def _together(parts: list, classes: np.ndarray, recordings: list):
    """All rows, with the units' ids, and 0 for the classes that a fit had not seen."""
    import pandas as pd

    table = pd.concat(parts, ignore_index=True)
    columns = [_column(name) for name in classes]
    table[columns] = table.reindex(columns=columns).fillna(0.0)
    of_recordings = [by_each(recording)[0].unit_ids for recording in recordings]
    ids = [str(of_recordings[r][u]) for r, u in zip(table["recording"], table["unit"], strict=True)]
    table.insert(table.columns.get_loc("unit") + 1, "unit_id", ids)
    known = [column for column in table.columns if column not in columns]
    return table[known + columns]


def _column(name: str) -> str:
    return f"p({name})"
