"""Files of checkpoints and decoders: safetensors with arrays and one JSON object, which cannot contain code.

A model is identified by a hash of everything that determines its output, which is stored in the file. The card, which
may be edited, and the name of the file are not part of it. Nor is the example, a small input and its output, by which
another machine can check that it computes the same.
"""

import hashlib
import json
import os
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save as to_safetensors

from ..errors import CheckpointError, DeviceError, reading, reason_of
from ..files import check_format, written_whole

FORMAT_VERSION = 1
# The name states how the identity is computed. A new definition gets a new name and is stored in addition.
_IDENTITY = "identity_sha256_v1"
# Characters of JSON; a real file has thousands.
_LONGEST = 16_000_000
# Beginning of the names of the example's arrays in a file.
_EXAMPLE = "example/"
_DTYPES = {"F32": np.float32, "F64": np.float64, "U8": np.uint8}


class Saved:
    """Base class of models that are saved in a file and identified by a hash. They have a `card` and a `name`.

    Attributes
    ----------
    KIND : str
        Key of the JSON in the file.
    WHAT : str
        What messages call it.
    REMEDY : str
        What to do about a file that an older version made.
    """

    KIND: str
    WHAT: str
    REMEDY: str

    def _content(self) -> tuple[dict[str, np.ndarray], dict]:
        """Arrays by name, and plain values for JSON: everything that determines the output."""
        raise NotImplementedError

    @classmethod
    def _from_content(cls, arrays: dict[str, np.ndarray], facts: dict, card: dict, name: str):
        """The object with this content; ValueError, KeyError or TypeError if it is inconsistent."""
        raise NotImplementedError

    def _example_input(self) -> dict[str, np.ndarray]:
        """Arrays of a small input; empty if none is small."""
        raise NotImplementedError

    def _example_output(self, example: dict[str, np.ndarray], **settings) -> dict[str, np.ndarray]:
        """What this machine computes from a small input, in arrays of other names; with settings such as a device."""
        raise NotImplementedError

    @property
    def example(self) -> dict[str, np.ndarray]:
        """A small input and its output, from the file that the model was loaded from; empty if that held none."""
        return self.__dict__.get("_example", {})

    def _with_example(self, example: dict[str, np.ndarray]):
        """This model, with the example of the file that it comes from."""
        self.__dict__["_example"] = example
        return self

    def _compute_example(self) -> dict[str, np.ndarray]:
        example = self._example_input()
        return {**example, **self._example_output(example)} if example else {}

    def check(self, **settings) -> float:
        """Compute the example's output again, and compare.

        Parameters
        ----------
        **settings
            For a checkpoint, ``device`` and ``precision``, as in `embed`.

        Returns
        -------
        float
            Largest difference from the stored output, relative to its largest value.

        Raises
        ------
        CheckpointError
            The model holds no example, or a damaged one.
        """
        if not self.example:
            raise CheckpointError(f"{self.name}: holds no example to check: save it again with this version")
        inputs = {key: self.example[key] for key in self.example if key.startswith("input")}
        try:
            computed = self._example_output(inputs, **settings)
            pairs = [(self.example[name], values) for name, values in computed.items()]
            if any(a.shape != b.shape or not a.size or not np.isfinite(a).all() for a, b in pairs):
                raise ValueError("its output has another shape")
            # numpy's maximum keeps NaN.
            return float(np.max([np.abs(a - b).max() / max(np.abs(a).max(), 1e-30) for a, b in pairs]))
        except DeviceError:
            raise
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"{self.name}: its example is damaged ({reason_of(error)}): fetch it again") from None

    @cached_property
    def sha256(self) -> str:
        """Identity of the model: a hash (hex) of everything that determines its output.

        It does not depend on the card, the name of the file, or the format that it was read from.
        """
        return identity_of(self.KIND, *self._content())

    @property
    def _bytes(self) -> bytes:
        arrays, facts = self._content()
        example = self.example or self._compute_example()
        arrays |= {f"{_EXAMPLE}{name}": values for name, values in example.items()}
        return to_bytes(self.KIND, arrays, facts, self.card, self.sha256)

    def save(self, path, *, overwrite: bool = False) -> Path:
        """Write a ``.safetensors`` file atomically."""
        path, content = check_format(path, ".safetensors"), self._bytes
        with written_whole(path, overwrite=overwrite) as temporary:
            temporary.write_bytes(content)
        return path

    @classmethod
    def _read(cls, path: Path, name: str):
        """Read what `save` wrote; CheckpointError if the file is damaged or holds something else."""
        arrays, facts, card, identity = _read(path, name, cls.KIND, cls.WHAT)
        example = {key.removeprefix(_EXAMPLE): arrays.pop(key) for key in list(arrays) if key.startswith(_EXAMPLE)}
        try:
            loaded = cls._from_content(arrays, facts, card, name)
        except CheckpointError:
            raise
        except KeyError as error:
            missing = str(error.args[0])[:80]
            raise CheckpointError(
                f"{name}: made by an older version of this package (it lacks {missing!r}): {cls.REMEDY}"
            ) from None
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise CheckpointError(f"{name}: a damaged {cls.WHAT} ({reason_of(error)}): fetch it again") from None
        unknown = sorted(facts.keys() - loaded._content()[1].keys())
        if unknown:
            raise CheckpointError(f"{name}: unknown entries {unknown[:5]}: a newer version may know them")
        if not identity:
            raise CheckpointError(f"{name}: states no identity: damaged, or made by an older version: {cls.REMEDY}")
        if identity != loaded.sha256:
            raise CheckpointError(f"{name}: damaged: its content does not match its identity: fetch it again")
        return loaded._with_example(example)


