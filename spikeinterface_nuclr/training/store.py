"""Store: the activity of many sessions on disk, such that any window is one short read.

    STORE/
        store.json                      the version of the format
        sessions/<name>/session.json    one source: its animal, its probes, their units, when each was observed
        sessions/<name>/<probe>.*.npy   the probe's spikes, sorted by time; or its traces, frame by frame

A spike takes six bytes: the number of its unit, and the fraction of its second in units of 2^-32 s. An index holds the
number of spikes before each second, so that a window is located without a search. At the scale of the IBL brain-wide
map (700 insertions, 7 billion spikes) the spikes take 42 GB and the index 30 MB; only the windows that are read are in
memory.

Fractions are rounded up, so that a spike on the edge of a bin stays in the bin that starts there, and counts equal
those of `binning.bin_activity`.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..errors import InputError, reading, reason_of
from ..files import standing_folders
from ..io.untrusted import read_json
from ..population import Population
from ..windows import Timeline

FORMAT_VERSION = 1
TICKS = 1 << 32  # per second


@dataclass(frozen=True, eq=False)
class Probe:
    """The population of one probe in a store; its activity stays on disk.

    Attributes
    ----------
    path : Path
        The session's folder and the stem of the probe's files.
    animal, session, label : str
        Names of the animal, the session and the probe.
    outline : Population
        The units and their observed times, without spikes.
    signal : {"spikes", "traces"}
    sampling_frequency : float or None
        Frames per second of traces.
    weight : float
        Relative weight in random sampling.
    n_spikes : int
        Number of spikes of all units; 0 for traces.
    fingerprints : tuple of str
        `Population.fingerprint` and `Population.context_fingerprint`.
    """

    path: Path
    animal: str
    session: str
    label: str
    outline: Population
    signal: str
    sampling_frequency: float | None = None
    weight: float = 1.0
    n_spikes: int = 0
    fingerprints: tuple[str, str] = ("", "")

    @property
    def n_units(self) -> int:
        """Number of units."""
        return self.outline.n_units

    def activity(self, line: Timeline, low: int, high: int) -> np.ndarray:
        """Spike counts, or frames of the traces, in the bins [low, high) of a timeline of this probe.

        Returns
        -------
        float32, shape (n_units, high - low)
        """
        if self.signal == "traces":
            bins, count = np.arange(low, high), len(self._traces)
            return self._traces[line.frames(bins, self.outline.start, self.sampling_frequency, count)].T
        t0, t1 = line.time(np.array([low, high - 1]))
        times, units = self.between(t0 - line.bin_s, t1 + 2 * line.bin_s)
        bins = line.locate(times) - low
        inside = (bins >= 0) & (bins < high - low)
        places = units[inside].astype(np.int64) * (high - low) + bins[inside]
        counts = np.bincount(places, minlength=self.n_units * (high - low))
        return counts.reshape(self.n_units, high - low).astype(np.float32)

    def between(self, start: float, stop: float) -> tuple[np.ndarray, np.ndarray]:
        """Times (float64 seconds, sorted) and units of the spikes in all seconds that overlap [start, stop)."""
        origin, first = int(self._first[0]), self._first[1:]
        low, high = np.clip([np.floor(start) - origin, np.ceil(stop) - origin], 0, len(first) - 1).astype(int)
        a, b = first[low], first[high]
        seconds = np.repeat(np.arange(low, high) + origin, np.diff(first[low : high + 1]))
        units = self._unit[a:b]
        if units.max(initial=0) >= self.n_units:
            raise self._damaged("unit", f"it names unit {units.max()} of {self.n_units}")
        return seconds + self._fraction[a:b] / TICKS, units

    def population(self) -> Population:
        """Load the population with all of its activity into memory."""
        try:
            return self._population()
        except InputError as error:
            if str(self.path.parent) in str(error):
                raise
            raise self._damaged("*", reason_of(error)) from None

    def _population(self) -> Population:
        outline = self.outline
        names = ("observed", "start", "stop", "properties", "group", "metadata")
        attributes = {name: getattr(outline, name) for name in names}
        if self.signal == "traces":
            traces, rate = self._traces[:].T, self.sampling_frequency
            return Population(outline.unit_ids, traces=traces, sampling_frequency=rate, **attributes)
        times, units = self.between(outline.start, outline.stop + 1)
        order = np.argsort(units, kind="stable")
        trains = np.split(times[order], np.searchsorted(units[order], np.arange(1, self.n_units)))
        # Rounding up may have moved a spike past the end of its observed interval.
        for unit, train in enumerate(trains):
            intervals = outline.observed_of(unit)
            if len(train):
                within = np.searchsorted(intervals[:, 0], train, side="right") - 1
                np.minimum(train, intervals[within, 1], out=train)
        return Population(outline.unit_ids, trains, **attributes)

    # Opened on first use, because a store has thousands of these files.
    @cached_property
    def _fraction(self):
        return self._open("fraction", np.uint32, (self.n_spikes,))

    @cached_property
    def _unit(self):
        return self._open("unit", np.uint16, (self.n_spikes,))

    @cached_property
    def _first(self):
        index = self._open("first", np.int64, (-1,))
        if len(index) < 2:
            raise self._damaged("first", "it is empty")
        origin, first = int(index[0]), index[1:]
        if first[0] != 0 or first[-1] != self.n_spikes or (np.diff(first) < 0).any():
            raise self._damaged("first", f"it is not an index of {self.n_spikes} spikes")
        # Rounding up may have moved the last spike into the second after the end.
        inside = math.floor(self.outline.start) <= origin and origin + len(first) - 2 <= self.outline.stop + 1
        if self.n_spikes and not inside:
            raise self._damaged("first", "it lies outside the recording")
        return index

    @cached_property
    def _traces(self):
        traces = self._open("traces", np.float32, (-1, self.n_units))
        if len(traces) < math.floor((self.outline.stop - self.outline.start) * self.sampling_frequency):
            raise self._damaged("traces", "it ends before the recording")
        return traces

    def _open(self, name: str, dtype, shape: tuple[int, ...]) -> np.ndarray:
        """Open one of the probe's arrays, where -1 is any length; InputError if dtype or shape differ."""
        path = self._file(name)
        with reading(path, "file of a store", _rebuild(path.parent)):
            array = np.lib.format.open_memmap(path, mode="r")
        expected = len(array.shape) == len(shape) and all(b in (a, -1) for a, b in zip(array.shape, shape, strict=True))
        if array.dtype != dtype or not expected:
            raise self._damaged(name, f"it holds {array.dtype} of shape {array.shape}")
        return array

    def _file(self, name: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{name}.npy")

    def _damaged(self, name: str, reason: str) -> InputError:
        return InputError(f"{self._file(name)}: damaged ({reason}): {_rebuild(self.path.parent)}")


class Store:
    """Sessions on disk, for training.

    Parameters
    ----------
    path : path
        A folder written by `build_store`.

    Attributes
    ----------
    probes : list of Probe
        The probes of all sessions, sorted by name of the session.

    Examples
    --------
    >>> from spikeinterface_nuclr import Store, build_store, simulate_population
    >>> _ = build_store(simulate_population(12, 30.0), "store", progress=False)
    >>> Store("store").probes[0].n_units
    12
    """

    def __init__(self, path):
        self.path = Path(path)
        check_store(self.path)
        folders = standing_folders(self.path / "sessions")
        self.probes = [probe for folder in folders for probe in _read_session(folder)]
        by_fingerprint: dict[str, Probe] = {}
        for probe in self.probes:
            first = by_fingerprint.setdefault(probe.fingerprints[0], probe)
            active = probe.n_spikes or probe.signal == "traces"
            if active and first.path.parent != probe.path.parent:
                raise InputError(
                    f"{probe.path.parent}: holds the same {probe.signal} as {first.path.parent.name}, which may be "
                    "held out under another name: delete one of the two"
                )

    @property
    def animals(self) -> list[str]:
        """Names of the animals, sorted."""
        return sorted({probe.animal for probe in self.probes})

    def summary(self) -> str:
        """The numbers of sessions, animals, probes and units, in one line."""
        sessions = len({probe.path.parent for probe in self.probes})
        units = sum(probe.n_units for probe in self.probes)
        return f"{sessions} sessions of {len(self.animals)} animals, {len(self.probes)} probes, {units} units"

    def fingerprint(self) -> str:
        """sha256 (hex) of the content of the sessions, in their order."""
        content = [(p.animal, p.session, p.label, p.weight, *p.fingerprints) for p in self.probes]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def is_store(path) -> bool:
    """Whether `path` is the folder of a store."""
    return isinstance(path, str | Path) and (Path(path) / "store.json").is_file()


def _read_session(folder: Path) -> list[Probe]:
    content = read_part(folder / "session.json")
    try:
        return [_read_probe(folder / str(number), content, part) for number, part in enumerate(content["probes"])]
    except Exception as error:  # any error may result from a damaged file
        raise InputError(f"{folder}: damaged ({reason_of(error)}): {_rebuild(folder)}") from None


def _read_probe(path: Path, content: dict, part: dict) -> Probe:
    units, which = _entry(part, "units", list), _entry(part, "observed_set", list)
    sets = [np.reshape(np.asarray(intervals, dtype=np.float64), (-1, 2)) for intervals in part["observed"]]
    if len(which) != len(units) or not all(type(number) is int and 0 <= number < len(sets) for number in which):
        raise ValueError("observed_set does not name a set for each unit")
    animal, session, source = (_entry(content, name, str) for name in ("animal", "session", "source"))
    label, spikes, weight = _entry(part, "label", str), _entry(part, "spikes", int), _entry(content, "weight", float)
    frequency = None if part["sampling_frequency"] is None else _entry(part, "sampling_frequency", float)
    if spikes < 0 or not weight > 0 or not (frequency is None or frequency > 0):
        raise ValueError("a number is not positive")
    fingerprints = tuple(_entry({"fingerprint": text}, "fingerprint", str) for text in part["fingerprints"])
    if len(fingerprints) != 2:
        raise ValueError(f"{len(fingerprints)} fingerprints")
    outline = Population(
        units,
        [np.empty(0)] * len(units),
        observed=sets[0] if len(sets) == 1 else [sets[i] for i in which],
        group=[label] * len(units),
        start=_entry(part, "start", float),
        stop=_entry(part, "stop", float),
        properties=_entry(part, "labels", dict),
        metadata={"source": source, "subject": animal, "session": session},
    )
    signal = "spikes" if frequency is None else "traces"
    return Probe(path, animal, session, label, outline, signal, frequency, weight, spikes, fingerprints)


def _entry(content: dict, name: str, kind: type):
    """An entry of this type, where a float may be a whole number; ValueError for another type or if not finite."""
    value = content[name]
    kinds = (float, int) if kind is float else (kind,)
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise ValueError(f"{name} is of type {type(value).__name__}")
    if kind is float and not math.isfinite(value):
        raise ValueError(f"{name} is {value}")
    return value


def _rebuild(folder: Path) -> str:
    return f"delete {folder} and build the store again"


def read_part(path: Path) -> dict:
    """Read one of the store's JSON files; InputError if it is damaged."""
    return read_json(path, "file of a store", _rebuild(path.parent))


def check_store(path: Path) -> None:
    """InputError if this is not a store of this format."""
    if not is_store(path):
        raise InputError(f"{path}: not a store: build one with `nuclr store build SOURCES -o {path}`")
    if not (path / "sessions").is_dir():
        raise InputError(f"{path}: its folder of sessions is missing: build it again")
    version = read_part(path / "store.json").get("nuclr_store")
    if version != FORMAT_VERSION:
        raise InputError(f"{path}: a store of format {version}, this version reads {FORMAT_VERSION}: build it again")
