"""The files of checkpoints and decoders: arrays beside one JSON object, in safetensors. Nothing in them can run.

A model is known by its identity: a hash of what decides its output, which the file carries. Neither its card, which
people edit, nor the name of the file is part of it.
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
# Says how the identity is made. One that is made otherwise will have another name, beside this one.
_IDENTITY = "identity_sha256_v1"
# Characters of JSON, of which a real file has thousands.
_LONGEST = 16_000_000
_DTYPES = {"F32": np.float32, "F64": np.float64, "U8": np.uint8}


def identity_of(kind: str, arrays: dict[str, np.ndarray], facts: dict) -> str:
    """Hash (hex) of what decides a model's output.

    The SHA-256 of a line of JSON with the kind and the facts, and for each array, in the order of the names, a line of
    JSON with its name, dtype and shape, and its values in C order, little-endian.

    Parameters
    ----------
    kind : str
        Key under which the file holds its JSON: no checkpoint has the identity of a decoder.
    arrays : dict of str to array
    facts : dict
        Plain values. A fact that a later version adds is left out where it has its default, so that it changes the
        identity of nothing that exists.
    """
    digest = hashlib.sha256(_line({"kind": kind, **facts}))
    for name in sorted(arrays):
        values = np.asarray(arrays[name])
        values = np.asarray(values, dtype=values.dtype.newbyteorder("<"), order="C")
        digest.update(_line([name, values.dtype.str, values.shape]))
        digest.update(values.tobytes())
    return digest.hexdigest()


def to_bytes(kind: str, arrays: dict[str, np.ndarray], facts: dict, card: dict, identity: str) -> bytes:
    """The file as bytes, the same for the same model."""
    content = {"format": FORMAT_VERSION, **facts, "card": card, _IDENTITY: identity}
    arrays = {name: np.asarray(values, order="C") for name, values in arrays.items()}
    # One key: safetensors writes several in no fixed order.
    return to_safetensors(arrays, {kind: json.dumps(content, sort_keys=True)})


def read(path: Path, name: str, kind: str, what: str) -> tuple[dict[str, np.ndarray], dict, dict, str]:
    """Arrays, facts, card and identity that a file holds, as it says; whoever builds the model calls `check_identity`.

    Parameters
    ----------
    path : Path
    name : str
        What the user calls it.
    kind : str
    what : str
        What it should be, such as "NuCLR checkpoint".

    Raises
    ------
    CheckpointError
        It is none of ours, or is damaged.
    """
    with reading(name, what, "fetch it again", error=CheckpointError), safe_open(path, framework="numpy") as file:
        content = _content(file, name, kind, what)
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


def check_identity(name: str, written, found: str) -> None:
    """CheckpointError where a file says that it is another model than the one that it holds."""
    if written != found:
        raise CheckpointError(f"{name}: damaged, it does not hold the model whose identity it carries: fetch it again")


def kind_of_model(path) -> str:
    """The key under which a safetensors file holds its JSON; empty where it is no such file."""
    if not os.path.isfile(path):  # a pipe would be waited for
        return ""
    try:
        with safe_open(path, framework="numpy") as file:
            return next(iter(file.metadata() or {}), "")
    except Exception:  # a damaged file is for whoever reads it to say
        return ""


def with_identity(folder: Path, kind: str, sha256: str | None) -> Path | None:
    """The file in a folder of ours that carries this identity."""
    for path in sorted(folder.glob("*.safetensors")) if sha256 else ():
        with safe_open(path, framework="numpy") as file:
            if json.loads(file.metadata()[kind])[_IDENTITY] == sha256:
                return path
    return None


def _content(file, name: str, kind: str, what: str) -> dict:
    text = (file.metadata() or {}).get(kind)
    if text is None:
        raise CheckpointError(f"{name}: a safetensors file, but not a {what}: its metadata has no {kind!r}")
    if len(text) > _LONGEST:
        raise CheckpointError(f"{name}: its metadata is {len(text) / 1e6:,.0f} MB long: not a {what}")
    content = json.loads(text)
    if not isinstance(content, dict):
        raise CheckpointError(f"{name}: its metadata is damaged: fetch it again")
    return content


def _line(value) -> bytes:
    return json.dumps(value, sort_keys=True, allow_nan=False).encode() + b"\n"
