"""Decoder: predicts a label for each unit from its embedding, with calibrated probabilities and abstention."""

import warnings
from dataclasses import dataclass, field

import numpy as np

from ..errors import InputError, RecordingWarning
from ..predictions import LOW_CONFIDENCE, NO_EMBEDDING, NOVEL, Identities, check_target_error
from ..unit_embeddings import UnitEmbeddings
from . import storage
from .calibration import CONFIDENCE, abstention_threshold, name_of
from .classifier import Classifier, HeldOut, fit_classifier
from .labelled import (
    FEATURES,
    Labelled,
    Recording,
    by_each,
    check_fit,
    embedded,
    facts_of,
    label_units,
    per_recording,
)
from .neighbours import pooled
from .novelty import Reference, fit_reference
from .parallel import on_one_thread
from .predictor import Predictor, expanded
from .readout import Readout, check_readout

# Classes with fewer units get a warning.
_FEW = 5


@dataclass(frozen=True, eq=False)
class Decoder(Predictor):
    """Predicts one label, such as "cell_type", from embeddings.

    Attributes
    ----------
    target : str
        The predicted property.
    classifier : Classifier
    references : dict of str to Reference
        Training embeddings for the novelty, by the sha256 of their checkpoint; for an ensemble, one for each member.
    confidence, correct, clusters : arrays, shape (m,)
        Predictions on units left out during the fit, which determine the abstention threshold: confidence (float32),
        whether the label was correct (bool), and number of the animal (int64; the same for all units if no animal was
        left out).
    columns : tuple of str
        Names of other features that it needs.
    animals : tuple of str
        Training animals.
    card : dict
        Description of the training data and settings, as plain values for JSON.
    name : str
        Name or path that it was loaded from.
    neighbours : bool
        Whether probabilities are averaged over neighbouring units on the probe.

    Examples
    --------
    >>> from spikeinterface_nuclr import Decoder, embed, simulate_population
    >>> decoder = Decoder.load("simulated-cell-type")  # bundled; for simulated neurons only
    >>> identities = decoder.predict(embed(simulate_population(10, 30.0, seed=500), progress=False))
    >>> identities.classes.tolist()
    ['bursting', 'fast', 'regular']
    """

    KIND, WHAT = "nuclr_decoder", "decoder"

    target: str
    classifier: Classifier
    references: dict[str, Reference]
    confidence: np.ndarray
    correct: np.ndarray
    clusters: np.ndarray
    columns: tuple[str, ...]
    animals: tuple[str, ...]
    card: dict = field(default_factory=dict)
    name: str = ""
    neighbours: bool = False

    @property
    def classes(self) -> np.ndarray:
        """str, shape (k,): in the order of the probabilities."""
        return self.classifier.classes

    @property
    def readouts(self) -> dict[str, Readout]:
        """Read-outs of its tables, by name."""
        return self.classifier.readouts

    def _example_output(self, example) -> dict[str, np.ndarray]:
        tables = self._example_tables(example)
        return {"probability": self.classifier.probability(tables), "novelty": self._novelty(tables)}

    def predict(
        self, embeddings: Recording, features=None, *, target_error: float = 0.1, positions=None, probes=None
    ) -> Identities:
        """Predict the label of every unit of one recording.

        Parameters
        ----------
        embeddings : UnitEmbeddings, or tuple of UnitEmbeddings
            Embeddings of the checkpoint that the decoder was fitted with; a tuple of embeddings of the same units if it
            was fitted with several checkpoints.
        features : pandas DataFrame, optional
            For a decoder fitted with other features: one row per unit, with the same columns.
        target_error : float, default: 0.1
            Largest fraction of wrong labels among those given, in animals like the training animals; above 0, at
            most 1. With 1, the decoder abstains only from novel units and those without an embedding.
        positions, probes : arrays, optional
            For a decoder that was fitted with positions: those of the units in µm, (n_units,) or (n_units, d), and the
            probe of each unit (default: one probe). Probabilities are averaged over neighbours.

        Returns
        -------
        Identities
            The label is "unknown" for units without an embedding, whose probabilities are NaN; for novel units, which
            are further from the training embeddings than 99 % of units of left-out animals; and for units whose
            confidence is below the threshold for `target_error`.

        Raises
        ------
        InputError
            The embeddings are of another checkpoint, the features do not match, or `target_error` is out of range.

        Warns
        -----
        RecordingWarning
            The recording is of a training animal.
        """
        check_target_error(target_error)
        tables = self._tables(embeddings, features)
        first = by_each(embeddings)[0]
        self._warn_of_training_animal(first)
        mask = embedded(tables)
        embedded_rows = {name: rows[mask] for name, rows in tables.items()}
        probability = expanded(mask, self.classifier.probability(embedded_rows))
        novelty = expanded(mask, self._novelty(embedded_rows))
        if self.neighbours:
            probability = pooled(probability, *self._places(positions, probes, first)).astype(np.float32)
        elif positions is not None:
            raise InputError(f"{self.name or self.target}: was fitted without positions: leave them out")
        several = len(self.members) > 1
        agreement = expanded(mask, self.classifier.agreement(embedded_rows)) if several else None
        confidence = probability.max(axis=1)
        threshold = self.threshold(target_error)
        best_label = np.where(mask, self.classes[np.where(mask, np.nan_to_num(probability).argmax(axis=1), 0)], "")
        limit = float(np.mean([reference.limit for reference in self.references.values()]))
        abstains = [~mask, ~(novelty <= limit), ~(confidence >= threshold)]
        return Identities(
            target=self.target,
            unit_ids=first.unit_ids,
            classes=self.classes,
            best_label=best_label,
            probability=probability,
            confidence=confidence,
            # The first reason that applies: the confidence of a novel unit is meaningless.
            reason=np.select(abstains, [NO_EMBEDDING, NOVEL, LOW_CONFIDENCE], ""),
            novelty=novelty,
            agreement=agreement,
            provenance=self._provenance(
                embeddings,
                target_error=target_error,
                # JSON has no infinity.
                threshold=threshold if np.isfinite(threshold) else "none is safe",
                threshold_confidence=CONFIDENCE,
                novelty_limit=limit,
            ),
        )

    def threshold(self, target_error: float) -> float:
        """Confidence below which the decoder abstains (`abstention_threshold`); infinite if no threshold is safe."""
        return abstention_threshold(self.confidence, self.correct, target_error, self.clusters)

    def _places(self, positions, probes, first: UnitEmbeddings) -> tuple[np.ndarray, np.ndarray]:
        """Position and probe of each unit; InputError unless there is one for each."""
        count = len(first.unit_ids)
        if positions is None:
            raise InputError(
                f"{self.name or self.target}: averages over neighbouring units: give positions=, in µm along the probe"
            )
        probes = np.zeros(count) if probes is None else np.asarray(probes)
        try:
            positions = np.asarray(positions, dtype=float)
        except (TypeError, ValueError):
            raise InputError("positions must be numbers, in µm") from None
        if positions.ndim not in (1, 2) or len(positions) != count or probes.shape != (count,):
            raise InputError(f"positions {positions.shape} and probes {probes.shape} do not match {count} units")
        return positions, probes

    def _novelty(self, tables: dict[str, np.ndarray]) -> np.ndarray:
        return np.mean(
            [
                reference.novelty(self.readouts[name].standardised(tables[name]))
                for name, reference in self.references.items()
            ],
            axis=0,
        )

    def _content(self) -> tuple[dict[str, np.ndarray], dict]:
        arrays = {"held_out/confidence": self.confidence, "held_out/correct": self.correct.astype(np.uint8)}
        arrays["held_out/clusters"] = self.clusters.astype(np.float64)  # the file format has no larger integers
        arrays |= {f"{name}/reference": reference.rows for name, reference in self.references.items()}
        return arrays | storage.readout_arrays(self.readouts), {
            "target": self.target,
            "classes": self.classes.tolist(),
            "temperatures": self.classifier.temperatures.tolist(),
            **storage.readout_facts(self.readouts),
            "novelty": {name: [reference.typical, reference.limit] for name, reference in self.references.items()},
            "columns": list(self.columns),
            "animals": list(self.animals),
            **({"neighbours": True} if self.neighbours else {}),
        }

    @classmethod
    def _from_content(cls, arrays: dict[str, np.ndarray], facts: dict, card: dict, name: str) -> "Decoder":
        classes = np.array(storage.texts_of(facts["classes"], "classes"), dtype=str)
        readouts = storage.read_readouts(arrays, facts, len(classes))
        references = {}
        for key, numbers in facts["novelty"].items():
            rows = storage.array_of(arrays, f"{key}/reference", np.float32, (None, len(readouts[key].mean)))
            typical, limit = (storage.positive_of(number, "novelty") for number in numbers)
            references[key] = Reference(rows, typical, limit)
        if len(classes) < 2 or readouts.keys() - {FEATURES} != references.keys():
            raise ValueError("its parts do not match")
        confidence = storage.array_of(arrays, "held_out/confidence", np.float32, (None,))
        correct = storage.array_of(arrays, "held_out/correct", np.uint8, confidence.shape).astype(bool)
        clusters = storage.array_of(arrays, "held_out/clusters", np.float64, confidence.shape).astype(np.int64)
        temperatures = np.array([storage.positive_of(number, "temperature") for number in facts["temperatures"]])
        if len(temperatures) != len(classes) or clusters.min() < 0 or clusters.max() >= len(clusters):
            raise ValueError("its parts do not match")
        return cls(
            storage.text_of(facts["target"], "target"),
            Classifier(classes, readouts, temperatures),
            references,
            confidence,
            correct,
            clusters,
            storage.texts_of(facts["columns"], "columns"),
            storage.texts_of(facts["animals"], "animals"),
            storage.card_of(card),
            name,
            facts.get("neighbours") is True,
        )

    def __repr__(self):
        return f"Decoder({self.target!r}, classes {', '.join(self.classes[:6])}, {len(self.animals)} animals)"


