"""Which labelled neurons a unit resembles, as a decoder says it and keeps it in its file."""

import dataclasses
import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from test_decoder import cohort, recording

from spikeinterface_nuclr import CheckpointError, Decoder, InputError, fit_decoder
from spikeinterface_nuclr.decoding.reference_units import REFERENCE_UNITS


@pytest.fixture(scope="module")
def fitted():
    embeddings, labels = cohort(4)
    return fit_decoder(embeddings, labels, target="type"), embeddings, labels


def test_the_nearest_neurons_are_those_of_a_search_through_all(fitted):
    decoder, embeddings, labels = fitted
    new, _ = recording("new")
    found = decoder.nearest_labelled(new, count=3)
    assert found.index.tolist() == np.repeat(np.arange(1, 80), 3).tolist()  # the first unit has no embedding
    readout, reference = decoder.readouts["s1"], decoder.references["s1"]
    rows = np.concatenate([one.embedding[1:] for one in embeddings])
    units = np.concatenate([np.arange(1, 80)] * 4)
    animals = np.repeat([f"animal{k}" for k in range(4)], 79)
    for unit in (1, 40, 79):
        at = readout.standardised(new.embedding[unit : unit + 1].astype(float))
        distance = np.linalg.norm(readout.standardised(rows.astype(float)) - at, axis=1)
        nearest = np.argsort(distance)[:3]
        part = found.loc[unit]
        assert part["neuron"].tolist() == [str(k) for k in units[nearest]]
        assert part["animal"].tolist() == animals[nearest].tolist()
        assert part["label"].tolist() == np.concatenate([one[1:] for one in labels])[nearest].tolist()
        np.testing.assert_allclose(part["distance"], distance[nearest] / reference.typical, rtol=1e-5)
        np.testing.assert_array_equal(part["rank"], [1, 2, 3])


def test_a_training_unit_is_its_own_nearest_neuron(fitted):
    decoder, embeddings, _ = fitted
    first = decoder.nearest_labelled(embeddings[2], count=1)
    assert first["neuron"].tolist() == [str(k) for k in range(1, 80)]
    assert set(first["animal"]) == {"animal2"}
    assert first["distance"].max() < 1e-3


def test_novelty_is_the_mean_distance_of_the_nearest_neurons(fitted):
    decoder, *_ = fitted
    new, _ = recording("new")
    mean = decoder.nearest_labelled(new, count=5).groupby(level=0)["distance"].mean()
    np.testing.assert_allclose(mean, decoder.predict(new).novelty[1:], rtol=1e-5)


def test_recordings_have_the_names_of_their_sessions_or_files(fitted):
    _, embeddings, labels = fitted
    sources = [{"subject": "a", "session": "day 1", "source": "x/one.nwb"}, {"subject": "b", "source": "x/two.nwb"}]
    named = [
        dataclasses.replace(one, provenance=one.provenance.replace(source=source))
        for one, source in zip(embeddings, sources, strict=False)
    ]
    decoder = fit_decoder(named, labels[:2], target="type")
    found = decoder.nearest_labelled(recording("new")[0])
    assert set(found["recording"]) == {"day 1", "two.nwb"}


def test_a_file_keeps_them_and_its_identity_does_not_depend_on_them(fitted, tmp_path):
    decoder, *_ = fitted
    new, _ = recording("new")
    loaded = Decoder.load(decoder.save(tmp_path / "d.safetensors"))
    assert loaded.sha256 == decoder.sha256
    assert loaded.nearest_labelled(new).equals(decoder.nearest_labelled(new))
    card = {key: value for key, value in decoder.card.items() if key != REFERENCE_UNITS}
    older = dataclasses.replace(decoder, card=card)
    assert older.sha256 == decoder.sha256
    older = Decoder.load(older.save(tmp_path / "older.safetensors"))
    assert older.predict(new).label.tolist() == decoder.predict(new).label.tolist()
    with pytest.raises(InputError, match=r"older.safetensors: does not say who its neurons are: fit it again"):
        older.nearest_labelled(new)


@pytest.mark.parametrize("damage", [lambda u: u["labels"].pop(), lambda u: u.update(animals=[1]), lambda u: u.clear()])
def test_a_file_with_other_units_is_refused(fitted, tmp_path, damage):
    path = fitted[0].save(tmp_path / "d.safetensors")
    with safe_open(path, framework="numpy") as file:
        content = json.loads(file.metadata()["nuclr_decoder"])
    damage(content["card"][REFERENCE_UNITS])
    save_file(load_file(path), path, {"nuclr_decoder": json.dumps(content)})
    with pytest.raises(CheckpointError, match=r"d.safetensors: "):
        Decoder.load(path)


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "three"])
def test_a_count_that_is_none_is_refused(fitted, count):
    with pytest.raises(InputError, match="count must be a number of neurons"):
        fitted[0].nearest_labelled(recording("new")[0], count=count)
