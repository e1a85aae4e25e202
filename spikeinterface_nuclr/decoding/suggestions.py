"""Suggestions: the units whose labels would teach a decoder most."""

import numpy as np

from ..errors import InputError
from ..predictions import Identities
from ..unit_embeddings import UnitEmbeddings
from ..unit_matches import directions

# So that units differ from one another also where the decoder is certain of all.
_LEAST_DOUBT = 0.05
# Largest number of units that are compared with all.
_MOST = 2_000


def suggest_units(identities, embeddings, *, labelled=None, count: int = 20):
    """Rank the units whose labels would teach a decoder most: uncertain or novel ones that many others resemble.

    Each unit is as doubtful as its two most probable classes are close, and never quite certain; a novel unit is in
    full doubt. Units are chosen one after the other, each the one that resembles most of the doubt that is left: for
    every unit, its doubt times how much more similar it is to the chosen one than to any chosen before (facility
    location; Wei, Iyer & Bilmes 2015, Proc. ICML, 1954-1963). So neither outliers nor ten copies of one kind of unit
    come first.

    Parameters
    ----------
    identities : Identities, or list of these
        Of each recording.
    embeddings : UnitEmbeddings, or list of these
        Of the same units.
    labelled : bool array (n_units,), or list of these, optional
        Units that have a label already. They are not suggested, nor are units that resemble them.
    count : int, default: 20
        Number of suggestions.

    Returns
    -------
    pandas DataFrame
        Most informative first, with the columns recording (position in the list), unit_id, best_label, runner_up,
        confidence, novelty, reason (to abstain) and resembled_by, the number of units whose most similar suggestion it
        is.

    Raises
    ------
    InputError
        Identities and embeddings do not match, or `count` is no number of units.

    Examples
    --------
    >>> from spikeinterface_nuclr import Decoder, embed, simulate_population, suggest_units
    >>> embeddings = embed(simulate_population(20, 60.0, seed=500), progress=False)
    >>> identities = Decoder.load("simulated-cell-type").predict(embeddings)
    >>> suggest_units(identities, embeddings, count=3).index.tolist()
    [1, 2, 3]
    """
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
        raise InputError(f"count must be a number of units, not {count!r}")
    recordings = _matched(identities, embeddings, labelled)
    rows = np.concatenate([e.embedding for _, e, _ in recordings])
    usable = np.flatnonzero(np.isfinite(rows).all(axis=1))
    known = np.concatenate([has for *_, has in recordings])[usable]
    doubt = np.concatenate([_doubt(found) for found, *_ in recordings])[usable]
    rows = directions(rows[usable]).astype(np.float32)
    covered = np.zeros(len(usable), dtype=np.float32)
    for low in range(0, int(known.sum()), _MOST):
        covered = np.maximum(covered, (rows[known][low : low + _MOST] @ rows.T).max(axis=0))
    # The most doubtful ones, if there are too many to compare all with all.
    candidates = np.flatnonzero(~known)
    candidates = np.sort(candidates[np.argsort(-doubt[candidates], kind="stable")[:_MOST]])
    similarity, chosen = np.maximum(rows[candidates] @ rows.T, 0), []
    for _ in range(min(count, len(candidates))):
        gain = np.maximum(similarity - covered, 0) @ doubt.astype(np.float32)
        gain[chosen] = -np.inf
        # Of equal ones the first, so that results are the same on every machine.
        chosen.append(int(np.argmax(np.round(gain, 4))))
        covered = np.maximum(covered, similarity[chosen[-1]])
    resembled = np.bincount(similarity[chosen].argmax(axis=0), minlength=len(chosen)) if chosen else []
    chosen = candidates[chosen]
    return _table(recordings, usable[chosen], resembled)


def _matched(identities, embeddings, labelled) -> list[tuple[Identities, UnitEmbeddings, np.ndarray]]:
    """Identities, embeddings, and which units have a label, of each recording; InputError if they do not match."""
    lists = [list(one) if isinstance(one, list | tuple) else [one] for one in (identities, embeddings)]
    labelled = [None] * len(lists[0]) if labelled is None else labelled
    lists.append(list(labelled) if isinstance(labelled, list | tuple) else [labelled])
    if len({len(one) for one in lists}) > 1 or not lists[0]:
        raise InputError("give identities, embeddings, and labelled if at all, of the same recordings")
    result = []
    for number, (found, embedded, has) in enumerate(zip(*lists, strict=True)):
        if not isinstance(found, Identities) or not isinstance(embedded, UnitEmbeddings):
            raise InputError(f"recording {number}: give Identities and UnitEmbeddings, of one decoder of labels")
        units = len(found.unit_ids)
        if not np.array_equal(np.asarray(found.unit_ids).astype(str), np.asarray(embedded.unit_ids).astype(str)):
            raise InputError(f"recording {number}: its identities are of other units than its embeddings")
        has = np.zeros(units, dtype=bool) if has is None else np.asarray(has)
        if has.shape != (units,) or has.dtype != bool:
            raise InputError(f"labelled: recording {number} needs one truth value for each of {units} units")
        result.append((found, embedded, has))
    return result


def _doubt(identities: Identities) -> np.ndarray:
    """How doubtful each label is, above 0: 1 if two classes are equally probable, or the unit is novel."""
    two = np.sort(np.nan_to_num(identities.probability), axis=1)[:, -2:]
    return np.where(identities.reason == "novel", 1.0, np.maximum(1.0 - (two[:, 1] - two[:, 0]), _LEAST_DOUBT))


def _table(recordings: list, chosen: np.ndarray, resembled):
    import pandas as pd

    sizes = [len(found.unit_ids) for found, *_ in recordings]
    numbers = np.repeat(np.arange(len(sizes)), sizes)[chosen]
    rows = chosen - np.concatenate([[0], np.cumsum(sizes)])[numbers]
    at = [(recordings[number][0], row) for number, row in zip(numbers, rows, strict=True)]
    columns = {
        "recording": numbers,
        "unit_id": [found.unit_ids.tolist()[row] for found, row in at],
        "best_label": [str(found.best_label[row]) for found, row in at],
        "runner_up": [str(found.classes[np.argsort(-found.probability[row], kind="stable")[1]]) for found, row in at],
        "confidence": [float(found.confidence[row]) for found, row in at],
        "novelty": [np.nan if found.novelty is None else float(found.novelty[row]) for found, row in at],
        "reason": [str(found.reason[row]) for found, row in at],
        "resembled_by": resembled,
    }
    return pd.DataFrame(columns, index=pd.RangeIndex(1, len(at) + 1, name="rank"))
