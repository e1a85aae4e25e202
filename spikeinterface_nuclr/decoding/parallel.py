"""Fits in several processes, with one thread each, so that results do not depend on the number of processes."""

from collections.abc import Callable, Iterator
from numbers import Integral

from threadpoolctl import threadpool_limits

from ..errors import InputError

# Numbers to fit to, below which starting processes takes longer than it saves.
_WORTH_PROCESSES = 500_000


def check_jobs(n_jobs: int) -> None:
    """InputError if `n_jobs` is not a number of processes."""
    if not isinstance(n_jobs, Integral) or n_jobs == 0:
        raise InputError(f"n_jobs must be a number of processes, or -1 for all processor cores, not {n_jobs!r}")


def in_parallel(function: Callable, tasks: list[tuple], n_jobs: int, numbers: int, bar) -> Iterator:
    """Yield ``function(*task)`` for every task, in order.

    Parameters
    ----------
    function : callable
        Defined at the top level of a module.
    tasks : list of tuples
        Large arrays in them are shared between processes, not copied.
    n_jobs : int
        As in joblib; see `check_jobs`.
    numbers : int
        Approximate number of values that the tasks fit to; small data are fitted in this process.
    bar : tqdm
        Progress bar, updated after every task.
    """
    from joblib import Parallel, delayed

    n_jobs = n_jobs if numbers > _WORTH_PROCESSES else 1
    for result in Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(on_one_thread)(function, *task) for task in tasks
    ):
        bar.update()
        yield result


# On small matrices several threads are slower than one. They would also sum in another order, which changes the last
# digits.
@threadpool_limits.wrap(limits=1)
def on_one_thread(function: Callable, *arguments, **keywords):
    """Call ``function(*arguments, **keywords)`` with the numerical libraries limited to one thread."""
    return function(*arguments, **keywords)
