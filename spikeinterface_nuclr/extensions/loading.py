"""load_nuclr: embeddings and predictions from an NWB file into an analyzer of the same units."""

import numpy as np
from spikeinterface.core import SortingAnalyzer

from ..errors import InputError
from ..io.spikeinterface_api import attach_extension
from ..predictions import Estimates, Identities, Prediction
from ..unit_embeddings import UnitEmbeddings
from .base import RowsExtension, computed_extension, fingerprint, population_of
from .embedding import ComputeNuCLREmbedding
from .estimate import ComputeNuCLREstimate
from .identity import ComputeNuCLRIdentity
from .prediction import digest_of

_SETTINGS = ("overlap", "min_spikes", "skip_silence", "precision")


def load_nuclr(
    analyzer: SortingAnalyzer,
    path,
    *,
    name: str | None = None,
    publish: bool = False,
    allow_stale: bool = False,
    overwrite: bool = False,
    save: bool = True,
) -> list[RowsExtension]:
    """Take embeddings, and what was predicted from them, from an NWB file into an analyzer of the same units.

    Converters between NWB files and analyzers leave extensions behind; this brings them along. Units are matched by
    their names, and have to have as many spikes as when they were embedded.

    Parameters
    ----------
    analyzer : SortingAnalyzer
        Each of its units is in the file. It may hold fewer units.
    path : str or Path
        NWB file with ``processing["nuclr"]``.
    name : str, optional
        Name of the embeddings, if the file holds several.
    publish : bool, default: False
        Set the sorting properties of predictions, as ``publish`` of the extensions does.
    allow_stale : bool, default: False
        Also if units have other numbers of spikes. The extensions are then marked as stale.
    overwrite : bool, default: False
        Replace extensions of these names.
    save : bool, default: True
        Save with an analyzer on disk, unless it is read-only.

    Returns
    -------
    list of extensions
        ``nuclr_embedding``, and ``nuclr_identity`` and ``nuclr_estimate`` where the file holds such predictions, the
        first of each.

    Raises
    ------
    InputError
        The file cannot be read or holds no embeddings of spikes, a unit is not in it or has another number of spikes,
        or the analyzer has these extensions and `overwrite` is False.

    Examples
    --------
    >>> from spikeinterface import load_sorting_analyzer
    >>> from spikeinterface_nuclr import load_nuclr
    >>> load_nuclr(load_sorting_analyzer("analyzer"), "session.nwb")  # doctest: +SKIP
    """
    from ..io.nwb import read_nwb

    if not isinstance(analyzer, SortingAnalyzer):
        raise InputError(f"load_nuclr takes a SortingAnalyzer, not a {type(analyzer).__name__}")
    embeddings, predictions = read_nwb(path, name=name)
    if embeddings.num_spikes is None:
        raise InputError(f"{path}: holds embeddings of traces: an analyzer has spikes")
    rows = _rows(analyzer, embeddings, path)
    changed = _changed(analyzer, embeddings, rows)
    if changed and not allow_stale:
        raise InputError(f"{path}: {changed}: compute nuclr_embedding again, or give allow_stale=True")
    made = [_embedding(analyzer, embeddings.select(rows), changed, publish=publish)]
    for kind, extension in ((Identities, ComputeNuCLRIdentity), (Estimates, ComputeNuCLREstimate)):
        found = next((one for one in predictions if isinstance(one, kind)), None)
        if found is not None:
            made.append(_prediction(extension, analyzer, found.select(rows), made[0], changed, publish=publish))
    existing = [one.extension_name for one in made if computed_extension(analyzer, one.extension_name)]
    if existing and not overwrite:
        raise InputError(f"the analyzer has {existing[0]} already: give overwrite=True to replace it")
    save = save and not analyzer.is_read_only()
    for extension in made:
        if save:
            extension.save()
        attach_extension(analyzer, extension)
        extension._refresh_properties(analyzer, extension.data, save=save)
    return made


def _rows(analyzer: SortingAnalyzer, embeddings: UnitEmbeddings, path) -> np.ndarray:
    """The row of each of the analyzer's units; InputError if one is missing."""
    row = {str(unit): k for k, unit in enumerate(embeddings.unit_ids.tolist())}
    missing = [str(unit) for unit in analyzer.unit_ids if str(unit) not in row]
    if missing:
        raise InputError(
            f"{path}: {len(missing)} of the analyzer's {len(analyzer.unit_ids)} units, such as {missing[0]}, are not "
            f"among its embeddings ({', '.join(list(row)[:2])}, …): name units alike, or select those that are"
        )
    return np.array([row[str(unit)] for unit in analyzer.unit_ids], dtype=np.int64)


def _changed(analyzer: SortingAnalyzer, embeddings: UnitEmbeddings, rows: np.ndarray) -> str:
    """The first unit whose number of spikes is another one, in words; empty if there is none."""
    for unit, now, then in zip(
        analyzer.unit_ids, population_of(analyzer).num_spikes, embeddings.num_spikes[rows], strict=True
    ):
        if now != then:
            return f"unit {unit} had {then:,} spikes when it was embedded, and has {now:,} in the analyzer"
    return ""


def _embedding(
    analyzer: SortingAnalyzer, embeddings: UnitEmbeddings, stale: str, *, publish: bool
) -> ComputeNuCLREmbedding:
    extension, made = ComputeNuCLREmbedding(analyzer), embeddings.provenance
    settings = {key: getattr(made, key) for key in _SETTINGS if getattr(made, key) is not None}
    extension.set_params(model=made.checkpoint, publish=publish, **settings)
    provenance = {**made.to_dict(), "units_fingerprint": fingerprint(analyzer)}
    extension.data = {
        **{row: getattr(embeddings, row) for row in extension.rows}, "provenance": _marked(provenance, stale),
    }  # fmt: skip
    return _completed(extension)


def _prediction(
    kind: type, analyzer: SortingAnalyzer, prediction: Prediction, embedding: ComputeNuCLREmbedding, stale: str, *,
    publish: bool,
):  # fmt: skip
    made, extension = prediction.provenance, kind(analyzer)
    chosen = {"coverage": prediction.coverage} if isinstance(prediction, Estimates) else {}
    if "target_error" in made:
        chosen["target_error"] = made["target_error"]
    extension.set_params(decoder=str(made.get("decoder") or "unknown"), publish=publish, **chosen)
    missing = np.full(len(prediction.unit_ids), np.nan, dtype=np.float32)
    rows = {row: getattr(prediction, row) for row in extension.rows}
    extension.data = {
        **{row: missing.copy() if values is None else values for row, values in rows.items()},
        **extension.facts(prediction), "target": np.array([prediction.target]),
        "provenance": _marked({**made, "embedding_sha256": digest_of(embedding.data["embedding"])}, stale),
    }  # fmt: skip
    return _completed(extension)


def _marked(provenance: dict, stale: str) -> dict:
    return {**provenance, "stale": stale} if stale else provenance


def _completed(extension: RowsExtension):
    """The extension as after a computation."""
    extension.data["provenance"] = {extension.provenance_sha256: "", **extension.data["provenance"]}
    extension.pin_model()
    extension.run_info = {"run_completed": True, "runtime_s": None}
    return extension
