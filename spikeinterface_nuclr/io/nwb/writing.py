"""write_nwb: embeddings, and what was predicted from them, into a copy of an NWB file or in its place."""

import dataclasses
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ...errors import InputError, RecordingWarning, reason_of
from ...files import written_whole
from ...identities import Identities
from ...population import Population
from ...unit_embeddings import UnitEmbeddings
from . import copying, tables, verifying
from .file import OpenFile, open_file
from .inputs import results_of
from .links import pointers_of
from .matching import column_texts
from .neurons import Place, imaging_of, is_read_as, paths_of, places_of
from .output import alone, check_places, check_relative, check_space, locked, output_of, size_of, stamp
from .population import read_nwbfile
from .reading import IDENTITIES, TABLE, contents, is_ours, stored_table, table_names
from .session import Session
from .tables import Part, Plan

_IF_EXISTS = ("error", "replace", "new_name")


def write_nwb(
    path,
    source,
    output=None,
    *,
    identities: list[Identities] | Identities = (),
    in_place: bool = False,
    units_only: bool = False,
    match: str | None = None,
    series: str | None = None,
    name: str = TABLE,
    if_exists: str = "error",
    publish: bool = False,
    allow_stale: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write embeddings of an NWB file's neurons, and identities, into ``processing["nuclr"]`` of a copy, or of itself.

    The copy is written beside its destination, validated, compared with the original object by object, and read back
    before it is moved to its destination in one step. If anything fails or the process is killed, the original file is
    untouched.

    Parameters
    ----------
    path : str or Path
        NWB file with a units table, or ROI responses: HDF5, or Zarr with the ``zarr`` extra.
    source : SortingAnalyzer, UnitEmbeddings, str or Path
        What is written: the results of an analyzer with ``nuclr_embedding`` (and ``nuclr_identity``, where computed) or
        of the folder of one; embeddings; or an ``.npz`` of embeddings. Nothing is embedded here.
    output : str or Path, optional
        The file to write. Default: ``<name>_nuclr.nwb`` beside `path`.
    identities : Identities or list of Identities
        What `Decoder.predict` returned for these embeddings: one table each, named after its target. Where the file
        holds the same embeddings already, these are kept and the identities are added.
    in_place : bool, default: False
        Replace `path` itself.
    units_only : bool, default: False
        Instead of a copy of the whole file, write a side file with the ids and spike times of its units (of imaged
        neurons, their ROI tables and traces), the description of session and subject, and the embeddings. For
        originals that are large or must not be changed.
    match : str, optional
        Column of the units table that holds the unit ids. Default: the first of ``unit_name`` and ``id`` that names
        every unit once. The table may hold further units.
    series : str, optional
        As `read_population`: the ROI responses that embeddings of traces belong to. Default: those they were read from,
        or the file's only ones. Neurons are rows of their PlaneSegmentation; where these are several, each gets its own
        tables, whose names end in its name.
    name : str, default: "UnitEmbeddings"
        Name of the table, for files that hold several (of several probes, say).
    if_exists : {"error", "replace", "new_name"}
        What to do where the file holds a table of this name, or identities of the same target. Identities that were
        predicted from a replaced table are removed with it. "new_name" appends a number to the name.
    publish : bool, default: False
        Also add the columns ``nuclr_num_windows`` and ``nuclr_split_half_similarity`` to the units table. Where the
        table has them already, the rows of the embedded units are updated in any case.
    allow_stale : bool, default: False
        Write embeddings of units whose spikes have changed since they were embedded. The table states this.
    overwrite : bool, default: False
        Replace `output` where it exists.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    InputError
        The file, the output, the source or a unit cannot be used, is read-only, or open elsewhere. Nothing is changed.

    Examples
    --------
    >>> from pynwb import NWBHDF5IO
    >>> from pynwb.testing.mock.file import mock_NWBFile
    >>> from spikeinterface_nuclr import embed, read_population, simulate_population, write_nwb
    >>> nwbfile = mock_NWBFile()
    >>> for times in simulate_population(5, 20.0).spike_times:
    ...     nwbfile.add_unit(spike_times=times)
    >>> with NWBHDF5IO("session.nwb", "w") as io:
    ...     io.write(nwbfile)
    >>> embeddings = embed(read_population("session.nwb"), progress=False)
    >>> write_nwb("session.nwb", embeddings).name
    'session_nuclr.nwb'
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file")
    output = output_of(path, output, in_place=in_place, units_only=units_only)
    signal = source.provenance.signal if isinstance(source, UnitEmbeddings) else None
    imaged = series is not None or signal == "traces"
    check_places(path, output, in_place=in_place, overwrite=overwrite, units_only=units_only, imaged=imaged)
    embeddings, predicted = results_of(source, allow_stale=allow_stale)
    predicted += [identities] if isinstance(identities, Identities) else list(identities)
    request = Request(
        embeddings, predicted, name, if_exists, match=match, series=series, units_only=units_only, publish=publish,
        allow_stale=allow_stale,
    )  # fmt: skip
    return write_request(path, output, request, overwrite=overwrite or in_place)


@dataclass(frozen=True, eq=False)
class Request:
    """What is to be written, and how: the parameters of `write_nwb` by the same names."""

    embeddings: UnitEmbeddings
    identities: list[Identities]
    name: str = TABLE
    if_exists: str = "error"
    match: str | None = None
    series: str | None = None
    units_only: bool = False
    publish: bool = False
    allow_stale: bool = False

    def __post_init__(self):
        check_choices(self.name, self.if_exists)
        for key in ("checkpoint", "checkpoint_sha256", "population_fingerprint"):
            if getattr(self.embeddings.provenance, key) is None:
                raise InputError(f"the embeddings' provenance has no {key!r}: write what embed returned")
        for one in self.identities:
            _check_identities(one, self.embeddings)


def check_choices(name: str, if_exists: str) -> None:
    """InputError where a table cannot have this name, or there is no such choice."""
    if if_exists not in _IF_EXISTS:
        raise InputError(f"if_exists must be one of {', '.join(_IF_EXISTS)}, not {if_exists!r}")
    if tables.table_name(name) != name:
        raise InputError(f"name {name!r} cannot be that of a table: {tables.table_name(name)!r} could")


def write_request(
    path: Path, output: Path, request: Request, *, overwrite: bool, session: Session | None = None
) -> Path:
    """Write what is requested; `output` is as `output_of` returned it, and `check_places` has passed.

    Where the file is still what it was when `session` was read, its spikes are not read again.
    """
    with alone(output), locked(path, exclusive=False):
        before = stamp(path)

        def check_same() -> None:
            if stamp(path) != before:
                raise InputError(f"{path}: was changed meanwhile by another program: write again")

        population = session.population if session and session.stamp == before else None
        how = {"overwrite": overwrite, "beside": True, "like": path, "check": check_same}
        # The original is closed before the copy takes its place.
        with written_whole(output, **how) as temporary, open_file(path) as original:
            plan = _plan(path, original.nwbfile, request, population)
            check_space(path, temporary, plan.size)
            try:
                _write(path, original, temporary, output, plan)
            except (InputError, KeyboardInterrupt):
                raise
            except Exception as error:  # the libraries below raise what they please, on a full disk above all
                raise InputError(f"{output}: could not be written ({reason_of(error)})") from error
    return output


def _plan(path: Path, nwbfile, request: Request, population: Population | None) -> Plan:
    """Find the rows and the names; everything that can be refused is refused here, before anything is written.

    `population` is the file's, where it has been read already.
    """
    embeddings, units_only = request.embeddings, request.units_only
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecordingWarning)
        try:
            reading = imaging_of(nwbfile, embeddings.provenance, request.series, str(path))
            if reading and request.publish:
                raise InputError("publish adds columns to a units table, and these are imaged neurons: leave it out")
            if population is None or not is_read_as(population, reading):
                population = read_nwbfile(nwbfile, name=str(path), **reading)
            places = places_of(nwbfile, population, embeddings, request.match, allow_stale=request.allow_stale)
            if reading or not units_only:
                _check_inside(nwbfile, places)
            parts, unwanted = _parts(nwbfile, request, places, reading)
        except InputError as error:
            line = str(error)
            raise InputError(line if line.startswith(f"{path}: ") else f"{path}: {line}") from None
        columns = {} if reading else _unit_columns(nwbfile, places[0], request, unwanted)
        side = _side_columns(nwbfile.units, population, places[0].column) if units_only and not reading else None
        side_paths = paths_of(nwbfile, population) if units_only and reading else None
    activity = population.num_spikes if population.signal == "spikes" else population.num_frames
    copied = 8 * int(activity.sum()) if units_only else size_of(path)
    size = copied + 2 * embeddings.embedding.nbytes + 1_000_000
    return Plan(parts, unwanted, population.fingerprint(), columns, side, side_paths, size)


