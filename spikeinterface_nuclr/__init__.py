"""NuCLR neuron embeddings for SpikeInterface and NWB.

Read recordings (paths, analyzers, sortings, arrays), embed their units, fit a decoder to labelled ones, evaluate it on
held-out animals, and predict the labels of other recordings:

>>> import spikeinterface_nuclr as nuclr
>>> mice = [nuclr.read_population(nuclr.simulate_population(20, 30.0, seed=seed)) for seed in range(4)]
>>> embeddings = [nuclr.embed(mouse, progress=False) for mouse in mice]
>>> labels = [mouse.properties["cell_type"] for mouse in mice]
>>> decoder = nuclr.fit_decoder(embeddings[:3], labels[:3], target="cell_type")
>>> evaluation = nuclr.evaluate(embeddings[:3], labels[:3], shuffles=0, progress=False)
>>> identities = decoder.predict(embeddings[3])

Find the same neurons in other recordings:

>>> matches = nuclr.match_units(nuclr.simulate_days(2, n_units=20, duration=120.0), progress=False)

Write the results into an NWB file, and train a model on your own recordings:

>>> nuclr.write_nwb("session.nwb", embeddings[3], identities=identities)  # doctest: +SKIP
>>> checkpoint = nuclr.pretrain("recordings/*.nwb", "model.safetensors")  # doctest: +SKIP

In SpikeInterface, ``analyzer.compute("nuclr_embedding")`` and ``analyzer.compute("nuclr_identity", decoder="…")`` do
the same: importing this package registers them. Public names are loaded on first use, so that the import is fast and
loads neither PyTorch nor PyNWB.
"""

import importlib

from . import extensions  # noqa: F401 (registers them)

__version__ = "0.1.0"

# Public name -> module that defines it.
_PUBLIC = {
    "Checkpoint": "model.checkpoint",
    "CheckpointError": "errors",
    "Cohort": "decoding.cohort",
    "ContrastiveLoss": "training.losses",
    "Decoder": "decoding.decoder",
    "DeviceError": "errors",
    "EmbeddingSettings": "embedding",
    "Encoder": "model.encoder",
    "EncoderConfig": "model.config",
    "Estimates": "predictions",
    "Evaluation": "decoding.evaluation",
    "Identities": "predictions",
    "InputError": "errors",
    "MatchEvaluation": "matching.evaluation",
    "LabelRule": "decoding.label_sources",
    "LabelTable": "decoding.label_sources",
    "Matcher": "matching.matcher",
    "Oversplits": "matching.oversplits",
    "Population": "population",
    "PretrainConfig": "training.config",
    "Provenance": "provenance",
    "RecordingWarning": "errors",
    "Regressor": "decoding.regressor",
    "RegressorEvaluation": "decoding.regressor_evaluation",
    "Store": "training.store",
    "UnitEmbeddings": "unit_embeddings",
    "UnitMatches": "unit_matches",
    "ValueRule": "decoding.label_sources",
    "ValueTable": "decoding.label_sources",
    "VICRegLoss": "training.losses",
    "animal_scaling": "decoding.learning_curves",
    "build_store": "training.building",
    "compute_nuclr_embedding": "extensions",
    "compute_nuclr_estimate": "extensions",
    "compute_nuclr_identity": "extensions",
    "convert_checkpoint": "model.public_weights",
    "embed": "embedding",
    "evaluate": "decoding.evaluation",
    "evaluate_matches": "matching.evaluation",
    "evaluate_regressor": "decoding.regressor_evaluation",
    "export_brainwidebench": "decoding.brainwidebench",
    "find_oversplits": "matching.oversplits",
    "fit_decoder": "decoding.fitting",
    "fit_regressor": "decoding.regressor",
    "label_efficiency": "decoding.learning_curves",
    "fit_matcher": "matching.match",
    "load_checkpoint": "model.loading",
    "load_nuclr": "extensions.loading",
    "match_units": "matching.match",
    "nuclr_curation": "extensions.curation",
    "open_gui": "gui.window",
    "pair_embeddings": "decoding.pairs",
    "plot_nuclr_embedding": "widgets",
    "plot_nuclr_evaluation": "widgets",
    "plot_nuclr_identity": "widgets",
    "plot_nuclr_matches": "widgets",
    "plot_nuclr_regressor_evaluation": "widgets",
    "plot_training": "training.curves",
    "pretrain": "training.pretrain",
    "read_brainwidebench_embeddings": "decoding.brainwidebench",
    "read_cohort": "decoding.cohort",
    "read_matches": "io.nwb",
    "read_nwb": "io.nwb",
    "read_population": "io",
    "resampled": "traces",
    "roll_up": "decoding.regions",
    "set_neuron_ids": "extensions",
    "simulate_days": "simulation",
    "simulate_fluorescence": "simulation",
    "simulate_population": "simulation",
    "simulate_relations": "simulation",
    "simulate_sequences": "simulation",
    "suggest_units": "decoding.suggestions",
    "write_matches": "io.nwb",
    "write_nwb": "io.nwb",
    "unit_features": "decoding.features",
    "write_report": "reports.session",
    "write_phy_columns": "io.phy_columns",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name):
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__():
    return sorted([*globals(), *_PUBLIC])
