"""nuclr_identity through the life of a SortingAnalyzer."""

import dataclasses
import json
import shutil
import subprocess
import sys
import warnings
from collections import Counter

import numpy as np
import pandas as pd
import pynwb
import pytest
import spikeinterface.core as si
from analyzers import build_analyzer, reload
from nwb_files import add_units, new_nwb, write_nwb_file
from spikeinterface.core.sortinganalyzer import get_extension_class
from typer.testing import CliRunner

from spikeinterface_nuclr import (
    CheckpointError,
    Decoder,
    InputError,
    RecordingWarning,
    compute_nuclr_embedding,
    compute_nuclr_identity,
    embed,
    fit_decoder,
    read_population,
    simulate_population,
    write_nwb,
)
from spikeinterface_nuclr.cli import app

NAME = "nuclr_identity"
QUICK = {"precision": "float32", "torch_device": "cpu"}
# So that it abstains from some of these, who are easy to tell apart.
STRICT = {"target_error": 0.1}
FORMATS = ("memory", "binary_folder", "zarr")


@pytest.fixture(scope="module")
def files(checkpoint, tmp_path_factory):
    """A model, and a decoder fitted to eight simulated animals embedded by it."""
    folder = tmp_path_factory.mktemp("files")
    model = checkpoint.save(folder / "small.safetensors")
    populations = [simulate_population(30, 60.0, seed=k) for k in range(8)]
    embeddings = [embed(population, model, progress=False) for population in populations]
    labels = [np.char.add(population.properties["cell_type"], " α") for population in populations]
    decoder = fit_decoder(embeddings, labels, list("abcdefgh"), target="cell_type")
    return model, decoder.save(folder / "cell_type.safetensors")


def computed(files, format="memory", folder=None, **params):
    model, decoder = files
    analyzer = build_analyzer(simulate_population(12, 60.0, seed=9), format=format, folder=folder)
    analyzer.compute(
        {"nuclr_embedding": {"model": model, **QUICK}, NAME: {"decoder": decoder, "publish": True, **STRICT, **params}}
    )
    return analyzer


@pytest.fixture(scope="module")
def originals(files, tmp_path_factory):
    """An analyzer of each format with both extensions computed."""
    root = tmp_path_factory.mktemp("originals")
    return {format: computed(files, format, new_folder(root, format)) for format in FORMATS}


@pytest.fixture
def fresh(originals, tmp_path):
    """A copy of one of them, which a test may change."""

    def fresh(format):
        if format == "memory":
            return originals[format].copy()
        folder = new_folder(tmp_path, format)
        return si.load_sorting_analyzer(shutil.copytree(originals[format].folder, folder))

    return fresh


@pytest.fixture(params=FORMATS)
def analyzer(request, fresh):
    """A copy in each format."""
    return fresh(request.param)


def new_folder(parent, format):
    return {"memory": None, "binary_folder": parent / "a", "zarr": parent / "a.zarr"}[format]


def nuclr(*arguments):
    """The result of a command that succeeds."""
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result


def identities(analyzer):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RecordingWarning)
        return analyzer.get_extension(NAME).get_identities()


def assert_same(result, want):
    for name in ("target", "unit_ids", "classes", "best_label", "probability", "confidence", "reason", "novelty"):
        a, b = getattr(result, name), getattr(want, name)
        np.testing.assert_array_equal(a, b)
        assert np.asarray(a).dtype.kind == np.asarray(b).dtype.kind


def expected(analyzer, files):
    return Decoder.load(files[1]).predict(analyzer.get_extension("nuclr_embedding").get_embeddings(), **STRICT)


def test_both_extensions_are_computed_in_one_call(analyzer, files):
    result = identities(analyzer)
    assert_same(result, expected(analyzer, files))
    assert result.provenance["decoder_sha256"] == Decoder.load(files[1]).sha256
    frame = analyzer.get_extension(NAME).get_data()
    assert frame.index.tolist() == analyzer.unit_ids.tolist()
    assert list(frame)[:6] == ["label", "best_label", "reason", "confidence", "novelty", "p(bursting α)"]
    by_unit = analyzer.get_extension(NAME).get_data("by_unit")
    np.testing.assert_array_equal(list(by_unit.values()), analyzer.get_extension(NAME).get_data("numpy"))


