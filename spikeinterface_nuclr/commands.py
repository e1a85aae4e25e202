"""What `nuclr embed` does: embeddings into a file of their own, into an NWB file, or into an analyzer's folder.

Results that are up to date are left alone. Each function gives the line to print.
"""

import dataclasses
import warnings
from dataclasses import dataclass
from pathlib import Path

from .checkpoint import Checkpoint, load_checkpoint
from .embedding import embed
from .errors import InputError, RecordingWarning
from .files import check_format, check_writable
from .nwb.places import check_places, output_of
from .nwb.reading import stored, table_names
from .nwb.writing import write_nwb
from .population import Population
from .sources.nwb_units import open_nwb
from .unit_embeddings import FORMATS, UnitEmbeddings


@dataclass(frozen=True)
class Settings:
    """How to embed: the keywords of `embed`."""

    model: str | None = None
    device: str = "auto"
    precision: str = "auto"
    overlap: float | None = None
    min_spikes: int = 1
    skip_silence: bool = False
    progress: bool = True


def embed_to_file(read, output: Path, settings: Settings, *, overwrite: bool) -> str:
    """Embed what `read()` gives and write ``.npz`` or ``.csv``."""
    check_format(output, *FORMATS)
    check_writable(output, overwrite=overwrite)
    found = embed(read(), **dataclasses.asdict(settings))
    found.save(output, overwrite=overwrite)
    return f"{output}: {_summary(found)}"


def embed_into_nwb(
    path: Path,
    read,
    output: Path | None,
    settings: Settings,
    *,
    in_place: bool,
    units_only: bool,
    force: bool,
    name: str,
    unit_columns: bool,
) -> str:
    """Embed the units of an NWB file and write them into a copy of it, or into itself."""
    output = output_of(path, output, in_place=in_place, units_only=units_only)
    shown = path if in_place else output
    population, checkpoint = read(), load_checkpoint(settings.model)
    if output.exists() and not force and _nwb_is_current(output, name, population, checkpoint, settings):
        return f"{shown}: {name!r} is up to date, nothing to do (--force computes it again)"
    check_places(path, output, in_place=in_place, overwrite=force)
    found = embed(population, **dataclasses.asdict(settings))
    target = {"in_place": True} if in_place else {"output": output, "units_only": units_only, "overwrite": force}
    write_nwb(path, found, if_exists="replace", name=name, unit_columns=unit_columns, **target)
    return f"{shown}: {_summary(found)}, in processing/nuclr/{name}"


def embed_analyzer(path: Path, read, settings: Settings, *, group_by: str | None, publish: bool, force: bool) -> str:
    """Compute nuclr_embedding of the analyzer saved in `path`, and save it there."""
    from .extensions import compute_nuclr_embedding
    from .sources.sortings import load_spikeinterface

    analyzer = load_spikeinterface(path)
    if analyzer.is_read_only():
        raise InputError(f"{path}: is read-only: name a file to write (-o)")
    if not force and analyzer.has_extension("nuclr_embedding"):
        extension = analyzer.get_extension("nuclr_embedding")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RecordingWarning)
            provenance = extension.get_embeddings().provenance
        if not extension.stale and _same(provenance, read(), load_checkpoint(settings.model), settings):
            if publish:
                extension.publish_properties()
            return f"{path}: nuclr_embedding is up to date, nothing to do (--force computes it again)"
    given = dataclasses.asdict(settings)
    device, progress = given.pop("device"), given.pop("progress")
    extension = compute_nuclr_embedding(
        analyzer, **given, group_by=group_by, torch_device=device, progress_bar=progress
    )
    if publish:
        extension.publish_properties()
    return f"{path}: {_summary(extension.get_embeddings())}, as nuclr_embedding"


def _summary(found: UnitEmbeddings) -> str:
    known = found.window_count > 0
    return (
        f"{known.sum()} of {len(known)} units embedded, {found.embedding.shape[1]} dimensions, "
        f"{found.provenance['windows']} windows of {found.provenance['window_s']:g} s"
    )


def _nwb_is_current(path: Path, name: str, population: Population, checkpoint: Checkpoint, settings: Settings) -> bool:
    """Whether the file holds a table of this name, of all units of `population`, that would come out the same."""
    with open_nwb(path) as nwbfile:
        if name not in table_names(nwbfile):
            return False
        found = stored(nwbfile, name)
    complete = len(found.rows) == population.n_units and not found.stale(population.fingerprint())
    return complete and _same(found.embeddings.provenance, population, checkpoint, settings)


def _same(provenance: dict, population: Population, checkpoint: Checkpoint, settings: Settings) -> bool:
    """Whether embeddings of this provenance were computed as asked for now. The device makes no difference."""
    overlap = checkpoint.card.get("overlap", 0.0) if settings.overlap is None else settings.overlap
    wanted = {
        "checkpoint_sha256": checkpoint.sha256,
        "overlap": overlap,
        "min_spikes": settings.min_spikes,
        "skip_silence": settings.skip_silence,
        "context_fingerprint": population.context_fingerprint(),
    }
    if settings.precision != "auto":
        wanted["precision"] = settings.precision
    return all(provenance.get(key) == value for key, value in wanted.items())
