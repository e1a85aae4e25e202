"""Selecting units, by id or by their properties ("label == 1 and qc != 'FAIL'"), and parts of the time."""

import ast
import operator
import unicodedata

import numpy as np

from ..errors import InputError
from ..intervals import checked_intervals, intersection
from ..population import Population

_OPERATORS = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}  # fmt: skip
_LONGEST = 2_000
_EXAMPLE = "such as \"label == 1 and region != 'root'\""


def selects(reading: dict) -> bool:
    """Whether keywords of `read_population` select: results of the whole recording do not apply to what they select."""
    return any(reading.get(name) is not None for name in ("where", "units", "within"))


def select_time(population: Population, within, name: str) -> Population:
    """The parts of a recording in these intervals of seconds; InputError if nothing is observed in them."""
    intervals = checked_intervals(within, f"{name}: within")
    sets, _ = population.observed_sets(range(population.n_units))
    if not any(np.ptp(intersection(observed, intervals), axis=1).sum() for observed in sets):
        raise InputError(
            f"{name}: nothing was recorded within "
            + (" or ".join(f"{start:g}–{stop:g} s" for start, stop in intervals[:3]) or "no interval")
            + f": it lasts from {population.start:g} to {population.stop:g} s"
        )
    return population.within(intervals)


def select_units(population: Population, units, name: str) -> Population:
    """The units with these ids, in this order; InputError for an unknown or repeated one, or none."""
    if isinstance(units, str) or np.ndim(units) != 1 or not len(units):
        raise InputError(f"{name}: units must be a list of unit ids, not {units!r}")
    row = {str(unit): k for k, unit in enumerate(population.unit_ids.tolist())}
    names = [str(unit) for unit in np.asarray(units).tolist()]
    unknown = [unit for unit in names if unit not in row]
    if unknown:
        raise InputError(f"{name}: it has no unit {unknown[0]}; it has: {', '.join(list(row)[:4])}, …")
    if len(set(names)) < len(names):
        raise InputError(f"{name}: units names one twice")
    return population.select([row[unit] for unit in names])


def select_where(population: Population, where: str, name: str) -> Population:
    """The units whose properties satisfy a condition.

    Comparisons (``==``, ``!=``, ``<``, ``<=``, ``>``, ``>=``, ``in``) of a property with a number or a text, joined by
    ``and``, ``or``, ``not`` and parentheses; a property of truth values may stand alone. Text that reads as a number
    compares with numbers. A missing value (NaN) satisfies ``!=``, ``not in``, and ``not`` of a comparison.

    Raises
    ------
    InputError
        The condition cannot be read, names no property of the units, or selects none.
    """
    if len(where) > _LONGEST:
        raise InputError(f"where has {len(where):,} characters: use at most {_LONGEST:,}")
    try:
        tree = ast.parse(where.strip(), mode="eval").body
        mask = _mask(tree, population, where, name)
    except InputError:
        raise
    except (SyntaxError, ValueError, TypeError, ArithmeticError, RecursionError, MemoryError):
        raise InputError(f"where {where!r}: is no condition, {_EXAMPLE}") from None
    if not mask.any():
        raise InputError(f"{name}: no unit satisfies {where!r}")
    return population.select(np.flatnonzero(mask))


def _mask(node: ast.expr, population: Population, where: str, name: str) -> np.ndarray:
    if isinstance(node, ast.BoolOp):
        parts = [_mask(part, population, where, name) for part in node.values]
        return (np.logical_and if isinstance(node.op, ast.And) else np.logical_or).reduce(parts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return ~_mask(node.operand, population, where, name)
    if isinstance(node, ast.Name):
        values = _values(node, population, name)
        if values.dtype.kind != "b":
            raise InputError(f"where {where!r}: {node.id} holds no truth values: compare it with a value")
        return values
    if not isinstance(node, ast.Compare) or not isinstance(node.left, ast.Name):
        raise InputError(f"where {where!r}: {ast.unparse(node)!r} compares no property with a value, {_EXAMPLE}")
    if len(node.ops) > 1:
        raise InputError(f"where {where!r}: join comparisons by 'and', {_EXAMPLE}")
    values, [operation], [right] = _values(node.left, population, name), node.ops, node.comparators
    try:
        constant = ast.literal_eval(right)
    except ValueError:
        raise InputError(f"where {where!r}: {ast.unparse(right)!r} is no number or text: quote text") from None
    if isinstance(operation, ast.In | ast.NotIn):
        if not isinstance(constant, list | tuple) or not all(isinstance(one, str | int | float) for one in constant):
            raise InputError(f"where {where!r}: after 'in' give a list, such as ['TH', 'HPF']")
        inside = np.logical_or.reduce([_compared(values, operator.eq, one) for one in constant] or [values != values])
        return inside if isinstance(operation, ast.In) else ~inside
    if type(operation) not in _OPERATORS or not isinstance(constant, str | int | float):
        raise InputError(f"where {where!r}: {ast.unparse(node)!r} is no comparison with a number or a text")
    return _compared(values, _OPERATORS[type(operation)], constant)


def _compared(values: np.ndarray, compare, constant) -> np.ndarray:
    if isinstance(constant, str):
        return compare(values.astype(str), constant)
    if values.dtype.kind not in "iufb":
        values = np.array([_number(value) for value in values.tolist()])
    return compare(values.astype(float), float(constant))


def _number(value) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _values(node: ast.Name, population: Population, name: str) -> np.ndarray:
    # Python normalises names in code: the micro sign becomes the letter mu.
    columns = {unicodedata.normalize("NFKC", column): column for column in population.properties}
    if node.id not in columns:
        existing = ", ".join(population.properties) or "none"
        raise InputError(f"{name}: its units have no property {node.id!r}; they have: {existing}")
    return population.properties[columns[node.id]]
