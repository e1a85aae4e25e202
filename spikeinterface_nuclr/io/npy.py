"""NumPy files of plain numbers or of a dict of settings, read without executing code."""

import io
import math
import pickle
import pickletools
from pathlib import Path

import numpy as np

from ..errors import InputError, reading
from ..files import npy_header
from .untrusted import check_npy

# Types of numbers in numpy's pickles, and the functions that construct scalars and arrays (names of numpy 1).
_NUMBERS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}
_SCALAR, _ARRAY = "numpy.core.multiarray.scalar", "numpy.core.multiarray._reconstruct"
_BUFFER = "numpy.core.numeric._frombuffer"
_BYTES = {"__builtin__.bytes", "builtins.bytes", "__builtin__.bytearray", "builtins.bytearray"}
# Limits of a pickle: settings need a few hundred steps and a dozen classes; a list needs a step per entry.
_MOST_STEPS, _MOST_CLASSES = 2_000_000, 1_000


class Unreadable:
    """Placeholder for an entry of the settings that is not a plain value."""


def load_numbers(path: Path, dimensions: int | None = None, *, mapped: bool = False) -> np.ndarray:
    """The numbers in a .npy file with this many dimensions; InputError, naming the file, for any other content."""
    with reading(path, ".npy file", "export it again"):
        check_npy(path)
        values = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
        raise InputError(f"{path}: does not contain plain numbers: export it again")
    if dimensions is not None and values.ndim != dimensions:
        raise InputError(f"{path}: has shape {values.shape}, not {dimensions} dimensions: export it again")
    return values


def read_settings(path: Path) -> dict:
    """The dict in a .npy file: plain values, arrays of numbers, lists of plain values, and dicts of these.

    Any other entry becomes an `Unreadable`. numpy pickles such files, in any protocol. No class or function named in
    the pickle is called: its arguments are recorded, and numbers are built from this record. The file's size bounds
    time and memory.
    """
    with reading(path, "file of settings", "run the program that wrote it again"):
        with open(path, "rb") as file:
            npy_header(file)
            content = file.read()
        _check_steps(content)
        # Python 2 did not distinguish text from bytes: Latin-1 preserves every byte.
        array = _Recorder(io.BytesIO(content), encoding="latin1").load()
        state = array.state if isinstance(array, _Recorded) and isinstance(array.state, tuple) else ()
        if len(state) != 5 or not isinstance(state[4], list) or [type(entry) for entry in state[4]] != [dict]:
            raise ValueError("it contains no dict")
        return _plain_dict(state[4][0], {})


def _check_steps(content: bytes) -> None:
    """Raise ValueError if unpickling could take more memory than the pickle's length explains."""
    for step, (opcode, value, _) in enumerate(pickletools.genops(content)):
        numbered = opcode.name.endswith("PUT") and int(value) > step
        if step > _MOST_STEPS or numbered or opcode.name.startswith("EXT"):  # EXT: objects registered by number
            raise ValueError("its pickle is not one of settings")


class _Recorded:
    """Replaces any object that a pickle would construct: records the arguments and the state, does nothing else."""

    named, args, state = "", (), None

    def __init__(self, *args, **kwargs):
        self.args = args

    def __setstate__(self, state):
        self.state = state

    def _ignored(self, *args):
        pass

    __setitem__ = append = extend = add = update = _ignored


class _Recorder(pickle.Unpickler):
    classes = 0

    def find_class(self, module, name):
        self.classes += 1
        if self.classes > _MOST_CLASSES:
            raise ValueError("its pickle is not one of settings")
        # A new class each time, so that changes a pickle makes to it affect no other.
        return type("_Named", (_Recorded,), {"named": f"{module.replace('numpy._core', 'numpy.core')}.{name}"})


def _plain_dict(recorded: dict, done: dict[int, dict]) -> dict:
    """The entries with text keys, as plain values; `done` caches dicts, which several entries may share."""
    if id(recorded) not in done:
        plain = done[id(recorded)] = {}
        for key, value in recorded.items():
            if isinstance(key, str):
                plain[key] = _plain_dict(value, done) if isinstance(value, dict) else _plain(value)
    return done[id(recorded)]


def _plain(value):
    """The value if it is plain, an array of numbers, or a list of plain values; else Unreadable."""
    if isinstance(value, list | tuple):
        single = [_single(entry) for entry in value]
        return Unreadable() if any(isinstance(entry, Unreadable) for entry in single) else single
    if isinstance(value, _Recorded) and value.named in (_ARRAY, _BUFFER):
        return _array(value)
    return _single(value)


def _single(value):
    if isinstance(value, str | bytes | bool | int | float | None):
        return value
    if isinstance(value, _Recorded) and value.named == _SCALAR and len(value.args) == 2:
        numbers = _numbers(value.args[1], value.args[0])
        return numbers[0] if isinstance(numbers, np.ndarray) and len(numbers) == 1 else Unreadable()
    return Unreadable()


def _array(recorded: _Recorded) -> np.ndarray | Unreadable:
    if recorded.named == _BUFFER:  # protocol 5
        content, kind, shape, order = recorded.args if len(recorded.args) == 4 else (None,) * 4
    else:
        state = recorded.state if isinstance(recorded.state, tuple) and len(recorded.state) == 5 else (None,) * 5
        _, shape, kind, fortran, content = state
        order = "F" if fortran else "C"
    numbers = _numbers(content, kind)
    whole = isinstance(shape, tuple) and all(isinstance(length, int) and length >= 0 for length in shape)
    if isinstance(numbers, Unreadable) or not whole or math.prod(shape) != len(numbers):
        return Unreadable()
    return numbers.reshape(shape, order="F" if order == "F" else "C")


def _numbers(content, kind) -> np.ndarray | Unreadable:
    """The numbers of a recorded dtype in these bytes."""
    content = _as_bytes(content)
    is_dtype = isinstance(kind, _Recorded) and kind.named == "numpy.dtype" and kind.args
    if content is None or not is_dtype or str(kind.args[0]) not in _NUMBERS:
        return Unreadable()
    order = ">" if isinstance(kind.state, tuple) and kind.state[1:2] == (">",) else "<"
    dtype = np.dtype(order + str(kind.args[0]))
    return Unreadable() if len(content) % dtype.itemsize else np.frombuffer(content, dtype)


def _as_bytes(content) -> bytes | None:
    """The bytes as any protocol writes them: before 3 as Latin-1 text to be encoded, in Python 2 as plain text."""
    if isinstance(content, _Recorded) and content.named == "_codecs.encode" and content.args[1:] == ("latin1",):
        content = content.args[0]
    if isinstance(content, _Recorded) and content.named in _BYTES:
        content = content.args[0] if content.args else b""
    if isinstance(content, str):
        return content.encode("latin1", "replace")
    return bytes(content) if isinstance(content, bytes | bytearray) else None
