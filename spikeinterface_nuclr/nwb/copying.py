"""Copies of NWB files: whole, without some of their objects, or of the neurons alone."""

import os
import shutil
from pathlib import Path

import h5py

from ..errors import InputError
from ..sources.nwb_file import open_nwb
from .hdf5 import copy_without

_SPIKE_COLUMNS = ("spike_times", "obs_intervals")
# Groups of an NWB file that hold data rather than describe the session.
_RECORDED = ("acquisition", "stimulus/presentation", "stimulus/templates", "analysis", "scratch", "intervals")


def copy_file(source: Path, target: Path, unwanted: list[str]) -> None:
    """Copy an NWB file byte by byte; where there are `unwanted` objects, object by object, without these."""
    if source.is_dir():
        shutil.copytree(source, target)
        _remove_from_zarr(target, unwanted)
        return
    _check_links(source, target)
    if unwanted:
        copy_without(source, target, unwanted)
        _remove_columns(target, unwanted)
    else:
        shutil.copyfile(source, target)


def _check_links(source: Path, target: Path) -> None:
    """InputError where the file points to other files from its own folder and the copy is for another folder."""
    if source.resolve().parent == target.resolve().parent:
        return
    found = []

    def look(name, link):
        if isinstance(link, h5py.ExternalLink) and not os.path.isabs(link.filename):
            found.append(link.filename)

    with h5py.File(source, "r") as file:
        file.visititems_links(look)
    if found:
        raise InputError(f"{source}: it points to {found[0]} beside it: write the copy into the same folder")


def _remove_columns(target: Path, unwanted: list[str]) -> None:
    """Take columns that were left out off the list of their table."""
    with h5py.File(target, "r+") as file:
        for path in unwanted:
            table, _, column = path.rpartition("/")
            if table in file and "colnames" in file[table].attrs:
                attributes = file[table].attrs
                names = [name for name in attributes["colnames"] if name != column]
                attributes.create("colnames", names, dtype=attributes.get_id("colnames").dtype)


def _remove_from_zarr(target: Path, unwanted: list[str]) -> None:
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


def copy_rois(source: Path, target: Path, kept: list[str]) -> None:
    """Write an HDF5 file with what stands at the paths `kept` of the processed data, and what describes the session.

    Recorded data, such as movies, other processed data, units and intervals stay behind. Of links into these, such as
    timestamps that two series share, datasets are copied and others are left out.
    """
    if source.is_dir():
        raise InputError(f"{source}: a side file of imaged neurons is made of HDF5 files only: write a copy")
    with h5py.File(source, "r") as file:
        places = [f"/{group}/{name}" for group in _RECORDED for name in file.get(group, ())]
        unwanted = places + (["/units"] if "units" in file else [])

        def look(group):
            for name in group:
                place = f"{group.name}/{name}"
                if any(path.startswith(f"{place}/") for path in kept):
                    look(group[name])
                elif place not in kept:
                    unwanted.append(place)

        look(file["processing"])
        links = []
        file.visititems_links(lambda name, link: links.append((f"/{name}", link)))
        broken = [
            name
            for name, link in links
            if isinstance(link, h5py.SoftLink) and any(f"{link.path}/".startswith(f"{gone}/") for gone in unwanted)
        ]
        # Timestamps, say, or ROIs, that are another series' own.
        resolved = [name for name in broken if isinstance(file.get(name), h5py.Dataset)]
    copy_without(source, target, unwanted + [name for name in broken if name not in resolved], resolved)


def copy_units(source: Path, target: Path, columns: dict) -> None:
    """Write an HDF5 file with the units' ids, spike times and these columns, and the session's identifiers."""
    from pynwb import NWBHDF5IO, H5DataIO, NWBFile
    from pynwb.file import Subject
    from pynwb.misc import Units

    with open_nwb(source) as nwbfile:
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
        with NWBHDF5IO(os.fspath(target), "w") as writing:
            writing.write(side)
