"""Connections between neurons, predicted from the embeddings of both: worms with measured wiring, and a simulation.

    python benchmarks/connectivity.py DATA [--folder FOLDER] [--json FILE] [--figure FILE]

Worms (C. elegans, imaged): pairs of identified neurons, in each of the five worms that have names.

    chemical    whether a chemical synapse from the first to the second is in any of the reconstructions
    gap         whether a gap junction between them is (pairs without direction)
    effect      whether stimulating the first has an effect on the second (q < 0.05), among measured pairs of wild type
    degree      the number of a neuron's chemical partners, in both directions

Each worm is left out in turn, with a model that was pretrained on the others without labels (those of
`benchmarks/quality.py --calcium`, in FOLDER). Since all worms have the same neurons and one label for each pair of
names, what a decoder learns in the other worms may be the names. So each worm is scored twice: with all its pairs, and
with those of a third of the names that occur in no training pair ("new neurons"), for each third.

AUROC: probability that a connected pair gets a higher probability than one that is not. The embedding is compared with
correlations of the two traces; the distance of their embeddings; the baseline features of both; random weights; the
frequency of the connection among training pairs of the same names; and with training labels shuffled within worms.
Brackets are 95 % t intervals over worms.

Simulation: whether two neurons of `simulate_relations` follow one drive, in six animals, each left out in turn, with
one member of `nuclr-starter`.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import calcium
import numpy as np
import pandas as pd
from quality import as_markdown, figure_of
from scoring import cached_baselines, cached_embeddings, random_weights, scored
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from spikeinterface_nuclr import (
    Checkpoint,
    Population,
    evaluate,
    evaluate_regressor,
    load_checkpoint,
    pair_embeddings,
    simulate_relations,
)
from spikeinterface_nuclr.decoding.readout import moments, standardised
from spikeinterface_nuclr.decoding.splits import Split
from spikeinterface_nuclr.training.config import read_config

MOST = 2_000  # training pairs of a fit, half of them connected where there are as many
LAGS = (-2, 0, 2)  # frames
THIRDS = 3
METHOD, NAMES, SHUFFLED = "embeddings of both", "frequency among training pairs", "training labels shuffled"


@dataclass(frozen=True, eq=False)
class Pairs:
    """The labelled pairs of one recording: positions (m, 2) of the two neurons, and whether they are connected."""

    population: Population
    names: np.ndarray
    at: np.ndarray
    connected: np.ndarray

    @property
    def ids(self) -> np.ndarray:
        """Ids of the two units, shape (m, 2)."""
        return self.population.unit_ids.astype(str)[self.at]

    @property
    def labels(self) -> np.ndarray:
        """Labels for a decoder."""
        return np.where(self.connected, "connected", "not")

    def features(self, model: Checkpoint, directed: bool) -> dict[str, np.ndarray]:
        """What the embedding is compared with, by method."""
        rows = cached_embeddings(self.population, model).embedding.astype(float)
        z = standardised(rows, *moments(rows[np.isfinite(rows).all(axis=1)]))
        a, b = z[self.at[:, 0]], z[self.at[:, 1]]
        cosine = (a * b).sum(axis=1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-9)
        alone = max(cached_baselines(self.population).values(), key=lambda values: values.shape[1])
        alone = standardised(alone, *moments(alone))
        other = cached_embeddings(self.population, random_weights(model, 0))
        return {
            "correlation of their activity": correlations(self.population, self.at, directed),
            "distance of their embeddings": np.stack([cosine, np.linalg.norm(a - b, axis=1)], axis=1),
            "baseline features of both": np.hstack([alone[self.at[:, 0]], alone[self.at[:, 1]]]),
            "random weights": pair_embeddings(other, self.ids, directed=directed).embedding,
        }


def correlations(population: Population, at: np.ndarray, directed: bool) -> np.ndarray:
    """Correlation of two neurons' activity, its absolute value, and for directed pairs that at two lags."""
    if population.signal == "traces":
        activity = population.traces.astype(float)
    else:
        edges = np.arange(population.start, population.stop, 0.2)
        activity = np.array([np.histogram(times, edges)[0] for times in population.spike_times], dtype=float)
    z = (activity - activity.mean(axis=1, keepdims=True)) / np.maximum(activity.std(axis=1, keepdims=True), 1e-9)
    length, columns = z.shape[1], []
    for lag in LAGS if directed else (0,):
        early, late = z[:, max(-lag, 0) : length - max(lag, 0)], z[:, max(lag, 0) : length - max(-lag, 0)]
        columns.append((early @ late.T / early.shape[1])[at[:, 0], at[:, 1]])
    return np.stack([*columns, *map(np.abs, columns)], axis=1)


# --- labels -----------------------------------------------------------------------------------------------------------


