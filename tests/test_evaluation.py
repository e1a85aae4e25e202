"""Evaluation: protocols that do not leak, scores, nulls, learning curves, regions, and the benchmark's export."""

import importlib.util
import json

import numpy as np
import pytest
from test_decoder import CLASSES, cohort, recording

from spikeinterface_nuclr import (
    Identities,
    InputError,
    animal_scaling,
    evaluate,
    export_brainwidebench,
    fit_decoder,
    label_efficiency,
    roll_up,
    simulate_population,
)
from spikeinterface_nuclr.decoding import parallel, scores
from spikeinterface_nuclr.decoding.baselines import BASELINES
from spikeinterface_nuclr.decoding.regions import COSMOS
from spikeinterface_nuclr.decoding.splits import PROTOCOLS, Split

TEST_ANIMALS = {"zero-shot": ["animal4", "animal5"]}


def evaluated(*args, protocol="leave-one-animal-out", **kwargs):
    return evaluate(*args, protocol=protocol, test_animals=TEST_ANIMALS.get(protocol, ()), progress=False, **kwargs)


def macro(found, method="embedding") -> float:
    return float(found.to_dataframe().loc[method, "macro-F1"])


@pytest.fixture(scope="module")
def found():
    return evaluated(
        *cohort(6), others={"noise": [np.random.default_rng(k).standard_normal((80, 3)) for k in range(6)]}
    )


def test_what_is_there_is_found_and_what_is_not_is_not(found):
    assert macro(found) > 0.65  # at best 0.75
    assert abs(macro(found, "noise") - 1 / 3) < 0.1
    assert abs(macro(found, "labels shuffled within animals") - 1 / 3) < 0.05
    own = found.scores[(found.scores["method"] == "embedding") & (found.scores["score"] == "macro-F1")].iloc[0]
    assert own["p"] == pytest.approx(1 / 21)
    assert own["low"] <= own["value"] <= own["high"]
    assert own["animals"] == 6


def test_every_unit_is_predicted_once_by_each_method(found):
    for method in found.methods:
        rows = found.predictions_of(method)
        assert len(rows) == 6 * 79
        assert not rows.duplicated(["recording", "unit"]).any()
        assert (rows["split"] == rows["animal"]).all()
        probability = rows[[f"p({name})" for name in found.classes]].to_numpy()
        np.testing.assert_allclose(probability.sum(axis=1), 1)
    assert found.per_class()["support"].sum() == 6 * 79
    assert found.confusion().sum() == 6 * 79


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_labels_shuffled_within_animals_score_at_chance(protocol):
    embeddings, labels = cohort(6, units=50)
    rng = np.random.default_rng(5)
    shuffled = [rng.permutation(one) for one in labels]
    assert abs(macro(evaluated(embeddings, shuffled, protocol=protocol, shuffles=0)) - 1 / 3) < 0.1
    assert macro(evaluated(embeddings, labels, protocol=protocol, shuffles=0)) > 0.6


def test_an_animal_on_both_sides_is_refused_unless_named():
    embeddings, labels = cohort(2)
    split = Split("mine", np.arange(0, 100), np.arange(100, 158))
    with pytest.raises(InputError, match="animal animal1 is on both sides"):
        evaluated(embeddings, labels, splits=[split])
    named = evaluated(embeddings, labels, protocol="within-animal", splits=[split], shuffles=0)
    assert named.protocol == "within-animal"
    with pytest.raises(InputError, match="same unit"):
        evaluated(embeddings, labels, protocol="within-animal", splits=[Split("x", np.arange(9), np.arange(5, 20))])


def test_two_recordings_of_an_animal_stay_on_one_side():
    embeddings, labels = cohort(4)
    found = evaluated(embeddings, labels, ["a", "a", "b", "b"], shuffles=0)
    assert set(found.predictions_of("embedding")["split"]) == {"a", "b"}


