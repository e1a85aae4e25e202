"""UnitEmbeddings: what embedding gives, and its files."""

import json
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from .errors import InputError
from .files import check_format, written_whole

FORMATS = (".npz", ".csv")
# One number a unit, beside its embedding.
_COLUMNS = ("window_count", "stability", "spike_count")


@dataclass(frozen=True, eq=False)
class UnitEmbeddings:
    """One embedding for each unit, and what stands behind it.

    Attributes
    ----------
    unit_ids : array of int or str, shape (n_units,)
    embedding : float32, shape (n_units, dim)
        Mean over the unit's windows; NaN where it has none.
    window_count : int64, shape (n_units,)
        Windows behind each embedding.
    stability : float32, shape (n_units,)
        Cosine between the means over the unit's odd and even windows, of those that share no time; NaN with fewer
        than two of these.
    provenance : dict
        Checkpoint, parameters, versions and the population's fingerprint. Plain values for JSON.
    spike_count : int64, shape (n_units,), optional
        Spikes of each unit when it was embedded (frames, of traces). Tells later whether the unit is still the same.

    Raises
    ------
    InputError
        A ValueError naming the array that does not hold one row a unit.
    """

    unit_ids: np.ndarray
    embedding: np.ndarray
    window_count: np.ndarray
    stability: np.ndarray
    provenance: dict
    spike_count: np.ndarray | None = None

    def __post_init__(self):
        n = len(self.unit_ids)
        for name, shape in (("unit_ids", "n"), ("embedding", "n, dim"), *((name, "n") for name in _COLUMNS)):
            values = getattr(self, name)
            if values is None and name == "spike_count":
                continue
            values = np.asarray(values)
            if name == "unit_ids" and values.dtype.kind not in "iuU":
                values = values.astype(str)
            if len(values) != n or values.ndim != len(shape.split(",")):
                raise InputError(f"{name} has shape {values.shape}, not ({shape}) of {n} units")
            object.__setattr__(self, name, values)

    def select(self, units) -> "UnitEmbeddings":
        """The rows at these positions (or where a mask is True)."""
        index = np.arange(len(self.unit_ids))[np.asarray(units)]
        count = None if self.spike_count is None else self.spike_count[index]
        rows = (values[index] for values in (self.unit_ids, self.embedding, self.window_count, self.stability))
        return UnitEmbeddings(*rows, self.provenance, count)

    def to_dataframe(self):
        """A pandas DataFrame, one row a unit: what is known of it, then ``embedding_0``, ``embedding_1``, …."""
        import pandas as pd

        known = {name: getattr(self, name) for name in _COLUMNS if getattr(self, name) is not None}
        known |= {f"embedding_{k}": column for k, column in enumerate(self.embedding.T)}
        return pd.DataFrame(known, index=pd.Index(self.unit_ids, name="unit_id"))

    def save(self, path, *, overwrite: bool = False) -> Path:
        """Write ``.npz`` (read by `load`) or ``.csv`` (one row a unit, the provenance in its first line)."""
        path = check_format(path, *FORMATS)
        write = self._write_npz if path.suffix == ".npz" else self._write_csv
        with written_whole(path, overwrite=overwrite) as temporary:
            write(temporary)
        return path

    @classmethod
    def load(cls, path) -> "UnitEmbeddings":
        """Read what `save` wrote as ``.npz``."""
        try:
            with np.load(path, allow_pickle=False) as file:
                values = {name: file[name] for name in ("unit_ids", "embedding", *_COLUMNS) if name in file}
                return cls(**values, provenance=json.loads(str(file["provenance"])))
        except (OSError, KeyError, ValueError, TypeError, EOFError, BadZipFile) as error:
            raise InputError(f"{path}: not an .npz file of embeddings ({error})") from None

    def _write_npz(self, path: Path):
        columns = {name: getattr(self, name) for name in _COLUMNS if getattr(self, name) is not None}
        provenance = np.array(json.dumps(self.provenance))
        np.savez(path, unit_ids=self.unit_ids, embedding=self.embedding, provenance=provenance, **columns)

    def _write_csv(self, path: Path):
        with open(path, "w", newline="", encoding="utf-8") as file:
            file.write(f"# {json.dumps(self.provenance)}\n")
            self.to_dataframe().to_csv(file)

    def __repr__(self):
        n, dim = self.embedding.shape
        return f"UnitEmbeddings({n} units, dim {dim}, {(self.window_count > 0).sum()} embedded)"


def join_embeddings(parts: list[UnitEmbeddings]) -> UnitEmbeddings:
    """Several parts of one population, one after another, with the provenance of the first."""
    names = ("unit_ids", "embedding", "window_count", "stability")
    known = (np.concatenate([getattr(part, name) for part in parts]) for name in names)
    counts = [part.spike_count for part in parts]
    return UnitEmbeddings(
        *known, parts[0].provenance, None if any(c is None for c in counts) else np.concatenate(counts)
    )
