"""Two views of a population: two windows of one recording, each with a random subset of the neurons."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..errors import InputError
from ..windows import Layout, Membership, Starts, timeline
from .store import Probe

# Populations with this number of units or fewer are not used for training, because the objective needs negatives.
TOO_FEW_UNITS = 10

# Number of attempts to draw a sample, if few windows have enough active neurons.
_ATTEMPTS = 1000


@dataclass(frozen=True)
class Sample:
    """One population in two views.

    Attributes
    ----------
    patches : two float32 arrays, shapes (n1, L, P) and (n2, L, P)
        Activity of the neurons.
    units : two int64 arrays, shapes (n1,) and (n2,)
        Position of each neuron in its population.
    """

    patches: tuple[np.ndarray, np.ndarray]
    units: tuple[np.ndarray, np.ndarray]

    @property
    def tokens(self) -> int:
        """Neurons × patches of both views."""
        return sum(len(p) * p.shape[1] for p in self.patches)

    @cached_property
    def matches(self) -> int:
        """Number of neurons in both views."""
        return len(np.intersect1d(*self.units))


@dataclass(frozen=True)
class Views:
    """A batch of samples.

    Attributes
    ----------
    patches : two float32 arrays, shapes (n1, L, P) and (n2, L, P)
        Activity of the neurons, one sample after another.
    sizes : two int64 arrays, shape (samples,)
        Number of neurons of each sample.
    units : two int64 arrays, shapes (n1,) and (n2,)
        Position of each neuron in its population.
    matches : int
        Number of neurons in both views, over all samples.
    """

    patches: tuple[np.ndarray, np.ndarray]
    sizes: tuple[np.ndarray, np.ndarray]
    units: tuple[np.ndarray, np.ndarray]
    matches: int


class Recording:
    """The population of one probe, for drawing random windows.

    Parameters
    ----------
    probe : Probe
    layout : Layout
    """

    def __init__(self, probe: Probe, layout: Layout):
        self.probe = probe
        self.layout = layout = layout.of(probe.sampling_frequency)
        units = np.arange(probe.n_units)
        self.line = timeline(probe.outline, units, layout)
        self.starts = Starts(self.line, layout)
        self._membership = Membership(probe.outline, units, self.line, layout)

    @property
    def seconds(self) -> float:
        """Duration of the time in which windows may begin, in seconds."""
        return len(self.starts) * self.line.quantum * self.line.bin_s

    def draw_starts(self, rng: np.random.Generator, max_view_distance_s: float) -> tuple[int, int]:
        """First bins of a random window, and of one that begins within `max_view_distance_s` of it (0: the same)."""
        first = int(rng.integers(len(self.starts)))
        second = int(rng.integers(*self.starts.near(first, max_view_distance_s)))
        return self.starts[first], self.starts[second]

    def window(self, start: int, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Patches (n, L, P) and positions (n,) of those neurons of a mask (n_units,) that are part of a window.

        As in `embed`, these are the neurons that were observed throughout the window and fire in it.
        """
        activity = self.probe.activity(self.line, start, start + self.layout.window_bins)
        mask = mask & self._membership.of(np.array([start]))[0]
        units = np.flatnonzero(mask & activity.any(axis=1) if self.probe.signal == "spikes" else mask)
        return activity[units].reshape(len(units), self.layout.num_patches, self.layout.patch_size), units


def draw_sample(
    recordings: list[Recording],
    weights: np.ndarray,
    rng: np.random.Generator,
    *,
    max_view_distance_s: float,
    min_unit_fraction: float = 0.5,
    max_units: int | None = None,
) -> Sample:
    """Draw a population in two views.

    Parameters
    ----------
    recordings : list of Recording
    weights : float array, shape (len(recordings),)
        Probability of each recording; sums to 1.
    rng : numpy Generator
    max_view_distance_s : float
        Largest distance in seconds between the two windows.
    min_unit_fraction : float, default: 0.5
        Each view is a random subset of the neurons, of a fraction drawn uniformly between this and 1.
    max_units : int, optional
        Largest number of neurons in a view: larger populations are reduced to a random subset.

    Returns
    -------
    Sample
        With more than ten neurons in each view.

    Raises
    ------
    InputError
        No such windows exist.
    """
    for _ in range(_ATTEMPTS):
        recording = recordings[rng.choice(len(recordings), p=weights)]
        pool = np.arange(recording.probe.n_units)
        if max_units is not None and len(pool) > max_units / min_unit_fraction:
            # The same subset for both views, so that they have matches.
            pool = rng.choice(pool, int(max_units / min_unit_fraction), replace=False)
        most = len(pool) if max_units is None else min(len(pool), max_units)
        views = []
        for start in recording.draw_starts(rng, max_view_distance_s):
            size = rng.integers(int(np.ceil(min_unit_fraction * most)), most + 1)
            mask = np.zeros(recording.probe.n_units, dtype=bool)
            mask[rng.choice(pool, size, replace=False)] = True
            views.append(recording.window(start, mask))
        sample = Sample(*zip(*views, strict=True))
        if min(map(len, sample.units)) > TOO_FEW_UNITS and sample.matches:
            return sample
    raise InputError(f"no window has more than {TOO_FEW_UNITS} active units in both views: add larger recordings")


def packed(samples: list[Sample], max_tokens: int) -> Iterator[Views]:
    """Batch samples into groups of at most `max_tokens` neurons × patches, or one larger sample, without padding."""
    # Adjacent samples of equal size share one attention call.
    remaining = sorted(samples, key=lambda sample: sample.tokens)
    while remaining:
        limit = np.searchsorted(np.cumsum([sample.tokens for sample in remaining]), max_tokens, side="right")
        group, remaining = remaining[: max(limit, 1)], remaining[max(limit, 1) :]
        yield Views(
            tuple(np.concatenate(p) for p in zip(*(s.patches for s in group), strict=True)),
            tuple(np.array([len(s.units[view]) for s in group], dtype=np.int64) for view in (0, 1)),
            tuple(np.concatenate(u).astype(np.int64) for u in zip(*(s.units for s in group), strict=True)),
            sum(s.matches for s in group),
        )
