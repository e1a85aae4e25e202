"""Store: the spikes of many sessions on disk, laid out so that any window is one short read.

    STORE/
        store.json                      what this folder is
        sessions/<name>/session.json    one source: its animal, its probes, their units, when each was observed
        sessions/<name>/<probe>.*.npy   the probe's spikes, sorted by time

A spike takes six bytes: the number of its unit, and the fraction of its second in 2^-32 s. How many spikes precede
each second stands in an index, so a window is found without a search. At the scale of the IBL brain-wide map (700
insertions, 7 billion spikes) that is 42 GB and 30 MB of index; memory holds what the windows at hand need.

Fractions are rounded up: a spike on the edge of a bin stays in the bin that starts there, and the counts are those that
`windows.bin_activity` gives.
"""

import hashlib
import json
import shutil
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from ..errors import InputError, RecordingWarning, first_line
from ..files import check_writable, written_whole
from ..population import Population
from ..sources import read_population
from ..sources.listing import Listed, list_sources
from ..windows import Timeline

FORMAT_VERSION = 1
_TICKS = 1 << 32  # of a second
_LONGEST_S = 10_000_000  # the index holds every second


@dataclass(frozen=True, eq=False)
class Probe:
    """One probe's population in a store, its activity left on disk.

    Attributes
    ----------
    path : Path
        The session's folder and the stem of the probe's files.
    animal, session, label : str
        Whose units these are, and the name of the probe.
    outline : Population
        Its units and when they were observed, without a single spike.
    signal : {"spikes", "traces"}
    sampling_frequency : float or None
        Frames per second of traces.
    weight : float
        How much more often than others it is to be drawn.
    n_spikes : int
        Spikes of all units; 0 of traces.
    fingerprints : tuple of str
        Of its activity, and of when each unit was observed.
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
            frames = np.round((line.time(np.arange(low, high)) - self.outline.start) * self.sampling_frequency)
            return self._traces[np.minimum(frames.astype(np.int64), len(self._traces) - 1)].T
        t0, t1 = line.time(np.array([low, high - 1]))
        times, units = self.between(t0 - line.bin_s, t1 + 2 * line.bin_s)
        bins = line.locate(times) - low
        inside = (bins >= 0) & (bins < high - low)
        places = units[inside].astype(np.int64) * (high - low) + bins[inside]
        counts = np.bincount(places, minlength=self.n_units * (high - low))
        return counts.reshape(self.n_units, high - low).astype(np.float32)

    def between(self, start: float, stop: float) -> tuple[np.ndarray, np.ndarray]:
        """Times (float64 seconds, sorted) and units of the spikes in every second that [start, stop) touches."""
        origin, first = int(self._first[0]), self._first[1:]
        low, high = np.clip([np.floor(start) - origin, np.ceil(stop) - origin], 0, len(first) - 1).astype(int)
        a, b = first[low], first[high]
        seconds = np.repeat(np.arange(low, high) + origin, np.diff(first[low : high + 1]))
        return seconds + self._fraction[a:b] / _TICKS, self._unit[a:b]

    def population(self) -> Population:
        """The units with all of their activity in memory."""
        shown = self.outline
        known = {"observed": shown.observed, "start": shown.start, "stop": shown.stop, "properties": shown.properties}
        known |= {"group": shown.group, "metadata": shown.metadata}
        if self.signal == "traces":
            traces = self._traces[:].T
            return Population(shown.unit_ids, traces=traces, sampling_frequency=self.sampling_frequency, **known)
        times, units = self.between(shown.start, shown.stop + 1)
        order = np.argsort(units, kind="stable")
        trains = np.split(times[order], np.searchsorted(units[order], np.arange(1, self.n_units)))
        # Rounding up may have carried a spike past the end of the interval it was observed in.
        for unit, train in enumerate(trains):
            intervals = shown.observed_of(unit)
            if len(train):
                within = np.searchsorted(intervals[:, 0], train, side="right") - 1
                np.minimum(train, intervals[within, 1], out=train)
        return Population(shown.unit_ids, trains, **known)

    # Opened at the first look: a store has thousands of these files.
    @cached_property
    def _fraction(self):
        return self._open("fraction")

    @cached_property
    def _unit(self):
        return self._open("unit")

    @cached_property
    def _first(self):
        return self._open("first")

    @cached_property
    def _traces(self):
        return self._open("traces")

    def _open(self, name: str):
        path = self.path.with_name(f"{self.path.name}.{name}.npy")
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path}: not readable ({first_line(error)}): delete {path.parent} and build the store again"
            ) from None


class Store:
    """Sessions on disk, to train on.

    Parameters
    ----------
    path : path
        The folder that `build_store` made.

    Attributes
    ----------
    probes : list of Probe
        Of all sessions, in order of their names.
    """

    def __init__(self, path):
        self.path = Path(path)
        _check_store(self.path)
        self.probes = [probe for folder in _session_folders(self.path) for probe in _read_session(folder)]
        seen: dict[str, Probe] = {}
        for probe in self.probes:
            twin = seen.setdefault(probe.fingerprints[0], probe)
            if probe.n_spikes and twin.path.parent != probe.path.parent:
                raise InputError(
                    f"{probe.path.parent}: holds the same spikes as {twin.path.parent.name}, which may be held out "
                    "under another name: delete one of the two"
                )

    @property
    def animals(self) -> list[str]:
        """Names of the animals, sorted."""
        return sorted({probe.animal for probe in self.probes})

    def summary(self) -> str:
        """What it holds, in a line."""
        sessions = len({probe.path.parent for probe in self.probes})
        units = sum(probe.n_units for probe in self.probes)
        return f"{sessions} sessions of {len(self.animals)} animals, {len(self.probes)} probes, {units} units"

    def fingerprint(self) -> str:
        """sha256 (hex) of what the sessions hold, in the order in which they are drawn from."""
        held = [(p.animal, p.session, p.label, p.weight, *p.fingerprints) for p in self.probes]
        return hashlib.sha256(json.dumps(held).encode()).hexdigest()


def build_store(
    sources, path, *, group_by: str | None = "group", jobs: int = 1, progress: bool = True
) -> tuple[Store, list[str]]:
    """Put the spikes of many sessions into a store.

    A session that the store holds already is left alone unless its source has changed since, so a build that was
    stopped, or a list that grew, goes on where it was. A source that cannot be read is skipped and reported.

    Parameters
    ----------
    sources
        As `list_sources`: paths, patterns such as ``"data/*/*.nwb"``, CSV manifests, folders of NWB files, or objects
        that `read_population` takes.
    path : path
        The folder; made where it is not there.
    group_by : str or None, default: "group"
        As `read_population`.
    jobs : int, default: 1
        Processes that read sources at the same time.
    progress : bool, default: True

    Returns
    -------
    store : Store
    damaged : list of str
        One line for each source that was skipped.

    Raises
    ------
    InputError
        The list or the folder cannot be used, or a session is in the store twice.

    Warns
    -----
    RecordingWarning
        Sources name no animal: each counts as an animal of its own.
    """
    path = Path(path)
    listed = list_sources(sources)
    _make_store(path)
    add = partial(_add_session, path / "sessions", group_by)
    with tqdm(total=len(listed), desc="storing", unit="session", disable=not progress) as bar:
        damaged = []
        for problem in _each(add, listed, jobs):
            bar.update()
            if problem:
                damaged.append(problem)
    store = Store(path)
    nameless = sorted({probe.session for probe in store.probes if probe.animal == probe.outline.metadata["source"]})
    if len(nameless) > 1:
        warnings.warn(
            f"{len(nameless)} sessions, such as {nameless[0]}, name no animal and count as one each, so parts of an "
            "animal may be held out: name them in a manifest",
            RecordingWarning,
            stacklevel=2,
        )
    return store, damaged


def is_store(path) -> bool:
    """Whether `path` is the folder of a store."""
    return isinstance(path, str | Path) and (Path(path) / "store.json").is_file()


def _make_store(path: Path) -> None:
    """An empty store, unless one is there; a folder in which a build was killed at once is gone on with."""
    if path.is_dir() and {inside.name for inside in path.iterdir()} <= {"sessions"}:
        unused = not any((path / "sessions").glob("*"))
    else:
        unused = not path.exists()
    if not unused:
        _check_store(path)
        return
    if not path.exists():
        check_writable(path)
    (path / "sessions").mkdir(parents=True, exist_ok=True)
    with written_whole(path / "store.json") as temporary:
        temporary.write_text(json.dumps({"nuclr_store": FORMAT_VERSION}))


def _each(add, listed: list[Listed], jobs: int) -> Iterator[str]:
    if jobs == 1:
        yield from map(add, listed)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(add, listed)


def _add_session(sessions: Path, group_by: str | None, listed: Listed) -> str:
    """Write one session's folder; what is wrong with its source, or nothing."""
    staged = None
    try:
        folder = sessions / listed.key
        stamp = [*listed.stamp, group_by] if listed.stamp else []
        if stamp and folder.is_dir() and _read_json(folder / "session.json").get("stamp") == stamp:
            return ""
        population = read_population(listed.source, group_by=None if listed.probe else group_by)
        # Names that begin with a dot are no sessions: what a kill leaves there is cleared by the next build.
        staged, old = (sessions / f".{listed.key}.{what}" for what in ("new", "old"))
        for path in (staged, old):
            shutil.rmtree(path, ignore_errors=True)
        staged.mkdir()
        _write_session(staged, listed, stamp, population)
        if folder.exists():
            folder.rename(old)
        staged.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except Exception as error:  # one damaged source of hundreds must not stop the others, whatever is wrong with it
        if staged:
            shutil.rmtree(staged, ignore_errors=True)
        said = first_line(error) or type(error).__name__
        return said if listed.name in said else f"{listed.name}: {said}"
    return ""


