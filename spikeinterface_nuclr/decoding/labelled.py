"""Labelled: embedded units with their labels and animals, for fitting and evaluating decoders."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from ..errors import InputError, reason_of
from ..unit_embeddings import UnitEmbeddings
from .labels import as_animals, as_labels, check_classes, warn_of_similar
from .splits import check_seed

# One recording: its embeddings, or a tuple of embeddings of the same units by several checkpoints.
Recording = UnitEmbeddings | tuple[UnitEmbeddings, ...]
FEATURES = "features"


@dataclass(frozen=True, eq=False)
class Labelled:
    """Units with an embedding and a label, of one or many recordings.

    Attributes
    ----------
    tables : dict of str to float64 array, shape (n, k)
        Embeddings by the sha256 of their checkpoint and, under "features", other features of each unit (may be NaN).
    columns : tuple of str
        Names of the features.
    labels : str or float64 array, shape (n,)
    animals : str array, shape (n,)
    recordings : int array, shape (n,)
        Index of each unit's recording.
    units : int array, shape (n,)
        Index of each unit in its recording.
    """

    tables: dict[str, np.ndarray]
    columns: tuple[str, ...]
    labels: np.ndarray
    animals: np.ndarray
    recordings: np.ndarray
    units: np.ndarray

    def __len__(self):
        return len(self.labels)

    @property
    def continuous(self) -> bool:
        """Whether the labels are continuous numbers."""
        return self.labels.dtype.kind == "f"

    @property
    def animal_names(self) -> list[str]:
        """Unique names of the animals, sorted."""
        return np.unique(self.animals).tolist()

    def select(self, units) -> "Labelled":
        """The units at these positions, or where a mask is True."""
        fields = ("labels", "animals", "recordings", "units")
        return replace(
            self,
            tables={name: table[units] for name, table in self.tables.items()},
            **{name: getattr(self, name)[units] for name in fields},
        )

    def without_features(self) -> "Labelled":
        """The same units with only their embeddings."""
        return replace(self, tables={n: rows for n, rows in self.tables.items() if n != FEATURES}, columns=())

    def with_table(self, rows: np.ndarray, name: str = FEATURES) -> "Labelled":
        """The same units with a table of features instead of embeddings."""
        return replace(self, tables={name: rows}, columns=())


def label_units(embeddings, labels, animals=None, features=None, *, read: Callable = as_labels) -> Labelled:
    """Combine embeddings, labels and animals of all recordings.

    Units without an embedding or a label are left out.

    Parameters
    ----------
    embeddings : UnitEmbeddings, tuple of UnitEmbeddings, or list of these
        One recording or a list of recordings; a tuple contains embeddings of the same units by several checkpoints.
    labels : array of shape (n_units,), or list of such arrays
        Labels of each recording.
    animals : str or array of shape (n_units,), or list of these
        Animal of each recording, or of each unit. Default: the subject in the recording's metadata.
    features : pandas DataFrame or list of DataFrames, optional
        Other features, one row per unit: matched by unit id if the index holds unit ids, else by order.
    read : callable
        `as_labels` if the labels are classes, `as_values` if they are numbers.

    Raises
    ------
    InputError
        Arrays of a recording do not match its units, or it was embedded with another checkpoint than the first; the
        message names the recording.

    Warns
    -----
    RecordingWarning
        Names of two animals differ only by case or blanks.
    """
    recordings = embeddings if isinstance(embeddings, list) else [embeddings]
    single = not isinstance(embeddings, list)
    labels, animals, features = (
        [values] if single else _per_recording_list(values, len(recordings), name)
        for name, values in (("labels", labels), ("animals", animals), ("features", features))
    )
    parts = [
        _label_recording(number, *arguments, read)
        for number, arguments in enumerate(zip(recordings, labels, animals, features, strict=True))
    ]
    parts = [part for part in parts if len(part)] or parts[:1]
    first = parts[0]
    for part in parts:
        number = int(part.recordings[0]) if len(part) else 0
        if part.tables.keys() != first.tables.keys():
            raise InputError(
                f"recording {number}: embedded by {_checkpoints(part)}, the first by {_checkpoints(first)}: "
                "embed all with the same model"
            )
        if part.columns != first.columns:
            raise InputError(
                f"recording {number}: its features differ from those of the first: {list(part.columns)}: give all "
                "recordings the same columns"
            )
    labelled = Labelled(
        {name: np.concatenate([part.tables[name] for part in parts]) for name in first.tables},
        first.columns,
        *(np.concatenate([getattr(part, name) for part in parts])
          for name in ("labels", "animals", "recordings", "units")),
    )  # fmt: skip
    if not len(labelled):
        raise InputError("no unit has both an embedding and a label")
    if not labelled.continuous:
        check_classes([labelled.labels])
    warn_of_similar(labelled.animal_names)
    return labelled


def by_each(recording: Recording) -> tuple[UnitEmbeddings, ...]:
    """A recording's embeddings of each checkpoint."""
    return recording if isinstance(recording, tuple) else (recording,)


