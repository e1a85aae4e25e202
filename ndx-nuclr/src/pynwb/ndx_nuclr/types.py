"""The types of ndx-nuclr: constructors that take plain arrays and check them.

What comes from a file is taken as it is: a fault in one table must not keep anyone from reading the rest of the file.
"""

import json
import string

import numpy as np
from hdmf.common import DynamicTable, DynamicTableRegion, VectorData
from hdmf.utils import docval, get_docval, popargs
from pynwb import register_class
from pynwb.core import NWBDataInterface

NAMESPACE = "ndx-nuclr"
_ARRAY = ("array_data", "data", VectorData)


@register_class("NuCLRModel", NAMESPACE)
class NuCLRModel(NWBDataInterface):
    """A trained NuCLR encoder: what is needed to find the very same weights again."""

    __nwbfields__ = ("source", "revision", "sha256", "software", "license", "config", "training_data")

    @docval(
        {"name": "name", "type": str, "doc": "Name of the model in the file.", "default": "NuCLRModel"},
        {"name": "source", "type": str, "doc": "Bundled name, file name, or Hub name of the weights."},
        {"name": "sha256", "type": str, "doc": "SHA-256 of the checkpoint file, 64 hexadecimal digits."},
        {"name": "config", "type": str, "doc": "JSON object of the encoder's architecture and input."},
        {"name": "software", "type": str, "doc": "Name and version of the software that ran the model."},
        {"name": "revision", "type": str, "doc": "Revision of the source.", "default": None},
        {"name": "license", "type": str, "doc": "Licence of the weights.", "default": None},
        {"name": "training_data", "type": str, "doc": "What it was trained on, with citations.", "default": None},
        allow_positional="ERROR",
    )
    def __init__(self, **kwargs):
        super().__init__(name=kwargs.pop("name"))
        if not self._in_construct_mode:
            _check_sha256(f"NuCLRModel {self.name!r}: sha256", kwargs["sha256"])
            _check_json(f"NuCLRModel {self.name!r}: config", kwargs["config"])
        for field, value in kwargs.items():
            setattr(self, field, value)


class _NeuronTable(DynamicTable):
    """A table whose rows are neurons of another table."""

    # No column is "required" in the sense of hdmf, which would keep a file whose table lacks one from being read.
    _optional_columns = ()

    def _own_columns(self, kwargs, matrix):
        """Take the columns out of `kwargs`; as VectorData, ready for DynamicTable, unless it was given such."""
        table = kwargs.pop("neuron_table")
        given = {column["name"]: kwargs.pop(column["name"]) for column in self.__columns__}
        name = kwargs["name"]
        if kwargs["columns"] is not None and self._in_construct_mode:
            return
        by_name = {column for column, values in given.items() if values is not None}
        if kwargs["columns"] is not None and by_name:
            raise ValueError(f"{name}: give either columns or the arrays by their names")
        present = by_name | {column.name for column in kwargs["columns"] or ()}
        missing = sorted(given.keys() - present - {*self._optional_columns})
        if missing:
            raise ValueError(f"{name}: the column {missing[0]!r} is missing")
        if kwargs["columns"] is not None:
            return
        neuron = given["neuron"]
        if isinstance(neuron, DynamicTableRegion):
            neuron, table = neuron.data, neuron.table
        if table is None:
            raise ValueError(f"{name}: neuron_table is missing: the table that the neurons are rows of")
        arrays = {column: _array(column, values) for column, values in given.items() if values is not None}
        arrays["neuron"] = rows = _array("neuron", neuron)
        _check_rows(name, rows, table)
        for column, values in arrays.items():
            dimensions = 2 if column == matrix else 1
            if values.ndim != dimensions or len(values) != len(rows):
                expected = f"({len(rows)}, n)" if column == matrix else f"({len(rows)},)"
                raise ValueError(f"{name}: {column} has shape {values.shape}, not {expected}: give one row a neuron")
        about = {column["name"]: column["description"] for column in self.__columns__}
        region = DynamicTableRegion(name="neuron", data=rows, description=about["neuron"], table=table)
        others = [
            VectorData(name=column, data=values, description=about[column])
            for column, values in arrays.items()
            if column != "neuron"
        ]
        kwargs["columns"] = [region, *others]
        kwargs["colnames"] = [column.name for column in kwargs["columns"]]


