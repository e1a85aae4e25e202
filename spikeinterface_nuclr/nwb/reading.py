"""read_nwb: what an NWB file holds of embeddings and predicted identities. ndx-nuclr need not be installed."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..identities import Identities
from ..sources.nwb_units import open_nwb
from ..unit_embeddings import UnitEmbeddings
from .rows import column_texts, texts

MODULE = "nuclr"
TABLE = "UnitEmbeddings"


@dataclass(frozen=True, eq=False)
class Stored:
    """One table of embeddings in a file.

    Attributes
    ----------
    embeddings : UnitEmbeddings
    rows : int64, shape (n_units,)
        Row of each unit in the table of neurons.
    units_fingerprint : str or None
        Of all units of the file when the table was written.
    identities : list of Identities
        What was read from these embeddings.
    """

    embeddings: UnitEmbeddings
    rows: np.ndarray
    units_fingerprint: str | None
    identities: list[Identities]

    def stale(self, fingerprint: str) -> str:
        """Why the table does not fit units of this fingerprint; empty where it does."""
        if self.embeddings.provenance.get("stale"):
            return self.embeddings.provenance["stale"]
        if fingerprint != (self.units_fingerprint or self.embeddings.provenance["population_fingerprint"]):
            return "the units' spikes have changed since the table was written"
        return ""


def read_nwb(path, *, name: str | None = None) -> tuple[UnitEmbeddings, list[Identities]]:
    """Read the embeddings that an NWB file holds, and the identities that were predicted from them.

    Parameters
    ----------
    path : str or Path
        HDF5, or Zarr with the ``zarr`` extra.
    name : str, optional
        Name of the table in ``nwbfile.processing["nuclr"]``. Needed where there are several.

    Returns
    -------
    embeddings : UnitEmbeddings
        Named by the column that they were matched by; in the order of the table.
    identities : list of Identities

    Raises
    ------
    InputError
        The file cannot be read, or holds no embeddings, or several and `name` is missing.
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
        found = stored(nwbfile, name or names[0])
    return found.embeddings, found.identities


def table_names(nwbfile) -> list[str]:
    """Names of the tables of embeddings in an open file."""
    return [name for name, table in held(nwbfile).items() if table.neurodata_type == "UnitEmbeddings"]


def stored(nwbfile, name: str) -> Stored:
    """The table of this name in an open file."""
    module = held(nwbfile)
    table = module[name]
    rows = np.asarray(table["neuron"].data[:], dtype=np.int64)
    provenance = {"population_fingerprint": table.population_fingerprint, "checkpoint_sha256": table.model.sha256}
    provenance |= json.loads(table.provenance) if table.provenance else {}
    known = {column: np.asarray(table[column].data[:]) for column in ("embedding", "window_count", "stability")}
    count = np.asarray(table["spike_count"].data[:]) if "spike_count" in table.colnames else None
    ids = _unit_ids(table["neuron"].table, rows, provenance.get("matched_by"))
    return Stored(
        UnitEmbeddings(ids, **known, provenance=provenance, spike_count=count),
        rows,
        table.units_fingerprint,
        [
            _identities(other, ids, rows)
            for other in module.values()
            if other.neurodata_type == "UnitIdentities" and other.embeddings is table
        ],
    )


def stored_identities(nwbfile, name: str, of: Stored) -> Identities:
    """The identities of this name in an open file, which were read from the embeddings `of`."""
    return _identities(held(nwbfile)[name], of.embeddings.unit_ids, of.rows)


def held(nwbfile) -> dict:
    """What the module of an open file holds, by name; nothing where there is no module."""
    if MODULE not in nwbfile.processing:
        return {}
    return dict(nwbfile.processing[MODULE].data_interfaces)


def _unit_ids(neurons, rows: np.ndarray, column: str | None) -> np.ndarray:
    if column is None or column not in ("id", *neurons.colnames):
        column = "unit_name" if "unit_name" in neurons.colnames else "id"
    if column == "id":
        return np.asarray(neurons.id[:])[rows]
    values = neurons[column][:]
    if np.asarray(values).dtype.kind in "iu":
        return np.asarray(values)[rows]
    return np.array(column_texts(neurons, column))[rows]


def _identities(table, ids: np.ndarray, embedded_rows: np.ndarray) -> Identities:
    unit_of = dict(zip(embedded_rows.tolist(), ids.tolist(), strict=True))
    rows = np.asarray(table["neuron"].data[:]).tolist()
    values = {name: np.asarray(table[name].data[:]) for name in ("probability", "confidence", "abstained")}
    novelty = np.asarray(table["novelty"].data[:]) if "novelty" in table.colnames else None
    return Identities(
        target=table.target,
        unit_ids=np.array([unit_of.get(row, row) for row in rows]),
        classes=np.array(texts(table.classes[:])),
        label=np.array(texts(table["label"].data[:])),
        **values,
        novelty=novelty,
        provenance={
            "decoder": table.decoder,
            "decoder_sha256": table.decoder_sha256,
            **(json.loads(table.provenance) if table.provenance else {}),
        },
    )
