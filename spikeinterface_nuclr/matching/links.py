"""Links: groups of units of two recordings compared, directly and through the other recordings."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from tqdm.auto import tqdm

from ..errors import InputError
from ..unit_matches import similarity_of
from .cache import Cache
from .calibration import features_of
from .evidence import GroupEvidence, RecordingEvidence
from .relations import RawMatch, compare, compare_from

# Comparisons of all recordings that start from what the others say.
ROUNDS = 2
# Smaller weights are not stored.
_LEAST_STORED = 1e-4
Node = tuple[int, str]  # position of a recording, and label of a group


@dataclass(frozen=True, eq=False)
class Link:
    """Two groups of units, of two recordings, compared.

    Attributes
    ----------
    pairs : int64, shape (m, 2)
        Positions, in the groups, of the pairs of units with a chance, and of each unit's best pair.
    rows : float64, shape (m, len(FEATURES))
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
        return cls(pairs, rows, match.similarity[at], match.agreement[at], csr_array(stored), match.log_total)

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


def corresponding(first: RecordingEvidence, second: RecordingEvidence) -> list[tuple[str, str]]:
    """Labels of the groups of two recordings that may hold the same neurons: of the same name, or the only ones.

    None if a manifest says that the recordings are of different probes.
    """
    if first.probe and second.probe and first.probe != second.probe:
        return []
    if len(first.groups) == len(second.groups) == 1:
        return [(*first.groups, *second.groups)]
    shared = [label for label in first.groups if label in second.groups]
    if not shared:
        raise InputError(
            f"{first.name} and {second.name} have no group of units in common ({', '.join(first.groups)}; "
            f"{', '.join(second.groups)}): name the probes alike, or give group_by=None (--group-by none)"
        )
    return [(label, label) for label in shared]


def weights_of(first: GroupEvidence, second: GroupEvidence) -> np.ndarray:
    """Weights of the scales of correlations for comparing two groups."""
    scales = min(len(first.weights), len(second.weights))
    return np.sqrt(first.weights[:scales] * second.weights[:scales])


def links_of(recordings: list[RecordingEvidence], kept: Cache, *, progress: bool) -> dict[tuple[Node, Node], Link]:
    """Compare the corresponding groups of any two recordings; of three or more, again through the others."""
    nodes = [
        ((a, label), (b, other))
        for a in range(len(recordings))
        for b in range(a + 1, len(recordings))
        for label, other in corresponding(recordings[a], recordings[b])
    ]
    links = {}
    for ends in tqdm(nodes, desc="matching", unit="pair", disable=not progress):

        def compute(ends=ends) -> dict[str, np.ndarray]:
            first, second = (recordings[number].groups[label] for number, label in ends)
            return Link.of(compare(first.whole, second.whole, weights_of(first, second))).to_arrays()

        key = [(recordings[number].key, label) for number, label in ends]
        links[ends] = Link.from_arrays(kept.arrays("pair", key, compute))
    for number in range(ROUNDS if len(recordings) > 2 else 0):
        links = _again(links, recordings, number, kept, progress=progress)
    return links


def _again(links: dict, recordings: list[RecordingEvidence], number: int, kept: Cache, *, progress: bool) -> dict:
    """Compare all groups once more, each starting from what the other recordings say of the two.

    If a unit of the first recording corresponds to one of a third, and that to one of the second, the two may be the
    same neuron. This finds pairs whose recordings are too different to be matched directly.
    """
    weights: dict[Node, dict[Node, csr_array]] = {}
    for (first, second), link in links.items():
        weights.setdefault(first, {})[second] = link.weight
        weights.setdefault(second, {})[first] = link.weight.T.tocsr()
    everything = [recording.key for recording in recordings]
    result = {}
    for ends, link in tqdm(links.items(), desc=f"matching through others, {number + 1}", unit="pair",
                           disable=not progress):  # fmt: skip

        def compute(ends=ends, link=link) -> dict[str, np.ndarray]:
            first, second = (recordings[position].groups[label] for position, label in ends)
            others = [node for node in weights[ends[0]] if node in weights[ends[1]]]
            start = sum(
                (weights[ends[0]][node] @ weights[node][ends[1]] for node in others), csr_array(link.weight.shape)
            )
            if not start.sum():
                return link.to_arrays()
            start = np.asarray(start.todense(), dtype=np.float32)
            similarity = similarity_of(first.whole.embedding, second.whole.embedding)
            known = RawMatch(similarity, np.empty(0), link.weight.toarray(), link.log_total)
            found = compare_from(first.whole, second.whole, weights_of(first, second), known, start / start.mean())
            return Link.of(found).to_arrays()

        result[ends] = Link.from_arrays(kept.arrays("through", [number, everything, ends], compute))
    return result
