"""Files are written whole or not at all."""

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

_UNSUSPICIOUS = 64_000_000  # bytes that any file may claim
_COMPRESSION = 1_000  # times: about what deflate makes of a constant
ARRAYS_OF_NUMBERS = 20  # times: more than it makes of embeddings or spikes
_ASIDE = ".old"
_LONGEST_NAME = 60  # characters of a file's name in that of its workshop; encrypted home folders take 143 in all
# How file systems say that they know no permissions, no swap or no sync: of memory sticks, of the network, of FUSE.
_UNSUPPORTED = {errno.EPERM, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
# By system, the call that lets two names change places in one step, and its arguments.
_SWAPS = {
    "linux": ("renameat2", lambda a, b: (-100, a, -100, b, 2)),  # AT_FDCWD, RENAME_EXCHANGE
    "darwin": ("renamex_np", lambda a, b: (a, b, 2)),  # RENAME_SWAP
}


def check_writable(path, *, overwrite: bool = False) -> Path:
    """The path, after making sure that a file can be written there; InputError where not.

    To be asked before long work, so that its result finds a place.
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
    _workshop(_place(path)).rmdir()
    return path


def check_format(path, *suffixes: str) -> Path:
    """The path, where it ends in one of these suffixes; InputError where not."""
    path = Path(path)
    if path.suffix not in suffixes:
        raise InputError(f"{path}: unknown format {path.suffix!r}: use {' or '.join(suffixes)}")
    return path


def check_declared(name, declared: int, stored: int, *, ratio: int = _COMPRESSION) -> None:
    """InputError where a file claims more than its bytes can hold: it is damaged, or was made to fill the memory.

    Parameters
    ----------
    name : str or Path
        The file, and what in it.
    declared : int
        Bytes that would be allocated.
    stored : int
        Bytes on disk that they are read from.
    ratio : int
        How many times smaller than its content such a file may be.
    """
    if declared > max(_UNSUSPICIOUS, ratio * stored):
        raise InputError(
            f"{name}: claims {declared / 1e9:,.1f} GB and has {stored / 1e6:,.1f} MB on disk: the file is damaged"
        )


def npy_header(stream) -> tuple[tuple, np.dtype]:
    """Shape and dtype that a .npy file states, whose content comes next in the stream.

    ValueError where it is none, or where its header is longer than numpy trusts.
    """
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return shape, dtype


@contextmanager
def written_whole(
    path, *, overwrite: bool = False, beside: bool = False, like=None, check: Callable[[], None] | None = None
) -> Iterator[Path]:
    """A temporary path near `path`, moved onto it when the block ends well and removed when it does not.

    A file or a folder may be made there; nobody else can read it until it is whole. Whenever the process is killed,
    `path` is as it was or as it shall be; what a killed process left is removed by the next one that writes the same
    path on the same machine. Of several processes that write one path without `overwrite`, one succeeds.

    Parameters
    ----------
    path : str or Path
        Where it is a symbolic link, what it leads to is written.
    overwrite : bool
        Whether `path` may exist.
    beside : bool
        Whether the temporary path is in the very folder of `path`, whence relative links lead to the same files. The
        block then has to make the file, or folder, such that nobody else can read it. Default: in a folder of its own.
    like : Path, optional
        The file or folder whose permissions the new one gets. Default: the one that it replaces, if any.
    check : callable, optional
        Called when the new file is safely on the disk, right before it takes its place; it may raise InputError.
    """
    given = check_writable(path, overwrite=overwrite)
    path = _place(given)
    sweep(path.parent, path.name)
    like = path if like is None else Path(like)
    workshop = _workshop(path)
    temporary = workshop.with_name(f"{workshop.name}{given.suffix}") if beside else workshop / given.name
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
        _remove(workshop)


@contextmanager
def folder_written_whole(path) -> Iterator[Path]:
    """A temporary path for a folder, which takes the place of the one at `path`, if any, when the block ends well.

    As `written_whole`. Where a system cannot swap two folders in one step, a kill between two renames leaves the old
    one aside: `standing_folders` finds it.
    """
    path = Path(path)
    sweep(path.parent, path.name)
    workshop = _workshop(path)
    temporary = workshop / path.name
    try:
        yield temporary
        for made in temporary.rglob("*"):
            if made.is_file():
                _sync(made)
        _put(temporary, path)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: could not be written ({error.strerror or error})") from error
    finally:
        _remove(workshop)


def standing_folder(path: Path) -> Path:
    """Where `folder_written_whole` has left the folder of this path: in its place, or after a kill aside."""
    return path if path.exists() or not _aside(path).exists() else _aside(path)


def standing_folders(parent: Path) -> list[Path]:
    """What `folder_written_whole` has made in a folder, by name: of each the one in place, else the one aside."""
    names = {path.name for path in parent.iterdir() if not path.name.startswith(".")}
    names |= {path.name for path in parent.glob(f".*{_ASIDE}/*")}
    return [standing_folder(parent / name) for name in sorted(names)]


def remove_folder(path: Path) -> None:
    """Remove a folder, if it is there: it is whole until it is gone."""
    sweep(path.parent, path.name)
    workshop = _workshop(path)
    try:
        for folder in (path, _aside(path).parent):
            if folder.exists():
                os.rename(folder, workshop / folder.name)
    finally:
        _remove(workshop)


def _place(path: Path) -> Path:
    return path.resolve() if path.is_symlink() else path


def _aside(path: Path) -> Path:
    """In a hidden folder, so that whoever lists the folder of `path` does not take it for one more of its kind."""
    return path.with_name(f".{path.name}{_ASIDE}") / path.name


def _put(temporary: Path, path: Path) -> None:
    aside = _aside(path)
    if path.exists():
        _copy_permissions(path, temporary)
        try:
            exchange(temporary, path)
        except InputError:  # a system, or a file system, that cannot
            _remove(aside.parent)
            aside.parent.mkdir()
            os.rename(path, aside)
            os.rename(temporary, path)
    else:
        os.rename(temporary, path)
    _remove(aside.parent)
    _sync_names(path.parent)


def _workshop(path: Path) -> Path:
    """A new folder beside `path`, which nobody else may look into. Its name tells `sweep` whose it is."""
    folder = path.with_name(f".{_short(path.name)}.{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise InputError(f"{path.parent}: cannot write there ({error.strerror}): choose another folder") from None
    return folder


def _short(name: str) -> str:
    return name[:_LONGEST_NAME]


def sweep(folder: Path, name: str | None = None) -> None:
    """Remove what processes of this machine that are no more left behind in a folder.

    Parameters
    ----------
    folder : Path
    name : str, optional
        Of the file or folder that they were writing. Default: of any.
    """
    of = ".*" if name is None else re.escape(_short(name))
    # Of no other machine: "lab-2-17-…" is not of process 2 on "lab".
    left_behind = re.compile(rf"\.{of}\.{re.escape(platform.node())}-(\d+)-[0-9a-f]{{8}}(\.\w+)?", re.DOTALL)
    with suppress(OSError):  # a folder that may be written into and not be listed
        for left in list(folder.iterdir()):
            match = left_behind.fullmatch(left.name)
            if match and not is_running(int(match[1])):
                _remove(left)


def is_running(process: int) -> bool:
    """Whether a process of this machine has this number; True where that cannot be known."""
    if os.name == "nt":  # where signal 0 is Ctrl-C
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # somebody else's
        return True
    return True


def _copy_permissions(like: Path, new: Path) -> None:
    """Give a new file, or folder with what is new in it, the permissions of another one."""
    with _where_supported():
        new.chmod(_permissions(like, folder=new.is_dir()))
        for made in new.rglob("*") if new.is_dir() else ():
            if not made.is_symlink() and not (like / made.relative_to(new)).exists():
                made.chmod(_permissions(like, folder=made.is_dir()))


def _permissions(like: Path, *, folder: bool) -> int:
    mode = stat.S_IMODE(like.stat().st_mode) | stat.S_IWUSR
    if folder:
        return mode | (mode & 0o444) >> 2  # folders are searched where files are read
    return mode & 0o666 if like.is_dir() else mode


def _to_disk(new: Path) -> None:
    """Have the system write a file or a folder to the disk, which it would do later."""
    if not new.is_dir():
        _sync(new)
    elif hasattr(os, "sync"):  # a store has too many files to ask for each
        _sync_file_system(new)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        with _where_supported():
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_names(folder: Path) -> None:
    with suppress(OSError):  # not every system can, and the file is there
        _sync(folder)


def _sync_file_system(folder: Path) -> None:
    """All that waits to be written to the file system of a folder; of the whole machine, where no less can be asked."""
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
            _move_to_free(temporary, path)
        except OSError:
            if not path.exists():
                raise
            raise InputError(f"{path}: was made by another process meanwhile: give another name") from None
    elif path.exists() and (path.is_dir() or temporary.is_dir()):
        exchange(temporary, path)
    else:
        os.replace(temporary, path)


def _move_to_free(temporary: Path, path: Path) -> None:
    """Move to a name that nothing has; OSError where something has it by now."""
    if temporary.is_dir() or os.name == "nt":
        os.rename(temporary, path)  # of a folder, and on Windows, it replaces nothing
        return
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: take the name first
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        os.replace(temporary, path)


def exchange(a: Path, b: Path) -> None:
    """Let two files or folders swap their names in one step; InputError where this system cannot."""
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
        with suppress(OSError):  # open on Windows, say: the next one sweeps it
            path.unlink(missing_ok=True)


def check_folder(folder, names, *, overwrite: bool) -> Path:
    """The folder, after making sure that files of these names can be written there; InputError where not."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file: name a folder")
    for name in names if folder.exists() else ():
        check_writable(folder / name, overwrite=overwrite)
    return folder


def write_folder(folder, writers: dict[str, Callable[[Path], object]], *, overwrite: bool) -> Path:
    """Write files into a folder: all are whole before the first takes its place, and the last comes last."""
    folder = check_folder(folder, writers, overwrite=overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as files:
        for name, write in reversed(writers.items()):
            write(files.enter_context(written_whole(folder / name, overwrite=overwrite)))
    return folder
