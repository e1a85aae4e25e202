"""Links: groups of units of two recordings compared, directly and through the other recordings."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.sparse import csr_array

from ..errors import InputError
from ..unit_matches import similarity_of
from .cache import Cache
from .calibration import features_of
from .evidence import GroupEvidence, RecordingEvidence
from .relations import RawMatch, compare, compare_from, related
from .threads import in_threads

# Comparisons of all recordings that start from what the others say.
ROUNDS = 2
# Smaller weights are not stored.
_LEAST_STORED = 1e-4
Node = tuple[int, str]  # position of a recording, and label of a group
Ends = tuple[Node, Node]


@dataclass(frozen=True, eq=False)
class Link:
    """Two groups of units, of two recordings, compared.

    Attributes
    ----------
    pairs : int32, shape (m, 2)
        Positions, in the groups, of the pairs of units with a chance, and of each unit's best pair.
    rows : float32, shape (m, len(FEATURES))
        What is known about each (`calibration`).
    similarity, agreement : float32, shape (m,)
    weight : sparse array, shape (n_first, n_second)
        How much each pair corresponds.
    log_total : float
        As in `RawMatch`.
    """

    pairs: np.ndarray
    rows: np.ndarray
    similarity: np.ndarray
    agreement: np.ndarray
    weight: csr_array
    log_total: float

    @classmethod
    def of(cls, match: RawMatch) -> "Link":
        """What is kept of a comparison."""
        pairs, rows = features_of(match)
        at = tuple(pairs.T)
        stored = np.where(match.weight > _LEAST_STORED, match.weight, 0)
        # Narrow types, because there are hundreds of links of thousands of pairs.
        pairs, rows = pairs.astype(np.int32), rows.astype(np.float32)
        return cls(pairs, rows, match.similarity[at], match.agreement[at], csr_array(stored), match.log_total)

    def transposed(self) -> "Link":
        """The same with the second group first."""
        order = np.lexsort(self.pairs.T)
        values = (values[order] for values in (self.rows, self.similarity, self.agreement))
        return Link(self.pairs[order, ::-1], *values, self.weight.T.tocsr(), self.log_total)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays, to keep."""
        names, sparse = ("pairs", "rows", "similarity", "agreement", "log_total"), ("data", "indices", "indptr")
        return {
            **{name: np.asarray(getattr(self, name)) for name in names},
            **{name: getattr(self.weight, name) for name in sparse}, "shape": np.array(self.weight.shape),
        }  # fmt: skip

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> "Link":
        """Inverse of `to_arrays`."""
        sparse = csr_array(tuple(arrays[name] for name in ("data", "indices", "indptr")), shape=tuple(arrays["shape"]))
        values = (arrays[name] for name in ("pairs", "rows", "similarity", "agreement"))
        return cls(*values, sparse, float(arrays["log_total"]))


Links = dict[Ends, Link]


def correspondences(recordings: list[RecordingEvidence]) -> list[Ends]:
    """Groups of any two recordings that may hold the same neurons: of the same name, or the only ones of both.

    Not of the latter are groups of which one recording has both; and none are of recordings whose probes, as a manifest
    states them, differ.

    Raises
    ------
    InputError
        A recording has no group in common with any other of its probe.
    """
    apart = {frozenset(labels) for recording in recordings for labels in combinations(recording.groups, 2)}
    found: list[Ends] = []
    alone = {}  # position of a recording without a partner so far -> position of another one of its probe
    for a, b in combinations(range(len(recordings)), 2):
        first, second = recordings[a], recordings[b]
        if first.probe and second.probe and first.probe != second.probe:
            continue
        labels = [(label, label) for label in first.groups if label in second.groups]
        only = len(first.groups) == len(second.groups) == 1 and frozenset({*first.groups, *second.groups}) not in apart
        if not labels and only:
            labels = [(*first.groups, *second.groups)]
        for position, other in ((a, b), (b, a)):
            alone[position] = None if labels else alone.get(position, other)
        found += [((a, label), (b, other)) for label, other in labels]
    for position, other in alone.items():
        if other is not None:
            first, second = recordings[position], recordings[other]
            raise InputError(
                f"{first.name} and {second.name} have no group of units in common ({', '.join(first.groups)}; "
                f"{', '.join(second.groups)}): name the probes alike, or give group_by=None (--group-by none)"
            )
    return found