def per_recording(name: str, arrays, recordings: list) -> list:
    """A list of one array per recording; InputError unless each has one row per unit."""
    arrays = list(arrays) if isinstance(arrays, list | tuple) else [arrays]
    if len(arrays) != len(recordings):
        raise InputError(f"{name}: give one array for each of the {len(recordings)} recordings")
    for number, (rows, recording) in enumerate(zip(arrays, recordings, strict=True)):
        units = len(by_each(recording)[0].unit_ids)
        if len(rows) != units:
            raise InputError(f"{name}: recording {number} has {len(rows)} rows for {units} units")
    return arrays


def tables_of(recording: Recording, features=None) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Tables and column names, as in `Labelled`, of all units of a recording, including rows of NaN."""
    ensemble = by_each(recording)
    first = ensemble[0]
    tables = {}
    for embeddings in ensemble:
        if not isinstance(embeddings, UnitEmbeddings):
            raise InputError(f"a recording is UnitEmbeddings, or a tuple of them, not {type(embeddings).__name__}")
        if not np.array_equal(embeddings.unit_ids, first.unit_ids):
            raise InputError("embeddings of one recording by several checkpoints must be of the same units, in order")
        if embeddings.provenance.checkpoint_sha256 is None:
            raise InputError("the checkpoint of the embeddings is unknown: embed again, or load what `save` wrote")
        tables |= _tables_of_members(embeddings)
    if len({embeddings.provenance.checkpoint_sha256 for embeddings in ensemble}) < len(ensemble):
        raise InputError("two embeddings of a tuple are by the same checkpoint: give one for each checkpoint")
    if features is None:
        return tables, ()
    values = _feature_values(features, first.unit_ids)
    return {**tables, FEATURES: values}, tuple(map(str, features.columns))


def _tables_of_members(embeddings: UnitEmbeddings) -> dict[str, np.ndarray]:
    """One table for each member of the checkpoint: its sha256, followed by ``#1``, ``#2``, … for an ensemble."""
    provenance = embeddings.provenance
    members = ((provenance.model or {}).get("config") or {}).get("members", 1)
    rows = embeddings.embedding.astype(np.float64)
    if not isinstance(members, int) or members < 1 or rows.shape[1] % members:
        raise InputError(f"embeddings of {rows.shape[1]} dimensions do not divide into the {members!r} of their model")
    if members == 1:
        return {provenance.checkpoint_sha256: rows}
    parts = np.split(rows, members, axis=1)
    return {f"{provenance.checkpoint_sha256}#{i}": part for i, part in enumerate(parts, start=1)}


def checkpoint_of(table: str) -> str:
    """The sha256 of the checkpoint whose embeddings, or those of one of its members, are in a table of this name."""
    return table.partition("#")[0]


