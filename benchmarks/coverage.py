"""Coverage of confidence intervals and error of abstention thresholds, in simulations with a known truth.

    python benchmarks/coverage.py [--tries 2000]

Intervals: how often the 95 % interval of a mean over animals contains the true mean, by number of animals and by
distribution of their scores, for the t interval of `evaluate` and for bootstraps of animals (percentile, BCa).
Thresholds: for decoders with a target error of 10 % on animals with different accuracies, how often the true error in
new animals exceeds the target (the method guarantees at most 5 %), the mean error, and the fraction of labelled units.
"plain" is the lowest confidence at which the calibration units, with one more error, do not exceed the target.
"""

import argparse
import warnings

import numpy as np
from scipy.stats import bootstrap
from tqdm import tqdm

from spikeinterface_nuclr.decoding.calibration import abstention_threshold, selective_risk
from spikeinterface_nuclr.decoding.scores import interval

# Name -> function that draws animals' scores, and their true mean.
SCORES = {
    "normal": (lambda rng, n: rng.normal(0.5, 0.1, n), 0.5),
    "skewed, beta(8, 2)": (lambda rng, n: rng.beta(8, 2, n), 0.8),
    "near the top, beta(20, 1)": (lambda rng, n: rng.beta(20, 1, n), 20 / 21),
    "two kinds of animals": (lambda rng, n: np.where(rng.random(n) < 0.2, 0.3, 0.7) + rng.normal(0, 0.05, n), 0.62),
}
ANIMALS = (2, 3, 5, 7, 10, 20)
BOOTSTRAPS = {"percentile bootstrap": "percentile", "BCa bootstrap": "BCa"}

# Name -> accuracy as a function of confidence, which is uniform from 0.5 to 1.
ACCURACIES = {
    "calibrated": lambda confidence: confidence,
    "good": lambda confidence: np.minimum(confidence + 0.3, 0.98),
    "uninformative confidence, error 10.5 %": lambda confidence: np.full_like(confidence, 0.895),
}
# Number of animals, units per animal, and standard deviation of the accuracy between animals.
COHORTS = ((1, 200, 0.0), (1, 1000, 0.0), (3, 300, 0.05), (5, 100, 0.1), (7, 300, 0.05), (10, 100, 0.1), (20, 100, 0.1))
TARGET = 0.1


def coverage(draw, mean: float, animals: int, tries: int) -> dict[str, float]:
    """Fraction of intervals that contain the mean, by kind of interval."""
    rng = np.random.default_rng(animals)
    values = np.stack([draw(rng, animals) for _ in range(tries)])
    low, high = np.array([interval(row) for row in values]).T
    covered = {"t": np.nan if np.isnan(low).any() else np.mean((low <= mean) & (mean <= high))}
    subset = values[: max(tries // 5, 100)]
    for name, method in BOOTSTRAPS.items():
        limits = bootstrap((subset,), np.mean, axis=1, method=method, n_resamples=999, rng=0).confidence_interval
        covered[name] = np.mean((limits.low <= mean) & (mean <= limits.high))
    return covered


def plain_threshold(confidence: np.ndarray, correct: np.ndarray) -> float:
    """The lowest confidence above which the observed error rate, with one more error, does not exceed the target."""
    table = selective_risk(confidence, correct)
    labelled = table["coverage"] * len(confidence)
    within_target = (table["risk"] * labelled + 1) / (labelled + 1) <= TARGET
    return table["threshold"][within_target][-1] if within_target.any() else np.inf


def thresholds(accuracy, animals: int, units: int, spread: float, tries: int) -> dict[str, tuple]:
    """For each kind of threshold: how often the target is exceeded, the mean error, the fraction of labelled units."""
    rng = np.random.default_rng(animals)
    confidences = np.linspace(0.5, 1, 501)
    new = np.clip(accuracy(confidences) + rng.normal(0, spread, (2000, 1)), 0, 1).mean(axis=0)
    outcomes: dict[str, list] = {"ours": [], "plain": []}
    for _ in range(tries):
        confidence = rng.uniform(0.5, 1, (animals, units))
        draws = rng.random((animals, units))
        correct = draws < np.clip(accuracy(confidence) + rng.normal(0, spread, (animals, 1)), 0, 1)
        # With a single animal, units are independent, as in `evaluate` within animals.
        clusters = np.repeat(np.arange(animals), units) if animals > 1 else None
        predictions = confidence.ravel(), correct.ravel()
        methods = {"ours": abstention_threshold(*predictions, TARGET, clusters), "plain": plain_threshold(*predictions)}
        for name, threshold in methods.items():
            accepted = confidences >= threshold
            outcomes[name].append((1 - new[accepted].mean() if accepted.any() else np.nan, accepted.mean()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no threshold in any try
        arrays = {name: np.array(values) for name, values in outcomes.items()}
        return {
            name: (np.mean(values[:, 0] > TARGET), np.nanmean(values[:, 0]), np.mean(values[:, 1]))
            for name, values in arrays.items()
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=2000)
    tries = parser.parse_args().tries
    print("**Coverage of 95 % intervals over animals**\n")
    print("| scores | interval | " + " | ".join(f"n = {n}" for n in ANIMALS) + " |\n|" + "---|" * (2 + len(ANIMALS)))
    for title, (draw, mean) in SCORES.items():
        table = [coverage(draw, mean, n, tries) for n in tqdm(ANIMALS, desc=title, leave=False)]
        for kind in table[0]:
            cells = ["none" if np.isnan(row[kind]) else f"{row[kind]:.0%}" for row in table]
            print(f"| {title} | {kind} | {' | '.join(cells)} |")
    print(f"\n**Thresholds for an error of {TARGET:.0%}: fits that exceed it; mean error; labelled units**\n")
    print("| decoder | animals × units | SD of accuracy | ours | plain |\n|---|---|---|---|---|")
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