def weights_of(first: GroupEvidence, second: GroupEvidence) -> np.ndarray:
    """Weights of the scales of correlations for comparing two groups."""
    scales = min(len(first.weights), len(second.weights))
    return np.sqrt(first.weights[:scales] * second.weights[:scales])


def links_of(recordings: list[RecordingEvidence], all_ends: list[Ends], cache: Cache, *, progress: bool) -> Links:
    """Compare corresponding groups; of three recordings or more, again through the others."""

    def compared(ends: Ends) -> Link:
        first, second = (recordings[number].groups[label] for number, label in ends)
        return Link.of(compare(first.whole, second.whole, weights_of(first, second)))

    def link_of(ends: Ends) -> Link:
        return _kept_link(cache, "pair", [], recordings, ends, compared)

    found = in_threads(link_of, all_ends, "matching", "pair", progress=progress)
    links = dict(zip(all_ends, found, strict=True))
    for number in range(ROUNDS if len(recordings) > 2 else 0):
        links = _again(links, recordings, number, cache, progress=progress)
    return links


def _again(links: Links, recordings: list[RecordingEvidence], number: int, cache: Cache, *, progress: bool) -> Links:
    """Compare all groups once more, each starting from what the other recordings say of the two.

    If a unit of the first recording corresponds to one of a third, and that to one of the second, the two may be the
    same neuron. This finds pairs whose recordings are too different to be matched directly.
    """
    weights: dict[Node, dict[Node, csr_array]] = {}
    for (first, second), link in links.items():
        weights.setdefault(first, {})[second] = link.weight
        weights.setdefault(second, {})[first] = link.weight.T.tocsr()

    def compared(ends: Ends) -> Link:
        first, second = (recordings[position].groups[label] for position, label in ends)
        known = links[ends] if ends in links else links[ends[::-1]].transposed()
        others = [node for node in weights[ends[0]] if node in weights[ends[1]]]
        start = sum((weights[ends[0]][node] @ weights[node][ends[1]] for node in others), csr_array(known.weight.shape))
        if not related(first.whole, second.whole) or not start.sum():
            return known
        start = np.asarray(start.todense(), dtype=np.float32)
        similarity = similarity_of(first.whole.embedding, second.whole.embedding)
        before = RawMatch(similarity, np.zeros_like(start), known.weight.toarray(), known.log_total)
        return Link.of(compare_from(first.whole, second.whole, weights_of(first, second), before, start / start.mean()))

    # All links of the round before may decide each link of this one.
    everything = sorted(sorted(map(json.dumps, _keys(recordings, ends))) for ends in links)
    digest = hashlib.sha256(json.dumps(everything).encode()).hexdigest()

    def link_of(ends: Ends) -> Link:
        return _kept_link(cache, "through", [number, digest], recordings, ends, compared)

    found = in_threads(link_of, links, f"matching through others, {number + 1}", "pair", progress=progress)
    return dict(zip(links, found, strict=True))


def _kept_link(
    cache: Cache, kind: str, key: list, recordings: list[RecordingEvidence], ends: Ends, compute: Callable[[Ends], Link]
) -> Link:
    """The link of two groups, kept for the next run, whatever the order of the recordings then."""
    keys = _keys(recordings, ends)
    swapped = json.dumps(keys[1]) < json.dumps(keys[0])
    if swapped:
        keys, ends = keys[::-1], ends[::-1]
    link = Link.from_arrays(cache.arrays(kind, [*key, *keys], lambda: compute(ends).to_arrays()))
    return link.transposed() if swapped else link


def _keys(recordings: list[RecordingEvidence], ends: Ends) -> list:
    """All that decides the evidence of two groups, as values for JSON."""
    return [[recordings[position].key, label] for position, label in ends]
