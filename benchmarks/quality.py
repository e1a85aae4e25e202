"""Quality of a model's embeddings compared with baselines, on animals that it was not trained on.

    python benchmarks/quality.py DATA [--model MODEL] [--mice MODEL …] [--only human aplysia steinmetz]
                                    [--json FILE] [--figure FILE]
    python benchmarks/quality.py DATA --calcium [--folder FOLDER] [--json FILE] [--figure FILE]

DATA contains the folders `human`, `aplysia` and `steinmetz`, with one NWB file per recording. Animals are divided as in
`docs/training.md`: TEST animals are used only here, and all choices were made on VALIDATION animals. For each method,
one choice is made here: whether its features are compared as they are or standardised.

The model is compared, on the same neurons and splits, with all baselines of `decoding.baselines` (firing rate,
histogram of inter-spike intervals, autocorrelogram, coupling to the population and pairwise correlations); with the
same network with random weights (mean of three seeds); and with chance, or labels shuffled within each animal. Brackets
are 95 % t intervals over animals, for three or more animals; points in the figure are animals. With `--mice`, models
that were pretrained without labels on the mice of `steinmetz` are included in their tables.

With `--calcium`, the imaged neurons of `worm` are scored instead (`benchmarks/calcium.py`), with models that are
pretrained for this purpose, which takes half an hour on two cores. They are stored in FOLDER and reused.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scoring import (
    RANDOM,
    SEEDS,
    best_scaling,
    count,
    model_features,
    random_weights,
    rows_of,
    scored,
    with_interval,
)
from tqdm import tqdm

from spikeinterface_nuclr import (
    Checkpoint,
    Evaluation,
    Population,
    embed,
    evaluate,
    load_checkpoint,
    read_population,
)
from spikeinterface_nuclr.decoding import scores
from spikeinterface_nuclr.training.monitors import alternating

VALIDATION = {"human": ["p10hmh", "p14hmh", "p16hmh", "p18hmh", "p21hmh"], "aplysia": ["jun0214"]}
TEST = {"human": ["p43cs", "p44cs", "p47cs", "p48cs", "p51hmh"], "aplysia": ["jun0914", "may2214"]}
GROUPS = {
    "VIS": "VISp VISl VISrl VISam VISpm VISa",
    "TH": "LP LD RT MD MG LGd VPM VPL PO POL",
    "HPF": "POST SUB DG CA1 CA3",
    "MB": "MRN SCm SCs APN PAG",
}
GROUP_OF = {area: group for group, areas in GROUPS.items() for area in areas.split()}


def read(data: Path, kind: str, animals=None) -> dict[str, list[Population]]:
    """Recordings of each animal."""
    folders = [folder for folder in sorted((data / kind).iterdir()) if animals is None or folder.name in animals]
    return {folder.name: [read_population(path) for path in sorted(folder.glob("*.nwb"))] for folder in folders}


# --- re-identification ------------------------------------------------------------------------------------------------


def human_pairs(recordings: list[Population]):
    """The two halves of each recording, of alternating 10-s blocks."""
    yield from (alternating(population, 10.0) for population in recordings)


def aplysia_pairs(recordings: list[Population]):
    """All pairs of recordings of an animal, with their common neurons in the same order."""
    for k, first in enumerate(recordings):
        for second in recordings[k + 1 :]:
            common = np.intersect1d(first.unit_ids, second.unit_ids)
            yield tuple(p.select([list(p.unit_ids).index(unit) for unit in common]) for p in (first, second))


def reidentification(data: Path, kind: str, model: Checkpoint) -> dict:
    """Scores of every method on the test animals."""
    pairs_of = {"human": human_pairs, "aplysia": aplysia_pairs}[kind]
    validation, test = (
        {
            animal: [rows_of(pair, model.name, model) for pair in tqdm(list(pairs_of(recordings)), desc=animal)]
            for animal, recordings in read(data, kind, animals[kind]).items()
        }
        for animals in (VALIDATION, TEST)
    )
    result = best_scaling(validation, test)
    neurons = {animal: [n for rows in pairs if (n := count(rows)) > 1] for animal, pairs in test.items()}
    result["chance"] = scored({animal: float(np.mean(1 / np.array(n))) for animal, n in neurons.items() if n})
    result["chance"]["neurons"] = int(sum(map(sum, neurons.values())))
    return result


# --- decoding ---------------------------------------------------------------------------------------------------------


def decoding(recordings, label_of, protocols: dict[str, dict], model: Checkpoint, mice: list[Checkpoint]) -> dict:
    """Macro-F1 of every method by each protocol (keywords of `evaluate`), and with shuffled labels."""
    populations = [population for parts in recordings.values() for population in parts]
    animals = [animal for animal, parts in recordings.items() for _ in parts]
    labels = [label_of(population) for population in populations]
    embeddings = [embed(population, model, progress=False) for population in tqdm(populations, desc="embedding")]
    others = {f"{Path(other.name).stem} (pretrained on these mice)": other for other in mice}
    others |= {f"{RANDOM} {seed}": random_weights(model, seed) for seed in SEEDS}
    rows = {
        name: [model_features(other)(population) for population in tqdm(populations, desc=name)]
        for name, other in others.items()
    }
    result = {}
    for title, protocol in protocols.items():
        evaluation = evaluate(embeddings, labels, animals, populations=populations, others=rows, **protocol)
        means = evaluation.scores.query("score == 'macro-F1'").set_index("method")[["value", "low", "high"]]
        table = {method: {"score": with_interval(*row)} for method, row in means.iterrows()}
        for method in evaluation.methods:
            table[method]["animals"] = macro_f1_of_animals(evaluation, method)
        seeds = [table.pop(f"{RANDOM} {seed}") for seed in SEEDS]
        table[RANDOM] = {"score": np.mean([seed["score"] for seed in seeds], axis=0).tolist()}
        table[RANDOM]["animals"] = {
            a: float(np.mean([seed["animals"][a] for seed in seeds])) for a in seeds[0]["animals"]
        }
        support = evaluation.per_class()["support"].astype(int).to_dict()
        result[title] = {"support": support, model.name: table.pop("embedding"), **table}
    return result


def macro_f1_of_animals(evaluation: Evaluation, method: str) -> dict[str, float]:
    """Macro-F1 of the most probable classes in each animal."""
    rows = evaluation.predictions_of(method)
    best = evaluation.classes[rows[[f"p({name})" for name in evaluation.classes]].to_numpy().argmax(axis=1)]
    truth, animals = rows["truth"].to_numpy(), rows["animal"].to_numpy()
    values = scores.of_animals(scores.macro_f1, truth, best, animals)
    return dict(zip(np.unique(animals).tolist(), values.tolist(), strict=True))


def human_structure(population: Population) -> np.ndarray:
    """Label of each unit: hippocampus, amygdala, or empty."""
    areas = np.char.lower(population.properties["brain_area"].astype(str))
    labels = np.full(len(areas), "", dtype="U11")
    for name in ("hippocampus", "amygdala"):
        labels[np.char.find(areas, name) >= 0] = name
    return labels


def steinmetz_group(population: Population) -> np.ndarray:
    """Label of each unit: one of the paper's four groups, or empty."""
    return np.array([GROUP_OF.get(str(area), "") for area in population.properties["brain_area"]])


