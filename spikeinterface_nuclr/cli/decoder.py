"""nuclr decoder fit: fits a decoder of one property, a label or a number, to labelled recordings."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from .app import app, exit_if_skipped, list_skipped, say
from .options import (
    Balanced,
    Card,
    Classes,
    Device,
    Embeddings,
    GroupBy,
    KeepRejected,
    Label,
    Labels,
    Level,
    Model,
    Overwrite,
    Precision,
    Quiet,
    Readout,
    SamplingFrequency,
    Series,
    Sources,
    Target,
    Traces,
    Value,
    Values,
    Where,
    label_rule,
    read_card,
    read_options,
    target_name,
)

decoder = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Fit decoders of cell type, brain region, depth or another property.",
)
app.add_typer(decoder, name="decoder")


@decoder.command("fit")
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
    group_by: GroupBy = "group",
    series: Series = None,
    traces: Traces = "auto",
    sampling_frequency: SamplingFrequency = None,
    keep_rejected: KeepRejected = False,
    where: Where = None,
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
        **read_options(group_by, series, traces, keep_rejected, sampling_frequency, where),
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
