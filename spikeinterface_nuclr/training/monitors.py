"""Label-free signs of learning, taken on recordings that were held out."""

import numpy as np

from ..checkpoint import Checkpoint
from ..embedding import embed
from ..errors import InputError
from ..population import Population


def reidentification(population: Population, checkpoint: Checkpoint, device: str = "auto"):
    """How often a neuron of the first half of a recording finds itself in the second half.

    The halves are embedded apart. A neuron finds itself when its nearest neighbour (cosine) among the neurons of the
    other half, of its own probe, is itself.

    Returns
    -------
    hits : bool, shape (k,)
        Whether each neuron that has a window in both halves found itself, in both directions. Empty where a half
        holds no window.
    embedding : float32, shape (m, dim)
        Embeddings of the first half, rows of neurons without a window left out.
    """
    middle = (population.start + population.stop) / 2
    nothing = np.empty(0, dtype=bool), np.empty((0, checkpoint.config.dim), dtype=np.float32)
    try:
        halves = [population.between(population.start, middle), population.between(middle, population.stop)]
        first, second = (embed(half, checkpoint, device=device, progress=False).embedding for half in halves)
    except InputError:
        return nothing
    both = np.isfinite(first[:, 0]) & np.isfinite(second[:, 0])
    hits = []
    for _, units in population.groups():
        units = units[both[units]]
        if len(units) > 1:
            hits += [nearest_is_self(first[units], second[units]), nearest_is_self(second[units], first[units])]
    return np.concatenate(hits) if hits else nothing[0], first[np.isfinite(first[:, 0])]


def nearest_is_self(query: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Whether the row of `key` nearest (cosine) to each row of `query` is the same row: bool, shape (n,)."""
    query = query / np.linalg.norm(query, axis=1, keepdims=True)
    key = key / np.linalg.norm(key, axis=1, keepdims=True)
    return (query @ key.T).argmax(axis=1) == np.arange(len(query))


def rank_me(embedding: np.ndarray) -> float:
    """Exponential of the entropy of the normalised eigenvalues of the embeddings' covariance.

    The number of dimensions in use, between 1 and dim (Garrido et al. 2023).
    """
    if len(embedding) < 2:
        return float("nan")
    centred = embedding - embedding.mean(axis=0)
    eigenvalues = np.linalg.svd(centred, compute_uv=False) ** 2
    p = eigenvalues / eigenvalues.sum()
    p = p[p > 0]
    return float(np.exp(-(p * np.log(p)).sum()))
