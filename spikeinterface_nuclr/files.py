"""Files are written whole or not at all."""

import ctypes
import glob
import os
import platform
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import InputError

_UNSUSPICIOUS = 64_000_000  # bytes that any file may claim
_COMPRESSION = 1_000  # times: about what deflate makes of a constant


def check_writable(path, *, overwrite: bool = False) -> Path:
    """The path, after making sure that a file can be written there; InputError where not.

    To be asked before long work, so that its result finds a place.
    """
    path = Path(path)
    if path.is_dir() and not (path / ".zgroup").is_file():
        raise InputError(f"{path}: is a directory: name a file inside it")
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists already: give --overwrite (overwrite=True) or another name")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such directory: create it first")
    try:
        handle, probe = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise InputError(f"{path.parent}: cannot write there ({error.strerror}): choose another folder") from None
    os.close(handle)
    os.unlink(probe)
    return path


def check_format(path, *suffixes: str) -> Path:
    """The path, where it ends in one of these suffixes; InputError where not."""
    path = Path(path)
    if path.suffix not in suffixes:
        raise InputError(f"{path}: unknown format {path.suffix!r}: use {' or '.join(suffixes)}")
    return path


def check_declared(name, declared: int, stored: int) -> None:
    """InputError where a file claims more than its bytes can hold: it is damaged, or was made to fill the memory.

    Parameters
    ----------
    name : str or Path
        The file, and what in it.
    declared : int
        Bytes that would be allocated.
    stored : int
        Bytes on disk that they are read from.
    """
    if declared > max(_UNSUSPICIOUS, _COMPRESSION * stored):
        raise InputError(
            f"{name}: claims {declared / 1e9:,.1f} GB and has {stored / 1e6:,.1f} MB on disk: the file is damaged"
        )


@contextmanager
def written_whole(path, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary path beside `path`, moved onto it when the block ends well and removed when it does not.

    A file or a folder may be made there. Whenever the process is killed, `path` is as it was or as it shall be; a copy
    that a killed process left is removed by the next one that writes the same path on the same machine.
    """
    path = check_writable(path, overwrite=overwrite)
    _sweep(path)
    temporary = path.with_name(f"{_mark(path)}{os.getpid()}-{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        if not overwrite and path.exists():
            raise InputError(f"{path}: was made by another process meanwhile: give another name")
        _move(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: could not be written ({error.strerror or error})") from error
    finally:
        _remove(temporary)


def _mark(path: Path) -> str:
    # The suffix stays at the end: writers choose their format by it.
    return f".{path.stem}.{platform.node()}-"


def _sweep(path: Path) -> None:
    """Remove what processes of this machine that are no more left behind of `path`."""
    for left in path.parent.glob(f"{glob.escape(_mark(path))}*{glob.escape(path.suffix)}"):
        process = left.name.removeprefix(_mark(path)).partition("-")[0]
        if process.isdigit() and not _alive(int(process)):
            _remove(left)


def _alive(process: int) -> bool:
    if os.name == "nt":  # where signal 0 is Ctrl-C
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def _move(temporary: Path, path: Path) -> None:
    if temporary.is_dir() and path.exists():
        _exchange(temporary, path)
        return
    if temporary.is_file():
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
    os.replace(temporary, path)


def _exchange(a: Path, b: Path) -> None:
    """Let two folders swap their names in one step, which only Linux offers (renameat2 with RENAME_EXCHANGE)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        raise InputError(f"{b}: this system cannot replace a folder in one step: name another output")
    at_working_directory, exchange = -100, 2
    if libc.renameat2(at_working_directory, os.fsencode(a), at_working_directory, os.fsencode(b), exchange) != 0:
        raise InputError(
            f"{b}: cannot be replaced in one step ({os.strerror(ctypes.get_errno())}): name another output"
        )


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
