"""Evaluations of numbers: what is found, what is chance, what never leaks, and the report."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import r2_score
from test_decoder import recording

from spikeinterface_nuclr import (
    InputError,
    RecordingWarning,
    evaluate_regressor,
    fit_regressor,
    plot_nuclr_regressor_evaluation,
)
from spikeinterface_nuclr.decoding.verdict import BETTER

QUIET = {"shuffles": 0, "progress": False}


def animals(count: int, noise: float = 30.0):
    """Embeddings, and a number that a line reads from them up to noise; each animal's first unit has no embedding."""
    embeddings = [recording(f"m{k}")[0] for k in range(count)]
    rng = np.random.default_rng(0)
    values = [100 * one.embedding[:, 0] + noise * rng.standard_normal(len(one.unit_ids)) for one in embeddings]
    return embeddings, [np.nan_to_num(row.astype(float)) for row in values]


@pytest.fixture(scope="module")
def found():
    embeddings, values = animals(6)
    rng = np.random.default_rng(1)
    others = {"noise": [rng.standard_normal((80, 4)) for _ in embeddings]}
    return evaluate_regressor(embeddings, values, target="depth_um", others=others, shuffles=40, progress=False)


def scores_of(evaluation, method="embedding"):
    return evaluation.scores[evaluation.scores["method"] == method].set_index("score")


def test_what_is_there_is_found_and_what_is_not_is_not(found):
    table, noise = scores_of(found), scores_of(found, "noise")
    assert table.loc["rank correlation", "value"] > 0.9
    assert table.loc["r2", "value"] > 0.9
    assert table.loc["mean absolute error", "value"] == pytest.approx(30 * np.sqrt(2 / np.pi), rel=0.15)
    assert table.loc["rank correlation", "p"] == pytest.approx(1 / 41)
    assert abs(noise.loc["rank correlation", "value"]) < 0.15
    assert noise.loc["r2", "value"] < 0.05
    assert found.comparison.loc["noise", "outcome"] == BETTER
    assert found.verdict.startswith("Better than every baseline: rank correlation 0.9")
    assert np.isnan(noise["p"]).all()


def test_intervals_hold_as_many_values_as_they_say():
    embeddings, values = animals(12)
    table = scores_of(evaluate_regressor(embeddings, values, **QUIET))
    assert table.loc["inside 50 % intervals", "value"] == pytest.approx(0.5, abs=0.06)
    assert table.loc["inside 90 % intervals", "value"] == pytest.approx(0.9, abs=0.04)


def test_scores_are_those_of_scipy_and_scikit_learn(found):
    rows = found.predictions_of("embedding")
    of_embedding = found.animal_scores[found.animal_scores["method"] == "embedding"]
    for animal, part in rows.groupby("animal"):
        scores = of_embedding[of_embedding["animal"] == animal].set_index("score")["value"]
        assert scores["rank correlation"] == pytest.approx(spearmanr(part["truth"], part["value"]).statistic)
        assert scores["r2"] == pytest.approx(r2_score(part["truth"], part["value"]))
        inside = (part["truth"] - part["value"]).abs() <= part["half_90"]
        assert scores["inside 90 % intervals"] == pytest.approx(inside.mean())


def test_predictions_are_those_of_a_fitted_regressor():
    embeddings, values = animals(4)
    rows = evaluate_regressor(embeddings, values, **QUIET).predictions_of("embedding")
    fitted = fit_regressor(embeddings[1:], values[1:], target="value")
    predicted = fitted.predict(embeddings[0])
    here = rows[rows["animal"] == "m0"]
    np.testing.assert_allclose(here["value"], predicted.value[1:], rtol=1e-5)
    np.testing.assert_allclose(here["half_90"], fitted.half_width(0.9))
    assert here["unit_id"].tolist() == [str(unit) for unit in embeddings[0].unit_ids[1:]]


def test_no_choice_sees_the_test_animal():
    """Other values in the test animal change its truth and nothing else."""
    embeddings, values = animals(4)
    changed = [np.random.default_rng(5).standard_normal(80) * 1e3, *values[1:]]
    one, other = (evaluate_regressor(embeddings, of, **QUIET).predictions_of("embedding") for of in (values, changed))
    at = one["animal"] == "m0"
    np.testing.assert_array_equal(
        one.loc[at, ["value", "half_50", "half_90"]], other.loc[at, ["value", "half_50", "half_90"]]
    )
    assert not np.array_equal(one.loc[at, "truth"], other.loc[at, "truth"])


def test_shuffled_values_score_at_chance():
    embeddings, values = animals(5)
    rng = np.random.default_rng(3)
    shuffled = [rng.permutation(row) for row in values]
    found = evaluate_regressor(embeddings, shuffled, shuffles=40, progress=False)
    assert scores_of(found).loc["rank correlation", "p"] > 0.05
    null = scores_of(found, "labels shuffled within animals")
    assert abs(null.loc["rank correlation", "value"]) < 0.05
    assert "shuffles of the labels score as high" in found.verdict


