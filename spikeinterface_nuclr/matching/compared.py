"""Two recordings compared: their groups of units that correspond, and the pairs of units that have a chance."""

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..unit_matches import LEAST_PROBABILITY, UnitMatches, named_pairs
from .cache import Cache
from .combination import Combination, feature_similarity
from .evidence import GroupEvidence, RecordingEvidence
from .matcher import Matcher
from .neurons import neuron_ids
from .relations import compare


def corresponding(first: RecordingEvidence, second: RecordingEvidence) -> list[tuple[GroupEvidence, GroupEvidence]]:
    """The groups of two recordings that may hold the same neurons: of the same name, or the only ones.

    None if a manifest says that the recordings are of different probes.
    """
    if first.probe and second.probe and first.probe != second.probe:
        return []
    if len(first.groups) == len(second.groups) == 1:
        return [(*first.groups.values(), *second.groups.values())]
    shared = [label for label in first.groups if label in second.groups]
    if not shared:
        raise InputError(
            f"{first.name} and {second.name} have no group of units in common ({', '.join(first.groups)}; "
            f"{', '.join(second.groups)}): name the probes alike, or give group_by=None (--group-by none)"
        )
    return [(first.groups[label], second.groups[label]) for label in shared]


def weights_of(first: GroupEvidence, second: GroupEvidence) -> np.ndarray:
    """Weights of the scales of correlations for comparing two groups."""
    scales = min(len(first.weights), len(second.weights))
    return np.sqrt(first.weights[:scales] * second.weights[:scales])


@dataclass(frozen=True, eq=False)
class Compared:
    """Two recordings compared: the pairs of units that have a chance, and each unit's best pair.

    Attributes
    ----------
    recordings : two ints
        Positions of the recordings.
    shape : two ints
        Their numbers of units.
    pairs : int64, shape (m, 2)
        Positions of the units.
    probability, similarity, agreement : float, shape (m,)
    alone : dict of str to float arrays, shape (m,)
    """

    recordings: tuple[int, int]
    shape: tuple[int, int]
    pairs: np.ndarray
    probability: np.ndarray
    similarity: np.ndarray
    agreement: np.ndarray
    alone: dict[str, np.ndarray]

    @classmethod
    def kept(
        cls, numbers: tuple[int, int], first: RecordingEvidence, second: RecordingEvidence, matcher: Matcher,
        cache: Cache,
    ) -> "Compared":  # fmt: skip
        """As `of`, kept for the next run."""
        names = ("pairs", "probability", "similarity", "agreement")

        def compute() -> dict[str, np.ndarray]:
            compared = cls.of(numbers, first, second, matcher)
            return {name: getattr(compared, name) for name in names}

        weights = [*matcher.mean, *matcher.scale, *matcher.weights, matcher.intercept]
        arrays = cache.arrays("pair", [first.key, second.key, first.probe, second.probe, weights], compute)
        return cls(numbers, (len(first.unit_ids), len(second.unit_ids)), *(arrays[name] for name in names), {})

    @classmethod
    def of(
        cls, numbers: tuple[int, int], first: RecordingEvidence, second: RecordingEvidence, matcher: Matcher
    ) -> "Compared":
        """Compare two recordings by their activity."""
        parts = [(np.empty((0, 2), dtype=np.int64), *np.empty((3, 0)))]
        for one, other in corresponding(first, second):
            raw = compare(one.whole, other.whole, weights_of(one, other))
            probability = matcher.probability(raw)
            possible = np.ones(probability.shape, dtype=bool)
            rows = np.argwhere(_kept(probability + 1e-9 * raw.weight, possible))
            units = np.stack([one.units[rows[:, 0]], other.units[rows[:, 1]]], axis=1)
            parts.append((units, *(values[tuple(rows.T)] for values in (probability, raw.similarity, raw.agreement))))
        return cls(
            numbers, (len(first.unit_ids), len(second.unit_ids)), *map(np.concatenate, zip(*parts, strict=True)), {}
        )

    def dense(self, values: np.ndarray, elsewhere: float = 0.0) -> np.ndarray:
        """Values (m,) of the pairs as an array (n_first, n_second)."""
        result = np.full(self.shape, elsewhere)
        result[tuple(self.pairs.T)] = values
        return result

    def combined(self, combination: Combination, similarities: list[np.ndarray], possible: np.ndarray) -> "Compared":
        """With the probability from features and activity together, of the pairs that are possible."""
        activity = self.dense(self.probability)
        both, features = combination.probabilities(activity, similarities, possible)
        pairs = np.argwhere(_kept(both, possible))
        at = tuple(pairs.T)
        alone = {"activity": activity[at], "features": features[at]}
        others = (self.dense(values, np.nan)[at] for values in (self.similarity, self.agreement))
        return Compared(self.recordings, self.shape, pairs, both[at], *others, alone)


def _kept(probability: np.ndarray, possible: np.ndarray) -> np.ndarray:
    """The possible pairs with a chance, and the best of each unit without one: bool, of the same shape."""
    probability = np.where(possible, probability, 0)
    likely = probability > LEAST_PROBABILITY
    kept = likely.copy()
    if probability.size:
        for axis in (0, 1):
            best = (probability == probability.max(axis=axis, keepdims=True)) & (probability > 0)
            kept |= best & ~likely.any(axis=axis, keepdims=True)
    return kept


def possible_pairs(first: RecordingEvidence, second: RecordingEvidence) -> np.ndarray:
    """The pairs of units of corresponding groups that both have an embedding: bool, shape (n_first, n_second)."""
    possible = np.zeros((len(first.unit_ids), len(second.unit_ids)), dtype=bool)
    for one, other in corresponding(first, second):
        possible[np.ix_(one.units, other.units)] = True
    return possible


def similarities(tables: dict[str, list[np.ndarray]], first: int, second: int) -> list[np.ndarray]:
    """Similarities of the units of two recordings by each feature."""
    return [feature_similarity(arrays, first, second) for arrays in tables.values()]


def named_matches(
    recordings: list[RecordingEvidence], compared: list[Compared], target_error: float, about: dict
) -> UnitMatches:
    """Name pairs and neurons."""
    named = [named_pairs(one.pairs, one.probability, target_error) for one in compared]
    columns = {
        name: np.concatenate([getattr(one, name) for one in compared]).astype(np.float32)
        for name in ("probability", "similarity", "agreement")
    }
    columns |= {
        "pair_recordings": np.repeat(
            np.array([one.recordings for one in compared], dtype=np.int32), [len(one.pairs) for one in compared], axis=0
        ),
        "pair_units": np.concatenate([one.pairs for one in compared]).astype(np.int64),
        "named": np.concatenate(named),
    }
    alone = {
        name: np.concatenate([one.alone[name] for one in compared]).astype(np.float32) for name in compared[0].alone
    }
    sizes = [len(recording.unit_ids) for recording in recordings]
    pairs = (columns[name] for name in ("pair_recordings", "pair_units", "probability", "named"))
    return UnitMatches(
        tuple(recording.name for recording in recordings), tuple(recording.unit_ids for recording in recordings),
        tuple(recording.embedding for recording in recordings), tuple(neuron_ids(sizes, *pairs)), **columns,
        target_error=target_error, alone=alone, provenance=about,
    )  # fmt: skip
