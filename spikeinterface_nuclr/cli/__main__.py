"""`python -m spikeinterface_nuclr.cli` is the `nuclr` command."""

from . import main

if __name__ == "__main__":
    main()
