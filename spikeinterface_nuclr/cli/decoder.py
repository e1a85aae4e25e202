"""nuclr decoder: fits a decoder of one property, a label or a number; says which units to label for the next one."""

from pathlib import Path
from typing import Annotated, Optional

import numpy as np
import typer

from ..errors import InputError
from .app import app, exit_if_skipped, list_skipped, say
from .options import (
    Balanced,
    Card,
    Classes,
    Device,
    Embeddings,
    Label,
    Labels,
    Level,
    Model,
    Overwrite,
    Precision,
    Quiet,
    Readout,
    Sources,
    Target,
    Value,
    Values,
    label_rule,
    read_card,
    reads_recordings,
    target_name,
)

decoder = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Fit decoders of cell type, brain region, depth or another property.",
)
app.add_typer(decoder, name="decoder")


@decoder.command("fit")
@reads_recordings
def decoder_fit(
    sources: Sources,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Decoder file to write (.safetensors).", show_default=False)
    ],
    label: Label = None,
    labels: Labels = None,
    value: Value = None,
    values: Values = None,
    level: Level = None,
    classes: Classes = None,
    target: Target = None,
    model: Model = None,
    embeddings: Embeddings = None,
    readout: Readout = "linear",
    balanced: Balanced = True,
    depth: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="Unit property with depths in µm: average probabilities over neighbouring units, as suits regions.",
            show_default=False,
        ),
    ] = None,
    card: Card = None,
    *,
    reading: dict,
    device: Device = "auto",
    precision: Precision = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Fit a decoder to labelled recordings of several animals.

    The recordings are embedded first. Run `nuclr evaluate` to see how well a decoder predicts the label in new animals.

    Units are left out if their label is empty or reads "nan", "none", "na", "n/a", "null", "unknown" or "unlabeled".
    For numbers, such as depth, give --value or --values: the predictions are numbers with intervals.

    Recordings that are damaged, have no labels or cannot be embedded are skipped and listed; the exit code is then 3.
    """
    from ..decoding.cohort import read_cohort
    from ..decoding.fitting import fit_decoder
    from ..decoding.readout import check_readout
    from ..decoding.regressor import fit_regressor
    from ..embedding import EmbeddingSettings
    from ..files import check_format, check_writable

    name = target_name(target, label, labels, value, values)
    if depth and (value or values):
        raise typer.BadParameter("--depth is for labels: leave it out for numbers")
    check_readout(readout)
    check_writable(check_format(output, ".safetensors"), overwrite=overwrite)
    description = read_card(card) if card else {}
    cohort = read_cohort(
        sources, label_rule(label, labels, value, values, level, classes),
        EmbeddingSettings(model, device, precision, progress=not quiet), released=embeddings or (), depth=depth,
        **reading,
    )  # fmt: skip
    list_skipped(cohort.left_out)
    known = (cohort.embeddings, cohort.labels, cohort.animals)
    if value or values:
        fitted = fit_regressor(*known, target=name, readout=readout, card=description)
    else:
        places = {"positions": cohort.positions, "probes": cohort.probes} if depth else {}
        described = {**description, "position": depth} if depth else description
        fitted = fit_decoder(*known, target=name, readout=readout, balanced=balanced, card=described, **places)
    fitted.save(output, overwrite=overwrite)
    say(f"{output}: {fitted!r}, calibrated on {fitted.card['calibrated_on']}, sha256 {fitted.sha256}")
    exit_if_skipped(cohort.left_out)


@decoder.command("suggest")
@reads_recordings
def decoder_suggest(
    sources: Sources,
    decoder: Annotated[
        str,
        typer.Option(help="Decoder of labels, as of nuclr predict.", show_default=False),
    ],
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="Table of units to write: .csv.", show_default="printed"),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Number of units.")] = 20,
    *,
    reading: dict,
    device: Device = "auto",
    precision: Precision = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Rank the units whose labels would teach a decoder most: doubtful or novel ones that many others resemble.

    Units that have a label already, in the property that the decoder predicts, are not listed, nor are their likes.

    Label them, such as by nuclr gui ANALYZER --curation, and fit a decoder again.
    """
    from ..decoding.labels import as_labels
    from ..decoding.suggestions import suggest_units
    from ..embedding import EmbeddingSettings
    from ..files import check_format, check_writable, written_whole
    from ..io.manifest import list_sources
    from ..text import for_csv
    from .results import PredictionReader, decoder_of, read_recording

    if output is not None:
        check_writable(check_format(output, ".csv"), overwrite=overwrite)
    fitted = decoder_of(decoder)
    reader = PredictionReader(fitted, decoder, None, None)
    settings = EmbeddingSettings(None, device, precision, progress=not quiet)
    listed = list_sources(sources)
    found, embeddings, labelled = [], [], []
    for one in listed:
        try:
            recording = read_recording(one.source, one.reading(reading))
            embedded = reader.embeddings_of(recording, settings)
            identities = reader.predict(embedded, recording.population)
        except InputError as error:
            raise InputError(one.refusal(error)) from None
        population, known = recording.population, {}
        if fitted.target in population.properties:
            is_known = as_labels(population.properties[fitted.target])[1]
            known = dict(zip(map(str, population.unit_ids), is_known, strict=True))
        found.append(identities)
        embeddings.append(embedded)
        labelled.append(np.array([known.get(str(unit), False) for unit in identities.unit_ids], dtype=bool))
    table = suggest_units(found, embeddings, labelled=labelled, count=count)
    table["recording"] = [listed[number].name for number in table["recording"]]
    if output is not None:
        with written_whole(output, overwrite=overwrite) as temporary:
            for_csv(table).to_csv(temporary)
    else:
        for line in table.round(3).to_string().splitlines():
            say(line)
    say(f"{len(table)} units to label" + ("" if output is None else f"; written: {output}"))
