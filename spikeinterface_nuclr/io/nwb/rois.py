"""The ROI responses of an NWB file (two-photon, light-sheet, one-photon) -> Population."""

import math
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pynwb.ophys import DfOverF, Fluorescence, RoiResponseSeries

from ...errors import InputError, RecordingWarning, reading
from ...population import Population
from ..calcium import Frames, assemble_traces, regular_frames, timed_frames
from ..columns import plain_columns
from ..curation import is_curation, kept_rois
from ..probes import choose_group
from .datasets import check_stored, read_whole
from .file import file_facts, invalid_intervals

# Names of series or tables of background, or of data derived from fluorescence. They are read only on request.
_DERIVED = re.compile(r"background|neuropil|baseline|residual|deconvolved|spks", re.I)
# Words of control labels that mark frames as bad, and words that negate them.
_BAD_FRAME = re.compile(r"\b(invalid|bad|dropped|missing|corrupt(ed)?|censored|excluded|arti?e?facts?)\b", re.I)
_GOOD_FRAME = re.compile(r"\b(no|not|non|without|free|corrected|removed)\b", re.I)
# A unit such as F/F0 or F/F20 names a ratio, which is 1 at the baseline.
_RATIO = re.compile(r"\s*F\s*/\s*F_?(\d+|o)\s*", re.I)
# Names and units of dF/F, dR/R and (F-F0)/F0 in various spellings, after a space is put before capitals in words.
_BETWEEN, _CAPITAL = r"[\W_]{0,4}", re.compile(r"(?<=[^\W\d_A-Z])(?=[A-Z])")
_DELTA = re.compile(
    r"(?<![a-z])((delta|[dδ∆])~(f~(over|of|o|by|per|div)?~f|r~(/|over)~r)|f~f~[0o]~f)~([0o]|zero)?(?![a-z])".replace(
        "~", _BETWEEN
    ),
    re.I,
)
# Units, and names, of values that may be neither raw fluorescence nor dF/F.
_Z_SCORE = re.compile(r"z[\W_]*scored?", re.I)
_RELATIVE = re.compile(rf"%|percent|norm|{_Z_SCORE.pattern}", re.I)

_BLOCK = 2_000_000  # values read at once
_FRAME = 80  # bytes of memory per frame for its time


@dataclass(frozen=True, eq=False)
class Rois:
    """The responses of one imaging plane's ROIs.

    Attributes
    ----------
    path : str
        Processing module, container and name of the series, with slashes between.
    series : pynwb.ophys.RoiResponseSeries
    table : pynwb.ophys.PlaneSegmentation
        The table of the ROIs.
    rows : int64, shape (n_rois,)
        Row of each ROI, in the order of the series.
    """

    path: str
    series: object
    table: object
    rows: np.ndarray


def all_series(nwbfile) -> dict[str, RoiResponseSeries]:
    """Every series of ROI responses in an open file, by its path."""
    paths = {}
    for module in nwbfile.processing.values():
        for container in module.data_interfaces.values():
            path = f"{module.name}/{container.name}"
            if isinstance(container, RoiResponseSeries):
                paths[path] = container
            if isinstance(container, DfOverF | Fluorescence):
                paths |= {f"{path}/{name}": series for name, series in container.roi_response_series.items()}
    return paths


def _rois(path: str, series: RoiResponseSeries, name: str) -> Rois:
    """The rows of a series' ROIs; InputError if they are not distinct rows of their table."""
    label, table = f"{name}: {path}", series.rois.table
    rows = np.asarray(read_whole(series.rois.data, f"{label}/rois"))
    if rows.ndim != 1 or rows.dtype.kind not in "iuf" or (rows % 1 != 0).any():
        raise InputError(f"{label} refers to ROIs that are not rows of {table.name}: correct the rois of the series")
    outside = rows[(rows < 0) | (rows >= len(table))]
    if len(outside):
        raise InputError(
            f"{label} refers to ROI row {outside[0]:g}, but {table.name} has {len(table)}: correct the series' rois"
        )
    rows = rows.astype(np.int64)
    unique, counts = np.unique(rows, return_counts=True)
    if (counts > 1).any():
        repeated = np.asarray(table.id[:])[unique[counts > 1][0]]
        raise InputError(f"{label} names ROI {repeated} {counts.max()} times: correct the rois of the series")
    return Rois(path, series, table, rows)


