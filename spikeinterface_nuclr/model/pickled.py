"""Safe reading of ``.pt`` files: no code from the file runs, and its size bounds time and memory.

`torch.load(weights_only=True)` runs no code either, but its list of allowed classes applies to the whole process, and
it trusts files that declare more data than they hold. This reader replaces each class in the pickle by an inert
stand-in, and reads a tensor only when it is requested.
"""

import io
import pickle
import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from ..errors import CheckpointError, reading

# Classes that a pickle may name, by module; old protocols call `builtins` `__builtin__`.
_INERT = {
    "omegaconf.dictconfig": ("DictConfig",),
    "omegaconf.listconfig": ("ListConfig",),
    "omegaconf.nodes": ("AnyNode",),
    "omegaconf.base": ("ContainerMetadata", "Metadata"),
    "typing": ("Any",),
    "torch": ("Size", "device", "float16", "bfloat16", "float32", "float64", "int32", "int64"),
    **dict.fromkeys(("__builtin__", "builtins"), ("dict", "list", "int", "long", "float", "str", "bool", "set")),
}
# Further ones of a numpy array of text, in a file that may hold some.
_ARRAYS = {
    "numpy": ("ndarray", "dtype"),
    "numpy.core.multiarray": ("_reconstruct",),
    "numpy._core.multiarray": ("_reconstruct",),
    "_codecs": ("encode",),
}
_MAPPINGS = {"collections": ("OrderedDict", "defaultdict", "Counter")}
_TENSORS = {"torch._utils": ("_rebuild_tensor", "_rebuild_tensor_v2")}
_PARAMETERS = {"torch._utils": ("_rebuild_parameter",), "torch.nn.parameter": ("Parameter",)}
_STORAGES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
# Opcodes that torch never writes, or that could use more memory than the size of the file.
_REFUSED_OPCODES = {"EXT1", "EXT2", "EXT4", "BYTEARRAY8", "NEXT_BUFFER", "READONLY_BUFFER"}
_LONGEST_PICKLE = 2_000_000  # bytes; a real one has about 20,000
_LONGEST_WITH_TEXTS = 200_000_000
_LONGEST_TEXT = 1_000
_MOST_TUPLES = 50_000
_LARGEST_INT = 2**80
# Values and characters of settings, and their depth; a real file has a few hundred.
_MOST_PLAIN, _DEEPEST = 200_000, 50
# The first pickle of a file in the format before torch 1.6 holds this number.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C.to_bytes(10, "little")


class Tensor:
    """Description of a tensor in the file."""

    def __init__(self, storage, offset, size, stride, *_):
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride


class Texts:
    """Description of a numpy array of text in the file."""

    def __init__(self, *_):
        self._state = None

    def __setstate__(self, state):
        self._state = state

    def values(self) -> np.ndarray:
        """The texts, shape (n,); ValueError if the description is no array of text."""
        if not isinstance(self._state, tuple) or len(self._state) != 5:
            raise ValueError("an array of text is incomplete")
        _, shape, dtype, _, content = self._state
        kind = getattr(dtype, "name", None)
        if not isinstance(kind, str) or not isinstance(shape, tuple) or len(shape) != 1 or type(shape[0]) is not int:
            raise ValueError("an array holds no text")
        if kind.startswith("O") and isinstance(content, list):
            texts = content
        elif kind[:1] in ("U", "S") and kind[1:].isdigit() and isinstance(content, bytes):
            if dtype.order not in ("<", "|"):
                raise ValueError("an array of text is big-endian")
            size = (4 if kind[0] == "U" else 1) * int(kind[1:])
            if not size or len(content) != size * shape[0]:
                raise ValueError("an array of text is incomplete")
            texts = np.frombuffer(content, dtype=f"{'<' if kind[0] == 'U' else '|'}{kind}").astype(str).tolist()
        else:
            raise ValueError("an array holds no text")
        if len(texts) != shape[0] or not all(type(text) is str for text in texts):
            raise ValueError("an array of text is incomplete")
        if max(map(len, texts), default=0) > _LONGEST_TEXT:
            raise ValueError(f"a text has more than {_LONGEST_TEXT} characters")
        return np.array(texts, dtype=str)


