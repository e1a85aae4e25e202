"""Regressor: predicts a number, such as depth, from embeddings, with a prediction interval."""

import warnings
from dataclasses import dataclass, field

import numpy as np

from ..errors import InputError, RecordingWarning
from ..predictions import Estimates, check_coverage
from . import storage
from .classifier import averaged
from .labelled import Labelled, Recording, by_each, check_fit, embedded, facts_of, label_units
from .labels import as_values
from .predictor import Predictor, expanded
from .readout import Basis, Readout, check_readout, choose_of_values
from .splits import folds_of

_MIN_UNITS = 10


@dataclass(frozen=True, eq=False)
class Regressor(Predictor):
    """Predicts one number from embeddings by ridge regression.

    Attributes
    ----------
    target : str
        The predicted property.
    readouts : dict of str to Readout
        By the sha256 of the checkpoint, or "features".
    errors : float32, shape (m,)
        Absolute errors on units left out during the fit, which determine the intervals.
    columns, animals, card, name
        As in `Decoder`.

    Examples
    --------
    >>> from spikeinterface_nuclr import Regressor, embed, fit_regressor, simulate_population
    >>> populations = [simulate_population(20, 30.0, seed=seed) for seed in range(3)]
    >>> embeddings = [embed(population, progress=False) for population in populations]
    >>> depths = [population.properties["depth"] for population in populations]
    >>> path = fit_regressor(embeddings[:2], depths[:2], target="depth_um").save("depth.safetensors")
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

    def _example_output(self, example) -> dict[str, np.ndarray]:
        return {"value": averaged(self._outputs(self._example_tables(example)))}

    def predict(self, embeddings: Recording, features=None, *, coverage: float = 0.9) -> Estimates:
        """Predict the value of every unit of one recording, with intervals.

        Parameters
        ----------
        embeddings, features
            As in `Decoder.predict`.
        coverage : float, default: 0.9
            Fraction of units whose interval contains the true value, in animals like the training animals. The
            half-width is this quantile of the errors on left-out animals (split conformal prediction, Vovk et al.
            2005).

        Returns
        -------
        Estimates

        Raises
        ------
        InputError
            The embeddings are of another checkpoint, or the features do not match.
        """
        check_coverage(coverage)
        tables = self._tables(embeddings, features)
        first = by_each(embeddings)[0]
        self._warn_of_training_animal(first)
        mask = embedded(tables)
        outputs = self._outputs({name: rows[mask] for name, rows in tables.items()})
        value, half = expanded(mask, averaged(outputs)), np.float32(self.half_width(coverage))
        spread = None
        if len(self.members) > 1:
            spread = expanded(mask, np.std([outputs[name] for name in self.members], axis=0))
        provenance = self._provenance(embeddings, **self.settings_of(coverage=coverage))
        return Estimates(self.target, first.unit_ids, value, value - half, value + half, coverage, provenance, spread)

    def settings_of(self, *, coverage: float = 0.9) -> dict:
        """Entries of a prediction's provenance that decide, beside the embeddings, how it comes out."""
        return {"decoder_sha256": self.sha256, "coverage": coverage}

    def _outputs(self, tables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: readout(tables[name])[:, 0] for name, readout in self.readouts.items()}

    def half_width(self, coverage: float) -> float:
        """Half-width of the intervals of this coverage (`half_width`)."""
        return half_width(self.errors, coverage)

    def _content(self) -> tuple[dict[str, np.ndarray], dict]:
        return {"held_out/errors": self.errors} | storage.readout_arrays(self.readouts), {
            "target": self.target,
            **storage.readout_facts(self.readouts),
            "columns": list(self.columns),
            "animals": list(self.animals),
        }

    @classmethod
    def _from_content(cls, arrays: dict[str, np.ndarray], facts: dict, card: dict, name: str) -> "Regressor":
        return cls(
            storage.text_of(facts["target"], "target"),
            storage.read_readouts(arrays, facts, 1),
            storage.array_of(arrays, "held_out/errors", np.float32, (None,)),
            storage.texts_of(facts["columns"], "columns"),
            storage.texts_of(facts["animals"], "animals"),
            storage.card_of(card),
            name,
        )

    def __repr__(self):
        return f"Regressor({self.target!r}, {len(self.animals)} animals)"


