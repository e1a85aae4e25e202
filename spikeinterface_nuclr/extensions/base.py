"""What our extensions of the SortingAnalyzer share: rows of units, how they are saved, published and replaced."""

import os
import time
import warnings
from pathlib import Path

import numpy as np
from spikeinterface.core import SortingAnalyzer
from spikeinterface.core.job_tools import split_job_kwargs
from spikeinterface.core.sortinganalyzer import AnalyzerExtension, _get_children_dependencies

from ..errors import REFUSALS, CheckpointError, InputError, RecordingWarning
from . import storage


class RowsExtension(AnalyzerExtension):
    """An extension whose data are arrays with a row for each unit (`rows`), and the dict ``provenance``.

    On disk a result is replaced by a complete one only (`storage`), also by ``analyzer.compute``.
    """

    need_recording = False
    use_nodepipeline = False
    rows: tuple[str, ...] = ()

    def __init__(self, sorting_analyzer):
        super().__init__(sorting_analyzer)
        self._staged: Path | None = None
        self._recorded = False  # set by `_set_params` where they hold the hash of what an earlier result came from

    def computed(self, analyzer: SortingAnalyzer, **job_kwargs) -> dict:
        """The data for the units of an analyzer."""
        raise NotImplementedError

    def published(self, data: dict) -> dict[str, np.ndarray]:
        """Sorting properties that these data give."""
        raise NotImplementedError

    def unchanged_rows(self, analyzer: SortingAnalyzer, error: Exception) -> dict:
        """Data for the units of an analyzer that was made of ours, without computing, which `error` forbade.

        Ours for the units that have the same spikes there, nothing for the others, and the reason as ``stale``.
        """
        raise NotImplementedError

    def empty_rows(self, error: Exception) -> dict:
        """Data that say nothing of any of our units, and `error`, the file that cannot be had, as ``stale``."""
        raise NotImplementedError

    def _run(self, verbose=False, **job_kwargs):
        try:
            self.data = self.computed(self.sorting_analyzer, **job_kwargs)
        except CheckpointError as error:
            # A hard merge computes what was recorded, on an analyzer that shows nothing of the one before.
            if not self._recorded:
                raise
            self.data = self.empty_rows(error)

    def _merge_extension_data(
        self, merge_unit_groups, new_unit_ids, new_sorting_analyzer, keep_mask=None, verbose=False, **job_kwargs
    ):
        return self._recomputed(new_sorting_analyzer, **job_kwargs)

    def _split_extension_data(self, split_units, new_unit_ids, new_sorting_analyzer, verbose=False, **job_kwargs):
        return self._recomputed(new_sorting_analyzer, **job_kwargs)

    def _recomputed(self, analyzer: SortingAnalyzer, **job_kwargs) -> dict:
        try:
            data = self.computed(analyzer, **job_kwargs)
        except REFUSALS as error:
            data = self.unchanged_rows(analyzer, error)
        self._refresh_properties(analyzer, data)
        return data

    def taken_rows(self, kept: np.ndarray) -> dict[str, np.ndarray]:
        """Our rows at these positions; where one is -1, NaN, 0 or ""."""
        data = {}
        for name in self.rows:
            values = self.data[name][kept]
            values[kept < 0] = np.nan if values.dtype.kind == "f" else values.dtype.type()
            data[name] = values
        return data

    # --- on disk: nothing is written but a whole result

    @property
    def place(self) -> Path:
        """The folder of the result in an analyzer on disk."""
        return self._staged or storage.place_of(self.sorting_analyzer, self.extension_name)

    def set_params(self, save=True, **params):
        """As of the base class, but the result on disk stays until there is another."""
        super().set_params(save=False, **params)

    def run(self, save=True, **kwargs):
        """As of the base class, but the result on disk stays until this one is complete."""
        super().run(save=False, **kwargs)
        save = save and not self.sorting_analyzer.is_read_only()
        if save:
            self.save()
        self._refresh_properties(self.sorting_analyzer, self.data, save=save)

    def save(self):
        """Write the result whole, and let it take the place of the one that is there."""
        if self.format != "memory":
            storage.save(self)

    def write_into(self, folder: Path) -> None:
        """Write all of the result, as SpikeInterface lays it out, into a folder or a Zarr group that is there."""
        self._staged = folder
        try:
            self._save_params()
            self._save_importing_provenance()
            self._save_run_info()
            self._save_data()
        finally:
            self._staged = None

    def delete(self):
        """Remove the result from memory and from disk."""
        if self.format != "memory":
            storage.delete(self.sorting_analyzer, self.extension_name)
        self.params, self.run_info, self.data = None, self._default_run_info_dict(), {}

    @classmethod
    def load(cls, sorting_analyzer, lazy=False):
        """The saved extension; None, and a warning, where what is there is damaged: it has to be computed again.

        Its arrays are read whole: they are small, and SpikeInterface does not copy lazy Zarr arrays.
        """
        extension = cls(sorting_analyzer)
        try:
            saved = storage.load(extension.place, extension.format)
            missing = sorted({*cls.rows, "provenance"} - saved.data.keys()) if saved else []
            if missing:
                raise InputError(f"{extension.place}: is of an older version, without {missing[0]}")
        except InputError as error:
            warnings.warn(f"{error}: compute {cls.extension_name} again", RecordingWarning, stacklevel=2)
            return None
        if saved is None:
            return None
        extension.params, extension.run_info, extension.data = saved.params, saved.run_info, saved.data
        return extension

    def _reset_extension_folder(self):
        """Nothing: what is written goes into a folder of its own first."""

    def _delete_extension_folder(self):
        """Nothing: ``analyzer.compute`` asks for it when it fails, and then the result that is there is the old one."""

    def _get_binary_extension_folder(self):
        return self.place

    def _get_zarr_extension_group(self, mode="r+"):
        # Not by way of the store's consolidated metadata, which a kill may leave a step behind.
        import zarr

        return zarr.open_group(os.fspath(self.place), mode=mode)

    # --- sorting properties

    def publish_properties(self) -> None:
        """Set the sorting properties that `published` names.

        They are saved with an analyzer on disk, and kept up to date when the extension is computed again.
        """
        self._set_properties(self.sorting_analyzer, self.published(self.data))

    def _refresh_properties(self, analyzer: SortingAnalyzer, data: dict, save: bool = True) -> None:
        """Bring properties that were published, here or in the analyzer that ours was made of, up to date."""
        keys = {*analyzer.get_sorting_property_keys(), *self.sorting_analyzer.get_sorting_property_keys()}
        self._set_properties(analyzer, {key: v for key, v in self.published(data).items() if key in keys}, save)

    @staticmethod
    def _set_properties(analyzer: SortingAnalyzer, properties: dict[str, np.ndarray], save: bool = True) -> None:
        """As `analyzer.set_sorting_property`, but a property on disk is the old or the new one, whole."""
        for key, values in properties.items():
            analyzer.set_sorting_property(key, values, save=False)
        if properties and save and analyzer.format != "memory" and not analyzer.is_read_only():
            storage.save_properties(analyzer, properties)


