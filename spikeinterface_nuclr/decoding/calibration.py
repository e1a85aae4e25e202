"""Whether probabilities mean what they say: temperature, reliability, and when to say "unknown".

Everything here takes predictions on animals that the decoder was not fitted to.
"""

import numpy as np

BINS = 10
CONFIDENCE = 0.95  # of the bound that a threshold rests on
# log of the range in which a temperature is looked for.
_RANGE = (np.log(0.05), np.log(20.0))
# What a probability of zero counts as, in a loss: a class that a fold has not seen.
_FLOOR = 1e-6


def softmax(logits: np.ndarray) -> np.ndarray:
    """Along the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def tempered(probability: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (n, k) made flatter (temperature above 1) or sharper (below).

    p^(1/T), normalised: of a softmax, the softmax of its logits divided by T (Guo et al. 2017). The order of the
    classes stays.
    """
    with np.errstate(divide="ignore"):
        return softmax(np.log(probability) / temperature)


def log_loss(probability: np.ndarray, truth: np.ndarray) -> float:
    """Mean of -log of the probability (n, k) of each true class (n,)."""
    return float(-np.log(np.maximum(probability[np.arange(len(truth)), truth], _FLOOR)).mean())


def fit_temperature(probability: np.ndarray, truth: np.ndarray) -> float:
    """The temperature with the smallest `log_loss`."""
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda log_t: log_loss(tempered(probability, np.exp(log_t)), truth), bounds=_RANGE, method="bounded"
    )
    return float(np.exp(found.x))


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> dict[str, np.ndarray]:
    """How often predictions of a confidence are right.

    Parameters
    ----------
    confidence : float array, shape (n,)
    correct : bool array, shape (n,)
    bins : int
        Of equally many predictions each, so that none stands on a handful.

    Returns
    -------
    dict of str to array, shape (bins,)
        "confidence" and "accuracy" (means), and "count".
    """
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return {
        "confidence": np.array([confidence[part].mean() for part in parts]),
        "accuracy": np.array([correct[part].mean() for part in parts]),
        "count": np.array([len(part) for part in parts]),
    }


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> float:
    """Mean distance between confidence and accuracy over the bins of `reliability` (Naeini et al. 2015)."""
    if not len(confidence):
        return float("nan")
    table = reliability(confidence, correct, bins)
    gaps = np.abs(table["confidence"] - table["accuracy"])
    return float((gaps * table["count"]).sum() / table["count"].sum())


def selective_risk(confidence: np.ndarray, correct: np.ndarray) -> dict[str, np.ndarray]:
    """Error among the most confident predictions.

    Returns
    -------
    dict of str to float array, shape (distinct confidences,)
        "threshold", falling; "coverage", the share of predictions at least so confident; "risk", the share of these
        that are wrong (El-Yaniv & Wiener 2010).
    """
    threshold, kept, wrong = _accepted(confidence, correct)
    return {"threshold": threshold, "coverage": kept / max(len(confidence), 1), "risk": wrong / np.maximum(kept, 1)}


def abstention_threshold(confidence: np.ndarray, correct: np.ndarray, max_error: float) -> float:
    """The lowest confidence at which, of all predictions at least so sure, a share of at most `max_error` is wrong.

    0 where all may be accepted, infinite where none may. One more error is counted than was seen, so that a few lucky
    predictions set no threshold.
    """
    threshold, kept, wrong = _accepted(confidence, correct)
    fine = (wrong + 1) / (kept + 1) <= max_error
    if not fine.any():
        return float("inf")
    return 0.0 if fine[-1] else float(threshold[fine][-1])


def _accepted(confidence: np.ndarray, correct: np.ndarray):
    """Distinct confidences, falling; how many predictions reach each; how many of these are wrong."""
    order = np.argsort(-confidence, kind="stable")
    ordered, wrong = confidence[order], np.cumsum(~correct[order].astype(bool))
    # Equal confidences are accepted together.
    last = np.flatnonzero(np.append(np.diff(ordered) != 0, True)) if len(ordered) else np.empty(0, dtype=int)
    return ordered[last], last + 1, wrong[last]
