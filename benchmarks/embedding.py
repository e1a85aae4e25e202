"""Speed of `embed`, compared with a plain float32 forward pass and the device's own matrix product, in one run.

    python benchmarks/embedding.py              # 100 units x 1 h, 1,000 units x 2 min, and x 2 h for its memory
    python benchmarks/embedding.py --quick      # 100 units x 10 min

The plain forward pass is that of `plain.py`, with windows in batches of 64. Weights are random; the layout is that of
the reference (6.33 M parameters). Shares of the matrix product count the operations of linear layers, and for 1,000
units also those of attention among them, which is as many again. `nuclr embed` is a new process, from an NWB file.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch
from plain import Plain
from pynwb import NWBHDF5IO, NWBFile

from spikeinterface_nuclr import Checkpoint, Encoder, EncoderConfig, Population, embed

CONFIG = EncoderConfig()
# Floating-point operations of the linear layers for one neuron and patch.
OPERATIONS = 2 * 6_330_624


def poisson_population(units: int, seconds: float, seed: int = 0, rate: float = 5.0) -> Population:
    """Independent Poisson units of about `rate` spikes per second."""
    rng = np.random.default_rng(seed)
    rates = rng.lognormal(np.log(rate), 0.5, units)
    trains = [np.sort(rng.uniform(0, seconds, rng.poisson(r * seconds))) for r in rates]
    return Population(np.arange(units), trains, stop=seconds)


def random_checkpoint() -> Checkpoint:
    """Checkpoint with the initial weights of a new encoder."""
    torch.manual_seed(0)
    return Checkpoint(CONFIG, Encoder(CONFIG).state_dict(), name="random")


@torch.inference_mode()
def plain_embed(population: Population, plain: Plain) -> np.ndarray:
    """Mean over windows, assuming that every unit fires in every window."""
    windows = int(population.stop // 10)
    counts = np.stack([np.bincount((t // 0.02).astype(int), minlength=windows * 500) for t in population.spike_times])
    counts = torch.from_numpy(counts[:, : windows * 500].astype(np.float32)).view(-1, windows, 10, 50).transpose(0, 1)
    total = torch.zeros(population.n_units, CONFIG.dim, dtype=torch.float64)
    for batch in counts.split(64):
        total += plain(batch.contiguous()).sum(dim=0)
    return (total / windows).numpy()


def product_rate(dtype: torch.dtype, device: str = "cpu", size: int = 4096) -> float:
    """Operations per second of a large matrix product."""
    a = torch.randn(size, size, device=device).to(dtype)
    best = np.inf
    for _ in range(5):
        synchronize(device)
        began = time.perf_counter()
        a @ a
        synchronize(device)
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def synchronize(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Smallest cosine similarity between corresponding rows."""
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


class PeakMemory(threading.Thread):
    """Largest resident memory of this process while the block runs, in bytes."""

    def __enter__(self):
        self.peak, self._ended = 0, threading.Event()
        self.start()
        return self

    def run(self):
        while not self._ended.wait(0.05):
            self.peak = max(self.peak, resident())

    def __exit__(self, *_):
        self._ended.set()
        self.join()
        self.peak = max(self.peak, resident())