def _check_inside(nwbfile, places) -> None:
    """Raise InputError if a table whose rows are referred to lies in another file."""
    for place in places:
        if place.table.container_source != nwbfile.container_source:
            raise InputError(
                f"its {place.table.name} lies in {place.table.container_source}, behind a link: write into that file"
            )


def _parts(nwbfile, request: Request, places: list[Place], reading: dict) -> tuple[list[Part], list[str]]:
    """What is written about each table of neurons, and the paths of what has to be removed for it."""
    several, name, units_only, if_exists = len(places) > 1, request.name, request.units_only, request.if_exists
    if several and if_exists == "new_name":
        name = tables.free_name(name, {*contents(nwbfile), *table_names(nwbfile)})
    names = [f"{name}_{place.table.name}" if several else name for place in places]
    selections = [request.embeddings.select(place.units) if several else request.embeddings for place in places]
    kept = [
        bool(request.identities) and not units_only and _holds(nwbfile, table, one, place.rows)
        for table, one, place in zip(names, selections, places, strict=True)
    ]
    rooms = [(table, False) if units_only or stays else _room(nwbfile, table, if_exists)
             for table, stays in zip(names, kept, strict=True)]  # fmt: skip
    unwanted = tables.with_dependents(nwbfile, [table for table, replaced in rooms if replaced])
    existing, parts = {} if units_only else contents(nwbfile), []
    for (table, _), one, stays, place in zip(rooms, selections, kept, places, strict=True):
        identities = [predicted.select(np.isin(predicted.unit_ids, one.unit_ids)) for predicted in request.identities]
        named = _named(identities, f"_{place.table.name}" if several else "", existing, if_exists, unwanted)
        original = {"identifier": nwbfile.identifier, "object_id": nwbfile.object_id, "units": place.table.object_id}
        provenance = one.provenance.replace(matched_by=place.column, file=original, read_as=reading or None)
        one = dataclasses.replace(one, provenance=provenance)
        parts.append(Part(place.table.object_id if reading else None, one, place.rows, table, stays, named))
    return parts, unwanted


