"""nuclr predict: writes predicted labels or numbers to a table, an NWB file, or an analyzer's folder.

Embeddings that are up to date are reused; otherwise the recording is embedded with the decoder's model.
"""

import json
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Optional

import typer

from ..errors import InputError, RecordingWarning
from .app import app
from .many import Done, check_settings, path_for, run_each
from .options import (
    Device,
    Embedded,
    IfExists,
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
from .results import PredictionReader, model_of, read_recording, same_units


@app.command()
@reads_recordings
def predict(
    sources: Sources,
    decoder: Annotated[
        str,
        typer.Option(
            help="Decoder: bundled name, path to a .safetensors file, or hf://owner/repo[/file][@revision].",
            show_default=False,
        ),
    ],
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--output",
            "-o",
            help="File to write: .csv, or a copy of the NWB file. For several recordings with {name}, or {parent}, "
            "{animal}, {session}, {probe} or {key}.",
            show_default=False,
        ),
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
    embeddings: Embedded = None,
    *,
    reading: dict,
    device: Device = "auto",
    precision: Precision = "auto",
    overwrite: Overwrite = False,
    if_exists: IfExists = "error",
    n_jobs: NJobs = 1,
    outcomes: Outcomes = None,
    quiet: Quiet = False,
) -> None:
    """Predict a label of every unit, such as its cell type, or a number, such as its depth.

    The recording is embedded first if needed.

    nuclr predict session.nwb --decoder D -o units.csv: a table with one row per unit.

    nuclr predict session.nwb --decoder D --in-place (or -o copy.nwb): next to the embeddings in processing/nuclr.

    nuclr predict PHY_FOLDER --decoder D --to-phy: cluster_nuclr_TARGET.tsv, which phy shows as a column.

    nuclr predict ANALYZER --decoder D: the extension nuclr_identity (for numbers nuclr_estimate), saved in the
    analyzer's folder.

    nuclr predict 'data/*/*.nwb' --decoder D -o 'types/{name}.csv' -j 4: many recordings. Those that cannot be read are
    listed, and the exit code is then 3. The same command continues a run that was stopped.

    `nuclr decoder fit` fits a decoder to your own labels or numbers.
    """
    from ..decoding.loading import load_predictor
    from ..embedding import EmbeddingSettings
    from ..io.manifest import list_sources

    if in_place and output is not None:
        raise typer.BadParameter("--in-place replaces the file itself: leave out --output")
    if to_phy and (in_place or output is not None):
        raise typer.BadParameter("--to-phy writes into the folder itself: leave out --output and --in-place")
    listed = list_sources(sources)
    if len(listed) == 1:  # before the decoder is loaded
        _destination(listed[0].source, output, reading, in_place=in_place, to_phy=to_phy)
    settings = EmbeddingSettings(model, device, precision, progress=not quiet)
    reader = PredictionReader(load_predictor(decoder), decoder, target_error, coverage)
    if model is not None:  # also where embeddings that are stored make it unnecessary
        model_of(reader.fitted, model)
    if embeddings is not None and output is None and not to_phy:
        raise typer.BadParameter("--embeddings is for tables: -o FILE.csv, or --to-phy")
    job = _Predict(reader, settings, reading, embeddings, in_place, to_phy, overwrite=overwrite, if_exists=if_exists)
    run_each(listed, output, job, n_jobs=n_jobs, outcomes=outcomes, quiet=quiet)


@dataclass(frozen=True)
class _Predict:
    """What reads each recording, and where the predictions go."""

    reader: PredictionReader
    settings: object
    reading: dict
    embeddings: Path | None
    in_place: bool
    to_phy: bool
    overwrite: bool
    if_exists: str

    def check(self) -> None:
        """Raise what would be wrong with every recording."""
        check_settings(self.settings)
        model_of(self.reader.fitted, self.settings.model)

    def __call__(self, listed, output: Path | None, *, alone: bool) -> Done:
        """Predict for one recording."""
        source, reading = listed.source, listed.reading(self.reading)
        inside, into_nwb = _destination(source, output, reading, in_place=self.in_place, to_phy=self.to_phy)
        check_replacing(inside=inside, overwrite=self.overwrite, if_exists=self.if_exists)
        # In a run of many, what is up to date is kept, so that a run that was stopped goes on.
        again = alone and (self.overwrite or self.if_exists != "error")
        given = None if self.embeddings is None else path_for(listed, self.embeddings)
        job = replace(self, embeddings=given)
        if into_nwb and given is not None:
            raise typer.BadParameter("--embeddings is for tables: -o FILE.csv, or --to-phy")
        if into_nwb:
            return _into_nwb(source, output, job, reading, again=again)
        if self.to_phy:
            return _into_phy(source, job, reading, again=again)
        if output is not None:
            return _into_file(source, output, job, reading, again=again)
        return _into_analyzer(source, job, reading["group_by"], again=again)


