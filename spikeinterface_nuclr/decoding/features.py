"""Features for the baselines: firing statistics of each unit or trace by itself, and its coupling to the population.

Inter-spike intervals that contain a gap in the observed time are not counted. By hand: SpikeInterface's correlograms
know no gaps.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..binning import bin_activity
from ..errors import InputError
from ..intervals import numbers_in, union
from ..population import Population
from ..windows import Timeline

# log10 of seconds: 0.3 ms to 100 s.
INTERVAL_EDGES = np.linspace(-3.5, 2.0, 31)
LAG_S, NUM_LAGS = 0.01, 50


def firing_rate(population: Population) -> np.ndarray:
    """log10 of spikes per observed second, a silent neuron's as if it had half a spike.

    Shape (n_units, 1); NaN where a neuron was never observed.
    """
    _check_spikes(population)
    seconds = np.array([np.ptp(population.observed_of(unit), axis=1).sum() for unit in range(population.n_units)])
    rate = np.maximum(population.num_spikes, 0.5) / np.where(seconds > 0, seconds, np.nan)
    return np.log10(rate)[:, None]


def interval_histogram(population: Population) -> np.ndarray:
    """Square roots of the shares of log10 inter-spike intervals in 30 bins from 0.3 ms to 100 s.

    Shape (n_units, 30); zeros where a neuron has no interval.
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
    """Spikes per second that follow a spike, in 50 bins of 10 ms, as log(1 + rate): shape (n_units, 50)."""
    _check_spikes(population)
    rows = np.zeros((population.n_units, NUM_LAGS))
    for unit, row in enumerate(rows):
        times, interval = _with_intervals(population, unit)
        earlier, pairs = np.arange(len(times) - 1), np.zeros(NUM_LAGS)
        for order in range(1, len(times)):
            # A spike whose order-th successor is too late has none that comes in time after that.
            earlier = earlier[earlier + order < len(times)]
            later = earlier + order
            near = (times[later] - times[earlier] < LAG_S * NUM_LAGS) & (interval[later] == interval[earlier])
            earlier, later = earlier[near], later[near]
            if not len(earlier):
                break
            pairs += np.histogram(times[later] - times[earlier], NUM_LAGS, (0, LAG_S * NUM_LAGS))[0]
        row[:] = np.log1p(pairs / max(len(times), 1) / LAG_S)
    return rows


def _check_spikes(population: Population) -> None:
    if population.signal != "spikes":
        raise InputError("the population holds traces: rates and intervals are of spikes")


def _with_intervals(population: Population, unit: int) -> tuple[np.ndarray, np.ndarray]:
    """A unit's spike times, and the number of the observed interval in which each lies."""
    times, intervals = population.spike_times[unit], population.observed_of(unit)
    return times, np.searchsorted(intervals[:, 0], times, side="right")


# Hz, from periods of two minutes to two seconds, which slow microscopes record too. Each band holds a frequency of a
# segment of two minutes.
BAND_EDGES = np.array([0.5, 1.5, 2.5, 4.5, 8.5, 16.5, 30.5, 60.5]) / 120
LAGS_S = np.geomspace(0.6, 60.0, 20)


def spectrum(population: Population) -> np.ndarray:
    """log10 of the share of a trace's variance in 7 bands from 1/120 to 1/2 Hz (Welch's method, 2-minute segments).

    Shape (n_units, 7); NaN where a neuron was not observed for two minutes.
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
    """A trace's correlation with itself 0.6 to 60 s later, at 20 lags: shape (n_units, 20), NaN where it is shorter."""
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
        raise InputError("the population holds spikes: these features are of traces")
    return population.sampling_frequency


def _observed_traces(population: Population):
    for unit, trace in enumerate(population.traces):
        frames = population.frames_of(population.observed_of(unit))
        parts = [trace[a:b].astype(np.float64) for a, b in frames]
        yield np.concatenate(parts) if parts else np.empty(0)


# Lengths of the bins in seconds; no shorter than a frame.
SCALES_S = {"spikes": (0.02, 0.1, 0.5), "traces": (1.0, 5.0)}
LAGS = (-4, -1, 0, 1, 4)
ZERO_LAG = LAGS.index(0)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

# Values (neurons × bins) that are held at once, and bins that are summed in single precision.
_BLOCK = 4_000_000
_BLOCK_BINS = 16_384
# Deviations below this share of the largest value, and variances below this share of the sum's, are rounding.
_CONSTANT = 1e-6
_ROUNDING = 1e-5


