"""The types of ndx-nuclr, with constructors that take plain arrays and validate them.

Objects read from a file are not validated, so that an invalid table does not prevent reading the rest of the file.
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
    """A trained NuCLR encoder: the information that identifies its weights."""

    __nwbfields__ = ("source", "revision", "sha256", "software", "license", "config", "training_data")

    @docval(
        {"name": "name", "type": str, "doc": "Name of the model in the file.", "default": "NuCLRModel"},
        {"name": "source", "type": str, "doc": "Bundled name, file name, or Hub name of the weights."},
        {"name": "sha256", "type": str, "doc": "SHA-256 that identifies the model, 64 hexadecimal digits."},
        {"name": "config", "type": str, "doc": "JSON object of the encoder's architecture and input."},
        {"name": "software", "type": str, "doc": "Name and version of the software that ran the model."},
        {"name": "revision", "type": str, "doc": "Revision of the source.", "default": None},
        {"name": "license", "type": str, "doc": "Licence of the weights.", "default": None},
        {"name": "training_data", "type": str, "doc": "Training data of the model, with citations.", "default": None},
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
    """A table whose rows refer to neurons in another table."""

    # No column is "required" in the sense of hdmf, because a file whose table lacks one could not be read.
    _optional_columns = ()
    # Whether each neuron has one row at most.
    _one_row_each = True

    def _build_columns(self, kwargs, matrix):
        """Replace the arrays in `kwargs` by validated columns for DynamicTable, unless columns were passed."""
        table = kwargs.pop("neuron_table")
        values_of = {column["name"]: kwargs.pop(column["name"]) for column in self.__columns__}
        name = kwargs["name"]
        if kwargs["columns"] is not None and self._in_construct_mode:
            return
        by_name = {column for column, values in values_of.items() if values is not None}
        if kwargs["columns"] is not None and by_name:
            raise ValueError(f"{name}: give either columns or arrays by name, not both")
        present = by_name | {column.name for column in kwargs["columns"] or ()}
        missing = sorted(values_of.keys() - present - {*self._optional_columns})
        if missing:
            raise ValueError(f"{name}: the column {missing[0]!r} is missing")
        if kwargs["columns"] is not None:
            return
        neuron = values_of["neuron"]
        if isinstance(neuron, DynamicTableRegion):
            neuron, table = neuron.data, neuron.table
        if table is None:
            raise ValueError(f"{name}: neuron_table is missing: give the table with the neurons")
        arrays = {column: _array(column, values) for column, values in values_of.items() if values is not None}
        arrays["neuron"] = rows = _array("neuron", neuron)
        _check_rows(name, rows, table, unique=self._one_row_each)
        for column, values in arrays.items():
            dimensions = 2 if column == matrix else 1
            if values.ndim != dimensions or len(values) != len(rows):
                expected = f"({len(rows)}, n)" if column == matrix else f"({len(rows)},)"
                raise ValueError(f"{name}: {column} has shape {values.shape}, not {expected}: give one row a neuron")
        descriptions = {column["name"]: column["description"] for column in self.__columns__}
        region = DynamicTableRegion(name="neuron", data=rows, description=descriptions["neuron"], table=table)
        others = [
            VectorData(name=column, data=values, description=descriptions[column])
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
    {"name": "neuron_table", "type": DynamicTable, "doc": "The table with the neurons.", "default": None},
]


def _optional(name, doc):
    return {"name": name, "type": _ARRAY, "doc": doc, "default": None}


@register_class("UnitEmbeddings", NAMESPACE)
class UnitEmbeddings(_NeuronTable):
    """One embedding per neuron, computed by one model."""

    _optional_columns = ("num_spikes", "num_frames")
    __fields__ = ("population_fingerprint", "units_fingerprint", "provenance", {"name": "model", "child": False})
    __columns__ = (
        {"name": "neuron", "description": "Row of each neuron in the table that describes it.", "table": True},
        {"name": "embedding", "description": "Embedding of each neuron: the mean over its windows; NaN without one."},
        {"name": "num_windows", "description": "Number of time windows averaged in the embedding."},
        {"name": "split_half_similarity", "description": "Cosine similarity of the means over odd and even windows."},
        {"name": "num_spikes", "description": "Number of spikes of the neuron when it was embedded."},
        {"name": "num_frames", "description": "Number of frames of the neuron's fluorescence when it was embedded."},
    )  # fmt: skip

    @docval(
        {"name": "name", "type": str, "doc": "Name of the table.", "default": "UnitEmbeddings"},
        {"name": "description", "type": str, "doc": "What was embedded.", "default": "NuCLR embeddings of neurons."},
        *_NEURON_DOCVAL,
        _optional("embedding", "float32, (n, dim). NaN for neurons without a window."),
        _optional("num_windows", "int64, (n,). Number of windows averaged in each embedding."),
        _optional("split_half_similarity", "float32, (n,). Cosine similarity of odd and even windows."),
        _optional("num_spikes", "int64, (n,). Number of spikes of each neuron when it was embedded."),
        _optional("num_frames", "int64, (n,). Number of frames of each neuron's fluorescence when it was embedded."),
        {"name": "model", "type": NuCLRModel, "doc": "The model that embedded the neurons."},
        {"name": "population_fingerprint", "type": str, "doc": "SHA-256 of the embedded population."},
        {"name": "units_fingerprint", "type": str, "doc": "SHA-256 of all neurons of this file.", "default": None},
        {"name": "provenance", "type": str, "doc": "JSON object with parameters and versions.", "default": None},
        *_TABLE_DOCVAL,
        allow_positional="ERROR",
    )
    def __init__(self, **kwargs):
        names = ("model", "population_fingerprint", "units_fingerprint", "provenance")
        fields = dict(zip(names, popargs(*names, kwargs), strict=True))
        if not self._in_construct_mode:
            _check_json(f"{kwargs['name']}: provenance", fields["provenance"])
        self._build_columns(kwargs, matrix="embedding")
        super().__init__(**kwargs)
        for field, value in fields.items():
            setattr(self, field, value)


# Of tables of predictions.
_DECODER_DOCVAL = [
    {"name": "target", "type": str, "doc": "The predicted property."},
    {"name": "decoder", "type": str, "doc": "Name of the decoder."},
    {"name": "embeddings", "type": UnitEmbeddings, "doc": "The embeddings used for the prediction."},
    {"name": "decoder_sha256", "type": str, "doc": "SHA-256 that identifies the decoder.", "default": None},
    {"name": "provenance", "type": str, "doc": "JSON object with parameters and versions.", "default": None},
]


@register_class("UnitIdentities", NAMESPACE)
class UnitIdentities(_NeuronTable):
    """One property of each neuron, as predicted by a decoder from the embeddings. Predicted, not observed."""

    _optional_columns = ("novelty", "agreement")
    __fields__ = (
        "target", "decoder", "decoder_sha256", "classes", "provenance", {"name": "embeddings", "child": False},
    )  # fmt: skip
    __columns__ = (
        {"name": "neuron", "description": "Row of each neuron in the table that describes it.", "table": True},
        {"name": "label", "description": "The best label, 'unknown' where the decoder abstains."},
        {"name": "best_label", "description": "The most probable class."},
        {"name": "reason", "description": "Reason why the decoder abstains; empty where it does not."},
        {"name": "probability", "description": "Calibrated probability of each of the classes."},
        {"name": "confidence", "description": "Probability of the most probable class."},
        {"name": "novelty", "description": "Distance from the embeddings that the decoder was trained on."},
        {"name": "agreement", "description": "Fraction of the decoder's members that predict the best label."},
    )  # fmt: skip

    @docval(
        {"name": "name", "type": str, "doc": "Name of the table: the name of the target."},
        {"name": "description", "type": str, "doc": "What was predicted.", "default": "Predicted identity of neurons."},
        *_NEURON_DOCVAL,
        _optional("label", "text, (n,). The best label, 'unknown' where there is a reason to abstain."),
        _optional("best_label", "text, (n,). The most probable class; empty without an embedding."),
        _optional("reason", "text, (n,). 'low confidence', 'novel' or 'no embedding', or empty."),
        _optional("probability", "float32, (n, k). Calibrated probability of each class."),
        _optional("confidence", "float32, (n,). Probability of the most probable class."),
        _optional("novelty", "float32, (n,). Distance from the training embeddings."),
        _optional("agreement", "float32, (n,). Fraction of the decoder's members that predict the best label."),
        {
            "name": "classes",
            "type": ("array_data", "data"),
            "doc": "text, (k,). Names of the classes.",
            "shape": (None,),
        },
        *_DECODER_DOCVAL,
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
        from_arrays = kwargs["columns"] is None
        self._build_columns(kwargs, matrix="probability")
        if from_arrays:
            _check_labels(name, {column.name: column.data for column in kwargs["columns"]})
        super().__init__(**kwargs)
        for field, value in fields.items():
            setattr(self, field, value)


@register_class("UnitEstimates", NAMESPACE)
class UnitEstimates(_NeuronTable):
    """One number for each neuron, as predicted from the embeddings, with an interval. Predicted, not observed."""

    _optional_columns = ("spread",)
    __fields__ = (
        "target", "decoder", "decoder_sha256", "coverage", "provenance", {"name": "embeddings", "child": False},
    )  # fmt: skip
    __columns__ = (
        {"name": "neuron", "description": "Row of each neuron in the table that describes it.", "table": True},
        {"name": "value", "description": "The predicted value."},
        {"name": "low", "description": "Lower limit of the prediction interval."},
        {"name": "high", "description": "Upper limit of the prediction interval."},
        {"name": "spread", "description": "Standard deviation over the decoder's members."},
    )  # fmt: skip

    @docval(
        {"name": "name", "type": str, "doc": "Name of the table: the name of the target."},
        {"name": "description", "type": str, "doc": "What was predicted.", "default": "Predicted number of neurons."},
        *_NEURON_DOCVAL,
        _optional("value", "float32, (n,). The predicted value; NaN without an embedding."),
        _optional("low", "float32, (n,). Lower limit of the prediction interval."),
        _optional("high", "float32, (n,). Upper limit of the prediction interval."),
        _optional("spread", "float32, (n,). Standard deviation of the values that the decoder's members predict."),
        {"name": "coverage", "type": float, "doc": "Fraction of neurons whose interval contains the true value."},
        *_DECODER_DOCVAL,
        *_TABLE_DOCVAL,
        allow_positional="ERROR",
    )
    def __init__(self, **kwargs):
        names = ("target", "decoder", "embeddings", "decoder_sha256", "provenance", "coverage")
        fields = dict(zip(names, popargs(*names, kwargs), strict=True))
        name = kwargs["name"]
        if not self._in_construct_mode:
            _check_json(f"{name}: provenance", fields["provenance"])
            _check_sha256(f"{name}: decoder_sha256", fields["decoder_sha256"])
            if not 0 < fields["coverage"] < 1:
                raise ValueError(f"{name}: coverage must lie between 0 and 1, not {fields['coverage']!r}")
        from_arrays = kwargs["columns"] is None
        self._build_columns(kwargs, matrix=None)
        if from_arrays:
            _check_limits(name, {column.name: column.data for column in kwargs["columns"]})
        super().__init__(**kwargs)
        for field, value in fields.items():
            setattr(self, field, value)


@register_class("UnitMatches", NAMESPACE)
class UnitMatches(_NeuronTable):
    """Which neurons of this file are which neurons of other recordings, and how probably. Inferred, not observed."""

    _one_row_each = False
    __fields__ = ("recording", "target_error", "provenance")
    __columns__ = (
        {"name": "neuron", "description": "Row of each neuron in the table that describes it.", "table": True},
        {"name": "neuron_id", "description": "Number of the neuron in all recordings that were matched together."},
        {"name": "other_recording", "description": "Name of the other recording."},
        {"name": "other_identifier", "description": "Identifier of the other recording's NWB file; may be empty."},
        {"name": "other_unit", "description": "Name of the unit of the other recording."},
        {"name": "probability", "description": "Probability that both are the same neuron."},
        {"name": "similarity", "description": "Cosine similarity of the embeddings; NaN if unknown."},
        {"name": "agreement", "description": "Correlation of their correlations with other units; NaN if unknown."},
        {"name": "named", "description": "Whether both are named as the same neuron."},
    )  # fmt: skip

    @docval(
        {"name": "name", "type": str, "doc": "Name of the table.", "default": "UnitMatches"},
        {"name": "description", "type": str, "doc": "What was matched.", "default": "The same neurons elsewhere."},
        *_NEURON_DOCVAL,
        _optional("neuron_id", "int64, (n,). Number of each row's neuron in all recordings."),
        _optional("other_recording", "text, (n,). Name of the other recording."),
        _optional("other_identifier", "text, (n,). Identifier of the other recording's NWB file; may be empty."),
        _optional("other_unit", "text, (n,). Name of the unit of the other recording."),
        _optional("probability", "float32, (n,). Probability that both are the same neuron."),
        _optional("similarity", "float32, (n,). Cosine similarity of the embeddings."),
        _optional("agreement", "float32, (n,). Correlation of their correlations with the other units."),
        _optional("named", "bool, (n,). Whether both are named as the same neuron."),
        {"name": "recording", "type": str, "doc": "Name of this recording among those that were matched."},
        {"name": "target_error", "type": float, "doc": "Largest expected fraction of wrong named pairs."},
        {"name": "provenance", "type": str, "doc": "JSON object with parameters and versions.", "default": None},
        *_TABLE_DOCVAL,
        allow_positional="ERROR",
    )
    def __init__(self, **kwargs):
        names = ("recording", "target_error", "provenance")
        fields = dict(zip(names, popargs(*names, kwargs), strict=True))
        name = kwargs["name"]
        if not self._in_construct_mode:
            _check_json(f"{name}: provenance", fields["provenance"])
            if not 0 <= fields["target_error"] <= 1:
                raise ValueError(f"{name}: target_error must lie from 0 to 1, not {fields['target_error']!r}")
        from_arrays = kwargs["columns"] is None
        self._build_columns(kwargs, matrix=None)
        if from_arrays:
            probability = next(column.data for column in kwargs["columns"] if column.name == "probability")
            if not ((probability >= 0) & (probability <= 1)).all():
                raise ValueError(f"{name}: probability must lie from 0 to 1")
        super().__init__(**kwargs)
        for field, value in fields.items():
            setattr(self, field, value)


_TEXTS = ("label", "best_label", "reason", "other_recording", "other_identifier", "other_unit")
_REASONS = ("low confidence", "novel", "no embedding")
_DTYPES = {
    "neuron": np.int64, "embedding": np.float32, "num_windows": np.int64, "split_half_similarity": np.float32,
    "num_spikes": np.int64, "num_frames": np.int64, "probability": np.float32, "confidence": np.float32,
    "novelty": np.float32, "agreement": np.float32, "value": np.float32, "low": np.float32, "high": np.float32,
    "spread": np.float32, "neuron_id": np.int64, "similarity": np.float32, "named": np.bool_,
}  # fmt: skip


def _array(column, values):
    """The values as an array of the column's dtype, which may be empty."""
    values = values.data if isinstance(values, VectorData) else values
    if column not in _TEXTS:
        return np.asarray(values, dtype=_DTYPES[column])
    values = np.asarray(values)
    if len(values) and not all(isinstance(value, str) for value in values.tolist()):
        raise ValueError(f"{column}: every neuron needs a text, which may be empty")
    return values.astype(str)