def test_no_choice_sees_the_test_animal():
    """Predictions for an animal do not depend on its labels, nor on its other units."""
    embeddings, labels = cohort(4)
    before = evaluated(embeddings, labels, shuffles=0).predictions_of("embedding")
    labels[0] = np.random.default_rng(0).permutation(labels[0])
    embeddings[0].embedding[40:] += 100  # a scaler fitted to test units would move the others
    after = evaluated(embeddings, labels, shuffles=0).predictions_of("embedding")
    before, after = (rows.set_index(["animal", "unit"]) for rows in (before, after))
    columns = [f"p({name})" for name in np.unique(CLASSES)]
    for unit in range(1, 40):
        np.testing.assert_array_equal(
            before.loc[("animal0", unit), columns].to_numpy(), after.loc[("animal0", unit), columns].to_numpy()
        )


def test_predictions_are_those_of_a_fitted_decoder():
    embeddings, labels = cohort(4)
    rows = evaluated(embeddings, labels, shuffles=0).predictions_of("embedding")
    rows = rows[rows["animal"] == "animal0"]
    fitted = fit_decoder(embeddings[1:], labels[1:], target="type")
    said = fitted.predict(embeddings[0])
    np.testing.assert_array_equal(rows["best_label"], said.best_label[1:])
    np.testing.assert_allclose(rows["confidence"], said.confidence[1:], atol=1e-6)
    assert rows["threshold_10"].iloc[0] == pytest.approx(fitted.threshold(0.1), abs=1e-6)


def test_baselines_stand_beside_the_embedding():
    populations = [simulate_population(40, 30, seed=k) for k in range(3)]
    made = [recording(f"animal{k}", units=40, shift=0.0) for k in range(3)]
    labels = [population.properties["cell_type"] for population in populations]
    found = evaluated([e for e, _ in made], labels, populations=populations, shuffles=0)
    assert found.methods[1:] == list(BASELINES["spikes"])
    assert macro(found) < 0.45  # noise
    assert macro(found, "rate, intervals, autocorrelogram") > 0.8


def test_pooling_is_reported_apart():
    embeddings, labels = cohort(4)
    # Units of a class lie together.
    positions = [np.searchsorted(np.unique(CLASSES), of) * 1000.0 + np.arange(80) for of in labels]
    found = evaluated(embeddings, labels, positions=positions, shuffles=0)
    assert macro(found, "embedding, pooled over neighbours") > macro(found) + 0.1


def test_a_class_that_a_fit_has_not_seen_gets_no_probability():
    embeddings, labels = cohort(3)
    labels[1] = np.where(labels[1] == "PV", "local", labels[1])
    found = evaluated(embeddings, labels, shuffles=2)
    rows = found.predictions_of("embedding")
    assert (rows[rows["animal"] == "animal1"]["p(local)"] == 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"protocol": "by neuron"}, "protocol must be one of"),
        ({"protocol": "zero-shot"}, "must be given for protocol 'zero-shot'"),
        ({"protocol": "zero-shot", "test_animals": ["nobody"]}, "'nobody' is not among the animals"),
        ({"test_animals": ["animal0"]}, "and only for it"),
        ({"others": {"x": [np.ones((80, 2))]}}, "x: give one array for each"),
        ({"positions": [np.ones(80)]}, "positions: give one array for each"),
    ],
)
def test_what_does_not_fit_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        evaluate(*cohort(2), progress=False, shuffles=0, **settings)


def test_one_animal_needs_the_other_protocol():
    with pytest.raises(InputError, match="within-animal"):
        evaluated(*cohort(1))


def test_an_evaluation_is_written_as_tables(found, tmp_path):
    import pandas as pd

    found.save(tmp_path / "report")
    assert len(pd.read_csv(tmp_path / "report" / "predictions.csv")) == len(found.predictions)
    said = json.loads((tmp_path / "report" / "provenance.json").read_text(encoding="utf-8"))
    assert said["checkpoint_sha256"] == ["s1"]
    assert said["protocol"] == "leave-one-animal-out"


