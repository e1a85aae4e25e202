"""Decoders on disk: arrays in a safetensors file, the rest as JSON in its metadata. Nothing in it can run."""

import hashlib
import json
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from ..errors import CheckpointError
from ..files import check_format, written_whole
from .linear import Readout

FORMAT_VERSION = 1
BUNDLED = Path(__file__).parent.parent / "models" / "decoders"
# All metadata sits under one key: safetensors writes several in no fixed order, which would change the file's hash.
_METADATA_KEY = "nuclr_decoder"
_PARTS = ("mean", "scale", "weight", "bias")


class Saved:
    """What has a file of its own, and is known by its hash."""

    def _content(self) -> tuple[dict[str, np.ndarray], dict]:
        """Arrays by name, and plain values for JSON."""
        raise NotImplementedError

    @cached_property
    def _bytes(self) -> bytes:
        arrays, facts = self._content()
        content = json.dumps({"format": FORMAT_VERSION, **facts}, ensure_ascii=False, sort_keys=True)
        return to_safetensors(
            {name: np.ascontiguousarray(values) for name, values in arrays.items()}, {_METADATA_KEY: content}
        )

    @cached_property
    def sha256(self) -> str:
        """Hash (hex) of the file that `save` writes."""
        return hashlib.sha256(self._bytes).hexdigest()

    def save(self, path, *, overwrite: bool = False) -> Path:
        """Write a ``.safetensors`` file, whole or not at all."""
        path = check_format(path, ".safetensors")
        with written_whole(path, overwrite=overwrite) as temporary:
            temporary.write_bytes(self._bytes)
        return path


def readout_arrays(readouts: dict[str, Readout]) -> dict[str, np.ndarray]:
    """The arrays of read-outs by name, for a file."""
    return {f"{name}/{part}": getattr(readout, part) for name, readout in readouts.items() for part in _PARTS}


def read_readouts(arrays: dict[str, np.ndarray], strengths: dict[str, float]) -> dict[str, Readout]:
    """The read-outs whose arrays a file holds; KeyError where one is missing."""
    return {
        name: Readout(*(arrays[f"{name}/{part}"] for part in _PARTS), strength) for name, strength in strengths.items()
    }


def bundled_decoders() -> list[str]:
    """Names of the decoders that come with the package."""
    return sorted(path.stem for path in BUNDLED.glob("*.safetensors"))


def find(name: str) -> Path:
    """The file of a bundled name, a path or an ``hf://`` name; CheckpointError where there is none."""
    if name.startswith("hf://"):
        from ..hub import fetch

        return fetch(name, "decoder.safetensors")[0]
    if name in bundled_decoders():
        return BUNDLED / f"{name}.safetensors"
    if Path(name).is_file():
        return Path(name)
    raise CheckpointError(
        f"{name}: no such decoder: give a .safetensors file, an hf:// name or a bundled name "
        f"({', '.join(bundled_decoders())})"
    )


def is_decoder(path: Path) -> bool:
    """Whether a file says that it holds a decoder."""
    try:
        with safe_open(path, framework="numpy") as file:
            return _METADATA_KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def read(path: Path, name: str) -> tuple[dict[str, np.ndarray], dict]:
    """Arrays and facts of a file; CheckpointError where it is none of ours."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{name}: not a readable safetensors file ({error}): fetch it again") from None
    if _METADATA_KEY not in metadata:
        raise CheckpointError(f"{name}: a safetensors file, but not a decoder: make one with nuclr decoder fit")
    try:
        facts = dict(json.loads(metadata[_METADATA_KEY]))
        version = facts.pop("format")
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(f"{name}: its metadata is damaged: fetch it again") from None
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{name}: format {version}, this version reads {FORMAT_VERSION}: upgrade the package")
    if not all(np.isfinite(values).all() for key, values in arrays.items() if not key.endswith("/bias")):
        raise CheckpointError(f"{name}: holds numbers that are not finite: fetch it again")
    return arrays, facts
