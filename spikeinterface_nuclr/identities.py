"""Identities: what a decoder reads from embeddings about one property of each unit."""

from dataclasses import dataclass

import numpy as np

from .errors import InputError


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
        The most probable class, whether or not the decoder abstains.
    probability : float32, shape (n_units, k)
        In the order of `classes`.
    confidence : float32, shape (n_units,)
        Probability of the most probable class.
    abstained : bool, shape (n_units,)
        Whether the decoder says "unknown".
    provenance : dict
        Decoder, its sha256, versions. Plain values for JSON.
    novelty : float32, shape (n_units,), optional
        Distance of the embedding from those that the decoder was trained on.

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
