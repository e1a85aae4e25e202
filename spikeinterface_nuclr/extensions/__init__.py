"""What SpikeInterface's SortingAnalyzer learns to compute: nuclr_embedding. Importing registers it."""

from .embedding import ComputeNuCLREmbedding, compute_nuclr_embedding, computed_embedding

__all__ = ["ComputeNuCLREmbedding", "compute_nuclr_embedding", "computed_embedding"]
