"""What our extensions of the SortingAnalyzer share: rows of units, and how they are saved, published and replaced."""

import hashlib
import os
import time
import warnings
from pathlib import Path

import numpy as np
from spikeinterface.core import SortingAnalyzer, split_job_kwargs

from ..errors import REFUSALS, CheckpointError, InputError, RecordingWarning
from ..io.spikeinterface_api import StagedExtension, attach_extension, dependent_extensions, detach_extension
from . import storage

_PERIOD = ("segment_index", "start_sample_index", "end_sample_index")


class RowsExtension(StagedExtension):
    """An extension whose data are arrays with one row per unit (`rows`), and the dict ``provenance``.

    Each has a parameter that names a model (`model_param`), and another, ``<model_param>_sha256``, with the hash that
    the model must have. Computing fills in the hash of the model that was used, which the provenance holds under
    `provenance_sha256`. Merges and splits compute with these parameters, so they use the same weights or say that they
    cannot.

    On disk a result is replaced by a complete one only (`storage`), also by ``analyzer.compute``.
    """

    need_recording = False
    use_nodepipeline = False
    rows: tuple[str, ...] = ()
    model_param: str
    provenance_sha256: str

    def __init__(self, sorting_analyzer):
        super().__init__(sorting_analyzer)
        self.unit_ids = sorting_analyzer.unit_ids

    @property
    def analyzer_is_gone(self) -> bool:
        """Whether nobody keeps the analyzer: of ``load_sorting_analyzer(…).get_extension(…)``, the data remain."""
        try:
            return self.sorting_analyzer is None
        except ValueError:
            return True

    def computed(self, analyzer: SortingAnalyzer, **job_kwargs) -> dict:
        """The data for the units of an analyzer, ours or one that was made of ours."""
        raise NotImplementedError

    def published(self, data: dict) -> dict[str, np.ndarray]:
        """Sorting properties, by name, that these data give."""
        raise NotImplementedError

    def unchanged_rows(self, analyzer: SortingAnalyzer, error: Exception) -> dict:
        """Data for the units of an analyzer that was made of ours, where `error` forbids to compute them.

        Ours for units with the same spikes there, missing values for the others, and the reason as ``stale``.
        """
        raise NotImplementedError

    def empty_rows(self, error: Exception) -> dict:
        """Missing values for all of our units, where `error` forbids to compute them, and the reason as ``stale``."""
        raise NotImplementedError

    @property
    def model_file(self) -> str:
        """What the parameters name: a bundled model, a path, or an ``hf://`` name."""
        return self.params[self.model_param]

    @property
    def model_sha256(self) -> str | None:
        """The hash that the model must have; None before the first computation."""
        return self.params[f"{self.model_param}_sha256"]

    # --- computing, and SpikeInterface's hooks for merges and splits

    def _run(self, verbose=False, **job_kwargs):
        try:
            self.data = self.computed(self.sorting_analyzer, **job_kwargs)
        except CheckpointError as error:
            if not self._in_hard_merge():
                raise
            self.data = self.empty_rows(error)
        self.pin_model()

    def _in_hard_merge(self) -> bool:
        """Whether this may be a merge of ``merging_mode="hard"``.

        It calls no hook of the previous extension: it computes, with the parameters of a saved result, on an analyzer
        that has none. An error would cost the user the merge.
        """
        return self.model_sha256 is not None and not self.sorting_analyzer.has_extension(self.extension_name)

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

    def pin_model(self) -> None:
        """Record the hash of the model that the data were computed with."""
        sha256 = self.data["provenance"][self.provenance_sha256]
        self.params = {**self.params, f"{self.model_param}_sha256": sha256}

    def rows_at(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """Our rows at these positions; where one is -1, NaN, 0 or ""."""
        data = {}
        for name in self.rows:
            values = self.data[name][index]
            values[index < 0] = np.nan if values.dtype.kind == "f" else values.dtype.type()
            data[name] = values
        return data

    # --- on disk: only complete results are written

    def run(self, save=True, **kwargs):
        """Compute, save, and update the sorting properties."""
        super().run(save=save, **kwargs)
        self._refresh_properties(self.sorting_analyzer, self.data, save=save)

    def save(self):
        """Write the complete result, which then replaces the previous one."""
        if self.format != "memory":
            storage.save(self)

    def delete(self):
        """Remove the result from memory and from disk."""
        if self.format != "memory":
            storage.delete(self.sorting_analyzer, self.extension_name)
        self.clear()

    @classmethod
    def load(cls, sorting_analyzer, lazy=False):
        """The saved extension; None, and a warning, where it is damaged and has to be computed again.

        Its arrays are read completely: they are small, and SpikeInterface does not copy lazy Zarr arrays.
        """
        try:
            place = storage.place_of(sorting_analyzer, cls.extension_name)
            result = storage.load(place, sorting_analyzer.format)
            missing = sorted({*cls.rows, "provenance"} - result.data.keys()) if result else []
            if missing:
                raise InputError(f"{place}: is of an older version, without {missing[0]}")
            if result and not isinstance(result.params.get(cls.model_param), str):
                raise InputError(f"{place}: its parameters are damaged")
        except InputError as error:
            warnings.warn(f"{error}: compute {cls.extension_name} again", RecordingWarning, stacklevel=2)
            return None
        if result is None:
            return None
        extension = cls(sorting_analyzer)
        # Parameters of later versions have their defaults.
        extension.params = {**cls.get_default_params(), **result.params}
        extension.params[cls.model_param] = relocated_file(extension.model_file, sorting_analyzer)
        extension.run_info, extension.data = result.run_info, result.data
        return extension

    # --- sorting properties

    def publish_properties(self) -> None:
        """Set the sorting properties that `published` names.

        They are saved with an analyzer on disk, and updated when the extension is computed again.
        """
        self.set_properties(self.sorting_analyzer, self.published(self.data))

    def _refresh_properties(self, analyzer: SortingAnalyzer, data: dict, save: bool = True) -> None:
        """Set the properties where ``publish`` asks for them; else update those that an earlier call has set."""
        properties = self.published(data)
        if not self.params["publish"]:
            existing = {*analyzer.get_sorting_property_keys(), *self.sorting_analyzer.get_sorting_property_keys()}
            properties = {key: values for key, values in properties.items() if key in existing}
        self.set_properties(analyzer, properties, save)

    @staticmethod
    def set_properties(analyzer: SortingAnalyzer, properties: dict[str, np.ndarray], save: bool = True) -> None:
        """As `analyzer.set_sorting_property`, but a property on disk is the complete old or new one."""
        for key, values in properties.items():
            analyzer.set_sorting_property(key, values, save=False)
        if properties and save and analyzer.format != "memory" and not analyzer.is_read_only():
            storage.save_properties(analyzer, properties)


def computed_safely(extension_class: type[RowsExtension], analyzer, save: bool, kwargs: dict) -> RowsExtension:
    """Compute an extension, and only then replace the one that the analyzer has.

    Extensions that were computed from the previous one are removed, as by ``analyzer.compute``, with a RecordingWarning
    that names them.

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
        names = ", ".join(extension_class.get_default_params())
        raise InputError(f"{name} has no parameter {unknown[0]!r}; it has: {names}")
    extension = extension_class(analyzer)
    extension.set_params(**params)
    began = time.perf_counter()
    extension.data = extension.computed(analyzer, **job_kwargs)
    extension.pin_model()
    extension.run_info = {"run_completed": True, "runtime_s": time.perf_counter() - began}
    save = save and not analyzer.is_read_only()
    if save:
        extension.save()
    attach_extension(analyzer, extension)
    _remove_dependents(analyzer, name, save=save)
    extension._refresh_properties(analyzer, extension.data, save=save)
    return extension


def _remove_dependents(analyzer: SortingAnalyzer, name: str, *, save: bool) -> None:
    """Remove what was computed from the previous result: from disk only where the new one was saved there."""
    for dependent in dependent_extensions(name):
        existed = analyzer.has_extension(dependent)
        if save and analyzer.format != "memory":
            storage.delete(analyzer, dependent)
        detach_extension(analyzer, dependent)
        if existed and not analyzer.has_extension(dependent):
            message = f"{dependent} was computed from the previous {name} and is removed: compute it again"
            warnings.warn(message, RecordingWarning, stacklevel=4)


def computed_extension(analyzer: SortingAnalyzer, name: str) -> RowsExtension | None:
    """The analyzer's extension of this name; None where there is none, or an incomplete one."""
    if analyzer.has_extension(name):
        return analyzer.get_extension(name)
    if analyzer.format != "memory" and storage.is_aside(analyzer, name):
        return analyzer.load_extension(name)
    return None


def named_file(name, bundled: list[str]) -> str:
    """A bundled name as it is, a file by its absolute path: what is recorded must mean the same in another folder."""
    from ..model.model_file import split_member

    file, member = split_member(str(name))
    return (os.path.abspath(file) if file not in bundled and Path(file).is_file() else file) + member


def relocated_file(name: str, analyzer: SortingAnalyzer) -> str:
    """The file of this recorded path; where it is gone, one that has the same place relative to a moved analyzer.

    A project folder that is moved, or mounted elsewhere, takes its models with it. Whoever loads the file checks its
    hash.
    """
    from ..model.model_file import split_member

    file, member = split_member(name)
    path = Path(file)
    if not path.is_absolute() or os.path.exists(path):  # False, too, of a name that no file system takes
        return name
    endings = [Path(*path.parts[k:]) for k in range(1, len(path.parts))]
    candidates = (folder / ending for folder in Path(analyzer.folder).absolute().parents for ending in endings)
    return str(next((file for file in candidates if os.path.isfile(file)), path)) + member


def population_of(analyzer: SortingAnalyzer):
    """The analyzer's units as one Population, on a clock that does not depend on whether its recording is available."""
    from ..io.spikeinterface import read_samples

    return read_samples(analyzer)


def groups_of(analyzer: SortingAnalyzer) -> np.ndarray:
    """The group (probe) of each unit: str, shape (n_units,)."""
    from ..io import read_population

    return read_population(analyzer).group


def fingerprint(analyzer: SortingAnalyzer, units=None) -> str:
    """Fingerprint of the units at these positions, of all by default, and of their valid periods, if computed.

    Empty where there are no units.
    """
    from ..io.spikeinterface import valid_periods

    units = np.arange(len(analyzer.unit_ids)) if units is None else np.asarray(units)
    if len(units) == 0:
        return ""
    spikes, periods = population_of(analyzer).select(units).fingerprint(), valid_periods(analyzer)
    if periods is None:
        return spikes
    digest = hashlib.sha256(spikes.encode())
    for unit in units.tolist():
        own = periods[periods["unit_index"] == unit]
        digest.update(np.stack([own[name].astype(np.int64) for name in _PERIOD]).tobytes())
    return digest.hexdigest()


def rows_of_same_units(before: SortingAnalyzer, after: SortingAnalyzer) -> np.ndarray:
    """For each unit of `after`, its row in `before` where it has the same name and spikes there, else -1."""
    old, new = population_of(before), population_of(after)
    row = {str(unit): i for i, unit in enumerate(old.unit_ids)}
    rows = [row.get(str(unit), -1) for unit in new.unit_ids]
    same = [
        i >= 0 and np.array_equal(old.spike_times[i], times) for i, times in zip(rows, new.spike_times, strict=True)
    ]
    return np.where(same, rows, -1)
