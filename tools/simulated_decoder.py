"""Write the bundled decoder, spikeinterface_nuclr/decoding/bundled/simulated-cell-type.safetensors.

    python tools/simulated_decoder.py

It predicts the three cell types of `simulate_population`, for the demo and the tutorials. It is not meant for real
neurons, which it should flag as novel.
"""

from spikeinterface_nuclr import embed, fit_decoder, simulate_population
from spikeinterface_nuclr.decoding.storage import BUNDLED

SEEDS = range(100, 110)  # not used in the demo and the tutorials


def main():
    populations = [simulate_population(60, 300.0, seed) for seed in SEEDS]
    embeddings = [embed(population, device="cpu", precision="float32", progress=False) for population in populations]
    labels = [population.properties["cell_type"] for population in populations]
    animals = [f"simulated-{seed}" for seed in SEEDS]
    card = {
        "license": "BSD-3-Clause",
        "training_data": "simulate_population(60, 300.0, seed) for the seeds 100 to 109",
        "good_for": "the demo and the tutorials",
        "not_for": "real neurons",
    }
    decoder = fit_decoder(embeddings, labels, animals, target="cell_type", card=card)
    BUNDLED.mkdir(exist_ok=True)
    print(decoder.save(BUNDLED / "simulated-cell-type.safetensors", overwrite=True), decoder, decoder.sha256)


if __name__ == "__main__":
    main()
