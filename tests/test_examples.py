"""The examples run as they stand, and give what they say."""

import runpy
import tempfile
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import spikeinterface.core as si

from spikeinterface_nuclr import load_checkpoint, read_nwb

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs an example in a folder of its own and returns its variables."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    yield lambda name: runpy.run_path(str(EXAMPLES / f"{name}.py"))
    plt.close("all")
    si.reset_global_job_kwargs()


def test_spikeinterface(run):
    after = run("01_spikeinterface")
    embeddings = after["analyzer"].get_extension("nuclr_embedding").get_data(outputs="by_unit")
    kept = after["reloaded"].get_extension("nuclr_embedding").get_data(outputs="by_unit")
    assert 0 < len(kept) < len(embeddings) == 20
    assert all(np.array_equal(row, embeddings[unit]) for unit, row in kept.items())
    merged = after["merged"].get_extension("nuclr_embedding").get_data()
    assert merged.shape == (19, 384)
    assert np.isfinite(merged).all()


def test_nwb(run):
    after = run("02_nwb")
    found, _ = read_nwb(after["path"])
    assert np.array_equal(found.embedding, after["embeddings"].embedding)
    assert after["agreement"] > 0.8


def test_decoding(run):
    after = run("03_decoding")
    assert np.mean(after["identities"]["best_label"] == after["truth"]) > 0.9
    assert after["evaluation"].to_dataframe().loc["embedding", "macro-F1"] > 0.9


def test_calcium(run):
    after = run("04_calcium")
    embeddings, [identities] = read_nwb(after["sessions"][4])
    assert embeddings.unit_ids.tolist() == [k for k in range(40) if k != 7]
    assert embeddings.provenance.frame_rate == 7.5
    assert after["correct"] > 0.75
    assert np.array_equal(identities.best_label, after["identities"].best_label)


def test_training(run):
    after = run("05_training")
    assert after["log"]["loss"].iloc[-1] < after["log"]["loss"].iloc[0]
    written = load_checkpoint(after["folder"] / "mine.safetensors")
    assert written.sha256 == after["checkpoint"].sha256 == after["embeddings"].provenance.checkpoint_sha256


def test_matching(run):
    after = run("06_matching")
    assert after["right"] > 0.9 * after["matches"].named.sum() > 20
    assert after["rows"]["neuron"].nunique() == 50
    assert set(after["rows"]["other_identifier"]) == {"session-2", "session-3"}


def test_curation(run):
    after = run("07_curation")
    assert after["curated"].get_num_units() == 59
    assert (after["labels"] != "").sum() == 10
    assert after["labels"][:10].tolist() == after["truth"][:10].tolist()


def test_active_learning(run):
    after = run("08_active_learning")
    assert len(after["suggested"]) == 12
    right = [
        np.mean(after[name].predict(after["embeddings"][4], target_error=1.0).best_label == after["truth"][4])
        for name in ("decoder", "better")
    ]
    assert right[0] < right[1]


def test_gui(run, monkeypatch):
    pytest.importorskip("spikeinterface_gui")
    pytest.importorskip("PySide6.QtWidgets", exc_type=ImportError)
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    after = run("09_gui")
    assert after["selected"] == [after["analyzer"].unit_ids[7]]
    assert len(np.unique(after["axis"].images[0].get_array().reshape(-1, 4), axis=0)) > 100  # it is not blank
