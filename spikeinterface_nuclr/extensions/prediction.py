"""What nuclr_identity and nuclr_estimate share: a decoder or regressor that reads the analyzer's embeddings."""

import hashlib
import re
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
from spikeinterface.core import SortingAnalyzer

from ..errors import InputError, RecordingWarning
from ..io.untrusted import check_extension
from ..predictions import Prediction
from .base import RowsExtension, computed_extension, groups_of, named_file, rows_of_same_units

_NOT_DECODED = "the units were changed and could not be decoded again"
# Properties are files of their names, which a folder on Windows takes too.
_NO_FILE_NAME = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f]')
_METRICS = ("quality_metrics", "template_metrics", "spiketrain_metrics")


class PredictionExtension(RowsExtension):
    """An extension whose rows a decoder or regressor predicts from ``nuclr_embedding``.

    The result is recomputed after merges and splits, and removed when the embeddings are recomputed. Where the decoder
    cannot be loaded, a merge or a split does not fail: units whose spikes are unchanged keep their rows, the others get
    none, and the result is marked as stale.
    """

    depend_on = ["nuclr_embedding"]  # noqa: RUF012 (as the base class declares it)
    need_job_kwargs = False
    model_param, provenance_sha256 = "decoder", "decoder_sha256"
    shown: str  # attribute of the prediction that get_data gives as an array

    def get_prediction(self, *, warn: bool = True) -> Prediction:
        """The result as what the decoder gave, with a warning where it is stale."""
        raise NotImplementedError

    def predicted(self, analyzer: SortingAnalyzer, embeddings) -> Prediction:
        """What the decoder of the parameters reads from an analyzer's embeddings."""
        raise NotImplementedError

    def facts(self, prediction: Prediction | None) -> dict[str, np.ndarray]:
        """Data besides rows, provenance and target; None for a result without any row."""
        raise NotImplementedError

    def missing_rows(self, n: int) -> dict[str, np.ndarray]:
        """Rows of `n` units that could not be decoded."""
        raise NotImplementedError

    def computed(self, analyzer: SortingAnalyzer, **job_kwargs) -> dict:
        """Predictions for an analyzer's units, ours or one that was made of ours."""
        embedding = computed_extension(analyzer, "nuclr_embedding")
        if embedding is None:
            raise InputError(f"{self.extension_name} needs nuclr_embedding: compute it first")
        prediction = self.predicted(analyzer, embedding.get_embeddings(warn=False))
        provenance = {**prediction.provenance, "embedding_sha256": digest_of(embedding.data["embedding"])}
        if embedding.stale:
            provenance["stale"] = embedding.stale
        rows = {name: getattr(prediction, name) for name in self.rows}
        n = len(prediction.unit_ids)
        rows = {k: np.full(n, np.nan, dtype=np.float32) if v is None else v for k, v in rows.items()}
        target = np.array([prediction.target])
        return {**rows, **self.facts(prediction), "provenance": provenance, "target": target}

    def empty_rows(self, error: Exception) -> dict:
        """No prediction for any unit, and the reason as ``stale``."""
        reason = f"{_NOT_DECODED} ({error}): a merge of merging_mode='soft' keeps unchanged rows"
        warnings.warn(f"{self.extension_name}: {reason}", RecordingWarning, stacklevel=4)
        provenance = {"decoder": self.model_file, "decoder_sha256": self.model_sha256, "stale": reason}
        rows = self.missing_rows(len(self.sorting_analyzer.unit_ids))
        target = np.array([Path(self.model_file).stem])
        return {**rows, **self.facts(None), "provenance": provenance, "target": target}

    def unchanged_rows(self, analyzer: SortingAnalyzer, error: Exception) -> dict:
        """Our rows for units with the same spikes; the others have none. Marked as stale."""
        index = rows_of_same_units(self.sorting_analyzer, analyzer)
        reason = f"{_NOT_DECODED} ({error})"
        warnings.warn(f"{self.extension_name}: {reason}", RecordingWarning, stacklevel=4)
        rows, changed = self.rows_at(index), self.missing_rows(len(index))
        for name, values in rows.items():
            lost = (index < 0).reshape(-1, *[1] * (values.ndim - 1))
            rows[name] = np.where(lost, changed[name], values)
        return {**self.data, **rows, "provenance": {**self.data["provenance"], "stale": reason}}

    def _select_units_extension_data(self, unit_ids):
        index = self.sorting_analyzer.sorting.ids_to_indices(unit_ids)
        provenance = dict(self.data["provenance"])
        embedding = computed_extension(self.sorting_analyzer, "nuclr_embedding")
        if self.stale:
            provenance["stale"] = self.stale
        elif embedding is not None:
            provenance["embedding_sha256"] = digest_of(embedding.data["embedding"][index])
        return {**self.data, **self.rows_at(index), "provenance": provenance}

    def _get_data(self, outputs: Literal["dataframe", "numpy", "by_unit"] = "dataframe"):
        """As asked for: a frame with all columns; labels ("unknown" without one) or values as an array or a dict."""
        if outputs not in ("dataframe", "numpy", "by_unit"):
            raise InputError(f"outputs must be 'dataframe', 'numpy' or 'by_unit', not {outputs!r}")
        prediction = self.get_prediction()
        if outputs == "dataframe":
            return prediction.to_dataframe()
        values = getattr(prediction, self.shown)
        return values if outputs == "numpy" else dict(zip(prediction.unit_ids, values, strict=True))

    @property
    def target(self) -> str:
        """The predicted property."""
        return str(self.data["target"][0])

    @property
    def stale(self) -> str:
        """Why the predictions are not those of the analyzer's present units; empty where they are."""
        provenance = self.data["provenance"]
        embedding = None if self.analyzer_is_gone else computed_extension(self.sorting_analyzer, "nuclr_embedding")
        if provenance.get("stale") or embedding is None:
            return provenance.get("stale", "")
        if provenance["embedding_sha256"] != digest_of(embedding.data["embedding"]):
            return "the embeddings are not those that it was predicted from"
        return embedding.stale

    def warn_if_stale(self) -> None:
        """A RecordingWarning for whoever asked for the result."""
        if self.stale:
            message = f"{self.extension_name} is stale: {self.stale}; compute nuclr_embedding and it again"
            warnings.warn(message, RecordingWarning, stacklevel=3)

    def own_rows(self) -> dict[str, np.ndarray | None]:
        """Copies of the rows, because an analyzer and its copy in memory share arrays; None for one without values."""
        rows = {name: self.data[name].copy() for name in self.rows}
        optional = ("agreement", "spread")
        return {k: None if k in optional and np.isnan(v).all() else v for k, v in rows.items()}


