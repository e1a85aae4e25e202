"""Decoders: what they learn, when they abstain, what they refuse, and their files."""

import dataclasses
import warnings

import numpy as np
import pandas as pd
import pytest

from spikeinterface_nuclr import (
    CheckpointError,
    Decoder,
    InputError,
    RecordingWarning,
    UnitEmbeddings,
    fit_decoder,
    fit_regressor,
)
from spikeinterface_nuclr.decoding.calibration import expected_calibration_error, softmax, tempered
from spikeinterface_nuclr.decoding.neighbours import pooled

CLASSES = np.array(["α", "PV", "fast spiking"])


def recording(animal: str, units: int = 80, seed: int = 0, sha: str = "s1", shift: float = 1.5, dim: int = 16):
    """Embeddings of three classes that lie apart by `shift`, the first unit without a window; and the labels."""
    rng = np.random.default_rng([seed, *animal.encode()])
    truth = rng.integers(len(CLASSES), size=units)
    rows = rng.standard_normal((units, dim)) + shift * np.eye(3, dim)[truth]
    rows[0] = np.nan
    provenance = {
        "checkpoint_sha256": sha, "checkpoint": f"{sha}.safetensors", "population_fingerprint": animal,
        "source": {"subject": animal},
    }  # fmt: skip
    windows = np.where(np.arange(units) == 0, 0, 5)
    found = UnitEmbeddings(np.arange(units), rows.astype(np.float32), windows, np.ones(units, np.float32), provenance)
    return found, CLASSES[truth]


def of_subject(embeddings, name: str):
    """The embeddings as of a recording that names this animal."""
    return dataclasses.replace(embeddings, provenance=embeddings.provenance.replace(source={"subject": name}))


def cohort(animals: int, **kwargs):
    """Recordings and labels of several animals."""
    made = [recording(f"animal{k}", **kwargs) for k in range(animals)]
    return [embeddings for embeddings, _ in made], [labels for _, labels in made]


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return fit_decoder(*cohort(6), target="type")


