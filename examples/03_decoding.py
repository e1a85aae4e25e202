"""
Decoding cell types, with probabilities
=======================================

Fit a decoder to labelled animals, measure how well it generalises to new
animals, and use it to label the units of a new recording. The decoder gives
calibrated probabilities and abstains where it is unsure.

All animals are simulated, with known cell types. With your own recordings,
:func:`~spikeinterface_nuclr.read_population` takes the place of the simulation,
or ``nuclr evaluate``, ``nuclr decoder fit`` and ``nuclr predict`` do everything
in a shell.
"""

# %%
# Labelled animals
# ----------------
# Each list has one entry per recording. Labels are usually a column of the
# units table, ``population.properties["cell_type"]``.

# sphinx_gallery_thumbnail_number = 2
import tempfile
from pathlib import Path

import numpy as np

import spikeinterface_nuclr as nuclr
from spikeinterface_nuclr.simulation import analyzer_of

folder = Path(tempfile.mkdtemp())

animals = [f"animal{k}" for k in range(5)]
populations = [nuclr.simulate_population(40, 120.0, seed=k) for k in range(5)]
embeddings = [nuclr.embed(population, progress=False) for population in populations]
labels = [population.properties["cell_type"] for population in populations]

# %%
# How well does it generalise?
# ----------------------------
# :func:`~spikeinterface_nuclr.evaluate` leaves out each animal in turn and
# compares the embedding with baselines on the same units and splits: firing rate,
# interspike intervals, autocorrelograms and correlations with the population.
# ``verdict`` states the conclusion.

evaluation = nuclr.evaluate(
    embeddings,
    labels,
    animals,
    target="cell_type",
    populations=populations,
    shuffles=20,
    n_jobs=1,
    progress=False,
)
print(evaluation.verdict)

# %%
# One row per method. Macro-F1 and balanced accuracy weight all classes equally;
# ECE is the expected calibration error.

evaluation.to_dataframe()[["macro-F1", "balanced accuracy", "ECE"]].round(2)

# %%
# Every animal is a point; the bars are 95 % confidence intervals over animals.

nuclr.plot_nuclr_evaluation(evaluation)

# %%
# Fit the decoder
# ---------------
# The final decoder uses all labelled animals. It is saved in safetensors
# format, together with its calibration, its abstention thresholds and the hash
# of the model whose embeddings it takes.

decoder = nuclr.fit_decoder(embeddings, labels, animals, target="cell_type")
decoder.save(folder / "cell_type.safetensors")
decoder

# %%
# Label a new recording
# ---------------------
# A sixth animal, as a SortingAnalyzer.

analyzer = analyzer_of(nuclr.simulate_population(40, 120.0, seed=99))
analyzer.compute(
    {
        "nuclr_embedding": {},
        "nuclr_identity": {"decoder": folder / "cell_type.safetensors"},
    }
)
identities = analyzer.get_extension("nuclr_identity").get_data()
identities.head(8)

# %%
# ``label`` is "unknown" where the decoder abstains and ``reason`` says why.
# ``best_label`` is its best guess in any case. Count and group by ``label``: at
# most ``target_error`` (default 10 %) of these labels are wrong in new animals
# like those the decoder was fitted to, with 95 % confidence.

truth = np.asarray(analyzer.get_sorting_property("cell_type"))
labelled = (identities["label"] != "unknown").to_numpy()
correct_labels = np.mean(identities["label"][labelled] == truth[labelled])
correct_guesses = np.mean(identities["best_label"] == truth)
print(f"{labelled.sum()} of {len(truth)} units labelled")
print(f"accuracy of the labels: {correct_labels:.2f}")
print(f"accuracy of the best guess: {correct_guesses:.2f}")

# %%
# Identities along the probe: filled where the decoder commits to a label,
# hollow where it abstains.

nuclr.plot_nuclr_identity(analyzer)
