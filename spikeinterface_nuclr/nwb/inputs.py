"""What write_nwb is given -> UnitEmbeddings."""

import dataclasses
import warnings
from pathlib import Path

from ..errors import InputError, RecordingWarning
from ..sources import read_population
from ..sources.nwb_units import is_zarr_nwb
from ..unit_embeddings import UnitEmbeddings

# Keywords of read_population; the others are for embed.
_READING = {"group_by", "observed", "sampling_frequency", "keep_noise"}


def embeddings_of(source, *, allow_stale: bool = False, **options) -> UnitEmbeddings:
    """The embeddings that a source holds, or that come of embedding it; InputError where they are out of date."""
    from spikeinterface.core import SortingAnalyzer

    if isinstance(source, UnitEmbeddings):
        return source
    given = source
    if isinstance(source, str | Path):
        source = Path(source)
        if source.suffix == ".npz":
            return UnitEmbeddings.load(source)
        source = _saved_analyzer(source) or source
    if isinstance(source, SortingAnalyzer) and source.has_extension("nuclr_embedding"):
        return _of_extension(source.get_extension("nuclr_embedding"), allow_stale)
    if isinstance(source, SortingAnalyzer) and not isinstance(given, str | Path):
        raise InputError("the analyzer holds no nuclr_embedding: compute it first, with analyzer.compute(...)")
    if not isinstance(given, str | Path):
        raise InputError(
            f"source is a {type(source).__name__}; accepted is a SortingAnalyzer, UnitEmbeddings, or the path of a "
            "recording"
        )
    from ..embedding import embed

    reading = {key: options.pop(key) for key in _READING & options.keys()}
    return embed(read_population(source, **reading), **options)


def _saved_analyzer(path: Path):
    """The analyzer saved in `path` with its nuclr_embedding; None where there is none."""
    from spikeinterface.core import SortingAnalyzer

    from ..sources.sortings import load_spikeinterface

    found = load_spikeinterface(path) if path.is_dir() and not is_zarr_nwb(path) else None
    return found if isinstance(found, SortingAnalyzer) and found.has_extension("nuclr_embedding") else None


def _of_extension(extension, allow_stale: bool) -> UnitEmbeddings:
    stale = extension.stale
    if stale and not allow_stale:
        raise InputError(f"nuclr_embedding is stale: {stale}: compute it again, or give allow_stale=True")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecordingWarning)
        found = extension.get_embeddings()
    return dataclasses.replace(found, provenance={**found.provenance, "stale": stale}) if stale else found
