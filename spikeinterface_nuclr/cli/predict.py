"""nuclr predict: writes predicted labels or numbers to a table, an NWB file, or an analyzer's folder.

Embeddings that are up to date are reused; otherwise the recording is embedded with the decoder's model.
"""

import warnings
from pathlib import Path
from typing import Annotated, Optional

import typer

from ..errors import CheckpointError, InputError, RecordingWarning
from .app import app, say
from .options import (
    Device,
    IfExists,
    Overwrite,
    Precision,
    Quiet,
    Source,
    check_replacing,
    check_source,
    open_analyzer,
    reads_recordings,
)


@app.command()
@reads_recordings
def predict(
    source: Source,
    decoder: Annotated[
        str,
        typer.Option(
            help="Decoder: bundled name, path to a .safetensors file, or hf://owner/repo[/file][@revision].",
            show_default=False,
        ),
    ],
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="File to write: .csv, or a copy of the NWB file.", show_default=False),
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Add the predictions to the NWB file itself, in one safe step.")
    ] = False,
    to_phy: Annotated[
        bool,
        typer.Option("--to-phy", help="Add the predictions to a phy or Kilosort folder, as columns that phy shows."),
    ] = False,
    target_error: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            help="Labels: largest acceptable fraction of wrong ones; units are left 'unknown' to stay below it.",
            show_default="0.1",
        ),
    ] = None,
    coverage: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Numbers: fraction of true values inside their intervals.", show_default="0.9"),
    ] = None,
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Path of the decoder's model, if it is not found by name.", show_default="the decoder's"),
    ] = None,
    *,
    reading: dict,
    device: Device = "auto",
    precision: Precision = "auto",
    overwrite: Overwrite = False,
    if_exists: IfExists = "error",
    quiet: Quiet = False,
) -> None:
    """Predict a label of every unit, such as its cell type, or a number, such as its depth.

    The recording is embedded first if needed.

    nuclr predict session.nwb --decoder D -o units.csv: a table with one row per unit.

    nuclr predict session.nwb --decoder D --in-place (or -o copy.nwb): next to the embeddings in processing/nuclr.

    nuclr predict PHY_FOLDER --decoder D --to-phy: cluster_nuclr_TARGET.tsv, which phy shows as a column.

    nuclr predict ANALYZER --decoder D: the extension nuclr_identity (for numbers nuclr_estimate), saved in the
    analyzer's folder.

    `nuclr decoder fit` fits a decoder to your own labels or numbers.
    """
    from ..decoding.loading import load_predictor
    from ..embedding import EmbeddingSettings
    from ..io import kind_of
    from ..io.phy import is_phy_folder
    from ..io.where import selects

    check_source(source)
    if in_place and output is not None:
        raise typer.BadParameter("--in-place replaces the file itself: leave out --output")
    if to_phy and (in_place or output is not None):
        raise typer.BadParameter("--to-phy writes into the folder itself: leave out --output and --in-place")
    if to_phy and not is_phy_folder(source):
        raise typer.BadParameter("--to-phy is for phy and Kilosort folders, which hold spike_times.npy")
    kind = kind_of(source)
    into_nwb = kind == "nwb" and (in_place or (output is not None and output.suffix in (".nwb", ".zarr")))
    if in_place and not into_nwb:
        raise typer.BadParameter("--in-place is for NWB files")
    if output is None and not in_place and not to_phy and kind != "analyzer":
        more = ", -o FILE.nwb or --in-place" * (kind == "nwb") + " or --to-phy" * is_phy_folder(source)
        raise typer.BadParameter("name a file to write: -o FILE.csv" + more)
    if selects(reading) and not to_phy and (output is None or into_nwb):
        raise typer.BadParameter("--where and --within are for output files: -o FILE.csv")
    check_replacing(inside=output is None and not to_phy, overwrite=overwrite, if_exists=if_exists)
    settings = EmbeddingSettings(model, device, precision, progress=not quiet)
    reader = PredictionReader(load_predictor(decoder), decoder, target_error, coverage)
    if model is not None:  # also where embeddings that are stored make it unnecessary
        model_of(reader.fitted, settings)
    if into_nwb:
        line = _into_nwb(source, reader, output, settings, reading, overwrite=overwrite, if_exists=if_exists)
    elif to_phy:
        line = _into_phy(source, reader, settings, reading, overwrite=overwrite)
    elif output is not None:
        line = _into_file(source, kind, reader, output, settings, reading, overwrite=overwrite)
    else:
        line = _into_analyzer(source, reader, settings, reading["group_by"], if_exists=if_exists)
    say(line)


def decoder_of(name: str):
    """The decoder of labels of this name; a usage error for one of numbers."""
    from ..decoding.decoder import Decoder
    from ..decoding.loading import load_predictor

    fitted = load_predictor(name)
    if not isinstance(fitted, Decoder):
        raise typer.BadParameter(f"{name}: predicts numbers: give a decoder of labels")
    return fitted


