"""find_oversplits: pairs of units of one recording that look like one neuron which the sorter has split."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import expit
from scipy.stats import poisson

from ..embedding import EmbeddingSettings
from ..errors import InputError
from ..intervals import intersection
from ..io import read_population
from ..population import Population
from ..unit_matches import similarity_of
from .cache import Cache
from .calibration import LEAST_UNITS, logit
from .evidence import Evidence, GroupEvidence
from .relations import agreement_of
from .sources import EvidenceReader

# Seconds: a neuron is refractory below the first lag; its correlogram is flat between the other two.
REFRACTORY_S, FLANK_S = 0.0015, (0.01, 0.03)
# Spikes closer than this may be one spike, detected twice.
_COINCIDENT_S = 0.0002
# Level of significance of refractory pairs.
_REFRACTORY_LEVEL = 0.05
# A unit is absent where it is silent, at the begin or end, for so much of the recording and so many mean intervals.
_ABSENT, _ABSENT_INTERVALS = 0.1, 20
# Spikes expected within the refractory lags from which on a correlogram says something.
_LEAST_EXPECTED = 3.0
# Spikes of one neuron within its refractory lags, relative to those expected of two: of other neurons, or noise.
_CONTAMINATION = 0.05
# Least fractions of pairs of two neurons that look refractory, because one inhibits the other or their spikes overlap,
# and that are successive. Chosen in two rats (benchmarks/matching.py tests four others).
_REFRACTORY_PAIRS, _SUCCESSIVE_PAIRS = 1e-3, 1e-2
# A pair looks refractory with at most this fraction of the spikes expected. How many do is estimated in pairs that are
# drawn at random.
_ALIKE, _DRAWN = 0.1, 4000


@dataclass(frozen=True, eq=False)
class Oversplits:
    """Pairs of units of one recording that may be one neuron.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per pair, the most probable first: ``unit_a``, ``unit_b``, ``probability`` (that they are one neuron, by
        all evidence), ``p(activity)`` (by their activity alone), ``similarity``, ``agreement``, ``within_refractory``
        and ``expected`` (spikes of one unit within 1.5 ms of spikes of the other, and how many the correlogram at
        longer lags predicts), ``refractory`` (whether the former are significantly fewer; False where too few are
        expected to tell), ``successive`` (whether one is absent as long as the other is present).
    num_units : int

    Examples
    --------
    >>> from spikeinterface_nuclr import find_oversplits, simulate_population
    >>> oversplits = find_oversplits(simulate_population(20, 120.0), progress=False)
    >>> oversplits.merge_groups()
    []
    """

    table: object
    num_units: int

    def merge_groups(self) -> list[list]:
        """Units to merge, for ``analyzer.merge_units(merge_unit_groups=…)``: pairs that share a unit are joined."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        units = list(dict.fromkeys([*self.table["unit_a"], *self.table["unit_b"]]))
        if not units:
            return []
        position = {unit: k for k, unit in enumerate(units)}
        rows, columns = ([position[unit] for unit in self.table[name]] for name in ("unit_a", "unit_b"))
        graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(units), len(units)))
        count, labels = connected_components(graph, directed=False)
        return [[units[k] for k in np.flatnonzero(labels == label)] for label in range(count)]

    def __repr__(self):
        return f"Oversplits({len(self.table)} pairs of {self.num_units} units)"


