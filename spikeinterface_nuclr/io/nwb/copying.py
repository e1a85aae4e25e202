"""Copies of NWB files: complete, without selected objects, or of the neurons alone."""

import os
import shutil
import warnings
from pathlib import Path

import h5py
import numpy as np

from ...errors import InputError, RecordingWarning
from .file import OpenFile
from .hdf5 import copy_without
from .links import pointers_of
from .matching import texts

_SPIKE_COLUMNS = ("spike_times", "obs_intervals")
# Groups of an NWB file with data, not descriptions of the session.
_RECORDED = ("acquisition", "stimulus/presentation", "stimulus/templates", "analysis", "scratch", "intervals")


def copy_file(source: Path, target: Path) -> None:
    """Copy an NWB file byte by byte. Symbolic links in a Zarr store remain links."""
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, target)


def remove_from_hdf5(file: h5py.File, source: Path, unwanted: list[str]) -> None:
    """Remove objects, and remove columns from the lists of their tables. HDF5 does not free their space.

    Raise InputError, naming the original `source`, if a remaining object refers to a removed one.
    """
    if unwanted:
        _check_references(source, file, unwanted)
    for path in unwanted:
        del file[path]
        table, _, column = path.rpartition("/")
        if table in file and "colnames" in file[table].attrs:
            attributes = file[table].attrs
            # Bytes in files of NWB 2.0 and 2.1.
            names = [name for name in attributes["colnames"] if texts([name]) != [column]]
            attributes.create("colnames", names, dtype=attributes.get_id("colnames").dtype)


def _check_references(source: Path, file: h5py.File, unwanted: list[str]) -> None:
    """Raise InputError if a remaining object, which is never one of ours, refers to a removed one."""

    def is_removed(place: str) -> bool:
        return any(f"{place}/".startswith(f"{path}/") for path in unwanted)

    def check(name, item):
        if is_removed(f"/{name}"):
            return
        values = [item.attrs[key] for key in item.attrs if _is_reference(item.attrs.get_id(key).dtype)]
        values += [item[()]] if isinstance(item, h5py.Dataset) and _is_reference(item.dtype) else []
        for reference in (reference for value in values for reference in np.ravel(value) if reference):
            if is_removed(file[reference].name or ""):
                raise InputError(
                    f"{source}: /{name} refers to {file[reference].name}, which would be removed: give another name=, "
                    "or if_exists='new_name'"
                )

    file.visititems(check)


def _is_reference(dtype: np.dtype) -> bool:
    return h5py.check_ref_dtype(dtype) is not None  # to an object, or to a region of one


def remove_from_zarr(target: Path, unwanted: list[str]) -> None:
    """Remove objects from a Zarr store, and remove columns from the lists of their tables."""
    if not unwanted:
        return
    import zarr

    root = zarr.open_group(os.fspath(target), mode="r+")
    for path in unwanted:
        parent, _, name = path.strip("/").rpartition("/")
        group = root[parent]
        del group[name]
        if "colnames" in group.attrs:
            group.attrs["colnames"] = [column for column in group.attrs["colnames"] if column != name]
    zarr.consolidate_metadata(root.store)


def copy_rois(source: Path, file: h5py.File | None, target: Path, selected: list[str]) -> None:
    """Write an HDF5 file with the processed data at the paths `selected`, and the description of the session.

    Recorded data, such as movies, other processed data, units and intervals are omitted. Links into these are replaced
    by copies of datasets, such as timestamps shared by two series, else omitted. Links to other files remain links.
    """
    if file is None:
        raise InputError(f"{source}: a side file of imaged neurons can be written for HDF5 files only: write a copy")
    recorded = [f"/{group}/{name}" for group in _RECORDED for name in file.get(group, ())]
    unwanted = recorded + (["/units"] if "units" in file else [])

    def select(group):
        for name in group:
            place = f"{group.name}/{name}"
            if any(path.startswith(f"{place}/") for path in selected):
                select(group[name])
            elif place not in selected:
                unwanted.append(place)

    select(file["processing"])
    links = []
    file.visititems_links(lambda name, link: links.append((f"/{name}", link)))
    broken = [
        name
        for name, link in links
        if isinstance(link, h5py.SoftLink) and any(f"{link.path}/".startswith(f"{path}/") for path in unwanted)
    ]
    # Such as timestamps or ROIs that belong to another series.
    resolved = [name for name in broken if isinstance(file.get(name), h5py.Dataset)]
    for name in resolved:
        if file[name].file.filename != file.filename:
            raise InputError(f"{source}: {name} lies in {file[name].file.filename}: write a copy of the whole file")
    copy_without(source, target, unwanted + [name for name in broken if name not in resolved], resolved)
    _check_side_file(source, target)