_TABLE_DOCVAL = [
    argument
    for argument in get_docval(DynamicTable.__init__)
    if argument["name"] in ("id", "columns", "colnames", "meanings_tables")
]
_NEURON_DOCVAL = [
    {"name": "neuron", "type": (*_ARRAY, DynamicTableRegion), "doc": "Row of each neuron, (n,).", "default": None},
    {"name": "neuron_table", "type": DynamicTable, "doc": "The table that the neurons are rows of.", "default": None},
]


def _optional(name, doc):
    return {"name": name, "type": _ARRAY, "doc": doc, "default": None}


@register_class("UnitEmbeddings", NAMESPACE)
class UnitEmbeddings(_NeuronTable):
    """One embedding for each neuron, computed by one model."""

    _optional_columns = ("num_spikes", "num_frames")
    __fields__ = ("population_fingerprint", "units_fingerprint", "provenance", {"name": "model", "child": False})
    __columns__ = (
        {"name": "neuron", "description": "Row of each neuron in the table that describes it.", "table": True},
        {"name": "embedding", "description": "Embedding of each neuron: the mean over its windows; NaN without one."},
        {"name": "num_windows", "description": "Number of time windows behind the embedding."},
        {"name": "split_half_similarity", "description": "Cosine between the means over the odd and the even windows."},
        {"name": "num_spikes", "description": "Number of spikes of the neuron when it was embedded."},
        {"name": "num_frames", "description": "Number of frames of the neuron's fluorescence when it was embedded."},
    )  # fmt: skip

    @docval(
        {"name": "name", "type": str, "doc": "Name of the table.", "default": "UnitEmbeddings"},
        {"name": "description", "type": str, "doc": "What was embedded.", "default": "NuCLR embeddings of neurons."},
        *_NEURON_DOCVAL,
        _optional("embedding", "float32, (n, dim). NaN where a neuron has no window."),
        _optional("num_windows", "int64, (n,). Windows behind each embedding."),
        _optional("split_half_similarity", "float32, (n,). Cosine between odd and even windows."),
        _optional("num_spikes", "int64, (n,). Spikes of each neuron when it was embedded."),
        _optional("num_frames", "int64, (n,). Frames of each neuron's fluorescence when it was embedded."),
        {"name": "model", "type": NuCLRModel, "doc": "The model that embedded the neurons."},
        {"name": "population_fingerprint", "type": str, "doc": "SHA-256 of the population that was embedded."},
        {"name": "units_fingerprint", "type": str, "doc": "SHA-256 of all neurons of this file.", "default": None},
        {"name": "provenance", "type": str, "doc": "JSON object of how it was computed.", "default": None},
        *_TABLE_DOCVAL,
        allow_positional="ERROR",
    )
    def __init__(self, **kwargs):
        names = ("model", "population_fingerprint", "units_fingerprint", "provenance")
        fields = dict(zip(names, popargs(*names, kwargs), strict=True))
        if not self._in_construct_mode:
            _check_json(f"{kwargs['name']}: provenance", fields["provenance"])
        self._own_columns(kwargs, matrix="embedding")
        super().__init__(**kwargs)
        for field, value in fields.items():
            setattr(self, field, value)


