"""write_nwb: write embeddings and what was predicted from them to a copy of an NWB file, or in place."""

import dataclasses
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ...errors import InputError, RecordingWarning, reason_of
from ...files import written_whole
from ...locks import alone
from ...population import Population
from ...predictions import Estimates, Identities, Prediction
from ...unit_embeddings import UnitEmbeddings
from . import copying, tables, verifying
from .file import OpenFile, open_file
from .inputs import results_of
from .links import pointers_of
from .matching import column_texts
from .neurons import Place, imaging_of, is_read_as, paths_of, places_of
from .output import check_places, check_relative, check_space, locked, output_of, size_of, stamp
from .population import read_nwbfile
from .reading import TABLE, contents, is_ours, is_prediction, stored_table, table_names
from .session import Session
from .tables import Part, Plan

_IF_EXISTS = ("error", "replace", "new_name")


def write_nwb(
    path,
    source,
    output=None,
    *,
    identities: list[Prediction] | Prediction = (),
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
    """Write embeddings and predictions of an NWB file's neurons to ``processing["nuclr"]`` of a copy, or of the file.

    The copy is written beside its destination, validated, compared with the original object by object, and read back
    before it is moved to its destination in one step. If anything fails or the process is killed, the original file is
    untouched.

    Parameters
    ----------
    path : str or Path
        NWB file with a units table, or ROI responses: HDF5, or Zarr with the ``zarr`` extra.
    source : SortingAnalyzer, UnitEmbeddings, str or Path
        The results to write: an analyzer, or its folder, with ``nuclr_embedding`` (and ``nuclr_identity`` and
        ``nuclr_estimate``, if computed); embeddings; or an ``.npz`` of embeddings. `write_nwb` does not compute
        embeddings.
    output : str or Path, optional
        The file to write. Default: ``<name>_nuclr.nwb`` beside `path`.
    identities : Identities, Estimates, or list of these
        Results of `Decoder.predict` or `Regressor.predict` for these embeddings: one table each, named after its
        target. If the file already holds the same embeddings, they are kept and the predictions are added.
    in_place : bool, default: False
        Replace `path` itself.
    units_only : bool, default: False
        Instead of a copy of the whole file, write a side file with the ids and spike times of its units (or the ROI
        tables and traces of imaged neurons), the description of session and subject, and the embeddings. Useful for
        originals that are large or must not be changed.
    match : str, optional
        Column of the units table with the unit ids. Default: the first of ``unit_name`` and ``id`` that names every
        unit once. The table may have more units.
    series : str, optional
        As in `read_population`: the ROI responses that embeddings of traces belong to. Default: those they were read
        from, or the file's only ones. Neurons are rows of their PlaneSegmentation; if there are several, each gets its
        own tables, whose names end in its name.
    name : str, default: "UnitEmbeddings"
        Name of the table, for files with several tables, such as one per probe.
    if_exists : {"error", "replace", "new_name"}
        What to do if the file has a table of this name, or predictions of the same target. What was predicted
        from a replaced table is removed with it. "new_name" appends a number to the name.
    publish : bool, default: False
        Also add the columns ``nuclr_num_windows`` and ``nuclr_split_half_similarity`` to the units table. If the table
        has them already, the rows of the embedded units are updated in any case.
    allow_stale : bool, default: False
        Write embeddings of units whose spikes have changed since they were embedded. The table states this.
    overwrite : bool, default: False
        Replace `output` if it exists.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    InputError
        A unit, the source or a file cannot be used, or a file is read-only or open elsewhere. Nothing is changed.

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
    predicted += [identities] if isinstance(identities, Identities | Estimates) else list(identities)
    request = Request(
        embeddings, predicted, name, if_exists, match=match, series=series, units_only=units_only, publish=publish,
        allow_stale=allow_stale,
    )  # fmt: skip
    return write_request(path, output, request, overwrite=overwrite or in_place)


@dataclass(frozen=True, eq=False)
class Request:
    """The results to write, and the parameters of `write_nwb` of the same names."""

    embeddings: UnitEmbeddings
    predictions: list[Prediction]
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
        for prediction in self.predictions:
            _check_prediction(prediction, self.embeddings)


def check_choices(name: str, if_exists: str) -> None:
    """Raise InputError if `name` is not a valid name of a table or `if_exists` is unknown."""
    if if_exists not in _IF_EXISTS:
        raise InputError(f"if_exists must be one of {', '.join(_IF_EXISTS)}, not {if_exists!r}")
    if tables.table_name(name) != name:
        raise InputError(f"name {name!r} is not a valid name of a table: {tables.table_name(name)!r} is")


def write_request(
    path: Path, output: Path, request: Request, *, overwrite: bool, session: Session | None = None
) -> Path:
    """Write the requested results to `output`, returned by `output_of`, after `check_places` has passed.

    The file is opened again even if `session` was read from it, because another program may have changed it while its
    units were embedded. If it has not changed, its spikes are not read again.
    """

    def planned(nwbfile) -> Plan:
        population = session.population if session and session.stamp == stamp(path) else None
        return _plan(path, nwbfile, request, population)

    return write_plan(path, output, planned, overwrite=overwrite)


def write_plan(path: Path, output: Path, planned: Callable[..., Plan], *, overwrite: bool) -> Path:
    """Write what `planned` returns for the open file to `output`, as `write_request` does."""
    with alone(output), locked(path, exclusive=False):
        before = stamp(path)

        def check_same() -> None:
            if stamp(path) != before:
                raise InputError(f"{path}: was changed by another program in the meantime: write again")

        options = {"overwrite": overwrite, "beside": True, "like": path, "check": check_same}
        # The original is closed before it is replaced.
        with written_whole(output, **options) as temporary, open_file(path) as original:
            plan = planned(original.nwbfile)
            check_space(path, temporary, plan.size)
            try:
                _write(path, original, temporary, output, plan)
            except (InputError, KeyboardInterrupt):
                raise
            except Exception as error:  # the libraries raise various errors, above all on a full disk
                raise InputError(f"{output}: could not be written ({reason_of(error)})") from error
    return output


def _plan(path: Path, nwbfile, request: Request, population: Population | None) -> Plan:
    """Determine rows and names; all requests that must be refused are refused here, before anything is written.

    `population` is that of the file, if it has been read already.
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
    """Raise InputError if a table of the neurons is in another file."""
    for place in places:
        if place.table.container_source != nwbfile.container_source:
            raise InputError(
                f"its {place.table.name} lies in {place.table.container_source}, behind a link: write into that file"
            )


def _parts(nwbfile, request: Request, places: list[Place], reading: dict) -> tuple[list[Part], list[str]]:
    """The part to write for each table of neurons, and the paths to remove for it."""
    several, name, units_only, if_exists = len(places) > 1, request.name, request.units_only, request.if_exists
    if several and if_exists == "new_name":
        name = tables.free_name(name, {*contents(nwbfile), *table_names(nwbfile)})
    names = [f"{name}_{place.table.name}" if several else name for place in places]
    selections = [request.embeddings.select(place.units) if several else request.embeddings for place in places]
    present = [
        bool(request.predictions) and not units_only and _is_present(nwbfile, table, embeddings, place.rows)
        for table, embeddings, place in zip(names, selections, places, strict=True)
    ]
    targets = [(table, False) if units_only or exists else _target(nwbfile, table, if_exists)
               for table, exists in zip(names, present, strict=True)]  # fmt: skip
    unwanted = tables.with_dependents(nwbfile, [table for table, replaced in targets if replaced])
    existing, parts = {} if units_only else contents(nwbfile), []
    for (table, _), embeddings, exists, place in zip(targets, selections, present, places, strict=True):
        predictions = [one.select(np.isin(one.unit_ids, embeddings.unit_ids)) for one in request.predictions]
        named = _named(predictions, f"_{place.table.name}" if several else "", existing, if_exists, unwanted)
        original = {"identifier": nwbfile.identifier, "object_id": nwbfile.object_id, "units": place.table.object_id}
        provenance = embeddings.provenance.replace(matched_by=place.column, file=original, read_as=reading or None)
        embeddings = dataclasses.replace(embeddings, provenance=provenance)
        parts.append(Part(place.table.object_id if reading else None, embeddings, place.rows, table, exists, named))
    return parts, unwanted


def _unit_columns(nwbfile, place: Place, request: Request, unwanted: list[str]) -> dict:
    """Columns for the units table; existing ones are added to `unwanted`, because they are replaced."""
    present = [
        f"/units/{name}" for name in tables.UNIT_COLUMNS if name in nwbfile.units.colnames and not request.units_only
    ]
    if not (request.publish or present):
        return {}
    unwanted += present
    return tables.unit_columns(nwbfile.units, request.embeddings, place.rows)


def _check_prediction(prediction: Prediction, embeddings: UnitEmbeddings) -> None:
    """Raise InputError if this was not predicted from these embeddings."""
    if not embeddings.provenance.predicts(prediction.provenance):
        raise InputError(
            f"{prediction.target}: was predicted from other embeddings than those to be written: predict it from these"
        )
    unknown = set(prediction.unit_ids.tolist()) - set(embeddings.unit_ids.tolist())
    if unknown:
        raise InputError(f"{prediction.target}: unit {min(unknown, key=str)} is not among the embedded ones")


def _is_present(nwbfile, name: str, embeddings: UnitEmbeddings, rows: np.ndarray) -> bool:
    """Whether the file's table of this name holds the same embeddings."""
    if not is_ours(contents(nwbfile).get(name), TABLE):
        return False
    stored = stored_table(nwbfile, name)
    return (
        stored.embeddings.provenance.same_embeddings(embeddings.provenance)
        and np.array_equal(stored.rows, rows)
        and np.array_equal(stored.embeddings.embedding, embeddings.embedding, equal_nan=True)
    )


def _named(
    predictions: list[Prediction], suffix: str, existing: dict, if_exists: str, unwanted: list[str]
) -> dict[str, Prediction]:
    """The predictions by the names of their tables; tables that they replace are added to `unwanted`."""
    named: dict[str, Prediction] = {}
    removed = {path.rpartition("/")[2] for path in unwanted}
    removed |= {*existing} if "/processing/nuclr" in unwanted else set()
    for one in predictions:
        name = tables.table_name(one.target + suffix)
        if name in named:
            raise InputError(f"two of the predictions are of {one.target}: write one of them, or rename its target")
        exists = name in existing and name not in removed
        if exists and (if_exists == "error" or not is_prediction(existing[name])):
            raise InputError(f"it holds {name!r} already: give if_exists='replace' or 'new_name'")
        if exists and if_exists == "replace":
            unwanted.append(f"/processing/nuclr/{name}")
        elif exists:
            name = tables.free_name(name, {*existing, *named})
        named[name] = one
    return named


def _side_columns(units, population, matched_by: str) -> dict[str, np.ndarray]:
    """Columns of a side file besides the spikes: those with the units' ids and probes."""
    columns = {"group": population.group} if len(np.unique(population.group)) > 1 else {}
    names = {"unit_name", matched_by} & set(units.colnames)
    return columns | {name: np.array(column_texts(units, name)) for name in sorted(names)}


def _target(nwbfile, name: str, if_exists: str) -> tuple[str, bool]:
    """Name of the table to write, and whether it replaces one."""
    existing = contents(nwbfile)
    if if_exists == "new_name":
        return tables.free_name(name, existing), False
    if name in existing and not is_ours(existing[name], TABLE):
        raise InputError(f"processing['nuclr'] holds a {name!r} that is not UnitEmbeddings: give another name=")
    if name in existing and if_exists == "error":
        raise InputError(f"it holds {name!r} already: give if_exists='replace' or 'new_name', or another name=")
    return name, name in existing


def _write(path: Path, original: OpenFile, temporary: Path, output: Path, plan: Plan) -> None:
    """Write the copy or side file and check it; each file is opened once for each step."""
    whole = plan.side_columns is None and plan.side_paths is None
    # Others may have no permission to read the original, so they get none for the temporary file.
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