def test_more_labels_and_more_animals_help():
    embeddings, labels = cohort(6, units=60)
    table = label_efficiency(embeddings, labels, shares=(0.02, 1.0), repeats=2, progress=False)
    means = table.groupby("share")["macro_f1"].mean()
    assert means[1.0] > means[0.02] + 0.1
    assert table.groupby("share")["units"].first()[0.02] < 10
    table = animal_scaling(embeddings, labels, repeats=1, progress=False)
    assert sorted(table["animals"].unique()) == [1, 2, 3, 4, 5]
    with pytest.raises(InputError, match="another protocol"):
        animal_scaling(embeddings, labels, protocol="within-animal")


def test_scores_are_those_of_scikit_learn():
    from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

    rng = np.random.default_rng(0)
    truth, said = rng.choice(list("abc"), 200), rng.choice(list("abcd"), 200)
    classes = np.unique(truth)
    assert scores.macro_f1(truth, said) == pytest.approx(f1_score(truth, said, average="macro", labels=classes))
    with pytest.warns(UserWarning, match="y_pred contains"):
        assert scores.balanced_accuracy(truth, said) == pytest.approx(balanced_accuracy_score(truth, said))
    table = scores.per_class(truth, said, classes)
    theirs = precision_recall_fscore_support(truth, said, labels=classes)
    np.testing.assert_allclose([list(row.values()) for row in table.values()], np.array(theirs).T)
    every = np.array(list("abcd"))
    np.testing.assert_array_equal(scores.confusion(truth, said, every), confusion_matrix(truth, said, labels=every))


def test_shuffles_stay_within_animals():
    labels, animals = np.array(list("aabbccdd")), np.array([1, 1, 1, 1, 2, 2, 2, 2])
    shuffled = scores.shuffled_within(labels, animals, np.random.default_rng(1))
    assert sorted(shuffled[:4]) == list("aabb")
    assert sorted(shuffled[4:]) == list("ccdd")
    assert (shuffled != labels).any()


# --- regions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("acronym", "beryl", "cosmos"),
    [
        ("VISp5", "VISp", "Isocortex"), ("CA1", "CA1", "HPF"), ("POST", "POST", "HPF"), ("SCs", "SCs", "MB"),
        ("STR", "", "CNU"), ("LGd-co", "LGd", "TH"), ("CTX", "", ""), ("root", "", ""), ("void", "", ""),
        ("scwm", "", ""), ("VL", "", ""), ("", "", ""),
    ],
)  # fmt: skip
def test_regions_roll_up(acronym, beryl, cosmos):
    assert roll_up([acronym], "beryl").tolist() == [beryl]
    assert roll_up([acronym], "cosmos").tolist() == [cosmos]
    assert roll_up([acronym], "allen").tolist() == [acronym if cosmos else ""]


def test_an_unknown_region_is_refused():
    with pytest.raises(InputError, match="'V1' is no region"):
        roll_up(["VISp", "V1"], "cosmos")
    with pytest.raises(InputError, match="level must be"):
        roll_up(["VISp"], "group")


# --- the benchmark's export -------------------------------------------------------------------------------------------


def predicted(units, classes, truth) -> Identities:
    """Identities that are sure of the truth."""
    probability = np.full((len(units), len(classes)), 0.01, dtype=np.float32)
    probability[np.arange(len(units)), [list(classes).index(name) for name in truth]] = 0.9
    return Identities(
        "region", np.array(units), np.array(classes), np.array(truth), probability, probability.max(axis=1),
        np.full(len(units), ""), {},
    )  # fmt: skip


