"""What the commands on labels write: whole or not at all, never over what is there, safe to open."""

import dataclasses
import gc
import weakref

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from nwb_files import add_units, new_nwb, write_nwb_file
from test_decoder import recording

from spikeinterface_nuclr import (
    CheckpointError,
    Decoder,
    DeviceError,
    InputError,
    Population,
    RecordingWarning,
    Regressor,
    UnitEmbeddings,
    evaluate,
    fit_regressor,
    read_population,
    simulate_population,
)
from spikeinterface_nuclr.decoding import baselines as baseline_file
from spikeinterface_nuclr.decoding import cohort
from spikeinterface_nuclr.decoding.baselines import BASELINES, CONTROLS, shuffled_spikes
from spikeinterface_nuclr.decoding.cohort import Cohort, read_cohort
from spikeinterface_nuclr.decoding.label_sources import LabelRule
from spikeinterface_nuclr.embedding import EmbeddingSettings
from spikeinterface_nuclr.files import write_folder
from spikeinterface_nuclr.reports.evaluation import check_report, write_report


@pytest.fixture
def settings(mice) -> EmbeddingSettings:
    return EmbeddingSettings(str(mice / "small.safetensors"), precision="float32", progress=False)


# --- reports ----------------------------------------------------------------------------------------------------------


def test_a_report_is_replaced_only_where_that_is_asked_for(nuclr, mice, tmp_path):
    what = [mice / "m0.nwb", mice / "m1.nwb", "--label", "cell_type", "--model", mice / "small.safetensors", "-q"]
    quick = [*what, "--no-control", "--shuffles", 0, "-o", tmp_path / "report"]
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "notes.txt").write_text("mine")
    nuclr("evaluate", *quick)
    (tmp_path / "report" / "share.csv").write_text("share\n")  # as --curves writes
    before = {path: path.read_bytes() for path in (tmp_path / "report").iterdir() if path.is_file()}
    assert {"report.md", "scores.csv", "notes.txt"} <= {path.name for path in before}
    result = nuclr("evaluate", *quick, code=3)
    assert "exists already: give --overwrite" in result.stderr
    assert {path: path.read_bytes() for path in before} == before
    embedded = [path.stat().st_mtime_ns for path in (tmp_path / "report" / "embeddings").iterdir()]
    nuclr("evaluate", *quick, "--overwrite")
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {path.name for path in before} - {"share.csv"} | {"embeddings"}
    assert [path.stat().st_mtime_ns for path in (tmp_path / "report" / "embeddings").iterdir()] == embedded


def test_recordings_that_are_left_out_are_listed_and_the_report_is_written(nuclr, mice, tmp_path):
    (tmp_path / "bad.nwb").write_text("nothing")
    population = simulate_population(12, 60.0, seed=5)
    write_nwb_file(tmp_path / "unlabelled.nwb", add_units(new_nwb(), population.spike_times))
    what = ["--label", "cell_type", "--model", mice / "small.safetensors", "-q"]
    for command, output in (
        (["evaluate", "--no-control", "--shuffles", 0], "report"),
        (["decoder", "fit"], "d.safetensors"),
    ):
        result = nuclr(*command, tmp_path, mice, *what, "-o", tmp_path / output, code=3)
        first, second = result.stderr.splitlines()
        assert first.startswith(f"nuclr: skipped: {tmp_path / 'bad.nwb'}: not a readable NWB file")
        assert second.startswith(f"nuclr: skipped: {tmp_path / 'unlabelled.nwb'}: its units have no property")
        assert str(tmp_path / output) in result.stdout
    assert Decoder.load(tmp_path / "d.safetensors").animals == ("mouse-0", "mouse-1", "mouse-2")
    assert "of 3 animals in 3 recordings" in (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert not list((tmp_path / "report" / "embeddings").glob("unlabelled*"))
    result = nuclr("evaluate", tmp_path, *what, "-o", tmp_path / "none", code=3)
    assert result.stderr.startswith(f"nuclr: no recording can be used: {tmp_path / 'bad.nwb'}: not a readable")
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "none").exists()


