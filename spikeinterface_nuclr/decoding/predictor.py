"""Predictor: what decoders and regressors share when they read the embeddings of one recording."""

import platform
import warnings
from importlib.metadata import version

import numpy as np

from ..errors import InputError, RecordingWarning
from ..unit_embeddings import UnitEmbeddings
from . import storage
from .labelled import FEATURES, Recording, by_each, checkpoint_of, tables_of
from .labels import key_of
from .readout import Readout


class Predictor(storage.Fitted):
    """Base class of decoders and regressors.

    Attributes
    ----------
    target : str
        The predicted property.
    readouts : dict of str to Readout
        By the sha256 of the checkpoint, followed by ``#1``, ``#2``, … for members of an ensemble, or "features".
    columns : tuple of str
        Names of other features that it needs.
    animals : tuple of str
        Training animals.
    card : dict
        Description of the training data and settings, as plain values for JSON.
    name : str
        Name or path that it was loaded from.
    """

    target: str
    readouts: dict[str, Readout]
    columns: tuple[str, ...]
    animals: tuple[str, ...]
    card: dict
    name: str

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """sha256 of each checkpoint whose embeddings it needs."""
        return tuple(dict.fromkeys(map(checkpoint_of, self.members)))

    @property
    def members(self) -> list[str]:
        """Tables of embeddings that it reads: one for each checkpoint, or member of an ensemble."""
        return [table for table in self.readouts if table != FEATURES]

    def _tables(self, embeddings: Recording, features) -> dict[str, np.ndarray]:
        """The tables that it reads, of all units of a recording; InputError if it needs others."""
        tables, columns = tables_of(embeddings, features)
        self._check_members(tables)
        name = self.name or self.target
        if self.columns and features is None:
            raise InputError(f"{name}: also reads features: give {', '.join(self.columns)}")
        missing = [column for column in self.columns if column not in columns]
        if missing:
            raise InputError(f"{name}: the features lack the column {missing[0]!r}")
        if self.columns:
            tables[FEATURES] = tables[FEATURES][:, [columns.index(column) for column in self.columns]]
        else:
            tables.pop(FEATURES, None)
        return tables

    def _check_members(self, tables: dict[str, np.ndarray]) -> None:
        """InputError unless tables hold the embeddings that it reads."""
        name = self.name or self.target
        checkpoints = {checkpoint_of(table) for table in tables if table != FEATURES}
        for sha256 in checkpoints:
            if sha256 not in self.checkpoints:
                expected = self.card.get("checkpoints", {})
                names = ", ".join(f"{expected.get(sha, '')} {sha[:12]}".strip() for sha in self.checkpoints)
                raise InputError(
                    f"{name}: reads embeddings of {names}, these are of {sha256[:12]}: embed with the same model, or "
                    f"fit another {self.WHAT}"
                )
        if len(checkpoints) < len(self.checkpoints):
            raise InputError(
                f"{name}: averages {len(self.checkpoints)} checkpoints: give a tuple with the embeddings of each"
            )
        if not set(self.members) <= tables.keys():
            raise InputError(
                f"{name}: reads the members of an ensemble, which these embeddings do not name: embed again"
            )
        for table in self.members:
            width, expected = tables[table].shape[1], len(self.readouts[table].mean)
            if width != expected:
                raise InputError(f"{name}: reads embeddings of {expected} dimensions, these have {width}: embed again")

    def _warn_of_training_animal(self, first: UnitEmbeddings) -> None:
        animal = first.provenance.subject
        if key_of(animal) in map(key_of, self.animals):
            warnings.warn(
                f"{self.name or self.target} was fitted to animal {animal}: its predictions are not a test",
                RecordingWarning,
                stacklevel=3,
            )

    def _provenance(self, embeddings: Recording, **settings) -> dict:
        """Where predictions come from, as plain values for JSON."""
        return {
            "decoder": self.name,
            "checkpoint_sha256": list(self.checkpoints),
            "population_fingerprint": by_each(embeddings)[0].provenance.population_fingerprint or "",
            **settings,
            "features": list(self.columns),
            "readout": self.card.get("readout", "linear"),
            "calibration": self.card.get("calibration", ""),
            "calibrated_on": self.card.get("calibrated_on", ""),
            "versions": {"spikeinterface-nuclr": version("spikeinterface-nuclr"), "numpy": np.__version__}
            | {"python": platform.python_version()},
        }


def expanded(mask: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values of the units in a mask as float32 rows of all units; NaN for the others."""
    rows = np.full((len(mask), *values.shape[1:]), np.nan, dtype=np.float32)
    rows[mask] = values
    return rows
