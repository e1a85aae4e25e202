"""From two-photon recordings in NWB files to predicted identities beside their ROIs.

A decoder is fitted to four labelled animals and applied to a fifth, whose file then holds what was predicted. All are
simulated: what tells their neurons apart is only whom they are active with. With files of your own, leave out the first
part; `nuclr embed`, `nuclr decoder fit` and `nuclr predict` do the others in a shell.

    python examples/imaging.py [FOLDER]
"""

import sys
from datetime import datetime, timezone
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
import pynwb
from pynwb.ophys import Fluorescence, ImageSegmentation, OpticalChannel, RoiResponseSeries

import spikeinterface_nuclr as nuclr

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "imaging")
folder.mkdir(parents=True)


def simulated_session(path, seed):
    """A file as imaging pipelines leave it: ROIs, their raw fluorescence, and which of them are cells."""
    population = nuclr.simulate_relations(40, 300.0, seed=seed)
    fluorescence = nuclr.simulate_fluorescence(population, frame_rate=7.5, seed=seed)
    nwbfile = pynwb.NWBFile("simulated imaging", f"session-{seed}", datetime(2026, 1, 1, tzinfo=timezone.utc))
    nwbfile.subject = pynwb.file.Subject(subject_id=f"animal{seed}", species="Mus musculus")
    plane = nwbfile.create_imaging_plane(
        name="ImagingPlane", description="layer 2/3", location="VISp", indicator="GCaMP6f", excitation_lambda=920.0,
        optical_channel=OpticalChannel(name="green", description="GCaMP", emission_lambda=510.0),
        device=nwbfile.create_device("microscope"),
    )  # fmt: skip
    ophys = nwbfile.create_processing_module("ophys", "ROIs and their activity")
    segmentation = ImageSegmentation()
    ophys.add(segmentation)
    rois = segmentation.create_plane_segmentation("ROIs of the plane", plane, "PlaneSegmentation")
    rois.add_column("accepted", "whether curation calls the ROI a cell")
    rois.add_column("cell_type", "from genetics")
    for roi, cell_type in enumerate(population.properties["cell_type"]):
        rois.add_roi(pixel_mask=[(roi, roi, 1.0)], accepted=roi != 7, cell_type=str(cell_type))
    region = rois.create_roi_table_region("all ROIs", region=list(range(40)))
    ophys.add(Fluorescence())
    ophys["Fluorescence"].add_roi_response_series(
        RoiResponseSeries(name="RoiResponseSeries", data=fluorescence.T, rois=region, rate=7.5, unit="a.u.")
    )
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)


sessions = [folder / f"animal{seed}.nwb" for seed in range(5)]
for seed, path in enumerate(sessions):
    simulated_session(path, seed)

# Raw fluorescence becomes dF/F on the way in, on a scale that all neurons share; rejected ROIs stay out.
populations = [nuclr.read_population(path) for path in sessions]
print(populations[0], "-", populations[0].metadata["prepared"])

# The model has a frame rate of its own: traces are brought to it, and the provenance says so.
embeddings = [nuclr.embed(population, progress=False) for population in populations]
provenance = embeddings[0].provenance
print(
    f"{provenance['checkpoint']}: from {provenance['frame_rate']:g} to {provenance['resampled_to']:.3g} frames a second"
)

# How well are the types read in an animal that the decoder was not fitted to? Beside what can be read without.
labels = [population.properties["cell_type"] for population in populations]
animals = [population.metadata["subject"] for population in populations]
evaluation = nuclr.evaluate(
    embeddings[:4], labels[:4], animals[:4], target="cell_type", populations=populations[:4], progress=False
)
print(evaluation.to_dataframe()[["macro-F1", "ECE"]].round(2))
nuclr.plot_nuclr_evaluation(evaluation).figure.savefig(folder / "evaluation.png", dpi=120)

# The fifth animal: what its neurons are, as predicted, beside its ROIs.
decoder = nuclr.fit_decoder(embeddings[:4], labels[:4], animals[:4], target="cell_type")
decoder.save(folder / "cell_type.safetensors")
identities = nuclr.Decoder.load(folder / "cell_type.safetensors").predict(embeddings[4])
nuclr.write_nwb(sessions[4], embeddings[4], identities=identities, in_place=True)
panels = {"predicted": identities.label, "true": labels[4]}
nuclr.plot_nuclr_embedding(embeddings[4], panels).figure.savefig(folder / "embedding_map.png", dpi=120)
print(f"right: {np.mean(identities.best_label == labels[4]):.2f} of {len(labels[4])} neurons")

# Later, anyone, with plain pynwb: each row names its ROI.
with pynwb.NWBHDF5IO(sessions[4], "r") as io:
    predicted = io.read().processing["nuclr"]["cell_type"]
    print(
        f"{predicted.target}: {list(predicted.classes[:])}, by {predicted.decoder}, of {predicted['neuron'].table.name}"
    )
    print(predicted.to_dataframe()[["label", "best_label", "reason", "confidence"]].head())
