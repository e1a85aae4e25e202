"""Matches in NWB files, in analyzers, and from the command line."""

import pickle
import shutil
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pynwb
import pytest
import spikeinterface.full as si
from nwb_files import write_nwb_file

from spikeinterface_nuclr import (
    InputError,
    embed,
    match_units,
    read_matches,
    read_nwb,
    read_population,
    set_neuron_ids,
    simulate_days,
    write_matches,
    write_nwb,
)
from spikeinterface_nuclr.simulation import analyzer_of

COUNT = 16


@pytest.fixture(scope="module")
def days():
    return simulate_days(2, n_units=COUNT, duration=200.0, drift=0.02, turnover=0.1, seed=3)


@pytest.fixture(scope="module")
def originals(days, tmp_path_factory):
    folder = tmp_path_factory.mktemp("days")
    paths = []
    for number, day in enumerate(days):
        nwbfile = pynwb.NWBFile("test", f"session-{number}", datetime(2026, 1, 1 + number, tzinfo=timezone.utc))
        nwbfile.add_unit_column("unit_name", "name")
        for unit, times in zip(day.unit_ids, day.spike_times, strict=True):
            nwbfile.add_unit(spike_times=times, obs_intervals=[[0.0, 200.0]], unit_name=str(unit))
        paths.append(write_nwb_file(folder / f"day{number}.nwb", nwbfile))
    return paths


@pytest.fixture
def paths(originals, tmp_path):
    return [Path(shutil.copy(path, tmp_path)) for path in originals]


@pytest.fixture(scope="module")
def matches(originals):
    return match_units(originals, progress=False)


def table_of(path, name="UnitMatches"):
    with pynwb.NWBHDF5IO(path, "r") as io:
        nwbfile = io.read()
        table = nwbfile.processing["nuclr"][name]
        return table.to_dataframe(index=True), table.recording, np.array(nwbfile.units["unit_name"][:])


def test_each_file_holds_its_units_partners(matches, paths):
    assert write_matches(matches, paths, in_place=True) == paths
    probability = matches.probability_between(0, 1)
    for side, path in enumerate(paths):
        rows, recording, names = table_of(path)
        assert recording == matches.recordings[side]
        assert set(rows["other_identifier"]) == {f"session-{1 - side}"}
        assert set(rows["neuron"]) == set(range(COUNT))
        matrix = probability if side == 0 else probability.T
        others = {str(unit): k for k, unit in enumerate(matches.unit_ids[1 - side])}
        for neuron, other, p, number in zip(
            rows["neuron"], rows["other_unit"], rows["probability"], rows["neuron_id"], strict=True
        ):
            unit = list(map(str, matches.unit_ids[side])).index(names[neuron])
            assert p == matrix[unit, others[other]]
            assert number == matches.neuron_id[side][unit]
        assert pynwb.validate(path=path) == []


def test_copies_are_written_beside_and_read(matches, paths):
    before = [path.read_bytes() for path in paths]
    written = write_matches(matches, paths)
    assert [path.name for path in written] == ["day0_nuclr.nwb", "day1_nuclr.nwb"]
    assert [path.read_bytes() for path in paths] == before
    table = read_matches(written[0])
    assert table["named"].sum() == matches.named.sum()
    assert set(table["unit_id"]) == set(map(str, matches.unit_ids[0]))
    with pytest.raises(InputError, match="exists already"):
        write_matches(matches, paths)
    with pytest.raises(InputError, match="holds no matches 'UnitMatches'"):
        read_matches(paths[0])


