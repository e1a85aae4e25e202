"""The command line: results on stdout, progress on stderr; exit code 2 for usage, 3 for bad input, 4 for the model,
5 for the device.
"""

import json
import logging
import shlex
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Optional

import typer

from .errors import CheckpointError, DeviceError, InputError, RecordingWarning

EXIT_CODES = {InputError: 3, CheckpointError: 4, DeviceError: 5, OSError: 3, MemoryError: 5}


class _Commands(typer.core.TyperGroup):
    """Turns this package's errors into one line and an exit code."""

    def invoke(self, ctx):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                warnings.simplefilter("default", RecordingWarning)
                warnings.showwarning = lambda message, *_, **__: typer.echo(f"nuclr: warning: {message}", err=True)
                return super().invoke(ctx)
        except BrokenPipeError:  # whoever read our output has enough, as `head`
            raise typer.Exit(0) from None
        except tuple(EXIT_CODES) as error:
            typer.echo(f"nuclr: {error or 'out of memory'}", err=True)
            code = next(code for kind, code in EXIT_CODES.items() if isinstance(error, kind))
            raise typer.Exit(code) from None
        except KeyboardInterrupt:
            typer.echo("nuclr: interrupted", err=True)
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Square brackets in our texts are no markup.
    rich_markup_mode=None,
    help="Identity of sorted neurons: NuCLR embeddings of spike-sorted recordings.\n\n"
    "Start with `nuclr demo`. Exit codes: 2 usage, 3 bad input, 4 model, 5 device or memory.",
)