def test_a_new_animal_is_read(decoder):
    embeddings, labels = recording("new")
    found = decoder.predict(embeddings)
    assert np.mean(found.best_label[1:] == labels[1:]) > 0.6  # at best 0.75, by chance 0.33
    assert found.classes.tolist() == sorted(CLASSES)
    np.testing.assert_allclose(found.probability[1:].sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(found.confidence[1:], found.probability[1:].max(axis=1))
    assert found.provenance["decoder_sha256"] == decoder.sha256
    assert found.provenance["checkpoint_sha256"] == ["s1"]


def test_a_unit_without_embedding_has_no_label(decoder):
    found = decoder.predict(recording("new")[0])
    assert (found.label[0], found.best_label[0], found.reason[0]) == ("unknown", "", "no embedding")
    assert np.isnan(found.probability[0]).all()
    assert np.isnan(found.confidence[0])
    assert np.isnan(found.novelty[0])


def test_abstaining_keeps_the_error_that_was_asked_for():
    fitted = fit_decoder(*cohort(15, shift=2.2), target="type")
    embeddings, labels = zip(*(recording(f"new{k}", shift=2.2) for k in range(30)), strict=True)
    truth = np.concatenate(labels)
    coverage = []
    for target_error in (0.05, 0.1, 0.2):
        found = [fitted.predict(one, target_error=target_error) for one in embeddings]
        kept = ~np.concatenate([one.abstained for one in found])
        assert np.mean(np.concatenate([one.label for one in found])[kept] != truth[kept]) < target_error
        coverage.append(kept.mean())
    assert coverage == sorted(coverage)
    assert coverage[0] > 0.3
    assert coverage[-1] > 0.9


def test_target_error_of_one_abstains_only_from_novel_units(decoder):
    found = decoder.predict(recording("new")[0], target_error=1.0)
    novel = found.novelty > found.provenance["novelty_limit"]
    np.testing.assert_array_equal(found.reason, ["no embedding", *np.where(novel[1:], "novel", "")])


def test_probabilities_of_new_animals_are_calibrated(decoder):
    # An overconfident fit: few units, many dimensions, a weak penalty.
    embeddings, labels = zip(*(recording(f"new{k}") for k in range(30)), strict=True)
    found = [decoder.predict(one) for one in embeddings]
    confidence = np.concatenate([one.confidence[1:] for one in found])
    right = np.concatenate([one.best_label[1:] == truth[1:] for one, truth in zip(found, labels, strict=True)])
    assert expected_calibration_error(confidence, right) < 0.05


def test_neurons_of_another_kind_are_novel(decoder):
    embeddings, _ = recording("new")
    far = UnitEmbeddings(
        embeddings.unit_ids, 3 * embeddings.embedding + 4, embeddings.num_windows, embeddings.split_half_similarity,
        embeddings.provenance,
    )  # fmt: skip
    near, strange = (decoder.predict(one, target_error=1.0) for one in (embeddings, far))
    assert np.median(near.novelty[1:]) == pytest.approx(1, abs=0.1)
    assert near.abstained[1:].mean() < 0.05
    assert set(strange.reason[1:]) == {"novel"}
    assert set(strange.label) == {"unknown"}


def test_saved_and_loaded_it_says_the_same(decoder, tmp_path):
    path = decoder.save(tmp_path / "type.safetensors")
    loaded = Decoder.load(path)
    assert loaded.sha256 == decoder.sha256
    embeddings, _ = recording("new")
    a, b = decoder.predict(embeddings), loaded.predict(embeddings)
    for name in ("best_label", "probability", "confidence", "reason", "novelty", "classes"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert loaded.animals == tuple(f"animal{k}" for k in range(6))
    assert loaded.card["support"].keys() == set(CLASSES)
    assert loaded.card["calibrated_on"] == "animals"
    with pytest.raises(CheckpointError, match="not the expected"):
        Decoder.load(path, sha256="0" * 64)


def test_fitting_again_gives_the_same_file(decoder):
    assert fit_decoder(*cohort(6), target="type").sha256 == decoder.sha256


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "not a readable"), (b"\x00" * 400, "not a readable"), (None, "no such decoder")]
)
def test_what_is_no_decoder_is_refused(tmp_path, content, message):
    path = tmp_path / "x.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as refusal:
        Decoder.load(path)
    assert "\n" not in str(refusal.value)


def test_a_checkpoint_is_no_decoder():
    from spikeinterface_nuclr.model.loading import BUNDLED

    with pytest.raises(CheckpointError, match="not a decoder"):
        Decoder.load(BUNDLED / "nuclr-starter.safetensors")


def test_embeddings_of_another_checkpoint_are_refused(decoder):
    with pytest.raises(InputError, match=r"reads embeddings of s1\.safetensors s1, these are of s2"):
        decoder.predict(recording("new", sha="s2")[0])
    embeddings, labels = cohort(2)
    other, more = recording("x", sha="s2")
    with pytest.raises(InputError, match=r"recording 2: embedded by s2, the first by s1"):
        fit_decoder([*embeddings, other], [*labels, more], target="type")


