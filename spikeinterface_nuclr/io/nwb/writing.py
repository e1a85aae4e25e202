"""write_nwb: embeddings, and what was predicted from them, into a copy of an NWB file or in its place."""

import dataclasses
import warnings
from pathlib import Path

import numpy as np

from ...errors import InputError, RecordingWarning, reason_of
from ...files import written_whole
from ...identities import Identities
from ...unit_embeddings import UnitEmbeddings
from . import copying, tables, verifying
from . import verifying as comparing
from .file import open_nwb
from .inputs import results_of
from .links import pointers_of
from .matching import column_texts
from .neurons import imaging_of, paths_of, places_of
from .output import alone, check_places, check_relative, check_space, locked, output_of, size_of, stamp
from .population import read_nwbfile
from .reading import IDENTITIES, TABLE, held, is_ours, stored_table, table_names
from .tables import Part, Plan

_IF_EXISTS = ("error", "replace", "new_name")


def write_nwb(
    path,
    source=None,
    output=None,
    *,
    identities: list[Identities] | Identities = (),
    in_place: bool = False,
    units_only: bool = False,
    match: str | None = None,
    series: str | None = None,
    name: str = TABLE,
    if_exists: str = "error",
    unit_columns: bool = False,
    allow_stale: bool = False,
    overwrite: bool = False,
    **options,
) -> Path:
    """Write embeddings of an NWB file's neurons, and identities, into ``processing["nuclr"]`` of a copy, or of itself.

    The copy is made beside the place it is for, validated, compared with the original object by object, and read back,
    before it takes that place in one step. Whatever goes wrong, and whenever the process is killed, the file that was
    there is there still.

    Parameters
    ----------
    path : str or Path
        NWB file with a units table, or ROI responses: HDF5, or Zarr with the ``zarr`` extra.
    source : SortingAnalyzer, UnitEmbeddings, str or Path, optional
        An analyzer with ``nuclr_embedding`` computed, and ``nuclr_identity`` or not; embeddings; an ``.npz`` of them;
        or the path of anything that `read_population` reads, which is then embedded (an analyzer's saved results are
        taken). Default: `path`.
    output : str or Path, optional
        The file to write. Default: ``<name>_nuclr.nwb`` beside `path`.
    identities : Identities or list of Identities
        What `Decoder.predict` gave for these embeddings: a table each, named after its target. Where the file holds the
        very same embeddings already, these stay and the identities are added to them.
    in_place : bool, default: False
        Replace `path` itself.
    units_only : bool, default: False
        Instead of a copy of the whole file, write a side file: its units' ids and spike times (of imaged neurons,
        their ROI tables and traces), what describes the session and the subject, and the embeddings. For originals
        that are large, or that nobody may change.
    match : str, optional
        Column of the units table that holds the units' ids. Default: the first of ``unit_name`` and ``id`` that names
        every unit once. The table may hold further units.
    series : str, optional
        As `read_population`: the ROI responses that embeddings of traces are of. Default: those they were read from,
        or the file's only ones. Neurons are rows of their PlaneSegmentation; where these are several, each gets tables
        of its own, whose names end in its name.
    name : str, default: "UnitEmbeddings"
        Name of the table, for files that hold several (of several probes, say).
    if_exists : {"error", "replace", "new_name"}
        What to do where the file holds a table of this name, or identities of the same target. Identities that were
        predicted from a replaced table go with it. A new name is the old one with a number.
    unit_columns : bool, default: False
        Also add the columns ``nuclr_window_count`` and ``nuclr_stability`` to the units table. Where they are there,
        the rows of the embedded units are brought up to date anyway.
    allow_stale : bool, default: False
        Write embeddings of units whose spikes have changed since. The table says so.
    overwrite : bool, default: False
        Replace `output` where it exists.
    **options
        For a source that is embedded: the keywords of `embed` and of `read_population`.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    InputError
        The file, the output or a unit does not fit, is read-only, or open elsewhere. Nothing is changed.
    CheckpointError, DeviceError
        As `embed`.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if if_exists not in _IF_EXISTS:
        raise InputError(f"if_exists must be one of {', '.join(_IF_EXISTS)}, not {if_exists!r}")
    if tables.table_name(name) != name:
        raise InputError(f"name {name!r} cannot be that of a table: {tables.table_name(name)!r} could")
    output = output_of(path, output, in_place=in_place, units_only=units_only)
    imaged = series is not None or (isinstance(source, UnitEmbeddings) and source.provenance.get("signal") == "traces")
    check_places(path, output, in_place=in_place, overwrite=overwrite, units_only=units_only, imaged=imaged)
    source = path if source is None else source
    embeddings, predicted = results_of(source, series=series, allow_stale=allow_stale, **options)
    predicted += [identities] if isinstance(identities, Identities) else list(identities)
    with alone(output), locked(path, exclusive=False):
        before = stamp(path)

        def check_same() -> None:
            if stamp(path) != before:
                raise InputError(f"{path}: was changed meanwhile by another program: write again")

        plan = _plan(path, embeddings, predicted, match, series, name, if_exists, unit_columns, allow_stale, units_only)
        how = {"overwrite": overwrite or in_place, "beside": True, "like": path, "check": check_same}
        with written_whole(output, **how) as temporary:
            check_space(path, temporary, plan.size)
            try:
                _write(path, temporary, output, plan)
            except (InputError, KeyboardInterrupt):
                raise
            except Exception as error:  # the libraries below raise what they please, on a full disk above all
                raise InputError(f"{output}: could not be written ({reason_of(error)})") from error
    return output


def _plan(path, embeddings, identities, match, series, name, if_exists, unit_columns, allow_stale, units_only) -> Plan:
    """Find the rows and the names; everything that can be refused is refused here, before anything is written."""
    for key in ("checkpoint", "checkpoint_sha256", "population_fingerprint"):
        if key not in embeddings.provenance:
            raise InputError(f"the embeddings' provenance has no {key!r}: write what embed gave")
    for one in identities:
        _check_identities(one, embeddings)
    with open_nwb(path) as nwbfile, warnings.catch_warnings():
        warnings.simplefilter("ignore", RecordingWarning)
        try:
            reading = imaging_of(nwbfile, embeddings.provenance, series, str(path))
            if reading and unit_columns:
                raise InputError("unit_columns are of a units table, not of imaged neurons: leave them out")
            population = read_nwbfile(nwbfile, name=str(path), **reading)
            places = places_of(nwbfile, population, embeddings, match, allow_stale=allow_stale)
            if reading or not units_only:
                _check_inside(nwbfile, places)
            parts, unwanted = _parts(nwbfile, embeddings, identities, places, name, if_exists, units_only, reading)
        except InputError as error:
            said = str(error)
            raise InputError(said if said.startswith(f"{path}: ") else f"{path}: {said}") from None
        columns = {} if reading else _unit_columns(nwbfile, places[0], embeddings, unwanted, unit_columns, units_only)
        side = _side_columns(nwbfile.units, population, places[0].column) if units_only and not reading else None
        side_paths = paths_of(nwbfile, population) if units_only and reading else None
    copied = 8 * int(population.spike_counts.sum()) if units_only else size_of(path)
    size = copied + 2 * embeddings.embedding.nbytes + 1_000_000
    return Plan(parts, unwanted, population.fingerprint(), columns, side, side_paths, size)


def _check_inside(nwbfile, places) -> None:
    """InputError where a table whose rows are referred to lies in another file."""
    for place in places:
        if place.table.container_source != nwbfile.container_source:
            raise InputError(
                f"its {place.table.name} lies in {place.table.container_source}, behind a link: write into that file"
            )


def _parts(
    nwbfile, embeddings, identities, places, name, if_exists, units_only, reading
) -> tuple[list[Part], list[str]]:
    """What is written of each table of neurons, and the paths of what has to go for it."""
    several = len(places) > 1
    if several and if_exists == "new_name":
        name = tables.free_name(name, {*held(nwbfile), *table_names(nwbfile)})
    names = [f"{name}_{place.table.name}" if several else name for place in places]
    own = [embeddings.select(place.units) if several else embeddings for place in places]
    kept = [
        bool(identities) and not units_only and _holds(nwbfile, table, one, place.rows)
        for table, one, place in zip(names, own, places, strict=True)
    ]
    rooms = [(table, False) if units_only or stays else _room(nwbfile, table, if_exists)
             for table, stays in zip(names, kept, strict=True)]  # fmt: skip
    unwanted = tables.with_dependents(nwbfile, [table for table, replaced in rooms if replaced])
    taken, parts = {} if units_only else held(nwbfile), []
    for (table, _), one, stays, place in zip(rooms, own, kept, places, strict=True):
        own_identities = [i.select(np.isin(i.unit_ids, one.unit_ids)) for i in identities]
        named = _named(own_identities, f"_{place.table.name}" if several else "", taken, if_exists, unwanted)
        original = {"identifier": nwbfile.identifier, "object_id": nwbfile.object_id, "units": place.table.object_id}
        provenance = {**one.provenance, "matched_by": place.column, "file": original}
        provenance |= {"read_as": reading} if reading else {}
        one = dataclasses.replace(one, provenance=provenance)
        parts.append(Part(place.table.object_id if reading else None, one, place.rows, table, stays, named))
    return parts, unwanted


def _unit_columns(nwbfile, place, embeddings, unwanted: list[str], wanted: bool, units_only: bool) -> dict:
    """Columns for the units table; adds to `unwanted` those that are there and must not say something else."""
    present = [f"/units/{name}" for name in tables.UNIT_COLUMNS if name in nwbfile.units.colnames and not units_only]
    columns = tables.unit_columns(nwbfile.units, embeddings, place.rows) if wanted or present else {}
    unwanted += present
    return columns


def _check_identities(identities: Identities, embeddings: UnitEmbeddings) -> None:
    """InputError where identities were not predicted from these embeddings."""
    provenance, known = identities.provenance, embeddings.provenance
    read = provenance.get("checkpoint_sha256", [])
    if provenance.get("population_fingerprint") != known["population_fingerprint"] or (
        known["checkpoint_sha256"] not in ([read] if isinstance(read, str) else read)
    ):
        raise InputError(
            f"{identities.target}: was predicted from other embeddings than are written: predict it from these"
        )
    strange = set(identities.unit_ids.tolist()) - set(embeddings.unit_ids.tolist())
    if strange:
        raise InputError(f"{identities.target}: unit {min(strange, key=str)} is not among the embedded ones")


def _holds(nwbfile, name: str, embeddings: UnitEmbeddings, rows: np.ndarray) -> bool:
    """Whether the file's table of this name holds these very embeddings."""
    if not is_ours(held(nwbfile).get(name), TABLE):
        return False
    found = stored_table(nwbfile, name)
    own, new = found.embeddings.provenance, embeddings.provenance
    return (
        all(own[key] == new[key] for key in ("checkpoint_sha256", "population_fingerprint"))
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
    taken = held(nwbfile)
    if if_exists == "new_name":
        return tables.free_name(name, taken), False
    if name in taken and not is_ours(taken[name], TABLE):
        raise InputError(f"processing['nuclr'] holds a {name!r} that is no UnitEmbeddings: give another name=")
    if name in taken and if_exists == "error":
        raise InputError(f"it holds {name!r} already: give if_exists='replace' or 'new_name', or another name=")
    return name, name in taken


def _write(path: Path, temporary: Path, output: Path, plan: Plan) -> None:
    whole = plan.side_columns is None and plan.side_paths is None
    # What is not for others to read is not while it is written, either.
    if whole and path.is_dir():
        temporary.mkdir(mode=0o700)
    else:
        temporary.touch(mode=0o600)
    if whole:
        copying.copy_file(path, temporary, plan.unwanted)
    elif plan.side_paths is None:
        copying.copy_units(path, temporary, plan.side_columns)
    else:
        copying.copy_rois(path, temporary, plan.side_paths)
        check_relative(path, pointers_of(temporary), output)
    new = tables.append(temporary, plan)
    if whole:
        comparing.check_unchanged(path, temporary, [*new, *plan.unwanted])
    verifying.check_valid(path, temporary)
    verifying.check_read_back(temporary, plan)
