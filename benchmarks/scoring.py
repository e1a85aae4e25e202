"""What the benchmarks of quality share: features of models, top-1 re-identification accuracy, scores of animals."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from spikeinterface_nuclr import Checkpoint, InputError, Population, UnitEmbeddings, embed
from spikeinterface_nuclr.decoding import scores
from spikeinterface_nuclr.decoding.baselines import baseline_features
from spikeinterface_nuclr.decoding.readout import moments, standardised
from spikeinterface_nuclr.model.encoder import network_of

SEEDS = range(3)
RANDOM = "random weights"
# Several tasks and pairs need the same recordings.
_EMBEDDINGS: dict[tuple[str, str], UnitEmbeddings] = {}
_BASELINES: dict[str, dict[str, np.ndarray]] = {}
Features = Callable[[Population], np.ndarray]  # (n_units, k), NaN rows where features are undefined


@dataclass(frozen=True, eq=False)
class Pair:
    """Two recordings with neurons in common, or the halves of one.

    Attributes
    ----------
    sides : two Populations
    units : two int arrays
        Positions of the neurons of each side that are candidates.
    same : int array, shape (m, 2)
        Positions among the candidates of both sides of each common neuron.
    """

    sides: tuple[Population, Population]
    units: tuple[np.ndarray, np.ndarray]
    same: np.ndarray

    @classmethod
    def of_halves(cls, halves: tuple[Population, Population], min_spikes: int = 0) -> "Pair":
        """The halves of a recording, with the neurons that have this number of spikes in each."""
        units = np.arange(halves[0].n_units)
        if min_spikes:
            units = np.flatnonzero(np.min([half.num_spikes for half in halves], axis=0) >= min_spikes)
        return cls(halves, (units, units), np.stack([np.arange(len(units))] * 2, axis=1))


@dataclass(frozen=True, eq=False)
class Rows:
    """Features of the candidates of a pair by every method; one entry for each seed.

    Attributes
    ----------
    methods : dict of str to list of pairs of arrays
    same : int array, shape (m, 2)
        As in `Pair`.
    """

    methods: dict[str, list[tuple[np.ndarray, np.ndarray]]]
    same: np.ndarray

    @classmethod
    def of(cls, pair: Pair, name: str, checkpoint: Checkpoint) -> "Rows":
        """Features of neurons for which every method has them."""
        functions = {name: [model_features(checkpoint)]}
        functions[RANDOM] = [model_features(random_weights(checkpoint, seed)) for seed in SEEDS]
        baselines = [cached_baselines(side) for side in pair.sides]
        methods = {name: [tuple(map(functions[name][0], pair.sides))]}
        methods |= {baseline: [tuple(side[baseline] for side in baselines)] for baseline in baselines[0]}
        methods[RANDOM] = [tuple(map(function, pair.sides)) for function in functions[RANDOM]]
        methods = {
            method: [tuple(rows[units] for rows, units in zip(sides, pair.units, strict=True)) for sides in seeds]
            for method, seeds in methods.items()
        }
        every = [sides for seeds in methods.values() for sides in seeds]
        finite = [np.all([np.isfinite(sides[side]).any(axis=1) for sides in every], axis=0) for side in (0, 1)]
        position = [np.cumsum(mask) - 1 for mask in finite]
        kept = finite[0][pair.same[:, 0]] & finite[1][pair.same[:, 1]]
        same = np.stack([position[side][pair.same[kept, side]] for side in (0, 1)], axis=1)
        return cls(
            {
                method: [tuple(rows[mask] for rows, mask in zip(sides, finite, strict=True)) for sides in seeds]
                for method, seeds in methods.items()
            },
            same,
        )

    def chance(self) -> float:
        """Top-1 accuracy of a guess."""
        first, second = next(iter(self.methods.values()))[0]
        return float(np.mean([1 / len(first), 1 / len(second)]))


def rows_of_animals(pairs: dict[str, Iterable[Pair]], name: str, model_of: Callable) -> dict[str, list[Rows]]:
    """Rows of each animal's pairs that have two common neurons or more, with the model for this animal."""
    result = {}
    for animal, of_animal in pairs.items():
        rows = [Rows.of(pair, name, model_of(animal)) for pair in tqdm(list(of_animal), desc=animal)]
        if rows := [row for row in rows if len(row.same) > 1]:
            result[animal] = rows
    return result