def _check_labels(name, columns):
    """Check that label is best_label, or 'unknown' where a reason is given."""
    unknown = sorted(set(columns["reason"].tolist()) - {"", *_REASONS})
    if unknown:
        raise ValueError(f"{name}: reason is one of {', '.join(_REASONS)}, or empty, not {unknown[0]!r}")
    expected = np.where(columns["reason"] != "", "unknown", columns["best_label"])
    for label, correct in zip(columns["label"].tolist(), expected.tolist(), strict=True):
        if label != correct:
            raise ValueError(
                f"{name}: label is {label!r}, not {correct!r}: it is best_label, or 'unknown' where a reason is given"
            )


def _check_limits(name, columns):
    """Check that each value lies in its interval, or has none."""
    value, low, high = (columns[column] for column in ("value", "low", "high"))
    wrong = np.flatnonzero(~((low <= value) & (value <= high)) & ~np.isnan(value))
    if len(wrong):
        row = wrong[0]
        raise ValueError(
            f"{name}: row {row} has the value {value[row]}, outside its interval {low[row]} to {high[row]}"
        )


def _check_rows(name, rows, table, unique=True):
    if rows.ndim == 1 and len(rows) and (rows.min() < 0 or rows.max() >= len(table)):
        bad = rows[(rows < 0) | (rows >= len(table))][0]
        raise ValueError(
            f"{name}: neuron holds {bad}, but {table.name!r} has {len(table)} rows: give row numbers, not ids"
        )
    if unique and len(np.unique(rows)) != rows.size:
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
