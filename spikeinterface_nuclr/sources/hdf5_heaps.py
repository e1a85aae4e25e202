"""Heaps of an HDF5 file, in which its texts lie: damaged ones make HDF5 search for ever, where nobody can stop it."""

import mmap
from pathlib import Path

from ..errors import InputError

_SIGNATURE, _VERSION, _HEADER = b"GCOL", 1, 16  # of a global heap collection; HDF5 File Format Specification, III.E
_LOOKED_AT = 64_000_000  # bytes at either end of a file: all of a small one, and where large ones keep their texts


def check_heaps(path: Path) -> None:
    """InputError where a heap has an entry without a size: HDF5 would never get past it."""
    if not path.stat().st_size:
        return
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for low, high in ((0, _LOOKED_AT), (max(len(content) - _LOOKED_AT, _LOOKED_AT), len(content))):
            place = content.find(_SIGNATURE, low, high)
            while place >= 0:
                if _never_ends(content, place):
                    raise InputError(f"{path}: not a readable NWB file (a heap of its texts is damaged)")
                place = content.find(_SIGNATURE, place + len(_SIGNATURE), high)


def _never_ends(content: mmap.mmap, place: int) -> bool:
    """Whether the entries of the heap at `place` lead to one that is free and has no size."""

    def number(begin: int, length: int) -> int:
        return int.from_bytes(content[begin : begin + length], "little")

    end = place + number(place + 8, 8)
    if content[place + 4 : place + 5] != bytes([_VERSION]) or end > len(content):
        return False  # those four letters somewhere else, or what HDF5 refuses itself
    entry = place + _HEADER
    while entry + _HEADER <= end:
        index, size = number(entry, 2), number(entry + 8, 8)
        if index == size == 0:
            return True
        entry += _HEADER + -(-size // 8) * 8 if index else size
    return False
