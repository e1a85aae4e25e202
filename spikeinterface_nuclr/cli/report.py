"""nuclr report: writes a page on one recording: its units, their identities, and why each got its label."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Optional

import numpy as np
import typer

from ..errors import InputError
from .app import app
from .many import Done, check_settings, path_for, run_each
from .options import (
    Device,
    Embedded,
    Model,
    NJobs,
    Outcomes,
    Overwrite,
    Precision,
    Quiet,
    Sources,
    check_source,
    reads_recordings,
)
from .results import PredictionReader, Recording, Stored, decoder_of, model_of, read_recording, would_repeat

# Properties that hold a unit's depth, in the order in which they are looked for.
_DEPTHS = ("depth", "depth_um", "dist_from_tip_um", "distance_from_tip_um")


@app.command()
@reads_recordings
def report(
    sources: Sources,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Page to write: .html. For several recordings with {name}, or {parent}, {animal}, {session}, {probe} "
            "or {key}.",
            show_default=False,
        ),
    ],
    decoder: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Decoder of labels, as of nuclr predict.", show_default="identities that are stored, if any"),
    ] = None,
    target_error: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="With --decoder: largest acceptable fraction of wrong labels.", show_default="0.1"),
    ] = None,
    depth: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Unit property with depths in µm.", show_default="one called depth, or an analyzer's"),
    ] = None,
    method: Annotated[str, typer.Option("--map", help="Map of the embeddings: PCA or UMAP.")] = "PCA",
    model: Model = None,
    embeddings: Embedded = None,
    *,
    reading: dict,
    device: Device = "auto",
    precision: Precision = "auto",
    overwrite: Overwrite = False,
    n_jobs: NJobs = 1,
    outcomes: Outcomes = None,
    quiet: Quiet = False,
) -> None:
    """Write a page on one recording, to open in a browser: its units on a map and along the probe, and in tables.

    With --decoder, or identities that are stored, also their labels, and which labelled neurons each unit resembles.
    The page is one file, which loads nothing from the network.

    nuclr report session.nwb --decoder D -o session.html

    nuclr report 'data/*/*.nwb' -o 'reports/{name}.html' -j 4: many recordings. Those that cannot be read are listed,
    and the exit code is then 3. The same command continues a run that was stopped.
    """
    from ..embedding import EmbeddingSettings
    from ..io.manifest import list_sources
    from ..widgets.maps import check_method

    if target_error is not None and decoder is None:
        raise typer.BadParameter("--target-error is for labels that are predicted now: give --decoder too")
    check_method(method)
    settings = EmbeddingSettings(model, device, precision, progress=not quiet)
    reader = None if decoder is None else PredictionReader(decoder_of(decoder), decoder, target_error, None)
    if reader is not None and model is not None:  # also where embeddings that are stored make it unnecessary
        model_of(reader.fitted, model)
    job = _Report(reader, settings, reading, embeddings, depth, method, overwrite)
    run_each(list_sources(sources), output, job, n_jobs=n_jobs, outcomes=outcomes, quiet=quiet)


@dataclass(frozen=True)
class _Report:
    """What the page of each recording shows."""

    reader: PredictionReader | None
    settings: object
    reading: dict
    embeddings: Path | None
    depth: str | None
    method: str
    overwrite: bool

    def check(self) -> None:
        """Raise what would be wrong with every recording."""
        check_settings(self.settings)
        if self.reader is not None:
            model_of(self.reader.fitted, self.settings.model)

    def __call__(self, listed, output: Path, *, alone: bool) -> Done:
        """Write the page of one recording."""
        from ..files import check_format, check_writable
        from ..reports.session import page_facts, page_provenance, write_report

        source, settings = listed.source, self.settings
        check_source(source)
        check_format(output, ".html")
        given = None if self.embeddings is None else path_for(listed, self.embeddings)
        recording = read_recording(source, listed.reading(self.reading), given)
        population = recording.population
        depths = _depths(source, population, self.depth)
        page = page_provenance(output) if output.is_file() and not (alone and self.overwrite) else None
        stored = _stored(source, recording, settings) if self.reader is None else self.reader.stored(recording)
        if given is not None and stored is None:
            raise InputError(f"{given}: are of another model: embed {source} with the one that is asked for")
        same = page is not None and page["page"] == page_facts(self.method, depths)
        if same and self._repeats(page, recording, stored, settings):
            return Done(f"{output}: is up to date, nothing to do", computed=False, hint="--overwrite writes it again")
        check_writable(output, overwrite=self.overwrite)
        if self.reader is None:
            embeddings, identities, decoder = _shown(recording, stored, settings)
        else:
            embeddings, decoder = self.reader.embeddings_of(recording, settings, given=given), self.reader.fitted
            identities = self.reader.predict(embeddings, population)
        write_report(
            output, population, embeddings, identities, decoder=decoder, depths=depths, method=self.method,
            overwrite=self.overwrite,
        )  # fmt: skip
        named = "" if identities is None else f", {identities.target} named for {int((~identities.abstained).sum())}"
        return Done(f"{output}: {population.n_units} units{named}")

    def _repeats(self, page: dict, recording: Recording, stored: Stored | None, settings) -> bool:
        """Whether a page of this provenance would come out the same."""
        from ..reports.session import as_stated

        if self.reader is not None:
            return self.reader.is_current((page["embeddings"], page["identities"]), recording, settings)
        same = page["identities"] == as_stated(_identities(stored) and _identities(stored).provenance)
        return same and would_repeat(page["embeddings"], recording.population, stored, settings)


def _identities(stored: Stored | None):
    """The identities that are stored, if any."""
    return next(iter(stored.predictions), None) if stored else None


def _shown(recording: Recording, stored: Stored | None, settings):
    """Embeddings, and identities with their decoder, that are stored; else new embeddings."""
    from ..decoding.loading import local_decoder
    from ..model.loading import load_checkpoint

    if stored is None:
        checkpoint = load_checkpoint(settings.model, signal=recording.population.signal)
        return settings.embed(recording.population, checkpoint), None, None
    identities = _identities(stored)
    facts = {} if identities is None else identities.provenance
    return stored.embeddings, identities, local_decoder(facts.get("decoder"), facts.get("decoder_sha256"))


def _stored(source: Path, recording: Recording, settings) -> Stored | None:
    """What is stored, with identities if any; of the model that is asked for, if any. None if nothing is."""
    from ..model.loading import load_checkpoint
    from ..predictions import Identities

    population = recording.population
    asked = settings.model and load_checkpoint(settings.model, signal=population.signal).sha256
    found = [
        replace(one, predictions=[p for p in one.predictions if isinstance(p, Identities)])
        for one in recording.stored if _fits(one.embeddings.provenance, population, asked)
    ]  # fmt: skip
    labelled = [one for one in found if one.predictions]
    if len(labelled) > 1:
        names = ", ".join(str(one.embeddings.provenance.checkpoint) for one in labelled)
        raise InputError(f"{source}: holds identities from embeddings of several models ({names}): name one (--model)")
    return next(iter(labelled or found), None)


def _fits(provenance, population, asked: str | None) -> bool:
    """Whether embeddings are of the model that was asked for, if any, and of the groups and observed time as read."""
    same = provenance.context_fingerprint in (None, population.context_fingerprint())
    return asked in (None, provenance.checkpoint_sha256) and (same or not provenance.embeds(population))


def _depths(source: Path, population, name: str | None) -> np.ndarray | None:
    """Depth of each unit in µm; None if it is not known."""
    from ..decoding.label_sources import unit_property
    from ..io import kind_of
    from ..io.spikeinterface import load_spikeinterface
    from ..widgets.units import unit_depths

    name = name or next((known for known in _DEPTHS if known in population.properties), None)
    if name is not None:
        try:
            return np.asarray(unit_property(population, name, str(source)), dtype=float)
        except (TypeError, ValueError) as error:
            raise error if isinstance(error, InputError) else InputError(
                f"{source}: the property {name!r} holds no depths, which are numbers: give another one (--depth)"
            ) from None  # fmt: skip
    if kind_of(source) != "analyzer":
        return None
    analyzer = load_spikeinterface(source)
    return unit_depths(analyzer) if len(analyzer.unit_ids) == population.n_units else None
