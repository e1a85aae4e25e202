"""The embedded neurons of an NWB file: how they were read, and their rows in its tables."""

from dataclasses import dataclass

import numpy as np

from ...errors import InputError
from ...population import Population
from ...provenance import READING, Provenance
from ...unit_embeddings import UnitEmbeddings
from .matching import check_spike_counts, match_rows
from .population import read_nwbfile
from .reading import PLANES
from .rois import choose_rois, common_path, tables_of


@dataclass(frozen=True, eq=False)
class Place:
    """The rows of one table that correspond to embedded neurons.

    Attributes
    ----------
    table : pynwb DynamicTable
    units : int array, shape (n,)
        Positions in the embeddings.
    rows : int64, shape (n,)
        Row of each in the table.
    column : str
        Column by which they were matched.
    """

    table: object
    units: np.ndarray
    rows: np.ndarray
    column: str


def is_read_as(population: Population, reading: dict) -> bool:
    """Whether a population of this file was read with these keywords; none means that its units were read."""
    return reading == {key: population.metadata[key] for key in READING if key in population.metadata}


def fingerprint_now(nwbfile, provenance: Provenance, population: Population) -> str:
    """Fingerprint of the file's neurons, read as the embeddings with this provenance were.

    `population` is returned by an earlier reading of the file, and reused if the keywords agree.
    """
    reading = provenance.reading
    if is_read_as(population, reading):
        return population.fingerprint()
    try:
        return read_nwbfile(nwbfile, **reading).fingerprint()
    except InputError:  # the series no longer exists
        return ""


def imaging_of(nwbfile, provenance: Provenance, series: str | None, name: str) -> dict:
    """Keywords for reading the file's neurons: those of the embeddings, or with the named series."""
    if provenance.signal != "traces":
        if series is not None:
            raise InputError(f"the embeddings are of spikes: leave out series={series!r}")
        return {}
    reading = provenance.reading
    if series is None and reading:
        return reading
    return {**reading, "series": common_path(choose_rois(nwbfile, series, name))}


def places_of(nwbfile, population: Population, embeddings: UnitEmbeddings, match, *, allow_stale: bool) -> list[Place]:
    """The rows of all embedded neurons; raise InputError if one is missing, or has changed since the embedding.

    `population` is the present content of the file, read as the embeddings were.
    """
    if population.signal == "spikes":
        rows, column = match_rows(nwbfile.units, embeddings.unit_ids, match)
        if not allow_stale:
            check_spike_counts(nwbfile.units, population.num_spikes, rows, embeddings)
        return [Place(nwbfile.units, np.arange(len(rows)), rows, column)]
    if not allow_stale:
        _check_frames(population, embeddings)
    tables = tables_of(choose_rois(nwbfile, population.metadata["series"]))
    places = [_place(table, embeddings.unit_ids, match, several=len(tables) > 1) for table in tables]
    matched = np.concatenate([place.units for place in places])
    unmatched = np.setdiff1d(np.arange(len(embeddings.unit_ids)), matched)
    if len(unmatched):
        raise InputError(
            f"neuron {embeddings.unit_ids[unmatched[0]]} names none of the planes "
            f"{', '.join(table.name for table in tables)}: name it PLANE/ROI, as read_population does"
        )
    return [place for place in places if len(place.units)]


def paths_of(nwbfile, population: Population) -> list[str]:
    """Paths of the ROI tables and traces of imaged neurons in the file."""
    rois = choose_rois(nwbfile, population.metadata["series"])
    containers = [*(plane.series for plane in rois), *tables_of(rois)]
    return [f"/processing/{'/'.join(_ancestry(container))}" for container in containers]


def _ancestry(container) -> list[str]:
    """Names from the processing module down to the container."""
    parent = container.parent
    return [*(_ancestry(parent) if parent.parent is not None else []), container.name]


def _place(table, unit_ids: np.ndarray, match: str | None, *, several: bool) -> Place:
    if not several:
        rows, column = match_rows(table, unit_ids, match)
        return Place(table, np.arange(len(rows)), rows, column)
    names = [str(unit) for unit in unit_ids]
    units = np.array([k for k, name in enumerate(names) if name.startswith(f"{table.name}/")], dtype=np.int64)
    inner = np.array([names[k].removeprefix(f"{table.name}/") for k in units], dtype=str)
    rows, column = match_rows(table, inner, match)
    return Place(table, units, rows, f"{PLANES}{column}")


def _check_frames(population: Population, embeddings: UnitEmbeddings) -> None:
    """Raise InputError if the traces are known to differ from those that were embedded."""
    frames = population.traces.shape[1]
    if embeddings.num_frames is None or not (embeddings.num_frames == frames).all():
        embedded = "an unknown number of" if embeddings.num_frames is None else f"{embeddings.num_frames.max():,}"
        raise InputError(
            f"the neurons had {embedded} frames when they were embedded, {population.metadata['series']} has "
            f"{frames:,}: embed them again, or give allow_stale=True"
        )
    # Many recordings have equal numbers of ROIs and of frames.
    provenance = embeddings.provenance
    if provenance.reading and not provenance.embeds(population):
        origin = provenance.source.get("source", "another file")
        raise InputError(
            f"the traces that were embedded (of {origin}) differ from {population.metadata['series']}: embed "
            "them again, or give allow_stale=True"
        )
