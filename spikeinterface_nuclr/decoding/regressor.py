"""Regressor: reads a value on a scale, such as depth, from embeddings, with an interval."""

from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ..errors import InputError
from . import storage
from .labelled import FEATURES, Recording, by_each, check_fit, embedded, facts_of, label_units, tables_of
from .labels import as_values
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

    Examples
    --------
    >>> from spikeinterface_nuclr import embed, fit_regressor, simulate_population
    >>> populations = [simulate_population(20, 30.0, seed=seed) for seed in range(3)]
    >>> embeddings = [embed(population, progress=False) for population in populations]
    >>> depths = [population.properties["depth"] for population in populations]
    >>> regressor = fit_regressor(embeddings[:2], depths[:2], ["a", "b"], target="depth_um")
    >>> estimates = regressor.predict(embeddings[2], coverage=0.8)
    >>> bool((estimates.low <= estimates.value).all())
    True
    """

    target: str
    unit_ids: np.ndarray
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    provenance: dict


@dataclass(frozen=True, eq=False)
class Regressor(storage.Fitted):
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

    Examples
    --------
    >>> from spikeinterface_nuclr import Regressor, embed, fit_regressor, simulate_population
    >>> populations = [simulate_population(20, 30.0, seed=seed) for seed in range(3)]
    >>> embeddings = [embed(population, progress=False) for population in populations]
    >>> depths = [population.properties["depth"] for population in populations]
    >>> path = fit_regressor(embeddings[:2], depths[:2], ["a", "b"], target="depth_um").save("depth.safetensors")
    >>> Regressor.load(path).predict(embeddings[2]).value.shape
    (20,)
    """

    KIND, WHAT = "nuclr_regressor", "regressor"

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
            "population_fingerprint": first.provenance.population_fingerprint or "",
            "calibrated_on": self.card.get("calibrated_on", ""),
        }
        return Estimates(self.target, first.unit_ids, value, value - half, value + half, provenance)

    def half_width(self, coverage: float) -> float:
        """Of the interval; infinite where too few errors are known for such a coverage."""
        # By hand: numpy's quantiles are never infinite.
        rank = int(np.ceil((len(self.errors) + 1) * coverage)) - 1
        return float(np.sort(self.errors)[rank]) if rank < len(self.errors) else float("inf")

    def _content(self) -> tuple[dict[str, np.ndarray], dict]:
        return {"held_out/errors": self.errors} | storage.readout_arrays(self.readouts), {
            "target": self.target,
            "strengths": {name: readout.strength for name, readout in self.readouts.items()},
            "columns": list(self.columns),
            "animals": list(self.animals),
        }

    @classmethod
    def _from_content(cls, arrays: dict[str, np.ndarray], facts: dict, card: dict, name: str) -> "Regressor":
        return cls(
            storage.text_of(facts["target"], "target"),
            storage.read_readouts(arrays, facts["strengths"], 1),
            storage.array_of(arrays, "held_out/errors", np.float32, (None,)),
            storage.texts_of(facts["columns"], "columns"),
            storage.texts_of(facts["animals"], "animals"),
            storage.card_of(card),
            name,
        )

    def __repr__(self):
        return f"Regressor({self.target!r}, {len(self.animals)} animals)"


def fit_regressor(
    embeddings, values, animals=None, *, target: str, features=None, card: dict | None = None, seed: int = 0
) -> Regressor:
    """Fit a regressor of a number, such as depth, to units whose value is known.

    Rows are standardised and read by ridge regression. The strength of its penalty and the width of its intervals come
    from animals left out of the fit, up to five parts of them.

    Parameters
    ----------
    embeddings, animals, features, card, seed
        As of `fit_decoder`.
    values : array of shape (n_units,), or list of such arrays
        Of each recording: numbers, or text that reads as one. Units without a value (NaN, None, or what `fit_decoder`
        takes for no label) are left out.
    target : str
        What the values are, such as "depth_um".

    Returns
    -------
    Regressor

    Raises
    ------
    InputError
        Names the recording whose arrays do not fit, or the value that is no number; or there are too few.

    Examples
    --------
    >>> from spikeinterface_nuclr import embed, fit_regressor, simulate_population
    >>> populations = [simulate_population(20, 30.0, seed=seed) for seed in range(3)]
    >>> embeddings = [embed(population, progress=False) for population in populations]
    >>> depths = [population.properties["depth"] for population in populations]
    >>> fit_regressor(embeddings, depths, ["a", "b", "c"], target="depth_um").target
    'depth_um'
    """
    from sklearn.metrics import mean_squared_error, r2_score

    check_fit(target, card, seed)
    labelled = label_units(embeddings, values, animals, features, read=as_values)
    if len(labelled) < _FEWEST:
        raise InputError(f"a regression needs {_FEWEST} labelled units or more, not {len(labelled)}")
    folds, of = folds_of(labelled.animals, labelled.labels, seed)
    values, held, readouts = labelled.labels, {}, {}
    for name, rows in labelled.tables.items():
        tried = {
            strength: left_out(rows, values, folds, partial(fit_ridge, strength=strength))[:, 0]
            for strength in STRENGTHS
        }
        best = min(tried, key=lambda strength: mean_squared_error(values, tried[strength]))
        held[name], readouts[name] = tried[best], fit_ridge(rows, values, best)
    predicted = averaged(held)
    facts = facts_of(labelled, embeddings, of, seed)
    return Regressor(
        target,
        readouts,
        np.abs(predicted - values).astype(np.float32),
        labelled.columns,
        tuple(labelled.animal_names),
        {**(card or {}), **facts, "r2_left_out": round(r2_score(values, predicted), 4)},
    )


def _inputs(tables, columns) -> str:
    return ", ".join([*(name[:12] for name in tables if name != FEATURES), *columns])
