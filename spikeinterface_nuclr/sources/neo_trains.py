"""neo's SpikeTrains (a Block, a Segment or a list) -> Population."""

from collections import defaultdict

import numpy as np

from ..errors import InputError
from ..population import Population, union
from .assembly import assemble, choose_group, plain_columns


def is_neo(source) -> bool:
    """Whether the object is neo's, or a list of neo's spike trains. Does not import neo."""
    if isinstance(source, list | tuple):
        return bool(source) and all(is_neo(item) and type(item).__name__ == "SpikeTrain" for item in source)
    return type(source).__module__.partition(".")[0] == "neo"


def read_neo(source, *, group_by, observed) -> Population:
    """The Population of neo spike trains.

    A train is a unit. In a Block, trains of one name (or, where they have none, of one position) in several segments
    are one unit; each train's ``t_start`` and ``t_stop`` bound its observed time. Segments whose times overlap are
    laid one after the other, a second apart.
    """
    kind = type(source).__name__
    name = f"neo {kind}"
    if kind == "Block":
        segments = [list(segment.spiketrains) for segment in source.segments]
    elif kind == "Segment":
        segments = [list(source.spiketrains)]
    elif isinstance(source, list | tuple) or kind == "SpikeTrainList":
        segments = [list(source)]
    elif kind == "SpikeTrain":
        segments = [[source]]
    else:
        raise InputError(f"{name}: a Block, a Segment or SpikeTrains are accepted")
    segments = [trains for trains in segments if trains]
    if not segments:
        raise InputError(f"{name}: it holds no spike trains")

    times, seen, notes = defaultdict(list), defaultdict(list), {}
    end = -np.inf
    for trains in segments:
        limits = np.array([[_seconds(t.t_start), _seconds(t.t_stop)] for t in trains])
        shift = np.ceil(end) + 1.0 - limits.min() if limits.min() < end else 0.0
        for unit, train, span in zip(_names(trains), trains, limits, strict=True):
            times[unit].append(np.sort(np.asarray(train.rescale("s").magnitude, dtype=np.float64).ravel()) + shift)
            seen[unit].append(span + shift)
            notes.setdefault(unit, train.annotations)
        end = limits.max() + shift

    units = list(times)
    keys = {key for note in notes.values() for key, value in note.items() if isinstance(value, str | int | float)}
    properties = plain_columns({key: [notes[u].get(key, "") for u in units] for key in sorted(keys)})
    return assemble(
        name,
        units,
        [np.concatenate(times[u]) for u in units],
        observed=[union(np.array(seen[u])) for u in units] if observed is None else observed,
        group=choose_group(name, properties, group_by),
        properties=properties,
        metadata={"source": name},
    )


def _seconds(quantity) -> float:
    return float(quantity.rescale("s").magnitude)


def _names(trains) -> list:
    """Names of the trains where each has one of its own, else their positions."""
    names = [train.name for train in trains]
    if all(names) and len(set(names)) == len(names):
        return names
    return list(range(len(trains)))
