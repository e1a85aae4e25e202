"""The command line: results on stdout, progress on stderr; exit code 2 for usage, 3 for bad input, 4 for the model,
5 for the device.
"""

import os
import sys

from . import decoding, recordings, training  # noqa: F401 (they add their commands)
from .app import app


def main() -> None:
    """Entry point of the `nuclr` command."""
    os.environ.setdefault("MPLBACKEND", "Agg")  # figures go into files: no window, and none needed
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a name that the terminal's alphabet lacks is shown all the same
    app(prog_name="nuclr")
