"""From a sorted recording to predicted identities along the probe, and into the NWB file.

A decoder is fitted to five labelled animals, evaluated on each in turn, and then applied to a sixth. All are simulated:
their cell types are known. With recordings of your own, `nuclr decoder fit` does the first part in a shell.

    python examples/identities.py [FOLDER]
"""

import sys
from datetime import datetime, timezone
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import pynwb

import spikeinterface_nuclr as nuclr
from spikeinterface_nuclr.simulation import analyzer_of

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "identities")
folder.mkdir(parents=True)

# Labelled animals. Yours come from `read_population("labelled.nwb")`, with a column of the units table as the label.
animals = [f"animal{k}" for k in range(5)]
populations = [nuclr.simulate_population(40, 120.0, seed=k) for k in range(5)]
embeddings = [nuclr.embed(population, progress=False) for population in populations]
labels = [population.properties["cell_type"] for population in populations]

# How well is the cell type read in an animal that the decoder was not fitted to? Beside what can be read without.
evaluation = nuclr.evaluate(
    embeddings, labels, animals, target="cell_type", populations=populations, shuffles=20, progress=False
)
print(evaluation.verdict)
print(evaluation.to_dataframe()[["macro-F1", "ECE"]].round(2))
nuclr.plot_nuclr_evaluation(evaluation).figure.savefig(folder / "evaluation.png", dpi=120)

# The decoder, of all of them.
decoder = nuclr.fit_decoder(embeddings, labels, animals, target="cell_type")
decoder.save(folder / "cell_type.safetensors")

# A new animal: sorted, as a SortingAnalyzer. Two lines give every unit an identity.
analyzer = analyzer_of(nuclr.simulate_population(40, 120.0, seed=99))
analyzer.compute({"nuclr_embedding": {}, "nuclr_identity": {"decoder": folder / "cell_type.safetensors"}})

table = analyzer.get_extension("nuclr_identity").get_data()
print(table.head())
nuclr.plot_nuclr_identity(analyzer).figure.savefig(folder / "identities.png", dpi=120)

# Into the session's NWB file, beside the units table.
nwbfile = pynwb.NWBFile("a new animal", "session-99", datetime(2026, 1, 1, tzinfo=timezone.utc))
nwbfile.add_unit_column("unit_name", "unit id of the sorting")
for unit in analyzer.unit_ids:
    nwbfile.add_unit(spike_times=analyzer.sorting.get_unit_spike_train(unit, return_times=True), unit_name=str(unit))
with pynwb.NWBHDF5IO(folder / "session.nwb", "w") as io:
    io.write(nwbfile)
nuclr.write_nwb(folder / "session.nwb", analyzer, in_place=True)

# Later, anyone, with plain pynwb.
with pynwb.NWBHDF5IO(folder / "session.nwb", "r") as io:
    predicted = io.read().processing["nuclr"]["cell_type"]
    print(f"{predicted.target}: {list(predicted.classes[:])}, by {predicted.decoder}")
    print(predicted.to_dataframe()[["label", "best_label", "reason", "confidence"]].head())
