"""Time intervals: arrays of (start, stop), shape (k, 2), sorted and without overlap unless stated otherwise.

Time and memory grow linearly with the number of intervals, except for one sort.
"""

import numpy as np

from .errors import InputError


def checked_intervals(intervals, name) -> np.ndarray:
    """Validated intervals as float64 seconds, shape (k, 2); an InputError begins with `name`."""
    try:
        intervals = np.asarray(intervals, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be intervals of seconds, [[start, stop], …]") from None
    if intervals.size == 0:
        return np.empty((0, 2))
    if intervals.ndim != 2 or intervals.shape[1] != 2:
        raise InputError(f"{name} must be intervals of seconds, [[start, stop], …], not of shape {intervals.shape}")
    if not np.isfinite(intervals).all():
        raise InputError(f"{name} holds NaN or infinite limits")
    negative = intervals[:, 1] < intervals[:, 0]
    if negative.any():
        a, b = intervals[negative][0]
        raise InputError(f"{name}: the interval {a:g}–{b:g} s has a negative length")
    overlap = intervals[1:, 0] < intervals[:-1, 1]
    if overlap.any():
        a, b = intervals[1:][overlap][0]
        raise InputError(f"{name}: the interval {a:g}–{b:g} s starts before the one before it ends: sort or merge them")
    return intervals


def union(intervals: np.ndarray) -> np.ndarray:
    """Union of the unsorted `intervals`: shape (k, 2). Intervals that only touch stay separate."""
    if not len(intervals):
        return np.empty((0, 2), dtype=intervals.dtype)
    intervals = intervals[np.lexsort((intervals[:, 1], intervals[:, 0]))]
    intervals = intervals[np.append(True, (intervals[1:] != intervals[:-1]).any(axis=1))]
    reached = np.maximum.accumulate(intervals[:, 1])
    first = np.flatnonzero(np.append(True, intervals[1:, 0] >= reached[:-1]))
    return np.stack([intervals[first, 0], reached[np.append(first[1:], len(intervals)) - 1]], axis=1)


def intersection(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection of `a` and `b`, split at the borders of either: shape (k, 2)."""
    i, j = overlaps(a, b)
    return np.stack([np.maximum(a[i, 0], b[j, 0]), np.minimum(a[i, 1], b[j, 1])], axis=1)


def subtract(intervals: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """The parts of the sorted `intervals` outside of `holes`: float64, shape (k, 2).

    Intervals that touch stay separate, and a hole of zero length splits an interval.
    """
    holes = union(holes)
    outside = np.stack([np.append(-np.inf, holes[:, 1]), np.append(holes[:, 0], np.inf)], axis=1)
    return intersection(intervals, outside)


def overlaps(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of overlapping intervals in `a` and `b`: ascending positions (i, j), at most len(a) + len(b) pairs."""
    a_number, b_number = (np.flatnonzero(intervals[:, 0] < intervals[:, 1]) for intervals in (a, b))
    a, b = a[a_number], b[b_number]
    first = np.searchsorted(b[:, 1], a[:, 0], side="right")
    last = np.searchsorted(b[:, 0], a[:, 1], side="left")
    i = np.repeat(np.arange(len(a)), last - first)
    return a_number[i], b_number[numbers_in(np.stack([first, last], axis=1))]


def numbers_in(ranges: np.ndarray) -> np.ndarray:
    """The integers in each half-open range of `ranges` (k, 2), one range after another: int64."""
    counts = ranges[:, 1] - ranges[:, 0]
    before = np.cumsum(counts) - counts
    return np.arange(counts.sum()) + np.repeat(ranges[:, 0] - before, counts)


def inside(times: np.ndarray, intervals: np.ndarray) -> np.ndarray:
    """Whether each of the `times` lies within one of the `intervals`, both ends included: bool, same shape."""
    if len(intervals) == 0:
        return np.zeros(len(times), dtype=bool)
    k = np.searchsorted(intervals[:, 0], times, side="right") - 1
    return (k >= 0) & (times <= intervals[np.maximum(k, 0), 1])


def alternating(intervals: np.ndarray, block_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Split intervals (k, 2) into two sets of alternating blocks, each of `block_s` seconds inside the intervals."""
    before = np.concatenate([[0.0], np.cumsum(np.ptp(intervals, axis=1))])  # seconds before each interval
    cuts = np.arange(0.0, before[-1], block_s)
    edges = np.unique(np.concatenate([before, cuts]))
    edges = edges[np.concatenate([np.diff(edges) > 1e-9, [True]])]
    begin, end = edges[:-1], edges[1:]
    middle = (begin + end) / 2
    which = np.clip(np.searchsorted(before, middle, side="right") - 1, 0, len(intervals) - 1)
    shift = (intervals[which, 0] - before[which])[:, None]
    blocks = np.stack([begin, end], axis=1) + shift
    odd = (middle // block_s).astype(np.int64) % 2 == 1
    return blocks[~odd], blocks[odd]