def _check_side_file(source: Path, target: Path) -> None:
    """Raise InputError if a dataset of a side file is virtual: it may map data that were omitted."""

    def check(name, item):
        if isinstance(item, h5py.Dataset) and item.is_virtual:
            raise InputError(f"{source}: /{name} is a virtual dataset: write a copy of the whole file, not a side file")

    with h5py.File(target, "r") as file:
        file.visititems(check)


def copy_units(source: Path, original: OpenFile, target: Path, columns: dict) -> None:
    """Write an HDF5 file with the units' ids, spike times and these columns, and the session's identifiers.

    Issue a RecordingWarning if the units are read from files in other folders.
    """
    from pynwb import NWBHDF5IO, H5DataIO, NWBFile
    from pynwb.file import Subject
    from pynwb.misc import Units

    nwbfile = original.nwbfile
    _check_origin(source, original)
    side = NWBFile(
        session_description=nwbfile.session_description,
        identifier=nwbfile.identifier,
        session_start_time=nwbfile.session_start_time,
        timestamps_reference_time=nwbfile.timestamps_reference_time,
        session_id=nwbfile.session_id,
        institution=nwbfile.institution,
        lab=nwbfile.lab,
        notes=f"Side file of {source.name} (object {nwbfile.object_id}): its units (object "
        f"{nwbfile.units.object_id}) and their embeddings, without its other data.",
    )
    subject = nwbfile.subject
    if subject is not None:
        fields = ("subject_id", "species", "sex", "age", "date_of_birth", "strain", "genotype", "description")
        side.subject = Subject(**{field: getattr(subject, field) for field in fields})
    units = nwbfile.units
    side.units = Units(name="units", description=units.description)
    for name in columns:
        side.add_unit_column(name, units[name].description if name in units.colnames else "probe of the unit")
    for row, unit in enumerate(units.id[:]):
        spikes = {name: units[name][row] for name in _SPIKE_COLUMNS if name in units.colnames}
        side.add_unit(id=int(unit), **spikes, **{name: str(values[row]) for name, values in columns.items()})
    spike_times = side.units["spike_times"].target
    spike_times.set_data_io(H5DataIO, data_io_kwargs={"compression": "gzip", "shuffle": True})
    for invalid in nwbfile.invalid_times.to_dataframe().itertuples() if nwbfile.invalid_times else ():
        side.add_invalid_time_interval(start_time=invalid.start_time, stop_time=invalid.stop_time)
    with NWBHDF5IO(os.fspath(target), "w") as side_io:
        side_io.write(side)


def _check_origin(source: Path, original: OpenFile) -> None:
    """Warn of files in other folders that contain units; raise InputError if a symbolic link could lead to any file."""
    units = original.nwbfile.units
    for pointer in original.pointers:
        if pointer.kind == "symbolic link":
            raise InputError(
                f"{source}: {pointer.place} is a symbolic link to {pointer.target}, which a side file would include: "
                "copy the store with its links resolved (cp -rL), and write from that"
            )
    files = {Path(part.container_source) for part in (units, units.id, *units.columns)}
    for file in tuple(files):
        same = file == source.absolute()
        pointers = original.pointers if same else pointers_of(file)
        of_units = [p for p in pointers if not same or p.place.startswith("/units/")]
        files |= {file.parent / pointer.target for pointer in of_units if pointer.kind == "virtual dataset"}
    for file in sorted(files):
        if not file.resolve().is_relative_to(source.resolve().parent):
            warnings.warn(
                f"{source}: its units lie in {file}, behind a link; the side file includes their content",
                RecordingWarning,
                stacklevel=2,
            )
