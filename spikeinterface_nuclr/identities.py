"""Identities: what a decoder reads from embeddings about one property of each unit."""

from dataclasses import dataclass, replace

import numpy as np

from .errors import InputError

# What a decoder that abstains says.
UNKNOWN = "unknown"


@dataclass(frozen=True, eq=False)
class Identities:
    """A predicted property of each unit, with the probability of every class.

    Attributes
    ----------
    target : str
        The property, such as "cell_type".
    unit_ids : array of int or str, shape (n_units,)
    classes : array of str, shape (k,)
    label : array of str, shape (n_units,)
        The most probable class, whether or not the decoder abstains; "" without an embedding.
    probability : float32, shape (n_units, k)
        In the order of `classes`.
    confidence : float32, shape (n_units,)
        Probability of the most probable class.
    abstained : bool, shape (n_units,)
        Whether the decoder says "unknown".
    provenance : dict
        Decoder, its sha256, versions. Plain values for JSON.
    novelty : float32, shape (n_units,), optional
        Distance of the embedding from those that the decoder was fitted to: 1 for a typical neuron of a new animal.

    Raises
    ------
    InputError
        A ValueError naming the array whose shape does not fit.
    """

    target: str
    unit_ids: np.ndarray
    classes: np.ndarray
    label: np.ndarray
    probability: np.ndarray
    confidence: np.ndarray
    abstained: np.ndarray
    provenance: dict
    novelty: np.ndarray | None = None

    def __post_init__(self):
        n, k = len(self.unit_ids), len(self.classes)
        shapes = {"probability": (n, k), **dict.fromkeys(("label", "confidence", "abstained", "novelty"), (n,))}
        for name, shape in shapes.items():
            values = getattr(self, name)
            if values is not None and np.shape(values) != shape:
                raise InputError(f"{self.target}: {name} has shape {np.shape(values)}, not {shape}")

    def select(self, units) -> "Identities":
        """The rows at these positions (or where a mask is True)."""
        index = np.arange(len(self.unit_ids))[np.asarray(units)]
        rows = ("unit_ids", "label", "probability", "confidence", "abstained")
        known = {name: getattr(self, name)[index] for name in rows}
        return replace(self, **known, novelty=None if self.novelty is None else self.novelty[index])

    @property
    def said(self) -> np.ndarray:
        """str, shape (n_units,): the labels, "unknown" where the decoder abstains."""
        return np.where(self.abstained, UNKNOWN, self.label)

    def to_dataframe(self):
        """A pandas DataFrame, one row a unit: label, confidence, abstained, novelty, and ``p(…)`` of each class."""
        import pandas as pd

        columns = {"label": self.label, "confidence": self.confidence, "abstained": self.abstained}
        if self.novelty is not None:
            columns["novelty"] = self.novelty
        columns |= {f"p({name})": self.probability[:, k] for k, name in enumerate(self.classes)}
        return pd.DataFrame(columns, index=pd.Index(self.unit_ids, name="unit_id"))

    def __repr__(self):
        kept = int((~self.abstained).sum())
        return f"Identities({self.target!r}, {len(self.unit_ids)} units, {kept} labelled, {len(self.classes)} classes)"


def join_identities(parts: list[Identities]) -> Identities:
    """What one decoder says of several parts of a population, one after another."""
    names = ("unit_ids", "label", "probability", "confidence", "abstained")
    known = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    novelty = [part.novelty for part in parts]
    return replace(parts[0], **known, novelty=None if any(n is None for n in novelty) else np.concatenate(novelty))
