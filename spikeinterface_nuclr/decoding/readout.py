"""Readout: a linear or a kernel map from one table of features to outputs, regularised by cross-validation."""

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .calibration import softmax
from .logistic import LogisticRows
from .splits import outside_and_inside

# Kind of read-out -> widths of its kernel that are tried, as multiples of the typical distance between two units; None
# is no kernel.
READOUTS: dict[str, tuple[float | None, ...]] = {"linear": (None,), "kernel": (0.5, 1.0, 2.0)}
# Inverse regularisation strengths that are tried.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
# Most training units at which kernels are centred.
_MAX_LANDMARKS = 400
# Directions of the kernel below this fraction of the largest are rounding errors.
_SMALLEST = 1e-8


@dataclass(frozen=True, eq=False)
class Kernel:
    """Gaussian functions centred on some training units, the landmarks.

    A linear map of them approximates a kernel machine (Nyström's method: Williams & Seeger 2001).

    Attributes
    ----------
    landmarks : float64, shape (m, k)
        Standardised rows.
    width : float
        Standard deviation of the Gaussians, as a multiple of the typical distance √(2 k) between standardised rows.
    """

    landmarks: np.ndarray
    width: float

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Values (n, m) of standardised rows (n, k)."""
        from sklearn.metrics.pairwise import rbf_kernel

        if not len(rows):  # which scikit-learn refuses
            return np.empty((0, len(self.landmarks)))
        return rbf_kernel(rows, self.landmarks, gamma=1 / (4 * self.width**2 * rows.shape[1]))


@dataclass(frozen=True, eq=False)
class Readout:
    """A linear map of standardised features, or of a kernel of them.

    Attributes
    ----------
    mean, scale : float64, shape (k,)
        Mean and standard deviation of the training units.
    weight : float64, shape (outputs, k), or (outputs, m) for a kernel with m landmarks
    bias : float64, shape (outputs,)
        -inf for a class without training units.
    strength : float
        Inverse regularisation strength.
    kernel : Kernel, optional
    """

    mean: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    strength: float
    kernel: Kernel | None = None

    @property
    def width(self) -> float | None:
        """Width of the kernel; None for a linear read-out."""
        return None if self.kernel is None else self.kernel.width

    def standardised(self, rows: np.ndarray) -> np.ndarray:
        """Rows (n, k), standardised like the training units; NaN is replaced by the mean."""
        return standardised(rows, self.mean, self.scale)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Outputs (n, outputs)."""
        rows = self.standardised(rows)
        return (rows if self.kernel is None else self.kernel(rows)) @ self.weight.T + self.bias


class Basis:
    """Features in which a read-out of training rows is linear, prepared for many fits.

    Parameters
    ----------
    rows : float array, shape (n, k)
        NaN is replaced by the mean of the column.
    width : float, optional
        Width of the kernel. Default: no kernel.

    Attributes
    ----------
    features : float64, shape (n, k) or (n, m)
        Standardised rows; or, for a kernel, combinations of its values whose products approximate the kernel between
        units, times k, so that both kinds of features have the same length and take the same penalties.
    """

    def __init__(self, rows: np.ndarray, width: float | None = None):
        self.mean, self.scale = moments(rows)
        self.features = standardised(rows, self.mean, self.scale)
        self.kernel = None
        if width is not None:
            number = min(len(rows), _MAX_LANDMARKS)
            chosen = np.sort(np.random.default_rng(0).choice(len(rows), number, replace=False))
            self.kernel = Kernel(self.features[chosen], width)
            values, vectors = np.linalg.eigh(self.kernel(self.kernel.landmarks))
            kept = values > _SMALLEST * values[-1]
            self._whitening = vectors[:, kept] * np.sqrt(rows.shape[1] / values[kept])
            self.features = self.kernel(self.features) @ self._whitening
        self._logistic: LogisticRows | None = None

    def classes(self, truth: np.ndarray, classes: int, strength: float, balanced: bool) -> Readout:
        """Logistic regression of class numbers (n,); classes may be missing."""
        if len(np.unique(truth)) > 1:
            if self._logistic is None:
                self._logistic = LogisticRows(self.features)
            return self._readout(*self._logistic.fit(truth, classes, strength, balanced), strength)
        bias = np.full(classes, -np.inf)  # a single class
        bias[truth[0]] = 0.0
        return self._readout(np.zeros((classes, self.features.shape[1])), bias, strength)

    def values(self, values: np.ndarray, strength: float) -> Readout:
        """Ridge regression of values (n,)."""
        from sklearn.linear_model import Ridge

        model = Ridge(alpha=1 / strength).fit(self.features, values)
        return self._readout(model.coef_[None], np.array([model.intercept_]), strength)

    def _readout(self, weight: np.ndarray, bias: np.ndarray, strength: float) -> Readout:
        if self.kernel is not None:
            weight = weight @ self._whitening.T
        return Readout(self.mean, self.scale, weight, bias, strength, self.kernel)


