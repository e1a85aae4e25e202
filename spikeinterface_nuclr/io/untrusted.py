"""Untrusted folders and stores, checked before a library opens them: members that could run code are refused.

SpikeInterface reads properties with ``allow_pickle=True``, and an extension's ``.pkl`` as it is; Zarr decodes with
whatever codec an array names. So headers and codecs are read here first, as bytes and JSON, and nothing else is.
SpikeInterface also writes pickles itself (a recording's provenance, PCA models). They are never opened.
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

# Codecs of Zarr that turn bytes into numbers or text, and do nothing else.
_CODECS = {
    *("blosc", "zstd", "lz4", "gzip", "zlib", "bz2", "lzma"),
    *("adler32", "crc32", "crc32c", "fletcher32", "jenkins_lookup3"),
    *("astype", "bitround", "categorize", "delta", "fixedscaleoffset", "packbits", "quantize", "shuffle"),
    *("base64", "json2", "vlen-array", "vlen-bytes", "vlen-utf8"),
}
# What a pickled array of hdmf's references names: numpy's constructors of arrays, and a dict of hdmf-zarr.
_HARMLESS = {
    *("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"),
    *("numpy ndarray", "numpy dtype", "_codecs encode", "hdmf_zarr.utils ZarrReference"),
}


def check_npy(path: Path) -> None:
    """Raise InputError if a .npy file holds objects, which are pickles, or claims more numbers than it has bytes."""
    with open(path, "rb") as file:
        if file.read(6) != b"\x93NUMPY":  # numpy takes anything else for a pickle, or for a zip of arrays
            raise InputError(f"{path}: not a .npy file: the file is damaged, or of another kind")
        file.seek(0)
        shape, dtype = _header(file, path)
        _check_dtype(dtype, path)
        begin = file.tell()
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        held = file.seek(0, 2) - begin
    if size > held:
        raise InputError(f"{path}: its header claims {size:,} bytes, it holds {held:,}: the file is damaged")


def check_npz(path: Path) -> None:
    """Raise InputError if a .npz file holds objects, or would unpack to much more than it has bytes."""
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
        hdmf-zarr pickles references: accept pickled arrays whose pickles make only text and numbers.
    """
    for name, metadata in _arrays(store):
        if members and not any(name == member or name.startswith(f"{member}/") for member in members):
            continue
        where = f"{store}: {name}"
        with reading(where, "Zarr array", "the store is damaged"):
            codecs = [codec["id"] for codec in _codecs(metadata)]
            declared = _declared(metadata)
        unknown = [codec for codec in codecs if codec not in _CODECS]
        if unknown == ["pickle"] and references:
            _check_pickled_chunks(store / name, metadata, where)
        elif unknown:
            raise InputError(
                f"{where}: is stored as {unknown[0]!r}, which could run code: delete it, or write it again"
            )
        if declared > 1_000_000:  # smaller ones are not worth a pass over all chunks
            check_declared(where, declared, sum(chunk.stat().st_size for chunk in _files(store / name)))


def check_extension(analyzer, name: str) -> None:
    """Raise InputError if loading this extension of an analyzer on disk would load a pickle."""
    if analyzer.format == "memory" or name in analyzer.extensions:  # opened already, by the user
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


def _header(file, where) -> tuple:
    with reading(where, ".npy file", "save it again"):
        return npy_header(file)


def _check_dtype(dtype: np.dtype, where) -> None:
    if dtype.hasobject:
        raise InputError(f"{where}: holds Python objects, which could run code: delete it, or save it as text")


def _arrays(store: Path) -> Iterator[tuple[str, dict]]:
    """Every array of a store with its metadata, as its own file has it and as the consolidated metadata do."""
    for path in _files(store):
        if path.name == ".zarray":
            yield path.parent.relative_to(store).as_posix(), read_json(path)
    if (store / ".zmetadata").is_file():
        listed = read_json(store / ".zmetadata").get("metadata")
        for key, metadata in listed.items() if isinstance(listed, dict) else ():
            if key.endswith("/.zarray"):
                yield key.removesuffix("/.zarray"), metadata


def read_json(path: Path, kind: str = "JSON object", remedy: str = "the folder is damaged") -> dict:
    """The JSON object in a file; InputError naming the file, its `kind` and the `remedy` where there is none."""
    with reading(path, kind, remedy):
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise TypeError(f"{type(content).__name__} in place of an object")
        return content


def _files(folder: Path) -> Iterator[Path]:
    """Every file below a folder, including those behind links to folders, which libraries follow."""
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(place, name) for name in sorted(names))


def _codecs(metadata: dict) -> list[dict]:
    return [codec for codec in (*(metadata.get("filters") or ()), metadata.get("compressor")) if codec is not None]


def _declared(metadata: dict) -> int:
    """Bytes that an array of this metadata claims; of one that holds objects, of as many references."""
    dtype = metadata["dtype"]
    itemsize = 8 if dtype == "|O" else np.dtype(dtype if isinstance(dtype, str) else [tuple(f) for f in dtype]).itemsize
    return int(np.prod([int(length) for length in metadata["shape"]], dtype=object)) * itemsize


def _check_pickled_chunks(array: Path, metadata: dict, where: str) -> None:
    """Raise InputError if a chunk of pickled references names anything but numpy's constructors of arrays."""
    import numcodecs

    codecs = [codec for codec in _codecs(metadata) if codec["id"] != "pickle"]
    for chunk in _files(array):
        if not chunk.name.startswith(".z"):
            with reading(where, "Zarr array", "the store is damaged"):
                content = chunk.read_bytes()
                for codec in reversed(codecs):
                    content = numcodecs.get_codec(codec).decode(content)
                _Inert(memoryview(content), where).load()


class _Stub(dict):
    """Stands in for whatever a pickle would construct: accepts any arguments, does nothing."""

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass


class _Inert(pickle.Unpickler):
    """Reads a pickle and constructs only plain values."""

    def __init__(self, content, where: str):
        super().__init__(io.BytesIO(content))
        self._where = where

    def find_class(self, module, name):
        if f"{module} {name}" not in _HARMLESS:
            raise InputError(f"{self._where}: asks for {module}.{name}, which could run code: do not open it")
        return type("_Named", (_Stub,), {})