def split_member(name: str) -> tuple[str, str]:
    """A model's name, and the ending ``#1``, ``#2``, … that names a member of an ensemble; "" if there is none."""
    whole, _, number = name.rpartition("#")
    return (whole, f"#{number}") if whole and number.isdecimal() and not os.path.exists(name) else (name, "")


def check_sha256(model: Saved, name: str, expected: str | None) -> None:
    """CheckpointError if the model is not the expected one."""
    if expected is not None and model.sha256 != expected:
        raise CheckpointError(f"{name}: its sha256 is {model.sha256}, not the expected {expected}")


def bundled(folder: Path) -> list[str]:
    """Names of the models in a folder of the package."""
    return sorted(path.stem for path in folder.glob("*.safetensors"))


def find(
    name: str, folder: Path, kind: str, what: str, *, sha256: str | None = None, default_file: str
) -> tuple[Path, str, str]:
    """The file of a model, its name, and its commit on the Hub; CheckpointError if there is none.

    Parameters
    ----------
    name : str
        A bundled name, a path or an ``hf://`` name.
    folder : Path
        Folder of the bundled models.
    kind, what : str
        Key of the JSON, and what messages call the model.
    sha256 : str, optional
        If the file no longer exists, a bundled model with this identity is used.
    default_file : str
        File to read from a repository that names none.
    """
    if name.startswith("hf://"):
        from .hub import fetch

        path, revision = fetch(name, default_file)
        return path, name, revision
    if name in bundled(folder):
        return folder / f"{name}.safetensors", name, ""
    if os.path.isfile(name):  # False also for names that are invalid on this system
        path = Path(name)
        return path, path.stem if path.parent == folder else name, ""
    if os.path.isdir(name):
        raise CheckpointError(f"{name}: is a directory: name a .safetensors file inside it")
    moved = _with_identity(folder, kind, sha256)
    if moved is not None:
        return moved, moved.stem, ""
    raise CheckpointError(
        f"{name}: no such {what}: give a path to a .safetensors file, an hf:// name or a bundled name "
        f"({', '.join(bundled(folder))})"
    )


