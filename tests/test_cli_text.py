"""What files call their units reaches a terminal as text: on one line, without commands."""

import os
import subprocess
import sys

import numpy as np
import pytest
from nwb_files import add_units, new_nwb, write_nwb_file
from typer.testing import CliRunner

from spikeinterface_nuclr.cli import app

HOSTILE = "pyr\nnuclr: all is well\x1b[2J\x1b]0;owned\x07=cmd|'/C calc'!A0"


@pytest.fixture
def session(tmp_path, population):
    names = [f"{HOSTILE} {k}" for k in range(population.n_units)]
    nwbfile = add_units(new_nwb(session=HOSTILE), population.spike_times, unit_name=names)
    return write_nwb_file(tmp_path / "s.nwb", nwbfile)


def run(*arguments):
    result = CliRunner().invoke(app, [*map(str, arguments), *(["-q"] if arguments[0] != "info" else [])])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    for text in (result.stdout, result.stderr):
        assert not set(text) & set("\x1b\x07\x00\r")
        assert "\nnuclr: all is well" not in text
    return result


def test_info_shows_names_as_text(session):
    result = run("info", session)
    assert result.exit_code == 0
    assert all("  " in line for line in result.stdout.splitlines())


def test_errors_that_quote_a_name_are_one_line(session):
    result = run("embed", session, "-o", session.with_suffix(".npz"), "--group-by", HOSTILE)
    assert result.exit_code == 3
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("nuclr: ")


def test_warnings_that_quote_a_name_are_one_line(tmp_path, population):
    names = [f"{HOSTILE} {k}" for k in range(population.n_units)]
    nwbfile = new_nwb()
    nwbfile.add_unit_column("unit_name", "x")
    nwbfile.add_unit_column("group", "x")
    for k, (times, name) in enumerate(zip(population.spike_times, names, strict=True)):
        nwbfile.add_unit(spike_times=times, unit_name=name, group="b" if k else "a")
    path = write_nwb_file(tmp_path / "s.nwb", nwbfile)
    result = run("embed", path, "-o", tmp_path / "e.npz")
    assert result.exit_code == 0
    assert result.stderr.splitlines()
    assert all(line.startswith("nuclr: warning: ") for line in result.stderr.splitlines())


def test_tables_hold_no_formulas(tmp_path, population):
    names = ["=1+1", "@x", "+y", *(f"u{k}" for k in range(population.n_units - 3))]
    path = write_nwb_file(tmp_path / "s.nwb", add_units(new_nwb(), population.spike_times, unit_name=names))
    assert run("embed", path, "-o", tmp_path / "e.csv").exit_code == 0
    assert run("predict", path, "--decoder", "simulated-cell-type", "-o", tmp_path / "p.csv").exit_code == 0
    for table in ("e.csv", "p.csv"):
        cells = [line.split(",")[0] for line in (tmp_path / table).read_text().splitlines()]
        assert "'=1+1" in cells
        assert not any(cell.startswith(("=", "@", "+")) for cell in cells)


def test_a_system_s_error_names_its_file_first(tmp_path):
    (tmp_path / "card.json").mkdir()
    result = run("decoder", "fit", tmp_path, "--label", "x", "-o", tmp_path / "d.safetensors", "--card",
                 tmp_path / "card.json")  # fmt: skip
    assert result.exit_code == 3
    assert result.stderr.startswith(f"nuclr: {tmp_path / 'card.json'}: ")


def test_deep_and_odd_json_cards_are_refused(tmp_path):
    for content in (b"[" * 100_000, b"[1]", b"3", b"\xff", b"{"):
        (tmp_path / "card.json").write_bytes(content)
        result = run("decoder", "fit", tmp_path, "--label", "x", "-o", tmp_path / "d.safetensors", "--card",
                     tmp_path / "card.json")  # fmt: skip
        assert result.exit_code == 3
        assert "card.json: not a readable JSON object" in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_names_survive_as_they_are_where_they_are_data(session, population):
    result = run("embed", session, "-o", session.with_suffix(".npz"))
    assert result.exit_code == 0
    with np.load(session.with_suffix(".npz")) as file:
        assert file["unit_ids"][0] == f"{HOSTILE} 0"


@pytest.mark.slow
def test_names_that_the_output_s_alphabet_lacks_are_shown_all_the_same(tmp_path, population):
    """As where output of Windows goes into a file."""
    path = write_nwb_file(
        tmp_path / "s.nwb", add_units(new_nwb(), population.spike_times, 脳=population.unit_ids.astype(str))
    )
    command = [sys.executable, "-c", "from spikeinterface_nuclr.cli import main; main()", "info", path]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(command, capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert b"\\u8133" in done.stdout
