"""The specification of ndx-nuclr inside a file, which makes it readable without ndx-nuclr installed."""

import json
import os
from pathlib import Path

import h5py
from hdmf.backends.utils import NamespaceToBuilderHelper

_NAMESPACE = "ndx-nuclr"
_LOCATION = ".specloc"
_DEFAULT_ROOT = "specifications"


def specification_place(storage: h5py.File | Path) -> str:
    """Path of our specification in a file, or of all specifications if the file contains none."""
    root = _root(storage)
    return f"/{root}/{_NAMESPACE}" if root else f"/{_DEFAULT_ROOT}"


def add_specification(storage: h5py.File | Path, catalog) -> None:
    """Add our specification to an open HDF5 file or a Zarr store, unless it is present. The others are not changed.

    pynwb would add its newest version of NWB to those of an old file. A file without specifications gets all of them,
    because ours cannot be read without those it builds on.
    """
    root = _root(storage)
    for name in [_NAMESPACE] if root else catalog.namespaces:
        place = f"{root or _DEFAULT_ROOT}/{name}/{catalog.get_namespace(name).version}"
        add = _add_to_hdf5 if isinstance(storage, h5py.File) else _add_to_zarr
        add(storage, NamespaceToBuilderHelper.convert_namespace(catalog, name), place)


def wants_ascii_names(file: h5py.File) -> bool:
    """Whether the file's specification requires column names in ASCII, as NWB 2.0 and 2.1 do."""
    root, types = _root(file), set()

    def collect(specification: dict):
        if specification.get("name") == "colnames":
            types.add(specification.get("dtype"))

    def read(_, item):
        if isinstance(item, h5py.Dataset) and h5py.check_string_dtype(item.dtype):
            json.loads(item.asstr()[()], object_hook=collect)

    if root:
        file[root].visititems(read)
    return "ascii" in types


def _root(storage: h5py.File | Path) -> str:
    """The group with the file's specifications; empty if there is none."""
    if isinstance(storage, h5py.File):
        return storage[storage.attrs[_LOCATION]].name.strip("/") if _LOCATION in storage.attrs else ""
    return json.loads((storage / ".zattrs").read_text()).get(_LOCATION, "").strip("/")


def _add_to_hdf5(file: h5py.File, builder, place: str) -> None:
    from hdmf.backends.hdf5.h5_utils import H5SpecWriter

    if place not in file:
        builder.export("namespace", writer=H5SpecWriter(file.create_group(place)))
    if _LOCATION not in file.attrs:
        file.attrs[_LOCATION] = file[_DEFAULT_ROOT].ref


def _add_to_zarr(path: Path, builder, place: str) -> None:
    import zarr
    from hdmf_zarr.utils import ZarrSpecWriter

    root = zarr.open_group(os.fspath(path), mode="r+")
    if place not in root:
        builder.export("namespace", writer=ZarrSpecWriter(root.create_group(place)))
    if _LOCATION not in root.attrs:
        root.attrs[_LOCATION] = _DEFAULT_ROOT
    zarr.consolidate_metadata(root.store)