def test_existing_matches_and_embeddings_stay_or_are_replaced(matches, paths):
    embeddings = embed(read_population(paths[0]), progress=False)
    write_nwb(paths[0], embeddings, in_place=True)
    write_matches(matches, paths, in_place=True)
    with pytest.raises(InputError, match="it holds 'UnitMatches' already"):
        write_matches(matches, paths, in_place=True)
    write_matches(matches, paths, in_place=True, if_exists="replace")
    write_matches(matches, paths, in_place=True, if_exists="new_name")
    assert len(table_of(paths[1], "UnitMatches_2")[0]) == len(table_of(paths[1])[0])
    stored, _ = read_nwb(paths[0])
    assert np.array_equal(stored.embedding, embeddings.embedding)
    # Replacing the embeddings leaves the matches.
    write_nwb(paths[0], embeddings, in_place=True, if_exists="replace")
    assert len(table_of(paths[0])[0])


def test_nothing_is_written_where_one_file_does_not_fit(matches, paths):
    before = [path.read_bytes() for path in paths]
    with pytest.raises(InputError, match="units' activity is not what was matched"):
        write_matches(matches, paths[::-1], in_place=True)
    with pytest.raises(InputError, match="give the NWB file of each of the 2 recordings"):
        write_matches(matches, paths[:1], in_place=True)
    with pytest.raises(InputError, match="a file is given twice"):
        write_matches(matches, [paths[0], paths[0]], in_place=True)
    with pytest.raises(InputError, match="no such file"):
        write_matches(matches, [paths[0], "missing.nwb"], in_place=True)
    with pytest.raises(InputError, match="not a valid name"):
        write_matches(matches, paths, in_place=True, name="a/b")
    with pytest.raises(InputError, match="if_exists must be one of"):
        write_matches(matches, paths, in_place=True, if_exists="maybe")
    assert [path.read_bytes() for path in paths] == before


def test_stored_embeddings_are_used(matches, paths, monkeypatch):
    for path in paths:
        write_nwb(path, embed(read_population(path), progress=False), in_place=True)
    calls = []
    original = embed

    def counted(population, *arguments, **keywords):
        calls.append(population)
        return original(population, *arguments, **keywords)

    monkeypatch.setattr("spikeinterface_nuclr.embedding.embed", counted)
    again = match_units(paths, progress=False)
    assert len(calls) == 4  # halves
    assert np.allclose(again.probability_between(0, 1), matches.probability_between(0, 1), atol=1e-3)


# --- analyzers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "binary_folder", "zarr"])
def test_analyzers_have_neuron_ids(days, kind, tmp_path):
    analyzers = [analyzer_of(day) for day in days]
    if kind != "memory":
        paths = [tmp_path / (f"a{k}" + ".zarr" * (kind == "zarr")) for k in range(2)]
        analyzers = [a.save_as(folder=path, format=kind) for a, path in zip(analyzers, paths, strict=True)]
    matches = match_units(analyzers, names=["a", "b"], progress=False)
    set_neuron_ids(analyzers, matches)
    if kind != "memory":
        import spikeinterface.core as si

        analyzers = [si.load(path) for path in paths]
    for analyzer, ids in zip(analyzers, matches.neuron_id, strict=True):
        assert np.array_equal(analyzer.get_sorting_property("nuclr_neuron_id"), ids)
    with pytest.raises(InputError, match="has other units than those that were matched"):
        set_neuron_ids([analyzers[0], analyzers[1].select_units(analyzers[1].unit_ids[:3])], matches)
    with pytest.raises(InputError, match="give the analyzer of each"):
        set_neuron_ids(analyzers[:1], matches)


# --- command line -----------------------------------------------------------------------------------------------------


def test_match_writes_tables_a_figure_and_the_files(nuclr, paths, tmp_path):
    table, neurons, figure = tmp_path / "m.csv", tmp_path / "n.csv", tmp_path / "f.png"
    arguments = ["match", *map(str, paths), "-o", str(table), "--neurons", str(neurons), "--figure", str(figure), "-q"]
    done = nuclr(*arguments, "--in-place")
    assert "UnitMatches(2 recordings" in done.stdout
    assert pd.read_csv(table)["named"].sum() == len(read_matches(paths[0]).query("named"))
    assert len(pd.read_csv(neurons)) == 2 * COUNT
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert {path.name.partition("-")[0] for path in (tmp_path / "m.csv.cache").iterdir()} == {
        "evidence",
        "halves",
        "pair",
    }
    assert "exists already" in nuclr(*arguments, "--in-place", code=3).stderr
    nuclr(*arguments, "--overwrite", "--in-place", "--if-exists", "replace")