Source = Annotated[
    Path,
    typer.Argument(
        help="NWB file (HDF5 or Zarr), SortingAnalyzer or sorting folder, or phy/Kilosort folder.", show_default=False
    ),
]
Model = Annotated[
    Optional[str],  # noqa: UP045 (typer reads the annotation at run time)
    typer.Option(
        help="Bundled name, path to a .safetensors or public .pt file, or hf://owner/repo[/file][@revision].",
        show_default="nuclr-starter",
    ),
]
Device = Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu, cuda or cuda:1.")]
Precision = Annotated[str, typer.Option(help="auto (bfloat16 where the device is fast at it), bfloat16 or float32.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output where it exists.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]
GroupBy = Annotated[str, typer.Option(help="Unit property that names each unit's probe; 'none' for one population.")]
SamplingFrequency = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(help="Samples per second, for a phy folder without params.py.", show_default=False),
]
KeepNoise = Annotated[bool, typer.Option("--keep-noise", help="Keep phy's clusters of group 'noise'.")]


def main() -> None:
    """Entry point of the `nuclr` command."""
    app(prog_name="nuclr")


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to make.")] = Path("nuclr_demo"),
    units: Annotated[int, typer.Option(help="Units to simulate.")] = 60,
    duration: Annotated[float, typer.Option(help="Seconds to simulate.")] = 300.0,
    seed: Annotated[int, typer.Option(help="Seed of the simulation.")] = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Simulate a probe, build a SortingAnalyzer, embed its units, and write a table and a figure.

    Needs no data and no network. Cell types and regions of the simulated units are known, so the figure shows what
    the bundled model tells apart.
    """
    from .demo import run_demo

    for line in run_demo(
        output, units=units, duration=duration, seed=seed, device=device, overwrite=overwrite, progress=not quiet
    ):
        typer.echo(line)


@app.command()
def embed(
    source: Source,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="File to write: .npz, .csv, or a copy of an NWB file.", show_default=False),
    ] = None,
    in_place: Annotated[bool, typer.Option("--in-place", help="Write into the NWB file itself, safely.")] = False,
    units_only: Annotated[
        bool, typer.Option("--units-only", help="Write an NWB side file with no more than the units and embeddings.")
    ] = False,
    model: Model = None,
    device: Device = "auto",
    precision: Precision = "auto",
    overlap: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Share of a window that the next one repeats.", show_default="the model's"),
    ] = None,
    min_spikes: Annotated[int, typer.Option(help="Spikes a unit needs in a window to be part of it.")] = 1,
    skip_silence: Annotated[
        bool, typer.Option("--skip-silence", help="Leave out seconds in which the whole probe is silent.")
    ] = False,
    group_by: GroupBy = "group",
    name: Annotated[str, typer.Option(help="Name of the table in the NWB file.")] = "UnitEmbeddings",
    publish: Annotated[
        bool,
        typer.Option("--publish", help="Also show window count and stability beside each unit (columns, properties)."),
    ] = False,
    sampling_frequency: SamplingFrequency = None,
    keep_noise: KeepNoise = False,
    overwrite: Overwrite = False,
    force: Annotated[bool, typer.Option("--force", help="Compute and write again what is up to date.")] = False,
    quiet: Quiet = False,
) -> None:
    """Embed every unit of a recording.

    nuclr embed session.nwb -o session.npz: one row a unit, in a file of its own (.npz or .csv).

    nuclr embed session.nwb -o out.nwb: a copy of the NWB file with the embeddings in processing/nuclr.

    nuclr embed session.nwb --in-place: the NWB file itself, replaced in one step by a validated copy.

    nuclr embed ANALYZER: the extension nuclr_embedding, saved in the analyzer's folder.
    """
    from . import commands
    from .sources import kind_of

    def read():
        return _read(source, group_by, sampling_frequency, keep_noise)

    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    if in_place and (output is not None or units_only):
        raise typer.BadParameter("--in-place replaces the file itself: leave out --output and --units-only")
    settings = commands.Settings(model, device, precision, overlap, min_spikes, skip_silence, progress=not quiet)
    kind = kind_of(source)
    if kind == "nwb" and (in_place or units_only or (output and output.suffix in (".nwb", ".zarr"))):
        places = {"in_place": in_place, "units_only": units_only, "force": force or overwrite}
        line = commands.embed_into_nwb(source, read, output, settings, **places, name=name, unit_columns=publish)
    elif in_place or units_only:
        raise typer.BadParameter("--in-place and --units-only are for NWB files")
    elif output is not None and output.suffix in (".nwb", ".zarr"):
        raise InputError(
            f"{output}: an NWB output is a copy of an NWB source, and {source} is none: to write into its "
            "session's file, use write_nwb('session.nwb', source) in Python"
        )
    elif output is not None:
        if publish:
            raise typer.BadParameter("--publish is for NWB files and analyzers")
        line = commands.embed_to_file(read, output, settings, overwrite=overwrite or force)
    elif kind == "analyzer":
        group = None if group_by == "none" else group_by
        line = commands.embed_analyzer(source, read, settings, group_by=group, publish=publish, force=force)
    else:
        raise typer.BadParameter(
            "name a file to write: -o FILE.npz" + (", -o FILE.nwb or --in-place" * (kind == "nwb"))
        )
    typer.echo(line)


@app.command()
def info(
    what: Annotated[
        str,
        typer.Argument(
            help="A recording, an .npz of embeddings, a model or a store.", metavar="SOURCE|NPZ|MODEL|STORE"
        ),
    ],
    group_by: GroupBy = "group",
    sampling_frequency: SamplingFrequency = None,
    keep_noise: KeepNoise = False,
) -> None:
    """Say what a recording, a file of embeddings, a checkpoint or a store holds.

    Of NWB files and analyzers also: which embeddings they hold, and whether the spikes have changed since.
    """
    from . import describe
    from .checkpoint import PICKLED, bundled_models
    from .training.store import Store, is_store
    from .unit_embeddings import UnitEmbeddings

    path = Path(what)
    if what.startswith("hf://") or what in bundled_models() or path.suffix in (".safetensors", *PICKLED):
        facts = describe.checkpoint_facts(what)
    elif path.suffix == ".npz":
        facts = describe.embedding_facts(UnitEmbeddings.load(path))
    elif is_store(path):
        facts = describe.store_facts(Store(path))
    else:
        population = _read(path, group_by, sampling_frequency, keep_noise)
        facts = describe.population_facts(population) | describe.held_facts(path, population)
    width = max(map(len, facts))
    for name, value in facts.items():
        typer.echo(f"{name:<{width}}  {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="A public .pt checkpoint.", metavar="FILE.pt")],
    output: Annotated[Path, typer.Argument(help="The file to write.", metavar="OUT.safetensors")],
    overwrite: Overwrite = False,
) -> None:
    """Convert a public NuCLR checkpoint to safetensors. Nothing in the file is run."""
    from .conversion import convert_checkpoint
    from .files import check_format, check_writable

    check_format(output, ".safetensors")
    check_writable(output, overwrite=overwrite)
    checkpoint = convert_checkpoint(source)
    checkpoint.save(output, overwrite=overwrite)
    typer.echo(f"{output}: {checkpoint.card['implementation']}, sha256 {checkpoint.sha256}")


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
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Processes that read at the same time.")] = 1,
    quiet: Quiet = False,
) -> None:
    """Put the spikes of many sessions into one store, from which windows are read in no time.

    Sessions that the store holds already are left alone unless their source has changed. Sources that cannot be read
    are skipped and listed; the exit code is then 3.
    """
    from .training.building import build_store

    group = None if group_by == "none" else group_by
    made, damaged = build_store(sources, output, group_by=group, jobs=jobs, progress=not quiet)
    typer.echo(f"{output}: {made.summary()}")
    for line in damaged:
        typer.echo(f"nuclr: skipped: {line}", err=True)
    if damaged:
        raise typer.Exit(EXIT_CODES[InputError])


def _show_config(wanted: bool) -> None:
    if wanted:
        from .training.config import PretrainConfig

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
    from .checkpoint import load_checkpoint
    from .training.config import PretrainConfig, read_config
    from .training.pretrain import pretrain

    with suppress(ImportError):  # pretrain says what to install
        import lightning_fabric  # noqa: F401 (which sets its level when imported)

        # It announces each choice that was made for it.
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    said = _read_card(card) if card else {}
    start = load_checkpoint(initial) if initial else None
    checkpoint = pretrain(
        sources,
        output,
        read_config(config, settings or (), PretrainConfig(encoder=start.config) if start else None),
        initial=start,
        hold_out=hold_out or (),
        exclude=exclude or (),
        card={"command": shlex.join(["nuclr", *sys.argv[1:]]), **said},
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

    rank_zero_only(typer.echo)(f"{output}: sha256 {checkpoint.sha256}")


def _read(source: Path, group_by: str, sampling_frequency: float | None, keep_noise: bool):
    from .sources import read_population

    return read_population(
        source,
        group_by=None if group_by == "none" else group_by,
        sampling_frequency=sampling_frequency,
        keep_noise=keep_noise,
    )


def _read_card(path: Path) -> dict:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: not a readable JSON object ({error})") from None