def _feature_values(features, unit_ids: np.ndarray) -> np.ndarray:
    """The features in the order of the units, matched by id if the index holds ids; NaN for infinite values."""
    import pandas as pd

    if not isinstance(features, pd.DataFrame):
        raise InputError(f"features must be a pandas DataFrame, one row per unit, not {type(features).__name__}")
    if not isinstance(features.index, pd.RangeIndex):
        features = features.set_axis(features.index.astype(str))
        missing = sorted({str(unit) for unit in unit_ids} - set(features.index))
        if missing or not features.index.is_unique:
            problem = f"unit {missing[0]} is missing" if missing else "a unit occurs twice"
            raise InputError(f"features: the index must name each unit once: {problem}")
        features = features.loc[[str(unit) for unit in unit_ids]]
    if len(features) != len(unit_ids):
        raise InputError(f"features has {len(features)} rows for {len(unit_ids)} units")
    texts = [str(name) for name, kind in features.dtypes.items() if not pd.api.types.is_numeric_dtype(kind)]
    if texts:
        raise InputError(f"features: the column {texts[0]!r} holds no numbers: leave it out")
    values = features.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isfinite(values), values, np.nan)


def embedded(tables: dict[str, np.ndarray]) -> np.ndarray:
    """Mask of the units with an embedding of every checkpoint."""
    return np.all([np.isfinite(rows).all(axis=1) for name, rows in tables.items() if name != FEATURES], axis=0)


def check_fit(target: str, card: dict | None, seed: int) -> None:
    """InputError if the target, the card or the seed is invalid."""
    check_seed(seed)
    if not isinstance(target, str) or not target:
        raise InputError("target must name the property, such as 'cell_type'")
    if not isinstance(card, dict | None):
        raise InputError(f"card must be a dict, not of type {type(card).__name__}")
    try:
        json.dumps(card)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"card: JSON cannot hold it ({reason_of(error)})") from None


def facts_of(labelled: Labelled, embeddings, left_out: str, seed: int) -> dict:
    """Entries that the fit adds to the card of a decoder."""
    import sklearn

    support = {}
    if not labelled.continuous:
        names, counts = np.unique(labelled.labels, return_counts=True)
        support = {"support": dict(zip(names.tolist(), counts.tolist(), strict=True))}
    return {
        "checkpoints": _checkpoint_names(embeddings),
        "units": len(labelled),
        "recordings": len(np.unique(labelled.recordings)),
        "calibrated_on": left_out,
        "seed": seed,
        "versions": {name: version(name) for name in ("spikeinterface-nuclr", "numpy")}
        | {"scikit-learn": sklearn.__version__},
        **support,
    }


def _checkpoint_names(embeddings) -> dict[str, str]:
    """Name of each checkpoint by its sha256; for files, the file name without the path."""
    ensemble = by_each(embeddings[0] if isinstance(embeddings, list) else embeddings)
    provenances = [member.provenance for member in ensemble]
    names = {provenance.checkpoint_sha256: provenance.checkpoint or "" for provenance in provenances}
    return {sha256: name if name.startswith("hf://") else Path(name).name for sha256, name in names.items()}


def _label_recording(number: int, recording: Recording, labels, animal, features, read: Callable) -> Labelled:
    """The labelled units of one recording."""
    name = f"recording {number}"
    tables, columns = tables_of(recording, features)
    first = by_each(recording)[0]
    n = len(first.unit_ids)
    labels, has_label = read(labels, f"{name}: labels")
    if labels.shape != (n,):
        raise InputError(f"{name}: labels has shape {labels.shape} for {n} units")
    animal = first.provenance.subject if animal is None else animal
    if isinstance(animal, str) and not animal.strip():
        raise InputError(f"{name}: names no subject: give animals=, so that training and test animals differ")
    animals = as_animals(animal, n, name)
    keep = np.flatnonzero(has_label & embedded(tables))
    return Labelled(
        {name: table[keep] for name, table in tables.items()},
        columns,
        labels[keep],
        animals[keep],
        np.full(len(keep), number),
        keep,
    )


def _per_recording_list(values, count: int, name: str) -> Sequence:
    if values is None:
        return [None] * count
    if isinstance(values, str) or not hasattr(values, "__len__") or len(values) != count:
        raise InputError(f"{name}: give one entry for each of the {count} recordings")
    return list(values)


def _checkpoints(part: Labelled) -> str:
    return " and ".join(sha256[:12] for sha256 in part.tables if sha256 != FEATURES)
