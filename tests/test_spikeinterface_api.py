"""Each use of SpikeInterface's private interface, against the installed version."""

import ast
import pickle
from pathlib import Path

import numpy as np
import pytest
import spikeinterface.core as si
import zarr
from analyzers import build_analyzer, reload
from nwb_files import add_units, new_nwb, write_nwb_file
from spikeinterface.core.sortinganalyzer import get_extension_class
from spikeinterface.extractors import read_nwb_sorting

import spikeinterface_nuclr
from spikeinterface_nuclr import simulate_population
from spikeinterface_nuclr.io import spikeinterface_api as api

FORMATS = ("memory", "binary_folder", "zarr")
PACKAGE = Path(spikeinterface_nuclr.__file__).parent


class SpikeCounts(api.StagedExtension):
    """Counts spikes, and fails where it is told to."""

    extension_name = "test_num_spikes"
    need_job_kwargs = False

    def _set_params(self, fail=False):
        return {"fail": fail}

    def _run(self, verbose=False):
        if self.params["fail"]:
            raise RuntimeError("as asked")
        counts = self.sorting_analyzer.sorting.count_num_spikes_per_unit(outputs="array")
        self.data = {"counts": counts, "provenance": {"names": ["a", "b"]}}

    def _get_data(self):
        return self.data["counts"]

    def save(self):
        if self.format == "memory":
            return
        place = self.folder / "extensions" / self.extension_name
        if self.format == "zarr":
            zarr.open_group(str(place), mode="w")
        else:
            place.mkdir(parents=True, exist_ok=True)
        self.write_result(place)
        if self.format == "zarr":
            zarr.consolidate_metadata(str(self.folder))


@pytest.fixture(scope="module")
def spikes():
    return simulate_population(6, 20.0, seed=5)


@pytest.fixture(params=FORMATS)
def analyzer(request, spikes, tmp_path):
    folder = {"memory": None, "binary_folder": tmp_path / "a", "zarr": tmp_path / "a.zarr"}[request.param]
    return build_analyzer(spikes, format=request.param, folder=folder, probes=2)


@pytest.fixture(params=FORMATS[1:])
def saved(request, spikes, tmp_path):
    """An analyzer on disk with a result."""
    folder = tmp_path / ("a.zarr" if request.param == "zarr" else "a")
    analyzer = build_analyzer(spikes, format=request.param, folder=folder, probes=2)
    api.register_result_extension(SpikeCounts)
    analyzer.compute(SpikeCounts.extension_name)
    return analyzer


# --- recordings -------------------------------------------------------------------------------------------------------


