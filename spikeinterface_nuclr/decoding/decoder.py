"""Decoder: predicts a label for each unit from its embedding, with calibrated probabilities and abstention."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..errors import InputError
from ..predictions import LOW_CONFIDENCE, NO_EMBEDDING, NOVEL, Identities, check_target_error
from ..unit_embeddings import UnitEmbeddings
from . import storage
from .calibration import CONFIDENCE, abstention_threshold
from .classifier import Classifier
from .labelled import FEATURES, Recording, by_each, embedded, tables_of
from .neighbours import pooled
from .novelty import Reference
from .predictor import Predictor, expanded
from .readout import Readout
from .reference_units import ReferenceUnits


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

    @cached_property
    def reference_units(self) -> ReferenceUnits | None:
        """Who the neurons of its references are; None for a decoder that was saved by an earlier version."""
        return ReferenceUnits.from_card(self.card, len(next(iter(self.references.values())).rows))

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
                **self.settings_of(target_error=target_error, positions=positions, probes=probes),
                # JSON has no infinity.
                threshold=threshold if np.isfinite(threshold) else "none is safe",
                threshold_confidence=CONFIDENCE,
                novelty_limit=limit,
            ),
        )

    def settings_of(self, *, target_error: float = 0.1, positions=None, probes=None) -> dict:
        """Entries of a prediction's provenance that decide, beside the embeddings, how it comes out."""
        settings = {"decoder_sha256": self.sha256, "target_error": target_error}
        if self.neighbours and positions is not None:
            names = "\0".join(map(str, [] if probes is None else probes))
            content = np.ascontiguousarray(positions, dtype=float).tobytes() + names.encode()
            settings["positions_sha256"] = hashlib.sha256(content).hexdigest()
        return settings

    def nearest_labelled(self, embeddings: Recording, *, count: int = 5):
        """The labelled neurons of the fit that each unit resembles most, as an answer to why it got its label.

        Nearest in the embedding, among the at most 2,000 that the decoder keeps. Labels are read from all dimensions of
        the embedding by weights that were learnt, so a label may differ from those of the nearest neurons.

        Parameters
        ----------
        embeddings : UnitEmbeddings, or tuple of UnitEmbeddings
            As for `predict`.
        count : int, default: 5
            Neurons for each unit.

        Returns
        -------
        pandas DataFrame
            One row for each unit with an embedding and neuron, nearest first, with unit ids as index. Columns: rank,
            label, animal, recording, neuron (its unit id) and distance, in units of how far a typical neuron of a new
            animal lies from its nearest ones.

        Raises
        ------
        InputError
            As in `predict`; or the decoder was saved by an earlier version, which did not keep who its neurons are.

        Examples
        --------
        >>> from spikeinterface_nuclr import Decoder, embed, simulate_population
        >>> embeddings = embed(simulate_population(10, 30.0, seed=500), progress=False)
        >>> nearest = Decoder.load("simulated-cell-type").nearest_labelled(embeddings, count=2)
        >>> nearest.columns.tolist()
        ['rank', 'label', 'animal', 'recording', 'neuron', 'distance']
        """
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
            raise InputError(f"count must be a number of neurons, not {count!r}")
        units = self.reference_units
        if units is None:
            raise InputError(f"{self.name or self.target}: does not say who its neurons are: fit it again")
        tables, _ = tables_of(embeddings)
        self._check_members(tables)
        mask = embedded(tables)
        distances = [
            reference.distances(self.readouts[name].standardised(tables[name][mask]))
            for name, reference in self.references.items()
        ]
        return units.nearest(np.mean(distances, axis=0), by_each(embeddings)[0].unit_ids[mask], count)

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
        decoder = cls(
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
        _ = decoder.reference_units  # checked now, not when it is asked for
        return decoder

    def __repr__(self):
        return f"Decoder({self.target!r}, classes {', '.join(self.classes[:6])}, {len(self.animals)} animals)"
