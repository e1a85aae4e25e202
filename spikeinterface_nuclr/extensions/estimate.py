"""nuclr_estimate: a number that a regressor reads from the embeddings, as an extension of the SortingAnalyzer."""

from pathlib import Path

import numpy as np
from spikeinterface.core import SortingAnalyzer

from ..io.spikeinterface_api import register_result_extension
from ..predictions import Estimates
from .base import computed_extension, computed_safely
from .prediction import PredictionExtension, decoder_params, metrics_of, property_name


class ComputeNuCLREstimate(PredictionExtension):
    """Predict a number for every unit, such as its depth, from its embedding, with a prediction interval.

    Needs ``nuclr_embedding``, of the model that the regressor was fitted with; for a regressor that was fitted with
    other features as well, SpikeInterface's metrics of these names. Estimates are recomputed after merges and splits,
    and removed when the embeddings are recomputed.

    Parameters
    ----------
    decoder : str or Path
        The path of a ``.safetensors`` file that ``nuclr decoder fit --value`` or `Regressor.save` wrote, or an
        ``hf://`` name.
    coverage : float, default: 0.9
        Fraction of units whose interval contains the true value, in animals like those that the regressor was fitted
        to: between 0 and 1.
    publish : bool, default: False
        Set the sorting properties ``nuclr_<target>``, ``nuclr_<target>_low`` and ``nuclr_<target>_high``, which
        spikeinterface-gui and NWB exporters show.
    decoder_sha256 : str, optional
        Hash that the regressor must have. Filled in when computed.

    Notes
    -----
    Where the regressor cannot be loaded, a merge or a split does not fail, as for ``nuclr_identity``: the changed units
    get NaN, and the result is marked as stale.

    The data are ``value``, ``low``, ``high`` and ``spread``, each (n_units,), NaN without an embedding; ``coverage``
    (1,); and the dict ``provenance``. ``spread`` is the standard deviation over the members of an ensemble, NaN without
    one.
    """

    extension_name = "nuclr_estimate"
    shown = "value"
    rows = ("value", "low", "high", "spread")

    def _set_params(self, decoder=None, coverage=0.9, publish=False, decoder_sha256=None):
        return decoder_params(decoder, coverage=coverage, publish=publish, decoder_sha256=decoder_sha256)

    def predicted(self, analyzer: SortingAnalyzer, embeddings) -> Estimates:
        """What the regressor reads from an analyzer's embeddings."""
        from ..decoding.regressor import Regressor

        regressor = Regressor.load(self.model_file, sha256=self.model_sha256)
        table = metrics_of(analyzer) if regressor.columns else None
        return regressor.predict(embeddings, table, coverage=self.params["coverage"])

    def facts(self, prediction: Estimates | None) -> dict[str, np.ndarray]:
        """The coverage of the intervals."""
        return {"coverage": np.array([self.params["coverage"] if prediction is None else prediction.coverage])}

    def missing_rows(self, n: int) -> dict[str, np.ndarray]:
        """No value for any unit."""
        return {name: np.full(n, np.nan, dtype=np.float32) for name in self.rows}

    def get_estimates(self, *, warn: bool = True) -> Estimates:
        """The result as the Estimates that `Regressor.predict` gives, with a warning where it is stale."""
        if warn:
            self.warn_if_stale()
        return Estimates(
            target=self.target,
            unit_ids=self.unit_ids,
            coverage=float(self.data["coverage"][0]),
            **self.own_rows(),
            provenance=dict(self.data["provenance"]),
        )

    get_prediction = get_estimates

    def published(self, data: dict) -> dict[str, np.ndarray]:
        """``nuclr_<target>``, ``nuclr_<target>_low`` and ``nuclr_<target>_high``."""
        key = property_name(data["target"][0])
        return {key: data["value"], f"{key}_low": data["low"], f"{key}_high": data["high"]}


register_result_extension(ComputeNuCLREstimate)


def computed_estimate(analyzer: SortingAnalyzer) -> ComputeNuCLREstimate | None:
    """The analyzer's nuclr_estimate; None where there is none, or an incomplete one."""
    return computed_extension(analyzer, "nuclr_estimate")


def compute_nuclr_estimate(
    analyzer: SortingAnalyzer, decoder: str | Path, *, save: bool = True, verbose: bool = False, **kwargs
) -> ComputeNuCLREstimate:
    """Like ``analyzer.compute("nuclr_estimate", decoder=…)``, but keeps the old result if the computation fails.

    Parameters
    ----------
    analyzer : SortingAnalyzer
        With ``nuclr_embedding``.
    decoder : str or Path
        As of `ComputeNuCLREstimate`.
    save : bool, default: True
        Save with an analyzer on disk, unless it is read-only.
    verbose : bool, default: False
        Accepted as by ``analyzer.compute``; without effect.
    **kwargs
        Further parameters of `ComputeNuCLREstimate`.

    Returns
    -------
    ComputeNuCLREstimate
        The extension: ``.get_data()`` gives a table.

    Raises
    ------
    InputError
        There are no embeddings, or they are of another model than the regressor's.
    CheckpointError
        The regressor cannot be loaded.

    Examples
    --------
    >>> from spikeinterface_nuclr import compute_nuclr_embedding, compute_nuclr_estimate, embed, fit_regressor
    >>> from spikeinterface_nuclr import simulate_population
    >>> from spikeinterface_nuclr.simulation import simulate_analyzer
    >>> populations = [simulate_population(20, 30.0, seed=seed) for seed in range(2)]
    >>> embeddings = [embed(population, progress=False) for population in populations]
    >>> depths = [population.properties["depth"] for population in populations]
    >>> path = fit_regressor(embeddings, depths, target="depth_um").save("depth.safetensors")
    >>> analyzer = simulate_analyzer(10, 30.0, seed=500)
    >>> _ = compute_nuclr_embedding(analyzer, progress_bar=False)
    >>> compute_nuclr_estimate(analyzer, path).get_data().columns.tolist()
    ['value', 'low', 'high', 'spread']
    """
    return computed_safely(ComputeNuCLREstimate, analyzer, save, {"decoder": decoder, **kwargs})