def test_an_animal_that_was_fitted_to_is_named(decoder):
    with pytest.warns(RecordingWarning, match="animal2"):
        decoder.predict(recording("animal2")[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decoder.predict(recording("new")[0])


def test_several_checkpoints_are_averaged():
    def twice(animal):
        return tuple(recording(animal, sha=sha)[0] for sha in ("s1", "s2"))

    animals = [f"animal{k}" for k in range(4)]
    labels = [recording(animal)[1] for animal in animals]
    both = fit_decoder([twice(animal) for animal in animals], labels, target="type")
    found = both.predict(twice("new"))
    assert found.provenance["checkpoint_sha256"] == ["s1", "s2"]
    raw = [both.classifier.readouts[sha](one.embedding[1:].astype(float)) for sha, one in zip(
        ("s1", "s2"), twice("new"), strict=True)]  # fmt: skip
    mean = np.mean([softmax(logits) for logits in raw], axis=0)
    np.testing.assert_allclose(found.probability[1:], tempered(mean, both.classifier.temperatures), atol=1e-6)
    with pytest.raises(InputError, match="averages 2 checkpoints"):
        both.predict(twice("new")[0])


def test_other_features_are_fused_by_name():
    embeddings, labels = cohort(4, shift=0.0)  # nothing to be read from the embeddings
    frames = [pd.DataFrame({"width": (of == "PV") * 2.0, "noise": np.arange(len(of)) % 7}) for of in labels]
    frames[0].iloc[3] = np.nan
    fused = fit_decoder(embeddings, labels, target="type", features=frames)
    assert fused.columns == ("width", "noise")
    new, truth = recording("new", shift=0.0)
    frame = pd.DataFrame({"other": 1.0, "noise": np.arange(80) % 7, "width": (truth == "PV") * 2.0})
    found = fused.predict(new, frame)
    pv = found.probability[1:, found.classes.tolist().index("PV")]
    assert pv[truth[1:] == "PV"].mean() > pv[truth[1:] != "PV"].mean() + 0.2
    assert found.provenance["features"] == ["width", "noise"]
    with pytest.raises(InputError, match="give width, noise"):
        fused.predict(new)
    with pytest.raises(InputError, match="lack the column 'width'"):
        fused.predict(new, frame.drop(columns="width"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e, y: (e, [y[0][:-1], *y[1:]]), r"recording 0: labels has shape \(79,\) for 80 units"),
        (lambda e, y: (e, y[:-1]), "labels: give one entry for each of the 3 recordings"),
        (lambda e, y: (e, [np.full(80, "same")] * 3), "two classes"),
        (lambda e, y: (e, [np.full(80, "")] * 3), "both an embedding and a label"),
        (lambda e, y: (e, [np.arange(80) / 3, *y[1:]]), r"recording 0: labels: holds numbers, .*: use fit_regressor"),
    ],
)
def test_labels_that_do_not_fit_are_refused(change, message):
    embeddings, labels = change(*cohort(3))
    with pytest.raises(InputError, match=message):
        fit_decoder(embeddings, labels, target="type")


def test_a_recording_without_a_subject_needs_an_animal():
    embeddings, labels = cohort(2)
    embeddings = [of_subject(one, "") for one in embeddings]
    with pytest.raises(InputError, match="names no subject"):
        fit_decoder(embeddings, labels, target="type")
    assert fit_decoder(embeddings, labels, ["a", "b"], target="type").animals == ("a", "b")


def test_doubtful_classes_are_named():
    embeddings, labels = cohort(3)
    labels[1] = labels[1].astype(object)
    labels[1][5:7] = "rare"
    labels[2] = np.where(labels[2] == "PV", "local", labels[2])
    with pytest.warns(RecordingWarning) as caught:
        fit_decoder(embeddings, labels, target="type")
    said = " ".join(str(one.message) for one in caught)
    assert "'rare' has 2 units" in said
    assert "'local' was seen in one animal, animal2" in said


def test_one_animal_is_said_to_be_one():
    embeddings, labels = cohort(1)
    with pytest.warns(RecordingWarning, match="one animal only"):
        found = fit_decoder(embeddings, labels, target="type")
    assert found.card["calibrated_on"] == "units of one animal"
    # Its own units, however many, say nothing of the errors in another animal.
    new = recording("new")[0]
    assert set(found.predict(new).label) == {"unknown"}
    assert (found.predict(new, target_error=1).label != "unknown").sum() > 50


def test_missing_labels_are_left_out():
    embeddings, labels = cohort(2)
    labels[0] = labels[0].astype(object)
    labels[0][3:6] = [None, float("nan"), ""]
    assert fit_decoder(embeddings, labels, target="type").card["units"] == 2 * 79 - 3


def test_a_scale_is_read_with_an_interval(tmp_path):
    def depths(embeddings):
        noise = np.random.default_rng(0).standard_normal(len(embeddings.unit_ids))
        return 100 * embeddings.embedding[:, 0].astype(float) + 30 * noise

    embeddings, _ = cohort(5)
    regressor = fit_regressor(embeddings, [depths(one) for one in embeddings], target="depth")
    new = [recording(f"new{k}")[0] for k in range(10)]
    found = [regressor.predict(one, coverage=0.8) for one in new]
    truth = np.concatenate([depths(one)[1:] for one in new])
    low, high = (np.concatenate([getattr(one, name)[1:] for one in found]) for name in ("low", "high"))
    assert 0.74 < np.mean((truth >= low) & (truth <= high)) < 0.86
    assert regressor.card["r2_left_out"] > 0.8
    assert np.isnan(found[0].value[0])
    loaded = type(regressor).load(regressor.save(tmp_path / "depth.safetensors"))
    np.testing.assert_array_equal(loaded.predict(new[0]).value, regressor.predict(new[0]).value)
    with pytest.raises(InputError, match=r"reads embeddings of .*s1, these are of s2: .* or fit another regressor"):
        regressor.predict(recording("new", sha="s2")[0])
    with pytest.raises(CheckpointError, match="reads numbers"):
        Decoder.load(tmp_path / "depth.safetensors")


# --- neighbours -------------------------------------------------------------------------------------------------------


def test_pooling_takes_the_nearest_on_the_same_probe():
    probability = np.array([[1.0, 0], [0, 1], [0, 1], [1, 0], [np.nan, np.nan]])
    position = np.array([0.0, 50, 70, 0, 1])
    probe = np.array(["a", "a", "a", "b", "a"])
    expected = [[0.5, 0.5], [1 / 3, 2 / 3], [0, 1], [1, 0], [np.nan, np.nan]]
    np.testing.assert_allclose(pooled(probability, position, probe), expected)
    np.testing.assert_allclose(pooled(probability, position, probe, count=1)[:4], probability[:4])
    lost = pooled(probability, np.array([0.0, 50, np.nan, 0, 1]), probe)
    np.testing.assert_allclose(lost[:3], [[0.5, 0.5], [0.5, 0.5], [0, 1]])  # without a place, without neighbours


# --- features as people have them -------------------------------------------------------------------------------------


def test_features_are_matched_by_unit_id():
    embeddings, labels = cohort(3, shift=0.0)
    frames = [pd.DataFrame({"width": (of == "PV") * 2.0}, index=[f"{k}" for k in range(80)]) for of in labels]
    fused = fit_decoder(embeddings, labels, target="type", features=frames)
    new, truth = recording("new", shift=0.0)
    frame = pd.DataFrame({"width": (truth == "PV") * 2.0}, index=np.arange(80) + 0)
    frame.index = pd.Index(np.arange(80), name="unit_id")
    straight, turned = fused.predict(new, frame), fused.predict(new, frame.iloc[::-1])
    np.testing.assert_array_equal(straight.probability, turned.probability)
    with pytest.raises(InputError, match="name each unit once"):
        fused.predict(new, frame.iloc[:-1].set_axis(np.arange(1, 80)))
    with pytest.raises(InputError, match="holds no numbers"):
        fused.predict(new, pd.DataFrame({"width": ["a"] * 80}))
    with pytest.raises(InputError, match="pandas DataFrame"):
        fused.predict(new, np.ones((80, 1)))


@pytest.mark.parametrize("fit", [fit_decoder, fit_regressor])
def test_a_seed_that_is_none_is_refused(fit):
    with pytest.raises(InputError, match=r"seed must be a whole number from 0 on, not -1"):
        fit(*cohort(2), target="type", seed=-1)


def test_a_card_that_json_cannot_hold_is_refused_before_the_fit():
    import datetime

    with pytest.raises(InputError, match="card: JSON cannot hold it"):
        fit_decoder(*cohort(2), target="type", card={"date": datetime.date(2026, 1, 1)})
