"""What our extensions of the SortingAnalyzer share: rows of units, how they are saved, published and replaced."""

import os
import time
import weakref
from pathlib import Path

import numpy as np
from spikeinterface.core import SortingAnalyzer
from spikeinterface.core.job_tools import split_job_kwargs
from spikeinterface.core.sortinganalyzer import AnalyzerExtension, _get_children_dependencies

from ..errors import CheckpointError, DeviceError, InputError

_REFUSALS = (CheckpointError, DeviceError, InputError)
# Extensions that are alive: what a hard merge, which shows us the new analyzer only, may take unchanged rows from.
_alive: "weakref.WeakSet[RowsExtension]" = weakref.WeakSet()


class RowsExtension(AnalyzerExtension):
    """An extension whose data are arrays with a row for each unit (`rows`), and the dict ``provenance``."""

    need_recording = False
    use_nodepipeline = False
    rows: tuple[str, ...] = ()

    def __init__(self, sorting_analyzer):
        super().__init__(sorting_analyzer)
        _alive.add(self)

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

    def _run(self, verbose=False, **job_kwargs):
        try:
            self.data = self.computed(self.sorting_analyzer, **job_kwargs)
        except _REFUSALS as error:
            # A hard merge computes anew, with the parameters of a result that exists, and must not fail with it.
            donor = self._donor()
            if donor is None:
                raise
            self.data = donor.unchanged_rows(self.sorting_analyzer, error)
        self._refresh_properties(self.sorting_analyzer, self.data, save=self._save_to_disk)

    def _merge_extension_data(
        self, merge_unit_groups, new_unit_ids, new_sorting_analyzer, keep_mask=None, verbose=False, **job_kwargs
    ):
        return self._recomputed(new_sorting_analyzer, **job_kwargs)

    def _split_extension_data(self, split_units, new_unit_ids, new_sorting_analyzer, verbose=False, **job_kwargs):
        return self._recomputed(new_sorting_analyzer, **job_kwargs)

    def _recomputed(self, analyzer: SortingAnalyzer, **job_kwargs) -> dict:
        try:
            data = self.computed(analyzer, **job_kwargs)
        except _REFUSALS as error:
            data = self.unchanged_rows(analyzer, error)
        self._refresh_properties(analyzer, data)
        return data

    def _donor(self) -> "RowsExtension | None":
        """The result, of the same parameters, whose units were merged into those of our analyzer; None without one."""
        merged = population_of(self.sorting_analyzer)
        for other in list(_alive):
            analyzer = other._sorting_analyzer()
            known = type(other) is type(self) and analyzer not in (None, self.sorting_analyzer) and other.data
            if known and other.params == self.params and _was_merged_into(population_of(analyzer), merged):
                return other
        return None

    def load_data(self, lazy=False):
        """Read the saved arrays, whole: they are small, and SpikeInterface does not copy lazy Zarr arrays.

        A result that was not saved to its end is none: it has to be computed again.
        """
        from ..sources.sortings import refuse_pickles

        refuse_pickles(self.sorting_analyzer, self.extension_name)
        try:
            super().load_data(lazy=False)
        except (OSError, ValueError, EOFError):
            self.data = {}
        if not {*self.rows, "provenance"} <= self.data.keys():
            self.data = {}

    def taken_rows(self, kept: np.ndarray) -> dict[str, np.ndarray]:
        """Our rows at these positions; where one is -1, NaN, 0 or ""."""
        data = {}
        for name in self.rows:
            values = self.data[name][kept]
            values[kept < 0] = np.nan if values.dtype.kind == "f" else values.dtype.type()
            data[name] = values
        return data

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
        """As `analyzer.set_sorting_property`, but a Zarr store keeps their type where it holds another."""
        for key, values in properties.items():
            if save and analyzer.format == "zarr" and not analyzer.is_read_only():
                stored = analyzer._get_zarr_root(mode="r+")["sorting"]["properties"]
                if key in stored and stored[key].dtype != values.dtype:
                    del stored[key]
            analyzer.set_sorting_property(key, values, save=save)


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
        _save_or_restore(extension, computed_extension(analyzer, name))
    analyzer.extensions[name] = extension
    # What was computed from the previous result goes with it, on disk only where that is replaced there.
    for child in _get_children_dependencies(name):
        if save and analyzer.has_extension(child):
            analyzer.delete_extension(child)
        analyzer.extensions.pop(child, None)
    extension._refresh_properties(analyzer, extension.data, save=save)
    return extension


def computed_extension(analyzer: SortingAnalyzer, name: str) -> RowsExtension | None:
    """The analyzer's extension of this name; None where there is none, or one that was not computed to its end."""
    return analyzer.get_extension(name) if analyzer.has_extension(name) else None


def named_file(name, bundled: list[str]) -> str:
    """A bundled name as it is, a file by its whole path: what is recorded must mean the same in another folder."""
    name = str(name)
    return os.path.abspath(name) if name not in bundled and Path(name).is_file() else name


def population_of(analyzer: SortingAnalyzer):
    """The analyzer's units as one Population."""
    from ..sources import read_population

    return read_population(analyzer, group_by=None)


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


def _was_merged_into(before, after) -> bool:
    """Whether the units of `after` are those of `before`, some of them merged.

    Then there are fewer units, the same spikes but for those that a merge may drop as duplicates, and no others.
    """
    if not 0 < after.n_units < before.n_units:
        return False
    old, new = (np.sort(np.concatenate(population.spike_times)) for population in (before, after))
    return 0.9 * len(old) <= len(new) <= len(old) and bool(np.isin(new, old).all())


def _save_or_restore(extension: RowsExtension, previous: RowsExtension | None) -> None:
    """Save the extension; where that fails, on a full disk say, save the previous one again."""
    try:
        extension.save()
    except BaseException as error:
        if previous is not None:
            previous.save()
        else:
            extension._delete_extension_folder()
        if isinstance(error, OSError):
            reason = error.strerror or error
            raise InputError(f"{extension.folder}: {extension.extension_name} could not be saved ({reason})") from error
        raise
