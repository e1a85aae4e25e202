"""Files are written whole or not at all."""

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import InputError


def check_writable(path, *, overwrite: bool = False) -> Path:
    """The path, after making sure that a file can be written there; InputError where not.

    To be asked before long work, so that its result finds a place.
    """
    path = Path(path)
    if path.is_dir():
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


@contextmanager
def written_whole(path, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary path beside `path`, moved onto it when the block ends well and removed when it does not."""
    path = check_writable(path, overwrite=overwrite)
    # The suffix stays: writers choose their format by it.
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        if not overwrite and path.exists():
            raise InputError(f"{path}: was made by another process meanwhile: give another name")
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: could not be written ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)
