"""The view of spikeinterface-gui: a map of the embeddings, and what is known of the selected unit.

spikeinterface-gui finds it by the entry point ``spikeinterface_gui.views``. Its name in layouts is "nuclr".
"""
