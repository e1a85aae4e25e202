"""UnitEmbeddings: what embedding gives, and its files."""

import json
import math
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import InputError, reading
from .files import ARRAYS_OF_NUMBERS, check_declared, check_format, npy_header, written_whole
from .text import for_csv

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
        A ValueError naming the array that does not hold one row a unit, or whose numbers are none.
    """

    unit_ids: np.ndarray
    embedding: np.ndarray
    window_count: np.ndarray
    stability: np.ndarray
    provenance: dict
    spike_count: np.ndarray | None = None

    def __post_init__(self):
        if not isinstance(self.provenance, dict) or not isinstance(self.provenance.get("source", {}), dict):
            raise InputError("provenance, and source in it, must be dicts")
        n = len(np.atleast_1d(np.asarray(self.unit_ids)))
        for name, shape in (("unit_ids", "n"), ("embedding", "n, dim"), *((name, "n") for name in _COLUMNS)):
            values = getattr(self, name)
            if values is None and name == "spike_count":
                continue
            values = np.asarray(values)
            if name == "unit_ids" and values.dtype.kind not in "iuU":
                values = values.astype(str)
            if values.ndim != len(shape.split(",")) or len(values) != n:
                raise InputError(f"{name} has shape {values.shape}, not ({shape}) of {n} units")
            if name != "unit_ids" and values.dtype.kind not in "iuf":
                raise InputError(f"{name} has dtype {values.dtype}, and should hold numbers")
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
        """Read what `save` wrote as ``.npz``; InputError where the file is damaged, or none of these."""
        if not os.path.isfile(path):  # a pipe would be waited for
            raise InputError(f"{path}: no such file")
        with reading(path, ".npz file of embeddings", "embed again"):
            with zipfile.ZipFile(path) as file:
                members = {info.filename.removesuffix(".npy"): info for info in file.infolist()}
                names = ["unit_ids", "embedding", "window_count", "stability", "provenance"]
                names += ["spike_count"] if "spike_count" in members else []
                values = {name: read_array(file, members[name], path) for name in names}
            values["provenance"] = json.loads(str(values["provenance"]))
        try:
            return cls(**values)
        except InputError as error:
            raise InputError(f"{path}: {error}: embed again") from None

    def _write_npz(self, path: Path):
        columns = {name: getattr(self, name) for name in _COLUMNS if getattr(self, name) is not None}
        provenance = np.array(json.dumps(self.provenance))
        np.savez(path, unit_ids=self.unit_ids, embedding=self.embedding, provenance=provenance, **columns)

    def _write_csv(self, path: Path):
        with open(path, "w", newline="", encoding="utf-8") as file:
            file.write(f"# {json.dumps(self.provenance)}\n")
            for_csv(self.to_dataframe()).to_csv(file)

    def __repr__(self):
        n, dim = self.embedding.shape
        return f"UnitEmbeddings({n} units, dim {dim}, {(self.window_count > 0).sum()} embedded)"


def read_array(file: zipfile.ZipFile, member: zipfile.ZipInfo, path) -> np.ndarray:
    """An array of an ``.npz``, whose header is believed no more than its file holds."""
    check_declared(f"{path}: {member.filename}", member.file_size, member.compress_size, ratio=ARRAYS_OF_NUMBERS)
    with file.open(member) as stream:
        shape, dtype = npy_header(stream)
        if dtype.hasobject or stream.tell() + math.prod(shape) * dtype.itemsize != member.file_size:
            raise ValueError(f"{member.filename} is not the array that it says")
    with file.open(member) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def join_embeddings(parts: list[UnitEmbeddings]) -> UnitEmbeddings:
    """Several parts of one population, one after another, with the provenance of the first."""
    names = ("unit_ids", "embedding", "window_count", "stability")
    known = (np.concatenate([getattr(part, name) for part in parts]) for name in names)
    counts = [part.spike_count for part in parts]
    return UnitEmbeddings(
        *known, parts[0].provenance, None if any(c is None for c in counts) else np.concatenate(counts)
    )
