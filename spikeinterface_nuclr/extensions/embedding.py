"""nuclr_embedding: the embedding as an extension of SpikeInterface's SortingAnalyzer."""

import warnings
from pathlib import Path
from typing import Literal

import numpy as np
from spikeinterface.core import SortingAnalyzer, fix_job_kwargs, is_set_global_job_kwargs_set

from ..errors import InputError, RecordingWarning
from ..io.spikeinterface_api import register_result_extension
from ..unit_embeddings import UnitEmbeddings
from .base import (
    RowsExtension,
    computed_extension,
    computed_safely,
    fingerprint,
    named_file,
    population_of,
    rows_of_same_units,
)

_ROWS = ("embedding", "num_windows", "split_half_similarity", "num_spikes")
_NOT_EMBEDDED = "the units were changed and could not be embedded again"


class ComputeNuCLREmbedding(RowsExtension):
    """Embed every unit in the context of the units recorded with it.

    Needs no recording and no other extension. Spikes are read as `read_population` does; the same analyzer gives the
    same embeddings. Every unit's embedding depends on all units of its probe, so merging or splitting units recomputes
    all of them. Selected units keep the embeddings that they had among all.

    Parameters
    ----------
    model : str or Path, optional
        The name of a bundled model (the default), the path of a ``.safetensors`` file, or an ``hf://`` name.
    group_by : str or None, default: "group"
        Unit property that names each unit's probe; without one, the group of its main channel. None makes one
        population of all units.
    overlap : float, optional
        Share of a window that the next repeats, in [0, 1). Default: what the model's card asks for, else 0.
    min_spikes : int, default: 1
        Spikes that a unit needs in a window to be part of it.
    skip_silence : bool, default: False
        Leave out seconds in which the whole probe is silent.
    torch_device : str, default: "auto"
        "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:1".
    precision : {"auto", "bfloat16", "float32", "float64"}
        "auto" is bfloat16 where the device computes it fast, else float32.
    batch_size : int, optional
        Units × patches computed at once. Default: what suits the device.
    publish : bool, default: False
        Set the sorting properties ``nuclr_num_windows`` and ``nuclr_split_half_similarity``, which spikeinterface-gui
        and NWB exporters show.
    model_sha256 : str, optional
        Hash that the model must have. Filled in when computed, so that merging and splitting use the same weights
        or say that they cannot.

    Notes
    -----
    Where the model cannot be loaded, a merge or a split does not fail. Units whose spikes are unchanged keep their
    rows, the others get NaN, and the result is marked as stale, with a RecordingWarning. A merge with
    ``merging_mode="hard"`` has access to the parameters of the previous result only, not to its rows: then every row
    is NaN. Make the model available, or merge with ``merging_mode="soft"``.

    Of the job arguments, ``progress_bar`` is followed, and ``n_jobs`` × ``max_threads_per_worker`` processor threads
    are used where ``n_jobs`` was set, in the call or globally; else as many as torch would. The others are about
    reading a recording.

    The data are ``embedding`` (n_units, dim) float32, NaN for a unit without a window; ``num_windows`` (n_units,);
    ``split_half_similarity`` (n_units,), the agreement of odd and even windows; ``num_spikes`` (n_units,); and the dict
    ``provenance``.
    """

    extension_name = "nuclr_embedding"
    depend_on = []  # noqa: RUF012 (as the base class declares it)
    need_job_kwargs = True
    rows = _ROWS
    model_param, provenance_sha256 = "model", "checkpoint_sha256"

    def __init__(self, sorting_analyzer):
        super().__init__(sorting_analyzer)
        self._known = (None, None, "")  # spikes and valid periods, and their fingerprint

    def _set_params(
        self,
        model=None,
        group_by="group",
        overlap=None,
        min_spikes=1,
        skip_silence=False,
        torch_device="auto",
        precision="auto",
        batch_size=None,
        publish=False,
        model_sha256=None,
    ):
        if not isinstance(model, str | Path | None):
            raise InputError(
                f"model must be a name or a path, not a {type(model).__name__}: save the checkpoint and name its file"
            )
        from ..model.loading import DEFAULT_MODELS, bundled_models

        # What is recorded must mean the same later, with another default.
        model = named_file(model or DEFAULT_MODELS["spikes"], bundled_models())
        return {
            "model": model,
            "group_by": group_by,
            "overlap": overlap,
            "min_spikes": min_spikes,
            "skip_silence": skip_silence,
            "torch_device": torch_device,
            "precision": precision,
            "batch_size": batch_size,
            "publish": publish,
            "model_sha256": model_sha256,
        }

    def empty_rows(self, error: Exception) -> dict:
        """NaN for every unit, and the reason as ``stale``."""
        population = population_of(self.sorting_analyzer)
        reason = f"{_NOT_EMBEDDED} ({error}): a merge of merging_mode='soft' keeps unchanged rows"
        warnings.warn(f"nuclr_embedding: {reason}", RecordingWarning, stacklevel=4)
        n = population.n_units
        missing = np.full((n, 1), np.nan, dtype=np.float32)
        fingerprint = population.fingerprint()
        provenance = {
            "checkpoint": self.model_file, "checkpoint_sha256": self.model_sha256, "units": n,
            "population_fingerprint": fingerprint, "units_fingerprint": fingerprint, "stale": reason,
        }  # fmt: skip
        columns = np.zeros(n, dtype=np.int64), missing[:, 0].copy(), population.num_spikes
        return {**dict(zip(_ROWS, (missing, *columns), strict=True)), "provenance": provenance}

    def computed(self, analyzer: SortingAnalyzer, **job_kwargs) -> dict:
        """Embeddings of an analyzer's units, ours or one that was made of ours."""
        from ..embedding import embed
        from ..io import read_population
        from ..model.device import limited_threads
        from ..model.loading import load_checkpoint

        params = self.params
        checkpoint = load_checkpoint(self.model_file, sha256=self.model_sha256)
        population = read_population(analyzer, group_by=params["group_by"])
        with limited_threads(_threads(job_kwargs)):
            embeddings = embed(
                population,
                checkpoint,
                device=params["torch_device"],
                **{key: params[key] for key in ("precision", "overlap", "min_spikes", "skip_silence", "batch_size")},
                progress=bool(fix_job_kwargs(job_kwargs)["progress_bar"]),
            )
        # The population is what was embedded, the units are those that the rows stand for: fewer, once selected.
        provenance = embeddings.provenance.replace(units_fingerprint=fingerprint(analyzer))
        return {**{name: getattr(embeddings, name) for name in _ROWS}, "provenance": provenance.to_dict()}

    def _select_units_extension_data(self, unit_ids):
        index = self.sorting_analyzer.sorting.ids_to_indices(unit_ids)
        provenance = dict(self.data["provenance"])
        if self.stale:
            provenance["stale"] = self.stale
        else:
            provenance["units_fingerprint"] = fingerprint(self.sorting_analyzer, index)
        if len(index) < provenance["units"]:
            provenance["context"] = f"embedded among {provenance['units']} units, of which {len(index)} are kept"
        return {**self.rows_at(index), "provenance": provenance}

    def unchanged_rows(self, analyzer: SortingAnalyzer, error: Exception) -> dict:
        """Our rows for the units of `analyzer` that have the same spikes here, NaN for the others; marked as stale."""
        rows = rows_of_same_units(self.sorting_analyzer, analyzer)
        reason = (
            f"{_NOT_EMBEDDED} ({error}); {(rows < 0).sum()} of {len(rows)} have no embedding, the others the previous"
        )
        warnings.warn(f"nuclr_embedding: {reason}", RecordingWarning, stacklevel=4)
        data = {**self.rows_at(rows), "provenance": {**self.data["provenance"], "stale": reason}}
        data["num_spikes"] = population_of(analyzer).num_spikes
        return data

    @property
    def stale(self) -> str:
        """Why the embeddings are not those of the analyzer's present units; empty where they are."""
        provenance = self.data["provenance"]
        if provenance.get("stale") or self.analyzer_is_gone:
            return provenance.get("stale", "")
        spikes = self.sorting_analyzer.sorting.to_spike_vector()
        periods = self.sorting_analyzer.get_extension("valid_unit_periods")
        if self._known[0] is not spikes or self._known[1] is not periods:
            self._known = (spikes, periods, fingerprint(self.sorting_analyzer))
        if provenance["units_fingerprint"] != self._known[2]:
            what = "spikes" if periods is None else "spikes or valid periods"
            return f"the units' {what} have changed since they were embedded"
        return ""

    def get_embeddings(self, *, warn: bool = True) -> UnitEmbeddings:
        """The result as the UnitEmbeddings that `embed` gives, with a warning where it is stale."""
        if warn and self.stale:
            message = f"nuclr_embedding is stale: {self.stale}; compute it again"
            warnings.warn(message, RecordingWarning, stacklevel=2)
        # Copies: an analyzer and its copy in memory share their arrays.
        data = {name: self.data[name].copy() for name in _ROWS}
        return UnitEmbeddings(self.unit_ids, **data, provenance=dict(self.data["provenance"]))

    def _get_data(self, outputs: Literal["numpy", "by_unit", "dataframe"] = "numpy"):
        """As asked for: the array (n_units, dim), a dict of unit id to row, or a frame with all columns."""
        if outputs not in ("numpy", "by_unit", "dataframe"):
            raise InputError(f"outputs must be 'numpy', 'by_unit' or 'dataframe', not {outputs!r}")
        embeddings = self.get_embeddings()
        if outputs == "numpy":
            return embeddings.embedding
        if outputs == "by_unit":
            return dict(zip(embeddings.unit_ids, embeddings.embedding, strict=True))
        return embeddings.to_dataframe()

    def published(self, data: dict) -> dict[str, np.ndarray]:
        """``nuclr_num_windows`` and ``nuclr_split_half_similarity``, which spikeinterface-gui shows."""
        return {"nuclr_num_windows": data["num_windows"], "nuclr_split_half_similarity": data["split_half_similarity"]}


