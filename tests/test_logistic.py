"""Logistic regressions: the minimum is scikit-learn's, whatever the rows, the penalty and the classes."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from spikeinterface_nuclr.decoding.calibration import softmax
from spikeinterface_nuclr.decoding.logistic import LogisticRows
from spikeinterface_nuclr.decoding.readout import Basis


def correlated(n: int, k: int, seed: int = 0) -> np.ndarray:
    """Rows whose principal components have standard deviations from 1 to 0.001."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, k)) @ (np.geomspace(1, 1e-3, k)[:, None] * rng.standard_normal((k, k))) + 5


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("strength", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("classes", [2, 4])
def test_probabilities_are_those_of_scikit_learn(classes, strength, balanced):
    rows = correlated(300, 20)
    rng = np.random.default_rng(1)
    truth = np.minimum(rng.geometric(0.5, 300) - 1, classes - 1)  # unequal numbers
    rows[:, 0] += truth
    standard = Basis(rows).features
    weight, bias = LogisticRows(standard).fit(truth, classes, strength, balanced)
    model = LogisticRegression(
        C=strength, class_weight="balanced" if balanced else None, tol=1e-9, max_iter=1000, solver="newton-cholesky"
    ).fit(standard, truth)
    np.testing.assert_allclose(softmax(standard @ weight.T + bias), model.predict_proba(standard), atol=2e-4)


def test_fewer_rows_than_columns_and_columns_that_say_nothing():
    rows = correlated(15, 40)
    rows[:, 3], rows[:, 4], rows[2, 5] = 7.0, np.nan, np.nan
    truth = np.arange(15) % 3
    standard = Basis(rows).features
    weight, bias = LogisticRows(standard).fit(truth, 3, 0.1, True)
    assert np.isfinite(weight).all()
    assert np.abs(weight[:, 3:5]).max() < 1e-9
    model = LogisticRegression(C=0.1, tol=1e-9, max_iter=1000).fit(standard, truth)
    np.testing.assert_allclose(softmax(standard @ weight.T + bias), model.predict_proba(standard), atol=2e-4)


def test_a_class_that_does_not_occur_gets_no_probability():
    rows = correlated(40, 5)
    weight, bias = LogisticRows(rows).fit(np.arange(40) % 2 * 2, 3, 1.0, True)
    assert bias[1] == -np.inf
    assert not weight[1].any()
    assert (softmax(rows @ weight.T + bias)[:, 1] == 0).all()


def test_the_rows_may_be_fitted_to_again():
    rows, truth = correlated(60, 6), np.arange(60) % 3
    again = LogisticRows(rows)
    again.fit(truth[::-1], 3, 10.0, False)
    for one, other in zip(again.fit(truth, 3, 0.1, True), LogisticRows(rows).fit(truth, 3, 0.1, True), strict=True):
        np.testing.assert_array_equal(one, other)
