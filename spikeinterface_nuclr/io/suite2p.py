"""A suite2p folder -> Population."""

import warnings
from pathlib import Path

import numpy as np

from ..errors import InputError, RecordingWarning
from ..population import Population
from .calcium import assemble_traces, regular_frames
from .npy import load_numbers, read_settings
from .probes import choose_group

_NEUROPIL = 0.7  # suite2p's default share of the neuropil


def is_suite2p_folder(path: Path) -> bool:
    """Whether the folder is that of a plane, or of several."""
    return bool(_planes(path))


def _planes(path: Path) -> list[Path]:
    if (path / "F.npy").is_file():
        return [path]
    found = [plane for plane in path.glob("plane[0-9]*") if (plane / "F.npy").is_file()]
    return sorted(found, key=lambda plane: (len(plane.name), plane.name))


def read_suite2p(
    path: Path, *, group_by, observed, sampling_frequency: float | None = None, keep_rejected: bool = False
) -> Population:
    """The Population of a suite2p folder: of one plane's, or of one with planes in it, joined.

    Fluorescence minus ``neucoeff`` (default: 0.7) times the neuropil's is converted to dF/F. Frames in ``badframes``
    are left out. ROIs are named by their number, preceded by the plane where there are several.

    Parameters
    ----------
    path : Path
    group_by : str or None
        "plane" makes each plane a population of its own.
    observed : array, shape (k, 2), optional
    sampling_frequency : float, optional
        Frames per second, where the settings do not state them.
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
    kept = [np.flatnonzero(is_cell | keep_rejected) for is_cell, _ in cells]
    if not sum(map(len, kept)):
        raise InputError(
            f"{name}: no ROI is classified as a cell: give keep_rejected=True (--keep-rejected) to keep them"
        )
    # The last volume may lack its last planes.
    count = min(values.shape[1] for values in fluorescence)
    active = np.empty((sum(map(len, kept)), count), dtype=np.float32)
    excluded, row = np.zeros(count, dtype=bool), 0
    for plane, ops, values, rois in zip(planes, settings, fluorescence, kept, strict=True):
        _read_active(plane, ops, values, rois, active[row : row + len(rois)])
        row += len(rois)
        excluded |= _bad_frames(plane, ops, values.shape[1])[:count]
    several = len(planes) > 1
    ids = [
        np.array([f"{plane.name}/{roi}" for roi in rois], dtype=str) if several else rois
        for plane, rois in zip(planes, kept, strict=True)
    ]
    properties = {
        "plane": np.repeat([plane.name for plane in planes], [len(rois) for rois in kept]),
        "cell_probability": np.concatenate([found[rois] for (_, found), rois in zip(cells, kept, strict=True)]),
    }
    return assemble_traces(
        name,
        np.concatenate(ids),
        active,
        regular_frames(count, rates.pop(), name=name),
        kind="fluorescence",
        observed=observed,
        excluded=excluded,
        group=choose_group(name, properties, group_by),
        properties=properties,
        metadata={"source": name, "traces": "fluorescence", "keep_rejected": keep_rejected},
    )


def _read_active(plane: Path, ops: dict, fluorescence: np.ndarray, rois: np.ndarray, out: np.ndarray) -> None:
    """Neuropil-corrected fluorescence of these ROIs: float32 `out`, shape (n_rois, n_frames)."""
    neuropil = None
    if (plane / "Fneu.npy").is_file():
        neuropil, share = _as_long(plane / "Fneu.npy", fluorescence), _neuropil_share(plane, ops)
    for row, roi in zip(out, rois, strict=True):  # one after another: the files may be large
        row[:] = fluorescence[roi, : len(row)]
        if neuropil is not None:
            row -= share * neuropil[roi, : len(row)].astype(np.float32)


def _bad_frames(plane: Path, ops: dict, count: int) -> np.ndarray:
    """Bad frames of the settings, given as a truth value per frame or by number: bool, shape (count,)."""
    bad, found = np.zeros(count, dtype=bool), ops.get("badframes")
    if found is None:
        return bad
    if isinstance(found, np.ndarray | list):
        values = np.ravel(found)
        if values.dtype.kind in "biuf" and len(values) == count and np.isin(values, (0, 1)).all():
            return values.astype(bool)
        numbers = values.dtype.kind in "iuf" and len(np.unique(values)) == len(values)  # or a mask of another length
        if not len(values) or (numbers and np.isin(values, np.arange(count)).all()):
            bad[values.astype(np.int64)] = True
            return bad
    warnings.warn(
        f"{plane}: badframes in its settings are neither a truth value for each of {count:,} frames nor numbers of "
        "frames: all frames are read; give observed= to leave some out",
        RecordingWarning,
        stacklevel=5,
    )
    return bad


def _as_long(path: Path, other: np.ndarray) -> np.ndarray:
    values = load_numbers(path, 2, mapped=True)
    if values.shape != other.shape:
        raise InputError(f"{path}: has shape {values.shape}, F.npy beside it {other.shape}: run suite2p again")
    return values


def _cells(path: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Which ROIs are cells, and how probably: bool and float, shape (n_rois,)."""
    if not path.is_file():
        return np.ones(count, dtype=bool), np.full(count, np.nan)
    values = load_numbers(path, 2)
    if len(values) != count or values.shape[1] < 1:
        raise InputError(f"{path}: has {len(values)} rows for {count} ROIs in F.npy: run suite2p again")
    return values[:, 0] > 0, values[:, -1].astype(np.float64)


def _settings(plane: Path) -> dict:
    """suite2p's settings and what it found about the frames: one file before version 1, several since."""
    found = {}
    for name in ("settings.npy", "reg_outputs.npy", "ops.npy"):
        if (plane / name).is_file():
            found |= read_settings(plane / name)
    return found


def _number(value) -> float:
    """The number in an entry of the settings; NaN for anything else."""
    values = np.ravel(value) if isinstance(value, int | float | np.number | np.ndarray) else np.empty(0)
    return float(values[0]) if len(values) == 1 and np.isfinite(values[0]) else np.nan


def _neuropil_share(plane: Path, ops: dict) -> np.float32:
    extraction = ops.get("extraction")
    nested = extraction.get("neuropil_coefficient") if isinstance(extraction, dict) else None
    found = ops.get("neucoeff", _NEUROPIL if nested is None else nested)
    if not np.isfinite(_number(found)):
        raise InputError(f"{plane}: neucoeff in its settings is not a number: run suite2p again")
    return np.float32(_number(found))
