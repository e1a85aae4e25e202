"""What SpikeInterface's SortingAnalyzer learns to compute. Importing registers it."""

from .embedding import ComputeNuCLREmbedding, compute_nuclr_embedding, computed_embedding
from .identity import ComputeNuCLRIdentity, compute_nuclr_identity, computed_identity

__all__ = [
    "ComputeNuCLREmbedding",
    "ComputeNuCLRIdentity",
    "compute_nuclr_embedding",
    "compute_nuclr_identity",
    "computed_embedding",
    "computed_identity",
]
