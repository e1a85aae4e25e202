"""nuclr_identity: what a decoder reads from the embeddings, as an extension of SpikeInterface's SortingAnalyzer."""

import hashlib
import re
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
from spikeinterface.core import SortingAnalyzer

from ..errors import InputError, RecordingWarning
from ..identities import NO_EMBEDDING, UNKNOWN, Identities, label_of
from ..io.spikeinterface_api import register_result_extension
from ..io.untrusted import check_extension
from .base import RowsExtension, computed_extension, computed_safely, named_file, rows_of_same_units

_ROWS = ("best_label", "probability", "confidence", "reason", "novelty", "agreement")
_NOT_DECODED = "the units were changed and could not be decoded again"
# Properties are files of their names, which a folder on Windows takes too.
_NO_FILE_NAME = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f]')
_METRICS = ("quality_metrics", "template_metrics", "spiketrain_metrics")


class ComputeNuCLRIdentity(RowsExtension):
    """Predict a property of every unit, such as its cell type or brain region, from its embedding.

    Needs ``nuclr_embedding``, of the model that the decoder was fitted with; for a decoder that was fitted with other
    features as well, SpikeInterface's metrics of these names. Identities are recomputed after merges and splits, and
    removed when the embeddings are recomputed.

    Parameters
    ----------
    decoder : str or Path
        The name of a bundled decoder, the path of a ``.safetensors`` file that ``nuclr decoder fit`` wrote, or an
        ``hf://`` name.
    target_error : float, default: 0.1
        Largest share of wrong labels among the units that get one, in animals like those that the decoder was fitted
        to: above 0, at most 1. With 1 it abstains only from novel units and those without an embedding.
    publish : bool, default: False
        Set the sorting properties ``nuclr_<target>`` (the label, "unknown" where it abstains),
        ``nuclr_<target>_probability`` and, for a decoder with several members, ``nuclr_<target>_agreement``, which
        spikeinterface-gui and NWB exporters show.
    decoder_sha256 : str, optional
        Hash that the decoder must have. Filled in when computed.

    Notes
    -----
    Where the decoder cannot be loaded, a merge or a split does not fail. Units whose spikes are unchanged keep their
    rows, the others get "unknown", and the result is marked as stale, with a RecordingWarning. A merge with
    ``merging_mode="hard"`` has access to the parameters of the previous result only, not to its rows: then every unit
    is "unknown". Make the decoder available, or merge with ``merging_mode="soft"``.

    The data are ``best_label`` (n_units,), the most probable class also where it abstains, "" without an embedding;
    ``reason`` (n_units,) to abstain, "" where it does not; ``classes`` (k,); ``probability`` (n_units, k),
    ``confidence`` (n_units,), ``novelty`` (n_units,), ``agreement`` (n_units,) of the members of an ensemble, NaN
    without one; and the dict ``provenance``.
    """

    extension_name = "nuclr_identity"
    depend_on = ["nuclr_embedding"]  # noqa: RUF012 (as the base class declares it)
    need_job_kwargs = False
    rows = _ROWS
    model_param, provenance_sha256 = "decoder", "decoder_sha256"

    def _set_params(self, decoder=None, target_error=0.1, publish=False, decoder_sha256=None):
        from ..decoding.storage import bundled_decoders

        if not isinstance(decoder, str | Path):
            raise InputError(
                f"decoder must be a name or a path, not {decoder!r}: one of {', '.join(bundled_decoders())}, or a file "
                "of nuclr decoder fit"
            )
        return {
            "decoder": named_file(decoder, bundled_decoders()),
            "target_error": target_error,
            "publish": publish,
            "decoder_sha256": decoder_sha256,
        }

    def empty_rows(self, error: Exception) -> dict:
        """No label for any unit, and the reason as ``stale``."""
        n = len(self.sorting_analyzer.unit_ids)
        reason = f"{_NOT_DECODED} ({error}): a merge of merging_mode='soft' keeps unchanged rows"
        warnings.warn(f"nuclr_identity: {reason}", RecordingWarning, stacklevel=4)
        missing = np.full(n, np.nan, dtype=np.float32)
        columns = (
            np.full(n, ""),
            missing[:, None].copy(),
            missing,
            np.full(n, NO_EMBEDDING),
            missing.copy(),
            missing.copy(),
        )
        provenance = {"decoder": self.model_file, "decoder_sha256": self.model_sha256, "stale": reason}
        return {
            **dict(zip(_ROWS, columns, strict=True)), "classes": np.array([UNKNOWN]), "provenance": provenance,
            "target": np.array([Path(self.model_file).stem]),
        }  # fmt: skip

    def computed(self, analyzer: SortingAnalyzer, **job_kwargs) -> dict:
        """Identities of an analyzer's units, ours or one that was made of ours."""
        from ..decoding.decoder import Decoder

        embedding = computed_extension(analyzer, "nuclr_embedding")
        if embedding is None:
            raise InputError("nuclr_identity needs nuclr_embedding: compute it first")
        decoder = Decoder.load(self.model_file, sha256=self.model_sha256)
        features = _metrics(analyzer) if decoder.columns else None
        target_error = self.params["target_error"]
        identities = decoder.predict(embedding.get_embeddings(warn=False), features, target_error=target_error)
        provenance = {**identities.provenance, "embedding_sha256": _digest(embedding.data["embedding"])}
        if embedding.stale:
            provenance["stale"] = embedding.stale
        rows = {name: getattr(identities, name) for name in _ROWS}
        if rows["agreement"] is None:
            rows["agreement"] = np.full(len(identities.unit_ids), np.nan, dtype=np.float32)
        target = np.array([identities.target])
        return {**rows, "classes": identities.classes, "provenance": provenance, "target": target}

    def _select_units_extension_data(self, unit_ids):
        index = self.sorting_analyzer.sorting.ids_to_indices(unit_ids)
        provenance = dict(self.data["provenance"])
        embedding = computed_extension(self.sorting_analyzer, "nuclr_embedding")
        if self.stale:
            provenance["stale"] = self.stale
        elif embedding is not None:
            provenance["embedding_sha256"] = _digest(embedding.data["embedding"][index])
        return {**self.data, **self.rows_at(index), "provenance": provenance}

    def unchanged_rows(self, analyzer: SortingAnalyzer, error: Exception) -> dict:
        """Our rows for units with the same spikes; the others have no label. Marked as stale."""
        rows = rows_of_same_units(self.sorting_analyzer, analyzer)
        reason = f"{_NOT_DECODED} ({error})"
        warnings.warn(f"nuclr_identity: {reason}", RecordingWarning, stacklevel=4)
        data = {**self.data, **self.rows_at(rows), "provenance": {**self.data["provenance"], "stale": reason}}
        data["reason"] = np.where(rows < 0, NO_EMBEDDING, data["reason"])
        return data

    @property
    def stale(self) -> str:
        """Why the identities are not those of the analyzer's present units; empty where they are."""
        provenance = self.data["provenance"]
        embedding = computed_extension(self.sorting_analyzer, "nuclr_embedding")
        if provenance.get("stale") or embedding is None:
            return provenance.get("stale", "")
        if provenance["embedding_sha256"] != _digest(embedding.data["embedding"]):
            return "the embeddings are not those that it was predicted from"
        return embedding.stale

    def get_identities(self, *, warn: bool = True) -> Identities:
        """The result as the Identities that `Decoder.predict` gives, with a warning where it is stale."""
        if warn and self.stale:
            message = f"nuclr_identity is stale: {self.stale}; compute nuclr_embedding and it again"
            warnings.warn(message, RecordingWarning, stacklevel=2)
        # Copies: an analyzer and its copy in memory share their arrays.
        rows = {name: self.data[name].copy() for name in _ROWS}
        if np.isnan(rows["agreement"]).all():
            rows["agreement"] = None
        return Identities(
            target=str(self.data["target"][0]),
            unit_ids=self.sorting_analyzer.unit_ids,
            classes=self.data["classes"].copy(),
            **rows,
            provenance=dict(self.data["provenance"]),
        )

    def _get_data(self, outputs: Literal["dataframe", "numpy", "by_unit"] = "dataframe"):
        """As asked for: a frame with all columns, or labels, "unknown" where it abstains, as an array or a dict."""
        if outputs not in ("dataframe", "numpy", "by_unit"):
            raise InputError(f"outputs must be 'dataframe', 'numpy' or 'by_unit', not {outputs!r}")
        identities = self.get_identities()
        if outputs == "dataframe":
            return identities.to_dataframe()
        if outputs == "numpy":
            return identities.label
        return dict(zip(identities.unit_ids, identities.label, strict=True))

    def published(self, data: dict) -> dict[str, np.ndarray]:
        """``nuclr_<target>`` and ``nuclr_<target>_probability``; with several members ``nuclr_<target>_agreement``."""
        key = _NO_FILE_NAME.sub("_", f"nuclr_{data['target'][0]}")
        values = {key: label_of(data["best_label"], data["reason"]), f"{key}_probability": data["confidence"]}
        agreement = f"{key}_agreement"
        # NaN replaces that of an earlier decoder, which may have had several members.
        if not np.isnan(data["agreement"]).all() or agreement in self.sorting_analyzer.get_sorting_property_keys():
            values[agreement] = data["agreement"]
        return values


