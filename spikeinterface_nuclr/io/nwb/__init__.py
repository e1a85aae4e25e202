"""Embeddings, predictions and matches in an NWB file, in ``nwbfile.processing["nuclr"]``.

A file is never modified in place. A copy is written beside its destination, extended, validated, compared with the
original and read back, and then moved to its destination in one step.
"""

from .match_tables import read_matches, write_matches
from .reading import read_nwb
from .writing import write_nwb

__all__ = ["read_matches", "read_nwb", "write_matches", "write_nwb"]
