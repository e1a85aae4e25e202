"""Splits into training and test units, and folds within the training units: by animal, unless stated otherwise."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from numbers import Integral

import numpy as np

from ..errors import InputError

PROTOCOLS = ("leave-one-animal-out", "zero-shot", "within-animal")
# Kind of folds of whole animals, as `folds_of` returns it.
ANIMALS = "animals"
_FOLDS = 5
FEWEST_VALUES = 5


@dataclass(frozen=True, eq=False)
class Split:
    """One division of units.

    Attributes
    ----------
    name : str
    fit, test : int arrays
        Positions of the training and test units.
    """

    name: str
    fit: np.ndarray
    test: np.ndarray

    def __post_init__(self):
        for side in ("fit", "test"):
            object.__setattr__(self, side, np.asarray(getattr(self, side)))


def split_units(animals: np.ndarray, labels: np.ndarray, protocol: str, test_animals=(), seed: int = 0) -> list[Split]:
    """The splits of a protocol.

    Parameters
    ----------
    animals, labels : arrays, shape (n,)
    protocol : {"leave-one-animal-out", "zero-shot", "within-animal"}
        "leave-one-animal-out" tests on each animal in turn and fits to the others; "zero-shot" tests on `test_animals`
        and fits to the others; "within-animal" fits and tests on different units of each animal, in five folds. Scores
        within animals may reflect the session, so decoders may score lower in new animals.
    test_animals : sequence of str
        For "zero-shot": animals that were not used for any choice.
    seed : int
        Seed of the folds within animals.

    Raises
    ------
    InputError
        The protocol is unknown, or there are too few animals for it.
    """
    from sklearn.model_selection import LeaveOneGroupOut

    names = np.unique(animals)
    check_protocol(protocol, test_animals)
    check_seed(seed)
    if protocol == "within-animal":
        return _within(animals, labels, seed)
    if protocol == "zero-shot":
        unknown = sorted(set(map(str, test_animals)) - set(names.tolist()))
        if unknown:
            raise InputError(f"test animal {unknown[0]!r} is not among the animals: {', '.join(names[:5])}, …")
        is_test = np.isin(animals, list(map(str, test_animals)))
        splits = [Split("test animals", np.flatnonzero(~is_test), np.flatnonzero(is_test))]
    elif len(names) > 1:
        parts = LeaveOneGroupOut().split(animals, groups=animals)
        splits = [Split(str(animals[test[0]]), fit, test) for fit, test in parts]
    if len(names) < 2 or not len(splits[0].fit):
        raise InputError(
            f"{protocol} needs animals to fit to and others to test on, here are {len(names)} "
            f"({', '.join(names[:3])}): add animals, or use the protocol 'within-animal' and report it"
        )
    return splits


def check_protocol(protocol: str, test_animals=()) -> None:
    """InputError if the protocol is unknown, or does not go with `test_animals`."""
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol must be one of {PROTOCOLS}, not {protocol!r}")
    if isinstance(test_animals, str):
        raise InputError(f"test_animals must be a list of names, such as [{test_animals!r}]")
    if (protocol == "zero-shot") != bool(len(test_animals)):
        raise InputError("test_animals must be given for protocol 'zero-shot', and only for it")


def check_seed(seed: int) -> None:
    """InputError if `seed` is not a whole number from 0 on."""
    if not isinstance(seed, Integral) or seed < 0:
        raise InputError(f"seed must be a whole number from 0 on, not {seed!r}")


def check_splits(splits: list[Split], animals: np.ndarray, protocol: str) -> None:
    """InputError if a unit is on both sides of a split, or an animal is and the protocol is not "within-animal"."""
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol must be one of {PROTOCOLS}, not {protocol!r}")
    if len({split.name for split in splits}) < len(splits) or not splits:
        raise InputError("splits: give at least one, each with a name of its own")
    for split in splits:
        positions = np.concatenate([split.fit, split.test])
        if not len(split.fit) or not len(split.test) or positions.min() < 0 or positions.max() >= len(animals):
            raise InputError(
                f"split {split.name!r}: a side is empty, or a position is beyond the {len(animals)} labelled units"
            )
        if positions.dtype.kind not in "iu":
            raise InputError(f"split {split.name!r}: give integer positions of units, not {positions.dtype}")
        if len(np.intersect1d(split.fit, split.test)):
            raise InputError(f"split {split.name!r}: the same unit is on both sides")
        both = np.intersect1d(animals[split.fit], animals[split.test])
        if len(both) and protocol != "within-animal":
            raise InputError(
                f"split {split.name!r}: animal {both[0]} is on both sides and would leak into the test: split by "
                "animal, or use the protocol 'within-animal'"
            )


def scorable(splits: list[Split], labels: np.ndarray) -> tuple[list[Split], dict[str, int]]:
    """Remove test units whose class has no training units; returns the splits and the removed units of each class.

    Raises
    ------
    InputError
        There is nothing to score, or the training units of a split have a single class.
    """
    remaining, removed = [], []
    for split in splits:
        learnable = np.isin(labels[split.test], labels[split.fit])
        removed.append(split.test[~learnable])
        if learnable.any():
            remaining.append(Split(split.name, split.fit, split.test[learnable]))
    if not remaining:
        raise InputError("no class occurs both in training and in test animals: label more animals")
    for split in remaining:
        classes = np.unique(labels[split.fit])
        if len(classes) < 2:
            raise InputError(
                f"split {split.name!r}: all training units are {str(classes[0])!r}, and a decoder needs two classes: "
                "label more animals"
            )
    names, counts = np.unique(labels[np.concatenate(removed)], return_counts=True)
    return remaining, dict(zip(names.tolist(), counts.tolist(), strict=True))


def with_range(splits: list[Split], animals: np.ndarray, values: np.ndarray) -> tuple[list[Split], dict[str, int]]:
    """Remove test animals with fewer than `FEWEST_VALUES` different values, whose ranks say nothing.

    Returns the splits, and the number of removed units of each animal.

    Raises
    ------
    InputError
        There is nothing to score.
    """
    remaining, removed = [], {}
    for split in splits:
        keep = np.ones(len(split.test), dtype=bool)
        for animal in np.unique(animals[split.test]).tolist():
            units = animals[split.test] == animal
            if len(np.unique(values[animals == animal])) < FEWEST_VALUES:
                keep &= ~units
                removed[animal] = removed.get(animal, 0) + int(units.sum())
        if keep.any():
            remaining.append(Split(split.name, split.fit, split.test[keep]))
    if not remaining:
        raise InputError(f"no test animal has {FEWEST_VALUES} different values: add units with a value")
    return remaining, removed


def folds_of(animals: np.ndarray, labels: np.ndarray, seed: int = 0) -> tuple[list[np.ndarray], str]:
    """At most five folds of whole animals, for choices within the training units, and their kind.

    The units of a single animal are divided instead.
    """
    from sklearn.model_selection import GroupKFold

    count = len(np.unique(animals))
    if count == 1:
        return list(_stratified(labels, seed)), "units of one animal"
    parts = GroupKFold(min(count, _FOLDS)).split(animals, groups=animals)
    return [test for _, test in parts], ANIMALS


def outside_and_inside(folds: Iterable[np.ndarray], count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each fold of `count` units, the positions outside and inside it, like scikit-learn's splitters."""
    for fold in folds:
        yield np.delete(np.arange(count), fold), fold


def _within(animals: np.ndarray, labels: np.ndarray, seed: int) -> list[Split]:
    splits = []
    for animal in np.unique(animals):
        units = np.flatnonzero(animals == animal)
        # With fewer than two classes of several units, a fold could leave a single class to fit to.
        classes = np.unique(labels[units], return_counts=True)[1]
        several = labels.dtype.kind == "f" or (classes > 1).sum() > 1
        if len(units) < 2 * _FOLDS or not several:
            continue
        for number, test in enumerate(_stratified(labels[units], seed)):
            splits.append(Split(f"{animal}, fold {number}", np.delete(units, test), units[test]))
    if not splits:
        raise InputError(
            f"within-animal needs an animal with at least {2 * _FOLDS} labelled units, of two classes or with numbers"
        )
    return splits


def _stratified(labels: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Five folds with about the same distribution of labels.

    scikit-learn's StratifiedKFold accepts neither continuous values nor classes with fewer units than folds.
    """
    rng = np.random.default_rng(seed)
    if labels.dtype.kind == "f":
        order = rng.permutation(len(labels))
    else:
        shuffled = rng.permutation(len(labels))
        order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    for number in range(_FOLDS):
        part = np.sort(order[number::_FOLDS])
        if len(part):
            yield part
