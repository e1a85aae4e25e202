"""UnitEmbeddings: what embedding gives, and its files."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from .errors import InputError
from .files import check_format, written_whole

FORMATS = (".npz", ".csv")


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
        Cosine between the means over the unit's odd and even windows; NaN with fewer than two windows.
    provenance : dict
        Checkpoint, parameters, versions and the population's fingerprint. Plain values for JSON.
    """

    unit_ids: np.ndarray
    embedding: np.ndarray
    window_count: np.ndarray
    stability: np.ndarray
    provenance: dict

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
                values = {name: file[name] for name in ("unit_ids", "embedding", "window_count", "stability")}
                return cls(**values, provenance=json.loads(str(file["provenance"])))
        except (OSError, KeyError, ValueError, TypeError, EOFError, BadZipFile) as error:
            raise InputError(f"{path}: not an .npz file of embeddings ({error})") from None

    def _write_npz(self, path: Path):
        np.savez(
            path,
            unit_ids=self.unit_ids,
            embedding=self.embedding,
            window_count=self.window_count,
            stability=self.stability,
            provenance=np.array(json.dumps(self.provenance)),
        )

    def _write_csv(self, path: Path):
        with open(path, "w", newline="", encoding="utf-8") as file:
            file.write(f"# {json.dumps(self.provenance)}\n")
            writer = csv.writer(file)
            writer.writerow(["unit_id", "window_count", "stability", *range(self.embedding.shape[1])])
            rows = zip(self.unit_ids, self.window_count, self.stability, self.embedding, strict=True)
            writer.writerows([unit, count, stable, *row] for unit, count, stable, row in rows)

    def __repr__(self):
        n, dim = self.embedding.shape
        return f"UnitEmbeddings({n} units, dim {dim}, {(self.window_count > 0).sum()} embedded)"
