"""From pairs to neurons: identities that are consistent over all recordings."""

from itertools import pairwise

import numpy as np


def neuron_ids(
    sizes: list[int], pair_recordings: np.ndarray, pair_units: np.ndarray, probability: np.ndarray, named: np.ndarray
) -> list[np.ndarray]:
    """A number for each unit of each recording, the same for the same neuron; conservative.

    Named pairs are joined, the most probable first. Two sets of units are joined only if no recording has a unit in
    both, and if the probability that a unit of one set is the same as a unit of the other is at least one half on
    average over all pairs of recordings. So one wrong pair does not join what the other recordings keep apart.

    Parameters
    ----------
    sizes : list of int
        Number of units of each recording.
    pair_recordings, pair_units, probability, named
        As in `UnitMatches`.

    Returns
    -------
    list of int64 arrays
        Numbers 0, 1, …, in order of the first unit of each neuron.
    """
    offset = np.concatenate([[0], np.cumsum(sizes)])
    nodes = offset[pair_recordings] + pair_units
    of_pair = {(int(a), int(b)): float(p) for (a, b), p in zip(nodes, probability, strict=True)}
    recording = np.repeat(np.arange(len(sizes)), sizes)
    cluster, members = np.arange(offset[-1]), {node: [node] for node in range(offset[-1])}
    order = np.flatnonzero(named)
    for a, b in nodes[order[np.argsort(-probability[order], kind="stable")]]:
        first, second = members[cluster[a]], members[cluster[b]]
        if cluster[a] == cluster[b] or set(recording[first]) & set(recording[second]):
            continue
        mean = np.mean([of_pair.get((min(i, j), max(i, j)), 0.0) for i in first for j in second])
        if mean >= 0.5:
            kept, gone = sorted((int(cluster[a]), int(cluster[b])))
            members[kept] = sorted([*first, *second])
            del members[gone]
            cluster[members[kept]] = kept
    _, ids = np.unique(cluster, return_inverse=True)
    return [ids[low:high].astype(np.int64) for low, high in pairwise(offset)]