def test_predictions_are_exported_in_the_order_of_the_ten_regions(tmp_path):
    from safetensors.numpy import load_file

    found = predicted(["u1", "unit22"], ["VISp", "CA1", "VISl", "POST"], ["VISl", "POST"])
    path = export_brainwidebench([found], tmp_path, "nuclr", seed=43)
    assert path == tmp_path / "nuclr" / "ts3-unit_cosmos" / "seed_43.safetensors"
    probability = load_file(path)["pred_proba"]
    np.testing.assert_allclose(probability[:, COSMOS.index("Isocortex")], [0.91, 0.02], atol=1e-6)
    np.testing.assert_allclose(probability[:, COSMOS.index("HPF")], [0.02, 0.91], atol=1e-6)
    with pytest.raises(InputError, match="exists already"):
        export_brainwidebench([found], tmp_path, "nuclr", seed=43)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: [predicted(["u"], ["VISp", "scwm"], ["VISp"])], "'scwm' is in none of the ten"),
        (lambda: [predicted(["u"], ["VISp", "CA1"], ["CA1"])] * 2, "unit u occurs twice"),
        (lambda: [predicted(["ü"], ["VISp", "CA1"], ["CA1"])], "not ASCII"),
    ],
)
def test_what_the_benchmark_cannot_read_is_refused(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        export_brainwidebench(change(), tmp_path, "nuclr", seed=43)
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.skipif(importlib.util.find_spec("ibl_bwb_eval") is None, reason="ibl-bwb-eval is not installed")
def test_the_scorer_of_brainwidebench_reads_it(tmp_path):
    import torch
    from ibl_bwb_eval.entity_ids import encode_entity_ids
    from ibl_bwb_eval.scoring.ts3 import score_dir
    from ibl_bwb_eval.tasks import COSMOS_LABELS
    from safetensors.torch import save_file

    assert COSMOS_LABELS == COSMOS
    rng = np.random.default_rng(0)
    areas = np.array(["VISp", "CA1", "CP", "LP", "SCs", "ANcr1", "PIR", "BLAa", "LHA", "GRN"])
    truth = rng.choice(areas, 200)
    said = np.where(rng.random(200) < 0.7, truth, rng.choice(areas, 200))
    units = [f"session/{k}" for k in range(200)]
    export_brainwidebench([predicted(units, areas, said)], tmp_path / "predictions", "nuclr", seed=43)
    target = roll_up(truth, "cosmos")
    ground = tmp_path / "ground" / "ts3-unit_cosmos"
    ground.mkdir(parents=True)
    order = rng.permutation(200)
    save_file(
        {
            "entity_ids": encode_entity_ids(np.array(units)[order]),
            "targets": torch.tensor([COSMOS.index(name) for name in target[order]]),
        },
        ground / "ground_truth.safetensors",
        metadata={"label_names": ",".join(COSMOS)},
    )
    scored = score_dir(tmp_path / "predictions", tmp_path / "ground")
    assert scored["nuclr", 43]["macro/f1-score"] == pytest.approx(scores.macro_f1(target, roll_up(said, "cosmos")))


# --- what readers of the first version found --------------------------------------------------------------------------


def test_own_splits_count_labelled_units_whatever_others_know():
    embeddings, labels = cohort(2)
    noise = [np.random.default_rng(k).standard_normal((80, 2)) for k in range(2)]
    noise[0][1:6] = np.nan
    split = Split("mine", np.arange(79, 158), np.arange(0, 40))
    rows = evaluated(embeddings, labels, splits=[split], others={"noise": noise}, shuffles=0).predictions_of(
        "embedding"
    )
    assert rows["unit"].tolist() == list(range(6, 41))  # units 1 to 40 have a label, the first five no noise
    with pytest.raises(InputError, match="beyond the 158"):
        evaluated(embeddings, labels, splits=[Split("x", np.arange(79, 158), np.array([158]))])
    with pytest.raises(InputError, match="a name of its own"):
        evaluated(embeddings, labels, splits=[split, split])


def test_pooling_within_animals_does_not_leak():
    """Twins at one place, random labels: a twin of another fold was read by a decoder that knew this one's label."""
    rng = np.random.default_rng(0)
    rows, truth, place = rng.standard_normal((60, 24)), rng.choice(["a", "b"], 60), np.arange(60) * 1000.0
    embeddings, _ = recording("animal0", units=120, dim=24)
    embeddings.embedding[:] = np.repeat(rows, 2, axis=0)
    found = evaluated(
        embeddings, np.repeat(truth, 2), protocol="within-animal", positions=np.repeat(place, 2), shuffles=0
    )
    apart = evaluated(embeddings, np.repeat(truth, 2), protocol="within-animal", shuffles=0)
    own, pooled_score = (found.to_dataframe().loc[name, "accuracy"] for name in found.methods)
    assert own == apart.to_dataframe().loc["embedding", "accuracy"]
    assert abs(pooled_score - own) < 0.1
    # What was not calibrated has no such scores.
    assert found.to_dataframe().loc[found.methods[1]].isna()["coverage at 10% error"]


def test_an_animal_of_one_class_is_left_out_within_animals():
    embeddings, labels = cohort(2)
    labels[0][:] = "PV"
    assert set(
        evaluated(embeddings, labels, protocol="within-animal", shuffles=0).predictions_of("embedding")["animal"]
    ) == {"animal1"}


def test_one_animal_makes_no_threshold_for_another():
    """Animals lie apart, so that errors within one say nothing of the other."""
    made = [recording(f"animal{k}", units=400, shift=4.0) for k in range(2)]
    made[1][0].embedding[:] += 3 * np.random.default_rng(0).standard_normal(16)
    given = [one for one, _ in made], [of for _, of in made]
    rows = evaluated(*given, shuffles=0).predictions_of("embedding")
    assert (rows["label"] == "unknown").all()
    assert np.isinf(rows["threshold_10"]).all()
    assert (rows["best_label"] != rows["truth"]).mean() > 0.2
    rows = evaluated(*given, protocol="within-animal", shuffles=0).predictions_of("embedding")
    assert (rows["label"] != "unknown").mean() > 0.9


def test_p_is_of_the_embedding_alone(found):
    rows = found.scores[found.scores["score"] == "macro-F1"].set_index("method")
    assert np.isfinite(rows.loc["embedding", "p"])
    assert np.isnan(rows.loc["noise", "p"])


def test_fusion_with_features_is_scored_beside_the_embedding():
    import pandas as pd

    embeddings, labels = cohort(4)
    frames = [pd.DataFrame({"width": (of == "PV") * 2.0}) for of in labels]
    found = evaluated(embeddings, labels, features=frames, shuffles=0)
    assert found.methods == ["embedding", "embedding and features, averaged"]
    assert macro(found, found.methods[1]) > macro(found) + 0.05
    assert macro(found) == macro(evaluated(embeddings, labels, shuffles=0))
    assert found.provenance["features"] == ["width"]


# --- what cannot be evaluated -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_jobs": 0}, "n_jobs must be a number of processes, .* not 0"),
        ({"n_jobs": "all"}, "n_jobs must be a number of processes"),
        ({"shuffles": -1}, "shuffles must be a whole number from 0 on, not -1"),
        ({"shuffles": 2.5}, "shuffles must be a whole number"),
        ({"seed": -1}, "seed must be a whole number from 0 on, not -1"),
        ({"seed": 1.5}, "seed must be a whole number from 0 on, not 1.5"),
        ({"protocol": "zero-shot", "test_animals": "animal0"}, r"such as \['animal0'\]"),
        ({"others": {"embedding": [np.ones((80, 2))] * 2}}, "'embedding' cannot be the name of a method"),
        ({"others": {1: [np.ones((80, 2))] * 2}}, "1 cannot be the name of a method"),
        ({"others": {"x": [np.ones(80)] * 2}}, r"x: give arrays of shape \(n_units, k\)"),
        ({"others": {"x": [np.ones((80, 2)), np.ones((80, 3))]}}, "x: give arrays of shape"),
        ({"others": {"x": [np.full((80, 2), "a")] * 2}}, "x: contains values that are not numbers"),
        ({"others": {"x": [np.full((80, 2), np.nan)] * 2}}, "x: is NaN for all labelled units"),
        ({"splits": [Split("x", np.arange(158) < 79, np.arange(158) >= 79)]}, "integer positions of units, not bool"),
    ],
)
def test_nonsense_is_refused_in_one_line(settings, message):
    with pytest.raises(InputError, match=message) as error:
        evaluate(*cohort(2), progress=False, **{"shuffles": 0, **settings})
    assert "\n" not in str(error.value)


