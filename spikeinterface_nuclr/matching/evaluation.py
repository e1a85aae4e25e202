"""evaluate_matches: matches against known identities, beside baselines that see the same recordings."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ..decoding.baselines import baseline_features
from ..decoding.scores import interval
from ..errors import InputError
from ..population import Population
from ..unit_matches import UnitMatches, similarity_of
from .cache import Cache
from .evidence import Evidence, GroupEvidence, RecordingEvidence, correlations
from .links import correspondences, links_of
from .sources import neuron_names

MATCHES, EMBEDDING, CHANCE = "matches", "embedding alone", "chance"
# Suffix of methods whose features are the start of matching relations.
WITH_RELATIONS = " + relations"
# Borders of the bins of calibration.
BINS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 1.0)


@dataclass(frozen=True, eq=False)
class MatchEvaluation:
    """Scores of matches, and of baselines.

    Attributes
    ----------
    scores : pandas.DataFrame
        One row per two recordings and method: ``recording_a``, ``recording_b``, ``method``, ``common`` (neurons in
        both), ``candidates_a``, ``candidates_b``, ``top_1`` (fraction of common neurons whose best partner is right, in
        both directions), ``auc`` (of all pairs of units). For the method "matches" also ``named``, ``judged`` (of
        these, pairs whose identity is known), ``right``, ``precision`` and ``recall``.
    calibration : pandas.DataFrame
        One row per bin of probability: ``probability`` (mean), ``same`` (fraction that is the same neuron), ``pairs``.
    target_error : float

    Examples
    --------
    >>> from spikeinterface_nuclr import evaluate_matches, match_units, simulate_days
    >>> days = simulate_days(2, n_units=30, duration=180.0)
    >>> evaluation = evaluate_matches(match_units(days, progress=False), "neuron", days)
    >>> evaluation.to_dataframe().index[0]
    'matches'
    """

    scores: object
    calibration: object
    target_error: float

    def to_dataframe(self):
        """A pandas DataFrame with one row per method: means over pairs of recordings and their 95 % intervals.

        Intervals are over pairs of recordings, of which several may share a recording or an animal: for a claim about
        animals, average each animal's first.
        """
        import pandas as pd

        rows = {}
        for method, group in self.scores.groupby("method", sort=False):
            row = {}
            for score in ("top_1", "auc", "precision", "recall"):
                values = group[score].dropna().to_numpy(dtype=float) if score in group else np.empty(0)
                low, high = interval(values) if len(values) else (np.nan, np.nan)
                mean = values.mean() if len(values) else np.nan
                row |= {score: mean, f"{score}_low": max(low, 0.0), f"{score}_high": min(high, 1.0)}
            rows[method] = row
        return pd.DataFrame.from_dict(rows, orient="index").dropna(axis=1, how="all")


def evaluate_matches(
    matches: UnitMatches, truth, populations: list[Population] | None = None, *, others: dict | None = None
) -> MatchEvaluation:
    """Score matches against known identities.

    Pairs of units are judged if both neurons are known, or if one is known to be another unit of the other recording.

    Parameters
    ----------
    matches : UnitMatches
    truth : list of array-like of str, or str
        Name of each unit's neuron in each recording, empty where it is not known; or the property of `populations` that
        holds these names. They should come from elsewhere than the activity, such as positions or a dye.
    populations : list of Population, optional
        The recordings, for baselines: rate; rate and intervals; with autocorrelogram; with correlations with the
        population; and each of the first and last as a start for matching relations (`matching.relations`).
    others : dict of str to list of arrays (n_units, k), optional
        Features for further baselines, such as embeddings with random weights. They are scored alone, and as a start
        for matching relations if populations are given.

    Returns
    -------
    MatchEvaluation

    Raises
    ------
    InputError
        The names, populations or features do not fit the matches, or no two recordings have two known neurons in
        common.

    Examples
    --------
    >>> from spikeinterface_nuclr import evaluate_matches, match_units, simulate_days
    >>> days = simulate_days(2, n_units=30, duration=180.0)
    >>> matches = match_units(days, progress=False)
    >>> evaluation = evaluate_matches(matches, [day.properties["neuron"] for day in days])
    >>> sorted(evaluation.scores["method"])
    ['chance', 'embedding alone', 'matches']
    """
    import pandas as pd

    count = len(matches.recordings)
    for name, values in {"truth": None if isinstance(truth, str) else truth, "populations": populations}.items():
        if values is not None and len(values) != count:
            raise InputError(f"{name}: give one for each of the {count} recordings")
    if truth is None:
        raise InputError("truth: give the names of the neurons of each recording, or the property that holds them")
    for name, ids, population in zip(matches.recordings, matches.unit_ids, populations or (), strict=False):
        if list(map(str, population.unit_ids.tolist())) != list(map(str, ids.tolist())):
            raise InputError(f"populations: that of {name} has other units than those that were matched")
        matched = matches.provenance.get("recordings", {}).get(name, {}).get("fingerprint")
        if matched and population.fingerprint() != matched:
            raise InputError(f"populations: that of {name} is not the recording that was matched")
    if isinstance(truth, str) and populations is None:
        raise InputError(f"truth: to read the property {truth!r}, give the populations")
    neurons = [
        neuron_names(
            truth if isinstance(truth, str) else truth[k], ids, populations[k] if populations else None, name
        )
        for k, (name, ids) in enumerate(zip(matches.recordings, matches.unit_ids, strict=True))
    ]  # fmt: skip
    methods = _Methods(matches, populations, others or {})
    rows, judged_pairs = [], []
    for first in range(count):
        for second in range(first + 1, count):
            found = _score_pair(matches, methods, neurons, first, second)
            if found is not None:
                rows += found[0]
                judged_pairs.append(found[1])
    if not rows:
        raise InputError("truth: no two recordings have two known neurons in common: give the names of their neurons")
    probability, same = (np.concatenate(parts) for parts in zip(*judged_pairs, strict=True))
    return MatchEvaluation(pd.DataFrame(rows), _calibration(probability, same), matches.target_error)


class _Methods:
    """Similarities of the units of two recordings by each method."""

    def __init__(self, matches: UnitMatches, populations: list[Population] | None, others: dict):
        self.matches = matches
        self.embedded = [np.flatnonzero(np.isfinite(e).all(axis=1)) for e in matches.embedding]
        tables = {str(name): list(arrays) for name, arrays in others.items()}
        self.correlations = None
        if populations is not None:
            features = [baseline_features(population) for population in populations]
            tables = {name: [arrays[name] for arrays in features] for name in features[0]} | tables
            self.correlations = [
                correlations(population, units) for population, units in zip(populations, self.embedded, strict=True)
            ]
        for name, arrays in tables.items():
            try:
                arrays = [np.asarray(array, dtype=float) for array in arrays]
            except (TypeError, ValueError):
                raise InputError(f"{name}: contains values that are not numbers") from None
            arrays = [array[:, None] if array.ndim == 1 else array for array in arrays]
            same = [len(array) for array in arrays] == [len(ids) for ids in matches.unit_ids]
            if not same or len({array.shape[1:] for array in arrays}) != 1 or arrays[0].ndim != 2:
                raise InputError(f"{name}: give one array (n_units, k) for each recording, with the same k")
            tables[name] = arrays
        self.tables = {
            name: [_filled(np.asarray(array, dtype=float)[units]) for array, units in
                   zip(arrays, self.embedded, strict=True)]
            for name, arrays in tables.items()
        }  # fmt: skip
        names = list(self.tables)
        starts = [] if populations is None else [n for n in names if n in (names[0], *others) or "population" in n]
        self.related = {name: self._related(populations, self.tables[name]) for name in starts}

    def _related(self, populations: list[Population], features: list[np.ndarray]) -> dict:
        """Recordings compared as in `match_units`, with these features in the place of embeddings.

        The scales of correlations are weighted equally. Gives arrays (n_a, n_b) of the units with an embedding.
        """
        recordings, positions = [], []
        for number, (population, rows) in enumerate(zip(populations, features, strict=True)):
            groups, at = {}, {}
            for label, units in population.groups():
                at[label] = np.flatnonzero(np.isin(self.embedded[number], units))
                correlations = self.correlations[number][:, at[label][:, None], at[label]]
                whole = Evidence(rows[at[label]].astype(np.float32), correlations)
                groups[label] = GroupEvidence(at[label], whole, None, at[label][:0])
            recordings.append(RecordingEvidence(str(number), population.unit_ids, rows, groups, "", None, "", []))
            positions.append(at)
        sizes = list(map(len, self.embedded))
        result = {(a, b): np.zeros((sizes[a], sizes[b])) for a, b in combinations(range(len(sizes)), 2)}
        links = links_of(recordings, correspondences(recordings), Cache(None), progress=False)
        for ((a, label), (b, other)), link in links.items():
            result[a, b][np.ix_(positions[a][label], positions[b][other])] = link.weight.toarray()
        return result

    def of(self, first: int, second: int):
        """Name and similarity of each method, among the units with an embedding."""
        at = np.ix_(self.embedded[first], self.embedded[second])
        yield MATCHES, self.matches.probability_between(first, second)[at]
        yield EMBEDDING, self.matches.similarity_between(first, second)[at]
        for name, arrays in self.tables.items():
            yield name, _likeness(arrays[first], arrays[second])
            if name in self.related:
                yield name + WITH_RELATIONS, self.related[name][first, second]


def identities(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether units with these names of neurons are the same, and whether this is known: bool, (n_first, n_second).

    It is known if both names are, or if one of the units is known to be another unit of the other recording.
    """
    same = (first[:, None] == second) & (first != "")[:, None]
    known = same.any(axis=1)[:, None] | same.any(axis=0) | ((first != "")[:, None] & (second != ""))
    return same, known


