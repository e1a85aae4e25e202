"""write_nwb and read_nwb: embeddings in an NWB file, in ``nwbfile.processing["nuclr"]``.

A file is never changed where it lies. A copy is made beside it, extended, validated, compared with the original and
read back; then it takes the place that it was made for, in one step.
"""

from .reading import read_nwb
from .writing import write_nwb

__all__ = ["read_nwb", "write_nwb"]