register_result_extension(ComputeNuCLRIdentity)


def computed_identity(analyzer: SortingAnalyzer) -> ComputeNuCLRIdentity | None:
    """The analyzer's nuclr_identity; None where there is none, or an incomplete one."""
    return computed_extension(analyzer, "nuclr_identity")


def compute_nuclr_identity(
    analyzer: SortingAnalyzer, decoder: str | Path, *, save: bool = True, verbose: bool = False, **kwargs
) -> ComputeNuCLRIdentity:
    """Like ``analyzer.compute("nuclr_identity", decoder=…)``, but keeps the old result if the computation fails.

    Parameters
    ----------
    analyzer : SortingAnalyzer
        With ``nuclr_embedding``.
    decoder : str or Path
        As of `ComputeNuCLRIdentity`.
    save : bool, default: True
        Save with an analyzer on disk, unless it is read-only.
    verbose : bool, default: False
        Accepted as by ``analyzer.compute``; without effect.
    **kwargs
        Further parameters of `ComputeNuCLRIdentity`.

    Returns
    -------
    ComputeNuCLRIdentity
        The extension: ``.get_data()`` gives a table.

    Raises
    ------
    InputError
        There are no embeddings, or they are of another model than the decoder's.
    CheckpointError
        The decoder cannot be loaded.

    Examples
    --------
    >>> from spikeinterface_nuclr import compute_nuclr_embedding, compute_nuclr_identity
    >>> from spikeinterface_nuclr.simulation import simulate_analyzer
    >>> analyzer = simulate_analyzer(10, 30.0, seed=500)
    >>> _ = compute_nuclr_embedding(analyzer, progress_bar=False)
    >>> identity = compute_nuclr_identity(analyzer, "simulated-cell-type")
    >>> identity.get_identities().target
    'cell_type'
    """
    return computed_safely(ComputeNuCLRIdentity, analyzer, save, {"decoder": decoder, **kwargs})


def _metrics(analyzer: SortingAnalyzer):
    """SpikeInterface's metrics of the units that are computed, as one frame."""
    import pandas as pd

    names = [name for name in _METRICS if analyzer.has_extension(name)]
    for name in names:
        check_extension(analyzer, name)
    frames = [analyzer.get_extension(name).get_data() for name in names]
    if not frames:
        raise InputError(f"the decoder also reads metrics: compute {', '.join(_METRICS)}, whichever hold them")
    return pd.concat(frames, axis=1).apply(pd.to_numeric, errors="coerce")


def _digest(embedding: np.ndarray) -> str:
    """Hash (hex) of the embeddings that identities were predicted from."""
    return hashlib.sha256(np.ascontiguousarray(embedding).tobytes()).hexdigest()
