"""Plain numbers in .npy files: nothing in them is unpickled."""

from pathlib import Path

import numpy as np

from ..errors import InputError


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
