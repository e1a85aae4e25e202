"""Embeddings and predictions as tables of ndx-nuclr, appended to an NWB file."""

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
from hdmf.build import GroupBuilder

from ...predictions import Identities, Prediction
from ...provenance import Provenance
from ...unit_embeddings import UnitEmbeddings
from .file import io_class
from .matching import texts
from .reading import MODULE, TABLE, is_ours, is_prediction
from .specification import add_specification, wants_ascii_names


@dataclass(frozen=True)
class Part:
    """One table of embeddings and what is predicted from it. Each imaging plane of a population has one.

    Attributes
    ----------
    plane : str or None
        Object id of the neurons' PlaneSegmentation; None for the units table.
    embeddings : UnitEmbeddings
    rows : int64, shape (n_units,)
        Row of each unit in the table of neurons.
    name : str
        Name of the table of embeddings.
    exists : bool
        Whether the file already holds this table, which then remains.
    predictions : dict of str to Identities or Estimates
        By the names of their tables.
    """

    plane: str | None
    embeddings: UnitEmbeddings
    rows: np.ndarray
    name: str
    exists: bool
    predictions: dict[str, Prediction]


@dataclass(frozen=True, eq=False)
class MatchTable:
    """A table of the units of other recordings that the neurons of this file may be.

    Attributes
    ----------
    name : str
    plane : str or None
        As of `Part`.
    rows : int64, shape (n,)
        Row of each neuron in its table.
    columns : dict of str to array, shape (n,)
        `reading.MATCH_COLUMNS`.
    recording : str
        Name of this recording among those that were matched.
    target_error : float
    provenance : str
        JSON object.
    """

    name: str
    plane: str | None
    rows: np.ndarray
    columns: dict[str, np.ndarray]
    recording: str
    target_error: float
    provenance: str


@dataclass(frozen=True)
class Plan:
    """Changes to make in the copy.

    Attributes
    ----------
    parts : list of Part
    unwanted : list of str
        Paths to remove from the copy.
    units_fingerprint : str
        Fingerprint of all neurons of the file.
    columns : dict of str to array, shape (rows of the units table,)
        Columns to add to the units table.
    side_columns : dict of str to array, or None
        Columns of a side file of units, besides their spikes.
    side_paths : list of str, or None
        Tables and traces for a side file of imaged neurons. Both are None for a copy of the whole file.
    size : int
        Bytes that the copy will need.
    matches : list of MatchTable
    """

    parts: list[Part]
    unwanted: list[str]
    units_fingerprint: str
    columns: dict[str, np.ndarray]
    side_columns: dict[str, np.ndarray] | None
    side_paths: list[str] | None
    size: int
    matches: list[MatchTable] = field(default_factory=list)


UNIT_COLUMNS = {
    "nuclr_num_windows": "Number of time windows behind the unit's NuCLR embedding.",
    "nuclr_split_half_similarity": "Cosine between the unit's NuCLR embeddings of odd and even windows.",
}
_DESCRIPTION = "NuCLR embeddings of neurons and what is predicted from them"


def with_dependents(nwbfile, names: list[str]) -> list[str]:
    """Paths of the tables of these names, of what was predicted from them, and of models only they use."""
    if not names:
        return []
    existing = nwbfile.processing[MODULE].data_interfaces.values()
    tables = [table for table in existing if table.name in names]
    used = [table.model for table in existing if is_ours(table, TABLE) and table.name not in names]
    removed = [*tables, *(table for table in existing if is_prediction(table) and table.embeddings in tables)]
    for model in (table.model for table in tables):
        if model not in used and model not in removed:
            removed.append(model)
    if len(removed) == len(existing):
        return [f"/processing/{MODULE}"]
    return [f"/processing/{MODULE}/{container.name}" for container in removed]


def free_name(name: str, existing) -> str:
    """The name, followed by the first free number if it exists already."""
    names = [name, *(f"{name}_{k}" for k in range(2, len(existing) + 3))]
    return next(candidate for candidate in names if candidate not in existing)


def table_name(text: str) -> str:
    """The text as a name that HDF5, Zarr and pynwb accept."""
    name = re.sub(r"[/:\\\x00-\x1f\x7f]", "_", text)
    return f"_{name}" if not name or name.startswith(".") else name


