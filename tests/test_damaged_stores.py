"""Stores that somebody has edited, cut short or killed: named in one line, and never read as something else."""

import json
import os

import numpy as np
import pytest
from ophys_files import activity

from spikeinterface_nuclr import InputError, Population, RecordingWarning, Store, build_store, simulate_population
from spikeinterface_nuclr import files as whole_files
from spikeinterface_nuclr.training.views import Recording
from spikeinterface_nuclr.windows import Layout

LAYOUT = Layout(0.02, 50, 10)


def spikes(seed=0, **known):
    population = simulate_population(n_units=12, duration=30.0, seed=seed)
    late = population.within([[9.0, 30.0]]).spike_times[11]
    observed = [np.array([[0.0, 30.0]])] * 11 + [np.array([[9.0, 30.0]])]
    return Population(range(12), [*population.spike_times[:11], late], observed=observed, **known)


def traces():
    return Population(range(12), traces=activity(12, 300), sampling_frequency=5.0)


def session_of(population, tmp_path):
    tmp_path.mkdir(exist_ok=True)
    store, damaged = build_store([population], tmp_path / "store", progress=False)
    assert damaged == []
    [folder] = (store.path / "sessions").iterdir()
    return folder


def read(folder):
    """Everything that a store is asked for."""
    for probe in Store(folder.parents[1]).probes:
        layout = LAYOUT if probe.signal == "spikes" else Layout(0.2, 4, 10)
        recording = Recording(probe, layout)
        for number in (0, len(recording.starts) - 1):
            recording.window(recording.starts[number], np.ones(probe.n_units, dtype=bool))
        probe.population()


def refused(folder):
    with pytest.raises(InputError) as error:
        read(folder)
    message = str(error.value)
    assert str(folder) in message
    assert "build" in message
    assert "\n" not in message


CONTENT = {
    "no probes": lambda c: c.pop("probes"),
    "probes are a number": lambda c: c.update(probes=3),
    "a probe is a text": lambda c: c.update(probes=["left"]),
    "animal is a list": lambda c: c.update(animal=["a"]),
    "session is missing": lambda c: c.pop("session"),
    "weight is a text": lambda c: c.update(weight="2"),
    "weight is NaN": lambda c: c.update(weight=float("nan")),
    "weight is negative": lambda c: c.update(weight=-1),
    "weight is beyond all numbers": lambda c: c.update(weight=10**400),
}
PROBE = {
    "units are a number": lambda p: p.update(units=12),
    "a unit more": lambda p: p["units"].append(12),
    "a unit twice": lambda p: p.update(units=[0] * 12),
    "units are lists": lambda p: p.update(units=[[u] for u in p["units"]]),
    "a set that is not there": lambda p: p.update(observed_set=[7] * 12),
    "a set counted from behind": lambda p: p.update(observed_set=[-1] * 12),
    "a set is a fraction": lambda p: p.update(observed_set=[0.5] * 12),
    "a set is missing": lambda p: p.update(observed_set=p["observed_set"][1:]),
    "observed time is text": lambda p: p.update(observed=[[["a", "b"]], [["a", "b"]]]),
    "observed time is odd": lambda p: p.update(observed=[[0, 1, 2], [0, 1, 2]]),
    "observed time runs backwards": lambda p: p.update(observed=[[[30.0, 0.0]], [[30.0, 9.0]]]),
    "start is NaN": lambda p: p.update(start=float("nan")),
    "stop is a list": lambda p: p.update(stop=[30.0]),
    "spikes are a truth value": lambda p: p.update(spikes=True),
    "spikes are fewer": lambda p: p.update(spikes=p["spikes"] - 1),
    "spikes are fewer than none": lambda p: p.update(spikes=-5),
    "frames per second are negative": lambda p: p.update(sampling_frequency=-5.0),
    "labels are a list": lambda p: p.update(labels=["x"] * 12),
    "labels for too few": lambda p: p.update(labels={"area": ["x"]}),
    "fingerprints are numbers": lambda p: p.update(fingerprints=[1, 2]),
    "one fingerprint": lambda p: p.update(fingerprints=["x"]),
}


@pytest.mark.parametrize("case", [*CONTENT, *PROBE])
def test_a_session_that_says_something_else_is_named(case, tmp_path):
    folder = session_of(spikes(), tmp_path)
    content = json.loads((folder / "session.json").read_text())
    CONTENT.get(case, lambda c: PROBE[case](c["probes"][0]))(content)
    (folder / "session.json").write_text(json.dumps(content))
    refused(folder)


@pytest.mark.parametrize("text", ["", "[]", "null", '"x"', "[" * 100_000, '{"probes": ' * 50_000, "\xff\x00", "{"])
@pytest.mark.parametrize("name", ["session.json", "store.json"])
def test_json_that_is_none_is_named(name, text, tmp_path):
    folder = session_of(spikes(), tmp_path)
    path = folder / name if name == "session.json" else folder.parents[1] / name
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=name) as error:
        read(folder)
    assert "\n" not in str(error.value)


def header(shape, descr="<f4"):
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


