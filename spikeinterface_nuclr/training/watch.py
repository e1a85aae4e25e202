"""Watch: the processes of a run end together, soon after one of them has failed."""

import logging
import os
import sys
import threading
import time
from datetime import timedelta

import torch
import torch.distributed as dist

from ..errors import REFUSALS, exit_code_of, reason_of
from ..text import printable

_EVERY_S = 0.1
# Seconds after which a process that does not answer has failed: it was stopped, or its machine is gone. The first
# process, which hears all others, gives up before they do, so that it is the one to say who is missing.
_PATIENCE_S, _PATIENCE_WITH_THE_FIRST_S = 40, 55
_RUNNING, _DONE = _WELL = 0, 255  # what a process says of itself; any other number is its exit code
_LENGTH = 1024  # bytes of a message: this number, and the line that says why the process has failed
_ENDED = "ended without a word (was it killed, or out of memory?): continue with --resume"


class Watch:
    """Context in which all processes of a run do their work.

    Each process tells the first one several times a second that it lives, beside the work. If one fails, the
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
            patience = timedelta(seconds=_PATIENCE_WITH_THE_FIRST_S if self.rank else _PATIENCE_S)
            # A group for each pair, because one that times out closes all connections of its group.
            groups = [dist.new_group([0, k], backend="gloo", timeout=patience) for k in range(1, self.processes)]
            self._groups = dict(enumerate(groups, start=1))
            self._thread = threading.Thread(target=self._follow if self.rank else self._lead, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind, error, trace) -> None:
        if self._thread is None:
            return
        if isinstance(error, RuntimeError) and not isinstance(error, REFUSALS):
            # Most often because another process has ended: then the thread, which knows which one, ends this one.
            self._thread.join(20 * _EVERY_S)
        if error is not None:
            interrupted = isinstance(error, KeyboardInterrupt)
            self._line = "interrupted" if interrupted else printable(reason_of(error))
        self._state = _DONE if error is None else exit_code_of(error)
        self._thread.join()
        if self.rank and self._state not in (_DONE, 1):
            os._exit(self._state)  # the first process has said why; only a fault of our own shows where it arose

    def _lead(self) -> None:
        """The first process: hear all others, and tell them what has become of the run."""
        others = range(1, self.processes)
        while True:
            heard = {}
            for rank in others:
                try:
                    heard[rank] = self._receive(rank)
                except RuntimeError:
                    heard[rank] = 1, f"process {rank + 1} of {self.processes} {_ENDED}"
                    break  # waiting for others that are gone, too, would take as long again
            failed = [message for message in heard.values() if message[0] not in _WELL]
            mine = self._state
            done = mine == _DONE and all(state == _DONE for state, _ in heard.values())
            news = failed[0][0] if failed else mine if mine != _DONE or done else _RUNNING
            for rank in others:
                try:
                    self._send(rank, news)
                except RuntimeError:
                    continue  # it has ended, which this or the next round notices
            if failed and mine in _WELL:
                self._end(*failed[0])
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
                self._end(1, f"process 1 of {self.processes} {_ENDED}" if self.rank == 1 else "")
            if news not in _WELL and mine in _WELL:
                self._end(news, "")  # the first process says why
            if news != _RUNNING:
                return

    def _send(self, rank: int, state: int, line: str = "") -> None:
        message = torch.zeros(_LENGTH, dtype=torch.uint8)
        content = torch.tensor([state, *line.encode(errors="replace")[: _LENGTH - 1]], dtype=torch.uint8)
        message[: len(content)] = content
        dist.send(message, rank, self._groups[rank or self.rank])

    def _receive(self, rank: int) -> tuple[int, str]:
        message = torch.zeros(_LENGTH, dtype=torch.uint8)
        dist.recv(message, rank, self._groups[rank or self.rank])
        state, *line = message.tolist()
        return state, bytes(line).rstrip(b"\0").decode(errors="replace")

    def _end(self, code: int, line: str) -> None:
        """Leave at once, although the main thread may be waiting for a process that has ended."""
        if line:
            sys.stderr.write(f"\nnuclr: {line}\n")
            sys.stderr.flush()
            logging.getLogger("nuclr").info("nuclr: %s", line)  # the file of --log-file
        os._exit(code)
