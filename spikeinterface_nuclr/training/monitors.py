"""Monitors of training on held-out animals. All except the linear probe need no labels."""

from dataclasses import dataclass

import numpy as np

from ..decoding.scores import macro_f1
from ..embedding import embed
from ..errors import InputError
from ..model.checkpoint import Checkpoint
from ..population import Population


@dataclass(frozen=True, eq=False)
class Halves:
    """Neurons of one recording with an embedding in both of its halves.

    Attributes
    ----------
    first, second : float32, shape (n, dim)
        Embeddings in each half, computed separately.
    units : int array, shape (n,)
        Positions of the neurons in the population.
    group : str array, shape (n,)
        Probe of each neuron.
    split_half_similarity : float32, shape (n,)
        Cosine similarity between odd and even windows of the first half; NaN for a single window.
    """

    first: np.ndarray
    second: np.ndarray
    units: np.ndarray
    group: np.ndarray
    split_half_similarity: np.ndarray


def alternating(population: Population, block_s: float) -> tuple[Population, Population]:
    """Split a recording into halves of alternating blocks of `block_s` seconds, so that slow drift affects both."""
    edges = np.arange(population.start, population.stop + block_s, block_s)
    blocks = np.stack([edges[:-1], edges[1:]], axis=1)
    return population.within(blocks[::2]), population.within(blocks[1::2])


def embed_halves(population: Population, checkpoint: Checkpoint, device: str = "auto") -> Halves:
    """Embed the halves of a recording, of alternating windows; without neurons if a half contains no window."""
    try:
        halves = alternating(population, checkpoint.config.layout.of(population.sampling_frequency).window_s)
        first, second = (embed(half, checkpoint, device=device, progress=False) for half in halves)
        units = np.flatnonzero((first.num_windows > 0) & (second.num_windows > 0))
    except InputError:
        empty = np.empty((0, checkpoint.config.embedding_dim), dtype=np.float32)
        return Halves(empty, empty, np.empty(0, dtype=int), population.group[:0], empty[:, 0])
    return Halves(
        first.embedding[units],
        second.embedding[units],
        units,
        population.group[units],
        first.split_half_similarity[units],
    )


def reidentified(halves: Halves) -> np.ndarray:
    """Whether each neuron's nearest neighbour in the other half, among the neurons of its probe, is the same neuron.

    bool, shape (2 k,): both directions; neurons that are alone on their probe are left out.
    """
    hits = [np.empty(0, dtype=bool)]
    for label in np.unique(halves.group):
        mask = halves.group == label
        if mask.sum() > 1:
            hits.append(top_1_hits(halves.first[mask], halves.second[mask]))
    return np.concatenate(hits)


def top_1_hits(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Whether the nearest row (cosine) in the other array is the same row: bool, shape (2 n,), both directions.

    By hand: scikit-learn's neighbours and `pairwise_distances_argmin` give the same and take four times as long.
    """
    first, second = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (first, second))
    hits = [np.empty(0, dtype=bool)]
    for rows, others in ((first, second), (second, first)):
        # A thousand rows at a time, because all pairs of a hundred animals would fill the memory.
        for low in range(0, len(rows), 1000):
            nearest = (rows[low : low + 1000] @ others.T).argmax(axis=1)
            hits.append(nearest == low + np.arange(len(nearest)))
    return np.concatenate(hits)


def rank_me(embedding: np.ndarray) -> float:
    """Effective dimensionality of embeddings, between 1 and dim (RankMe, Garrido et al. 2023).

    Computed as the exponential of the entropy of the normalised eigenvalues of their covariance.
    """
    if len(embedding) < 2:
        return float("nan")
    centred = embedding - embedding.mean(axis=0)
    eigenvalues = np.linalg.svd(centred, compute_uv=False) ** 2
    p = eigenvalues / eigenvalues.sum()
    p = p[p > 0]
    return float(np.exp(-(p * np.log(p)).sum()))


def probe_score(embedding: np.ndarray, labels: np.ndarray, animals: np.ndarray) -> float:
    """Macro-F1 of a linear probe, cross-validated by leaving one animal out.

    Labels that are empty or occur in a single animal are left out; NaN if fewer than two remain.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    shared = [label for label in np.unique(labels) if label and len(np.unique(animals[labels == label])) > 1]
    mask = np.isin(labels, shared)
    if len(shared) < 2:
        return float("nan")
    probe = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
    predicted = cross_val_predict(probe, embedding[mask], labels[mask], groups=animals[mask], cv=LeaveOneGroupOut())
    return macro_f1(labels[mask], predicted)


def monitor(populations: list[Population], checkpoint: Checkpoint, *, device: str = "auto", probe: str = "") -> dict:
    """Evaluate a checkpoint on held-out recordings.

    Parameters
    ----------
    populations : list of Population
    checkpoint : Checkpoint
    device : str, default: "auto"
    probe : str, default: ""
        Property for `probe_score`. Empty: none.

    Returns
    -------
    dict of str to float
        "reidentification": top-1 re-identification accuracy within each population, mean over recordings.
        "reidentification_across": the same among the neurons of all recordings. "rank_me". "split_half_similarity":
        mean over neurons. "probe", if requested. Empty without recordings.
    """
    if not populations:
        return {}
    halves = [embed_halves(population, checkpoint, device) for population in populations]
    first, second = (np.concatenate([getattr(h, name) for h in halves]) for name in ("first", "second"))
    split_half_similarity = np.concatenate([h.split_half_similarity for h in halves])
    row = {
        "reidentification": _mean([hits.mean() for hits in map(reidentified, halves) if len(hits)]),
        "reidentification_across": _mean(top_1_hits(first, second)) if len(first) else float("nan"),
        "rank_me": rank_me(first),
        "split_half_similarity": _mean(split_half_similarity[np.isfinite(split_half_similarity)]),
    }
    if probe:
        labelled = [(p, h) for p, h in zip(populations, halves, strict=True) if probe in p.properties]
        if not labelled:
            raise InputError(f"probe {probe!r}: no held-out recording has labels of this name")
        labels = np.concatenate([p.properties[probe][h.units] for p, h in labelled])
        animals = np.concatenate([np.full(len(h.units), p.metadata["subject"]) for p, h in labelled])
        row["probe"] = probe_score(np.concatenate([h.first for _, h in labelled]), labels, animals)
    return row


def _mean(values) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