def _destination(
    source: Path, output: Path | None, reading: dict, *, in_place: bool, to_phy: bool
) -> tuple[bool, bool]:
    """Whether predictions go inside the source, and whether into an NWB file; a usage error if nothing says where."""
    from ..io import kind_of
    from ..io.phy import is_phy_folder
    from ..io.where import selects

    check_source(source)
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
    return output is None and not to_phy, into_nwb


def _into_file(source: Path, output: Path, job: _Predict, reading: dict, *, again: bool) -> Done:
    """Write a ``.csv`` with one row per unit, and its provenance beside it."""
    from ..files import check_format, check_writable, written_whole
    from ..text import for_csv

    check_format(output, ".csv")
    recording, beside = read_recording(source, reading, job.embeddings), output.with_suffix(".provenance.json")
    stored = None if again or not output.is_file() else _read_provenances(beside)
    if job.reader.is_current(stored, recording, job.settings):
        return Done(f"{output}: is up to date, nothing to do", computed=False, hint="--overwrite recomputes it")
    check_writable(output, overwrite=job.overwrite)
    again_beside = job.overwrite or _is_left_over(beside, output)
    check_writable(beside, overwrite=again_beside)
    embeddings = job.reader.embeddings_of(recording, job.settings, given=job.embeddings)
    prediction = job.reader.predict(embeddings, recording.population)
    with (
        written_whole(beside, overwrite=again_beside) as provenances,
        written_whole(output, overwrite=job.overwrite) as temporary,
    ):
        _write_provenances(provenances, embeddings, prediction)
        for_csv(_table(prediction, recording.population)).to_csv(temporary)
    return Done(f"{output}: {_summary(prediction)}")


def _table(prediction, population):
    """One row per unit; with several groups, the group of each."""
    table = prediction.to_dataframe()
    if len(set(population.group.tolist())) > 1:
        group = dict(zip(map(str, population.unit_ids), population.group.tolist(), strict=True))
        table.insert(0, "group", [group[str(unit)] for unit in table.index])
    return table


