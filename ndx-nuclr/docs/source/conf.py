"""Sphinx configuration of the format's documentation."""

from importlib import metadata

project = "ndx-nuclr"
author = "The spikeinterface-nuclr developers"
release = metadata.version("ndx-nuclr")
extensions = ["sphinx_rtd_theme"]
html_theme = "sphinx_rtd_theme"
exclude_patterns = ["_format_auto_docs"]
numfig = True
