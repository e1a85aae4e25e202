"""The application: its errors as exit codes, and the options that several commands have."""

import json
import warnings
from pathlib import Path
from typing import Annotated, Optional

import typer

from ..errors import REFUSALS, CheckpointError, DeviceError, InputError, RecordingWarning, reading, reason_of
from ..text import printable

EXIT_CODES = {InputError: 3, CheckpointError: 4, DeviceError: 5, OSError: 3, MemoryError: 5}


def say(text: str, *, err: bool = False) -> None:
    """Print a line. Names from files may stand in it: line breaks, and what a terminal would obey, are escaped."""
    typer.echo(printable(text), err=err)


def _told(error: Exception) -> str:
    """What to say of an error: the file of the system's, which puts it last, first."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {reason_of(error)}"
    return str(error) if isinstance(error, REFUSALS) else reason_of(error)


class _Commands(typer.core.TyperGroup):
    """Turns this package's errors into one line and an exit code."""

    def invoke(self, ctx):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                warnings.simplefilter("default", RecordingWarning)
                warnings.showwarning = lambda message, *_, **__: say(f"nuclr: warning: {message}", err=True)
                return super().invoke(ctx)
        except BrokenPipeError:  # whoever read our output has enough, as `head`
            raise typer.Exit(0) from None
        except tuple(EXIT_CODES) as error:
            say(f"nuclr: {_told(error)}", err=True)
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
    help="Identity of neurons: NuCLR embeddings of spike-sorted and imaged recordings.\n\n"
    "Start with `nuclr demo`. Exit codes: 2 usage, 3 bad input, 4 model, 5 device or memory.",
)

Source = Annotated[
    Path,
    typer.Argument(
        help="NWB file (HDF5 or Zarr), SortingAnalyzer or sorting folder, phy, Kilosort or suite2p folder, or .npy.",
        show_default=False,
    ),
]
Model = Annotated[
    Optional[str],  # noqa: UP045 (typer reads the annotation at run time)
    typer.Option(
        help="Bundled name, path to a .safetensors or public .pt file, or hf://owner/repo[/file][@revision].",
        show_default="nuclr-starter, of traces nuclr-starter-calcium",
    ),
]
Device = Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu, cuda or cuda:1.")]
Precision = Annotated[str, typer.Option(help="auto (bfloat16 where the device is fast at it), bfloat16 or float32.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output where it exists.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]
GroupBy = Annotated[str, typer.Option(help="Unit property that names each unit's probe; 'none' for one population.")]
SamplingFrequency = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(help="Samples or frames per second, where the source does not say.", show_default=False),
]
KeepRejected = Annotated[
    bool, typer.Option("--keep-rejected", help="Keep phy's clusters of group 'noise', and ROIs that are no cells.")
]
Series = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        help="ROI responses of an NWB file to read, such as DfOverF, where it has several.", show_default=False
    ),
]
Traces = Annotated[
    str, typer.Option(help="What ROI responses are: fluorescence, dff or ready; auto tells from the NWB file.")
]


def reading_of(
    group_by: str,
    series: str | None,
    traces: str,
    keep_rejected: bool = False,
    sampling_frequency: float | None = None,
) -> dict:
    """How sources are read: the keywords of `read_population` that differ from its own."""
    given = {
        "sampling_frequency": (sampling_frequency, None),
        "keep_rejected": (keep_rejected, False),
        "series": (series, None),
        "traces": (traces, "auto"),
    }
    changed = {name: value for name, (value, default) in given.items() if value != default}
    return {"group_by": None if group_by == "none" else group_by, **changed}


def read_card(path: Path) -> dict:
    """The JSON object in a file."""
    with reading(path, "JSON object"):
        return dict(json.loads(path.read_text(encoding="utf-8")))