def _unit_columns(nwbfile, place: Place, request: Request, unwanted: list[str]) -> dict:
    """Columns for the units table; adds those that exist, which must not contradict them, to `unwanted`."""
    present = [
        f"/units/{name}" for name in tables.UNIT_COLUMNS if name in nwbfile.units.colnames and not request.units_only
    ]
    if not (request.publish or present):
        return {}
    unwanted += present
    return tables.unit_columns(nwbfile.units, request.embeddings, place.rows)


def _check_identities(identities: Identities, embeddings: UnitEmbeddings) -> None:
    """Raise InputError if identities were not predicted from these embeddings."""
    if not embeddings.provenance.predicts(identities.provenance):
        raise InputError(
            f"{identities.target}: was predicted from other embeddings than are written: predict it from these"
        )
    strange = set(identities.unit_ids.tolist()) - set(embeddings.unit_ids.tolist())
    if strange:
        raise InputError(f"{identities.target}: unit {min(strange, key=str)} is not among the embedded ones")


def _holds(nwbfile, name: str, embeddings: UnitEmbeddings, rows: np.ndarray) -> bool:
    """Whether the file's table of this name holds these very embeddings."""
    if not is_ours(contents(nwbfile).get(name), TABLE):
        return False
    found = stored_table(nwbfile, name)
    return (
        found.embeddings.provenance.same_embeddings(embeddings.provenance)
        and np.array_equal(found.rows, rows)
        and np.array_equal(found.embeddings.embedding, embeddings.embedding, equal_nan=True)
    )