class PredictionReader:
    """A decoder or regressor, and how it is to predict: `settings` are a keyword of its `predict`."""

    def __init__(self, fitted, name: str, target_error: float | None, coverage: float | None):
        from ..decoding.regressor import Regressor
        from ..predictions import check_coverage, check_target_error

        self.fitted, self.name = fitted, name
        self.numbers = isinstance(fitted, Regressor)
        wrong = target_error if self.numbers else coverage
        if wrong is not None:
            kind, options = ("numbers", "--coverage") if self.numbers else ("labels", "--target-error")
            raise typer.BadParameter(f"{name}: predicts {kind}, which take {options}")
        self.settings = {}
        if coverage is not None:
            check_coverage(coverage)
            self.settings = {"coverage": coverage}
        elif target_error is not None:
            check_target_error(target_error)
            self.settings = {"target_error": target_error}

    def predict(self, embeddings, population):
        """What it reads from the embeddings of a population."""
        from ..decoding.label_sources import unit_property

        places = {}
        if not self.numbers and self.fitted.neighbours:
            name = str(self.fitted.card.get("position", "depth"))
            positions = unit_property(population, name, str(population.metadata.get("source", "the recording")))
            row = {str(unit): k for k, unit in enumerate(population.unit_ids.tolist())}
            rows = [row[str(unit)] for unit in embeddings.unit_ids.tolist()]
            places = {"positions": positions[rows], "probes": population.group[rows]}
        return self.fitted.predict(embeddings, **self.settings, **places)


def _into_file(
    source: Path, kind: str, reader: PredictionReader, output: Path, settings, reading: dict, *, overwrite: bool
) -> str:
    """Write a ``.csv`` with one row per unit; `kind` is that of the source."""
    from ..files import check_format, check_writable, written_whole
    from ..text import for_csv

    check_writable(check_format(output, ".csv"), overwrite=overwrite)
    population, _, prediction = read_prediction(source, kind, reader, settings, reading)
    table = prediction.to_dataframe()
    if len(set(population.group.tolist())) > 1:
        group = dict(zip(map(str, population.unit_ids), population.group.tolist(), strict=True))
        table.insert(0, "group", [group[str(unit)] for unit in table.index])
    with written_whole(output, overwrite=overwrite) as temporary:
        for_csv(table).to_csv(temporary)
    return f"{output}: {_summary(prediction)}"


def read_prediction(source: Path, kind: str, reader: PredictionReader, settings, reading: dict):
    """Units, embeddings and predictions of a source; stored embeddings are used if they are current."""
    from ..io import read_population
    from ..io.nwb.session import read_session
    from ..io.where import selects

    fitted = reader.fitted
    if kind == "analyzer" and not selects(reading):
        population, embeddings = _analyzer_embeddings(source, fitted, settings, reading)
    elif kind == "nwb" and not selects(reading):
        session = read_session(source, **reading)
        population, (_, embeddings) = session.population, _session_embeddings(session, fitted, settings)
    else:
        population = read_population(source, **reading)
        embeddings = settings.embed(population, model_of(fitted, settings))
    return population, embeddings, reader.predict(embeddings, population)


def _into_phy(source: Path, reader: PredictionReader, settings, reading: dict, *, overwrite: bool) -> str:
    """Write predictions as columns of a phy folder."""
    from ..io import read_population
    from ..io.phy_columns import check_columns, write_phy_columns

    check_columns(source, reader.fitted.target, overwrite=overwrite)
    population = read_population(source, **reading)
    prediction = reader.predict(settings.embed(population, model_of(reader.fitted, settings)), population)
    files = write_phy_columns(source, prediction, overwrite=overwrite)
    return f"{', '.join(map(str, files))}: {_summary(prediction)}"


def _into_nwb(
    source: Path,
    reader: PredictionReader,
    output: Path | None,
    settings,
    reading: dict,
    *,
    overwrite: bool,
    if_exists: str,
) -> str:
    """Write predictions, and embeddings if there are none, into a copy of an NWB file, or into the file itself.

    Embeddings of other models, and what was predicted from them, are kept.
    """
    from ..io.nwb.output import check_places, output_of
    from ..io.nwb.session import read_session
    from ..io.nwb.writing import TABLE, Request, check_choices, write_request

    check_choices(TABLE, if_exists)
    in_place = output is None
    destination = output_of(source, output, in_place=in_place, units_only=False)
    session = read_session(source, **reading)
    imaged = session.population.signal == "traces"
    check_places(source, destination, in_place=in_place, overwrite=overwrite, imaged=imaged, pointers=session.pointers)
    name, embeddings = _session_embeddings(session, reader.fitted, settings)
    prediction = reader.predict(embeddings, session.population)
    request = Request(embeddings, [prediction], name, "replace" if overwrite else if_exists)
    write_request(source, destination, request, overwrite=overwrite or in_place, session=session)
    return f"{source if in_place else destination}: {_summary(prediction)}, in processing/nuclr/{prediction.target}"


