"""The ROI responses of an NWB file (two-photon, light-sheet, one-photon) -> Population."""

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import InputError, RecordingWarning
from ..population import Population
from .assembly import choose_group, plain_columns
from .nwb_file import file_facts, invalid_intervals
from .optical import Frames, assemble_traces, regular_frames, timed_frames

# Columns of a ROI table by which curation keeps or drops a row, as suite2p, CaImAn, neuroconv and the Allen Institute
# call them.
_KEEPING = ("accepted", "keep", "iscell", "is_cell", "valid_roi")
_DROPPING = ("rejected",)
# Series, or tables, of what is around neurons or was made of their fluorescence. They are read only by their own name.
_AROUND = re.compile(r"background|neuropil|baseline|residual|deconvolved|spks", re.I)
# A frame's control label that says it is no data, and words that say the contrary.
_BAD_FRAME = re.compile(r"\b(invalid|bad|dropped|missing|corrupt(ed)?|censored|excluded|arti?e?facts?)\b", re.I)
_GOOD_FRAME = re.compile(r"\b(no|not|non|without|free|corrected|removed)\b", re.I)
# A unit such as F/F0 or F/F20 names a ratio, which is 1 at the baseline.
_RATIO = re.compile(r"\s*F\s*/\s*F_?(\d+|o)\s*", re.I)

_BLOCK = 10_000  # frames read at once


@dataclass(frozen=True, eq=False)
class Rois:
    """The responses of one imaging plane's ROIs.

    Attributes
    ----------
    path : str
        Processing module, container and name of the series, with slashes between.
    series : pynwb.ophys.RoiResponseSeries
    table : pynwb.ophys.PlaneSegmentation
        What the ROIs are rows of.
    rows : int64, shape (n_rois,)
        Row of each, in the order of the series.
    """

    path: str
    series: object
    table: object
    rows: np.ndarray


def all_rois(nwbfile) -> dict[str, Rois]:
    """Every series of ROI responses in an open file, by its path."""
    return {path: _rois(path, series) for path, series in _all_series(nwbfile)}


def _all_series(nwbfile) -> Iterator[tuple[str, object]]:
    for module in nwbfile.processing.values():
        for container in module.data_interfaces.values():
            path = f"{module.name}/{container.name}"
            if container.neurodata_type == "RoiResponseSeries":
                yield path, container
            for series in getattr(container, "roi_response_series", {}).values():
                yield f"{path}/{series.name}", series


def _rois(path: str, series) -> Rois:
    return Rois(path, series, series.rois.table, np.asarray(series.rois.data[:], dtype=np.int64))


def choose_rois(nwbfile, wanted: str | None, name: str = "NWBFile") -> list[Rois]:
    """The series to read: the named ones, or the only ones; several are of different ROIs, one a plane.

    `wanted` is the name of a series or of its container, with as much of the path before it as tells it from others.
    InputError, which begins with `name`, where there is none, or a choice has to be made.
    """
    found = all_rois(nwbfile)
    if not found:
        raise InputError(f"{name}: it holds no RoiResponseSeries in a processing module: only ROI responses are read")
    chosen = {path: rois for path, rois in found.items() if wanted is None or _names(wanted, path)}
    neurons = {path: rois for path, rois in chosen.items() if not _AROUND.search(f"{path} {rois.table.name}")}
    chosen = neurons or chosen
    if not chosen:
        raise InputError(f"{name}: it holds no series {wanted!r}; it has: {', '.join(found)}")
    if len({path.rpartition("/")[0] for path in chosen}) > 1 or not _disjoint(list(chosen.values())):
        paths = ", ".join(chosen)
        raise InputError(f"{name}: it holds several series of ROI responses: give series= (--series): one of {paths}")
    return list(chosen.values())


def _names(wanted: str, path: str) -> bool:
    own, container = f"/{path}", f"/{path.rpartition('/')[0]}"
    return own.endswith(f"/{wanted.strip('/')}") or container.endswith(f"/{wanted.strip('/')}")


def _disjoint(rois: list[Rois]) -> bool:
    seen = [(id(one.table), row) for one in rois for row in one.rows.tolist()]
    return len(seen) == len(set(seen))


def tables_of(rois: list[Rois]) -> list:
    """The tables that the ROIs are rows of, each once."""
    return list({id(one.table): one.table for one in rois}.values())