def decoder_params(decoder, **params) -> dict:
    """Parameters that name a decoder or regressor by a bundled name, a path or an ``hf://`` name."""
    from ..decoding.storage import bundled_decoders

    if not isinstance(decoder, str | Path):
        raise InputError(
            f"decoder must be a name or a path, not {decoder!r}: one of {', '.join(bundled_decoders())}, or a file of "
            "nuclr decoder fit"
        )
    return {"decoder": named_file(decoder, bundled_decoders()), **params}


def property_name(target: str) -> str:
    """The sorting property of a predicted property."""
    return _NO_FILE_NAME.sub("_", f"nuclr_{target}")


def metrics_of(analyzer: SortingAnalyzer):
    """SpikeInterface's metrics of the units that are computed, as one frame."""
    import pandas as pd

    names = [name for name in _METRICS if analyzer.has_extension(name)]
    for name in names:
        check_extension(analyzer, name)
    frames = [analyzer.get_extension(name).get_data() for name in names]
    if not frames:
        raise InputError(f"the decoder also reads metrics: compute {', '.join(_METRICS)}, whichever hold them")
    return pd.concat(frames, axis=1).apply(pd.to_numeric, errors="coerce")


def places_of(analyzer: SortingAnalyzer) -> dict[str, np.ndarray]:
    """Positions of the units in µm, from the extension unit_locations, and their probes."""
    if not analyzer.has_extension("unit_locations"):
        raise InputError("the decoder averages over neighbouring units: compute unit_locations first")
    check_extension(analyzer, "unit_locations")
    locations = analyzer.get_extension("unit_locations").get_data()
    return {"positions": np.asarray(locations, dtype=float)[:, :2], "probes": groups_of(analyzer)}


def digest_of(embedding: np.ndarray) -> str:
    """Hash (hex) of the embeddings that a result was predicted from."""
    return hashlib.sha256(np.ascontiguousarray(embedding).tobytes()).hexdigest()
