"""A valid object of every type, in one call.

Each function takes the fields of its type as keywords, in place of the made-up ones. With `nwbfile`, the object is
added to ``nwbfile.processing["nuclr"]``.
"""

import numpy as np
from pynwb.misc import Units

from ndx_nuclr import NuCLRModel, UnitEmbeddings, UnitIdentities

_SHA256 = "5f" * 32


def mock_units(n_units=5):
    """A units table with spike times of `n_units` regular neurons."""
    units = Units(name="units", description="mock units")
    for k in range(n_units):
        units.add_unit(spike_times=np.arange(0.0, 10.0, 0.5 + 0.1 * k))
    return units


def mock_NuCLRModel(*, nwbfile=None, **fields):
    """A NuCLRModel."""
    made_up = {
        "source": "nuclr-mock",
        "revision": "main",
        "sha256": _SHA256,
        "config": '{"dim": 4, "window_s": 10.0}',
        "training_data": "nothing: this model is made up",
        "software": "ndx-nuclr mock",
        "license": "CC0-1.0",
    }
    return _added(NuCLRModel(**{**made_up, **fields}), nwbfile)


def mock_UnitEmbeddings(*, nwbfile=None, **fields):
    """A UnitEmbeddings of every row of `neuron_table`: by default the file's units, made where it has none."""
    if "neuron_table" not in fields:
        fields["neuron_table"] = _units(nwbfile)
    n = len(fields["neuron_table"])
    embedding = np.random.default_rng(0).standard_normal((n, 4)).astype(np.float32)
    made_up = {
        "neuron": np.arange(n),
        "embedding": embedding,
        "num_windows": np.full(n, 6),
        "split_half_similarity": np.linspace(0.5, 1, n),
        "num_spikes" if isinstance(fields["neuron_table"], Units) else "num_frames": np.full(n, 20),
        "population_fingerprint": _SHA256,
        "units_fingerprint": _SHA256,
        "provenance": "{}",
    }
    if "model" not in fields:
        fields["model"] = mock_NuCLRModel(nwbfile=nwbfile)
    return _added(UnitEmbeddings(**{**made_up, **fields}), nwbfile)


def mock_UnitIdentities(*, nwbfile=None, **fields):
    """A UnitIdentities of the rows of `embeddings`, which are made where they are missing."""
    if "embeddings" not in fields:
        fields["embeddings"] = mock_UnitEmbeddings(nwbfile=nwbfile)
    rows = fields["embeddings"]["neuron"]
    n = len(rows)
    excitatory = np.linspace(0.1, 0.9, n)
    confidence = np.maximum(excitatory, 1 - excitatory)
    best_label = np.where(excitatory > 0.5, "excitatory", "inhibitory")
    reason = np.where(confidence < 0.6, "low confidence", "")
    made_up = {
        "name": "cell_type",
        "target": "cell_type",
        "neuron_table": rows.table,
        "neuron": rows.data[:],
        "classes": ["excitatory", "inhibitory"],
        "label": np.where(reason != "", "unknown", best_label),
        "best_label": best_label,
        "reason": reason,
        "probability": np.stack([excitatory, 1 - excitatory], axis=1),
        "confidence": confidence,
        "novelty": np.ones(n),
        "decoder": "mock",
        "decoder_sha256": _SHA256,
        "provenance": "{}",
    }
    return _added(UnitIdentities(**{**made_up, **fields}), nwbfile)


def _units(nwbfile):
    if nwbfile is None:
        return mock_units()
    if nwbfile.units is None:
        nwbfile.units = mock_units()
    return nwbfile.units


def _added(made, nwbfile):
    if nwbfile is not None:
        if "nuclr" not in nwbfile.processing:
            nwbfile.create_processing_module("nuclr", "NuCLR embeddings and predicted identities of neurons")
        nwbfile.processing["nuclr"].add(made)
    return made
