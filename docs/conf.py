"""Sphinx configuration of the documentation site.

    pip install ./ndx-nuclr ".[docs]"
    sphinx-build -W --keep-going -n docs docs/_build/html

The build executes the examples and needs no network. `_ext/generated.py` writes the pages that come from the code: the
command line and the NWB types.
"""

import importlib.util
import os
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
# Examples run without a network, a display or a progress bar, and with the same result on every machine.
os.environ |= {"HF_HUB_OFFLINE": "1", "MPLBACKEND": "Agg", "TQDM_DISABLE": "1", "CUDA_VISIBLE_DEVICES": ""}

from spikeinterface_nuclr import __version__

project = "spikeinterface-nuclr"
author = "The spikeinterface-nuclr developers"
copyright = author
release = version = __version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "generated",
]
exclude_patterns = ["_build", "generated/*.inc", "models"]
# Single backticks in docstrings are code, and link where they name something that this site documents.
default_role = "py:obj"
smartquotes = False  # it would turn the dashes of --options into en dashes

# Markdown
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

# Docstrings
autosummary_generate = True
templates_path = ["_templates"]
autodoc_typehints = "none"  # numpydoc says the types
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
# What need not be found: names in single backticks, which may be parameters; and, as the build needs no network, other
# packages.
nitpick_ignore_regex = [
    ("py:obj", ".*"),
    ("py:.*", r"(numpy|pandas|torch|pathlib|spikeinterface|pynwb|matplotlib)\b.*"),
]

# Examples
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    # One example opens a window of spikeinterface-gui, where that is installed.
    "ignore_pattern": "__init__" if importlib.util.find_spec("spikeinterface_gui") else "__init__|09_gui",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "ignore_repr_types": r"Compute|Widget|matplotlib|Path|list",  # shown are tables and figures, not objects
    "download_all_examples": False,
    "show_signature": False,
    "show_memory": False,
    "write_computation_times": False,
    "min_reported_time": 1e6,
    "matplotlib_animations": False,
    "remove_config_comments": True,
}
# SpikeInterface says so of every simulated recording that is saved.
warnings.filterwarnings("ignore", message="The extractor is not serializable to file")

# Pages
html_theme = "pydata_sphinx_theme"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {"index": [], "get_started": []}
