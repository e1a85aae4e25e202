"""nuclr store build: copies many sessions into one store for training."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from .app import app, exit_if_skipped, list_skipped, say
from .options import (
    Quiet,
    reads_recordings,
)

store = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Build stores of many sessions, to train on.")
app.add_typer(store, name="store")


@store.command("build")
@reads_recordings
def store_build(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Recordings, patterns ('data/*/*.nwb'), folders of NWB files, or CSV manifests with a column source "
            "and, optionally, animal, session, probe and weight (default 1; 2 is drawn twice as often in training).",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the store.", show_default=False)],
    *,
    reading: dict,
    frame_rate: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Resample traces to this frame rate, that of the encoder.", show_default="as recorded"),
    ] = None,
    n_jobs: Annotated[int, typer.Option("--n-jobs", "-j", min=1, help="Number of recordings read in parallel.")] = 1,
    quiet: Quiet = False,
) -> None:
    """Copy the spikes or traces of many sessions into one store, from which training reads random windows quickly.

    Sessions already in the store are skipped unless their source has changed. Sources that cannot be read are skipped
    and listed; the exit code is then 3.
    """
    from ..training.building import build_store

    result, skipped = build_store(sources, output, frame_rate=frame_rate, n_jobs=n_jobs, progress=not quiet, **reading)
    say(f"{output}: {result.summary()}")
    list_skipped(skipped)
    exit_if_skipped(skipped)
