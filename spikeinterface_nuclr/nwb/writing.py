"""write_nwb: embeddings, and what was predicted from them, into a copy of an NWB file or in its place."""

import dataclasses
import shutil
import warnings
from pathlib import Path

import numpy as np

from ..errors import InputError, RecordingWarning, first_line
from ..files import written_whole
from ..identities import Identities
from ..sources.nwb_units import open_nwb, read_nwbfile
from ..unit_embeddings import UnitEmbeddings
from . import copying, tables, verifying
from .inputs import results_of
from .places import check_places, check_space, locked, output_of, size_of, stamp
from .plan import Plan
from .reading import TABLE, held, stored, table_names
from .rows import check_spike_counts, column_texts, match_rows

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
    name: str = TABLE,
    if_exists: str = "error",
    unit_columns: bool = False,
    allow_stale: bool = False,
    overwrite: bool = False,
    **options,
) -> Path:
    """Write embeddings of an NWB file's units, and identities, into ``processing["nuclr"]`` of a copy, or of itself.

    The copy is made beside the place it is for, validated, compared with the original object by object, and read back,
    before it takes that place in one step. Whatever goes wrong, and whenever the process is killed, the file that was
    there is there still.

    Parameters
    ----------
    path : str or Path
        NWB file with a units table: HDF5, or Zarr with the ``zarr`` extra.
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
        Instead of a copy of the whole file, write a side file: its units' ids and spike times, the session's and
        subject's identifiers, and the embeddings. For originals that are large, or that nobody may change.
    match : str, optional
        Column of the units table that holds the units' ids. Default: the first of ``unit_name`` and ``id`` that names
        every unit once. The table may hold further units.
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
    if not name or set(name) & set("/:"):
        raise InputError(f"name {name!r} cannot be that of a table: give one without '/' and ':'")
    output = output_of(path, output, in_place=in_place, units_only=units_only)
    check_places(path, output, in_place=in_place, overwrite=overwrite)
    embeddings, predicted = results_of(path if source is None else source, allow_stale=allow_stale, **options)
    predicted += [identities] if isinstance(identities, Identities) else list(identities)
    with locked(path, exclusive=False):
        before = stamp(path)
        plan = _plan(path, embeddings, predicted, match, name, if_exists, unit_columns, allow_stale, units_only)
        with written_whole(output, overwrite=overwrite or in_place) as temporary:
            check_space(path, temporary, plan.size)
            try:
                _write(path, temporary, plan)
                if in_place:
                    shutil.copymode(path, temporary)
            except (InputError, KeyboardInterrupt):
                raise
            except Exception as error:  # the libraries below raise what they please, on a full disk above all
                raise InputError(f"{output}: could not be written ({first_line(error)})") from error
            if stamp(path) != before:
                raise InputError(f"{path}: was changed meanwhile by another program: write again")
    return output


def _plan(path, embeddings, identities, match, name, if_exists, unit_columns, allow_stale, units_only) -> Plan:
    """Find the rows and the name; everything that can be refused is refused here, before anything is written."""
    for key in ("checkpoint", "checkpoint_sha256", "population_fingerprint"):
        if key not in embeddings.provenance:
            raise InputError(f"the embeddings' provenance has no {key!r}: write what embed gave")
    for one in identities:
        _check_identities(one, embeddings)
    with open_nwb(path) as nwbfile, warnings.catch_warnings():
        warnings.simplefilter("ignore", RecordingWarning)
        population = read_nwbfile(nwbfile, name=str(path), group_by="group", observed=None)
        try:
            rows, column = match_rows(nwbfile.units, embeddings.unit_ids, match)
            if not allow_stale:
                check_spike_counts(nwbfile.units, population.spike_counts, rows, embeddings)
            kept = bool(identities) and not units_only and _holds(nwbfile, name, embeddings, rows)
            name, unwanted = (name, []) if units_only or kept else _room(nwbfile, name, if_exists)
            named = _named(identities, {} if units_only else held(nwbfile), if_exists, unwanted)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        # Columns that are there already must not say something else than the table.
        present = [
            f"/units/{name}" for name in tables.UNIT_COLUMNS if name in nwbfile.units.colnames and not units_only
        ]
        columns = tables.unit_columns(nwbfile.units, embeddings, rows) if unit_columns or present else {}
        unwanted += present
        side = _side_columns(nwbfile.units, population, column) if units_only else None
        original = {"identifier": nwbfile.identifier, "object_id": nwbfile.object_id, "units": nwbfile.units.object_id}
    provenance = {**embeddings.provenance, "matched_by": column, "file": original}
    embeddings = dataclasses.replace(embeddings, provenance=provenance)
    copied = 8 * int(population.spike_counts.sum()) if units_only else size_of(path)
    size = copied + 2 * embeddings.embedding.nbytes + 1_000_000
    return Plan(embeddings, rows, name, kept, named, unwanted, population.fingerprint(), columns, side, size)


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
    if name not in table_names(nwbfile):
        return False
    found = stored(nwbfile, name)
    own, new = found.embeddings.provenance, embeddings.provenance
    return (
        all(own[key] == new[key] for key in ("checkpoint_sha256", "population_fingerprint"))
        and np.array_equal(found.rows, rows)
        and np.array_equal(found.embeddings.embedding, embeddings.embedding, equal_nan=True)
    )


def _named(identities, taken: dict, if_exists: str, unwanted: list[str]) -> dict[str, Identities]:
    """The identities by the names that their tables can have; adds to `unwanted` what has to go for them."""
    named: dict[str, Identities] = {}
    gone = {path.rpartition("/")[2] for path in unwanted} | ({*taken} if "/processing/nuclr" in unwanted else set())
    for one in identities:
        name = one.target.replace("/", "_").replace(":", "_")
        if name in named:
            raise InputError(f"two of the identities are of {one.target}: write one of them, or rename its target")
        there = name in taken and name not in gone
        if there and (if_exists == "error" or taken[name].neurodata_type != "UnitIdentities"):
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


def _room(nwbfile, name: str, if_exists: str) -> tuple[str, list[str]]:
    """The name that the table can have, and the paths of what has to go for it."""
    taken, unwanted = held(nwbfile), []
    if if_exists == "new_name":
        name = tables.free_name(name, taken)
    elif name in taken and name not in table_names(nwbfile):
        raise InputError(f"processing['nuclr'] holds a {name!r} that is no UnitEmbeddings: give another name=")
    elif name in taken and if_exists == "error":
        raise InputError(f"it holds {name!r} already: give if_exists='replace' or 'new_name', or another name=")
    elif name in taken:
        unwanted = tables.with_dependents(nwbfile, name)
    return name, unwanted


def _write(path: Path, temporary: Path, plan: Plan) -> None:
    if plan.side_columns is not None:
        copying.copy_units(path, temporary, plan.side_columns)
    else:
        copying.copy_file(path, temporary, plan.unwanted)
    new = tables.append(temporary, plan)
    if plan.side_columns is None:
        verifying.check_unchanged(path, temporary, [*new, *plan.unwanted])
    verifying.check_valid(path, temporary)
    verifying.check_read_back(temporary, plan)
