"""Predicted numbers from labels to the file and back: Python, commands, analyzer and NWB."""

import dataclasses
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pynwb
import pytest
import spikeinterface.core as si
from analyzers import build_analyzer, reload
from nwb_files import add_units, new_nwb, write_nwb_file

from spikeinterface_nuclr import (
    Checkpoint,
    CheckpointError,
    Encoder,
    Estimates,
    InputError,
    RecordingWarning,
    Regressor,
    ValueRule,
    ValueTable,
    compute_nuclr_embedding,
    compute_nuclr_estimate,
    embed,
    fit_decoder,
    fit_regressor,
    read_nwb,
    read_population,
    simulate_population,
    write_nwb,
)
from spikeinterface_nuclr.predictions import join_predictions

NAME = "nuclr_estimate"
QUICK = {"precision": "float32", "torch_device": "cpu"}
EXACT = ("--precision", "float32", "--model")


def rates(population) -> np.ndarray:
    """A number that an embedding holds."""
    return population.num_spikes / (population.stop - population.start)


@pytest.fixture(scope="module")
def mice(tmp_path_factory):
    """NWB files of eight animals with the numbers in a column; some units have none."""
    folder = tmp_path_factory.mktemp("mice")
    for k in range(8):
        population = simulate_population(30, 60.0, seed=k)
        column = rates(population)
        column[3] = np.nan
        nwbfile = add_units(new_nwb(), population.spike_times, unit_name=population.unit_ids, rate=column)
        nwbfile.subject.fields["subject_id"] = f"mouse{k}"
        write_nwb_file(folder / f"mouse{k}.nwb", nwbfile)
    return folder


@pytest.fixture(scope="module")
def regressor(nuclr, mice, model, tmp_path_factory):
    path = tmp_path_factory.mktemp("regressor") / "rate.safetensors"
    done = nuclr("decoder", "fit", mice, "--value", "rate", "--target", "rate_hz", "--model", model, "-o", path, "-q")
    assert "Regressor('rate_hz', 8 animals), calibrated on animals" in done.stdout
    return path


@pytest.fixture(scope="module")
def population():
    return simulate_population(14, 60.0, seed=20)


@pytest.fixture
def session(population, tmp_path):
    nwbfile = add_units(new_nwb(), population.spike_times, unit_name=population.unit_ids)
    return write_nwb_file(tmp_path / "session.nwb", nwbfile)


@pytest.fixture(scope="module")
def expected(regressor, model, population) -> Estimates:
    return Regressor.load(regressor).predict(embed(population, model, precision="float32", progress=False))


def assert_same(found: Estimates, expected: Estimates):
    assert found.unit_ids.astype(str).tolist() == expected.unit_ids.astype(str).tolist()
    for name in ("value", "low", "high"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-5)
    assert (found.target, found.coverage) == (expected.target, expected.coverage)


# --- Python -----------------------------------------------------------------------------------------------------------


def test_values_are_near_the_truth_and_inside_their_intervals(expected, population):
    truth = rates(population)
    assert np.corrcoef(truth, expected.value)[0, 1] > 0.5
    inside = (expected.low <= truth) & (truth <= expected.high)
    assert inside.mean() >= 0.7
    assert repr(expected) == "Estimates('rate_hz', 14 units, 14 estimated, 90% intervals)"
    assert expected.to_dataframe().columns.tolist() == ["value", "low", "high"]


def test_rows_are_selected_and_joined(expected):
    some = expected.select([3, 0])
    assert some.value.tolist() == expected.value[[3, 0]].tolist()
    joined = join_predictions([some, expected.select([5])])
    assert joined.unit_ids.tolist() == expected.unit_ids[[3, 0, 5]].tolist()
    with pytest.raises(InputError, match=r"low has shape \(1,\), not \(14,\)"):
        dataclasses.replace(expected, low=expected.low[:1])
    with pytest.raises(InputError, match="coverage must lie between 0 and 1, not 1"):
        dataclasses.replace(expected, coverage=1)


