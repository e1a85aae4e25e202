"""Comparisons on all processor cores, one thread each, so that results do not depend on the number of cores."""

from collections.abc import Callable, Iterable

from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm


def in_threads(function: Callable, tasks: Iterable, description: str, unit: str, *, progress: bool) -> list:
    """Results of the function for each task, in order, with a progress bar.

    The function must be one whose time goes into products of matrices, during which other threads can work.
    """
    from joblib import Parallel, delayed

    tasks = list(tasks)
    with threadpool_limits(limits=1, user_api="blas"):
        results = Parallel(n_jobs=-1, prefer="threads", return_as="generator")(
            delayed(function)(task) for task in tasks
        )
        return list(tqdm(results, total=len(tasks), desc=description, unit=unit, disable=not progress))