def _score_pair(matches: UnitMatches, methods: _Methods, neurons: list[np.ndarray], first: int, second: int):
    """Rows of scores, and probability and identity of all pairs that can be judged; None without common neurons."""
    units = methods.embedded[first], methods.embedded[second]
    names = neurons[first][units[0]], neurons[second][units[1]]
    same, known = identities(*names)
    if same.sum() < 2:
        return None
    about = {
        "recording_a": matches.recordings[first], "recording_b": matches.recordings[second],
        "common": int(same.sum()), "candidates_a": len(units[0]), "candidates_b": len(units[1]),
    }  # fmt: skip
    rows = []
    for method, similarity in methods.of(first, second):
        rows.append(
            {**about, "method": method, "top_1": _top_1(similarity, same), "auc": _auc(similarity, same, known)}
        )
        if method == MATCHES:
            named = matches.named_between(first, second)[np.ix_(*units)]
            right, judged = int((named & same).sum()), int((named & known).sum())
            rows[-1] |= {"named": int(named.sum()), "judged": judged, "right": right}
            rows[-1] |= {"precision": right / judged if judged else np.nan, "recall": right / int(same.sum())}
            probability = similarity
    guess = float(np.mean([1 / len(units[0]), 1 / len(units[1])]))
    rows.append({**about, "method": CHANCE, "top_1": guess, "auc": 0.5})
    return rows, (probability[known], same[known])


