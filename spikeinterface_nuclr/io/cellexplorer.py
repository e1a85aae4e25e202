"""CellExplorer's files of one session -> Population.

SpikeInterface's reader rounds times to samples and drops cell types and regions, so the files are read directly, with
the library that it uses.
"""

from pathlib import Path

import numpy as np

from ..errors import InputError, reading
from ..population import Population
from .assembly import assemble
from .columns import plain_columns
from .probes import choose_group

SPIKES, METRICS = ".spikes.cellinfo.mat", ".cell_metrics.cellinfo.mat"
# CellExplorer's names of what is known under others here.
_NAMES = {"putativeCellType": "cell_type", "brainRegion": "brain_area", "shankID": "shank"}
# Waveforms and the like, which are large and are not read.
_LARGE = (
    *("maxWaveformCh", "maxWaveformCh1", "peakVoltage", "peakVoltage_sorted", "peakVoltage_expFitLengthConstant"),
    *("amplitudes", "filtWaveform", "filtWaveform_std", "rawWaveform", "rawWaveform_std", "timeWaveform"),
    *("maxWaveform_all", "rawWaveform_all", "filtWaveform_all", "timeWaveform_all", "channels_all", "waveforms"),
    *("acg", "isi", "spikes", "general", "responseCurves", "firingRateMaps", "events", "manipulations", "ts", "ids"),
)


def cellexplorer_file(path: Path) -> Path | None:
    """The spikes of a session, at this path or as the only ones in this folder; None if there are none."""
    if path.is_file():
        return path if path.name.endswith(SPIKES) else None
    files = sorted(path.glob(f"*{SPIKES}")) if path.is_dir() else []
    return files[0] if len(files) == 1 else None


def read_cellexplorer(path: Path, *, group_by, observed) -> Population:
    """The Population of ``<session>.spikes.cellinfo.mat``, and of ``<session>.cell_metrics.cellinfo.mat`` beside it.

    Parameters
    ----------
    path : Path
    group_by : str or None
        As in `read_population`; "shank" makes a population of each shank.
    observed : array, shape (k, 2), optional
    """
    name = str(path)
    spikes = _struct(path, "spikes")
    for needed in ("UID", "times"):
        if needed not in spikes:
            raise InputError(f"{name}: its spikes have no field {needed}: process the session again")
    ids = _list(spikes["UID"])
    trains = _trains(spikes["times"], len(ids), name)
    session = path.name.removesuffix(SPIKES)
    properties = _per_unit(spikes, len(ids), ("shankID", "cluID", "region"), name)
    metrics = path.with_name(f"{session}{METRICS}")
    if metrics.is_file():
        properties |= _metrics(metrics, ids)
    ids = [_whole(uid) for uid in ids]
    return assemble(
        name, ids, trains, observed=observed, group=choose_group(name, properties, group_by), properties=properties,
        metadata={"source": name, "session": session},
    )  # fmt: skip


def _struct(path: Path, name: str) -> dict:
    """A struct of MATLAB in a file, of any version."""
    try:
        from pymatreader import read_mat
    except ImportError:
        raise InputError(
            f'{path}: needs pymatreader, as in SpikeInterface: pip install "spikeinterface-nuclr[cellexplorer]"'
        ) from None
    with reading(path, "file of CellExplorer", "process the session again"):
        content = read_mat(path, ignore_fields=sorted({*_LARGE} - {name})).get(name)
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no {name}: not a file of CellExplorer, or of another kind")
    return content


def _trains(times, count: int, name: str) -> list[np.ndarray]:
    """Spike times in seconds of each unit."""
    # The cell of a session with one unit is read as its train, a train of one spike as a number.
    cells = [times] if count == 1 and not isinstance(times, list) else _list(times)
    if len(cells) != count:
        raise InputError(f"{name}: {len(cells)} trains for {count} units: process the session again")
    try:
        return [np.sort(np.asarray(cell, dtype=np.float64).ravel()) for cell in cells]
    except (TypeError, ValueError):
        raise InputError(f"{name}: its times are not numbers: process the session again") from None


def _metrics(path: Path, ids: list) -> dict[str, np.ndarray]:
    """What is known of these units, in their order."""
    table = _struct(path, "cell_metrics")
    known = [_whole(uid) for uid in _list(table.get("UID", ids))]
    properties = _per_unit(table, len(known), table, str(path))
    row = {uid: k for k, uid in enumerate(known)}
    missing = [uid for uid in map(_whole, ids) if uid not in row]
    if missing:
        raise InputError(f"{path}: has no unit {missing[0]}, which the spikes have: process the session again")
    rows = [row[uid] for uid in map(_whole, ids)]
    return {name: values[rows] for name, values in properties.items() if name not in ("UID", "sessionName", "animal")}


def _per_unit(struct: dict, count: int, names, file: str) -> dict[str, np.ndarray]:
    """The fields with one number or text for each unit, by the names that they have here."""
    columns = {}
    for name in names:
        values = struct.get(name)
        if isinstance(values, dict) or values is None:
            continue
        values = ["" if np.size(value) == 0 else value for value in _list(values)]
        if len(values) == count and all(isinstance(v, str | int | float | np.number | bool) for v in values):
            numbers = all(not isinstance(value, str) or value == "" for value in values)
            columns[_NAMES.get(name, name)] = np.array(
                [np.nan if v == "" else v for v in values] if numbers else values
            )
    return plain_columns(columns, file)


def _list(values) -> list:
    if isinstance(values, list):
        return values
    return [values] if isinstance(values, str) or np.ndim(values) == 0 else list(values)


def _whole(value):
    """A whole number as int, anything else as text."""
    return int(value) if isinstance(value, int | float | np.number) and float(value).is_integer() else str(value)
