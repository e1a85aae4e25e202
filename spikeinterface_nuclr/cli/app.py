"""The typer application, which turns every error into one line and an exit code."""

import logging
import sys
import warnings
from pathlib import Path
from typing import Annotated, Optional

import typer

from ..errors import EXIT_CODES, REFUSALS, InputError, RecordingWarning, exit_code_of, reason_of
from ..text import printable

_ORDER_OF_USE = (
    "demo",
    "embed",
    "predict",
    "match",
    "oversplits",
    "report",
    "gui",
    "info",
    "decoder",
    "evaluate",
    "store",
    "train",
    "convert",
    "publish",
    "step",
    "brainwidebench",
)


_log = logging.getLogger("nuclr")


def say(text: str, *, err: bool = False) -> None:
    """Print a line, with line breaks and terminal control codes from names in files escaped."""
    typer.echo(printable(text), err=err)
    _log.log(logging.WARNING if err else logging.INFO, printable(text))


def log_to(path: Path) -> None:
    """Append what is printed to a file, with the time; OSError if it cannot be written."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    _log.handlers = [handler]
    _log.setLevel(logging.INFO)
    _log.info("$ %s", printable(" ".join(sys.argv)))


def _line(error: Exception) -> str:
    """The error as one line that begins with the file, which `OSError` puts last."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {reason_of(error)}"
    return str(error) if isinstance(error, REFUSALS) else reason_of(error)


class _Commands(typer.core.TyperGroup):
    """Lists commands in the order of use, and turns errors into one line and an exit code."""

    def list_commands(self, ctx):
        return sorted(super().list_commands(ctx), key=_ORDER_OF_USE.index)

    def invoke(self, ctx):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                warnings.simplefilter("default", RecordingWarning)
                warnings.showwarning = lambda message, *_, **__: say(f"nuclr: warning: {message}", err=True)
                return super().invoke(ctx)
        except BrokenPipeError:  # the reader of our output has closed, as `head` does
            raise typer.Exit(0) from None
        except KeyboardInterrupt as error:
            typer.echo("nuclr: interrupted", err=True)
            raise typer.Exit(exit_code_of(error)) from None
        except tuple(EXIT_CODES) as error:
            say(f"nuclr: {_line(error)}", err=True)
            raise typer.Exit(exit_code_of(error)) from None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Square brackets in help texts are not markup.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Compute NuCLR embeddings of sorted units and imaged neurons, decode cell type or brain region from them, and "
    "find the same neurons on other days."
    "\n\nStart with `nuclr demo`; `nuclr COMMAND --help` explains each command.\n\n"
    "Exit codes: 2 usage, 3 bad input, 4 model, 5 device or memory.",
)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"nuclr {version('spikeinterface-nuclr')} (SpikeInterface {version('spikeinterface')})")
        raise typer.Exit()


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
    log_file: Annotated[
        Optional[Path],  # noqa: UP045 (typer reads the annotation at run time)
        typer.Option(help="Also append results, warnings and errors to this file, with the time.", show_default=False),
    ] = None,
) -> None:
    """Options of all commands."""
    _log.handlers, _log.propagate = [logging.NullHandler()], False
    if log_file is not None:
        log_to(log_file)


def exit_if_skipped(lines: list[str]) -> None:
    """Exit with code 3 if recordings were skipped; call it last."""
    if lines:
        raise typer.Exit(EXIT_CODES[InputError])


def list_skipped(lines: list[str]) -> None:
    """Print the recordings that cannot be used, as FILE: REASON."""
    for line in lines:
        say(f"nuclr: skipped: {line}", err=True)
