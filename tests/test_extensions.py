"""nuclr_embedding through the life of a SortingAnalyzer, on real spikes where there are recordings."""

import gc
import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import spikeinterface.core as si
import torch
from analyzers import build_analyzer, reload
from conftest import RECORDINGS
from spikeinterface.core.sortinganalyzer import get_extension_class

from spikeinterface_nuclr import (
    CheckpointError,
    DeviceError,
    InputError,
    RecordingWarning,
    compute_nuclr_embedding,
    embed,
    read_population,
    simulate_population,
)

NAME = "nuclr_embedding"
FORMATS = ("memory", "binary_folder", "zarr")
# Format, segments, probes, type of the unit ids: every pair of values of any two occurs.
SHAPES = (
    ("memory", 1, 1, "str"),
    ("memory", 2, 2, "int"),
    ("binary_folder", 1, 2, "int"),
    ("binary_folder", 2, 1, "str"),
    ("zarr", 1, 2, "str"),
    ("zarr", 2, 1, "int"),
)
QUICK = {"precision": "float32", "torch_device": "cpu"}


@pytest.fixture(scope="module")
def spikes():
    """Twelve neurons for 80 s: of a patient where the recordings are present, else simulated."""
    files = sorted(RECORDINGS.glob("human/*/*.nwb"))
    for file in files:
        population = read_population(file)
        if population.n_units >= 12:
            busiest = np.sort(np.argsort(population.num_spikes)[-12:])
            middle = (population.start + population.stop) / 2
            return population.select(busiest).within([[middle, middle + 80]])
    return simulate_population(12, 80.0, seed=2)


@pytest.fixture(scope="module")
def model(checkpoint, tmp_path_factory):
    return checkpoint.save(tmp_path_factory.mktemp("model") / "small.safetensors")


@pytest.fixture(scope="module")
def analyzers(spikes, model, tmp_path_factory):
    """An analyzer of each shape, with the extension computed."""
    analyzers = {}
    for shape in SHAPES:
        format, segments, probes, ids = shape
        folder = new_folder(tmp_path_factory.mktemp("analyzer"), format)
        analyzer = build_analyzer(
            spikes, format=format, folder=folder, segments=segments, probes=probes, ids=ids, sparse=segments == probes
        )
        analyzer.compute(NAME, model=model, progress_bar=False, **QUICK)
        analyzers[shape] = analyzer
    return analyzers


@pytest.fixture(params=SHAPES, ids=["-".join(map(str, shape)) for shape in SHAPES])
def computed(request, analyzers):
    """An analyzer of each shape, for what can depend on any of them."""
    return analyzers[request.param]


@pytest.fixture(params=FORMATS)
def stored(request, analyzers):
    """An analyzer of each format, with text ids, for what can depend on the format only."""
    return next(analyzer for shape, analyzer in analyzers.items() if shape[0] == request.param and shape[3] == "str")


@pytest.fixture
def analyzer(spikes, model, tmp_path):
    """One on disk, with a result, which a test may change."""
    analyzer = build_analyzer(spikes, format="binary_folder", folder=tmp_path / "analyzer")
    analyzer.compute(NAME, model=model, progress_bar=False, **QUICK)
    return analyzer


def new_folder(parent, format):
    """Where an analyzer of this format can be written; None for one in memory."""
    return {"memory": None, "binary_folder": parent / "new", "zarr": parent / "new.zarr"}[format]


def data_of(analyzer):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RecordingWarning)
        return analyzer.get_extension(NAME).get_data()


def expected(analyzer, checkpoint):
    return embed(read_population(analyzer), checkpoint, precision="float32", device="cpu", progress=False)


# --- every step of an analyzer's life, in every shape -----------------------------------------------------------------


def test_the_extension_computes_what_embed_computes(computed, checkpoint):
    extension, embeddings = computed.get_extension(NAME), expected(computed, checkpoint)
    assert np.array_equal(data_of(computed), embeddings.embedding)
    assert np.isfinite(embeddings.embedding).all()
    assert np.array_equal(extension.data["num_windows"], embeddings.num_windows)
    assert np.array_equal(extension.data["split_half_similarity"], embeddings.split_half_similarity)
    provenance = extension.data["provenance"]
    assert provenance["population_fingerprint"] == embeddings.provenance.population_fingerprint
    groups = len(set(computed.rec_attributes["properties"]["group"]))
    assert len(provenance["groups"]) == groups
    assert extension.data["num_windows"].max() == 8
    assert extension.params["model_sha256"] == checkpoint.sha256