def test_embeddings_in_the_folder_are_no_report(tmp_path):
    (tmp_path / "embeddings").mkdir()
    check_report(tmp_path, overwrite=False)
    check_report(tmp_path / "new" / "folder", overwrite=False)


@pytest.mark.parametrize("name", ["report.md", "scores.csv", "evaluation.png", "animals.csv", "provenance.json"])
def test_no_file_of_a_report_is_overwritten(nuclr, mice, tmp_path, name):
    (tmp_path / name).write_text("my notes")
    result = nuclr("evaluate", mice / "m0.nwb", "--label", "cell_type", "-o", tmp_path, "-q", code=3)
    assert f"{name}: exists already" in result.stderr
    assert (tmp_path / name).read_text() == "my notes"
    assert [path.name for path in tmp_path.iterdir()] == [name], "it was asked before anything was embedded"


def test_a_report_needs_a_folder(nuclr, mice, tmp_path):
    (tmp_path / "report").write_text("")
    result = nuclr("evaluate", mice / "m0.nwb", "--label", "cell_type", "-o", tmp_path / "report", "-q", code=3)
    assert "report: is a file: name a folder" in result.stderr


def test_files_of_a_folder_change_together(tmp_path):
    def fail(path):
        path.write_text("half")
        raise RuntimeError("full")

    def write(text):
        return {name: lambda path: path.write_text(text) for name in ("a.csv", "b.csv")}

    write_folder(tmp_path / "x", write("old"), overwrite=False)
    for broken in ("a.csv", "b.csv"):
        with pytest.raises(RuntimeError, match="full"):
            write_folder(tmp_path / "x", {**write("new"), broken: fail}, overwrite=True)
        assert {path.name: path.read_text() for path in (tmp_path / "x").iterdir()} == {"a.csv": "old", "b.csv": "old"}
    with pytest.raises(InputError, match=r"a\.csv: exists already"):
        write_folder(tmp_path / "x", write("new"), overwrite=False)
    write_folder(tmp_path / "x", write("new"), overwrite=True)
    assert {path.name: path.read_text() for path in (tmp_path / "x").iterdir()} == {"a.csv": "new", "b.csv": "new"}


def test_names_from_files_are_text_in_reports_and_tables(tmp_path):
    made = [recording(f"=animal{k}") for k in range(3)]
    classes = dict(zip(np.unique(made[0][1]), ["=cmd()", "<script>|x", "a_b\n# c\x1b[2J"], strict=True))
    labels = [np.array([classes[label] for label in one]) for _, one in made]
    embeddings = [
        dataclasses.replace(
            one,
            unit_ids=np.array([f"@{k}" for k in range(80)]),
            provenance=one.provenance.replace(checkpoint="<b>.safetensors"),
        )
        for one, _ in made
    ]
    others = {"x|<i>": [np.random.default_rng(k).standard_normal((80, 3)) for k in range(3)]}
    evaluation = evaluate(embeddings, labels, target="a|b\n# title", others=others, shuffles=0, progress=False)
    members = Cohort(["a", "b", "c"], ["a", "b", "c"], embeddings, labels, [], None, others)
    write_report(tmp_path, evaluation, members, Figure(), [], overwrite=False)
    lines = (tmp_path / "report.md").read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if "<" in line or "\x1b" in line]
    assert len([line for line in lines if line.startswith("#")]) == 6
    rows = [line.replace("\\|", "") for line in lines if line.startswith("|") and "script" in line]
    assert [row.count("|") for row in rows] == [6]
    predictions, per_class = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("predictions", "per_class"))
    for column in ("animal", "unit_id"):
        assert predictions[column].str.startswith("'").all()
    assert "'=cmd()" in set(predictions["truth"])
    assert "'=cmd()" in set(per_class["class"])


