"""Two recordings compared: the pairs of units that have a chance, and their probabilities."""

from dataclasses import dataclass

import numpy as np

from ..unit_matches import LEAST_PROBABILITY, UnitMatches, named_pairs
from .calibration import capped
from .combination import Combination, Feature, feature_similarity
from .evidence import RecordingEvidence
from .links import Links
from .matcher import Matcher
from .neurons import neuron_ids


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
    def of(
        cls, numbers: tuple[int, int], recordings: list[RecordingEvidence], links: Links, matcher: Matcher
    ) -> "Compared":
        """Two recordings compared by their activity, from the links of their groups."""
        first, second = (recordings[number] for number in numbers)
        parts = [(np.empty((0, 2), dtype=np.int64), *np.empty((3, 0)))]
        for ((_, label), (_, other)), link in links.items():
            dense = np.zeros(link.weight.shape)
            dense[tuple(link.pairs.T)] = matcher.probability(link.rows)
            probability = capped(dense)[tuple(link.pairs.T)]
            kept = _kept(link.pairs, probability)
            units = first.groups[label].units, second.groups[other].units
            pairs = np.stack([units[side][link.pairs[kept, side]] for side in (0, 1)], axis=1)
            parts.append((pairs, *(values[kept] for values in (probability, link.similarity, link.agreement))))
        shape = len(first.unit_ids), len(second.unit_ids)
        return cls(numbers, shape, *map(np.concatenate, zip(*parts, strict=True)), {})

    def dense(self, values: np.ndarray, elsewhere: float = 0.0) -> np.ndarray:
        """Values (m,) of the pairs as an array (n_first, n_second)."""
        result = np.full(self.shape, elsewhere)
        result[tuple(self.pairs.T)] = values
        return result

    def combined(self, combination: Combination, similarities: list[np.ndarray], possible: np.ndarray) -> "Compared":
        """With the probability from features and activity together, of the pairs that are possible."""
        activity = self.dense(self.probability)
        both, features = combination.probabilities(activity, similarities, possible)
        pairs = np.argwhere(possible)
        pairs = pairs[_kept(pairs, both[possible])]
        at = tuple(pairs.T)
        alone = {"activity": activity[at], "features": features[at]}
        others = (self.dense(values, np.nan)[at] for values in (self.similarity, self.agreement))
        return Compared(self.recordings, self.shape, pairs, both[at], *others, alone)


def _kept(pairs: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Which pairs (m, 2) to keep: those with a chance, and the best of each unit without one. bool, shape (m,)"""
    likely = probability > LEAST_PROBABILITY
    kept = likely.copy()
    for side in pairs.T if len(pairs) else ():
        best, served = np.zeros(side.max() + 1), np.zeros(side.max() + 1, dtype=bool)
        np.maximum.at(best, side, probability)
        served[side[likely]] = True
        kept |= (probability == best[side]) & (probability > 0) & ~served[side]
    return kept


def possible_pairs(first: RecordingEvidence, second: RecordingEvidence, all_ends) -> np.ndarray:
    """The pairs of units of corresponding groups that both have an embedding: bool, shape (n_first, n_second)."""
    possible = np.zeros((len(first.unit_ids), len(second.unit_ids)), dtype=bool)
    for (_, label), (_, other) in all_ends:
        possible[np.ix_(first.groups[label].units, second.groups[other].units)] = True
    return possible


def similarities(tables: dict[str, Feature], first: int, second: int) -> list[np.ndarray]:
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