def population_features(population: Population) -> np.ndarray:
    """Coupling to the population, and the distribution of pairwise correlations, at several time scales.

    For each length of bin in `SCALES_S`: the correlation of a neuron's activity with the summed activity of the others
    of its group (population coupling: Okun et al. 2015, Nature 521, 511–515) that lies `LAGS` bins later; quantiles
    (5, 25, 50, 75, 95 %) of its correlations with each of the others, and the mean of their absolute values. Traces
    have no common unit, so they are divided by their standard deviation before they are summed.

    Where observed intervals are shorter than a bin (trials), bins are shortened until nine tenths of the observed time
    lie in intervals that hold one, but not below the shortest of `SCALES_S`.

    Parameters
    ----------
    population : Population

    Returns
    -------
    float64, shape (n_units, 33) for spikes, (n_units, 22) for traces
        NaN where a neuron is alone in its group or its activity never changes, and at lags longer than all intervals.

    Notes
    -----
    Time is read in blocks of about 16 MB. Beyond these, memory grows with the square of a group's neurons: 8 bytes a
    pair.
    """
    typical = _typical_length(population)
    columns = []
    for scale in SCALES_S[population.signal]:
        rows = np.full((population.n_units, len(LAGS) + len(QUANTILES) + 1), np.nan)
        bin_s = np.clip(typical, SCALES_S[population.signal][0], scale)
        for _, units in population.groups():
            if len(units) > 1:
                rows[units] = _of_group(_Binned.of(population, units, bin_s))
        columns.append(rows)
    return np.hstack(columns)


@dataclass(frozen=True, eq=False)
class _Binned:
    """The bins of a group's observed time, interval after interval, and when each neuron was observed."""

    population: Population
    units: np.ndarray
    line: Timeline  # of bins; of traces: of frames, `frames` of them a bin
    frames: int
    seen: list[np.ndarray]  # slices of bins (k, 2) of each distinct set of observed intervals
    which: np.ndarray  # the set of each unit

    @classmethod
    def of(cls, population: Population, units: np.ndarray, bin_s: float) -> "_Binned":
        sets, which = population.observed_sets(units)
        frames = 1
        if population.traces is not None:
            rate = population.sampling_frequency
            frames, bin_s = max(round(bin_s * rate), 1), 1 / rate
            sets = [population.start + population.frames_of(intervals) / rate for intervals in sets]
        pieces = union(np.concatenate(sets))
        coarse = _timeline(pieces, frames * bin_s, 1)
        line = _timeline(pieces, bin_s, frames)
        return cls(population, units, line, frames, [coarse.slices(intervals) for intervals in sets], which)

    def __len__(self) -> int:
        return self.line.num_bins // self.frames

    def activity(self, low: int, high: int) -> np.ndarray:
        """Spikes in, or means of, the bins [low, high): float32, shape (n, high - low)."""
        values = bin_activity(self.population, self.units, self.line, low * self.frames, high * self.frames)
        if self.population.traces is not None:
            return values.reshape(len(values), -1, self.frames).mean(axis=2)
        return values.astype(np.float32)

    def mask(self, low: int, high: int) -> np.ndarray:
        """Bins [low, high) that each set of intervals holds wholly: bool, shape (sets, high - low)."""
        mask = np.zeros((len(self.seen), high - low), dtype=bool)
        for row, slices in zip(mask, self.seen, strict=True):
            first, last = np.searchsorted(slices[:, 1], low, side="right"), np.searchsorted(slices[:, 0], high)
            row[numbers_in(np.clip(slices[first:last], low, high) - low)] = True
        return mask

    def per_unit(self, values: np.ndarray) -> np.ndarray:
        """Rows of the sets as rows of the units, or one that all share."""
        return values if len(self.seen) == 1 else values[self.which]

    def piece_of(self, bins: np.ndarray) -> np.ndarray:
        """Number of the piece of observed time in which each bin lies."""
        return np.searchsorted(self.line.piece_first, bins * self.frames, side="right") - 1

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Slices of bins that are small enough to be held at once."""
        step = np.clip(_BLOCK // len(self.units), 4 * max(LAGS), _BLOCK_BINS)
        for low in range(0, len(self), step):
            yield low, min(low + step, len(self))


def _timeline(pieces: np.ndarray, bin_s: float, multiple: int) -> Timeline:
    """Whole bins of each piece of time (k, 2), in multiples of `multiple`."""
    # As in `windows`, a bin that ends on the border is inside, whatever floating-point division makes of it.
    counts = np.floor(np.ptp(pieces, axis=1) / (multiple * bin_s) + 1e-8).astype(np.int64) * multiple
    pieces, counts = pieces[counts > 0], counts[counts > 0]
    first = np.concatenate([[0], np.cumsum(counts)])
    runs = np.stack([first[:-1], first[1:]], axis=1)
    return Timeline(bin_s, pieces[:, 0], first, runs, 1, "", float(np.ptp(pieces, axis=1).sum()))


def _typical_length(population: Population) -> float:
    """Nine tenths of the observed time lie in intervals of at least this many seconds."""
    sets, _ = population.observed_sets(range(population.n_units))
    lengths = np.sort(np.ptp(np.concatenate(sets), axis=1))
    total = np.cumsum(lengths)
    return float(lengths[np.searchsorted(total, 0.1 * total[-1])]) if len(lengths) else 0.0


def _moments(binned: _Binned) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each neuron's observed bins, float64 (n,); a constant neuron's deviation is 0."""
    sums, squares, largest = np.zeros((3, len(binned.units)))
    count = np.zeros(len(binned.seen))
    for low, high in binned.blocks():
        mask = binned.mask(low, high)
        values = binned.activity(low, high) * binned.per_unit(mask)
        sums += values.sum(axis=1, dtype=np.float64)
        squares += np.einsum("ij,ij->i", values, values, dtype=np.float64)
        largest = np.maximum(largest, np.abs(values).max(axis=1))
        count += mask.sum(axis=1)
    count = np.maximum(count[binned.which], 1)
    mean = sums / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return mean, np.where(deviation > _CONSTANT * largest, deviation, 0)


