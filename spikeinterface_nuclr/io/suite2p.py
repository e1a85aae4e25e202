"""A suite2p folder -> Population."""

import warnings
from pathlib import Path

import numpy as np

from ..errors import InputError, RecordingWarning
from ..population import Population
from .calcium import assemble_traces, regular_frames
from .npy import load_numbers, read_settings
from .probes import choose_group

_NEUROPIL = 0.7  # suite2p's default coefficient of the neuropil


def is_suite2p_folder(path: Path) -> bool:
    """Whether the folder is one of a plane, or contains planes."""
    return bool(_planes(path))


def _planes(path: Path) -> list[Path]:
    if (path / "F.npy").is_file():
        return [path]
    planes = [plane for plane in path.glob("plane[0-9]*") if (plane / "F.npy").is_file()]
    return sorted(planes, key=lambda plane: (len(plane.name), plane.name))


def read_suite2p(
    path: Path, *, group_by, observed, sampling_frequency: float | None = None, keep_rejected: bool = False
) -> Population:
    """The Population of a suite2p folder: one plane, or all planes in it joined.

    Fluorescence minus ``neucoeff`` (default: 0.7) times the neuropil fluorescence is converted to dF/F. Frames in
    ``badframes`` are excluded. Unit ids are the numbers of the ROIs, preceded by the plane if there are several.

    Parameters
    ----------
    path : Path
    group_by : str or None
        "plane" makes each plane a population of its own.
    observed : array, shape (k, 2), optional
    sampling_frequency : float, optional
        Frames per second, if the settings do not state them.
    keep_rejected : bool
        Keep ROIs that ``iscell.npy`` rejects.
    """
    name, planes = str(path), _planes(path)
    settings = [_settings(plane) for plane in planes]
    rates = {_number(sampling_frequency or ops.get("fs")) for ops in settings}
    if len(rates) > 1 or not min(rates) > 0:
        raise InputError(
            f"{name}: its ops.npy does not give one frame rate (fs): give sampling_frequency= (--sampling-frequency)"
        )
    fluorescence = [load_numbers(plane / "F.npy", 2, mapped=True) for plane in planes]
    cells = [_cells(plane / "iscell.npy", len(values)) for plane, values in zip(planes, fluorescence, strict=True)]
    selected = [np.flatnonzero(is_cell | keep_rejected) for is_cell, _ in cells]
    if not sum(map(len, selected)):
        raise InputError(
            f"{name}: no ROI is classified as a cell: give keep_rejected=True (--keep-rejected) to keep them"
        )
    # The last volume may lack its last planes.
    count = min(values.shape[1] for values in fluorescence)
    corrected = np.empty((sum(map(len, selected)), count), dtype=np.float32)
    excluded, row = np.zeros(count, dtype=bool), 0
    for plane, ops, values, rois in zip(planes, settings, fluorescence, selected, strict=True):
        _read_corrected(plane, ops, values, rois, corrected[row : row + len(rois)])
        row += len(rois)
        excluded |= _bad_frames(plane, ops, values.shape[1])[:count]
    several = len(planes) > 1
    ids = [
        np.array([f"{plane.name}/{roi}" for roi in rois], dtype=str) if several else rois
        for plane, rois in zip(planes, selected, strict=True)
    ]
    properties = {
        "plane": np.repeat([plane.name for plane in planes], [len(rois) for rois in selected]),
        "cell_probability": np.concatenate([values[rois] for (_, values), rois in zip(cells, selected, strict=True)]),
    }
    return assemble_traces(
        name,
        np.concatenate(ids),
        corrected,
        regular_frames(count, rates.pop(), name=name),
        kind="fluorescence",
        observed=observed,
        excluded=excluded,
        group=choose_group(name, properties, group_by),
        properties=properties,
        metadata={"source": name, "traces": "fluorescence", "keep_rejected": keep_rejected},
    )


def _read_corrected(plane: Path, ops: dict, fluorescence: np.ndarray, rois: np.ndarray, out: np.ndarray) -> None:
    """Neuropil-corrected fluorescence of these ROIs: float32 `out`, shape (n_rois, n_frames)."""
    neuropil = None
    if (plane / "Fneu.npy").is_file():
        neuropil = _load_with_shape(plane / "Fneu.npy", fluorescence.shape)
        coefficient = _neuropil_coefficient(plane, ops)
    for row, roi in zip(out, rois, strict=True):  # one by one: the files may be large
        row[:] = fluorescence[roi, : len(row)]
        if neuropil is not None:
            row -= coefficient * neuropil[roi, : len(row)].astype(np.float32)


def _bad_frames(plane: Path, ops: dict, count: int) -> np.ndarray:
    """Mask of the bad frames, stated in the settings as a truth value per frame or by number: bool, shape (count,)."""
    bad, entry = np.zeros(count, dtype=bool), ops.get("badframes")
    if entry is None:
        return bad
    if isinstance(entry, np.ndarray | list):
        values = np.ravel(entry)
        if values.dtype.kind in "biuf" and len(values) == count and np.isin(values, (0, 1)).all():
            return values.astype(bool)
        # Repeated numbers would be a mask of another length.
        distinct = values.dtype.kind in "iuf" and len(np.unique(values)) == len(values)
        if not len(values) or (distinct and np.isin(values, np.arange(count)).all()):
            bad[values.astype(np.int64)] = True
            return bad
    warnings.warn(
        f"{plane}: badframes in its settings are neither a truth value for each of {count:,} frames nor numbers of "
        "frames: all frames are read; give observed= to exclude some",
        RecordingWarning,
        stacklevel=5,
    )
    return bad


def _load_with_shape(path: Path, shape: tuple[int, int]) -> np.ndarray:
    values = load_numbers(path, 2, mapped=True)
    if values.shape != shape:
        raise InputError(f"{path}: has shape {values.shape}, F.npy beside it {shape}: run suite2p again")
    return values


def _cells(path: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Which ROIs are cells, and their probabilities: bool and float, shape (n_rois,)."""
    if not path.is_file():
        return np.ones(count, dtype=bool), np.full(count, np.nan)
    values = load_numbers(path, 2)
    if len(values) != count or values.shape[1] < 1:
        raise InputError(f"{path}: has {len(values)} rows for {count} ROIs in F.npy: run suite2p again")
    return values[:, 0] > 0, values[:, -1].astype(np.float64)


def _settings(plane: Path) -> dict:
    """suite2p's settings and its results per frame: in one file before version 1, in several since."""
    settings = {}
    for name in ("settings.npy", "reg_outputs.npy", "ops.npy"):
        if (plane / name).is_file():
            settings |= read_settings(plane / name)
    return settings


def _number(value) -> float:
    """The number in an entry of the settings; NaN for any other entry."""
    values = np.ravel(value) if isinstance(value, int | float | np.number | np.ndarray) else np.empty(0)
    return float(values[0]) if len(values) == 1 and np.isfinite(values[0]) else np.nan


def _neuropil_coefficient(plane: Path, ops: dict) -> np.float32:
    extraction = ops.get("extraction")
    nested = extraction.get("neuropil_coefficient") if isinstance(extraction, dict) else None
    coefficient = _number(ops.get("neucoeff", _NEUROPIL if nested is None else nested))
    if not np.isfinite(coefficient):
        raise InputError(f"{plane}: neucoeff in its settings is not a number: run suite2p again")
    return np.float32(coefficient)