def test_labels_are_sorting_properties(analyzer):
    result = identities(analyzer)
    assert result.abstained.any()
    for one in (analyzer, *([reload(analyzer)] if analyzer.format != "memory" else ())):
        labels = one.get_sorting_property("nuclr_cell_type")
        np.testing.assert_array_equal(labels, np.where(result.reason != "", "unknown", result.best_label))
        np.testing.assert_array_equal(one.get_sorting_property("nuclr_cell_type_probability"), result.confidence)


def test_properties_are_set_on_request_only(files):
    analyzer = computed(files, publish=False)
    assert not [key for key in analyzer.get_sorting_property_keys() if key.startswith("nuclr_")]
    assert si.get_default_analyzer_extension_params(NAME)["publish"] is False
    analyzer.get_extension(NAME).publish_properties()
    want = analyzer.get_extension(NAME).get_data("numpy")
    np.testing.assert_array_equal(analyzer.get_sorting_property("nuclr_cell_type"), want)
    # Once set, they are updated.
    analyzer.compute(NAME, decoder=files[1], target_error=1.0)
    want = analyzer.get_extension(NAME).get_data("numpy")
    np.testing.assert_array_equal(analyzer.get_sorting_property("nuclr_cell_type"), want)


@pytest.mark.parametrize("format", FORMATS[1:])
def test_a_target_of_any_name_gives_properties_that_every_folder_takes(files, format, tmp_path):
    model, decoder = files
    target = 'layer/of\\cortex: "x"?'
    dataclasses.replace(Decoder.load(decoder), target=target).save(tmp_path / "d.safetensors")
    folder = tmp_path / ("a.zarr" if format == "zarr" else "a")
    computed((model, tmp_path / "d.safetensors"), format, folder)
    analyzer = si.load_sorting_analyzer(folder)
    assert analyzer.get_extension(NAME).get_identities().target == target
    key = "nuclr_layer_of_cortex_ _x__"
    assert {key, f"{key}_probability"} <= set(analyzer.get_sorting_property_keys())


def test_it_is_loaded_and_saved_in_every_format(originals, tmp_path):
    for analyzer in originals.values():
        want = identities(analyzer)
        if analyzer.format != "memory":
            assert_same(identities(reload(analyzer)), want)
        for format in FORMATS:
            copied = analyzer.save_as(format=format, folder=new_folder(tmp_path / analyzer.format, format))
            assert_same(identities(copied), want)


def test_selected_units_keep_their_rows(originals):
    analyzer = originals["memory"]
    chosen = analyzer.unit_ids[[5, 2, 9]]
    result = identities(analyzer.select_units(chosen))
    want = identities(analyzer)
    np.testing.assert_array_equal(result.label, want.label[[5, 2, 9]])
    np.testing.assert_array_equal(result.probability, want.probability[[5, 2, 9]])


@pytest.mark.parametrize("how", ["soft", "hard", "split"])
def test_identities_are_recomputed_for_changed_units(originals, files, how):
    analyzer = originals["binary_folder"]
    count = int(analyzer.sorting.count_num_spikes_per_unit()[analyzer.unit_ids[0]])
    halves = {analyzer.unit_ids[0]: [list(range(0, count, 2)), list(range(1, count, 2))]}
    groups = [analyzer.unit_ids[:2].tolist()]
    changed = analyzer.split_units(halves) if how == "split" else analyzer.merge_units(groups, merging_mode=how)
    assert_same(identities(changed), expected(changed, files))
    np.testing.assert_array_equal(
        changed.get_sorting_property("nuclr_cell_type"), changed.get_extension(NAME).get_data("numpy")
    )


@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_without_the_decoder_changed_units_are_unknown(files, tmp_path, mode):
    decoder = shutil.copy(files[1], tmp_path / "gone.safetensors")
    analyzer = computed((files[0], decoder))
    before = identities(analyzer)
    (tmp_path / "gone.safetensors").unlink()
    with pytest.warns(RecordingWarning, match="could not be decoded again") as record:
        merged = analyzer.merge_units([analyzer.unit_ids[:2].tolist()], merging_mode=mode)
    [message] = [str(warning.message) for warning in record if warning.category is RecordingWarning]
    assert ("merging_mode='soft' keeps unchanged rows" in message) == (mode == "hard")
    with pytest.warns(RecordingWarning, match="nuclr_identity is stale"):
        result = merged.get_extension(NAME).get_identities()
    new = result.unit_ids.tolist().index(next(u for u in result.unit_ids if u not in analyzer.unit_ids))
    assert (result.label[new], result.best_label[new], result.reason[new]) == ("unknown", "", "no embedding")
    assert np.isnan(result.confidence[new])
    if mode == "hard":  # which has no access to the previous rows
        assert result.abstained.all()
        return
    kept = [i for i, unit in enumerate(result.unit_ids) if unit in analyzer.unit_ids]
    old = [analyzer.unit_ids.tolist().index(result.unit_ids[i]) for i in kept]
    for name in ("label", "best_label", "reason"):
        np.testing.assert_array_equal(getattr(result, name)[kept], getattr(before, name)[old])


