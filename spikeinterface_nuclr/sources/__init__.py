"""read_population: whatever holds sorted units -> Population."""

from pathlib import Path

from ..errors import InputError
from ..population import Population, checked_intervals
from .phy import is_phy_folder, read_phy

ACCEPTED = (
    "a SortingAnalyzer or BaseSorting (object or folder), an NWB file with a units table, a phy or Kilosort folder, "
    "or neo SpikeTrains"
)


def read_population(
    source,
    *,
    group_by: str | None = "group",
    observed=None,
    sampling_frequency: float | None = None,
    keep_noise: bool = False,
) -> Population:
    """Read the neurons of a recording, from whatever holds them.

    Parameters
    ----------
    source : object or path
        A SpikeInterface SortingAnalyzer or sorting, or the folder of one; an NWBFile, or a path to one (HDF5, or Zarr
        with the ``zarr`` extra); a phy or Kilosort folder; a neo Block, Segment or list of SpikeTrains; or a
        Population, which is returned as it is.
    group_by : str or None, default: "group"
        Unit property that names each unit's probe. Where there is none called "group", the source's own probes are
        used: the main channel's group of a SpikeInterface object, the electrode group of an NWB unit. None makes one
        population of all units.
    observed : array-like, shape (k, 2), optional
        Intervals in seconds in which spikes were recorded, in place of what the source says.
    sampling_frequency : float, optional
        Samples per second, for a phy folder without ``params.py``.
    keep_noise : bool, default: False
        Keep phy's clusters of group "noise".

    Returns
    -------
    Population
        With the units' columns (brain area, location, quality, …) in `properties`. Spikes outside observed time are
        left out, with a warning; those in an NWB file's ``invalid_times`` without.

    Raises
    ------
    InputError
        A ValueError of one line that names the source and says what was found and what is accepted.
    """
    if isinstance(source, Population):
        return source
    options = {"group_by": group_by, "observed": None if observed is None else checked_intervals(observed, "observed")}
    phy_options = {"sampling_frequency": sampling_frequency, "keep_noise": keep_noise}
    if isinstance(source, str | Path):
        folder = _phy_folder(Path(source))
        if folder is not None:
            return read_phy(folder, **options, **phy_options)
    if sampling_frequency is not None or keep_noise:
        raise InputError("sampling_frequency and keep_noise are for phy folders: leave them out for other sources")
    if isinstance(source, str | Path):
        return _read_path(Path(source), options)
    return _read_object(source, options)


def _phy_folder(path: Path) -> Path | None:
    # SpikeInterface keeps what a sorter wrote in a folder called sorter_output.
    return next((folder for folder in (path, path / "sorter_output") if is_phy_folder(folder)), None)


def _read_object(source, options) -> Population:
    from .neo_trains import is_neo, read_neo

    package = type(source).__module__.partition(".")[0]
    if is_neo(source):
        return read_neo(source, **options)
    if package == "pynwb":
        from pynwb import NWBFile

        from .nwb_units import read_nwbfile

        if isinstance(source, NWBFile):
            return read_nwbfile(source, **options)
    from .sortings import read_spikeinterface

    found = read_spikeinterface(source, **options)
    if found is not None:
        return found
    raise InputError(f"source is a {type(source).__module__}.{type(source).__qualname__}; accepted is {ACCEPTED}")


def _read_path(path: Path, options) -> Population:
    if path.is_dir():
        return _read_folder(path, options)
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder")
    from .nwb_units import read_nwb_path

    if path.suffix == ".nwb" or _is_hdf5(path):
        return read_nwb_path(path, **options)
    raise InputError(f"{path}: not an NWB file (a file of kind {path.suffix or 'unknown'!r}); accepted is {ACCEPTED}")


def _read_folder(path: Path, options) -> Population:
    from .nwb_units import is_zarr_nwb, read_nwb_path
    from .sortings import load_spikeinterface, read_spikeinterface

    if is_zarr_nwb(path):
        return read_nwb_path(path, **options)
    found = load_spikeinterface(path)
    if found is not None:
        return read_spikeinterface(found, name=str(path), **options)
    inside = sorted(p.name for p in path.iterdir())
    listed = ", ".join(inside[:4]) + (", …" if len(inside) > 4 else "")
    raise InputError(f"{path}: a folder of no known kind ({listed or 'empty'}); accepted is {ACCEPTED}")


def _is_hdf5(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(8) == b"\x89HDF\r\n\x1a\n"


def kind_of(path) -> str:
    """What is at `path`: "nwb", "analyzer", or "other"; no more is looked at than tells these apart."""
    from .nwb_units import is_zarr_nwb
    from .sortings import is_analyzer

    path = Path(path)
    if path.is_dir():
        return "nwb" if is_zarr_nwb(path) else "analyzer" if is_analyzer(path) else "other"
    return "nwb" if path.is_file() and (path.suffix == ".nwb" or _is_hdf5(path)) else "other"
