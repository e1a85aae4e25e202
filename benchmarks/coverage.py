"""Do intervals cover, and do thresholds keep their word? Simulated, where the truth is known.

    python benchmarks/coverage.py [--tries 2000]

Intervals: how often the 95 % interval of a mean over animals holds the true mean, by number of animals and by how the
animals' scores are distributed; beside the t interval that `evaluate` gives stand bootstraps of animals (percentile,
BCa). Thresholds: decoders asked for an error of 10 %, on animals whose accuracy differs; how often the true error in
new animals exceeds it (at most 5 % was promised), how large it is on average, and what share of units is labelled.
"plain" is the lowest confidence at which the units at hand had no more errors than that, one more counted.
"""

import argparse
import warnings

import numpy as np
from scipy.stats import bootstrap
from tqdm import tqdm

from spikeinterface_nuclr.decoding.calibration import abstention_threshold, selective_risk
from spikeinterface_nuclr.decoding.scores import interval

# Name -> draws of animals' scores, and their true mean.
SCORES = {
    "normal": (lambda rng, n: rng.normal(0.5, 0.1, n), 0.5),
    "skewed, beta(8, 2)": (lambda rng, n: rng.beta(8, 2, n), 0.8),
    "near the top, beta(20, 1)": (lambda rng, n: rng.beta(20, 1, n), 20 / 21),
    "two kinds of animals": (lambda rng, n: np.where(rng.random(n) < 0.2, 0.3, 0.7) + rng.normal(0, 0.05, n), 0.62),
}
ANIMALS = (2, 3, 5, 7, 10, 20)
BOOTSTRAPS = {"percentile bootstrap": "percentile", "BCa bootstrap": "BCa"}

# Name -> accuracy by confidence, which is uniform from 0.5 to 1.
ACCURACIES = {
    "calibrated": lambda confidence: confidence,
    "good": lambda confidence: np.minimum(confidence + 0.3, 0.98),
    "confidence says nothing, error 10.5 %": lambda confidence: np.full_like(confidence, 0.895),
}
# Animals, units of each, and by how much accuracy differs between animals (standard deviation).
COHORTS = ((1, 200, 0.0), (1, 1000, 0.0), (3, 300, 0.05), (5, 100, 0.1), (7, 300, 0.05), (10, 100, 0.1), (20, 100, 0.1))
TARGET = 0.1


def coverage(draw, mean: float, animals: int, tries: int) -> dict[str, float]:
    """Share of intervals that hold the mean, by kind of interval."""
    rng = np.random.default_rng(animals)
    values = np.stack([draw(rng, animals) for _ in range(tries)])
    low, high = np.array([interval(row) for row in values]).T
    found = {"t": np.nan if np.isnan(low).any() else np.mean((low <= mean) & (mean <= high))}
    some = values[: max(tries // 5, 100)]
    for name, method in BOOTSTRAPS.items():
        drawn = bootstrap((some,), np.mean, axis=1, method=method, n_resamples=999, rng=0).confidence_interval
        found[name] = np.mean((drawn.low <= mean) & (mean <= drawn.high))
    return found


def plain_threshold(confidence: np.ndarray, correct: np.ndarray) -> float:
    """The lowest confidence above which the share of errors at hand, with one more, is no larger than the target."""
    table = selective_risk(confidence, correct)
    kept = table["coverage"] * len(confidence)
    fine = (table["risk"] * kept + 1) / (kept + 1) <= TARGET
    return table["threshold"][fine][-1] if fine.any() else np.inf


def thresholds(accuracy, animals: int, units: int, spread: float, tries: int) -> dict[str, tuple]:
    """Of each kind of threshold: how often the target is exceeded, the mean error, and the share of labelled units."""
    rng = np.random.default_rng(animals)
    confidences = np.linspace(0.5, 1, 501)
    new = np.clip(accuracy(confidences) + rng.normal(0, spread, (2000, 1)), 0, 1).mean(axis=0)
    outcomes: dict[str, list] = {"ours": [], "plain": []}
    for _ in range(tries):
        confidence = rng.uniform(0.5, 1, (animals, units))
        right = rng.random((animals, units)) < np.clip(accuracy(confidence) + rng.normal(0, spread, (animals, 1)), 0, 1)
        # Of a single animal, units stand for themselves, as `evaluate` has it within animals.
        clusters = np.repeat(np.arange(animals), units) if animals > 1 else None
        given = confidence.ravel(), right.ravel()
        chosen = {"ours": abstention_threshold(*given, TARGET, clusters), "plain": plain_threshold(*given)}
        for name, threshold in chosen.items():
            accepted = confidences >= threshold
            outcomes[name].append((1 - new[accepted].mean() if accepted.any() else np.nan, accepted.mean()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no threshold in any try
        return {
            name: (np.mean(np.array(of)[:, 0] > TARGET), np.nanmean(np.array(of)[:, 0]), np.mean(np.array(of)[:, 1]))
            for name, of in outcomes.items()
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=2000)
    tries = parser.parse_args().tries
    print("**Intervals over animals: how often 95 % hold the mean**\n")
    print("| scores | interval | " + " | ".join(f"n = {n}" for n in ANIMALS) + " |\n|" + "---|" * (2 + len(ANIMALS)))
    for title, (draw, mean) in SCORES.items():
        table = [coverage(draw, mean, n, tries) for n in tqdm(ANIMALS, desc=title, leave=False)]
        for kind in table[0]:
            cells = ["none" if np.isnan(row[kind]) else f"{row[kind]:.0%}" for row in table]
            print(f"| {title} | {kind} | {' | '.join(cells)} |")
    print(f"\n**Thresholds for an error of {TARGET:.0%}: fits that exceed it; mean error; units that are labelled**\n")
    print("| decoder | animals × units | accuracy differs by | ours | plain |\n|---|---|---|---|---|")
    for title, accuracy in ACCURACIES.items():
        for animals, units, spread in COHORTS:
            cells = [
                f"{exceeded:.1%}; {'none' if np.isnan(error) else f'{error:.3f}'}; {labelled:.0%}"
                for exceeded, error, labelled in thresholds(
                    accuracy, animals, units, spread, max(tries // 4, 50)
                ).values()
            ]
            print(f"| {title} | {animals} × {units} | {spread} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
