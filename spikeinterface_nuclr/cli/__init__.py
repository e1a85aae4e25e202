"""The command line, one module per command. Results go to stdout, progress to stderr.

Exit codes: 2 usage, 3 bad input, 4 model, 5 device or memory. Commands import torch, pynwb and other slow libraries
only when they run, so that help and usage errors appear immediately.
"""

import os
import sys

from . import (  # noqa: F401 (each adds its command)
    brainwidebench,
    convert,
    decoder,
    demo,
    embed,
    evaluate,
    gui,
    info,
    match,
    oversplits,
    predict,
    publish,
    report,
    step,
    store,
    train,
)
from .app import app


def main() -> None:
    """Entry point of the `nuclr` command."""
    os.environ.setdefault("MPLBACKEND", "Agg")  # figures are only written to files
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # escape characters that the terminal's encoding lacks
    app(prog_name="nuclr")
