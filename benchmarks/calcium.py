"""Quality of embeddings of imaged neurons: the calcium part of `benchmarks/quality.py` (--calcium).

Each worm of DATA/worm is left out in turn: a model is pretrained on all others, and on further folders of DATA if they
are named (--also), without labels, with the settings in docs/models/nuclr-starter-calcium.toml, and its embeddings are
scored on that worm alone. The settings were selected on VALIDATION, which has no labels, by the re-identification of
its neurons.
"""

from pathlib import Path

import numpy as np
from scoring import RANDOM, SEEDS, Pair, Rows, best_scaling, model_features, random_weights, scored
from tqdm import tqdm

from spikeinterface_nuclr import (
    Checkpoint,
    Population,
    build_store,
    embed,
    evaluate,
    load_checkpoint,
    pretrain,
    read_population,
)
from spikeinterface_nuclr.decoding.baselines import CONTROLS
from spikeinterface_nuclr.training.config import PretrainConfig, read_config
from spikeinterface_nuclr.training.monitors import alternating

SETTINGS = Path(__file__).parents[1] / "docs" / "models" / "nuclr-starter-calcium.toml"
SERIES = "DfOverF"
VALIDATION = "2022-01-16-01"
# Lengths in seconds of the alternating blocks that form the two halves of a recording; None: first and second half.
BLOCKS = {"alternating 30 s": 30.0, "first and second half": None}
MODEL = "nuclr, pretrained on the other worms"


def run(data: Path, folder: Path, also: list[str]) -> dict:
    """All tables by title."""
    config = read_config(SETTINGS)
    worms = {p.metadata["subject"]: p for p in map(_read, sorted((data / "worm").glob("*.nwb")))}
    others = [_read(path) for name in also for path in sorted((data / name).glob("*.nwb"))]
    models = _models(list(worms.values()), others, config, folder / "-".join(["worm", *also]))
    result = {}
    for title, block in BLOCKS.items():
        title = f"Worms: top-1 re-identification in the other half ({title})"
        result[title] = _reidentification(worms, models, block)
    for label in ("neuron_type", "neuron_class"):
        result |= _decoding(label, worms, models)
    return result


def _read(path: Path) -> Population:
    return read_population(path, series=SERIES)


def _models(
    worms: list[Population], others: list[Population], config: PretrainConfig, folder: Path
) -> dict[str, Checkpoint]:
    """A model for each worm that was not trained on it; models that are already in the folder are reused."""
    folder.mkdir(parents=True, exist_ok=True)
    store, _ = build_store([*worms, *others], folder / "store", frame_rate=1 / config.encoder.bin_s, progress=False)
    models = {}
    for worm in tqdm([population.metadata["subject"] for population in worms], desc="pretraining"):
        path = folder / f"without-{worm}.safetensors"
        card = load_checkpoint(path).card if path.exists() else {}
        if (card.get("training"), card.get("excluded")) != (config.to_dict(), [worm]):
            pretrain(store, path, config, exclude=[worm], overwrite=True, progress=False)
        models[worm] = load_checkpoint(path)
    return models


# --- re-identification ------------------------------------------------------------------------------------------------


def _reidentification(worms: dict[str, Population], models: dict[str, Checkpoint], block: float | None) -> dict:
    """Scores of every method on each worm, with the model that was not trained on it."""
    rows = {}
    for worm, population in tqdm(worms.items(), desc="re-identification"):
        # Split before resampling, so that no frame of one half depends on the other.
        pair = alternating(population, block or (population.stop - population.start) / 2)
        rows[worm] = [Rows.of(Pair.of_halves(pair), MODEL, models[worm])]
    test = {worm: pairs for worm, pairs in rows.items() if worm != VALIDATION}
    return best_scaling({VALIDATION: rows[VALIDATION]}, test)


# --- decoding ---------------------------------------------------------------------------------------------------------


def _decoding(label: str, worms: dict[str, Population], models: dict[str, Checkpoint]) -> dict:
    """Mean scores of every method over left-out worms, for labels that occur in at least two worms."""
    labelled = {worm: population for worm, population in worms.items() if label in population.properties}
    populations, animals = list(labelled.values()), list(labelled)
    labels = [population.properties[label].astype(str) for population in populations]
    names, counts = np.unique(np.concatenate([np.unique(values) for values in labels]), return_counts=True)
    shared = names[(counts > 1) & (names != "")]
    labels = [np.where(np.isin(values, shared), values, "") for values in labels]
    name, control = CONTROLS["traces"]
    scores: dict[tuple[str, str], list[float]] = {}
    for worm in tqdm(animals, desc=label):
        model = models[worm]
        embeddings = [embed(population, model, progress=False) for population in populations]
        others = {f"embedding of {name}": [model_features(model)(control(population)) for population in populations]}
        for seed in SEEDS:
            features = model_features(random_weights(model, seed))
            others[f"{RANDOM} {seed}"] = [features(population) for population in populations]
        evaluation = evaluate(
            embeddings, labels, animals, protocol="zero-shot", test_animals=[worm], populations=populations,
            others=others, target=label, shuffles=10, progress=False,
        )  # fmt: skip
        for row in evaluation.scores.itertuples():
            method = RANDOM if row.method.startswith(RANDOM) else MODEL if row.method == "embedding" else row.method
            scores.setdefault((row.score, method), []).append(row.value)
    result = {}
    for score in ("macro-F1", "balanced accuracy"):
        title = f"Worms: {label.replace('_', ' ')} ({len(shared)} labels), {score}, leave one worm out"
        by_method = {method: values for (kind, method), values in scores.items() if kind == score}
        # The three random networks of a worm are averaged.
        result[title] = {
            method: scored(
                dict(zip(animals, np.mean(np.reshape(values, (len(animals), -1)), axis=1).tolist(), strict=True))
            )
            for method, values in by_method.items()
        }
    return result
