"""Commands on many recordings without labels: store, train."""

import logging
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Optional

import typer

from ..errors import InputError
from .app import (
    EXIT_CODES,
    Device,
    GroupBy,
    KeepRejected,
    Overwrite,
    Precision,
    Quiet,
    SamplingFrequency,
    Series,
    Traces,
    app,
    read_card,
    reading_of,
    say,
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
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Processes that read at the same time.")] = 1,
    quiet: Quiet = False,
) -> None:
    """Put the spikes, or traces, of many sessions into one store, from which windows are read in no time.

    Sessions that the store holds already are left alone unless their source has changed. Sources that cannot be read
    are skipped and listed; the exit code is then 3.
    """
    from ..training.building import build_store

    reading = reading_of(group_by, series, traces, keep_rejected, sampling_frequency)
    made, damaged = build_store(sources, output, frame_rate=frame_rate, jobs=jobs, progress=not quiet, **reading)
    say(f"{output}: {made.summary()}")
    for line in damaged:
        say(f"nuclr: skipped: {line}", err=True)
    if damaged:
        raise typer.Exit(EXIT_CODES[InputError])


def _show_config(wanted: bool) -> None:
    if wanted:
        from ..training.config import PretrainConfig

        typer.echo(PretrainConfig().to_toml(), nl=False)
        raise typer.Exit


@app.command()
def train(
    sources: Annotated[
        list[str], typer.Argument(help="A store, or what `nuclr store build` takes.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .safetensors file to write.", show_default=False)],
    config: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="TOML file of settings; --show-config prints one.", show_default=False),
    ] = None,
    settings: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", help="One setting, such as steps=20000 or encoder.dim=128. Repeatable."),
    ] = None,
    initial: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--from", help="Model whose weights to start from, to fine-tune it.", show_default=False),
    ] = None,
    hold_out: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Animal (or pattern) to monitor and not train on. Repeatable."),
    ] = None,
    exclude: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Animal (or pattern) neither to train on nor to look at. Repeatable."),
    ] = None,
    card: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="JSON file of what to say about the checkpoint (data, licence, …).", show_default=False),
    ] = None,
    series: Series = None,
    traces: Traces = "auto",
    sampling_frequency: SamplingFrequency = None,
    keep_rejected: KeepRejected = False,
    device: Device = "auto",
    precision: Precision = "auto",
    devices: Annotated[int, typer.Option(min=1, help="GPUs, or processes on a processor, on each node.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Nodes of a cluster.")] = 1,
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=0, help="Processes that draw windows.", show_default="4 for a GPU, else 0"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the state beside the output.")] = False,
    plot: Annotated[bool, typer.Option("--plot", help="Draw the curves of the log, OUTPUT.curves.png.")] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    show_config: Annotated[
        bool, typer.Option("--show-config", is_eager=True, callback=_show_config, help="Print all settings as TOML.")
    ] = False,
) -> None:
    """Train an encoder on recordings, without labels.

    A run that is stopped goes on with --resume, and ends in the same weights. Beside the output stand a log (.log.csv)
    of the loss and of label-free monitors on the held-out animals, and the same for TensorBoard (.tensorboard). The
    weights kept are those that find most of the held-out animals' neurons again.
    """
    from ..model.loading import load_checkpoint
    from ..training.config import PretrainConfig, read_config
    from ..training.pretrain import pretrain

    with suppress(ImportError):  # pretrain says what to install
        import lightning_fabric  # noqa: F401 (which sets its level when imported)

        # It announces each choice that was made for it.
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    said = read_card(card) if card else {}
    start = load_checkpoint(initial) if initial else None
    checkpoint = pretrain(
        sources,
        output,
        read_config(config, settings or (), PretrainConfig(encoder=start.config) if start else None),
        initial=start,
        hold_out=hold_out or (),
        exclude=exclude or (),
        card={"command": shlex.join(["nuclr", *sys.argv[1:]]), **said},
        reading=reading_of("group", series, traces, keep_rejected, sampling_frequency),
        device=device,
        precision=precision,
        devices=devices,
        nodes=nodes,
        workers=workers,
        resume=resume,
        overwrite=overwrite,
        plot=plot,
        progress=not quiet,
    )
    from lightning_fabric.utilities.rank_zero import rank_zero_only

    rank_zero_only(say)(f"{output}: sha256 {checkpoint.sha256}")