def _write_session(folder: Path, listed: Listed, stamp: list, population: Population) -> None:
    metadata = population.metadata
    probes = []
    for number, (label, units) in enumerate(population.groups()):
        part = population.select(units)
        _write_activity(folder / str(number), part)
        sets, which = _observed_sets(part)
        probes.append(
            {
                "label": listed.probe or label,
                "units": part.unit_ids.tolist(),
                "observed": sets,
                "observed_set": which,
                "start": part.start,
                "stop": part.stop,
                "sampling_frequency": part.sampling_frequency,
                "spikes": int(part.spike_counts.sum()) if part.signal == "spikes" else 0,
                "fingerprints": [part.fingerprint(), part.context_fingerprint()],
                "labels": {k: v.tolist() for k, v in part.properties.items() if v.ndim == 1 and v.dtype.kind == "U"},
            }
        )
    content = {
        "nuclr_store": FORMAT_VERSION,
        "source": listed.name,
        "stamp": stamp,
        "animal": listed.animal or str(metadata.get("subject") or listed.name),
        "session": listed.session or str(metadata.get("session") or listed.name),
        "weight": listed.weight,
        "probes": probes,
    }
    (folder / "session.json").write_text(json.dumps(content))


def _write_activity(stem: Path, population: Population) -> None:
    def save(name, array):
        np.save(stem.with_name(f"{stem.name}.{name}.npy"), array, allow_pickle=False)

    if population.traces is not None:
        save("traces", np.ascontiguousarray(population.traces.T))
        return
    if population.n_units > 1 << 16:
        raise InputError(f"one probe holds {population.n_units} units, a store takes {1 << 16}: set group_by")
    times = np.concatenate(population.spike_times)
    units = np.repeat(np.arange(population.n_units, dtype=np.uint16), population.spike_counts)
    order = np.argsort(times, kind="stable")
    times, units = times[order], units[order]
    seconds, fraction = np.divmod(times, 1.0)
    fraction = np.ceil(fraction * _TICKS)
    seconds, fraction = np.where(fraction == _TICKS, seconds + 1, seconds), np.where(fraction == _TICKS, 0, fraction)
    origin, last = (int(seconds[0]), int(seconds[-1])) if len(seconds) else (0, 0)
    if last - origin > _LONGEST_S:
        raise InputError(f"its spikes span {(last - origin) / 86400:.0f} days: remove those at wrong times")
    first = np.searchsorted(seconds, np.arange(origin, last + 2))
    save("first", np.concatenate([[origin], first]).astype(np.int64))
    save("fraction", fraction.astype(np.uint32))
    save("unit", units)


