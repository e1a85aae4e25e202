"""nuclr_identity: what a decoder reads from the embeddings, as an extension of SpikeInterface's SortingAnalyzer."""

import hashlib
import re
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
from spikeinterface.core import SortingAnalyzer
from spikeinterface.core.sortinganalyzer import register_result_extension

from ..errors import InputError, RecordingWarning
from ..identities import NO_EMBEDDING, UNKNOWN, Identities, label_of
from ..io.untrusted import check_extension
from .base import RowsExtension, computed_extension, computed_safely, file_now, kept_rows, named_file

_ROWS = ("best_label", "probability", "confidence", "reason", "novelty")
_UNDECODED = "the units were changed and could not be decoded again"
# Properties are files of their names, which a folder on Windows takes too.
_NO_FILE_NAME = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f]')
_METRICS = ("quality_metrics", "template_metrics", "spiketrain_metrics")


class ComputeNuCLRIdentity(RowsExtension):
    """Predict a property of every unit, such as its cell type or brain region, from its embedding.

    Needs ``nuclr_embedding``, of the model that the decoder was fitted with; for a decoder that was fitted with other
    features as well, SpikeInterface's metrics of these names. Identities are recomputed
    after merges and splits.

    Parameters
    ----------
    decoder : str or Path
        The name of a bundled decoder, the path of a ``.safetensors`` file that ``nuclr decoder fit`` wrote, or an
        ``hf://`` name.
    target_error : float, default: 0.1
        Largest share of wrong labels among the units that get one, in animals like those that the decoder was fitted
        to: above 0, at most 1. With 1 it abstains only from novel units and those without an embedding.
    publish : bool, default: False
        Set the sorting properties ``nuclr_<target>`` (the label, "unknown" where it abstains) and
        ``nuclr_<target>_probability``, which spikeinterface-gui and NWB exporters show.
    decoder_sha256 : str, optional
        Hash that the decoder must have. Filled in when computed.

    Notes
    -----
    The data are ``best_label`` (n_units,), the most probable class also where it abstains, "" without an embedding;
    ``reason`` (n_units,) to abstain, "" where it does not; ``classes`` (k,); ``probability`` (n_units, k),
    ``confidence`` (n_units,), ``novelty`` (n_units,); and the dict ``provenance``.
    """

    extension_name = "nuclr_identity"
    depend_on = ["nuclr_embedding"]  # noqa: RUF012 (as the base class declares it)
    need_job_kwargs = False
    rows = _ROWS

    def _set_params(self, decoder=None, target_error=0.1, publish=False, decoder_sha256=None):
        from ..decoding.storage import bundled_decoders

        if not isinstance(decoder, str | Path):
            raise InputError(
                f"decoder must be a name or a path, not {decoder!r}: one of {', '.join(bundled_decoders())}, or a file "
                "of nuclr decoder fit"
            )
        self._recorded = decoder_sha256 is not None
        decoder = named_file(decoder, bundled_decoders())
        return {
            "decoder": decoder,
            "target_error": target_error,
            "publish": publish,
            "decoder_sha256": decoder_sha256 or _load(decoder).sha256,
        }

    def empty_rows(self, error: Exception) -> dict:
        """No label for any unit, and the reason as ``stale``."""
        n, reason = len(self.sorting_analyzer.unit_ids), f"{_UNDECODED} ({error})"
        warnings.warn(f"nuclr_identity: {reason}", RecordingWarning, stacklevel=4)
        missing = np.full(n, np.nan, dtype=np.float32)
        columns = np.full(n, ""), missing[:, None].copy(), missing, np.full(n, NO_EMBEDDING), missing.copy()
        provenance = {"decoder": str(self.params["decoder"]), "stale": reason}
        return {
            **dict(zip(_ROWS, columns, strict=True)), "classes": np.array([UNKNOWN]), "provenance": provenance,
            "target": np.array([Path(self.params["decoder"]).stem]),
        }  # fmt: skip

    def computed(self, analyzer: SortingAnalyzer, **job_kwargs) -> dict:
        """Identities of an analyzer's units, whether or not it is ours."""
        embedding = computed_extension(analyzer, "nuclr_embedding")
        if embedding is None:
            raise InputError("nuclr_identity needs nuclr_embedding: compute it first")
        decoder = _load(file_now(self.params["decoder"], self.sorting_analyzer), self.params["decoder_sha256"])
        features = _metrics(analyzer) if decoder.columns else None
        target_error = self.params["target_error"]
        found = decoder.predict(embedding.get_embeddings(warn=False), features, target_error=target_error)
        provenance = {**found.provenance, "embedding_sha256": _digest(embedding.data["embedding"])}
        if embedding.stale:
            provenance["stale"] = embedding.stale
        rows = {name: getattr(found, name) for name in _ROWS}
        return {**rows, "classes": found.classes, "provenance": provenance, "target": np.array([found.target])}

    def _select_units_extension_data(self, unit_ids):
        index = self.sorting_analyzer.sorting.ids_to_indices(unit_ids)
        provenance = dict(self.data["provenance"])
        embedding = computed_extension(self.sorting_analyzer, "nuclr_embedding")
        if self.stale:
            provenance["stale"] = self.stale
        elif embedding is not None:
            provenance["embedding_sha256"] = _digest(embedding.data["embedding"][index])
        return {**self.data, **self.taken_rows(index), "provenance": provenance}

    def unchanged_rows(self, analyzer: SortingAnalyzer, error: Exception) -> dict:
        """Our rows for units with the same spikes; the others have no label. Marked as stale."""
        kept = kept_rows(self.sorting_analyzer, analyzer)
        reason = f"{_UNDECODED} ({error})"
        warnings.warn(f"nuclr_identity: {reason}", RecordingWarning, stacklevel=4)
        data = {**self.data, **self.taken_rows(kept), "provenance": {**self.data["provenance"], "stale": reason}}
        data["reason"] = np.where(kept < 0, NO_EMBEDDING, data["reason"])
        return data

    @property
    def stale(self) -> str:
        """Why the identities are not those of the analyzer's present units; empty where they are."""
        provenance = self.data["provenance"]
        embedding = computed_extension(self.sorting_analyzer, "nuclr_embedding")
        if provenance.get("stale") or embedding is None:
            return provenance.get("stale", "")
        if provenance["embedding_sha256"] != _digest(embedding.data["embedding"]):
            return "the embeddings are others than it was predicted from"
        return embedding.stale

    def get_identities(self, *, warn: bool = True) -> Identities:
        """The result as the Identities that `Decoder.predict` gives, with a warning where it is stale."""
        if warn and self.stale:
            message = f"nuclr_identity is stale: {self.stale}; compute nuclr_embedding and it again"
            warnings.warn(message, RecordingWarning, stacklevel=2)
        # Copies: an analyzer and its copy in memory share their arrays.
        return Identities(
            target=str(self.data["target"][0]),
            unit_ids=self.sorting_analyzer.unit_ids,
            classes=self.data["classes"].copy(),
            **{name: self.data[name].copy() for name in _ROWS},
            provenance=dict(self.data["provenance"]),
        )

    def _get_data(self, outputs: Literal["dataframe", "numpy", "by_unit"] = "dataframe"):
        """As asked for: a frame with all columns, or labels, "unknown" where it abstains, as an array or a dict."""
        if outputs not in ("dataframe", "numpy", "by_unit"):
            raise InputError(f"outputs must be 'dataframe', 'numpy' or 'by_unit', not {outputs!r}")
        found = self.get_identities()
        if outputs == "dataframe":
            return found.to_dataframe()
        if outputs == "numpy":
            return found.label
        return dict(zip(found.unit_ids, found.label, strict=True))

    def published(self, data: dict) -> dict[str, np.ndarray]:
        """``nuclr_<target>`` and ``nuclr_<target>_probability``."""
        key = _NO_FILE_NAME.sub("_", f"nuclr_{data['target'][0]}")
        return {key: label_of(data["best_label"], data["reason"]), f"{key}_probability": data["confidence"]}

    def _refresh_properties(self, analyzer: SortingAnalyzer, data: dict, save: bool = True) -> None:
        if self.params["publish"]:
            self._set_properties(analyzer, self.published(data), save)
        else:
            super()._refresh_properties(analyzer, data, save)


register_result_extension(ComputeNuCLRIdentity)


def computed_identity(analyzer: SortingAnalyzer) -> ComputeNuCLRIdentity | None:
    """The analyzer's nuclr_identity; None where there is none, or one that was not computed to its end."""
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
        As SpikeInterface's; there is nothing more to say.
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
        The decoder cannot be had.

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


def _load(decoder: str, sha256: str | None = None):
    from ..decoding.decoder import Decoder

    return Decoder.load(decoder, sha256=sha256)
