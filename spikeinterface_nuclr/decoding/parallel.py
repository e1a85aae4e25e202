"""Fits in several processes. Each of them uses one thread, so that results do not depend on how many there are."""

from collections.abc import Callable, Iterator

# Numbers to fit to, below which starting processes takes longer than they save.
_WORTH_PROCESSES = 500_000


def in_parallel(function: Callable, tasks: list[tuple], n_jobs: int, numbers: int, bar) -> Iterator:
    """``function(*task)`` of every task, in their order.

    Parameters
    ----------
    function : callable
        At the top of a module.
    tasks : list of tuples
        Large arrays in them are shared between processes, not copied.
    n_jobs : int
        As of joblib.
    numbers : int
        How many numbers the tasks fit to, roughly: few are fitted to in this process.
    bar : tqdm
        Moves on with every task.
    """
    from joblib import Parallel, delayed

    jobs = n_jobs if numbers > _WORTH_PROCESSES else 1
    for result in Parallel(n_jobs=jobs, return_as="generator")(delayed(function)(*task) for task in tasks):
        bar.update()
        yield result