class Trap:
    """Leaves a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("format", FORMATS[1:])
def test_an_analyzer_is_loaded_without_its_recording(spikes, format, tmp_path):
    folder = tmp_path / ("a.zarr" if format == "zarr" else "a")
    written = build_analyzer(spikes, format=format, folder=folder, probes=2)
    written.compute("random_spikes")
    if format == "binary_folder":
        (folder / "recording.json").unlink(missing_ok=True)
        (folder / "recording.pickle").write_bytes(pickle.dumps(Trap(tmp_path / "opened")))
        si.load_sorting_analyzer(folder)
        assert (tmp_path / "opened").exists(), "SpikeInterface no longer opens it: load_analyzer may be simpler"
        (tmp_path / "opened").unlink()
    analyzer = api.load_analyzer(folder)
    assert not (tmp_path / "opened").exists()
    assert api.recording_of(analyzer) is None
    assert not analyzer.get_loaded_extension_names()
    assert analyzer.has_extension("random_spikes")
    assert analyzer.get_num_samples(0) == written.get_num_samples(0)
    assert np.array_equal(analyzer.sorting.to_spike_vector(), written.sorting.to_spike_vector())


def test_the_recording_of_an_analyzer(analyzer):
    assert isinstance(api.recording_of(analyzer), si.BaseRecording)
    assert api.recording_of(analyzer) is analyzer.recording


def test_the_temporary_recording_of_an_analyzer(spikes, tmp_path):
    written = build_analyzer(spikes, format="binary_folder", folder=tmp_path / "a")
    for file in written.folder.glob("recording.*"):
        file.unlink()
    analyzer = reload(written)
    assert api.recording_of(analyzer) is None
    analyzer.set_temporary_recording(written.recording)
    assert api.recording_of(analyzer) is written.recording


def test_the_recording_registered_with_a_sorting(spikes):
    analyzer = build_analyzer(spikes)
    sorting = si.NumpySorting.from_sorting(analyzer.sorting)
    assert api.registered_recording(sorting) is None
    sorting.register_recording(analyzer.recording)
    assert api.registered_recording(sorting) is analyzer.recording


def test_channel_properties_do_not_need_the_recording(analyzer):
    groups = np.asarray(analyzer.recording.get_property("group"))
    loaded = [] if analyzer.format == "memory" else [reload(analyzer), api.load_analyzer(analyzer.folder)]
    for one in (analyzer, *loaded):
        assert np.array_equal(np.asarray(api.channel_property(one, "group")).astype(str), groups.astype(str))
        assert api.channel_property(one, "absent") is None


@pytest.mark.parametrize("use_pynwb", [False, True])
def test_the_file_behind_a_sorting_of_an_nwb_file(use_pynwb, tmp_path):
    path = write_nwb_file(tmp_path / "s.nwb", add_units(new_nwb(), [np.arange(0.5, 9.5, 0.5 + k) for k in range(3)]))
    sorting = read_nwb_sorting(path, sampling_frequency=30_000.0, t_start=0.0, use_pynwb=use_pynwb)
    for one in (sorting, sorting.select_units(sorting.unit_ids[1:]).select_units(sorting.unit_ids[2:])):
        file = api.nwb_file_of(one)
        assert file is None if use_pynwb else Path(file.filename) == path
    assert api.nwb_file_of(si.NumpySorting.from_unit_dict([{0: np.arange(5)}], 1000.0)) is None


# --- extensions -------------------------------------------------------------------------------------------------------


def test_dependent_extensions_are_listed_once():
    names = api.dependent_extensions("random_spikes")
    assert {"waveforms", "templates"} <= set(names)
    assert len(names) == len(set(names))
    assert sorted(api.dependent_extensions("nuclr_embedding")) == ["nuclr_estimate", "nuclr_identity"]
    assert api.dependent_extensions("nuclr_identity") == []


def test_an_extension_is_attached_and_detached_in_memory_only(analyzer):
    api.register_result_extension(SpikeCounts)
    extension = SpikeCounts(analyzer)
    extension.set_params(save=False)
    extension.run(save=False)
    api.attach_extension(analyzer, extension)
    assert analyzer.get_extension(SpikeCounts.extension_name) is extension
    if analyzer.format != "memory":
        assert not reload(analyzer).has_extension(SpikeCounts.extension_name)
    for _ in range(2):  # it may be absent
        api.detach_extension(analyzer, SpikeCounts.extension_name)
        assert not analyzer.has_extension(SpikeCounts.extension_name)


def test_a_detached_extension_is_loaded_from_disk_again(saved):
    first = saved.get_extension(SpikeCounts.extension_name)
    api.detach_extension(saved, SpikeCounts.extension_name)
    assert saved.get_extension(SpikeCounts.extension_name) is not first


def test_registering_a_class_twice_is_one_registration():
    for _ in range(2):
        api.register_result_extension(SpikeCounts)
    assert get_extension_class(SpikeCounts.extension_name) is SpikeCounts


def test_spikeinterface_reads_what_its_methods_write_into_our_folder(saved):
    analyzer = reload(saved)
    assert analyzer.get_saved_extension_names() == [SpikeCounts.extension_name]
    extension = analyzer.get_extension(SpikeCounts.extension_name)
    counts = analyzer.sorting.count_num_spikes_per_unit(outputs="array")
    assert np.array_equal(extension.get_data(), counts)
    assert extension.data["provenance"] == {"names": ["a", "b"]}
    assert extension.params == {"fail": False}
    assert extension.run_info["run_completed"]


def test_a_computation_that_fails_leaves_what_is_on_disk(saved):
    with pytest.raises(RuntimeError, match="as asked"):
        saved.compute(SpikeCounts.extension_name, fail=True)
    extension = reload(saved).get_extension(SpikeCounts.extension_name)
    assert extension.params == {"fail": False}
    assert extension.get_data().sum() == len(saved.sorting.to_spike_vector())


def test_what_is_not_to_be_saved_is_not_written(saved):
    place = saved.folder / "extensions" / SpikeCounts.extension_name
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    read_only = reload(saved, read_only=True)
    read_only.compute(SpikeCounts.extension_name)
    saved.compute(SpikeCounts.extension_name, save=False)
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before


def test_a_cleared_extension_is_as_before_its_computation(analyzer):
    extension, untouched = SpikeCounts(analyzer), SpikeCounts(analyzer)
    extension.set_params(save=False)
    extension.run(save=False)
    extension.clear()
    for name in ("params", "run_info", "data"):
        assert getattr(extension, name) == getattr(untouched, name)


# --- no other module --------------------------------------------------------------------------------------------------

# Modules that export less than `spikeinterface.core`, but whose names SpikeInterface documents.
PUBLIC = {
    "spikeinterface",
    "spikeinterface.core",
    "spikeinterface.curation",
    "spikeinterface.generation",
    "spikeinterface.postprocessing",
    "spikeinterface.widgets.base",
}


def test_no_other_module_imports_private_names():
    for path in PACKAGE.rglob("*.py"):
        if path == Path(api.__file__):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            modules = [node.module] if isinstance(node, ast.ImportFrom) and not node.level else names
            for module in modules:
                if isinstance(node, ast.ImportFrom) and node.level:
                    continue
                if module.split(".")[0] == "spikeinterface":
                    assert module in PUBLIC, f"{path}:{node.lineno}"
                    assert not [name for name in names if name.startswith("_")], f"{path}:{node.lineno}"


def test_no_other_module_reads_private_attributes():
    """Names of SpikeInterface's private attributes and methods that this package has ever used."""
    tree = ast.parse(Path(api.__file__).read_text(encoding="utf-8"))
    overridden = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name[0] == "_"}
    private = {"_recording", "rec_attributes", "units_table", "extensions", "_extension_children"}
    private |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr[:5] == "_save"}
    private |= {name for name in overridden if hasattr(si.AnalyzerExtension, name)} - {"__init__"}
    assert {"_save_data", "_save_params", "_reset_extension_folder"} <= private
    for path in PACKAGE.rglob("*.py"):
        if path != Path(api.__file__):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                assert not (isinstance(node, ast.Attribute) and node.attr in private), f"{path}:{node.lineno}"
