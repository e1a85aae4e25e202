"""Make the bundled models and decoders.

    python tools/bundle.py DATA [MEMBER.safetensors …]

Several members become `nuclr-starter`; without any, the present model is saved again, with an example for its
self-check. DATA holds the folder `rat-neuropixels`. Decoders are fitted to the embeddings of the model.
"""

import argparse
import json
from pathlib import Path

from tqdm import tqdm

from spikeinterface_nuclr import (
    Checkpoint,
    EmbeddingSettings,
    LabelRule,
    embed,
    fit_decoder,
    load_checkpoint,
    read_cohort,
    simulate_population,
)
from spikeinterface_nuclr.decoding import storage
from spikeinterface_nuclr.model import loading

CARDS = Path(__file__).parents[1] / "docs" / "models"
SEEDS = range(100, 110)  # not used in the demo and the tutorials
# Name of a decoder of rats -> property that holds the labels. Only what beats every baseline (docs/starter.md).
DECODERS_OF_RATS: dict[str, str] = {}


def card_of(name: str) -> dict:
    """The card in docs/models."""
    return json.loads((CARDS / f"{name}.json").read_text())


def simulated_decoder(model: Checkpoint):
    """The decoder of simulated cell types, for the demo and the tutorials."""
    populations = [simulate_population(60, 300.0, seed=seed) for seed in tqdm(SEEDS, desc="simulating")]
    embeddings = [embed(population, model, precision="float32", progress=False) for population in populations]
    card = {
        "good_for": "the demo and the tutorials", "not_for": "real neurons", "license": "BSD-3-Clause",
        "training_data": "simulate_population(60, 300.0, seed) for the seeds 100 to 109",
    }  # fmt: skip
    labels = [population.properties["cell_type"] for population in populations]
    return fit_decoder(embeddings, labels, [f"simulated-{seed}" for seed in SEEDS], target="cell_type", card=card)


def decoder_of_rats(name: str, label: str, data: Path):
    """A decoder of a property of the rats' units."""
    cohort = read_cohort([str(data / "rat-neuropixels" / "*" / "*.nwb")], LabelRule(label), EmbeddingSettings())
    return fit_decoder(
        cohort.embeddings, cohort.labels, cohort.animals, target=label, readout="kernel", card=card_of(name)
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("members", nargs="*")
    options = parser.parse_args()
    model = load_checkpoint("nuclr-starter")
    if options.members:
        model = Checkpoint.joined([load_checkpoint(member) for member in options.members], card_of("nuclr-starter"))
    model.save(loading.BUNDLED / "nuclr-starter.safetensors", overwrite=True)
    model = load_checkpoint("nuclr-starter")
    calcium = load_checkpoint("nuclr-starter-calcium")
    calcium.save(loading.BUNDLED / "nuclr-starter-calcium.safetensors", overwrite=True)  # with an example
    decoders = {"simulated-cell-type": simulated_decoder(model)}
    decoders |= {name: decoder_of_rats(name, label, options.data) for name, label in DECODERS_OF_RATS.items()}
    for name, decoder in decoders.items():
        decoder.save(storage.BUNDLED / f"{name}.safetensors", overwrite=True)
    for fitted in (model, calcium, *decoders.values()):
        print(fitted, fitted.sha256)


if __name__ == "__main__":
    main()
