"""Matcher: the probability that two units are the same neuron, as a logistic function of how they compare."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from ..errors import InputError, reading
from ..files import check_format, written_whole
from .calibration import FEATURES

FORMAT_VERSION = 1
# Largest file that is read.
_MAX_BYTES = 1_000_000
_LARGEST = 1e12


@dataclass(frozen=True)
class Matcher:
    """A logistic model of the probability that two units are the same neuron.

    Attributes
    ----------
    mean, scale : tuple of float
        By which what is known about a pair is standardised.
    weights : tuple of float
        Log odds per standard deviation, in the order of `to_dataframe`.
    intercept : float
    provenance : dict
        What it was fitted to. JSON-serialisable.

    Raises
    ------
    InputError
        A list has not one number for each feature.

    Examples
    --------
    >>> from spikeinterface_nuclr import Matcher, fit_matcher, match_units, simulate_days
    >>> days = simulate_days(3, n_units=20, duration=120.0)
    >>> matcher = fit_matcher(days[:2], progress=False)
    >>> path = matcher.save("matcher.json")
    >>> matches = match_units(days[1:], matcher=Matcher.load(path), progress=False)
    >>> sorted(matcher.to_dataframe().columns)
    ['feature', 'mean', 'scale', 'weight']
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float
    provenance: dict = field(default_factory=dict)

    def __post_init__(self):
        for name in ("mean", "scale", "weights"):
            values = getattr(self, name)
            if isinstance(values, str) or not np.iterable(values):
                raise InputError(f"{name}: give a list of numbers")
            values = tuple(float(value) for value in values)
            if len(values) != len(FEATURES) or not np.isfinite(values).all():
                raise InputError(f"{name}: give one finite number for each of the {len(FEATURES)} features")
            object.__setattr__(self, name, values)
        if not all(value > 0 for value in self.scale):
            raise InputError("scale: give positive numbers")
        largest = max(map(abs, (*self.mean, *self.weights, *(1 / value for value in self.scale))))
        if not isinstance(self.intercept, float | int) or not np.isfinite(self.intercept) or largest > _LARGEST:
            raise InputError(f"intercept, mean, scale and weights: give finite numbers of at most {_LARGEST:g}")
        if not isinstance(self.provenance, dict):
            raise InputError("provenance: give a dict")

    def probability(self, rows: np.ndarray) -> np.ndarray:
        """Probability of each pair, float64 (m,), from what is known about it (m, len(FEATURES))."""
        standardised = (rows - np.array(self.mean)) / np.array(self.scale)
        logits = standardised @ np.array(self.weights) + self.intercept
        return 1 / (1 + np.exp(-np.clip(logits, -50, 50)))

    def to_dataframe(self):
        """A pandas DataFrame with one row per feature: its name, mean, scale and weight."""
        import pandas as pd

        return pd.DataFrame({"feature": list(FEATURES), "mean": self.mean, "scale": self.scale, "weight": self.weights})

    def save(self, path, *, overwrite: bool = False) -> Path:
        """Write a ``.json`` file that `load` reads."""
        path = check_format(path, ".json")
        with written_whole(path, overwrite=overwrite) as temporary:
            content = {"format_version": FORMAT_VERSION, "features": list(FEATURES), **asdict(self)}
            temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
        return path

    @classmethod
    def load(cls, path) -> "Matcher":
        """Read a file written by `save`; InputError if it is damaged, or of other features."""
        if not os.path.isfile(path):
            raise InputError(f"{path}: no such file")
        if os.path.getsize(path) > _MAX_BYTES:
            raise InputError(f"{path}: too large for a matcher: name the file that Matcher.save wrote")
        with reading(path, "matcher", "fit it again"):
            content = dict(json.loads(Path(path).read_text(encoding="utf-8")))
            known = content.pop("format_version") == FORMAT_VERSION and content.pop("features") == list(FEATURES)
            if not known:
                raise InputError(f"{path}: is a matcher of another version of spikeinterface-nuclr: fit it again")
            try:
                return cls(**content)
            except InputError as error:
                raise InputError(f"{path}: {error}: fit it again") from None


def fitted(rows: np.ndarray, same: np.ndarray, provenance: dict) -> Matcher:
    """The matcher for these features (m, len(FEATURES)) of pairs, which are the same unit or not (m,)."""
    from sklearn.linear_model import LogisticRegression

    if not same.any() or same.all():
        raise InputError(
            "the recordings are too short, or hold too few units, to learn what the same neuron looks like: give "
            "longer ones, or a matcher that was fitted to others (matcher=, --matcher)"
        )
    rows = rows.astype(np.float64)
    mean, scale = rows.mean(axis=0), rows.std(axis=0)
    # Differences of a constant column are rounding errors.
    scale = np.where(scale > 1e-6 * np.abs(mean) + 1e-9, scale, 1)
    model = LogisticRegression(C=1.0, max_iter=1000).fit((rows - mean) / scale, same)
    counts = {"pairs": len(same), "same": int(same.sum())}
    return Matcher(
        tuple(mean), tuple(scale), tuple(model.coef_[0]), float(model.intercept_[0]), {**provenance, **counts}
    )