def test_an_offset_between_animals_is_seen_in_r2_and_intervals_and_not_in_ranks():
    embeddings, values = animals(6, noise=5.0)
    shifted = [row + 300.0 * k for k, row in enumerate(values)]
    table = scores_of(evaluate_regressor(embeddings, shifted, **QUIET))
    assert table.loc["rank correlation", "value"] > 0.7
    assert table.loc["r2", "value"] < 0


@pytest.mark.parametrize("readout", ["linear", "kernel"])
@pytest.mark.parametrize("protocol", ["zero-shot", "within-animal"])
def test_every_protocol_and_readout(protocol, readout):
    embeddings, values = animals(4)
    tested = {"test_animals": ["m1", "m2"]} if protocol == "zero-shot" else {}
    found = evaluate_regressor(embeddings, values, protocol=protocol, readout=readout, **tested, **QUIET)
    assert scores_of(found).loc["rank correlation", "value"] > 0.8
    assert set(found.predictions["animal"]) == ({"m1", "m2"} if tested else {"m0", "m1", "m2", "m3"})
    assert ("same animals" in found.verdict) == (protocol == "within-animal")


def test_animals_without_a_range_are_not_scored():
    embeddings, values = animals(4)
    values[2] = np.round(np.arange(80) % 3).astype(float)
    with pytest.warns(RecordingWarning, match="fewer than 5 different values: m2"):
        found = evaluate_regressor(embeddings, values, **QUIET)
    assert found.unscored == {"m2": 79}
    assert set(found.predictions["animal"]) == {"m0", "m1", "m3"}
    with pytest.raises(InputError, match="no test animal has 5 different values"):
        evaluate_regressor(embeddings, [np.ones(80)] * 4, **QUIET)


def test_too_few_values_to_fit_to_are_refused():
    embeddings, values = animals(2)
    values[1][1:] = np.nan
    values[1][5] = 3.0
    with pytest.raises(InputError, match="split 'm0': a regression needs 10 labelled units or more, not 1"):
        evaluate_regressor(embeddings, values, **QUIET)
    with pytest.warns(RecordingWarning, match="one animal only"):
        fit_regressor(embeddings[0], values[0], target="x")


def test_nonsense_is_refused_in_one_line():
    embeddings, values = animals(3)
    for settings, message in (
        ({"shuffles": -1}, "shuffles must be a whole number"),
        ({"readout": "deep"}, "readout must be one of linear, kernel"),
        ({"protocol": "split-half"}, "protocol must be one of"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate_regressor(embeddings, values, **{**QUIET, **settings})
    with pytest.raises(InputError, match="'deep' is no number: use fit_decoder for classes"):
        evaluate_regressor(embeddings, [np.full(80, "deep")] * 3, **QUIET)
    with pytest.raises(InputError, match="there is no method 'x'"):
        evaluate_regressor(embeddings, values, **QUIET).predictions_of("x")


def test_it_is_written_as_tables_and_drawn(found, tmp_path):
    folder = found.save(tmp_path / "report")
    assert sorted(path.name for path in folder.iterdir()) == [
        "animal_scores.csv", "predictions.csv", "provenance.json", "scores.csv",
    ]  # fmt: skip
    assert len(pd.read_csv(folder / "predictions.csv")) == 2 * 6 * 79
    assert json.loads((folder / "provenance.json").read_text())["verdict"] == found.verdict
    figure = plot_nuclr_regressor_evaluation(found).figure
    titles = [axis.get_title() for axis in figure.axes] + [axis.get_title(loc="left") for axis in figure.axes]
    assert any("depth_um" in title for title in titles)
    assert repr(found).endswith("RegressorEvaluation('depth_um', leave-one-animal-out, linear read-out, 2 methods)")


def test_the_command_writes_a_report_that_replaces_one_of_labels(nuclr, mice, tmp_path):
    report, model = tmp_path / "report", ("--model", mice / "small.safetensors", "--shuffles", 2, "-q")
    nuclr("evaluate", mice, "--label", "cell_type", "-o", report, *model)
    assert (report / "per_class.csv").exists()
    done = nuclr("evaluate", mice, "--value", "depth", "-o", report, "--overwrite", *model)
    assert "rank correlation" in done.stdout
    assert not (report / "per_class.csv").exists()
    page = (report / "report.md").read_text()
    assert "# depth: leave-one-animal-out" in page
    assert "90 units with a value of 3 animals" in page
    assert "ridge regression" in page
    assert "inside 90 % intervals" in page
    assert (report / "evaluation.png").stat().st_size > 10_000
    assert "for numbers" in nuclr("evaluate", mice, "--value", "depth", "--curves", "-o", report, code=2).stderr
    assert "give one of --label" in nuclr("evaluate", mice, "-o", report, code=2).stderr