def _top_1(similarity: np.ndarray, same: np.ndarray) -> float:
    i, j = np.nonzero(same)
    hits = [similarity.argmax(axis=1)[i] == j, similarity.argmax(axis=0)[j] == i]
    return float(np.mean(hits))


def _auc(similarity: np.ndarray, same: np.ndarray, known: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    labels = same[known]
    return float(roc_auc_score(labels, similarity[known])) if labels.any() and not labels.all() else np.nan


def _calibration(probability: np.ndarray, same: np.ndarray):
    """Mean probability, fraction of the same neuron and number of pairs in each bin."""
    import pandas as pd

    which = np.clip(np.searchsorted(BINS, probability, side="right") - 1, 0, len(BINS) - 2)
    rows = [
        {"probability": probability[which == k].mean(), "same": same[which == k].mean(), "pairs": (which == k).sum()}
        for k in range(len(BINS) - 1)
        if (which == k).any()
    ]
    return pd.DataFrame(rows)


def _likeness(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Similarity of features: cosine of standardised ones, or of a single one the negative difference."""
    if first.shape[1] == 1:
        return -np.abs(first - second.T)
    return similarity_of(first, second)


def _filled(rows: np.ndarray) -> np.ndarray:
    """Rows with each NaN replaced by the mean of its column."""
    finite = np.isfinite(rows)
    mean = np.where(finite, rows, 0).sum(axis=0) / np.maximum(finite.sum(axis=0), 1)
    return np.where(finite, rows, mean)
