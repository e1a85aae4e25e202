"""A store of the size of the IBL brain-wide map: 700 insertions, 7 billion spikes. Bytes, opening, random windows.

    python benchmarks/store.py FOLDER            # 4.7 GB on the disk
    python benchmarks/store.py FOLDER --quick    # a hundredth of it

Ten insertions of 360 simulated units and 65 minutes (ten million spikes) are built as by `nuclr store build`, and seven
copies of each are written. All other insertions are sparse files of the same size, with an index and a table of units
of their own: they cost what real ones cost when the store is opened, and when windows are located. Random windows are
read from the written ones, first after the system has been asked to forget their files, then again.
"""

import argparse
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
from embedding import poisson_population, resident

from spikeinterface_nuclr import EncoderConfig, Store, build_store
from spikeinterface_nuclr.training.views import Recording, draw_sample

UNITS, SECONDS, RATE = 360, 3900.0, 6.4  # mean rate with the spread of poisson_population: ten million spikes
LAYOUTS = {
    "20 s (nuclr-starter)": EncoderConfig(0.005, 2000, 2).layout,
    "10 s (published)": EncoderConfig().layout,
}


def write_copies(store: Path, built: list[Path], copies: int, sparse: int) -> list[Path]:
    """Further sessions: whole copies of those that were built, and sparse files of their size."""
    written = list(built)
    for number in range(copies + sparse):
        original = built[number % len(built)]
        folder = store / "sessions" / f"copy-{number:04d}"
        folder.mkdir()
        content = json.loads((original / "session.json").read_text())
        content |= {"animal": f"animal{number}", "session": folder.name}
        for probe in content["probes"]:
            probe["fingerprints"] = [f"{number}-{fingerprint}" for fingerprint in probe["fingerprints"]]
        (folder / "session.json").write_text(json.dumps(content))
        for file in original.glob("*.npy"):
            if number < copies or file.name.endswith(".first.npy"):
                shutil.copyfile(file, folder / file.name)
            else:
                with open(folder / file.name, "wb") as hollow:
                    hollow.write(file.read_bytes()[:128])  # numpy's header
                    hollow.truncate(file.stat().st_size)
        if number < copies:
            written.append(folder)
    return written


def forget(folders: list[Path]) -> None:
    """Ask the system to drop the files from its cache."""
    for file in (file for folder in folders for file in folder.iterdir()):
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def timed(function, *arguments):
    began = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - began, result


def place(store: Store, layout) -> list[Recording]:
    """Where windows may begin, in every recording."""
    return [Recording(probe, layout) for probe in store.probes]


def read_windows(recordings: list[Recording], number: int, seed: int) -> int:
    """Draw samples of two windows of all units until `number` windows are read; how many neurons they show."""
    rng = np.random.default_rng(seed)
    weights = np.full(len(recordings), 1 / len(recordings))
    samples = (draw_sample(recordings, weights, rng, max_view_distance_s=60.0) for _ in range(number // 2))
    return sum(len(units) for sample in samples for units in sample.units)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder to create, deleted at the end")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    built, copies, sparse = (2, 2, 3) if options.quick else (10, 60, 630)
    options.folder.mkdir(parents=True)
    try:
        sources = [poisson_population(UNITS, SECONDS, seed, RATE) for seed in range(built)]
        for number, source in enumerate(sources):
            source.metadata.update(subject=f"built{number}", session=f"built{number}")
        path = options.folder / "store"
        seconds, _ = timed(lambda: build_store(sources, path, progress=False))
        print(f"building: {seconds / built:.1f} s for an insertion of {sources[0].num_spikes.sum() / 1e6:.1f} M spikes")
        folders = sorted((path / "sessions").iterdir())
        written = write_copies(path, folders, copies, sparse)
        sizes = [file.stat() for file in path.rglob("*") if file.is_file()]
        before = resident()
        forget(sorted((path / "sessions").iterdir()))
        cold, _ = timed(Store, path)
        warm, store = timed(Store, path)
        spikes = sum(probe.n_spikes for probe in store.probes)
        size, on_disk = sum(s.st_size for s in sizes) / 1e9, sum(s.st_blocks for s in sizes) * 512 / 1e9
        print(f"store: {store.summary()}, {spikes / 1e9:.2f} billion spikes, {size:.1f} GB ({on_disk:.1f} on the disk)")
        print(f"opening: {cold:.2f} s, again {warm:.2f} s, {(resident() - before) / 1e6:.0f} MB of memory")
        for name, layout in LAYOUTS.items():
            store = Store(path)  # with no file open, because what is mapped is not forgotten
            placing, recordings = timed(place, store, layout)
            real = [recording for recording in recordings if recording.probe.path.parent in written]
            forget(written)
            first, neurons = timed(read_windows, real, 1000, 0)
            again, _ = timed(read_windows, real, 1000, 0)
            print(
                f"windows of {name}: where they may begin {placing:.2f} s; a thousand of {neurons / 1000:.0f} units "
                f"{first:.1f} s, again {again:.1f} s"
            )
    finally:
        shutil.rmtree(options.folder)


if __name__ == "__main__":
    main()
