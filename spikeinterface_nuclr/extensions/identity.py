"""nuclr_identity: what a decoder reads from the embeddings, as an extension of SpikeInterface's SortingAnalyzer."""

from pathlib import Path

import numpy as np
from spikeinterface.core import SortingAnalyzer

from ..io.spikeinterface_api import register_result_extension
from ..predictions import NO_EMBEDDING, UNKNOWN, Identities, label_of
from .base import computed_extension, computed_safely
from .prediction import PredictionExtension, decoder_params, metrics_of, places_of, property_name


class ComputeNuCLRIdentity(PredictionExtension):
    """Predict a property of every unit, such as its cell type or brain region, from its embedding.

    Needs ``nuclr_embedding``, of the model that the decoder was fitted with. For a decoder that was fitted with other
    features as well, it needs SpikeInterface's metrics of these names; for one that averages over neighbouring units,
    ``unit_locations``. Identities are recomputed after merges and splits, and removed when the embeddings are
    recomputed.

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
    shown = "label"
    rows = ("best_label", "probability", "confidence", "reason", "novelty", "agreement")

    def _set_params(self, decoder=None, target_error=0.1, publish=False, decoder_sha256=None):
        return decoder_params(decoder, target_error=target_error, publish=publish, decoder_sha256=decoder_sha256)

    def predicted(self, analyzer: SortingAnalyzer, embeddings) -> Identities:
        """What the decoder reads from an analyzer's embeddings."""
        from ..decoding.decoder import Decoder

        decoder = Decoder.load(self.model_file, sha256=self.model_sha256)
        table = metrics_of(analyzer) if decoder.columns else None
        places = places_of(analyzer) if decoder.neighbours else {}
        return decoder.predict(embeddings, table, target_error=self.params["target_error"], **places)

    def facts(self, prediction: Identities | None) -> dict[str, np.ndarray]:
        """The names of the classes."""
        return {"classes": np.array([UNKNOWN]) if prediction is None else prediction.classes}

    def missing_rows(self, n: int) -> dict[str, np.ndarray]:
        """No label for any unit."""
        missing = np.full(n, np.nan, dtype=np.float32)
        numbers = {name: missing.copy() for name in ("confidence", "novelty", "agreement")}
        return {
            "best_label": np.full(n, ""), "reason": np.full(n, NO_EMBEDDING), "probability": missing[:, None].copy(),
            **numbers,
        }  # fmt: skip

    def get_identities(self, *, warn: bool = True) -> Identities:
        """The result as the Identities that `Decoder.predict` gives, with a warning where it is stale."""
        if warn:
            self.warn_if_stale()
        return Identities(
            target=self.target,
            unit_ids=self.unit_ids,
            classes=self.data["classes"].copy(),
            **self.own_rows(),
            provenance=dict(self.data["provenance"]),
        )

    get_prediction = get_identities

    def published(self, data: dict) -> dict[str, np.ndarray]:
        """``nuclr_<target>`` and ``nuclr_<target>_probability``; with several members ``nuclr_<target>_agreement``."""
        key = property_name(data["target"][0])
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
