"""How an extension's result is stored in an analyzer on disk: one folder, which is complete or absent.

The layout is SpikeInterface's own, in both of its formats. A result is written beside the old one, read back, and then
replaces it in one step: if the process is killed or the disk fills up, the old or the new result is there. The last
thing written is a marker with the dtype, shape and hash of every array. A result without the marker, or with other
arrays, is damaged.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError, reading, reason_of
from ..files import folder_written_whole, remove_folder, standing_folder, written_whole
from ..io.untrusted import check_npy, check_zarr, read_json
from ..locks import alone

_MARKER = "complete"
_LOCK, _PATIENCE_S = ".nuclr.lock", 60
# JSON objects, by name, that a folder contains besides the data.
_FACTS = ("params", "info", "run_info", _MARKER)


@dataclass(frozen=True, eq=False)
class Result:
    """A result on disk: parameters, run info, and data by name (arrays, and dicts stored as JSON)."""

    params: dict
    run_info: dict
    data: dict


def place_of(analyzer, name: str) -> Path:
    """The folder of an extension in an analyzer on disk; InputError where the analyzer is a store on the network."""
    if "://" in str(analyzer.folder):
        raise InputError(f"{analyzer.folder}: is not on a disk: save a copy with analyzer.save_as, and use that")
    return Path(analyzer.folder) / "extensions" / name


def is_aside(analyzer, name: str) -> bool:
    """Whether a killed process has left an extension where SpikeInterface does not look for it."""
    place = Path(analyzer.folder) / "extensions" / name
    return standing_folder(place) != place


def save(extension) -> None:
    """Write an extension's result, which then replaces the previous one.

    Raises
    ------
    InputError
        It could not be written, or does not read back as it was. The previous result stays.
    """
    analyzer = extension.sorting_analyzer
    place = place_of(analyzer, extension.extension_name)
    with _saving(analyzer, place):
        place.parent.mkdir(exist_ok=True)
        _write(extension, place)
        if analyzer.format == "zarr":
            _consolidate(analyzer)


def load(place: Path, format: str) -> Result | None:
    """The result in a folder; None where there is none.

    Raises
    ------
    InputError
        It is damaged or incomplete.
    """
    place = standing_folder(place)
    facts = _zarr_facts(place) if format == "zarr" else _folder_facts(place)
    if "params" not in facts:
        return None
    marker = facts.get(_MARKER)
    if not isinstance(marker, dict) or not isinstance(facts["params"], dict):
        raise InputError(f"{place}: was not written to its end")
    data = _zarr_data(place) if format == "zarr" else _folder_data(place)
    for name in sorted(marker.keys() | data.keys()):
        if name not in data or _described(data[name]) != marker.get(name):
            raise InputError(f"{place}: its {name} is damaged")
    run_info = facts.get("run_info")
    return Result(facts["params"], run_info if isinstance(run_info, dict) else {"run_completed": True}, data)


def delete(analyzer, name: str) -> None:
    """Remove an extension from an analyzer on disk, in one step."""
    place = place_of(analyzer, name)
    with _saving(analyzer, place):
        if analyzer.format == "zarr":
            _unlist(analyzer, [f"extensions/{name}"])
        if place.exists():
            remove_folder(place)


def save_properties(analyzer, properties: dict[str, np.ndarray]) -> None:
    """Write sorting properties, with their own dtypes, into an analyzer on disk: each is complete or absent.

    Raises
    ------
    InputError
        One could not be written.
    """
    folder = Path(analyzer.folder) / "sorting" / "properties"
    with _saving(analyzer, folder):
        folder.mkdir(exist_ok=True)
        if analyzer.format == "zarr":
            import zarr

            _unlist(analyzer, [f"sorting/properties/{key}" for key in properties])
            for key, values in properties.items():
                with folder_written_whole(folder / key) as staged:
                    zarr.open_array(os.fspath(staged), mode="w", shape=values.shape, dtype=values.dtype)[:] = values
            _consolidate(analyzer)
        else:
            for key, values in properties.items():
                with written_whole(folder / f"{key}.npy", overwrite=True) as temporary:
                    np.save(temporary, values, allow_pickle=False)


def _write(extension, place: Path) -> None:
    analyzer = extension.sorting_analyzer
    with folder_written_whole(place) as staged:
        if analyzer.format == "zarr":
            import zarr

            zarr.open_group(os.fspath(staged), mode="w")
        else:
            staged.mkdir()
        extension.write_result(staged)
        _mark(staged, extension.data, analyzer.format)
        _check_read_back(staged, extension.data, analyzer.format)


@contextmanager
def _saving(analyzer, place: Path) -> Iterator[None]:
    """Keep other processes from saving into the same analyzer, and turn what a library raises into one line.

    Consolidating a Zarr store reads what another process is about to move.
    """
    try:
        with alone(place, Path(analyzer.folder) / _LOCK, patience_s=_PATIENCE_S):
            yield
    except InputError:
        raise
    except Exception as error:  # Zarr raises a KeyError on a full disk
        raise InputError(f"{place}: could not be saved ({reason_of(error)}): free some room, and try again") from error


def _unlist(analyzer, members: list[str]) -> None:
    """Remove groups and arrays from a Zarr store's consolidated metadata, by which SpikeInterface reads it.

    An array that is listed there and has no files reads as zeros, so it leaves the list before its files go.
    """
    path = Path(analyzer.folder) / ".zmetadata"
    if not path.is_file():
        return
    content = read_json(path)
    listed = content.get("metadata", {})
    beginnings = tuple(f"{member}/" for member in members)
    content["metadata"] = {key: value for key, value in listed.items() if not key.startswith(beginnings)}
    if len(content["metadata"]) < len(listed):
        with written_whole(path, overwrite=True) as temporary:
            temporary.write_text(json.dumps(content), encoding="utf-8")


def _consolidate(analyzer) -> None:
    """Update a Zarr store's consolidated metadata, by which SpikeInterface reads it."""
    import zarr

    zarr.consolidate_metadata(zarr.open_group(os.fspath(analyzer.folder), mode="r+").store)


