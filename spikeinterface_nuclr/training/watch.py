"""Watch: the processes of a run end together, soon after one of them has failed."""

import os
import sys
import threading
import time
from datetime import timedelta

import torch
import torch.distributed as dist

from ..errors import REFUSALS

_EVERY_S = 0.1
# A process that answers no longer than this has failed: one that was stopped, or whose machine is gone.
_PATIENCE = timedelta(seconds=45)
_RUNNING, _DONE, _FAILED, _REFUSED = range(4)
_EXIT_CODES = {_FAILED: 1, _REFUSED: 3}
_LENGTH = 1024  # bytes of a message: what a process does, and the line that says why it has failed
_ENDED = "ended without a word (was it killed, or out of memory?): continue with --resume"


class Watch:
    """Context in which all processes of a run do their work.

    Each process tells the first one several times a second that it lives, in a group of its own. If one fails, the
    others exit with one line about it, instead of waiting in a collective operation, whose timeout is hours, because
    others wait while one process evaluates.

    Parameters
    ----------
    rank, processes : int
        Number of this process, and of all. A single one is not watched.
    """

    def __init__(self, rank: int, processes: int):
        self.rank, self.processes = rank, processes
        self._state, self._line = _RUNNING, ""
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Watch":
        if self.processes > 1:
            self._group = dist.new_group(backend="gloo", timeout=_PATIENCE)
            self._thread = threading.Thread(target=self._lead if self.rank == 0 else self._follow, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind, error, trace) -> None:
        if self._thread is None:
            return
        if isinstance(error, RuntimeError) and not isinstance(error, REFUSALS):
            # Most often because another process has ended: then the thread, which knows which one, ends this one.
            self._thread.join(20 * _EVERY_S)
        if error is not None:
            self._line = str(error) if isinstance(error, REFUSALS) else f"{type(error).__name__}: {error}"
        self._state = _DONE if error is None else _REFUSED if isinstance(error, REFUSALS) else _FAILED
        self._thread.join()
        if isinstance(error, REFUSALS) and self.rank:
            os._exit(_EXIT_CODES[_REFUSED])  # the first process says why

    def _lead(self) -> None:
        """The first process: hear all others, and tell them what has become of the run."""
        others = range(1, self.processes)
        while True:
            heard = {}
            for rank in others:
                try:
                    heard[rank] = self._receive(rank)
                except RuntimeError:
                    heard[rank] = _FAILED, f"process {rank + 1} of {self.processes} {_ENDED}"
            failed = {rank: message for rank, message in heard.items() if message[0] in _EXIT_CODES}
            mine = self._state
            done = mine == _DONE and all(state == _DONE for state, _ in heard.values())
            news = _FAILED if failed or mine in _EXIT_CODES else _DONE if done else _RUNNING
            for rank in others:
                try:
                    self._send(rank, news)
                except RuntimeError:
                    continue  # it has ended, which this or the next round notices
            if failed and mine not in _EXIT_CODES:
                state, line = next(iter(failed.values()))
                self._end(state, line)
            if news != _RUNNING:
                return
            time.sleep(_EVERY_S)

    def _follow(self) -> None:
        """Another process: tell the first one, and hear what has become of the run."""
        while True:
            mine = self._state
            try:
                self._send(0, mine, self._line)
                news, _ = self._receive(0)
            except RuntimeError:
                self._end(_FAILED, f"process 1 of {self.processes} {_ENDED}" if self.rank == 1 else "")
            if news == _FAILED and mine not in _EXIT_CODES:
                self._end(_FAILED, "")  # the first process says why
            if news != _RUNNING:
                return

    def _send(self, rank: int, state: int, line: str = "") -> None:
        message = torch.zeros(_LENGTH, dtype=torch.uint8)
        content = torch.tensor([state, *line.encode()[: _LENGTH - 1]], dtype=torch.uint8)
        message[: len(content)] = content
        dist.send(message, rank, self._group)

    def _receive(self, rank: int) -> tuple[int, str]:
        message = torch.zeros(_LENGTH, dtype=torch.uint8)
        dist.recv(message, rank, self._group)
        state, *line = message.tolist()
        return state, bytes(line).rstrip(b"\0").decode(errors="replace")

    def _end(self, state: int, line: str) -> None:
        """Leave at once, although the main thread may be waiting for a process that has ended."""
        if line:
            sys.stderr.write(f"\nnuclr: {line}\n")
            sys.stderr.flush()
        os._exit(_EXIT_CODES[state])