def computed_safely(extension_class: type[RowsExtension], analyzer, save: bool, kwargs: dict) -> RowsExtension:
    """Compute an extension and then replace the one that the analyzer has, which is lost to nothing else.

    Parameters
    ----------
    save : bool
        Save with an analyzer on disk, unless it is read-only.
    kwargs : dict
        Parameters of the extension, and job arguments.
    """
    name = extension_class.extension_name
    if not isinstance(analyzer, SortingAnalyzer):
        raise InputError(f"compute_{name} takes a SortingAnalyzer, not a {type(analyzer).__name__}")
    params, job_kwargs = split_job_kwargs(kwargs)
    unknown = sorted(params.keys() - extension_class.get_default_params().keys())
    if unknown:
        known = ", ".join(extension_class.get_default_params())
        raise InputError(f"{name} has no parameter {unknown[0]!r}; it has: {known}")
    extension = extension_class(analyzer)
    extension.params = extension._set_params(**params)
    began = time.perf_counter()
    extension.data = extension.computed(analyzer, **job_kwargs)
    extension.run_info = {"run_completed": True, "runtime_s": time.perf_counter() - began}
    save = save and not analyzer.is_read_only()
    if save:
        extension.save()
    analyzer.extensions[name] = extension
    # What was computed from the previous result goes with it, on disk only where that is replaced there.
    for child in _get_children_dependencies(name):
        if save and analyzer.format != "memory":
            storage.delete(analyzer, child)
        analyzer.extensions.pop(child, None)
    extension._refresh_properties(analyzer, extension.data, save=save)
    return extension


def computed_extension(analyzer: SortingAnalyzer, name: str) -> RowsExtension | None:
    """The analyzer's extension of this name; None where there is none, or one that was not computed to its end."""
    if analyzer.has_extension(name):
        return analyzer.get_extension(name)
    if analyzer.format != "memory" and storage.is_aside(analyzer, name):
        return analyzer.load_extension(name)
    return None


def named_file(name, bundled: list[str]) -> str:
    """A bundled name as it is, a file by its whole path: what is recorded must mean the same in another folder."""
    name = str(name)
    return os.path.abspath(name) if name not in bundled and Path(name).is_file() else name


def file_now(name: str, analyzer: SortingAnalyzer) -> str:
    """The file of this recorded path; where it is gone, the one that lies to a moved analyzer as it did before.

    A project folder that is moved, or mounted elsewhere, takes its models with it. Whoever loads the file checks its
    hash.
    """
    path = Path(name)
    if analyzer.format == "memory" or not path.is_absolute() or path.exists():
        return name
    ends = [Path(*path.parts[k:]) for k in range(1, len(path.parts))]
    candidates = (above / end for above in Path(analyzer.folder).absolute().parents for end in ends)
    return str(next((file for file in candidates if file.is_file()), path))


def population_of(analyzer: SortingAnalyzer):
    """The analyzer's units as one Population, on a clock that does not depend on whether its recording is found."""
    from ..io.spikeinterface import read_samples

    return read_samples(analyzer)


def fingerprint(analyzer: SortingAnalyzer, units=None) -> str:
    """Fingerprint of the units at these positions, of all by default; empty where there are none."""
    if len(analyzer.unit_ids if units is None else units) == 0:
        return ""
    population = population_of(analyzer)
    return (population if units is None else population.select(units)).fingerprint()


def kept_rows(before: SortingAnalyzer, after: SortingAnalyzer) -> np.ndarray:
    """For each unit of `after`, its row in `before` where it has the same name and spikes there, else -1."""
    old, new = population_of(before), population_of(after)
    row = {str(unit): i for i, unit in enumerate(old.unit_ids)}
    kept = [row.get(str(unit), -1) for unit in new.unit_ids]
    same = [
        i >= 0 and np.array_equal(old.spike_times[i], times) for i, times in zip(kept, new.spike_times, strict=True)
    ]
    return np.where(same, kept, -1)
