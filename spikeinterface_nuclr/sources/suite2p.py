"""A suite2p folder -> Population."""

from pathlib import Path

import numpy as np

from ..errors import InputError
from ..population import Population
from .assembly import choose_group
from .npy import load_numbers, read_settings
from .optical import assemble_traces, regular_frames

_NEUROPIL = 0.7  # suite2p's own share of the neuropil, where ops.npy does not say


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

    Fluorescence less the neuropil's, as much of it as the settings say (``neucoeff``, else 0.7), becomes dF/F. Frames
    in ``badframes`` are no data. ROIs are named by their number, with the plane before it where there are several.

    Parameters
    ----------
    path : Path
    group_by : str or None
        "plane" makes each plane a population of its own.
    observed : array, shape (k, 2), optional
    sampling_frequency : float, optional
        Frames per second, where the settings do not say.
    keep_rejected : bool
        Keep ROIs that ``iscell.npy`` calls no cells.
    """
    name, planes = str(path), _planes(path)
    ids, values, bad, properties, rates = [], [], [], {"plane": [], "cell_probability": []}, set()
    for plane in planes:
        ops = _settings(plane)
        rates.add(_rate(sampling_frequency or ops.get("fs") or 0.0))
        fluorescence = load_numbers(plane / "F.npy", 2, mapped=True)
        cells, probability = _cells(plane / "iscell.npy", len(fluorescence))
        kept = np.flatnonzero(cells | keep_rejected)
        active = fluorescence[kept].astype(np.float32)
        if (plane / "Fneu.npy").is_file():
            neuropil = _as_long(plane / "Fneu.npy", fluorescence)[kept]
            active -= np.float32(_neuropil_share(ops)) * neuropil.astype(np.float32)
        values.append(active)
        ids.append(kept if len(planes) == 1 else np.array([f"{plane.name}/{roi}" for roi in kept], dtype=str))
        properties["plane"].append(np.full(len(kept), plane.name))
        properties["cell_probability"].append(probability[kept])
        bad.append(np.ravel(ops.get("badframes", [])).astype(bool))
    if not sum(map(len, ids)):
        raise InputError(f"{name}: no ROI is a cell: give keep_rejected=True (--keep-rejected) to keep them")
    if len(rates) > 1 or not min(rates) > 0:
        raise InputError(
            f"{name}: its ops.npy gives no one frame rate (fs): give it, sampling_frequency= (--sampling-frequency)"
        )
    # The last volume may lack its last planes.
    count = min(plane.shape[1] for plane in values)
    left_out = np.zeros(count, dtype=bool)
    for frames in bad:
        left_out[: len(frames)] |= frames[:count]
    properties = {column: np.concatenate(parts) for column, parts in properties.items()}
    return assemble_traces(
        name,
        np.concatenate(ids),
        np.concatenate([plane[:, :count] for plane in values]),
        regular_frames(count, rates.pop()),
        kind="fluorescence",
        observed=observed,
        left_out=left_out,
        group=choose_group(name, properties, group_by),
        properties=properties,
        metadata={"source": name, "traces": "fluorescence", "keep_rejected": keep_rejected},
    )


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
    """What suite2p was told, and what it found of the frames: in one file before version 1, in several since."""
    found = {}
    for name in ("settings.npy", "reg_outputs.npy", "ops.npy"):
        if (plane / name).is_file():
            found |= read_settings(plane / name)
    return found


def _rate(value) -> float:
    """Frames per second; 0 where the value is no such number."""
    return float(value) if isinstance(value, int | float | np.number) and np.isfinite(value) else 0.0


def _neuropil_share(ops: dict) -> float:
    extraction = ops.get("extraction")
    nested = extraction.get("neuropil_coefficient") if isinstance(extraction, dict) else None
    return float(ops.get("neucoeff", _NEUROPIL if nested is None else nested))
