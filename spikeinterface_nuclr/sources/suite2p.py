"""A suite2p folder -> Population. What its ops.npy pickles is read without running anything of it."""

import pickle
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..population import Population
from .assembly import choose_group
from .npy import load_numbers
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

    Fluorescence less the neuropil's, as much of it as ``ops.npy`` says (``neucoeff``, else 0.7), becomes dF/F. Frames
    in its ``badframes`` are no data. ROIs are named by their number, with the plane before it where there are several.

    Parameters
    ----------
    path : Path
    group_by : str or None
        "plane" makes each plane a population of its own.
    observed : array, shape (k, 2), optional
    sampling_frequency : float, optional
        Frames per second, where ``ops.npy`` does not say.
    keep_rejected : bool
        Keep ROIs that ``iscell.npy`` calls no cells.
    """
    name, planes = str(path), _planes(path)
    ids, values, bad, properties, rates = [], [], [], {"plane": [], "cell_probability": []}, set()
    for plane in planes:
        ops = _read_ops(plane / "ops.npy")
        rates.add(float(sampling_frequency or ops.get("fs") or 0.0))
        fluorescence = load_numbers(plane / "F.npy", 2).astype(np.float32)
        if (plane / "Fneu.npy").is_file():
            neuropil = _as_long(plane / "Fneu.npy", fluorescence)
            fluorescence -= np.float32(ops.get("neucoeff", _NEUROPIL)) * neuropil
        cells, probability = _cells(plane / "iscell.npy", len(fluorescence))
        kept = np.flatnonzero(cells | keep_rejected)
        values.append(fluorescence[kept])
        ids.append(kept if len(planes) == 1 else np.array([f"{plane.name}/{roi}" for roi in kept], dtype=str))
        properties["plane"].append(np.full(len(kept), plane.name))
        properties["cell_probability"].append(probability[kept])
        bad.append(np.ravel(ops.get("badframes", [])).astype(bool))
    if not sum(map(len, ids)):
        raise InputError(f"{name}: no ROI is a cell: give keep_rejected=True (--keep-rejected) to keep them")
    if len(rates) > 1 or not min(rates) > 0:
        raise InputError(f"{name}: its ops.npy gives no one frame rate (fs): give sampling_frequency= in frames per s")
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
        metadata={"source": name},
    )


def _as_long(path: Path, other: np.ndarray) -> np.ndarray:
    values = load_numbers(path, 2)
    if values.shape != other.shape:
        raise InputError(f"{path}: has shape {values.shape}, F.npy beside it {other.shape}: run suite2p again")
    return values.astype(np.float32)


def _cells(path: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Which ROIs are cells, and how probably: bool and float, shape (n_rois,)."""
    if not path.is_file():
        return np.ones(count, dtype=bool), np.full(count, np.nan)
    values = load_numbers(path, 2)
    if len(values) != count or values.shape[1] < 1:
        raise InputError(f"{path}: has {len(values)} rows for {count} ROIs in F.npy: run suite2p again")
    return values[:, 0] > 0, values[:, -1].astype(np.float64)


def _read_ops(path: Path) -> dict:
    """The settings in ops.npy: plain values and arrays; whatever else it pickles is left out."""
    if not path.is_file():
        return {}
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            read(file)
            content = _PlainUnpickler(file).load()
        return dict(np.asarray(content, dtype=object).item())
    except Exception as error:  # a damaged pickle raises what it pleases
        raise InputError(f"{path}: not a readable ops.npy ({type(error).__name__}): run suite2p again") from None


class _Inert:
    """Stands in for every class that is not of numpy's arrays: takes whatever it is given, does nothing."""

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass


class _PlainUnpickler(pickle.Unpickler):
    """Builds numbers, texts, containers and numpy's arrays; calls nothing that the file names beside these."""

    def find_class(self, module, name):
        if module.replace("numpy._core", "numpy.core") in ("numpy", "numpy.core.multiarray"):
            allowed = {"ndarray": np.ndarray, "dtype": np.dtype}
            if name in ("_reconstruct", "scalar"):
                return getattr(np.core.multiarray if not hasattr(np, "_core") else np._core.multiarray, name)
            if name in allowed:
                return allowed[name]
        return _Inert