def test_learning_curves_refuse_nonsense():
    embeddings, labels = cohort(2)
    for settings, message in (
        ({"shares": [0.5, 2.0]}, r"shares must lie in \(0, 1\], not 2.0"),
        ({"shares": [0]}, "shares must lie in"),
        ({"repeats": 0}, "repeats must be a whole number from 1 on, not 0"),
        ({"n_jobs": 0}, "n_jobs must be"),
        ({"seed": -1}, "seed must be a whole number"),
    ):
        with pytest.raises(InputError, match=message):
            label_efficiency(embeddings, labels, progress=False, **settings)
    with pytest.raises(InputError, match="n_jobs must be"):
        animal_scaling(embeddings, labels, progress=False, n_jobs=0)


def test_a_split_that_fits_to_one_class_is_named():
    embeddings, labels = cohort(2)
    labels[0][:] = "PV"
    with pytest.raises(InputError, match="split 'animal1': all training units are 'PV'"):
        evaluated(embeddings, labels, shuffles=0)


def test_own_splits_may_be_lists():
    embeddings, labels = cohort(2)
    sides = np.arange(79), np.arange(79, 158)
    arrays, lists = (
        evaluated(embeddings, labels, splits=[split], shuffles=0).predictions
        for split in (Split("x", *sides), Split("x", *(side.tolist() for side in sides)))
    )
    assert arrays.equals(lists)


