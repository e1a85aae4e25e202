"""Ensembles: several trainings in one checkpoint, and the agreement of what is read from each."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pynwb
import pytest
import torch
from analyzers import build_analyzer
from nwb_files import add_units, new_nwb, write_nwb_file

from spikeinterface_nuclr import (
    Checkpoint,
    CheckpointError,
    Decoder,
    Encoder,
    EncoderConfig,
    InputError,
    PretrainConfig,
    UnitEmbeddings,
    embed,
    fit_decoder,
    load_checkpoint,
    pretrain,
    read_nwb,
    simulate_population,
    write_nwb,
)

CONFIG = EncoderConfig(dim=16, heads=2, head_dim=8, num_patches=5, input_scale="log1p+acg")
QUICK = {"precision": "float32", "progress": False}


def one(seed: int) -> Checkpoint:
    torch.manual_seed(seed)
    return Checkpoint(CONFIG, Encoder(CONFIG).state_dict(), {"seed": seed}, f"seed {seed}")


@pytest.fixture(scope="module")
def members() -> list[Checkpoint]:
    return [one(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def model(members, tmp_path_factory):
    return Checkpoint.joined(members).save(tmp_path_factory.mktemp("model") / "three.safetensors")


@pytest.fixture(scope="module")
def population():
    return simulate_population(12, 30.0, seed=50)


def session(population, path):
    return write_nwb_file(path, add_units(new_nwb(), population.spike_times, unit_name=population.unit_ids))


def decoder_of(model, path):
    populations = [simulate_population(20, 30.0, seed=seed) for seed in range(4)]
    embeddings = [embed(population, model, **QUICK) for population in populations]
    return fit_decoder(embeddings, [p.properties["cell_type"] for p in populations], target="cell_type").save(path)


@pytest.fixture(scope="module")
def decoder(model, tmp_path_factory):
    return decoder_of(model, tmp_path_factory.mktemp("decoder") / "three.safetensors")


@pytest.fixture(scope="module")
def decoder_of_one(model, tmp_path_factory):
    return decoder_of(f"{model}#1", tmp_path_factory.mktemp("decoder") / "one.safetensors")


def test_an_ensemble_holds_its_members(members, model):
    joined = load_checkpoint(model)
    assert joined.config == dataclasses.replace(CONFIG, members=3)
    assert sum(w.numel() for w in joined.weights.values()) == joined.config.num_parameters == 3 * CONFIG.num_parameters
    assert [m.sha256 for m in joined.members] == [m.sha256 for m in members]
    assert [m.card for m in joined.members] == [m.card for m in members]
    assert [m["sha256"] for m in joined.card["members"]] == [m.sha256 for m in members]
    assert Checkpoint.joined([Checkpoint.joined(members[:2]), members[2]]).sha256 == joined.sha256
    assert members[0].members == [members[0]]


def test_members_are_loaded_by_number(members, model):
    second = load_checkpoint(f"{model}#2")
    assert (second.sha256, second.name) == (members[1].sha256, f"{model}#2")
    assert load_checkpoint(f"{model}#2", sha256=second.sha256).card == {"seed": 1}
    with pytest.raises(CheckpointError, match=r"#4: .* has 3 member\(s\), numbered from 1"):
        load_checkpoint(f"{model}#4")
    with pytest.raises(CheckpointError, match="not the expected"):
        load_checkpoint(f"{model}#1", sha256=second.sha256)
    assert load_checkpoint("nuclr-starter-calcium#1").config.members == 1


def test_only_different_checkpoints_of_one_architecture_are_joined(members):
    other = dataclasses.replace(CONFIG, dim=32)
    wider = Checkpoint(other, Encoder(other).state_dict(), {}, "wider")
    with pytest.raises(CheckpointError, match="wider: its config differs from that of seed 0"):
        Checkpoint.joined([members[0], wider])
    for checkpoints in (members[:1], [members[0], members[0]], []):
        with pytest.raises(CheckpointError, match="two or more different checkpoints"):
            Checkpoint.joined(checkpoints)


def test_embeddings_are_those_of_the_members_side_by_side(members, model, population):
    together = embed(population, model, **QUICK)
    alone = [embed(population, member, **QUICK).embedding for member in members]
    assert together.embedding.shape == (12, 48)
    np.testing.assert_allclose(together.embedding, np.hstack(alone), atol=1e-6)
    assert np.isfinite(together.split_half_similarity).all()
    assert together.provenance.model["config"]["members"] == 3


def test_a_decoder_averages_the_members_and_states_their_agreement(members, decoder, model, population):
    fitted = Decoder.load(decoder)
    assert fitted.checkpoints == (load_checkpoint(model).sha256,)
    embeddings = embed(population, model, **QUICK)
    identities = fitted.predict(embeddings)
    # The same members, given one by one, are read in the same way.
    tables = np.split(embeddings.embedding, 3, axis=1)
    readouts = list(fitted.classifier.readouts.values())
    votes = [fitted.classes[readout(table).argmax(axis=1)] for readout, table in zip(readouts, tables, strict=True)]
    np.testing.assert_allclose(identities.agreement, np.mean(np.array(votes) == identities.best_label, axis=0))
    assert set(np.round(3 * identities.agreement)) <= {0, 1, 2, 3}
    assert identities.to_dataframe()["agreement"].tolist() == identities.agreement.tolist()
    assert identities.select([2, 0]).agreement.tolist() == identities.agreement[[2, 0]].tolist()
    with pytest.raises(InputError, match="embed with the same model"):
        fitted.predict(embed(population, members[0], **QUICK))


def test_one_member_has_no_agreement(decoder_of_one, model, population):
    identities = Decoder.load(decoder_of_one).predict(embed(population, f"{model}#1", **QUICK))
    assert identities.agreement is None
    assert "agreement" not in identities.to_dataframe()


def test_units_without_an_embedding_have_no_agreement(decoder, model):
    population = simulate_population(12, 30.0, seed=51)
    trains = [population.spike_times[0][:0], *population.spike_times[1:]]
    silent = dataclasses.replace(population, spike_times=trains)
    agreement = Decoder.load(decoder).predict(embed(silent, model, **QUICK)).agreement
    assert np.isnan(agreement[0])
    assert np.isfinite(agreement[1:]).all()


def test_agreement_is_stored_in_nwb_files(decoder, model, population, tmp_path):
    path = session(population, tmp_path / "session.nwb")
    embeddings = embed(population, model, **QUICK)
    identities = Decoder.load(decoder).predict(embeddings)
    write_nwb(path, embeddings, identities=identities, in_place=True)
    read, [stored] = read_nwb(path)
    np.testing.assert_array_equal(stored.agreement, identities.agreement)
    again = Decoder.load(decoder).predict(read)
    np.testing.assert_array_equal(again.probability, identities.probability)
    with pynwb.NWBHDF5IO(path, "r") as io:
        table = io.read().processing["nuclr"]["cell_type"]
        assert table["agreement"][:].tolist() == identities.agreement.tolist()


def test_from_the_shell(nuclr, members, model, decoder, population, tmp_path):
    files = [member.save(tmp_path / f"{i}.safetensors") for i, member in enumerate(members)]
    done = nuclr("convert", *files, tmp_path / "joined.safetensors")
    assert f"3 network(s), sha256 {load_checkpoint(model).sha256}" in done.stdout
    path = session(population, tmp_path / "session.nwb")
    nuclr("predict", path, "--decoder", decoder, "--model", model, "-o", tmp_path / "units.csv", "-q")
    table = pd.read_csv(tmp_path / "units.csv")
    assert table["agreement"].between(0, 1).all()
    nuclr("predict", path, "--decoder", decoder, "--model", model, "--in-place", "-q")
    nuclr("embed", path, "--model", f"{model}#1", "-o", tmp_path / "first.npz", "-q")
    assert UnitEmbeddings.load(tmp_path / "first.npz").embedding.shape == (12, 16)


def test_in_an_analyzer(decoder, model, population):
    analyzer = build_analyzer(population, format="memory", folder=None)
    analyzer.compute(
        {"nuclr_embedding": {"model": model, "precision": "float32"},
         "nuclr_identity": {"decoder": decoder, "publish": True}}
    )  # fmt: skip
    identities = analyzer.get_extension("nuclr_identity").get_identities()
    assert np.isfinite(identities.agreement).all()
    np.testing.assert_array_equal(analyzer.get_sorting_property("nuclr_cell_type_agreement"), identities.agreement)


def test_the_agreement_of_an_earlier_decoder_does_not_stay(decoder, decoder_of_one, model, population):
    analyzer = build_analyzer(population, format="memory", folder=None)
    analyzer.compute("nuclr_embedding", model=model, precision="float32")
    analyzer.compute("nuclr_identity", decoder=decoder, publish=True)
    analyzer.compute("nuclr_embedding", model=f"{model}#1", precision="float32")
    analyzer.compute("nuclr_identity", decoder=decoder_of_one, publish=True)
    assert analyzer.get_extension("nuclr_identity").get_identities().agreement is None
    assert np.isnan(analyzer.get_sorting_property("nuclr_cell_type_agreement")).all()


def test_a_member_is_found_again_from_another_folder(nuclr, model, population, tmp_path, monkeypatch):
    monkeypatch.chdir(model.parent)
    analyzer = build_analyzer(population, format="memory", folder=None)
    analyzer.compute("nuclr_embedding", model=f"{model.name}#2", precision="float32")
    monkeypatch.chdir(tmp_path)
    merged = analyzer.merge_units([analyzer.unit_ids[:2]])
    embeddings = merged.get_extension("nuclr_embedding").get_embeddings()
    assert embeddings.provenance.checkpoint == f"{model}#2"
    assert np.isfinite(embeddings.embedding).all()
    assert load_checkpoint(f"{model}#2").sha256 in nuclr("info", f"{model}#2").stdout
    listed = dict(line.split(maxsplit=1) for line in nuclr("info", model).stdout.splitlines())
    assert listed["members"] == "3"
    assert listed[f"{model}#2"] == f"sha256 {load_checkpoint(f'{model}#2').sha256[:12]}…"
    described = dict(line.split(maxsplit=1) for line in nuclr("info", "nuclr-starter").stdout.splitlines())
    assert described["nuclr-starter#1"].endswith("May2214, T182, T179")
    assert "trained on 195 animals, not on" in described["nuclr-starter#1"]
    assert re.match("195: .*, T209, ", nuclr("info", "nuclr-starter#1").stdout.split("training_animals")[1].strip())
    assert "computes the same here" in nuclr("info", "--check", f"{model}#2").stdout


def test_embeddings_that_do_not_name_their_members_are_refused(decoder, model, population):
    embeddings = embed(population, model, **QUICK)
    unknown = dataclasses.replace(embeddings, provenance=embeddings.provenance.replace(model=None))
    with pytest.raises(InputError, match="reads the members of an ensemble, which these embeddings do not name"):
        Decoder.load(decoder).predict(unknown)


@pytest.mark.parametrize("cards", [3, ["a", "b", "c"], [None, {}, {}], [{}]])
def test_a_card_that_was_edited_by_hand_does_no_harm(model, cards):
    joined = load_checkpoint(model)
    edited = dataclasses.replace(joined, card={"members": cards})
    assert [member.card for member in edited.members] == [{}, {}, {}]
    assert [member.sha256 for member in edited.members] == [member.sha256 for member in joined.members]


def test_members_are_trained_one_by_one(nuclr, model, tmp_path):
    with pytest.raises(InputError, match=r"encoder\.members must be 1"):
        PretrainConfig(encoder=dataclasses.replace(CONFIG, members=2))
    populations = [simulate_population(12, 30.0, seed=seed) for seed in range(2)]
    with pytest.raises(InputError, match="is an ensemble: start from one of its members"):
        pretrain(populations, tmp_path / "m.safetensors", initial=model, progress=False)
    session(simulate_population(12, 30.0), tmp_path / "a.nwb")
    arguments = ("train", tmp_path / "a.nwb", "-o", tmp_path / "m.safetensors", "--set", "steps=1", "-q")
    assert "start from one of its members" in nuclr(*arguments, "--from", model, code=3).stderr
    nuclr(*arguments, "--from", f"{model}#2")
