"""Quality of a model's embeddings compared with baselines, on animals that it was not trained on.

    python benchmarks/quality.py DATA [--model MODEL] [--only TASK …] [--json FILE] [--figure FILE]
    python benchmarks/quality.py DATA --calcium [--also KIND …] [--folder FOLDER] [--json FILE] [--figure FILE]

DATA contains a folder of NWB files for each kind of recording. Tasks:

    aplysia     the same neuron in another recording
    human       the same unit in the other half of the recording; hippocampus or amygdala
    rats        the same unit in the other half; narrow or broad spikes, over all areas and inside striatum; regions
    decisions   striatum or cortex, and dmFC or mPFC, from trials
    days        the same cell in the next session, and in the one four sessions later
    steinmetz   four groups of regions, from the 0.4 s after each stimulus

VALIDATION animals served for choices; TEST animals are used only here. Each member of a model may have been trained
without other animals: an animal is embedded by all members if none has seen it, otherwise by one that has not. For
each method, one choice is made here: whether its features are compared as they are or standardised.

The model is compared, on the same neurons and splits, with all baselines of `decoding.baselines` (firing rate,
histogram of inter-spike intervals, autocorrelogram, coupling to the population and pairwise correlations); with the
same network with random weights (mean of three seeds); and with chance, or labels shuffled within each animal. Labels
are read by a linear and by a kernel read-out, each from the embeddings and from the baselines. Brackets are 95 % t
intervals over animals, for three or more animals; points in the figure are animals.

With `--calcium`, the imaged neurons of `worm` are scored instead (`benchmarks/calcium.py`), with models that are
pretrained for this purpose, which takes half an hour on two cores. They are stored in FOLDER and reused. `--also`
pretrains on further folders of DATA.
"""

import argparse
import json
from pathlib import Path

import decoding
import reidentification
from matplotlib.figure import Figure

from spikeinterface_nuclr import Checkpoint, load_checkpoint

TASKS = ("aplysia", "human", "rats", "decisions", "days", "steinmetz")


def run(data: Path, model: Checkpoint, only: list[str]) -> dict:
    """All tables by title."""
    result = {}
    for task in only:
        for function in (*reidentification.TASKS.get(task, ()), *decoding.TASKS.get(task, ())):
            tables = function(data, model)
            print(as_markdown(tables), flush=True)
            result |= tables
    return result


def as_markdown(result: dict) -> str:
    """The tables in Markdown."""
    lines = []
    for title, table in result.items():
        lines += [f"**{title}**", ""]
        if "support" in table:
            lines += [", ".join(f"{label}: {n}" for label, n in table["support"].items()), ""]
        lines += ["| | score |", "|---|---|"]
        for name, row in table.items():
            if name != "support":
                mean, *interval = row["score"]
                note = " (standardised)" if row.get("standardised") else ""
                bracket = " [{:.2f}, {:.2f}]".format(*interval) if interval else ""
                lines.append(f"| {name}{note} | {mean:.3f}{bracket} |")
        lines.append("")
    return "\n".join(lines)


def figure_of(result: dict) -> Figure:
    """One panel per table: means with their intervals, and each animal's score as a point."""
    tables = {title: {k: v for k, v in table.items() if k != "support"} for title, table in result.items()}
    heights = [len(table) + 2 for table in tables.values()]
    figure = Figure(figsize=(9, 0.25 * sum(heights)), layout="constrained")
    panels = figure.subplots(len(tables), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (title, table) in zip(panels, tables.items(), strict=True):
        for y, row in enumerate(table.values()):
            mean, *interval = row["score"]
            animals = list(row.get("animals", {}).values())
            colour = "C0" if y == 0 else "0.45"
            axes.plot(interval, [y] * len(interval), color=colour, linewidth=2, solid_capstyle="round")
            axes.plot(animals, [y] * len(animals), "o", color=colour, markersize=3, markerfacecolor="white")
            axes.plot(mean, y, "D", color=colour, markersize=6)
            axes.annotate(f"{mean:.2f}", (mean, y), (0, 5), textcoords="offset points", ha="center", fontsize=7)
        axes.set_yticks(range(len(table)), table, fontsize=8)
        axes.set_title(title, loc="left", fontsize=9)
        axes.set(xlim=(0, 1), ylim=(len(table) - 0.5, -0.8))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", color="0.9")
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default=None)
    parser.add_argument("--only", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--calcium", action="store_true")
    parser.add_argument("--also", nargs="+", default=[], metavar="KIND")
    parser.add_argument("--folder", type=Path, default=Path("calcium-models"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    if options.calcium:
        import calcium

        result = calcium.run(options.data, options.folder, options.also)
        facts = {"settings": calcium.SETTINGS.name, "also": options.also}
        print(as_markdown(result))
    else:
        model = load_checkpoint(options.model)
        result = run(options.data, model, options.only)
        facts = {"model": model.name, "sha256": model.sha256}
    print(", ".join(f"{key} {value}" for key, value in facts.items() if value))
    if options.figure:
        figure_of(result).savefig(options.figure, dpi=150)
    if options.json:
        options.json.write_text(json.dumps({**facts, "tables": result}, indent=1))


if __name__ == "__main__":
    main()