def choose_of_classes(
    rows: np.ndarray, truth: np.ndarray, folds: list[np.ndarray], classes: int, balanced: bool, readout: str
) -> tuple[float, float | None, np.ndarray]:
    """Strength and width with the smallest cross-validated loss, and the left-out probabilities (n, k) with them."""
    choices = []
    for width in READOUTS[readout]:
        parts = [(Basis(rows[others], width), others, fold) for others, fold in outside_and_inside(folds, len(truth))]
        last = None
        # Starts from the strongest regularisation and stops when the loss rises: the weakest takes longest to fit.
        for strength in STRENGTHS:
            probability = np.empty((len(truth), classes))
            for basis, others, fold in parts:
                probability[fold] = softmax(basis.classes(truth[others], classes, strength, balanced)(rows[fold]))
            loss = _loss(probability, truth, balanced)
            if last is not None and loss >= last:
                break
            last = loss
            choices.append((loss, strength, width, probability))
    return min(choices, key=lambda choice: choice[0])[1:]


def choose_of_values(
    rows: np.ndarray, values: np.ndarray, folds: list[np.ndarray], readout: str
) -> tuple[float, float | None, np.ndarray]:
    """Strength and width with the smallest cross-validated squared error, and the left-out predictions (n,)."""
    choices = []
    for width in READOUTS[readout]:
        parts = [(Basis(rows[others], width), others, fold) for others, fold in outside_and_inside(folds, len(values))]
        for strength in STRENGTHS:
            predicted = np.empty(len(values))
            for basis, others, fold in parts:
                predicted[fold] = basis.values(values[others], strength)(rows[fold])[:, 0]
            choices.append((((predicted - values) ** 2).mean(), strength, width, predicted))
    return min(choices, key=lambda choice: choice[0])[1:]


def check_readout(readout: str) -> None:
    """InputError unless this is a kind of read-out."""
    if readout not in READOUTS:
        raise InputError(f"readout must be one of {', '.join(READOUTS)}, not {readout!r}")


def _loss(probability: np.ndarray, truth: np.ndarray, balanced: bool) -> float:
    """Mean log loss of the units whose class was in the training folds.

    scikit-learn's log_loss would include the others, whose true class has a probability of 0.
    """
    true_class = probability[np.arange(len(truth)), truth]
    scored = true_class > 0
    weights = 1 / np.bincount(truth)[truth] if balanced else np.ones(len(truth))
    return float(np.average(-np.log(true_class[scored]), weights=weights[scored])) if scored.any() else np.inf


def moments(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column, ignoring NaN; 0 and 1 for a column of NaN."""
    from sklearn.preprocessing import StandardScaler

    with np.errstate(invalid="ignore"):  # columns of NaN
        scaler = StandardScaler().fit(rows)
    return np.nan_to_num(scaler.mean_), np.nan_to_num(scaler.scale_, nan=1.0)


def standardised(rows: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Rows (n, k) minus the mean, divided by the scale; NaN becomes 0."""
    return np.nan_to_num((rows - mean) / scale, nan=0.0)
