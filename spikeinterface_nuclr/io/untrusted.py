"""Checks of untrusted folders and stores before a library opens them: members that could run code are refused.

SpikeInterface reads properties with ``allow_pickle=True`` and unpickles an extension's ``.pkl``; Zarr decodes with any
codec that an array names. Headers and codecs are therefore read first, as bytes and JSON.
SpikeInterface also writes pickles itself (a recording's provenance, PCA models). These are never opened.
"""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import InputError, reading
from ..files import ARRAYS_OF_NUMBERS, check_declared, npy_header

# Codecs of Zarr that convert bytes to numbers or text and have no other effect.
_CODECS = {
    *("blosc", "zstd", "lz4", "gzip", "zlib", "bz2", "lzma"),
    *("adler32", "crc32", "crc32c", "fletcher32", "jenkins_lookup3"),
    *("astype", "bitround", "categorize", "delta", "fixedscaleoffset", "packbits", "quantize", "shuffle"),
    *("base64", "json2", "vlen-array", "vlen-bytes", "vlen-utf8"),
}
# Names in pickled arrays of hdmf's references: numpy's constructors of arrays, and a dict of hdmf-zarr.
_HARMLESS = {
    *("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"),
    *("numpy ndarray", "numpy dtype", "_codecs encode", "hdmf_zarr.utils ZarrReference"),
}


def check_npy(path: Path) -> None:
    """Raise InputError if a .npy file holds objects, which are pickles, or claims more numbers than it has bytes."""
    with open(path, "rb") as file:
        if file.read(6) != b"\x93NUMPY":  # numpy would read it as a pickle or a zip of arrays
            raise InputError(f"{path}: not a .npy file: the file is damaged, or of another kind")
        file.seek(0)
        shape, dtype = _header(file, path)
        _check_dtype(dtype, path)
        begin = file.tell()
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        stored = file.seek(0, 2) - begin
    if size > stored:
        raise InputError(f"{path}: its header claims {size:,} bytes, it holds {stored:,}: the file is damaged")


def check_npz(path: Path) -> None:
    """Raise InputError if a .npz file holds objects, or would unpack to far more bytes than it has."""
    with reading(path, ".npz file", "save it again"), zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
        check_declared(path, size, path.stat().st_size, ratio=ARRAYS_OF_NUMBERS)
        for member in archive.infolist():
            with archive.open(member) as file:
                _check_dtype(_header(file, f"{path}: {member.filename}")[1], f"{path}: {member.filename}")


def check_sorting(folder: Path) -> None:
    """Raise InputError if a folder of a SpikeInterface sorting holds a pickle that opening it would load."""
    for path in (*folder.glob("*.npy"), *folder.glob("properties/*.npy")):
        check_npy(path)
    for path in folder.glob("*.npz"):
        check_npz(path)


def check_zarr(store: Path, *members: str, references: bool = False) -> None:
    """Raise InputError if arrays of a Zarr store have a codec that could run code, or is unknown.

    Parameters
    ----------
    store : Path
    *members : str
        Groups and arrays to check. Default: all.
    references : bool
        Accept pickled arrays whose pickles construct only text and numbers: hdmf-zarr pickles references.
    """
    for name, metadata in _arrays(store):
        if members and not any(name == member or name.startswith(f"{member}/") for member in members):
            continue
        label = f"{store}: {name}"
        with reading(label, "Zarr array", "the store is damaged"):
            codecs = [codec["id"] for codec in _codecs(metadata)]
            declared = _declared(metadata)
        unknown = [codec for codec in codecs if codec not in _CODECS]
        if unknown == ["pickle"] and references:
            _check_pickled_chunks(store / name, metadata, label)
        elif unknown:
            raise InputError(
                f"{label}: is stored as {unknown[0]!r}, which could run code: delete it, or write it again"
            )
        if declared > 1_000_000:  # smaller arrays are not worth a pass over all chunks
            check_declared(label, declared, sum(chunk.stat().st_size for chunk in _files(store / name)))


