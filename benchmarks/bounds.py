"""Growth of time and memory with the size of the input: each case at one, two and four times its size, in one run.

    python benchmarks/bounds.py            # sizes of real recordings
    python benchmarks/bounds.py --quick    # a tenth of them

At four times the size, linear algorithms cost four times as much and quadratic ones sixteen times. A stray spike should
cost nothing, however late it is. The encoder is a single layer without attention, which is quadratic in the units of a
probe by design. Memory is the peak of the allocations by Python and numpy, measured in a separate run.
"""

import argparse
import time
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import torch

from spikeinterface_nuclr import Checkpoint, Encoder, EncoderConfig, Population, embed
from spikeinterface_nuclr.intervals import subtract
from spikeinterface_nuclr.training.store import Probe
from spikeinterface_nuclr.training.views import Recording

CONFIG = EncoderConfig(dim=8, heads=1, head_dim=8, temporal_blocks=0, spatiotemporal_blocks=0)


def checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    return Checkpoint(CONFIG, Encoder(CONFIG).state_dict(), name="linear")


def embedded(population: Population, **options):
    model = checkpoint()
    return lambda: embed(population, model, device="cpu", precision="float32", progress=False, **options)


def trials(count: int, length: float) -> np.ndarray:
    return np.arange(count)[:, None] * 3.0 + np.array([[0.0, length]])


def stray_spike(seconds: int, **options):
    """A minute of 20 units, and one spike much later."""
    rng = np.random.default_rng(0)
    trains = [np.sort(rng.uniform(0, 60, 300)) for _ in range(20)]
    trains[0] = np.append(trains[0], seconds)
    return embedded(Population(range(20), trains, start=0.0, stop=float(seconds)), **options)


def stray_spike_without_silence(seconds: int):
    return stray_spike(seconds, skip_silence=True)


def samples_for_seconds(count: int):
    """20 units whose spikes are far apart, as if samples had been read as seconds."""
    rng = np.random.default_rng(0)
    trains = [np.sort(rng.uniform(0, 100.0 * count, count // 20)) for _ in range(20)]
    return embedded(Population(range(20), trains, start=0.0, stop=100.0 * count))


def stitched_trials(count: int):
    """20 units observed in trials of 0.9 s."""
    rng, observed = np.random.default_rng(0), trials(count, 0.9)
    spikes = [observed[:, 0] + rng.uniform(0, 0.9, count) for _ in range(20)]
    return embedded(Population(range(20), spikes, observed=observed))


def tiny_intervals(count: int):
    """Five units, each of which lacks some of the intervals of 0.3 s."""
    rng = np.random.default_rng(0)
    observed = [trials(count, 0.3)[np.sort(rng.choice(count, count - 5, replace=False))] for _ in range(5)]
    return embedded(Population(range(5), [o[:, 0] + 0.1 for o in observed], observed=observed))


def within(count: int):
    """`Population.within` for as many intervals as the recording has."""
    population = Population([0, 1], [[0.1], [0.2]], observed=trials(count, 2.0))
    return lambda: population.within(trials(count, 1.0) + 0.5)


def invalid_times(count: int):
    """As many invalid intervals as observed ones."""
    return lambda: subtract(trials(count, 2.0), trials(count, 1.0) + 0.5)


def membership(units: int):
    """A hundred windows of two hours of a probe in training, whose units were observed up to different times."""
    rng = np.random.default_rng(0)
    observed = [np.array([[0.0, 7200 * share]]) for share in rng.uniform(0.9, 1, units)]
    outline = Population(range(units), [[]] * units, observed=observed, start=0.0, stop=7200.0)
    probe = Probe(Path("probe"), "animal", "session", "", outline, "spikes", n_spikes=1)
    probe.__dict__.update(_first=np.zeros(2, int), _fraction=np.zeros(0), _unit=np.zeros(0, int))
    mask = np.ones(units, dtype=bool)

    def draw():
        recording = Recording(probe, CONFIG.layout)
        for start in np.linspace(0, len(recording.starts) - 1, 100).astype(int):
            recording.window(recording.starts[start], mask)

    return draw


def units_of_a_probe(units: int):
    """A minute of one probe."""
    rng = np.random.default_rng(0)
    return embedded(Population(range(units), [np.sort(rng.uniform(0, 60, 300)) for _ in range(units)], stop=60.0))


CASES = {
    "stray spike, at s": (stray_spike, 1_000_000_000),
    "the same, silence left out": (stray_spike_without_silence, 1_000_000_000),
    "spikes far apart": (samples_for_seconds, 10_000),
    "stitched trials": (stitched_trials, 12_500),
    "tiny intervals, five sets": (tiny_intervals, 5_000),
    "intervals, within": (within, 25_000),
    "invalid times": (invalid_times, 25_000),
    "units in training, 2 h": (membership, 100),
    "units of a probe": (units_of_a_probe, 500),
}


def measured(work) -> tuple[float, float]:
    """CPU time in seconds, and peak memory in MB."""
    began = time.process_time()
    work()
    seconds = time.process_time() - began
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return seconds, peak


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # about observed time without windows
    torch.set_num_threads(1)
    stray_spike(1000)()  # warm-up
    print(f"{'case':<28}{'size':>15}{'seconds at 1, 2, 4 times the size':>36}{'peak MB at these':>32}")
    for name, (prepare, size) in CASES.items():
        size = max(size // 10, 20) if options.quick else size
        seconds, peaks = zip(*(measured(prepare(size * times)) for times in (1, 2, 4)), strict=True)
        print(f"{name:<28}{size:>15,}{row(seconds, 2):>36}{row(peaks, 1):>32}", flush=True)


def row(values: tuple[float, ...], digits: int) -> str:
    """The values, and the ratio of the last to the first."""
    return "".join(f"{value:8.{digits}f}" for value in values) + f"{values[-1] / max(values[0], 1e-9):8.1f} x"


if __name__ == "__main__":
    main()
