"""Predictions from embeddings: a class of each unit (Identities), such as its cell type, or a number (Estimates)."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from .errors import InputError

# Label of units for which the decoder abstains, and the reasons for abstaining.
UNKNOWN = "unknown"
LOW_CONFIDENCE, NOVEL, NO_EMBEDDING = REASONS = ("low confidence", "novel", "no embedding")


class _Rows:
    """What is predicted for each unit of a recording."""

    # Attributes with one row per unit.
    ROWS: ClassVar[tuple[str, ...]]
    OPTIONAL_ROWS: ClassVar[tuple[str, ...]]

    def select(self, units):
        """The rows at these positions (or where a mask is True)."""
        units = np.asarray(units)
        index = np.arange(len(self.unit_ids))[units if units.size else units.astype(np.int64)]
        return replace(self, **{name: getattr(self, name)[index] for name in (*self.ROWS, *self.optional_rows())})

    def optional_rows(self) -> list[str]:
        """Names of the optional attributes that it has."""
        return [name for name in self.OPTIONAL_ROWS if getattr(self, name) is not None]

    def _check_shapes(self, shapes: dict[str, tuple[int, ...]]) -> None:
        for name, shape in shapes.items():
            values = getattr(self, name)
            if values is not None and np.shape(values) != shape:
                raise InputError(f"{self.target}: {name} has shape {np.shape(values)}, not {shape}")

    def _table(self, columns: dict[str, np.ndarray]):
        import pandas as pd

        return pd.DataFrame(columns, index=pd.Index(self.unit_ids, name="unit_id"))


@dataclass(frozen=True, eq=False)
class Identities(_Rows):
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

    ROWS = ("unit_ids", "best_label", "probability", "confidence", "reason")
    OPTIONAL_ROWS = ("novelty", "agreement")

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
        one_each = ("best_label", "confidence", "reason", *self.OPTIONAL_ROWS)
        self._check_shapes({"probability": (n, k), **dict.fromkeys(one_each, (n,))})
        unknown = set(np.asarray(self.reason).tolist()) - {"", *REASONS}
        if unknown:
            raise InputError(
                f"{self.target}: a reason to abstain is one of {', '.join(REASONS)}, or empty, not "
                f"{min(unknown, key=str)!r}"
            )

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
        names = ("label", "best_label", "reason", "confidence", *self.optional_rows())
        columns = {name: getattr(self, name) for name in names}
        return self._table(columns | {f"p({name})": self.probability[:, k] for k, name in enumerate(self.classes)})

    def __repr__(self):
        n, labelled = len(self.unit_ids), int((~self.abstained).sum())
        return f"Identities({self.target!r}, {n} units, {labelled} labelled, {len(self.classes)} classes)"


def label_of(best_label: np.ndarray, reason: np.ndarray) -> np.ndarray:
    """The best labels (n,), "unknown" wherever there is a reason (n,) to abstain."""
    return np.where(np.asarray(reason) != "", UNKNOWN, best_label)


@dataclass(frozen=True, eq=False)
class Estimates(_Rows):
    """A predicted number of each unit, such as its depth, with a prediction interval.

    Attributes
    ----------
    target : str
        The predicted property, such as "depth_um".
    unit_ids : array of int or str, shape (n_units,)
    value, low, high : float32, shape (n_units,)
        Predicted value and limits of its prediction interval, in the unit of the training values; NaN without an
        embedding.
    coverage : float
        Fraction of units whose interval contains the true value, in animals like the training animals.
    provenance : dict
        Regressor, its sha256, versions. JSON-serialisable.
    spread : float32, shape (n_units,), optional
        Standard deviation of the values predicted by the regressor's members (of models trained with several seeds);
        None for a regressor with one member.

    Raises
    ------
    InputError
        A ValueError that names the array with a wrong shape, or a coverage that is not between 0 and 1.

    Examples
    --------
    >>> from spikeinterface_nuclr import embed, fit_regressor, simulate_population
    >>> populations = [simulate_population(20, 30.0, seed=seed) for seed in range(3)]
    >>> embeddings = [embed(population, progress=False) for population in populations]
    >>> depths = [population.properties["depth"] for population in populations]
    >>> regressor = fit_regressor(embeddings[:2], depths[:2], target="depth_um")
    >>> estimates = regressor.predict(embeddings[2], coverage=0.8)
    >>> bool((estimates.low <= estimates.value).all())
    True
    >>> estimates.to_dataframe().columns.tolist()
    ['value', 'low', 'high', 'spread']
    """

    ROWS = ("unit_ids", "value", "low", "high")
    OPTIONAL_ROWS = ("spread",)

    target: str
    unit_ids: np.ndarray
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    coverage: float
    provenance: dict
    spread: np.ndarray | None = None

    def __post_init__(self):
        self._check_shapes(dict.fromkeys(("value", "low", "high", "spread"), (len(self.unit_ids),)))
        check_coverage(self.coverage)

    @property
    def estimated(self) -> np.ndarray:
        """bool, shape (n_units,): whether the unit has a value."""
        return np.isfinite(self.value)

    def to_dataframe(self):
        """A pandas DataFrame with one row per unit. The columns are value, low, high, and spread if known."""
        return self._table({name: getattr(self, name) for name in ("value", "low", "high", *self.optional_rows())})

    def __repr__(self):
        n, known = len(self.unit_ids), int(self.estimated.sum())
        return f"Estimates({self.target!r}, {n} units, {known} estimated, {self.coverage:.0%} intervals)"


Prediction = Identities | Estimates


def check_target_error(target_error: float) -> None:
    """InputError unless a target error lies above 0, and at 1 or below."""
    if not 0 < target_error <= 1:
        raise InputError(f"target_error must lie in (0, 1], not {target_error!r}")


def check_coverage(coverage: float) -> None:
    """InputError unless a coverage lies between 0 and 1."""
    if isinstance(coverage, bool) or not isinstance(coverage, float | int | np.floating) or not 0 < coverage < 1:
        raise InputError(f"coverage must lie between 0 and 1, not {coverage!r}")


def join_predictions(parts: list[Prediction]) -> Prediction:
    """Concatenate the predictions of one decoder for parts of a population."""
    first = parts[0]
    optional = [name for name in first.OPTIONAL_ROWS if all(name in part.optional_rows() for part in parts)]
    rows = {name: np.concatenate([getattr(part, name) for part in parts]) for name in (*first.ROWS, *optional)}
    return replace(first, **(dict.fromkeys(first.OPTIONAL_ROWS) | rows))
