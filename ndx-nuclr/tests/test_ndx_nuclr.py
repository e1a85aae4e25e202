"""The types of ndx-nuclr: what they refuse, and what comes back from a file."""

import importlib.util
import re
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import h5py
import numpy as np
import pynwb
import pytest
import yaml
from ndx_nuclr import NuCLRModel, UnitEmbeddings, UnitEstimates, UnitIdentities, UnitMatches
from ndx_nuclr.testing.mock import (
    mock_NuCLRModel,
    mock_UnitEmbeddings,
    mock_UnitEstimates,
    mock_UnitIdentities,
    mock_UnitMatches,
    mock_units,
)

DATA = Path(__file__).parent / "data"
PACKAGE = DATA.parents[1]
RELEASED = sorted(DATA.glob("ndx-nuclr-[0-9]*.nwb"))
# Written by a development version, under other column names.
UNRELEASED = DATA / "ndx-nuclr-before-0.1.0.nwb"


def new_file():
    return pynwb.NWBFile("test", "id-1", datetime(2026, 1, 1, tzinfo=timezone.utc))


def written(nwbfile, path):
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)
    return path


# --- the specification ------------------------------------------------------------------------------------------------


def spec_script():
    spec = importlib.util.spec_from_file_location("create_spec", PACKAGE / "src" / "spec" / "create_extension_spec.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def test_the_yaml_is_what_the_script_writes(tmp_path):
    spec_script().main(tmp_path)
    files = sorted(path.name for path in (PACKAGE / "spec").iterdir())
    assert files == ["ndx-nuclr.extensions.yaml", "ndx-nuclr.namespace.yaml"]
    for name in files:
        assert yaml.safe_load((tmp_path / name).read_text()) == yaml.safe_load((PACKAGE / "spec" / name).read_text())


def test_one_version_everywhere():
    version = spec_script().VERSION
    assert f'version = "{version}"' in (PACKAGE / "pyproject.toml").read_text()
    assert yaml.safe_load((PACKAGE / "ndx-meta.yaml").read_text())["version"] == version
    assert f"## {version}" in (PACKAGE / "CHANGELOG.md").read_text()


def test_every_field_is_documented():
    types = yaml.safe_load((PACKAGE / "spec" / "ndx-nuclr.extensions.yaml").read_text())["groups"]
    assert [t["neurodata_type_def"] for t in types] == [
        "NuCLRModel",
        "UnitEmbeddings",
        "UnitIdentities",
        "UnitEstimates",
        "UnitMatches",
    ]
    for made in types:
        for field in (*made.get("attributes", ()), *made["datasets"], *made.get("links", ())):
            assert len(field["doc"].split()) >= 4, field


# --- there and back ---------------------------------------------------------------------------------------------------


def check_mock_file(path):
    with pynwb.NWBHDF5IO(path, "r") as io:
        nwbfile = io.read()
        module = nwbfile.processing["nuclr"]
        model, embeddings, identities = (module[name] for name in ("NuCLRModel", "UnitEmbeddings", "cell_type"))
        assert (model.source, model.revision, model.license) == ("nuclr-mock", "main", "CC0-1.0")
        assert model.sha256 == "5f" * 32
        assert model.config == '{"dim": 4, "window_s": 10.0}'
        assert embeddings.model is model
        assert embeddings["neuron"].table is nwbfile.units
        assert embeddings["neuron"].data[:].tolist() == [0, 1, 2, 3, 4]
        assert embeddings["embedding"].data.dtype == np.float32
        expected = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
        assert np.array_equal(embeddings["embedding"][:], expected)
        assert embeddings["num_windows"][:].tolist() == [6] * 5
        assert embeddings["num_spikes"][:].tolist() == [20] * 5
        assert np.allclose(embeddings["split_half_similarity"][:], np.linspace(0.5, 1, 5))
        assert embeddings.population_fingerprint == "5f" * 32
        assert embeddings.provenance == "{}"
        assert identities.embeddings is embeddings
        assert list(identities.classes[:]) == ["excitatory", "inhibitory"]
        assert identities["best_label"][:].tolist() == ["inhibitory"] * 3 + ["excitatory"] * 2
        assert identities["label"][:].tolist() == ["inhibitory"] * 2 + ["unknown"] + ["excitatory"] * 2
        assert identities["reason"][:].tolist() == ["", "", "low confidence", "", ""]
        assert identities["probability"][:].shape == (5, 2)
        assert identities.target == "cell_type"
        assert identities.decoder_sha256 == "5f" * 32
        estimates = module["depth_um"]
        assert estimates.embeddings is embeddings
        assert estimates["value"][:].tolist() == [0, 100, 200, 300, 400]
        assert estimates["low"][:].tolist() == [-50, 50, 150, 250, 350]
        assert estimates["high"][:].tolist() == [50, 150, 250, 350, 450]
        assert estimates["spread"][:].tolist() == [5] * 5
        assert (estimates.coverage, estimates.target, estimates.decoder) == (0.9, "depth_um", "mock")
        matches = module["UnitMatches"]
        assert matches["neuron"].table is nwbfile.units
        assert matches["neuron"].data[:].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
        assert matches["neuron_id"][:].tolist() == matches["neuron"].data[:].tolist()
        assert matches["other_unit"][:].tolist() == [f"u{k}" for k in range(10)]
        assert matches["named"][:].tolist() == [True, False] * 5
        assert np.allclose(matches["probability"][:], [0.95, 0.03] * 5)
        assert (matches.recording, matches.target_error, matches.provenance) == ("day 1", 0.05, "{}")


def mock_predictions(nwbfile):
    identities = mock_UnitIdentities(nwbfile=nwbfile)
    mock_UnitEstimates(nwbfile=nwbfile, embeddings=identities.embeddings)
    mock_UnitMatches(nwbfile=nwbfile)


def test_what_is_written_is_read(tmp_path):
    nwbfile = new_file()
    mock_predictions(nwbfile)
    path = written(nwbfile, tmp_path / "mock.nwb")
    check_mock_file(path)
    assert pynwb.validate(path=path) == []


@pytest.mark.parametrize("path", RELEASED, ids=lambda path: path.stem)
def test_files_of_released_versions_are_read(path):
    check_mock_file(path)
    assert pynwb.validate(path=path) == []


def test_a_file_of_this_version_is_kept():
    assert (DATA / f"ndx-nuclr-{spec_script().VERSION}.nwb").is_file()


# Reads files by the specification that they carry, as where ndx_nuclr is not installed.
READER = """
import sys, importlib.abc
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] == 'ndx_nuclr':
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import numpy, pynwb
for path in sys.argv[1:]:
    with pynwb.NWBHDF5IO(path, 'r') as io:
        nwbfile = io.read()
        module = nwbfile.processing['nuclr']
        table = module['UnitEmbeddings']
        assert table['embedding'][:].shape == (5, 4)
        assert table['neuron'].table is nwbfile.units
        assert table.model.source == 'nuclr-mock'
        assert len(table.to_dataframe(index=True)) == 5
        assert list(module['cell_type'].classes[:]) == ['excitatory', 'inhibitory']
        assert module['cell_type'].embeddings is table
        print('read', *table.colnames)
"""
COLUMNS = "neuron embedding num_windows split_half_similarity num_spikes"
UNRELEASED_COLUMNS = "neuron embedding window_count stability spike_count"


def test_files_are_read_where_this_package_is_not_installed():
    command = [sys.executable, "-c", READER, UNRELEASED, *RELEASED]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.stdout.splitlines() == [f"read {UNRELEASED_COLUMNS}", *[f"read {COLUMNS}"] * len(RELEASED)], (
        process.stderr
    )


def test_a_file_of_a_development_version_leaves_the_rest_readable():
    with pynwb.NWBHDF5IO(UNRELEASED, "r") as io:
        nwbfile = io.read()
        assert len(nwbfile.units) == 5
        assert list(nwbfile.processing["nuclr"]["UnitEmbeddings"].colnames) == UNRELEASED_COLUMNS.split()


def test_spikeinterface_nuclr_asks_to_replace_what_a_development_version_wrote():
    package = pytest.importorskip("spikeinterface_nuclr")
    with pytest.raises(package.InputError, match=r"no column 'num_windows'.*: replace it \(nuclr embed .*\)") as error:
        package.read_nwb(UNRELEASED)
    assert "\n" not in str(error.value)


def test_some_rows_in_any_order_survive(tmp_path):
    nwbfile = new_file()
    nwbfile.units = mock_units(6)
    fields = dict(
        neuron=[4, 1], embedding=[[1, 2], [np.nan, np.nan]], num_windows=[3, 0], split_half_similarity=[1, np.nan]
    )
    mock_UnitEmbeddings(
        nwbfile=nwbfile, neuron_table=nwbfile.units, **fields, num_spikes=None, units_fingerprint=None, provenance=None
    )
    path = written(nwbfile, tmp_path / "rows.nwb")
    with pynwb.NWBHDF5IO(path, "r") as io:
        table = io.read().processing["nuclr"]["UnitEmbeddings"]
        assert table["neuron"].data[:].tolist() == [4, 1]
        assert np.array_equal(table["embedding"][:], np.float32(fields["embedding"]), equal_nan=True)
        assert "num_spikes" not in table.colnames
        assert table.units_fingerprint is None
    assert pynwb.validate(path=path) == []


def test_an_empty_table_survives(tmp_path):
    nwbfile = new_file()
    nwbfile.units = mock_units(3)
    empty = dict(neuron=[], num_windows=[], split_half_similarity=[], num_spikes=[], embedding=np.empty((0, 4)))
    mock_UnitEmbeddings(nwbfile=nwbfile, neuron_table=nwbfile.units, **empty)
    with pynwb.NWBHDF5IO(written(nwbfile, tmp_path / "empty.nwb"), "r") as io:
        assert io.read().processing["nuclr"]["UnitEmbeddings"]["embedding"].shape == (0, 4)


def test_rows_of_an_imaging_plane_survive(tmp_path):
    from pynwb.testing.mock.ophys import mock_PlaneSegmentation

    nwbfile = new_file()
    segmentation = mock_PlaneSegmentation(n_rois=5, nwbfile=nwbfile)
    mock_UnitEmbeddings(nwbfile=nwbfile, neuron_table=segmentation)
    with pynwb.NWBHDF5IO(written(nwbfile, tmp_path / "ophys.nwb"), "r") as io:
        table = io.read().processing["nuclr"]["UnitEmbeddings"]
        assert table["neuron"].table.name == segmentation.name
        assert table["num_frames"][:].tolist() == [20] * 5
        assert "num_spikes" not in table.colnames


def test_tables_can_be_exported(tmp_path):
    nwbfile = new_file()
    mock_predictions(nwbfile)
    path = written(nwbfile, tmp_path / "a.nwb")
    with pynwb.NWBHDF5IO(path, "r") as source, pynwb.NWBHDF5IO(tmp_path / "b.nwb", "w") as target:
        target.export(source)
    check_mock_file(tmp_path / "b.nwb")


def test_labels_of_every_kind_survive(tmp_path):
    labels = ["NA", "", "α-motor", "VISp2/3", "None"]
    nwbfile = new_file()
    mock_UnitIdentities(nwbfile=nwbfile, label=labels, best_label=labels, reason=[""] * 5)
    with pynwb.NWBHDF5IO(written(nwbfile, tmp_path / "labels.nwb"), "r") as io:
        assert io.read().processing["nuclr"]["cell_type"]["label"][:].tolist() == labels


def test_a_table_that_lacks_a_column_leaves_the_file_readable(tmp_path):
    nwbfile = new_file()
    mock_UnitIdentities(nwbfile=nwbfile)
    path = written(nwbfile, tmp_path / "old.nwb")
    with h5py.File(path, "r+") as file:
        table = file["processing/nuclr/cell_type"]
        del table["reason"]
        table.attrs["colnames"] = [name for name in table.attrs["colnames"] if name != "reason"]
    with pynwb.NWBHDF5IO(path, "r") as io:
        module = io.read().processing["nuclr"]
        assert "reason" not in module["cell_type"].to_dataframe()
        assert module["UnitEmbeddings"]["embedding"].shape == (5, 4)
    assert any("reason" in str(fault) for fault in pynwb.validate(path=path))


# --- what the constructors refuse -------------------------------------------------------------------------------------

WRONG_EMBEDDINGS = [
    ({"embedding": np.ones((4, 2))}, r"embedding has shape \(4, 2\), not \(5, n\)"),
    ({"embedding": np.ones(5)}, r"embedding has shape \(5,\), not \(5, n\)"),
    ({"num_windows": [1, 2]}, r"num_windows has shape \(2,\), not \(5,\)"),
    ({"split_half_similarity": np.ones((5, 1))}, r"split_half_similarity has shape \(5, 1\), not \(5,\)"),
    ({"neuron": [0, 1, 2, 3, 5]}, "neuron holds 5, but 'units' has 5 rows: give row numbers, not ids"),
    ({"neuron": [0, 1, 2, 3, -1]}, "neuron holds -1"),
    ({"neuron": [0, 1, 2, 3, 3]}, "row 3 of 'units' occurs twice"),
    ({"embedding": None}, "the column 'embedding' is missing"),
    ({"provenance": "not JSON"}, "provenance must be a JSON object"),
]


@pytest.mark.parametrize(("wrong", "says"), WRONG_EMBEDDINGS)
def test_embeddings_of_the_wrong_shape_are_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        mock_UnitEmbeddings(**{"neuron_table": mock_units(), **wrong})


WRONG_IDENTITIES = [
    ({"probability": np.ones((5, 3))}, "probability has 3 columns for 2 classes"),
    ({"label": ["a", None, "b", "c", "d"]}, "every neuron needs a text"),
    ({"label": ["a"]}, r"label has shape \(1,\)"),
    ({"best_label": ["a"]}, r"best_label has shape \(1,\)"),
    ({"reason": ["novel"]}, r"reason has shape \(1,\)"),
    ({"reason": ["", "", "tired", "", ""]}, "reason is one of low confidence, novel, no embedding, or empty"),
    ({"reason": [""] * 5}, "label is 'unknown', not 'inhibitory'"),
    ({"label": ["inhibitory"] * 3 + ["excitatory"] * 2}, "label is 'inhibitory', not 'unknown'"),
    ({"best_label": None}, "the column 'best_label' is missing"),
    ({"decoder_sha256": "5f"}, "decoder_sha256 must be 64 hexadecimal digits"),
]


@pytest.mark.parametrize(("wrong", "says"), WRONG_IDENTITIES)
def test_identities_of_the_wrong_shape_are_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        mock_UnitIdentities(**wrong)


WRONG_ESTIMATES = [
    ({"value": [1.0]}, r"value has shape \(1,\), not \(5,\)"),
    ({"high": np.ones((5, 1))}, r"high has shape \(5, 1\), not \(5,\)"),
    ({"low": np.full(5, 250.0)}, r"row 0 has the value 0\.0, outside its interval 250\.0 to 50\.0"),
    ({"low": np.full(5, np.nan)}, "row 0 has the value 0.0, outside its interval nan to 50.0"),
    ({"low": None}, "the column 'low' is missing"),
    ({"coverage": 1.0}, r"coverage must lie between 0 and 1, not 1\.0"),
    ({"provenance": "[]"}, "provenance must be a JSON object"),
]


@pytest.mark.parametrize(("wrong", "says"), WRONG_ESTIMATES)
def test_estimates_that_cannot_be_are_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        mock_UnitEstimates(**wrong)


WRONG_MATCHES = [
    ({"probability": np.full(10, 1.5)}, "probability must lie from 0 to 1"),
    ({"probability": np.full(10, np.nan)}, "probability must lie from 0 to 1"),
    ({"named": [True]}, r"named has shape \(1,\), not \(10,\)"),
    ({"other_unit": list(range(10))}, "other_unit: every neuron needs a text"),
    ({"neuron": np.full(10, 5)}, "neuron holds 5, but 'units' has 5 rows"),
    ({"neuron_id": None}, "the column 'neuron_id' is missing"),
    ({"target_error": 1.5}, r"target_error must lie from 0 to 1, not 1\.5"),
    ({"provenance": "[]"}, "provenance must be a JSON object"),
]


@pytest.mark.parametrize(("wrong", "says"), WRONG_MATCHES)
def test_matches_that_cannot_be_are_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        mock_UnitMatches(**wrong)


def test_a_file_without_any_match_is_written_and_read(tmp_path):
    nwbfile = new_file()
    columns = ("neuron", "neuron_id", "other_recording", "other_identifier", "other_unit", "probability", "similarity",
               "agreement", "named")  # fmt: skip
    mock_UnitMatches(nwbfile=nwbfile, **dict.fromkeys(columns, np.empty(0)))
    with pynwb.NWBHDF5IO(written(nwbfile, tmp_path / "none.nwb"), "r") as io:
        assert len(io.read().processing["nuclr"]["UnitMatches"]) == 0


def test_neurons_without_an_embedding_have_no_estimate(tmp_path):
    nwbfile = new_file()
    rows = {name: [np.nan, 1, 2, 3, 4] for name in ("value", "low", "high")}
    mock_UnitEstimates(nwbfile=nwbfile, **rows, spread=None)
    with pynwb.NWBHDF5IO(written(nwbfile, tmp_path / "nan.nwb"), "r") as io:
        table = io.read().processing["nuclr"]["depth_um"]
        assert np.isnan(table["value"][:]).tolist() == [True, False, False, False, False]
        assert "spread" not in table.colnames


def test_rows_of_no_table_are_refused():
    columns = dict(neuron=[0], embedding=[[1.0]], num_windows=[1], split_half_similarity=[1.0])
    with pytest.raises(ValueError, match="neuron_table is missing"):
        UnitEmbeddings(**columns, model=mock_NuCLRModel(), population_fingerprint="5f" * 32)


def test_columns_that_are_given_whole_are_all_there():
    mock = mock_UnitIdentities()
    fields = dict(name="t", target="t", decoder="d", embeddings=mock.embeddings, classes=["excitatory", "inhibitory"])
    columns = [column for column in mock.columns if column.name != "reason"]
    with pytest.raises(ValueError, match="the column 'reason' is missing"):
        UnitIdentities(**fields, columns=columns, colnames=[column.name for column in columns])


def test_a_model_without_its_hash_is_refused():
    with pytest.raises(ValueError, match="sha256 must be 64 hexadecimal digits, not 'abc'"):
        mock_NuCLRModel(sha256="abc")
    with pytest.raises(ValueError, match="config must be a JSON object"):
        mock_NuCLRModel(config="[1]")


def test_mocks_are_of_their_type():
    assert isinstance(mock_NuCLRModel(), NuCLRModel)
    assert isinstance(mock_UnitEmbeddings(), UnitEmbeddings)
    assert isinstance(mock_UnitIdentities(), UnitIdentities)
    assert isinstance(mock_UnitEstimates(), UnitEstimates)
    assert isinstance(mock_UnitMatches(), UnitMatches)


def test_the_example_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", (PACKAGE / "README.md").read_text(), re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    with pynwb.NWBHDF5IO("session.nwb", "r") as io:
        assert io.read().processing["nuclr"]["UnitEmbeddings"]["num_spikes"][:].tolist() == [120, 300, 540]
