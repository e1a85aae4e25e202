"""One command for many recordings: one after another or several at once, and what became of each."""

import csv
import multiprocessing
import os
import re
import time
import warnings
from collections import Counter, deque
from collections.abc import Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from threading import Thread
from typing import Protocol

import typer

from ..errors import EXIT_CODES, REFUSALS, InputError, RecordingWarning, reason_of
from ..files import check_format, check_writable, written_whole
from ..io.manifest import Listed
from ..text import for_csv, printable
from .app import say

# What a name of an output file may hold in place of the recording's own.
FIELDS = ("name", "parent", "animal", "session", "probe", "key")
_FIELD = re.compile("{(" + "|".join(FIELDS) + ")}")
_FIELDS = ", ".join("{" + name + "}" for name in FIELDS)
DONE, UP_TO_DATE, REFUSED, FAILED = "done", "up to date", "refused", "failed"


@dataclass(frozen=True)
class Done:
    """What was done with a recording, in one line; not `computed` if it was up to date.

    The `hint` says how to compute it again, where it is the only one. `result` is for the command.
    """

    line: str
    computed: bool = True
    hint: str = ""
    result: object = None


def check_settings(settings) -> None:
    """Raise what is wrong with EmbeddingSettings for any recording: the device, the model, numbers."""
    from ..embedding import check_min_spikes
    from ..model.device import choose_device, choose_precision
    from ..model.loading import load_checkpoint
    from ..windows import check_overlap

    check_min_spikes(settings.min_spikes)
    if settings.overlap is not None:
        check_overlap(settings.overlap)
    choose_precision(settings.precision, choose_device(settings.device))
    if settings.model is not None:
        load_checkpoint(settings.model)


class Job(Protocol):
    """What a command does with each recording: a dataclass, which is sent to other processes.

    Attributes
    ----------
    settings : EmbeddingSettings
    """

    def check(self) -> None:
        """Raise what would be wrong with every recording."""

    def __call__(self, source: Listed, output: Path | None, *, alone: bool) -> Done:
        """Do it with one recording, which is the only one (`alone`) or one of many, without a progress bar."""


@dataclass(frozen=True)
class Outcome:
    """A row of the table of what became of each recording."""

    source: str
    outcome: str
    message: str
    seconds: float
    output: str
    result: object = field(default=None, metadata={"column": False})


def run_each(
    listed: list[Listed], output: Path | None, job: Job, *, n_jobs: int = 1, outcomes: Path | None = None, quiet: bool
) -> None:
    """Do a job with every recording.

    With one recording, an error is raised. With several, each is tried: those that are refused are listed, and the exit
    code is then 3.

    Parameters
    ----------
    listed : list of Listed
    output : Path or None
        For several recordings with at least one of `FIELDS`, such as ``embeddings/{name}.npz``.
    job : Job
    n_jobs : int
        Recordings at once, each in a process of its own.
    outcomes : Path, optional
        Table to write, complete after each recording.
    quiet : bool
        Show no progress bar.
    """
    outputs = _outputs(listed, output)
    if len(listed) == 1 and outcomes is None:
        done = job(listed[0], outputs[0], alone=True)
        say(done.line + (f" ({done.hint})" if done.hint else ""))
        return
    rows = outcomes_of(listed, outputs, job, n_jobs=n_jobs, outcomes=outcomes, quiet=quiet)
    count = Counter(row.outcome for row in rows)
    say(
        f"{len(rows)} recordings: " + ", ".join(f"{count[name]} {name}" for name in dict.fromkeys([DONE, *count]))
        + (f"; what became of each: {outcomes}" if outcomes is not None else "")
    )  # fmt: skip
    exit_if_refused(rows)


def exit_if_refused(rows: list[Outcome]) -> None:
    """Exit with code 3 if a recording was refused; call it last."""
    if any(row.outcome in (REFUSED, FAILED) for row in rows):
        raise typer.Exit(EXIT_CODES[InputError])


