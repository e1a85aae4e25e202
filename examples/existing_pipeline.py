"""Add NuCLR to a SpikeInterface pipeline that you have already.

Two lines embed the units of the analyzer, one writes the embeddings into the session's NWB file. They are marked with
`<-`; the rest stands for what your pipeline does anyway.

    python examples/existing_pipeline.py [FOLDER]
"""

import sys
from datetime import datetime, timezone
from pathlib import Path

import pynwb
import spikeinterface.full as si

import spikeinterface_nuclr  # <- registers the extension

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "existing_pipeline")
folder.mkdir(parents=True)
si.set_global_job_kwargs(n_jobs=2, progress_bar=False)

# A recording, preprocessed; and its units. Yours come from `si.read_openephys` and `si.run_sorter`, say.
recording, sorting = si.generate_ground_truth_recording(num_channels=16, num_units=20, durations=[60.0], seed=0)
recording = si.common_reference(si.bandpass_filter(recording)).save(folder=folder / "preprocessed")
sorting = sorting.save(folder=folder / "sorting")

# Quality metrics.
analyzer = si.create_sorting_analyzer(sorting, recording, format="binary_folder", folder=folder / "analyzer")
analyzer.compute(["random_spikes", "waveforms", "templates", "noise_levels", "unit_locations"])
analyzer.compute("quality_metrics", metric_names=["snr", "firing_rate", "isi_violation"])

analyzer.compute("nuclr_embedding")  # <- one embedding for each unit

# Curation: units that pass keep the embeddings that they had among all.
metrics = analyzer.get_extension("quality_metrics").get_data()
analyzer = analyzer.select_units(analyzer.unit_ids[metrics["snr"] > 5])

# The session's NWB file, as neuroconv or your own code writes it.
nwbfile = pynwb.NWBFile("an existing pipeline", "session-1", datetime(2026, 1, 1, tzinfo=timezone.utc))
nwbfile.add_unit_column("unit_name", "unit id of the sorting")
for unit in analyzer.unit_ids:
    nwbfile.add_unit(spike_times=analyzer.sorting.get_unit_spike_train(unit, return_times=True), unit_name=str(unit))
with pynwb.NWBHDF5IO(folder / "session.nwb", "w") as io:
    io.write(nwbfile)

spikeinterface_nuclr.write_nwb(folder / "session.nwb", analyzer, in_place=True)  # <- beside the units table

# Later, anyone, with plain pynwb.
with pynwb.NWBHDF5IO(folder / "session.nwb", "r") as io:
    nwbfile = io.read()
    table = nwbfile.processing["nuclr"]["UnitEmbeddings"]
    names = nwbfile.units["unit_name"][:][table["neuron"].data[:]]
    print(f"{len(names)} units, from {names[0]} to {names[-1]}: embeddings of shape {table['embedding'].shape}")
    print(f"model: {table.model.source}, sha256 {table.model.sha256[:12]}…")
print(analyzer.get_extension("nuclr_embedding").get_data(outputs="dataframe").iloc[:5, :3])