ARRAYS = {
    "an index that falls": ("first", lambda a: a[np.r_[0, 1, 5, 2:5, 6 : len(a)]]),
    "an index beyond its data": ("first", lambda a: np.append(a[:-1], a[-1] + 100)),
    "an index that begins late": ("first", lambda a: np.append(a[0], a[1:] + 3)),
    "a negative index": ("first", lambda a: np.r_[a[:2], -4, a[3:]]),
    "an index of nothing": ("first", lambda a: a[:1]),
    "an index of another time": ("first", lambda a: np.append(a[0] + 10**6, a[1:])),
    "an index of the far past": ("first", lambda a: np.append(-(2**62), a[1:])),
    "an index of fractions": ("first", lambda a: a.astype(float)),
    "too few fractions": ("fraction", lambda a: a[:-1]),
    "fractions of another type": ("fraction", lambda a: a.astype(np.float32)),
    "fractions in columns": ("fraction", lambda a: a[:, None]),
    "too many units": ("unit", lambda a: np.append(a, a)),
    "a unit that is not there": ("unit", lambda a: np.where(np.arange(len(a)) == len(a) - 1, 12, a).astype(a.dtype)),
    "spikes out of order": ("fraction", lambda a: a[::-1]),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_arrays_that_lie_are_named(case, tmp_path):
    name, change = ARRAYS[case]
    folder = session_of(spikes(), tmp_path)
    path = folder / f"0.{name}.npy"
    np.save(path, change(np.load(path)))
    refused(folder)


@pytest.mark.parametrize("name", ["first", "fraction", "unit", "traces"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x05\x06" + b"\0" * 18,
        header((1 << 40,)),
        header((1 << 62, 1 << 62)),
        header((-3,)),
        header((4,), "|O"),
        header("(" * 200 + ")" * 200),
        header((3,)) + b"ab",
    ],
)
def test_headers_that_lie_are_named(name, content, tmp_path):
    folder = session_of(traces() if name == "traces" else spikes(), tmp_path)
    (folder / f"0.{name}.npy").write_bytes(content)
    refused(folder)


@pytest.mark.parametrize("change", [lambda a: a[:100], lambda a: a[:, 1:], lambda a: a.astype(float), lambda a: a[0]])
def test_traces_of_another_shape_are_named(change, tmp_path):
    folder = session_of(traces(), tmp_path)
    np.save(folder / "0.traces.npy", change(np.load(folder / "0.traces.npy")))
    refused(folder)


def test_a_damaged_session_is_built_again(tmp_path):
    """A build reads the sources of sessions that are damaged, as if these were not there."""
    np.save(tmp_path / "dff.npy", activity(12, 300))
    how = {"traces": "dff", "sampling_frequency": 5.0, "progress": False}
    whole = build_store(tmp_path / "dff.npy", tmp_path / "store", **how)[0].fingerprint()
    [folder] = (tmp_path / "store" / "sessions").iterdir()
    (folder / "session.json").write_text("[" * 100_000)
    store, damaged = build_store(tmp_path / "dff.npy", tmp_path / "store", **how)
    assert (store.fingerprint(), damaged) == (whole, [])


def killed_after(count, work):
    """Whether a process that does the work dies at its operation of this number on names of files."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    done = 0

    def deadly(operation):
        def dies(*arguments, **options):
            nonlocal done
            done += 1
            if done > count:
                os._exit(9)
            return operation(*arguments, **options)

        return dies

    for name in ("rename", "replace", "rmdir", "unlink", "mkdir"):
        setattr(os, name, deadly(getattr(os, name)))
    whole_files.exchange = deadly(whole_files.exchange)
    try:
        work()
    finally:
        os._exit(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("swap", [True, False], ids=["swapped", "renamed"])
def test_a_build_that_is_killed_anywhere_leaves_the_old_session_or_the_new(tmp_path, monkeypatch, swap):
    if not swap:

        def cannot(_, b):
            raise InputError(f"{b}: this system cannot replace a folder in one step")

        monkeypatch.setattr(whole_files, "exchange", cannot)
    source = {"metadata": {"source": "session", "subject": "a"}}
    old, new = (spikes(seed, **source) for seed in (0, 1))
    wanted = {p.fingerprint() for p in (old, new)}
    for count in range(100):
        folder = session_of(old, tmp_path / str(count))
        build = tmp_path / str(count) / "store"
        killed = killed_after(count, lambda build=build: build_store([new], build, progress=False))
        [probe] = Store(build).probes
        assert probe.fingerprints[0] in wanted
        read(folder)
        build_store([new], build, progress=False)
        assert [p.name for p in folder.parent.iterdir()] == [folder.name]
        assert Store(build).probes[0].fingerprints[0] == new.fingerprint()
        if not killed:
            break
    assert 5 < count < 99


def test_animals_of_similar_names_are_spoken_of(tmp_path):
    sources = [spikes(k, metadata={"source": f"s{k}", "subject": name}) for k, name in enumerate(["M1", " M1 ", "m1"])]
    with pytest.warns(RecordingWarning, match="animals 'M1' and 'm1' count as two"):
        store, _ = build_store(sources, tmp_path / "store", progress=False)
    assert store.animals == ["M1", "m1"]
