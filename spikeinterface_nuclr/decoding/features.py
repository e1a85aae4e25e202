"""Features for the baselines: firing statistics of each unit or trace by itself, and its coupling to the population.

Inter-spike intervals that contain a gap in the observed time are not counted. SpikeInterface's correlograms are not
used, because they do not take gaps into account.
"""

import numpy as np

from ..errors import InputError
from ..population import Population
from ..windows.observed import ObservedBins, typical_length

# log10 of seconds: 0.3 ms to 100 s.
INTERVAL_EDGES = np.linspace(-3.5, 2.0, 31)
# Of the autocorrelogram: seconds per bin, and bins.
BIN_S, BINS = 0.01, 50


def firing_rate(population: Population) -> np.ndarray:
    """log10 of the firing rate in spikes per observed second; silent neurons count as having half a spike.

    Shape (n_units, 1); NaN for a neuron that was never observed.
    """
    _check_spikes(population)
    seconds = np.array([np.ptp(population.observed_of(unit), axis=1).sum() for unit in range(population.n_units)])
    rate = np.maximum(population.num_spikes, 0.5) / np.where(seconds > 0, seconds, np.nan)
    return np.log10(rate)[:, None]


def interval_histogram(population: Population) -> np.ndarray:
    """Square root of the fraction of interspike intervals in each of 30 logarithmic bins from 0.3 ms to 100 s.

    Shape (n_units, 30); zeros for a neuron without intervals.
    """
    _check_spikes(population)
    rows = np.zeros((population.n_units, len(INTERVAL_EDGES) - 1))
    for unit, row in enumerate(rows):
        times, interval = _with_intervals(population, unit)
        intervals = np.diff(times)[np.diff(interval) == 0]
        logs = np.clip(np.log10(np.maximum(intervals, 1e-9)), INTERVAL_EDGES[0], INTERVAL_EDGES[-1])
        row[:] = np.sqrt(np.histogram(logs, INTERVAL_EDGES)[0] / max(len(intervals), 1))
    return rows


def autocorrelogram(population: Population) -> np.ndarray:
    """Autocorrelogram up to 500 ms, in 50 bins of 10 ms, as log(1 + spikes per second): shape (n_units, 50)."""
    _check_spikes(population)
    rows = np.zeros((population.n_units, BINS))
    for unit, row in enumerate(rows):
        times, interval = _with_intervals(population, unit)
        earlier, pairs = np.arange(len(times) - 1), np.zeros(BINS)
        for order in range(1, len(times)):
            # If the n-th next spike is too late, so are all later ones.
            earlier = earlier[earlier + order < len(times)]
            later = earlier + order
            near = (times[later] - times[earlier] < BIN_S * BINS) & (interval[later] == interval[earlier])
            earlier, later = earlier[near], later[near]
            if not len(earlier):
                break
            pairs += np.histogram(times[later] - times[earlier], BINS, (0, BIN_S * BINS))[0]
        row[:] = np.log1p(pairs / max(len(times), 1) / BIN_S)
    return rows


def unit_features(population: Population):
    """What the baselines see of each unit, as a few numbers for people to read.

    Parameters
    ----------
    population : Population

    Returns
    -------
    pandas DataFrame
        One row per unit, indexed by unit id. For spikes: "rate (Hz)"; "median interval (ms)" between spikes, "intervals
        < 10 ms (%)", as bursts have, and "CV2 of intervals", their variability (1 for a Poisson process; Holt et al.
        1996, J. Neurophysiol. 75, 1806–1814), where no gap in the observed time lies between; "population coupling",
        the correlation with the summed activity of the other units of the group (bins of 0.1 s; traces: 1 s). NaN where
        undefined.

    Examples
    --------
    >>> from spikeinterface_nuclr import simulate_population, unit_features
    >>> features = unit_features(simulate_population(10, 30.0))
    >>> features.columns.tolist()[:2]
    ['rate (Hz)', 'median interval (ms)']
    """
    import pandas as pd

    columns = {}
    if population.signal == "spikes":
        columns["rate (Hz)"] = 10 ** firing_rate(population)[:, 0]
        rows = np.array([_interval_facts(*_with_intervals(population, unit)) for unit in range(population.n_units)])
        columns |= dict(zip(_INTERVAL_FACTS, rows.T, strict=True))
    scale = {"spikes": 0.1, "traces": 1.0}[population.signal]
    columns["population coupling"] = _population_features_at(population, scale)[:, ZERO_LAG]
    return pd.DataFrame(columns, index=pd.Index(population.unit_ids, name="unit_id"))


_INTERVAL_FACTS = ("median interval (ms)", "intervals < 10 ms (%)", "CV2 of intervals")


def _interval_facts(times: np.ndarray, interval: np.ndarray) -> tuple[float, float, float]:
    """Of a unit's spikes and the observed interval of each; NaN where undefined."""
    lengths, whole = np.diff(times), np.diff(interval) == 0
    if not whole.any():
        return np.nan, np.nan, np.nan
    sums = lengths[1:] + lengths[:-1]
    pairs = whole[1:] & whole[:-1] & (sums > 0)
    cv2 = (2 * np.abs(np.diff(lengths))[pairs] / sums[pairs]).mean() if pairs.any() else np.nan
    return 1e3 * np.median(lengths[whole]), 100 * (lengths[whole] < 0.01).mean(), cv2