@pytest.mark.filterwarnings("error")
def test_odd_numbers_of_others_are_harmless():
    """Infinite entries count as unknown, and columns that never change say nothing."""
    embeddings, labels = cohort(3)
    rows = [np.random.default_rng(k).standard_normal((80, 3)) for k in range(3)]
    unknown = [one.copy() for one in rows]
    for infinite, nan in zip(rows, unknown, strict=True):
        infinite[3, 1], nan[3, 1] = np.inf, np.nan
    others = {"infinite": rows, "unknown": unknown, "constant": [np.ones((80, 2))] * 3}
    found = evaluated(embeddings, labels, others=others, shuffles=0)
    assert macro(found, "infinite") == macro(found, "unknown")
    assert (found.predictions_of("constant")["confidence"] < 0.5).all()


def test_odd_names_of_classes_change_no_score():
    embeddings, labels = cohort(3)
    names = dict(zip(np.unique(CLASSES), ["a(", "p(x)", "ü)( 神"], strict=True))  # in the same order
    renamed = [np.array([names[label] for label in of]) for of in labels]
    plain, odd = (evaluated(embeddings, of, shuffles=1, positions=[np.arange(80)] * 3) for of in (labels, renamed))
    np.testing.assert_array_equal(plain.scores["value"], odd.scores["value"])
    assert set(odd.predictions["best_label"]) == set(names.values())


def test_threads_change_no_number():
    from threadpoolctl import threadpool_limits

    embeddings, labels = cohort(2, units=1100, dim=128)  # enough for threads
    evaluations = []
    for threads in (1, 4):
        with threadpool_limits(threads):
            evaluations.append(evaluated(embeddings, labels, shuffles=1, n_jobs=1))
    assert same_numbers(*evaluations)


@pytest.mark.slow
def test_processes_change_no_number(monkeypatch):
    monkeypatch.setattr(parallel, "_WORTH_PROCESSES", 0)
    embeddings, labels = cohort(3)
    assert same_numbers(*(evaluated(embeddings, labels, shuffles=1, n_jobs=n_jobs) for n_jobs in (1, 2)))


def same_numbers(a, b):
    return a.predictions.equals(b.predictions) and a.scores.equals(b.scores)
