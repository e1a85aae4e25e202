"""Bins of a population's observed time, of any width, and the bins in which each neuron was observed."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..intervals import numbers_in, union
from ..population import Population
from . import Timeline
from .binning import bin_activity

# Most values (neurons × bins) in memory at once, and most bins summed in single precision.
_BLOCK = 4_000_000
_BLOCK_BINS = 16_384
# Standard deviations below this fraction of the largest value are rounding errors.
_CONSTANT = 1e-6


@dataclass(frozen=True, eq=False)
class ObservedBins:
    """Bins of a group's observed time, and the bins in which each neuron was observed."""

    population: Population
    units: np.ndarray
    line: Timeline  # of bins; for traces, of frames
    frames: int  # frames per bin; 1 for spikes
    slices: list[np.ndarray]  # slices of bins (k, 2) of each distinct set of observed intervals
    which: np.ndarray  # index of each unit's set

    @classmethod
    def of(cls, population: Population, units: np.ndarray, bin_s: float) -> "ObservedBins":
        """The bins of the units at these positions; for traces, of whole frames."""
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
        """Spike counts, or mean traces, in the bins [low, high): float32, shape (n, high - low)."""
        values = bin_activity(self.population, self.units, self.line, low * self.frames, high * self.frames)
        if self.population.traces is not None:
            return values.reshape(len(values), -1, self.frames).mean(axis=2)
        return values.astype(np.float32)

    def mask(self, low: int, high: int) -> np.ndarray:
        """Whether bins [low, high) lie completely in each set of intervals: bool, shape (sets, high - low)."""
        mask = np.zeros((len(self.slices), high - low), dtype=bool)
        for row, bins in zip(mask, self.slices, strict=True):
            first, last = np.searchsorted(bins[:, 1], low, side="right"), np.searchsorted(bins[:, 0], high)
            row[numbers_in(np.clip(bins[first:last], low, high) - low)] = True
        return mask

    def per_unit(self, values: np.ndarray) -> np.ndarray:
        """Rows per set as rows per unit, or a single row that broadcasts."""
        return values if len(self.slices) == 1 else values[self.which]

    def piece_of(self, bins: np.ndarray) -> np.ndarray:
        """Index of the contiguous piece of observed time of each bin."""
        return np.searchsorted(self.line.piece_first, bins * self.frames, side="right") - 1

    def blocks(self, least: int = 1) -> Iterator[tuple[int, int]]:
        """Consecutive ranges of bins that fit into memory, each of at least so many bins."""
        step = np.clip(_BLOCK // len(self.units), least, _BLOCK_BINS)
        for low in range(0, len(self), step):
            yield low, min(low + step, len(self))

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each neuron's observed bins: float64 (n,), deviation 0 if constant."""
        sums, squares, largest = np.zeros((3, len(self.units)))
        count = np.zeros(len(self.slices))
        for low, high in self.blocks():
            mask = self.mask(low, high)
            values = self.activity(low, high) * self.per_unit(mask)
            sums += values.sum(axis=1, dtype=np.float64)
            squares += np.einsum("ij,ij->i", values, values, dtype=np.float64)
            largest = np.maximum(largest, np.abs(values).max(axis=1))
            count += mask.sum(axis=1)
        count = np.maximum(count[self.which], 1)
        mean = sums / count
        deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
        return mean, np.where(deviation > _CONSTANT * largest, deviation, 0)


def _timeline(pieces: np.ndarray, bin_s: float, multiple: int) -> Timeline:
    """The complete bins of each piece of time (k, 2), in multiples of `multiple`."""
    # As in `windows`, a bin that ends on the border is inside, despite rounding of the division.
    counts = np.floor(np.ptp(pieces, axis=1) / (multiple * bin_s) + 1e-8).astype(np.int64) * multiple
    pieces, counts = pieces[counts > 0], counts[counts > 0]
    first = np.concatenate([[0], np.cumsum(counts)])
    runs = np.stack([first[:-1], first[1:]], axis=1)
    return Timeline(bin_s, pieces[:, 0], first, runs, 1, "", float(np.ptp(pieces, axis=1).sum()))


def typical_length(population: Population) -> float:
    """The length in seconds for which 90 % of the observed time is in intervals of at least that length."""
    sets, _ = population.observed_sets(range(population.n_units))
    lengths = np.sort(np.ptp(np.concatenate(sets), axis=1))
    total = np.cumsum(lengths)
    return float(lengths[np.searchsorted(total, 0.1 * total[-1])]) if len(lengths) else 0.0
