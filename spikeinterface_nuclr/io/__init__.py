"""read_population: sorted units or calcium traces, from any accepted source -> Population."""

import warnings
from pathlib import Path

import numpy as np

from ..errors import InputError, RecordingWarning, reading
from ..intervals import checked_intervals
from ..population import Population
from .alf import read_alf
from .calcium import assemble_traces, regular_frames
from .cellexplorer import cellexplorer_file, read_cellexplorer
from .folders import recording_in
from .npy import load_numbers
from .phy import read_phy
from .suite2p import read_suite2p
from .where import select_time, select_units, select_where, selects

ACCEPTED = (
    "a SortingAnalyzer or BaseSorting (object or folder), an NWB file with a units table or ROI responses, a phy, "
    "Kilosort, suite2p or ALF folder, CellExplorer's .spikes.cellinfo.mat, a brainsets file (.h5), a file of spike "
    "trains that neo reads, neo SpikeTrains, or an array of traces (object or .npy)"
)
_DEFAULTS = {"sampling_frequency": None, "keep_rejected": False, "series": None, "traces": "auto"}


def read_population(
    source,
    *,
    group_by: str | None = "group",
    observed=None,
    sampling_frequency: float | None = None,
    keep_rejected: bool = False,
    series: str | None = None,
    traces: str = "auto",
    where: str | None = None,
    units=None,
    within=None,
) -> Population:
    """Read the neurons of a recording from a SpikeInterface object, an NWB file, a folder or an array.

    Parameters
    ----------
    source : object or path
        A SpikeInterface SortingAnalyzer or sorting, or the folder of one; an NWBFile, or a path to one (HDF5, or Zarr
        with the ``zarr`` extra), with a units table or ROI responses; a phy, Kilosort or suite2p folder; a folder of
        the International Brain Laboratory's ALF files, of a probe or a session; CellExplorer's
        ``<session>.spikes.cellinfo.mat``, or its folder; a session of brainsets, such as those of BrainWideBench
        (HDF5); a file of spike trains of another format that neo reads, such as NEV, NEX, Plexon (PLX) or NIX; a neo
        Block, Segment or list of SpikeTrains; an array of traces (n_units, n_frames), or a ``.npy`` file of one; or a
        Population.
    group_by : str or None, default: "group"
        Unit property that names each unit's probe. Without a property "group", the probes that the source defines are
        used: the group of the main channel in a SpikeInterface object, the electrode group in an NWB file. None makes
        one population of all units. Imaged neurons form one population; "plane" makes one of each plane.
    observed : array-like, shape (k, 2), optional
        Intervals in seconds in which activity was recorded. They replace those that the source states; for traces, they
        are intersected with these.
    sampling_frequency : float, optional
        Samples per second, for a phy folder without ``params.py``; frames per second, for arrays and for a suite2p
        folder without ``ops.npy``.
    keep_rejected : bool, default: False
        Keep units rejected in curation: phy's and ALF's clusters called "noise", and ROIs rejected by suite2p's
        ``iscell.npy`` or by a column such as ``is_accepted``, ``rejected`` or ``iscell`` of an NWB file's ROI table.
    series : str, optional
        The ROI responses of an NWB file to read: the name of a RoiResponseSeries or of its container, such as
        "DfOverF", with as much of the preceding path as identifies it. Required if the file has several, or also has
        units. Series of one container with different ROIs are read together.
    traces : {"auto", "fluorescence", "dff", "preprocessed"}
        Kind of values of the ROI responses or the array: raw fluorescence, which is converted to dF/F by `delta_f`;
        dF/F; or "preprocessed", which is passed to the model unchanged. All but "preprocessed" are divided by their
        99th percentile.
        "auto" reads ROI responses of an NWB file as dF/F if their container, name or unit indicates it, else as raw
        fluorescence (1 is subtracted if the unit is a ratio such as F/F0); it is not accepted for arrays, nor for
        units such as percent.
    where : str, optional
        Condition that units must satisfy, by their properties: comparisons with numbers or text, joined by ``and``,
        ``or``, ``not``, such as ``"label == 1 and qc_neural != 'FAIL'"``. The other units are not part of the
        population, also not as context of these.
    units : array-like, optional
        Ids of the units to read, in this order. As with `where`, the others are not part of the population.
    within : array-like, shape (k, 2), optional
        Intervals in seconds: only these parts of what was recorded are read.

    Returns
    -------
    Population
        The units' columns (brain area, location, quality, …) are its `properties`. Spikes outside observed time are
        excluded, with a warning unless they lie in an NWB file's ``invalid_times``. Units of an analyzer are observed
        in their ``valid_unit_periods``, if these are computed. Frames are not observed if they are
        missing between timestamps, in ``invalid_times``, NaN, in suite2p's ``badframes``, or labelled as bad in a
        series' ``control``. Traces whose frame rate changes are interpolated to the fastest rate, with a warning.

    Raises
    ------
    InputError
        The source cannot be read. The message, one line, names the source, the problem and what is accepted.

    Examples
    --------
    >>> import numpy as np
    >>> import spikeinterface.core as si
    >>> from spikeinterface_nuclr import read_population
    >>> trains = {"a": np.array([300, 90000]), "b": np.array([1500])}  # in samples
    >>> sorting = si.NumpySorting.from_unit_dict([trains], sampling_frequency=30_000.0)
    >>> read_population(sorting, observed=[[0.0, 10.0]]).spike_times[0].tolist()
    [0.01, 3.0]
    """
    selection = {"where": where, "units": units, "within": within}
    if selects(selection):
        options = {"group_by": group_by, "observed": observed, "sampling_frequency": sampling_frequency}
        options |= {"keep_rejected": keep_rejected, "series": series, "traces": traces}
        name = str(source) if isinstance(source, str | Path) else "the recording"
        population = read_population(source, **options)
        population = population if where is None else select_where(population, where, name)
        population = population if units is None else select_units(population, units, name)
        return population if within is None else select_time(population, within, name)
    if isinstance(source, Population):
        return source
    source = Path(source) if isinstance(source, str) else source
    read, accepted = _reader(source)
    options = {
        "sampling_frequency": sampling_frequency, "keep_rejected": keep_rejected, "series": series, "traces": traces,
    }  # fmt: skip
    for option, value in options.items():
        if option not in accepted and value != _DEFAULTS[option]:
            name = source if isinstance(source, Path) else type(source).__name__
            raise InputError(f"{name}: {option} does not apply to this kind of source: leave it out")
    observed = None if observed is None else checked_intervals(observed, "observed")
    return read(source, group_by=group_by, observed=observed, **{option: options[option] for option in accepted})