def _of_group(binned: _Binned) -> np.ndarray:
    """Coupling at each lag and the distribution of correlations of a group's neurons: shape (n, lags + 6)."""
    mean, deviation = _moments(binned)
    unit = deviation if binned.population.signal == "traces" else np.ones_like(deviation)
    scale = np.divide(1.0, unit, out=np.zeros_like(unit), where=deviation > 0)
    sums = _Sums(binned)
    for low, high in binned.blocks():
        sums.add(low, high, mean, scale)
    deviation = np.where(deviation > 0, deviation * scale, np.nan)
    distribution = _distribution(sums.products, sums.shared, binned.which, deviation)
    return np.clip(np.hstack([_coupling(sums, binned.which, deviation), distribution]), -1, 1)


class _Sums:
    """Sums over time of products of activity, as deviations from each neuron's mean.

    Attributes
    ----------
    products : float32, shape (n, n)
        Of two neurons.
    with_total, with_itself : float64, shape (n, lags)
        Of a neuron and, at each lag, the sum of all neurons, or itself.
    power : float64, shape (sets,)
        Squares of the sum of all neurons, in the bins that each set of observed intervals holds.
    shared : float64, shape (sets, sets)
        Bins that two sets hold.
    pairs : float64, shape (sets, lags)
        Bins of a set's neurons in which, at each lag, others are observed.
    """

    def __init__(self, binned: _Binned):
        n, sets = len(binned.units), len(binned.seen)
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
        own = slice(low - begin, high - begin)
        self.products += z[:, own] @ z[:, own].T
        self.shared += weights[:, own] @ weights[:, own].T
        self.power += weights[:, own] @ total[own] ** 2
        for column, lag in enumerate(LAGS):
            first = max(low, -lag)
            last = max(min(high, len(self.binned) - lag), first)
            now, later = slice(first - begin, last - begin), slice(first + lag - begin, last + lag - begin)
            joined = (piece[now] == piece[later]).astype(np.float32)  # both bins lie in one interval
            self.with_total[:, column] += z[:, now] @ (total[later] * joined)
            self.with_itself[:, column] += np.einsum("ij,ij->i", z[:, now] * joined, z[:, later])
            self.pairs[:, column] += (weights[:, now] * accompanied[:, later]) @ joined


def _coupling(sums: _Sums, which: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Correlation of each neuron with the sum of the others at each lag, (n, lags); NaN where there is none."""
    with_others, count, power = sums.with_total - sums.with_itself, sums.pairs[which], sums.power[which]
    others = power - sums.with_total[:, ZERO_LAG] - with_others[:, ZERO_LAG]  # squares of the sum less the neuron
    others[others <= _ROUNDING * power] = np.nan
    with np.errstate(invalid="ignore", divide="ignore"):
        return with_others / count / (deviation * np.sqrt(others / count[:, ZERO_LAG]))[:, None]


def _distribution(products: np.ndarray, shared: np.ndarray, which: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Quantiles and mean absolute value of each neuron's correlations with the others: (n, 6), NaN where it has none.

    Of the sums of products (n, n), the numbers of bins that two sets share (sets, sets), the set of each neuron, and
    its standard deviation.
    """
    n, shared = len(products), np.where(shared > 1, shared, np.nan)
    rows = np.full((n, len(QUANTILES) + 1), np.nan)
    step = max(_BLOCK // n, 1)
    for low in range(0, n, step):
        part = np.arange(low, min(low + step, n))
        correlation = products[part] / shared[np.ix_(which[part], which)] / (deviation[part, None] * deviation)
        correlation[part - low, part] = np.nan
        known = np.isfinite(correlation).any(axis=1)
        if known.any():
            rows[part[known], :-1] = np.nanquantile(correlation[known], QUANTILES, axis=1).T
            rows[part[known], -1] = np.nanmean(np.abs(correlation[known]), axis=1)
    return rows
