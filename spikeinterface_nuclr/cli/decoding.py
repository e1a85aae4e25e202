"""Commands on labels: decoder fit, predict, evaluate."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from ..errors import InputError
from .app import (
    EXIT_CODES,
    Device,
    GroupBy,
    KeepRejected,
    Model,
    Overwrite,
    Precision,
    Quiet,
    SamplingFrequency,
    Series,
    Source,
    Traces,
    app,
    read_card,
    reading_of,
    say,
)

Sources = Annotated[
    list[str],
    typer.Argument(
        help="Recordings, patterns ('data/*/*.nwb'), folders of NWB files, or CSV manifests with a column source and, "
        "as you like, animal, session and probe.",
        show_default=False,
    ),
]
Label = Annotated[
    Optional[str],  # noqa: UP045 (typer reads the annotation at run time)
    typer.Option(help="Property of the units that holds their labels.", show_default=False),
]
Labels = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        help="CSV file of labels, in place of --label: columns source (path of the recording, from the CSV file's "
        "folder, or its file name), unit (its id) and label.",
        show_default=False,
    ),
]
Target = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Name of the property that is predicted.", show_default="the label's, or that of the CSV file"),
]
Level = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Of labels that are Allen acronyms: fine, group or cosmos.", show_default=False),
]
Classes = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(help="CSV file with the columns label and class; other labels count as none.", show_default=False),
]
Balanced = Annotated[bool, typer.Option(help="Count classes alike, however many units they have.")]

decoder = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Fit a decoder of a property of the units.")
app.add_typer(decoder, name="decoder")


@decoder.command("fit")
def decoder_fit(
    sources: Sources,
    output: Annotated[Path, typer.Option("--output", "-o", help="The .safetensors file to write.", show_default=False)],
    label: Label = None,
    labels: Labels = None,
    level: Level = None,
    classes: Classes = None,
    target: Target = None,
    model: Model = None,
    balanced: Balanced = True,
    card: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="JSON file of what to say about the decoder (data, licence, …).", show_default=False),
    ] = None,
    group_by: GroupBy = "group",
    series: Series = None,
    traces: Traces = "auto",
    sampling_frequency: SamplingFrequency = None,
    keep_rejected: KeepRejected = False,
    device: Device = "auto",
    precision: Precision = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Fit a decoder of classes to labelled recordings of several animals.

    Units whose label is empty, "nan", "none", "na", "n/a", "null", "unknown" or "unlabeled" are left out. For numbers,
    such as depth, use fit_regressor in Python.

    Recordings that are damaged, have no labels or cannot be embedded are skipped and listed; the exit code is then 3.
    """
    from ..decoding.decoder import fit_decoder
    from ..files import check_format, check_writable

    name = _target(target, label, labels)
    check_writable(check_format(output, ".safetensors"), overwrite=overwrite)
    about = read_card(card) if card else {}
    cohort = _cohort(
        sources, _label_rule(label, labels, level, classes), _settings(model, device, precision, quiet),
        reading_of(group_by, series, traces, keep_rejected, sampling_frequency),
    )  # fmt: skip
    fitted = fit_decoder(cohort.embeddings, cohort.labels, cohort.animals, target=name, balanced=balanced, card=about)
    fitted.save(output, overwrite=overwrite)
    say(f"{output}: {fitted!r}, calibrated on {fitted.card['calibrated_on']}, sha256 {fitted.sha256}")
    _exit_if_left_out(cohort)


@app.command()
def predict(
    source: Source,
    decoder: Annotated[
        str, typer.Option(help="Bundled name, path to a .safetensors file, or hf:// name.", show_default=False)
    ],
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="File to write: .csv, or a copy of an NWB file.", show_default=False),
    ] = None,
    in_place: Annotated[bool, typer.Option("--in-place", help="Write into the NWB file itself, safely.")] = False,
    target_error: Annotated[
        float, typer.Option(help="Largest share of wrong labels among the units that get one.")
    ] = 0.1,
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Where the decoder's model is, where its name does not say.", show_default="the decoder's"),
    ] = None,
    group_by: GroupBy = "group",
    series: Series = None,
    traces: Traces = "auto",
    sampling_frequency: SamplingFrequency = None,
    keep_rejected: KeepRejected = False,
    device: Device = "auto",
    precision: Precision = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace the output, or identities that are there.")] = False,
    quiet: Quiet = False,
) -> None:
    """Predict a property of every unit of a recording; embed it first, where that is not done.

    nuclr predict session.nwb --decoder D -o units.csv: a table, one row a unit.

    nuclr predict session.nwb --decoder D --in-place (or -o copy.nwb): beside the embeddings in processing/nuclr.

    nuclr predict ANALYZER --decoder D: the extension nuclr_identity, saved in the analyzer's folder.
    """
    from ..io import kind_of
    from ..predicting import predict_analyzer, predict_into_nwb, predict_to_file

    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    if in_place and output is not None:
        raise typer.BadParameter("--in-place replaces the file itself: leave out --output")
    how = _settings(model, device, precision, quiet)
    kind = kind_of(source)
    options = {
        "target_error": target_error,
        "reading": reading_of(group_by, series, traces, keep_rejected, sampling_frequency),
        "force": force,
    }
    if kind == "nwb" and (in_place or (output and output.suffix in (".nwb", ".zarr"))):
        line = predict_into_nwb(source, decoder, output, how, **options)
    elif in_place:
        raise typer.BadParameter("--in-place is for NWB files")
    elif output is not None:
        line = predict_to_file(source, decoder, output, how, **options)
    elif kind == "analyzer":
        line = predict_analyzer(source, decoder, how, **options)
    else:
        more = ", -o FILE.nwb or --in-place" if kind == "nwb" else ""
        raise typer.BadParameter(f"name a file to write: -o FILE.csv{more}")
    say(line)


