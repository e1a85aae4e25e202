"""One command for many recordings: those that are damaged do not stop the others, and a stopped run goes on."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from conftest import write_mouse
from nwb_files import add_units, new_nwb, write_nwb_file

from spikeinterface_nuclr import InputError, RecordingWarning, UnitEmbeddings, read_nwb, simulate_days
from spikeinterface_nuclr.cli.many import Done, _each, attempt
from spikeinterface_nuclr.io.manifest import Listed

EXACT = ("-q", "--precision", "float32")


@pytest.fixture
def sessions(tmp_path) -> Path:
    """Four recordings of as many animals, one of them damaged."""
    folder = tmp_path / "data"
    for k in range(3):
        (folder / f"sub-{k}").mkdir(parents=True)
        write_mouse(folder / f"sub-{k}" / f"ecephys-{k}.nwb", k)
    whole = (folder / "sub-1" / "ecephys-1.nwb").read_bytes()
    (folder / "sub-3").mkdir()
    (folder / "sub-3" / "damaged.nwb").write_bytes(whole[: len(whole) // 2])
    return folder


def embeddings_in(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: UnitEmbeddings.load(path).embedding for path in folder.glob("*.npz")}


def outcomes(path: Path) -> dict[str, str]:
    table = pd.read_csv(path)
    return dict(zip(table["source"].map(lambda name: Path(name).stem), table["outcome"], strict=True))


def test_one_damaged_file_does_not_stop_the_others(nuclr, sessions, tmp_path):
    table = tmp_path / "outcomes.csv"
    run = ("embed", sessions, "-o", tmp_path / "out" / "{name}.npz", *EXACT, "--outcomes", table)
    done = nuclr(*run, code=3)
    assert "4 recordings: 3 done, 1 refused" in done.stdout
    assert "nuclr: refused: " in done.stderr
    assert "damaged.nwb" in done.stderr
    assert outcomes(table) == {"ecephys-0": "done", "ecephys-1": "done", "ecephys-2": "done", "damaged": "refused"}
    row = pd.read_csv(table).set_index("outcome").loc["refused"]
    assert "damaged.nwb" in row["message"]
    assert "\n" not in row["message"]
    first = embeddings_in(tmp_path / "out")
    assert set(first) == {f"ecephys-{k}.npz" for k in range(3)}
    # Again: nothing to do, and the mended one is done.
    shutil.copy(sessions / "sub-0" / "ecephys-0.nwb", sessions / "sub-3" / "damaged.nwb")
    again = nuclr(*run)
    assert "4 recordings: 1 done, 3 up to date" in again.stdout
    (tmp_path / "two").mkdir()
    side_by_side = ("embed", sessions, "-o", tmp_path / "two" / "{name}.npz", *EXACT, "-j", 2)
    nuclr(*side_by_side)
    for name, values in embeddings_in(tmp_path / "two").items():
        np.testing.assert_array_equal(values, embeddings_in(tmp_path / "out")[name])


def test_each_recording_needs_a_file_of_its_own(nuclr, sessions, tmp_path):
    refused = nuclr("embed", sessions, "-o", tmp_path / "all.npz", *EXACT, code=2).stderr
    assert "is one file for 4 recordings" in refused
    shutil.copy(sessions / "sub-0" / "ecephys-0.nwb", sessions / "sub-1" / "ecephys-0.nwb")
    shared = nuclr("embed", sessions, "-o", tmp_path / "{name}.npz", *EXACT, code=2).stderr
    assert "would both be written to" in shared
    (sessions / "sub-3" / "damaged.nwb").unlink()
    nuclr("embed", sessions, "-o", tmp_path / "x" / "{parent}_{name}.npz", *EXACT)
    assert {path.name for path in (tmp_path / "x").iterdir()} == {
        "sub-0_ecephys-0.npz", "sub-1_ecephys-0.npz", "sub-1_ecephys-1.npz", "sub-2_ecephys-2.npz",
    }  # fmt: skip
    assert "no session is stated" in nuclr("embed", sessions, "-o", tmp_path / "{session}.npz", *EXACT, code=2).stderr
    manifest = tmp_path / "m.csv"
    manifest.write_text("source,animal,session\n" + "".join(
        f"data/sub-{k}/ecephys-{k}.nwb,mouse/{k},../day {k}\n" for k in range(3)))  # fmt: skip
    nuclr("embed", manifest, "-o", tmp_path / "y" / "{animal}-{session}.npz", *EXACT)
    assert {path.name for path in (tmp_path / "y").iterdir()} == {f"mouse_{k}-_day {k}.npz" for k in range(3)}
    assert not (tmp_path / "day 0.npz").exists()


def test_one_recording_is_as_before(nuclr, sessions, tmp_path):
    one = sessions / "sub-0" / "ecephys-0.nwb"
    assert "recordings" not in nuclr("embed", one, "-o", tmp_path / "a.npz", *EXACT).stdout
    nuclr("embed", sessions / "sub-0", "-o", tmp_path / "b.npz", *EXACT)
    nuclr("embed", sessions / "sub-3" / "damaged.nwb", "-o", tmp_path / "c.npz", *EXACT, code=3)
    assert "no such file" in nuclr("embed", tmp_path / "none.nwb", "-o", tmp_path / "c.npz", code=3).stderr
    nuclr("embed", one, "-o", tmp_path / "c.npz", "--device", "cuda:99", *EXACT, code=5)


def test_what_is_wrong_with_all_is_said_once(nuclr, sessions, tmp_path):
    out = ("-o", tmp_path / "{name}.npz", *EXACT)
    assert "no such checkpoint" in nuclr("embed", sessions, *out, "--model", "nothing", code=4).stderr
    nuclr("embed", sessions, *out, "--device", "cuda:99", code=5)
    for wrong in (("--overlap", 2), ("--min-spikes", 0), ("--precision", "half")):
        assert "refused" not in nuclr("embed", sessions, *out[:2], "-q", *wrong, code=3).stderr
    mine = tmp_path / "mine.csv"
    mine.write_text("a,b\n1,2\n")
    assert "not a table of outcomes" in nuclr("embed", sessions, *out, "--outcomes", mine, code=3).stderr
    assert mine.read_text() == "a,b\n1,2\n"
    assert not list(tmp_path.glob("*.npz"))


def test_predictions_and_pages_of_many(nuclr, sessions, tmp_path):
    decoder = ("--decoder", "simulated-cell-type", "-q")
    (sessions / "sub-3" / "damaged.nwb").unlink()
    in_place = ("predict", sessions, *decoder, "--in-place")
    assert "3 recordings: 3 done" in nuclr(*in_place, "-j", 2).stdout
    assert "3 recordings: 0 done, 3 up to date" in nuclr(*in_place).stdout
    # Another target error replaces only on request, and once replaced is up to date also on request.
    other = (*in_place, "--target-error", 0.3)
    assert "3 refused" in nuclr(*other, code=3).stdout
    assert "3 recordings: 3 done" in nuclr(*other, "--if-exists", "replace").stdout
    assert "3 up to date" in nuclr(*other, "--if-exists", "replace").stdout
    _, [identities] = read_nwb(sessions / "sub-1" / "ecephys-1.nwb")
    assert identities.provenance["target_error"] == 0.3
    tables = ("predict", sessions, *decoder, "-o", tmp_path / "t" / "{name}.csv")
    assert "3 done" in nuclr(*tables).stdout
    assert "3 up to date" in nuclr(*tables, "--overwrite").stdout
    (tmp_path / "t" / "ecephys-0.csv").unlink()  # its provenance is left
    assert "1 done, 2 up to date" in nuclr(*tables).stdout
    kept = ("--embeddings", tmp_path / "e" / "{name}.npz")
    assert "3 done" in nuclr("embed", sessions, "-o", tmp_path / "e" / "{name}.npz", "-q").stdout
    assert "3 up to date" in nuclr(*tables, *kept).stdout
    from_files = ("predict", sessions, *decoder, *kept, "-o", tmp_path / "f" / "{name}.csv")
    assert "3 done" in nuclr(*from_files).stdout
    for path in (tmp_path / "t").glob("*.csv"):
        assert path.read_bytes() == (tmp_path / "f" / path.name).read_bytes()
    assert "--embeddings is for tables" in nuclr(*in_place, *kept, code=2).stderr
    shutil.copy(tmp_path / "e" / "ecephys-0.npz", tmp_path / "e" / "ecephys-1.npz")
    refused = nuclr(*from_files, "--overwrite", code=3)
    assert "are not the embeddings of" in refused.stderr
    assert "2 up to date, 1 refused" in refused.stdout
    shown = ("report", sessions, "-q", *kept, "-o", tmp_path / "s" / "{name}.html")
    assert "2 done, 1 refused" in nuclr(*shown, code=3).stdout
    pages = ("report", sessions, "-q", "-o", tmp_path / "r" / "{name}.html")
    assert "3 done" in nuclr(*pages, "-j", 2).stdout
    assert "3 up to date" in nuclr(*pages).stdout
    assert len(list((tmp_path / "r").glob("*.html"))) == 3


def test_a_copy_is_compared_with_its_source(nuclr, sessions, tmp_path):
    source = sessions / "sub-0" / "ecephys-0.nwb"
    embedded = ("embed", source, "-o", tmp_path / "e.nwb", *EXACT)
    predicted = ("predict", source, "--decoder", "simulated-cell-type", "-o", tmp_path / "p.nwb", "-q")
    for command in (embedded, predicted):
        nuclr(*command)
        assert "is up to date" in nuclr(*command).stdout
    with h5py.File(source, "a") as file:
        file["units/spike_times"][0] -= 1e-3
    assert "of other spikes than its source" in nuclr(*embedded, code=3).stderr
    assert "exists already" in nuclr(*predicted, code=3).stderr
    several = ("embed", sessions / "sub-0", sessions / "sub-1", *EXACT, "-o", tmp_path / "{name}.nwb")
    assert "2 recordings: 2 done" in nuclr(*several).stdout
    with h5py.File(source, "a") as file:
        file["units/spike_times"][0] -= 1e-3
    assert "1 done, 1 up to date" in nuclr(*several, "--overwrite").stdout


def test_nothing_else_is_overwritten(nuclr, sessions, tmp_path):
    whole = (sessions / "sub-0" / "ecephys-0.nwb").read_bytes()
    onto = ("embed", sessions, "-o", sessions / "sub-0" / "{name}.nwb", "--overwrite", *EXACT)
    assert "is one of the recordings" in nuclr(*onto, code=2).stderr
    assert (sessions / "sub-0" / "ecephys-0.nwb").read_bytes() == whole
    out, one = tmp_path / "x.csv", sessions / "sub-0"
    for outcome in (out, tmp_path / "x.provenance.json", tmp_path / "none" / "o.csv", tmp_path / "o.txt"):
        nuclr("embed", one, "-o", out, "--outcomes", outcome, *EXACT, code=3)
    assert not list(tmp_path.glob("x*"))
    nuclr("match", one, sessions / "sub-1", "-o", out, "--outcomes", out, *EXACT, code=2)
    # A second table beside the first, once.
    pair = ("embed", sessions / "sub-0", sessions / "sub-1", "--in-place", *EXACT)
    nuclr(*pair)
    second = (*pair, "--min-spikes", 2, "--if-exists", "new_name")
    assert "2 done" in nuclr(*second).stdout
    assert "2 up to date" in nuclr(*second).stdout
    assert "UnitEmbeddings_2" in nuclr("info", sessions / "sub-0" / "ecephys-0.nwb").stdout
    (tmp_path / "link.nwb").symlink_to(sessions / "sub-0" / "ecephys-0.nwb")
    assert (
        "recordings"
        not in nuclr(
            "embed", tmp_path / "link.nwb", sessions / "sub-0" / "ecephys-0.nwb", "-o", tmp_path / "l.npz", *EXACT
        ).stdout
    )


def test_a_name_that_no_text_can_hold_is_a_row(nuclr, sessions, tmp_path):
    strange = os.fsdecode(os.fsencode(sessions) + b"/bad\xff.nwb")
    try:
        shutil.copy(sessions / "sub-0" / "ecephys-0.nwb", strange)
    except OSError:
        pytest.skip("this file system has no such names")
    nuclr("embed", sessions, "-o", tmp_path / "o" / "{key}.npz", "--outcomes", tmp_path / "o.csv", *EXACT, code=3)
    assert len(pd.read_csv(tmp_path / "o.csv")) == 5


@pytest.mark.slow
def test_processes_end_with_the_one_that_started_them(sessions, tmp_path):
    for k in range(4, 12):
        write_mouse(sessions / f"extra-{k}.nwb", k)
    command = [sys.executable, "-m", "spikeinterface_nuclr", "embed", str(sessions), "-q", "-j", "2", "-o"]
    run = subprocess.Popen([*command, str(tmp_path / "out" / "{name}.npz")], start_new_session=True)
    deadline = time.monotonic() + 240
    while not list((tmp_path / "out").glob("*.npz")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    while _alive(run.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _alive(run.pid)


def _alive(group: int) -> bool:
    """Whether a process of this group is left, which is more than a defunct one."""
    states = subprocess.run(["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True).stdout
    return any(line.split()[0] == str(group) and line.split()[1][0] != "Z" for line in states.splitlines())


def test_analyzers_among_others(nuclr, sessions, tmp_path, population):
    from analyzers import build_analyzer

    build_analyzer(population, format="binary_folder", folder=tmp_path / "analyzer")
    done = nuclr("embed", tmp_path / "analyzer", sessions / "sub-0" / "ecephys-0.nwb", *EXACT, code=3)
    assert "2 recordings: 1 done, 1 refused" in done.stdout
    assert "ecephys-0.nwb: name a file to write" in done.stderr
    assert "1 up to date" in nuclr("embed", tmp_path / "analyzer", sessions / "sub-0", *EXACT, code=3).stdout


def test_matching_leaves_out_what_cannot_be_read(nuclr, tmp_path):
    for k, day in enumerate(simulate_days(3, n_units=20, duration=120.0, seed=1)):
        nwbfile = new_nwb()
        add_units(nwbfile, day.spike_times)
        write_nwb_file(tmp_path / f"day-{k}.nwb", nwbfile)
    whole = (tmp_path / "day-1.nwb").read_bytes()
    (tmp_path / "day-9.nwb").write_bytes(whole[: len(whole) // 2])
    done = nuclr("match", tmp_path, "-o", tmp_path / "m.csv", "--outcomes", tmp_path / "o.csv", *EXACT, code=3)
    assert "nuclr: refused: " in done.stderr
    assert outcomes(tmp_path / "o.csv")["day-9"] == "refused"
    pairs = pd.read_csv(tmp_path / "m.csv")
    assert set(pairs["recording_a"]) | set(pairs["recording_b"]) == {"day-0.nwb", "day-1.nwb", "day-2.nwb"}
    (tmp_path / "day-9.nwb").unlink()
    nuclr("match", tmp_path, "-o", tmp_path / "again.csv", *EXACT, "-j", 2)
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "m.csv").read_bytes()
    alone = nuclr("match", tmp_path / "day-0.nwb", tmp_path / "m.csv.cache", "-o", tmp_path / "n.csv", *EXACT, code=3)
    assert "two recordings or more are matched, and 1 can be read" in alone.stderr


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on(sessions, tmp_path, nuclr):
    for k in range(4, 10):
        write_mouse(sessions / f"extra-{k}.nwb", k)
    command = [sys.executable, "-m", "spikeinterface_nuclr", "embed", str(sessions), "-q", "-j", "2",
               "--precision", "float32", "--outcomes", str(tmp_path / "o.csv"), "-o"]  # fmt: skip
    for finished in (2, 5):
        run = subprocess.Popen([*command, str(tmp_path / "killed" / "{name}.npz")], start_new_session=True)
        deadline = time.monotonic() + 240
        while len(list((tmp_path / "killed").glob("*.npz"))) < finished and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    assert subprocess.run([*command, str(tmp_path / "killed" / "{name}.npz")]).returncode == 3
    nuclr("embed", sessions, "-o", tmp_path / "whole" / "{name}.npz", *EXACT, code=3)
    killed, whole = embeddings_in(tmp_path / "killed"), embeddings_in(tmp_path / "whole")
    assert killed.keys() == whole.keys()
    assert len(whole) == 9
    assert all(np.array_equal(killed[name], whole[name]) for name in whole)
    found = outcomes(tmp_path / "o.csv")
    assert found["damaged"] == "refused"
    assert set(found.values()) <= {"refused", "done", "up to date"}
    # A process that is killed right after a file is complete may leave an empty hidden folder.
    assert not [path for path in (tmp_path / "killed").iterdir() if path.suffix != ".npz" and path.name[0] != "."]


# --- what may happen to a process


@dataclass(frozen=True)
class Job:
    def check(self):
        pass

    def __call__(self, source, output, *, alone):
        import warnings

        name = source.name
        if name.startswith("dies"):
            os._exit(9)
        if name.startswith("fault"):
            raise KeyError("a fault of ours")
        if name.startswith("memory"):
            raise MemoryError
        if name.startswith("refused"):
            raise InputError(f"{name}: it is empty")
        if name.startswith("warns"):
            warnings.warn("it is odd", RecordingWarning, stacklevel=2)
        return Done(f"{name}: well")


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_whatever_happens_is_an_outcome(n_jobs):
    names = ["a", "fault", "memory", "refused", "warns", "b"] + (["dies 1", "c", "dies 2", "d"] if n_jobs > 1 else [])
    rows = {row.source: row for row in _each(Job(), [(Listed(name, name), None) for name in names], n_jobs)}
    assert set(rows) == set(names)
    assert {name for name, row in rows.items() if row.outcome == "done"} == {"a", "b", "c", "d", "warns"} & set(names)
    assert rows["fault"].outcome == "failed"
    assert "unexpected KeyError" in rows["fault"].message
    assert rows["memory"].message == "memory: out of memory"
    assert rows["refused"].message == "refused: it is empty"
    assert rows["warns"].message == "warns: well; warning: it is odd"
    if n_jobs > 1:
        assert "its process was ended" in rows["dies 1"].message
        assert rows["dies 2"].outcome == "refused"


def test_names_with_line_breaks_stay_one_line():
    row = attempt(Job(), Listed("refused\nby\x1b[2J", "refused\nby\x1b[2J"), None)
    assert row.outcome == "refused"
