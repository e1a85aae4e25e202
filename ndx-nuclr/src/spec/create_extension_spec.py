"""Define the types of ndx-nuclr and write spec/ndx-nuclr.namespace.yaml and spec/ndx-nuclr.extensions.yaml.

python src/spec/create_extension_spec.py
"""

from pathlib import Path

from pynwb.spec import (
    NWBAttributeSpec,
    NWBDatasetSpec,
    NWBGroupSpec,
    NWBLinkSpec,
    NWBNamespaceBuilder,
    export_spec,
)

NAME, VERSION = "ndx-nuclr", "0.1.0"


def column(name, doc, dtype, *, dim=None, **options):
    """A column with one value per row, or one vector per row if `dim` names its dimension."""
    dims, shape = (["num_rows"], [None]) if dim is None else (["num_rows", dim], [None, None])
    return NWBDatasetSpec(
        name=name, neurodata_type_inc="VectorData", doc=doc, dtype=dtype, dims=dims, shape=shape, **options
    )


def text(name, doc, **options):
    """A dataset for a text that may be long."""
    return NWBDatasetSpec(name=name, doc=doc, dtype="text", **options)


def attribute(name, doc, **options):
    """An attribute for a short text."""
    return NWBAttributeSpec(name=name, doc=doc, dtype="text", **options)


def neuron(occurs="Each neuron occurs at most once."):
    """The first column of all tables."""
    return NWBDatasetSpec(
        name="neuron",
        neurodata_type_inc="DynamicTableRegion",
        doc=f"Row of each neuron in the table that describes it: the units table, or a PlaneSegmentation. {occurs}",
    )


def provenance():
    """The provenance of all tables."""
    return text(
        "provenance",
        "JSON object with the parameters, software versions, device and source of the computation.",
        quantity="?",
    )


def nuclr_model():
    """NuCLRModel."""
    return NWBGroupSpec(
        neurodata_type_def="NuCLRModel",
        neurodata_type_inc="NWBDataInterface",
        doc="A trained NuCLR encoder: the information that identifies its weights. The weights are not stored.",
        attributes=[
            attribute("source", "Source of the weights: the name of a bundled model, a file name, or a Hub name."),
            attribute("revision", "Revision of the source, such as the commit on a Hub.", required=False),
            attribute("sha256", "SHA-256 that identifies the model's weights and config, 64 hexadecimal digits."),
            attribute("software", "Name and version of the software that ran the model."),
            attribute("license", "Licence of the weights.", required=False),
        ],
        datasets=[
            text("config", "JSON object with the encoder's architecture and input: bin width, patch and window."),
            text("training_data", "Training data of the model, as text or JSON, with citations.", quantity="?"),
        ],
    )


def unit_embeddings():
    """UnitEmbeddings."""
    return NWBGroupSpec(
        neurodata_type_def="UnitEmbeddings",
        neurodata_type_inc="DynamicTable",
        default_name="UnitEmbeddings",
        doc="One embedding per neuron: a vector that captures its firing statistics and its coupling to the "
        "simultaneously recorded population. All embeddings of a table were computed by one model. Embeddings of "
        "different models are not comparable.",
        attributes=[
            attribute(
                "population_fingerprint",
                "SHA-256 of the embedded population: the ids of all neurons, their spike counts and their spike times. "
                "It differs from units_fingerprint if the embeddings were computed from another copy of the spikes.",
            ),
            attribute(
                "units_fingerprint",
                "The same SHA-256 for all neurons in this file when the table was written. If it does not match the "
                "current content of the file, the embeddings are out of date.",
                required=False,
            ),
        ],
        datasets=[
            neuron(),
            column(
                "embedding",
                "The embedding, dimensionless: the mean over the neuron's windows. NaN for neurons without a window.",
                "float32",
                dim="num_dimensions",
            ),
            column("num_windows", "Number of time windows averaged in the embedding; 0 if there is none.", "int64"),
            column(
                "split_half_similarity",
                "Split-half reliability: the cosine similarity, from -1 to 1, between the means over the neuron's odd "
                "and even disjoint windows. NaN with fewer than two windows.",
                "float32",
            ),
            column("num_spikes", "Number of spikes of the neuron when it was embedded.", "int64", quantity="?"),
            column(
                "num_frames",
                "Number of frames of the neuron's fluorescence when it was embedded.",
                "int64",
                quantity="?",
            ),
            provenance(),
        ],
        links=[NWBLinkSpec(name="model", doc="The model that embedded these neurons.", target_type="NuCLRModel")],
    )


def decoder():
    """Attributes of tables of predictions: what was predicted, and by which decoder."""
    return [
        attribute("target", "The predicted property, such as 'cell_type' or 'brain_region' or 'depth_um'."),
        attribute("decoder", "Name of the decoder."),
        attribute("decoder_sha256", "SHA-256 that identifies the decoder, 64 hexadecimal digits.", required=False),
    ]


def embeddings():
    """Link of tables of predictions."""
    return NWBLinkSpec(name="embeddings", doc="The embeddings used for the prediction.", target_type="UnitEmbeddings")


