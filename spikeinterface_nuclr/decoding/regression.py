"""Regressor: reads a value on a scale, such as depth, from embeddings, with an interval."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import CheckpointError, InputError
from . import storage
from .labelled import FEATURES, Labelled, Recording, by_each, embedded, facts_of, tables_of
from .linear import STRENGTHS, Readout, averaged, fit_ridge, left_out
from .splits import folds_of

_FEWEST = 10


@dataclass(frozen=True, eq=False)
class Estimates:
    """A predicted value of each unit.

    Attributes
    ----------
    target : str
    unit_ids : array, shape (n_units,)
    value, low, high : float32, shape (n_units,)
        And the limits between which the true value lies as often as was asked for; NaN without an embedding.
    provenance : dict
    """

    target: str
    unit_ids: np.ndarray
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    provenance: dict


@dataclass(frozen=True, eq=False)
class Regressor(storage.Saved):
    """Reads one number from embeddings by ridge regression.

    Attributes
    ----------
    target : str
    readouts : dict of str to Readout
        By the sha256 of the checkpoint, or "features".
    errors : float32, shape (m,)
        Distances from the truth on units left out while fitting, from which intervals are made.
    columns, animals, card, name
        As of `Decoder`.
    """

    target: str
    readouts: dict[str, Readout]
    errors: np.ndarray
    columns: tuple[str, ...]
    animals: tuple[str, ...]
    card: dict = field(default_factory=dict)
    name: str = ""

    def predict(self, embeddings: Recording, features=None, *, coverage: float = 0.9) -> Estimates:
        """Values of every unit of one recording, with intervals that hold the truth in a share `coverage` of units.

        The half-width is that quantile of the errors on animals left out (split conformal prediction, Vovk et al.
        2005): it holds for animals like these.

        Raises
        ------
        InputError
            The embeddings are of another checkpoint, or the features do not fit.
        """
        if not 0 < coverage < 1:
            raise InputError(f"coverage must lie between 0 and 1, not {coverage!r}")
        tables, columns = tables_of(embeddings, features)
        if columns != self.columns or tables.keys() != self.readouts.keys():
            raise InputError(
                f"{self.name or self.target}: reads {_inputs(self.readouts, self.columns)}, given were "
                f"{_inputs(tables, columns)}"
            )
        first = by_each(embeddings)[0]
        known = embedded(tables)
        value = np.full(len(known), np.nan, dtype=np.float32)
        value[known] = averaged({name: read(tables[name][known])[:, 0] for name, read in self.readouts.items()})
        half = self.half_width(coverage)
        provenance = {
            "decoder": self.name,
            "decoder_sha256": self.sha256,
            "coverage": coverage,
            "population_fingerprint": first.provenance.get("population_fingerprint", ""),
            "calibrated_on": self.card.get("calibrated_on", ""),
        }
        return Estimates(self.target, first.unit_ids, value, value - half, value + half, provenance)

    def half_width(self, coverage: float) -> float:
        """Of the interval; infinite where too few errors are known for such a coverage."""
        rank = int(np.ceil((len(self.errors) + 1) * coverage)) - 1
        return float(np.sort(self.errors)[rank]) if rank < len(self.errors) else float("inf")

    def _content(self) -> tuple[dict[str, np.ndarray], dict]:
        return {"held_out/errors": self.errors} | storage.readout_arrays(self.readouts), {
            "target": self.target,
            "strengths": {name: readout.strength for name, readout in self.readouts.items()},
            "columns": list(self.columns),
            "animals": list(self.animals),
            "card": self.card,
        }

    @classmethod
    def load(cls, name: str | Path) -> "Regressor":
        """Read a regressor by its path, bundled name or ``hf://`` name; CheckpointError where it cannot be had."""
        name = str(name)
        arrays, facts = storage.read(storage.find(name), name)
        try:
            readouts = storage.read_readouts(arrays, facts["strengths"])
            errors = arrays["held_out/errors"]
            columns, animals = tuple(facts["columns"]), tuple(facts["animals"])
            return cls(facts["target"], readouts, errors, columns, animals, dict(facts["card"]), name)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{name}: not a regressor, or a damaged one ({error})") from None

    def __repr__(self):
        return f"Regressor({self.target!r}, {len(self.animals)} animals)"


def fit_regressor(labelled: Labelled, embeddings, *, target: str, card: dict | None, seed: int) -> Regressor:
    """Fit ridge regression to each table; its strength and the errors come from animals left out."""
    if len(labelled) < _FEWEST:
        raise InputError(f"a regression needs {_FEWEST} labelled units or more, not {len(labelled)}")
    folds, of = folds_of(labelled.animals, labelled.labels, seed)
    values, held, readouts = labelled.labels, {}, {}
    for name, rows in labelled.tables.items():
        tried = {
            strength: left_out(rows, values, folds, partial(fit_ridge, strength=strength))[:, 0]
            for strength in STRENGTHS
        }
        best = min(tried, key=lambda strength: float(((tried[strength] - values) ** 2).mean()))
        held[name], readouts[name] = tried[best], fit_ridge(rows, values, best)
    predicted = averaged(held)
    facts = facts_of(labelled, embeddings, of, seed)
    residual = float(((predicted - values) ** 2).sum() / max(((values - values.mean()) ** 2).sum(), 1e-12))
    return Regressor(
        target,
        readouts,
        np.abs(predicted - values).astype(np.float32),
        labelled.columns,
        tuple(labelled.animal_names),
        {**(card or {}), **facts, "r2_left_out": round(1 - residual, 4)},
    )


def _inputs(tables, columns) -> str:
    return ", ".join([*(name[:12] for name in tables if name != FEATURES), *columns])
