"""The source of write_nwb -> UnitEmbeddings, and what was predicted from them."""

import dataclasses
from pathlib import Path

from ...errors import InputError
from ...predictions import Prediction
from ...unit_embeddings import UnitEmbeddings


def results_of(source, *, allow_stale: bool) -> tuple[UnitEmbeddings, list[Prediction]]:
    """The results in a source: an analyzer or its folder, embeddings or their ``.npz``.

    Raise InputError if there are none, or if they are out of date.
    """
    if isinstance(source, UnitEmbeddings):
        return source, []
    if isinstance(source, str | Path):
        path = Path(source)
        if path.suffix == ".npz":
            return UnitEmbeddings.load(path), []
        return _of_analyzer(_saved_analyzer(path), str(path), allow_stale)
    if hasattr(source, "get_extension"):
        return _of_analyzer(source, "the analyzer", allow_stale)
    raise InputError(
        f"source is a {type(source).__name__}; accepted is a SortingAnalyzer, UnitEmbeddings, or the path of an "
        "analyzer or of an .npz: embed other recordings first"
    )


def _saved_analyzer(path: Path):
    from ..spikeinterface import is_analyzer, load_spikeinterface

    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if not (path.is_dir() and is_analyzer(path)):
        raise InputError(f"{path}: holds no results: embed it first, and give the embeddings or their .npz")
    return load_spikeinterface(path)


def _of_analyzer(analyzer, name: str, allow_stale: bool) -> tuple[UnitEmbeddings, list[Prediction]]:
    """The results of its extensions, through SpikeInterface: importing them here would make a circle."""
    extension = analyzer.get_extension("nuclr_embedding")
    if extension is None:
        raise InputError(f"{name}: holds no nuclr_embedding: compute it first, with analyzer.compute(...)")
    stale = extension.stale
    if stale and not allow_stale:
        raise InputError(f"{name}: nuclr_embedding is stale: {stale}: compute it again, or give allow_stale=True")
    embeddings = extension.get_embeddings(warn=False)
    if stale:
        embeddings = dataclasses.replace(embeddings, provenance=embeddings.provenance.replace(stale=stale))
    identity, estimate = (analyzer.get_extension(name) for name in ("nuclr_identity", "nuclr_estimate"))
    predictions = [identity.get_identities(warn=False)] if identity else []
    return embeddings, predictions + ([estimate.get_estimates(warn=False)] if estimate else [])
