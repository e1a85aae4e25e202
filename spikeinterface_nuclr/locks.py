"""One writer at a time."""

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import SoftFileLock, Timeout

from .errors import InputError

_POLL_S = 0.05  # seconds between two attempts to take a lock


@contextmanager
def alone(target: Path, lock: Path | None = None, *, patience_s: float = 0) -> Iterator[None]:
    """Prevent other processes of this package from writing the same target; raise InputError if one does.

    The lock is a file, which also works on file systems without locks, as on clusters. Locks of killed processes on
    this machine are ignored.

    Parameters
    ----------
    target : Path
        What is written.
    lock : Path, optional
        Default: ``.NAME.lock`` beside the target.
    patience_s : float, default: 0
        Seconds to wait for the other process.
    """
    lock = lock or target.with_name(f".{target.name}.lock")
    # At least two attempts: the first one may only remove the lock of a killed process.
    lock_file = SoftFileLock(lock, timeout=max(patience_s, 3 * _POLL_S))
    try:
        lock_file.acquire(poll_interval=_POLL_S)
    except Timeout:
        raise InputError(
            f"{target}: another process is writing it: write again when it has finished, or, if there is none, delete "
            f"{lock}"
        ) from None
    except OSError as error:
        raise InputError(
            f"{lock.parent}: could not be written to ({error.strerror}): choose another folder, or free some room"
        ) from None
    try:
        _remove_abandoned(lock)
        yield
    finally:
        lock_file.release()


def _remove_abandoned(lock: Path) -> None:
    """Remove ``LOCK.break.ID…``, left by filelock if a process is killed while it takes over a lock."""
    for file in lock.parent.glob(f"{glob.escape(lock.name)}.break.*"):
        process = file.name.removeprefix(f"{lock.name}.break.").split(".")[0]
        if process.isdigit() and not is_running(int(process)):
            file.unlink(missing_ok=True)


def is_running(process: int) -> bool:
    """Whether a process with this number runs on this machine; True if that cannot be determined."""
    if os.name == "nt":  # where signal 0 is Ctrl-C
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # belongs to another user
        return True
    return True