def test_outputs_name_the_units(computed):
    extension = computed.get_extension(NAME)
    by_unit, frame = extension.get_data(outputs="by_unit"), extension.get_data(outputs="dataframe")
    assert list(by_unit) == frame.index.tolist() == computed.unit_ids.tolist()
    assert type(next(iter(by_unit))) is type(computed.unit_ids[0])
    assert np.array_equal(np.stack(list(by_unit.values())), data_of(computed))
    assert np.array_equal(frame.filter(like="embedding_").to_numpy(), data_of(computed))
    assert {"num_windows", "split_half_similarity", "num_spikes"} <= set(frame)


def test_outputs_of_other_names_are_refused(stored):
    with pytest.raises(InputError, match="outputs must be"):
        stored.get_extension(NAME).get_data(outputs="pandas")


@pytest.mark.parametrize("shape", SHAPES[2:], ids=["-".join(map(str, shape)) for shape in SHAPES[2:]])
def test_a_saved_result_is_loaded_unchanged(analyzers, shape):
    computed = analyzers[shape]
    for lazy in (False, True):
        again = reload(computed, lazy=lazy)
        extension = again.get_extension(NAME)
        assert np.array_equal(data_of(again), data_of(computed))
        assert data_of(again).dtype == np.float32
        assert extension.params == computed.get_extension(NAME).params
        assert extension.data["provenance"] == computed.get_extension(NAME).data["provenance"]
        # SpikeInterface leaves lazily opened Zarr arrays behind when it copies: ours must come along.
        assert np.array_equal(data_of(again.save_as(format="memory")), data_of(computed))


@pytest.mark.parametrize("format", FORMATS)
def test_save_as_keeps_it(stored, format, tmp_path):
    saved = stored.save_as(format=format, folder=new_folder(tmp_path, format))
    for analyzer in (saved, *([reload(saved)] if format != "memory" else ())):
        assert np.array_equal(data_of(analyzer), data_of(stored))
        assert analyzer.get_extension(NAME).data["provenance"] == stored.get_extension(NAME).data["provenance"]


def test_a_copy_does_not_share_what_get_data_gives(stored):
    copied = stored.copy()
    before = data_of(copied)
    stored.get_extension(NAME).get_data()[:] = 0
    assert np.array_equal(data_of(copied), before)
    assert before.any()


def test_selected_units_keep_their_rows_and_their_context(computed):
    chosen = computed.unit_ids[[5, 2, 9]]
    selected = computed.select_units(chosen)
    extension = selected.get_extension(NAME)
    assert np.array_equal(data_of(selected), data_of(computed)[[5, 2, 9]])
    provenance = extension.data["provenance"]
    assert provenance["context"] == "embedded among 12 units, of which 3 are kept"
    original = computed.get_extension(NAME).data["provenance"]
    assert provenance["population_fingerprint"] == original["population_fingerprint"]
    assert provenance["units_fingerprint"] != original["units_fingerprint"]
    again = selected.select_units(chosen[:2])
    assert again.get_extension(NAME).data["provenance"]["context"] == "embedded among 12 units, of which 2 are kept"
    assert np.array_equal(data_of(again), data_of(computed)[[5, 2]])
    removed = computed.remove_units(computed.unit_ids[:1])
    assert np.array_equal(data_of(removed), data_of(computed)[1:])


@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_merging_recomputes_the_whole_population(computed, checkpoint, mode):
    merged = computed.merge_units([computed.unit_ids[:2].tolist()], merging_mode=mode, progress_bar=False)
    assert merged.get_num_units() == 11
    assert np.array_equal(data_of(merged), expected(merged, checkpoint).embedding)
    same_probe = merged.unit_ids.tolist().index(computed.unit_ids[2])
    assert not np.array_equal(data_of(merged)[same_probe], data_of(computed)[2])