def fit_regressor(
    embeddings, values, animals=None, *, target: str, features=None, readout: str = "linear",
    card: dict | None = None, seed: int = 0,
) -> Regressor:  # fmt: skip
    """Fit a regressor of a number, such as depth, to units with known values; for classes, use `fit_decoder`.

    Embeddings are standardised and mapped to the value by ridge regression. All settings and the width of the intervals
    are chosen by cross-validation over animals, in up to five folds.

    Parameters
    ----------
    embeddings, animals, features, readout, card, seed
        As in `fit_decoder`.
    values : array of shape (n_units,), or list of such arrays
        Values of each recording: numbers, or text that reads as a number. Units without a value (NaN, None, or text
        that `fit_decoder` treats as no label) are left out.
    target : str
        Name of the value, such as "depth_um".

    Returns
    -------
    Regressor

    Raises
    ------
    InputError
        Arrays of a recording do not match its units, or a value is not a number (the message names them); or there are
        fewer than ten units with a value.

    Warns
    -----
    RecordingWarning
        There is a single animal, or names of two animals differ only by case or blanks.

    Examples
    --------
    >>> from spikeinterface_nuclr import embed, fit_regressor, simulate_population
    >>> populations = [simulate_population(20, 30.0, seed=seed) for seed in range(3)]
    >>> embeddings = [embed(population, progress=False) for population in populations]
    >>> depths = [population.properties["depth"] for population in populations]
    >>> fit_regressor(embeddings, depths, target="depth_um").target
    'depth_um'
    """
    from sklearn.metrics import r2_score

    check_fit(target, card, seed)
    check_readout(readout)
    labelled = label_units(embeddings, values, animals, features, read=as_values)
    check_enough(len(labelled))
    if len(labelled.animal_names) == 1:
        warnings.warn(
            f"one animal only ({labelled.animal_names[0]}): intervals are those of its own units, the error in other "
            "animals is unknown",
            RecordingWarning,
            stacklevel=2,
        )
    readouts, predicted, left_out_kind = fit_readouts(labelled, readout, seed)
    values, facts = labelled.labels, facts_of(labelled, embeddings, left_out_kind, seed)
    return Regressor(
        target,
        readouts,
        np.abs(predicted - values).astype(np.float32),
        labelled.columns,
        tuple(labelled.animal_names),
        {**(card or {}), **facts, "readout": readout, "r2_left_out": round(r2_score(values, predicted), 4)},
    )


def check_enough(count: int, where: str = "") -> None:
    """InputError if there are too few units with a value to fit to."""
    if count < _MIN_UNITS:
        raise InputError(f"{where}a regression needs {_MIN_UNITS} labelled units or more, not {count}")


def fit_readouts(labelled: Labelled, readout: str, seed: int) -> tuple[dict[str, Readout], np.ndarray, str]:
    """Ridge regressions of the values on each table, the mean of what they predict for left-out units, and their kind.

    The regularisation strength, and for a kernel its width, are those with the smallest error on left-out animals.
    """
    folds, left_out_kind = folds_of(labelled.animals, labelled.labels, seed)
    values, held_out, readouts = labelled.labels, {}, {}
    for name, rows in labelled.tables.items():
        strength, width, held_out[name] = choose_of_values(rows, values, folds, readout)
        readouts[name] = Basis(rows, width).values(values, strength)
    return readouts, averaged(held_out), left_out_kind


def half_width(errors: np.ndarray, coverage: float) -> float:
    """Half-width of intervals, from absolute errors (m,) on left-out units; infinite if there are too few for it."""
    # The rank of split conformal prediction, which numpy's quantiles do not offer.
    rank = int(np.ceil((len(errors) + 1) * coverage)) - 1
    return float(np.sort(errors)[rank]) if rank < len(errors) else float("inf")