def find_oversplits(
    source, *, least_probability: float = 0.5, model=None, device: str = "auto", precision: str = "auto",
    group_by: str | None = "group", cache: str | Path | None = None, progress: bool = True, **keywords,
) -> Oversplits:  # fmt: skip
    """Find pairs of units of one recording that look like one neuron which the sorter has split.

    What the same neuron looks like is learnt from halves of the recording: each unit in one half is compared with
    itself, and with the others, in the other half. This probability is multiplied by what the spikes say (Bayes' rule):
    how much better the number of spikes just after spikes of the other unit fits one neuron, which is refractory, than
    two; or that one unit appears where the other is lost. Nothing is merged.

    Parameters
    ----------
    source
        As in `read_population`; spikes.
    least_probability : float, default: 0.5
        Pairs of a lower probability are left out.
    model, device, precision, group_by, cache, progress, **keywords
        As in `match_units`.

    Returns
    -------
    Oversplits

    Raises
    ------
    InputError
        The recording cannot be read or embedded, holds traces, or is too short or has too few units to be compared with
        itself; or least_probability is wrong.
    CheckpointError, DeviceError
        As in `embed`.

    Examples
    --------
    >>> from spikeinterface_nuclr import find_oversplits, simulate_population
    >>> find_oversplits(simulate_population(20, 120.0), progress=False)
    Oversplits(0 pairs of 20 units)
    """
    import pandas as pd

    if isinstance(least_probability, bool) or not isinstance(least_probability, int | float | np.number):
        raise InputError(f"least_probability must be a number in [0, 1], not {least_probability!r}")
    if not 0 <= least_probability <= 1:
        raise InputError(f"least_probability must lie in [0, 1], not {least_probability!r}")
    name = str(source) if isinstance(source, str | Path) else "the recording"
    reader = EvidenceReader(
        EmbeddingSettings(model, device, precision), {"group_by": group_by, **keywords}, Cache.of(cache), progress
    )
    population = read_population(source, group_by=group_by, **keywords)
    if population.signal != "spikes":
        raise InputError(f"{name}: holds traces, and find_oversplits needs the spikes of a sorted recording")
    population = present(population)
    evidence = reader.read(population, name)
    groups = [group for group in evidence.groups.values() if group.halves and len(group.halves[0]) >= LEAST_UNITS]
    if not groups:
        raise InputError(
            f"{name}: is too short, or holds too few units, to be compared with itself: give a longer recording, or "
            f"more units"
        )
    columns = (
        "unit_a", "unit_b", "probability", "p(activity)", "similarity", "agreement", "within_refractory", "expected",
        "refractory", "successive",
    )  # fmt: skip
    rows = []
    for group in groups:
        rows += _of_group(population, group, least_probability)
    table = pd.DataFrame(rows, columns=columns)
    table = table[table["probability"] >= least_probability]
    return Oversplits(table.sort_values("probability", ascending=False, ignore_index=True), population.n_units)


def present(population: Population) -> Population:
    """The recording, in which units that are absent at its begin or end count as observed only in between.

    So their correlations with others, and their windows, are those of the time when they fire.
    """
    observed = []
    for unit, times in enumerate(population.spike_times):
        whole = population.observed_of(unit)
        if len(times) > 1:
            gap = max(_ABSENT * (population.stop - population.start), _ABSENT_INTERVALS * np.ptp(times) / len(times))
            begin = times[0] if times[0] - population.start > gap else population.start
            end = times[-1] if population.stop - times[-1] > gap else population.stop
            whole = intersection(whole, np.array([[begin, end]])) if begin < end else whole
        observed.append(whole)
    return dataclasses.replace(population, observed=observed)


def _of_group(population: Population, group: GroupEvidence, least_probability: float) -> list[tuple]:
    """Rows of the pairs of a group that may reach this probability."""
    units = group.halved
    activity, similarity, agreement = _like_one(*group.halves, group.weights)
    successive = _successive(population, units)
    frequency = max(successive[np.triu_indices(len(units), 1)].mean(), _SUCCESSIVE_PAIRS)
    alike = refractory_fraction([population.spike_times[unit] for unit in units])
    # What the spikes can say at most.
    possible = logit(activity) + max(-np.log(alike), -np.log(frequency)) >= logit(least_probability)
    rows = []
    for i, j in np.argwhere(np.triu(possible, 1)):
        first, second = population.spike_times[units[i]], population.spike_times[units[j]]
        within, expected = refractory_spikes(first, second)
        few = expected >= _LEAST_EXPECTED and within < expected / 2
        refractory = bool(few and poisson.cdf(within, expected) < _REFRACTORY_LEVEL)
        ratio = -np.log(frequency) if successive[i, j] else log_ratio(within, expected, alike)
        probability = float(expit(logit(activity[i, j]) + ratio))
        ids = population.unit_ids[units[[i, j]]].tolist()
        about = activity[i, j], similarity[i, j], agreement[i, j], within, expected, refractory, bool(successive[i, j])
        rows.append((*ids, probability, *about))
    return rows