@pytest.mark.parametrize("format", FORMATS[1:])
def test_a_result_of_an_older_version_is_to_be_computed_again(files, format, fresh):
    analyzer = fresh(format)
    extension = analyzer.get_extension(NAME)
    want = identities(analyzer)
    older = {"label": extension.data.pop("best_label"), "abstained": extension.data.pop("reason") != ""}
    extension.data |= older
    extension.save()
    with pytest.warns(RecordingWarning, match="is of an older version, without best_label: compute nuclr_identity"):
        again = reload(analyzer)
    assert again.get_extension(NAME) is None
    compute_nuclr_identity(again, files[1], **STRICT)
    assert_same(identities(reload(again)), want)


def test_counting_by_label_leaves_out_abstentions(files, fresh, tmp_path):
    analyzer = fresh("binary_folder")
    trains = [analyzer.sorting.get_unit_spike_train(unit, return_times=True) for unit in analyzer.unit_ids]
    nwbfile = add_units(new_nwb(), trains, unit_name=analyzer.unit_ids)
    session = write_nwb(write_nwb_file(tmp_path / "s.nwb", nwbfile), analyzer, in_place=True)
    nuclr("predict", analyzer.folder, "--decoder", files[1], "--target-error", 0.1, "-o", tmp_path / "units.csv")
    with pynwb.NWBHDF5IO(session, "r") as io:
        table = io.read().processing["nuclr"]["cell_type"].to_dataframe()
    answered = [label for label in analyzer.get_extension(NAME).get_data("numpy") if label != "unknown"]
    assert 0 < len(answered) < 12
    want = {**Counter(answered), "unknown": 12 - len(answered)}
    for frame in (analyzer.get_extension(NAME).get_data(), table, pd.read_csv(tmp_path / "units.csv")):
        assert frame.groupby("label").size().to_dict() == want
        assert (frame["best_label"] != "unknown").all()
        assert set(frame["reason"].fillna("")) - {""} <= {"low confidence", "novel"}


def test_recomputing_the_embeddings_removes_the_identities_with_a_warning(analyzer, files):
    again = dict(model=files[0], overlap=0.5, progress_bar=False, **QUICK)
    removed = "nuclr_identity was computed from the previous nuclr_embedding and is removed: compute it again"
    with pytest.warns(RecordingWarning, match=removed) as record:
        compute_nuclr_embedding(analyzer, **again)
    assert len(record) == 1
    assert not analyzer.has_extension(NAME)
    if analyzer.format != "memory":
        assert not reload(analyzer).has_extension(NAME)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RecordingWarning)
        compute_nuclr_embedding(analyzer, **again)  # nothing left to remove


def test_commands_warn_of_removed_identities_only_where_they_stay_removed(fresh, files):
    folder, removed = fresh("binary_folder").folder, "nuclr: warning: nuclr_identity was computed from the previous"
    spikes = np.load(folder / "sorting" / "spikes.npy")
    spikes["sample_index"][5] -= 1
    np.save(folder / "sorting" / "spikes.npy", spikes)
    # The embeddings are out of date: they are recomputed, and the identities after them.
    assert removed not in nuclr("predict", folder, "--decoder", files[1], "--model", files[0], "-q").output
    assert not si.load_sorting_analyzer(folder).get_extension(NAME).stale
    output = nuclr("embed", folder, "--model", files[0], "--overlap", 0.5, "--if-exists", "replace", "-q").output
    assert len([line for line in output.splitlines() if line.startswith(removed)]) == 1
    assert not si.load_sorting_analyzer(folder).has_extension(NAME)