class _Dtype:
    """Description of a numpy dtype in the file."""

    def __init__(self, name="", *_):
        self.name, self.order = name, "|"

    def __setstate__(self, state):
        self.order = state[1] if isinstance(state, tuple) and len(state) > 1 else ""


def _encoder(most: int):
    """A function that old pickles call to make bytes, of at most `most` in total."""
    made = 0

    def encode(text, encoding):
        nonlocal made
        if not isinstance(text, str) or encoding != "latin1":
            raise ValueError("bytes are not encoded in latin1")
        made += len(text)
        if made > most:
            raise ValueError("its bytes are more than its pickle holds")
        return text.encode("latin-1")

    return encode


class Pickled:
    """A ``.pt`` file, open for reading.

    Parameters
    ----------
    path : Path
    texts : bool
        Whether it may hold numpy arrays of text, which are read as `Texts`.

    Attributes
    ----------
    content
        Containers of plain values, of `Tensor` and of stand-ins.

    Raises
    ------
    CheckpointError
        The file is damaged, would run code, or declares more data than it holds.
    """

    def __init__(self, path: Path, *, texts: bool = False):
        if not path.is_file():
            raise CheckpointError(f"{path}: no such file")
        self._path, self._texts = path, texts
        self._zip = None
        self._storages: dict[str, bytearray] = {}
        with reading(path, ".pt file", "fetch it again", error=CheckpointError):
            if zipfile.is_zipfile(path):
                self._zip = zipfile.ZipFile(path)
                self.content = self._from_zip()
            else:
                self.content = self._from_legacy()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._zip is not None:
            self._zip.close()

    def tensor(self, description: Tensor) -> torch.Tensor:
        """Read a tensor; ValueError if the file does not hold it."""
        dtype, key = description.storage
        if key not in self._storages:
            self._storages[key] = bytearray(self._zip.read(f"{self._folder}/data/{key}"))
        content = self._storages[key]
        numbers = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
        size, stride, offset = description.size, description.stride, description.offset
        if not all(type(number) is int and number >= 0 for number in (offset, *size, *stride)):
            raise ValueError("a tensor has no shape")
        count, last = 1, offset
        for length, step in zip(size, stride, strict=True):
            count, last = count * length, last + (length - 1) * step
        if count and max(count, last + 1) > len(numbers):
            raise ValueError(f"a tensor of shape {size} has only {len(numbers):,} numbers")
        return numbers.as_strided(size, stride, offset) if count else numbers.new_empty(size)

    def _from_zip(self):
        members = {member.filename: member.file_size for member in self._zip.infolist()}
        pickles = [name for name in members if name.endswith("/data.pkl")]
        # torch writes uncompressed files.
        if sum(member.file_size for member in self._zip.infolist()) > self._path.stat().st_size:
            raise CheckpointError(f"{self._path}: refused: it is compressed, or declares more data than it holds")
        if len(pickles) != 1:
            raise ValueError("it has no data.pkl")
        self._folder = pickles[0].removesuffix("/data.pkl")
        order = f"{self._folder}/byteorder"
        _check_order(order not in members or self._zip.read(order) == b"little")
        return self._unpickled(io.BytesIO(self._zip.read(pickles[0])))

    def _from_legacy(self):
        """Read the format before torch 1.6: five pickles, then the length and the numbers of each storage."""
        with open(self._path, "rb") as file:
            if _LEGACY_MAGIC not in file.read(32):
                raise ValueError("it is not a checkpoint")
        stream, sizes = io.BytesIO(self._path.read_bytes()), {}
        _, _, system, content, keys = (self._unpickled(stream, sizes) for _ in range(5))
        _check_order(system["little_endian"])
        for key in keys:
            stream.seek(8, io.SEEK_CUR)
            self._storages[key] = bytearray(stream.read(sizes[key]))
        return content

    def _unpickled(self, stream: io.BytesIO, sizes: dict[str, int] | None = None):
        begin = stream.tell()
        _check_opcodes(stream, _LONGEST_WITH_TEXTS if self._texts else _LONGEST_PICKLE)
        end = stream.tell()
        stream.seek(begin)
        content = _Unpickler(stream, self._path, {} if sizes is None else sizes, self._texts).load()
        stream.seek(end)
        return content


