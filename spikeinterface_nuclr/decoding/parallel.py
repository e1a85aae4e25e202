"""Fits in several processes. Each of them uses one thread, so that results do not depend on how many there are."""

from collections.abc import Callable, Iterator
from numbers import Integral

from threadpoolctl import threadpool_limits

from ..errors import InputError

# Numbers to fit to, below which starting processes takes longer than they save.
_WORTH_PROCESSES = 500_000


def check_jobs(n_jobs: int) -> None:
    """InputError where this is no number of processes."""
    if not isinstance(n_jobs, Integral) or n_jobs == 0:
        raise InputError(f"n_jobs must be a number of processes, or -1 for all processor cores, not {n_jobs!r}")


def in_parallel(function: Callable, tasks: list[tuple], n_jobs: int, numbers: int, bar) -> Iterator:
    """``function(*task)`` of every task, in their order.

    Parameters
    ----------
    function : callable
        At the top of a module.
    tasks : list of tuples
        Large arrays in them are shared between processes, not copied.
    n_jobs : int
        As of joblib, and of `check_jobs`.
    numbers : int
        How many numbers the tasks fit to, roughly: few are fitted to in this process.
    bar : tqdm
        Moves on with every task.
    """
    from joblib import Parallel, delayed

    jobs = n_jobs if numbers > _WORTH_PROCESSES else 1
    for result in Parallel(n_jobs=jobs, return_as="generator")(
        delayed(on_one_thread)(function, *task) for task in tasks
    ):
        bar.update()
        yield result


# Matrices here are small: more threads wait for each other longer than they compute. Their sums, in another order,
# would also differ in the last digits.
@threadpool_limits.wrap(limits=1)
def on_one_thread(function: Callable, *arguments, **keywords):
    """``function(*arguments, **keywords)``, with one thread of the libraries below numpy and scikit-learn."""
    return function(*arguments, **keywords)
