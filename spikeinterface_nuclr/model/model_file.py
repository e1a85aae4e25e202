"""Files of checkpoints and decoders: safetensors with arrays and one JSON object, which cannot contain code.

A model is identified by a hash of everything that determines its output, which is stored in the file. The card, which
may be edited, and the name of the file are not part of it.
"""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save as to_safetensors

from ..errors import CheckpointError, reading

FORMAT_VERSION = 1
# The name states how the identity is computed. A new definition gets a new name and is stored in addition.
_IDENTITY = "identity_sha256_v1"
# Characters of JSON; a real file has thousands.
_LONGEST = 16_000_000
_DTYPES = {"F32": np.float32, "F64": np.float64, "U8": np.uint8}


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


def read(path: Path, name: str, kind: str, description: str) -> tuple[dict[str, np.ndarray], dict, dict, str]:
    """Arrays, facts, card and stated identity of a file; the caller builds the model and calls `check_identity`.

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


def check_identity(name: str, stated, computed: str) -> None:
    """CheckpointError if the identity stated in a file differs from that of the model in it."""
    if stated != computed:
        raise CheckpointError(f"{name}: damaged: its content does not match its identity: fetch it again")


def kind_of_model(path) -> str:
    """Key of the JSON in a safetensors file; empty if it is not such a file."""
    if not os.path.isfile(path):  # reading a pipe would block
        return ""
    try:
        with safe_open(path, framework="numpy") as file:
            return next(iter(file.metadata() or {}), "")
    except Exception:  # reported when the damaged file is read
        return ""


def with_identity(folder: Path, kind: str, sha256: str | None) -> Path | None:
    """The file in a folder of bundled models that has this identity."""
    for path in sorted(folder.glob("*.safetensors")) if sha256 else ():
        with safe_open(path, framework="numpy") as file:
            if json.loads(file.metadata()[kind])[_IDENTITY] == sha256:
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