def _into_analyzer(source: Path, reader: PredictionReader, settings, group_by: str | None, *, if_exists: str) -> str:
    """Compute nuclr_identity or nuclr_estimate for the analyzer saved in `source`.

    And nuclr_embedding before, if it is missing or stale.
    """
    from ..extensions import (
        compute_nuclr_embedding,
        compute_nuclr_estimate,
        compute_nuclr_identity,
        computed_embedding,
        computed_estimate,
        computed_identity,
    )

    analyzer, fitted = open_analyzer(source, if_exists), reader.fitted
    name = "nuclr_estimate" if reader.numbers else "nuclr_identity"
    extension, existing = (
        computed_embedding(analyzer),
        (computed_estimate if reader.numbers else computed_identity)(analyzer),
    )
    usable = extension is not None and _accepts(fitted, extension.get_embeddings(warn=False))
    if if_exists == "error" and extension and not usable:
        raise InputError(f"{source}: nuclr_embedding is of another model: give --if-exists replace to replace it")
    if if_exists == "error" and existing and existing.target != fitted.target:
        raise InputError(f"{source}: {name} is of another property: give --if-exists replace to replace it")
    if not usable or extension.stale:
        other = (computed_identity if reader.numbers else computed_estimate)(analyzer)
        if if_exists == "error" and other:
            raise InputError(
                f"{source}: {other.target} was predicted from embeddings that have to be computed again, and would be "
                "removed with them: give --if-exists replace to allow that"
            )
        model = model_of(fitted, settings)
        with warnings.catch_warnings():
            # It is computed next.
            warnings.filterwarnings("ignore", f"{name} was computed from the previous", RecordingWarning)
            compute_nuclr_embedding(
                analyzer, model=model.name, model_sha256=model.sha256, precision=settings.precision, group_by=group_by,
                torch_device=settings.device, progress_bar=settings.progress,
            )  # fmt: skip
    if reader.numbers:
        prediction = compute_nuclr_estimate(analyzer, reader.name, **reader.settings).get_estimates()
    else:
        prediction = compute_nuclr_identity(analyzer, reader.name, **reader.settings).get_identities()
    return f"{source}: {_summary(prediction)}, as {name}"


def _analyzer_embeddings(source: Path, decoder, settings, reading: dict):
    """The saved analyzer's population; its embeddings if they are current and of the decoder's model, or new ones."""
    from ..extensions import computed_embedding
    from ..io import read_population
    from ..io.spikeinterface import load_spikeinterface

    analyzer = load_spikeinterface(source)
    population, extension = read_population(analyzer, **reading), computed_embedding(analyzer)
    if extension and not extension.stale:
        embeddings = extension.get_embeddings(warn=False)
        if _accepts(decoder, embeddings):
            return population, embeddings
    return population, settings.embed(population, model_of(decoder, settings))


def _session_embeddings(session, decoder, settings):
    """Name and embeddings of the NWB file's table that is current and of the decoder's model, otherwise new ones.

    New embeddings take the name of an outdated table of the same model, or a free name.
    """
    from ..io.nwb.reading import TABLE
    from ..io.nwb.tables import free_name

    readable = [name for name, table in session.tables.items() if _accepts(decoder, table.embeddings)]
    for name in readable:
        table = session.tables[name]
        if not session.outdated[name] and len(table.rows) == session.population.n_units:
            return name, table.embeddings
    name = readable[0] if readable else free_name(TABLE, session.names)
    return name, settings.embed(session.population, model_of(decoder, settings))


def _accepts(decoder, embeddings) -> bool:
    return embeddings.provenance.checkpoint_sha256 in decoder.checkpoints


def model_of(decoder, settings):
    """The checkpoint that the decoder was fitted with."""
    from ..model.loading import load_checkpoint

    if len(decoder.checkpoints) > 1:
        raise InputError(f"{decoder.name}: averages several checkpoints: use its predict in Python")
    [sha256] = decoder.checkpoints
    name = settings.model or decoder.card.get("checkpoints", {}).get(sha256)
    try:
        return load_checkpoint(name, sha256=sha256)
    except CheckpointError as error:
        raise CheckpointError(f"{decoder.name}: needs the model that it was fitted with (--model): {error}") from None


def _summary(prediction) -> str:
    target, units = prediction.target, len(prediction.unit_ids)
    if hasattr(prediction, "coverage"):
        return f"{target} predicted for {int(prediction.estimated.sum())} of {units} units"
    labelled = int((~prediction.abstained).sum())
    return f"{target} predicted for {labelled} of {units} units, the others are 'unknown'"
