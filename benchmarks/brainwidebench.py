"""Time and memory of reading BrainWideBench: a session of real size, and the released embeddings of all units.

    python benchmarks/brainwidebench.py [--sessions 24]

The files are simulated, in the benchmark's layout: a session of 360 units on two probes and 65 minutes (temporaldata),
and embeddings of 57,000 units with 256 dimensions (torch.save). Then a decoder of ten regions is fitted, by the command
of docs/brainwidebench.md, to some sessions of 126 units, and its predictions are written for the leaderboard. Peak
memory is that of a process of its own, above what it holds after the imports (Linux).
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import torch
from temporaldata import ArrayDict, Data, Interval, IrregularTimeSeries

from spikeinterface_nuclr.decoding.regions import COSMOS

MEASURE = """
import os, resource, time
from spikeinterface_nuclr import read_brainwidebench_embeddings, read_population
before = int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
began = time.perf_counter()
{call}
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before)
"""


def write_session(path: Path, number: int, units: int, minutes: float, rate: float = 6.0) -> np.ndarray:
    """A session; returns the region of each unit as a number."""
    rng = np.random.default_rng(number)
    index = rng.integers(units, size=int(units * rate * 60 * minutes))
    regions = np.repeat(rng.permutation(10), -(-units // 10))[:units]
    domain = Interval(start=np.array([0.0]), end=np.array([60.0 * minutes]))
    spikes = IrregularTimeSeries(
        timestamps=np.sort(rng.uniform(0, 60 * minutes, len(index))), unit_index=index, domain=domain,
        amplitude=np.ones(len(index), dtype=np.float32),
    )  # fmt: skip
    columns = ArrayDict(
        id=np.array([f"{number:04d}-{k:05d}" for k in range(units)]).astype("S"),
        probe_id=np.repeat(["probe-a", "probe-b"], [units // 2, units - units // 2]).astype("S"),
        depths=20.0 * np.arange(units), label=np.ones(units), region_cosmos=np.array(COSMOS)[regions].astype("S"),
    )  # fmt: skip
    data = Data(
        subject=Data(id=f"mouse-{number}"), session=Data(id=f"session-{number}"), spikes=spikes, units=columns,
        domain=domain,
    )  # fmt: skip
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        data.to_hdf5(file)
    return regions


def write_embeddings(path: Path, uids: list[str], regions: np.ndarray, dim: int = 256) -> None:
    """Released embeddings in which the region can be read."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((10, dim))[regions] + 6.0 * rng.standard_normal((len(uids), dim))
    half = len(uids) // 2
    torch.save(
        {
            "train_embs": torch.tensor(rows[:half], dtype=torch.float32), "train_uids": np.array(uids[:half]),
            "eval_embs": torch.tensor(rows[half:], dtype=torch.float32), "eval_uids": np.array(uids[half:]),
            "run_seed": 42,
        },
        path,
    )  # fmt: skip


def measured(call: str) -> str:
    """Time and memory of a call in a process of its own."""
    out = subprocess.run([sys.executable, "-c", MEASURE.format(call=call)], capture_output=True, text=True, check=True)
    seconds, size = map(float, out.stdout.split())
    return f"{seconds:.1f} s, {size / 1e9:.2f} GB"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=24)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_session(folder / "large" / "s.h5", 0, 360, 65.0)
        print("reading a session:", measured(f"read_population({str(folder / 'large' / 's.h5')!r})"), flush=True)
        uids = [f"{k % 452:036d}/{k:036d}" for k in range(57_000)]
        write_embeddings(folder / "all.pt", uids, np.arange(57_000) % 10)
        call = f"read_brainwidebench_embeddings({str(folder / 'all.pt')!r})"
        print("reading 57,000 embeddings:", measured(call), flush=True)
        regions, uids = [], []
        for k in range(options.sessions):
            regions.append(write_session(folder / "sessions" / f"s{k}.h5", k, 126, 1.0))
            uids += [f"session-{k}/{k:04d}-{unit:05d}" for unit in range(126)]
        write_embeddings(folder / "some.pt", uids, np.concatenate(regions))
        nuclr, sessions = [sys.executable, "-m", "spikeinterface_nuclr"], str(folder / "sessions" / "*.h5")
        decoder, predictions = str(folder / "d.safetensors"), str(folder / "predictions")
        commands = {
            "decoder fit": ["decoder", "fit", sessions, "--label", "region_cosmos", "-o", decoder],
            "brainwidebench": ["brainwidebench", sessions, "--decoder", decoder, "--seed", "42", "-o", predictions],
        }
        for title, command in commands.items():
            began = time.perf_counter()
            subprocess.run(
                [*nuclr, *command, "--embeddings", str(folder / "some.pt"), "-q"], check=True, capture_output=True
            )
            print(f"{title}, {len(uids)} units: {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
