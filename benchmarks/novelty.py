"""How well novelty separates neurons of other species from those that a decoder was fitted to.

    python benchmarks/novelty.py DATA [--model MODEL]

A decoder for hippocampus and amygdala is fitted to all human patients except five, which serve as new animals of the
same kind. Neurons of Aplysia, of the mouse (Neuropixels), of the retina and of cultures are of other kinds. AUROC: the
probability that a neuron of another kind is more novel than one of the new patients; flagged: the fraction above the
limit, for which the decoder abstains.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from spikeinterface_nuclr import RecordingWarning, embed, fit_decoder, load_checkpoint, read_population

NEW = ("p43cs", "p44cs", "p47cs", "p48cs", "p51hmh")
OTHERS = {
    "Aplysia": "aplysia/*/*.nwb",
    "mouse, Neuropixels": "steinmetz/*/*.nwb",
    "mouse, developing retina": "retina/*.nwb",
    "mouse, cultures": "cultures/*.nwb",
}
MAX_RECORDINGS = 12  # of each kind


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default=None)
    options = parser.parse_args()
    model = load_checkpoint(options.model)
    warnings.simplefilter("ignore", RecordingWarning)

    def embedded(files):
        populations = [read_population(file) for file in files]
        return populations, [embed(p, model, progress=False) for p in tqdm(populations, leave=False)]

    folders = sorted((options.data / "human").iterdir())
    fitted, new = (
        [file for folder in folders if (folder.name in NEW) == test for file in sorted(folder.glob("*.nwb"))]
        for test in (False, True)
    )
    populations, embeddings = embedded(fitted)
    labels = [
        np.char.partition(population.properties["brain_area"].astype(str), "_")[:, 0] for population in populations
    ]
    decoder = fit_decoder(embeddings, labels, target="structure")
    limit = next(iter(decoder.references.values())).limit

    def novelty(files):
        values = np.concatenate([decoder.predict(part, target_error=1.0).novelty for part in embedded(files)[1]])
        return values[np.isfinite(values)]

    reference = novelty(new)
    print(f"{model.name}, sha256 {model.sha256}\n")
    print("| | neurons | median novelty | flagged | AUROC |\n|---|---|---|---|---|")
    print(f"| new patients | {len(reference)} | {np.median(reference):.2f} | {np.mean(reference > limit):.2f} | |")
    for name, pattern in OTHERS.items():
        files = sorted(options.data.glob(pattern))
        values = novelty(files[:: max(len(files) // MAX_RECORDINGS, 1)][:MAX_RECORDINGS])
        truth = np.repeat([0, 1], [len(reference), len(values)])
        score = roc_auc_score(truth, np.concatenate([reference, values]))
        print(f"| {name} | {len(values)} | {np.median(values):.2f} | {np.mean(values > limit):.2f} | {score:.2f} |")


if __name__ == "__main__":
    main()
