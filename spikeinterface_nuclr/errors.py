"""Exceptions and warnings of this package. Each message is one line that names the cause and the remedy."""

from collections.abc import Iterator
from contextlib import contextmanager

from .text import printable

_MAX_QUOTE = 200  # characters quoted from the message of another library
# Exceptions whose messages are unclear without the name of their type.
_TERSE = (LookupError, AttributeError, TypeError, AssertionError, ArithmeticError, NotImplementedError)


class _OneLine(Exception):
    """An exception whose message is one line, whatever the names of units, files and columns in it contain."""

    def __init__(self, message=""):
        super().__init__(printable(message))


class InputError(_OneLine, ValueError):
    """The recording or a parameter cannot be used.

    Examples
    --------
    >>> from spikeinterface_nuclr import Population
    >>> Population(["a"], [[2.0, 1.0]])
    Traceback (most recent call last):
    spikeinterface_nuclr.errors.InputError: unit a: spike times are not sorted...
    """


class CheckpointError(_OneLine, ValueError):
    """The model cannot be found, read, or applied to this input.

    Examples
    --------
    >>> from spikeinterface_nuclr import load_checkpoint
    >>> load_checkpoint("no-such-model")
    Traceback (most recent call last):
    spikeinterface_nuclr.errors.CheckpointError: no-such-model: no such checkpoint: ...
    """


class DeviceError(_OneLine, RuntimeError):
    """The device is not available, or its memory is too small.

    Examples
    --------
    >>> from spikeinterface_nuclr import embed, simulate_population
    >>> embed(simulate_population(5, 20.0), device="cuda:99")
    Traceback (most recent call last):
    spikeinterface_nuclr.errors.DeviceError: ...
    """


class RecordingWarning(_OneLine, UserWarning):
    """Part of the recording is left out or doubtful; the computation continues.

    Examples
    --------
    >>> import warnings
    >>> from spikeinterface_nuclr import RecordingWarning, embed, simulate_population
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", RecordingWarning)
    ...     embeddings = embed(simulate_population(5, 20.0), progress=False)
    """


REFUSALS = (InputError, CheckpointError, DeviceError)
# Exit codes of the command line.
EXIT_CODES = {InputError: 3, CheckpointError: 4, DeviceError: 5, OSError: 3, MemoryError: 5, KeyboardInterrupt: 130}


def exit_code_of(error: BaseException) -> int:
    """The exit code of a process that ends with this error; 1 for an error of our own making."""
    return next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), 1)


def reason_of(error: BaseException) -> str:
    """The reason that another library's exception gives, as one short line to quote in a message of this package."""
    if isinstance(error, REFUSALS):
        return str(error)
    cause = error
    while cause is not None and not isinstance(cause, OSError):  # such as Zarr's KeyError on a full disk
        cause = cause.__cause__
    error = error if cause is None else cause
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    # hdmf puts a dump of the whole file before the reason, and OSError puts its number there.
    reason = error.args[-1] if len(error.args) > 1 and isinstance(error.args[-1], str) else error
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    text = printable(str(reason).strip().split("\n")[0][:_MAX_QUOTE])
    kind = type(error).__name__
    return f"{kind}: {text}" if text and isinstance(error, _TERSE) else text or kind


@contextmanager
def reading(name, kind: str, remedy: str = "", *, error: type[Exception] = InputError) -> Iterator[None]:
    """Replace any exception that a library raises while reading a file by one line that names the file.

    Parameters
    ----------
    name : str or Path
        The file.
    kind : str
        Expected kind of file, such as "NWB file".
    remedy : str
        What the user can do about it.
    error : type
        Exception to raise. Exceptions of this package pass through unchanged.
    """
    try:
        yield
    except REFUSALS:
        raise
    except Exception as problem:  # libraries raise any type of exception on a damaged file
        remedy = f": {remedy}" if remedy else ""
        raise error(f"{name}: not a readable {kind} ({reason_of(problem)}){remedy}") from problem
