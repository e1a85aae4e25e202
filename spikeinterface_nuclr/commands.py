"""What `nuclr embed` does: embeddings into a file of their own, into an NWB file, or into an analyzer's folder.

Results that are up to date are left alone. Each function gives the line to print.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from .embedding import embed
from .errors import InputError
from .extensions import compute_nuclr_embedding, computed_embedding
from .files import check_format, check_writable
from .io import read_population
from .io.nwb.file import open_nwb
from .io.nwb.neurons import READING
from .io.nwb.output import check_places, output_of
from .io.nwb.reading import Stored, stored, table_names
from .io.nwb.writing import write_nwb
from .io.spikeinterface import load_spikeinterface
from .model.checkpoint import Checkpoint
from .model.loading import load_checkpoint
from .population import Population
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
    """Embed what `read()` gives and write ``.npz`` or ``.csv``.

    An ``.npz`` by the same model and settings is replaced where the spikes have changed since.
    """
    check_format(output, *FORMATS)
    population = read()
    checkpoint = load_checkpoint(settings.model, signal=population.signal)
    existing = stored_embeddings(output) if output.suffix == ".npz" and not overwrite else None
    if existing is not None:
        stale = existing.provenance.get("population_fingerprint") != population.fingerprint()
        difference = how_different(existing.provenance, population, checkpoint, settings, stale=stale)
        if difference:
            raise InputError(f"{output}: holds other embeddings already ({difference}): give --overwrite")
        if not stale:
            return f"{output}: is up to date, nothing to do (--force computes it again)"
    overwrite = overwrite or existing is not None
    check_writable(output, overwrite=overwrite)
    found = embed(population, **{**dataclasses.asdict(settings), "model": checkpoint})
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
    population = read()
    checkpoint = load_checkpoint(settings.model, signal=population.signal)
    if population.signal == "traces" and unit_columns:
        raise InputError(f"{path}: --publish is of a units table, not of imaged neurons: leave it out")
    existing = _stored_in(output, name) if output.exists() and not force else None
    if existing:
        stale = bool(existing.stale(population.fingerprint()))
        difference = how_different(existing.embeddings.provenance, population, checkpoint, settings, stale=stale)
        if len(existing.rows) != population.n_units:
            difference = f"it holds {len(existing.rows)} of {population.n_units} units"
        if difference:
            raise InputError(
                f"{shown}: it holds another {name!r} already ({difference}): give --force to replace it, or --name"
            )
        published = not unit_columns or "nuclr_stability" in read_population(output).properties
        if published and not stale:
            return f"{shown}: {name!r} is up to date, nothing to do (--force computes it again)"
        if existing.identities:
            targets = ", ".join(identities.target for identities in existing.identities)
            raise InputError(f"{shown}: {targets} was predicted from its {name!r} and goes with it: give --force")
    # What is out of date is computed again; whatever else lies at the output stays.
    overwrite = force or existing is not None
    imaged = population.signal == "traces"
    check_places(path, output, in_place=in_place, overwrite=overwrite, units_only=units_only, imaged=imaged)
    found = embed(population, **dataclasses.asdict(settings))
    target = {"in_place": True} if in_place else {"output": output, "units_only": units_only, "overwrite": overwrite}
    write_nwb(path, found, if_exists="replace", name=name, unit_columns=unit_columns, **target)
    return f"{shown}: {_summary(found)}, in processing/nuclr/{name}"


def embed_analyzer(path: Path, read, settings: Settings, *, group_by: str | None, publish: bool, force: bool) -> str:
    """Compute nuclr_embedding of the analyzer saved in `path`, and save it there."""
    analyzer = load_spikeinterface(path)
    if analyzer.is_read_only():
        raise InputError(f"{path}: is read-only: name a file to write (-o)")
    extension = computed_embedding(analyzer)
    if not force and extension:
        provenance = extension.data["provenance"]
        if not extension.stale and not how_different(provenance, read(), load_checkpoint(settings.model), settings):
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


def stored_embeddings(path: Path) -> UnitEmbeddings | None:
    """The embeddings in an ``.npz``, if there are any."""
    try:
        return UnitEmbeddings.load(path)
    except InputError:
        return None


def _summary(found: UnitEmbeddings) -> str:
    known = found.window_count > 0
    said = (
        f"{known.sum()} of {len(known)} units embedded, {found.embedding.shape[1]} dimensions, "
        f"{found.provenance['windows']} windows of {found.provenance['window_s']:g} s"
    )
    if found.provenance.get("signal") == "traces":
        rates = (found.provenance[key] for key in ("frame_rate", "resampled_to"))
        said += " by {}, {:.4g} to {:.4g} frames per second".format(Path(found.provenance["checkpoint"]).name, *rates)
    return said


def _stored_in(path: Path, name: str) -> Stored | None:
    """The table of this name in an NWB file, if there is one."""
    with open_nwb(path) as nwbfile:
        return stored(nwbfile, name) if name in table_names(nwbfile) else None


def how_different(
    provenance: dict, population: Population, checkpoint: Checkpoint, settings: Settings, *, stale: bool = False
) -> str:
    """How embeddings of this provenance differ from what is asked for now; empty where they would come out the same.

    The device makes no difference. Of `stale` ones, whose spikes have changed, the times of these are not compared.
    """
    overlap = checkpoint.card.get("overlap", 0.0) if settings.overlap is None else settings.overlap
    wanted = {
        "checkpoint_sha256": checkpoint.sha256,
        "overlap": overlap,
        "min_spikes": settings.min_spikes,
        "skip_silence": settings.skip_silence,
    }
    if not stale:
        wanted["context_fingerprint"] = population.context_fingerprint()
    if settings.precision != "auto":
        wanted["precision"] = settings.precision
    if population.signal == "traces":
        provenance = {**provenance, **{key: provenance.get("source", {}).get(key) for key in READING}}
        wanted |= {key: population.metadata.get(key) for key in READING}
    different = [key for key, value in wanted.items() if provenance.get(key) != value]
    if not different:
        return ""
    key = different[0]
    said = {"checkpoint_sha256": "another model", "context_fingerprint": "other groups or observed times"}
    return said.get(key, f"{key} {provenance.get(key)} there, {wanted[key]} asked for")