@pytest.mark.parametrize("format", FORMATS)
def test_merging_into_every_format(analyzers, checkpoint, format, tmp_path):
    analyzer = analyzers["memory", 1, 1, "str"]
    groups, folder = [analyzer.unit_ids[:2].tolist()], new_folder(tmp_path, format)
    merged = analyzer.merge_units(groups, format=format, folder=folder, progress_bar=False)
    for one in (merged, *([reload(merged)] if format != "memory" else ())):
        assert np.array_equal(data_of(one), expected(one, checkpoint).embedding)


@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[1]], ids=["str", "int"])
def test_merging_takes_the_ids_that_the_user_gives(analyzers, checkpoint, shape):
    analyzer = analyzers[shape]
    groups = [analyzer.unit_ids[:2].tolist(), analyzer.unit_ids[6:9].tolist()]
    new_ids = [900, 901] if analyzer.unit_ids.dtype.kind == "i" else ["x", "y"]
    merged = analyzer.merge_units(groups, new_unit_ids=new_ids, censor_ms=0.5, progress_bar=False)
    assert np.array_equal(data_of(merged), expected(merged, checkpoint).embedding)
    first = analyzer.merge_units(groups, new_id_strategy="take_first", progress_bar=False)
    assert np.array_equal(data_of(first), expected(first, checkpoint).embedding)