def _successive(population: Population, units: np.ndarray) -> np.ndarray:
    """Whether the units at these positions are hardly present together: bool, shape (n, n)."""
    observed = [population.observed_of(unit) for unit in units]
    begin, end = (np.array([intervals[at] for intervals in observed]) for at in ((0, 0), (-1, 1)))
    together = np.minimum(end[:, None], end) - np.maximum(begin[:, None], begin)
    return together < _ABSENT * (population.stop - population.start)


def _like_one(first: Evidence, second: Evidence, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probability that two units have the activity of one neuron, similarity and agreement: arrays (n, n).

    From a logistic model that separates the same unit in the other half from other units.
    """
    from sklearn.linear_model import LogisticRegression

    n = len(first)
    similarity = similarity_of(first.embedding, second.embedding).astype(float)
    share = (weights / weights.sum()).astype(np.float32)
    agreement = agreement_of(first.correlations, second.correlations, np.eye(n, dtype=np.float32), share).astype(float)
    rows = np.stack([similarity.ravel(), agreement.ravel()], axis=1)
    rows = np.hstack([rows, rows**2])
    rows = (rows - rows.mean(axis=0)) / np.maximum(rows.std(axis=0), 1e-9)
    same = np.eye(n, dtype=bool).ravel()
    model = LogisticRegression(C=1.0, max_iter=1000).fit(rows, same)
    probability = model.predict_proba(rows)[:, 1].reshape(n, n)
    # A pair is seen twice: each of its units in either half.
    return tuple((values + values.T) / 2 for values in (probability, similarity, agreement))


def refractory_spikes(first: np.ndarray, second: np.ndarray) -> tuple[int, float]:
    """Spikes of one train within 1.5 ms of spikes of the other, and the number expected from lags of 10 to 30 ms."""

    def within(low: float, high: float) -> int:
        counts = [
            np.searchsorted(second, first + b, side="left") - np.searchsorted(second, first + a, side="right")
            for a, b in ((low, high), (-high, -low))
        ]
        return int(sum(np.maximum(count, 0).sum() for count in counts))

    flank = within(*FLANK_S) / (FLANK_S[1] - FLANK_S[0])
    return within(_COINCIDENT_S, REFRACTORY_S), float(flank * (REFRACTORY_S - _COINCIDENT_S))


def refractory_fraction(trains: list[np.ndarray]) -> float:
    """Fraction of pairs of these spike trains that look refractory, from a sample; at least one in a thousand.

    It is large where spikes of different neurons cannot be close to one another, for example if spike times are those
    of bins: refractoriness then says nothing. More than the least fraction is returned only where it is significant.
    """
    rng, count = np.random.default_rng(0), len(trains)
    pairs = np.argwhere(np.triu(np.ones((count, count), dtype=bool), 1))
    pairs = pairs[rng.permutation(len(pairs))[:_DRAWN]]
    counts = np.array([refractory_spikes(trains[i], trains[j]) for i, j in pairs]).reshape(-1, 2)
    within, expected = counts[counts[:, 1] >= _LEAST_EXPECTED].T
    chance = poisson.cdf(_ALIKE * expected, expected)
    looking, others = (within <= _ALIKE * expected).sum() - chance.sum(), (1 - chance).sum()
    if not len(within) or looking < 2 * np.sqrt((chance * (1 - chance)).sum()) + 1:
        return _REFRACTORY_PAIRS
    return float(np.clip(looking / others, _REFRACTORY_PAIRS, 1))


def log_ratio(within: int, expected: float, alike: float = _REFRACTORY_PAIRS) -> float:
    """Logarithm of how much better a number of spikes within the refractory lags fits one neuron than two.

    Of one neuron it is a Poisson variable with a mean of 5 % of those expected. Of two its mean is all of them, except
    in the fraction of pairs that look like one neuron (`refractory_fraction`).
    """
    if not expected > 0:
        return 0.0
    one, two = poisson.logpmf(within, _CONTAMINATION * expected), poisson.logpmf(within, expected)
    return float(one - np.logaddexp(np.log1p(-min(alike, 1 - 1e-9)) + two, np.log(alike) + one))
