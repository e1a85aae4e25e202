"""What embeddings of a model are worth, beside baselines, on animals that it was not trained on.

    python benchmarks/quality.py DATA [--model MODEL] [--mice MODEL …] [--only human aplysia steinmetz]
                                    [--json FILE] [--figure FILE]
    python benchmarks/quality.py DATA --calcium [--folder FOLDER] [--json FILE] [--figure FILE]

DATA holds the folders `human`, `aplysia` and `steinmetz`, an NWB file a recording. Animals are divided as in
`docs/training.md`: those of TEST are seen here for the first time, and whatever was chosen was chosen on VALIDATION. Of
each method there, this is one thing: whether its features are compared as they are or standardised.

Beside the model stand, on the same neurons and splits: firing rate; rate and histogram of intervals; these and the
autocorrelogram; the same network with random weights (mean of three seeds); and chance, or labels shuffled within each
animal. Brackets are 95 % bootstrap intervals over animals. With `--mice`, models that were
pretrained, without labels, on the mice of `steinmetz` stand in the tables of these as well.

With `--calcium`, the imaged neurons of `worm` are scored in their place (`benchmarks/calcium.py`), by models that are
pretrained for it: half an hour on two cores. They stay in FOLDER and are not made again.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from spikeinterface_nuclr import (
    Checkpoint,
    Encoder,
    InputError,
    Population,
    embed,
    evaluate,
    load_checkpoint,
    read_population,
)
from spikeinterface_nuclr.decoding.baselines import BASELINES, baseline_features
from spikeinterface_nuclr.decoding.scores import interval
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
SEEDS = range(3)
RANDOM = "random weights"

Features = Callable[[Population], np.ndarray]  # (n_units, k), NaN rows where there is nothing to say


def model_features(checkpoint: Checkpoint) -> Features:
    """Embeddings; NaN rows where a unit, or a whole recording, has no window."""

    def features(population: Population) -> np.ndarray:
        try:
            return embed(population, checkpoint, progress=False).embedding.astype(float)
        except InputError:
            return np.full((population.n_units, checkpoint.config.dim), np.nan)

    return features


def random_weights(checkpoint: Checkpoint, seed: int) -> Checkpoint:
    """The same network before training."""
    torch.manual_seed(seed)
    return Checkpoint(checkpoint.config, Encoder(checkpoint.config).state_dict(), checkpoint.card, f"random {seed}")


def methods_of(checkpoint: Checkpoint) -> dict[str, list[Features]]:
    """Each method by name; several features where its score is the mean over seeds."""
    baselines = {name: [lambda p, name=name: baseline_features(p)[name]] for name in BASELINES["spikes"]}
    seeds = [model_features(random_weights(checkpoint, seed)) for seed in SEEDS]
    return {checkpoint.name: [model_features(checkpoint)], **baselines, RANDOM: seeds}


def read(data: Path, kind: str, animals=None) -> dict[str, list[Population]]:
    """Recordings of each animal."""
    folders = [folder for folder in sorted((data / kind).iterdir()) if animals is None or folder.name in animals]
    return {folder.name: [read_population(path) for path in sorted(folder.glob("*.nwb"))] for folder in folders}


def scored(values) -> list[float]:
    """Mean over animals and the 95 % bootstrap interval of it."""
    return [float(np.mean(values)), *interval(np.asarray(values))]


# --- finding a neuron again -------------------------------------------------------------------------------------------


def top_1(first: np.ndarray, second: np.ndarray, standardised: bool) -> float:
    """Share of neurons whose nearest row in the other array is their own, in both directions.

    Rows are compared at unit length, but for a single feature.
    """
    rows = np.concatenate([first, second])
    if standardised:
        rows = (rows - rows.mean(axis=0)) / np.maximum(rows.std(axis=0), 1e-9)
    if rows.shape[1] > 1:
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    first, second = np.split(rows, 2)
    distance = ((first[:, None] - second[None]) ** 2).sum(axis=-1)
    own = np.arange(len(first))
    return float(np.mean([distance.argmin(axis=1) == own, distance.argmin(axis=0) == own]))


def human_pairs(recordings: list[Population]):
    """The two halves of each recording, of alternating 10-s blocks."""
    yield from (alternating(population, 10.0) for population in recordings)


def aplysia_pairs(recordings: list[Population]):
    """Every two recordings of an animal, their common neurons in the same order."""
    for k, first in enumerate(recordings):
        for second in recordings[k + 1 :]:
            common = np.intersect1d(first.unit_ids, second.unit_ids)
            yield tuple(p.select([list(p.unit_ids).index(unit) for unit in common]) for p in (first, second))


def reidentification(data: Path, kind: str, methods: dict[str, list[Features]]) -> dict:
    """Scores of every method on the test animals."""
    pairs_of = {"human": human_pairs, "aplysia": aplysia_pairs}[kind]
    parts = {}
    for part, animals in (("validation", VALIDATION), ("test", TEST)):
        for animal, recordings in read(data, kind, animals[kind]).items():
            pairs = [_common_rows(pair, methods) for pair in tqdm(list(pairs_of(recordings)), desc=f"{kind}: {animal}")]
            # A recording in which fewer than two neurons have a window in both halves says nothing.
            parts.setdefault(part, {})[animal] = [rows for rows in pairs if len(next(iter(rows.values()))[0][0]) > 1]

    def scores(name: str, part: str) -> np.ndarray:
        """(animals, 2): plain and standardised, mean over seeds"""
        return np.array(
            [
                [np.mean([top_1(*seed, standardised) for rows in pairs for seed in rows[name]])
                 for standardised in (False, True)]
                for pairs in parts[part].values() if pairs
            ]
        )  # fmt: skip

    result = {}
    for name in methods:
        chosen = int(scores(name, "validation").mean(axis=0).argmax())
        result[name] = {"score": scored(scores(name, "test")[:, chosen]), "standardised": bool(chosen)}
    neurons = [[len(next(iter(rows.values()))[0][0]) for rows in pairs] for pairs in parts["test"].values() if pairs]
    result["chance"] = {"score": scored([np.mean([1 / n for n in sizes]) for sizes in neurons])}
    result["chance"]["neurons"] = int(sum(map(sum, neurons)))
    return result


def _common_rows(pair, methods: dict[str, list[Features]]) -> dict[str, list[tuple]]:
    """Rows of both populations of a pair by every method and seed, of the neurons that all methods know in both."""
    rows = {name: [tuple(map(features, pair)) for features in seeds] for name, seeds in methods.items()}
    known = np.all([np.isfinite(side[:, 0]) for seeds in rows.values() for seed in seeds for side in seed], axis=0)
    return {name: [tuple(side[known] for side in seed) for seed in seeds] for name, seeds in rows.items()}


# --- reading a property -----------------------------------------------------------------------------------------------


def decoding(recordings, label_of, protocols: dict[str, dict], model: Checkpoint, mice: list[Checkpoint]) -> dict:
    """macro-F1 of every method by each protocol (keywords of `evaluate`), and with shuffled labels."""
    populations = [population for found in recordings.values() for population in found]
    animals = [animal for animal, found in recordings.items() for _ in found]
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
        found = evaluate(embeddings, labels, animals, populations=populations, others=rows, **protocol)
        scores = found.scores[found.scores["score"] == "macro-F1"].set_index("method")
        table = {}
        for name, row in scores[["value", "low", "high"]].iterrows():
            table[model.name if name == "embedding" else name] = {"score": list(map(float, row))}
        seeds = [table.pop(f"{RANDOM} {seed}")["score"] for seed in SEEDS]
        table[RANDOM] = {"score": np.mean(seeds, axis=0).tolist()}
        support = found.per_class()["support"].astype(int).to_dict()
        result[title] = {"support": support, **table}
    return result


def human_structure(population: Population) -> np.ndarray:
    """hippocampus, amygdala, or nothing."""
    areas = np.char.lower(population.properties["brain_area"].astype(str))
    found = np.full(len(areas), "", dtype="U11")
    for name in ("hippocampus", "amygdala"):
        found[np.char.find(areas, name) >= 0] = name
    return found


def steinmetz_group(population: Population) -> np.ndarray:
    """One of the paper's four groups, or nothing."""
    return np.array([GROUP_OF.get(str(area), "") for area in population.properties["brain_area"]])