def choose_rois(nwbfile, series: str | None, name: str = "NWBFile") -> list[Rois]:
    """The series to read: the named or the only ones; several if they have different ROIs, as one per plane.

    `series` is the name of a series or of its container, with as much of the preceding path as identifies it.
    Raise InputError, prefixed with `name`, if there is none, or the choice is ambiguous.
    """
    available = all_series(nwbfile)
    if not available:
        raise InputError(f"{name}: it holds no RoiResponseSeries in a processing module: only ROI responses are read")
    chosen = {path: item for path, item in available.items() if series is None or _names(series, path)}
    neurons = {path: item for path, item in chosen.items() if not _DERIVED.search(f"{path} {item.rois.table.name}")}
    chosen = neurons or chosen
    if not chosen:
        raise InputError(f"{name}: it holds no series {series!r}; it has: {', '.join(available)}")
    rois = [_rois(path, item, name) for path, item in chosen.items()]
    if len({path.rpartition("/")[0] for path in chosen}) > 1 or not _disjoint(rois):
        paths = ", ".join(chosen)
        raise InputError(f"{name}: it holds several series of ROI responses: give series= (--series): one of {paths}")
    return rois


def _names(series: str, path: str) -> bool:
    """Whether `series` names the series at this path, or its container."""
    places = (f"/{path}", f"/{path.rpartition('/')[0]}")
    return any(place.endswith(f"/{series.strip('/')}") for place in places)


def _disjoint(rois: list[Rois]) -> bool:
    rows = [(id(plane.table), row) for plane in rois for row in plane.rows.tolist()]
    return len(rows) == len(set(rows))


def tables_of(rois: list[Rois]) -> list:
    """The tables of the ROIs, each once."""
    return list({id(plane.table): plane.table for plane in rois}.values())


def roi_ids(rois: list[Rois]) -> list[np.ndarray]:
    """The ids of each series' ROIs in their table, preceded by the table's name if there are several tables."""
    ids = [np.asarray(plane.table.id[:])[plane.rows] for plane in rois]
    if len(tables_of(rois)) == 1:
        return ids
    return [np.array([f"{plane.table.name}/{roi}" for roi in rows]) for plane, rows in zip(rois, ids, strict=True)]