def _named(identities, suffix: str, taken: dict, if_exists: str, unwanted: list[str]) -> dict[str, Identities]:
    """The identities by the names that their tables can have; adds to `unwanted` what has to go for them."""
    named: dict[str, Identities] = {}
    gone = {path.rpartition("/")[2] for path in unwanted} | ({*taken} if "/processing/nuclr" in unwanted else set())
    for one in identities:
        name = tables.table_name(one.target + suffix)
        if name in named:
            raise InputError(f"two of the identities are of {one.target}: write one of them, or rename its target")
        there = name in taken and name not in gone
        if there and (if_exists == "error" or not is_ours(taken[name], IDENTITIES)):
            raise InputError(f"it holds {name!r} already: give if_exists='replace' or 'new_name'")
        if there and if_exists == "replace":
            unwanted.append(f"/processing/nuclr/{name}")
        elif there:
            name = tables.free_name(name, {*taken, *named})
        named[name] = one
    return named


def _side_columns(units, population, matched_by: str) -> dict[str, np.ndarray]:
    """What a side file says of each unit beside its spikes: what its id is found by, and its probe."""
    columns = {"group": population.group} if len(np.unique(population.group)) > 1 else {}
    names = {"unit_name", matched_by} & set(units.colnames)
    return columns | {name: np.array(column_texts(units, name)) for name in sorted(names)}


def _room(nwbfile, name: str, if_exists: str) -> tuple[str, bool]:
    """The name that the table can have, and whether one of this name has to go for it."""
    taken = contents(nwbfile)
    if if_exists == "new_name":
        return tables.free_name(name, taken), False
    if name in taken and not is_ours(taken[name], TABLE):
        raise InputError(f"processing['nuclr'] holds a {name!r} that is no UnitEmbeddings: give another name=")
    if name in taken and if_exists == "error":
        raise InputError(f"it holds {name!r} already: give if_exists='replace' or 'new_name', or another name=")
    return name, name in taken


def _write(path: Path, original: OpenFile, temporary: Path, output: Path, plan: Plan) -> None:
    """Write the copy, or side file, and check it; each of the two files is opened once for each of these."""
    whole = plan.side_columns is None and plan.side_paths is None
    # What others may not read must not be readable while it is written, either.
    if whole and path.is_dir():
        temporary.mkdir(mode=0o700)
    else:
        temporary.touch(mode=0o600)
    remove = None
    if whole:
        copying.copy_file(path, temporary)
        if path.is_dir():
            copying.remove_from_zarr(temporary, plan.unwanted)
        else:
            remove = partial(copying.remove_from_hdf5, source=path, unwanted=plan.unwanted)
    elif plan.side_paths is None:
        copying.copy_units(path, original, temporary, plan.side_columns)
    else:
        copying.copy_rois(path, original.hdf5, temporary, plan.side_paths)
        check_relative(path, pointers_of(temporary), output)
    new = tables.append(temporary, plan, remove)
    with open_file(temporary) as copy:
        if whole:
            verifying.check_unchanged(path, original, temporary, copy, [*new, *plan.unwanted])
        verifying.check_valid(path, original, copy)
        verifying.check_read_back(temporary, copy, plan)
