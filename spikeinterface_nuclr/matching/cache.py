"""A folder of arrays that were computed, so that a run that was stopped goes on from there."""

import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files import written_whole
from ..unit_embeddings import read_array

# Raise it when what is kept changes, so that it is computed again.
_VERSION = 7
_DIGEST = "digest"


@dataclass(frozen=True)
class Cache:
    """Keeps arrays in a folder, or nothing if there is no folder."""

    folder: Path | None

    @classmethod
    def of(cls, folder) -> "Cache":
        """The cache in a folder, which is created; InputError if it cannot be. None: no folder."""
        if folder is None:
            return cls(None)
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot be created ({error.strerror}): name another folder (cache=)") from None
        return cls(folder)

    def arrays(self, kind: str, key, compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The arrays of this kind and key: kept ones, or computed ones, which are then kept.

        Parameters
        ----------
        kind : str
            First part of the name of the file.
        key
            All that decides the arrays, as values for JSON.
        compute : callable
        """
        if self.folder is None:
            return compute()
        about = json.dumps([_VERSION, kind, key])
        digest = hashlib.sha256(about.encode()).hexdigest()
        path = self.folder / f"{kind}-{digest[:20]}.npz"
        kept = _read(path)
        # Only what was written here, for this key, is read.
        if kept is not None and str(kept.pop(_DIGEST, "")) == digest:
            return kept
        arrays = compute()
        with written_whole(path, overwrite=True) as temporary:
            np.savez(temporary, **arrays, **{_DIGEST: np.array(digest)})
        return arrays


def _read(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays in a file; None if there is none, or it cannot be read, so that they are computed again."""
    if not path.is_file():
        return None
    try:
        with zipfile.ZipFile(path) as file:
            return {info.filename.removesuffix(".npy"): read_array(file, info, path) for info in file.infolist()}
    except Exception:
        return None
