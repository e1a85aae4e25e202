"""Runs the `nuclr` command as `python -m spikeinterface_nuclr.cli`."""

from . import main

if __name__ == "__main__":
    main()
