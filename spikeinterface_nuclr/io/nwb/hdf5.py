"""A copy of an HDF5 file without some of its objects, for side files.

HDF5 never gives back the room of what is deleted, so a file without its movie is written object by object. hdmf's
export would do it too, but makes columns of references such that nobody can add a row to them later.
"""

from pathlib import Path

import h5py
import numpy as np

from ...errors import InputError


def copy_without(source: Path, target: Path, unwanted: list[str], resolved: list[str] = ()) -> None:
    """Write a new file `target` with all of `source` but the objects at the paths `unwanted`.

    Datasets are copied as they lie on disk: chunks, filters, and what room they leave to grow. References lead to the
    same paths as before. The links at the paths `resolved` become copies of what they lead to.

    Raises
    ------
    InputError
        The file has something that cannot be copied alone: references to regions, or objects of several names.
    """
    with h5py.File(source, "r") as old, h5py.File(target, "w", track_order=_tracks_order(old)) as new:
        _copy_attributes(old["/"], new["/"])
        _copy_children(old["/"], new["/"], unwanted, resolved)
        _translate_references(old, new)


def _tracks_order(file: h5py.File) -> bool:
    return bool(file.id.get_create_plist().get_link_creation_order() & h5py.h5p.CRT_ORDER_TRACKED)


def _copy_children(old: h5py.Group, new: h5py.Group, unwanted: list[str], resolved: list[str]) -> None:
    for name in old:
        path = f"{old.name.rstrip('/')}/{name}"
        if path in unwanted:
            continue
        link = old.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink) and path not in resolved:
            new[name] = link
        elif any(inside.startswith(f"{path}/") for inside in (*unwanted, *resolved)):
            child = new.create_group(name)
            _copy_attributes(old[name], child)
            _copy_children(old[name], child, unwanted, resolved)
        else:
            old.copy(name, new, name=name)


def _copy_attributes(old, new) -> None:
    for name in old.attrs:
        kind = old.attrs.get_id(name)
        if h5py.check_ref_dtype(kind.dtype) is None:
            new.attrs.create(name, old.attrs[name], shape=kind.shape, dtype=kind.dtype)


def _translate_references(old: h5py.File, new: h5py.File) -> None:
    """Copied between files, references lead nowhere. Make them lead to the paths that they led to in the old file."""
    seen = set()

    def translate(path, thing):
        address = h5py.h5o.get_info(thing.id).addr
        if address in seen or h5py.h5o.get_info(old[path].id).rc > 1:
            raise InputError(
                f"{old.filename}: {path} has several names and cannot be copied alone: write a copy of the whole file"
            )
        seen.add(address)
        for name in old[path].attrs:
            dtype = old[path].attrs.get_id(name).dtype
            if _holds_references(dtype):
                value = _translate(old, new, np.asarray(old[path].attrs[name], dtype=dtype), dtype)
                thing.attrs.create(name, value, shape=old[path].attrs.get_id(name).shape, dtype=dtype)
        if isinstance(thing, h5py.Dataset) and _holds_references(thing.dtype) and thing.size:
            thing[...] = _translate(old, new, np.asarray(old[path][()], dtype=thing.dtype), thing.dtype)

    translate("/", new["/"])
    new.visititems(translate)


def _holds_references(dtype: np.dtype) -> bool:
    kinds = [dtype] if dtype.names is None else [dtype[name] for name in dtype.names]
    found = {h5py.check_ref_dtype(kind) for kind in kinds}
    if h5py.RegionReference in found:
        raise InputError("it has references to regions, which cannot be copied alone: write a copy of the whole file")
    return h5py.Reference in found


def _translate(old: h5py.File, new: h5py.File, values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    translated = values.copy()
    if dtype.names is None:
        for index in np.ndindex(values.shape):
            translated[index] = _reference(old, new, values[index])
        return translated
    for name in dtype.names:
        if h5py.check_ref_dtype(dtype[name]) is not None:
            translated[name] = _translate(old, new, values[name], dtype[name])
    return translated


def _reference(old: h5py.File, new: h5py.File, reference):
    path = old[reference].name if reference else None
    # What is left out leaves an empty reference.
    return new[path].ref if path in new else h5py.Reference()
