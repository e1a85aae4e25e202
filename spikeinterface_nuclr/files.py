"""Atomic writing of files and folders: a file is written whole or not at all."""

import ctypes
import errno
import os
import platform
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np

from .errors import InputError, reason_of
from .locks import is_running

_ALWAYS_ALLOWED = 64_000_000  # bytes that any file may declare
_COMPRESSION = 1_000  # about the compression ratio of deflate for a constant
ARRAYS_OF_NUMBERS = 20  # more than the compression ratio of embeddings or spikes
_ASIDE = ".old"
_LONGEST_NAME = 60  # characters of a file's name in the name of its temporary folder; encrypted homes allow 143 in all
# Errors of file systems without permissions, exchange or sync: memory sticks, network drives, FUSE.
_UNSUPPORTED = {errno.EPERM, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
# For each system, the function that exchanges two names atomically, and its arguments.
_SWAPS = {
    "linux": ("renameat2", lambda a, b: (-100, a, -100, b, 2)),  # AT_FDCWD, RENAME_EXCHANGE
    "darwin": ("renamex_np", lambda a, b: (a, b, 2)),  # RENAME_SWAP
}


def check_writable(path, *, overwrite: bool = False) -> Path:
    """Check that a file can be written to this path and return it; InputError if not.

    Call it before a long computation, so that the result can be saved.
    """
    path = Path(path)
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be written ({reason_of(error)}): give another name") from None
    if path.is_dir() and not (path / ".zgroup").is_file():
        raise InputError(f"{path}: is a directory: name a file inside it")
    if path.exists() and not path.is_dir() and not path.is_file():
        raise InputError(f"{path}: is a device or a pipe: name a file")
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists already: give --overwrite (overwrite=True) or another name")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such directory: create it first")
    _temporary_folder(_target(path)).rmdir()
    return path


def check_format(path, *suffixes: str) -> Path:
    """Check that the path ends in one of these suffixes and return it; InputError if not."""
    path = Path(path)
    if path.suffix not in suffixes:
        raise InputError(f"{path}: unknown format {path.suffix!r}: use {' or '.join(suffixes)}")
    return path


def check_declared(name, declared: int, stored: int, *, ratio: int = _COMPRESSION) -> None:
    """InputError if a file declares more data than its bytes can hold: it is damaged, or crafted to fill the memory.

    Parameters
    ----------
    name : str or Path
        The file, or a part of it, to name in the message.
    declared : int
        Bytes that would be allocated.
    stored : int
        Bytes on disk that they are read from.
    ratio : int
        Largest plausible compression ratio.
    """
    if declared > max(_ALWAYS_ALLOWED, ratio * stored):
        raise InputError(
            f"{name}: claims {declared / 1e9:,.1f} GB and has {stored / 1e6:,.1f} MB on disk: the file is damaged"
        )


def npy_header(stream) -> tuple[tuple, np.dtype]:
    """Shape and dtype in the header of a .npy file, leaving the stream at the start of the data.

    ValueError if it is not a .npy file, or if its header is longer than numpy accepts.
    """
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if min(shape, default=0) < 0:  # which some versions of numpy read, as all that is left of the file
        raise ValueError(f"its header has the shape {shape}")
    return shape, dtype


