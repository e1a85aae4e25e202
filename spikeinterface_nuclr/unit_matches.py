"""UnitMatches: which units of several recordings are the same neuron, saved to and loaded from files."""

import json
import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .errors import InputError, reading
from .files import check_format, written_whole
from .text import for_csv
from .unit_embeddings import read_array

FORMATS = (".npz", ".csv")
# Pairs with a lower probability are left out, unless a unit has no better one.
LEAST_PROBABILITY = 0.01
# Columns with one value per pair, and their dtypes.
_PAIRS = {
    "pair_recordings": np.int32, "pair_units": np.int64, "probability": np.float32, "similarity": np.float32,
    "agreement": np.float32, "named": np.bool_,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class UnitMatches:
    """Which units of several recordings are the same neuron, and how probably.

    Pairs of units with a probability below 0.01 are left out, unless one of the two has no better partner in the other
    recording: their probability is taken to be 0.

    Attributes
    ----------
    recordings : tuple of str
        Names of the recordings, all different.
    unit_ids : tuple of arrays of int or str
        Units of each recording.
    embedding : tuple of float32 arrays, shapes (n_units, dim)
        Embeddings of each recording; NaN for units without one, which have no pairs.
    neuron_id : tuple of int64 arrays
        Of each unit of each recording: the same number for the same neuron. Every unit has one.
    pair_recordings : int32, shape (m, 2)
        For each pair, positions of its recordings, the earlier first.
    pair_units : int64, shape (m, 2)
        For each pair, positions of its units in these recordings.
    probability : float32, shape (m,)
        Probability that they are the same neuron, from all evidence.
    similarity : float32, shape (m,)
        Similarity of their embeddings, as from `similarity_of`.
    agreement : float32, shape (m,)
        Correlation of their correlations with the other units, over units that correspond.
    named : bool, shape (m,)
        Whether the pair is named as the same neuron; of all named pairs of two recordings, a fraction of at most
        `target_error` is expected to be wrong.
    target_error : float
    alone : dict of str to float32 arrays, shape (m,)
        Probability from a part of the evidence alone: "activity" and "features", if features were given.
    provenance : dict
        Model, settings, weights of the calibration, versions. JSON-serialisable.

    Raises
    ------
    InputError
        A ValueError that names the array with a wrong shape.

    Examples
    --------
    >>> from spikeinterface_nuclr import UnitMatches, match_units, simulate_days
    >>> matches = match_units(simulate_days(2, n_units=20, duration=120.0), progress=False)
    >>> path = matches.save("matches.npz")
    >>> UnitMatches.load(path)
    UnitMatches(2 recordings, 40 units, ...)
    >>> matches.probability_between(0, 1).shape == (len(matches.unit_ids[0]), len(matches.unit_ids[1]))
    True
    """

    recordings: tuple[str, ...]
    unit_ids: tuple[np.ndarray, ...]
    embedding: tuple[np.ndarray, ...]
    neuron_id: tuple[np.ndarray, ...]
    pair_recordings: np.ndarray
    pair_units: np.ndarray
    probability: np.ndarray
    similarity: np.ndarray
    agreement: np.ndarray
    named: np.ndarray
    target_error: float
    alone: dict[str, np.ndarray] = field(default_factory=dict)
    provenance: dict = field(default_factory=dict)

    def __post_init__(self):
        count = len(self.recordings)
        if len(set(self.recordings)) != count:
            raise InputError("recordings: two of them have the same name: give names")
        for name, dimensions, kinds in (("unit_ids", 1, "iuU"), ("embedding", 2, "f"), ("neuron_id", 1, "iu")):
            arrays = tuple(np.asarray(array) for array in getattr(self, name))
            if name == "unit_ids":
                arrays = tuple(a if a.dtype.kind in kinds else a.astype(str) for a in arrays)
            sizes = [len(np.atleast_1d(ids)) for ids in self.unit_ids]
            wrong = [a for a in arrays if a.ndim != dimensions or a.dtype.kind not in kinds]
            if len(arrays) != count or wrong or [len(array) for array in arrays] != sizes:
                raise InputError(f"{name}: give one array for each recording, with one row for each unit")
            if len({array.shape[1:] for array in arrays}) > 1:
                raise InputError(f"{name}: the recordings have embeddings of different dimensions")
            object.__setattr__(self, name, arrays)
        m = len(np.atleast_1d(self.probability))
        columns = {name: getattr(self, name) for name in _PAIRS} | {f"alone {k}": v for k, v in self.alone.items()}
        for name, values in columns.items():
            shape = (m, 2) if name in ("pair_recordings", "pair_units") else (m,)
            if np.shape(values) != shape:
                raise InputError(f"{name} has shape {np.shape(values)}, not {shape}")
        recordings, units = self.pair_recordings, self.pair_units
        inside = (recordings >= 0) & (recordings < count)
        if not (inside.all() and (recordings[:, 0] < recordings[:, 1]).all()):
            raise InputError("pair_recordings: give positions of two recordings, the earlier first")
        sizes = np.array([len(ids) for ids in self.unit_ids], dtype=np.int64)
        if m and not ((units >= 0) & (units < sizes[recordings])).all():
            raise InputError("pair_units: a pair names a unit that does not exist")
        for name in ("probability", *(f"alone {part}" for part in self.alone)):
            if not ((columns[name] >= 0) & (columns[name] <= 1)).all():
                raise InputError(f"{name}: give probabilities from 0 to 1")
        if not 0 <= self.target_error <= 1:
            raise InputError(f"target_error must lie from 0 to 1, not {self.target_error!r}")

    def probability_between(self, first: int, second: int, *, alone: str | None = None) -> np.ndarray:
        """Probability of each pair of units of two recordings (by position): float32, shape (n_first, n_second).

        With `alone`, the probability from that part of the evidence alone.
        """
        if alone is not None and alone not in self.alone:
            raise InputError(
                f"alone: {alone!r} is none of {', '.join(self.alone) or 'no parts: no features were given'}"
            )
        return self._between(first, second, self.probability if alone is None else self.alone[alone])

    def named_between(self, first: int, second: int) -> np.ndarray:
        """Whether each pair of units of two recordings is named: bool, shape (n_first, n_second)."""
        return self._between(first, second, self.named)

    def similarity_between(self, first: int, second: int) -> np.ndarray:
        """Similarity of each pair of units of two recordings: float32, shape (n_first, n_second); NaN without one.

        Of the embeddings of all units of both recordings together; where groups are matched separately, `similarity`
        is computed within each.
        """
        self._check_positions(first, second)
        embeddings = self.embedding[first], self.embedding[second]
        finite = [np.isfinite(embedding).all(axis=1) for embedding in embeddings]
        result = np.full((len(finite[0]), len(finite[1])), np.nan, dtype=np.float32)
        result[np.ix_(*finite)] = similarity_of(*(e[mask] for e, mask in zip(embeddings, finite, strict=True)))
        return result

    def rows_of(self, first: int, second: int) -> np.ndarray:
        """Positions of the pairs of two recordings."""
        self._check_positions(first, second)
        return np.flatnonzero((self.pair_recordings == sorted((first, second))).all(axis=1))

    def to_dataframe(self):
        """A pandas DataFrame with one row per pair of units, the most probable first within two recordings.

        The columns are recording_a, unit_a, recording_b, unit_b, probability, named, similarity, agreement,
        neuron_a, neuron_b, and, if features were given, p(activity) and p(features).
        """
        import pandas as pd

        order = np.lexsort((-self.probability, self.pair_recordings[:, 1], self.pair_recordings[:, 0]))
        columns = {}
        for side, letter in enumerate("ab"):
            which, units = self.pair_recordings[order, side], self.pair_units[order, side]
            pairs = list(zip(which.tolist(), units.tolist(), strict=True))
            columns[f"recording_{letter}"] = [self.recordings[r] for r, _ in pairs]
            columns[f"unit_{letter}"] = [self.unit_ids[r][u] for r, u in pairs]
            columns[f"neuron_{letter}"] = np.array([self.neuron_id[r][u] for r, u in pairs], dtype=np.int64)
        names = ("probability", "named", "similarity", "agreement")
        columns |= {name: getattr(self, name)[order] for name in names}
        columns |= {f"p({name})": values[order] for name, values in self.alone.items()}
        first = ["recording_a", "unit_a", "recording_b", "unit_b", *names]
        return pd.DataFrame({name: columns[name] for name in [*first, *(c for c in columns if c not in first)]})

    def neurons(self):
        """A pandas DataFrame with one row per unit: recording, unit_id, neuron_id, and in how many recordings it is."""
        import pandas as pd

        table = pd.DataFrame(
            {
                "recording": np.repeat(np.array(self.recordings, dtype=object), [len(ids) for ids in self.unit_ids]),
                "unit_id": [unit for ids in self.unit_ids for unit in ids.tolist()],
                "neuron_id": np.concatenate([np.asarray(ids, dtype=np.int64) for ids in self.neuron_id]),
            }
        )
        table["num_recordings"] = table.groupby("neuron_id")["recording"].transform("size")
        return table

    def summary(self):
        """A pandas DataFrame with one row per two recordings, and a column per kind of evidence.

        Units of both, expected number of pairs that are the same neuron (sum of probabilities), and how many are named;
        if features were given, the same numbers from the activity alone and from the features alone.
        """
        import pandas as pd

        rows, count = [], len(self.recordings)
        # All pairs are sorted once: there may be thousands of two recordings.
        number = self.pair_recordings[:, 0].astype(np.int64) * count + self.pair_recordings[:, 1]
        order = np.argsort(number, kind="stable")
        for first in range(count):
            for second in range(first + 1, count):
                low, high = np.searchsorted(number[order], [first * count + second, first * count + second + 1])
                pairs = order[low:high]
                row = {
                    "recording_a": self.recordings[first], "recording_b": self.recordings[second],
                    "units_a": len(self.unit_ids[first]), "units_b": len(self.unit_ids[second]),
                    "expected": float(self.probability[pairs].sum()), "named": int(self.named[pairs].sum()),
                }  # fmt: skip
                for name, values in self.alone.items():
                    named = named_pairs(self.pair_units[pairs], values[pairs], self.target_error)
                    row |= {f"expected ({name})": float(values[pairs].sum()), f"named ({name})": int(named.sum())}
                rows.append(row)
        return pd.DataFrame(rows)

    def save(self, path, *, overwrite: bool = False) -> Path:
        """Write ``.npz`` (read by `load`) or ``.csv`` (the table of `to_dataframe`)."""
        path = check_format(path, *FORMATS)
        with written_whole(path, overwrite=overwrite) as temporary:
            if path.suffix == ".npz":
                np.savez(temporary, **self._members())
            else:
                for_csv(self.to_dataframe()).to_csv(temporary, index=False)
        return path

    @classmethod
    def load(cls, path) -> "UnitMatches":
        """Read an ``.npz`` file written by `save`; InputError if it is damaged or another kind of file."""
        if not os.path.isfile(path):
            raise InputError(f"{path}: no such file")
        with reading(path, ".npz file of matches", "match again"), zipfile.ZipFile(path) as file:
            members = {info.filename.removesuffix(".npy"): info for info in file.infolist()}

            def member(name):
                return read_array(file, members[name], path)

            about = json.loads(str(member("about")))
            recordings = tuple(str(name) for name in about["recordings"])
            per_recording = {
                name: tuple(member(f"{name}_{k}") for k in range(len(recordings)))
                for name in ("unit_ids", "embedding", "neuron_id")
            }
            pairs = {name: member(name).astype(dtype) for name, dtype in _PAIRS.items()}
            alone = {str(name): member(f"alone_{k}") for k, name in enumerate(about["alone"])}
            values = {"target_error": float(about["target_error"]), "provenance": dict(about["provenance"])}
        try:
            return cls(recordings, **per_recording, **pairs, alone=alone, **values)
        except InputError as error:
            raise InputError(f"{path}: {error}: match again") from None

    def _members(self) -> dict[str, np.ndarray]:
        """The arrays of the ``.npz`` file."""
        about = {
            "recordings": list(self.recordings), "alone": list(self.alone), "target_error": self.target_error,
            "provenance": self.provenance,
        }  # fmt: skip
        members = {"about": np.array(json.dumps(about))}
        for name in ("unit_ids", "embedding", "neuron_id"):
            members |= {f"{name}_{k}": np.asarray(array) for k, array in enumerate(getattr(self, name))}
        members |= {name: np.asarray(getattr(self, name), dtype=dtype) for name, dtype in _PAIRS.items()}
        return members | {f"alone_{k}": values for k, values in enumerate(self.alone.values())}

    def _between(self, first: int, second: int, values: np.ndarray) -> np.ndarray:
        pairs = self.rows_of(first, second)
        low, high = sorted((first, second))
        result = np.zeros((len(self.unit_ids[low]), len(self.unit_ids[high])), dtype=values.dtype)
        result[tuple(self.pair_units[pairs].T)] = values[pairs]
        return result if first == low else result.T

    def _check_positions(self, first: int, second: int) -> None:
        if first == second or not {first, second} <= set(range(len(self.recordings))):
            raise InputError(f"first and second: give two different positions of {len(self.recordings)} recordings")

    def __repr__(self):
        units = sum(len(ids) for ids in self.unit_ids)
        neurons = len(np.unique(np.concatenate(self.neuron_id))) if self.neuron_id else 0
        return (
            f"UnitMatches({len(self.recordings)} recordings, {units} units, {int(self.named.sum())} pairs named, "
            f"{neurons} neurons)"
        )


def similarity_of(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine similarity of embeddings, standardised over both recordings: float32, shape (n_first, n_second)."""
    rows = directions(np.concatenate([first, second]))
    return (rows[: len(first)] @ rows[len(first) :].T).astype(np.float32)


def directions(embedding: np.ndarray) -> np.ndarray:
    """Standardised embeddings of length 1, float64, (n, dim): their products are similarities."""
    rows = embedding.astype(np.float64)
    if not len(rows):
        return rows
    deviation = rows.std(axis=0)
    varies = deviation > 1e-9 * np.abs(rows).max(axis=0)  # differences of a constant column are rounding errors
    rows = (rows - rows.mean(axis=0)) / np.where(varies, deviation, np.inf)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def named_pairs(units: np.ndarray, probability: np.ndarray, target_error: float) -> np.ndarray:
    """Which pairs of two recordings to name: bool, shape (m,).

    The most probable one-to-one assignment, and of its pairs as many, from the most probable on, as have a mean
    probability of being different neurons of at most `target_error`.

    Parameters
    ----------
    units : int array, shape (m, 2)
        Positions of the units of each pair.
    probability : float, shape (m,)
    target_error : float
    """
    from scipy.optimize import linear_sum_assignment

    named = np.zeros(len(probability), dtype=bool)
    if not len(probability):
        return named
    (first, rows), (second, columns) = (np.unique(side, return_inverse=True) for side in units.T)
    matrix, position = np.zeros((len(first), len(second))), np.full((len(first), len(second)), -1)
    matrix[rows, columns], position[rows, columns] = probability, np.arange(len(probability))
    assigned = position[linear_sum_assignment(matrix, maximize=True)]
    assigned = assigned[assigned >= 0]
    ordered = assigned[np.argsort(-probability[assigned], kind="stable")]
    error = np.cumsum(1 - probability[ordered].astype(np.float64)) / np.arange(1, len(ordered) + 1)
    allowed = np.flatnonzero(error <= target_error + 1e-9)
    if len(allowed):
        named[ordered[: allowed[-1] + 1]] = True
    return named
