"""evaluate: how well a property is read from embeddings, beside what can be read without them."""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from ..errors import InputError
from ..files import check_writable, written_whole
from ..population import Population
from ..text import for_csv
from . import calibration, scores
from .baselines import baseline_features
from .labelled import Labelled, by_each, label_units
from .linear import Classifier, HeldOut, fit_classifier, refitted_labels
from .neighbours import pooled
from .splits import Split, check_splits, split_units

EMBEDDING = "embedding"
FUSED = "embedding and features, averaged"
POOLED = "embedding, pooled over neighbours"
SHUFFLED = "labels shuffled within animals"
ERRORS = (0.05, 0.10)
# Means over animals.
_AVERAGED = {"macro-F1": scores.macro_f1, "balanced accuracy": scores.balanced_accuracy}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Predictions on units that were not fitted to, and their scores.

    Attributes
    ----------
    target, protocol : str
    classes : str array, shape (k,)
    predictions : pandas DataFrame
        A row for each method and unit: method, split, animal, recording, unit_id, truth, label, confidence,
        confidence_before (calibration), threshold_5 and threshold_10 (confidence below which at most 5 % and 10 % of
        errors would have been exceeded on animals that were fitted to), and a column ``p(…)`` a class.
    scores : pandas DataFrame
        A row for each method and score: method, score, value, low, high, animals, p. Of "macro-F1" and "balanced
        accuracy": the mean over test animals, and the 95 % bootstrap interval over them (of the shuffled labels: 95 %
        of the shuffles). ``p``, of the embedding, is the share of shuffles that reach the value.
    provenance : dict
        Checkpoint, parameters, versions. Plain values for JSON.
    """

    target: str
    protocol: str
    classes: np.ndarray
    predictions: object
    scores: object
    provenance: dict

    @property
    def methods(self) -> list[str]:
        """Those with predictions: the embedding first."""
        return list(dict.fromkeys(self.predictions["method"]))

    def to_frame(self):
        """The scores as a pandas DataFrame, a row a method, a column a score."""
        return self.scores.pivot(index="method", columns="score", values="value").reindex(
            list(dict.fromkeys(self.scores["method"]))
        )

    def per_class(self, method: str = EMBEDDING):
        """Precision, recall, f1 and support of each class over all test units, as a pandas DataFrame."""
        import pandas as pd

        rows = self.of(method)
        table = scores.per_class(rows["truth"].to_numpy(), rows["label"].to_numpy(), self.classes)
        return pd.DataFrame.from_dict(table, orient="index")

    def confusion(self, method: str = EMBEDDING) -> np.ndarray:
        """Units of each class (row) that were given each label (column): int, shape (k, k)."""
        rows = self.of(method)
        return scores.confusion(rows["truth"].to_numpy(), rows["label"].to_numpy(), self.classes)

    def of(self, method: str):
        """The predictions of one method."""
        if method not in self.methods:
            raise InputError(f"no method {method!r}, only {', '.join(self.methods)}")
        return self.predictions[self.predictions["method"] == method]

    def plot(self):
        """The scores, the confusion and the calibration, as `plot_nuclr_evaluation` draws them."""
        from ..widgets import plot_nuclr_evaluation

        return plot_nuclr_evaluation(self)

    def save(self, folder, *, overwrite: bool = False) -> Path:
        """Write ``predictions.csv``, ``scores.csv``, ``per_class.csv`` and ``provenance.json`` into a folder.

        Raises
        ------
        InputError
            One of them exists, and `overwrite` is not set.
        """
        return write_folder(folder, self.writers(), overwrite=overwrite)

    def writers(self) -> dict[str, Callable[[Path], object]]:
        """What writes each file of `save`, by the file's name."""
        provenance = json.dumps(self.provenance, indent=1, ensure_ascii=False) + "\n"
        return {
            "predictions.csv": lambda path: for_csv(self.predictions).to_csv(path, index=False),
            "scores.csv": lambda path: for_csv(self.scores).to_csv(path, index=False),
            "per_class.csv": lambda path: for_csv(self.per_class()).to_csv(path, index_label="class"),
            "provenance.json": lambda path: path.write_text(provenance, encoding="utf-8"),
        }


