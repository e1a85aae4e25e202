"""nuclr step, as a pipeline of containers calls it."""

import json
from datetime import datetime

import pandas as pd
import pytest
from analyzers import build_analyzer

from spikeinterface_nuclr import UnitEmbeddings, embed, read_population, simulate_population


@pytest.fixture
def folders(tmp_path):
    """What the earlier steps of a pipeline leave: two analyzers, and one whose sorting has failed."""
    data = tmp_path / "data"
    data.mkdir()
    for name, form, seed in (("exp1_A", "binary_folder", 1), ("exp1_B.zarr", "zarr", 2)):
        population = simulate_population(n_units=8, duration=40.0, seed=seed)
        build_analyzer(population, format=form, folder=data / f"postprocessed_{name}")
    (data / "postprocessed_exp1_C").mkdir()
    (data / "preprocessed_exp1_A").mkdir()
    return "--data", data, "--results", tmp_path / "results"


def test_each_recording_gets_its_files(nuclr, folders, tmp_path, monkeypatch):
    monkeypatch.setenv("CO_CPUS", "1")
    done = nuclr("step", "--params", '{"decoder": "simulated-cell-type", "precision": "float32"}', *folders)
    assert "exp1_A: total units: 8, embedded units: 8" in done.stdout
    results = tmp_path / "results"
    assert {path.name for path in results.iterdir()} == {
        f"{start}{name}{end}" for name in ("exp1_A", "exp1_B", "exp1_C")
        for start, end in (("nuclr_", ".npz"), ("nuclr_", ".csv"), ("data_process_nuclr_", ".json"))
    }  # fmt: skip
    source = folders[1] / "postprocessed_exp1_A"
    expected = embed(read_population(source), precision="float32", progress=False)
    found = UnitEmbeddings.load(results / "nuclr_exp1_A.npz")
    assert (found.embedding == expected.embedding).all()
    assert len(pd.read_csv(results / "nuclr_exp1_B.csv")) == 8
    process = json.loads((results / "data_process_nuclr_exp1_B.json").read_text())
    assert process["code"]["parameters"]["recording_name"] == "exp1_B"
    assert process["output_parameters"]["embedded_units"] == 8
    assert datetime.fromisoformat(process["end_date_time"]) >= datetime.fromisoformat(process["start_date_time"])
    # The one whose sorting failed has files too, which the pipeline collects.
    assert (results / "nuclr_exp1_C.npz").stat().st_size == 0
    assert "refused: " in json.loads((results / "data_process_nuclr_exp1_C.json").read_text())["notes"]


def test_parameters_come_as_json_or_in_a_file(nuclr, folders, tmp_path, monkeypatch):
    (tmp_path / "params.json").write_text('{"min_spikes": 2}')
    nuclr("step", "--params", tmp_path / "params.json", *folders)
    assert UnitEmbeddings.load(tmp_path / "results" / "nuclr_exp1_A.npz").provenance.min_spikes == 2
    for params, message, code in (
        ('{"min_spike": 2}', "min_spike is unknown", 3), ("{", "not a readable JSON object", 3), ("[1]", "no file", 3),
        ("none.json", "is no JSON object, and no file", 3), ('{"target_error": 0.2}', "give decoder too", 3),
        ('{"model": "none"}', "no such checkpoint", 4), ('{"overlap": 2}', "overlap", 3),
    ):  # fmt: skip
        assert message in nuclr("step", "--params", params, *folders, code=code).stderr, params
    assert "no such folder" in nuclr("step", "--data", tmp_path / "none", code=3).stderr
    assert "holds no folder postprocessed_NAME" in nuclr("step", "--data", tmp_path, code=3).stderr
    monkeypatch.setenv("CO_CPUS", "many")
    assert "CO_CPUS=many: is no number of cores" in nuclr("step", *folders, code=3).stderr
