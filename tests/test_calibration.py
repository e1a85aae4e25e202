"""Calibration and abstention: what is chosen, and whether errors, intervals and thresholds keep their word."""

import numpy as np
import pytest
from test_decoder import recording

from spikeinterface_nuclr import RecordingWarning, fit_decoder
from spikeinterface_nuclr.decoding.calibration import (
    abstention_threshold,
    brier_score,
    calibration_error_by_chance,
    error_bound,
    expected_calibration_error,
    fit_temperatures,
    name_of,
    reliability,
    selective_risk,
    softmax,
    tempered,
)
from spikeinterface_nuclr.decoding.scores import interval


def predictions(n: int, classes: int = 3, seed: int = 0):
    """Calibrated probabilities (n, classes), the classes that came true, and folds of the predictions."""
    rng = np.random.default_rng(seed)
    probability = softmax(2 * rng.standard_normal((n, classes)))
    truth = (probability.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(max=classes - 1)
    return probability, truth, np.array_split(np.arange(n), 5)


def sharpened(probability: np.ndarray, temperature) -> np.ndarray:
    return tempered(probability, np.ones(probability.shape[1]) / temperature)


# --- temperatures -----------------------------------------------------------------------------------------------------


def test_the_temperature_of_a_softmax_divides_its_logits():
    logits = np.random.default_rng(0).standard_normal((20, 4))
    np.testing.assert_allclose(tempered(softmax(logits), np.full(4, 2.5)), softmax(logits / 2.5))


def test_each_row_has_the_temperature_of_its_most_probable_class():
    probability = np.array([[0.6, 0.4], [0.3, 0.7]])
    changed = tempered(probability, np.array([1.0, 4.0]))
    np.testing.assert_allclose(changed[0], probability[0])
    assert 0.5 < changed[1, 1] < 0.7
    np.testing.assert_array_equal(changed.argmax(axis=1), probability.argmax(axis=1))


def test_the_temperature_that_was_put_in_is_found():
    probability, truth, folds = predictions(5_000)
    temperatures = fit_temperatures(sharpened(probability, 3.0), truth, folds)
    np.testing.assert_allclose(temperatures, 3, rtol=0.1)
    assert name_of(temperatures) == "one temperature"


def test_what_is_calibrated_is_left_alone():
    chosen = [name_of(fit_temperatures(*predictions(500, seed=seed))) for seed in range(20)]
    assert chosen.count("none") >= 14


def test_a_class_that_is_overconfident_alone_gets_its_own_temperature():
    probability, truth, folds = predictions(6_000)
    wrong = probability.argmax(axis=1) == 0
    given = np.where(wrong[:, None], sharpened(probability, 4.0), probability)
    temperatures = fit_temperatures(given, truth, folds)
    assert name_of(temperatures) == "a temperature for each class"
    assert temperatures[0] == pytest.approx(4, rel=0.15)
    np.testing.assert_allclose(temperatures[1:], 1, atol=0.15)


def test_a_class_that_some_folds_have_not_seen_does_not_stop_it():
    probability, truth, folds = predictions(300)
    probability[folds[0], 2] = 0
    probability /= probability.sum(axis=1, keepdims=True)
    assert np.isfinite(fit_temperatures(probability, truth, folds)).all()


# --- errors -----------------------------------------------------------------------------------------------------------


def test_calibration_error_of_known_predictions():
    confidence = np.repeat([0.6, 0.9], 500)
    right = np.concatenate([np.arange(500) < 300, np.arange(500) < 350])  # 0.6 and 0.7
    assert expected_calibration_error(confidence, right, bins=2) == pytest.approx(0.1)
    table = reliability(confidence, right, bins=2)
    np.testing.assert_allclose(table["accuracy"], [0.6, 0.7])
    assert np.isnan(expected_calibration_error(np.empty(0), np.empty(0, dtype=bool)))


def test_the_calibration_error_of_few_units_has_its_bias_beside_it():
    errors = {}
    for n in (100, 10_000):
        confidence = np.random.default_rng(0).uniform(0.4, 1, n)
        right = np.random.default_rng(1).random(n) < confidence
        errors[n] = expected_calibration_error(confidence, right), calibration_error_by_chance(confidence)
    assert errors[100][1] > 0.05
    assert errors[10_000][1] < 0.015
    assert errors[100][0] == pytest.approx(errors[100][1], rel=0.5)


def test_the_brier_score_is_that_of_scikit_learn():
    from sklearn.metrics import brier_score_loss

    probability, truth, _ = predictions(200, classes=2)
    assert brier_score(probability, truth) / 2 == pytest.approx(brier_score_loss(truth, probability[:, 1]))
    assert brier_score(np.eye(3), np.arange(3)) == 0


def test_risk_of_known_predictions():
    confidence = np.array([0.9, 0.9, 0.8, 0.7, 0.6, 0.5])
    right = np.array([True, True, True, True, False, False])
    table = selective_risk(confidence, right)
    np.testing.assert_allclose(table["threshold"], [0.9, 0.8, 0.7, 0.6, 0.5])
    np.testing.assert_allclose(table["risk"], [0, 0, 0, 1 / 5, 2 / 6])
    np.testing.assert_allclose(table["coverage"], np.array([2, 3, 4, 5, 6]) / 6)


# --- bounds and intervals that cover ----------------------------------------------------------------------------------


def test_the_bound_of_independent_predictions_is_that_of_clopper_and_pearson():
    from scipy.stats import binomtest

    wrong = (np.arange(200) < 12).astype(float)
    theirs = binomtest(12, 200).proportion_ci(0.9, method="exact").high  # two-sided 90 %: one-sided 95 %
    assert error_bound(wrong, np.ones(200)) == pytest.approx(theirs, rel=0.02)


def test_animals_that_differ_make_the_bound_wider():
    alike, different = np.full(6, 5.0), np.array([0, 0, 0, 10.0, 10, 10])
    kept = np.full(6, 100.0)
    assert error_bound(np.array([30.0]), np.array([600.0])) == 1
    assert 0.05 < error_bound(alike, kept) < error_bound(different, kept) < 0.3


def exceedances(animals: int, units: int, spread: float, target: float, accuracy, tries: int = 200) -> tuple:
    """How often the true error above the threshold exceeds the target, and how often there is a threshold."""
    rng = np.random.default_rng(0)
    exceeded = thresholds = 0
    for _ in range(tries):
        shift = rng.normal(0, spread, (animals, 1))
        confidence = rng.uniform(0.5, 1, (animals, units))
        right = rng.random((animals, units)) < np.clip(accuracy(confidence) + shift, 0, 1)
        clusters = np.repeat(np.arange(animals), units)
        threshold = abstention_threshold(confidence.ravel(), right.ravel(), target, clusters)
        if np.isfinite(threshold):
            accepted = np.linspace(max(threshold, 0.5), 1, 500)
            new = np.clip(accuracy(accepted) + spread * np.linspace(-2, 2, 41)[:, None], 0, 1)
            weights = np.exp(-(np.linspace(-2, 2, 41) ** 2) / 2)
            exceeded += 1 - np.average(new.mean(axis=1), weights=weights) > target
            thresholds += 1
    return exceeded / tries, thresholds / tries


@pytest.mark.parametrize(
    ("animals", "units", "spread", "accuracy"),
    [
        (500, 1, 0.0, lambda c: c),
        (5, 100, 0.1, lambda c: c),
        (10, 100, 0.05, lambda c: c),
        (500, 1, 0.0, lambda c: np.full_like(c, 0.895)),  # confidence that says nothing, at the border
        (10, 50, 0.05, lambda c: np.full_like(c, 0.895)),
    ],
)
def test_a_threshold_exceeds_its_target_in_at_most_one_fit_of_twenty(animals, units, spread, accuracy):
    exceeded, _ = exceedances(animals, units, spread, 0.1, accuracy)
    assert exceeded <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)


