import dataclasses
import json
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from nwb_files import add_units, new_nwb, write_nwb_file
from ophys_files import activity

from spikeinterface_nuclr import (
    InputError,
    Population,
    RecordingWarning,
    Store,
    build_store,
    read_population,
    resampled,
    simulate_population,
    simulate_relations,
)
from spikeinterface_nuclr.windows import Layout, Starts, timeline
from spikeinterface_nuclr.windows.binning import bin_activity

LAYOUT = Layout(0.02, 50, 10)


def built(tmp_path, *populations, **options):
    store, damaged = build_store(populations, tmp_path / "store", progress=False, **options)
    assert damaged == []
    return store


def until(what, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def nwb(path, seed=0, **columns):
    trains = simulate_population(n_units=12, duration=40.0, seed=seed).spike_times
    return write_nwb_file(path, add_units(new_nwb(session=path.stem), trains, **columns))


def trials(rng):
    """Spikes on the edges of 10 ms bins, in trials of 0.4 s."""
    starts = np.arange(0, 100, 1.7)
    trains = [np.sort(np.concatenate([s + rng.choice(40, 6, replace=False) / 100 for s in starts])) for _ in range(8)]
    return Population(range(8), trains, observed=np.stack([starts, starts + 0.4], axis=1))


def parts_observed():
    population = simulate_population(n_units=12, duration=60.0, seed=3)
    late = population.within([[9.0, 60.0]]).spike_times
    trains = [*population.spike_times[:11], late[11]]
    return Population(range(12), trains, observed=[np.array([[0.0, 60.0]])] * 11 + [np.array([[9.0, 60.0]])])


def ends_on_spikes(rng):
    """Every interval, and every unit's own time, ends with a spike that 2^-32 s do not divide."""
    trains = [np.sort(np.append(rng.uniform(0, 30 + u / 7, 200), 30 + u / 7)) for u in range(4)]
    return Population(range(4), trains, observed=[np.array([[0.0, 30 + u / 7]]) for u in range(4)])


SHAPES = {
    "continuous": lambda rng: simulate_population(n_units=15, duration=60.0, seed=2),
    "edges of bins": lambda rng: Population(["a", "b"], [np.arange(1, 3000) / 50, np.arange(1, 6000) / 100]),
    "trials": trials,
    "since 1970": lambda rng: Population([1, 2], [1.7e9 + np.sort(rng.uniform(0, 90, 300)) for _ in range(2)]),
    "before zero": lambda rng: Population(["a"], [np.sort(rng.uniform(-40, 20, 99))], start=-40.0, stop=20.0),
    "a silent unit": lambda rng: Population(["a", "b"], [[], np.sort(rng.uniform(0, 30, 50))], stop=30.0),
    "no spike at all": lambda rng: Population(["a", "b"], [[], []], stop=30.0),
    "units observed at other times": lambda rng: parts_observed(),
    "spikes at the ends": ends_on_spikes,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_windows_of_a_store_hold_the_counts_that_embedding_sees(shape, tmp_path, rng):
    population = SHAPES[shape](rng)
    [probe] = built(tmp_path, population).probes
    units = np.arange(population.n_units)
    line = timeline(population, units, LAYOUT)
    stored = timeline(probe.outline, units, LAYOUT)
    assert np.array_equal(line.runs, stored.runs)
    starts = Starts(stored, LAYOUT)
    assert len(starts) > 0
    for number in np.unique(np.linspace(0, len(starts) - 1, 25).astype(int)):
        low = starts[number]
        expected = bin_activity(population, units, line, low, low + LAYOUT.window_bins)
        assert np.array_equal(probe.activity(stored, low, low + LAYOUT.window_bins), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_population_comes_back_from_a_store(shape, tmp_path, rng):
    population = SHAPES[shape](rng)
    back = built(tmp_path, population).probes[0].population()
    assert back.unit_ids.tolist() == population.unit_ids.tolist()
    assert back.context_fingerprint() == population.context_fingerprint()
    for a, b in zip(back.spike_times, population.spike_times, strict=True):
        assert len(a) == len(b)
        assert np.abs(a - b).max(initial=0) < 3e-7


def test_traces_are_stored_too(tmp_path, rng):
    traces = rng.random((5, 400), dtype=np.float32)
    population = Population(range(5), traces=traces, sampling_frequency=4.0)
    [probe] = built(tmp_path, population).probes
    layout = Layout(0.25, 4, 10)
    line = timeline(probe.outline, np.arange(5), layout)
    assert np.array_equal(probe.activity(line, 7, 47), traces[:, 7:47])
    assert probe.population().fingerprint() == population.fingerprint()


def test_traces_are_brought_to_the_encoders_rate(tmp_path):
    population = Population(range(12), traces=activity(), sampling_frequency=5.0, observed=[[0.0, 50.0], [60.0, 120.0]])
    store, damaged = build_store(population, tmp_path / "s", frame_rate=2.0, progress=False)
    assert not damaged
    [probe] = store.probes
    assert probe.sampling_frequency == 2.0
    assert probe.population().fingerprint() == resampled(population, 2.0).fingerprint()
    # Spikes have no rate to change: one store takes both.
    spikes = simulate_relations(12, 30.0)
    store, _ = build_store([population, spikes], tmp_path / "both", frame_rate=2.0, progress=False)
    assert sorted(probe.signal for probe in store.probes) == ["spikes", "traces"]


def test_sources_are_built_anew_when_they_are_read_otherwise(tmp_path):
    path = tmp_path / "dff.npy"
    np.save(path, activity())
    how = {"sampling_frequency": 5.0, "progress": False}
    first = build_store(path, tmp_path / "s", traces="dff", **how)[0].fingerprint()
    assert build_store(path, tmp_path / "s", traces="dff", **how)[0].fingerprint() == first
    assert build_store(path, tmp_path / "s", traces="preprocessed", **how)[0].fingerprint() != first
    assert build_store(path, tmp_path / "s", traces="dff", frame_rate=2.0, **how)[0].probes[0].sampling_frequency == 2.0
    _, [damaged] = build_store(path, tmp_path / "t", **how)
    assert "say what its values are: traces=" in damaged


def test_the_same_traces_twice_are_refused(tmp_path):
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", activity())
    with pytest.raises(InputError, match="holds the same traces as"):
        build_store(str(tmp_path / "?.npy"), tmp_path / "s", traces="dff", sampling_frequency=5.0, progress=False)


def test_each_probe_is_a_population_of_its_own(tmp_path):
    base = simulate_population(n_units=10, duration=30.0)
    two = Population(base.unit_ids, base.spike_times, group=["a", "b"] * 5, stop=30.0, properties={"area": ["x"] * 10})
    probes = built(tmp_path, two).probes
    assert [(p.label, p.n_units) for p in probes] == [("a", 5), ("b", 5)]
    assert probes[1].population().num_spikes.tolist() == two.num_spikes[1::2].tolist()
    assert probes[0].outline.properties["area"].tolist() == ["x"] * 5
    [one] = build_store(two, tmp_path / "one", group_by=None, progress=False)[0].probes[:1]
    assert one.n_units == 5  # a Population says itself which probes there are


@pytest.mark.parametrize("jobs", [1, 2])
def test_damaged_sources_are_skipped_and_named(tmp_path, jobs):
    nwb(tmp_path / "good.nwb")
    (tmp_path / "bad.nwb").write_text("nothing")
    found, damaged = build_store([tmp_path, tmp_path / "absent.nwb"], tmp_path / "store", n_jobs=jobs, progress=False)
    assert [probe.session for probe in found.probes] == ["good"]
    assert len(damaged) == 2
    assert "bad.nwb: not a readable NWB file" in damaged[0]
    assert "absent.nwb: no such file" in damaged[1]
    assert [p.name for p in (tmp_path / "store" / "sessions").glob(".*")] == []


def test_a_build_goes_on_where_it_was(tmp_path):
    for name in ("a", "b"):
        nwb(tmp_path / f"{name}.nwb", seed=ord(name))
    store = tmp_path / "store"
    build_store(tmp_path, store, progress=False)
    written = {p: p.stat().st_mtime_ns for p in store.rglob("*.npy")}
    before = Store(store).fingerprint()
    nwb(tmp_path / "c.nwb", seed=9)
    found, _ = build_store(tmp_path, store, progress=False)
    assert len(found.probes) == 3
    assert found.fingerprint() != before
    assert {p: p.stat().st_mtime_ns for p in written} == written
    # A source that has changed is stored again, and another grouping is another store.
    nwb(tmp_path / "a.nwb", seed=5)
    again, _ = build_store(tmp_path, store, progress=False)
    counts = {probe.session: probe.population().num_spikes.tolist() for probe in again.probes}
    assert counts["a"] == read_population(tmp_path / "a.nwb").num_spikes.tolist()
    build_store(tmp_path, store, group_by=None, progress=False)
    assert all(p.stat().st_mtime_ns > t for p, t in written.items())


def test_a_manifest_names_animals_sessions_and_probes(tmp_path):
    (tmp_path / "data").mkdir()
    for name in ("a", "b"):
        nwb(tmp_path / "data" / f"{name}.nwb", seed=ord(name))
    manifest = tmp_path / "list.csv"
    manifest.write_text("source,animal,probe,weight\ndata/a.nwb,rat-1,left,2.5\ndata/b.nwb,,,\n")
    probes = {p.session: p for p in build_store(manifest, tmp_path / "store", progress=False)[0].probes}
    assert (probes["a"].animal, probes["a"].label) == ("rat-1", "left")
    assert (probes["b"].animal, probes["a"].weight, probes["b"].weight) == ("mouse-1", 2.5, 1.0)
    for text, says in (
        ("path\nx", "has the column source"),
        ("source,mouse\nx,y\n", "not mouse"),
        ("source\nx,y\n", "line 2 has too many entries"),
        ("source,animal\n,y\n", "line 2 has no source"),
        ("source,weight\nx,0\n", "line 2: weight must be a positive number, not '0'"),
        ("source\ndata/*.phy\n", r"data/\*.phy: no file matches"),
    ):
        manifest.write_text(text)
        with pytest.raises(InputError, match=says):
            build_store(manifest, tmp_path / "other", progress=False)
    assert not (tmp_path / "other").exists()


def test_patterns_and_folders_name_each_file_once(tmp_path):
    (tmp_path / "x").mkdir()
    for name in ("x/a.nwb", "b.nwb"):
        nwb(tmp_path / name, seed=len(name))
    found, _ = build_store([f"{tmp_path}/**/*.nwb", tmp_path, str(tmp_path / "b.nwb")], tmp_path / "s", progress=False)
    assert len(found.probes) == 2


def test_what_is_no_store_is_named(tmp_path, population):
    with pytest.raises(InputError, match="not a store: build one with"):
        Store(tmp_path)
    (tmp_path / "notes.txt").write_text("precious")
    with pytest.raises(InputError, match="not a store"):
        build_store(population, tmp_path, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    built(tmp_path, population)
    path = tmp_path / "store" / "store.json"
    path.write_text(json.dumps({"nuclr_store": 9}))
    with pytest.raises(InputError, match="format 9, this version reads 1"):
        Store(tmp_path / "store")


@pytest.mark.parametrize("name", ["session.json", "0.fraction.npy"])
def test_a_damaged_store_is_named(tmp_path, population, name):
    store = built(tmp_path, population)
    [folder] = (store.path / "sessions").iterdir()
    (folder / name).write_text("{}")
    with pytest.raises(InputError, match=r"(damaged|not readable).*delete"):
        Store(store.path).probes[0].population()


@pytest.mark.slow
def test_a_killed_build_leaves_whole_sessions_only(tmp_path):
    for seed in range(12):
        nwb(tmp_path / f"{seed:02d}.nwb", seed=seed)
    sessions = tmp_path / "store" / "sessions"
    script = "import sys; from spikeinterface_nuclr import build_store; build_store(*sys.argv[1:], progress=False)"
    for wanted in (1, 5):
        process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(sessions.parent)])
        until(lambda n=wanted: sessions.exists() and len([p for p in sessions.iterdir() if p.name[0] != "."]) >= n)
        process.kill()
        process.wait()
        probes = Store(tmp_path / "store").probes
        assert wanted <= len(probes) < 12
        assert all(probe.population().n_units == 12 for probe in probes)
    found, damaged = build_store(tmp_path, tmp_path / "store", progress=False)
    assert (len(found.probes), damaged) == (12, [])
    assert not [p for p in sessions.iterdir() if p.name.startswith(".")]


def test_a_build_that_fails_keeps_the_session_that_was_there(tmp_path, monkeypatch):
    nwb(tmp_path / "a.nwb", seed=1)
    before = build_store(tmp_path, tmp_path / "store", progress=False)[0].fingerprint()
    nwb(tmp_path / "a.nwb", seed=2)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    found, [damage] = build_store(tmp_path, tmp_path / "store", progress=False)
    assert "No space left" in damage
    assert "a.nwb" in damage
    assert found.fingerprint() == before


def test_a_session_is_in_a_store_once(tmp_path):
    """Under a second name it could be held out and trained on at once."""
    path = nwb(tmp_path / "a.nwb")
    store = tmp_path / "store"
    build_store(path, store, progress=False)
    # However its path is written, it is the same session.
    assert len(build_store(f"{tmp_path}/../{tmp_path.name}/a.nwb", store, progress=False)[0].probes) == 1
    shutil.copy(path, tmp_path / "copy.nwb")
    with pytest.raises(InputError, match=r"holds the same spikes as .*: delete one"):
        build_store(tmp_path / "copy.nwb", store, progress=False)


def test_sources_without_an_animal_are_named(tmp_path):
    named = [simulate_population(n_units=11, duration=30.0, seed=seed) for seed in range(2)]
    sessions = [dataclasses.replace(one, metadata={**one.metadata, "subject": ""}) for one in named]
    with pytest.warns(RecordingWarning, match="2 sessions, such as simulation-0, name no animal"):
        build_store(sessions, tmp_path / "store", progress=False)
    twins = [Population([1], [[0.5]], metadata={"source": "x"}), Population([1], [[0.7]], metadata={"source": "x"})]
    with pytest.raises(InputError, match="two sources are called x"):
        build_store(twins, tmp_path / "other", progress=False)


def test_spikes_at_wrong_times_are_named(tmp_path):
    broken = Population(["a"], [[5.0, 1.7e9]], start=0.0)
    _, damaged = build_store(broken, tmp_path / "store", progress=False)
    assert damaged == ["Population 0: its spikes span 19676 days: remove those at wrong times"]


def test_odd_names_are_stored_too(tmp_path):
    folder = tmp_path / "[lab] x"
    folder.mkdir()
    for name in ("a.nwb", ".b.nwb"):
        nwb(folder / name, seed=len(name))
    (folder / "list.csv").write_text("source\na.nwb\n.b.nwb\n")
    assert len(build_store(folder / "list.csv", tmp_path / "store", progress=False)[0].probes) == 2
    (folder / "list.csv").write_text("source\n*.nwb\n")
    assert len(build_store(folder / "list.csv", tmp_path / "other", progress=False)[0].probes) == 1


def test_an_empty_folder_becomes_a_store(tmp_path, population):
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun" / "sessions").mkdir(parents=True)
    for name in ("empty", "begun"):
        assert len(build_store(population, tmp_path / name, progress=False)[0].probes) == 1


def test_a_window_is_read_without_the_rest(tmp_path, rng):
    """Of a long recording only the window's seconds are asked for."""
    times = np.sort(rng.uniform(0, 3600, 200_000))
    [probe] = built(tmp_path, Population(["a", "b"], [times, times], stop=3600.0)).probes
    line = timeline(probe.outline, np.arange(2), LAYOUT)
    touched = []
    for name in ("_fraction", "_unit"):
        probe.__dict__[name] = Spy(getattr(probe, name), touched)
    counts = probe.activity(line, 90_000, 90_500)
    assert counts.sum() == 2 * ((times >= 1800) & (times < 1810)).sum()
    assert len(touched) == 2
    assert max(touched) < probe.n_spikes / 200


class Spy:
    """An array that notes how many of its numbers are asked for."""

    def __init__(self, array, touched):
        self.array, self.touched = array, touched

    def __getitem__(self, part):
        self.touched.append(part.stop - part.start)
        return self.array[part]