def resident() -> int:
    """Resident memory of this process in bytes."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def forward_alone(population: Population, checkpoint: Checkpoint, device: str) -> float:
    """Seconds that `embed` spends in the network."""
    spent, forward = [], Encoder.forward

    def timed(*arguments):
        began = time.perf_counter()
        result = forward(*arguments)
        synchronize(device)
        spent.append(time.perf_counter() - began)
        return result

    Encoder.forward = timed
    try:
        embed(population, checkpoint, device=device, progress=False)
    finally:
        Encoder.forward = forward
    return sum(spent)


def whole_process(population: Population, checkpoint: Checkpoint, device: str) -> float:
    """Seconds that `nuclr embed` takes for an NWB file of these units."""
    with tempfile.TemporaryDirectory() as folder:
        recording, model = Path(folder) / "session.nwb", checkpoint.save(Path(folder) / "model.safetensors")
        nwbfile = NWBFile("benchmark", "benchmark", datetime(2026, 1, 1, tzinfo=timezone.utc))
        for times in population.spike_times:
            nwbfile.add_unit(spike_times=times)
        with NWBHDF5IO(recording, "w") as io:
            io.write(nwbfile)
        command = [
            sys.executable,
            "-m",
            "spikeinterface_nuclr",
            "embed",
            recording,
            "--model",
            model,
            "--device",
            device,
        ]
        began = time.perf_counter()
        subprocess.run([*command, "-o", Path(folder) / "x.npz", "-q"], check=True, capture_output=True)
        return time.perf_counter() - began


def report(name: str, seconds: float, tokens: int, plain: float, peak: float, agreement: float) -> None:
    rate = tokens * OPERATIONS / seconds
    print(
        f"{name:<28}{seconds:8.1f} s {rate / 1e9:8.0f} GFLOP/s {plain / seconds:6.1f} x plain "
        f"{rate / peak:6.0%} of its matrix product   cosine to plain {agreement:.6f}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10 minutes instead of an hour, no memory run")
    parser.add_argument("--memory-only", action="store_true", help="only 1,000 units x 2 h")
    options = parser.parse_args()
    imports = resident()
    checkpoint = random_checkpoint()
    if not options.memory_only:
        seconds = 600.0 if options.quick else 3600.0
        population = poisson_population(100, seconds)
        tokens = 100 * int(seconds)
        # Each is run once as a warm-up.
        plain, warm_up = Plain(CONFIG, checkpoint.weights).eval(), poisson_population(100, 100.0)
        plain_embed(warm_up, plain)
        began = time.perf_counter()
        expected = plain_embed(population, plain)
        plain_s = time.perf_counter() - began
        report("plain, cpu, float32", plain_s, tokens, plain_s, product_rate(torch.float32), 1.0)
        devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        for device in devices:
            for precision in ("float32", "bfloat16"):
                embed(warm_up, checkpoint, device=device, precision=precision, progress=False)
                began = time.perf_counter()
                embeddings = embed(population, checkpoint, device=device, precision=precision, progress=False)
                elapsed = time.perf_counter() - began
                peak = product_rate(getattr(torch, precision), device)
                agreement = cosine(embeddings.embedding, expected)
                report(f"embed, {device}, {precision}", elapsed, tokens, plain_s, peak, agreement)
        for device in devices:
            alone, whole = (measure(population, checkpoint, device) for measure in (forward_alone, whole_process))
            print(f"nuclr embed, {device}: {whole:.1f} s, {whole / alone:.2f} times the network alone ({alone:.1f} s)")
            many = poisson_population(1000, 120.0)
            for precision in ("float32", "bfloat16"):
                embed(warm_up, checkpoint, device=device, precision=precision, progress=False)
                began = time.perf_counter()
                embed(many, checkpoint, device=device, precision=precision, progress=False)
                elapsed = time.perf_counter() - began
                # Scores and weighted values of 1,000 by 1,000 neurons in each patch and spatiotemporal block.
                attention = CONFIG.spatiotemporal_blocks * 4 * 1000 * CONFIG.heads * CONFIG.head_dim
                rate = 1000 * 120 * (OPERATIONS + attention) / elapsed
                peak = product_rate(getattr(torch, precision), device)
                print(f"1,000 units x 2 min, {device}, {precision}: {elapsed:.1f} s, {rate / peak:.0%} of the product")
    if not options.quick:
        with PeakMemory() as memory:
            population = poisson_population(1000, 7200.0)
            spikes = population.num_spikes.sum()
            began = time.perf_counter()
            embed(population, checkpoint, progress=False)
            elapsed = time.perf_counter() - began
        print(
            f"1,000 units x 2 h, {spikes / 1e6:.0f} M spikes: {elapsed:.0f} s, "
            f"{(memory.peak - imports) / 1e9:.2f} GB in addition to the imports, including the spikes"
        )


if __name__ == "__main__":
    main()