def wiring(data: Path) -> dict[str, dict[tuple[str, str], bool]]:
    """For each kind of connection, whether pairs of names are connected."""
    table = pd.read_csv(data / "worm" / "connectome.csv")
    known = sorted(set(table["pre"]) | set(table["post"]))
    result = {}
    for kind, name in (("chemical", "chemical"), ("gap junction", "gap")):
        rows = table[table["kind"] == kind]
        found = set(zip(rows["pre"], rows["post"], strict=True))
        found |= {(b, a) for a, b in found} if name == "gap" else set()
        result[name] = {(a, b): (a, b) in found for a in known for b in known if a != b}
    effect = pd.read_csv(data / "worm" / "functional_connectivity.csv").query("strain == 'wt' and q == q")
    pairs = zip(effect["stimulated"], effect["responding"], effect["q"] < 0.05, strict=True)
    result["effect"] = {(a, b): bool(found) for a, b, found in pairs if a != b}
    return result


def pairs_of(population: Population, labels: dict[tuple[str, str], bool], directed: bool) -> Pairs:
    """The pairs of a worm's identified neurons that have a label."""
    names = population.properties["neuron_name"].astype(str)
    named = [k for k in np.flatnonzero(names != "") if (names == names[k]).sum() == 1]
    at = [(i, j) for i in named for j in named if (i != j if directed else i < j) and (names[i], names[j]) in labels]
    at = np.array(at, dtype=int)
    return Pairs(population, names, at, np.array([labels[names[i], names[j]] for i, j in at]))


# --- scores -----------------------------------------------------------------------------------------------------------


