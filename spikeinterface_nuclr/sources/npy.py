"""Files of numpy: plain numbers, and dicts of settings, of which nothing is run."""

import pickle
import re
from pathlib import Path

import numpy as np

from ..errors import InputError

# Types of numbers as numpy's pickles call them.
_NUMBERS = re.compile(r"[biuf][1248]")


def load_numbers(path: Path, dimensions: int | None = None, *, mapped: bool = False) -> np.ndarray:
    """The numbers in a .npy file, where it has so many dimensions; InputError naming the file where not."""
    try:
        values = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: not a readable .npy file ({error})") from None
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
        raise InputError(f"{path}: does not hold plain numbers: export it again")
    if dimensions is not None and values.ndim != dimensions:
        raise InputError(f"{path}: has shape {values.shape}, not {dimensions} dimensions: export it again")
    return values


def read_settings(path: Path) -> dict:
    """The dict in a .npy file: plain values, dicts of these, and arrays of numbers. Whatever else is in it is left out.

    numpy pickles such files. Here no class and no function that the pickle names is called: their arguments are
    recorded, and numbers are made of what was recorded.
    """
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            read(file)
            [content] = _Recorder(file).load().state[4]
        return _plain(dict(content))
    except Exception as error:  # a damaged pickle raises what it pleases
        raise InputError(f"{path}: not readable ({type(error).__name__}): run again what wrote it") from None


class _Recorded:
    """Stands in for whatever a pickle makes by calling: keeps its arguments and its state, does nothing."""

    named = ""
    state = None

    def __init__(self, *args, **kwargs):
        self.args = args

    def __setstate__(self, state):
        self.state = state

    def _ignored(self, *args):
        pass

    __setitem__ = append = extend = add = update = _ignored


class _Recorder(pickle.Unpickler):
    def find_class(self, module, name):
        # A class of its own each time: nothing that a pickle does to it reaches another.
        return type("_Named", (_Recorded,), {"named": f"{module.replace('numpy._core', 'numpy.core')}.{name}"})


def _plain(value):
    """The value where it is plain, or numbers of numpy; None for anything else."""
    if isinstance(value, dict):
        return {key: _plain(held) for key, held in value.items() if isinstance(key, str)}
    if isinstance(value, str | bytes | bool | int | float | None):
        return value
    if isinstance(value, _Recorded) and value.named == "numpy.core.multiarray.scalar" and len(value.args) == 2:
        numbers = _numbers(*value.args)
        return None if numbers is None or len(numbers) != 1 else numbers[0]
    if isinstance(value, _Recorded) and value.named == "numpy.core.multiarray._reconstruct" and value.state:
        _, shape, kind, fortran, content = value.state
        numbers = _numbers(kind, content)
        return None if numbers is None else numbers.reshape(shape, order="F" if fortran else "C")
    return None


def _numbers(kind, content) -> np.ndarray | None:
    """Numbers of a recorded dtype in these bytes."""
    known = isinstance(kind, _Recorded) and kind.named == "numpy.dtype" and isinstance(content, bytes)
    if not known or not _NUMBERS.fullmatch(str(kind.args[0])):
        return None
    order = ">" if kind.state and kind.state[1] == ">" else "<"
    return np.frombuffer(content, dtype=order + kind.args[0])