@contextmanager
def written_whole(
    path, *, overwrite: bool = False, beside: bool = False, like=None, check: Callable[[], None] | None = None
) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` if the block succeeds and is removed if it fails.

    The block may create a file or a folder there; no other user can read it until it is complete. If the process is
    killed, `path` is either unchanged or complete; what a killed process leaves behind is removed by the next one that
    writes the same path on the same machine. If several processes write one path without `overwrite`, one succeeds.

    Parameters
    ----------
    path : str or Path
        If it is a symbolic link, its target is written.
    overwrite : bool
        Whether `path` may exist.
    beside : bool
        Whether the temporary path is in the same folder as `path`, so that relative links resolve to the same files.
        The block then has to make the file or folder unreadable for others. Default: in a temporary folder.
    like : Path, optional
        The file or folder whose permissions are copied. Default: the one that is replaced, if any.
    check : callable, optional
        Called once the new file is synced to disk, right before it replaces `path`; it may raise InputError.
    """
    output = check_writable(path, overwrite=overwrite)
    path = _target(output)
    sweep(path.parent, path.name)
    like = path if like is None else Path(like)
    folder = _temporary_folder(path)
    temporary = folder.with_name(f"{folder.name}{output.suffix}") if beside else folder / output.name
    try:
        yield temporary
        if like.exists():
            _copy_permissions(like, temporary)
        _to_disk(temporary)
        if check is not None:
            check()
        _move(temporary, path, overwrite=overwrite)
        _sync_names(path.parent)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: could not be written ({error.strerror or error})") from error
    finally:
        _remove(temporary)
        _remove(folder)


@contextmanager
def folder_written_whole(path) -> Iterator[Path]:
    """Yield a temporary path for a folder that replaces the one at `path`, if any, if the block succeeds.

    Otherwise like `written_whole`. On systems that cannot exchange two folders atomically, a process killed between
    two renames leaves the old folder aside: `standing_folders` finds it.
    """
    path = Path(path)
    sweep(path.parent, path.name)
    staging = _temporary_folder(path)
    temporary = staging / path.name
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync(file)
        _replace_folder(temporary, path)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: could not be written ({error.strerror or error})") from error
    finally:
        _remove(staging)


def standing_folder(path: Path) -> Path:
    """The folder that `folder_written_whole` wrote to this path: in place, or aside if the process was killed."""
    return path if path.exists() or not _aside(path).exists() else _aside(path)


def standing_folders(parent: Path) -> list[Path]:
    """The folders that `folder_written_whole` wrote into `parent`, sorted by name, as from `standing_folder`."""
    names = {path.name for path in parent.iterdir() if not path.name.startswith(".")}
    names |= {path.name for path in parent.glob(f".*{_ASIDE}/*")}
    return [standing_folder(parent / name) for name in sorted(names)]


def remove_folder(path: Path) -> None:
    """Remove a folder, if it exists, in one step: no other process sees a part of it."""
    sweep(path.parent, path.name)
    staging = _temporary_folder(path)
    try:
        for folder in (path, _aside(path).parent):
            if folder.exists():
                os.rename(folder, staging / folder.name)
    finally:
        _remove(staging)


def _target(path: Path) -> Path:
    return path.resolve() if path.is_symlink() else path


def _aside(path: Path) -> Path:
    """Where an old folder is set aside: hidden, so that a listing of the parent does not include it."""
    return path.with_name(f".{path.name}{_ASIDE}") / path.name


def _replace_folder(temporary: Path, path: Path) -> None:
    aside = _aside(path)
    if path.exists():
        _copy_permissions(path, temporary)
        try:
            exchange(temporary, path)
        except InputError:  # not supported by the system or the file system
            _remove(aside.parent)
            aside.parent.mkdir()
            os.rename(path, aside)
            os.rename(temporary, path)
    else:
        os.rename(temporary, path)
    _remove(aside.parent)
    _sync_names(path.parent)


def _temporary_folder(path: Path) -> Path:
    """Create a folder beside `path` that no other user can read. Its name tells `sweep` which process owns it."""
    folder = path.with_name(f".{_short(path.name)}.{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise InputError(f"{path.parent}: cannot write there ({error.strerror}): choose another folder") from None
    return folder


def _short(name: str) -> str:
    return name[:_LONGEST_NAME]


def sweep(folder: Path, name: str | None = None) -> None:
    """Remove temporary files that processes of this machine left behind in a folder when they were killed.

    Parameters
    ----------
    folder : Path
    name : str, optional
        Name of the file or folder that they were writing. Default: any.
    """
    written = ".*" if name is None else re.escape(_short(name))
    # Only of this machine: "lab-2-17-…" does not belong to process 2 on "lab".
    left_behind = re.compile(rf"\.{written}\.{re.escape(platform.node())}-(\d+)-[0-9a-f]{{8}}(\.\w+)?", re.DOTALL)
    with suppress(OSError):  # a folder may be writable but not readable
        for path in list(folder.iterdir()):
            match = left_behind.fullmatch(path.name)
            if match and not is_running(int(match[1])):
                _remove(path)


def _copy_permissions(like: Path, new: Path) -> None:
    """Copy the permissions of `like` to a new file, or to a new folder and the new files in it."""
    with _where_supported():
        new.chmod(_permissions(like, folder=new.is_dir()))
        for path in new.rglob("*") if new.is_dir() else ():
            if not path.is_symlink() and not (like / path.relative_to(new)).exists():
                path.chmod(_permissions(like, folder=path.is_dir()))


def _permissions(like: Path, *, folder: bool) -> int:
    mode = stat.S_IMODE(like.stat().st_mode) | stat.S_IWUSR
    if folder:
        return mode | (mode & 0o444) >> 2  # who may read the files may also enter the folder
    return mode & 0o666 if like.is_dir() else mode


def _to_disk(new: Path) -> None:
    """Flush a file or a folder from the system's cache to disk."""
    if not new.is_dir():
        _sync(new)
    elif hasattr(os, "sync"):  # a Zarr store has too many files to sync one by one
        _sync_file_system(new)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        with _where_supported():
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_names(folder: Path) -> None:
    with suppress(OSError):  # not supported everywhere, and the file itself is synced
        _sync(folder)


def _sync_file_system(folder: Path) -> None:
    """Flush the file system of a folder, or all file systems if a single one cannot be flushed."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "syncfs"):
        os.sync()
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if libc.syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(descriptor)


@contextmanager
def _where_supported() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def _move(temporary: Path, path: Path, *, overwrite: bool) -> None:
    if not overwrite:
        try:
            _move_to_unused(temporary, path)
        except OSError:
            if not path.exists():
                raise
            raise InputError(f"{path}: was created by another process meanwhile: give another name") from None
    elif path.exists() and (path.is_dir() or temporary.is_dir()):
        exchange(temporary, path)
    else:
        os.replace(temporary, path)


def _move_to_unused(temporary: Path, path: Path) -> None:
    """Move to a path that does not exist; OSError if it exists by now."""
    if temporary.is_dir() or os.name == "nt":
        os.rename(temporary, path)  # replaces nothing for folders, nor on Windows
        return
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: reserve the name first
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        os.replace(temporary, path)


def exchange(a: Path, b: Path) -> None:
    """Exchange the names of two files or folders atomically; InputError if the system cannot."""
    name, arguments = _SWAPS.get(sys.platform, ("", None))
    swap = getattr(ctypes.CDLL(None, use_errno=True), name, None) if name else None
    if swap is None:
        raise InputError(f"{b}: this system cannot replace a folder in one step: name another output")
    if swap(*arguments(os.fsencode(a), os.fsencode(b))) != 0:
        raise InputError(
            f"{b}: cannot be replaced in one step ({os.strerror(ctypes.get_errno())}): name another output"
        )


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):  # such as a file that is open on Windows: removed by the next `sweep`
            path.unlink(missing_ok=True)


def check_folder(folder, names, *, overwrite: bool) -> Path:
    """Check that files of these names can be written into a folder and return it; InputError if not."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file: name a folder")
    for name in names if folder.exists() else ():
        check_writable(folder / name, overwrite=overwrite)
    return folder


def write_folder(folder, writers: dict[str, Callable[[Path], object]], *, overwrite: bool) -> Path:
    """Write files into a folder: all are complete before the first is moved into place; they move in this order."""
    folder = check_folder(folder, writers, overwrite=overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as files:
        for name, write in reversed(writers.items()):
            write(files.enter_context(written_whole(folder / name, overwrite=overwrite)))
    return folder
