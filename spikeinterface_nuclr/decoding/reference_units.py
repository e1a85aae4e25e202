"""Reference units: who the labelled neurons are whose embeddings a decoder keeps."""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from .labelled import Labelled, by_each

# Entry of a decoder's card. It does not change what the decoder predicts, so it is no part of its identity.
REFERENCE_UNITS = "reference_units"


@dataclass(frozen=True, eq=False)
class ReferenceUnits:
    """The units of a decoder's references (`novelty.Reference`), in order.

    Attributes
    ----------
    labels, animals, recordings, unit_ids : str arrays, shape (r,)
        Recordings have the names of their sessions or files; "" where neither is known.
    """

    labels: np.ndarray
    animals: np.ndarray
    recordings: np.ndarray
    unit_ids: np.ndarray

    @classmethod
    def of(cls, labelled: Labelled, embeddings) -> "ReferenceUnits":
        """These labelled units, of recordings as `fit_decoder` takes them."""
        sources = [by_each(one)[0] for one in (embeddings if isinstance(embeddings, list) else [embeddings])]
        names = np.array([_name_of(source.provenance.source) for source in sources])
        ids = [
            str(sources[number].unit_ids[unit])
            for number, unit in zip(labelled.recordings, labelled.units, strict=True)
        ]
        return cls(labelled.labels.astype(str), labelled.animals.astype(str), names[labelled.recordings], np.array(ids))

    def to_card(self) -> dict[str, list[str]]:
        """Plain values for JSON."""
        return {field.name: getattr(self, field.name).tolist() for field in fields(self)}

    @classmethod
    def from_card(cls, card: dict, count: int) -> "ReferenceUnits | None":
        """Inverse of `to_card`, for a card that has it; None for a decoder of an earlier version.

        Raises
        ------
        ValueError
            They are not `count` units.
        """
        stored = card.get(REFERENCE_UNITS)
        if stored is None:
            return None
        columns = [stored[field.name] for field in fields(cls)]
        for column in columns:
            if not isinstance(column, list) or len(column) != count or not all(isinstance(v, str) for v in column):
                raise ValueError("the reference units of its card do not match")
        return cls(*(np.array(column, dtype=str) for column in columns))

    def nearest(self, distances: np.ndarray, unit_ids: np.ndarray, count: int):
        """The nearest of them to each unit, as the DataFrame of `Decoder.nearest_labelled`.

        Parameters
        ----------
        distances : float array, shape (n, r)
        unit_ids : array, shape (n,)
        count : int
        """
        import pandas as pd

        order = np.argsort(distances, axis=1, kind="stable")[:, :count]
        each = order.shape[1]
        columns = {
            "rank": np.tile(np.arange(1, each + 1), len(order)),
            "label": self.labels[order].ravel(),
            "animal": self.animals[order].ravel(),
            "recording": self.recordings[order].ravel(),
            "neuron": self.unit_ids[order].ravel(),
            "distance": np.take_along_axis(distances, order, axis=1).ravel().astype(np.float32),
        }
        return pd.DataFrame(columns, index=pd.Index(np.repeat(unit_ids, each), name="unit_id"))


def _name_of(source: dict) -> str:
    """The session or the file of a recording."""
    return str(source.get("session") or Path(str(source.get("source") or "")).name)
