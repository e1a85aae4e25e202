"""Throughput of `bin_activity` in spikes per second, compared with `numpy.add.at` on the same spikes.

python benchmarks/binning.py
"""

import time

import numpy as np

from spikeinterface_nuclr import Population
from spikeinterface_nuclr.windows import Layout, timeline
from spikeinterface_nuclr.windows.binning import bin_activity

LAYOUT = Layout(bin_s=0.02, patch_size=50, num_patches=10)


def best_of(repeats: int, function) -> float:
    """Shortest of several runs, in seconds."""
    runs = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        runs.append(time.perf_counter() - began)
    return min(runs)


def main():
    rng = np.random.default_rng(0)
    seconds, units = 1800.0, np.arange(200)
    trains = [np.sort(rng.uniform(0, seconds, rng.poisson(r * seconds))) for r in rng.lognormal(1.6, 0.7, len(units))]
    population = Population(units, trains, stop=seconds)
    line = timeline(population, units, LAYOUT)
    unit, times = np.repeat(units, population.num_spikes), np.concatenate(trains)
    counts = {}

    def ours():
        counts["ours"] = bin_activity(population, units, line, 0, line.num_bins)

    def add_at():
        counts["add.at"] = np.zeros((len(units), line.num_bins), dtype=np.float32)
        np.add.at(counts["add.at"], (unit, np.floor(times / LAYOUT.bin_s).astype(np.int64)), 1)

    def add_at_flat():
        """The fast path of `numpy.add.at`: one index array, values of the same dtype as the array."""
        flat = np.zeros(len(units) * line.num_bins, dtype=np.float32)
        index = unit * line.num_bins + np.floor(times / LAYOUT.bin_s).astype(np.int64)
        np.add.at(flat, index, np.float32(1))

    def window_by_window():
        """The same after cutting each window out of each spike train."""
        out = counts["windows"] = np.zeros((len(units), line.num_bins), dtype=np.float32)
        for first in range(0, line.num_bins, LAYOUT.window_bins):
            start = first * LAYOUT.bin_s
            for row, train in enumerate(trains):
                inside = train[(train >= start) & (train < start + LAYOUT.window_s)] - start
                bins = np.floor(inside / LAYOUT.bin_s).astype(np.int64)
                np.add.at(out[row], first + np.minimum(bins, LAYOUT.window_bins - 1), 1)

    print(f"{len(times) / 1e6:.1f} M spikes of {len(units)} units in {seconds:.0f} s")
    reference = best_of(3, add_at)
    for name, function, repeats in (
        ("numpy.add.at, whole session", add_at, 3),
        ("numpy.add.at, flat index", add_at_flat, 3),
        ("numpy.add.at, window by window", window_by_window, 1),
        ("bin_activity", ours, 5),
    ):
        took = best_of(repeats, function)
        print(f"{name:<32}{len(times) / took / 1e6:8.1f} M spikes/s{reference / took:8.1f} x numpy.add.at")
    assert np.array_equal(counts["ours"], counts["add.at"])


if __name__ == "__main__":
    main()
