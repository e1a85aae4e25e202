"""A copy of an HDF5 file without some of its objects, for side files.

By hand: HDF5 does not give back the space of what is deleted, so a byte copy cannot leave out a movie, and its own copy
of a group neither leaves anything out nor keeps references. hdmf's export makes columns of references such that nobody
can add a row to them later.
"""

from pathlib import Path

import h5py
import numpy as np


def copy_without(source: Path, target: Path, unwanted: list[str], resolved: list[str] = ()) -> None:
    """Write a new file `target` with all of `source` but the objects at the paths `unwanted`.

    Datasets are copied as they lie on disk: chunks, filters, and what room they leave to grow. Objects keep all their
    names that are copied. References, to regions too, lead to the copies; to what is left out they become empty. The
    links at the paths `resolved` become copies of what they lead to.
    """
    with h5py.File(source, "r") as old, h5py.File(target, "w", track_order=_tracks_order(old["/"])) as new:
        copies = {_address(old["/"]): (old["/"], new["/"])}
        _copy_children(old["/"], new["/"], unwanted, resolved, copies)
        for original, copy in copies.values():
            _copy_attributes(original, copy, copies)
            if isinstance(copy, h5py.Dataset) and copy.size and _has_references(copy.dtype):
                copy[...] = _translated(original[()], copy.dtype, original, copies)


def _tracks_order(group: h5py.Group) -> bool:
    return bool(group.id.get_create_plist().get_link_creation_order() & h5py.h5p.CRT_ORDER_TRACKED)


def _address(thing) -> int:
    return h5py.h5o.get_info(thing.id).addr


def _copy_children(old: h5py.Group, new: h5py.Group, unwanted: list[str], resolved: list[str], copies: dict) -> None:
    """Copy what is in a group; `copies` are the originals and their copies so far, by the addresses of the former."""
    for name in old:
        path = f"{old.name.rstrip('/')}/{name}"
        link = old.get(name, getlink=True)
        if path in unwanted:
            continue
        if not isinstance(link, h5py.HardLink) and path not in resolved:
            new[name] = link
            continue
        original = old[name]
        address = _address(original)
        if address in copies:  # one more name
            new[name] = copies[address][1]
        elif isinstance(original, h5py.Group):
            copies[address] = original, new.create_group(name, track_order=_tracks_order(original))
            _copy_children(*copies[address], unwanted, resolved, copies)
        else:
            old.copy(original, new, name)
            copies[address] = original, new[name]


def _copy_attributes(old, new, copies: dict) -> None:
    """The attributes of a group, and those that are references, which HDF5 empties when it copies a dataset."""
    for name in old.attrs:
        attribute = old.attrs.get_id(name)
        if isinstance(old, h5py.Group) or _has_references(attribute.dtype):
            value = _translated(old.attrs[name], attribute.dtype, old, copies)
            new.attrs.create(name, value, shape=attribute.shape, dtype=attribute.dtype)


def _has_references(dtype: np.dtype) -> bool:
    kinds = [dtype] if dtype.names is None else [dtype[name] for name in dtype.names]
    return any(h5py.check_ref_dtype(kind) is not None for kind in kinds)


def _translated(values, dtype: np.dtype, old, copies: dict):
    """The values of the object `old`, where they are references those to the copies."""
    if not _has_references(dtype):
        return values
    translated = np.array(values, dtype=dtype)
    if dtype.names is None:
        for index in np.ndindex(translated.shape):
            translated[index] = _reference(translated[index], old, copies)
        return translated
    for name in dtype.names:
        translated[name] = _translated(translated[name], dtype[name], old, copies)
    return translated


def _reference(reference: h5py.Reference, old, copies: dict) -> h5py.Reference:
    """The reference that leads to the same object, or region of it, among the copies; empty where there is none."""
    address = _address(old.file[reference]) if reference else None
    if address not in copies:
        return type(reference)()
    copy = copies[address][1]
    if isinstance(reference, h5py.RegionReference):
        return h5py.h5r.create(copy.id, b".", h5py.h5r.DATASET_REGION, h5py.h5r.get_region(reference, old.file.id))
    return copy.ref