def model_features(checkpoint: Checkpoint) -> Features:
    """Embeddings as features; NaN rows for units, or whole recordings, without a window."""

    def features(population: Population) -> np.ndarray:
        try:
            return cached_embeddings(population, checkpoint).embedding.astype(float)
        except InputError:
            return np.full((population.n_units, checkpoint.config.embedding_dim), np.nan)

    return features


def cached_embeddings(population: Population, checkpoint: Checkpoint) -> UnitEmbeddings:
    """As `embed`."""
    key = checkpoint.sha256, population.fingerprint()
    if key not in _EMBEDDINGS:
        _EMBEDDINGS[key] = embed(population, checkpoint, progress=False)
    return _EMBEDDINGS[key]


def cached_baselines(population: Population) -> dict[str, np.ndarray]:
    """As `baseline_features`."""
    key = population.fingerprint()
    if key not in _BASELINES:
        _BASELINES[key] = baseline_features(population)
    return _BASELINES[key]


def random_weights(checkpoint: Checkpoint, seed: int) -> Checkpoint:
    """The same network with random weights."""
    torch.manual_seed(seed)
    weights = network_of(checkpoint.config).state_dict()
    return Checkpoint(checkpoint.config, weights, checkpoint.card, f"random {seed}")


def top_1(first: np.ndarray, second: np.ndarray, same: np.ndarray, standardise: bool) -> float:
    """Top-1 re-identification accuracy: fraction of `same` pairs whose rows are each other's nearest, from both sides.

    Rows are normalised to unit length, except for a single feature. NaN is replaced by the column's mean.
    """
    rows = np.concatenate([first, second])
    mean, scale = moments(rows)
    rows = standardised(rows, mean, scale) if standardise else np.where(np.isfinite(rows), rows, mean)
    if rows.shape[1] > 1:
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    first, second = rows[: len(first)], rows[len(first) :]
    distance = ((first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)) - 2 * first @ second.T
    a, b = same.T
    return float(np.mean([distance[a].argmin(axis=1) == b, distance[:, b].argmin(axis=0) == a]))


def best_scaling(validation: dict[str, list[Rows]], test: dict[str, list[Rows]]) -> dict:
    """Top-1 accuracy of every method in the test animals, with plain or standardised rows as selected in validation.

    Both arguments map an animal to the rows of its pairs.
    """
    result = {}
    for method in next(rows[0] for rows in validation.values()).methods:
        plain, scaled = (np.mean(list(mean_top_1(validation, method, flag).values())) for flag in (False, True))
        standardise = bool(scaled > plain)
        result[method] = scored(mean_top_1(test, method, standardise)) | {"standardised": standardise}
    result["chance"] = scored({animal: float(np.mean([r.chance() for r in rows])) for animal, rows in test.items()})
    result["chance"]["neurons"] = int(sum(len(r.same) for rows in test.values() for r in rows))
    return result


def mean_top_1(animals: dict[str, list[Rows]], method: str, standardise: bool) -> dict[str, float]:
    """Each animal's mean of `top_1` over its pairs, weighted by their numbers of common neurons, and over seeds."""
    return {
        animal: float(
            np.average(
                [np.mean([top_1(*sides, row.same, standardise) for sides in row.methods[method]]) for row in rows],
                weights=[len(row.same) for row in rows],
            )
        )
        for animal, rows in animals.items()
    }


def scored(animals: dict[str, float]) -> dict:
    """Each animal's score, their mean and, with enough animals, its 95 % interval."""
    values = np.array(list(animals.values()), dtype=float)
    return {"score": with_interval(values.mean(), *scores.interval(values)), "animals": animals}


def with_interval(mean: float, low: float, high: float) -> list[float]:
    """Mean, low and high, or the mean alone if the limits are NaN."""
    return [float(value) for value in (mean, low, high) if np.isfinite(value)]
