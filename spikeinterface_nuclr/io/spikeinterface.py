"""SpikeInterface's SortingAnalyzer and BaseSorting -> Population.

Times are on the clock of the recording if there is one, else of the sorting; both start at 0 unless stated otherwise.
Segments become separate observed intervals. Segments whose times overlap are placed one after the other, a second
apart.
"""

import os
import warnings
from pathlib import Path

import numpy as np
import spikeinterface.core as si

from ..errors import InputError, RecordingWarning, reading
from ..intervals import intersection, union
from ..population import Population
from .assembly import assemble
from .clocks import sample_times
from .columns import as_names, plain_columns
from .curated_labels import curated_labels
from .outliers import check_spread
from .probes import Probes, choose_group, most_common
from .spikeinterface_api import channel_property, load_analyzer, nwb_file_of, recording_of, registered_recording
from .untrusted import check_extension, check_sorting, check_zarr, read_json

_BETWEEN_SEGMENTS = 1.0  # seconds
_TOUCHING = 1e-3  # seconds by which successive segments may overlap because their times are rounded
_REMEDY = "set the sorting property 'group'"


def read_spikeinterface(source, *, name: str | None = None, group_by, observed) -> Population | None:
    """The Population of an analyzer or a sorting; None if the object is neither."""
    folder = getattr(source, "folder", None)
    name = name or (os.fspath(folder) if folder else type(source).__name__)
    if isinstance(source, si.SortingAnalyzer):
        return read_analyzer(source, name=name, group_by=group_by, observed=observed)
    if isinstance(source, si.BaseSorting):
        return read_sorting(source, name=name, group_by=group_by, observed=observed)
    return None


def read_analyzer(analyzer: si.SortingAnalyzer, *, name: str, group_by, observed) -> Population:
    """The Population of an analyzer. Its recording, if attached, provides the clock and the pauses.

    A unit is observed in its ``valid_unit_periods``, if they are computed.
    """
    recording = recording_of(analyzer)
    properties = _properties(analyzer.sorting, name)
    channel_groups = channel_property(analyzer, "group")
    groups = {} if channel_groups is None else _groups(analyzer.channel_ids, channel_groups)
    return assemble(
        name,
        np.asarray(analyzer.unit_ids),
        **_activity(
            analyzer.sorting, _clocks(name, analyzer.sorting, recording), _lengths(analyzer), valid_periods(analyzer)
        ),
        observed=observed,
        group=choose_group(name, properties, group_by, lambda: _probes(groups, lambda: _analyzer_channels(analyzer))),
        properties=_with_curated(properties, analyzer),
        metadata={"source": name, "segments": analyzer.get_num_segments()},
    )


def _with_curated(properties: dict, analyzer) -> dict:
    """Properties in which the labels that a person has entered take the place of others.

    A RecordingWarning says that they cannot be read: what needs no labels goes on.
    """
    result, curated = dict(properties), {}
    try:
        curated = curated_labels(analyzer)
    except InputError as error:
        warnings.warn(f"labels are not read: {error}", RecordingWarning, stacklevel=5)
    for name, labels in curated.items():
        known = properties.get(name)
        fits = known is not None and known.shape == labels.shape and known.dtype.kind == "U"
        result[name] = np.where(labels != "", labels, known) if fits else labels
    return result


def read_sorting(sorting: si.BaseSorting, *, name: str, group_by, observed) -> Population:
    """The Population of a sorting. Without a registered recording, segments end in the second of their last spike."""
    recording = registered_recording(sorting)
    groups = {}
    if recording is not None and "group" in recording.get_property_keys():
        groups = _groups(recording.channel_ids, recording.get_property("group"))
    properties = _properties(sorting, name)
    activity = _activity(sorting, _clocks(name, sorting, recording), None if recording is None else _lengths(recording))
    if recording is None and observed is None:
        check_spread(name, sorting.unit_ids, activity["trains"])
    return assemble(
        name,
        np.asarray(sorting.unit_ids),
        **activity,
        observed=observed,
        group=choose_group(name, properties, group_by, lambda: _sorting_probes(sorting, properties, groups)),
        properties=properties,
        metadata={"source": name, "segments": sorting.get_num_segments()},
    )


def read_samples(analyzer: si.SortingAnalyzer) -> Population:
    """The analyzer's units on the clock of its samples, which does not depend on an attached recording."""
    clocks = [_sample_clock(analyzer.sampling_frequency)] * analyzer.get_num_segments()
    return assemble(
        "analyzer", np.asarray(analyzer.unit_ids), **_activity(analyzer.sorting, clocks, _lengths(analyzer))
    )


def load_spikeinterface(path: Path):
    """The analyzer or sorting saved in `path`, or None if the folder is neither.

    SpikeInterface's own `load` would construct any class that the folder names, and unpickle a recording's provenance.
    Folders of sortings are therefore read by the class that wrote them, and an analyzer is loaded with a placeholder
    for its recording, which is never opened. Raise InputError if a member that they would load is a pickle.
    """
    with reading(path, "SpikeInterface folder"):
        loaded = _load(path)
        if loaded is not None:
            _check_consistent(loaded)
    return loaded