def test_outputs_do_not_replace_inputs_or_one_another(nuclr, paths, tmp_path):
    before = [path.read_bytes() for path in paths]
    table = tmp_path / "m.csv"
    done = nuclr("match", *paths, "-o", table, "--neurons", table, "--overwrite", code=2)
    assert "a different file for each" in " ".join(done.stderr.split())
    matcher = tmp_path / "m.npz"
    np.savez(matcher, x=1)
    done = nuclr("match", *paths, "-o", matcher, "--matcher", matcher, "--overwrite", code=2)
    assert "is one of the inputs" in " ".join(done.stderr.split())
    assert not table.exists()
    assert [path.read_bytes() for path in paths] == before


def test_files_that_hold_matches_are_refused_before_anything_is_computed(nuclr, matches, paths, tmp_path):
    write_matches(matches, paths, in_place=True)
    done = nuclr("match", *paths, "-o", tmp_path / "m.csv", "--in-place", "-q", code=3)
    assert "holds 'UnitMatches' already" in " ".join(done.stderr.split())
    assert not (tmp_path / "m.csv").exists()
    assert not (tmp_path / "m.csv.cache").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["-q"], 2, "name what to write"),
        (["-o", "m.txt"], 3, "unknown format"),
        (["-o", "m.csv", "--if-exists", "replace"], 2, "--if-exists is for results inside"),
        (["--in-place", "--overwrite"], 2, "--overwrite replaces an output file"),
        (["--in-place", "--where", "a == 1"], 2, "--where and --within are for output files"),
        (["-o", "m.csv", "--target-error", "0"], 3, "target_error"),
        (["-o", "m.csv", "--matcher", "none.json"], 3, "none.json: no such file"),
    ],
)
def test_wrong_requests_are_refused(nuclr, paths, tmp_path, monkeypatch, arguments, code, says):
    monkeypatch.chdir(tmp_path)
    done = nuclr("match", *paths, *arguments, code=code)
    assert says in " ".join(done.stderr.split())
    assert not (tmp_path / "m.csv").exists()


def test_one_recording_is_not_enough(nuclr, paths, tmp_path):
    done = nuclr("match", paths[0], "-o", tmp_path / "m.csv", "-q", code=3)
    assert "two recordings or more" in done.stderr


# --- evidence that analyzers hold -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def analyzers():
    """The same twelve neurons on two days, with the same waveforms, as analyzers."""
    parts = []
    for day in simulate_days(2, n_units=12, duration=200.0, drift=0.2, turnover=0.0, seed=3):
        order = np.argsort(day.properties["neuron"])
        samples = {k: (10_000 * day.spike_times[unit]).astype(int) for k, unit in enumerate(order)}
        recording, sorting = si.generate_ground_truth_recording(
            sorting=si.NumpySorting.from_unit_dict([samples], 10_000.0), durations=[200.0], num_channels=16,
            sampling_frequency=10_000.0, seed=0,
        )  # fmt: skip
        part = si.create_sorting_analyzer(sorting, recording, sparse=False)
        part.compute(["random_spikes", "templates", "unit_locations"], progress_bar=False)
        parts.append(part)
    return parts


def test_locations_and_templates_of_analyzers_are_evidence(analyzers):
    features = ["unit_locations", "template_similarity"]
    alone = match_units(analyzers, names=["a", "b"], progress=False)
    both = match_units(analyzers, names=["a", "b"], features=features, progress=False)
    right = [np.diag(matches.probability_between(0, 1)).mean() for matches in (alone, both)]
    assert right[1] > max(0.5, right[0])
    assert both.provenance["features"]["names"] == features
    assert set(both.alone) == {"activity", "features"}
    one = match_units(analyzers, names=["a", "b"], features="template_similarity", progress=False)
    assert np.diag(one.probability_between(0, 1, alone="features")).mean() > 0.5