def _reader(source):
    """The function that reads the source, and the options that it accepts besides `group_by` and `observed`."""
    if type(source) in (np.ndarray, np.memmap, np.ma.MaskedArray):  # not subclasses, such as neo's, which carry more
        return _read_array, ("sampling_frequency", "traces")
    if isinstance(source, Path):
        return _reader_of_folder(source) if source.is_dir() else _reader_of_file(source)
    return _reader_of_object(source)


def _reader_of_object(source):
    from .neo import is_neo, read_neo

    if is_neo(source):
        return read_neo, ()
    if type(source).__module__.partition(".")[0] == "pynwb":
        from pynwb import NWBFile

        from .nwb.population import read_nwbfile

        if isinstance(source, NWBFile):
            return read_nwbfile, ("series", "traces", "keep_rejected")
    return _read_spikeinterface, ()


def _read_spikeinterface(source, **options) -> Population:
    from .spikeinterface import read_spikeinterface

    population = read_spikeinterface(source, **options)
    if population is not None:
        return population
    raise InputError(f"source is a {type(source).__module__}.{type(source).__qualname__}; accepted is {ACCEPTED}")


def _reader_of_file(path: Path):
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder")
    if path.suffix == ".npy":
        return _read_npy, ("sampling_frequency", "traces")
    if path.suffix != ".nwb" and _is_brainsets(path):
        from .brainsets import read_brainsets

        return read_brainsets, ()
    if cellexplorer_file(path) is not None:
        return read_cellexplorer, ()
    if path.suffix == ".nwb" or (_is_hdf5(path) and path.suffix != ".nix"):
        from .nwb.population import read_nwb_path

        return read_nwb_path, ("series", "traces", "keep_rejected")
    from .neo_files import neo_readers, read_neo_file

    if neo_readers(path):
        return read_neo_file, ()
    raise InputError(f"{path}: not an NWB file (a file of kind {path.suffix or 'unknown'!r}); accepted is {ACCEPTED}")