def test_splitting_recomputes_the_whole_population(computed, checkpoint):
    unit = computed.unit_ids[3]
    count = int(read_population(computed).num_spikes[3])
    halves = [list(range(count // 2)), list(range(count // 2, count))]
    split = computed.split_units({unit: halves})
    assert split.get_num_units() == 13
    assert np.array_equal(data_of(split), expected(split, checkpoint).embedding, equal_nan=True)


def test_changed_spikes_are_noticed_in_every_shape(computed):
    analyzer = computed.copy()
    spikes = analyzer.sorting.to_spike_vector().copy()
    spikes["sample_index"][-1] += 1
    analyzer.sorting = si.NumpySorting(spikes, analyzer.sampling_frequency, analyzer.unit_ids)
    with pytest.warns(RecordingWarning, match="spikes have changed since they were embedded"):
        analyzer.get_extension(NAME).get_data()


# --- merges and splits without the model ------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["soft", "hard", "split"])
def test_without_the_model_changed_units_are_nan_and_the_result_is_stale(analyzers, checkpoint, how, tmp_path):
    analyzer = analyzers["memory", 2, 2, "int"].copy()
    model = checkpoint.save(tmp_path / "gone.safetensors")
    analyzer.compute(NAME, model=model, progress_bar=False, **QUICK)
    model.unlink()
    count = int(read_population(analyzer).num_spikes[0])
    halves = {analyzer.unit_ids[0]: [list(range(0, count, 2)), list(range(1, count, 2))]}
    groups = [analyzer.unit_ids[:2].tolist()]
    with pytest.warns(RecordingWarning, match="could not be embedded again") as record:
        changed = analyzer.split_units(halves) if how == "split" else analyzer.merge_units(groups, merging_mode=how)
    assert ("a merge of merging_mode='soft' keeps unchanged rows" in str(record[0].message)) == (how == "hard")
    extension = changed.get_extension(NAME)
    with pytest.warns(RecordingWarning, match="is stale"):
        rows = extension.get_data("dataframe")
    for i, unit in enumerate(changed.unit_ids):
        if unit in analyzer.unit_ids and how != "hard":  # which has no access to the previous rows
            assert np.array_equal(
                rows.loc[unit].filter(like="embedding_"), data_of(analyzer)[analyzer.unit_ids == unit][0]
            )
        else:
            assert np.isnan(extension.data["embedding"][i]).all()
            assert extension.data["num_windows"][i] == 0
    assert extension.stale
    # A selection of it is as stale as it is.
    assert changed.select_units(changed.unit_ids[:3]).get_extension(NAME).stale
    assert not changed.compute(NAME, model=checkpoint.save(tmp_path / "new.safetensors"), progress_bar=False).stale


def test_a_missing_model_is_an_error_wherever_there_is_a_result_to_lose(analyzer, checkpoint, model, tmp_path):
    """Also with the recorded hash, by which a hard merge, on an analyzer without a result, is recognised."""
    before = data_of(analyzer)
    params = {**analyzer.get_extension(NAME).params, "model": str(tmp_path / "gone.safetensors")}
    with pytest.raises(CheckpointError, match="gone"):
        analyzer.compute(NAME, **params)
    assert np.array_equal(data_of(reload(analyzer)), before)
    with pytest.raises(CheckpointError, match="gone"):
        compute_nuclr_embedding(build_analyzer(simulate_population(4, 30.0)), **params)


def test_another_model_under_the_same_name_is_not_mixed_in(analyzer, checkpoint):
    path = Path(analyzer.get_extension(NAME).params["model"])
    other = torch.nn.Module.state_dict(checkpoint.encoder())
    changed = {key: value + 0.01 for key, value in other.items()}
    before = path.read_bytes()
    path.unlink()
    type(checkpoint)(checkpoint.config, changed).save(path)
    try:
        with pytest.warns(RecordingWarning, match="sha256"):
            merged = analyzer.merge_units([analyzer.unit_ids[:2].tolist()])
        assert merged.get_extension(NAME).stale
    finally:
        path.write_bytes(before)


def test_a_model_of_the_hub_is_pinned_and_read_from_its_cache(spikes, checkpoint, tmp_path, monkeypatch):
    """Computed, computed again, saved, loaded and merged without a network."""

    def refuse(*_, **__):
        raise OSError("no network")

    commit, repository = "0" * 40, tmp_path / "hub" / "models--lab--model"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    checkpoint.save(snapshot / "model.safetensors")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("socket.socket.connect", "socket.getaddrinfo"):
        monkeypatch.setattr(name, refuse)
    analyzer = build_analyzer(spikes, format="binary_folder", folder=tmp_path / "a")
    first = analyzer.compute(NAME, model="hf://lab/model", progress_bar=False, **QUICK)
    assert (first.params["model"], first.params["model_sha256"]) == ("hf://lab/model", checkpoint.sha256)
    again = analyzer.compute(NAME, **first.params, progress_bar=False)
    assert np.array_equal(again.get_data(), first.get_data())
    analyzer = reload(analyzer)
    assert analyzer.get_extension(NAME).params == first.params
    for mode in ("soft", "hard"):
        merged = analyzer.merge_units([analyzer.unit_ids[:2].tolist()], merging_mode=mode)
        assert np.array_equal(data_of(merged), expected(merged, checkpoint).embedding)
        assert merged.get_extension(NAME).params == first.params
    # The name now means another model, which is not mixed in.
    weights = {key: value + 0.01 for key, value in checkpoint.weights.items()}
    type(checkpoint)(checkpoint.config, weights).save(snapshot / "model.safetensors", overwrite=True)
    with pytest.warns(RecordingWarning, match="sha256"):
        merged = analyzer.merge_units([analyzer.unit_ids[:2].tolist()])
    assert merged.get_extension(NAME).stale


@pytest.mark.parametrize("name", ["nuclr_embedding", "nuclr_identity"])
def test_setting_parameters_loads_no_model(name, spikes, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a model was loaded")

    for function in ("huggingface_hub.hf_hub_download", "safetensors.safe_open", "torch.load"):
        monkeypatch.setattr(function, refuse)
    analyzer = build_analyzer(spikes)
    extension = get_extension_class(name)(analyzer)
    param = extension.model_param
    for model in ("hf://lab/model", str(tmp_path / "absent.safetensors")):
        extension.set_params(**{param: model})
        assert extension.params[param] == model
        assert extension.params[f"{param}_sha256"] is None
    with pytest.raises(InputError, match=f"{param} must be a name or a path"):
        extension.set_params(**{param: 3})


# --- sorting properties -----------------------------------------------------------------------------------------------


def test_properties_are_set_on_request_only(stored, tmp_path):
    params = stored.get_extension(NAME).params
    assert params["publish"] is False
    assert not [key for key in stored.get_sorting_property_keys() if key.startswith("nuclr_")]
    analyzer = stored.save_as(format=stored.format, folder=new_folder(tmp_path, stored.format))
    analyzer.compute(NAME, **{**params, "publish": True}, progress_bar=False)
    for one in (analyzer, *([reload(analyzer)] if analyzer.format != "memory" else ())):
        counts = one.get_sorting_property("nuclr_num_windows")
        assert np.array_equal(counts, one.get_extension(NAME).data["num_windows"])
    split = analyzer.split_units({analyzer.unit_ids[0]: [[0], list(range(1, len(unit_spikes(analyzer))))]})
    counts = split.get_sorting_property("nuclr_num_windows")
    assert np.array_equal(counts, split.get_extension(NAME).data["num_windows"])


def unit_spikes(analyzer):
    return np.concatenate(
        [
            analyzer.sorting.get_unit_spike_train(analyzer.unit_ids[0], segment_index=k)
            for k in range(analyzer.get_num_segments())
        ]
    )


def test_published_properties_are_kept_and_updated(stored, tmp_path):
    folder = new_folder(tmp_path, stored.format)
    analyzer = stored.save_as(format=stored.format, folder=folder)
    # What another program left under our name, of another type.
    analyzer.set_sorting_property("nuclr_num_windows", ["?"] * 12)
    analyzer.get_extension(NAME).publish_properties()
    for one in (analyzer, *([reload(analyzer)] if folder else ())):
        counts = one.get_sorting_property("nuclr_num_windows")
        assert counts.dtype.kind == "i"
        assert np.array_equal(counts, one.get_extension(NAME).data["num_windows"])
        assert one.get_sorting_property("nuclr_split_half_similarity").dtype == np.float32
    analyzer.compute(NAME, overlap=0.5, model=stored.get_extension(NAME).params["model"], progress_bar=False)
    again = reload(analyzer) if folder else analyzer
    assert again.get_sorting_property("nuclr_num_windows").max() > 8
    for mode in ("soft", "hard"):
        merged = analyzer.merge_units([analyzer.unit_ids[:2].tolist()], merging_mode=mode, progress_bar=False)
        assert np.array_equal(
            merged.get_sorting_property("nuclr_split_half_similarity"),
            merged.get_extension(NAME).data["split_half_similarity"],
        )


# --- failures, and analyzers that cannot be written -------------------------------------------------------------------


def test_a_failed_computation_keeps_the_result_in_every_format(stored, tmp_path):
    before = data_of(stored)
    with pytest.raises(CheckpointError, match="absent"):
        compute_nuclr_embedding(stored, model=tmp_path / "absent.safetensors")
    assert np.array_equal(data_of(stored), before)
    if stored.format != "memory":
        assert np.array_equal(data_of(reload(stored)), before)


@pytest.mark.parametrize("format", FORMATS[1:])
def test_a_read_only_analyzer_is_computed_in_memory(analyzers, format):
    saved = next(analyzer for shape, analyzer in analyzers.items() if shape[0] == format)
    before = data_of(saved)
    params = {**saved.get_extension(NAME).params, "overlap": 0.5}
    for compute in (lambda a: a.compute(NAME, **params), lambda a: compute_nuclr_embedding(a, **params)):
        analyzer = reload(saved, read_only=True)
        assert np.array_equal(data_of(analyzer), before)
        assert compute(analyzer).data["num_windows"].max() > 8
        assert np.array_equal(data_of(reload(saved)), before)


# --- what it is to SpikeInterface -------------------------------------------------------------------------------------


def test_parameters_are_json_and_keywords(analyzer):
    extension = analyzer.get_extension(NAME)
    saved = json.loads((analyzer.folder / "extensions" / NAME / "params.json").read_text())
    assert saved == extension.params
    defaults = si.get_default_analyzer_extension_params(NAME)
    assert defaults.keys() == extension.params.keys()
    assert {"model", "group_by", "overlap", "min_spikes", "torch_device", "precision", "batch_size"} <= defaults.keys()
    again = analyzer.compute(NAME, **extension.params, progress_bar=False)
    assert again.params == extension.params


def test_the_path_of_a_model_holds_from_another_folder(spikes, checkpoint, tmp_path, monkeypatch):
    checkpoint.save(tmp_path / "here.safetensors")
    monkeypatch.chdir(tmp_path)
    analyzer = build_analyzer(spikes)
    analyzer.compute(NAME, model="here.safetensors", progress_bar=False)
    monkeypatch.chdir("/")
    merged = analyzer.merge_units([analyzer.unit_ids[:2].tolist()], progress_bar=False)
    assert np.isfinite(data_of(merged)).all()


def test_job_arguments_are_followed(spikes, model, monkeypatch, capfd):
    analyzer = build_analyzer(spikes)
    analyzer.compute(NAME, model=model, progress_bar=False)
    assert capfd.readouterr().err == ""
    seen = []
    forward = torch.nn.functional.linear
    monkeypatch.setattr(
        torch.nn.functional, "linear", lambda *a, **k: seen.append(torch.get_num_threads()) or forward(*a, **k)
    )
    before = torch.get_num_threads()
    jobs = dict(n_jobs=1, chunk_duration="1s", mp_context="spawn", pool_engine="thread", progress_bar=True)
    analyzer.compute({NAME: {"model": model}, "random_spikes": {}}, **jobs)
    assert set(seen) == {1}
    assert torch.get_num_threads() == before
    assert "embedding" in capfd.readouterr().err
    si.set_global_job_kwargs(n_jobs=1, progress_bar=False)
    try:
        seen.clear()
        compute_nuclr_embedding(analyzer, model=model)
    finally:
        si.reset_global_job_kwargs()
    assert set(seen) == {1}
    assert capfd.readouterr().err == ""


def test_it_needs_no_recording(analyzer, model):
    folder = analyzer.folder
    for file in ("recording.json", "recording.pickle"):
        (folder / file).unlink(missing_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened = si.load_sorting_analyzer(folder)
    assert not opened.has_recording()
    before = data_of(opened)
    opened.compute(NAME, model=model, **QUICK)
    assert np.array_equal(data_of(opened), before)


def test_analyzers_open_where_this_package_is_not_imported(analyzers, tmp_path):
    folders = [str(analyzers[shape].folder) for shape in (SHAPES[2], SHAPES[4])]
    np.save(tmp_path / "rows.npy", [data_of(analyzers[shape]) for shape in (SHAPES[2], SHAPES[4])])
    code = (
        "import sys, numpy, spikeinterface.core as si\n"
        "rows, *folders = sys.argv[1:]\n"
        "for folder in folders:\n"
        f"    assert si.load_sorting_analyzer(folder).has_extension({NAME!r})\n"
        "assert 'spikeinterface_nuclr' not in sys.modules\n"
        "import spikeinterface_nuclr, warnings\n"
        "warnings.simplefilter('error', UserWarning)\n"
        "for folder, expected in zip(folders, numpy.load(rows), strict=True):\n"
        "    analyzer = si.load_sorting_analyzer(folder)\n"
        f"    assert numpy.array_equal(analyzer.get_extension({NAME!r}).get_data(), expected)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "rows.npy"), *folders]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_importing_twice_registers_once():
    code = (
        "import importlib, spikeinterface_nuclr, sys\n"
        "importlib.reload(spikeinterface_nuclr)\n"
        "from spikeinterface.core.sortinganalyzer import get_extension_class\n"
        f"assert get_extension_class({NAME!r}).__name__ == 'ComputeNuCLREmbedding'\n"
        "assert not {'torch', 'pynwb', 'ndx_nuclr'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- staleness --------------------------------------------------------------------------------------------------------


def test_changed_spikes_are_noticed(analyzer):
    data_of(analyzer)
    trains = analyzer.sorting.to_spike_vector().copy()
    trains["sample_index"][5] -= 1
    changed = si.NumpySorting(trains, analyzer.sampling_frequency, analyzer.unit_ids)
    si.NumpyFolderSorting.write_sorting(changed, analyzer.folder / "changed")
    shutil.rmtree(analyzer.folder / "sorting")
    (analyzer.folder / "changed").rename(analyzer.folder / "sorting")
    again = reload(analyzer)
    extension = again.get_extension(NAME)
    for outputs in ("numpy", "by_unit", "dataframe"):
        with pytest.warns(RecordingWarning, match="spikes have changed since they were embedded"):
            extension.get_data(outputs)
    with pytest.warns(RecordingWarning, match="is stale"):
        assert extension.get_embeddings().unit_ids.tolist() == again.unit_ids.tolist()
    again.compute(NAME, **extension.params, progress_bar=False)
    data_of(again)


# --- bad input --------------------------------------------------------------------------------------------------------

WRONG = [
    ({"model": "nuclr-absent"}, CheckpointError, "nuclr-absent: no such checkpoint"),
    ({"torch_device": "cuda:7"}, DeviceError, "cuda:7"),
    ({"precision": "half"}, InputError, "precision 'half' is unknown"),
    ({"ovrlap": 0.5}, InputError, "has no parameter 'ovrlap'"),
    ({"overlap": 2}, InputError, "overlap"),
    ({"min_spikes": 0}, InputError, "min_spikes"),
    ({"batch_size": 0}, InputError, "batch_size"),
    ({"group_by": "prob"}, InputError, "'prob'"),
    ({"model_sha256": "abc"}, CheckpointError, "abc"),
]


@pytest.mark.parametrize(("wrong", "error", "says"), WRONG, ids=[next(iter(w[0])) for w in WRONG])
def test_a_failed_computation_keeps_the_previous_result(analyzer, model, wrong, error, says):
    before = data_of(analyzer)
    with pytest.raises(error, match=says):
        compute_nuclr_embedding(analyzer, **{"model": model, "progress_bar": False, **wrong})
    assert np.array_equal(data_of(analyzer), before)
    assert np.array_equal(data_of(reload(analyzer)), before)


def test_an_interrupt_keeps_the_previous_result(analyzer, model, monkeypatch):
    before = data_of(analyzer)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("spikeinterface_nuclr.model.encoder.Encoder.forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compute_nuclr_embedding(analyzer, model=model, progress_bar=False)
    assert np.array_equal(data_of(reload(analyzer)), before)


def test_compute_nuclr_embedding_replaces_the_result_on_disk(analyzer, model):
    extension = compute_nuclr_embedding(analyzer, model=model, overlap=0.5, progress_bar=False)
    assert analyzer.get_extension(NAME) is extension
    again = reload(analyzer)
    assert again.get_extension(NAME).params["overlap"] == 0.5
    assert again.get_extension(NAME).run_info["run_completed"]
    assert np.array_equal(data_of(again), extension.get_data())


def test_compute_refuses_what_it_cannot_record(analyzer, checkpoint):
    with pytest.raises(InputError, match="save the checkpoint and name its file"):
        compute_nuclr_embedding(analyzer, model=checkpoint)
    with pytest.raises(InputError, match="takes a SortingAnalyzer, not a Population"):
        compute_nuclr_embedding(simulate_population(3, 30.0))
    with pytest.raises(CheckpointError, match="nuclr-absent"):
        analyzer.compute(NAME, model="nuclr-absent")


def test_a_failed_computation_takes_nothing_from_other_analyzers(spikes, model):
    whole = build_analyzer(spikes)
    whole.compute(NAME, model=model, progress_bar=False)
    alone = build_analyzer(spikes.select([0]))
    with pytest.raises(InputError, match="holds one unit"):
        alone.compute(NAME, model=model, progress_bar=False)
    copied = whole.copy()
    params = {**whole.get_extension(NAME).params, "torch_device": "cuda:7"}
    whole.get_extension(NAME).params = params
    with pytest.raises(DeviceError, match="cuda:7"):
        copied.compute(NAME, **params)


def test_a_selection_of_nothing_is_spikeinterfaces_own_business(analyzer):
    assert analyzer.select_units([]).get_num_units() == 0


def test_what_is_not_saved_changes_nothing_on_disk(analyzer, model):
    analyzer.get_extension(NAME).publish_properties()
    compute_nuclr_embedding(analyzer, model=model, overlap=0.5, save=False, progress_bar=False)
    assert reload(analyzer).get_sorting_property("nuclr_num_windows").max() == 8
    assert analyzer.get_sorting_property("nuclr_num_windows").max() > 8


def test_data_outlive_an_analyzer_that_nobody_keeps(analyzer):
    """``load_sorting_analyzer(…).get_extension(…).get_data()`` in one line."""
    embedding = analyzer.get_extension(NAME).get_data()
    folder = analyzer.folder
    extension = si.load_sorting_analyzer(folder).get_extension(NAME)
    gc.collect()
    np.testing.assert_array_equal(extension.get_data(), embedding)
    assert list(extension.get_data("by_unit")) == analyzer.unit_ids.tolist()
