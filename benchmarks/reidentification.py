"""How often a neuron finds itself again in the other half of a recording, without labels.

    python benchmarks/reidentification.py RECORDINGS… [--model MODEL]

RECORDINGS are NWB files, or folders of them, of animals that the model was not trained on. Each recording is split in
two halves of time, which are embedded apart. A neuron finds itself when its nearest neighbour (cosine) among the
neurons of the other half is itself. Beside the model stand a baseline (firing rate and histogram of log inter-spike
intervals, standardised), the same network with random weights, and chance. Intervals are 95 % bootstraps over animals.
"""

import argparse

import numpy as np
import torch
from tqdm import tqdm

from spikeinterface_nuclr import Checkpoint, Encoder, Population, load_checkpoint, read_population
from spikeinterface_nuclr.sources import expand_sources
from spikeinterface_nuclr.training.monitors import nearest_is_self, reidentification

_EDGES = np.linspace(-3.5, 2.0, 31)


def rate_and_intervals(population: Population) -> np.ndarray:
    """log rate and square-root histogram of log10 intervals, shape (n_units, 31); NaN with fewer than five spikes."""
    rows = np.full((population.n_units, len(_EDGES)), np.nan)
    for row, times in zip(rows, population.spike_times, strict=True):
        if len(times) >= 5:
            intervals = np.log10(np.maximum(np.diff(times), 1e-4))
            row[0] = np.log(len(times) / (population.stop - population.start))
            row[1:] = np.sqrt(np.histogram(intervals, bins=_EDGES)[0] / len(intervals))
    return rows


def baseline(population: Population) -> np.ndarray:
    """As `reidentification`, from rate and intervals."""
    middle = (population.start + population.stop) / 2
    first = rate_and_intervals(population.between(population.start, middle))
    second = rate_and_intervals(population.between(middle, population.stop))
    both = np.isfinite(first[:, 0]) & np.isfinite(second[:, 0])
    rows = np.concatenate([first[both], second[both]])
    rows = (rows - rows.mean(axis=0)) / np.maximum(rows.std(axis=0), 1e-9)
    first, second = np.split(rows, 2)
    return np.concatenate([nearest_is_self(first, second), nearest_is_self(second, first)])


def untrained(checkpoint: Checkpoint) -> Checkpoint:
    """The same network before training."""
    torch.manual_seed(0)
    return Checkpoint(checkpoint.config, Encoder(checkpoint.config).state_dict(), checkpoint.card, "random weights")


def interval(shares: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of the mean."""
    rng = np.random.default_rng(seed)
    means = rng.choice(shares, (10_000, len(shares))).mean(axis=1)
    return tuple(np.quantile(means, [0.025, 0.975]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="+")
    parser.add_argument("--model", default=None)
    options = parser.parse_args()
    checkpoint = load_checkpoint(options.model)
    random = untrained(checkpoint)
    methods = {
        checkpoint.name: lambda p: reidentification(p, checkpoint)[0],
        "rate and intervals": baseline,
        "random weights": lambda p: reidentification(p, random)[0],
        "chance": lambda p: np.array([1 / p.n_units]),
    }
    animals: dict[str, dict[str, list]] = {name: {} for name in methods}
    units = recordings = 0
    for source in tqdm(expand_sources(options.recordings), unit="recording"):
        population = read_population(source)
        animal = str(population.metadata.get("subject") or source)
        recordings, units = recordings + 1, units + population.n_units
        for name, method in methods.items():
            animals[name].setdefault(animal, []).append(method(population).mean())
    print(f"{recordings} recordings of {len(animals[checkpoint.name])} animals, {units} neurons")
    for name, shares in animals.items():
        shares = np.array([np.mean(values) for values in shares.values()])
        low, high = interval(shares)
        print(f"{name:<20}{shares.mean():6.3f}   [{low:.3f}, {high:.3f}]")


if __name__ == "__main__":
    main()