# --- the tables -------------------------------------------------------------------------------------------------------


def run(data: Path, model: Checkpoint, mice: list[Checkpoint], only: list[str]) -> dict:
    """Every table by its title."""
    result = {}
    if "aplysia" in only:
        title = f"Aplysia: found in another recording of the animal, top-1 ({', '.join(TEST['aplysia'])})"
        result[title] = reidentification(data, "aplysia", methods_of(model))
    if "human" in only:
        title = f"Human: found in the other half, top-1 ({', '.join(TEST['human'])})"
        result[title] = reidentification(data, "human", methods_of(model))
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
    """The tables as documents show them."""
    lines = []
    for title, table in result.items():
        lines += [f"**{title}**", ""]
        if "support" in table:
            lines += [", ".join(f"{label}: {n}" for label, n in table["support"].items()), ""]
        lines += ["| | score |", "|---|---|"]
        for name, row in table.items():
            if name != "support":
                mean, low, high = row["score"]
                note = " (standardised)" if row.get("standardised") else ""
                lines.append(f"| {name}{note} | {mean:.2f} [{low:.2f}, {high:.2f}] |")
        lines.append("")
    return "\n".join(lines)


def figure_of(result: dict) -> Figure:
    """A panel a table: scores and their intervals."""
    tables = {title: {k: v for k, v in table.items() if k != "support"} for title, table in result.items()}
    heights = [len(table) + 2 for table in tables.values()]
    figure = Figure(figsize=(9, 0.25 * sum(heights)), layout="constrained")
    panels = figure.subplots(len(tables), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (title, table) in zip(panels, tables.items(), strict=True):
        for place, row in enumerate(table.values()):
            mean, low, high = row["score"]
            colour = "C0" if place == 0 else "0.45"
            axes.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="round")
            axes.plot(mean, place, "o", color=colour, markersize=6)
            axes.annotate(f"{mean:.2f}", (mean, place), (0, 5), textcoords="offset points", ha="center", fontsize=7)
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

        result, told = calcium.run(options.data, options.folder), {"settings": str(calcium.SETTINGS.name)}
    else:
        model = load_checkpoint(options.model)
        mice = [load_checkpoint(name) for name in options.mice]
        result = run(options.data, model, mice, options.only)
        told = {"model": model.name, "sha256": model.sha256}
    print(f"{', '.join(f'{key} {value}' for key, value in told.items())}\n\n{as_markdown(result)}")
    if options.figure:
        figure_of(result).savefig(options.figure, dpi=150)
    if options.json:
        options.json.write_text(json.dumps({**told, "tables": result}, indent=1))


if __name__ == "__main__":
    main()
