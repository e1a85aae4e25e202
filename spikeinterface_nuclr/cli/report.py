"""nuclr report: writes a page on one recording: its units, their identities, and why each got its label."""

from pathlib import Path
from typing import Annotated, Optional

import numpy as np
import typer

from ..errors import InputError
from .app import app, say
from .options import (
    Device,
    Model,
    Overwrite,
    Precision,
    Quiet,
    Source,
    check_source,
    reads_recordings,
)

# Properties that hold a unit's depth, in the order in which they are looked for.
_DEPTHS = ("depth", "depth_um", "dist_from_tip_um", "distance_from_tip_um")


@app.command()
@reads_recordings
def report(
    source: Source,
    output: Annotated[Path, typer.Option("--output", "-o", help="Page to write: .html.", show_default=False)],
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
    *,
    reading: dict,
    device: Device = "auto",
    precision: Precision = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write a page on one recording, to open in a browser: its units on a map and along the probe, and in tables.

    With --decoder, or identities that are stored, also their labels, and which labelled neurons each unit resembles.
    The page is one file, which loads nothing from the network.

    nuclr report session.nwb --decoder D -o session.html
    """
    from ..embedding import EmbeddingSettings
    from ..files import check_format, check_writable
    from ..io import kind_of
    from ..reports.session import write_report
    from ..widgets.maps import check_method
    from .predict import PredictionReader, decoder_of, model_of, read_prediction

    check_source(source)
    check_writable(check_format(output, ".html"), overwrite=overwrite)
    if target_error is not None and decoder is None:
        raise typer.BadParameter("--target-error is for labels that are predicted now: give --decoder too")
    check_method(method)
    kind = kind_of(source)
    settings = EmbeddingSettings(model, device, precision, progress=not quiet)
    if decoder is not None:
        fitted = decoder_of(decoder)
        reader = PredictionReader(fitted, decoder, target_error, None)
        if model is not None:  # also where embeddings that are stored make it unnecessary
            model_of(fitted, settings)
        population, embeddings, identities = read_prediction(source, kind, reader, settings, reading)
    else:
        population, embeddings, identities, fitted = _stored(source, kind, settings, reading)
    write_report(
        output, population, embeddings, identities, decoder=fitted, depths=_depths(source, kind, population, depth),
        method=method, overwrite=overwrite,
    )  # fmt: skip
    named = "" if identities is None else f", {identities.target} named for {int((~identities.abstained).sum())}"
    say(f"{output}: {population.n_units} units{named}")


def _stored(source: Path, kind: str, settings, reading: dict):
    """Units, embeddings, and identities with their decoder, that are stored and current; embeddings else new."""
    from ..decoding.loading import local_decoder
    from ..io import read_population
    from ..io.where import selects
    from ..model.loading import load_checkpoint

    population, found = None, []
    if kind in ("analyzer", "nwb") and not selects(reading):
        population, found = (_of_analyzer if kind == "analyzer" else _of_nwb)(source, reading)
    else:
        population = read_population(source, **reading)
    asked = settings.model and load_checkpoint(settings.model, signal=population.signal).sha256
    found = [one for one in found if _fits(one[0].provenance, population, asked)]
    labelled = [one for one in found if one[1] is not None]
    if len(labelled) > 1:
        names = ", ".join(str(embeddings.provenance.checkpoint) for embeddings, _ in labelled)
        raise InputError(f"{source}: holds identities from embeddings of several models ({names}): name one (--model)")
    for embeddings, identities in labelled or found[:1]:
        facts = {} if identities is None else identities.provenance
        return population, embeddings, identities, local_decoder(facts.get("decoder"), facts.get("decoder_sha256"))
    checkpoint = load_checkpoint(settings.model, signal=population.signal)
    return population, settings.embed(population, checkpoint), None, None


def _fits(provenance, population, asked: str | None) -> bool:
    """Whether embeddings are of the model that was asked for, if any, and of the groups and observed time as read."""
    same = provenance.context_fingerprint in (None, population.context_fingerprint())
    return asked in (None, provenance.checkpoint_sha256) and (same or not provenance.embeds(population))


def _of_analyzer(source: Path, reading: dict):
    """Units, and current embeddings with their identities, if any, of a saved analyzer."""
    from ..extensions import computed_embedding, computed_identity
    from ..io import read_population
    from ..io.spikeinterface import load_spikeinterface

    analyzer = load_spikeinterface(source)
    embedding, identity = computed_embedding(analyzer), computed_identity(analyzer)
    found = []
    if embedding and not embedding.stale:
        identities = identity.get_identities(warn=False) if identity and not identity.stale else None
        found = [(embedding.get_embeddings(warn=False), identities)]
    return read_population(analyzer, **reading), found


def _of_nwb(source: Path, reading: dict):
    """Units, and current embeddings with their identities, if any, of an NWB file."""
    from ..io.nwb.session import read_session
    from ..predictions import Identities

    session = read_session(source, **reading)
    tables = [table for name, table in session.tables.items() if not session.outdated[name]]
    return session.population, [
        (table.embeddings, next((p for p in table.predictions if isinstance(p, Identities)), None))
        for table in tables
        if len(table.rows) == session.population.n_units
    ]


def _depths(source: Path, kind: str, population, name: str | None) -> np.ndarray | None:
    """Depth of each unit in µm; None if it is not known."""
    from ..decoding.label_sources import unit_property
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
    if kind != "analyzer":
        return None
    analyzer = load_spikeinterface(source)
    return unit_depths(analyzer) if len(analyzer.unit_ids) == population.n_units else None
