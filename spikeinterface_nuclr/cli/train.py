"""nuclr train: trains an encoder on recordings without labels."""

import logging
import shlex
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Optional

import typer

from .app import app, say
from .options import (
    Card,
    Device,
    Overwrite,
    Precision,
    Quiet,
    read_card,
    reads_recordings,
)


def _begin_with(device: str, settings: list[str]) -> str:
    """Name of the settings to begin with if none are given."""
    from ..model.device import choose_device

    imaging = any(setting.startswith("encoder.signal") and "traces" in setting for setting in settings)
    return "laptop" if choose_device(device).type == "cpu" and not imaging else "published"


@app.command()
@reads_recordings
def train(
    sources: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="A store, or recordings as for `nuclr store build`.", show_default=False),
    ] = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="Model file to write (.safetensors).", show_default=False),
    ] = None,
    config: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="Settings: a TOML file, or the name of those that come with the package: laptop or published.",
            show_default="laptop on a CPU, published on a GPU",
        ),
    ] = None,
    settings: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", help="A single setting, such as steps=20000 or encoder.dim=128. Repeatable."),
    ] = None,
    initial: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--from", help="Model to fine-tune: training starts from its weights.", show_default=False),
    ] = None,
    hold_out: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Animal (or pattern) to exclude from training and use for monitoring. Repeatable."),
    ] = None,
    exclude: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Animal (or pattern) to use neither for training nor for monitoring. Repeatable."),
    ] = None,
    card: Card = None,
    *,
    reading: dict,
    device: Device = "auto",
    precision: Precision = "auto",
    devices: Annotated[int, typer.Option(min=1, help="GPUs per node (on a CPU: processes per node).")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Number of cluster nodes.")] = 1,
    n_jobs: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--n-jobs", "-j", min=0, help="Processes that load windows.", show_default="4 for a GPU, else 0"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    plot: Annotated[bool, typer.Option("--plot", help="Plot the training curves to OUTPUT.curves.png.")] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    show_config: Annotated[
        bool, typer.Option("--show-config", help="Print the settings that the training would have, as TOML.")
    ] = False,
) -> None:
    """Train an encoder on recordings, without labels.

    Without --config, it has the settings of nuclr-starter on a CPU (half an hour of one core), and the published ones
    on a GPU.

    An interrupted run continues with --resume and ends with the same weights. The loss and label-free monitors of the
    held-out animals are logged next to the output, as CSV (.log.csv) and for TensorBoard (.tensorboard). The weights
    with the highest top-1 re-identification accuracy in the held-out animals are saved.
    """
    from ..model.loading import load_checkpoint
    from ..training.config import PretrainConfig, read_config
    from ..training.pretrain import pretrain

    with suppress(ImportError):  # pretrain reports what to install
        import lightning_fabric  # noqa: F401 (importing it sets its log level)

        # It logs each of its defaults as info.
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    description = read_card(card) if card else {}
    start = load_checkpoint(initial) if initial else None
    changes = settings or []
    begin = PretrainConfig(encoder=replace(start.config, members=1)) if start else None
    named = config or _begin_with(device, changes)
    resolved = read_config(named, changes, begin, keep_encoder=bool(start and not config))
    if show_config:
        typer.echo(resolved.to_toml(), nl=False)
        return
    if not sources:
        raise typer.BadParameter("name a store, or recordings")
    if output is None:
        raise typer.BadParameter("name the model file to write: -o FILE.safetensors")
    checkpoint = pretrain(
        sources,
        output,
        resolved,
        initial=start,
        hold_out=hold_out or (),
        exclude=exclude or (),
        card={"command": shlex.join(["nuclr", *sys.argv[1:]]), **description},
        reading=reading,
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

    beside = output.with_suffix("")
    written = f"; log {beside}.log.csv, for TensorBoard {beside}.tensorboard" + f", curves {beside}.curves.png" * plot
    rank_zero_only(say)(f"{output}: sha256 {checkpoint.sha256}{written}")
