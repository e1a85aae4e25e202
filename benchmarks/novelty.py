"""Does novelty separate neurons of other species from those that a decoder was fitted to?

    python benchmarks/novelty.py DATA [--model MODEL]

A decoder of hippocampus and amygdala is fitted to all human patients but five; these five are new animals of a known
kind. Neurons of Aplysia, of the mouse (Neuropixels), of the retina and of cultures are of other kinds. AUROC: how
often a neuron of the other kind is more novel than one of the new patients; flagged: the share above the limit, from
which the decoder abstains.
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
MOST = 12  # recordings of each kind


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
        found = np.concatenate([decoder.predict(one, target_error=1.0).novelty for one in embedded(files)[1]])
        return found[np.isfinite(found)]

    known = novelty(new)
    print(f"{model.name}, sha256 {model.sha256}\n")
    print("| | neurons | median novelty | flagged | AUROC |\n|---|---|---|---|---|")
    print(f"| new patients | {len(known)} | {np.median(known):.2f} | {np.mean(known > limit):.2f} | |")
    for name, pattern in OTHERS.items():
        files = sorted(options.data.glob(pattern))
        values = novelty(files[:: max(len(files) // MOST, 1)][:MOST])
        truth = np.repeat([0, 1], [len(known), len(values)])
        score = roc_auc_score(truth, np.concatenate([known, values]))
        print(f"| {name} | {len(values)} | {np.median(values):.2f} | {np.mean(values > limit):.2f} | {score:.2f} |")


if __name__ == "__main__":
    main()
