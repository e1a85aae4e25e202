"""Decoder: reads a property of each unit from its embedding, with probabilities, and says "unknown" where it must."""

import platform
import warnings
from dataclasses import dataclass, field
from importlib.metadata import version

import numpy as np

from ..errors import InputError, RecordingWarning
from ..identities import LOW_CONFIDENCE, NO_EMBEDDING, NOVEL, Identities
from ..provenance import Provenance
from . import storage
from .calibration import CONFIDENCE, Reference, abstention_threshold, fit_reference, name_of
from .labelled import FEATURES, Labelled, Recording, by_each, check_fit, embedded, facts_of, label_units, tables_of
from .labels import key_of
from .linear import Classifier, HeldOut, Readout, fit_classifier
from .parallel import on_one_thread

# Below this, a class's probabilities were learnt from a handful.
_FEW = 5


@dataclass(frozen=True, eq=False)
class Decoder(storage.Fitted):
    """Reads one property, such as "cell_type", from embeddings.

    Attributes
    ----------
    target : str
    classifier : Classifier
    references : dict of str to Reference
        Embeddings that it was fitted to, by the sha256 of their checkpoint.
    confidence, correct, clusters : arrays, shape (m,)
        Predictions on units left out while fitting: confidence of each (float32), whether it was right (bool), and a
        number of its animal (int64; one for all where no animal was left out). From these comes when to abstain.
    columns : tuple of str
        Other features that it needs, by name.
    animals : tuple of str
        That it was fitted to.
    card : dict
        What it was fitted to and how. Plain values for JSON.
    name : str
        Where it was loaded from.

    Examples
    --------
    >>> from spikeinterface_nuclr import Decoder, embed, simulate_population
    >>> decoder = Decoder.load("simulated-cell-type")  # bundled; it knows simulated neurons only
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

    @property
    def classes(self) -> np.ndarray:
        """str, shape (k,): in the order of the probabilities."""
        return self.classifier.classes

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """sha256 of the checkpoints whose embeddings it reads."""
        return tuple(self.references)

    def predict(self, embeddings: Recording, features=None, *, target_error: float = 0.1) -> Identities:
        """Identities of every unit of one recording.

        Parameters
        ----------
        embeddings : UnitEmbeddings, or tuple of UnitEmbeddings
            By the checkpoint that the decoder was fitted with; of the same units by each, where these were several.
        features : pandas DataFrame, optional
            Of a decoder that was fitted with other features: a row a unit, with the same columns.
        target_error : float, default: 0.1
            Largest share of wrong labels among the units that get one, in animals like those it was fitted to: above 0,
            at most 1. With 1 it abstains only from novel units and those without an embedding.

        Returns
        -------
        Identities
            The label is "unknown" for units without an embedding, whose probabilities are NaN; for novel units, further
            from the training embeddings than 99 % of neurons of unseen animals were; and for those of lower confidence
            than `target_error` asks for.

        Raises
        ------
        InputError
            The embeddings are of another checkpoint, the features do not fit, or `target_error` is out of its range.

        Warns
        -----
        RecordingWarning
            The animal is one that the decoder was fitted to.
        """
        if not 0 < target_error <= 1:
            raise InputError(f"target_error must lie in (0, 1], not {target_error!r}")
        tables = self._tables(embeddings, features)
        first = by_each(embeddings)[0]
        self._warn_of_known(first.provenance)
        known = embedded(tables)
        some = {name: rows[known] for name, rows in tables.items()}
        probability = np.full((len(known), len(self.classes)), np.nan, dtype=np.float32)
        probability[known] = self.classifier.probability(some)
        novelty = np.full(len(known), np.nan, dtype=np.float32)
        novelty[known] = self._novelty(some)
        confidence = probability.max(axis=1)
        threshold = self.threshold(target_error)
        best_label = np.where(known, self.classes[np.where(known, np.nan_to_num(probability).argmax(axis=1), 0)], "")
        limit = float(np.mean([reference.limit for reference in self.references.values()]))
        refused = [~known, ~(novelty <= limit), ~(confidence >= threshold)]
        return Identities(
            target=self.target,
            unit_ids=first.unit_ids,
            classes=self.classes,
            best_label=best_label,
            probability=probability,
            confidence=confidence,
            # The first that holds: the confidence of a novel unit means nothing.
            reason=np.select(refused, [NO_EMBEDDING, NOVEL, LOW_CONFIDENCE], ""),
            novelty=novelty,
            provenance={
                "decoder": self.name,
                "decoder_sha256": self.sha256,
                "checkpoint_sha256": list(self.checkpoints),
                "population_fingerprint": first.provenance.population_fingerprint or "",
                "target_error": target_error,
                # JSON knows no infinity.
                "threshold": threshold if np.isfinite(threshold) else "none is safe",
                "threshold_confidence": CONFIDENCE,
                "novelty_limit": limit,
                "features": list(self.columns),
                "calibrated_on": self.card.get("calibrated_on", ""),
                "versions": {"spikeinterface-nuclr": version("spikeinterface-nuclr"), "numpy": np.__version__}
                | {"python": platform.python_version()},
            },
        )

    def threshold(self, target_error: float) -> float:
        """The confidence below which it abstains, by `abstention_threshold`; infinite where none is safe enough."""
        return abstention_threshold(self.confidence, self.correct, target_error, self.clusters)

    def _tables(self, embeddings: Recording, features) -> dict[str, np.ndarray]:
        tables, columns = tables_of(embeddings, features)
        given = [sha for sha in tables if sha != FEATURES]
        for sha in given:
            if sha not in self.references:
                wanted = self.card.get("checkpoints", {})
                names = ", ".join(f"{wanted.get(own, '')} {own[:12]}".strip() for own in self.checkpoints)
                raise InputError(
                    f"{self.name or self.target}: reads embeddings of {names}, these are of {sha[:12]}: embed with the "
                    "same model, or fit another decoder"
                )
        if len(given) < len(self.references):
            raise InputError(
                f"{self.name or self.target}: averages {len(self.references)} checkpoints: give a tuple with the "
                "embeddings by each"
            )
        if self.columns and features is None:
            raise InputError(f"{self.name or self.target}: also reads features: give {', '.join(self.columns)}")
        missing = [column for column in self.columns if column not in columns]
        if missing:
            raise InputError(f"{self.name or self.target}: the features lack the column {missing[0]!r}")
        if self.columns:
            tables[FEATURES] = tables[FEATURES][:, [columns.index(column) for column in self.columns]]
        else:
            tables.pop(FEATURES, None)
        return tables

    def _novelty(self, tables: dict[str, np.ndarray]) -> np.ndarray:
        readouts = self.classifier.readouts
        return np.mean(
            [reference.novelty(readouts[sha].standardised(tables[sha])) for sha, reference in self.references.items()],
            axis=0,
        )

    def _warn_of_known(self, provenance: Provenance) -> None:
        animal = provenance.source.get("subject", "")
        if key_of(str(animal)) in map(key_of, self.animals):
            warnings.warn(
                f"{self.name or self.target} was fitted to animal {animal}: what it says of it is no test",
                RecordingWarning,
                stacklevel=3,
            )

    def _content(self) -> tuple[dict[str, np.ndarray], dict]:
        readouts = self.classifier.readouts
        arrays = {"held_out/confidence": self.confidence, "held_out/correct": self.correct.astype(np.uint8)}
        arrays["held_out/clusters"] = self.clusters.astype(np.float64)  # files hold no larger integers
        arrays |= {f"{name}/reference": reference.rows for name, reference in self.references.items()}
        return arrays | storage.readout_arrays(readouts), {
            "target": self.target,
            "classes": self.classes.tolist(),
            "temperatures": self.classifier.temperatures.tolist(),
            "strengths": {name: readout.strength for name, readout in readouts.items()},
            "novelty": {name: [reference.typical, reference.limit] for name, reference in self.references.items()},
            "columns": list(self.columns),
            "animals": list(self.animals),
        }

    @classmethod
    def _from_content(cls, arrays: dict[str, np.ndarray], facts: dict, card: dict, name: str) -> "Decoder":
        classes = np.array(storage.texts_of(facts["classes"], "classes"), dtype=str)
        readouts = storage.read_readouts(arrays, facts["strengths"], len(classes))
        references = {}
        for key, numbers in facts["novelty"].items():
            rows = storage.array_of(arrays, f"{key}/reference", np.float32, (None, len(readouts[key].mean)))
            typical, limit = (storage.positive_of(number, "novelty") for number in numbers)
            references[key] = Reference(rows, typical, limit)
        if len(classes) < 2 or readouts.keys() - {FEATURES} != references.keys():
            raise ValueError("its parts do not belong together")
        confidence = storage.array_of(arrays, "held_out/confidence", np.float32, (None,))
        correct = storage.array_of(arrays, "held_out/correct", np.uint8, confidence.shape).astype(bool)
        clusters = storage.array_of(arrays, "held_out/clusters", np.float64, confidence.shape).astype(np.int64)
        temperatures = np.array([storage.positive_of(number, "temperature") for number in facts["temperatures"]])
        if len(temperatures) != len(classes) or clusters.min() < 0 or clusters.max() >= len(clusters):
            raise ValueError("its parts do not belong together")
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
    balanced: bool = True,
    card: dict | None = None,
    seed: int = 0,
) -> Decoder:
    """Fit a decoder of classes to labelled units; `fit_regressor` is for numbers.

    Rows are standardised and read by multinomial logistic regression (as Arora et al. 2025). The strength of its
    penalty, temperatures that make its probabilities honest (Guo et al. 2017; none, where none do), the confidence
    below which it abstains and the scale of novelty are all learnt from animals left out of the fit, up to five parts
    of them.

    Parameters
    ----------
    embeddings : UnitEmbeddings, tuple of UnitEmbeddings, or list of these
        A recording or a list of recordings. A tuple holds embeddings of the same units by several checkpoints, whose
        probabilities are averaged.
    labels : array of shape (n_units,), or list of such arrays
        Of each recording: text, or whole numbers that are codes of a few classes (at most 50, of two units each).
        Units without a label are left out: None, NaN, and text that is empty or says, in any case, "nan", "none", "na",
        "n/a", "null", "unknown" or "unlabeled".
    animals : str or array of shape (n_units,), or list of these
        Of each recording. Default: the subject that it names.
    target : str
        What the labels are, such as "cell_type".
    features : pandas DataFrame or list of DataFrames, optional
        Other numbers of each unit, such as SpikeInterface's metrics. A read-out of their own is averaged with that of
        the embeddings.
    balanced : bool, default: True
        Classes count alike, however many units they have.
    card : dict, optional
        What to say of it, beside what the fit itself knows, which it cannot overrule.
    seed : int, default: 0

    Returns
    -------
    Decoder

    Raises
    ------
    InputError
        Names the recording or class that cannot be used, or the labels are numbers on a scale.

    Warns
    -----
    RecordingWarning
        A class has few units or was seen in one animal, or there is one animal only; names of two animals differ by
        case or blanks only; or units are labelled "NA".

    Examples
    --------
    >>> from spikeinterface_nuclr import embed, fit_decoder, simulate_population
    >>> populations = [simulate_population(20, 30.0, seed=seed) for seed in range(3)]
    >>> embeddings = [embed(population, progress=False) for population in populations]
    >>> labels = [population.properties["cell_type"] for population in populations]
    >>> decoder = fit_decoder(embeddings, labels, ["a", "b", "c"], target="cell_type")
    >>> path = decoder.save("cell_type.safetensors")
    >>> len(decoder.animals)
    3
    """
    check_fit(target, card, seed)
    labelled = label_units(embeddings, labels, animals, features)
    _warn_of_classes(labelled)
    classifier, held = on_one_thread(fit_classifier, labelled, balanced=balanced, seed=seed)
    confidence = held.predicted.max(axis=1)
    facts = {"balanced": balanced, "calibration": name_of(classifier.temperatures)}
    return Decoder(
        target,
        classifier,
        references_of(labelled, classifier.readouts, held, seed),
        confidence.astype(np.float32),
        held.predicted.argmax(axis=1) == held.truth,
        held.clusters,
        labelled.columns,
        tuple(labelled.animal_names),
        {**(card or {}), **facts_of(labelled, embeddings, held.of, seed), **facts},
    )


def references_of(labelled: Labelled, readouts: dict[str, Readout], held: HeldOut, seed: int) -> dict[str, Reference]:
    """What novelty is measured from, in each checkpoint's embeddings."""
    return {
        name: fit_reference(readouts[name].standardised(rows[held.units]), held.folds, seed)
        for name, rows in labelled.tables.items()
        if name != FEATURES
    }


def _warn_of_classes(labelled: Labelled) -> None:
    def warn(text: str) -> None:
        warnings.warn(text, RecordingWarning, stacklevel=4)

    if len(labelled.animal_names) == 1:
        warn(
            f"one animal only ({labelled.animal_names[0]}): how sure the decoder may be of others is not known, its "
            "probabilities are of this animal's units, and it gives labels with target_error=1 only"
        )
    for name in np.unique(labelled.labels).tolist():
        of = labelled.labels == name
        if of.sum() < _FEW:
            warn(f"class {name!r} has {of.sum()} units: too few to learn from")
        elif len(labelled.animal_names) > 1 and len(np.unique(labelled.animals[of])) == 1:
            warn(f"class {name!r} was seen in one animal, {labelled.animals[of][0]}: it may be told by the animal")