def _check_spikes(population: Population) -> None:
    if population.signal != "spikes":
        raise InputError("the population holds traces: rates and intervals need spikes")


def _with_intervals(population: Population, unit: int) -> tuple[np.ndarray, np.ndarray]:
    """A unit's spike times, and the index of the observed interval of each spike."""
    times, intervals = population.spike_times[unit], population.observed_of(unit)
    return times, np.searchsorted(intervals[:, 0], times, side="right")


# Hz, for periods of two minutes to two seconds, which slow microscopes resolve too. Each band contains at least one
# frequency of a two-minute segment.
BAND_EDGES = np.array([0.5, 1.5, 2.5, 4.5, 8.5, 16.5, 30.5, 60.5]) / 120
LAGS_S = np.geomspace(0.6, 60.0, 20)


def spectrum(population: Population) -> np.ndarray:
    """log10 of the fraction of a trace's variance in 7 bands from 1/120 to 1/2 Hz (Welch's method, 2-minute segments).

    Shape (n_units, 7); NaN for a neuron observed for less than two minutes.
    """
    from scipy.signal import welch

    rate = _rate(population)
    length = round(120 * rate)
    rows = np.full((population.n_units, len(BAND_EDGES) - 1), np.nan)
    for row, trace in zip(rows, _observed_traces(population), strict=True):
        if len(trace) < length:
            continue
        frequencies, power = welch(trace, rate, nperseg=length)
        bands = np.histogram(frequencies[1:], BAND_EDGES, weights=power[1:])[0]
        row[:] = np.log10(np.maximum(bands, 1e-6 * power[1:].sum()) / max(power[1:].sum(), 1e-30))
    return rows


def trace_autocorrelation(population: Population) -> np.ndarray:
    """Autocorrelation of a trace at 20 lags from 0.6 to 60 s.

    Shape (n_units, 20); NaN for a neuron observed for less than two minutes.
    """
    lags = np.maximum(np.round(LAGS_S * _rate(population)).astype(int), 1)
    rows = np.full((population.n_units, len(lags)), np.nan)
    for row, trace in zip(rows, _observed_traces(population), strict=True):
        if len(trace) > 2 * lags[-1]:
            centred = trace - trace.mean()
            power = max(centred @ centred, 1e-30) / len(centred)
            row[:] = [centred[:-lag] @ centred[lag:] / (len(centred) - lag) / power for lag in lags]
    return rows


def _rate(population: Population) -> float:
    if population.signal != "traces":
        raise InputError("the population holds spikes: these features need traces")
    return population.sampling_frequency


def _observed_traces(population: Population):
    for unit, trace in enumerate(population.traces):
        frames = population.frames_of(population.observed_of(unit))
        parts = [trace[a:b].astype(np.float64) for a, b in frames]
        yield np.concatenate(parts) if parts else np.empty(0)


# Bin widths in seconds; no shorter than a frame.
SCALES_S = {"spikes": (0.02, 0.1, 0.5), "traces": (1.0, 5.0)}
LAGS = (-4, -1, 0, 1, 4)
ZERO_LAG = LAGS.index(0)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

# Most correlations in memory at once.
_BLOCK = 4_000_000
# Variances below this fraction of the total are rounding errors.
_ROUNDING = 1e-5


def population_features(population: Population) -> np.ndarray:
    """Coupling to the population, and the distribution of pairwise correlations, at several time scales.

    For each bin width in `SCALES_S`: the correlation of a neuron's activity with the summed activity of the other
    neurons of its group (population coupling: Okun et al. 2015, Nature 521, 511–515) `LAGS` bins later; the quantiles
    (5, 25, 50, 75, 95 %) of its pairwise correlations with the others, and their mean absolute value. Traces have
    arbitrary units, so they are divided by their standard deviation before they are summed.

    If observed intervals are shorter than a bin, as trials are, bins are shortened until 90 % of the observed time is
    in intervals of at least one bin, but not below the shortest of `SCALES_S`.

    Parameters
    ----------
    population : Population

    Returns
    -------
    float64, shape (n_units, 33) for spikes, (n_units, 22) for traces
        NaN for a neuron that is alone in its group or has constant activity, and at lags longer than all intervals.

    Notes
    -----
    Activity is read in blocks of about 16 MB. In addition, memory grows with the square of the number of neurons in a
    group: 8 bytes per pair.
    """
    return np.hstack([_population_features_at(population, scale) for scale in SCALES_S[population.signal]])


def _population_features_at(population: Population, scale: float) -> np.ndarray:
    """`population_features` in bins of one width."""
    rows = np.full((population.n_units, len(LAGS) + len(QUANTILES) + 1), np.nan)
    bin_s = np.clip(typical_length(population), SCALES_S[population.signal][0], scale)
    for _, units in population.groups():
        if len(units) > 1:
            rows[units] = _group_features(ObservedBins.of(population, units, bin_s))
    return rows


