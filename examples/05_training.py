"""
Training a model on your own recordings
=======================================

Pretrain an encoder without labels: put the spikes of several animals into a
store, train, look at the learning curves, and use the new model. This example
trains a tiny model for a few seconds to show the steps; a useful model takes an
hour on two processor cores, or more.
"""

# %%
# Recordings
# ----------
# Six simulated animals. ``build_store`` takes file names, patterns such as
# ``"data/**/*.nwb"``, CSV manifests, or objects as here. The store keeps all
# spikes on disk, indexed so that reading any window is fast. Animals are named,
# because everything below holds out whole animals.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import spikeinterface_nuclr as nuclr

folder = Path(tempfile.mkdtemp())

populations = [nuclr.simulate_population(40, 200.0, seed=k) for k in range(6)]
store, skipped = nuclr.build_store(populations, folder / "store", progress=False)
print(store.summary())

# %%
# Settings
# --------
# The defaults of :class:`~spikeinterface_nuclr.PretrainConfig` are the
# published settings. We use a narrow network, short windows and few steps.

config = nuclr.PretrainConfig(
    encoder=nuclr.EncoderConfig(
        patch_size=50,
        num_patches=10,
        dim=32,
        heads=2,
        head_dim=16,
        dropout=0.0,
        input_scale="log1p",
    ),
    steps=100,
    samples=2,
    max_units=32,
    max_view_distance_s=200.0,
    learning_rate=3e-3,
    temperature=0.1,
    temperature_scope="all",
    monitor_every=20,
)

# %%
# Train
# -----
# Animals in ``hold_out`` are monitored and never trained on. Animals in
# ``exclude`` are not used at all; keep some for a final test. The weights kept
# are those that re-identify most units of the held-out animals.

checkpoint = nuclr.pretrain(
    folder / "store",
    folder / "mine.safetensors",
    config,
    hold_out=["simulation-4"],
    exclude=["simulation-5"],
    precision="float32",
    progress=False,
)
checkpoint

# %%
# The log is a CSV file next to the checkpoint. ``reidentification`` is the
# top-1 re-identification accuracy in the held-out animals: the fraction of
# units whose nearest neighbour, in the other half of the recording, is the same
# unit. ``plot=True`` draws all columns (``mine.curves.png``).

log = pd.read_csv(folder / "mine.log.csv")
figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for axis, column in zip(axes, ("loss", "reidentification"), strict=True):
    axis.plot(log["step"], log[column], marker=".")
    axis.set(xlabel="step", title=column)

# %%
# Use the model
# -------------
# Name its file wherever a model is accepted: ``model=`` in Python, ``--model``
# in a shell.

embeddings = nuclr.embed(populations[5], folder / "mine.safetensors", progress=False)
cell_type = populations[5].properties["cell_type"]
print(
    embeddings,
    "median split-half similarity",
    np.nanmedian(embeddings.split_half_similarity).round(2),
)

nuclr.plot_nuclr_embedding(embeddings, {"cell type": cell_type})