@register_class("UnitIdentities", NAMESPACE)
class UnitIdentities(_NeuronTable):
    """What a decoder reads from the embeddings about one property of each neuron. Predicted, not observed."""

    _optional_columns = ("novelty",)
    __fields__ = (
        "target", "decoder", "decoder_sha256", "classes", "provenance", {"name": "embeddings", "child": False},
    )  # fmt: skip
    __columns__ = (
        {"name": "neuron", "description": "Row of each neuron in the table that describes it.", "table": True},
        {"name": "label", "description": "The best label, 'unknown' where the decoder abstains."},
        {"name": "best_label", "description": "The most probable class."},
        {"name": "reason", "description": "Why the decoder abstains; empty where it does not."},
        {"name": "probability", "description": "Calibrated probability of each of the classes."},
        {"name": "confidence", "description": "Probability of the most probable class."},
        {"name": "novelty", "description": "Distance from the embeddings that the decoder was trained on."},
    )  # fmt: skip

    @docval(
        {"name": "name", "type": str, "doc": "Name of the table: that of the target."},
        {"name": "description", "type": str, "doc": "What was predicted.", "default": "Predicted identity of neurons."},
        *_NEURON_DOCVAL,
        _optional("label", "text, (n,). The best label, 'unknown' where there is a reason to abstain."),
        _optional("best_label", "text, (n,). The most probable class; empty without an embedding."),
        _optional("reason", "text, (n,). 'low confidence', 'novel' or 'no embedding', or empty."),
        _optional("probability", "float32, (n, k). Calibrated probability of each class."),
        _optional("confidence", "float32, (n,). Probability of the most probable class."),
        _optional("novelty", "float32, (n,). Distance from the training embeddings."),
        {
            "name": "classes",
            "type": ("array_data", "data"),
            "doc": "text, (k,). Names of the classes.",
            "shape": (None,),
        },
        {"name": "target", "type": str, "doc": "The property that is predicted."},
        {"name": "decoder", "type": str, "doc": "Name of the decoder."},
        {"name": "embeddings", "type": UnitEmbeddings, "doc": "The embeddings that were read."},
        {"name": "decoder_sha256", "type": str, "doc": "SHA-256 of the decoder's file.", "default": None},
        {"name": "provenance", "type": str, "doc": "JSON object of how it was computed.", "default": None},
        *_TABLE_DOCVAL,
        allow_positional="ERROR",
    )
    def __init__(self, **kwargs):
        names = ("target", "decoder", "embeddings", "decoder_sha256", "provenance", "classes")
        fields = dict(zip(names, popargs(*names, kwargs), strict=True))
        name = kwargs["name"]
        if not self._in_construct_mode:
            _check_json(f"{name}: provenance", fields["provenance"])
            _check_sha256(f"{name}: decoder_sha256", fields["decoder_sha256"])
        if kwargs["columns"] is None and kwargs["probability"] is not None:
            shape = np.shape(kwargs["probability"])
            if len(shape) == 2 and shape[1] != len(fields["classes"]):
                raise ValueError(f"{name}: probability has {shape[1]} columns for {len(fields['classes'])} classes")
        made_here = kwargs["columns"] is None
        self._own_columns(kwargs, matrix="probability")
        if made_here:
            _check_labels(name, {column.name: column.data for column in kwargs["columns"]})
        super().__init__(**kwargs)
        for field, value in fields.items():
            setattr(self, field, value)


_TEXTS = ("label", "best_label", "reason")
_REASONS = ("low confidence", "novel", "no embedding")
_DTYPES = {
    "neuron": np.int64, "embedding": np.float32, "num_windows": np.int64, "split_half_similarity": np.float32,
    "num_spikes": np.int64, "num_frames": np.int64, "probability": np.float32, "confidence": np.float32,
    "novelty": np.float32,
}  # fmt: skip


def _array(column, values):
    """The values in the type that the file has: a typed array, which may also be empty."""
    values = values.data if isinstance(values, VectorData) else values
    if column not in _TEXTS:
        return np.asarray(values, dtype=_DTYPES[column])
    values = np.asarray(values)
    if len(values) and not all(isinstance(value, str) for value in values.tolist()):
        raise ValueError(f"{column}: every neuron needs a text; give an empty one where there is none")
    return values.astype(str)


def _check_labels(name, columns):
    """That label is best_label, and 'unknown' exactly where there is one of the reasons."""
    strange = sorted(set(columns["reason"].tolist()) - {"", *_REASONS})
    if strange:
        raise ValueError(f"{name}: reason is one of {', '.join(_REASONS)}, or empty, not {strange[0]!r}")
    expected = np.where(columns["reason"] != "", "unknown", columns["best_label"])
    for label, own in zip(columns["label"].tolist(), expected.tolist(), strict=True):
        if label != own:
            raise ValueError(
                f"{name}: label is {label!r}, not {own!r}: it is best_label, and 'unknown' where there is a reason"
            )


def _check_rows(name, rows, table):
    if rows.ndim == 1 and len(rows) and (rows.min() < 0 or rows.max() >= len(table)):
        bad = rows[(rows < 0) | (rows >= len(table))][0]
        raise ValueError(
            f"{name}: neuron holds {bad}, but {table.name!r} has {len(table)} rows: give row numbers, not ids"
        )
    if len(np.unique(rows)) != rows.size:
        values, counts = np.unique(rows, return_counts=True)
        raise ValueError(f"{name}: row {values[counts > 1][0]} of {table.name!r} occurs twice in neuron")


def _check_sha256(name, value):
    if value is not None and (len(value) != 64 or not set(value) <= set(string.hexdigits)):
        raise ValueError(f"{name} must be 64 hexadecimal digits, not {value!r}")


def _check_json(name, value):
    try:
        valid = value is None or isinstance(json.loads(value), dict)
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(f"{name} must be a JSON object, not {value!r}")