def training_pairs(pairs: list[Pairs], usable: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Positions, over all pairs, of at most `MOST` usable ones."""
    connected = np.concatenate([p.connected for p in pairs])
    chosen = []
    for value in (True, False):
        of_value = np.flatnonzero(np.concatenate(usable) & (connected == value))
        chosen.append(rng.permutation(of_value)[: MOST // 2])
    return np.sort(np.concatenate(chosen))


def auroc_of(pairs: list[Pairs], tested: int, model: Checkpoint, directed: bool, thirds: np.ndarray | None) -> dict:
    """AUROC of each method in one animal; `thirds` maps each name to its third, or is None for all pairs."""
    animals = [f"animal {k}" for k in range(len(pairs))]
    embedded = [pair_embeddings(cached_embeddings(p.population, model), p.ids, directed=directed) for p in pairs]
    features = [p.features(model, directed) for p in pairs]
    others = {name: [of[name] for of in features] for name in features[0]}
    first = np.cumsum([0, *(len(p.at) for p in pairs)])
    rng = np.random.default_rng(tested)
    splits = []
    for third in range(THIRDS) if thirds is not None else (None,):
        inside = [np.ones_like(p.at, dtype=bool) if third is None else thirds_of(p, thirds) == third for p in pairs]
        usable = [
            np.zeros(len(p.at), dtype=bool) if k == tested else (~within).all(axis=1) if third is not None
            else np.ones(len(p.at), dtype=bool)
            for k, (p, within) in enumerate(zip(pairs, inside, strict=True))
        ]  # fmt: skip
        test = first[tested] + np.flatnonzero(inside[tested].all(axis=1))
        splits.append(Split(f"part {third}", training_pairs(pairs, usable, rng), test))
    labels = [p.labels for p in pairs]
    settings = {"splits": splits, "shuffles": 0, "progress": False, "n_jobs": 1}
    found = evaluate(embedded, labels, animals, others=others, **settings)
    shuffled = [of if k == tested else rng.permutation(of) for k, of in enumerate(labels)]
    null = evaluate(embedded, shuffled, animals, **settings)
    result = {METHOD: _auroc(found, "embedding")}
    result |= {name: _auroc(found, name) for name in others}
    result[NAMES] = _names(pairs, tested, splits, first)
    return result | {SHUFFLED: _auroc(null, "embedding")}


def thirds_of(pairs: Pairs, thirds: dict[str, int]) -> np.ndarray:
    """The third of the names of both neurons, shape (m, 2)."""
    return np.array([thirds[name] for name in pairs.names[pairs.at].ravel()]).reshape(-1, 2)


def _auroc(evaluation, method: str) -> float:
    rows = evaluation.predictions_of(method)
    parts = [
        roc_auc_score(part["truth"] == "connected", part["p(connected)"])
        for _, part in rows.groupby("split")
        if part["truth"].nunique() > 1
    ]
    return float(np.mean(parts))


def _names(pairs: list[Pairs], tested: int, splits: list[Split], first: np.ndarray) -> float:
    """AUROC of the fraction of connected pairs among training pairs of the same names (of all, for new names)."""
    names = np.concatenate([p.names[p.at] if p.names is not None else p.ids for p in pairs])
    keys = np.char.add(np.char.add(names[:, 0].astype(str), " "), names[:, 1].astype(str))
    connected, parts = np.concatenate([p.connected for p in pairs]), []
    for split in splits:
        training = pd.Series(connected[split.fit].astype(float)).groupby(keys[split.fit]).mean()
        guess = training.reindex(keys[split.test]).fillna(connected[split.fit].mean()).to_numpy()
        parts.append(roc_auc_score(connected[split.test], guess))
    return float(np.mean(parts))


def tables_of(title: str, animals: dict[str, dict[str, float]], pairs: list[Pairs]) -> dict:
    """The table of one task: each method's score in each animal, their mean and interval."""
    methods = next(iter(animals.values()))
    counts = {"connected": int(sum(p.connected.sum() for p in pairs)), "pairs": int(sum(len(p.at) for p in pairs))}
    table = {method: scored({animal: of[method] for animal, of in animals.items()}) for method in methods}
    return {title: {"support": counts, **table}}


# --- tasks ------------------------------------------------------------------------------------------------------------


def worms(data: Path, folder: Path) -> dict:
    """All tables of worms."""
    populations = {p.metadata["subject"]: p for p in map(calcium._read, sorted((data / "worm").glob("*.nwb")))}
    models = calcium._models(list(populations.values()), [], read_config(calcium.SETTINGS), folder / "worm")
    named = {worm: p for worm, p in populations.items() if "neuron_name" in p.properties}
    rng, result = np.random.default_rng(0), {}
    for kind, labels in wiring(data).items():
        directed = kind != "gap"
        pairs = [pairs_of(population, labels, directed) for population in named.values()]
        every = sorted({name for p in pairs for name in p.names[p.at].ravel().tolist()})
        thirds = dict(zip(every, rng.permutation(np.arange(len(every)) % THIRDS).tolist(), strict=True))
        for title, groups in (("all neurons", None), ("new neurons", thirds)):
            animals = {}
            for k, worm in enumerate(tqdm(named, desc=f"{kind}, {title}")):
                animals[worm] = auroc_of(pairs, k, models[worm], directed, groups)
            tables = tables_of(f"Worms, {kind}: AUROC, {title}", animals, pairs)
            print(as_markdown(tables), flush=True)
            result |= tables
    return result | degrees(named, models, wiring(data)["chemical"])


def degrees(named: dict[str, Population], models: dict[str, Checkpoint], labels: dict) -> dict:
    """Tables of the number of chemical partners."""
    degree: dict[str, int] = {}
    for (a, b), found in labels.items():
        for name in (a, b) if found else ():
            degree[name] = degree.get(name, 0) + 1
    values = [
        np.array([degree.get(name, np.nan) for name in p.properties["neuron_name"].astype(str)], dtype=float)
        for p in named.values()
    ]
    names = [
        p.properties["neuron_name"].astype(str)[np.isfinite(of)] for p, of in zip(named.values(), values, strict=True)
    ]
    first = np.cumsum([0, *map(len, names)])
    every = sorted(set(np.concatenate(names).tolist()))
    rng = np.random.default_rng(0)
    third = dict(zip(every, rng.permutation(np.arange(len(every)) % THIRDS).tolist(), strict=True))
    of_unit, worm_of = np.array([third[n] for n in np.concatenate(names)]), np.repeat(range(len(names)), np.diff(first))
    result = {}
    for title in ("all neurons", "new neurons"):
        animals: dict[str, dict[str, float]] = {}
        for k, worm in enumerate(tqdm(named, desc=f"degree, {title}")):
            parts = range(THIRDS) if title == "new neurons" else (None,)
            splits = [
                Split(
                    f"part {part}",
                    np.flatnonzero((worm_of != k) & (of_unit != part)),
                    np.flatnonzero((worm_of == k) & ((of_unit == part) | (part is None))),
                )
                for part in parts
            ]
            embedded = [cached_embeddings(p, models[worm]) for p in named.values()]
            others = {
                name: [cached_baselines(p)[name] for p in named.values()] for name in cached_baselines(named[worm])
            }
            random = [cached_embeddings(p, random_weights(models[worm], 0)).embedding for p in named.values()]
            found = evaluate_regressor(
                embedded, values, list(named), splits=splits, others=others | {"random weights": random}, shuffles=20,
                progress=False, n_jobs=1,
            )  # fmt: skip
            rows = found.scores[found.scores["score"] == "rank correlation"].set_index("method")["value"]
            animals[worm] = rows.to_dict()
        table = {method: scored({worm: of[method] for worm, of in animals.items()}) for method in animals[worm]}
        tables = {f"Worms, number of chemical partners: rank correlation, {title}": table}
        print(as_markdown(tables), flush=True)
        result |= tables
    return result


def simulation() -> dict:
    """Whether two neurons follow one drive."""
    model, pairs = load_checkpoint("nuclr-starter#1"), []
    for seed in range(200, 206):
        population = simulate_relations(30, 300.0, seed=seed)
        area = population.properties["brain_area"]
        at = np.array([(i, j) for i in range(30) for j in range(i + 1, 30)])
        together = (area[at[:, 0]] == area[at[:, 1]]) & (area[at[:, 0]] != "")
        pairs.append(Pairs(population, np.char.add(f"{seed} ", population.unit_ids), at, together))
    animals = {str(k): auroc_of(pairs, k, model, False, None) for k in tqdm(range(len(pairs)), desc="simulation")}
    tables = tables_of("Simulated: whether two neurons follow one drive, AUROC", animals, pairs)
    print(as_markdown(tables), flush=True)
    return tables


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("calcium-models"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    result = simulation() | worms(options.data, options.folder)
    if options.figure:
        figure_of(result).savefig(options.figure, dpi=100)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
