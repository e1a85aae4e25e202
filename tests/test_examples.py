"""The examples run as they stand."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import spikeinterface.core as si

from spikeinterface_nuclr import read_nwb, simulate_population, simulate_relations

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_existing_pipeline(tmp_path):
    script = EXAMPLES / "existing_pipeline.py"
    assert script.read_text().count("# <-") == 3
    done = subprocess.run([sys.executable, script, tmp_path / "out"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "model: nuclr-starter" in done.stdout
    found, _ = read_nwb(tmp_path / "out" / "session.nwb")
    analyzer = si.load_sorting_analyzer(tmp_path / "out" / "analyzer")
    by_unit = analyzer.get_extension("nuclr_embedding").get_data(outputs="by_unit")
    assert 0 < len(found.unit_ids) <= 20
    for unit, row in zip(found.unit_ids, found.embedding, strict=True):
        assert np.array_equal(by_unit[type(next(iter(by_unit)))(unit)], row)


def test_imaging(tmp_path):
    done = subprocess.run([sys.executable, EXAMPLES / "imaging.py", tmp_path / "out"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    embeddings, [identities] = read_nwb(tmp_path / "out" / "animal4.nwb")
    truth = np.delete(simulate_relations(40, 300.0, seed=4).properties["cell_type"], 7)
    assert embeddings.unit_ids.tolist() == [k for k in range(40) if k != 7]
    assert embeddings.provenance.frame_rate == 7.5
    assert np.mean(identities.best_label == truth) > 0.75
    assert identities.provenance["decoder"] == "cell_type.safetensors"
    for figure in ("evaluation.png", "embedding_map.png"):
        assert (tmp_path / "out" / figure).stat().st_size > 10_000


def test_identities(tmp_path):
    done = subprocess.run(
        [sys.executable, EXAMPLES / "identities.py", tmp_path / "out"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    _, [identities] = read_nwb(tmp_path / "out" / "session.nwb")
    truth = simulate_population(40, 120.0, seed=99).properties["cell_type"]
    assert np.mean(identities.best_label == truth) > 0.9
    for figure in ("evaluation.png", "identities.png"):
        assert (tmp_path / "out" / figure).stat().st_size > 10_000
