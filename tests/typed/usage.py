"""What users write, for a type checker: `tests/test_types.py`. It is never run."""

import numpy as np

from spikeinterface_nuclr import (
    Checkpoint,
    Decoder,
    EmbeddingSettings,
    Estimates,
    Evaluation,
    Identities,
    LabelRule,
    Population,
    PretrainConfig,
    Provenance,
    Store,
    UnitEmbeddings,
    UnitMatches,
    build_store,
    embed,
    evaluate,
    fit_decoder,
    fit_regressor,
    load_checkpoint,
    match_units,
    pretrain,
    read_cohort,
    read_nwb,
    read_population,
    simulate_population,
    write_nwb,
)

population: Population = read_population("session.nwb", where="quality == 'good'", within=[[0, 600]])
by_hand = Population(["a", "b"], [np.array([0.1, 0.2]), np.array([0.3])], stop=10.0)
also = Population(np.arange(2), [[0.1], [0.2]], observed=np.array([[0.0, 10.0]]), group=["x", "y"])
number: int = population.n_units
seconds: float = population.stop - population.start
trains = population.spike_times
checkpoint: Checkpoint = load_checkpoint("nuclr-starter")
embeddings: UnitEmbeddings = embed(population, checkpoint, device="cpu", overlap=0.5, progress=False)
embeddings = embed(simulate_population(10, 30.0))
array: np.ndarray = embeddings.embedding
provenance: Provenance = embeddings.provenance
embeddings.save("x.npz", overwrite=True)
again: UnitEmbeddings = UnitEmbeddings.load("x.npz")
write_nwb("session.nwb", embeddings, in_place=True)
decoder: Decoder = fit_decoder([embeddings], [["a"] * 10], target="cell_type")
predicted: Identities = decoder.predict(embeddings)
frame = predicted.to_dataframe()
cohort = read_cohort("labelled/*.nwb", LabelRule("cell_type"), EmbeddingSettings())
matches: UnitMatches = match_units([population, by_hand])
store, damaged = build_store([population], "store")
trained: Checkpoint = pretrain(Store("store"), "mine.safetensors", PretrainConfig(steps=10), hold_out=["a"])
evaluation: Evaluation = evaluate(cohort.embeddings, cohort.labels)
regressor = fit_regressor([embeddings], [np.arange(10.0)], target="depth")
estimates: Estimates = regressor.predict(embeddings)
nwb = read_nwb("session.nwb")
