"""Sessions of brainsets (BrainWideBench, the IBL brain-wide map, and others): HDF5 files of temporaldata -> Population.

They are read with h5py; temporaldata is not needed.
"""

import os
from pathlib import Path

import h5py
import numpy as np

from ..errors import InputError, reading
from ..files import check_declared
from ..population import Population
from .assembly import assemble
from .columns import as_text, plain_columns
from .probes import Probes, choose_group

_SPIKES = ("spikes/timestamps", "spikes/unit_index")
# Columns of the units that name their probe, and those that name a unit.
_PROBES = ("probe_id", "probe", "probe_name")
_IDS = ("id", "unit_id", "unit_name")
_REMEDY = "write the session again, or download it again"


def is_brainsets_file(path: Path) -> bool:
    """Whether an HDF5 file holds spikes and units as temporaldata writes them."""
    try:
        with h5py.File(path, "r") as file:
            return {"spikes", "units"} <= file.keys() and "unit_index" in file["spikes"]
    except (OSError, RuntimeError, KeyError, AttributeError, TypeError):  # reported by the reader of NWB files
        return False


def read_brainsets(path: Path, *, group_by: str | None, observed) -> Population:
    """The units of a session, with the columns of ``units`` as properties; one population for each probe."""
    name = os.fspath(path)
    with reading(path, "brainsets file", _REMEDY), h5py.File(path, "r") as file:
        _check_own(file, name)
        properties = _columns(file["units"], name)
        count = _number_of_units(file["units"], properties, name)
        trains = _trains(file, count, name)
        recorded = _observed(file, name)
        metadata = {"source": name, **_metadata(file)}
    ids = _ids(properties, count, name)
    labels = next((properties[key].astype(str) for key in _PROBES if key in properties), None)
    probes = Probes("probes", tuple(np.unique(labels).tolist()) if labels is not None else (), labels)
    return assemble(
        name, ids, trains, observed=observed, recorded=recorded,
        group=choose_group(name, properties, group_by, lambda: probes), properties=properties, metadata=metadata,
    )  # fmt: skip


def _check_own(file: h5py.File, name: str) -> None:
    """InputError if data lie in other files, which could be any of this machine, or are more than the file holds."""

    elsewhere, datasets = [], []

    def visit_link(place, link):
        if isinstance(link, h5py.ExternalLink):
            elsewhere.append(place)

    def visit(place, item):
        if isinstance(item, h5py.Dataset):
            datasets.append((place, item))
            if item.external or item.is_virtual:
                elsewhere.append(place)

    file.visititems_links(visit_link)
    file.visititems(visit)
    if elsewhere:
        raise InputError(f"{name}: {elsewhere[0]} takes its data from another file: refused")
    for place, item in datasets:
        check_declared(f"{name}: {place}", item.nbytes, item.id.get_storage_size())


def _columns(units: h5py.Group, name: str) -> dict[str, np.ndarray]:
    """Columns with one number or text per unit."""
    arrays = {key: item for key, item in units.items() if isinstance(item, h5py.Dataset) and item.ndim == 1}
    lengths = {item.shape[0] for item in arrays.values()}
    if len(lengths) > 1:
        raise InputError(f"{name}: its columns of units have {min(lengths)} to {max(lengths)} rows: {_REMEDY}")
    return plain_columns({key: item[:] for key, item in arrays.items() if item.dtype.kind in "iufbSO"}, name)


def _number_of_units(units: h5py.Group, properties: dict, name: str) -> int:
    lengths = {item.shape[0] for item in units.values() if isinstance(item, h5py.Dataset) and item.ndim}
    if len(lengths) != 1 or not properties:
        raise InputError(f"{name}: it has no units")
    return lengths.pop()


def _trains(file: h5py.File, count: int, name: str) -> list[np.ndarray]:
    """Sorted spike times of each unit."""
    times, index = (file[key] for key in _SPIKES)
    if times.shape != index.shape or times.ndim != 1 or times.dtype.kind != "f" or index.dtype.kind not in "iu":
        raise InputError(
            f"{name}: spikes/timestamps {times.dtype} {times.shape} and spikes/unit_index {index.dtype} {index.shape} "
            f"do not match: {_REMEDY}"
        )
    times, index = times[:].astype(np.float64), index[:].astype(np.int64)
    if len(index) and not 0 <= index.min() <= index.max() < count:
        raise InputError(f"{name}: spikes/unit_index has {index.min()} to {index.max()}, of {count} units: {_REMEDY}")
    order = np.lexsort((times, index))
    return np.split(times[order], np.cumsum(np.bincount(index, minlength=count))[:-1])


def _observed(file: h5py.File, name: str) -> np.ndarray | None:
    """The intervals in which spikes were recorded; None if the file states none."""
    for place in ("spikes/domain", "domain"):
        if place in file and {"start", "end"} <= file[place].keys():
            start, end = (np.atleast_1d(file[place][key][:]).astype(np.float64) for key in ("start", "end"))
            if start.shape != end.shape or not (start < end).all():
                raise InputError(f"{name}: {place} does not hold intervals: {_REMEDY}")
            return np.stack([start, end], axis=1)
    return None


def _ids(properties: dict[str, np.ndarray], count: int, name: str) -> np.ndarray:
    """Unique ids of the units: a column, else their position."""
    for key in _IDS:
        if key in properties:
            if len(np.unique(properties[key])) < count:
                raise InputError(f"{name}: units/{key} names units twice: {_REMEDY}")
            return properties[key]
    return np.arange(count)


def _metadata(file: h5py.File) -> dict[str, str]:
    """Session, subject, species and data set, as far as the file names them."""
    places = {
        "session": ("session", "id"), "subject": ("subject", "id"), "species": ("subject", "species"),
        "dataset": ("brainset", "id"),
    }  # fmt: skip
    found = {key: _entry(file, *place) for key, place in places.items()}
    return {key: value for key, value in found.items() if value}


def _entry(file: h5py.File, group: str, name: str) -> str:
    """A text of a group: an attribute, or a dataset of one value."""
    if group not in file:
        return ""
    value = file[group].attrs.get(name)
    if value is None and name in file[group] and isinstance(file[group][name], h5py.Dataset):
        value = file[group][name][()]
    return "" if value is None else str(as_text(np.atleast_1d(value))[0])