def fit_decoder(
    embeddings,
    labels,
    animals=None,
    *,
    target: str,
    features=None,
    positions=None,
    probes=None,
    readout: str = "linear",
    balanced: bool = True,
    card: dict | None = None,
    seed: int = 0,
) -> Decoder:
    """Fit a decoder of classes to labelled units; for numbers, use `fit_regressor`.

    Embeddings are standardised and classified by multinomial logistic regression (as in Arora et al. 2025), of the
    embeddings themselves or of a kernel of them. Probabilities are calibrated by temperature scaling (Guo et al. 2017)
    if that helps. The regularisation strength, the width of the kernel, the temperatures, the abstention threshold and
    the scale of novelty are chosen by cross-validation over animals, in up to five folds.

    Parameters
    ----------
    embeddings : UnitEmbeddings, tuple of UnitEmbeddings, or list of these
        One recording or a list of recordings. A tuple contains embeddings of the same units by several checkpoints,
        whose probabilities are averaged.
    labels : array of shape (n_units,), or list of such arrays
        Labels of each recording: text, or integer codes of up to 50 classes (with at least two units per class on
        average). Units without a label are left out: None, NaN, and text that is empty or reads, in upper or lower
        case, "nan", "none", "na", "n/a", "null", "unknown" or "unlabeled".
    animals : str or array of shape (n_units,), or list of these
        Animal of each recording, or of each unit. Default: the subject in the recording's metadata.
    target : str
        Name of the label, such as "cell_type".
    features : pandas DataFrame or list of DataFrames, optional
        Other features of each unit, such as SpikeInterface's metrics. They get a classifier of their own, whose
        probabilities are averaged with those of the embeddings.
    positions, probes : list of arrays, optional
        Positions of the units of each recording in µm, (n_units,) or (n_units, d), and their probes (default: one
        probe). The decoder then averages the probabilities of each unit and its neighbours, the five nearest units
        within 60 µm on the probe, which suits brain regions; thresholds are chosen for these averages. `predict` needs
        positions too.
    readout : {"linear", "kernel"}
        "kernel", Gaussian functions at some training units, also finds classes that no linear map separates. The
        linear read-out shows what an embedding represents explicitly, and needs fewer labels.
    balanced : bool, default: True
        Weight classes equally, however many units they have.
    card : dict, optional
        Description to store in the decoder's card. It cannot replace the entries that the fit adds.
    seed : int, default: 0

    Returns
    -------
    Decoder

    Raises
    ------
    InputError
        A recording or class cannot be used (the message names it), or the labels are continuous numbers.

    Warns
    -----
    RecordingWarning
        There is a single animal, or a class has few units or occurs in a single animal; names of two animals differ
        only by case or blanks; or units are labelled "NA".

    Examples
    --------
    >>> from spikeinterface_nuclr import embed, fit_decoder, simulate_population
    >>> populations = [simulate_population(20, 30.0, seed=seed) for seed in range(3)]
    >>> embeddings = [embed(population, progress=False) for population in populations]
    >>> labels = [population.properties["cell_type"] for population in populations]
    >>> decoder = fit_decoder(embeddings, labels, target="cell_type")
    >>> path = decoder.save("cell_type.safetensors")
    >>> len(decoder.animals)
    3
    """
    check_fit(target, card, seed)
    check_readout(readout)
    labelled = label_units(embeddings, labels, animals, features)
    _warn_of_classes(labelled)
    classifier, held_out = on_one_thread(fit_classifier, labelled, readout=readout, balanced=balanced, seed=seed)
    predicted = held_out.predicted
    if positions is not None:
        recordings = embeddings if isinstance(embeddings, list) else [embeddings]
        predicted = _pooled_left_out(predicted, labelled.select(held_out.units), recordings, positions, probes)
    confidence = predicted.max(axis=1)
    facts = {"readout": readout, "balanced": balanced, "calibration": name_of(classifier.temperatures)}
    return Decoder(
        target,
        classifier,
        _fit_references(labelled, classifier.readouts, held_out, seed),
        confidence.astype(np.float32),
        predicted.argmax(axis=1) == held_out.truth,
        held_out.clusters,
        labelled.columns,
        tuple(labelled.animal_names),
        {**(card or {}), **facts_of(labelled, embeddings, held_out.left_out, seed), **facts},
        neighbours=positions is not None,
    )