def outcomes_of(
    listed: list[Listed],
    outputs: list,
    job: Job,
    *,
    n_jobs: int,
    outcomes: Path | None,
    quiet: bool,
    lines: bool = True,
) -> list[Outcome]:
    """Try a job with each recording, and show the refused ones, and with `lines` the others too. As they come."""
    _check_table(outcomes, listed, outputs)
    job.check()
    job = replace(job, settings=replace(job.settings, progress=False))  # one bar over all
    rows = []
    tasks = list(zip(listed, outputs, strict=True))
    for row in _shown(_each(job, tasks, n_jobs), len(listed), quiet, lines):
        rows.append(row)
        if outcomes is not None:
            _write_table(rows, outcomes)
    return rows


def _shown(outcomes: Iterator[Outcome], total: int, quiet: bool, lines: bool) -> Iterator[Outcome]:
    """Show each outcome as a line, and all as one progress bar."""
    from tqdm.auto import tqdm

    with tqdm(total=total, unit="recording", disable=quiet) as bar:
        for row in outcomes:
            bar.update()
            with bar.external_write_mode():
                if row.outcome in (DONE, UP_TO_DATE) and lines:
                    say(row.message)
                elif row.outcome in (REFUSED, FAILED):
                    say(f"nuclr: {row.outcome}: {row.message}", err=True)
            yield row


def _outputs(listed: list[Listed], output: Path | None) -> list[Path | None]:
    """The file of each recording; a usage error if two would share one."""
    if output is None:
        return [None] * len(listed)
    if not _FIELD.search(str(output)):
        if len(listed) > 1:
            raise typer.BadParameter(
                f"--output: is one file for {len(listed)} recordings: name one for each by {_FIELDS}, such as "
                f"{output.with_name('{name}' + (output.suffix or '.npz'))}"
            )
        return [output]
    paths = [path_for(one, output) for one in listed]
    counts = Counter(path.resolve() for path in paths)
    recordings = {Path(one.name).resolve() for one in listed}
    for path, one in zip(paths, listed, strict=True):
        if path.resolve() in recordings:
            raise typer.BadParameter(
                f"--output: {path} is one of the recordings: name outputs elsewhere, or recordings by a pattern that "
                "leaves out what was written before"
            )
        if counts[path.resolve()] > 1:
            raise typer.BadParameter(
                f"--output: {one.name} and another recording would both be written to {path}: tell them apart by "
                f"another of {_FIELDS}"
            )
    for folder in {path.parent for path in paths}:
        folder.mkdir(parents=True, exist_ok=True)
    return paths


def path_for(source: Listed, pattern: Path) -> Path:
    """The path of a recording's file: a pattern with its `FIELDS` filled in."""
    return Path(_FIELD.sub(lambda field: _value(source, field[1]), str(pattern)))


def _value(source: Listed, field: str) -> str:
    """What stands for a field in the name of a recording's output: one part of a path."""
    path = Path(source.name)
    whole = path.is_dir() and path.suffix not in (".zarr", ".nwb")
    values = {"name": path.name if whole else path.stem, "parent": path.resolve().parent.name, "key": source.key}
    value = values.get(field) or getattr(source, field, "")
    if not value:
        raise typer.BadParameter(f"{source.name}: no {field} is stated in a manifest: name files by another field")
    return re.sub(r"[/\\:*?\"<>|\x00-\x1f]", "_", value).lstrip(".") or "_"


def _each(job: Job, tasks: list[tuple], n_jobs: int) -> Iterator[Outcome]:
    """The outcome of each task, as they come."""
    if n_jobs == 1:
        yield from (attempt(job, *task) for task in tasks)
        return
    waiting = deque(tasks)
    while waiting:
        suspects = yield from _in_processes(job, waiting, min(n_jobs, len(waiting)))
        for task in suspects:  # alone, the one that ends its process again is known
            if (yield from _in_processes(job, deque([task]), 1)):
                line = f"{task[0].name}: its process was ended, such as for want of memory: try fewer at once (-j)"
                yield Outcome(task[0].name, REFUSED, line, float("nan"), str(task[1] or ""))


