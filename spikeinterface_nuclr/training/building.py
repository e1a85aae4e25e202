"""build_store: read many sources into a store, session by session, each written whole or not at all."""

import inspect
import json
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from ..decoding.labels import warn_of_similar
from ..errors import InputError, RecordingWarning
from ..files import check_writable, folder_written_whole, sweep, written_whole
from ..io import read_population
from ..io.manifest import Listed, list_sources
from ..population import Population
from ..traces import resampled
from .store import FORMAT_VERSION, TICKS, Store, check_store, read_part

_LONGEST_S = 10_000_000  # because the index has an entry for every second


def build_store(
    sources,
    path,
    *,
    group_by: str | None = "group",
    frame_rate: float | None = None,
    n_jobs: int = 1,
    progress: bool = True,
    **reading,
) -> tuple[Store, list[str]]:
    """Build or extend a store with the spikes or traces of many sessions.

    Existing sessions are reused unless their source has changed, so that an interrupted build can be continued and a
    list of sources can be extended. Sources that cannot be read are skipped and reported.

    Parameters
    ----------
    sources
        As in `list_sources`: paths, patterns such as ``"data/*/*.nwb"``, CSV manifests, folders of NWB files, or
        objects that `read_population` accepts.
    path : path
        The folder of the store; created if it does not exist.
    group_by : str or None, default: "group"
        As in `read_population`.
    frame_rate : float, optional
        Frame rate in Hz to which traces are `resampled`: that of the encoder to train. Default: as recorded.
    n_jobs : int, default: 1
        Number of processes that read sources in parallel.
    progress : bool, default: True
    **reading
        Further keywords of `read_population`, for all sources.

    Returns
    -------
    store : Store
    damaged : list of str
        One line for each skipped source.

    Raises
    ------
    InputError
        The list or the folder cannot be used, or a session is in the store twice.

    Warns
    -----
    RecordingWarning
        Sources name no animal, so that each counts as a separate animal; or names of animals differ only by case or
        blanks.

    Examples
    --------
    >>> from spikeinterface_nuclr import build_store, simulate_population
    >>> populations = [simulate_population(12, 30.0, seed=seed) for seed in range(2)]
    >>> store, damaged = build_store(populations, "store", progress=False)
    >>> store.summary(), damaged
    ('2 sessions of 2 animals, 2 probes, 24 units', [])
    """
    for name in reading.keys() - inspect.signature(read_population).parameters.keys():
        raise TypeError(f"build_store() got an unexpected keyword argument {name!r}")
    path = Path(path)
    listed = list_sources(sources)
    _make_store(path)
    sweep(path / "sessions")
    add = partial(_add_session, path / "sessions", {"group_by": group_by, **reading}, frame_rate)
    with tqdm(total=len(listed), desc="storing", unit="session", disable=not progress) as bar:
        damaged = []
        for problem in _each(add, listed, n_jobs):
            bar.update()
            if problem:
                damaged.append(problem)
    store = Store(path)
    nameless = sorted({probe.session for probe in store.probes if probe.animal == probe.outline.metadata["source"]})
    if len(nameless) > 1:
        warnings.warn(
            f"{len(nameless)} sessions, such as {nameless[0]}, name no animal and count as separate animals, so an "
            "animal may be both trained on and held out: name the animals in a manifest",
            RecordingWarning,
            stacklevel=2,
        )
    warn_of_similar(store.animals)
    return store, damaged


def _make_store(path: Path) -> None:
    """Create an empty store, unless it exists; a folder in which a build was killed at its start is reused."""
    if path.is_dir() and {child.name for child in path.iterdir()} <= {"sessions"}:
        unused = not any((path / "sessions").glob("*"))
    else:
        unused = not path.exists()
    if not unused:
        check_store(path)
        return
    if not path.exists():
        check_writable(path)
    (path / "sessions").mkdir(parents=True, exist_ok=True)
    with written_whole(path / "store.json") as temporary:
        temporary.write_text(json.dumps({"nuclr_store": FORMAT_VERSION}))


def _each(add, listed: list[Listed], n_jobs: int) -> Iterator[str]:
    if n_jobs == 1:
        yield from map(add, listed)
        return
    with ProcessPoolExecutor(n_jobs) as pool:
        yield from pool.map(add, listed)


def _add_session(sessions: Path, reading: dict, frame_rate: float | None, listed: Listed) -> str:
    """Write the folder of one session and return the problem with its source, or an empty text."""
    try:
        folder = sessions / listed.key
        stamp = [*listed.stamp, reading, frame_rate] if listed.stamp else []
        if stamp and _stamp_of(folder) == stamp:
            return ""
        population = read_population(listed.source, **listed.reading(reading))
        if frame_rate is not None and population.signal == "traces":
            population = resampled(population, frame_rate)
        with folder_written_whole(folder) as staged:
            staged.mkdir()
            _write_session(staged, listed, stamp, population)
    except Exception as error:  # one damaged source must not stop the others
        return listed.refusal(error)
    return ""


def _stamp_of(folder: Path) -> list:
    """The stamp of a session's source; empty if the session is missing or damaged."""
    try:
        return read_part(folder / "session.json").get("stamp")
    except InputError:
        return []


def _write_session(folder: Path, listed: Listed, stamp: list, population: Population) -> None:
    metadata = population.metadata
    probes = []
    for number, (label, units) in enumerate(population.groups()):
        part = population.select(units)
        _write_activity(folder / str(number), part)
        sets, which = part.observed_sets(np.arange(part.n_units))
        probes.append(
            {
                "label": listed.probe or label,
                "units": part.unit_ids.tolist(),
                "observed": [intervals.tolist() for intervals in sets],
                "observed_set": which.tolist(),
                "start": part.start,
                "stop": part.stop,
                "sampling_frequency": part.sampling_frequency,
                "spikes": int(part.num_spikes.sum()) if part.signal == "spikes" else 0,
                "fingerprints": [part.fingerprint(), part.context_fingerprint()],
                "labels": {k: v.tolist() for k, v in part.properties.items() if v.ndim == 1 and v.dtype.kind == "U"},
            }
        )
    content = {
        "nuclr_store": FORMAT_VERSION,
        "source": listed.name,
        "stamp": stamp,
        "animal": (listed.animal or str(metadata.get("subject") or "")).strip() or listed.name,
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
        raise InputError(f"one probe has {population.n_units} units, a store takes at most {1 << 16}: set group_by")
    times = np.concatenate(population.spike_times)
    units = np.repeat(np.arange(population.n_units, dtype=np.uint16), population.num_spikes)
    order = np.argsort(times, kind="stable")
    times, units = times[order], units[order]
    seconds, fraction = np.divmod(times, 1.0)
    fraction = np.ceil(fraction * TICKS)
    seconds, fraction = np.where(fraction == TICKS, seconds + 1, seconds), np.where(fraction == TICKS, 0, fraction)
    origin, last = (int(seconds[0]), int(seconds[-1])) if len(seconds) else (0, 0)
    if last - origin > _LONGEST_S:
        raise InputError(f"its spikes span {(last - origin) / 86400:.0f} days: remove those at wrong times")
    first = np.searchsorted(seconds, np.arange(origin, last + 2))
    save("first", np.concatenate([[origin], first]).astype(np.int64))
    save("fraction", fraction.astype(np.uint32))
    save("unit", units)