def roi_ids(rois: list[Rois]) -> list[np.ndarray]:
    """The ids of each series' ROIs: those of their table's rows, with its name before them where there are several."""
    if len(tables_of(rois)) == 1:
        return [np.asarray(one.table.id[:])[one.rows] for one in rois]
    return [np.array([f"{one.table.name}/{roi}" for roi in np.asarray(one.table.id[:])[one.rows]]) for one in rois]


def read_ophys(
    nwbfile, *, name: str = "NWBFile", group_by, observed, series: str | None, traces: str, keep_rejected: bool
) -> Population:
    """The Population of an open NWBFile's ROI responses."""
    chosen = [rois for rois in choose_rois(nwbfile, series, name) if len(rois.rows)]
    if not chosen:
        raise InputError(f"{name}: its ROI responses are of no ROI")
    first = chosen[0]
    frames, count = _frames(first, name), min(_oriented(one, name)[1] for one in chosen)
    for one in chosen[1:]:
        _check_together(frames, _frames(one, name), first.path, one.path, name)
    frames = Frames(frames.start, frames.sampling_frequency, frames.slots[:count], frames.begins[:count])
    kept = [np.ones(len(one.rows), dtype=bool) if keep_rejected else _accepted(one) for one in chosen]
    if not any(mask.any() for mask in kept):
        raise InputError(f"{name}: every ROI is rejected: give keep_rejected=True (--keep-rejected) to keep them")
    kinds = {_kind(one) for one in chosen} if traces == "auto" else {traces}
    values = np.concatenate(
        [_values(one, mask, traces, name)[:, :count] for one, mask in zip(chosen, kept, strict=True)]
    )
    ids = np.concatenate([unit_ids[mask] for unit_ids, mask in zip(roi_ids(chosen), kept, strict=True)])
    properties = _properties(chosen, kept)
    invalid = invalid_intervals(nwbfile, name)
    left_out = np.any([_bad_frames(one, name)[:count] for one in chosen], axis=0)
    return assemble_traces(
        name,
        ids,
        values,
        frames,
        kind=kinds.pop(),
        observed=observed,
        left_out=left_out if invalid is None else left_out | frames.touching(invalid),
        # A column "group" of ROIs is no probe; it is grouped by when it is asked for by another name.
        group=choose_group(name, properties, None if group_by == "group" else group_by),
        properties=properties,
        metadata={
            **file_facts(nwbfile, name),
            "series": common_path(chosen),
            "traces": traces,
            "keep_rejected": keep_rejected,
        },
    )


def common_path(rois: list[Rois]) -> str:
    """What `choose_rois` finds them by: the path of a series, or of the container of several."""
    return rois[0].path if len(rois) == 1 else rois[0].path.rpartition("/")[0]


def _frames(rois: Rois, name: str) -> Frames:
    series, where = rois.series, f"{name}: {rois.path}"
    count = _oriented(rois, name)[1]
    if series.timestamps is not None:
        times = np.asarray(series.timestamps[:])
        if len(times) != count:
            raise InputError(f"{where}: {len(times):,} timestamps for {count:,} frames: correct the file")
        return timed_frames(times, where)
    rate = series.rate
    if not (rate is not None and np.isfinite(rate) and rate > 0):
        raise InputError(f"{where}: a rate of {rate} frames per second is impossible: correct the file")
    return regular_frames(count, float(rate), float(series.starting_time or 0.0))


def _check_together(first: Frames, other: Frames, path: str, other_path: str, name: str) -> None:
    """InputError where two planes were not recorded at the same time, within a frame."""
    count = min(len(first.slots), len(other.slots))
    apart = np.abs(first.times[:count] - other.times[:count]).max(initial=0.0)
    if apart * first.sampling_frequency >= 1 or not np.array_equal(first.slots[:count], other.slots[:count]):
        raise InputError(
            f"{name}: {path} and {other_path} were not recorded in the same frames: give one of them, series="
        )


def _oriented(rois: Rois, name: str) -> tuple[bool, int]:
    """Whether the series has a row a frame, as it should, and its number of frames."""
    shape, n = np.shape(rois.series.data), len(rois.rows)
    if len(shape) == 1 and n == 1:
        return True, shape[0]
    if len(shape) == 2 and shape[1] == n:
        return True, shape[0]
    if len(shape) == 2 and shape[0] == n:  # as some writers have it
        return False, shape[1]
    raise InputError(f"{name}: {rois.path} has data of shape {shape} for {n} ROIs: correct the file")


