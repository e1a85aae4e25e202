"""Types and regions that no neuron shows alone: does the decoder find them, and do the baselines not?

    python benchmarks/relations.py [--model MODEL] [--animals 8] [--seeds 3] [--figure FILE]

Simulated animals (`simulate_relations`): rates, intervals and autocorrelograms have one distribution for all neurons;
whether a neuron follows the drive that others follow, and whether these follow it with one sign or two, is all that
differs. Each animal is left out in turn. The model has seen none of them.
"""

import argparse

import numpy as np
from tqdm import tqdm

from spikeinterface_nuclr import embed, evaluate, load_checkpoint, plot_nuclr_evaluation, simulate_relations
from spikeinterface_nuclr.decoding.controls import shuffled_spikes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None)
    parser.add_argument("--animals", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--units", type=int, default=80)
    parser.add_argument("--duration", type=float, default=600.0)
    parser.add_argument("--figure")
    options = parser.parse_args()
    model = load_checkpoint(options.model)
    size = f"{options.animals} animals of {options.units} units, {options.duration:g} s"
    print(f"{model.name}, sha256 {model.sha256}; {size}")
    tables = {"cell_type": [], "brain_area": []}
    for seed in range(options.seeds):
        populations = [
            simulate_relations(options.units, options.duration, 1000 * seed + k) for k in range(options.animals)
        ]
        embeddings, shuffled = (
            [embed(population, model, progress=False) for population in tqdm(of, desc=f"seed {seed}")]
            for of in (populations, [shuffled_spikes(population) for population in populations])
        )
        for target, found in tables.items():
            labels = [population.properties[target] for population in populations]
            controls = {"embedding of shuffled spikes": [one.embedding for one in shuffled]}
            result = evaluate(
                embeddings, labels, target=target, populations=populations, others=controls, progress=False
            )
            found.append(result.to_frame())
            if options.figure and target == "cell_type" and seed == 0:
                plot_nuclr_evaluation(result).figure.savefig(options.figure, dpi=120)
    for target, found in tables.items():
        print(f"\n**{target}**, macro-F1, mean (range over {options.seeds} seeds)\n\n| | score |\n|---|---|")
        for method in found[0].index:
            values = np.array([table.loc[method, "macro-F1"] for table in found])
            print(f"| {method} | {values.mean():.2f} ({values.min():.2f} to {values.max():.2f}) |")
        own = {score: np.mean([table.loc["embedding", score] for table in found]) for score in found[0].columns}
        print(f"\nECE {own['ECE before']:.3f} before and {own['ECE']:.3f} after calibration", end="")
        for error in (5, 10):
            labelled, wrong = own[f"coverage at {error}% error"], own[f"error at {error}% error"]
            print(f"; asked for {error} % error: {labelled:.0%} labelled, {wrong:.1%} of them wrong", end="")
        print()


if __name__ == "__main__":
    main()