register_result_extension(ComputeNuCLREmbedding)


def computed_embedding(analyzer: SortingAnalyzer) -> ComputeNuCLREmbedding | None:
    """The analyzer's nuclr_embedding; None where there is none, or an incomplete one."""
    return computed_extension(analyzer, "nuclr_embedding")


def compute_nuclr_embedding(
    analyzer: SortingAnalyzer, *, save: bool = True, verbose: bool = False, **kwargs
) -> ComputeNuCLREmbedding:
    """Like ``analyzer.compute("nuclr_embedding", …)``, but keeps all previous results if the computation fails.

    Before it begins, ``analyzer.compute`` silently deletes the identities that were predicted from the previous
    embeddings; of an analyzer in memory it deletes the embeddings, too. This function embeds first: a misspelt
    parameter, a missing model or GPU, or an interrupt costs nothing. It then removes the identities, as SpikeInterface
    removes everything that was computed from a replaced extension, and a RecordingWarning says so.

    Parameters
    ----------
    analyzer : SortingAnalyzer
    save : bool, default: True
        Save with an analyzer on disk, unless it is read-only.
    verbose : bool, default: False
        Accepted as by ``analyzer.compute``; without effect.
    **kwargs
        Parameters of `ComputeNuCLREmbedding` and SpikeInterface's job arguments.

    Returns
    -------
    ComputeNuCLREmbedding
        The extension: ``.get_data()`` gives the array.

    Raises
    ------
    InputError
        A parameter or the recording cannot be used.
    CheckpointError
        The model cannot be loaded.
    DeviceError
        The device is absent, or its memory does not suffice.

    Examples
    --------
    >>> from spikeinterface_nuclr import compute_nuclr_embedding
    >>> from spikeinterface_nuclr.simulation import simulate_analyzer
    >>> analyzer = simulate_analyzer(10, 30.0)
    >>> compute_nuclr_embedding(analyzer, progress_bar=False).get_data().shape
    (10, 384)
    """
    return computed_safely(ComputeNuCLREmbedding, analyzer, save, kwargs)


def _threads(job_kwargs: dict) -> int | None:
    """Processor threads that the user asked for; None where they did not."""
    if "n_jobs" not in job_kwargs and not is_set_global_job_kwargs_set():
        return None
    fixed = fix_job_kwargs(job_kwargs)
    return fixed["n_jobs"] * (fixed["max_threads_per_worker"] or 1)
