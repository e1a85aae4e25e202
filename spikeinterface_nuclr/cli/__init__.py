"""The command line: one file a command. Results go to stdout, progress to stderr.

Exit codes: 2 usage, 3 bad input, 4 model, 5 device or memory. Commands import what computes only when they run, so that
help and usage errors come at once.
"""

import os
import sys

from . import convert, decoder, demo, embed, evaluate, info, predict, store, train  # noqa: F401 (they add commands)
from .app import app


def main() -> None:
    """Entry point of the `nuclr` command."""
    os.environ.setdefault("MPLBACKEND", "Agg")  # figures go into files: no window, and none needed
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # escapes characters of names that the terminal's encoding lacks
    app(prog_name="nuclr")
