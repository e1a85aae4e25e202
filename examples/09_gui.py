"""
The window
==========

spikeinterface-gui with the map of embeddings: click a unit in the map and see
why it got its label. This example is executed where the extra ``gui`` is
installed.
"""

# %%
# What the window needs
# ---------------------
# An analyzer with embeddings, identities and the extensions that
# spikeinterface-gui shows.

import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import spikeinterface_nuclr as nuclr
from spikeinterface_nuclr.simulation import simulate_analyzer

analyzer = simulate_analyzer(40, 60.0, seed=500)
analyzer.sorting.delete_property("cell_type")
analyzer.compute(
    ["random_spikes", "templates", "unit_locations", "noise_levels"], verbose=False
)
analyzer.compute("nuclr_embedding", progress_bar=False)
analyzer.compute("nuclr_identity", decoder="simulated-cell-type")
folder = Path(tempfile.mkdtemp()) / "analyzer"
analyzer = analyzer.save_as(folder=folder, format="binary_folder")

# %%
# Open it
# -------
# ``nuclr gui analyzer --curation`` does the same. This page was made without a
# screen, which takes the line with ``offscreen``, and without starting the
# application, so that the example ends; leave both out to see the window.

os.environ["QT_QPA_PLATFORM"] = "offscreen"

from spikeinterface_gui.myqt import mkQApp

application = mkQApp()
window = nuclr.open_gui(analyzer, curation=True, start_app=False, with_traces=False)
window.resize(1500, 850)

# %%
# Select a unit
# -------------
# As a click on its point in the map does. The list of units follows, and the
# view tells the unit's label, its probabilities, and what it resembles.

view = window.views["nuclr"]
view.show_units([7], add=False)
window.docks["nuclr"].raise_()
for _ in range(50):
    application.processEvents()
selected = window.controller.get_visible_unit_ids()
picture = folder.parent / "window.png"
window.grab().save(str(picture))

figure = plt.figure(figsize=(15, 8.5), layout="constrained")
axis = figure.add_subplot()
axis.imshow(plt.imread(picture))
axis.set_axis_off()
plt.show()
window.close()