def _group_features(binned: ObservedBins) -> np.ndarray:
    """Population coupling and distribution of correlations of a group's neurons: shape (n, lags + 6)."""
    mean, deviation = binned.moments()
    unit = deviation if binned.population.signal == "traces" else np.ones_like(deviation)
    scale = np.divide(1.0, unit, out=np.zeros_like(unit), where=deviation > 0)
    sums = _Sums(binned)
    for low, high in binned.blocks(4 * max(LAGS)):
        sums.add(low, high, mean, scale)
    deviation = np.where(deviation > 0, deviation * scale, np.nan)
    distribution = _distribution(sums.products, sums.shared, binned.which, deviation)
    return np.clip(np.hstack([_coupling(sums, binned.which, deviation), distribution]), -1, 1)


class _Sums:
    """Sums over time of products of activity, as deviations from each neuron's mean.

    Attributes
    ----------
    products : float32, shape (n, n)
        Products of two neurons.
    with_total, with_itself : float64, shape (n, lags)
        Products of a neuron with the sum of all neurons, and with itself, at each lag.
    power : float64, shape (sets,)
        Squares of the sum of all neurons, over the bins in each set of observed intervals.
    shared : float64, shape (sets, sets)
        Number of bins in both of two sets.
    pairs : float64, shape (sets, lags)
        Number of bins of a set in which, at each lag, other neurons are observed.
    """

    def __init__(self, binned: ObservedBins):
        n, sets = len(binned.units), len(binned.slices)
        self.binned = binned
        self.members = np.bincount(binned.which, minlength=sets)
        self.products = np.zeros((n, n), dtype=np.float32)
        self.with_total, self.with_itself = np.zeros((2, n, len(LAGS)))
        self.power, self.shared, self.pairs = np.zeros(sets), np.zeros((sets, sets)), np.zeros((sets, len(LAGS)))

    def add(self, low: int, high: int, mean: np.ndarray, scale: np.ndarray) -> None:
        """Add the bins [low, high)."""
        begin, end = max(low - max(LAGS), 0), min(high + max(LAGS), len(self.binned))
        mask = self.binned.mask(begin, end)
        weights = mask.astype(np.float32)
        z = self.binned.activity(begin, end)
        z -= mean[:, None].astype(np.float32)
        z *= scale[:, None].astype(np.float32)
        z *= self.binned.per_unit(weights)
        total = z.sum(axis=0)
        accompanied = self.members @ mask - mask > 0  # whether a neuron of the set is observed with others
        piece = self.binned.piece_of(np.arange(begin, end))
        block = slice(low - begin, high - begin)
        self.products += z[:, block] @ z[:, block].T
        self.shared += weights[:, block] @ weights[:, block].T
        self.power += weights[:, block] @ total[block] ** 2
        for column, lag in enumerate(LAGS):
            first = max(low, -lag)
            last = max(min(high, len(self.binned) - lag), first)
            now, later = slice(first - begin, last - begin), slice(first + lag - begin, last + lag - begin)
            joined = (piece[now] == piece[later]).astype(np.float32)  # both bins lie in one interval
            self.with_total[:, column] += z[:, now] @ (total[later] * joined)
            self.with_itself[:, column] += np.einsum("ij,ij->i", z[:, now] * joined, z[:, later])
            self.pairs[:, column] += (weights[:, now] * accompanied[:, later]) @ joined


def _coupling(sums: _Sums, which: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Correlation of each neuron with the sum of the others at each lag, (n, lags); NaN where undefined."""
    with_others, count, power = sums.with_total - sums.with_itself, sums.pairs[which], sums.power[which]
    others = power - sums.with_total[:, ZERO_LAG] - with_others[:, ZERO_LAG]  # squares of the sum without the neuron
    others[others <= _ROUNDING * power] = np.nan
    with np.errstate(invalid="ignore", divide="ignore"):
        return with_others / count / (deviation * np.sqrt(others / count[:, ZERO_LAG]))[:, None]


def _distribution(products: np.ndarray, shared: np.ndarray, which: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Quantiles and mean absolute value of each neuron's correlations with the others: (n, 6), NaN where undefined.

    Parameters
    ----------
    products : array, shape (n, n)
        Sums of products of two neurons.
    shared : array, shape (sets, sets)
        Number of bins in both of two sets.
    which : int array, shape (n,)
        Index of each neuron's set.
    deviation : array, shape (n,)
        Standard deviation of each neuron.
    """
    n, shared = len(products), np.where(shared > 1, shared, np.nan)
    rows = np.full((n, len(QUANTILES) + 1), np.nan)
    step = max(_BLOCK // n, 1)
    for low in range(0, n, step):
        part = np.arange(low, min(low + step, n))
        correlation = products[part] / shared[np.ix_(which[part], which)] / (deviation[part, None] * deviation)
        correlation[part - low, part] = np.nan
        mask = np.isfinite(correlation).any(axis=1)
        if mask.any():
            rows[part[mask], :-1] = np.nanquantile(correlation[mask], QUANTILES, axis=1).T
            rows[part[mask], -1] = np.nanmean(np.abs(correlation[mask]), axis=1)
    return rows
