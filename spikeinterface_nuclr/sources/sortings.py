"""SpikeInterface's SortingAnalyzer and BaseSorting -> Population.

Times count from the first sample of the first segment. Segments become separate observed intervals with a second of
unobserved time between them.
"""

import os
from pathlib import Path

import numpy as np
import spikeinterface.core as si

from ..errors import InputError, reading
from ..population import Population
from .assembly import assemble, choose_group, most_common, plain_columns
from .untrusted import check_extension, check_sorting, check_zarr, read_json

_BETWEEN_SEGMENTS = 1.0


def read_spikeinterface(source, *, name: str | None = None, group_by, observed) -> Population | None:
    """The Population of an analyzer or a sorting; None where the object is neither."""
    folder = getattr(source, "folder", None)
    name = name or (os.fspath(folder) if folder else type(source).__name__)
    if isinstance(source, si.SortingAnalyzer):
        return read_analyzer(source, name=name, group_by=group_by, observed=observed)
    if isinstance(source, si.BaseSorting):
        return read_sorting(source, name=name, group_by=group_by, observed=observed)
    return None


def read_analyzer(analyzer: si.SortingAnalyzer, *, name: str, group_by, observed) -> Population:
    """The Population of an analyzer. Its recording is not needed."""
    sorting = analyzer.sorting
    lengths = [analyzer.get_num_samples(segment) for segment in range(analyzer.get_num_segments())]
    # Not by way of the analyzer's recording, which need not be there.
    channel_groups = analyzer.rec_attributes["properties"].get("group")
    groups = None if channel_groups is None else dict(zip(analyzer.channel_ids, channel_groups, strict=True))
    return _assemble(
        name, sorting, lengths, groups, lambda: _analyzer_channels(analyzer), group_by=group_by, observed=observed
    )


def read_sorting(sorting: si.BaseSorting, *, name: str, group_by, observed) -> Population:
    """The Population of a sorting. Where no recording is registered, each segment ends with its last spike's second."""
    lengths = groups = None
    if sorting.has_recording():
        recording = sorting._recording
        lengths = [sorting.get_num_samples(segment) for segment in range(sorting.get_num_segments())]
        if "group" in recording.get_property_keys():
            groups = dict(zip(recording.channel_ids, recording.get_property("group"), strict=True))
    return _assemble(
        name, sorting, lengths, groups, lambda: _main_channels(sorting), group_by=group_by, observed=observed
    )


def load_spikeinterface(path: Path):
    """The analyzer or sorting saved in `path`, or None where SpikeInterface saved neither.

    SpikeInterface's own `load` would make an object of any class that the folder names, and unpickle a recording's
    provenance. So folders of sortings are read by the class that wrote them, and an analyzer is handed a stand-in for
    its recording, which is then never opened. InputError where what they would load holds a pickle.
    """
    with reading(path, "SpikeInterface folder"):
        saved = _saved(path)
        if saved.get("object") == "SortingAnalyzer":
            if (path / ".zgroup").is_file():
                check_zarr(path, "sorting", "recording_info", "sparsity_mask")
            else:
                check_sorting(path / "sorting")
                check_sorting(path)
            return si.SortingAnalyzer.load(path, recording=object(), load_extensions=False)
        if _known_class(saved.get("zarr_class_info"), "ZarrSortingExtractor"):
            check_zarr(path)
            return si.read_zarr(path)
        if (path / "si_folder.json").is_file():
            written = read_json(path / "si_folder.json")
            for name in ("NumpyFolderSorting", "NpzFolderSorting"):
                if _known_class(written, name):
                    check_sorting(path)
                    return getattr(si, name)(path)
    return None


def is_analyzer(path: Path) -> bool:
    """Whether SpikeInterface saved an analyzer in this folder."""
    try:
        return _saved(path).get("object") == "SortingAnalyzer"
    except InputError:
        return False


def _known_class(written, name: str) -> bool:
    return isinstance(written, dict) and str(written.get("class", "")).rpartition(".")[2] == name


def _saved(path: Path) -> dict:
    """What SpikeInterface noted of a folder's content; nothing where it wrote none."""
    for marker in ("spikeinterface_info.json", ".zattrs"):
        if (path / marker).is_file():
            content = read_json(path / marker)
            noted = content.get("spikeinterface_info", content)
            return noted if isinstance(noted, dict) else {}
    return {}


def _assemble(name, sorting, lengths, groups, channels, *, group_by, observed) -> Population:
    unit_ids = np.asarray(sorting.unit_ids)
    if len(unit_ids) == 0:
        raise InputError(f"{name}: it holds no units")
    fs = sorting.sampling_frequency
    parts, intervals, start = [], [], 0.0
    for segment, spikes in enumerate(sorting.to_spike_vector(concatenated=False)):
        if lengths is not None:
            length = lengths[segment] / fs
        else:
            length = float(np.ceil((spikes["sample_index"].max() + 1) / fs)) if len(spikes) else 0.0
        parts.append(_trains(spikes, len(unit_ids), fs, start))
        intervals.append((start, start + length))
        start += np.ceil(length) + _BETWEEN_SEGMENTS
    trains = [np.concatenate(train) for train in zip(*parts, strict=True)]
    properties = plain_columns({key: sorting.get_property(key) for key in sorting.get_property_keys()})
    return assemble(
        name,
        unit_ids,
        trains,
        observed=np.array(intervals) if observed is None else observed,
        group=choose_group(name, properties, group_by, lambda: _probes(name, groups, channels)),
        properties=properties,
        metadata={"source": name, "segments": sorting.get_num_segments()},
    )


def _trains(spikes: np.ndarray, n_units: int, fs: float, start: float) -> list[np.ndarray]:
    """Spike times in seconds of each unit of one segment."""
    # Small integers are sorted by their digits, several times as fast.
    order = np.argsort(spikes["unit_index"].astype(np.min_scalar_type(n_units)), kind="stable")
    ends = np.cumsum(np.bincount(spikes["unit_index"], minlength=n_units))
    return np.split(spikes["sample_index"][order] / fs + start, ends[:-1])


def _main_channels(sorting) -> list | None:
    if "main_channel_id" in sorting.get_property_keys():
        return [[channel] for channel in sorting.get_property("main_channel_id")]
    return None


def _analyzer_channels(analyzer) -> list | None:
    """Channels on which each unit lives: its main channel, else those of the sparsity, else of its template's peak."""
    known = _main_channels(analyzer.sorting)
    if known is None and analyzer.sparsity is not None:
        known = [np.asarray(analyzer.channel_ids)[mask] for mask in analyzer.sparsity.mask]
    if known is None and analyzer.has_extension("templates"):
        check_extension(analyzer, "templates")
        templates = analyzer.get_extension("templates").get_templates()
        known = [[analyzer.channel_ids[np.ptp(template, axis=0).argmax()]] for template in templates]
    return known


def _probes(name: str, groups: dict | None, find_channels) -> np.ndarray | None:
    """The channel group (probe or shank) that holds most of each unit's channels."""
    distinct = set(map(str, groups.values())) if groups is not None else ()
    if len(distinct) < 2:
        return None
    channels = find_channels()
    if channels is None:
        raise InputError(
            f"{name}: its channels form {len(distinct)} groups, and which unit belongs to which "
            "is unknown: set the sorting property 'group', or give group_by=None for one population"
        )
    return np.array([most_common([str(groups[channel]) for channel in of_unit]) for of_unit in channels])