def _load(path: Path):
    saved = _saved(path)
    if saved.get("object") == "SortingAnalyzer":
        if (path / ".zgroup").is_file():
            check_zarr(path, "sorting", "recording_info", "sparsity_mask")
        else:
            check_sorting(path / "sorting")
            check_sorting(path)
        return load_analyzer(path)
    if _is_class(saved.get("zarr_class_info"), "ZarrSortingExtractor"):
        check_zarr(path)
        return si.read_zarr(path)
    if (path / "si_folder.json").is_file():
        class_info = read_json(path / "si_folder.json")
        for name in ("NumpyFolderSorting", "NpzFolderSorting"):
            if _is_class(class_info, name):
                check_sorting(path)
                return getattr(si, name)(path)
    return None


def _check_consistent(loaded) -> None:
    """Raise ValueError if spikes do not fit the units and segments, which SpikeInterface does not check."""
    analyzer = isinstance(loaded, si.SortingAnalyzer)
    sorting = loaded.sorting if analyzer else loaded
    fs = sorting.sampling_frequency
    if not (isinstance(fs, int | float | np.number) and np.isfinite(fs) and fs > 0):
        raise ValueError(f"a sampling frequency of {fs!r} Hz is impossible")
    if analyzer and not len(loaded.channel_ids) == loaded.get_num_channels():
        raise ValueError("its channels are not those of its recording")
    spikes = sorting.to_spike_vector()
    if spikes.ndim != 1 or not {"sample_index", "unit_index", "segment_index"} <= set(spikes.dtype.names or ()):
        raise ValueError("its spikes are not in SpikeInterface's format")
    for column, count in (("unit_index", len(sorting.unit_ids)), ("segment_index", sorting.get_num_segments())):
        if len(spikes) and not 0 <= spikes[column].min() <= spikes[column].max() < count:
            raise ValueError(f"a spike's {column} is not below {count}")
    if analyzer:
        loaded.get_total_samples()


def is_analyzer(path: Path) -> bool:
    """Whether SpikeInterface saved an analyzer in this folder."""
    try:
        return _saved(path).get("object") == "SortingAnalyzer"
    except InputError:
        return False


def is_saved(path: Path) -> bool:
    """Whether SpikeInterface saved an analyzer or a sorting in this folder."""
    if any((path / name).is_file() for name in ("spikeinterface_info.json", "si_folder.json")):
        return True
    try:
        return is_analyzer(path) or "zarr_class_info" in _saved(path)
    except InputError:
        return False


def _is_class(class_info, name: str) -> bool:
    return isinstance(class_info, dict) and str(class_info.get("class", "")).rpartition(".")[2] == name


def _saved(path: Path) -> dict:
    """SpikeInterface's description of a folder's content; empty for other folders."""
    for marker in ("spikeinterface_info.json", ".zattrs"):
        if (path / marker).is_file():
            content = read_json(path / marker)
            info = content.get("spikeinterface_info", content)
            return info if isinstance(info, dict) else {}
    return {}


def _lengths(source) -> list[int]:
    """Number of samples in each segment of a recording or an analyzer."""
    return [source.get_num_samples(segment) for segment in range(source.get_num_segments())]


def _clocks(name: str, sorting, recording) -> list:
    """For each segment, a function that returns the times of samples, and the stretches of time without a pause."""
    return [_clock(name, sorting, recording, segment) for segment in range(sorting.get_num_segments())]


def _clock(name: str, sorting, recording, segment: int):
    fs = sorting.sampling_frequency
    if recording is None:
        return _sample_clock(fs, sorting.get_start_time(segment))
    start = recording.get_start_time(segment)
    # Times of a sorting may be shifted relative to its recording.
    registered = registered_recording(sorting)
    shift = sorting.get_start_time(segment) - registered.get_start_time(segment) if registered is not None else 0.0
    if not recording.has_time_vector(segment):
        return _sample_clock(fs, start + shift)

    def recording_clock(samples, n_samples):
        times, stretches = sample_times(
            lambda low, high: recording.get_times(segment, low, high), n_samples, fs, samples, name
        )
        return times + shift, stretches + shift

    return recording_clock


def _sample_clock(fs: float, start: float = 0.0):
    return lambda samples, n_samples: (samples / fs + start, np.array([[start, start + n_samples / fs]]))


