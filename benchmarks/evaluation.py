"""How long an evaluation takes, and how much memory: one process against many, one thread against many, in one run.

    python benchmarks/evaluation.py [--only patients mice animals] [--jobs 2]

Embeddings of 128 correlated dimensions are drawn, as many as of the recordings that the cases are named after, with a
control and the five baselines of spikes beside them, as `nuclr evaluate` has it. Every row is a process of its own.
Memory is the most that this process and its workers held, shared arrays counted for each: an upper bound. Of 100
animals, 5 are left out in turn, the others always fitted to: all 100 take twenty times as long.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial

import numpy as np
from joblib import Parallel, delayed

from spikeinterface_nuclr import UnitEmbeddings, animal_scaling, evaluate, label_efficiency
from spikeinterface_nuclr.decoding.labelled import label_units
from spikeinterface_nuclr.decoding.linear import fit_classifier
from spikeinterface_nuclr.decoding.parallel import on_one_thread
from spikeinterface_nuclr.decoding.splits import Split

DIM = 128
# Numbers a neuron of what stands beside the embedding.
OTHERS = {"control": DIM, "rate": 1, "intervals": 31, "autocorrelogram": 81, "population": 64, "all": 114}


@dataclass(frozen=True)
class Case:
    """Animals, how many of them are left out in turn, neurons of each, classes, and whether curves are drawn too."""

    animals: int
    tested: int
    units: int
    classes: int
    shuffles: int
    curves: bool


CASES = {
    "patients": Case(20, 20, 39, 2, 20, False),
    "mice": Case(3, 3, 1631, 4, 20, True),
    "animals": Case(100, 5, 1000, 4, 20, False),
}


def cohort(case: Case):
    """Embeddings, labels and baselines, a recording an animal; classes lie a little apart."""
    rng = np.random.default_rng(0)
    # Variances of the principal components fall as those of real embeddings do.
    mixing = rng.standard_normal((DIM, DIM)) * np.geomspace(1, 1e-2, DIM)[:, None]
    centres = 0.3 * rng.standard_normal((case.classes, DIM))
    embeddings, labels, others = [], [], {name: [] for name in OTHERS}
    for animal in range(case.animals):
        truth = rng.integers(case.classes, size=case.units)
        rows = (rng.standard_normal((case.units, DIM)) + centres[truth] + 0.2 * rng.standard_normal(DIM)) @ mixing
        provenance = {"checkpoint_sha256": "0" * 64, "checkpoint": "drawn", "source": {"subject": f"animal{animal}"}}
        ids = np.arange(case.units)
        embeddings.append(
            UnitEmbeddings(ids, rows.astype(np.float32), np.ones(len(ids), int), np.ones(len(ids)), provenance)
        )
        labels.append(np.array([f"class {number}" for number in truth]))
        for name, size in OTHERS.items():
            others[name].append(rng.standard_normal((case.units, size)) + 0.2 * truth[:, None])
    return embeddings, labels, others


def measure(name: str, jobs: int) -> dict[str, float]:
    """Seconds and gigabytes of one case."""
    case = CASES[name]
    embeddings, labels, others = cohort(case)
    animals = np.repeat(np.arange(case.animals), case.units)
    splits = [Split(str(k), np.flatnonzero(animals != k), np.flatnonzero(animals == k)) for k in range(case.tested)]
    began = time.perf_counter()
    evaluate(embeddings, labels, others=others, splits=splits, shuffles=case.shuffles, n_jobs=jobs, progress=False)
    if case.curves:
        label_efficiency(embeddings, labels, n_jobs=jobs, progress=False)
        animal_scaling(embeddings, labels, n_jobs=jobs, progress=False)
    seconds = time.perf_counter() - began
    workers = Parallel(n_jobs=jobs)(delayed(memory)() for _ in range(8 * jobs)) if jobs > 1 else [0]
    return {"seconds": seconds, "gigabytes": memory() + jobs * max(workers)}


def memory() -> float:
    """The most that this process has held, in gigabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def threads(name: str) -> dict[str, float]:
    """Seconds of a choice and a fit in one thread, and in as many as the libraries would take."""
    embeddings, labels, _ = cohort(CASES[name])
    labelled = label_units(embeddings, labels)
    seconds = {}
    for kind, fit in (("one thread", partial(on_one_thread, fit_classifier)), ("all threads", fit_classifier)):
        fit(labelled)
        began = time.perf_counter()
        for _ in range(3):
            fit(labelled)
        seconds[kind] = (time.perf_counter() - began) / 3
    return seconds


def apart(function: str, *arguments) -> dict[str, float]:
    """What a function of this file gives in a process of its own."""
    command = f"import json, evaluation; print(json.dumps(evaluation.{function}(*{arguments!r})))"
    done = subprocess.run([sys.executable, "-c", command], cwd=sys.path[0], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    print(
        "| neurons of animals (left out) | one process | processes | ratio | memory | a fit: all threads against one |"
    )
    print("|---|---|---|---|---|---|")
    for name in options.only:
        case = CASES[name]
        several = apart("measure", name, options.jobs)
        one = apart("measure", name, 1)
        fits = apart("threads", name)
        print(
            f"| {case.animals * case.units:,} of {case.animals} ({case.tested}){' with curves' if case.curves else ''} "
            f"| {one['seconds']:.0f} s | {several['seconds']:.0f} s ({options.jobs}) "
            f"| {one['seconds'] / several['seconds']:.1f} | {several['gigabytes']:.1f} GB "
            f"| {fits['all threads'] / fits['one thread']:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