def test_predictions_of_units_with_odd_names_are_text_in_a_table(nuclr, mice, tmp_path):
    nwbfile = new_nwb()
    population = simulate_population(4, 60.0, seed=9)
    write_nwb_file(
        tmp_path / "x.nwb", add_units(nwbfile, population.spike_times, unit_name=["=1+1", "+cmd", "-7", "u"])
    )
    what = [*sorted(mice.glob("*.nwb")), "--label", "cell_type", "--model", mice / "small.safetensors", "-q"]
    nuclr("decoder", "fit", *what, "-o", tmp_path / "d.safetensors")
    model = ["--model", mice / "small.safetensors", "-q"]
    nuclr("predict", tmp_path / "x.nwb", "--decoder", tmp_path / "d.safetensors", *model, "-o", tmp_path / "x.csv")
    table = pd.read_csv(tmp_path / "x.csv", dtype={"unit_id": str})
    assert not table["unit_id"].str.match(r"[=@]|\+[^\d.]").any()


# --- cohorts ----------------------------------------------------------------------------------------------------------


def test_the_spikes_of_a_recording_are_let_go_before_the_next_is_read(mice, settings, monkeypatch):
    seen: list[weakref.ref] = []

    def read(*args, **kwargs):
        gc.collect()
        assert not [ref for ref in seen if ref() is not None]
        population = read_population(*args, **kwargs)
        seen.append(weakref.ref(population))
        return population

    monkeypatch.setattr(cohort, "read_population", read)
    members = read_cohort(mice, LabelRule("cell_type"), settings, baselines=True, control=True, depth="depth")
    assert len(seen) == 3
    assert [len(one) for one in members.positions] == [30] * 3
    assert list(members.others) == [*BASELINES["spikes"], "embedding of shuffled spikes"]


def test_a_cohort_scores_as_its_populations_do(mice, settings):
    members = read_cohort(mice, LabelRule("cell_type"), settings, baselines=True, depth="depth")
    populations = [read_population(path) for path in sorted(mice.glob("*.nwb"))]
    given, options = (members.embeddings, members.labels, members.animals), {"shuffles": 2, "progress": False}
    evaluation = evaluate(*given, others=members.others, positions=members.positions, probes=members.probes, **options)
    depths = [population.properties["depth"] for population in populations]
    expected = evaluate(*given, populations=populations, positions=depths, **options)
    pd.testing.assert_frame_equal(evaluation.predictions, expected.predictions)
    pd.testing.assert_frame_equal(evaluation.scores, expected.scores)


def simulated(name, duration=60.0, units=10, subject="m", **properties):
    population = simulate_population(units, duration, seed=1)
    return dataclasses.replace(
        population, metadata={"source": name, "subject": subject}, properties={**population.properties, **properties}
    )


