"""Ablations of the training recipe: short training runs that differ in one setting, and their monitors.

    python benchmarks/ablations.py STORE --config docs/models/nuclr-starter.toml --steps 400 \\
        --hold-out P1?HMH --hold-out P21HMH --hold-out Jun0214 --exclude ... [--only NAME ...]

STORE holds the sources of `docs/models/nuclr-starter.csv`. All runs have the same number of steps. Each row is the last
line of a log: top-1 re-identification accuracy of held-out animals' neurons within their population and among the
neurons of all recordings, and RankMe.
"""

import argparse
import tempfile
from fnmatch import fnmatchcase
from pathlib import Path

from spikeinterface_nuclr import Store, pretrain
from spikeinterface_nuclr.training.config import read_config

# Name -> settings that differ, and sources (prefixes of session names) that are left out.
VARIATIONS = {
    "full recipe": ([], ()),
    "no population context": (["encoder.temporal_blocks=4", "encoder.spatiotemporal_blocks=0"], ()),
    "all units in both views": (["min_unit_fraction=1.0"], ()),
    "the same window twice": (["max_view_distance_s=0"], ()),
    "10-s windows": (["encoder.patch_size=50"], ()),
    "counts without the autocorrelogram": (["encoder.input_scale=log1p"], ()),
    "AdamW": (["optimizer=adamw", "learning_rate=1e-3"], ()),
    "without human patients": ([], ("human",)),
    "without Aplysia": ([], ("aplysia",)),
    "without cultures": ([], ("culture",)),
    "without retina": ([], ("retina",)),
}


def animals_of(store: Store, kinds: tuple[str, ...], keep: list[str]) -> list[str]:
    """Animals whose sessions' names begin with one of these kinds, without those that match the patterns `keep`."""
    animals = {probe.animal for probe in store.probes if probe.session.startswith(kinds)} if kinds else set()
    return sorted(animal for animal in animals if not any(fnmatchcase(animal, pattern) for pattern in keep))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--hold-out", action="append", default=[])
    parser.add_argument("--exclude", action="append", default=[])
    parser.add_argument("--only", nargs="+", default=list(VARIATIONS), choices=list(VARIATIONS))
    options = parser.parse_args()
    store = Store(options.store)
    print("| | seconds | loss | re-identification | … among all | RankMe |\n|---|---|---|---|---|---|")
    for name in options.only:
        settings, without = VARIATIONS[name]
        settings = [*settings, f"steps={options.steps}", f"monitor_every={options.steps}"]
        exclude = [*options.exclude, *animals_of(store, without, [*options.hold_out, *options.exclude])]
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = pretrain(
                store, Path(folder) / "m.safetensors", read_config(options.config, settings),
                hold_out=options.hold_out, exclude=exclude,
            )  # fmt: skip
        row = checkpoint.card["monitors"]
        scores = f"{row['reidentification']:.3f} | {row['reidentification_across']:.3f} | {row['rank_me']:.1f}"
        print(f"| {name} | {row['seconds']} | {row['loss']:.2f} | {scores} |", flush=True)


if __name__ == "__main__":
    main()
