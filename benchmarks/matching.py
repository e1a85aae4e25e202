"""The same neuron again: matches of real recordings whose neurons are known, beside baselines; simulated drift.

    python benchmarks/matching.py DATA -o matching.json [--figure matching.png] [--cache FOLDER] [--tasks …]

DATA holds the folders mouse-ca1-days, aplysia, human and rat-neuropixels. Only animals that took no part in training
the model or in any choice are scored; `days` also shows the three mice in which settings were chosen, marked as such
and without baselines. `many` measures time and memory of 20 sessions of 400 units.
"""

import argparse
import json
import resource
import tempfile
import time
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from recordings import TEST, read, unseen
from reidentification import MOUSE_EVENTS, RAT_SPIKES
from scoring import random_weights, with_interval

from spikeinterface_nuclr import (
    InputError,
    Population,
    UnitMatches,
    embed,
    evaluate_matches,
    find_oversplits,
    fit_matcher,
    load_checkpoint,
    match_units,
    simulate_days,
)
from spikeinterface_nuclr.decoding.scores import interval
from spikeinterface_nuclr.matching.evaluation import MATCHES, WITH_RELATIONS, MatchEvaluation, identities
from spikeinterface_nuclr.matching.sources import halves_of

RANDOM = "random weights"
ERRORS = (0.05, 0.10)
BLOCK_S = {"human": 10.0, "rats": 20.0}


def score(populations: list[Population], truth, model, names: list[str], cache, *, baselines: bool = True) -> dict:
    """Matches of several recordings of one animal at each error, and their evaluation, with all baselines at first."""
    options = {"names": names, "model": model, "cache": cache, "progress": False}
    matcher = fit_matcher(populations, **options)
    seen = {}
    if baselines:
        random = random_weights(model, 0)
        others = {RANDOM: [embed(population, random, progress=False).embedding for population in populations]}
        seen = {"populations": populations, "others": others}
    result = {}
    for error in ERRORS:
        matches = match_units(populations, matcher=matcher, target_error=error, **options)
        evaluation = evaluate_matches(matches, truth, **seen)
        joined = pairs_of_neurons(matches, truth)
        result[error] = replace(evaluation, scores=evaluation.scores.assign(**joined))
        seen = {}
    return result


def pairs_of_neurons(matches: UnitMatches, truth) -> dict[str, int]:
    """Pairs of units that have one neuron_id in two recordings: how many, and how many are right of those known."""
    counts = {"joined": 0, "joined_judged": 0, "joined_right": 0, "same": 0}
    for a, b in combinations(range(len(truth)), 2):
        joined = matches.neuron_id[a][:, None] == matches.neuron_id[b]
        same, known = identities(truth[a], truth[b])
        counts["joined"] += int(joined.sum())
        counts["joined_judged"] += int((joined & known).sum())
        counts["joined_right"] += int((joined & same).sum())
        counts["same"] += int(same.sum())
    return counts


