"""Sphinx configuration: numpydoc, as SpikeInterface."""

from spikeinterface_nuclr import __version__

project = "spikeinterface-nuclr"
author = "The spikeinterface-nuclr developers"
release = __version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc"]
autosummary_generate = True
numpydoc_show_class_members = False
exclude_patterns = ["_build"]
html_theme = "alabaster"
