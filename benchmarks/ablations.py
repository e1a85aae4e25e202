"""Ablations of the training recipe: short training runs that differ in one setting, scored on validation animals.

    python benchmarks/ablations.py STORE DATA --config laptop --steps 400 \\
        --hold-out T223 --hold-out T224 --hold-out P1?HMH ... --exclude ... [--only NAME ...]

STORE holds the recordings of `docs/models/nuclr-starter.csv` or more; DATA is the folder of all. All runs have the same
number of steps. The first columns are the last line of a log: top-1 re-identification accuracy of held-out
animals' neurons within their population and among the neurons of all recordings, and RankMe. The others are of the
validation rats: re-identification in the other half of the recording, and balanced accuracy of narrow and broad spikes,
which a linear and a kernel read-out of the other rats predict, inside striatum and over all areas.
"""

import argparse
import tempfile
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from decoding import waveform_class
from recordings import VALIDATION, read
from reidentification import RAT_SPIKES, halves
from scoring import model_features, top_1

from spikeinterface_nuclr import Checkpoint, Store, embed, evaluate, pretrain
from spikeinterface_nuclr.decoding.readout import READOUTS
from spikeinterface_nuclr.training.config import read_config

_SHORT_PATCHES = ["encoder.patch_size=400", "encoder.num_patches=10", "samples=2"]
# Name -> settings that differ, and sources (prefixes of the names of files) that are left out.
VARIATIONS = {
    "full recipe": ([], ()),
    "no attention among neurons": (["encoder.temporal_blocks=2", "encoder.spatiotemporal_blocks=0"], ()),
    "no population context": (
        ["encoder.temporal_blocks=2", "encoder.spatiotemporal_blocks=0", "encoder.input_scale=log1p+acg"],
        (),
    ),
    "all units in both views": (["min_unit_fraction=1.0"], ()),
    "the same window twice": (["max_view_distance_s=0"], ()),
    "second window anywhere": (["max_view_distance_s=10000"], ()),
    "64 units, 16 samples": (["max_units=64", "samples=16"], ()),
    "2-s patches, 2 samples": (_SHORT_PATCHES, ()),
    "2-s patches, counts and autocorrelogram": ([*_SHORT_PATCHES, "encoder.input_scale=log1p+acg"], ()),
    "10-s windows, 16 samples": (["encoder.num_patches=1", "samples=16"], ()),
    "60-s windows, 3 samples": (["encoder.num_patches=6", "samples=3"], ()),
    "10-ms bins": (["encoder.bin_s=0.01", "encoder.patch_size=1000"], ()),
    "2 + 2 blocks": (["encoder.temporal_blocks=2", "encoder.spatiotemporal_blocks=2"], ()),
    "no dropout": (["encoder.dropout=0.0"], ()),
    "AdamW": (["optimizer=adamw", "learning_rate=1e-3"], ()),
    "without rats": ([], ("rat-neuropixels",)),
    "without human patients": ([], ("human",)),
    "without Aplysia": ([], ("aplysia",)),
    "without cultures": ([], ("culture",)),
    "without retina": ([], ("retina",)),
    "without rats' decisions": ([], ("rat-decisions",)),
    "without mouse Neuropixels": ([], ("steinmetz",)),
    "without mouse basal ganglia": ([], ("mouse-snr", "mouse-stn")),
}


def scores_of_rats(data: Path, checkpoint: Checkpoint) -> list[float]:
    """Scores of the validation rats, as columns of the table."""
    rats, pairs = read(data, "rat-neuropixels"), halves(20.0, RAT_SPIKES)
    features = model_features(checkpoint)
    hits = []
    for pair in (pair for rat in VALIDATION["rats"] for pair in pairs(rats[rat])):
        rows = [features(side)[units] for side, units in zip(pair.sides, pair.units, strict=True)]
        hits += [top_1(*rows, pair.same, standardise=False)] * len(pair.same)
    recordings = [(rat, population) for rat, parts in rats.items() for population in parts]
    embeddings = [embed(population, checkpoint, progress=False) for _, population in recordings]
    scores = [float(np.mean(hits))]
    for region in ("striatum", ""):
        labels = [waveform_class(population, region) for _, population in recordings]
        kept = [k for k, values in enumerate(labels) if (values != "").any()]
        animals = [recordings[k][0] for k in kept]
        for readout in READOUTS:
            evaluation = evaluate(
                [embeddings[k] for k in kept], [labels[k] for k in kept], animals, protocol="zero-shot",
                test_animals=[rat for rat in VALIDATION["rats"] if rat in animals], readout=readout, shuffles=0,
                progress=False,
            )  # fmt: skip
            table = evaluation.scores.query("score == 'balanced accuracy'").set_index("method")
            scores.append(float(table.loc["embedding", "value"]))
    return scores


def animals_of(store: Store, kinds: tuple[str, ...], keep: list[str]) -> list[str]:
    """Animals whose files' names begin with one of these kinds, without those that match the patterns `keep`."""
    animals = {probe.animal for probe in store.probes if probe.path.parent.name.startswith(kinds)}
    if kinds and not animals:
        raise SystemExit(f"{store.path}: no recording is named {kinds[0]}…: build the store from all recordings")
    return sorted(animal for animal in animals if not any(fnmatchcase(animal, pattern) for pattern in keep))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--config")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--hold-out", action="append", default=[])
    parser.add_argument("--exclude", action="append", default=[])
    parser.add_argument("--only", nargs="+", default=list(VARIATIONS), choices=list(VARIATIONS))
    options = parser.parse_args()
    store = Store(options.store)
    print(
        "| | seconds | loss | re-identification | … among all | RankMe | rats re-identified | striatum, linear "
        "| kernel | all areas, linear | kernel |\n" + 11 * "|---" + "|"
    )
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
        rats = " | ".join(f"{score:.3f}" for score in scores_of_rats(options.data, checkpoint))
        print(f"| {name} | {row['seconds']} | {row['loss']:.2f} | {scores} | {rats} |", flush=True)


if __name__ == "__main__":
    main()
