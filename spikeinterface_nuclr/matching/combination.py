"""Other evidence, such as waveforms or locations, combined with the activity.

Which values of a feature speak for the same neuron is learnt from the recordings to be matched, by expectation
maximisation: the activity says, with a probability, which pairs are the same; a logistic model learns from this how the
features of such pairs differ from those of others; both together say better which pairs are the same; and so on.
Features and activity are taken to err independently.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from ..errors import InputError
from .calibration import capped, logit
from .evidence import RecordingEvidence

# Pairs that the activity gives no chance have this probability, so that features can still speak for them.
FLOOR = 1e-4
_STEPS = 15
# Of each two recordings, pairs without a chance that are kept for learning.
_OTHERS = 20_000


Feature = list[np.ndarray] | dict[tuple[int, int], np.ndarray]


def check_features(features, recordings: list[RecordingEvidence]) -> dict[str, Feature]:
    """Features by name: an array (n_units, k) of each recording, or similarities of the units of two recordings."""
    tables: dict[str, Feature] = {}
    features = None if isinstance(features, list | tuple) and not features else features
    if features is not None and not isinstance(features, Mapping):
        raise InputError("features: give a dict of names and arrays, or names of what analyzers hold")
    for name, arrays in (features or {}).items():
        sizes = [len(recording.unit_ids) for recording in recordings]
        pairs = list(combinations(range(len(sizes)), 2))
        of_pairs = isinstance(arrays, Mapping)
        if of_pairs and set(arrays) != set(pairs):
            raise InputError(f"features: {name}: give similarities of any two recordings: {pairs}")
        try:
            single = isinstance(arrays, np.ndarray) and arrays.ndim == 2
            arrays = [arrays[pair] for pair in pairs] if of_pairs else [arrays] if single else arrays
            arrays = [_real(array) for array in arrays]
        except (TypeError, ValueError):
            raise InputError(f"features: {name}: contains values that are not numbers") from None
        if any(array.ndim not in (1, 2) for array in arrays):
            raise InputError(f"features: {name}: give arrays of one row per unit, (n_units, k): flatten others")
        shapes = [(sizes[a], sizes[b]) for a, b in pairs]
        similarities = (of_pairs or len(pairs) == 1) and [array.shape for array in arrays] == shapes
        arrays = arrays if similarities else [a[:, None] if a.ndim == 1 else a for a in arrays]
        tabular = [len(a) for a in arrays] == sizes and len({a.shape[1:] for a in arrays}) == 1
        if not similarities and (of_pairs or not tabular):
            raise InputError(
                f"features: {name}: give one array (n_units, k) for each recording, with the same k, or similarities "
                f"(n_first, n_second): of more than two recordings in a dict, {{(0, 1): …}}; they have {sizes} units"
            )
        if not any(np.isfinite(array).any() for array in arrays):
            raise InputError(f"features: {name}: no value is finite: leave it out")
        if any(np.isinf(array).any() for array in arrays):
            raise InputError(f"features: {name}: contains infinite values: use NaN where a value is unknown")
        tables[str(name)] = dict(zip(pairs, arrays, strict=True)) if similarities else arrays
    return tables


def _real(array) -> np.ndarray:
    array = np.asarray(array)
    if array.dtype.kind in "cmMSU":
        raise TypeError("complex numbers, times or texts")
    return array.astype(float)


def feature_similarity(arrays: Feature, first: int, second: int) -> np.ndarray:
    """Similarity of the units of two recordings: float64, shape (n_first, n_second); NaN where a feature is.

    Of tables, the negative Euclidean distance; columns are standardised over all recordings.
    """
    if isinstance(arrays, dict):
        return arrays[first, second]
    known = np.isfinite(np.concatenate(arrays)).any(axis=0)
    rows = np.concatenate(arrays)[:, known]
    mean, deviation = np.nanmean(rows, axis=0), np.nanstd(rows, axis=0)
    # Differences of a constant column are rounding errors.
    varies = deviation > 1e-9 * np.nanmax(np.abs(rows), axis=0)
    a, b = ((arrays[k][:, known] - mean)[:, varies] / deviation[varies] for k in (first, second))
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    return -np.sqrt(np.maximum(squares, 0))


@dataclass
class Combination:
    """Learns the weights of features over all pairs of recordings.

    Attributes
    ----------
    names : list of str
    """

    names: list[str]
    _rows: list[np.ndarray] = field(default_factory=list)
    _prior: list[np.ndarray] = field(default_factory=list)
    _counts: list[np.ndarray] = field(default_factory=list)
    _weights: np.ndarray | None = None
    _moments: tuple = ()
    _base: float = 0.0

    def add(self, probability: np.ndarray, similarities: list[np.ndarray], possible: np.ndarray) -> None:
        """Add the possible pairs of two recordings: probabilities by activity, and similarities by each feature."""
        rows = np.stack([similarity.ravel() for similarity in similarities], axis=1)
        prior = np.maximum(probability.ravel(), FLOOR)
        known = np.isfinite(rows).all(axis=1) & possible.ravel()
        likely, others = np.flatnonzero(known & (prior > FLOOR)), np.flatnonzero(known & (prior <= FLOOR))
        step = max(len(others) // _OTHERS, 1)
        chosen = others[::step]
        count = len(others) / max(len(chosen), 1)
        self._rows.append(rows[np.concatenate([likely, chosen])])
        self._prior.append(prior[np.concatenate([likely, chosen])])
        self._counts.append(np.concatenate([np.ones(len(likely)), np.full(len(chosen), count)]))

    def fit(self) -> None:
        """Learn the weights from all pairs that were added."""
        rows, prior, counts = (np.concatenate(parts) for parts in (self._rows, self._prior, self._counts))
        if not len(rows):
            raise InputError(
                f"features: no two units of two recordings have all of {', '.join(self.names)}: leave some out"
            )
        mean = np.average(rows, axis=0, weights=counts)
        deviation = np.sqrt(np.average((rows - mean) ** 2, axis=0, weights=counts))
        self._moments = mean, np.where(deviation > 0, deviation, 1)
        design, activity = self._design(rows), logit(prior)
        self._base = float(logit(np.average(prior, weights=counts)))
        same = prior
        for _ in range(_STEPS):
            self._weights = _logistic(design, same, counts)
            ratio = design @ self._weights - logit(np.average(same, weights=counts))
            same = 1 / (1 + np.exp(-np.clip(activity + ratio, -50, 50)))

    def probabilities(
        self, probability: np.ndarray, similarities: list[np.ndarray], possible: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (n_first, n_second) by features and activity together, and by features alone."""
        rows = np.stack([similarity.ravel() for similarity in similarities], axis=1)
        known = np.isfinite(rows).all(axis=1)
        ratio = np.zeros(len(rows))
        ratio[known] = self._design(rows[known]) @ self._weights - self._base
        ratio = ratio.reshape(probability.shape)
        both = logit(np.maximum(probability, FLOOR)) + ratio
        return tuple(
            capped(possible / (1 + np.exp(-np.clip(logits, -50, 50)))) for logits in (both, self._base + ratio)
        )

    def to_dict(self) -> dict:
        """The weights, for provenance: log odds per standard deviation of each feature, and of its square."""
        k = len(self.names)
        return {
            "names": self.names, "mean": self._moments[0].tolist(), "scale": self._moments[1].tolist(),
            "weight": self._weights[1 : 1 + k].tolist(), "weight_of_square": self._weights[1 + k :].tolist(),
        }  # fmt: skip

    def _design(self, rows: np.ndarray) -> np.ndarray:
        mean, scale = self._moments
        z = np.clip((rows - mean) / scale, -5, 5)
        return np.hstack([np.ones((len(z), 1)), z, z * np.abs(z)])


def _logistic(design: np.ndarray, same: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Weights of a logistic model of soft labels, with a weak penalty on all but the intercept.

    Not scikit-learn's, which takes no soft labels.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logits = design @ weights
        value = (counts * (np.logaddexp(0, logits) - same * logits)).sum() + (weights[1:] ** 2).sum() / 2
        gradient = design.T @ (counts * (expit(logits) - same))
        gradient[1:] += weights[1:]
        return value, gradient

    start = np.zeros(design.shape[1])
    start[0] = logit(np.average(same, weights=counts))
    return minimize(loss, start, jac=True, method="L-BFGS-B").x
