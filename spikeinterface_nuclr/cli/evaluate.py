"""nuclr evaluate: scores a decoder or regressor against baselines in new animals, and writes the report."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from .app import app, exit_if_skipped, list_skipped, say
from .options import (
    Balanced,
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
    reads_recordings,
    target_name,
)


@app.command()
@reads_recordings
def evaluate(
    sources: Sources,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the report.", show_default=False)],
    label: Label = None,
    labels: Labels = None,
    value: Value = None,
    values: Values = None,
    level: Level = None,
    classes: Classes = None,
    target: Target = None,
    protocol: Annotated[
        str, typer.Option(help="leave-one-animal-out, zero-shot (with --test-animal) or within-animal.")
    ] = "leave-one-animal-out",
    test_animal: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Test animal of the zero-shot protocol. Repeatable.", show_default=False),
    ] = None,
    depth: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="Unit property with depths in µm: also score probabilities averaged over neighbouring units.",
            show_default=False,
        ),
    ] = None,
    control: Annotated[
        bool, typer.Option(help="Also score embeddings of shuffled spikes (traces: shifted in time) as a control.")
    ] = True,
    curves: Annotated[
        bool, typer.Option("--curves", help="Also compute scores by number of labels and of training animals.")
    ] = False,
    shuffles: Annotated[int, typer.Option(min=0, help="Label shuffles within animals, for the p value.")] = 20,
    readout: Readout = "linear",
    balanced: Balanced = True,
    n_jobs: Annotated[
        int, typer.Option("--n-jobs", "-j", help="Processes that fit decoders in parallel; -1: one per core.")
    ] = -1,
    model: Model = None,
    embeddings: Embeddings = None,
    *,
    reading: dict,
    device: Device = "auto",
    precision: Precision = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Score how well a label, or a number, is predicted in new animals. Writes a report.

    The report compares embeddings with simpler features of the same units and begins with a verdict in words. No animal
    is used for both training and test, except with --protocol within-animal.

    Embeddings and the features of the baselines are saved in the report's folder and reused by the next run unless the
    spikes or settings have changed.

    Recordings that are damaged, have no labels or cannot be embedded are skipped and listed; the exit code is then 3.
    """
    from ..decoding.cohort import read_cohort
    from ..decoding.evaluation import evaluate as score
    from ..decoding.learning_curves import animal_scaling, label_efficiency
    from ..decoding.parallel import check_jobs
    from ..decoding.readout import check_readout
    from ..decoding.regressor_evaluation import AVERAGED, evaluate_regressor
    from ..decoding.splits import check_protocol
    from ..embedding import EmbeddingSettings
    from ..reports.evaluation import check_report, write_report
    from ..widgets import plot_nuclr_evaluation, plot_nuclr_regressor_evaluation

    name = target_name(target, label, labels, value, values)
    numbers = value is not None or values is not None
    if numbers and (curves or depth or not balanced):
        raise typer.BadParameter("--curves, --depth and --no-balanced are for labels: leave them out for numbers")
    check_protocol(protocol, test_animal or ())
    check_jobs(n_jobs)
    check_readout(readout)
    check_report(output, overwrite=overwrite)
    cohort = read_cohort(
        sources, label_rule(label, labels, value, values, level, classes),
        EmbeddingSettings(model, device, precision, progress=not quiet),
        cache=output / "embeddings", baselines=True, control=control and not embeddings, depth=depth,
        released=embeddings or (),
        **reading,
    )  # fmt: skip
    list_skipped(cohort.left_out)
    known = (cohort.embeddings, cohort.labels, cohort.animals)
    split = {
        "protocol": protocol, "test_animals": test_animal or (), "readout": readout, "n_jobs": n_jobs,
        "progress": not quiet,
    }  # fmt: skip
    compared = {"target": name, "others": cohort.others, "shuffles": shuffles, **split}
    tables, shown = [], ["macro-F1", "balanced accuracy", "ECE"]
    if numbers:
        evaluation, shown = evaluate_regressor(*known, **compared), list(AVERAGED)
        figure = plot_nuclr_regressor_evaluation(evaluation).figure
    else:
        split["balanced"] = balanced
        evaluation = score(
            *known, **compared, balanced=balanced, positions=cohort.positions, probes=cohort.probes
        )  # fmt: skip
        tables += [label_efficiency(*known, **split)] if curves else []
        tables += [animal_scaling(*known, **split)] if curves and protocol != "within-animal" else []
        figure = plot_nuclr_evaluation(evaluation, *tables).figure
    page = write_report(output, evaluation, cohort, figure, tables, overwrite=overwrite)
    say(evaluation.verdict)
    scores = evaluation.to_dataframe()[shown].round(3)
    for line in scores.to_string().splitlines():
        say(line)
    say(f"report: {page}")
    exit_if_skipped(cohort.left_out)