def read_ophys(
    nwbfile, *, name: str = "NWBFile", group_by, observed, series: str | None, traces: str, keep_rejected: bool
) -> Population:
    """The Population of an open NWBFile's ROI responses."""
    chosen = [rois for rois in choose_rois(nwbfile, series, name) if len(rois.rows)]
    if not chosen:
        raise InputError(f"{name}: its ROI responses have no ROI")
    for plane in chosen:
        check_stored(plane.series.data, f"{name}: {plane.path}/data", _FRAME * _oriented(plane, name)[1])
    first = chosen[0]
    frames, count = _frames(first, name), min(_oriented(plane, name)[1] for plane in chosen)
    for plane in chosen[1:]:
        _check_together(frames, _frames(plane, name), first.path, plane.path, name)
    frames = frames.part(frames.column < count)
    masks = [np.ones(len(plane.rows), dtype=bool) if keep_rejected else _accepted(plane, name) for plane in chosen]
    if not any(mask.any() for mask in masks):
        raise InputError(f"{name}: every ROI is rejected: give keep_rejected=True (--keep-rejected) to keep them")
    kind = _common_kind(chosen, name) if traces == "auto" else traces
    values = np.empty((sum(mask.sum() for mask in masks), count), dtype=np.float32)
    rows = np.split(values, np.cumsum([mask.sum() for mask in masks])[:-1])
    for plane, mask, part in zip(chosen, masks, rows, strict=True):
        _read_values(plane, mask, part, name)
        if traces == "auto" and kind == "dff" and _RATIO.fullmatch(plane.series.unit or ""):
            part -= np.float32(1)
    ids = np.concatenate([unit_ids[mask] for unit_ids, mask in zip(roi_ids(chosen), masks, strict=True)])
    properties = _properties(chosen, masks, name)
    invalid = invalid_intervals(nwbfile, name)
    excluded = np.any([_bad_frames(plane, name)[:count] for plane in chosen], axis=0)
    return assemble_traces(
        name,
        ids,
        values,
        frames,
        kind=kind,
        observed=observed,
        excluded=excluded if invalid is None else excluded | frames.touching(invalid),
        # A column "group" of ROIs does not name probes; other columns are used on request.
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
    """The name by which `choose_rois` selects them: the path of a series, or of the container of several."""
    return rois[0].path if len(rois) == 1 else rois[0].path.rpartition("/")[0]


def _frames(rois: Rois, name: str) -> Frames:
    series, label = rois.series, f"{name}: {rois.path}"
    count = _oriented(rois, name)[1]
    if series.timestamps is None:
        rate = np.nan if series.rate is None else float(series.rate)
        return regular_frames(count, rate, float(series.starting_time or 0.0), name=label)
    with reading(label, "series of ROI responses", "correct its timestamps"):
        times = np.asarray(read_whole(series.timestamps, f"{label}/timestamps"))
    if len(times) != count:
        raise InputError(f"{label}: {len(times):,} timestamps for {count:,} frames: correct the file")
    return timed_frames(times, label)


def _check_together(first: Frames, other: Frames, path: str, other_path: str, name: str) -> None:
    """Raise InputError if two planes were not recorded at the same time, within a frame."""
    count = min(len(first), len(other))
    delay = np.abs(first.begin[:count] - other.begin[:count])
    if (delay >= (first.end - first.begin)[:count]).any() or (first.border[:count] != other.border[:count]).any():
        raise InputError(
            f"{name}: {path} and {other_path} were not recorded in the same frames: give one of them, series="
        )


def _oriented(rois: Rois, name: str) -> tuple[bool, int]:
    """Whether the rows of the series are frames, as NWB requires, and its number of frames."""
    shape, n = np.shape(rois.series.data), len(rois.rows)
    if len(shape) == 1 and n == 1:
        return True, shape[0]
    if len(shape) == 2 and shape[1] == n:
        return True, shape[0]
    if len(shape) == 2 and shape[0] == n:  # transposed, as some programs write it
        return False, shape[1]
    raise InputError(f"{name}: {rois.path} has data of shape {shape} for {n} ROIs: correct the file")


def _read_values(rois: Rois, mask: np.ndarray, out: np.ndarray, name: str) -> None:
    """Read the values of the ROIs in `mask` into `out`, float32, shape (mask.sum(), n_frames)."""
    series, label, upright = rois.series, f"{name}: {rois.path}", _oriented(rois, name)[0]
    data = series.data if hasattr(series.data, "shape") else np.asarray(series.data)
    shape, row = (out.shape[1], len(mask)), np.cumsum(mask) - 1
    with reading(label, "series of ROI responses", "correct its data"), np.errstate(over="ignore", invalid="ignore"):
        for tile in _tiles(shape if upright else shape[::-1], getattr(data, "chunks", None)):
            part = np.asarray(data[tile[: len(data.shape)]])
            if part.dtype.kind not in "biuf":
                raise ValueError(f"{part.dtype} in place of numbers")
            part = part.reshape([length.stop - length.start for length in tile])
            part, (frames, columns) = (part.T, tile) if upright else (part, tile[::-1])
            out[row[columns][mask[columns]], frames] = part[mask[columns]]
        if series.conversion != 1.0 or series.offset:
            out *= np.float32(series.conversion)
            out += np.float32(series.offset or 0.0)


def _tiles(shape: tuple[int, int], chunks: tuple[int, ...] | None) -> Iterator[tuple[slice, slice]]:
    """Tiles of about `_BLOCK` values that cover a dataset; each chunk lies in one tile."""
    tall, wide = (*(chunks or (1,)), 1)[:2]
    wide = max(_BLOCK // max(tall * wide, 1), 1) * wide
    tall = max(_BLOCK // max(tall * min(wide, shape[1]), 1), 1) * tall
    for low in range(0, shape[0], tall):
        for left in range(0, shape[1], wide):
            yield slice(low, min(low + tall, shape[0])), slice(left, min(left + wide, shape[1]))


def _common_kind(rois: list[Rois], name: str) -> str:
    """Kind of values of all series; InputError if the kinds differ."""
    kinds = {_kind(plane, name) for plane in rois}
    if len(kinds) > 1:
        raise InputError(
            f"{name}: {common_path(rois)} holds raw fluorescence and dF/F: give one of them, series= (--series)"
        )
    return kinds.pop()


def _kind(rois: Rois, name: str) -> str:
    """Kind of values: dF/F if the container, name or unit indicates it, else raw fluorescence."""
    parent, unit = rois.series.parent, str(rois.series.unit or "")
    texts = [_CAPITAL.sub(" ", text) for text in (rois.path, unit)]
    if isinstance(parent, DfOverF) or any(_DELTA.search(text) for text in texts):
        return "dff"
    if _RELATIVE.search(unit) or _Z_SCORE.search(rois.path):
        raise InputError(
            f"{name}: {rois.path} has the unit {unit!r}: say what its values are: traces= (--traces) fluorescence, dff "
            "or preprocessed"
        )
    return "fluorescence"


def _bad_frames(rois: Rois, name: str) -> np.ndarray:
    """Mask of the frames whose control label marks them as bad."""
    series, count = rois.series, _oriented(rois, name)[1]
    bad = np.zeros(count, dtype=bool)
    if series.control is None:
        return bad
    with reading(f"{name}: {rois.path}", "series of ROI responses", "correct its control"):
        labels = np.asarray(read_whole(series.control, f"{name}: {rois.path}/control")).astype(np.int64)[:count]
        meanings = [] if series.control_description is None else [str(text) for text in series.control_description[:]]
    if not meanings:
        warnings.warn(
            f"{name}: {rois.path} labels its frames (control) without control_description: all frames are "
            "read; give observed= to exclude some",
            RecordingWarning,
            stacklevel=6,
        )
        return bad
    bad_labels = [k for k, text in enumerate(meanings) if _BAD_FRAME.search(text) and not _GOOD_FRAME.search(text)]
    bad[: len(labels)] = np.isin(labels, bad_labels)
    if bad.any():
        listed = ", ".join(repr(meanings[k]) for k in bad_labels)
        warnings.warn(
            f"{name}: {bad.sum():,} of {count:,} frames of {rois.path} are labelled {listed} (control) and excluded",
            RecordingWarning,
            stacklevel=6,
        )
    return bad


def _accepted(rois: Rois, name: str) -> np.ndarray:
    """Mask of the ROIs that curation has not rejected: bool, shape (n_rois,)."""
    columns = {}
    for column in filter(is_curation, rois.table.colnames):
        ragged = hasattr(rois.table[column], "target")
        columns[column] = None if ragged else _column(rois.table, column, name)[rois.rows]
    return kept_rois(columns, len(rois.rows), f"{name}: {rois.table.name}")


def _column(table, column: str, name: str) -> np.ndarray:
    """A column of the table; InputError unless it has one entry per row."""
    label = f"{name}: {table.name}/{column}"
    check_stored(table[column].data, label)
    values = np.asarray(table[column][:])
    if len(values) != len(table):
        raise InputError(f"{label} has {len(values)} entries for {len(table)} ROIs: correct the table")
    return values


def _properties(rois: list[Rois], masks: list[np.ndarray], name: str) -> dict[str, np.ndarray]:
    """Columns with one value per ROI that all tables share, and the name of each ROI's plane."""
    tables = []
    for plane_rois, mask in zip(rois, masks, strict=True):
        columns = {
            column: _column(plane_rois.table, column, name)
            for column in plane_rois.table.colnames
            if "mask" not in column and _is_single(plane_rois.table[column])
        }
        # Planes that share a table are named by their series.
        several = sum(other.table is plane_rois.table for other in rois) > 1
        plane = np.full(len(plane_rois.table), plane_rois.series.name if several else plane_rois.table.name)
        plain = {"plane": plane} | plain_columns(columns, f"{name}: {plane_rois.table.name}")
        tables.append({column: values[plane_rois.rows][mask] for column, values in plain.items()})
    shared = [column for column in tables[0] if all(column in table for table in tables)]
    return {column: np.concatenate([table[column] for table in tables]) for column in shared}


def _is_single(column) -> bool:
    """Whether a column has one value per row: no lists, rows of other tables, or images."""
    shape = getattr(column.data, "shape", ())
    return not hasattr(column, "target") and not hasattr(column, "table") and math.prod(shape[1:]) <= 1
