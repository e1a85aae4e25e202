"""read_nwb: embeddings, and what was predicted from them, from an NWB file. ndx-nuclr need not be installed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import InputError
from ...predictions import Estimates, Identities, Prediction, join_predictions
from ...provenance import Provenance
from ...unit_embeddings import UnitEmbeddings, join_embeddings
from .file import open_nwb
from .matching import column_texts, texts

MODULE = "nuclr"
TABLE, IDENTITIES, ESTIMATES, MATCHES = "UnitEmbeddings", "UnitIdentities", "UnitEstimates", "UnitMatches"
# Prefix of the matched column if neurons of several planes are named PLANE/ROI.
PLANES = "plane/"
_TEXTS = ("best_label", "reason")
# Columns of a table of matches, besides the row of the neuron.
MATCH_COLUMNS = (
    "neuron_id", "other_recording", "other_identifier", "other_unit", "probability", "similarity", "agreement", "named",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Stored:
    """The embeddings of one population in a file: one table, or one for each of its imaging planes.

    Attributes
    ----------
    embeddings : UnitEmbeddings
    rows : int64, shape (n_units,)
        Row of each unit in the units table, or in the ROI table of its plane.
    predictions : list of Identities and Estimates
        Predicted from these embeddings.
    """

    embeddings: UnitEmbeddings
    rows: np.ndarray
    predictions: list[Prediction]


def read_nwb(path, *, name: str | None = None) -> tuple[UnitEmbeddings, list[Prediction]]:
    """Read the embeddings in an NWB file, and what was predicted from them.

    Parameters
    ----------
    path : str or Path
        HDF5, or Zarr with the ``zarr`` extra.
    name : str, optional
        Name of the table in ``nwbfile.processing["nuclr"]``. Required if there are several.

    Returns
    -------
    embeddings : UnitEmbeddings
        With unit ids from the column by which they were matched, in the order of the table. Tables of several planes of
        one population are joined.
    predictions : list of Identities and Estimates

    Raises
    ------
    InputError
        The file cannot be read, holds no embeddings, or holds several and `name` is missing.

    Examples
    --------
    >>> from ndx_nuclr.testing.mock import mock_UnitIdentities
    >>> from pynwb import NWBHDF5IO
    >>> from pynwb.testing.mock.file import mock_NWBFile
    >>> from spikeinterface_nuclr import read_nwb
    >>> nwbfile = mock_NWBFile()
    >>> _ = mock_UnitIdentities(nwbfile=nwbfile)
    >>> with NWBHDF5IO("session.nwb", "w") as io:
    ...     io.write(nwbfile)
    >>> embeddings, [identities] = read_nwb("session.nwb")
    >>> identities
    Identities('cell_type', 5 units, 4 labelled, 2 classes)
    """
    with open_nwb(Path(path)) as nwbfile:
        names = table_names(nwbfile)
        if not names:
            raise InputError(f"{path}: it holds no embeddings: write some with nuclr embed")
        if name is None and len(names) > 1:
            raise InputError(
                f"{path}: it holds {len(names)} tables of embeddings: give name=, one of {', '.join(names)}"
            )
        if name is not None and name not in names:
            raise InputError(f"{path}: it holds no embeddings {name!r}, only {', '.join(names)}")
        result = stored(nwbfile, name or names[0])
    return result.embeddings, result.predictions


def table_names(nwbfile) -> list[str]:
    """Names of the embeddings in an open file: of single tables, or the common name of tables of several planes."""
    return list(_sets(nwbfile))


def stored(nwbfile, name: str) -> Stored:
    """The embeddings of this name in an open file."""
    parts = [stored_table(nwbfile, table) for table in _sets(nwbfile)[name]]
    return parts[0] if len(parts) == 1 else _joined(parts)


def _sets(nwbfile) -> dict[str, list[str]]:
    """Names of the tables of each population, by the name of its embeddings.

    Tables of one population's planes have one fingerprint, one model, and a common name to which each plane's name is
    appended. If other embeddings have that name too, each table is listed separately.
    """
    tables = {name: table for name, table in contents(nwbfile).items() if is_ours(table, TABLE)}
    sets: dict[tuple, list[str]] = {}
    for name, table in tables.items():
        try:
            values = _values(table, table.provenance)
        except InputError:  # raised again when the table itself is read
            values = {}
        of_plane = str(values.get("matched_by", "")).startswith(PLANES)
        shared = name.removesuffix(f"_{table['neuron'].table.name}") if of_plane else name
        sets.setdefault((shared, of_plane, table.population_fingerprint, table.model.sha256), []).append(name)
    shared = [key[0] for key in sets]
    return {
        name: members if name == key[0] else [name]
        for key, members in sets.items()
        for name in ([key[0]] if shared.count(key[0]) == 1 else members)
    }


def _joined(parts: list[Stored]) -> Stored:
    """The planes of one population, concatenated."""
    by_target: dict[tuple, list[Prediction]] = {}
    for one in (one for part in parts for one in part.predictions):
        by_target.setdefault((type(one), one.target), []).append(one)
    return Stored(
        join_embeddings([part.embeddings for part in parts]),
        np.concatenate([part.rows for part in parts]),
        [join_predictions(planes) for planes in by_target.values()],
    )


def stored_table(nwbfile, name: str) -> Stored:
    """The one table of this name in an open file."""
    module = contents(nwbfile)
    table = module[name]
    _check_columns(table, ("embedding", "num_windows", "split_half_similarity"))
    rows = np.asarray(table["neuron"].data[:], dtype=np.int64)
    columns = ("embedding", "num_windows", "split_half_similarity", "num_spikes", "num_frames")
    values = {column: np.asarray(table[column].data[:]) for column in columns if column in table.colnames}
    provenance = _provenance(table)
    ids = _unit_ids(table["neuron"].table, rows, provenance.matched_by)
    return Stored(
        UnitEmbeddings(ids, **values, provenance=provenance),
        rows,
        [
            _prediction(other, ids, rows)
            for other in module.values()
            if is_prediction(other) and other.embeddings is table
        ],
    )


def _provenance(table) -> Provenance:
    """The provenance of the embeddings, from the table and its model."""
    model = {"license": table.model.license, "training_data": table.model.training_data}
    values = {
        **_values(table, table.provenance),
        "population_fingerprint": table.population_fingerprint,
        "units_fingerprint": table.units_fingerprint,
        "checkpoint_sha256": table.model.sha256,
        "model": {"config": _values(table.model, table.model.config), **model},
    }
    try:
        return Provenance.from_dict(values)
    except InputError as error:
        raise InputError(f"{table.container_source}: {table.name!r}: {error}: the file is damaged") from None


def _values(container, text: str | None) -> dict:
    """The JSON object in an attribute of a container; empty if there is none."""
    try:
        values = json.loads(text) if text else {}
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise InputError(f"{container.container_source}: {container.name!r}: its JSON is damaged: embed again")
    return values


def stored_prediction(nwbfile, name: str, source: Stored) -> Prediction:
    """The table of this name in an open file, which was predicted from the embeddings `source`."""
    return _prediction(contents(nwbfile)[name], source.embeddings.unit_ids, source.rows)


@dataclass(frozen=True, eq=False)
class StoredMatches:
    """Rows and columns of a table of matches in an open file."""

    rows: np.ndarray
    columns: dict[str, np.ndarray]


def stored_matches(nwbfile, name: str) -> StoredMatches:
    """The table of matches of this name in an open file."""
    table = contents(nwbfile)[name]
    missing = [column for column in MATCH_COLUMNS if column not in table.colnames]
    if missing:
        raise InputError(f"{table.container_source}: its {name!r} has no column {missing[0]!r}: the file is damaged")
    columns = {
        column: np.array(texts(table[column].data[:]), dtype=str) if column.startswith("other_")
        else np.asarray(table[column].data[:])
        for column in MATCH_COLUMNS
    }  # fmt: skip
    return StoredMatches(np.asarray(table["neuron"].data[:], dtype=np.int64), columns)


def contents(nwbfile) -> dict:
    """All objects in the module of an open file, by name, including those of others; empty without a module."""
    if MODULE not in nwbfile.processing:
        return {}
    return dict(nwbfile.processing[MODULE].data_interfaces)


def is_ours(container, neurodata_type: str) -> bool:
    """Whether an object in the module is of this type of ndx-nuclr; the module may contain other objects."""
    return (getattr(container, "namespace", None), getattr(container, "neurodata_type", None)) == (
        "ndx-nuclr",
        neurodata_type,
    )


def is_prediction(container) -> bool:
    """Whether an object in the module is a table of predicted classes or numbers."""
    return is_ours(container, IDENTITIES) or is_ours(container, ESTIMATES)


def _unit_ids(neurons, rows: np.ndarray, column: str | None) -> np.ndarray:
    if column is not None and column.startswith(PLANES):
        inner = _unit_ids(neurons, rows, column.removeprefix(PLANES))
        return np.array([f"{neurons.name}/{roi}" for roi in inner], dtype=str)
    if column is None or column not in ("id", *neurons.colnames):
        column = "unit_name" if "unit_name" in neurons.colnames else "id"
    if column == "id":
        return np.asarray(neurons.id[:])[rows]
    values = neurons[column][:]
    if np.asarray(values).dtype.kind in "iu":
        return np.asarray(values)[rows]
    return np.array(column_texts(neurons, column))[rows]


def _check_columns(table, names: Sequence[str]) -> None:
    """Raise InputError if a table lacks columns, as tables of development versions before 0.1.0 do."""
    missing = [name for name in names if name not in table.colnames]
    if missing:
        raise InputError(
            f"{table.container_source}: its {table.name!r} has no column {missing[0]!r}, as tables of "
            "development versions: replace it (nuclr embed --in-place --if-exists replace), then predict again"
        )


def _prediction(table, ids: np.ndarray, embedded_rows: np.ndarray) -> Prediction:
    unit_of = dict(zip(embedded_rows.tolist(), ids.tolist(), strict=True))
    rows = np.asarray(table["neuron"].data[:]).tolist()
    kind = Identities if is_ours(table, IDENTITIES) else Estimates
    required = [name for name in kind.ROWS if name != "unit_ids"]
    _check_columns(table, required)
    columns = [*required, *(name for name in kind.OPTIONAL_ROWS if name in table.colnames)]
    values = {name: table[name].data[:] for name in columns}
    facts = {"coverage": float(table.coverage)} if kind is Estimates else {"classes": np.array(texts(table.classes[:]))}
    provenance = {"decoder": table.decoder, "decoder_sha256": table.decoder_sha256}
    try:
        return kind(
            target=table.target,
            unit_ids=np.array([unit_of.get(row, row) for row in rows]),
            **{
                name: np.array(texts(column), dtype=str) if name in _TEXTS else np.asarray(column)
                for name, column in values.items()
            },
            **facts,
            provenance={**provenance, **_values(table, table.provenance)},
        )
    except InputError as error:
        raise InputError(f"{table.container_source}: {error}") from None
