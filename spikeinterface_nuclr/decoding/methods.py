"""Methods: the features that an evaluation compares, of the same labelled units, and the splits that it scores."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral

import numpy as np

from ..errors import InputError, RecordingWarning
from ..population import Population
from .baselines import comparison_tables
from .labelled import Labelled, Recording, by_each, label_units
from .parallel import check_jobs
from .readout import check_readout
from .scores import EMBEDDING, FUSED
from .splits import Split, check_seed, check_splits, split_units


@dataclass(frozen=True, eq=False)
class Methods:
    """What is compared, and on which units.

    Attributes
    ----------
    by_name : dict of str to Labelled
        The labelled units with the features of each method, the embedding first.
    splits : list of Split
    columns : tuple of str
        Names of other features that are read next to the embedding.
    recordings : list
        Embeddings of each recording.
    populations : list of Population, or None
    """

    by_name: dict[str, Labelled]
    splits: list[Split]
    columns: tuple[str, ...]
    recordings: list[Recording]
    populations: list[Population] | None

    @property
    def embedding(self) -> Labelled:
        """The labelled units with their embeddings."""
        return self.by_name[EMBEDDING]

    @property
    def numbers(self) -> int:
        """Approximate number of values that all fits of a method fit to."""
        return sum(rows.size for rows in self.embedding.tables.values()) * len(self.splits)

    @property
    def tested(self) -> np.ndarray:
        """Positions of the test units of all splits."""
        return np.concatenate([split.test for split in self.splits])

    def with_splits(self, splits: list[Split]) -> "Methods":
        """The same methods, scored on other splits."""
        return replace(self, splits=splits)

    def shuffle_groups(self) -> np.ndarray:
        """Group of each unit, within which labels are shuffled: by animal, and by whether it is scored. Shape (n,)."""
        scored = np.isin(np.arange(len(self.embedding)), self.tested)
        return 2 * np.unique(self.embedding.animals, return_inverse=True)[1] + scored

    def worth_shuffling(self, shuffles: int) -> int:
        """The number of shuffles; 0, with a RecordingWarning, if shuffling within animals changes no label."""
        groups, labels = self.shuffle_groups(), self.embedding.labels
        if not shuffles or any(len(np.unique(labels[groups == group])) > 1 for group in np.unique(groups)):
            return shuffles
        warnings.warn(
            "labels are not shuffled, since each animal holds one class: chance is not tested",
            RecordingWarning,
            stacklevel=3,
        )
        return 0

    def unit_ids_of(self, table) -> list[str]:
        """The id of each row of a table with the columns recording and unit."""
        unit_ids = [by_each(recording)[0].unit_ids for recording in self.recordings]
        return [
            str(unit_ids[recording][unit]) for recording, unit in zip(table["recording"], table["unit"], strict=True)
        ]


def methods_of(
    embeddings,
    labels,
    animals,
    protocol: str,
    *,
    populations: Sequence[Population] | Population | None,
    others: dict[str, list] | None,
    features,
    test_animals: Sequence[str],
    splits: list[Split] | None,
    seed: int,
    read: Callable,
) -> Methods:
    """The methods of an evaluation with these arguments; all are scored on the same units.

    `read` is `as_labels` or `as_values`, as in `label_units`.
    """
    fused = label_units(embeddings, labels, animals, features, read=read)
    labelled = fused.without_features()
    recordings = embeddings if isinstance(embeddings, list) else [embeddings]
    populations = [populations] if isinstance(populations, Population) else populations
    tables = comparison_tables(labelled, recordings, populations, others)
    keep = np.all([np.ones(len(labelled), dtype=bool), *(np.isfinite(t).any(axis=1) for t in tables.values())], axis=0)
    if splits is not None:
        check_splits(splits, labelled.animals, protocol)
        position = np.cumsum(keep) - 1
        splits = [Split(s.name, *(position[side[keep[side]]] for side in (s.fit, s.test))) for s in splits]
    labelled, fused = labelled.select(keep), fused.select(keep)
    tables = {name: rows[keep] for name, rows in tables.items()}
    if splits is None:
        splits = split_units(labelled.animals, labelled.labels, protocol, test_animals, seed)
    check_splits(splits, labelled.animals, protocol)
    by_name = {EMBEDDING: labelled} | ({FUSED: fused} if fused.columns else {})
    by_name |= {name: labelled.with_table(rows, name) for name, rows in tables.items()}
    return Methods(by_name, splits, fused.columns, recordings, populations)


def check_settings(readout: str, shuffles: int, seed: int, n_jobs: int) -> None:
    """InputError if a setting of an evaluation is invalid."""
    check_jobs(n_jobs)
    check_seed(seed)
    check_readout(readout)
    if not isinstance(shuffles, Integral) or shuffles < 0:
        raise InputError(f"shuffles must be a whole number from 0 on, not {shuffles!r}")