def test_the_members_of_an_ensemble_have_a_spread(checkpoint, population, tmp_path):
    import torch

    torch.manual_seed(1)
    other = Checkpoint(checkpoint.config, Encoder(checkpoint.config).state_dict(), {"name": "other"})
    both = Checkpoint.joined([checkpoint, other]).save(tmp_path / "both.safetensors")
    train = [simulate_population(20, 60.0, seed=k) for k in range(4)]
    embeddings = [embed(one, both, precision="float32", progress=False) for one in train]
    fitted = fit_regressor(embeddings, [rates(one) for one in train], target="rate_hz")
    fitted = Regressor.load(fitted.save(tmp_path / "rate.safetensors"))
    embedded = embed(population, both, precision="float32", progress=False)
    found = fitted.predict(embedded)
    parts = [fitted.readouts[name](rows)[:, 0] for name, rows in
             zip(fitted.members, np.split(embedded.embedding.astype(float), 2, axis=1), strict=True)]  # fmt: skip
    np.testing.assert_allclose(found.value, np.mean(parts, axis=0), rtol=1e-5)
    np.testing.assert_allclose(found.spread, np.abs(parts[0] - parts[1]) / 2, rtol=1e-4)
    assert "spread" in found.to_dataframe()


def test_a_training_animal_is_no_test(regressor, model, mice):
    embeddings = embed(read_population(mice / "mouse0.nwb"), model, precision="float32", progress=False)
    with pytest.warns(RecordingWarning, match="was fitted to animal mouse0: its predictions are not a test"):
        Regressor.load(regressor).predict(embeddings)


def test_values_come_from_a_column_or_a_table(mice, tmp_path):
    path = mice / "mouse0.nwb"
    population = read_population(path)
    values = ValueRule("rate").labels_of(population, "x")
    assert np.isnan(values).tolist() == [k == 3 for k in range(30)]
    table = tmp_path / "values.csv"
    table.write_text(
        f"source,unit,value\nmouse0.nwb,{population.unit_ids[1]},2.5\nmouse0.nwb,{population.unit_ids[4]},\n"
    )
    found = ValueTable.read(table).labels_of(population, str(path))
    assert np.flatnonzero(np.isfinite(found)).tolist() == [1]
    assert found[1] == 2.5
    table.write_text("source,unit,value\nmouse0.nwb,0,deep\n")
    with pytest.raises(InputError, match=r"values\.csv: line 2, column value: 'deep' is no number"):
        ValueTable.read(table)
    table.write_text("source,unit,label\nmouse0.nwb,0,deep\n")
    with pytest.raises(InputError, match="no column is called value"):
        ValueTable.read(table)


# --- commands ---------------------------------------------------------------------------------------------------------


def test_a_csv_file_has_a_row_for_each_unit(nuclr, session, regressor, model, expected, tmp_path):
    out = tmp_path / "units.csv"
    done = nuclr("predict", session, "--decoder", regressor, *EXACT, model, "-o", out, "-q")
    assert "rate_hz predicted for 14 of 14 units" in done.stdout
    table = pd.read_csv(out, index_col="unit_id")
    np.testing.assert_allclose(table["value"], expected.value, rtol=1e-4)
    narrow = tmp_path / "narrow.csv"
    nuclr("predict", session, "--decoder", regressor, "--coverage", 0.5, *EXACT, model, "-o", narrow, "-q")
    width = table["high"] - table["low"]
    again = pd.read_csv(narrow, index_col="unit_id")
    assert (again["high"] - again["low"] < width).all()


