"""Labels, cohorts, controls, and the commands on them: nuclr decoder fit, predict, evaluate."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from analyzers import build_analyzer, reload
from ophys_files import activity

from spikeinterface_nuclr import (
    Decoder,
    InputError,
    Population,
    embed,
    evaluate,
    read_nwb,
    simulate_population,
    simulate_relations,
)
from spikeinterface_nuclr.decoding.baselines import BASELINES, baseline_features, shifted_traces, shuffled_spikes
from spikeinterface_nuclr.decoding.cohort import read_cohort
from spikeinterface_nuclr.decoding.features import interval_histogram
from spikeinterface_nuclr.decoding.label_sources import LabelRule, read_classes
from spikeinterface_nuclr.embedding import EmbeddingSettings


@pytest.fixture(scope="module")
def decoder(nuclr, mice, tmp_path_factory):
    """A decoder of cell types, fitted to the three mice."""
    path = tmp_path_factory.mktemp("decoder") / "cell_type.safetensors"
    model = mice / "small.safetensors"
    result = nuclr("decoder", "fit", mice, "--label", "cell_type", "--model", model, "-o", path, "-q")
    assert "calibrated on animals" in result.stdout
    return path


# --- labels and cohorts -----------------------------------------------------------------------------------------------


def test_labels_are_rolled_up_and_mapped(tmp_path):
    population = Population(
        list("abcd"), [[1.0]] * 4, stop=2.0, properties={"area": np.array(["VISp5", "CA1", "root", ""])}
    )
    assert LabelRule("area").labels_of(population, "x").tolist() == ["VISp5", "CA1", "root", ""]
    assert LabelRule("area", "cosmos").labels_of(population, "x").tolist() == ["Isocortex", "HPF", "", ""]
    table = tmp_path / "classes.csv"
    table.write_text("label,class\nIsocortex,cortex\n")
    rule = LabelRule("area", "cosmos", read_classes(table))
    assert rule.labels_of(population, "x").tolist() == ["cortex", "", "", ""]
    with pytest.raises(InputError, match="x: its units have no property 'layer'; they have: area"):
        LabelRule("layer").labels_of(population, "x")
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="not a readable CSV file"):
        read_classes(tmp_path / "bad.csv")


def test_a_cohort_is_read_and_its_embeddings_kept(mice, tmp_path):
    settings = EmbeddingSettings(str(mice / "small.safetensors"), precision="float32", progress=False)
    cohort = read_cohort(str(mice), LabelRule("cell_type"), settings, cache=tmp_path / "cache", control=True)
    assert cohort.animals == [f"mouse-{k}" for k in range(3)]
    assert [len(labels) for labels in cohort.labels] == [30] * 3
    kept = sorted((tmp_path / "cache").glob("*.npz"))
    assert len(kept) == 6
    times = [path.stat().st_mtime_ns for path in kept]
    reread = read_cohort(str(mice), LabelRule("cell_type"), settings, cache=tmp_path / "cache", control=True)
    assert [path.stat().st_mtime_ns for path in kept] == times
    for a, b in zip(cohort.embeddings, reread.embeddings, strict=True):
        np.testing.assert_array_equal(a.embedding, b.embedding)
    other = EmbeddingSettings(str(mice / "small.safetensors"), precision="float32", overlap=0.5, progress=False)
    read_cohort(str(mice), LabelRule("cell_type"), other, cache=tmp_path / "cache")
    assert [path.stat().st_mtime_ns for path in kept] != times


def test_shuffled_spikes_keep_each_neuron_and_lose_the_others():
    population = simulate_relations(20, 60.0, seed=1)
    cut = Population(population.unit_ids, population.spike_times, observed=[[0.0, 25.0], [25.0, 60.0]], stop=60.0)
    shuffled = shuffled_spikes(cut)
    np.testing.assert_array_equal(shuffled.num_spikes, cut.num_spikes)
    np.testing.assert_allclose(interval_histogram(shuffled), interval_histogram(cut), atol=0.2)
    for before, after in zip(cut.spike_times, shuffled.spike_times, strict=True):
        assert (after < 25).sum() == (before < 25).sum()
        assert (np.sort(np.diff(after[after < 25])) > 0).all()
    counts = [np.stack([np.histogram(t, 120, (0, 60))[0] for t in p.spike_times]) for p in (cut, shuffled)]
    choristers = (population.properties["brain_area"] == "in phase").nonzero()[0]
    together, apart = (np.corrcoef(of[choristers])[np.triu_indices(len(choristers), 1)].mean() for of in counts)
    assert together > 0.3
    assert abs(apart) < 0.1
    assert shuffled_spikes(cut).fingerprint() == shuffled.fingerprint()


def test_shifted_traces_keep_each_neuron_and_lose_the_others():
    traces = activity(n_frames=3000)
    observed = [[0.0, 200.0], [300.0, 600.0]]
    population = Population(range(12), traces=traces, sampling_frequency=5.0, observed=observed)
    shifted = shifted_traces(population)
    seen = np.r_[0:1000, 1500:3000]
    assert np.array_equal(np.sort(shifted.traces[:, seen]), np.sort(traces[:, seen]))
    assert np.array_equal(np.delete(shifted.traces, seen, axis=1), np.delete(traces, seen, axis=1))
    before, after = (np.abs(np.corrcoef(t[1::2, seen])[np.triu_indices(6, 1)]).mean() for t in (traces, shifted.traces))
    assert before > 3 * after
    assert shifted_traces(population).fingerprint() == shifted.fingerprint()


def test_relations_are_read_from_the_population_alone():
    populations = [simulate_relations(40, 100.0, seed=k) for k in range(5)]
    types = [population.properties["cell_type"] for population in populations]
    # No feature of a neuron's own differs between types by more than chance.
    rows = np.concatenate([baseline_features(p)["rate, intervals, autocorrelogram"] for p in populations])
    truth = np.concatenate(types) == "chorister"
    spread = rows.std(axis=0) * np.sqrt(1 / truth.sum() + 1 / (~truth).sum())
    z = (rows[truth].mean(axis=0) - rows[~truth].mean(axis=0))[spread > 0] / spread[spread > 0]
    assert np.abs(z).max() < 4
    accuracy = evaluate(
        [embed(p, progress=False) for p in populations], types, populations=populations, shuffles=0, progress=False
    ).to_dataframe()["macro-F1"]
    assert accuracy["embedding"] > 0.75
    alone = [name for name in BASELINES["spikes"] if "population" not in name]
    assert accuracy["embedding"] > accuracy[alone].max() + 0.15
    assert accuracy["rate, intervals, population"] > 0.9  # pairwise correlations show it as well


# --- commands ---------------------------------------------------------------------------------------------------------


def test_a_decoder_says_what_it_is(nuclr, decoder):
    facts = nuclr("info", decoder).stdout
    assert "mouse-0, mouse-1, mouse-2" in facts
    assert "bursting, fast, regular" in facts
    assert "small.safetensors" in facts


def test_identities_are_predicted_into_a_table_a_file_and_itself(nuclr, mice, new_mouse, decoder, tmp_path):
    source, model = new_mouse, mice / "small.safetensors"
    nuclr("predict", source, "--decoder", decoder, "--model", model, "-o", tmp_path / "units.csv", "-q")
    table = pd.read_csv(tmp_path / "units.csv", keep_default_na=False)
    truth = simulate_population(30, 60.0, seed=3).properties["cell_type"]
    assert (table["best_label"] == truth).mean() > 0.8
    copy = tmp_path / "copy.nwb"
    nuclr("predict", source, "--decoder", decoder, "--model", model, "-o", copy, "-q")
    embeddings, [identities] = read_nwb(copy)
    assert identities.label.tolist() == table["label"].tolist()
    # The embeddings in the file are reused: the model need not exist.
    again = ("predict", copy, "--decoder", decoder, "--in-place", "-q")
    assert "cell_type is up to date" in nuclr(*again).stdout
    assert "it holds 'cell_type' already" in nuclr(*again, "--target-error", "1", code=3).stderr
    nuclr("predict", copy, "--decoder", decoder, "--in-place", "--if-exists", "replace", "--target-error", "1", "-q")
    rewritten, [identities] = read_nwb(copy)
    np.testing.assert_array_equal(rewritten.embedding, embeddings.embedding)
    assert identities.provenance["target_error"] == 1.0


def test_predicting_keeps_what_other_models_said(nuclr, mice, new_mouse, decoder, tmp_path):
    path = tmp_path / "m3.nwb"
    shutil.copy(new_mouse, path)
    nuclr("embed", path, "--in-place", "-q")  # by the bundled model
    before, _ = read_nwb(path)
    command = ("predict", path, "--decoder", decoder, "--model", mice / "small.safetensors", "--in-place", "-q")
    for replace in ((), ("--if-exists", "replace")):
        nuclr(*command, *replace)
    with pytest.raises(InputError, match="2 tables of embeddings"):
        read_nwb(path)
    np.testing.assert_array_equal(read_nwb(path, name="UnitEmbeddings")[0].embedding, before.embedding)
    _, [identities] = read_nwb(path, name="UnitEmbeddings_2")
    assert identities.target == "cell_type"


def test_identities_are_predicted_in_an_analyzer(nuclr, mice, decoder, tmp_path):
    analyzer = build_analyzer(simulate_population(12, 60.0, seed=3), format="binary_folder", folder=tmp_path / "a")
    result = nuclr("predict", analyzer.folder, "--decoder", decoder, "--model", mice / "small.safetensors", "-q")
    assert "as nuclr_identity" in result.stdout
    reloaded = reload(analyzer)
    identities = reloaded.get_extension("nuclr_identity").get_identities()
    # A table reuses its embeddings as well: the model need not exist.
    nuclr("predict", analyzer.folder, "--decoder", decoder, "-o", tmp_path / "units.csv", "-q")
    table = pd.read_csv(tmp_path / "units.csv", keep_default_na=False)
    assert table["label"].tolist() == identities.label.tolist()
    assert identities.provenance["decoder_sha256"] == Decoder.load(decoder).sha256


def test_decoders_are_fitted_to_analyzers_that_a_manifest_names(nuclr, mice, tmp_path):
    rows = ["source,animal"]
    for k in range(2):
        population = simulate_population(20, 60.0, seed=k)
        analyzer = build_analyzer(population, format="binary_folder", folder=tmp_path / f"a{k}")
        analyzer.set_sorting_property("cell_type", population.properties["cell_type"], save=True)
        rows.append(f"a{k},rat-{k}")
    (tmp_path / "cohort.csv").write_text("\n".join(rows))
    where = (tmp_path / "cohort.csv", "--label", "cell_type", "--model", mice / "small.safetensors", "-q")
    nuclr("decoder", "fit", *where, "-o", tmp_path / "d.safetensors")
    assert Decoder.load(tmp_path / "d.safetensors").animals == ("rat-0", "rat-1")
    nuclr("evaluate", *where, "-o", tmp_path / "report", "--shuffles", "0", "--no-control")
    assert "2 test animals" in (tmp_path / "report" / "report.md").read_text(encoding="utf-8")


def test_an_evaluation_is_a_report(nuclr, mice, tmp_path):
    report = tmp_path / "report"
    result = nuclr(
        "evaluate", mice, "--label", "cell_type", "--model", mice / "small.safetensors", "--depth", "depth",
        "--curves", "--shuffles", "1", "-o", report, "-q",
    )  # fmt: skip
    assert "report:" in result.stdout
    page = (report / "report.md").read_text(encoding="utf-8")
    methods = (
        "rate, intervals, population",
        "embedding of shuffled spikes",
        "pooled over neighbours",
        "labels shuffled",
    )
    for line in ("3 test animals", "leave-one-animal-out", *methods):
        assert line in page
    for name in ("evaluation.png", "scores.csv", "predictions.csv", "share.csv", "animals.csv"):
        assert (report / name).stat().st_size > 100
    assert json.loads((report / "provenance.json").read_text())["animals"] == [f"mouse-{k}" for k in range(3)]


def test_a_report_within_animals_says_so(nuclr, mice, tmp_path):
    model = ["--model", mice / "small.safetensors"]
    where = [mice / "m0.nwb", "--label", "area", "--level", "cosmos", *model, "-q", "--shuffles", "2"]
    result = nuclr("evaluate", *where, "-o", tmp_path / "r", code=3)
    assert "use the protocol 'within-animal'" in result.stderr
    nuclr("evaluate", *where, "-o", tmp_path / "r", "--protocol", "within-animal", "--no-control")
    assert "Within animals" in (tmp_path / "r" / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["decoder", "fit", "{data}", "--label", "colour", "-o", "{out}/d.safetensors"], 3, "no property 'colour'"),
        (["decoder", "fit", "{data}", "--label", "area", "-o", "{out}/d.npz"], 3, "unknown format"),
        (["predict", "{data}/m0.nwb", "--decoder", "{out}/none", "-o", "{out}/x.csv"], 4, "no such decoder"),
        (["predict", "{data}/m0.nwb", "--decoder", "x"], 2, "name a file to write"),
        (["evaluate", "{data}", "--label", "area", "--level", "lobe", "-o", "{out}/r"], 3, "level must be one of"),
    ],
)  # fmt: skip
def test_refusals_are_one_line(nuclr, mice, tmp_path, arguments, code, message):
    filled = [text.format(data=mice, out=tmp_path) for text in arguments]
    result = nuclr(
        *filled, "-q", *([] if filled[0] == "predict" else ["--model", mice / "small.safetensors"]), code=code
    )
    assert message in result.stderr
    if code != 2:
        assert len([line for line in result.stderr.splitlines() if line.startswith("nuclr: ")]) == 1
    assert not list(tmp_path.glob("*.*"))
