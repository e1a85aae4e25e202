"""`python -m spikeinterface_nuclr` is the `nuclr` command."""

from .cli import main

if __name__ == "__main__":
    main()