def unit_identities():
    """UnitIdentities."""
    return NWBGroupSpec(
        neurodata_type_def="UnitIdentities",
        neurodata_type_inc="DynamicTable",
        doc="One property of each neuron, such as its cell type or brain region, as predicted by a decoder from the "
        "embeddings. These are predictions, not observations. One table per property, named after it.",
        attributes=decoder(),
        datasets=[
            neuron(),
            column("label", "The predicted class: best_label, or 'unknown' where the decoder abstains.", "text"),
            column(
                "best_label",
                "The most probable class, whether or not the decoder abstains; empty without embedding.",
                "text",
            ),
            column(
                "reason",
                "Reason why the decoder abstains: 'low confidence', 'novel' (unlike the decoder's training data, "
                "regardless of confidence) or 'no embedding'. Empty where it does not abstain.",
                "text",
            ),
            column(
                "probability",
                "Calibrated probability of each class, from 0 to 1, in the order of `classes`; NaN without embedding.",
                "float32",
                dim="num_classes",
            ),
            column("confidence", "Probability of the most probable class, from 0 to 1.", "float32"),
            column(
                "novelty",
                "Distance of the embedding from the decoder's training embeddings, in arbitrary units specific to the "
                "decoder. Larger values are less similar to the training data.",
                "float32",
                quantity="?",
            ),
            column(
                "agreement",
                "Fraction of the decoder's members (such as models trained with other seeds) whose most probable class "
                "is best_label, from 0 to 1. Absent for a decoder with one member.",
                "float32",
                quantity="?",
            ),
            NWBDatasetSpec(
                name="classes", doc="Names of the classes.", dtype="text", dims=["num_classes"], shape=[None]
            ),
            provenance(),
        ],
        links=[embeddings()],
    )


def unit_estimates():
    """UnitEstimates."""
    return NWBGroupSpec(
        neurodata_type_def="UnitEstimates",
        neurodata_type_inc="DynamicTable",
        doc="One number for each neuron, such as its depth, as predicted from the embeddings, with a prediction "
        "interval. These are predictions, not observations. One table per property, named after it.",
        attributes=[
            *decoder(),
            NWBAttributeSpec(
                name="coverage",
                doc="Fraction of neurons whose interval contains the true value, between 0 and 1, in animals like "
                "those that the decoder was fitted to.",
                dtype="float64",
            ),
        ],
        datasets=[
            neuron(),
            column(
                "value",
                "The predicted value, in the unit of the values that the decoder was fitted to; NaN without embedding.",
                "float32",
            ),
            column("low", "Lower limit of the prediction interval; NaN without embedding.", "float32"),
            column("high", "Upper limit of the prediction interval; NaN without embedding.", "float32"),
            column(
                "spread",
                "Standard deviation of the values predicted by the decoder's members (such as models trained with "
                "other seeds). Absent for a decoder with one member.",
                "float32",
                quantity="?",
            ),
            provenance(),
        ],
        links=[embeddings()],
    )


def unit_matches():
    """UnitMatches."""
    return NWBGroupSpec(
        neurodata_type_def="UnitMatches",
        neurodata_type_inc="DynamicTable",
        default_name="UnitMatches",
        doc="Which neurons of this file are which neurons of other recordings, such as other sessions of the animal, "
        "and how probably, as inferred from their activity and, if given, from other evidence. One row per pair of "
        "neurons; pairs that are not listed have a probability of about 0.",
        attributes=[
            attribute("recording", "Name of this recording among those that were matched."),
            NWBAttributeSpec(
                name="target_error",
                doc="Largest fraction of the named pairs of two recordings that is expected to be wrong, from 0 to 1.",
                dtype="float64",
            ),
        ],
        datasets=[
            neuron("A neuron has a row for each neuron of another recording that it may be."),
            column(
                "neuron_id",
                "Number that a neuron has in all recordings that were matched together; two units with the same number "
                "are the same neuron, as far as could be inferred.",
                "int64",
            ),
            column("other_recording", "Name of the other recording.", "text"),
            column("other_identifier", "Identifier of the other recording's NWB file; empty if unknown.", "text"),
            column("other_unit", "Name (or id) of the unit of the other recording.", "text"),
            column("probability", "Probability that both are the same neuron, from 0 to 1.", "float32"),
            column("similarity", "Cosine similarity of the embeddings, from -1 to 1; NaN if unknown.", "float32"),
            column(
                "agreement",
                "Correlation, from -1 to 1, of the correlations of both with the other units, over units that "
                "correspond; NaN if unknown.",
                "float32",
            ),
            column("named", "Whether both are named as the same neuron.", "bool"),
            provenance(),
        ],
    )


def main(folder=None):
    """Write both files into `folder`: by default `spec` next to `src`."""
    builder = NWBNamespaceBuilder(
        name=NAME,
        version=VERSION,
        doc="Embeddings of neurons, what was predicted from them, and the same neurons in other recordings.",
        author=["The spikeinterface-nuclr developers"],
    )
    builder.include_namespace("core")
    folder = Path(folder or Path(__file__).parents[2] / "spec").resolve()
    types = [nuclr_model(), unit_embeddings(), unit_identities(), unit_estimates(), unit_matches()]
    export_spec(builder, types, str(folder))


if __name__ == "__main__":
    main()
