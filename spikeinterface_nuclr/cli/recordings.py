"""Commands on one recording: demo, embed, info, convert."""

import json
from pathlib import Path
from typing import Annotated, Optional

import typer

from ..errors import InputError
from .app import (
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
    reading_of,
    say,
)


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
    """Simulate a probe, build a SortingAnalyzer, embed its units, name their types, and write a table and figures.

    Needs no data and no network. Cell types and regions of the simulated units are known, so the figure shows what
    the bundled model tells apart.
    """
    from ..demo import run_demo

    for line in run_demo(
        output, units=units, duration=duration, seed=seed, device=device, overwrite=overwrite, progress=not quiet
    ):
        say(line)


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
    series: Series = None,
    traces: Traces = "auto",
    sampling_frequency: SamplingFrequency = None,
    keep_rejected: KeepRejected = False,
    overwrite: Overwrite = False,
    force: Annotated[bool, typer.Option("--force", help="Compute and write again what is up to date.")] = False,
    quiet: Quiet = False,
) -> None:
    """Embed every unit, or every imaged neuron, of a recording.

    nuclr embed session.nwb -o session.npz: one row a unit, in a file of its own (.npz or .csv).

    nuclr embed session.nwb -o out.nwb: a copy of the NWB file with the embeddings in processing/nuclr.

    nuclr embed session.nwb --in-place: the NWB file itself, replaced in one step by a validated copy.

    nuclr embed ANALYZER: the extension nuclr_embedding, saved in the analyzer's folder.
    """
    from .. import commands
    from ..io import kind_of, read_population

    reading = reading_of(group_by, series, traces, keep_rejected, sampling_frequency)

    def read():
        return read_population(source, **reading)

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
        group = reading.pop("group_by")
        if reading:
            raise InputError(f"{source}: {next(iter(reading))} does not apply to this kind of source: leave it out")
        line = commands.embed_analyzer(source, read, settings, group_by=group, publish=publish, force=force)
    else:
        raise typer.BadParameter(
            "name a file to write: -o FILE.npz" + (", -o FILE.nwb or --in-place" * (kind == "nwb"))
        )
    say(line)


@app.command()
def info(
    what: Annotated[
        str,
        typer.Argument(
            help="A recording, an .npz of embeddings, a model, a decoder or a store.",
            metavar="SOURCE|NPZ|MODEL|DECODER|STORE",
        ),
    ],
    group_by: GroupBy = "group",
    series: Series = None,
    traces: Traces = "auto",
    sampling_frequency: SamplingFrequency = None,
    keep_rejected: KeepRejected = False,
) -> None:
    """Say what a recording, a file of embeddings, a checkpoint, a decoder or a store holds.

    Of NWB files and analyzers also: which embeddings they hold, and whether the spikes have changed since.
    """
    from .. import describe
    from ..decoding.storage import bundled_decoders, is_decoder
    from ..io import read_population
    from ..model.loading import PICKLED, bundled_models
    from ..training.store import Store, is_store
    from ..unit_embeddings import UnitEmbeddings

    path = Path(what)
    if what in bundled_decoders() or is_decoder(path):
        facts = describe.decoder_facts(what)
    elif what.startswith("hf://") or what in bundled_models() or path.suffix in (".safetensors", *PICKLED):
        facts = describe.checkpoint_facts(what)
    elif path.suffix == ".npz":
        facts = describe.embedding_facts(UnitEmbeddings.load(path))
    elif is_store(path):
        facts = describe.store_facts(Store(path))
    else:
        population = read_population(path, **reading_of(group_by, series, traces, keep_rejected, sampling_frequency))
        facts = describe.population_facts(population) | describe.held_facts(path, population)
    width = max(map(len, facts))
    for name, value in facts.items():
        say(f"{name:<{width}}  {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="A public .pt checkpoint.", metavar="FILE.pt")],
    output: Annotated[Path, typer.Argument(help="The file to write.", metavar="OUT.safetensors")],
    overwrite: Overwrite = False,
) -> None:
    """Convert a public NuCLR checkpoint to safetensors. Nothing in the file is run."""
    from ..files import check_format, check_writable
    from ..model.public_weights import convert_checkpoint

    check_format(output, ".safetensors")
    check_writable(output, overwrite=overwrite)
    checkpoint = convert_checkpoint(source)
    checkpoint.save(output, overwrite=overwrite)
    say(f"{output}: {checkpoint.card['implementation']}, sha256 {checkpoint.sha256}")
