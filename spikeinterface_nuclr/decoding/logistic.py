"""Multinomial logistic regressions on the same rows, for many penalties and labels.

By hand, although scikit-learn has them: here what depends on neither penalty nor labels is computed once (standardised
rows, their Gram matrix), and the Gram matrix sets the scale of each direction, which saves most of the hundreds of
steps that the strongly correlated dimensions of embeddings take otherwise. The minimum is the same.
"""

import numpy as np

from .calibration import softmax

_STEPS = 500
# Of the gradient in the scaled directions: probabilities then agree with the minimum's to about 1e-4.
_TOLERANCE = 1e-5


class LogisticRows:
    """Rows to fit to.

    Parameters
    ----------
    rows : float array, shape (n, k)
        NaN where a number is not known: put at its column's mean.

    Attributes
    ----------
    mean, scale : float64, shape (k,)
        Of the columns.
    """

    def __init__(self, rows: np.ndarray):
        self.mean, self.scale = moments(rows)
        standard = standardised(rows, self.mean, self.scale)
        # The Gram matrix's eigenvectors turn the rows; a rotation leaves the penalty as it is.
        curvature, self.axes = np.linalg.eigh(standard.T @ standard / len(standard))
        self.curvature = np.maximum(curvature, 0)
        self.turned = standard @ self.axes

    def fit(self, truth: np.ndarray, classes: int, strength: float, balanced: bool) -> tuple[np.ndarray, np.ndarray]:
        """The regression of class numbers.

        It has the smallest weighted mean of the log losses plus |weights|² / (2 · strength · sum of sample weights),
        scikit-learn's penalty; of two classes, whose weights are opposite, twice that: scikit-learn counts one.

        Parameters
        ----------
        truth : int array, shape (n,)
            Below `classes`; at least two of them occur.
        strength : float
            Inverse strength of the penalty.
        balanced : bool
            Classes count alike, however many rows they have.

        Returns
        -------
        weight : float64, shape (classes, k)
            Of standardised rows; 0 for a class that does not occur.
        bias : float64, shape (classes,)
            -inf for a class that does not occur.
        """
        from scipy.optimize import minimize

        seen, number, counts = np.unique(truth, return_inverse=True, return_counts=True)
        n, k, own = len(truth), len(self.mean), len(seen)
        share = (1 / (own * counts[number]) if balanced else np.full(n, 1 / n))[:, None]
        target = np.eye(own)[number]
        penalty = (2 if own == 2 else 1) / (strength * n)
        scale = 1 / np.sqrt(np.append(self.curvature / own + penalty, 1 / own))[:, None]
        shift = share.T @ self.turned  # the intercept is that of rows with a weighted mean of 0

        def loss_and_gradient(parameters: np.ndarray) -> tuple[float, np.ndarray]:
            weights = scale * parameters.reshape(k + 1, own)
            logits = self.turned @ weights[:k] + (weights[k] - shift @ weights[:k])
            probability = softmax(logits)
            losses = -np.log(np.maximum((probability * target).sum(axis=1), 1e-300))
            error = share * (probability - target)
            summed = error.sum(axis=0)
            gradient = np.vstack([self.turned.T @ error - np.outer(shift, summed) + penalty * weights[:k], summed])
            loss = float(share[:, 0] @ losses + penalty / 2 * (weights[:k] ** 2).sum())
            return loss, (scale * gradient).ravel()

        found = minimize(
            loss_and_gradient, np.zeros((k + 1) * own), jac=True, method="L-BFGS-B",
            options={"maxiter": _STEPS, "gtol": _TOLERANCE, "ftol": 0, "maxcor": 20},
        )  # fmt: skip
        weights = scale * found.x.reshape(k + 1, own)
        weight, bias = np.zeros((classes, k)), np.full(classes, -np.inf)
        weight[seen] = (self.axes @ weights[:k]).T
        bias[seen] = weights[k] - (shift @ weights[:k])[0]
        return weight, bias


def moments(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column, of the values that are known; 0 and 1 where none is."""
    from sklearn.preprocessing import StandardScaler

    with np.errstate(invalid="ignore"):  # of a column without a value
        scaler = StandardScaler().fit(rows)
    return np.nan_to_num(scaler.mean_), np.nan_to_num(scaler.scale_, nan=1.0)


def standardised(rows: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Rows (n, k) less the mean, over the scale; 0 where they are not known."""
    return np.nan_to_num((rows - mean) / scale, nan=0.0)
