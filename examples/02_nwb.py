"""
Embeddings in an NWB file
=========================

Read the units table of an NWB file, embed its units, write the embeddings into
the file, and read them back with nothing but PyNWB.
"""

# %%
# A session file
# --------------
# We simulate a session with two probes. Real files come from NeuroConv, DANDI
# or your own conversion script. Units of different probes belong to different
# populations; here the electrode groups separate them.

import tempfile
from datetime import datetime, timezone
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pynwb

import spikeinterface_nuclr as nuclr

path = Path(tempfile.mkdtemp()) / "session.nwb"

nwbfile = pynwb.NWBFile(
    "two simulated probes",
    "session-1",
    datetime(2026, 1, 1, tzinfo=timezone.utc),
)
device = nwbfile.create_device("Neuropixels")
nwbfile.add_unit_column("cell_type", "cell type of the simulated unit")
for probe in range(2):
    group = nwbfile.create_electrode_group(
        f"probe{probe}", "a probe", "unknown", device
    )
    population = nuclr.simulate_population(30, 120.0, seed=probe)
    for spike_times, cell_type in zip(
        population.spike_times, population.properties["cell_type"], strict=True
    ):
        nwbfile.add_unit(
            spike_times=spike_times,
            obs_intervals=[[0.0, 120.0]],
            electrode_group=group,
            cell_type=str(cell_type),
        )
with pynwb.NWBHDF5IO(path, "w") as io:
    io.write(nwbfile)

# %%
# Read and embed
# --------------
# :func:`~spikeinterface_nuclr.read_population` reads spike times, observed
# intervals and probes. :func:`~spikeinterface_nuclr.embed` returns one row per unit.

population = nuclr.read_population(path)
print({label: len(units) for label, units in population.groups()})

embeddings = nuclr.embed(population, progress=False)
embeddings

# %%
# A unit with too few spikes, or without a complete window of observed time, has
# ``num_windows`` 0 and an embedding of NaN.

embeddings.to_dataframe().iloc[:5, :6]

# %%
# Write
# -----
# :func:`~spikeinterface_nuclr.write_nwb` writes a copy next to the file
# (``session_nuclr.nwb``), or replaces the file in one step with
# ``in_place=True``. ``publish=True`` also adds the columns
# ``nuclr_num_windows`` and ``nuclr_split_half_similarity`` to the units table.

nuclr.write_nwb(path, embeddings, in_place=True, publish=True)

# %%
# The shell commands ``nuclr embed session.nwb --in-place --publish`` and
# ``nuclr info session.nwb`` do the same.

# %%
# Read with PyNWB
# ---------------
# Readers need only PyNWB. Each row of the table refers to a row of
# ``nwbfile.units``.

io = pynwb.NWBHDF5IO(path, "r")
nwbfile = io.read()
table = nwbfile.processing["nuclr"]["UnitEmbeddings"]
vectors = table["embedding"][:]  # (n_units, dim)
rows = table["neuron"].data[:]  # row of each unit in nwbfile.units
print(vectors.shape, table.model.source, table.model.sha256[:12])
nwbfile.units.to_dataframe()[
    ["cell_type", "nuclr_num_windows", "nuclr_split_half_similarity"]
].head()

# %%
# A nearest neighbour in embedding space tends to have the same cell type, in
# this simulation. Compare with the firing rate before you conclude anything of
# the kind from real data.

cell_type = np.asarray(nwbfile.units["cell_type"][:])[rows]
standardised = (vectors - vectors.mean(axis=0)) / vectors.std(axis=0)
distance = np.linalg.norm(standardised[:, None] - standardised[None], axis=2)
np.fill_diagonal(distance, np.inf)
agreement = np.mean(cell_type[distance.argmin(axis=1)] == cell_type)
io.close()

order = np.argsort(cell_type, kind="stable")
figure, axes = plt.subplots(figsize=(4.5, 4), layout="constrained")
image = axes.imshow(np.corrcoef(standardised[order]), cmap="RdBu_r", vmin=-1, vmax=1)
axes.set(
    title=f"nearest neighbour of the same type: {agreement:.0%}",
    xlabel="units sorted by cell type",
    ylabel="units sorted by cell type",
)
figure.colorbar(image, label="correlation of embeddings")
