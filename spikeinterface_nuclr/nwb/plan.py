"""Plan: what is to be written into a copy of an NWB file."""

from dataclasses import dataclass

import numpy as np

from ..identities import Identities
from ..unit_embeddings import UnitEmbeddings


@dataclass(frozen=True)
class Part:
    """One table of embeddings, and what was predicted from it. Imaging planes that are one population get one each.

    Attributes
    ----------
    plane : str or None
        Object id of the PlaneSegmentation whose rows the neurons are; None for the units table.
    embeddings : UnitEmbeddings
    rows : int64, shape (n_units,)
        Row of each unit in the table of neurons.
    name : str
        Of the table of embeddings.
    kept : bool
        Whether the file holds that table already, and it stays.
    identities : dict of str to Identities
        By the names of their tables.
    """

    plane: str | None
    embeddings: UnitEmbeddings
    rows: np.ndarray
    name: str
    kept: bool
    identities: dict[str, Identities]


@dataclass(frozen=True)
class Plan:
    """What is to be done to the copy.

    Attributes
    ----------
    parts : list of Part
    unwanted : list of str
        Paths that the copy is made without.
    units_fingerprint : str
        Of all neurons of the file.
    columns : dict of str to array, shape (rows of the units table,)
        For the units table.
    side_columns : dict of str to array, or None
        What a side file says of each unit beside its spikes.
    side_paths : list of str, or None
        Of a side file of imaged neurons: their tables and traces. Both None for a copy of the whole file.
    size : int
        Bytes that the copy will need.
    """

    parts: list[Part]
    unwanted: list[str]
    units_fingerprint: str
    columns: dict[str, np.ndarray]
    side_columns: dict[str, np.ndarray] | None
    side_paths: list[str] | None
    size: int