def _reader_of_folder(path: Path):
    from .nwb.population import read_nwb_path

    kind, place = recording_in(path)
    read, accepted = {
        "phy": (read_phy, ("sampling_frequency", "keep_rejected")),
        "suite2p": (read_suite2p, ("sampling_frequency", "keep_rejected")),
        "nwb": (read_nwb_path, ("series", "traces", "keep_rejected")),
        "cellexplorer": (read_cellexplorer, ()),
        "alf": (read_alf, ("keep_rejected",)),
    }.get(kind, (_read_sorting_folder, ()))
    return lambda _, **options: read(place, **options), accepted


def _read_sorting_folder(path: Path, **options) -> Population:
    from .spikeinterface import load_spikeinterface, read_spikeinterface

    loaded = load_spikeinterface(path)
    if loaded is not None:
        with reading(path, "SpikeInterface folder"):  # some members are read only now
            return read_spikeinterface(loaded, name=str(path), **options)
    members = sorted(p.name for p in path.iterdir())
    listed = ", ".join(members[:4]) + (", …" if len(members) > 4 else "")
    raise InputError(f"{path}: a folder of no known kind ({listed or 'empty'}); accepted is {ACCEPTED}")


def _read_npy(path: Path, **options) -> Population:
    return _read_array(load_numbers(path, 2), name=str(path), **options)


def _read_array(
    source: np.ndarray, *, name: str = "array", group_by, observed, sampling_frequency: float | None, traces: str
) -> Population:
    """Traces of neurons 0, 1, …, one per row."""
    if source.ndim != 2 or source.dtype.kind not in "biuf" or not source.size:
        raise InputError(
            f"{name}: not an array of traces (n_units, n_frames), but of shape {source.shape}; accepted is {ACCEPTED}"
        )
    if not isinstance(sampling_frequency, int | float | np.number):
        raise InputError(f"{name}: give its frames per second: sampling_frequency= (--sampling-frequency)")
    if traces == "auto":
        raise InputError(f"{name}: say what its values are: traces= (--traces) fluorescence, dff or preprocessed")
    if len(source) > source.shape[1]:
        warnings.warn(
            f"{name}: {len(source):,} neurons of {source.shape[1]:,} frames: is it transposed?",
            RecordingWarning,
            stacklevel=3,
        )
    if isinstance(source, np.ma.MaskedArray):
        source = source.astype(np.float32).filled(np.nan)
    frames = regular_frames(source.shape[1], float(sampling_frequency), name=name)
    metadata, ids = {"source": name, "traces": traces}, np.arange(len(source))
    return assemble_traces(name, ids, source, frames, kind=traces, observed=observed, metadata=metadata)


def _is_hdf5(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(8) == b"\x89HDF\r\n\x1a\n"


def _is_brainsets(path: Path) -> bool:
    if not _is_hdf5(path):
        return False
    from .brainsets import is_brainsets_file

    return is_brainsets_file(path)


def kind_of(path) -> str:
    """Kind of the file or folder at `path`: "nwb", "analyzer" or "other"; reads no more than is needed to decide."""
    from .nwb.file import is_zarr_nwb
    from .spikeinterface import is_analyzer

    path = Path(path)
    if path.is_dir():
        return "nwb" if is_zarr_nwb(path) else "analyzer" if is_analyzer(path) else "other"
    is_nwb = path.is_file() and (path.suffix == ".nwb" or (_is_hdf5(path) and not _is_brainsets(path)))
    return "nwb" if is_nwb else "other"