def check_folder(folder, names, *, overwrite: bool) -> Path:
    """The folder, after making sure that files of these names can be written there; InputError where not."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file: name a folder")
    for name in names if folder.exists() else ():
        check_writable(folder / name, overwrite=overwrite)
    return folder


def write_folder(folder, writers: dict[str, Callable[[Path], object]], *, overwrite: bool) -> Path:
    """Write files into a folder: all are whole before the first takes its place, and the last comes last."""
    folder = check_folder(folder, writers, overwrite=overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as files:
        for name, write in reversed(writers.items()):
            write(files.enter_context(written_whole(folder / name, overwrite=overwrite)))
    return folder


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
    progress: bool = True,
) -> Evaluation:
    """Score a linear decoder of embeddings on units that it was not fitted to.

    Whatever is chosen (strength of the penalty, temperature, confidence to abstain below) is chosen on the units that
    are fitted to, across their animals.

    Parameters
    ----------
    embeddings, labels, animals
        As of `fit_decoder`; the labels name classes.
    protocol : {"leave-one-animal-out", "zero-shot", "within-animal"}
        As of `split_units`. A score within animals says little of new ones.
    target : str
        What the labels are.
    populations : list of Population, optional
        What was embedded, in the same order: gives the baselines (of spikes: rate, intervals and autocorrelogram; of
        traces: spectrum, autocorrelation and correlations with the population).
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
        for the true ones.
    seed : int, default: 0
        Of folds, shuffles and bootstrap.
    progress : bool, default: True

    Returns
    -------
    Evaluation

    Raises
    ------
    InputError
        Something does not fit; or an animal is on both sides of a split, and the protocol is not "within-animal".
    """
    fused = label_units(embeddings, labels, animals, features)
    labelled = fused.without_features()
    recordings = embeddings if isinstance(embeddings, list) else [embeddings]
    populations = [populations] if isinstance(populations, Population) else populations
    tables = _tables(labelled, recordings, populations, others)
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
    methods = {EMBEDDING: labelled} | ({FUSED: fused} if fused.columns else {})
    methods |= {name: labelled.with_table(rows, name) for name, rows in tables.items()}
    positions = None if positions is None else _positions(positions, recordings)
    parts, fits = [], {}
    with tqdm(total=len(methods) * len(splits) + shuffles, desc="evaluating", disable=not progress) as bar:
        for name, of in methods.items():
            for split in splits:
                fit = of.select(split.fit)
                classifier, held = fit_classifier(fit, balanced=balanced, seed=seed)
                if name == EMBEDDING:
                    fits[split.name] = classifier
                parts.append(_predicted(name, split, of.select(split.test), classifier, held))
                bar.update()
        null = []
        rng = np.random.default_rng([seed, 1])
        for _ in range(shuffles):
            shuffled = labelled.with_labels(scores.shuffled_within(labelled.labels, labelled.animals, rng))
            of = refitted_labels(shuffled, splits, fits, balanced)
            null.append([float(scores.of_animals(score, *of).mean()) for score in _AVERAGED.values()])
            bar.update()
    predictions = _together(parts, np.unique(labelled.labels), recordings)
    if positions is not None:
        if probes is None and populations is not None:
            probes = [population.group for population in populations]
        probes = None if probes is None else _per_recording("probes", probes, recordings)
        predictions = _with_pooled(predictions, recordings, positions, probes)
    provenance = {
        "target": target, "protocol": protocol, "checkpoint_sha256": list(labelled.tables),
        "features": list(fused.columns),
        "units": len(labelled), "animals": labelled.animal_names, "test_animals": list(test_animals),
        "splits": len(splits), "balanced": balanced, "shuffles": shuffles, "seed": seed,
        "versions": {name: version(name) for name in ("spikeinterface-nuclr", "scikit-learn", "numpy")},
    }  # fmt: skip
    table = _scores(predictions, np.array(null), seed)
    return Evaluation(target, protocol, np.unique(labelled.labels), predictions, table, provenance)


def _tables(labelled: Labelled, recordings: list, populations, others) -> dict[str, np.ndarray]:
    """Numbers of the labelled units by every other method."""
    given: dict[str, list] = {}
    if populations is not None:
        if len(populations) != len(recordings):
            raise InputError(f"populations: give one for each of the {len(recordings)} recordings")
        features = [baseline_features(population) for population in populations]
        if any(of.keys() != features[0].keys() for of in features):
            raise InputError("populations: some hold spikes and some traces: evaluate them apart")
        given = {name: _per_recording(name, [of[name] for of in features], recordings) for name in features[0]}
    for name, arrays in (others or {}).items():
        given[name] = _per_recording(name, arrays, recordings)
    return {
        name: np.stack([arrays[r][u] for r, u in zip(labelled.recordings, labelled.units, strict=True)]).astype(float)
        for name, arrays in given.items()
    }


def _positions(positions, recordings: list) -> list[np.ndarray]:
    """Places of every unit, a float array a recording."""
    positions = _per_recording("positions", positions, recordings)
    try:
        return [np.asarray(one, dtype=float) for one in positions]
    except ValueError:
        raise InputError("positions must be numbers, in µm") from None


def _per_recording(name: str, arrays, recordings: list) -> list:
    """One array a recording, with a row a unit; InputError where it is not."""
    arrays = list(arrays) if isinstance(arrays, list | tuple) else [arrays]
    if len(arrays) != len(recordings):
        raise InputError(f"{name}: give one array for each of the {len(recordings)} recordings")
    for number, (rows, recording) in enumerate(zip(arrays, recordings, strict=True)):
        units = len(by_each(recording)[0].unit_ids)
        if len(rows) != units:
            raise InputError(f"{name}: recording {number} has {len(rows)} rows for {units} units")
    return arrays


def _predicted(method: str, split: Split, test: Labelled, classifier: Classifier, held: HeldOut):
    """Rows of the predictions of one method on one split."""
    import pandas as pd

    probability, before = classifier.probability(test.tables), classifier.raw(test.tables)
    sure, right = held.predicted.max(axis=1), held.predicted.argmax(axis=1) == held.truth
    frame = {
        "method": method,
        "split": split.name,
        "animal": test.animals,
        "recording": test.recordings,
        "unit": test.units,
        "truth": test.labels,
        "label": classifier.classes[probability.argmax(axis=1)],
        "confidence": probability.max(axis=1),
        "confidence_before": before.max(axis=1),
    }
    frame |= {
        f"threshold_{round(100 * error)}": calibration.abstention_threshold(sure, right, error) for error in ERRORS
    }
    frame |= {_column(name): probability[:, k] for k, name in enumerate(classifier.classes)}
    return pd.DataFrame(frame)


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


def _with_pooled(predictions, recordings: list, positions, probes):
    """The predictions with those of the embedding pooled over neighbours on the same probe."""
    import pandas as pd

    rows = predictions[predictions["method"] == EMBEDDING].copy()
    columns = [column for column in rows.columns if column.startswith("p(")]
    probability = rows[columns].to_numpy(copy=True)
    # Within animals, a neighbour of another fold was read by a decoder that knew this unit's label.
    for (_, number), of in rows.reset_index(drop=True).groupby(["split", "recording"]).indices.items():
        units = rows["unit"].to_numpy()[of]
        probe = np.zeros(len(units)) if probes is None else np.asarray(probes[number])[units]
        probability[of] = pooled(probability[of], positions[number][units], probe)
    rows[columns] = probability
    rows["method"], rows["confidence"] = POOLED, probability.max(axis=1)
    rows["confidence_before"] = rows["confidence"]
    rows["label"] = [columns[k][2:-1] for k in probability.argmax(axis=1)]
    return pd.concat([predictions, rows], ignore_index=True)


def _scores(predictions, null: np.ndarray, seed: int):
    """The tidy table of scores."""
    import pandas as pd

    rows = []
    for method, of in predictions.groupby("method", sort=False):
        truth, said, animals = (of[name].to_numpy() for name in ("truth", "label", "animal"))
        for k, (name, score) in enumerate(_AVERAGED.items()):
            values = scores.of_animals(score, truth, said, animals)
            low, high = scores.interval(values, seed)
            # The null is the embedding's own. One more than was seen: with 20 shuffles, no p is below 1/21.
            own = method == EMBEDDING and len(null)
            p = (1 + (null[:, k] >= values.mean()).sum()) / (1 + len(null)) if own else np.nan
            rows.append((method, name, values.mean(), low, high, len(values), p))
        right = truth == said
        for name, value in _calibration_scores(of, right).items():
            # What was calibrated, before and by thresholds, is not what was pooled.
            if method == POOLED and name not in ("accuracy", "ECE"):
                continue
            rows.append((method, name, value, np.nan, np.nan, len(np.unique(animals)), np.nan))
    for k, name in enumerate(_AVERAGED if len(null) else ()):
        low, high = np.quantile(null[:, k], [0.025, 0.975])
        rows.append((SHUFFLED, name, null[:, k].mean(), low, high, predictions["animal"].nunique(), np.nan))
    return pd.DataFrame(rows, columns=["method", "score", "value", "low", "high", "animals", "p"])


def _calibration_scores(rows, right: np.ndarray) -> dict[str, float]:
    """Of all test units together: accuracy, calibration, and what abstaining gives."""
    found = {
        "accuracy": right.mean(),
        "ECE before": calibration.expected_calibration_error(rows["confidence_before"].to_numpy(), right),
        "ECE": calibration.expected_calibration_error(rows["confidence"].to_numpy(), right),
    }
    for error in ERRORS:
        kept = (rows["confidence"] >= rows[f"threshold_{round(100 * error)}"]).to_numpy()
        found[f"coverage at {error:.0%} error"] = kept.mean()
        found[f"error at {error:.0%} error"] = 1 - right[kept].mean() if kept.any() else np.nan
    return {name: float(value) for name, value in found.items()}


def _column(name: str) -> str:
    return f"p({name})"
