"""
Embeddings in a SpikeInterface pipeline
=======================================

Add one line to an existing SpikeInterface pipeline and every unit gets an
embedding, stored in the ``SortingAnalyzer`` next to waveforms, templates and
quality metrics. This example computes the embeddings, plots them, and shows
what happens to them when you curate: select, merge and save.
"""

# %%
# Your pipeline as it is
# ----------------------
# We simulate a short recording with known units. In your pipeline, the
# recording comes from a reader such as ``si.read_openephys`` and the units from
# ``si.run_sorter``.

import tempfile
from pathlib import Path

import spikeinterface.full as si

import spikeinterface_nuclr as nuclr  # registers the extensions

folder = Path(tempfile.mkdtemp())
si.set_global_job_kwargs(n_jobs=1, progress_bar=False)

recording, sorting = si.generate_ground_truth_recording(
    num_channels=16, num_units=20, durations=[60.0], seed=0
)
recording = si.common_reference(si.bandpass_filter(recording)).save(
    folder=folder / "preprocessed"
)
sorting = sorting.save(folder=folder / "sorting")

analyzer = si.create_sorting_analyzer(
    sorting, recording, format="binary_folder", folder=folder / "analyzer"
)
analyzer.compute(["random_spikes", "templates", "noise_levels", "unit_locations"])
analyzer.compute("quality_metrics", metric_names=["snr", "firing_rate"])

# %%
# Compute the embeddings
# ----------------------
# This is the new line. The extension reads spike times only, so it needs no
# recording and no other extension. It uses a GPU if there is one.

analyzer.compute("nuclr_embedding")

# %%
# ``get_data`` returns an array with one row per unit, a dictionary by unit
# (``outputs="by_unit"``), or a table. ``num_windows`` is the number of time
# windows that were averaged, and ``split_half_similarity`` the cosine
# similarity between the means of the odd and the even windows.

table = analyzer.get_extension("nuclr_embedding").get_data(outputs="dataframe")
table.iloc[:5, :6]

# %%
# Plot them
# ---------
# The first two principal components of the embeddings, coloured by depth along
# the probe.

nuclr.plot_nuclr_embedding(analyzer)

# %%
# Curate
# ------
# Selecting units keeps their embeddings, because the units were embedded
# together with all others.

metrics = analyzer.get_extension("quality_metrics").get_data()
good = analyzer.select_units(analyzer.unit_ids[metrics["snr"] > 5])
print(f"{len(analyzer.unit_ids)} units, {len(good.unit_ids)} with an SNR above 5")

# %%
# Merging or splitting recomputes all embeddings, because the embedding of a
# unit depends on the units recorded with it.

first, second = analyzer.unit_ids[:2]
merged = analyzer.merge_units([[first, second]], merging_mode="soft")
merged.get_extension("nuclr_embedding").get_data(outputs="dataframe").iloc[-3:, :4]

# %%
# Save
# ----
# The analyzer on disk already holds the result. A copy can be saved in any
# format that SpikeInterface offers.

good.save_as(format="zarr", folder=folder / "good.zarr")
reloaded = si.load_sorting_analyzer(folder / "good.zarr")
print(reloaded.get_extension("nuclr_embedding").get_data().shape)

# %%
# Every result records the model and the settings that produced it.

provenance = analyzer.get_extension("nuclr_embedding").get_embeddings().provenance
print(f"model: {provenance.checkpoint}, sha256 {provenance.checkpoint_sha256[:12]}…")
print(
    f"{provenance.windows} windows of {provenance.window_s:g} s on {provenance.device}"
)
