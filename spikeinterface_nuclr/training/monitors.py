"""Signs of learning, taken on animals that were held out. All but the probe need no label."""

from dataclasses import dataclass

import numpy as np

from ..decoding.scores import macro_f1
from ..embedding import embed
from ..errors import InputError
from ..model.checkpoint import Checkpoint
from ..population import Population


@dataclass(frozen=True, eq=False)
class Halves:
    """The neurons of one recording that have an embedding in both of its halves.

    Attributes
    ----------
    first, second : float32, shape (n, dim)
        Embeddings in either half, which were computed apart.
    units : int array, shape (n,)
        Positions of the neurons in the population.
    group : str array, shape (n,)
        Probe of each.
    split_half_similarity : float32, shape (n,)
        Agreement of odd and even windows in the first half; NaN where there is one window.
    """

    first: np.ndarray
    second: np.ndarray
    units: np.ndarray
    group: np.ndarray
    split_half_similarity: np.ndarray


def alternating(population: Population, block_s: float) -> tuple[Population, Population]:
    """A recording's two halves, made of alternating blocks of `block_s` seconds: slow changes touch both alike."""
    edges = np.arange(population.start, population.stop + block_s, block_s)
    blocks = np.stack([edges[:-1], edges[1:]], axis=1)
    return population.within(blocks[::2]), population.within(blocks[1::2])


def embed_halves(population: Population, checkpoint: Checkpoint, device: str = "auto") -> Halves:
    """Embed two halves of a recording apart, of blocks as long as a window; no neuron where a half holds no window."""
    try:
        halves = alternating(population, checkpoint.config.layout.of(population.sampling_frequency).window_s)
        first, second = (embed(half, checkpoint, device=device, progress=False) for half in halves)
        units = np.flatnonzero((first.num_windows > 0) & (second.num_windows > 0))
    except InputError:
        nothing = np.empty((0, checkpoint.config.dim), dtype=np.float32)
        return Halves(nothing, nothing, np.empty(0, dtype=int), population.group[:0], nothing[:, 0])
    return Halves(
        first.embedding[units],
        second.embedding[units],
        units,
        population.group[units],
        first.split_half_similarity[units],
    )


def reidentified(halves: Halves) -> np.ndarray:
    """Whether each neuron's nearest neighbour in the other half, among those of its probe, is itself.

    bool, shape (2 k,): both directions; neurons that are alone on their probe are left out.
    """
    hits = [np.empty(0, dtype=bool)]
    for label in np.unique(halves.group):
        of = halves.group == label
        if of.sum() > 1:
            hits.append(found_again(halves.first[of], halves.second[of]))
    return np.concatenate(hits)


def found_again(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Whether the nearest row (cosine) in the other array is the same row: bool, shape (2 n,), both directions.

    By hand: scikit-learn's neighbours and `pairwise_distances_argmin` find the same and take four times as long.
    """
    first, second = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (first, second))
    hits = [np.empty(0, dtype=bool)]
    for rows, others in ((first, second), (second, first)):
        # A thousand rows at a time: all against all of a hundred animals would fill the memory.
        for low in range(0, len(rows), 1000):
            nearest = (rows[low : low + 1000] @ others.T).argmax(axis=1)
            hits.append(nearest == low + np.arange(len(nearest)))
    return np.concatenate(hits)


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


def probe_score(embedding: np.ndarray, labels: np.ndarray, animals: np.ndarray) -> float:
    """macro-F1 of a linear probe on animals that it was not fitted to, one left out at a time.

    Labels that are empty or seen in one animal only are left out; NaN where fewer than two remain.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    shared = [label for label in np.unique(labels) if label and len(np.unique(animals[labels == label])) > 1]
    of = np.isin(labels, shared)
    if len(shared) < 2:
        return float("nan")
    probe = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
    said = cross_val_predict(probe, embedding[of], labels[of], groups=animals[of], cv=LeaveOneGroupOut())
    return macro_f1(labels[of], said)


def look(populations: list[Population], checkpoint: Checkpoint, *, device: str = "auto", probe: str = "") -> dict:
    """Monitors of one checkpoint on held-out recordings.

    Parameters
    ----------
    populations : list of Population
    checkpoint : Checkpoint
    device : str, default: "auto"
    probe : str, default: ""
        The property that `probe_score` is taken of.

    Returns
    -------
    dict of str to float
        "reidentification": top-1 re-identification accuracy within each population, mean over recordings.
        "reidentification_across": the same among the neurons of all recordings. "rank_me". "split_half_similarity":
        mean over neurons. "probe", where one is asked for. Empty where there is no recording.
    """
    if not populations:
        return {}
    halves = [embed_halves(population, checkpoint, device) for population in populations]
    first, second = (np.concatenate([getattr(h, name) for h in halves]) for name in ("first", "second"))
    split_half_similarity = np.concatenate([h.split_half_similarity for h in halves])
    found = {
        "reidentification": _mean([hits.mean() for hits in map(reidentified, halves) if len(hits)]),
        "reidentification_across": _mean(found_again(first, second)) if len(first) else float("nan"),
        "rank_me": rank_me(first),
        "split_half_similarity": _mean(split_half_similarity[np.isfinite(split_half_similarity)]),
    }
    if probe:
        known = [(p, h) for p, h in zip(populations, halves, strict=True) if probe in p.properties]
        if not known:
            raise InputError(f"probe {probe!r}: no held-out recording has labels of this name")
        labels = np.concatenate([p.properties[probe][h.units] for p, h in known])
        animals = np.concatenate([np.full(len(h.units), p.metadata["subject"]) for p, h in known])
        found["probe"] = probe_score(np.concatenate([h.first for _, h in known]), labels, animals)
    return found


def _mean(values) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
