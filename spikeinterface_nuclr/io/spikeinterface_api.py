"""All uses of undocumented parts of SpikeInterface, one function or method each.

No other module uses private or undocumented parts of SpikeInterface. `tests/test_spikeinterface_api.py` checks each use
against the installed version; pyproject.toml allows the versions that passed.
"""

from pathlib import Path

import numpy as np
import spikeinterface.core as si

# `register_result_extension` is how extensions outside SpikeInterface are registered, but `core` does not export it.
from spikeinterface.core.sortinganalyzer import _get_children_dependencies, register_result_extension

__all__ = [
    "StagedExtension",
    "attach_extension",
    "channel_property",
    "dependent_extensions",
    "detach_extension",
    "load_analyzer",
    "nwb_file_of",
    "recording_of",
    "register_result_extension",
    "registered_recording",
]


# --- recordings behind analyzers and sortings


def load_analyzer(folder: Path) -> si.SortingAnalyzer:
    """The analyzer saved in a folder, without its recording and with no extension loaded.

    By default, SpikeInterface would load the recording that the folder names, of any class, and unpickle its
    provenance. It accepts any object as placeholder for the recording, which is then removed again. Main channels are
    set here, because SpikeInterface looks for them in the recording.
    """
    analyzer = si.SortingAnalyzer.load(folder, recording=object(), load_extensions=False)
    analyzer._recording = None
    main = analyzer.get_sorting_property("main_channel_id")
    row = {channel: k for k, channel in enumerate(analyzer.channel_ids.tolist())}
    if main is not None and set(main.tolist()) <= row.keys():
        analyzer._main_channel_indices = np.array([row[channel] for channel in main.tolist()], dtype=np.int64)
    return analyzer


def recording_of(analyzer: si.SortingAnalyzer) -> si.BaseRecording | None:
    """The analyzer's recording; None if there is none."""
    available = analyzer.has_recording() or analyzer.has_temporary_recording()
    return _recording_or_none(analyzer.recording if available else None)


def registered_recording(sorting: si.BaseSorting) -> si.BaseRecording | None:
    """The recording that was registered with a sorting: ``register_recording`` has no public counterpart."""
    return _recording_or_none(sorting._recording)


def channel_property(analyzer: si.SortingAnalyzer, key: str):
    """A property of the analyzer's channels as the analyzer saved it; None if it has none.

    ``get_recording_property_keys`` reads the recording instead, which `load_analyzer` leaves out.
    """
    return analyzer.rec_attributes["properties"].get(key)


def nwb_file_of(sorting: si.BaseSorting):
    """The ``h5py.File`` that a sorting, or a selection of its units, is read from; None for other sortings.

    SpikeInterface's readers of NWB files keep the units table in the attribute ``units_table``.
    """
    import h5py

    while sorting.get_parent() is not None:  # a selection of units
        sorting = sorting.get_parent()
    file = getattr(getattr(sorting, "units_table", None), "file", None)
    return file if isinstance(file, h5py.File) else None


def _recording_or_none(recording) -> si.BaseRecording | None:
    return recording if isinstance(recording, si.BaseRecording) else None


# --- extensions of an analyzer


def dependent_extensions(name: str) -> list[str]:
    """Names of the registered extensions that are computed from this one, directly or through others."""
    return list(dict.fromkeys(_get_children_dependencies(name)))


def attach_extension(analyzer: si.SortingAnalyzer, extension: si.AnalyzerExtension) -> None:
    """Attach an extension that ``analyzer.compute`` did not compute, replacing any of the same name."""
    analyzer.extensions[extension.extension_name] = extension


def detach_extension(analyzer: si.SortingAnalyzer, name: str) -> None:
    """Remove an extension from memory; ``analyzer.delete_extension`` would also remove it from disk."""
    analyzer.extensions.pop(name, None)


class StagedExtension(si.AnalyzerExtension):
    """An extension whose result on disk SpikeInterface neither writes nor deletes, except through `save`.

    ``analyzer.compute`` empties the folder of an extension before it computes, writes to it, and deletes it if it
    fails. Here it only calls `save`, after the computation. A subclass defines `save`: it calls `write_result` to write
    a complete copy, with SpikeInterface's methods, and replaces the previous result with it.
    """

    def __init__(self, sorting_analyzer):
        super().__init__(sorting_analyzer)
        self._staging_folder: Path | None = None

    def save(self) -> None:
        """Replace the result on disk, if the analyzer is on disk."""
        raise NotImplementedError

    def set_params(self, save=True, **params):
        """Like the base class, but without writing."""
        super().set_params(save=False, **params)

    def run(self, save=True, **kwargs):
        """Like the base class, but without writing before there is a result."""
        super().run(save=False, **kwargs)
        if save and not self.sorting_analyzer.is_read_only():
            self.save()

    def write_result(self, folder: Path) -> None:
        """Write parameters, run info and data, as SpikeInterface does, to an existing folder or Zarr group."""
        self._staging_folder = folder
        try:
            self._save_params()
            self._save_importing_provenance()
            self._save_run_info()
            self._save_data()
        finally:
            self._staging_folder = None

    def clear(self) -> None:
        """Clear parameters and data, as ``delete`` of the base class does after it has deleted the files."""
        self.params, self.run_info, self.data = None, self._default_run_info_dict(), {}

    def _reset_extension_folder(self):
        """Called by ``set_params`` and ``_save_params``: keep the files."""

    def _delete_extension_folder(self):
        """Called by ``analyzer.compute`` if it fails: keep the files."""

    def _get_binary_extension_folder(self):
        return self._staging_folder or super()._get_binary_extension_folder()

    def _get_zarr_extension_group(self, mode="r+"):
        if self._staging_folder is None:
            return super()._get_zarr_extension_group(mode)
        import zarr

        return zarr.open_group(str(self._staging_folder), mode=mode)