def identity_of(kind: str, arrays: dict[str, np.ndarray], facts: dict) -> str:
    """Hash (hex) of everything that determines a model's output.

    It is the SHA-256 of one line of JSON with the kind and the facts, followed by each array, sorted by name: one line
    of JSON with its name, dtype and shape, then its values in C order, little-endian.

    Parameters
    ----------
    kind : str
        Key of the JSON in the file, so that a checkpoint never has the identity of a decoder.
    arrays : dict of str to array
    facts : dict
        JSON-serialisable. A fact that a later version adds is omitted if it has its default value, so that the
        identities of existing models do not change.
    """
    digest = hashlib.sha256(_line({"kind": kind, **facts}))
    for name in sorted(arrays):
        values = np.asarray(arrays[name])
        values = np.asarray(values, dtype=values.dtype.newbyteorder("<"), order="C")
        digest.update(_line([name, values.dtype.str, values.shape]))
        digest.update(values.tobytes())
    return digest.hexdigest()


def to_bytes(kind: str, arrays: dict[str, np.ndarray], facts: dict, card: dict, identity: str) -> bytes:
    """The bytes of the file; equal models give equal bytes."""
    content = {"format": FORMAT_VERSION, **facts, "card": card, _IDENTITY: identity}
    arrays = {name: np.asarray(values, order="C") for name, values in arrays.items()}
    # A single key, because safetensors does not write several in a fixed order.
    return to_safetensors(arrays, {kind: json.dumps(content, sort_keys=True)})


def _read(path: Path, name: str, kind: str, description: str) -> tuple[dict[str, np.ndarray], dict, dict, str]:
    """Arrays, facts, card and stated identity of a file.

    Parameters
    ----------
    path : Path
    name : str
        Name of the model to use in messages.
    kind : str
        As in `identity_of`.
    description : str
        Expected content, such as "NuCLR checkpoint".

    Raises
    ------
    CheckpointError
        The file is damaged, or not of this kind.
    """
    with (
        reading(name, description, "fetch it again", error=CheckpointError),
        safe_open(path, framework="numpy") as file,
    ):
        content = _content(file, name, kind, description)
        version, card, identity = content.pop("format", None), content.pop("card", None), content.pop(_IDENTITY, "")
        if version != FORMAT_VERSION:
            raise CheckpointError(
                f"{name}: format {str(version)[:20]}, this version reads {FORMAT_VERSION}: upgrade the package"
            )
        if not isinstance(card, dict):
            raise CheckpointError(f"{name}: its card is damaged: fetch it again")
        arrays = {}
        for key in file.keys():  # noqa: SIM118 (not a dict)
            dtype = file.get_slice(key).get_dtype()
            if dtype not in _DTYPES:
                raise CheckpointError(f"{name}: {key[:80]} is of dtype {dtype}, not one of {', '.join(_DTYPES)}")
            arrays[key] = file.get_tensor(key)
    return arrays, content, card, identity


def kind_of_model(path) -> str:
    """Key of the JSON in a safetensors file; empty if it is not such a file."""
    if not os.path.isfile(path):  # reading a pipe would block
        return ""
    try:
        with safe_open(path, framework="numpy") as file:
            return next(iter(file.metadata() or {}), "")
    except Exception:  # reported when the damaged file is read
        return ""


def _with_identity(folder: Path, kind: str, sha256: str | None) -> Path | None:
    """The file in a folder of bundled models that has this identity."""
    for path in sorted(folder.glob("*.safetensors")) if sha256 else ():
        with safe_open(path, framework="numpy") as file:
            if json.loads(file.metadata().get(kind, "{}")).get(_IDENTITY) == sha256:
                return path
    return None


def _content(file, name: str, kind: str, description: str) -> dict:
    text = (file.metadata() or {}).get(kind)
    if text is None:
        raise CheckpointError(f"{name}: a safetensors file, but not a {description}: its metadata has no {kind!r}")
    if len(text) > _LONGEST:
        raise CheckpointError(f"{name}: its metadata is {len(text) / 1e6:,.0f} MB long: not a {description}")
    content = json.loads(text)
    if not isinstance(content, dict):
        raise CheckpointError(f"{name}: its metadata is damaged: fetch it again")
    return content


def _line(value) -> bytes:
    return json.dumps(value, sort_keys=True, allow_nan=False).encode() + b"\n"
