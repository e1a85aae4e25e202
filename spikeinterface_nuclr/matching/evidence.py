"""Evidence about the units of one recording: their embeddings, and their correlations with one another."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..population import Population
from ..windows.observed import ObservedBins, typical_length

# Bin widths in seconds of the correlations; no shorter than a frame.
SCALES_S = (0.1, 0.3, 1.0, 3.0)
# Smallest weight of a scale whose correlations are not reproducible.
_LEAST_WEIGHT = 0.01


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of the units of one group in one recording, or in a half of it.

    Attributes
    ----------
    embedding : float32, shape (n, dim)
    correlations : float32, shape (scales, n, n)
        Correlations of the units' activity in bins of each of `SCALES_S`. Zero on the diagonal, and where undefined;
        without scales if only the embeddings are known.
    """

    embedding: np.ndarray
    correlations: np.ndarray

    def __len__(self) -> int:
        return len(self.embedding)

    def select(self, units: np.ndarray) -> "Evidence":
        """The units at these positions."""
        return Evidence(self.embedding[units], self.correlations[:, units[:, None], units])

    def blurred(self, fraction: float, rng: np.random.Generator) -> "Evidence":
        """Evidence of units whose activity is mixed with that of other units, in random order.

        Each unit's activity (in units of its standard deviation) becomes ``1 - fraction`` of its own and ``fraction``
        of another unit's; embeddings are mixed in the same proportion. This imitates drift.
        """
        other = rng.permutation(len(self))
        embedding = (1 - fraction) * self.embedding + fraction * self.embedding[other]
        correlations = np.empty_like(self.correlations)
        for mixed, single in zip(correlations, self.correlations, strict=True):
            single = single + np.eye(len(self), dtype=np.float32)
            mixed[:] = (
                (1 - fraction) ** 2 * single
                + fraction * (1 - fraction) * (single[:, other] + single[other])
                + fraction**2 * single[np.ix_(other, other)]
            )
            deviation = np.sqrt(np.maximum(np.diagonal(mixed), 1e-9))
            mixed /= deviation[:, None] * deviation
            np.fill_diagonal(mixed, 0)
        return Evidence(embedding.astype(np.float32), correlations)


@dataclass(frozen=True, eq=False)
class GroupEvidence:
    """Evidence about one group (probe) of a recording.

    Attributes
    ----------
    units : int array, shape (n,)
        Positions, in the recording, of the units that have an embedding.
    whole : Evidence
        From the whole recording.
    halves : tuple of two Evidence, or None
        From halves of alternating blocks, about the units that have an embedding in both (fewer than in `whole`); None
        if the recording is too short or if only its embeddings are known.
    halved : int array, shape (n_halved,)
        Positions, in the recording, of the units of `halves`.
    """

    units: np.ndarray
    whole: Evidence
    halves: tuple[Evidence, Evidence] | None
    halved: np.ndarray

    @cached_property
    def weights(self) -> np.ndarray:
        """Weight of each scale, float64 (scales,): how well the halves agree on the correlations; equal if unknown."""
        scales = len(self.whole.correlations)
        if self.halves is None or len(self.halves[0]) < 3:
            return np.ones(scales)
        upper = np.triu_indices(len(self.halves[0]), 1)
        scales = zip(*(half.correlations for half in self.halves), strict=True)
        return np.array([max(_correlation(a[upper], b[upper]), _LEAST_WEIGHT) for a, b in scales])


@dataclass(frozen=True, eq=False)
class RecordingEvidence:
    """Evidence about a recording.

    Attributes
    ----------
    name : str
        The recording, as in tables of matches.
    unit_ids : array of int or str, shape (n_units,)
    embedding : float32, shape (n_units, dim)
        NaN for units without one.
    groups : dict of str to GroupEvidence
    fingerprint : str
        Of the population; of the embeddings' population if only they are known.
    signal : str or None
        "spikes" or "traces".
    checkpoint_sha256 : str
        Model of the embeddings.
    key : list
        All that decides the evidence, as values for JSON.
    source : dict
        Identifiers of the recording, for provenance.
    neurons : str array, shape (n_units,), optional
        Name of each unit's neuron, empty where it is not known.
    probe : str
        The probe of all units; empty if it is not stated.
    """

    name: str
    unit_ids: np.ndarray
    embedding: np.ndarray
    groups: dict[str, GroupEvidence]
    fingerprint: str
    signal: str | None
    checkpoint_sha256: str
    key: list
    source: dict = field(default_factory=dict)
    neurons: np.ndarray | None = None
    probe: str = ""


def correlations(population: Population, units: np.ndarray) -> np.ndarray:
    """Correlations of the units at these positions at each of `SCALES_S`: float32, shape (scales, n, n).

    Zero on the diagonal, and where undefined: units of constant activity, or never observed together. If observed
    intervals are shorter than a bin, bins are shortened, as in `decoding.features.population_features`.
    """
    result = np.zeros((len(SCALES_S), len(units), len(units)), dtype=np.float32)
    if len(units) < 2:
        return result
    typical = typical_length(population)
    for scale, out in zip(SCALES_S, result, strict=True):
        binned = ObservedBins.of(population, units, float(np.clip(typical, SCALES_S[0], scale)))
        if len(binned) > 1:
            out[:] = _correlations(binned)
    return result


def _correlations(binned: ObservedBins) -> np.ndarray:
    mean, deviation = binned.moments()
    inverse = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0).astype(np.float32)
    n, sets = len(binned.units), len(binned.slices)
    products, shared = np.zeros((n, n), dtype=np.float32), np.zeros((sets, sets))
    for low, high in binned.blocks():
        mask = binned.mask(low, high).astype(np.float32)
        activity = binned.activity(low, high)
        activity -= mean[:, None].astype(np.float32)
        activity *= inverse[:, None]
        activity *= binned.per_unit(mask)
        products += activity @ activity.T
        shared += mask @ mask.T
    products /= np.maximum(shared, 1)[np.ix_(binned.which, binned.which)]
    np.fill_diagonal(products, 0)
    return np.clip(products, -1, 1)


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Correlation of two vectors; 0 if one is constant."""
    first, second = first - first.mean(), second - second.mean()
    power = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / power if power > 0 else 0.0
