"""Which units to label first: suggested ones, random ones, or those of least confidence.

    python benchmarks/active_learning.py DATA -o active_learning.json [--figure active_learning.png]

A decoder is fitted to one animal, and predicts a pool of others. Some units of the pool are labelled, and a decoder of
all labels so far predicts an animal that took no part. Rats: narrow or broad waveforms, of DATA/rat-neuropixels.
Simulated: 20 s, 20 labels in the first animal, three cell types, the rarest being one in twenty neurons. Balanced
accuracy in the test animal.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from recordings import read

from spikeinterface_nuclr import (
    RecordingWarning,
    embed,
    fit_decoder,
    load_checkpoint,
    simulate_population,
    suggest_units,
)

BUDGETS = (5, 10, 20, 40, 80)
REPEATS = 5
RATS = ("t170", "t179", "t181", "t182", "t209", "t223", "t224")


def rats(data: Path, model):
    """Embeddings and classes of the waveforms of one recording of each rat, the one with most units."""
    for rat in RATS:
        [recordings] = read(data, "rat-neuropixels", [rat]).values()
        population = max(recordings, key=lambda one: one.n_units)
        yield rat, embed(population, model, progress=False), population.properties["waveform_class"].astype(str)


def simulated(model, rare: float = 0.05):
    """Embeddings and cell types of simulated animals with few bursting neurons."""
    for seed in range(7):
        population = simulate_population(160, 20.0, seed=seed)
        types = population.properties["cell_type"]
        rng = np.random.default_rng(seed)
        kept = np.flatnonzero((types != "bursting") | (rng.random(160) < rare * 3))
        part = population.select(kept)
        yield f"simulated {seed}", embed(part, model, progress=False), part.properties["cell_type"]


def choices(name: str, identities, embeddings, labels, budget: int, seed: int):
    """Which units of each recording of the pool to label: bool arrays."""
    known = [one != "" for one in labels]
    units = [(k, row) for k, has in enumerate(known) for row in np.flatnonzero(has)]
    if name == "suggested":
        # Units that nobody can label are not offered.
        table = suggest_units(identities, embeddings, labelled=[~has for has in known], count=budget)
        ids = [{unit: row for row, unit in enumerate(one.unit_ids.tolist())} for one in embeddings]
        chosen = [(row.recording, ids[row.recording][row.unit_id]) for row in table.itertuples()]
    elif name == "least confident":
        confidence = np.array([identities[k].confidence[row] for k, row in units])
        chosen = [units[k] for k in np.argsort(np.nan_to_num(confidence, nan=2), kind="stable")[:budget]]
    else:
        chosen = [units[k] for k in np.random.default_rng(seed).permutation(len(units))[:budget]]
    masks = [np.zeros(len(one), dtype=bool) for one in labels]
    for k, row in chosen:
        masks[k][row] = True
    return masks


def score(animals: list, repeat_of: dict[str, int], few: int = 0):
    """Balanced accuracy in each animal, by budget and way of choosing; the first animal has `few` labels, or all."""
    for test in range(len(animals)):
        others = [one for k, one in enumerate(animals) if k != test]
        (first, *pool), (_, tested, truth) = others, animals[test]
        if few:
            first = (*first[:2], np.where(np.arange(len(first[2])) < few, first[2], ""))
        start = fit_decoder([first[1]], [first[2]], [first[0]], target="type")
        identities = [start.predict(embeddings) for _, embeddings, _ in pool]
        embeddings, labels = [one[1] for one in pool], [one[2] for one in pool]
        for budget in (0, *BUDGETS):
            for name, repeats in repeat_of.items() if budget else {"none": 1}.items():
                for seed in range(repeats):
                    decoder = start
                    if budget:
                        masks = choices(name, identities, embeddings, labels, budget, seed)
                        given = [np.where(mask, one, "") for mask, one in zip(masks, labels, strict=True)]
                        used = [k for k, mask in enumerate(masks) if mask.any()]
                        decoder = fit_decoder(
                            [first[1], *(embeddings[k] for k in used)], [first[2], *(given[k] for k in used)],
                            [first[0], *(pool[k][0] for k in used)], target="type",
                        )  # fmt: skip
                    found = decoder.predict(tested, target_error=1.0).best_label
                    known = (truth != "") & (found != "")
                    right = [np.mean(found[known & (truth == c)] == c) for c in np.unique(truth[known])]
                    yield {"test": animals[test][0], "budget": budget, "choice": name, "repeat": seed,
                           "balanced accuracy": float(np.mean(right))}  # fmt: skip


def draw(path: Path, table: pd.DataFrame) -> None:
    """Mean balanced accuracy over animals by number of labels."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, table["data"].nunique(), figsize=(10, 4), layout="constrained", squeeze=False)
    for axis, (name, part) in zip(axes[0], table.groupby("data", sort=False), strict=True):
        start = part[part["budget"] == 0]["balanced accuracy"].mean()
        axis.axhline(start, color="0.7", ls=":", label="one animal only")
        for choice, group in part[part["budget"] > 0].groupby("choice", sort=False):
            means = group.groupby(["budget", "test"])["balanced accuracy"].mean().groupby("budget")
            axis.errorbar(means.mean().index, means.mean(), means.sem(), marker="o", capsize=3, label=choice)
        axis.set(title=name, xlabel="labels given", ylabel="balanced accuracy, new animal", xscale="log")
        axis.set_xticks(BUDGETS, BUDGETS)
        axis.minorticks_off()
    axes[0, 0].legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run both, and print means over animals with the difference from random choices."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--model", default="nuclr-starter")
    parser.add_argument("--tasks", nargs="+", default=["rats", "simulated"])
    arguments = parser.parse_args()
    model, parts = load_checkpoint(arguments.model), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecordingWarning)  # of few animals, and of few units in a class
        tasks = {"rats": (lambda: rats(arguments.data, model), 0), "simulated": (lambda: simulated(model), 20)}
        for name in arguments.tasks:
            read_animals, few = tasks[name]
            rows = score(list(read_animals()), {"suggested": 1, "least confident": 1, "random": REPEATS}, few)
            parts.append(pd.DataFrame(rows).assign(data=name))
    table = pd.concat(parts)
    means = table.groupby(["data", "budget", "choice", "test"], sort=False)["balanced accuracy"].mean()
    shown = means.groupby(["data", "budget", "choice"], sort=False).agg(["mean", "sem"])
    print(shown.round(3).unstack("choice").to_string())
    arguments.output.write_text(table.to_json(orient="records"))
    if arguments.figure:
        draw(arguments.figure, table)


if __name__ == "__main__":
    main()
