"""Pairs of units: their embeddings, and decoders of connections that read them."""

import numpy as np
import pytest
from test_decoder import recording

from spikeinterface_nuclr import (
    Checkpoint,
    InputError,
    UnitEmbeddings,
    embed,
    evaluate,
    fit_decoder,
    fit_regressor,
    pair_embeddings,
    simulate_population,
)


def neurons(animal: str, units: int = 30, **kwargs) -> UnitEmbeddings:
    return recording(animal, units=units, **kwargs)[0]


def test_all_pairs_of_embedded_units_once_or_in_both_directions():
    one = neurons("a", 6)  # the first has no embedding
    directed = pair_embeddings(one)
    assert len(directed.unit_ids) == 5 * 4
    assert {"1 -> 2", "2 -> 1"} <= set(directed.unit_ids)
    undirected = pair_embeddings(one, directed=False)
    assert len(undirected.unit_ids) == 10
    assert "1 -- 2" in set(undirected.unit_ids)
    assert np.isfinite(directed.embedding).all()
    assert directed.embedding.shape[1] == 4 * 16
    assert undirected.embedding.shape[1] == 3 * 16


def test_features_are_those_of_standardised_embeddings():
    one = neurons("a", 8)
    pairs = pair_embeddings(one, [[3, 5], [5, 3], [0, 3]])
    z = one.embedding.astype(float)
    z = (z - np.nanmean(z, axis=0)) / np.nanstd(z, axis=0)
    a, b = z[3], z[5]
    np.testing.assert_allclose(pairs.embedding[0], np.r_[a, b, a * b, np.abs(a - b)], atol=1e-5)
    np.testing.assert_allclose(pairs.embedding[1], np.r_[b, a, a * b, np.abs(a - b)], atol=1e-5)
    assert np.isnan(pairs.embedding[2]).all()
    assert pairs.num_windows.tolist() == [5, 5, 0]
    np.testing.assert_array_equal(
        pair_embeddings(one, [[3, 5]], directed=False).embedding,
        pair_embeddings(one, [[5, 3]], directed=False).embedding,
    )


def test_an_ensemble_stays_an_ensemble(checkpoint):
    other = Checkpoint(checkpoint.config, {k: w.flip(0) for k, w in checkpoint.weights.items()}, {"name": "other"})
    population = simulate_population(12, 60.0, seed=0)
    settings = {"precision": "float32", "progress": False}
    together = pair_embeddings(embed(population, Checkpoint.joined([checkpoint, other]), **settings))
    alone = [pair_embeddings(embed(population, member, **settings)).embedding for member in (checkpoint, other)]
    np.testing.assert_allclose(together.embedding, np.hstack(alone), atol=1e-3)
    labels = [np.resize(["connected", "not"], len(together.unit_ids))] * 2
    fitted = fit_decoder([together, together], labels, ["a", "b"], target="connection")
    assert len(fitted.members) == 2


def connected(embeddings: UnitEmbeddings, pairs: UnitEmbeddings) -> np.ndarray:
    """A directed rule: connected from neurons of high first to neurons of high second dimension."""
    row = {str(unit): k for k, unit in enumerate(embeddings.unit_ids)}
    at = np.array([[row[name] for name in pair.split(" -> ")] for pair in pairs.unit_ids])
    strength = embeddings.embedding[at[:, 0], 3] + embeddings.embedding[at[:, 1], 4]
    return np.where(strength > 1.0, "connected", "not")


def test_a_directed_rule_is_learnt_across_animals_and_direction_matters():
    animals = [f"m{k}" for k in range(5)]
    made = [neurons(animal) for animal in animals]
    pairs = [pair_embeddings(one) for one in made]
    labels = [connected(one, of) for one, of in zip(made, pairs, strict=True)]
    settings = {"shuffles": 0, "progress": False}
    found = evaluate(pairs, labels, animals, **settings)
    score = found.scores.query("method == 'embedding' and score == 'balanced accuracy'")["value"].item()
    assert score > 0.85
    symmetric = [pair_embeddings(one, directed=False) for one in made]
    either = []
    for one, of, known in zip(made, symmetric, labels, strict=True):
        of_pair = dict(zip(pair_embeddings(one).unit_ids.tolist(), known.tolist(), strict=True))
        either.append(np.array([of_pair[name.replace("--", "->")] for name in of.unit_ids.tolist()]))
    blind = evaluate(symmetric, either, animals, **settings)
    assert blind.scores.query("method == 'embedding' and score == 'balanced accuracy'")["value"].item() < score - 0.05


def test_a_decoder_of_pairs_reads_pairs_of_its_kind_alone(tmp_path):
    made = [neurons(f"m{k}") for k in range(3)]
    pairs = [pair_embeddings(one) for one in made]
    labels = [connected(one, of) for one, of in zip(made, pairs, strict=True)]
    decoder = fit_decoder(pairs, labels, target="connection")
    decoder = type(decoder).load(decoder.save(tmp_path / "connection.safetensors"))
    new = neurons("new")
    found = decoder.predict(pair_embeddings(new, [[1, 2], [2, 1]]), target_error=1.0)
    assert found.unit_ids.tolist() == ["1 -> 2", "2 -> 1"]
    assert np.isfinite(found.probability).all()
    for wrong in (new, pair_embeddings(new, directed=False)):
        with pytest.raises(InputError, match="reads embeddings of directed pairs of s1"):
            decoder.predict(wrong)
    strengths = [np.random.default_rng(k).standard_normal(len(of.unit_ids)) for k, of in enumerate(pairs)]
    assert fit_regressor(pairs, strengths, target="synapses").predict(pairs[0]).value.shape == (29 * 28,)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([[1, 99]], "pair 1, 99: unit 99 is not in the recording"),
        ([[1, 1]], "pair 1, 1: is a unit with itself"),
        ([[1, 2], [1, 2]], "pair 1, 2: occurs twice"),
        ([1, 2], r"pairs has shape \(2,\), not \(m, 2\)"),
    ],
)
def test_impossible_pairs_are_refused(pairs, message):
    with pytest.raises(InputError, match=message):
        pair_embeddings(neurons("a", 6), pairs)
    if message.endswith("twice"):
        with pytest.raises(InputError, match="occurs twice"):
            pair_embeddings(neurons("a", 6), [[1, 2], [2, 1]], directed=False)