def plain(node):
    """The plain values inside OmegaConf nodes, whose state has children in `_content` and leaves in `_val`.

    ValueError if there are too many values, or if they are nested too deeply.
    """
    remaining = _MOST_PLAIN

    def visit(node, depth: int):
        nonlocal remaining
        remaining -= 1 + (len(node) if isinstance(node, str) else 0)
        if remaining < 0 or depth > _DEEPEST:
            raise ValueError("its settings are too many, or nested too deeply")
        if isinstance(node, _Inert):
            state = getattr(node, "state", {})
            return visit(state["_content"] if "_content" in state else state.get("_val"), depth + 1)
        if isinstance(node, Mapping):
            return {_text(key): visit(value, depth + 1) for key, value in node.items()}
        if isinstance(node, list | tuple):
            return [visit(value, depth + 1) for value in node]
        if node is None or isinstance(node, int | float):
            return node
        return _text(node) if isinstance(node, str) else f"<{type(node).__name__}>"

    return visit(node, 0)


def _text(value) -> str:
    # Surrogates cannot be encoded.
    return str(value).encode("utf-8", "replace").decode("utf-8")


class _Inert:
    """Inert stand-in for a class in the file: it only keeps its state."""

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        self.state = state


class _Mapping(dict):
    """Stand-in for subclasses of dict, whose entries are set one by one."""

    def __init__(self, *args):
        super().__init__()


class _Unpickler(pickle.Unpickler):
    """Creates new stand-ins for each pickle, so that changes to them have no effect on other files."""

    def __init__(self, stream, path: Path, sizes: dict[str, int], texts: bool):
        super().__init__(stream)
        self._path, self._sizes, self._texts = path, sizes, texts
        self._encode = _encoder(len(stream.getbuffer()))

    def find_class(self, module, name):
        if name in _INERT.get(module, ()):
            return type(name, (_Inert,), {})
        if name in _MAPPINGS.get(module, ()):
            return type(name, (_Mapping,), {})
        if name in _TENSORS.get(module, ()):
            return type(name, (Tensor,), {})
        if name in _PARAMETERS.get(module, ()):
            return lambda data, *_: data
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if self._texts and name in _ARRAYS.get(module, ()):
            stand_in = {"dtype": _Dtype, "_reconstruct": Texts, "ndarray": _Inert}
            return self._encode if name == "encode" else type(name, (stand_in[name],), {})
        raise CheckpointError(
            f"{self._path}: refused: it asks for {module}.{name}, which could run code: fetch it again from a source "
            "that you trust"
        )

    def persistent_load(self, saved):
        _, dtype, key, _, count, *_ = saved
        self._sizes[key] = dtype.itemsize * count
        return dtype, key


def _check_opcodes(stream: io.BytesIO, longest: int) -> None:
    """ValueError if unpickling could take more time or memory than the size of the pickle allows."""
    begin, tuples = stream.tell(), 0
    for opcode, value, position in pickletools.genops(stream):
        read = position - begin
        tuples += opcode.name.startswith("TUPLE")  # hashing nested tuples takes time
        if (
            read > longest
            or tuples > _MOST_TUPLES
            or opcode.name in _REFUSED_OPCODES
            or (opcode.name.endswith("PUT") and int(value) > read)
            or (isinstance(value, int) and abs(value) > _LARGEST_INT)
        ):
            raise ValueError(f"its pickle was not written by torch: {opcode.name} at byte {position}")


def _check_order(little: bool) -> None:
    if not little:
        raise ValueError("its numbers are big-endian: save it again on another machine")