def _mark(place: Path, data: dict, format: str) -> None:
    marker = {name: _described(values) for name, values in data.items()}
    if format == "zarr":
        import zarr

        zarr.open_group(os.fspath(place), mode="r+").attrs[_MARKER] = marker
    else:
        (place / f"{_MARKER}.json").write_text(json.dumps(marker), encoding="utf-8")


def _described(values) -> dict:
    """Type, shape and hash, by which a damaged array or dict is recognised."""
    if isinstance(values, np.ndarray):
        kind = {"dtype": values.dtype.str, "shape": list(values.shape)}
        content = np.ascontiguousarray(values).tobytes()
    else:
        kind, content = {"dtype": "JSON"}, json.dumps(values, sort_keys=True).encode()
    return {**kind, "sha256": hashlib.sha256(content).hexdigest()}


def _check_read_back(place: Path, data: dict, format: str) -> None:
    result = load(place, format)
    if result is None or result.data.keys() != data.keys():
        raise InputError(f"{place}: reads back differently from what was written: nothing was replaced")


def _folder_facts(place: Path) -> dict:
    return {name: read_json(place / f"{name}.json") for name in _FACTS if (place / f"{name}.json").is_file()}


def _folder_data(place: Path) -> dict:
    data = {}
    for path in sorted(place.iterdir()):
        if path.suffix == ".npy" and not path.name.startswith("._"):
            check_npy(path)
            with reading(path, ".npy file"):
                data[path.stem] = np.load(path, allow_pickle=False)
        elif path.suffix == ".json" and path.stem not in _FACTS:
            data[path.stem] = read_json(path)
        elif path.suffix == ".pkl":
            raise InputError(f"{path}: is a pickle, which could run code: delete it")
    return data


def _zarr_facts(place: Path) -> dict:
    return read_json(place / ".zattrs") if (place / ".zattrs").is_file() else {}


def _zarr_data(place: Path) -> dict:
    import zarr

    check_zarr(place)
    with reading(place, "Zarr group"):
        group = zarr.open_group(os.fspath(place), mode="r")
        return {
            name: array[0] if "dict" in array.attrs else np.asarray(array[:]) for name, array in group.arrays()
        }  # fmt: skip
