"""The part of `benchmarks/quality.py` that reads labels of neurons in animals that are left out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from recordings import TEST, read, unseen
from scoring import RANDOM, SEEDS, cached_baselines, cached_embeddings, model_features, random_weights, scored
from tqdm import tqdm

from spikeinterface_nuclr import Checkpoint, Population, evaluate
from spikeinterface_nuclr.decoding import scores
from spikeinterface_nuclr.decoding.readout import READOUTS

SCORE = "balanced accuracy"
GROUPS = {
    "VIS": "VISp VISl VISrl VISam VISpm VISa",
    "TH": "LP LD RT MD MG LGd VPM VPL PO POL",
    "HPF": "POST SUB DG CA1 CA3",
    "MB": "MRN SCm SCs APN PAG",
}
GROUP_OF = {area: group for group, areas in GROUPS.items() for area in areas.split()}
Labels = Callable[[Population], np.ndarray]  # a label for each unit, or an empty text


def waveform_class(population: Population, region: str = "") -> np.ndarray:
    """Narrow or broad, in one region or in all."""
    labels = population.properties["waveform_class"].astype(str)
    return labels if not region else np.where(population.properties["region"].astype(str) == region, labels, "")


def property_among(name: str, classes: dict[str, str]) -> Labels:
    """The classes of the values of a property."""

    def labels(population: Population) -> np.ndarray:
        return np.array([classes.get(str(value), "") for value in population.properties[name]])

    return labels


def human_structure(population: Population) -> np.ndarray:
    """Hippocampus or amygdala."""
    areas = np.char.lower(population.properties["brain_area"].astype(str))
    labels = np.full(len(areas), "", dtype="U11")
    for name in ("hippocampus", "amygdala"):
        labels[np.char.find(areas, name) >= 0] = name
    return labels


def task(title: str, folder: str, labels_of: Labels, animals=None) -> Callable[[Path, Checkpoint], dict]:
    """A function that scores every method and read-out on animals left out, by default all that hold two classes."""

    def run(data: Path, model: Checkpoint) -> dict:
        recordings = [(animal, p) for animal, parts in read(data, folder).items() for p in parts]
        labels = [labels_of(population) for _, population in recordings]
        labelled = [k for k, values in enumerate(labels) if (values != "").any()]
        names, populations = zip(*(recordings[k] for k in labelled), strict=True)
        return leave_one_out(title, model, populations, [labels[k] for k in labelled], list(names), animals)

    return run


def leave_one_out(title: str, model: Checkpoint, populations, labels, animals: list[str], tested=None) -> dict:
    """Score of every method by each read-out in each animal, which a decoder of the other animals predicts."""
    classes = {a: set(np.concatenate([v for v, b in zip(labels, animals, strict=True) if a == b])) for a in animals}
    tested = [a for a in dict.fromkeys(animals) if len(classes[a] - {""}) > 1 and (tested is None or a in tested)]
    baselines = [cached_baselines(population) for population in tqdm(populations, desc="baselines")]
    values: dict[str, dict[str, dict[str, float]]] = {}
    for animal in tqdm(tested, desc=title):
        checkpoint = unseen(model, animal)
        embeddings, others = _inputs(checkpoint, populations, baselines)
        for readout in READOUTS:
            evaluation = evaluate(
                embeddings, labels, animals, protocol="zero-shot", test_animals=[animal], others=others,
                readout=readout, progress=False,
            )  # fmt: skip
            rows = evaluation.scores.query("score == @SCORE").set_index("method")["value"].to_dict()
            rows[RANDOM] = np.mean([rows.pop(f"{RANDOM} {seed}") for seed in SEEDS])
            rows = {model.name if method == "embedding" else method: value for method, value in rows.items()}
            for method, value in rows.items():
                values.setdefault(readout, {}).setdefault(method, {})[animal] = float(value)
    support = dict(zip(*np.unique(np.concatenate(labels), return_counts=True), strict=True))
    support = {str(name): int(count) for name, count in support.items() if name}
    return {
        f"{title}: {SCORE}, {readout} read-out": {"support": support, **_table(methods, model.name)}
        for readout, methods in values.items()
    }


def _inputs(checkpoint: Checkpoint, populations, baselines: list[dict]) -> tuple[list, dict[str, list]]:
    """Embeddings, and the features of all other methods."""
    embeddings = [cached_embeddings(population, checkpoint) for population in populations]
    others = {name: [rows[name] for rows in baselines] for name in baselines[0]}
    for seed in SEEDS:
        features = model_features(random_weights(checkpoint, seed))
        others[f"{RANDOM} {seed}"] = [features(population) for population in populations]
    return embeddings, others


def _table(methods: dict[str, dict[str, float]], name: str) -> dict:
    """Scores of each method, and the difference between the model and the best baseline, paired by animal."""
    table = {method: scored(animals) for method, animals in methods.items()}
    baselines = [method for method in table if method not in (name, RANDOM, scores.SHUFFLED)]
    best = max(baselines, key=lambda method: table[method]["score"][0])
    difference = {animal: value - methods[best][animal] for animal, value in methods[name].items()}
    return {**table, f"{name} minus {best!r}": scored(difference)}


_AREAS = {area: area for area in ("dmFC", "mPFC")}
_REGIONS = {"striatum": "striatum", "motor cortex": "cortex", "frontal cortex": "cortex"}
_RAT_REGIONS = {
    **{area: "cortex" for area in ("motor cortex", "medial prefrontal cortex", "visual cortex")},
    **{area: area for area in ("striatum", "inferior colliculus", "superior colliculus")},
    "endopiriform nucleus": "endopiriform",
}
TASKS = {
    "human": [task("Human: hippocampus or amygdala", "human", human_structure, TEST["human"])],
    "rats": [
        task("Rats: narrow or broad, all areas", "rat-neuropixels", waveform_class, TEST["rats"]),
        task(
            "Rats: narrow or broad, striatum", "rat-neuropixels", lambda p: waveform_class(p, "striatum"), TEST["rats"]
        ),
        task("Rats: regions", "rat-neuropixels", property_among("region", _RAT_REGIONS), TEST["rats"]),
    ],
    "decisions": [
        task("Rats, trials: striatum or cortex", "rat-decisions", property_among("region", _REGIONS)),
        task("Rats, trials: dmFC or mPFC", "rat-decisions", property_among("brain_area", _AREAS)),
    ],
    "steinmetz": [task("Mice, trials: four groups of regions", "steinmetz", property_among("brain_area", GROUP_OF))],
}  # fmt: skip
