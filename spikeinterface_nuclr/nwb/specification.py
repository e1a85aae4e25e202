"""The specification of ndx-nuclr inside a file, by which it is read where ndx-nuclr is not installed."""

import os
from pathlib import Path

import h5py
from hdmf.backends.utils import NamespaceToBuilderHelper

_NAMESPACE = "ndx-nuclr"
_LOCATION = ".specloc"


def add_specification(path: Path, catalog) -> None:
    """Add ours to the specifications in the file, where it is not among them. The others stay as they are.

    pynwb would add its own newest version of NWB to those of an old file.
    """
    version = catalog.get_namespace(_NAMESPACE).version
    builder = NamespaceToBuilderHelper.convert_namespace(catalog, _NAMESPACE)
    add = _add_to_zarr if path.is_dir() else _add_to_hdf5
    add(path, builder, f"{_NAMESPACE}/{version}")


def _add_to_hdf5(path: Path, builder, name: str) -> None:
    from hdmf.backends.hdf5.h5_utils import H5SpecWriter

    with h5py.File(path, "r+") as file:
        if _LOCATION not in file.attrs:
            file.attrs[_LOCATION] = file.require_group("specifications").ref
        place = f"{file[file.attrs[_LOCATION]].name}/{name}"
        if place not in file:
            builder.export("namespace", writer=H5SpecWriter(file.create_group(place)))


def _add_to_zarr(path: Path, builder, name: str) -> None:
    import zarr
    from hdmf_zarr.utils import ZarrSpecWriter

    root = zarr.open_group(os.fspath(path), mode="r+", use_consolidated=False)
    location = root.attrs.setdefault(_LOCATION, "specifications")
    if f"{location}/{name}" not in root:
        builder.export("namespace", writer=ZarrSpecWriter(root.create_group(f"{location}/{name}")))
        zarr.consolidate_metadata(root.store)
