"""BaselineFeatures: the features of a recording's baselines in a file, so that they are computed once."""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import reading
from ..files import check_format, written_whole
from ..population import Population
from ..unit_embeddings import read_array
from .baselines import BASELINES, FEATURES_VERSION, baseline_features


@dataclass(frozen=True, eq=False)
class BaselineFeatures:
    """Features of every baseline of one population.

    Attributes
    ----------
    features : dict of str to float array, shape (n_units, k)
        As `baseline_features` gives them.
    provenance : dict
        What they were computed from, as of `provenance_of`.
    """

    features: dict[str, np.ndarray]
    provenance: dict

    @classmethod
    def compute(cls, population: Population) -> "BaselineFeatures":
        """The features of a population."""
        return cls(baseline_features(population), cls.provenance_of(population))

    @staticmethod
    def provenance_of(population: Population) -> dict:
        """What decides the features of a population: plain values for JSON."""
        return {
            "features_version": FEATURES_VERSION,
            "baselines": list(BASELINES[population.signal]),
            "population_fingerprint": population.fingerprint(),
            "context_fingerprint": population.context_fingerprint(),
        }

    def save(self, path, *, overwrite: bool = False) -> Path:
        """Write ``.npz``, to be read by `load`."""
        path = check_format(path, ".npz")
        about = json.dumps({"names": list(self.features), **self.provenance})
        arrays = {f"features_{k}": rows for k, rows in enumerate(self.features.values())}
        with written_whole(path, overwrite=overwrite) as temporary:
            np.savez(temporary, about=np.array(about), **arrays)
        return path

    @classmethod
    def load(cls, path) -> "BaselineFeatures":
        """Read what `save` wrote; InputError where the file is damaged, or none of these."""
        with reading(path, ".npz file of features", "compute them again"), zipfile.ZipFile(path) as file:
            provenance = json.loads(str(read_array(file, file.getinfo("about.npy"), path)))
            names = provenance.pop("names")
            members = [file.getinfo(f"features_{k}.npy") for k in range(len(names))]
            features = {name: read_array(file, one, path) for name, one in zip(names, members, strict=True)}
        return cls(features, provenance)
