"""The part of `benchmarks/quality.py` that finds neurons again: in another recording, half or session."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from recordings import TEST, VALIDATION, read, unseen
from scoring import Pair, best_scaling, rows_of_animals

from spikeinterface_nuclr import Checkpoint, Population
from spikeinterface_nuclr.training.monitors import alternating

# Fewest spikes in each half, and events in each session.
RAT_SPIKES, MOUSE_EVENTS = 25, 15


def halves(block_s: float, min_spikes: int = 0) -> Callable[[list[Population]], Iterator[Pair]]:
    """A function that gives the halves of each recording of an animal, of alternating blocks."""

    def pairs(recordings: list[Population]) -> Iterator[Pair]:
        for population in recordings:
            yield Pair.of_halves(alternating(population, block_s), min_spikes)

    return pairs


def all_pairs(recordings: list[Population]) -> Iterator[Pair]:
    """All pairs of recordings of an animal, with their common neurons as candidates."""
    for k, first in enumerate(recordings):
        for second in recordings[k + 1 :]:
            common = np.intersect1d(first.unit_ids, second.unit_ids)
            sides = tuple(p.select([list(p.unit_ids).index(unit) for unit in common]) for p in (first, second))
            yield Pair.of_halves(sides)


def sessions_apart(distance: int) -> Callable[[list[Population]], Iterator[Pair]]:
    """A function that gives pairs of sessions in the same environment, so many sessions apart.

    Candidates are all cells with enough events; the common ones are those registered in both sessions.
    """

    def pairs(recordings: list[Population]) -> Iterator[Pair]:
        environments: dict[str, list[Population]] = {}
        for population in recordings:
            environments.setdefault(Path(population.metadata["source"]).stem.rsplit("-", 1)[0], []).append(population)
        for sessions in environments.values():
            for first, second in zip(sessions, sessions[distance:], strict=False):
                yield _registered(first, second)

    return pairs


def _registered(*sides: Population) -> Pair:
    units = tuple(np.flatnonzero(side.num_spikes >= MOUSE_EVENTS) for side in sides)
    names = [np.asarray(side.properties["unit_name"]).astype(str)[u] for side, u in zip(sides, units, strict=True)]
    positions = [{name: i for i, name in enumerate(of_side) if name} for of_side in names]
    same = [(i, positions[1][name]) for name, i in positions[0].items() if name in positions[1]]
    return Pair(sides, units, np.array(same).reshape(-1, 2))


def task(title: str, kind: str, folder: str, pairs: Callable) -> Callable[[Path, Checkpoint], dict]:
    """A function that scores every method on the test animals of a kind."""

    def run(data: Path, model: Checkpoint) -> dict:
        validation, test = (
            rows_of_animals(
                {animal: pairs(recordings) for animal, recordings in read(data, folder, animals[kind]).items()},
                model.name, lambda animal: unseen(model, animal),
            )
            for animals in (VALIDATION, TEST)
        )  # fmt: skip
        return {f"{title} ({', '.join(test)})": best_scaling(validation, test)}

    return run


TASKS = {
    "aplysia": [task("Aplysia: top-1 re-identification in another recording", "aplysia", "aplysia", all_pairs)],
    "human": [task("Human: top-1 re-identification in the other half", "human", "human", halves(10.0))],
    "rats": [
        task(
            "Rats: top-1 re-identification in the other half", "rats", "rat-neuropixels", halves(20.0, RAT_SPIKES)
        )
    ],
    "days": [
        task("Mice: top-1 re-identification in the next session", "days", "mouse-ca1-days", sessions_apart(1)),
        task("Mice: top-1 re-identification four sessions later", "days", "mouse-ca1-days", sessions_apart(4)),
    ],
}  # fmt: skip