def _values(rois: Rois, kept: np.ndarray, traces: str, name: str) -> np.ndarray:
    """float32, shape (kept ROIs, n_frames)."""
    series = rois.series
    data = series.data if hasattr(series.data, "shape") else np.asarray(series.data)
    upright, count = _oriented(rois, name)
    values = np.empty((kept.sum(), count), dtype=np.float32)
    for low in range(0, count, _BLOCK):  # large data are never held whole in another type, nor with what is left out
        block = np.s_[low : low + _BLOCK]
        part = np.asarray(data[block] if upright else data[:, block])
        values[:, block] = (part.reshape(len(part), -1).T if upright else part)[kept]
    if series.conversion != 1.0 or series.offset:
        values = values * np.float32(series.conversion) + np.float32(series.offset or 0.0)
    if traces == "auto" and _kind(rois) == "dff" and _RATIO.fullmatch(series.unit or ""):
        values = values - np.float32(1)
    return values


def _kind(rois: Rois) -> str:
    """dF/F stands in a container that says so; anything else is raw."""
    parent = rois.series.parent
    return "dff" if parent is not None and parent.neurodata_type == "DfOverF" else "fluorescence"


def _bad_frames(rois: Rois, name: str) -> np.ndarray:
    """Frames whose control label says that they are no data."""
    series, count = rois.series, _oriented(rois, name)[1]
    bad = np.zeros(count, dtype=bool)
    if series.control is None:
        return bad
    labels = np.asarray(series.control[:]).astype(np.int64)[:count]
    said = [] if series.control_description is None else [str(text) for text in series.control_description[:]]
    if not said:
        warnings.warn(
            f"{name}: {rois.path} labels its frames (control) and does not say what the labels mean: all frames are "
            "read; give observed= to leave some out",
            RecordingWarning,
            stacklevel=5,
        )
        return bad
    worst = [k for k, text in enumerate(said) if _BAD_FRAME.search(text) and not _GOOD_FRAME.search(text)]
    bad[: len(labels)] = np.isin(labels, worst)
    if bad.any():
        meant = ", ".join(repr(said[k]) for k in worst)
        warnings.warn(
            f"{name}: {bad.sum():,} of {count:,} frames of {rois.path} are labelled {meant} (control) and left out",
            RecordingWarning,
            stacklevel=5,
        )
    return bad


def _accepted(rois: Rois) -> np.ndarray:
    """Which ROIs curation has not rejected: bool, shape (n_rois,)."""
    told = {}
    for column in rois.table.colnames:
        if column.lower() not in (*_KEEPING, *_DROPPING) or hasattr(rois.table[column], "target"):
            continue
        values = np.asarray(rois.table[column][:])
        values = values[:, 0] if values.ndim == 2 else values  # suite2p: [is a cell, how probably]
        if values.ndim == 1 and values.dtype.kind in "iufb":
            told[column.lower()] = values.astype(float)[rois.rows] > 0
    # CaImAn writes both columns, and no entry in either where nobody has curated by hand.
    if {"accepted", "rejected"} <= told.keys() and not (told["accepted"] | told["rejected"]).any():
        del told["accepted"], told["rejected"]
    kept = [values if column in _KEEPING else ~values for column, values in told.items()]
    return np.all([np.ones(len(rois.rows), dtype=bool), *kept], axis=0)


def _properties(rois: list[Rois], kept: list[np.ndarray]) -> dict[str, np.ndarray]:
    """One value a ROI of every column that all the tables have, and the name of its plane."""
    tables = []
    for one, mask in zip(rois, kept, strict=True):
        columns = {
            name: one.table[name][:]
            for name in one.table.colnames
            if "mask" not in name and not hasattr(one.table[name], "target") and not hasattr(one.table[name], "table")
        }
        # Planes that share a table are told by their series.
        several = sum(other.table is one.table for other in rois) > 1
        plane = np.full(len(one.table), one.series.name if several else one.table.name)
        plain = {"plane": plane} | plain_columns(columns)
        tables.append({name: values[one.rows][mask] for name, values in plain.items()})
    shared = [name for name in tables[0] if all(name in table for table in tables)]
    return {name: np.concatenate([table[name] for table in tables]) for name in shared}
