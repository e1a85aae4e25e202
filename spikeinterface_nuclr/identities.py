"""Identities: a property of each unit, such as its cell type, predicted from embeddings."""

from dataclasses import dataclass, replace

import numpy as np

from .errors import InputError

# Label of units for which the decoder abstains, and the reasons for abstaining.
UNKNOWN = "unknown"
LOW_CONFIDENCE, NOVEL, NO_EMBEDDING = REASONS = ("low confidence", "novel", "no embedding")
# Attributes with one row per unit.
_ROWS = ("unit_ids", "best_label", "probability", "confidence", "reason")
OPTIONAL_ROWS = ("novelty", "agreement")


@dataclass(frozen=True, eq=False)
class Identities:
    """A predicted property of each unit, with the probability of every class.

    Attributes
    ----------
    target : str
        The property, such as "cell_type".
    unit_ids : array of int or str, shape (n_units,)
    classes : array of str, shape (k,)
    best_label : array of str, shape (n_units,)
        The most probable class, whether or not the decoder abstains; "" without an embedding.
    probability : float32, shape (n_units, k)
        In the order of `classes`.
    confidence : float32, shape (n_units,)
        Probability of the most probable class.
    reason : array of str, shape (n_units,)
        Why the decoder abstains: "no embedding", "novel" (the confidence of such a unit is meaningless), or "low
        confidence"; "" where it does not abstain.
    provenance : dict
        Decoder, its sha256, versions. JSON-serialisable.
    novelty : float32, shape (n_units,), optional
        Distance of the embedding from the decoder's training embeddings: 1 for a typical neuron of a new animal.
    agreement : float32, shape (n_units,), optional
        Fraction of the decoder's members (of models trained with several seeds) whose most probable class is
        `best_label`; None for a decoder with one member.

    Raises
    ------
    InputError
        A ValueError that names the array with a wrong shape, or a reason that is not one of the three.

    Examples
    --------
    >>> import numpy as np
    >>> from spikeinterface_nuclr import Identities
    >>> probability = np.array([[0.9, 0.1], [0.4, 0.6]], dtype=np.float32)
    >>> identities = Identities(
    ...     "cell_type", np.array([1, 2]), np.array(["PV", "SST"]), np.array(["PV", "SST"]), probability,
    ...     probability.max(axis=1), np.array(["", "low confidence"]), provenance={},
    ... )
    >>> identities.label.tolist()
    ['PV', 'unknown']
    """

    target: str
    unit_ids: np.ndarray
    classes: np.ndarray
    best_label: np.ndarray
    probability: np.ndarray
    confidence: np.ndarray
    reason: np.ndarray
    provenance: dict
    novelty: np.ndarray | None = None
    agreement: np.ndarray | None = None

    def __post_init__(self):
        n, k = len(self.unit_ids), len(self.classes)
        shapes = {"probability": (n, k), **dict.fromkeys(("best_label", "confidence", "reason", *OPTIONAL_ROWS), (n,))}
        for name, shape in shapes.items():
            values = getattr(self, name)
            if values is not None and np.shape(values) != shape:
                raise InputError(f"{self.target}: {name} has shape {np.shape(values)}, not {shape}")
        unknown = set(np.asarray(self.reason).tolist()) - {"", *REASONS}
        if unknown:
            raise InputError(
                f"{self.target}: a reason to abstain is one of {', '.join(REASONS)}, or empty, not "
                f"{min(unknown, key=str)!r}"
            )

    def select(self, units) -> "Identities":
        """The rows at these positions (or where a mask is True)."""
        index = np.arange(len(self.unit_ids))[np.asarray(units)]
        return replace(self, **{name: getattr(self, name)[index] for name in (*_ROWS, *self.optional_rows())})

    def optional_rows(self) -> list[str]:
        """Names of the optional attributes that it has."""
        return [name for name in OPTIONAL_ROWS if getattr(self, name) is not None]

    @property
    def label(self) -> np.ndarray:
        """str, shape (n_units,): the best label, "unknown" where the decoder abstains."""
        return label_of(self.best_label, self.reason)

    @property
    def abstained(self) -> np.ndarray:
        """bool, shape (n_units,): whether there is a reason to abstain."""
        return np.asarray(self.reason) != ""

    def to_dataframe(self):
        """A pandas DataFrame with one row per unit.

        The columns are label, best_label, reason, confidence, novelty and agreement if known, and a probability
        ``p(…)`` for each class.
        """
        import pandas as pd

        names = ("label", "best_label", "reason", "confidence", *self.optional_rows())
        columns = {name: getattr(self, name) for name in names}
        columns |= {f"p({name})": self.probability[:, k] for k, name in enumerate(self.classes)}
        return pd.DataFrame(columns, index=pd.Index(self.unit_ids, name="unit_id"))

    def __repr__(self):
        n, labelled = len(self.unit_ids), int((~self.abstained).sum())
        return f"Identities({self.target!r}, {n} units, {labelled} labelled, {len(self.classes)} classes)"


def label_of(best_label: np.ndarray, reason: np.ndarray) -> np.ndarray:
    """The best labels (n,), "unknown" wherever there is a reason (n,) to abstain."""
    return np.where(np.asarray(reason) != "", UNKNOWN, best_label)


def join_identities(parts: list[Identities]) -> Identities:
    """Concatenate the predictions of one decoder for parts of a population."""
    optional = [name for name in OPTIONAL_ROWS if all(name in part.optional_rows() for part in parts)]
    rows = {name: np.concatenate([getattr(part, name) for part in parts]) for name in (*_ROWS, *optional)}
    return replace(parts[0], **(dict.fromkeys(OPTIONAL_ROWS) | rows))
