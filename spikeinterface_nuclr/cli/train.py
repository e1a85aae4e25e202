"""nuclr train: an encoder, trained on recordings without labels."""

import logging
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Optional

import typer

from .app import app, say
from .options import (
    Card,
    Device,
    KeepRejected,
    Overwrite,
    Precision,
    Quiet,
    SamplingFrequency,
    Series,
    Traces,
    read_card,
    read_options,
)


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
    card: Card = None,
    series: Series = None,
    traces: Traces = "auto",
    sampling_frequency: SamplingFrequency = None,
    keep_rejected: KeepRejected = False,
    device: Device = "auto",
    precision: Precision = "auto",
    devices: Annotated[int, typer.Option(min=1, help="GPUs, or processes on a processor, on each node.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Nodes of a cluster.")] = 1,
    n_jobs: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--n-jobs", "-j", min=0, help="Processes that draw windows.", show_default="4 for a GPU, else 0"),
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
    about = read_card(card) if card else {}
    start = load_checkpoint(initial) if initial else None
    checkpoint = pretrain(
        sources,
        output,
        read_config(config, settings or (), PretrainConfig(encoder=start.config) if start else None),
        initial=start,
        hold_out=hold_out or (),
        exclude=exclude or (),
        card={"command": shlex.join(["nuclr", *sys.argv[1:]]), **about},
        reading=read_options("group", series, traces, keep_rejected, sampling_frequency),
        device=device,
        precision=precision,
        devices=devices,
        nodes=nodes,
        n_jobs=n_jobs,
        resume=resume,
        overwrite=overwrite,
        plot=plot,
        progress=not quiet,
    )
    from lightning_fabric.utilities.rank_zero import rank_zero_only

    rank_zero_only(say)(f"{output}: sha256 {checkpoint.sha256}")