def rows_of(evaluations: dict[float, MatchEvaluation], **about) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The scores of two errors in one table, and the calibration."""
    first = evaluations[ERRORS[0]].scores.assign(target_error=ERRORS[0], **about)
    second = evaluations[ERRORS[1]].scores.query("method == @MATCHES").assign(target_error=ERRORS[1], **about)
    return pd.concat([first, second]), evaluations[ERRORS[0]].calibration.assign(**about)


def days(data: Path, model, cache):
    """All sessions of an environment; scored one, four and seven sessions later."""
    for animal, recordings in read(data, "mouse-ca1-days").items():
        for environment in "ab":
            sessions = [p for p in recordings if f"-{environment}-" in Path(str(p.metadata["source"])).name]
            sessions = [p.select(p.num_spikes >= MOUSE_EVENTS) for p in sessions]
            truth = [np.asarray(p.properties["unit_name"]).astype(str) for p in sessions]
            names = [str(k) for k in range(len(sessions))]
            held_out = animal in TEST["days"]
            found = score(sessions, truth, model, names, cache, baselines=held_out)
            tables = rows_of(found, animal=animal, environment=environment)
            apart = tables[0]["recording_b"].astype(int) - tables[0]["recording_a"].astype(int)
            tables[0]["task"] = apart.map({1: "next session", 4: "four sessions later", 7: "seven sessions later"})
            tables[1]["task"] = "sessions of a mouse"
            yield tables[0].dropna(subset="task"), tables[1], held_out


def aplysia(data: Path, model, cache):
    """All three recordings of each animal."""
    for animal, recordings in read(data, "aplysia", TEST["aplysia"]).items():
        names = [str(k) for k in range(len(recordings))]
        truth = [np.asarray(p.unit_ids).astype(str) for p in recordings]
        yield (
            *rows_of(score(recordings, truth, unseen(model, animal), names, cache), animal=animal, task="aplysia"),
            True,
        )


def _halves_of(kind: str, folder: str, least: int):
    def run(data: Path, model, cache):
        for animal, recordings in read(data, folder, TEST[kind]).items():
            for number, population in enumerate(recordings):
                parts = halves_of(population, BLOCK_S[kind])
                units = np.min([part.num_spikes for part in parts], axis=0) >= max(least, 1)
                if units.sum() < 5:
                    continue
                parts = [part.select(units) for part in parts]
                truth = [np.asarray(part.unit_ids).astype(str) for part in parts]
                name = f"{animal} {number}"
                try:
                    found = score(parts, truth, unseen(model, animal), [f"{name} 1", f"{name} 2"], cache)
                except InputError as error:
                    print(f"{name}: {error}")
                    continue
                yield *rows_of(found, animal=animal, recording_set=name, task=f"{kind}, halves"), True

    return run


def controls(data: Path, model, cache):
    """Recordings without a common neuron (of two animals), and of another environment of one mouse."""
    mice = read(data, "mouse-ca1-days")
    slugs = read(data, "aplysia", TEST["aplysia"])
    rats = read(data, "rat-neuropixels", TEST["rats"][:3])
    slug, other = slugs.values()
    first, second, third = rats.values()
    mouse, *more = mice.values()
    pairs = [("two Aplysia", slug[k], other[k], TEST["aplysia"][0]) for k in range(3)]
    pairs += [("two rats", first[0], second[0], TEST["rats"][0]), ("two rats", second[0], third[0], TEST["rats"][1])]
    pairs += [("two mice", mouse[k], one[k], "") for k, one in enumerate(more)]
    pairs += [("one mouse, two environments", one[k], one[k + 8], "") for one in mice.values() for k in (0, 4)]
    for kind, a, b, animal in pairs:
        chosen = [p.select(p.num_spikes >= MOUSE_EVENTS) for p in (a, b)]
        for error in ERRORS:
            matches = match_units(
                chosen, names=["a", "b"], model=unseen(model, animal) if animal else model, target_error=error,
                cache=cache, progress=False,
            )  # fmt: skip
            probability = matches.probability
            yield {
                "task": kind, "target_error": error, "units": min(len(ids) for ids in matches.unit_ids),
                "named": int(matches.named.sum()), "over one half": int((probability > 0.5).sum()),
            }  # fmt: skip


def simulated():
    """Recall and precision at 5 and 10 % error of simulated days, as drift and turnover grow."""
    for name, settings in {
        "drift": [{"drift": drift, "turnover": 0.2} for drift in (0.0, 0.05, 0.1, 0.2, 0.3)],
        "turnover": [{"drift": 0.05, "turnover": turnover} for turnover in (0.0, 0.2, 0.4, 0.6)],
    }.items():
        for setting in settings:
            for seed in range(3):
                sessions = simulate_days(2, 100, 600.0, seed=seed, **setting)
                matcher = fit_matcher(sessions, progress=False)
                for error in ERRORS:
                    matches = match_units(sessions, matcher=matcher, target_error=error, progress=False)
                    scores = evaluate_matches(matches, "neuron", sessions).scores.query("method == @MATCHES").iloc[0]
                    columns = ("top_1", "precision", "recall", "named", "right", "common")
                    yield {"varied": name, **setting, "seed": seed, "target_error": error, **scores[list(columns)]}


def oversplits(data: Path):
    """Units of rats, split in four ways, and what is suspected of the sortings as they are."""
    rng = np.random.default_rng(0)
    for animal, recordings in read(data, "rat-neuropixels", TEST["rats"]).items():
        population = max(recordings, key=lambda p: p.n_units)
        found = find_oversplits(population, progress=False)
        yield {"animal": animal, "split": "none", "units": population.n_units, "others": len(found.table)}
        chosen = rng.choice(np.flatnonzero(population.num_spikes > 500), 20, replace=False)
        for how in ("random", "alternate", "time", "amplitude"):
            table = find_oversplits(_with_splits(population, chosen, how, rng), progress=False).table
            right = int(
                ((table["unit_b"] == table["unit_a"] + "/2") | (table["unit_a"] == table["unit_b"] + "/2")).sum()
            )
            counts = {"splits": len(chosen), "found": right, "others": len(table) - right}
            yield {"animal": animal, "split": how, "units": population.n_units, **counts}


def _with_splits(population: Population, chosen: np.ndarray, how: str, rng: np.random.Generator) -> Population:
    """The recording with these units split in two of about as many spikes."""
    ids, trains, groups = [], [], []
    for unit, times in enumerate(population.spike_times):
        parts = [times]
        if unit in chosen:
            which = {
                "random": rng.random(len(times)) < 0.5,
                "alternate": np.arange(len(times)) % 2 == 0,
                "time": np.arange(len(times)) < len(times) / 2,
                "amplitude": _above_median_amplitude(times, rng),
            }[how]
            parts = [times[which], times[~which]]
        ids += [f"{population.unit_ids[unit]}{'/2' * k}" for k in range(len(parts))]
        trains += parts
        groups += [population.group[unit]] * len(parts)
    observed, limits = population.observed, {"start": population.start, "stop": population.stop}
    return Population(ids, trains, observed=observed, group=groups, **limits)


def _above_median_amplitude(times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Whether each spike is larger than half of the others, with amplitudes as they are seen outside a cell: bool.

    They fall to 70 % just after another spike and recover within 20 ms, as in bursts; vary by 10 %; and drift by 15 %
    in half an hour, as the probe moves.
    """
    since = np.diff(times, prepend=-np.inf)
    amplitude = (1 - 0.3 * np.exp(-since / 0.02)) * (1 + 0.15 * np.sin(2 * np.pi * times / 3600))
    amplitude += 0.1 * rng.standard_normal(len(times))
    return amplitude > np.median(amplitude)


