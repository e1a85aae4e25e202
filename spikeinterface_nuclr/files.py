"""Files are written whole or not at all."""

import ctypes
import glob
import os
import platform
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import InputError

_UNSUSPICIOUS = 64_000_000  # bytes that any file may claim
_COMPRESSION = 1_000  # times: about what deflate makes of a constant
_ASIDE = ".old"


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
    _workshop(path).rmdir()
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
    path = check_writable(path, overwrite=overwrite)
    _sweep(path)
    like = path if like is None else Path(like)
    workshop = _workshop(path)
    temporary = workshop.with_name(f"{workshop.name}{path.suffix}") if beside else workshop / path.name
    try:
        yield temporary
        if like.exists():
            _copy_permissions(like, temporary)
        _to_disk(temporary)
        if check is not None:
            check()
        _move(temporary, path, overwrite=overwrite)
        with suppress(OSError):  # not every file system knows of it, and the file is there
            _sync(path.parent)
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
    _sweep(path)
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
    names |= {path.name[1 : -len(_ASIDE)] for path in parent.glob(f".*{_ASIDE}")}
    return [standing_folder(parent / name) for name in sorted(names)]


def remove_folder(path: Path) -> None:
    """Remove a folder, if it is there: it is whole until it is gone."""
    _sweep(path)
    workshop = _workshop(path)
    try:
        for folder in (path, _aside(path)):
            if folder.exists():
                os.rename(folder, workshop / folder.name)
    finally:
        _remove(workshop)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}{_ASIDE}")


def _put(temporary: Path, path: Path) -> None:
    aside = _aside(path)
    if path.exists():
        _copy_permissions(path, temporary)
        try:
            _exchange(temporary, path)
            return
        except InputError:  # a system, or a disk, that cannot
            _remove(aside)
            os.rename(path, aside)
    os.rename(temporary, path)
    _remove(aside)


def _workshop(path: Path) -> Path:
    """A new folder beside `path`, which nobody else may look into. Its name tells `_sweep` whose it is."""
    folder = path.with_name(f"{_mark(path)}{os.getpid()}-{secrets.token_hex(4)}")
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise InputError(f"{path.parent}: cannot write there ({error.strerror}): choose another folder") from None
    return folder


def _mark(path: Path) -> str:
    return f".{path.name}.{platform.node()}-"


def sweep(folder: Path) -> None:
    """Remove what processes of this machine that are no more left behind in a folder."""
    _sweep(folder / "*")


def _sweep(path: Path) -> None:
    """Remove what processes of this machine that are no more left behind of `path`, whose name may be a pattern."""
    name = path.name if path.name == "*" else glob.escape(path.name)
    for left in path.parent.glob(f".{name}.{glob.escape(platform.node())}-*-*"):
        process = left.name.split("-")[-2]
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


def _copy_permissions(like: Path, new: Path) -> None:
    """Give a new file, or folder with what is new in it, the permissions of another one."""
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
    if new.is_dir():
        if hasattr(os, "sync"):  # a store has very many files
            os.sync()
    else:
        _sync(new)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _move(temporary: Path, path: Path, *, overwrite: bool) -> None:
    if not overwrite:
        try:
            _move_to_free(temporary, path)
        except OSError:
            if not path.exists():
                raise
            raise InputError(f"{path}: was made by another process meanwhile: give another name") from None
    elif path.exists() and (path.is_dir() or temporary.is_dir()):
        _exchange(temporary, path)
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
