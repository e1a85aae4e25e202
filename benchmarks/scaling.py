"""Scores by number of labels and by number of training animals, for the labels of rats.

    python benchmarks/scaling.py DATA [--model MODEL] [--json FILE] [--figure FILE]

For narrow and broad spikes, over all areas and inside striatum: a decoder is fitted to a fraction of the labels of all
other rats, or to all labels of 1, 2, 4, … other rats, and scored on each TEST rat with a model that has not seen it.
The same is done with the strongest baseline features. Lines are means over test rats and three draws, shades the range
of the rats' means.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from decoding import waveform_class
from matplotlib.figure import Figure
from recordings import TEST, read, unseen
from scoring import cached_baselines, cached_embeddings
from tqdm import tqdm

from spikeinterface_nuclr import Checkpoint, UnitEmbeddings, animal_scaling, label_efficiency, load_checkpoint
from spikeinterface_nuclr.decoding.readout import READOUTS

BASELINE = "rate, intervals, autocorrelogram, population"
TASKS = {"all areas": "", "striatum": "striatum"}
CURVES = {"share": label_efficiency, "animals": animal_scaling}


def baseline_as_embeddings(population, embeddings: UnitEmbeddings) -> UnitEmbeddings:
    """Baseline features in the place of the embeddings of the same units; undefined ones are replaced by the mean."""
    rows = cached_baselines(population)[BASELINE].astype("float32")
    rows = np.where(np.isfinite(rows), rows, np.nanmean(rows, axis=0))
    rows[np.isnan(embeddings.embedding).any(axis=1)] = np.nan
    provenance = embeddings.provenance.replace(checkpoint_sha256="0" * 64, model=None)
    return UnitEmbeddings(
        embeddings.unit_ids, rows, embeddings.num_windows, embeddings.split_half_similarity, provenance,
        num_spikes=embeddings.num_spikes,
    )  # fmt: skip


def run(data: Path, model: Checkpoint) -> pd.DataFrame:
    """One row for each task, read-out, method, curve, size, repeat and test rat."""
    recordings = [(rat, p) for rat, parts in read(data, "rat-neuropixels").items() for p in parts]
    tables = []
    for rat in tqdm(TEST["rats"], desc="rats"):
        checkpoint = unseen(model, rat)
        embeddings = [cached_embeddings(population, checkpoint) for _, population in recordings]
        baselines = [baseline_as_embeddings(p, e) for (_, p), e in zip(recordings, embeddings, strict=True)]
        for title, region in TASKS.items():
            labels = [waveform_class(population, region) for _, population in recordings]
            kept = [k for k, values in enumerate(labels) if (values != "").any()]
            animals = [recordings[k][0] for k in kept]
            if rat not in animals:
                continue
            for method, source in ((model.name, embeddings), (BASELINE, baselines)):
                for readout in READOUTS:
                    for size, function in CURVES.items():
                        curve = function(
                            [source[k] for k in kept], [labels[k] for k in kept], animals, "zero-shot",
                            test_animals=[rat], readout=readout, progress=False,
                        )  # fmt: skip
                        facts = {"task": title, "readout": readout, "method": method, "curve": size}
                        curve = curve.rename(columns={size: "size"}).assign(**facts)
                        tables.append(curve[[*facts, "size", "repeat", "test_animal", "macro_f1"]])
    return pd.concat(tables, ignore_index=True)


def figure_of(table: pd.DataFrame) -> Figure:
    """One panel for each task and curve."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    axes = figure.subplots(len(TASKS), len(CURVES), sharey="row")
    colours = dict(zip(table["method"].unique(), ("C0", "0.45"), strict=True))
    for row, task in zip(axes, TASKS, strict=True):
        for axis, curve in zip(row, CURVES, strict=True):
            part = table.query("task == @task and curve == @curve")
            for (method, readout), lines in part.groupby(["method", "readout"], sort=False):
                rats = lines.groupby(["size", "test_animal"])["macro_f1"].mean().unstack()
                style = "-" if readout == "kernel" else "--"
                axis.plot(
                    rats.index, rats.mean(axis=1), style, marker="o", markersize=3, color=colours[method],
                    label=f"{method}, {readout}",
                )  # fmt: skip
                axis.fill_between(rats.index, rats.min(axis=1), rats.max(axis=1), color=colours[method], alpha=0.08)
            axis.set_title(f"narrow or broad, {task}", loc="left", fontsize=9)
            axis.set_xscale("log")
            axis.set_xlabel({"share": "fraction of the training labels", "animals": "training rats"}[curve])
            if curve == "animals":
                axis.set_xticks(sorted(part["size"].unique()), [f"{n:g}" for n in sorted(part["size"].unique())])
                axis.minorticks_off()
            axis.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel("macro-F1 in test rats")
    axes[0, 0].legend(fontsize=7, frameon=False)
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default=None)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    model = load_checkpoint(options.model)
    table = run(options.data, model)
    means = (
        table.groupby(["task", "curve", "size", "method", "readout"])["macro_f1"].mean().unstack(["method", "readout"])
    )
    print(f"{model.name} {model.sha256}\n\n{means.round(3).to_string()}")
    if options.figure:
        figure_of(table).savefig(options.figure, dpi=150)
    if options.json:
        options.json.write_text(json.dumps({"sha256": model.sha256, "rows": table.to_dict("records")}))


if __name__ == "__main__":
    main()