def test_an_nwb_file_holds_them_for_plain_pynwb(nuclr, session, regressor, model, expected):
    done = nuclr("predict", session, "--decoder", regressor, *EXACT, model, "--in-place", "-q")
    assert "in processing/nuclr/rate_hz" in done.stdout
    _, [found] = read_nwb(session)
    assert_same(found, expected)
    assert found.provenance["decoder"] == "rate.safetensors"
    code = (
        "import pynwb, sys\n"
        f"with pynwb.NWBHDF5IO({str(session)!r}, 'r') as io:\n"
        "    table = io.read().processing['nuclr']['rate_hz']\n"
        "    print(table.neurodata_type, table.coverage, table.to_dataframe()[['value', 'low', 'high']].shape)\n"
        "assert 'ndx_nuclr' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "UnitEstimates 0.9 (14, 3)\n"
    assert pynwb.validate(path=session) == []
    assert (
        "predicted        rate_hz" in " ".join(nuclr("info", session).stdout.split("\n"))
        or "rate_hz" in nuclr("info", session).stdout
    )
    again = ("predict", session, "--decoder", regressor, "--in-place", "-q")
    assert "rate_hz is up to date" in nuclr(*again).stdout
    assert "holds 'rate_hz' already" in nuclr(*again, "--coverage", 0.5, code=3).stderr
    nuclr("predict", session, "--decoder", regressor, "--in-place", "--if-exists", "replace", "--coverage", 0.5, "-q")
    assert read_nwb(session)[1][0].coverage == 0.5


def test_an_analyzer_holds_them(nuclr, population, regressor, model, expected, tmp_path):
    folder = tmp_path / "analyzer"
    build_analyzer(population, format="binary_folder", folder=folder)
    done = nuclr("predict", folder, "--decoder", regressor, *EXACT, model, "-q")
    assert "rate_hz predicted for 14 of 14 units, as nuclr_estimate" in done.stdout
    found = reload_estimates(folder)
    np.testing.assert_allclose(found.value, expected.value, rtol=1e-4)
    again = ("predict", folder, "--decoder", regressor, *EXACT, model, "-q")
    assert "rate_hz is up to date" in nuclr(*again).stdout
    out = tmp_path / "units.csv"
    nuclr(*again, "-o", out)
    assert "units.csv: is up to date" in nuclr(*again, "-o", out).stdout
    assert "exists already" in nuclr(*again, "-o", out, "--coverage", 0.5, code=3).stderr
    np.testing.assert_allclose(pd.read_csv(out)["value"], found.value, rtol=1e-4)


def test_a_stale_analyzer_keeps_its_other_prediction(nuclr, population, regressor, model, tmp_path):
    train = [simulate_population(30, 60.0, seed=k) for k in range(4)]
    embeddings = [embed(one, model, precision="float32", progress=False) for one in train]
    decoder = fit_decoder(embeddings, [one.properties["cell_type"] for one in train], target="cell_type")
    decoder.save(tmp_path / "d.safetensors")
    folder = tmp_path / "analyzer"
    build_analyzer(population, format="binary_folder", folder=folder)
    nuclr("predict", folder, "--decoder", tmp_path / "d.safetensors", *EXACT, model, "-q")
    analyzer = si.load_sorting_analyzer(folder)
    extension = analyzer.get_extension("nuclr_embedding")
    extension.data["provenance"] = {**extension.data["provenance"], "stale": "the spikes have changed"}
    extension.save()
    refused = nuclr("predict", folder, "--decoder", regressor, *EXACT, model, "-q", code=3)
    assert "cell_type was predicted from embeddings that have to be computed again" in refused.stderr


def reload_estimates(folder) -> Estimates:
    analyzer = si.load_sorting_analyzer(folder)
    return analyzer.get_extension(NAME).get_estimates()


def test_options_of_labels_are_refused_for_numbers_and_the_reverse(nuclr, session, regressor, mice, tmp_path):
    out = tmp_path / "o.csv"
    wrong = nuclr("predict", session, "--decoder", regressor, "--target-error", 0.1, "-o", out, code=2)
    assert "predicts numbers, which take --coverage" in wrong.stderr
    wrong = nuclr("predict", session, "--decoder", "simulated-cell-type", "--coverage", 0.5, "-o", out, code=2)
    assert "predicts labels, which take --target-error" in wrong.stderr
    wrong = nuclr("predict", session, "--decoder", regressor, "--coverage", 2, "-o", out, code=3)
    assert "coverage must lie between 0 and 1, not 2" in wrong.stderr
    fit = ("decoder", "fit", mice, "-o", tmp_path / "d.safetensors")
    assert "give one of --label" in nuclr(*fit, "--value", "rate", "--label", "rate", code=2).stderr
    assert "leave them out for numbers" in nuclr(*fit, "--value", "rate", "--level", "beryl", code=2).stderr
    assert "use fit_regressor for numbers (--value)" in nuclr(*fit, "--label", "rate", code=3).stderr
    assert not out.exists()


def test_info_describes_it(nuclr, regressor):
    lines = nuclr("info", regressor).stdout
    assert "90% of true values within" in lines
    assert "computes the same here" in nuclr("info", "--check", regressor).stdout


# --- analyzers --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "binary_folder", "zarr"])
def analyzer(request, population, regressor, model, tmp_path):
    folder = None if request.param == "memory" else tmp_path / f"analyzer{'.zarr' if request.param == 'zarr' else ''}"
    analyzer = build_analyzer(population, format=request.param, folder=folder)
    analyzer.compute({"nuclr_embedding": {"model": model, **QUICK}, NAME: {"decoder": regressor, "publish": True}})
    return analyzer


def test_it_is_computed_loaded_and_published(analyzer, expected):
    again = analyzer if analyzer.format == "memory" else reload(analyzer)
    found = again.get_extension(NAME).get_estimates()
    assert_same(found, expected)
    table = again.get_extension(NAME).get_data()
    assert table.columns.tolist() == ["value", "low", "high"]
    np.testing.assert_array_equal(again.get_extension(NAME).get_data("numpy"), found.value)
    for key, name in (("", "value"), ("_low", "low"), ("_high", "high")):
        np.testing.assert_array_equal(again.get_sorting_property(f"nuclr_rate_hz{key}"), getattr(found, name))


def test_both_predictions_go_into_the_nwb_file(population, regressor, model, session, tmp_path):
    train = [simulate_population(30, 60.0, seed=k) for k in range(4)]
    embeddings = [embed(one, model, precision="float32", progress=False) for one in train]
    decoder = fit_decoder(embeddings, [one.properties["cell_type"] for one in train], target="cell_type")
    analyzer = build_analyzer(population)
    analyzer.compute(
        {
            "nuclr_embedding": {"model": model, **QUICK},
            "nuclr_identity": {"decoder": decoder.save(tmp_path / "d.safetensors")},
            NAME: {"decoder": regressor},
        }
    )
    write_nwb(session, analyzer, in_place=True)
    _, predictions = read_nwb(session)
    assert {type(one).__name__: one.target for one in predictions} == {
        "Identities": "cell_type",
        "Estimates": "rate_hz",
    }


def test_changed_units_are_predicted_again(population, regressor, model):
    analyzer = build_analyzer(population)
    analyzer.compute({"nuclr_embedding": {"model": model, **QUICK}, NAME: {"decoder": regressor}})
    before = analyzer.get_extension(NAME).get_estimates()
    merged = analyzer.merge_units([analyzer.unit_ids[:2].tolist()])
    after = merged.get_extension(NAME).get_estimates()
    assert len(after.value) == len(before.value) - 1
    assert np.isfinite(after.value).all()
    some = analyzer.select_units(analyzer.unit_ids[[4, 1]])
    np.testing.assert_array_equal(some.get_extension(NAME).get_estimates().value, before.value[[4, 1]])


@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_without_the_regressor_changed_units_have_no_number(population, regressor, model, tmp_path, mode):
    path = shutil.copy(regressor, tmp_path / "gone.safetensors")
    analyzer = build_analyzer(population)
    analyzer.compute({"nuclr_embedding": {"model": model, **QUICK}, NAME: {"decoder": path}})
    before = analyzer.get_extension(NAME).get_estimates().value
    path.unlink()
    with pytest.warns(RecordingWarning, match="nuclr_estimate: the units were changed and could not be decoded again"):
        merged = analyzer.merge_units([analyzer.unit_ids[:2].tolist()], merging_mode=mode)
    with pytest.warns(RecordingWarning, match="nuclr_estimate is stale"):
        after = merged.get_extension(NAME).get_estimates()
    kept = before[2:] if mode == "soft" else np.full(len(before) - 2, np.nan)
    np.testing.assert_array_equal(np.sort(after.value), np.sort([*kept, np.nan]))


def test_a_refusal_names_what_to_do(population, regressor, model, tmp_path):
    analyzer = build_analyzer(population)
    with pytest.raises(InputError, match="nuclr_estimate needs nuclr_embedding: compute it first"):
        compute_nuclr_estimate(analyzer, regressor)
    compute_nuclr_embedding(analyzer, model=model, progress_bar=False, **QUICK)
    with pytest.raises(CheckpointError, match=r"reads classes: use Decoder\.load, or nuclr_identity"):
        compute_nuclr_estimate(analyzer, "simulated-cell-type")
    with pytest.raises(InputError, match=r"coverage must lie between 0 and 1, not 1\.5"):
        compute_nuclr_estimate(analyzer, regressor, coverage=1.5)
    assert not analyzer.has_extension(NAME)