def _write_provenances(path: Path, embeddings, prediction) -> None:
    content = {"embeddings": embeddings.provenance.to_dict(), "prediction": prediction.provenance}
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _read_provenances(path: Path) -> tuple[dict, dict] | None:
    """Provenance of the embeddings and of the prediction in a file; None if there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        embeddings, prediction = content["embeddings"], content["prediction"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (embeddings, prediction) if isinstance(embeddings, dict) and isinstance(prediction, dict) else None


def _is_left_over(beside: Path, table: Path) -> bool:
    """Whether a provenance is of a table that somebody has removed."""
    return not table.exists() and _read_provenances(beside) is not None


def _into_phy(source: Path, job: _Predict, reading: dict, *, again: bool) -> Done:
    """Write predictions as columns of a phy folder."""
    from ..files import check_writable, written_whole
    from ..io.phy_columns import check_columns, columns_of, write_phy_columns

    target = job.reader.fitted.target
    recording = read_recording(source, reading, job.embeddings)
    beside = source / f"{columns_of(target)}.provenance.json"
    shown = source / f"cluster_{columns_of(target)}.tsv"
    stored = None if again or not shown.is_file() else _read_provenances(beside)
    if job.reader.is_current(stored, recording, job.settings):
        return Done(
            f"{source}: {target} is up to date, nothing to do", computed=False, hint="--overwrite recomputes it"
        )
    check_columns(source, target, overwrite=job.overwrite)
    again_beside = job.overwrite or _is_left_over(beside, shown)
    check_writable(beside, overwrite=again_beside)
    embeddings = job.reader.embeddings_of(recording, job.settings, given=job.embeddings)
    prediction = job.reader.predict(embeddings, recording.population)
    with written_whole(beside, overwrite=again_beside) as provenances:
        _write_provenances(provenances, embeddings, prediction)
        files = write_phy_columns(source, prediction, overwrite=job.overwrite)
    return Done(f"{', '.join(map(str, files))}: {_summary(prediction)}")


def _into_nwb(source: Path, output: Path | None, job: _Predict, reading: dict, *, again: bool) -> Done:
    """Write predictions, and embeddings if there are none, into a copy of an NWB file, or into the file itself.

    Embeddings of other models, and what was predicted from them, are kept.
    """
    from ..io.nwb.output import check_places, output_of
    from ..io.nwb.reading import TABLE
    from ..io.nwb.tables import free_name
    from ..io.nwb.writing import Request, check_choices, write_request

    reader, if_exists = job.reader, job.if_exists
    check_choices(TABLE, if_exists)
    in_place = output is None
    destination = output_of(source, output, in_place=in_place, units_only=False)
    shown = source if in_place else destination
    recording = read_recording(source, reading)
    session, imaged = recording.session, recording.population.signal == "traces"
    existing = None
    if not again:
        existing = recording if in_place else read_recording(destination, reading) if destination.exists() else None
    if existing is not None and _is_predicted(existing, reader, recording.population):
        option = "--if-exists replace" if in_place else "--overwrite"
        line = f"{shown}: {reader.fitted.target} is up to date, nothing to do"
        return Done(line, computed=False, hint=f"{option} recomputes it")
    check_places(
        source, destination, in_place=in_place, overwrite=job.overwrite, imaged=imaged, pointers=session.pointers
    )
    stored = reader.stored(recording)
    # New embeddings take the name of an outdated table of the same model, or a free name.
    outdated = [name for name, table in session.tables.items() if reader.accepts(table.embeddings)]
    name = stored.name if stored else outdated[0] if outdated else free_name(TABLE, session.names)
    embeddings = reader.embeddings_of(recording, job.settings)
    prediction = reader.predict(embeddings, recording.population)
    request = Request(embeddings, [prediction], name, "replace" if job.overwrite else if_exists)
    write_request(source, destination, request, overwrite=job.overwrite or in_place, session=session)
    return Done(f"{shown}: {_summary(prediction)}, in processing/nuclr/{prediction.target}")


def _is_predicted(recording, reader: PredictionReader, population) -> bool:
    """Whether what would be predicted of a population is stored with a recording, which may be a copy of its source."""
    return any(
        prediction.target == reader.fitted.target and reader.would_repeat(prediction.provenance, recording)
        for stored in recording.stored
        if recording.population is population or same_units(recording.population, population)
        for prediction in stored.predictions
    )


def _into_analyzer(source: Path, job: _Predict, group_by: str | None, *, again: bool) -> Done:
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

    reader, if_exists, settings = job.reader, job.if_exists, job.settings
    analyzer, fitted = open_analyzer(source, if_exists), reader.fitted
    name = "nuclr_estimate" if reader.numbers else "nuclr_identity"
    extension, existing = (
        computed_embedding(analyzer),
        (computed_estimate if reader.numbers else computed_identity)(analyzer),
    )
    usable = extension is not None and reader.accepts(extension.get_embeddings(warn=False))
    if not again and usable and not extension.stale and existing and not existing.stale:
        provenance = existing.get_prediction(warn=False).provenance
        # Positions and other features are those of the analyzer; it marks what it made of others as stale.
        if reader.made(provenance):
            line = f"{source}: {fitted.target} is up to date, nothing to do"
            return Done(line, computed=False, hint="--if-exists replace recomputes it")
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
        model = model_of(fitted, settings.model)
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
    return Done(f"{source}: {_summary(prediction)}, as {name}")


def _summary(prediction) -> str:
    target, units = prediction.target, len(prediction.unit_ids)
    if hasattr(prediction, "coverage"):
        return f"{target} predicted for {int(prediction.estimated.sum())} of {units} units"
    labelled = int((~prediction.abstained).sum())
    return f"{target} predicted for {labelled} of {units} units, the others are 'unknown'"
