"""The command line: results on stdout, progress on stderr; exit code 2 for usage, 3 for bad input, 4 for the model,
5 for the device.
"""

import json
import shlex
import sys
import warnings
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
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: .npz or .csv.", show_default=False)],
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
    sampling_frequency: SamplingFrequency = None,
    keep_noise: KeepNoise = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Embed every unit of a recording and write one row a unit.

    Example: nuclr embed session.nwb -o session.npz
    """
    from .embedding import embed as embed_population
    from .files import check_format, check_writable
    from .unit_embeddings import FORMATS

    check_format(output, *FORMATS)
    check_writable(output, overwrite=overwrite)
    population = _read(source, group_by, sampling_frequency, keep_noise)
    embeddings = embed_population(
        population,
        model,
        device=device,
        precision=precision,
        overlap=overlap,
        min_spikes=min_spikes,
        skip_silence=skip_silence,
        progress=not quiet,
    )
    embeddings.save(output, overwrite=overwrite)
    known = embeddings.window_count > 0
    typer.echo(
        f"{output}: {known.sum()} of {len(known)} units embedded, {embeddings.embedding.shape[1]} dimensions, "
        f"{embeddings.provenance['windows']} windows of {embeddings.provenance['window_s']:g} s"
    )


@app.command()
def info(
    what: Annotated[
        str, typer.Argument(help="A recording, an .npz of embeddings, or a model.", metavar="SOURCE|NPZ|MODEL")
    ],
    group_by: GroupBy = "group",
    sampling_frequency: SamplingFrequency = None,
    keep_noise: KeepNoise = False,
) -> None:
    """Say what a recording, a file of embeddings or a checkpoint holds."""
    from .checkpoint import PICKLED, bundled_models

    path = Path(what)
    if what.startswith("hf://") or what in bundled_models() or path.suffix in (".safetensors", *PICKLED):
        facts = _checkpoint_facts(what)
    elif path.suffix == ".npz":
        facts = _embedding_facts(path)
    else:
        facts = _population_facts(_read(path, group_by, sampling_frequency, keep_noise))
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


@app.command()
def train(
    sources: Annotated[list[Path], typer.Argument(help="Recordings, or folders of NWB files.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .safetensors file to write.", show_default=False)],
    hold_out: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Pattern of sources to monitor and not train on, such as '*/animal7/*'. Repeatable."),
    ] = None,
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 50_000,
    samples: Annotated[int, typer.Option(help="Populations in a batch, each seen in two views.")] = 128,
    max_units: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Most units of one view.", show_default="no limit"),
    ] = None,
    max_distance: Annotated[float, typer.Option(help="Seconds between the two windows, at most.")] = 30.0,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 5e-4,
    warmup: Annotated[float, typer.Option(help="Share of the steps in which the learning rate climbs.")] = 1 / 300,
    temperature: Annotated[float, typer.Option(help="Temperature of the contrastive loss.")] = 0.2,
    scaling: Annotated[
        str, typer.Option(help="Similarities divided by the temperature: cross-view or all.")
    ] = "cross-view",
    objective: Annotated[str, typer.Option(help="dcl_full, dcl, infonce or vicreg.")] = "dcl_full",
    dim: Annotated[int, typer.Option(help="Width of the encoder.")] = 256,
    heads: Annotated[int, typer.Option(help="Attention heads; each is dim / heads wide.")] = 4,
    dropout: Annotated[float, typer.Option(help="Dropout in training.")] = 0.2,
    input_scale: Annotated[str, typer.Option(help="What is done to spike counts: counts or log1p.")] = "counts",
    seed: Annotated[int, typer.Option(help="Fixes first weights, views and dropout.")] = 0,
    monitor_every: Annotated[int, typer.Option(help="Steps between two looks at the held-out recordings.")] = 500,
    card: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="JSON file of what to say about the checkpoint (data, licence, …).", show_default=False),
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the state beside the output.")] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Train an encoder on recordings, without labels.

    A run that is stopped goes on with --resume. Beside the output stands a log (.log.csv) of the loss and of label-free
    monitors on the held-out recordings.
    """
    from .encoder import EncoderConfig
    from .files import check_format
    from .training.pretrain import PretrainConfig, pretrain

    check_format(output, ".safetensors")
    if heads < 1 or dim % heads:
        raise InputError(f"--dim {dim} is not a multiple of --heads {heads}")
    said = _read_card(card) if card else {}
    checkpoint = pretrain(
        sources,
        output,
        PretrainConfig(
            encoder=EncoderConfig(
                dim=dim, heads=heads, head_dim=dim // heads, dropout=dropout, input_scale=input_scale
            ),
            steps=steps,
            samples=samples,
            max_units=max_units,
            max_distance=max_distance,
            learning_rate=learning_rate,
            warmup=warmup,
            temperature=temperature,
            scaling=scaling,
            objective=objective,
            seed=seed,
            monitor_every=monitor_every,
        ),
        hold_out=hold_out or (),
        card={"command": shlex.join(["nuclr", *sys.argv[1:]]), **said},
        device=device,
        precision=precision,
        resume=resume,
        overwrite=overwrite,
        progress=not quiet,
    )
    typer.echo(f"{output}: sha256 {checkpoint.sha256}")


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


def _population_facts(population) -> dict:
    import numpy as np

    from .encoder import EncoderConfig
    from .windows import place_windows, timeline

    layout = EncoderConfig().layout
    groups = dict(population.groups())
    lines = [timeline(population, units, layout) for units in groups.values()]
    counts = population.spike_counts
    windows = sum(len(place_windows(line, layout)) for line in lines)
    stitched = next((line.stitched for line in lines if line.stitched), "no: windows are contiguous")
    observed = [population.observed_of(i) for i in range(population.n_units)]
    seconds = [np.ptp(intervals, axis=1).sum() for intervals in observed]
    return {
        "source": str(population.metadata.get("source", "")),
        "units": population.n_units,
        "groups": {label: len(units) for label, units in groups.items()} if len(groups) > 1 else 1,
        "spikes": int(counts.sum()),
        "units without spikes": int((counts == 0).sum()),
        "time": f"{population.start:g}–{population.stop:g} s",
        "observed intervals": f"{np.median([len(o) for o in observed]):g} (median of the units)",
        "observed time": f"{np.median(seconds):g} s (median of the units)",
        f"windows of {layout.window_s:g} s": windows,
        "stitched from": stitched if windows else "no window fits",
        "unit properties": ", ".join(population.properties) or "none",
    }


def _embedding_facts(path: Path) -> dict:
    import numpy as np

    from .unit_embeddings import UnitEmbeddings

    found = UnitEmbeddings.load(path)
    known = found.window_count > 0
    return {
        "units": len(known),
        "embedded": int(known.sum()),
        "dimensions": found.embedding.shape[1],
        "windows a unit": f"{np.median(found.window_count):g} (median)",
        "stability": f"{np.nanmedian(found.stability):.3f} (median)" if (found.window_count > 1).any() else "unknown",
        **found.provenance,
    }


def _checkpoint_facts(model: str) -> dict:
    from .checkpoint import load_checkpoint

    checkpoint = load_checkpoint(model)
    return {
        "model": checkpoint.name,
        "revision": checkpoint.revision or "none",
        "sha256": checkpoint.sha256,
        "parameters": sum(w.numel() for w in checkpoint.weights.values()),
        **checkpoint.config.to_dict(),
        **checkpoint.card,
    }