def unit_columns(units, embeddings: UnitEmbeddings, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Columns for the units table, with one value per row. Rows of other units keep their values."""
    n = len(units)
    columns = {
        "nuclr_num_windows": np.zeros(n, dtype=np.int64),
        "nuclr_split_half_similarity": np.full(n, np.nan, np.float32),
    }
    for (name, values), new in zip(
        columns.items(), (embeddings.num_windows, embeddings.split_half_similarity), strict=True
    ):
        if name in units.colnames:
            values[:] = units[name][:]
        values[rows] = new
    return columns


def append(path: Path, plan: Plan, remove=None) -> list[str]:
    """Append the planned objects to the NWB file in `path`, which no other process reads at the same time.

    Parameters
    ----------
    path : Path
    plan : Plan
    remove : callable, optional
        Called with the open HDF5 file to remove objects first.

    Returns
    -------
    list of str
        Paths of the new objects in the file, except its specification.
    """
    import ndx_nuclr  # noqa: F401 (registers its types with pynwb)

    if path.is_dir():
        with io_class(path)(os.fspath(path), mode="a") as io:
            new, catalog, _ = _append(io, plan)
        add_specification(path, catalog)
        return new
    with h5py.File(path, "r+") as file:
        if remove is not None:
            remove(file)
        # pynwb closes the file that it is given.
        io = io_class(path)(file=file, mode="r+")
        new, catalog, tables = _append(io, plan)
        add_specification(file, catalog)
        if wants_ascii_names(file):
            _name_columns_in_ascii(file, tables)
        io.close()
    return new


def _append(io, plan: Plan) -> tuple[list[str], object, list[str]]:
    """Append to an open file; return the new paths, the catalog of specifications, and the tables with columns."""
    import ndx_nuclr

    nwbfile = io.read()
    new_module = MODULE not in nwbfile.processing
    if new_module:
        nwbfile.create_processing_module(MODULE, _DESCRIPTION)
    module = nwbfile.processing[MODULE]
    before = set(module.data_interfaces)
    for part in plan.parts:
        neurons = nwbfile.units if part.plane is None else nwbfile.objects[part.plane]
        if not part.exists:
            module.add(_embeddings(ndx_nuclr, module, neurons, part, plan.units_fingerprint))
        for name, prediction in part.predictions.items():
            module.add(_prediction(ndx_nuclr, module[part.name], neurons, name, prediction, part))
    for table in plan.matches:
        neurons = nwbfile.units if table.plane is None else nwbfile.objects[table.plane]
        module.add(_matches(ndx_nuclr, neurons, table))
    for column, values in plan.columns.items():
        nwbfile.add_unit_column(column, UNIT_COLUMNS[column], data=values)
    _write_new(io, module, nwbfile.units if plan.columns else None)
    added = [f"/processing/{MODULE}/{name}" for name in module.data_interfaces if name not in before]
    new = [f"/processing/{MODULE}"] if new_module else added
    tables = [*added, *(["/units"] if plan.columns else [])]
    return [*new, *(f"/units/{column}" for column in plan.columns)], io.manager.namespace_catalog, tables


def _name_columns_in_ascii(file: h5py.File, tables: list[str]) -> None:
    for attributes in (file[table].attrs for table in tables):
        if "colnames" in attributes:
            # Of fixed length: texts of variable length would be read as Unicode.
            attributes.create("colnames", np.array(texts(attributes["colnames"]), dtype="S"))


def _embeddings(ndx_nuclr, module, neurons, part: Part, units_fingerprint: str):
    """The table of embeddings; its model is added to the module."""
    embeddings = part.embeddings
    return ndx_nuclr.UnitEmbeddings(
        name=part.name,
        description=_description(embeddings),
        neuron=part.rows,
        neuron_table=neurons,
        embedding=embeddings.embedding,
        num_windows=embeddings.num_windows,
        split_half_similarity=embeddings.split_half_similarity,
        num_spikes=embeddings.num_spikes,
        num_frames=embeddings.num_frames,
        model=_model(ndx_nuclr, module, embeddings),
        population_fingerprint=embeddings.provenance.population_fingerprint,
        units_fingerprint=units_fingerprint,
        provenance=_storable(json.dumps(_beside_model(embeddings.provenance), ensure_ascii=False)),
    )


def _prediction(ndx_nuclr, embeddings, neurons, name: str, prediction: Prediction, part: Part):
    """A table of what was predicted from the table `embeddings`."""
    provenance = dict(prediction.provenance)
    decoder = provenance.pop("decoder", "")
    row = dict(zip(part.embeddings.unit_ids.tolist(), part.rows.tolist(), strict=True))
    stale = f" OUT OF DATE: {provenance['stale']}." if provenance.get("stale") else ""
    columns = {column: getattr(prediction, column) for column in (*prediction.ROWS, *prediction.OPTIONAL_ROWS)}
    del columns["unit_ids"]
    if isinstance(prediction, Identities):
        make, facts = ndx_nuclr.UnitIdentities, {"classes": prediction.classes.tolist()}
        columns["label"] = prediction.label
    else:
        make, facts = ndx_nuclr.UnitEstimates, {"coverage": float(prediction.coverage)}
    return make(
        name=name,
        description=f"{prediction.target} of neurons as predicted, not observed.{stale}",
        neuron=np.array([row[unit] for unit in prediction.unit_ids.tolist()], dtype=np.int64),
        neuron_table=neurons,
        **columns,
        **facts,
        embeddings=embeddings,
        target=prediction.target,
        decoder=_storable(decoder if decoder.startswith("hf://") else Path(decoder).name),
        decoder_sha256=provenance.pop("decoder_sha256", None),
        provenance=_storable(json.dumps(provenance, ensure_ascii=False)),
    )


def _matches(ndx_nuclr, neurons, table: MatchTable):
    """A table of units of other recordings."""
    texts_of = ("other_recording", "other_identifier", "other_unit")
    columns = {
        name: [_storable(text) for text in values.tolist()] if name in texts_of else values
        for name, values in table.columns.items()
    }
    return ndx_nuclr.UnitMatches(
        name=table.name,
        description="Units of other recordings that may be the same neuron, as inferred, not observed.",
        neuron=table.rows,
        neuron_table=neurons,
        **columns,
        recording=_storable(table.recording),
        target_error=float(table.target_error),
        provenance=_storable(table.provenance),
    )


def _write_new(io, module, units=None) -> None:
    """Write only the new objects in the module and, if passed, in the units table.

    Writing the whole file, as pynwb does, would update objects of old files: their types and the NWB version.
    """
    root = io.read_builder()
    built = [io.manager.build(container, source=io.source, root=True) for container in (module, units) if container]
    processing = root.groups.get("processing") or GroupBuilder("processing")
    processing.groups.clear()
    processing.set_group(built[0])
    for part in (root.groups, root.datasets, root.links, root.attributes):
        part.clear()
    for builder in (processing, *built[1:]):
        root.set_group(builder)
    io.write_builder(root)


def _description(embeddings: UnitEmbeddings) -> str:
    provenance = embeddings.provenance
    text = "NuCLR embeddings of neurons, each in the context of those recorded with it"
    if provenance.context:
        text += f" ({provenance.context})"
    if provenance.stale:
        text += f". OUT OF DATE: {provenance.stale}"
    return text + "."


def _model(ndx_nuclr, module, embeddings: UnitEmbeddings):
    """The model in the file with these weights, or a new one."""
    provenance = embeddings.provenance
    sha256, model = provenance.checkpoint_sha256, provenance.model or {}
    models = [item for item in module.data_interfaces.values() if is_ours(item, "NuCLRModel")]
    existing = next((model for model in models if model.sha256 == sha256), None)
    if existing is not None:
        return existing
    # Embeddings of other origin may lack the config.
    config = model.get("config") or {"dim": embeddings.embedding.shape[1], "window_s": provenance.window_s}
    version = (provenance.versions or {}).get("spikeinterface-nuclr", "")
    new = ndx_nuclr.NuCLRModel(
        name=free_name("NuCLRModel", module.data_interfaces),
        source=_storable(provenance.portable().checkpoint),
        revision=provenance.checkpoint_revision or None,
        sha256=sha256,
        config=json.dumps(config),
        software=f"spikeinterface-nuclr {version}".strip(),
        license=_text(model.get("license")),
        training_data=_text(model.get("training_data")),
    )
    module.add(new)
    return new


def _beside_model(provenance: Provenance) -> dict:
    """The provenance as JSON values, without the attributes of the table and its model."""
    attributes = ("model", "population_fingerprint", "units_fingerprint")
    return {name: value for name, value in provenance.portable().to_dict().items() if name not in attributes}


def _storable(text: str) -> str:
    """The text with escapes for bytes that are not valid text, which file names may contain, and for NUL."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def _text(value) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    return json.dumps(value, ensure_ascii=False)
