"""UnitEmbeddings: one embedding per unit, saved to and loaded from files."""

import dataclasses
import json
import math
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import InputError, reading
from .files import ARRAYS_OF_NUMBERS, check_declared, check_format, npy_header, written_whole
from .provenance import Provenance
from .text import for_csv

FORMATS = (".npz", ".csv")
# Arrays with one number per unit.
_COLUMNS = ("num_windows", "split_half_similarity", "num_spikes", "num_frames")
_OPTIONAL = ("num_spikes", "num_frames")


@dataclass(frozen=True, eq=False)
class UnitEmbeddings:
    """One embedding per unit, with provenance.

    Attributes
    ----------
    unit_ids : array of int or str, shape (n_units,)
    embedding : float32, shape (n_units, dim)
        Mean over the unit's windows; NaN for units without a window.
    num_windows : int64, shape (n_units,)
        Number of windows averaged.
    split_half_similarity : float32, shape (n_units,)
        Cosine similarity between the means over the unit's odd and even disjoint windows; NaN with fewer than two.
    provenance : Provenance
        Checkpoint, parameters, versions and fingerprints. A dict, as from `Provenance.to_dict`, is converted.
    num_spikes, num_frames : int64, shape (n_units,), optional
        Number of spikes of each unit, or frames of its trace, when it was embedded. Used to detect units that have
        changed since.

    Raises
    ------
    InputError
        A ValueError that names the array with a wrong shape or dtype.

    Examples
    --------
    >>> from spikeinterface_nuclr import UnitEmbeddings, embed, simulate_population
    >>> path = embed(simulate_population(10, 30.0), progress=False).save("mouse.npz")
    >>> embeddings = UnitEmbeddings.load(path)
    >>> embeddings
    UnitEmbeddings(10 units, dim 384, 10 embedded)
    >>> embeddings.to_dataframe().shape
    (10, 387)
    """

    unit_ids: np.ndarray
    embedding: np.ndarray
    num_windows: np.ndarray
    split_half_similarity: np.ndarray
    provenance: Provenance
    num_spikes: np.ndarray | None = None
    num_frames: np.ndarray | None = None

    def __post_init__(self):
        if not isinstance(self.provenance, Provenance):
            object.__setattr__(self, "provenance", Provenance.from_dict(self.provenance))
        n = len(np.atleast_1d(np.asarray(self.unit_ids)))
        for name, shape in (("unit_ids", "n"), ("embedding", "n, dim"), *((name, "n") for name in _COLUMNS)):
            values = getattr(self, name)
            if values is None and name in _OPTIONAL:
                continue
            values = np.asarray(values)
            if name == "unit_ids" and values.dtype.kind not in "iuU":
                values = values.astype(str)
            if values.ndim != len(shape.split(",")) or len(values) != n:
                raise InputError(f"{name} has shape {values.shape}, not ({shape}) of {n} units")
            if name != "unit_ids" and values.dtype.kind not in "iuf":
                raise InputError(f"{name} has dtype {values.dtype}, but must hold numbers")
            object.__setattr__(self, name, values)

    def select(self, units) -> "UnitEmbeddings":
        """The rows at these positions (or where a mask is True)."""
        index = np.arange(len(self.unit_ids))[np.asarray(units)]
        return dataclasses.replace(self, **{name: values[index] for name, values in self._arrays().items()})

    def to_dataframe(self):
        """A pandas DataFrame with one row per unit and the columns ``num_windows``, …, ``embedding_0``, …."""
        import pandas as pd

        columns = {name: values for name, values in self._arrays().items() if name in _COLUMNS}
        columns |= {f"embedding_{k}": column for k, column in enumerate(self.embedding.T)}
        return pd.DataFrame(columns, index=pd.Index(self.unit_ids, name="unit_id"))

    def save(self, path, *, overwrite: bool = False) -> Path:
        """Write ``.npz`` (read by `load`) or ``.csv``, with the provenance in ``….provenance.json`` beside it."""
        path = check_format(path, *FORMATS)
        if path.suffix == ".npz":
            with written_whole(path, overwrite=overwrite) as temporary:
                self._write_npz(temporary)
            return path
        _, beside = files_of(path)
        # The table appears first, and both only when they are complete.
        with (
            written_whole(beside, overwrite=overwrite) as provenance,
            written_whole(path, overwrite=overwrite) as temporary,
        ):
            provenance.write_text(json.dumps(self.provenance.to_dict(), indent=1), encoding="utf-8")
            for_csv(self.to_dataframe()).to_csv(temporary)
        return path

    @classmethod
    def load(cls, path) -> "UnitEmbeddings":
        """Read an ``.npz`` file written by `save`; InputError if it is damaged or another kind of file."""
        if not os.path.isfile(path):  # reading a pipe would block
            raise InputError(f"{path}: no such file")
        with reading(path, ".npz file of embeddings", "embed again"):
            with zipfile.ZipFile(path) as file:
                members = {info.filename.removesuffix(".npy"): info for info in file.infolist()}
                names = ["unit_ids", "embedding", "num_windows", "split_half_similarity", "provenance"]
                names += [name for name in _OPTIONAL if name in members]
                values = {name: read_array(file, members[name], path) for name in names}
            values["provenance"] = json.loads(str(values["provenance"]))
        try:
            return cls(**values)
        except InputError as error:
            raise InputError(f"{path}: {error}: embed again") from None

    def _write_npz(self, path: Path):
        np.savez(path, provenance=np.array(json.dumps(self.provenance.to_dict())), **self._arrays())

    def _arrays(self) -> dict[str, np.ndarray]:
        """The arrays with one row per unit, by name."""
        names = ("unit_ids", "embedding", *_COLUMNS)
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def __repr__(self):
        n, dim = self.embedding.shape
        return f"UnitEmbeddings({n} units, dim {dim}, {(self.num_windows > 0).sum()} embedded)"


