"""What must hold of a copy before it may take the place of a file."""

import hashlib
import json
import warnings
from pathlib import Path

import h5py
import numpy as np

from ..errors import InputError
from ..sources.nwb_file import io_class, open_nwb
from .plan import Part, Plan
from .reading import stored_identities, stored_table
from .specification import specification_place

# Datasets up to this size are compared value by value. Larger ones are copied as they are, and compared in form.
_COMPARED_BYTES = 10_000_000
_OF_EMBEDDINGS = ("embedding", "window_count", "stability")
_OF_IDENTITIES = ("classes", "label", "probability", "confidence", "abstained")


def check_unchanged(original: Path, copy: Path, ours: list[str]) -> None:
    """InputError where an object of the original is missing or different in the copy, or there are more, but `ours`."""
    describe = _describe_zarr if original.is_dir() else _describe_hdf5
    ours = [*ours, specification_place(original)]
    before, after = describe(original, ours), describe(copy, ours)
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) != after.get(path):
            raise InputError(
                f"{original}: a copy would differ at {path}, which is none of ours: nothing was written; write a side "
                "file of its units (units_only=True, --units-only)"
            )


def check_valid(original: Path, copy: Path) -> None:
    """InputError where pynwb finds fault with the copy that it does not find with the original."""
    faults = _faults(copy)
    if faults:
        faults -= _faults(original)
    if faults:
        raise InputError(f"{original}: the copy would not be valid NWB ({min(faults)}): nothing was written")


def check_read_back(copy: Path, plan: Plan) -> None:
    """InputError where reading the copy does not give what was planned."""
    with open_nwb(copy) as nwbfile:
        same = all(_comes_back(nwbfile, part) for part in plan.parts)
    if not same:
        raise InputError(f"{copy}: what was written does not come back: nothing was kept; report this, with the file")


def _comes_back(nwbfile, part: Part) -> bool:
    found = stored_table(nwbfile, part.name)
    same = np.array_equal(found.rows, part.rows) and _same_rows(found.embeddings, part.embeddings, _OF_EMBEDDINGS)
    for name, written in part.identities.items():
        read = stored_identities(nwbfile, name, found)
        columns = _OF_IDENTITIES if written.novelty is None else (*_OF_IDENTITIES, "novelty")
        same &= read.target == written.target and _same_rows(read, written, columns)
    return same


def _same_rows(read, written, columns: tuple[str, ...]) -> bool:
    """Whether the units, by name, and these columns are those that were written."""
    same = [str(unit) for unit in read.unit_ids] == [str(unit) for unit in written.unit_ids]
    for name in columns:
        a, b = np.asarray(getattr(read, name)), np.asarray(getattr(written, name))
        same &= np.array_equal(a, b.astype(a.dtype), equal_nan=a.dtype.kind == "f")
    return same


def _faults(path: Path) -> set[str]:
    import pynwb

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.is_dir():
            with io_class(path)(str(path), mode="r") as io:
                found = pynwb.validate(io=io)
        else:
            found = pynwb.validate(path=str(path))
    return {str(fault) for fault in found}


def _describe_hdf5(path: Path, ours: list[str]) -> dict:
    """What is at every path of the file: kind, type, shape, filters, attributes, and the values of small datasets."""
    with h5py.File(path, "r") as file:
        found = {"/": _attributes(file, file["/"], "/", ours)}

        def look(group):
            for name in group:
                place = f"{group.name.rstrip('/')}/{name}"
                link = group.get(name, getlink=True)
                if place in ours:
                    continue
                if not isinstance(link, h5py.HardLink):
                    found[place] = (type(link).__name__, link.path, getattr(link, "filename", None))
                    continue
                child = group[name]
                found[place] = _attributes(file, child, place, ours)
                if isinstance(child, h5py.Group):
                    look(child)
                else:
                    form = (child.dtype, child.shape, child.maxshape, child.chunks, child.compression)
                    found[place] += (*form, _values(file, child))

        look(file["/"])
    # A file without processed data has no such group; ours brings it.
    if "/processing" in found and not any(place.startswith("/processing/") for place in found):
        del found["/processing"]
    return found


def _attributes(file, thing, place: str, ours: list[str]) -> tuple:
    values = {name: _plain(file, thing.attrs[name]) for name in thing.attrs if name != ".specloc"}
    kinds = {name: str(thing.attrs.get_id(name).dtype.metadata or thing.attrs.get_id(name).dtype) for name in values}
    columns = {path.rpartition("/")[2] for path in ours if path.rpartition("/")[0] == place}
    if columns and "colnames" in values:
        values["colnames"] = [name for name in thing.attrs["colnames"] if name not in columns]
    return (type(thing).__name__, json.dumps([values, kinds], default=str, sort_keys=True))


def _values(file, dataset) -> str | None:
    if dataset.shape is None or dataset.size * max(dataset.dtype.itemsize, 16) > _COMPARED_BYTES:
        return None
    try:
        values = dataset[()]
    except OSError:  # a filter that is not installed here: copied as it lies, and compared in form
        return None
    if isinstance(values, np.ndarray) and values.dtype.kind in "iufb":
        return hashlib.sha256(values.tobytes()).hexdigest()
    return hashlib.sha256(json.dumps(_plain(file, values), default=str).encode()).hexdigest()


def _plain(file, value):
    """The value with references as the paths that they lead to, which say the same in every file."""
    if isinstance(value, h5py.Reference):
        return file[value].name if value else None
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(file, v) for v in value]
    if isinstance(value, np.void) and value.dtype.names:
        return [_plain(file, value[name]) for name in value.dtype.names]
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _describe_zarr(path: Path, ours: list[str]) -> dict:
    """Hash of every file of the store, but for those that list others."""
    found = {}
    for file in path.rglob("*"):
        place = "/" + file.relative_to(path).as_posix()
        parts = [place, *(f"/{parent.as_posix()}" for parent in file.relative_to(path).parents)]
        if file.is_dir() or place in ("/.zmetadata",) or any(part in ours for part in parts):
            continue
        if place in ("/processing/.zgroup", "/processing/.zattrs"):
            continue
        content = file.read_bytes()
        columns = {p.rpartition("/")[2] for p in ours if f"{p.rpartition('/')[0]}/.zattrs" == place}
        if columns:
            content = json.loads(content)
            content["colnames"] = [name for name in content.get("colnames", ()) if name not in columns]
            content = json.dumps(content, sort_keys=True).encode()
        found[place] = hashlib.sha256(content).hexdigest()
    return found
