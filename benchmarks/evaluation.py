"""Time and memory of an evaluation: one process compared with several, and one thread with several, in one run.

    python benchmarks/evaluation.py [--only patients mice animals] [--jobs 2]

Random embeddings with 128 correlated dimensions are evaluated together with a control and the five baselines from
spikes, as in `nuclr evaluate`. The cases have the sizes of real data sets. Each measurement runs in a separate process.
Memory is the sum of the peaks of this process and its workers, in which shared arrays count several times: an upper
bound. Of 100 animals, only 5 are left out in turn: all 100 take twenty times as long.
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
from spikeinterface_nuclr.decoding.classifier import fit_classifier
from spikeinterface_nuclr.decoding.labelled import label_units
from spikeinterface_nuclr.decoding.parallel import on_one_thread
from spikeinterface_nuclr.decoding.splits import Split

DIM = 128
# Number of features per neuron of the methods compared with the embedding.
OTHERS = {"control": DIM, "rate": 1, "intervals": 31, "autocorrelogram": 81, "population": 64, "all": 114}


@dataclass(frozen=True)
class Case:
    """Numbers of animals, left-out animals, neurons per animal, classes and shuffles; and whether to compute curves."""

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
    """Embeddings, labels and baselines of one recording per animal; classes differ slightly in their means."""
    rng = np.random.default_rng(0)
    # The variances of the principal components decrease like those of real embeddings.
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
    """Time in seconds and memory in gigabytes of one case."""
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
    """Peak memory of this process in gigabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def threads(name: str) -> dict[str, float]:
    """Seconds of a fit, including the choice of its penalty, in one thread and in the libraries' default number."""
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


def in_subprocess(function: str, *arguments) -> dict[str, float]:
    """Result of a function of this file in a separate process."""
    code = f"import json, evaluation; print(json.dumps(evaluation.{function}(*{arguments!r})))"
    result = subprocess.run([sys.executable, "-c", code], cwd=sys.path[0], capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    print("| neurons of animals (left out) | one process | processes | speed-up | memory | fit: all / one thread |")
    print("|---|---|---|---|---|---|")
    for name in options.only:
        case = CASES[name]
        parallel = in_subprocess("measure", name, options.jobs)
        serial = in_subprocess("measure", name, 1)
        fits = in_subprocess("threads", name)
        print(
            f"| {case.animals * case.units:,} of {case.animals} ({case.tested}){' with curves' if case.curves else ''} "
            f"| {serial['seconds']:.0f} s | {parallel['seconds']:.0f} s ({options.jobs}) "
            f"| {serial['seconds'] / parallel['seconds']:.1f} | {parallel['gigabytes']:.1f} GB "
            f"| {fits['all threads'] / fits['one thread']:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
