"""nuclr store build: many sessions in one store, to train on."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from .app import app, exit_if_skipped, list_skipped, say
from .options import (
    GroupBy,
    KeepRejected,
    Quiet,
    SamplingFrequency,
    Series,
    Traces,
    read_options,
)

store = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Put many sessions into one store to train on.")
app.add_typer(store, name="store")


@store.command("build")
def store_build(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Recordings, patterns ('data/*/*.nwb'), folders of NWB files, or CSV manifests with a column source "
            "and, as you like, animal, session, probe and weight (1; 2 is drawn twice as often in training).",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The store's folder.", show_default=False)],
    group_by: GroupBy = "group",
    series: Series = None,
    traces: Traces = "auto",
    sampling_frequency: SamplingFrequency = None,
    keep_rejected: KeepRejected = False,
    frame_rate: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Frames per second to bring traces to: those of the encoder.", show_default="as recorded"),
    ] = None,
    n_jobs: Annotated[int, typer.Option("--n-jobs", "-j", min=1, help="Recordings that are read in parallel.")] = 1,
    quiet: Quiet = False,
) -> None:
    """Put the spikes, or traces, of many sessions into one store, from which windows are read in no time.

    Sessions that the store holds already are left alone unless their source has changed. Sources that cannot be read
    are skipped and listed; the exit code is then 3.
    """
    from ..training.building import build_store

    reading = read_options(group_by, series, traces, keep_rejected, sampling_frequency)
    made, damaged = build_store(sources, output, frame_rate=frame_rate, n_jobs=n_jobs, progress=not quiet, **reading)
    say(f"{output}: {made.summary()}")
    list_skipped(damaged)
    exit_if_skipped(damaged)