def test_a_good_decoder_of_enough_animals_labels_most_units():
    _, thresholds = exceedances(10, 100, 0.02, 0.1, lambda c: np.minimum(0.5 + c, 0.98), tries=30)
    assert thresholds > 0.8


def test_thresholds_of_too_little_accept_nothing():
    right = np.ones(100, dtype=bool)
    confidence = np.linspace(0.6, 1, 100)
    assert abstention_threshold(confidence, right, 0.1) < 0.7
    assert (
        abstention_threshold(confidence, right, 0.1, np.zeros(100)) == np.inf
    )  # one animal is no evidence about others
    assert abstention_threshold(confidence, right, 0.1, np.arange(100) % 2) == np.inf  # nor do two
    assert abstention_threshold(confidence[:20], right[:20], 0.1) == np.inf
    assert abstention_threshold(np.empty(0), np.empty(0, dtype=bool), 0.1) == np.inf
    assert abstention_threshold(confidence, ~right, 1.0) == 0.0


@pytest.mark.parametrize("animals", [3, 5, 10, 20])
def test_intervals_cover_the_mean(animals):
    values = np.random.default_rng(animals).normal(0.5, 0.1, (1000, animals))
    low, high = np.array([interval(row) for row in values]).T
    assert ((low <= 0.5) & (high >= 0.5)).mean() == pytest.approx(0.95, abs=0.025)


def test_two_animals_have_no_interval():
    assert np.isnan(interval(np.array([0.2, 0.4]))).all()
    assert np.isnan(interval(np.array([0.5]))).all()


def test_animals_of_other_sizes_do_not_break_the_promise():
    """Large animals are worse, and many confidences are equal."""
    exceeded, tries, target = 0, 200, 0.1

    def draw(rng, animals):
        sizes = np.clip(rng.lognormal(4, 0.9, animals), 3, 2000).astype(int)
        accuracy = 0.93 - 0.04 * (np.log(sizes) - 4) / 0.9  # wrong, of all units: 10.7 %
        right = rng.random(sizes.sum()) < np.clip(np.repeat(accuracy, sizes), 0, 1)
        return rng.choice([0.6, 0.8, 0.9, 0.95], sizes.sum()), right, np.repeat(np.arange(animals), sizes)

    confidence, right, _ = draw(np.random.default_rng(1), 4000)
    for seed in range(tries):
        given, correct, animals = draw(np.random.default_rng([0, seed]), 8)
        threshold = abstention_threshold(given, correct, target, animals)
        exceeded += np.isfinite(threshold) and 1 - right[confidence >= threshold].mean() > target
    assert exceeded / tries <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / tries)


def test_animals_that_were_fitted_to_make_no_threshold():
    """Where no animal can be left out, units that are left out are read by their animal: too well, for new ones."""
    animals = [f"animal{k}" for k in range(4)]
    made = [recording(name, units=500) for name in animals]
    for k, (one, _) in enumerate(made):
        one.embedding[:] += 5 * k
    labels = [np.full(500, "PV" if k < 3 else "SST") for k in range(4)]
    with pytest.warns(RecordingWarning, match="was seen in one animal"):
        fitted = fit_decoder([one for one, _ in made], labels, target="type")
    assert fitted.card["calibrated_on"] == "units, since leaving out animals leaves one class"
    assert fitted.correct.mean() > 0.99
    assert fitted.threshold(0.1) == np.inf
