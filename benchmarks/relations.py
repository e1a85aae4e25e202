"""Decoding of cell types that single neurons do not show, from embeddings and from baselines.

    python benchmarks/relations.py [--model MODEL] [--animals 8] [--seeds 3] [--figure FILE]

In both simulations, rates, intervals and autocorrelograms have the same distribution for all neurons. In
`simulate_relations`, neurons follow a shared drive, with one or both signs, or a drive of their own, which is visible
in correlations of spike counts. In `simulate_sequences`, types differ only in which of two neurons fires first, or in
how often three fire together. A reference measures exactly these statistics, to show that the recordings contain the
information.

Each animal is left out in turn. The model was not trained on any of them.
"""

import argparse

import numpy as np
from scipy.ndimage import uniform_filter1d
from tqdm import tqdm

from spikeinterface_nuclr import (
    Population,
    embed,
    evaluate,
    load_checkpoint,
    plot_nuclr_evaluation,
    simulate_relations,
    simulate_sequences,
)
from spikeinterface_nuclr.decoding.baselines import shuffled_spikes

# Simulation -> decoded properties.
SIMULATIONS = {simulate_relations: ("cell_type", "brain_area"), simulate_sequences: ("cell_type", "parity")}
SHUFFLED = "embedding of shuffled spikes"
REFERENCE = "reference: order in pairs, triple coincidences"


def order_and_triplets(population: Population) -> np.ndarray:
    """Statistics in which the types of `simulate_sequences` differ: float64, shape (n_units, 3).

    The two largest asymmetries of a neuron's cross-correlograms, at lags of 20 to 60 ms; and the third moment of its
    counts (140 ms) with those of the two neurons with which it is most correlated at lags up to 80 ms.
    """
    edges = np.arange(int(population.stop / 0.02) + 1) * 0.02
    counts = np.stack([np.histogram(times, edges)[0] for times in population.spike_times]).astype(float)
    counts -= counts.mean(axis=1, keepdims=True)
    later = [counts[:, :-lag] @ counts[:, lag:].T / counts.shape[1] for lag in (1, 2, 3, 4)]
    asymmetry = np.sort(np.abs(sum(later[:3]) - sum(later[:3]).T), axis=1)[:, -2:]
    correlation = sum(later) + sum(later).T
    np.fill_diagonal(correlation, -np.inf)
    partners = np.argsort(correlation, axis=1)[:, -2:]
    wide = uniform_filter1d(counts, 7, axis=1)
    wide /= wide.std(axis=1, keepdims=True)
    triplets = np.einsum("it,it,it->i", wide, wide[partners[:, 0]], wide[partners[:, 1]]) / counts.shape[1]
    return np.column_stack([asymmetry, triplets])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None)
    parser.add_argument("--animals", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--units", type=int, default=80)
    parser.add_argument("--duration", type=float, default=600.0)
    parser.add_argument("--figure", help="file for the figure of the cell types of simulate_relations")
    options = parser.parse_args()
    model = load_checkpoint(options.model)
    size = f"{options.animals} animals of {options.units} units, {options.duration:g} s"
    print(f"{model.name}, sha256 {model.sha256}; {size}")
    for simulate, targets in SIMULATIONS.items():
        by_seed = [evaluations(simulate, targets, model, seed, options) for seed in range(options.seeds)]
        if options.figure and simulate is simulate_relations:
            plot_nuclr_evaluation(by_seed[0]["cell_type"]).figure.savefig(options.figure, dpi=120)
        for target in targets:
            tables = [by_target[target].to_dataframe() for by_target in by_seed]
            print(as_markdown(f"{simulate.__name__}: {target}", tables))


def evaluations(simulate, targets, model, seed: int, options) -> dict:
    """An Evaluation of each target, with the animals of one seed."""
    populations = [simulate(options.units, options.duration, 1000 * seed + k) for k in range(options.animals)]
    title = f"{simulate.__name__}, seed {seed}"
    embeddings, shuffled = (
        [embed(population, model, progress=False) for population in tqdm(group, desc=title)]
        for group in (populations, [shuffled_spikes(population) for population in populations])
    )
    others = {SHUFFLED: [control.embedding for control in shuffled]}
    if simulate is simulate_sequences:
        others[REFERENCE] = [order_and_triplets(population) for population in populations]
    return {
        target: evaluate(
            embeddings,
            [population.properties[target] for population in populations],
            target=target,
            populations=populations,
            others=others,
            progress=False,
        )
        for target in targets
    }


def as_markdown(title: str, tables: list) -> str:
    """Scores of every method for each seed, and the calibration of the embedding's confidence."""
    seeds = range(len(tables))
    lines = [f"\n**{title}**, macro-F1\n", f"| | mean | {' | '.join(f'seed {seed}' for seed in seeds)} |"]
    lines.append("|---" * (2 + len(tables)) + "|")
    for method in tables[0].index:
        values = np.array([table.loc[method, "macro-F1"] for table in tables])
        lines.append(f"| {method} | {values.mean():.2f} | {' | '.join(f'{value:.2f}' for value in values)} |")

    def mean(score: str) -> float:
        return np.mean([table.loc["embedding", score] for table in tables])

    lines.append(f"\nECE {mean('ECE before'):.3f} before and {mean('ECE'):.3f} after calibration")
    for error in (5, 10):
        labelled, wrong = mean(f"coverage at {error}% error"), mean(f"error at {error}% error")
        lines[-1] += f"; target error {error} %: {labelled:.0%} labelled"
        lines[-1] += f", {wrong:.1%} of them wrong" if labelled else ""
    return "\n".join(lines)


if __name__ == "__main__":
    main()
