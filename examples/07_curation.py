"""
Look at identities and correct them
===================================

See predicted cell types in spikeinterface-gui, correct those that are wrong,
and get the corrections back as labels. Here without a window, so that the
example runs anywhere: the window does the same.
"""

# %%
# An analyzer with identities
# ---------------------------
# We simulate a probe. The simulation knows the true cell types; the analyzer
# does not.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import spikeinterface as si
from spikeinterface.curation import apply_curation

import spikeinterface_nuclr as nuclr
from spikeinterface_nuclr.simulation import simulate_analyzer

analyzer = simulate_analyzer(60, 120.0, seed=500)
truth = analyzer.get_sorting_property("cell_type")
analyzer.sorting.delete_property("cell_type")
analyzer.compute("nuclr_embedding", progress_bar=False)
analyzer.compute("nuclr_identity", decoder="simulated-cell-type")
folder = Path(tempfile.mkdtemp()) / "analyzer"
analyzer = analyzer.save_as(folder=folder, format="binary_folder")

nuclr.plot_nuclr_embedding(analyzer)
plt.show()

# %%
# In the window
# -------------
# ``nuclr gui analyzer --curation``, or in Python
# ``nuclr.open_gui(analyzer, curation=True)``, opens spikeinterface-gui with the
# map. The list of units has a column ``nuclr_cell_type`` with the predictions,
# and an empty column ``cell_type``, which is yours. "Save curation" writes
# what you enter into the analyzer's folder.
#
# Why did a unit get its label? The labelled neurons of the decoder that it
# resembles most, which the window shows too:

embeddings = analyzer.get_extension("nuclr_embedding").get_embeddings()
decoder = nuclr.Decoder.load("simulated-cell-type")
print(decoder.nearest_labelled(embeddings, count=3).head(6).to_string())

# %%
# The same without a window
# -------------------------
# :func:`~spikeinterface_nuclr.nuclr_curation` makes the curation that the
# window begins with, in SpikeInterface's own format. We enter the true type of
# the first ten units, and remove one.

curation = nuclr.nuclr_curation(analyzer)
for entry, label in list(zip(curation["manual_labels"], truth.tolist(), strict=True))[
    :10
]:
    entry["labels"]["cell_type"] = [label]
curation["removed"] = [curation["unit_ids"][-1]]
print(curation["manual_labels"][0])

# %%
# ``apply_curation`` takes it, and the labels are sorting properties.

curated = apply_curation(analyzer, curation)
print(curated.get_num_units(), curated.get_sorting_property("cell_type")[:12])

# %%
# The corrections are labels to learn from
# ----------------------------------------
# Every reader of this package finds them, so a decoder can be fitted to them;
# with as few as here it will be unsure of itself. The predictions are kept
# apart, so that no decoder is fitted to what another has guessed.

population = nuclr.read_population(curated)
labels = population.properties["cell_type"]
print((labels != "").sum(), "labels:", sorted(set(labels.tolist()) - {""}))
print(
    si.load_sorting_analyzer(folder).get_extension("nuclr_identity").get_data().head(3)
)
