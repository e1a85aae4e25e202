"""Create a valid object of every type in one call.

Each function takes fields of its type as keywords, which replace the mock values. If `nwbfile` is given, the object is
added to ``nwbfile.processing["nuclr"]``.
"""

import numpy as np
from pynwb.misc import Units

from ndx_nuclr import NuCLRModel, UnitEmbeddings, UnitEstimates, UnitIdentities, UnitMatches

_SHA256 = "5f" * 32


def mock_units(n_units=5):
    """Create a units table with the spike times of `n_units` regularly firing neurons."""
    units = Units(name="units", description="mock units")
    for k in range(n_units):
        units.add_unit(spike_times=np.arange(0.0, 10.0, 0.5 + 0.1 * k))
    return units


def mock_NuCLRModel(*, nwbfile=None, **fields):
    """Create a NuCLRModel."""
    defaults = {
        "source": "nuclr-mock",
        "revision": "main",
        "sha256": _SHA256,
        "config": '{"dim": 4, "window_s": 10.0}',
        "training_data": "none: this is a mock model",
        "software": "ndx-nuclr mock",
        "license": "CC0-1.0",
    }
    return _added(NuCLRModel(**{**defaults, **fields}), nwbfile)


def mock_UnitEmbeddings(*, nwbfile=None, **fields):
    """Create a UnitEmbeddings of every row of `neuron_table`: by default the file's units, or mock units."""
    if "neuron_table" not in fields:
        fields["neuron_table"] = _units(nwbfile)
    n = len(fields["neuron_table"])
    embedding = np.random.default_rng(0).standard_normal((n, 4)).astype(np.float32)
    defaults = {
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
    return _added(UnitEmbeddings(**{**defaults, **fields}), nwbfile)


def mock_UnitIdentities(*, nwbfile=None, **fields):
    """Create a UnitIdentities of the rows of `embeddings`: by default mock embeddings."""
    if "embeddings" not in fields:
        fields["embeddings"] = mock_UnitEmbeddings(nwbfile=nwbfile)
    rows = fields["embeddings"]["neuron"]
    n = len(rows)
    excitatory = np.linspace(0.1, 0.9, n)
    confidence = np.maximum(excitatory, 1 - excitatory)
    best_label = np.where(excitatory > 0.5, "excitatory", "inhibitory")
    reason = np.where(confidence < 0.6, "low confidence", "")
    defaults = {
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
        "agreement": np.ones(n),
        "decoder": "mock",
        "decoder_sha256": _SHA256,
        "provenance": "{}",
    }
    return _added(UnitIdentities(**{**defaults, **fields}), nwbfile)


def mock_UnitEstimates(*, nwbfile=None, **fields):
    """Create a UnitEstimates of the rows of `embeddings`: by default mock embeddings."""
    if "embeddings" not in fields:
        fields["embeddings"] = mock_UnitEmbeddings(nwbfile=nwbfile)
    rows = fields["embeddings"]["neuron"]
    value = np.linspace(0.0, 400.0, len(rows))
    defaults = {
        "name": "depth_um",
        "target": "depth_um",
        "neuron_table": rows.table,
        "neuron": rows.data[:],
        "value": value,
        "low": value - 50.0,
        "high": value + 50.0,
        "spread": np.full(len(rows), 5.0),
        "coverage": 0.9,
        "decoder": "mock",
        "decoder_sha256": _SHA256,
        "provenance": "{}",
    }
    return _added(UnitEstimates(**{**defaults, **fields}), nwbfile)


def mock_UnitMatches(*, nwbfile=None, **fields):
    """Create a UnitMatches with two rows for each row of `neuron_table`: by default the file's units, or mock units."""
    if "neuron_table" not in fields:
        fields["neuron_table"] = _units(nwbfile)
    n = len(fields["neuron_table"])
    defaults = {
        "neuron": np.repeat(np.arange(n), 2),
        "neuron_id": np.repeat(np.arange(n), 2),
        "other_recording": np.full(2 * n, "day 2"),
        "other_identifier": np.full(2 * n, "mock-day-2"),
        "other_unit": [f"u{k}" for k in range(2 * n)],
        "probability": np.tile([0.95, 0.03], n),
        "similarity": np.tile([0.9, 0.4], n),
        "agreement": np.tile([0.7, 0.2], n),
        "named": np.tile([True, False], n),
        "recording": "day 1",
        "target_error": 0.05,
        "provenance": "{}",
    }
    return _added(UnitMatches(**{**defaults, **fields}), nwbfile)


def _units(nwbfile):
    if nwbfile is None:
        return mock_units()
    if nwbfile.units is None:
        nwbfile.units = mock_units()
    return nwbfile.units


def _added(container, nwbfile):
    if nwbfile is not None:
        if "nuclr" not in nwbfile.processing:
            nwbfile.create_processing_module("nuclr", "NuCLR embeddings and predicted identities of neurons")
        nwbfile.processing["nuclr"].add(container)
    return container