def files_of(path: Path) -> list[Path]:
    """The files that `UnitEmbeddings.save` writes: a table has its provenance beside it."""
    return [path, path.with_suffix(".provenance.json")] if path.suffix == ".csv" else [path]


def stored_provenance(path: Path) -> Provenance | None:
    """The provenance of what `UnitEmbeddings.save` wrote to a path; None if there is none, or it cannot be read."""
    if path.suffix == ".npz":
        embeddings = stored_embeddings(path)
        return None if embeddings is None else embeddings.provenance
    if not all(file.is_file() for file in files_of(path)):
        return None
    try:
        return Provenance.from_dict(json.loads(files_of(path)[1].read_text(encoding="utf-8")))
    except (InputError, ValueError):
        return None


def stored_embeddings(path: Path) -> UnitEmbeddings | None:
    """The embeddings in an ``.npz`` file; None if it does not exist or cannot be read."""
    try:
        return UnitEmbeddings.load(path)
    except InputError:
        return None


def read_array(file: zipfile.ZipFile, member: zipfile.ZipInfo, path) -> np.ndarray:
    """Read an array of an ``.npz`` file after checking that its header matches the size of its data."""
    check_declared(f"{path}: {member.filename}", member.file_size, member.compress_size, ratio=ARRAYS_OF_NUMBERS)
    with file.open(member) as stream:
        shape, dtype = npy_header(stream)
        if dtype.hasobject or stream.tell() + math.prod(shape) * dtype.itemsize != member.file_size:
            raise ValueError(f"the header of {member.filename} does not match its data")
    with file.open(member) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def join_embeddings(parts: list[UnitEmbeddings]) -> UnitEmbeddings:
    """Concatenate the embeddings of parts of one population, with the provenance of the first part."""
    by_part = [part._arrays() for part in parts]
    shared = [name for name in by_part[0] if all(name in arrays for arrays in by_part)]
    columns = {name: np.concatenate([arrays[name] for arrays in by_part]) for name in shared}
    return UnitEmbeddings(**columns, provenance=parts[0].provenance)