def _pooled_left_out(predicted: np.ndarray, units: Labelled, recordings: list, positions, probes) -> np.ndarray:
    """Predictions on left-out units (n, k), averaged over neighbours among the labelled units of their recording."""
    positions = per_recording("positions", positions, recordings)
    probes = None if probes is None else per_recording("probes", probes, recordings)
    averaged = predicted.copy()
    for number in np.unique(units.recordings):
        rows = np.flatnonzero(units.recordings == number)
        at = units.units[rows]
        probe = np.zeros(len(rows)) if probes is None else np.asarray(probes[number])[at]
        try:
            position = np.asarray(positions[number], dtype=float)[at]
        except (TypeError, ValueError):
            raise InputError("positions must be numbers, in µm") from None
        averaged[rows] = pooled(predicted[rows], position, probe)
    return averaged


def _fit_references(
    labelled: Labelled, readouts: dict[str, Readout], held_out: HeldOut, seed: int
) -> dict[str, Reference]:
    """The reference for novelty in the embeddings of each checkpoint."""
    return {
        name: fit_reference(readouts[name].standardised(rows[held_out.units]), held_out.folds, seed)
        for name, rows in labelled.tables.items()
        if name != FEATURES
    }


def _warn_of_classes(labelled: Labelled) -> None:
    def warn(text: str) -> None:
        warnings.warn(text, RecordingWarning, stacklevel=4)

    if len(labelled.animal_names) == 1:
        warn(
            f"one animal only ({labelled.animal_names[0]}): probabilities are calibrated on its own units, the error "
            "in other animals is unknown, and the decoder gives labels only with target_error=1"
        )
    for name in np.unique(labelled.labels).tolist():
        units = labelled.labels == name
        if units.sum() < _FEW:
            warn(f"class {name!r} has {units.sum()} units: too few to learn from")
        elif len(labelled.animal_names) > 1 and len(np.unique(labelled.animals[units])) == 1:
            warn(
                f"class {name!r} was seen in one animal, {labelled.animals[units][0]}: the decoder may recognise the "
                "animal instead of the class"
            )