def test_features_of_selected_units_and_of_three_analyzers_fit(analyzers):
    chosen = [analyzers[0].select_units(analyzers[0].unit_ids[[4, 2, 7, 1, 0]]), *analyzers]
    matches = match_units(chosen, names=["a", "b", "c"], features="template_similarity", progress=False)
    found = matches.probability_between(0, 1, alone="features").argmax(axis=1)
    assert found.tolist() == [4, 2, 7, 1, 0]


def test_features_by_name_are_refused_where_there_are_none(analyzers, days, nuclr, tmp_path):
    bare = [si.create_sorting_analyzer(a.sorting, a.recording, sparse=False) for a in analyzers]
    for name, needed in (("unit_locations", "unit_locations"), ("template_similarity", "templates")):
        with pytest.raises(InputError, match=f"b: has no {needed}: analyzer.compute"):
            match_units(analyzers[0], bare[1], names=["a", "b"], features=name, progress=False)
    with pytest.raises(InputError, match="'depth' is none of unit_locations"):
        match_units(tmp_path / "absent", features=["depth"], progress=False)
    assert "'depth' is none of" in " ".join(
        nuclr("match", "x", "-o", "m.csv", "--feature", "depth", code=2).stderr.split()
    )
    with pytest.raises(InputError, match="is no SortingAnalyzer"):
        match_units(days, names=["a", "b"], features="unit_locations", progress=False)
    paths = [tmp_path / name for name in ("a", "b")]
    for analyzer, path in zip(analyzers, paths, strict=True):
        analyzer.save_as(folder=path, format="binary_folder")
    nuclr("match", *paths, "-o", tmp_path / "m.csv", "--feature", "unit_locations", "-q")
    assert "p(features)" in pd.read_csv(tmp_path / "m.csv").columns


def test_templates_of_other_channels_are_not_compared(analyzers):
    recording = analyzers[1].recording
    channels = recording.channel_ids[::-1]
    turned = si.create_sorting_analyzer(analyzers[1].sorting, recording.select_channels(channels), sparse=False)
    turned.compute(["random_spikes", "templates"], progress_bar=False)
    longer = si.create_sorting_analyzer(analyzers[1].sorting, recording, sparse=False)
    longer.compute({"random_spikes": {}, "templates": {"ms_before": 2.0}}, progress_bar=False)
    for other, says in ((turned, "b: has other channels than a"), (longer, "b: its templates have .* samples")):
        with pytest.raises(InputError, match=says):
            match_units(analyzers[0], other, names=["a", "b"], features="template_similarity", progress=False)


def test_features_of_analyzers_run_no_code_and_fit_the_units(analyzers, tmp_path):
    paths = [tmp_path / name for name in ("a", "b")]
    for analyzer, path in zip(analyzers, paths, strict=True):
        analyzer.save_as(folder=path, format="binary_folder")
    folder = paths[1] / "extensions" / "unit_locations"
    short = np.load(folder / "unit_locations.npy")[:5]
    np.save(folder / "unit_locations.npy", short)
    with pytest.raises(InputError, match="b: unit_locations has not one row for each"):
        match_units(paths, features="unit_locations", progress=False)
    (folder / "unit_locations.npy").write_bytes(b"junk")
    with pytest.raises(InputError, match="unit_locations"):
        match_units(paths, features="unit_locations", progress=False)
    (folder / "planted.pkl").write_bytes(pickle.dumps(Planted(tmp_path / "ran")))
    with pytest.raises(InputError, match="is a pickle"):
        match_units(paths, features="unit_locations", progress=False)
    assert not (tmp_path / "ran").exists()


class Planted:
    """An object whose unpickling leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)
