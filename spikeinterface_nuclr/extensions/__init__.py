"""What SpikeInterface's SortingAnalyzer learns to compute. Importing registers it."""

from .embedding import ComputeNuCLREmbedding, compute_nuclr_embedding, computed_embedding
from .estimate import ComputeNuCLREstimate, compute_nuclr_estimate, computed_estimate
from .identity import ComputeNuCLRIdentity, compute_nuclr_identity, computed_identity
from .neurons import set_neuron_ids

__all__ = [
    "ComputeNuCLREmbedding",
    "ComputeNuCLREstimate",
    "ComputeNuCLRIdentity",
    "compute_nuclr_embedding",
    "compute_nuclr_estimate",
    "compute_nuclr_identity",
    "computed_embedding",
    "computed_estimate",
    "computed_identity",
    "set_neuron_ids",
]