def test_recordings_that_cannot_be_used_are_left_out_and_named(mice, settings, tmp_path):
    traces = Population(
        range(3), traces=np.random.default_rng(0).standard_normal((3, 3000)), sampling_frequency=5.0,
        properties={"cell_type": np.array(["a", "b", "c"]), "depth": np.arange(3)},
        metadata={"source": "imaged", "subject": "m"},
    )  # fmt: skip
    bare = dataclasses.replace(simulated("bare"), properties={"depth": np.arange(10)})
    flat = simulated("flat")
    del flat.properties["depth"]
    (tmp_path / "bad.nwb").write_text("nothing")
    sources = [
        tmp_path / "bad.nwb", tmp_path / "none.nwb", bare, *sorted(mice.glob("*.nwb")), traces, flat,
        simulated("unlabelled", cell_type=np.full(10, "unknown")), simulated("nameless", subject=""),
        simulated("words", depth=np.full(10, "deep")), simulated("short", duration=4.0), simulated("single", units=1),
    ]  # fmt: skip
    members = read_cohort(sources, LabelRule("cell_type"), settings, cache=tmp_path / "cache", depth="depth")
    assert members.animals == ["mouse-0", "mouse-1", "mouse-2"]
    assert len(members.embeddings) == len(members.labels) == len(members.positions) == len(members.probes) == 3
    reasons = [
        f"{tmp_path / 'bad.nwb'}: not a readable NWB file",
        f"{tmp_path / 'none.nwb'}: no such file",
        "bare: its units have no property 'cell_type'; they have: depth",
        f"imaged: holds traces, {mice / 'm0.nwb'} holds spikes",
        "flat: its units have no property 'depth'",
        "unlabelled: no unit has a usable label ('cell_type')",
        "nameless: names no subject: give a manifest",
        "words: property 'depth' is not numeric",
        "short: no window of 10 s fits",
        "single: the recording holds one unit",
    ]
    for line, reason in zip(members.left_out, reasons, strict=True):
        assert line.startswith(reason)
        assert "\n" not in line
    # Only what was used was embedded.
    assert len(list((tmp_path / "cache").iterdir())) == 3
    with pytest.raises(InputError, match=r"no recording can be used: .*bad\.nwb: not a readable .* \(and 2 more\)$"):
        read_cohort(sources[:3], LabelRule("cell_type"), settings, cache=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_what_is_wrong_for_all_recordings_stops_at_once(mice, settings, tmp_path):
    cell_type, cache = LabelRule("cell_type"), tmp_path / "cache"
    for rule, changes, error, message in (
        (LabelRule("depth"), {}, InputError, r"m0\.nwb: 'depth': holds numbers.* use fit_regressor"),
        (LabelRule("area", "lobe"), {}, InputError, "level must be one of"),
        (cell_type, {"model": "nuclr-none"}, CheckpointError, "nuclr-none"),
        (cell_type, {"model": "nuclr-starter-calcium"}, CheckpointError, "takes traces"),
        (cell_type, {"device": "abacus"}, DeviceError, "'abacus' is unknown"),
        (cell_type, {"precision": "int3"}, InputError, "'int3' is unknown"),
    ):
        with pytest.raises(error, match=message):
            read_cohort(mice, rule, dataclasses.replace(settings, **changes), cache=cache)
    assert not cache.exists()
    with pytest.raises(InputError, match=r"'depth_um': .* different numbers in 60 units are values, not classes"):
        read_cohort(mice, LabelRule("depth_um"), settings)
    with pytest.raises(InputError, match=r"'depth_um': .* different numbers in 30 units are values, not classes"):
        read_cohort(mice / "m0.nwb", LabelRule("depth_um"), settings)
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        read_cohort(mice, cell_type, settings, colour="red")


def test_features_of_baselines_are_kept_beside_the_embeddings(settings, tmp_path, monkeypatch):
    def read(*populations):
        return read_cohort(populations, LabelRule("cell_type"), settings, cache=tmp_path, baselines=True).others

    def times(pattern):
        return {path.name[0]: path.stat().st_mtime_ns for path in tmp_path.glob(pattern)}

    a, b = simulated("a"), simulated("b", duration=70.0)
    expected, before = read(a, b), times("*.features.npz")
    assert before.keys() == {"a", "b"}
    reread = read(a, b)
    assert times("*.features.npz") == before
    assert reread.keys() == expected.keys()
    for name, rows in reread.items():
        assert [one.tobytes() for one in rows] == [one.tobytes() for one in expected[name]]

    trains = [train[1:] if unit == 3 else train for unit, train in enumerate(b.spike_times)]
    fewer = dataclasses.replace(b, spike_times=trains)
    assert read(a, fewer)["rate"][1][3] < expected["rate"][1][3]
    after = times("*.features.npz")
    assert (after["a"] == before["a"], after["b"] == before["b"]) == (True, False)

    next(tmp_path.glob("a-*.features.npz")).write_bytes(b"PK")
    assert read(a, fewer)["rate"][0].tobytes() == expected["rate"][0].tobytes()
    monkeypatch.setattr(baseline_file, "FEATURES_VERSION", 0)
    repaired, embedded = times("*.features.npz"), times("?-????????.npz")
    read(a, fewer)
    assert not repaired.items() & times("*.features.npz").items()
    assert embedded == times("?-????????.npz")


def test_controls_are_made_only_to_be_embedded(settings, tmp_path, monkeypatch):
    def read(population):
        members = read_cohort(population, LabelRule("cell_type"), settings, cache=tmp_path, control=True)
        return members.others["embedding of shuffled spikes"][0]

    a, made = simulated("a"), []
    b = dataclasses.replace(a, spike_times=[train[1:] for train in a.spike_times])
    monkeypatch.setitem(CONTROLS, "spikes", ("shuffled spikes", lambda of: made.append(of) or shuffled_spikes(of)))
    expected = read(a)
    assert read(a).tobytes() == expected.tobytes()
    assert made == [a]
    assert read(b).tobytes() != expected.tobytes()
    assert made == [a, b]
    monkeypatch.setattr(cohort, "CONTROLS_VERSION", 0)
    assert read(a).tobytes() == expected.tobytes()
    read(a)
    assert made == [a, b, a]


def test_a_damaged_cache_is_computed_again(mice, settings, tmp_path):
    expected = read_cohort(mice, LabelRule("cell_type"), settings, cache=tmp_path).embeddings
    for path in tmp_path.glob("*.npz"):
        path.write_bytes(path.read_bytes()[:500])
    reread = read_cohort(mice, LabelRule("cell_type"), settings, cache=tmp_path).embeddings
    for a, b in zip(reread, expected, strict=True):
        np.testing.assert_array_equal(a.embedding, b.embedding)
    assert [UnitEmbeddings.load(path) for path in tmp_path.glob("*.npz")]


def test_similar_names_of_animals_are_named_by_a_cohort(settings):
    populations = [
        dataclasses.replace(
            simulate_population(10, 60.0, seed=k), metadata={"source": f"s{k}", "subject": subject}
        )
        for k, subject in enumerate(["M1", " M1 ", "m1"])
    ]  # fmt: skip
    with pytest.warns(RecordingWarning, match="animals 'M1' and 'm1' count as two") as caught:
        members = read_cohort(populations, LabelRule("cell_type"), settings)
    assert len(caught) == 1
    assert members.animals == ["M1", "M1", "m1"]


# --- embeddings in a file ---------------------------------------------------------------------------------------------


def test_embeddings_in_a_file_follow_the_spikes(nuclr, settings, tmp_path):
    path = tmp_path / "x.npz"
    source = tmp_path / "session.nwb"

    def embed(*options, code=0):
        command = ["embed", source, "-o", path, "--model", settings.model, "--precision", "float32", "-q", *options]
        result = nuclr(*command, code=code)
        return result.stdout + result.stderr

    for duration, seed in ((60.0, 1), (60.0, 2), (80.0, 2)):
        population = simulate_population(12, duration, seed=seed)
        columns = {"cell_type": population.properties["cell_type"]}
        write_nwb_file(source, add_units(new_nwb(), population.spike_times, **columns))
        assert "12 of 12 units embedded" in embed()
        assert UnitEmbeddings.load(path).provenance.population_fingerprint == read_population(source).fingerprint()
        assert "is up to date" in embed()
    before = path.read_bytes()
    assert "x.npz: holds other embeddings already (overlap" in embed("--overlap", "0.5", code=3)
    assert "other groups or observed times" in embed("--group-by", "cell_type", code=3)
    assert path.read_bytes() == before
    path.write_bytes(b"something else")
    assert "x.npz: exists already: give --overwrite" in embed(code=3)
    assert path.read_bytes() == b"something else"


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_numbers_are_for_a_regressor(nuclr, mice, tmp_path):
    where = [
        *sorted(mice.glob("*.nwb")),
        "--model",
        mice / "small.safetensors",
        "-q",
        "-o",
        tmp_path / "d.safetensors",
    ]
    for label in ("depth", "depth_um"):
        assert "use fit_regressor for numbers" in nuclr("decoder", "fit", *where, "--label", label, code=3).stderr
    assert not list(tmp_path.iterdir())


def test_a_regressor_says_what_it_is(nuclr, tmp_path):
    made = [recording(f"animal{k}") for k in range(4)]
    regressor = fit_regressor([one for one, _ in made], [one.embedding[:, 0] for one, _ in made], target="depth_um")
    path = regressor.save(tmp_path / "r.safetensors")
    facts = nuclr("info", path).stdout
    for text in (
        "depth_um",
        "animal0, animal1, animal2, animal3",
        "90% of true values within",
        "r2_left_out",
        regressor.sha256,
    ):
        assert text in facts
    assert Regressor.load(path, sha256=regressor.sha256).sha256 == regressor.sha256
