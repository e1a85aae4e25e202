"""Splits: which units a decoder is fitted to and which it is scored on. By animal, unless another is named."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from numbers import Integral

import numpy as np

from ..errors import InputError

PROTOCOLS = ("leave-one-animal-out", "zero-shot", "within-animal")
# What `folds_of` says of folds of whole animals.
ANIMALS = "animals"
_FOLDS = 5


@dataclass(frozen=True, eq=False)
class Split:
    """One division of units.

    Attributes
    ----------
    name : str
    fit, test : int arrays
        Positions of the units.
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
        Fit to all animals but one, each in its turn; fit to all animals but `test_animals`, once; or fit and test on
        different units of the same animal, by five folds in each: a score that no new animal need reach, since a
        decoder may read the session from it.
    test_animals : sequence of str
        Of "zero-shot"; animals that no choice has seen.
    seed : int
        Of the folds within animals.

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
            raise InputError(f"test animal {unknown[0]!r} is none of these: {', '.join(names[:5])}, …")
        out = np.isin(animals, list(map(str, test_animals)))
        splits = [Split("test animals", np.flatnonzero(~out), np.flatnonzero(out))]
    elif len(names) > 1:
        parts = LeaveOneGroupOut().split(animals, groups=animals)
        splits = [Split(str(animals[test[0]]), fit, test) for fit, test in parts]
    if len(names) < 2 or not len(splits[0].fit):
        raise InputError(
            f"{protocol} needs animals to fit to and others to test on, here are {len(names)} "
            f"({', '.join(names[:3])}): add animals, or ask for 'within-animal' and call it that"
        )
    return splits


def check_protocol(protocol: str, test_animals=()) -> None:
    """InputError where there is no such protocol, or test animals do not belong to it."""
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol must be one of {PROTOCOLS}, not {protocol!r}")
    if isinstance(test_animals, str):
        raise InputError(f"test_animals must be a list of names, such as [{test_animals!r}]")
    if (protocol == "zero-shot") != bool(len(test_animals)):
        raise InputError("test_animals belongs to protocol 'zero-shot', and it needs some")


def check_seed(seed: int) -> None:
    """InputError where numpy takes no such seed."""
    if not isinstance(seed, Integral) or seed < 0:
        raise InputError(f"seed must be a whole number from 0 on, not {seed!r}")


def check_splits(splits: list[Split], animals: np.ndarray, protocol: str) -> None:
    """InputError where a unit is on both sides of a split, or an animal is and the protocol does not say so."""
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol must be one of {PROTOCOLS}, not {protocol!r}")
    if len({split.name for split in splits}) < len(splits) or not splits:
        raise InputError("splits need a name each, and there must be one")
    for split in splits:
        positions = np.concatenate([split.fit, split.test])
        if not len(split.fit) or not len(split.test) or positions.min() < 0 or positions.max() >= len(animals):
            raise InputError(
                f"split {split.name!r}: a side is empty, or names a unit beyond the {len(animals)} labelled"
            )
        if positions.dtype.kind not in "iu":
            raise InputError(f"split {split.name!r}: name units by their positions, not by {positions.dtype}")
        if len(np.intersect1d(split.fit, split.test)):
            raise InputError(f"split {split.name!r}: the same unit is on both sides")
        both = np.intersect1d(animals[split.fit], animals[split.test])
        if len(both) and protocol != "within-animal":
            raise InputError(
                f"split {split.name!r}: animal {both[0]} is on both sides, which gives the answer away: split by "
                "animal, or name the protocol 'within-animal'"
            )


def scorable(splits: list[Split], labels: np.ndarray) -> tuple[list[Split], dict[str, int]]:
    """The splits without test units of classes that the fit cannot know, and how many units of each class these are.

    Raises
    ------
    InputError
        Nothing is left to score, or a split fits to a single class.
    """
    kept, left = [], []
    for split in splits:
        possible = np.isin(labels[split.test], labels[split.fit])
        left.append(split.test[~possible])
        if possible.any():
            kept.append(Split(split.name, split.fit, split.test[possible]))
    if not kept:
        raise InputError("no class occurs both in what is fitted to and in what is tested: label more animals")
    for split in kept:
        classes = np.unique(labels[split.fit])
        if len(classes) < 2:
            raise InputError(
                f"split {split.name!r}: all units that are fitted to are {str(classes[0])!r}, and a decoder needs two "
                "classes: label more animals"
            )
    names, counts = np.unique(labels[np.concatenate(left)], return_counts=True)
    return kept, dict(zip(names.tolist(), counts.tolist(), strict=True))


def folds_of(animals: np.ndarray, labels: np.ndarray, seed: int = 0) -> tuple[list[np.ndarray], str]:
    """At most five disjoint parts of the units, whole animals each, for choices inside what is fitted to.

    Of a single animal, its units are divided; the second value says which of the two it was.
    """
    from sklearn.model_selection import GroupKFold

    count = len(np.unique(animals))
    if count == 1:
        return list(_stratified(labels, seed)), "units of one animal"
    parts = GroupKFold(min(count, _FOLDS)).split(animals, groups=animals)
    return [test for _, test in parts], ANIMALS


def outside_and_inside(folds: Iterable[np.ndarray], count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of each fold of `count` units the positions outside of it and inside, as scikit-learn's splitters give them."""
    for fold in folds:
        yield np.delete(np.arange(count), fold), fold


def _within(animals: np.ndarray, labels: np.ndarray, seed: int) -> list[Split]:
    splits = []
    for animal in np.unique(animals):
        units = np.flatnonzero(animals == animal)
        # Of classes with a single unit, a fold would leave one class to fit to.
        classes = np.unique(labels[units], return_counts=True)[1]
        if len(units) < 2 * _FOLDS or (classes > 1).sum() < 2:
            continue
        for number, test in enumerate(_stratified(labels[units], seed)):
            splits.append(Split(f"{animal}, fold {number}", np.delete(units, test), units[test]))
    if not splits:
        raise InputError(f"within-animal needs an animal with at least {2 * _FOLDS} labelled units of two classes")
    return splits


def _stratified(labels: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Five parts with the same mixture of labels, rare ones spread as far as they go.

    By hand: scikit-learn's StratifiedKFold takes neither numbers on a scale nor classes of fewer units than folds.
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
