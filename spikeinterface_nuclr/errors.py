"""The ways in which this package says no. Each message is one line that names the culprit and the remedy."""

from collections.abc import Iterator
from contextlib import contextmanager

from .text import printable

_LENGTH = 200  # of what is quoted from another library
# Exceptions whose text alone says too little.
_TERSE = (LookupError, AttributeError, TypeError, AssertionError, ArithmeticError, NotImplementedError)


class _OneLine(Exception):
    """Names of units, files and columns stand in messages: whatever they hold, a message is one line."""

    def __init__(self, message=""):
        super().__init__(printable(message))


class InputError(_OneLine, ValueError):
    """The recording, or a parameter, cannot be used.

    Examples
    --------
    >>> from spikeinterface_nuclr import Population
    >>> Population(["a"], [[2.0, 1.0]])
    Traceback (most recent call last):
    spikeinterface_nuclr.errors.InputError: unit a: spike times are not sorted...
    """


class CheckpointError(_OneLine, ValueError):
    """The model cannot be found, read or applied to this input.

    Examples
    --------
    >>> from spikeinterface_nuclr import load_checkpoint
    >>> load_checkpoint("no-such-model")
    Traceback (most recent call last):
    spikeinterface_nuclr.errors.CheckpointError: no-such-model: no such checkpoint: ...
    """


class DeviceError(_OneLine, RuntimeError):
    """The device is absent, or its memory does not suffice.

    Examples
    --------
    >>> from spikeinterface_nuclr import embed, simulate_population
    >>> embed(simulate_population(5, 20.0), device="cuda:99")
    Traceback (most recent call last):
    spikeinterface_nuclr.errors.DeviceError: ...
    """


class RecordingWarning(_OneLine, UserWarning):
    """Something of the recording is left out or doubtful; the work goes on.

    Examples
    --------
    >>> import warnings
    >>> from spikeinterface_nuclr import RecordingWarning, embed, simulate_population
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", RecordingWarning)
    ...     embeddings = embed(simulate_population(5, 20.0), progress=False)
    """


REFUSALS = (InputError, CheckpointError, DeviceError)


def reason_of(error: BaseException) -> str:
    """What another library's error says, in one short line, to quote in one of ours."""
    if isinstance(error, REFUSALS):
        return str(error)
    cause = error
    while cause is not None and not isinstance(cause, OSError):  # Zarr's KeyError of a full disk, say
        cause = cause.__cause__
    error = error if cause is None else cause
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    # hdmf puts a dump of the whole file before its reason, the system its number before the words.
    said = error.args[-1] if len(error.args) > 1 and isinstance(error.args[-1], str) else error
    if isinstance(error, OSError) and error.strerror:
        said = error.strerror
    text = printable(str(said).strip().split("\n")[0][:_LENGTH])
    kind = type(error).__name__
    return f"{kind}: {text}" if text and isinstance(error, _TERSE) else text or kind


@contextmanager
def reading(name, kind: str, remedy: str = "", *, error: type[Exception] = InputError) -> Iterator[None]:
    """Turn whatever a library raises in the block, while it reads a file, into one line that names the file.

    Parameters
    ----------
    name : str or Path
        The file.
    kind : str
        What it should be, such as "NWB file".
    remedy : str
        What the user can do.
    error : type
        Of the refusal. Refusals of this package pass through.
    """
    try:
        yield
    except REFUSALS:
        raise
    except Exception as problem:  # libraries raise what they please on a damaged file
        remedy = f": {remedy}" if remedy else ""
        raise error(f"{name}: not a readable {kind} ({reason_of(problem)}){remedy}") from problem
