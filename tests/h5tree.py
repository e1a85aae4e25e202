"""What an HDF5 file holds, object by object, read with plain h5py: the tests' own yardstick."""

import h5py
import numpy as np


def tree(path):
    """Path -> everything about the object there. References are given as the paths that they lead to."""
    with h5py.File(path, "r") as file:
        found = {"/": (_attributes(file, file["/"]),)}
        _walk(file, file["/"], found)
    return found


def _walk(file, group, found):
    for name in group:
        path = f"{group.name.rstrip('/')}/{name}"
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            found[path] = (type(link).__name__, link.path)
            continue
        child = group[name]
        if isinstance(child, h5py.Group):
            found[path] = ("group", _attributes(file, child))
            _walk(file, child, found)
        else:
            form = (str(child.dtype), child.shape, child.maxshape, child.chunks, child.compression, child.shuffle)
            found[path] = ("dataset", _attributes(file, child), form, _plain(file, child[()] if child.shape else None))


def _attributes(file, thing):
    kinds = {name: str(thing.attrs.get_id(name).dtype) for name in thing.attrs}
    return {name: (kinds[name], _plain(file, thing.attrs[name])) for name in thing.attrs}


def _plain(file, value):
    if isinstance(value, h5py.Reference):
        return file[value].name
    if isinstance(value, np.ndarray) and value.dtype.kind in "iufb":
        return value.tobytes()
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(file, v) for v in value]
    if isinstance(value, np.void) and value.dtype.names:
        return [_plain(file, value[name]) for name in value.dtype.names]
    return repr(value)


def differences(before, after):
    """Paths that are gone, new, and changed."""
    a, b = tree(before), tree(after)
    return sorted(a.keys() - b.keys()), sorted(b.keys() - a.keys()), [p for p in a.keys() & b.keys() if a[p] != b[p]]