def many(model, recordings: int = 20, units: int = 400, duration: float = 600.0):
    """Seconds and peak memory (Linux) of each part of matching many sessions, and of a run that goes on."""
    sessions = simulate_days(recordings, units, duration, turnover=0.2, seed=0)
    before, usage = time.perf_counter(), _memory_gb()
    with tempfile.TemporaryDirectory() as cache:
        options = {"model": model, "cache": cache, "progress": False}
        for what, count in (("half of the sessions", recordings // 2), ("all", recordings), ("all again", recordings)):
            matches = match_units(sessions[:count], **options)
            now = time.perf_counter()
            yield {
                "what": what, "sessions": count, "units": sum(map(len, matches.unit_ids)), "seconds": now - before,
                "peak GB above the sessions": _memory_gb() - usage, "pairs kept": len(matches.probability),
            }  # fmt: skip
            before = now


def _memory_gb() -> float:
    """Peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


TASKS = {
    "days": days,
    "aplysia": aplysia,
    "human": _halves_of("human", "human", 1),
    "rats": _halves_of("rats", "rat-neuropixels", RAT_SPIKES),
}


OTHERS = ("controls", "simulated", "oversplits", "many")


def summary(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean over animals, with 95 % interval from three animals on, of each task and method."""
    rows = []
    for (task, method), group in scores.query("target_error == @ERRORS[0]").groupby(["task", "method"], sort=False):
        animals = group.groupby("animal")["top_1"].mean()
        rows.append({"task": task, "method": method, "animals": len(animals), "top_1": _text(animals),
                     "auc": _text(group.groupby("animal")["auc"].mean())})  # fmt: skip
    return pd.DataFrame(rows)


def at_errors(scores: pd.DataFrame) -> pd.DataFrame:
    """Named pairs, precision and recall of the matches at each error, over all animals of a task."""
    found = scores.query("method == @MATCHES").groupby(["task", "target_error"], sort=False)
    table = found[["common", "named", "judged", "right"]].sum()
    return table.assign(precision=table.right / table.judged.where(table.judged > 0), recall=table.right / table.common)


def of_neurons(scores: pd.DataFrame) -> pd.DataFrame:
    """Pairs of units with one neuron_id, over all recordings of an animal at once, at each error."""
    counts = ["joined", "joined_judged", "joined_right", "same"]
    by = [name for name in ("animal", "environment", "recording_set") if name in scores]
    once = scores.query("method == @MATCHES").drop_duplicates([*by, "target_error"])
    kind = once["task"].where(~once["task"].str.contains("session"), "all sessions of a mouse")
    return once.assign(task=kind).groupby(["task", "target_error"], sort=False)[counts].sum()


def _text(values: pd.Series) -> str:
    numbers = with_interval(float(values.mean()), *interval(values.to_numpy()))
    return f"{numbers[0]:.3f}" + (f" [{numbers[1]:.3f}, {numbers[2]:.3f}]" if len(numbers) > 1 else "")


def draw(path: Path, scores: pd.DataFrame, calibration: pd.DataFrame, drifted: pd.DataFrame) -> None:
    """Top-1 of each animal by method, calibration, and recall in simulated days."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(15, 4.6), layout="constrained", width_ratios=(2.2, 1, 1))
    features = "rate, intervals, autocorrelogram, population"
    started = [start + WITH_RELATIONS for start in (features, RANDOM)]
    methods = [MATCHES, "embedding alone", features, *started, "chance"]
    tasks = list(scores["task"].unique())
    for k, method in enumerate(methods):
        for number, task in enumerate(tasks):  # noqa: B007 (the query reads it)
            chosen = scores.query("task == @task and method == @method and target_error == @ERRORS[0]")
            values = chosen.groupby("animal")["top_1"].mean()
            x = number + (k - 2.5) / 8
            axes[0].plot(np.full(len(values), x), values, ".", color=f"C{k}", ms=7, alpha=0.6)
            axes[0].plot(x, values.mean(), "_", color=f"C{k}", ms=12, mew=2.5, label=method if number == 0 else None)
    axes[0].set(xticks=range(len(tasks)), ylabel="top-1 accuracy", ylim=(0, 1), title="The same neuron again")
    axes[0].set_xticklabels([task.replace(" ", "\n", 1) for task in tasks])
    axes[0].legend(fontsize=7, loc="upper right")
    axes[1].plot([0, 1], [0, 1], color="0.8")
    for number, (task, group) in enumerate(calibration.groupby("task", sort=False)):
        weighted = group.assign(bin=np.digitize(group["probability"], (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95)))
        means = weighted.groupby("bin")[["probability", "same", "pairs"]].apply(
            lambda part: pd.Series(
                {name: np.average(part[name], weights=part["pairs"]) for name in ("probability", "same")}
            )
        )
        axes[1].plot(means["probability"], means["same"], "o-", color=f"C{number}", ms=4, label=task)
    axes[1].set(xlabel="stated probability", ylabel="fraction that is the same neuron", title="Calibration")
    axes[1].legend(fontsize=7)
    if len(drifted):
        for number, (name, error) in enumerate((n, e) for n in ("drift", "turnover") for e in ERRORS):
            part = drifted.query("varied == @name and target_error == @error").groupby(name)["recall"].mean()
            axes[2].plot(part.index, part, ["o-", "o--", "s-", "s--"][number], label=f"{name}, error {error:.0%}", ms=4)
        axes[2].set(xlabel="drift or turnover", ylabel="recall", ylim=(0, 1), title="Simulated days")
        axes[2].legend(fontsize=7)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run the tasks and write their scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--model", default="nuclr-starter")
    parser.add_argument("--tasks", nargs="+", default=[*TASKS, *OTHERS])
    arguments = parser.parse_args()
    model = load_checkpoint(arguments.model)
    scores, calibration = [], []
    for name in TASKS:
        if name in arguments.tasks:
            for table, curve, held_out in TASKS[name](arguments.data, model, arguments.cache):
                scores.append(table.assign(held_out=held_out))
                calibration.append(curve.assign(held_out=held_out))
                print(table.groupby(["animal", "task", "method"], sort=False)["top_1"].mean().round(3).to_string())
    result = {}
    if scores:
        scores, calibration = pd.concat(scores), pd.concat(calibration)
        result = {"scores": scores, "calibration": calibration}
        for held_out, title in ((True, "held-out animals"), (False, "animals in which settings were chosen")):
            chosen = scores[scores["held_out"] == held_out]
            if len(chosen):
                print(
                    f"\n{title}\n{summary(chosen).to_string(index=False)}\n\n{at_errors(chosen).round(3).to_string()}"
                    f"\n\n{of_neurons(chosen).to_string()}"
                )
    if "controls" in arguments.tasks:
        result["controls"] = pd.DataFrame(controls(arguments.data, model, arguments.cache))
        print(result["controls"].groupby(["task", "target_error"], sort=False).sum().to_string())
    if "simulated" in arguments.tasks:
        result["simulated"] = pd.DataFrame(simulated())
        varied = result["simulated"].groupby(["varied", "drift", "turnover", "target_error"])
        print(varied[["top_1", "precision", "recall"]].mean().round(3).to_string())
    if "oversplits" in arguments.tasks:
        result["oversplits"] = pd.DataFrame(oversplits(arguments.data))
        print(result["oversplits"].groupby("split", sort=False).sum(numeric_only=True).to_string())
    if "many" in arguments.tasks:
        result["many"] = pd.DataFrame(many(model))
        print(result["many"].round(2).to_string(index=False))
    arguments.output.write_text(json.dumps({k: json.loads(v.to_json(orient="records")) for k, v in result.items()}))
    if arguments.figure and len(scores):
        held_out = scores[scores["held_out"]], calibration[calibration["held_out"]]
        draw(arguments.figure, *held_out, result.get("simulated", pd.DataFrame()))


if __name__ == "__main__":
    main()
