"""Training with one, two and four processes: the same loss, and how fast.

    python benchmarks/processes.py             # 60 steps of nuclr-starter's settings, without dropout
    python benchmarks/processes.py --quick     # 12 steps

Each run is `nuclr train --devices N` on a CPU (gloo), with one thread a process, on the same store of 20 simulated
sessions. The loss is the mean over the steps since the last row of the log. Differences are those of the losses from
one process, relative to it.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from spikeinterface_nuclr import build_store, simulate_population


def losses_of(log: Path) -> tuple[np.ndarray, float]:
    """Loss in each row of a log, and the seconds of the whole run."""
    with open(log, newline="") as file:
        rows = list(csv.DictReader(file))
    return np.array([float(row["loss"]) for row in rows]), float(rows[-1]["seconds"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    steps = 12 if options.quick else 60
    settings = {"steps": steps, "monitor_every": steps // 6, "samples": 8, "encoder.dropout": 0.0, "monitor_s": 60}
    changes = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        build_store([simulate_population(80, 600.0, seed=seed) for seed in range(20)], store, progress=False)
        alone = None
        for processes in (1, 2, 4):
            output = Path(folder) / f"{processes}.safetensors"
            command = [sys.executable, "-m", "spikeinterface_nuclr", "train", store, "-o", output, "--config", "laptop"]
            command += [*changes, "--device", "cpu", "--precision", "float32", "--devices", str(processes), "-q"]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            subprocess.run(command, env=environment, check=True, capture_output=True)
            losses, seconds = losses_of(output.with_suffix(".log.csv"))
            alone = losses if alone is None else alone
            print(
                f"{processes} process(es): loss {losses[0]:.4f} to {losses[-1]:.4f} in {seconds:.0f} s; largest "
                f"difference from one process {np.abs(losses / alone - 1).max():.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