def _observed_sets(population: Population) -> tuple[list, list[int]]:
    """The distinct sets of observed intervals, and the number of each unit's."""
    if isinstance(population.observed, np.ndarray):
        return [population.observed.tolist()], [0] * population.n_units
    numbers: dict[bytes, int] = {}
    which = [numbers.setdefault(observed.tobytes(), len(numbers)) for observed in population.observed]
    return [population.observed_of(which.index(number)).tolist() for number in range(len(numbers))], which


def _read_session(folder: Path) -> Iterator[Probe]:
    content = _read_json(folder / "session.json")
    try:
        for number, held in enumerate(content["probes"]):
            sets, which = [np.reshape(o, (-1, 2)) for o in held["observed"]], held["observed_set"]
            outline = Population(
                held["units"],
                [np.empty(0)] * len(held["units"]),
                observed=sets[0] if len(sets) == 1 else [sets[i] for i in which],
                group=[held["label"]] * len(held["units"]),
                start=held["start"],
                stop=held["stop"],
                properties=held["labels"],
                metadata={"source": content["source"], "subject": content["animal"], "session": content["session"]},
            )
            frequency = held["sampling_frequency"]
            yield Probe(
                folder / str(number),
                content["animal"],
                content["session"],
                held["label"],
                outline,
                "spikes" if frequency is None else "traces",
                frequency,
                content["weight"],
                held["spikes"],
                tuple(held["fingerprints"]),
            )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder}: damaged ({first_line(error)}): delete it and build the store again") from None


def _session_folders(path: Path) -> list[Path]:
    return sorted(folder for folder in (path / "sessions").iterdir() if not folder.name.startswith("."))


def _check_store(path: Path) -> None:
    if not is_store(path):
        raise InputError(f"{path}: not a store: make one with `nuclr store build SOURCES -o {path}`")
    version = _read_json(path / "store.json").get("nuclr_store")
    if version != FORMAT_VERSION:
        raise InputError(f"{path}: a store of format {version}, this version reads {FORMAT_VERSION}: build it anew")


def _read_json(path: Path) -> dict:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{path}: not readable ({first_line(error)}): delete {path.parent} and build the store again"
        ) from None