@app.command()
def evaluate(
    sources: Sources,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the report.", show_default=False)],
    label: Label = None,
    labels: Labels = None,
    level: Level = None,
    classes: Classes = None,
    target: Target = None,
    protocol: Annotated[
        str, typer.Option(help="leave-one-animal-out, zero-shot (with --test-animal) or within-animal.")
    ] = "leave-one-animal-out",
    test_animal: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Animal that is tested on. Repeatable.", show_default=False),
    ] = None,
    depth: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Property with each unit's depth in µm: also pool over neighbours.", show_default=False),
    ] = None,
    control: Annotated[bool, typer.Option(help="Also embed the units without their relations.")] = True,
    curves: Annotated[bool, typer.Option("--curves", help="Also draw scores by labels and by animals.")] = False,
    shuffles: Annotated[int, typer.Option(min=0, help="Times that labels are shuffled within animals.")] = 20,
    balanced: Balanced = True,
    n_jobs: Annotated[int, typer.Option(help="Processes that fit decoders at the same time; -1: one a core.")] = -1,
    model: Model = None,
    group_by: GroupBy = "group",
    series: Series = None,
    traces: Traces = "auto",
    sampling_frequency: SamplingFrequency = None,
    keep_rejected: KeepRejected = False,
    device: Device = "auto",
    precision: Precision = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Score how well a property is predicted from embeddings and from baselines without them; write a report.

    No animal is both trained and tested on, except with --protocol within-animal. Embeddings and the features of the
    baselines are kept in the report's folder and reused by the next run unless the spikes or settings have changed.

    Recordings that are damaged, have no labels or cannot be embedded are skipped and listed; the exit code is then 3.
    """
    from ..decoding.evaluation import evaluate as score
    from ..decoding.learning_curves import animal_scaling, label_efficiency
    from ..decoding.parallel import check_jobs
    from ..decoding.splits import check_protocol
    from ..report import check_report, write_report
    from ..widgets import plot_nuclr_evaluation

    name = _target(target, label, labels)
    check_protocol(protocol, test_animal or ())
    check_jobs(n_jobs)
    check_report(output, overwrite=overwrite)
    cohort = _cohort(
        sources, _label_rule(label, labels, level, classes), _settings(model, device, precision, quiet),
        reading_of(group_by, series, traces, keep_rejected, sampling_frequency),
        cache=output / "embeddings", beside=True, control=control, depth=depth,
    )  # fmt: skip
    split = {
        "protocol": protocol, "test_animals": test_animal or (), "balanced": balanced, "n_jobs": n_jobs,
        "progress": not quiet,
    }  # fmt: skip
    given = (cohort.embeddings, cohort.labels, cohort.animals)
    found = score(
        *given, **split, target=name, others=cohort.others, positions=cohort.positions, probes=cohort.probes,
        shuffles=shuffles,
    )  # fmt: skip
    drawn = [label_efficiency(*given, **split)] if curves else []
    drawn += [animal_scaling(*given, **split)] if curves and protocol != "within-animal" else []
    page = write_report(output, found, cohort, plot_nuclr_evaluation(found, *drawn).figure, drawn, overwrite=overwrite)
    say(found.verdict)
    for line in found.to_dataframe()[["macro-F1", "balanced accuracy", "ECE"]].round(3).to_string().splitlines():
        say(line)
    say(f"report: {page}")
    _exit_if_left_out(cohort)


def _settings(model, device, precision, quiet):
    from ..commands import Settings

    return Settings(model, device, precision, progress=not quiet)


def _target(target: str | None, label: str | None, labels: Path | None) -> str:
    """The name of what is predicted; a usage error unless the labels come from one place."""
    if (label is None) == (labels is None):
        raise typer.BadParameter("give either --label, a property of the units, or --labels, a CSV file")
    return target or label or labels.stem


def _label_rule(label: str | None, labels: Path | None, level: str | None, classes: Path | None):
    from ..decoding.label_sources import LabelRule, LabelTable, read_classes

    mapping = read_classes(classes) if classes else {}
    return LabelRule(label, level or "", mapping) if labels is None else LabelTable.read(labels, level or "", mapping)


def _cohort(sources, rule, settings, reading: dict, **keywords):
    """The cohort. Recordings that are left out are listed at once: they may be why the next step fails."""
    from ..decoding.cohort import read_cohort

    cohort = read_cohort(sources, rule, settings, **reading, **keywords)
    for line in cohort.left_out:
        say(f"nuclr: skipped: {line}", err=True)
    return cohort


def _exit_if_left_out(cohort) -> None:
    if cohort.left_out:
        raise typer.Exit(EXIT_CODES[InputError])
