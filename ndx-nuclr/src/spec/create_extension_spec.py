"""Write spec/ndx-nuclr.namespace.yaml and spec/ndx-nuclr.extensions.yaml: the types of ndx-nuclr are defined here.

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


def column(name, doc, dtype, *, more=None, **options):
    """One value of each row, or where `more` names a second dimension, one vector."""
    dims, shape = (["num_rows"], [None]) if more is None else (["num_rows", more], [None, None])
    return NWBDatasetSpec(
        name=name, neurodata_type_inc="VectorData", doc=doc, dtype=dtype, dims=dims, shape=shape, **options
    )


def text(name, doc, **options):
    """A text that may be long."""
    return NWBDatasetSpec(name=name, doc=doc, dtype="text", **options)


def attribute(name, doc, **options):
    """A short text."""
    return NWBAttributeSpec(name=name, doc=doc, dtype="text", **options)


def neuron():
    """The column that both tables begin with."""
    return NWBDatasetSpec(
        name="neuron",
        neurodata_type_inc="DynamicTableRegion",
        doc="Row of each neuron in the table that describes it: the units table, or a PlaneSegmentation. A neuron "
        "occurs once; neurons of that table may be missing here.",
    )


def provenance():
    """What both tables end with."""
    return text(
        "provenance",
        "JSON object of how the values were computed: parameters, software versions, device, source.",
        quantity="?",
    )


def nuclr_model():
    """NuCLRModel."""
    return NWBGroupSpec(
        neurodata_type_def="NuCLRModel",
        neurodata_type_inc="NWBDataInterface",
        doc="A trained NuCLR encoder. It identifies the weights, which are not stored in the file.",
        attributes=[
            attribute(
                "source", "Where the weights came from: the name of a bundled model, a file name, or a Hub name."
            ),
            attribute("revision", "Revision of the source, such as the commit on a Hub.", required=False),
            attribute("sha256", "SHA-256 that identifies the model's weights and config, 64 hexadecimal digits."),
            attribute("software", "Name and version of the software that ran the model."),
            attribute("license", "Licence of the weights.", required=False),
        ],
        datasets=[
            text("config", "JSON object of the encoder's architecture and of its input: bin width, patch and window."),
            text("training_data", "What the model was trained on, in words or as JSON, with citations.", quantity="?"),
        ],
    )


def unit_embeddings():
    """UnitEmbeddings."""
    return NWBGroupSpec(
        neurodata_type_def="UnitEmbeddings",
        neurodata_type_inc="DynamicTable",
        default_name="UnitEmbeddings",
        doc="One embedding for each neuron: a vector that captures its firing statistics and its coupling to the "
        "simultaneously recorded population. All neurons of a table were embedded by one model. Embeddings of "
        "different models cannot be compared.",
        attributes=[
            attribute(
                "population_fingerprint",
                "SHA-256 of the population that was embedded: ids, spike counts and spike times of all its neurons. It "
                "differs from units_fingerprint if the embeddings were computed from another copy of the spikes.",
            ),
            attribute(
                "units_fingerprint",
                "The same SHA-256, of all neurons in this file when the table was written. If it differs from that of "
                "the neurons now in the file, the embeddings are out of date.",
                required=False,
            ),
        ],
        datasets=[
            neuron(),
            column(
                "embedding",
                "The embedding, without unit: the mean over the neuron's windows. NaN where it has no window.",
                "float32",
                more="num_dimensions",
            ),
            column("num_windows", "Number of windows that the embedding averages; 0 where there is none.", "int64"),
            column(
                "split_half_similarity",
                "Cosine similarity, from -1 to 1, between the means over the neuron's odd and even windows. NaN with "
                "fewer than two windows.",
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


def unit_identities():
    """UnitIdentities."""
    return NWBGroupSpec(
        neurodata_type_def="UnitIdentities",
        neurodata_type_inc="DynamicTable",
        doc="One property of each neuron, such as its cell type or brain region, as a decoder predicts it from the "
        "embeddings. These are predictions, not observations. One table for each property, named after it.",
        attributes=[
            attribute("target", "The property that is predicted, such as 'cell_type' or 'brain_region'."),
            attribute("decoder", "Name of the decoder."),
            attribute("decoder_sha256", "SHA-256 that identifies the decoder, 64 hexadecimal digits.", required=False),
        ],
        datasets=[
            neuron(),
            column("label", "The predicted class: best_label, but 'unknown' where the decoder abstains.", "text"),
            column(
                "best_label",
                "The most probable class, whether or not the decoder abstains; empty without embedding.",
                "text",
            ),
            column(
                "reason",
                "Why the decoder abstains: 'low confidence', 'novel' (unlike the neurons that the decoder was trained "
                "on, whatever its confidence) or 'no embedding'. Empty where it does not abstain.",
                "text",
            ),
            column(
                "probability",
                "Calibrated probability of each class, from 0 to 1, in the order of `classes`; NaN without embedding.",
                "float32",
                more="num_classes",
            ),
            column("confidence", "Probability of the most probable class, from 0 to 1.", "float32"),
            column(
                "novelty",
                "Distance of the embedding from those that the decoder was trained on, in the decoder's unit; larger "
                "for neurons unlike those in the training data.",
                "float32",
                quantity="?",
            ),
            NWBDatasetSpec(
                name="classes", doc="Names of the classes.", dtype="text", dims=["num_classes"], shape=[None]
            ),
            provenance(),
        ],
        links=[
            NWBLinkSpec(
                name="embeddings", doc="The embeddings that the prediction was made from.", target_type="UnitEmbeddings"
            )
        ],
    )


def main(folder=None):
    """Write both files into `folder`: by default `spec`, beside `src`."""
    builder = NWBNamespaceBuilder(
        name=NAME,
        version=VERSION,
        doc="Embeddings of neurons, and identities predicted from them.",
        author=["The spikeinterface-nuclr developers"],
    )
    builder.include_namespace("core")
    folder = Path(folder or Path(__file__).parents[2] / "spec").resolve()
    export_spec(builder, [nuclr_model(), unit_embeddings(), unit_identities()], str(folder))


if __name__ == "__main__":
    main()
