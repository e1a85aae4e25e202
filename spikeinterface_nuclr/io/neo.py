"""neo's SpikeTrains (a Block, a Segment or a list) -> Population."""

from collections import Counter, defaultdict

import numpy as np

from ..errors import InputError
from ..intervals import union
from ..population import Population
from .assembly import assemble
from .columns import plain_columns
from .probes import choose_group

# Annotations that name a unit, the most specific first.
_NAMES = ("unit_id", "unit_name", "unit", "neuron_id", "cluster_id", "id", "label", "channel_id", "channel")


def is_neo(source) -> bool:
    """Whether the object is one of neo, or a list of neo SpikeTrains. Does not import neo."""
    if isinstance(source, list | tuple):
        return bool(source) and all(is_neo(item) and type(item).__name__ == "SpikeTrain" for item in source)
    return type(source).__module__.partition(".")[0] == "neo"


def read_neo(source, *, group_by, observed) -> Population:
    """The Population of neo spike trains.

    Each train is a unit. Trains in different segments of a Block belong to one unit if they share a name or an
    annotation such as ``unit_id``; without either, if all segments have the same number of trains, by position. Each
    train's ``t_start`` and ``t_stop`` bound its observed time. Segments whose times overlap are placed one after the
    other, a second apart.
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
        raise InputError(f"{name}: it has no spike trains")

    times, recorded, annotations = defaultdict(list), defaultdict(list), {}
    end = -np.inf
    for trains, units in zip(segments, _unit_ids(segments, name), strict=True):
        limits = np.array([[_seconds(t.t_start), _seconds(t.t_stop)] for t in trains])
        shift = np.ceil(end) + 1.0 - limits.min() if limits.min() < end else 0.0
        for unit, train, span in zip(units, trains, limits, strict=True):
            times[unit].append(np.sort(np.asarray(train.rescale("s").magnitude, dtype=np.float64).ravel()) + shift)
            recorded[unit].append(span + shift)
            annotations.setdefault(unit, train.annotations)
        end = limits.max() + shift

    units = list(times)
    properties = _properties([annotations[unit] for unit in units], name)
    return assemble(
        name,
        units,
        [np.concatenate(times[u]) for u in units],
        observed=observed,
        recorded=[union(np.array(recorded[u])) for u in units],
        group=choose_group(name, properties, group_by),
        properties=properties,
        metadata={"source": name},
    )


def _seconds(quantity) -> float:
    return float(quantity.rescale("s").magnitude)


def _unit_ids(segments: list[list], name: str) -> list[list]:
    """Unit id of each train in each segment: a name or annotation that is unique in every segment, else its position.

    Raise InputError if the trains of one neuron cannot be matched across segments.
    """
    candidates = {key: [[_label(train, key) for train in trains] for trains in segments] for key in ("name", *_NAMES)}
    for ids in candidates.values():
        if all(unit is not None for units in ids for unit in units) and not any(map(_repeated, ids)):
            return ids
    if len(segments) == 1:
        return [list(range(len(segments[0])))]
    for key, ids in candidates.items():
        if any(units != ids[0] and any(unit is not None for unit in (*units, *ids[0])) for units in ids):
            raise _unclear(name, key, ids)
    counts = [len(trains) for trains in segments]
    if len(set(counts)) > 1:
        raise InputError(
            f"{name}: its segments have {min(counts)} to {max(counts)} trains without names: give each train a "
            "name, or the annotation unit_id"
        )
    return [list(range(counts[0])) for _ in segments]


def _unclear(name: str, key: str, ids: list[list]) -> InputError:
    repeated = next(((unit, k) for k, units in enumerate(ids) for unit in [_repeated(units)] if unit is not None), None)
    if repeated:
        reason = f"{repeated[0]} occurs more than once in segment {repeated[1]}"
    else:
        reason = "it names only some of them, or different ones in each segment"
    return InputError(
        f"{name}: trains of its {len(ids)} segments cannot be matched to neurons. The {key} does not identify them, "
        f"because {reason}: give each train of a segment a unique name, or a unique annotation unit_id"
    )


def _label(train, key: str):
    """The train's name or annotation `key`; None if it has none."""
    value = train.name if key == "name" else _plain(train.annotations.get(key))
    return None if value == "" else value


def _repeated(ids: list):
    """A name that occurs more than once, or None."""
    return next((unit for unit, count in Counter(ids).items() if count > 1 and unit is not None), None)


def _plain(value):
    """The annotation as text or a number, unpacked from an array of length 1; None if it is neither."""
    value = value.item() if isinstance(value, np.generic | np.ndarray) and value.size == 1 else value
    return value if isinstance(value, str | int | float) else None


def _properties(annotations: list[dict], name: str) -> dict[str, np.ndarray]:
    """Annotations that are text or numbers, as columns of the units."""
    keys = sorted({key for unit in annotations for key, value in unit.items() if _plain(value) is not None})
    columns = {
        key: np.array([_plain(unit.get(key)) for unit in annotations] + [None], dtype=object)[:-1] for key in keys
    }
    return plain_columns(columns, name)