# --- the tables -------------------------------------------------------------------------------------------------------


def run(data: Path, model: Checkpoint, mice: list[Checkpoint], only: list[str]) -> dict:
    """All tables by title."""
    result = {}
    if "aplysia" in only:
        title = f"Aplysia: top-1 re-identification in another recording ({', '.join(TEST['aplysia'])})"
        result[title] = reidentification(data, "aplysia", model)
    if "human" in only:
        title = f"Human: top-1 re-identification in the other half ({', '.join(TEST['human'])})"
        result[title] = reidentification(data, "human", model)
        title = "Human: hippocampus or amygdala, macro-F1 in the test patients"
        protocol = {title: {"protocol": "zero-shot", "test_animals": TEST["human"]}}
        result |= decoding(read(data, "human"), human_structure, protocol, model, [])
    if "steinmetz" in only:
        protocols = {
            "Steinmetz: 4 groups, macro-F1, leave one mouse out": {"protocol": "leave-one-animal-out"},
            "Steinmetz: 4 groups, macro-F1, within animals (one session on both sides)": {"protocol": "within-animal"},
        }
        result |= decoding(read(data, "steinmetz"), steinmetz_group, protocols, model, mice)
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
                lines.append(f"| {name}{note} | {mean:.2f}{bracket} |")
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
    parser.add_argument("--mice", nargs="+", default=[])
    parser.add_argument("--only", nargs="+", default=["aplysia", "human", "steinmetz"])
    parser.add_argument("--calcium", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path("calcium-models"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    if options.calcium:
        import calcium

        result, facts = calcium.run(options.data, options.folder), {"settings": str(calcium.SETTINGS.name)}
    else:
        model = load_checkpoint(options.model)
        mice = [load_checkpoint(name) for name in options.mice]
        result = run(options.data, model, mice, options.only)
        facts = {"model": model.name, "sha256": model.sha256}
    print(f"{', '.join(f'{key} {value}' for key, value in facts.items())}\n\n{as_markdown(result)}")
    if options.figure:
        figure_of(result).savefig(options.figure, dpi=150)
    if options.json:
        options.json.write_text(json.dumps({**facts, "tables": result}, indent=1))


if __name__ == "__main__":
    main()