def _activity(sorting, clocks: list, lengths: list[int] | None, periods: np.ndarray | None = None) -> dict:
    """The units' `trains` and the `recorded` time: without lengths, to the end of the second of the last spike.

    With periods (SpikeInterface's ``valid_unit_periods``), the recorded time of each unit lies inside of its own.
    """
    fs, n_units = sorting.sampling_frequency, len(sorting.unit_ids)
    parts, recorded, valid, end = [], [], [[] for _ in range(n_units)], -np.inf
    for segment, spikes in enumerate(sorting.to_spike_vector(concatenated=False)):
        samples = spikes["sample_index"]
        if lengths is not None:
            length = lengths[segment]
        else:
            length = np.ceil((samples.max() + 1) / fs) * fs if len(samples) else 0
        times, stretches = clocks[segment](samples, length)
        begin, shift = stretches[0, 0], 0.0
        if end - _TOUCHING < begin < end:
            recorded[-1][-1, 1] = begin
        elif begin < end:
            shift = np.ceil(end) + _BETWEEN_SEGMENTS - begin
            times, stretches = times + shift, stretches + shift
        for unit, limits in () if periods is None else _limits_of(periods, segment, clocks[segment], length):
            valid[unit].append(limits + shift)
        parts.append(_trains(spikes["unit_index"], times, n_units))
        recorded.append(stretches)
        end = stretches[-1, 1]
    trains = [np.concatenate(train) for train in zip(*parts, strict=True)]
    recorded = np.concatenate(recorded)
    if periods is not None:
        recorded = [intersection(recorded, union(np.array(limits).reshape(-1, 2))) for limits in valid]
    return {"trains": trains, "recorded": recorded}


def _limits_of(periods: np.ndarray, segment: int, clock, length: int):
    """The unit, and the limits in seconds, of each valid period of a segment."""
    here = periods[periods["segment_index"] == segment]
    edges = np.concatenate([here["start_sample_index"], here["end_sample_index"]]).astype(np.int64)
    times, stretches = clock(np.clip(edges, 0, max(length - 1, 0)), length)
    times[edges >= length] = stretches[-1, 1]
    return zip(here["unit_index"].tolist(), times.reshape(2, -1).T, strict=True)


def valid_periods(analyzer) -> np.ndarray | None:
    """The periods in which each unit is valid, by SpikeInterface; None where they are not computed."""
    if not analyzer.has_extension("valid_unit_periods"):
        return None
    check_extension(analyzer, "valid_unit_periods")
    return analyzer.get_extension("valid_unit_periods").get_data(outputs="numpy")


def _trains(unit_index: np.ndarray, times: np.ndarray, n_units: int) -> list[np.ndarray]:
    """Spike times of each unit of one segment."""
    # Small integers get a radix sort, which is several times faster.
    order = np.argsort(unit_index.astype(np.min_scalar_type(n_units)), kind="stable")
    ends = np.cumsum(np.bincount(unit_index, minlength=n_units))
    return np.split(times[order], ends[:-1])


def _properties(sorting, name: str) -> dict[str, np.ndarray]:
    columns = {key: sorting.get_property(key) for key in sorting.get_property_keys()}
    return plain_columns({key: _named_objects(sorting, values) for key, values in columns.items()}, name)


def _named_objects(sorting, values: np.ndarray) -> np.ndarray:
    """Names of NWB objects, such as electrode groups, in a column; other values are returned unchanged.

    SpikeInterface's reader of NWB files returns the objects, or references into the file that it keeps open.
    """
    if values.dtype.kind != "O":
        return values
    if all(hasattr(value, "neurodata_type") for value in values):
        return np.array([value.name for value in values], dtype=str)
    import h5py

    file = nwb_file_of(sorting)
    if file is not None and all(isinstance(value, h5py.Reference) for value in values):
        return np.array([file[value].name.rpartition("/")[2] if value else "" for value in values], dtype=str)
    return values


def _main_channels(sorting) -> list | None:
    if "main_channel_id" in sorting.get_property_keys():
        return [[channel] for channel in sorting.get_property("main_channel_id")]
    return None


def _sorting_probes(sorting, properties: dict, groups: dict) -> Probes:
    """The electrode group of each unit, as in sortings of NWB files, else the group of its main channel."""
    labels = properties.get("electrode_group")
    if labels is None or labels.dtype.kind != "U" or not labels.astype(bool).any():
        return _probes(groups, lambda: _main_channels(sorting))
    return Probes("electrodes", tuple(sorted(set(labels.tolist()) - {""})), labels, _REMEDY)


def _analyzer_channels(analyzer) -> list | None:
    """Channels of each unit: its main channel, else those of the sparsity, else the peak channel of its template.

    A dense sparsity, in which every unit has all channels, does not locate units.
    """
    channels = _main_channels(analyzer.sorting)
    if channels is None and analyzer.sparsity is not None and not analyzer.sparsity.mask.all():
        channels = [np.asarray(analyzer.channel_ids)[mask] for mask in analyzer.sparsity.mask]
    if channels is None and analyzer.has_extension("templates"):
        check_extension(analyzer, "templates")
        templates = analyzer.get_extension("templates").get_templates()
        channels = [[analyzer.channel_ids[np.ptp(template, axis=0).argmax()]] for template in templates]
    return channels


def _groups(channel_ids, values) -> dict:
    """Group (probe or shank) of each channel."""
    return dict(zip(np.asarray(channel_ids).tolist(), as_names(values).tolist(), strict=True))


def _probes(groups: dict, find_channels) -> Probes:
    """The channel group with most of each unit's channels."""
    names = tuple(sorted(set(groups.values())))
    channels = find_channels() if len(names) > 1 else None
    labels = None
    if channels is not None:
        labels = np.array([most_common([groups.get(c, "") for c in np.asarray(unit).tolist()]) for unit in channels])
    return Probes("channels", names, labels, _REMEDY)
