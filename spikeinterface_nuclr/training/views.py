"""Two views of a population: two windows of one recording, each seen by a random part of its neurons."""

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..population import Population
from ..windows import Layout, Timeline, bin_activity, observed_windows, timeline

# Populations of so few units teach little, and the objective needs negatives.
TOO_FEW_UNITS = 10

# Bins of a recording made sparse at a time, so that a long one needs little memory.
_BLOCK = 1 << 14


@dataclass(frozen=True)
class Views:
    """A batch of samples in two views.

    Attributes
    ----------
    patches : two float32 arrays, shapes (n1, L, P) and (n2, L, P)
        Activity of the neurons, sample after sample.
    sizes : two int64 arrays, shape (samples,)
        Neurons of each sample.
    units : two int64 arrays, shapes (n1,) and (n2,)
        Position of each neuron in its population.
    """

    patches: tuple[np.ndarray, np.ndarray]
    sizes: tuple[np.ndarray, np.ndarray]
    units: tuple[np.ndarray, np.ndarray]


class Recording:
    """One probe's population, ready for random windows: its spikes as (bin, unit), sorted by bin.

    Parameters
    ----------
    population : Population
    units : int array
        Positions of the units of one group.
    layout : Layout
    """

    def __init__(self, population: Population, units: np.ndarray, layout: Layout):
        self.layout = layout
        self.n_units = len(units)
        self.line: Timeline = timeline(population, units, layout)
        parts = []
        for low in range(0, self.line.num_bins, _BLOCK):
            high = min(low + _BLOCK, self.line.num_bins)
            activity = bin_activity(population, units, self.line, low, high).T
            bins, unit = np.nonzero(activity)
            parts.append(((bins + low).astype(np.int32), unit.astype(np.int32), activity[bins, unit]))
        columns = zip(*parts, strict=True) if parts else [[np.empty(0, dtype=np.int32)]] * 3
        self._bins, self._units, self._values = (np.concatenate(column) for column in columns)
        starts = [np.arange(a, b - layout.window_bins + 1, self.line.quantum) for a, b in self.line.runs]
        self._starts = np.concatenate(starts) if starts else np.empty(0, dtype=np.int64)
        self._times = self.line.time(self._starts) if len(self._starts) else np.empty(0)
        self._seen, self._which = observed_windows(population, units, self.line, self._starts, layout)
        self._spikes = population.traces is None

    @property
    def num_starts(self) -> int:
        """Places at which a window may begin."""
        return len(self._starts)

    def draw_starts(self, rng: np.random.Generator, max_distance: float) -> tuple[int, int]:
        """Two windows: any, and one that begins at most `max_distance` seconds from it (0: the same)."""
        first = rng.integers(len(self._starts))
        low = np.searchsorted(self._times, self._times[first] - max_distance, side="left")
        high = np.searchsorted(self._times, self._times[first] + max_distance, side="right")
        second = rng.integers(low, high)
        return int(self._starts[first]), int(self._starts[second])

    def window(self, start: int, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Patches (n, L, P) of the kept neurons that are part of the window, and their positions (n,).

        Part of it are, as when embedding, the neurons that were observed throughout and fire.
        """
        width = self.layout.window_bins
        low, high = np.searchsorted(self._bins, [start, start + width])
        counts = np.zeros((self.n_units, width), dtype=np.float32)
        counts[self._units[low:high], self._bins[low:high] - start] = self._values[low:high]
        part = keep & self._seen[np.searchsorted(self._starts, start), self._which]
        units = np.flatnonzero(part & counts.any(axis=1) if self._spikes else part)
        return counts[units].reshape(len(units), self.layout.num_patches, self.layout.patch_size), units


def draw_views(
    recordings: list[Recording],
    weights: np.ndarray,
    rng: np.random.Generator,
    *,
    samples: int,
    max_distance: float,
    keep_at_least: float = 0.5,
    min_units: int = TOO_FEW_UNITS + 1,
    max_units: int | None = None,
) -> Views:
    """Draw a batch of samples.

    Parameters
    ----------
    recordings : list of Recording
    weights : float array, shape (len(recordings),)
        Probability of each recording; sums to 1.
    rng : numpy Generator
    samples : int
        Samples in the batch.
    max_distance : float
        Largest distance in seconds between a sample's two windows.
    keep_at_least : float, default: 0.5
        Each view keeps a random subset of the neurons, the share uniform between this and 1.
    min_units : int, default: 11
        A sample with fewer neurons in a view is drawn again. Populations of ten and fewer teach little.
    max_units : int, optional
        Most neurons of one view: larger populations are thinned to a random subset of this size.

    Returns
    -------
    Views
    """
    patches, sizes, names = ([], []), ([], []), ([], [])
    attempts = 0
    while len(sizes[0]) < samples:
        attempts += 1
        if attempts > 200 * samples:
            raise InputError(f"no window has {min_units} active units in both views: add recordings with more units")
        recording = recordings[rng.choice(len(recordings), p=weights)]
        pool = np.arange(recording.n_units)
        if max_units is not None and len(pool) > max_units / keep_at_least:
            # The same subset for both views, so that they still have matches.
            pool = rng.choice(pool, int(max_units / keep_at_least), replace=False)
        drawn = []
        for start in recording.draw_starts(rng, max_distance):
            most = len(pool) if max_units is None else min(len(pool), max_units)
            kept = rng.integers(int(np.ceil(keep_at_least * most)), most + 1)
            keep = np.zeros(recording.n_units, dtype=bool)
            keep[rng.choice(pool, kept, replace=False)] = True
            drawn.append(recording.window(start, keep))
        if min(len(units) for _, units in drawn) < min_units or not len(np.intersect1d(drawn[0][1], drawn[1][1])):
            continue
        for view, (counts, units) in enumerate(drawn):
            patches[view].append(counts)
            sizes[view].append(len(units))
            names[view].append(units)
    return Views(
        tuple(np.concatenate(p) for p in patches),
        tuple(np.array(s, dtype=np.int64) for s in sizes),
        tuple(np.concatenate(u).astype(np.int64) for u in names),
    )
