"""nuclr embed: writes embeddings to a new file, to an NWB file, or to an analyzer's folder, reusing existing ones."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Optional

import typer

from ..errors import InputError
from .app import app
from .many import Done, check_settings, run_each
from .options import (
    Device,
    IfExists,
    Model,
    NJobs,
    Outcomes,
    Overwrite,
    Precision,
    Quiet,
    Sources,
    check_replacing,
    check_source,
    open_analyzer,
    reads_recordings,
)

_NWB = (".nwb", ".zarr")


@app.command()
@reads_recordings
def embed(
    sources: Sources,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--output",
            "-o",
            help="File to write: .npz, .csv, or a copy of the NWB file. For several recordings with {name}, or "
            "{parent}, {animal}, {session}, {probe} or {key}.",
            show_default=False,
        ),
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Add the embeddings to the NWB file itself, in one safe step.")
    ] = False,
    units_only: Annotated[
        bool, typer.Option("--units-only", help="Write a small NWB file with only the units and their embeddings.")
    ] = False,
    model: Model = None,
    device: Device = "auto",
    precision: Precision = "auto",
    overlap: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Overlap of consecutive windows, as a fraction of a window.", show_default="the model's"),
    ] = None,
    min_spikes: Annotated[int, typer.Option(help="Minimum spikes of a unit in a window for it to be included.")] = 1,
    skip_silence: Annotated[
        bool, typer.Option("--skip-silence", help="Exclude seconds in which no unit of the probe fires (lost data).")
    ] = False,
    name: Annotated[str, typer.Option(help="Name of the table in the NWB file.")] = "UnitEmbeddings",
    publish: Annotated[
        bool,
        typer.Option(
            "--publish",
            help="Also write num_windows and split_half_similarity as columns of the units table (NWB) or sorting "
            "properties (analyzer).",
        ),
    ] = False,
    *,
    reading: dict,
    overwrite: Overwrite = False,
    if_exists: IfExists = "error",
    n_jobs: NJobs = 1,
    outcomes: Outcomes = None,
    quiet: Quiet = False,
) -> None:
    """Compute an embedding for every sorted unit or imaged neuron.

    nuclr embed session.nwb -o session.npz: one row per unit, in a new file (.npz or .csv).

    nuclr embed session.nwb -o out.nwb: a copy of the NWB file with the embeddings in processing/nuclr.

    nuclr embed session.nwb --in-place: the NWB file itself, replaced in one step by a validated copy.

    nuclr embed ANALYZER: the extension nuclr_embedding, saved in the analyzer's folder.

    nuclr embed 'data/*/*.nwb' -o 'embeddings/{name}.npz' -j 4: many recordings. Those that cannot be read are listed,
    and the exit code is then 3. The same command continues a run that was stopped.

    Existing embeddings are reused, and recomputed if the spikes have changed. Embeddings of another model or other
    settings are replaced only on request: with --overwrite (output files) or --if-exists replace (inside an NWB file
    or analyzer).
    """
    from ..embedding import EmbeddingSettings
    from ..io.manifest import list_sources

    if in_place and (output is not None or units_only):
        raise typer.BadParameter("--in-place replaces the file itself: leave out --output and --units-only")
    settings = EmbeddingSettings(model, device, precision, overlap, min_spikes, skip_silence, progress=not quiet)
    places = {"in_place": in_place, "units_only": units_only, "name": name, "publish": publish}
    job = _Embed(settings, reading, **places, overwrite=overwrite, if_exists=if_exists)
    run_each(list_sources(sources), output, job, n_jobs=n_jobs, outcomes=outcomes, quiet=quiet)


@dataclass(frozen=True)
class _Embed:
    """How each recording is embedded, and where its embeddings go."""

    settings: object
    reading: dict
    in_place: bool
    units_only: bool
    name: str
    publish: bool
    overwrite: bool
    if_exists: str

    def check(self) -> None:
        """Raise what would be wrong with every recording."""
        check_settings(self.settings)

    def __call__(self, listed, output: Path | None, *, alone: bool) -> Done:
        """Embed one recording."""
        from ..io import kind_of
        from ..io.where import selects

        source, reading = listed.source, listed.reading(self.reading)
        check_source(source)
        kind = kind_of(source)
        into_nwb = self.in_place or self.units_only or (output is not None and output.suffix in _NWB)
        if into_nwb and kind != "nwb":
            if output is None or not output.suffix == ".nwb" or self.in_place or self.units_only:
                raise typer.BadParameter("--in-place and --units-only are for NWB files")
            raise InputError(
                f"{output}: an NWB output is a copy of an NWB source, and {source} is not an NWB file: to add its "
                "embeddings to the session's NWB file, use write_nwb('session.nwb', …) in Python"
            )
        inside = self.in_place or (output is None and kind == "analyzer")
        if selects(reading) and (output is None or into_nwb):
            raise typer.BadParameter("--where and --within are for output files: -o FILE.npz or .csv")
        check_replacing(inside=inside, overwrite=self.overwrite, if_exists=self.if_exists)
        replacing = self.overwrite or self.if_exists == "replace"
        # In a run of many, what is up to date is kept even then, so that a run that was stopped goes on.
        again = alone and (replacing or self.if_exists == "new_name")
        if into_nwb:
            return _into_nwb(source, output, self, reading, replacing=replacing, again=again)
        if output is not None:
            if self.publish:
                raise typer.BadParameter("--publish is for NWB files and analyzers")
            return _into_file(source, output, self.settings, reading, replacing=replacing, again=again)
        if kind == "analyzer":
            return _into_analyzer(source, self, reading, replacing=replacing, again=again)
        raise typer.BadParameter("name a file to write: -o FILE.npz" + ", -o FILE.nwb or --in-place" * (kind == "nwb"))


def _into_file(source: Path, output: Path, settings, reading: dict, *, replacing: bool, again: bool) -> Done:
    """Write ``.npz`` or ``.csv``; replace those of the same model and settings if the spikes have changed."""
    from ..embedding import expected_provenance
    from ..files import check_format, check_writable
    from ..io import read_population
    from ..model.loading import load_checkpoint
    from ..unit_embeddings import FORMATS, files_of, stored_provenance

    check_format(output, *FORMATS)
    population = read_population(source, **reading)
    checkpoint = load_checkpoint(settings.model, signal=population.signal)
    existing = None if again else stored_provenance(output)
    if existing is not None:
        expected = expected_provenance(population, checkpoint, settings)
        changed = existing.population_fingerprint != expected.population_fingerprint
        difference = existing.difference(expected, spikes_changed=changed)
        if difference and not replacing:
            raise InputError(f"{output}: holds other embeddings already ({difference}): give --overwrite")
        if not difference and not changed:
            return Done(f"{output}: is up to date, nothing to do", computed=False, hint="--overwrite recomputes it")
    overwrite = replacing or existing is not None
    for file in files_of(output):
        check_writable(file, overwrite=overwrite)
    embeddings = settings.embed(population, checkpoint)
    embeddings.save(output, overwrite=overwrite)
    return Done(f"{output}: {summary(embeddings)}")


def _into_nwb(source: Path, output: Path | None, job: _Embed, reading: dict, *, replacing: bool, again: bool) -> Done:
    """Write into a copy of an NWB file, or into the file itself; the source is read once."""
    from ..io.nwb.output import check_places, output_of
    from ..io.nwb.session import read_session
    from ..io.nwb.writing import Request, check_choices, write_request
    from ..model.loading import load_checkpoint

    settings, name, in_place, if_exists = job.settings, job.name, job.in_place, job.if_exists
    check_choices(name, if_exists)
    destination = output_of(source, output, in_place=in_place, units_only=job.units_only)
    shown = source if in_place else destination
    session = read_session(source, **reading)
    population = session.population
    checkpoint = load_checkpoint(settings.model, signal=population.signal)
    imaged = population.signal == "traces"
    if imaged and job.publish:
        raise InputError(f"{source}: --publish adds columns to a units table, not to imaged neurons: leave it out")
    existing = None
    if not again:
        existing = session if in_place else read_session(destination, **reading) if destination.exists() else None
    overwrite = job.overwrite
    option = "--if-exists replace" if in_place else "--overwrite"
    if existing is not None and if_exists == "new_name":  # a run of many: what it has written before is not repeated
        if any(_is_current(existing, name, checkpoint, job, population) for name in existing.tables):
            return Done(f"{shown}: such embeddings are there, nothing to do", computed=False)
    elif existing is not None and name in existing.tables:
        if _up_to_date(existing, checkpoint, job, population, shown=shown, option=option, replacing=replacing):
            return Done(
                f"{shown}: {name!r} is up to date, nothing to do", computed=False, hint=f"{option} recomputes it"
            )
        if_exists, overwrite = "replace", True
    check_places(
        source, destination, in_place=in_place, overwrite=overwrite, units_only=job.units_only, imaged=imaged,
        pointers=session.pointers,
    )  # fmt: skip
    embeddings = settings.embed(population, checkpoint)
    request = Request(embeddings, [], name, if_exists, units_only=job.units_only, publish=job.publish)
    write_request(source, destination, request, overwrite=overwrite or in_place, session=session)
    replaced = _replaced(session, name) if in_place and if_exists == "replace" else ""
    return Done(f"{shown}: {summary(embeddings)}, in processing/nuclr/{name}{replaced}")


def _replaced(session, name: str) -> str:
    """What the new embeddings have replaced in a file, in words."""
    if name not in session.tables:
        return ""
    targets = [prediction.target for prediction in session.tables[name].predictions]
    lost = f" and what was predicted from it ({', '.join(targets)}): predict it again" if targets else ""
    return f"; replaced the previous {name}{lost}"


def _difference(session, name: str, checkpoint, job: _Embed, population) -> tuple[str, bool]:
    """How a table differs from what is asked for, empty if it does not; and whether it is of other spikes.

    A copy's table is compared with the population of its source, not with the units beside it.
    """
    from ..embedding import expected_provenance

    table = session.tables[name]
    expected, provenance = expected_provenance(population, checkpoint, job.settings), table.embeddings.provenance
    copied = not job.in_place and provenance.population_fingerprint != expected.population_fingerprint
    changed = bool(session.outdated[name]) or copied
    if len(table.rows) != population.n_units and not copied:
        return f"it has {len(table.rows)} of {population.n_units} units", changed
    return provenance.difference(expected, spikes_changed=changed), changed


def _is_current(session, name: str, checkpoint, job: _Embed, population) -> bool:
    return _difference(session, name, checkpoint, job, population) == ("", False)


def _up_to_date(session, checkpoint, job: _Embed, population, *, shown: Path, option: str, replacing: bool) -> bool:
    """Whether the existing table is current; False if the spikes have changed since, or it may be replaced.

    InputError if it was computed with other settings, or if replacing it would remove identities predicted from it.
    """
    name = job.name
    table = session.tables[name]
    difference, changed = _difference(session, name, checkpoint, job, population)
    if not difference and not changed and (session.published or not job.publish):
        return True
    if replacing:
        return False
    if difference:
        second = "" if option == "--overwrite" else ", or --name to write a second table"
        raise InputError(
            f"{shown}: it holds another {name!r} already ({difference}): give {option} to replace it{second}"
        )
    if changed and not job.in_place:
        raise InputError(f"{shown}: is a copy with embeddings of other spikes than its source has now: give {option}")
    if table.predictions:
        targets = ", ".join(one.target for one in table.predictions)
        raise InputError(
            f"{shown}: {targets} was predicted from {name!r} and would be removed with it: give {option} to allow that"
        )
    return False


def _into_analyzer(source: Path, job: _Embed, reading: dict, *, replacing: bool, again: bool) -> Done:
    """Compute nuclr_embedding for the analyzer saved in `source`, and save it there."""
    from ..embedding import expected_provenance
    from ..extensions import compute_nuclr_embedding, computed_embedding, computed_estimate, computed_identity
    from ..io import read_population
    from ..model.loading import load_checkpoint

    settings, group_by = job.settings, reading["group_by"]
    others = [name for name in reading if name != "group_by"]
    if others:
        raise InputError(f"{source}: {others[0]} does not apply to an analyzer: leave it out")
    analyzer = open_analyzer(source, job.if_exists)
    existing = computed_embedding(analyzer)
    if existing and not again:
        provenance, stale = existing.get_embeddings(warn=False).provenance, existing.stale
        population = read_population(analyzer, group_by=group_by)
        expected = expected_provenance(population, load_checkpoint(settings.model), settings)
        difference = provenance.difference(expected, spikes_changed=bool(stale))
        if difference and not replacing:
            raise InputError(
                f"{source}: it holds another nuclr_embedding already ({difference}): give --if-exists replace"
            )
        if not difference and not stale:
            if job.publish:
                existing.publish_properties()
            line = f"{source}: nuclr_embedding is up to date, nothing to do"
            return Done(line, computed=False, hint="--if-exists replace recomputes it")
        predicted = [found.target for found in (computed_identity(analyzer), computed_estimate(analyzer)) if found]
        if predicted and not replacing:
            raise InputError(
                f"{source}: {', '.join(predicted)} was predicted from nuclr_embedding and would be removed with it: "
                "give --if-exists replace to allow that"
            )
    extension = compute_nuclr_embedding(
        analyzer, model=settings.model, precision=settings.precision, overlap=settings.overlap,
        min_spikes=settings.min_spikes, skip_silence=settings.skip_silence, group_by=group_by,
        torch_device=settings.device, progress_bar=settings.progress, publish=job.publish,
    )  # fmt: skip
    return Done(f"{source}: {summary(extension.get_embeddings())}, as nuclr_embedding")


def summary(embeddings) -> str:
    """One line: numbers of embedded units, dimensions and windows."""
    embedded, provenance = embeddings.num_windows > 0, embeddings.provenance
    line = (
        f"{embedded.sum()} of {len(embedded)} units embedded, {embeddings.embedding.shape[1]} dimensions, "
        f"{provenance.windows} windows of {provenance.window_s:g} s"
    )
    if provenance.signal == "traces":
        name = Path(provenance.checkpoint).name
        line += f" by {name}, {provenance.frame_rate:.4g} to {provenance.resampled_to:.4g} frames per second"
    return line
