"""What write_nwb is given -> UnitEmbeddings, and the Identities that were read from them."""

import dataclasses
import inspect
from pathlib import Path

from ...errors import InputError
from ...extensions import computed_embedding, computed_identity
from ...identities import Identities
from ...unit_embeddings import UnitEmbeddings
from .. import kind_of, read_population

# Keywords of read_population; the others are for embed.
_READING = {"group_by", "observed", "sampling_frequency", "keep_rejected", "traces"}


def results_of(
    source, *, series: str | None = None, allow_stale: bool = False, **options
) -> tuple[UnitEmbeddings, list[Identities]]:
    """The embeddings that a source holds, or that come of embedding it, and the identities that it holds.

    `series` is read of an NWB file. InputError where results are out of date.
    """
    from spikeinterface.core import SortingAnalyzer

    from ...embedding import embed

    known = {*inspect.signature(embed).parameters, *_READING} - {"population"}
    for option in sorted(options.keys() - known):
        raise InputError(f"no option is called {option!r}; those of embed are: {', '.join(sorted(known))}")
    path = Path(source) if isinstance(source, str | Path) else None
    analyzer = source if isinstance(source, SortingAnalyzer) else _saved_analyzer(path) if path else None
    if path and not analyzer and path.suffix != ".npz":
        reading = {key: options.pop(key) for key in _READING & options.keys()}
        reading |= {"series": series} if series is not None and kind_of(path) == "nwb" else {}
        return embed(read_population(path, **reading), **options), []
    if options:
        raise InputError(f"{next(iter(options))} has no effect on embeddings that are computed already: leave it out")
    if analyzer:
        return _of_extensions(analyzer, allow_stale)
    if path:
        return UnitEmbeddings.load(path), []
    if isinstance(source, UnitEmbeddings):
        return source, []
    raise InputError(
        f"source is a {type(source).__name__}; accepted is a SortingAnalyzer, UnitEmbeddings, or a recording's path"
    )


def _saved_analyzer(path: Path):
    """The analyzer saved in `path` with its nuclr_embedding; None where there is none."""
    from ..spikeinterface import load_spikeinterface

    analyzer = load_spikeinterface(path) if kind_of(path) == "analyzer" else None
    return analyzer if analyzer and computed_embedding(analyzer) else None


def _of_extensions(analyzer, allow_stale: bool) -> tuple[UnitEmbeddings, list[Identities]]:
    extension = computed_embedding(analyzer)
    if extension is None:
        raise InputError("the analyzer holds no nuclr_embedding: compute it first, with analyzer.compute(...)")
    stale = extension.stale
    if stale and not allow_stale:
        raise InputError(f"nuclr_embedding is stale: {stale}: compute it again, or give allow_stale=True")
    found = extension.get_embeddings(warn=False)
    if stale:
        found = dataclasses.replace(found, provenance={**found.provenance, "stale": stale})
    identity = computed_identity(analyzer)
    return found, [identity.get_identities(warn=False)] if identity else []