def _in_processes(job: Job, waiting: deque, n_jobs: int) -> Generator[Outcome, None, list[tuple]]:
    """Take tasks and yield outcomes until none is left, or a process has died; return those that were then running."""
    threads = max((os.cpu_count() or 1) // n_jobs, 1)
    running: dict = {}
    context = multiprocessing.get_context("spawn")  # a fork would copy a GPU's and other libraries' threads
    with ProcessPoolExecutor(n_jobs, mp_context=context, initializer=_limit, initargs=(threads,)) as pool:
        try:
            while waiting or running:
                while waiting and len(running) < n_jobs:
                    future = pool.submit(attempt, job, *waiting[0])  # a task stays waiting where this fails
                    running[future] = waiting.popleft()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    result = future.result()
                    del running[future]
                    yield result
        except BrokenProcessPool:
            return list(running.values())
        except BaseException:  # such as an interruption: what has not begun does not begin
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return []


def _limit(threads: int) -> None:
    """Share the cores between processes; libraries that are loaded later read the environment. End with the parent."""
    from threadpoolctl import threadpool_limits

    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))
    threadpool_limits(threads)
    Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()


def _end_with(parent) -> None:
    """End this process when the one that has started it is gone, which would otherwise leave it waiting for ever."""
    parent.join()
    os._exit(1)


def attempt(job: Job, source: Listed, output: Path | None) -> Outcome:
    """Do a job with one recording, whatever happens; its warnings are part of the message."""
    begin = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", RecordingWarning)
        result = None
        try:
            done = job(source, output, alone=False)
            outcome, message, result = DONE if done.computed else UP_TO_DATE, done.line, done.result
        except typer.BadParameter as error:
            outcome, message = REFUSED, f"{source.name}: {error.message}"
        except (*REFUSALS, OSError, MemoryError) as error:
            outcome, message = REFUSED, source.refusal(error)
        except Exception as error:  # a fault of this package must not stop the others
            line = f"{source.name}: unexpected {type(error).__name__} ({reason_of(error)})"
            outcome, message = FAILED, f"{line}: run it alone to see where, and please report it"
    message += "".join(f"; warning: {warning.message}" for warning in caught)
    return Outcome(source.name, outcome, message, round(time.perf_counter() - begin, 2), str(output or ""), result)


def _check_table(path: Path | None, listed: list[Listed], outputs: list[Path | None]) -> None:
    """InputError if a table of outcomes cannot be written; of files that exist, only such a table is replaced."""
    if path is None:
        return
    others = {Path(one.name).resolve() for one in listed}
    for output in filter(None, outputs):
        others |= {output.resolve(), output.resolve().with_suffix(".provenance.json")}
    if path.resolve() in others:
        raise InputError(f"{path}: is a recording, or its result: name another file for the outcomes")
    check_writable(check_format(path, ".csv"), overwrite=True)
    if path.exists():
        with open(path, newline="", encoding="utf-8", errors="replace") as file:
            if next(csv.reader(file), []) != _columns():
                raise InputError(f"{path}: exists, and is not a table of outcomes: name another file")


def _columns() -> list[str]:
    return [column.name for column in fields(Outcome) if column.metadata.get("column", True)]


def _cell(value):
    """A value of the table; names of files may hold what no text file can."""
    return printable(value) if isinstance(value, str) else value


def _write_table(rows: list[Outcome], path: Path) -> None:
    import pandas as pd

    with written_whole(path, overwrite=True) as temporary:
        table = pd.DataFrame([[_cell(getattr(row, name)) for name in _columns()] for row in rows], columns=_columns())
        for_csv(table).to_csv(temporary, index=False)