def test_a_refusal_keeps_the_previous_result(analyzer, files, tmp_path):
    want = identities(analyzer)
    other = fit_for_another_model(tmp_path)
    for decoder, error, message in (
        (tmp_path / "none.safetensors", CheckpointError, "no such decoder"),
        (other, InputError, "reads embeddings of other"),
        (None, InputError, "decoder must be a name or a path"),
    ):
        with pytest.raises(error, match=message):
            compute_nuclr_identity(analyzer, decoder)
        assert_same(identities(analyzer), want)
    with pytest.raises(InputError, match="no parameter 'max_eror'"):
        compute_nuclr_identity(analyzer, files[1], max_eror=0.2)
    with pytest.raises(InputError, match="target_error must lie"):
        compute_nuclr_identity(analyzer, files[1], target_error=2)
    if analyzer.format != "memory":
        assert_same(identities(reload(analyzer)), want)
    compute_nuclr_identity(analyzer, files[1], target_error=1.0)
    assert identities(analyzer).abstained.sum() < want.abstained.sum()


def fit_for_another_model(folder):
    from test_decoder import cohort

    embeddings, labels = cohort(2)
    other = {"checkpoint_sha256": "f" * 64, "checkpoint": "other.safetensors"}
    embeddings = [dataclasses.replace(one, provenance=one.provenance.replace(**other)) for one in embeddings]
    return fit_decoder(embeddings, labels, target="cell_type").save(folder / "other.safetensors")


def test_it_needs_embeddings(files):
    analyzer = build_analyzer(simulate_population(12, 60.0, seed=9))
    with pytest.raises(InputError, match="compute it first"):
        compute_nuclr_identity(analyzer, files[1])


def test_a_process_without_this_package_opens_it(files, fresh):
    folder = fresh("binary_folder").folder
    code = (
        "import spikeinterface.core as si, sys\n"
        f"a = si.load_sorting_analyzer({str(folder)!r})\n"
        "print(a.get_sorting_property('nuclr_cell_type').tolist())\n"
        "assert 'spikeinterface_nuclr' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert "unknown" in done.stdout
    params = json.loads((folder / "extensions" / NAME / "params.json").read_text())
    assert params["decoder"] == str(files[1])


def test_it_is_registered_with_its_parent():
    assert get_extension_class(NAME).depend_on == ["nuclr_embedding"]
    assert si.SortingAnalyzer.get_default_extension_params(si.SortingAnalyzer, NAME)["target_error"] == 0.1


def test_what_is_not_saved_takes_nothing_from_the_disk(files, fresh):
    analyzer = fresh("binary_folder")
    compute_nuclr_embedding(analyzer, model=files[0], save=False, progress_bar=False, **QUICK)
    assert not analyzer.has_extension(NAME) or NAME not in analyzer.extensions
    again = reload(analyzer)
    assert_same(identities(again), expected(again, files))


def test_a_decoder_with_metrics_takes_those_of_the_analyzer(files, tmp_path):
    model, _ = files
    populations = [simulate_population(20, 60.0, seed=k) for k in range(3)]
    analyzers = [build_analyzer(population) for population in populations]
    for analyzer in analyzers:
        analyzer.compute({"random_spikes": {}, "templates": {"operators": ["average"]}, "noise_levels": {}})
        analyzer.compute("quality_metrics", metric_names=["firing_rate", "num_spikes"])
    metrics = [analyzer.get_extension("quality_metrics").get_data() for analyzer in analyzers]
    embeddings = [embed(read_population(analyzer), model, progress=False) for analyzer in analyzers]
    labels = [population.properties["cell_type"] for population in populations]
    decoder = fit_decoder(embeddings[:2], labels[:2], ["a", "b"], target="cell_type", features=metrics[:2])
    path = decoder.save(tmp_path / "fused.safetensors")
    analyzers[2].compute("nuclr_embedding", model=model, progress_bar=False)
    compute_nuclr_identity(analyzers[2], path)
    result = identities(analyzers[2])
    assert result.provenance["features"] == ["firing_rate", "num_spikes"]
    np.testing.assert_allclose(result.probability, decoder.predict(embeddings[2], metrics[2]).probability, atol=1e-5)
    analyzers[2].delete_extension("quality_metrics")
    with pytest.raises(InputError, match="also reads metrics"):
        compute_nuclr_identity(analyzers[2], path)
