"""Pairs of units: from the embeddings of two, to predict whether and how they are connected."""

import hashlib

import numpy as np

from ..errors import InputError
from ..unit_embeddings import UnitEmbeddings
from .labelled import tables_of
from .readout import moments, standardised


def pair_embeddings(embeddings: UnitEmbeddings, pairs=None, *, directed: bool = True) -> UnitEmbeddings:
    """Embeddings of pairs of units, for decoders of connectivity.

    A pair is treated like a unit: `fit_decoder`, `evaluate`, `Decoder.predict` and their counterparts for numbers take
    its embedding and its label, such as "connected" or "not".

    Parameters
    ----------
    embeddings : UnitEmbeddings
        Of one recording.
    pairs : array-like of shape (m, 2), optional
        Ids of the two units of each pair, in a directed pair the presynaptic one first. Default: all pairs of units
        with an embedding; each once if they are not directed.
    directed : bool, default: True
        Whether a pair (a, b) differs from (b, a).

    Returns
    -------
    UnitEmbeddings
        Each row consists of features of the two embeddings a and b, which are standardised over the recording's units:
        a, b, a · b and the absolute difference; or a + b, a · b and the absolute difference of pairs that are not
        directed. The ids are "a -> b" and "a -- b". A decoder of pairs does not read embeddings of units, nor of pairs
        of the other kind.

    Notes
    -----
    All pairs of 300 units take 0.2 GB for each 128 dimensions, and several times that while they are made: choose pairs
    in larger populations.

    Pairs share units. Split by animal, and where units of different animals have names in common, by name as well: a
    decoder may otherwise recognise the unit instead of the connection. Within one animal, scores and intervals are too
    good for the same reason.

    Raises
    ------
    InputError
        A unit of a pair is not in the recording, is paired with itself, or the pair occurs twice; the message names it.

    Examples
    --------
    >>> from spikeinterface_nuclr import embed, pair_embeddings, simulate_population
    >>> embeddings = embed(simulate_population(10, 30.0), progress=False)
    >>> pairs = pair_embeddings(embeddings, [["u000", "u001"], ["u001", "u000"]])
    >>> pairs.unit_ids.tolist()
    ['u000 -> u001', 'u001 -> u000']
    """
    if not isinstance(embeddings, UnitEmbeddings):
        raise InputError(f"embeddings are UnitEmbeddings of one recording, not {type(embeddings).__name__}")
    members, _ = tables_of(embeddings)
    embedded = np.isfinite(embeddings.embedding).all(axis=1)
    ids = np.asarray(embeddings.unit_ids).astype(str)
    if pairs is None:
        first, second = _all_pairs(np.flatnonzero(embedded), directed)
    else:
        first, second = _positions(pairs, ids, directed)
    rows = np.hstack([_features(part, embedded, first, second, directed) for part in members.values()])
    arrow = "->" if directed else "--"
    kind = f"{'directed' if directed else 'undirected'} pairs"
    provenance = embeddings.provenance
    sha256 = hashlib.sha256(f"{kind} of {provenance.checkpoint_sha256}".encode()).hexdigest()
    return UnitEmbeddings(
        np.array([f"{a} {arrow} {b}" for a, b in zip(ids[first], ids[second], strict=True)], dtype=str),
        rows,
        np.minimum(embeddings.num_windows[first], embeddings.num_windows[second]),
        np.minimum(embeddings.split_half_similarity[first], embeddings.split_half_similarity[second]),
        provenance.replace(checkpoint=f"{kind} of {provenance.checkpoint}", checkpoint_sha256=sha256),
    )


def _features(
    rows: np.ndarray, embedded: np.ndarray, first: np.ndarray, second: np.ndarray, directed: bool
) -> np.ndarray:
    """Features of pairs from the embeddings (n, k) of one member."""
    z = standardised(rows, *moments(rows[embedded])) if embedded.any() else rows
    a, b = z[first].astype(np.float32), z[second].astype(np.float32)
    alone = [a, b] if directed else [a + b]
    features = np.hstack([*alone, a * b, np.abs(a - b)])
    features[~(embedded[first] & embedded[second])] = np.nan
    return features


def _all_pairs(units: np.ndarray, directed: bool) -> tuple[np.ndarray, np.ndarray]:
    first, second = (grid.ravel() for grid in np.meshgrid(units, units, indexing="ij"))
    keep = first != second if directed else first < second
    return first[keep], second[keep]


def _positions(pairs, ids: np.ndarray, directed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the two units of each pair."""
    pairs = np.asarray(pairs)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise InputError(f"pairs has shape {pairs.shape}, not (m, 2): give the ids of two units for each pair")
    position, seen = {name: k for k, name in enumerate(ids.tolist())}, set()
    for a, b in pairs.astype(str).tolist():
        missing = next((unit for unit in (a, b) if unit not in position), None)
        if missing is not None:
            raise InputError(f"pair {a}, {b}: unit {missing} is not in the recording")
        if a == b:
            raise InputError(f"pair {a}, {b}: is a unit with itself: leave it out")
        key = (a, b) if directed else (min(a, b), max(a, b))
        if key in seen:
            raise InputError(f"pair {a}, {b}: occurs twice: leave one out")
        seen.add(key)
    positions = np.array([[position[unit] for unit in pair] for pair in pairs.astype(str).tolist()], dtype=np.int64)
    return tuple(positions.reshape(-1, 2).T)
