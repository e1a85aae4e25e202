"""
Calcium imaging
===============

Embed the ROIs of imaging recordings, from raw fluorescence, and write predicted
cell types next to the ROIs. The steps are those of spike-sorted recordings;
what differs is how traces are preprocessed.

The recordings are simulated: cells of two types have the same firing statistics
and differ only in which other cells they are active with.
"""

# %%
# Session files
# -------------
# Files as imaging pipelines write them: a PlaneSegmentation, raw fluorescence,
# and a column that says which ROIs passed curation.

# sphinx_gallery_thumbnail_number = 2
import tempfile
from datetime import datetime, timezone
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pynwb
from pynwb.ophys import (
    Fluorescence,
    ImageSegmentation,
    OpticalChannel,
    RoiResponseSeries,
)

import spikeinterface_nuclr as nuclr

folder = Path(tempfile.mkdtemp())


def write_session(path, seed):
    """Write a simulated session to an NWB file."""
    population = nuclr.simulate_relations(40, 300.0, seed=seed)
    fluorescence = nuclr.simulate_fluorescence(population, frame_rate=7.5, seed=seed)
    nwbfile = pynwb.NWBFile(
        "simulated imaging",
        f"session-{seed}",
        datetime(2026, 1, 1, tzinfo=timezone.utc),
    )
    nwbfile.subject = pynwb.file.Subject(
        subject_id=f"animal{seed}", species="Mus musculus"
    )
    plane = nwbfile.create_imaging_plane(
        name="ImagingPlane",
        description="layer 2/3",
        location="VISp",
        indicator="GCaMP6f",
        excitation_lambda=920.0,
        optical_channel=OpticalChannel(
            name="green", description="GCaMP", emission_lambda=510.0
        ),
        device=nwbfile.create_device("microscope"),
    )
    ophys = nwbfile.create_processing_module("ophys", "ROIs and their activity")
    segmentation = ImageSegmentation()
    ophys.add(segmentation)
    rois = segmentation.create_plane_segmentation(
        "ROIs of the plane", plane, "PlaneSegmentation"
    )
    rois.add_column("accepted", "whether the ROI passed curation")
    rois.add_column("cell_type", "cell type from genetics")
    for roi, cell_type in enumerate(population.properties["cell_type"]):
        rois.add_roi(
            pixel_mask=[(roi, roi, 1.0)],
            accepted=roi != 7,
            cell_type=str(cell_type),
        )
    region = rois.create_roi_table_region("all ROIs", region=list(range(40)))
    ophys.add(Fluorescence())
    ophys["Fluorescence"].add_roi_response_series(
        RoiResponseSeries(
            name="RoiResponseSeries",
            data=fluorescence.T,
            rois=region,
            rate=7.5,
            unit="a.u.",
        )
    )
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)


sessions = [folder / f"animal{seed}.nwb" for seed in range(5)]
for seed, path in enumerate(sessions):
    write_session(path, seed)

# %%
# Read
# ----
# Raw fluorescence is converted to dF/F and each trace is divided by its 99th
# percentile. Rejected ROIs are left out (ROI 7 here).

populations = [nuclr.read_population(path) for path in sessions]
print(populations[0])
print(populations[0].metadata["prepared"])

figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
traces, rate = populations[0].traces, populations[0].sampling_frequency
axes.plot(
    np.arange(traces.shape[1]) / rate,
    traces[:6].T + 1.5 * np.arange(6),
    color="0.3",
    linewidth=0.6,
)
axes.set(
    title="six ROIs after preprocessing",
    xlabel="time (s)",
    yticks=[],
    xlim=(0, 120),
)

# %%
# Embed
# -----
# A model is trained at one frame rate. Recordings at other rates are resampled
# to it, and the provenance records both rates.

embeddings = [nuclr.embed(population, progress=False) for population in populations]
provenance = embeddings[0].provenance
print(f"model: {provenance.checkpoint}")
print(f"recorded at {provenance.frame_rate:g} frames/s")
print(f"resampled to {provenance.resampled_to:.3g} frames/s")

# %%
# Evaluate
# --------
# The first four animals are labelled. The baselines of imaged cells are the
# spectrum of the trace, its autocorrelation, and its correlations with the
# population.

labels = [population.properties["cell_type"] for population in populations]
animals = [population.metadata["subject"] for population in populations]
evaluation = nuclr.evaluate(
    embeddings[:4],
    labels[:4],
    animals[:4],
    target="cell_type",
    populations=populations[:4],
    n_jobs=1,
    progress=False,
)
evaluation.to_dataframe()[["macro-F1", "balanced accuracy", "ECE"]].round(2)

# %%
# Predict
# -------
# The fifth animal is new to the decoder. Its predicted cell types are written
# next to its ROIs.

decoder = nuclr.fit_decoder(embeddings[:4], labels[:4], animals[:4], target="cell_type")
decoder.save(folder / "cell_type.safetensors")
identities = decoder.predict(embeddings[4])
nuclr.write_nwb(sessions[4], embeddings[4], identities=identities, in_place=True)
correct = np.mean(identities.best_label == labels[4])
print(f"best guess correct: {correct:.0%} of {len(labels[4])} cells")

nuclr.plot_nuclr_embedding(
    embeddings[4],
    {"predicted (best guess)": identities.best_label, "true": labels[4]},
)

# %%
# With only four labelled animals the decoder cannot guarantee an error of at
# most 10 %, so ``label`` may be "unknown" for every cell although most best
# guesses are right. :doc:`/identities` explains how many animals it takes.

# %%
# Read with PyNWB
# ---------------
# Each row refers to its ROI.

with pynwb.NWBHDF5IO(sessions[4], "r") as io:
    predicted = io.read().processing["nuclr"]["cell_type"]
    print("rows refer to", predicted["neuron"].table.name)
    table = predicted.to_dataframe()[["label", "best_label", "reason", "confidence"]]
table.head()
