"""The same neuron in several recordings: matching, its calibration, neurons over many recordings, oversplits."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from nwb_files import add_units, new_nwb, write_nwb_file

from spikeinterface_nuclr import (
    InputError,
    Matcher,
    Population,
    UnitMatches,
    embed,
    evaluate_matches,
    find_oversplits,
    fit_matcher,
    match_units,
    plot_nuclr_matches,
    read_population,
    simulate_days,
    simulate_fluorescence,
    simulate_population,
)
from spikeinterface_nuclr.intervals import alternating
from spikeinterface_nuclr.matching import links
from spikeinterface_nuclr.matching.cache import Cache
from spikeinterface_nuclr.matching.calibration import FEATURES
from spikeinterface_nuclr.matching.combination import Combination
from spikeinterface_nuclr.matching.compared import _kept
from spikeinterface_nuclr.matching.evidence import SCALES_S, Evidence, GroupEvidence, RecordingEvidence, correlations
from spikeinterface_nuclr.matching.links import correspondences, links_of
from spikeinterface_nuclr.matching.neurons import neuron_ids
from spikeinterface_nuclr.matching.oversplits import log_ratio, refractory_fraction, refractory_spikes
from spikeinterface_nuclr.matching.relations import compare, compare_from, one_to_one
from spikeinterface_nuclr.simulation import analyzer_of
from spikeinterface_nuclr.unit_matches import named_pairs


@pytest.fixture(scope="module")
def days() -> list[Population]:
    return simulate_days(3, n_units=40, duration=300.0, drift=0.05, turnover=0.15, seed=1)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("evidence")


@pytest.fixture(scope="module")
def matches(days, cache) -> UnitMatches:
    return match_units(days, cache=cache, progress=False)


def calcium(n_units, duration, seed=0) -> Population:
    fluorescence = simulate_fluorescence(simulate_population(n_units, duration, seed=seed), seed=seed)
    return read_population(fluorescence, sampling_frequency=5.0, traces="fluorescence")


def truth_of(days, first, second):
    return days[first].properties["neuron"][:, None] == days[second].properties["neuron"]


# --- what is matched --------------------------------------------------------------------------------------------------


def test_neurons_are_found_again_and_few_named_pairs_are_wrong(days, matches):
    named = right = common = 0
    for first, second in ((0, 1), (1, 2), (0, 2)):
        same, pairs = truth_of(days, first, second), matches.named_between(first, second)
        named, right, common = named + pairs.sum(), right + (pairs & same).sum(), common + same.sum()
    assert named > common / 2
    assert right / named > 0.9


def test_probabilities_are_calibrated_on_known_neurons(days, matches):
    table = evaluate_matches(matches, "neuron", days).calibration.query("pairs >= 20")
    assert np.abs(table["probability"] - table["same"]).max() < 0.3


def test_the_embedding_and_the_relations_are_better_than_the_baselines(days, matches):
    scores = evaluate_matches(matches, "neuron", days).to_dataframe()["top_1"]
    baselines = scores.drop(["matches", "embedding alone"])
    assert scores["matches"] > scores["embedding alone"] > scores["chance"]
    assert scores["matches"] >= baselines.max()


def test_recordings_without_a_common_neuron_have_no_named_pair():
    first, second = (simulate_days(1, n_units=30, duration=240.0, seed=seed)[0] for seed in (5, 6))
    matches = match_units(first, second, names=["a", "b"], progress=False)
    assert matches.named.sum() <= 1
    assert len(np.unique(np.concatenate(matches.neuron_id))) >= 59


def test_the_order_of_recordings_changes_nothing_but_the_order(days, matches):
    swapped = match_units(days[1], days[0], progress=False)
    matcher = fit_matcher(days[:2], progress=False)
    one, other = (match_units(*pair, matcher=matcher, progress=False) for pair in (days[:2], days[1::-1]))
    assert swapped.recordings == (matches.recordings[1], matches.recordings[0])
    assert np.allclose(one.probability_between(0, 1), other.probability_between(1, 0), atol=1e-3)


def test_the_same_call_gives_the_same_result(days, matches):
    again = match_units(days, progress=False)
    assert np.array_equal(again.probability, matches.probability)
    assert all(map(np.array_equal, again.neuron_id, matches.neuron_id))


def test_a_stopped_run_goes_on_from_what_was_kept(days, matches, cache, monkeypatch):
    files = sorted(cache.iterdir())
    assert {path.name.partition("-")[0] for path in files} == {"evidence", "halves", "pair", "through"}
    files[0].write_bytes(files[0].read_bytes()[:100])  # damaged: computed again

    def refuse(*_, **__):
        raise AssertionError("embedded again")

    damaged_evidence = files[0].name.startswith("evidence")
    if not damaged_evidence:
        monkeypatch.setattr("spikeinterface_nuclr.embedding.embed", refuse)
    again = match_units(days, cache=cache, progress=False)
    assert np.array_equal(again.probability, matches.probability)


def test_another_recording_is_compared_directly_with_those_before_only(days, cache, monkeypatch):
    compared = []
    monkeypatch.setattr(links, "compare", lambda *sides: compared.append(sides) or compare(*sides))
    more = simulate_days(4, n_units=40, duration=300.0, drift=0.05, turnover=0.15, seed=1)
    assert all(day.fingerprint() == one.fingerprint() for day, one in zip(days, more, strict=False))
    match_units(more, cache=cache, progress=False)
    assert len(compared) == 3


def test_what_is_kept_serves_any_order_of_the_recordings(days, matches, cache, monkeypatch):
    monkeypatch.setattr(links, "compare", None)
    monkeypatch.setattr(links, "compare_from", None)
    back = match_units(days[::-1], cache=cache, progress=False)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert np.allclose(back.probability_between(2 - a, 2 - b), matches.probability_between(a, b), atol=0.02)


def test_what_is_kept_depends_on_the_probes_of_a_manifest(days, tmp_path):
    for number, day in enumerate(days):
        analyzer_of(day.select(np.arange(12))).save_as(folder=tmp_path / f"p{number}", format="binary_folder")
    paths = [tmp_path / f"p{number}" for number in range(3)]
    (tmp_path / "probes.csv").write_text("source,probe\np0,x\np1,x\np2,y\n")
    match_units(tmp_path / "probes.csv", cache=tmp_path / "kept", progress=False)
    kept = match_units(paths, cache=tmp_path / "kept", progress=False)
    fresh = match_units(paths, progress=False)
    assert np.array_equal(kept.probability, fresh.probability)
    assert np.array_equal(kept.pair_units, fresh.pair_units)


def test_every_unit_has_a_neuron_and_pairs_are_one_to_one(matches):
    for first, second in ((0, 1), (0, 2), (1, 2)):
        named = matches.named_between(first, second)
        assert named.sum(axis=0).max() <= 1
        assert named.sum(axis=1).max() <= 1
        probability = matches.probability_between(first, second)
        assert probability.sum(axis=0).max() <= 1 + 1e-5
        assert np.array_equal(matches.probability_between(second, first), probability.T)
        assert (probability.max(axis=1) > 0).all()
    for ids in matches.neuron_id:
        assert len(np.unique(ids)) == len(ids)


def test_units_without_an_embedding_have_no_partner_but_a_neuron(days):
    silent = dataclasses.replace(
        days[0], spike_times=[np.empty(0), *days[0].spike_times[1:]], properties=days[0].properties
    )
    matches = match_units(silent, days[1], progress=False)
    assert matches.probability_between(0, 1)[0].sum() == 0
    assert np.isnan(matches.similarity_between(0, 1)[0]).all()
    assert len(matches.neuron_id[0]) == 40


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_small_recording_among_three_does_not_stop_the_others(days, count):
    few = days[2].select(np.arange(count))
    matches = match_units(days[0], days[1], few, names=["a", "b", "c"], progress=False)
    same = truth_of(days, 0, 1)
    assert (matches.named_between(0, 1) & same).sum() > same.sum() / 2
    assert matches.probability_between(0, 2).shape == (40, count)


def test_only_groups_are_not_those_of_two_probes(days):
    def grouped(day, labels):
        return dataclasses.replace(day, group=np.array(labels))

    halves = ["g1"] * 20 + ["g2"] * 20
    parts = grouped(days[0], ["g1"] * 40), grouped(days[1], halves), grouped(days[2], ["g2"] * 40)
    matcher = fit_matcher(days[:1], progress=False)
    matches = match_units(*parts, names=["a", "b", "c"], matcher=matcher, progress=False)
    assert len(matches.rows_of(0, 2)) == 0
    assert len(matches.rows_of(0, 1)) > 0
    assert set(matches.pair_units[matches.rows_of(0, 1), 1]) <= set(range(20))
    with pytest.raises(InputError, match="a and b have no group of units in common"):
        match_units(parts[0], grouped(days[1], ["g2"] * 20 + ["g3"] * 20), names=["a", "b"], progress=False)


def test_groups_are_matched_by_name(days):
    groups = [np.where(np.arange(40) < 20, "0", "1"), np.where(np.arange(40) < 25, "1", "0")]
    parts = [dataclasses.replace(day, group=group) for day, group in zip(days, groups, strict=False)]
    probability = match_units(*parts, progress=False).probability_between(0, 1)
    assert (probability[groups[0][:, None] != groups[1]] == 0).all()
    other = dataclasses.replace(days[1], group=np.where(np.arange(40) < 20, "2", "3"))
    with pytest.raises(InputError, match="have no group of units in common"):
        match_units(parts[0], other, progress=False)


def test_a_group_of_silent_units_is_left_out(days):
    groups = np.where(np.arange(40) < 2, "silent", "probe")
    parts = [
        dataclasses.replace(day, group=groups, spike_times=[np.empty(0)] * 2 + list(day.spike_times[2:]))
        for day in days[:2]
    ]
    matches = match_units(parts, progress=False)
    assert matches.probability_between(0, 1)[:2].sum() == 0
    assert matches.named.sum() > 5


def test_features_do_not_pair_units_of_other_groups(days):
    groups = np.where(np.arange(40) < 20, "0", "1")
    parts = [dataclasses.replace(day, group=groups) for day in days[:2]]
    places = [np.resize(np.arange(20.0), 40)[:, None] for _ in parts]
    matches = match_units(parts, features={"place": places}, progress=False)
    assert (groups[matches.pair_units[:, 0]] == groups[matches.pair_units[:, 1]]).all()


def test_constant_features_change_nothing(days):
    rng = np.random.default_rng(0)
    places = [rng.standard_normal((40, 2)) for _ in range(2)]
    constant = [np.hstack([place, np.full((40, 1), 1.7e9)]) for place in places]
    one, other = (
        match_units(days[:2], features={"x": tables}, progress=False).probability for tables in (places, constant)
    )
    assert np.allclose(one, other, atol=1e-5)


def test_recordings_and_embeddings_are_matched_in_any_order(days):
    matcher = fit_matcher(days[:2], progress=False)
    embeddings = embed(days[1], progress=False)
    keywords = {"matcher": matcher, "names": ["a", "b"], "progress": False}
    one, other = match_units(days[0], embeddings, **keywords), match_units(embeddings, days[0], **keywords)
    assert np.allclose(one.probability_between(0, 1), other.probability_between(1, 0), atol=1e-5)


def test_every_unit_keeps_its_best_partner():
    rng = np.random.default_rng(0)
    pairs = np.argwhere(np.ones((6, 9)))
    for _ in range(20):
        probability = rng.random((6, 9)) * 0.009
        kept = _kept(pairs, probability.ravel()).reshape(6, 9)
        assert kept[np.arange(6), probability.argmax(axis=1)].all()
        assert kept[probability.argmax(axis=0), np.arange(9)].all()
        assert np.array_equal(_kept(pairs[:, ::-1], probability.ravel()), kept.ravel())


def test_a_file_of_another_kind_in_the_cache_is_computed_again(tmp_path):
    kept = Cache.of(tmp_path / "cache")
    first = kept.arrays("kind", [1], lambda: {"x": np.arange(3)})
    [path] = (tmp_path / "cache").iterdir()
    np.savez(path, y=np.zeros(2))
    again = kept.arrays("kind", [1], lambda: {"x": np.arange(3)})
    assert first["x"].tolist() == again["x"].tolist() == [0, 1, 2]
    assert kept.arrays("kind", [1], dict)["x"].tolist() == [0, 1, 2]
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be created"):
        Cache.of(tmp_path / "file")


def test_probes_of_a_manifest_are_kept_apart(days, tmp_path):
    paths = []
    for number, day in enumerate(days[:2]):
        path = tmp_path / f"day{number}.nwb"
        nwbfile = new_nwb()
        add_units(nwbfile, day.spike_times[:15])
        paths.append(write_nwb_file(path, nwbfile))
    manifest = tmp_path / "m.csv"
    manifest.write_text("source,probe\nday0.nwb,p0\nday1.nwb,p1\n")
    cache = tmp_path / "cache"
    assert len(match_units(manifest, cache=cache, progress=False).probability) == 0
    manifest.write_text("source,probe\nday0.nwb,p0\nday1.nwb,p0\n")
    assert len(match_units(manifest, cache=cache, progress=False).probability) > 0


def test_traces_are_matched():
    recordings = [calcium(20, 240.0, seed=3).within([[low, low + 120.0]]) for low in (0.0, 120.0)]
    recordings = [
        dataclasses.replace(r, metadata={**r.metadata, "session": f"part {k}"}) for k, r in enumerate(recordings)
    ]
    matches = match_units(recordings, progress=False)
    assert matches.provenance["signal"] == "traces"
    scores = evaluate_matches(matches, [np.arange(20).astype(str)] * 2).scores.set_index("method")
    assert scores.loc["embedding alone", "auc"] > 0.6
    assert scores.loc["matches", "top_1"] > scores.loc["chance", "top_1"]


def test_an_analyzer_is_a_source_and_its_embeddings_are_used(days, monkeypatch):
    analyzers = [analyzer_of(day.select(np.arange(12))) for day in days[:2]]
    for analyzer in analyzers:
        analyzer.compute("nuclr_embedding", progress_bar=False)
    seen = []
    original = embed

    def counted(population, *arguments, **keywords):
        seen.append(population.n_units)
        return original(population, *arguments, **keywords)

    monkeypatch.setattr("spikeinterface_nuclr.embedding.embed", counted)
    matches = match_units(analyzers, names=["a", "b"], progress=False)
    assert len(seen) == 4  # two halves of each, and not the whole
    assert matches.recordings == ("a", "b")


# --- calibration ------------------------------------------------------------------------------------------------------


def test_a_matcher_is_fitted_to_labelled_pairs_and_kept(days, tmp_path):
    matcher = fit_matcher(days[:2], truth="neuron", progress=False)
    assert matcher.provenance["fitted_to"] == "labelled pairs"
    same = fit_matcher(days[:2], truth=[day.properties["neuron"] for day in days[:2]], progress=False)
    assert same.weights == matcher.weights
    path = matcher.save(tmp_path / "matcher.json")
    assert Matcher.load(path) == matcher
    assert matcher.to_dataframe()["feature"].tolist() == list(FEATURES)
    matches = match_units(days[1:], matcher=path, progress=False)
    same = truth_of(days[1:], 0, 1)
    assert (matches.named_between(0, 1) & same).sum() > same.sum() / 2


def test_embeddings_alone_need_a_matcher(days):
    embeddings = [embed(day, progress=False) for day in days[:2]]
    with pytest.raises(InputError, match=r"no recording is long enough.*matcher="):
        match_units(embeddings, progress=False)
    matcher = fit_matcher(embeddings, truth=[day.properties["neuron"] for day in days[:2]], progress=False)
    matches = match_units(embeddings, matcher=matcher, progress=False)
    top = matches.probability_between(0, 1).argmax(axis=1)
    same = truth_of(days, 0, 1)
    assert same[np.arange(40), top].sum() > 5
    assert (matches.agreement == 0).all()
    several = match_units([*embeddings, embed(days[2], progress=False)], matcher=matcher, progress=False)
    assert np.allclose(several.probability_between(0, 1), matches.probability_between(0, 1))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.pop("weights"), "not a readable matcher"),
        (lambda c: c.update(weights=[1.0]), "weights: give one finite number for each of the 10 features"),
        (lambda c: c.update(intercept=float("nan")), r"m\.json: intercept"),
        (lambda c: c.update(scale=[0.0] * 10), "scale: give positive numbers"),
        (lambda c: c.update(weights=[1e308] * 10), "finite numbers of at most"),
        (lambda c: c.update(mean="1234567890"), "mean: give a list of numbers"),
        (lambda c: c.update(provenance=[]), "provenance: give a dict"),
        (lambda c: c.update(format_version=2), "of another version"),
        (lambda c: c.update(features=["x"]), "of another version"),
    ],
)
def test_damaged_matchers_are_refused(tmp_path, change, says):
    ten = tuple(np.ones(len(FEATURES)))
    path = Matcher(ten, ten, ten, 0.0).save(tmp_path / "m.json")
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=says):
        Matcher.load(path)


@pytest.mark.parametrize(
    ("keywords", "says"),
    [
        ({"names": ["a", "a"]}, "names: give a different one for each of the 2 recordings"),
        ({"names": ["a"]}, "names: give a different one"),
        ({"target_error": 0.0}, "target_error"),
        ({"matcher": "missing.json"}, "missing.json: no such file"),
        ({"features": {"x": [np.zeros((3, 1)), np.zeros((3, 1))]}}, "features: x: give one array"),
        ({"features": {"x": [["a"] * 12, ["b"] * 12]}}, "features: x: contains values that are not numbers"),
        ({"features": {"x": [np.zeros((12, 2, 3))] * 2}}, "features: x: give arrays of one row per unit"),
        ({"features": {"x": [np.full(12, np.nan)] * 2}}, "features: x: no value is finite"),
        ({"features": {"x": [np.r_[np.inf, np.zeros(11)]] * 2}}, "features: x: contains infinite values"),
        ({"features": [np.zeros(12)] * 2}, "features: give a dict"),
        ({"names": "ab"}, "names: give a list of texts"),
        ({"names": ["a\0", "b"]}, "contains characters that files cannot hold"),
        ({"seed": -1}, "seed must be a whole number from 0 on"),
        ({"target_error": "a"}, "target_error must be a number"),
        ({"matcher": {}}, "matcher must be a Matcher or the path of one"),
    ],
)
def test_wrong_requests_are_refused(days, keywords, says):
    with pytest.raises(InputError, match=says):
        match_units([day.select(np.arange(12)) for day in days[:2]], **{"progress": False, **keywords})


def test_recordings_that_cannot_be_compared_are_refused(days):
    with pytest.raises(InputError, match="two recordings or more"):
        match_units(days[0], progress=False)
    with pytest.raises(InputError, match="match recordings of one kind"):
        match_units(days[0], calcium(10, 60.0), progress=False)
    short = [day.within([[0.0, 25.0]]) for day in days[:2]]
    with pytest.raises(InputError, match=r"matcher=, --matcher"):
        match_units(short, progress=False)
    with pytest.raises(InputError, match="no-such-file"):
        match_units("no-such-file.nwb", "other.nwb", progress=False)
    with pytest.raises(InputError, match="two units are called"):
        fit_matcher(days[:2], truth=[np.full(40, "x")] * 2, progress=False)


# --- features ---------------------------------------------------------------------------------------------------------


def test_features_help_and_their_weights_are_learnt(days):
    rng = np.random.default_rng(0)
    of_neuron = {}
    tables = []
    for day in days[:2]:
        places = [of_neuron.setdefault(name, rng.standard_normal(2)) for name in day.properties["neuron"]]
        tables.append(np.array(places) + 0.2 * rng.standard_normal((40, 2)))
    noise = [rng.standard_normal((40, 2)) for _ in range(2)]
    helped = match_units(days[:2], features={"place": tables}, progress=False)
    same = truth_of(days, 0, 1)
    alone = helped.probability_between(0, 1, alone="activity")
    both = helped.probability_between(0, 1)
    assert np.log(np.maximum(both[same], 1e-6)).mean() > np.log(np.maximum(alone[same], 1e-6)).mean()
    weights = helped.provenance["features"]
    assert weights["weight"][0] + weights["weight_of_square"][0] > 1
    assert {"expected (activity)", "named (features)"} <= set(helped.summary().columns)
    useless = match_units(days[:2], features={"noise": noise}, progress=False).provenance["features"]
    assert abs(useless["weight"][0]) < abs(weights["weight"][0])


def test_unknown_features_of_a_unit_leave_its_activity(days):
    similarity = np.where(truth_of(days, 0, 1), 1.0, 0.0)
    similarity[0] = np.nan
    matches = match_units(days[:2], features={"waveform": similarity}, progress=False)
    row = matches.probability_between(0, 1), matches.probability_between(0, 1, alone="activity")
    assert np.isfinite(row[0]).all()
    with pytest.raises(InputError, match="is none of activity, features"):
        matches.probability_between(0, 1, alone="waveform")


def test_similarities_of_any_two_recordings_are_a_dict(days):
    truths = {(a, b): np.where(truth_of(days, a, b), 1.0, 0.0) for a, b in ((0, 1), (0, 2), (1, 2))}
    matches = match_units(days, features={"waveform": truths}, progress=False)
    for (a, b), similarity in truths.items():
        right = matches.probability_between(a, b)[similarity > 0]
        assert right.mean() > 0.9
    for bad in ({(0, 1): truths[0, 1]}, {**truths, (1, 2): truths[1, 2][:5]}, {"x": 1}):
        with pytest.raises(InputError, match="features: waveform: give"):
            match_units(days, features={"waveform": bad}, progress=False)


def test_combination_learns_from_soft_labels():
    rng = np.random.default_rng(0)
    same = np.eye(60, dtype=bool)
    evidence = np.where(same, 3.0, 0.0) + rng.standard_normal(same.shape)
    activity = 1 / (1 + np.exp(4.5 - 3 * evidence + np.log(59)))  # by Bayes' rule
    similarity = np.where(same, 2.0, 0.0) + rng.standard_normal(same.shape)
    combination = Combination(["x"])
    combination.add(activity, [similarity], np.ones(same.shape, dtype=bool))
    combination.fit()
    both, alone = combination.probabilities(activity, [similarity], np.ones(same.shape, dtype=bool))
    from sklearn.metrics import log_loss

    losses = [log_loss(same.ravel(), p.ravel()) for p in (both, alone, activity)]
    assert losses[0] < min(losses[1:])


# --- parts ------------------------------------------------------------------------------------------------------------


def test_relations_find_neurons_that_are_alike_alone():
    rng = np.random.default_rng(0)
    base = rng.standard_normal((20, 20))
    base = np.triu(base, 1) + np.triu(base, 1).T
    order = rng.permutation(20)

    def noisy(matrix):
        noise = 0.3 * rng.standard_normal(matrix.shape)
        return (0.2 * (matrix + np.triu(noise, 1) + np.triu(noise, 1).T)).astype(np.float32)[None]

    embedding = rng.standard_normal((20, 8))
    first = Evidence((embedding + 0.7 * rng.standard_normal((20, 8))).astype(np.float32), noisy(base))
    second = Evidence(
        (embedding[order] + 0.7 * rng.standard_normal((20, 8))).astype(np.float32), noisy(base[np.ix_(order, order)])
    )
    match = compare(first, second, np.ones(1))
    hits = order[match.weight.argmax(axis=1)] == np.arange(20)
    assert hits.mean() > 0.9
    assert (order[match.similarity.argmax(axis=1)] == np.arange(20)).mean() < hits.mean()
    mirrored = compare(second, first, np.ones(1))
    assert np.allclose(mirrored.weight, match.weight.T, atol=1e-4)


def changed(rng, matrix, share):
    """A symmetric matrix that has this share of a new random one."""
    new = rng.standard_normal(matrix.shape)
    return (1 - share) * matrix + share * (np.triu(new, 1) + np.triu(new, 1).T)


def test_recordings_in_between_find_neurons_again():
    rng, units = np.random.default_rng(1), np.arange(40)
    relations = [changed(rng, np.zeros((40, 40)), 1.0)]
    for _ in range(3):
        relations.append(changed(rng, relations[-1], 0.35))
    features = rng.standard_normal((40, 6))
    recordings = []
    for number, relation in enumerate(relations):
        embedding = (features + rng.standard_normal((40, 6))).astype(np.float32)
        evidence = Evidence(embedding, (0.2 * relation).astype(np.float32)[None])
        group = {"": GroupEvidence(units, evidence, None, units[:0])}
        recordings.append(RecordingEvidence(str(number), units, embedding, group, "", None, "", [number]))
    both = (recordings[0], recordings[3])
    direct, through = (
        links_of(list(some), correspondences(list(some)), Cache(None), progress=False)[(0, ""), (len(some) - 1, "")]
        for some in (both, recordings)
    )
    hits = [np.mean(link.weight.toarray().argmax(axis=1) == units) for link in (direct, through)]
    assert hits[1] > hits[0] + 0.1


def test_another_start_counts_by_its_agreement(rng):
    relation = changed(rng, np.zeros((20, 20)), 1.0)
    sides = [
        Evidence(
            rng.standard_normal((20, 6)).astype(np.float32),
            (0.2 * changed(rng, relation, 0.2)).astype(np.float32)[None],
        )
        for _ in range(2)
    ]
    known = compare(*sides, np.ones(1))
    right = compare_from(*sides, np.ones(1), known, 1000 * np.eye(20, dtype=np.float32))
    assert right.log_total > known.log_total
    assert np.diag(right.weight).mean() > np.diag(known.weight).mean()
    assert (right.weight.sum(axis=1) <= 1 + 1e-3).all()


def test_one_to_one_leaves_room_for_no_partner():
    weight = one_to_one(np.array([[100.0, 1.0, 1.0], [1.0, 0.01, 0.01]]), 1.0)
    assert weight.argmax(axis=1).tolist() == [0, 0]
    assert weight[0, 0] > 0.7
    assert (weight.sum(axis=0) <= 1 + 1e-2).all()
    assert weight[1].sum() < 0.5


def test_correlations_are_those_of_binned_spikes():
    population = simulate_population(6, 60.0)
    found = correlations(population, np.arange(6))
    for scale, matrix in zip(SCALES_S, found, strict=True):
        edges = np.arange(0, 60.0 + 1e-9, scale)
        counts = np.stack([np.histogram(times, edges)[0] for times in population.spike_times])
        expected = np.corrcoef(counts)
        np.fill_diagonal(expected, 0)
        assert np.allclose(matrix, expected, atol=2e-2)


def test_blocks_alternate_inside_the_observed_time():
    first, second = alternating(np.array([[0.0, 15.0], [100.0, 125.0]]), 10.0)
    assert first.tolist() == [[0.0, 10.0], [105.0, 115.0]]
    assert second.tolist() == [[10.0, 15.0], [100.0, 105.0], [115.0, 125.0]]


def test_pairs_are_named_up_to_the_error():
    units = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [2, 2]])
    probability = np.array([0.9, 0.8, 0.85, 0.1, 0.5])
    assert named_pairs(units, probability, 0.2).tolist() == [False, True, True, False, False]
    assert named_pairs(units, probability, 0.3).tolist() == [False, True, True, False, True]
    assert not named_pairs(units, probability, 0.01).any()
    assert len(named_pairs(units[:0], probability[:0], 0.1)) == 0


def test_a_wrong_pair_does_not_join_what_other_recordings_keep_apart():
    # Units 0 and 1 of three recordings; the pair of unit 0 of the first and unit 1 of the third is wrong.
    recordings = np.array([[0, 1], [1, 2], [0, 1], [1, 2], [0, 2]])
    units = np.array([[0, 0], [0, 0], [1, 1], [1, 1], [0, 1]])
    probability = np.array([0.99, 0.98, 0.97, 0.96, 0.9])
    ids = neuron_ids([2, 2, 2], recordings, units, probability, np.ones(5, dtype=bool))
    assert ids[0][0] == ids[1][0] != ids[2][1]
    assert ids[0][1] != ids[0][0]


# --- files and figures ------------------------------------------------------------------------------------------------


def test_matches_are_saved_and_loaded(matches, tmp_path):
    loaded = UnitMatches.load(matches.save(tmp_path / "m.npz"))
    assert loaded.recordings == matches.recordings
    assert loaded.provenance == matches.provenance
    pd.testing.assert_frame_equal(loaded.to_dataframe(), matches.to_dataframe())
    table = pd.read_csv(matches.save(tmp_path / "m.csv"))
    assert len(table) == len(matches.probability)
    assert table["named"].sum() == matches.named.sum()
    path = tmp_path / "damaged.npz"
    path.write_bytes((tmp_path / "m.npz").read_bytes()[:2000])
    with pytest.raises(InputError, match=r"damaged\.npz: not a readable \.npz file of matches"):
        UnitMatches.load(path)


def test_arrays_that_do_not_fit_are_refused(matches):
    for change, says in (
        ({"named": matches.named[:-1]}, "named has shape"),
        ({"pair_units": matches.pair_units + 1000}, "pair_units: a pair names a unit that does not exist"),
        ({"recordings": ("a", "a", "b")}, "two of them have the same name"),
        ({"neuron_id": matches.neuron_id[:2]}, "neuron_id: give one array for each recording"),
        ({"neuron_id": tuple(ids.astype(str) for ids in matches.neuron_id)}, "neuron_id: give one array"),
        ({"embedding": tuple(e[:, 0] for e in matches.embedding)}, "embedding: give one array"),
        ({"embedding": (matches.embedding[0][:, :3], *matches.embedding[1:])}, "of different dimensions"),
        ({"recordings": ("a", "b")}, "unit_ids: give one array for each recording"),
        ({"pair_recordings": matches.pair_recordings[:, ::-1]}, "the earlier first"),
        ({"probability": matches.probability + 7}, "probability: give probabilities from 0 to 1"),
        ({"target_error": float("nan")}, "target_error must lie from 0 to 1"),
    ):
        with pytest.raises(InputError, match=says):
            dataclasses.replace(matches, **change)


def test_the_figure_shows_all_units(matches, tmp_path):
    widget = plot_nuclr_matches(matches, pair=(1, 2))
    [image] = widget.axes[0].images
    assert image.get_array().shape == (40, 40)
    assert np.trace(np.asarray(image.get_array())) == pytest.approx(
        np.sort(np.asarray(image.get_array()).max(axis=1))[::-1].sum(), rel=0.1
    )
    widget.figure.savefig(tmp_path / "matches.png")
    with pytest.raises(InputError, match="must be UnitMatches"):
        plot_nuclr_matches({})


# --- evaluation -------------------------------------------------------------------------------------------------------


def test_pairs_of_unknown_neurons_are_not_judged(days, matches):
    names = [day.properties["neuron"].astype(object) for day in days]
    for of_day in names:
        of_day[::2] = ""
    scores = evaluate_matches(matches, names).scores.query("method == 'matches'")
    assert (scores["judged"] <= scores["named"]).all()
    assert (scores["judged"] < scores["named"]).any()
    with pytest.raises(InputError, match="no two recordings have two known neurons in common"):
        evaluate_matches(matches, [np.full(40, "")] * 3)
    with pytest.raises(InputError, match="give the populations"):
        evaluate_matches(matches, "neuron")
    truth = [day.properties["neuron"] for day in days]
    with pytest.raises(InputError, match="is not the recording that was matched"):
        evaluate_matches(matches, truth, [days[1], days[0], days[2]])
    with pytest.raises(InputError, match="has other units"):
        evaluate_matches(matches, truth, [days[0].select(np.arange(10)), *days[1:]])
    with pytest.raises(InputError, match="x: contains values that are not numbers"):
        evaluate_matches(matches, truth, others={"x": [["a"] * 40] * 3})
    with pytest.raises(InputError, match=r"x: give one array \(n_units, k\)"):
        evaluate_matches(matches, truth, others={"x": [np.zeros((40, k)) for k in (1, 2, 1)]})
    with pytest.raises(InputError, match="truth: give the names"):
        evaluate_matches(matches, None)


# --- oversplits -------------------------------------------------------------------------------------------------------


def with_splits(population, chosen, which):
    trains, ids = [], []
    for unit, times in enumerate(population.spike_times):
        mask = which(times) if unit in chosen else np.ones(len(times), dtype=bool)
        parts = [times[mask], times[~mask]] if unit in chosen else [times]
        trains += parts
        ids += [f"{population.unit_ids[unit]}{'s' * k}" for k in range(len(parts))]
    return Population(ids, trains, start=population.start, stop=population.stop)


@pytest.mark.parametrize("how", ["alternate", "time"])
def test_split_units_are_suspected(how):
    population = simulate_days(1, n_units=40, duration=400.0, seed=2)[0]
    chosen = np.argsort(-population.num_spikes)[2:8]
    which = {"alternate": lambda t: np.arange(len(t)) % 2 == 0, "time": lambda t: np.arange(len(t)) < len(t) / 2}[how]
    oversplits = find_oversplits(with_splits(population, chosen, which), progress=False)
    found = {frozenset(group) for group in oversplits.merge_groups()}
    expected = {frozenset((f"{unit}", f"{unit}s")) for unit in population.unit_ids[chosen]}
    assert len(found & expected) >= 4
    assert len(found - expected) <= 2


def test_suspected_units_can_be_merged_by_spikeinterface():
    population = simulate_days(1, n_units=20, duration=300.0, seed=2)[0]
    chosen = np.argsort(-population.num_spikes)[2:6]
    analyzer = analyzer_of(with_splits(population, chosen, lambda t: np.arange(len(t)) % 2 == 0))
    groups = find_oversplits(analyzer, progress=False).merge_groups()
    assert groups
    merged = analyzer.merge_units(merge_unit_groups=groups)
    assert len(merged.unit_ids) == 24 - sum(len(group) - 1 for group in groups)


def test_refractory_trains_are_told_from_independent_ones():
    rng = np.random.default_rng(0)
    times = np.cumsum(0.004 + rng.exponential(0.02, 5000))
    within, expected = refractory_spikes(times[::2], times[1::2])
    assert within == 0
    assert expected > 10
    assert log_ratio(within, expected) == pytest.approx(np.log(1000), abs=0.01)
    other = np.sort(rng.uniform(0, times[-1], 2500))
    assert log_ratio(*refractory_spikes(times[::2], other)) < -10
    assert log_ratio(0, 0.0) == 0.0
    assert 0.5 < log_ratio(0, 1.0) < 1.0


def test_times_of_bins_say_nothing_about_refractoriness():
    rng = np.random.default_rng(0)
    trains = [np.sort(rng.uniform(0, 600, 8000)) for _ in range(12)]
    assert refractory_fraction(trains) == 1e-3
    assert refractory_fraction([np.unique(np.round(train, 2)) for train in trains]) > 0.9
    assert refractory_fraction(trains[:1]) == 1e-3
    assert abs(log_ratio(0, 8.0, 1.0)) < 1e-6


def test_oversplits_need_spikes_and_time():
    with pytest.raises(InputError, match="holds traces"):
        find_oversplits(calcium(10, 60.0), progress=False)
    with pytest.raises(InputError, match="too short"):
        find_oversplits(simulate_population(10, 25.0), progress=False)
    for wrong in ("x", 5, np.nan, True):
        with pytest.raises(InputError, match="least_probability must"):
            find_oversplits(simulate_population(10, 25.0), least_probability=wrong, progress=False)


def test_oversplits_are_listed_by_the_command(nuclr, tmp_path):
    population = simulate_days(1, n_units=20, duration=300.0, seed=2)[0]
    chosen = np.argsort(-population.num_spikes)[2:6]
    analyzer = analyzer_of(with_splits(population, chosen, lambda t: np.arange(len(t)) % 2 == 0))
    analyzer.save_as(folder=tmp_path / "sorted", format="binary_folder")
    done = nuclr("oversplits", tmp_path / "sorted", "-o", tmp_path / "pairs.csv", "-q")
    assert "written" in done.stdout
    table = pd.read_csv(tmp_path / "pairs.csv", dtype={"unit_a": str, "unit_b": str})
    expected = find_oversplits(analyzer, progress=False).table
    assert table[["unit_a", "unit_b"]].equals(expected[["unit_a", "unit_b"]])
    assert len(table)
    assert "exists already" in nuclr("oversplits", tmp_path / "sorted", "-o", tmp_path / "pairs.csv", code=3).stderr
    printed = nuclr("oversplits", tmp_path / "sorted", "--least-probability", "0.001", "-q")
    assert printed.stdout.count("\n") > len(table)
    assert ".csv" in nuclr("oversplits", tmp_path / "sorted", "-o", tmp_path / "pairs.txt", code=3).stderr