def check_extension(analyzer, name: str) -> None:
    """Raise InputError if loading this extension of an analyzer on disk would load a pickle."""
    if analyzer.format == "memory" or name in analyzer.get_loaded_extension_names():  # the user has opened it already
        return
    folder = Path(analyzer.folder)
    if analyzer.format == "zarr":
        check_zarr(folder, f"extensions/{name}")
        return
    for path in (folder / "extensions" / name).glob("*"):
        if path.suffix == ".pkl":
            raise InputError(f"{path}: is a pickle, which could run code: delete it, or compute {name} again")
        if path.suffix == ".npy":
            check_npy(path)


def _header(file, label) -> tuple:
    with reading(label, ".npy file", "save it again"):
        return npy_header(file)


def _check_dtype(dtype: np.dtype, label) -> None:
    if dtype.hasobject:
        raise InputError(f"{label}: holds Python objects, which could run code: delete it, or save it as text")


def _arrays(store: Path) -> Iterator[tuple[str, dict]]:
    """Every array of a store with its metadata, from its own file and from the consolidated metadata."""
    for path in _files(store):
        if path.name == ".zarray":
            yield path.parent.relative_to(store).as_posix(), read_json(path)
    if (store / ".zmetadata").is_file():
        listed = read_json(store / ".zmetadata").get("metadata")
        for key, metadata in listed.items() if isinstance(listed, dict) else ():
            if key.endswith("/.zarray"):
                yield key.removesuffix("/.zarray"), metadata


def read_json(path: Path, kind: str = "JSON object", remedy: str = "the folder is damaged") -> dict:
    """The JSON object in a file; InputError, with its `kind` and the `remedy`, if the file contains none."""
    with reading(path, kind, remedy):
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise TypeError(f"{type(content).__name__} in place of an object")
        return content


def _files(folder: Path) -> Iterator[Path]:
    """Every file below a folder, including those behind links to folders, which libraries follow."""
    visited = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:  # a link to a parent folder
            folders.clear()
            continue
        visited.add(real)
        yield from (Path(parent, name) for name in sorted(names))


def _codecs(metadata: dict) -> list[dict]:
    return [codec for codec in (*(metadata.get("filters") or ()), metadata.get("compressor")) if codec is not None]


def _declared(metadata: dict) -> int:
    """Bytes that an array with this metadata claims; objects count as references of 8 bytes."""
    dtype = metadata["dtype"]
    itemsize = 8 if dtype == "|O" else np.dtype(dtype if isinstance(dtype, str) else [tuple(f) for f in dtype]).itemsize
    return int(np.prod([int(length) for length in metadata["shape"]], dtype=object)) * itemsize


def _check_pickled_chunks(array: Path, metadata: dict, label: str) -> None:
    """Raise InputError if a chunk of pickled references names anything but numpy's constructors of arrays."""
    import numcodecs

    codecs = [codec for codec in _codecs(metadata) if codec["id"] != "pickle"]
    for chunk in _files(array):
        if not chunk.name.startswith(".z"):
            with reading(label, "Zarr array", "the store is damaged"):
                content = chunk.read_bytes()
                for codec in reversed(codecs):
                    content = numcodecs.get_codec(codec).decode(content)
                _Inert(memoryview(content), label).load()


class _Stub(dict):
    """Replaces any object that a pickle would construct: accepts any arguments, does nothing."""

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass


class _Inert(pickle.Unpickler):
    """Reads a pickle, constructing only plain values."""

    def __init__(self, content, label: str):
        super().__init__(io.BytesIO(content))
        self._label = label

    def find_class(self, module, name):
        if f"{module} {name}" not in _HARMLESS:
            raise InputError(f"{self._label}: asks for {module}.{name}, which could run code: do not open it")
        return type("_Named", (_Stub,), {})
