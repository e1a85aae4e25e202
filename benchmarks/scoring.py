"""Top-1 re-identification accuracy of embeddings and of baseline features, and the scores of animals."""

from collections.abc import Callable

import numpy as np
import torch

from spikeinterface_nuclr import Checkpoint, InputError, Population, embed
from spikeinterface_nuclr.decoding import scores
from spikeinterface_nuclr.decoding.baselines import baseline_features
from spikeinterface_nuclr.decoding.readout import moments, standardised
from spikeinterface_nuclr.model.encoder import network_of

SEEDS = range(3)
RANDOM = "random weights"
Features = Callable[[Population], np.ndarray]  # (n_units, k), NaN rows where features are undefined


def model_features(checkpoint: Checkpoint) -> Features:
    """Embeddings as features; NaN rows for units, or whole recordings, without a window."""

    def features(population: Population) -> np.ndarray:
        try:
            return embed(population, checkpoint, progress=False).embedding.astype(float)
        except InputError:
            return np.full((population.n_units, checkpoint.config.embedding_dim), np.nan)

    return features


def random_weights(checkpoint: Checkpoint, seed: int) -> Checkpoint:
    """The same network with random weights."""
    torch.manual_seed(seed)
    return Checkpoint(checkpoint.config, network_of(checkpoint.config).state_dict(), checkpoint.card, f"random {seed}")


def rows_of(pair, name: str, checkpoint: Checkpoint) -> dict[str, list[tuple]]:
    """Features of both populations of a pair by each method, one entry per seed.

    Only for neurons with features of every method in both populations.
    """
    baselines = [baseline_features(side) for side in pair]
    seeds = [model_features(random_weights(checkpoint, seed)) for seed in SEEDS]
    rows = {name: [tuple(map(model_features(checkpoint), pair))]}
    rows |= {baseline: [tuple(side[baseline] for side in baselines)] for baseline in baselines[0]}
    rows[RANDOM] = [tuple(map(features, pair)) for features in seeds]
    finite = np.all([np.isfinite(s).any(axis=1) for pairs in rows.values() for sides in pairs for s in sides], axis=0)
    return {name: [tuple(side[finite] for side in sides) for sides in pairs] for name, pairs in rows.items()}


def scored(animals: dict[str, float]) -> dict:
    """Each animal's score, their mean and, with enough animals, its 95 % interval."""
    values = np.array(list(animals.values()), dtype=float)
    return {"score": with_interval(values.mean(), *scores.interval(values)), "animals": animals}


def with_interval(mean: float, low: float, high: float) -> list[float]:
    """Mean, low and high, or the mean alone if the limits are NaN."""
    return [float(value) for value in (mean, low, high) if np.isfinite(value)]


def top_1(first: np.ndarray, second: np.ndarray, standardise: bool) -> float:
    """Top-1 re-identification accuracy: fraction of rows whose nearest row in the other array is the same, both ways.

    Rows are normalised to unit length, except for a single feature. NaN is replaced by the column's mean.
    """
    rows = np.concatenate([first, second])
    mean, scale = moments(rows)
    rows = standardised(rows, mean, scale) if standardise else np.where(np.isfinite(rows), rows, mean)
    if rows.shape[1] > 1:
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    first, second = np.split(rows, 2)
    distance = ((first[:, None] - second[None]) ** 2).sum(axis=-1)
    same = np.arange(len(first))
    return float(np.mean([distance.argmin(axis=1) == same, distance.argmin(axis=0) == same]))


def best_scaling(validation: dict[str, list[dict]], test: dict[str, list[dict]]) -> dict:
    """Top-1 accuracy of every method in the test animals, with plain or standardised rows as selected in validation.

    Both arguments map an animal to its pairs of recordings, as from `rows_of`.
    """
    result = {}
    for method in next(pairs[0] for pairs in validation.values()):
        plain, scaled = (np.mean(list(mean_top_1(validation, method, flag).values())) for flag in (False, True))
        standardise = bool(scaled > plain)
        result[method] = scored(mean_top_1(test, method, standardise)) | {"standardised": standardise}
    return result


def mean_top_1(animals: dict[str, list[dict]], method: str, standardise: bool) -> dict[str, float]:
    """Each animal's mean of `top_1` over pairs and seeds, without pairs that have fewer than two neurons."""
    values_of = {
        animal: [top_1(*sides, standardise) for rows in pairs if count(rows) > 1 for sides in rows[method]]
        for animal, pairs in animals.items()
    }
    return {animal: float(np.mean(values)) for animal, values in values_of.items() if values}


def count(rows: dict[str, list[tuple]]) -> int:
    """Number of neurons in a pair."""
    return len(next(iter(rows.values()))[0][0])
