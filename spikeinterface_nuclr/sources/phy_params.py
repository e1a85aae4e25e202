"""phy's params.py, a Python program: sample_rate is parsed from its text, and no code is executed."""

import ast
import warnings
from pathlib import Path

from ..errors import InputError, reading
from .columns import decoded

_LONGEST = 1_000_000  # bytes of a file that sets a few names


def sample_rate(folder: Path) -> float:
    """The value that `sample_rate` would have after running params.py.

    InputError where the file is missing, or sets it in any other way than by assigning a plain number.
    """
    path = folder / "params.py"
    if not path.is_file():
        raise InputError(f"{folder}: it has no params.py: give sampling_frequency= (--sampling-frequency) in Hz")
    with reading(path, "Python file", "give sampling_frequency= in Hz"):
        if path.stat().st_size > _LONGEST:
            raise InputError(f"{path}: is too long for a params.py: give sampling_frequency= in Hz")
        statements = _parsed(decoded(path.read_bytes())).body
    value = None
    for statement in statements:
        if _assigns_plainly(statement):
            value = statement.value
        elif _binds(statement):
            value = None
    rate = value and _number(value)
    if rate is None:
        raise InputError(f"{path}: it does not set sample_rate to a plain number: give sampling_frequency= in Hz")
    return rate


def _parsed(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes such as C:\data
        try:
            return ast.parse(text)
        except SyntaxError:  # a Windows path such as 'C:\users', which Python cannot read and we need not
            return ast.parse(text.replace("\\", "\\\\"))


def _assigns_plainly(statement: ast.stmt) -> bool:
    """Whether the statement is ``sample_rate = …``, with or without an annotation, and nothing else."""
    if isinstance(statement, ast.Assign):
        return all(isinstance(target, ast.Name) for target in statement.targets) and any(
            target.id == "sample_rate" for target in statement.targets
        )
    return (
        isinstance(statement, ast.AnnAssign)
        and statement.value is not None
        and isinstance(statement.target, ast.Name)
        and statement.target.id == "sample_rate"
    )


def _binds(statement: ast.stmt) -> bool:
    """Whether running the statement may set or delete sample_rate in another way, such as inside an ``if``."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return statement.name == "sample_rate"
    if isinstance(statement, ast.AnnAssign) and statement.value is None:
        return False
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and node.id == "sample_rate" and not isinstance(node.ctx, ast.Load):
            return True
        if isinstance(node, ast.alias) and (node.asname or node.name) in ("sample_rate", "*"):
            return True
    return False


def _number(value: ast.expr) -> float | None:
    try:
        number = ast.literal_eval(value)
        return float(number) if isinstance(number, int | float) and not isinstance(number, bool) else None
    except (ValueError, TypeError, SyntaxError, OverflowError, MemoryError, RecursionError):
        return None
