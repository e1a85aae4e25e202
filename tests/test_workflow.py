"""The workflow gives the same tables as the commands, whatever is damaged or changes."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import write_mouse
from nwb_files import add_units, new_nwb, write_nwb_file

from spikeinterface_nuclr import simulate_days
from spikeinterface_nuclr.decoding.storage import BUNDLED

pytest.importorskip("snakemake")
pytestmark = pytest.mark.slow
WORKFLOW = Path(__file__).parents[1] / "workflow"


@pytest.fixture
def lab(tmp_path) -> Path:
    """Two days of one animal, another animal, and a damaged recording; and the workflow's table of them."""
    (tmp_path / "data").mkdir()
    for k, day in enumerate(simulate_days(2, n_units=20, duration=200.0, drift=0.02, turnover=0.1, seed=3)):
        nwbfile = new_nwb()
        add_units(nwbfile, day.spike_times)
        write_nwb_file(tmp_path / "data" / f"day {k}.nwb", nwbfile)
    write_mouse(tmp_path / "data" / "other.nwb", 2)
    whole = (tmp_path / "data" / "other.nwb").read_bytes()
    (tmp_path / "data" / "damaged.nwb").write_bytes(whole[: len(whole) // 2])
    rows = ["session,source,animal", "d0,data/day 0.nwb,a", "d1,data/day 1.nwb,a", "o,data/other.nwb,b"]
    (tmp_path / "sessions.csv").write_text("\n".join([*rows, "x,data/damaged.nwb,b"]) + "\n")
    return tmp_path


def run(lab: Path, *options, code: int = 0) -> str:
    settings = lab / "settings.yaml"
    if not settings.exists():
        settings.write_text(f"sessions: {lab}/sessions.csv\nresults: {lab}/results\nthreads: 1\n")
    command = [sys.executable, "-m", "snakemake", "-s", WORKFLOW / "Snakefile", "-d", lab, "--configfile", settings]
    done = subprocess.run([*map(str, command), "--cores", "2", *options], capture_output=True, text=True)
    assert done.returncode == code, done.stderr + done.stdout
    return done.stderr + done.stdout


def test_the_workflow_gives_what_the_commands_give(lab, nuclr):
    run(lab, "--config", "decoder=simulated-cell-type")
    results = lab / "results"
    units = pd.read_csv(results / "units.csv")
    assert set(units["session"]) == {"d0", "d1", "o"}
    assert set(units.loc[units["session"] == "o", "animal"]) == {"b"}
    assert units.loc[units["session"] == "o", "neuron_id"].isna().all()
    days = units[units["animal"] == "a"]
    assert (days.groupby("neuron_id").size() == 2).sum() >= 1
    nuclr("match", lab / "data" / "day 0.nwb", lab / "data" / "day 1.nwb", "--neurons", lab / "n.csv", "-q")
    assert days["neuron_id"].astype(int).tolist() == pd.read_csv(lab / "n.csv")["neuron_id"].tolist()
    outcomes = pd.read_csv(results / "outcomes.csv")
    assert outcomes["outcome"].tolist() == ["done", "done", "done", "refused"]
    assert "damaged.nwb" in outcomes["message"].iloc[3]
    nuclr("predict", lab / "data", "--decoder", "simulated-cell-type", "-o", lab / "p" / "{name}.csv", "-q", code=3)
    for session, name in (("d0", "day 0"), ("d1", "day 1"), ("o", "other")):
        assert (lab / "p" / f"{name}.csv").read_bytes() == (results / "identities" / f"{session}.csv").read_bytes()
    assert {path.stem for path in (results / "reports").iterdir()} == {"d0", "d1", "o"}
    # Nothing to do; then the damaged one is mended, and only what depends on it is computed.
    again = ("--config", "decoder=simulated-cell-type")
    assert "Nothing to be done" in run(lab, *again)
    before = {path: path.stat().st_mtime_ns for path in (results / "embeddings").iterdir() if path.stem != "x"}
    shutil.copy(lab / "data" / "other.nwb", lab / "data" / "damaged.nwb")
    run(lab, *again)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    units = pd.read_csv(results / "units.csv")
    assert set(units["session"]) == {"d0", "d1", "o", "x"}
    # Without a decoder, nothing that an earlier one has said is left.
    run(lab)
    assert "label" not in pd.read_csv(results / "units.csv")


def test_what_cannot_be_used_stops_nothing(lab, nuclr):
    """A missing file, an animal that is too short to match, strange names, a decoder of one's own that changes."""
    for k in range(2):
        nwbfile = new_nwb()
        add_units(nwbfile, [np.arange(0.1, 24, 0.3), np.arange(0.2, 24, 0.4)])
        write_nwb_file(lab / "data" / f"short {k}'s.nwb", nwbfile)
    decoder = lab / "decoder.safetensors"
    shutil.copy(BUNDLED / "simulated-cell-type.safetensors", decoder)
    rows = ["NA,data/short 0's.nwb,s", "s1,data/short 1's.nwb,s", "gone,data/gone.nwb,a"]
    (lab / "sessions.csv").write_text("session,source,animal\n" + "\n".join(rows) + "\n")
    settings = ("--config", f"decoder={decoder}")
    run(lab, *settings)
    units = pd.read_csv(lab / "results" / "units.csv", keep_default_na=False)
    assert set(units["session"]) == {"NA", "s1"}
    assert "neuron_id" not in units
    outcomes = pd.read_csv(lab / "results" / "outcomes.csv")["message"].tolist()
    assert "gone.nwb: no such file" in outcomes[2]
    assert "Nothing to be done" in run(lab, *settings)
    shutil.copy(BUNDLED / "simulated-cell-type.safetensors", decoder)
    assert "rule predict" in run(lab, *settings, "-n")
    (lab / "sessions.csv").write_text("session,source,animal\ngone,data/gone.nwb,a\n")
    run(lab, *settings)
    assert pd.read_csv(lab / "results" / "units.csv").empty


def test_settings_are_checked(lab):
    assert "'decodr' was unexpected" in run(lab, "--config", "decodr=x", "-n", code=1)
    (lab / "sessions.csv").write_text("session,source\na,data/other.nwb\na,data/day 0.nwb\n")
    assert "give each recording a name of its own" in run(lab, "-n", code=1)
    (lab / "sessions.csv").write_text("session,source\n../a,data/other.nwb\n")
    assert "sessions.csv: line 2" in run(lab, "-n", code=1)
    (lab / "sessions.csv").write_text("session,source\na,data/{x}.nwb\n")
    assert "sessions.csv: line 2" in run(lab, "-n", code=1)
    (lab / "sessions.csv").write_text("session,source\na,data/other.nwb,too,many\n")
    assert "line 2: too many entries" in run(lab, "-n", code=1)
