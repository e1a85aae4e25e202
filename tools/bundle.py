"""Make the bundled models and decoders.

    python tools/bundle.py [MEMBER.safetensors …]

Several members become `nuclr-starter`, with the card in docs/models; without any, the present model is saved again. The
decoder of simulated cell types is fitted to the embeddings of the model.
"""

import argparse
import json
from pathlib import Path

from tqdm import tqdm

from spikeinterface_nuclr import (
    Checkpoint,
    embed,
    fit_decoder,
    load_checkpoint,
    simulate_population,
)
from spikeinterface_nuclr.decoding import storage
from spikeinterface_nuclr.model import loading
from spikeinterface_nuclr.model.loading import bundled_models

CARD = Path(__file__).parents[1] / "docs" / "models" / "nuclr-starter.json"
SEEDS = range(100, 110)  # not used in the demo and the tutorials


def simulated_decoder(model: Checkpoint):
    """The decoder of simulated cell types, for the demo and the tutorials."""
    populations = [simulate_population(60, 300.0, seed=seed) for seed in tqdm(SEEDS, desc="simulating")]
    settings = {"device": "cpu", "precision": "float32", "progress": False}
    embeddings = [embed(population, model, **settings) for population in populations]
    card = {
        "good_for": "the demo and the tutorials", "not_for": "real neurons", "license": "BSD-3-Clause",
        "training_data": "simulate_population(60, 300.0, seed) for the seeds 100 to 109",
    }  # fmt: skip
    labels = [population.properties["cell_type"] for population in populations]
    return fit_decoder(embeddings, labels, [f"simulated-{seed}" for seed in SEEDS], target="cell_type", card=card)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("members", nargs="*")
    options = parser.parse_args()
    members = [load_checkpoint(member) for member in options.members]
    models = {name: load_checkpoint(name) for name in bundled_models()}
    if members:
        models["nuclr-starter"] = Checkpoint.joined(members, json.loads(CARD.read_text()))
    for name, model in models.items():
        model.save(loading.BUNDLED / f"{name}.safetensors", overwrite=True)
    decoder = simulated_decoder(load_checkpoint("nuclr-starter"))
    decoder.save(storage.BUNDLED / "simulated-cell-type.safetensors", overwrite=True)
    for fitted in (*models.values(), decoder):
        print(fitted, fitted.sha256)


if __name__ == "__main__":
    main()
