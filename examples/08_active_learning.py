"""
Which units to label first
==========================

Labels cost hours. A decoder says which units to label next: doubtful ones that
many other units resemble.
"""

# %%
# A few labels
# ------------
# Twelve units of one animal are labelled; three other animals are not.

import numpy as np

import spikeinterface_nuclr as nuclr

mice = [nuclr.simulate_population(60, 20.0, seed=seed) for seed in range(10, 15)]
embeddings = [nuclr.embed(mouse, progress=False) for mouse in mice]
truth = [mouse.properties["cell_type"] for mouse in mice]
first = np.where(np.arange(60) < 12, truth[0], "")
decoder = nuclr.fit_decoder(embeddings[0], first, target="cell_type")

# %%
# Suggestions
# -----------
# In a shell: ``nuclr decoder suggest recordings/*.nwb --decoder D``.

identities = [decoder.predict(one) for one in embeddings[1:4]]
suggested = nuclr.suggest_units(identities, embeddings[1:4], count=12)
print(suggested.round(2).to_string())

# %%
# ``resembled_by`` is the number of units whose most similar suggestion it is.
#
# Label them, and fit again
# -------------------------
# In a lab, a person looks at these units, such as in ``nuclr gui``. Here the
# simulation answers.

labels = [np.full(60, "", dtype=truth[0].dtype) for _ in range(3)]
for row in suggested.itertuples():
    mouse = 1 + row.recording
    unit = mice[mouse].unit_ids.tolist().index(row.unit_id)
    labels[row.recording][unit] = truth[mouse][unit]
better = nuclr.fit_decoder(embeddings[:4], [first, *labels], target="cell_type")

# %%
# A mouse that took no part
# -------------------------

for name, fitted in (("12 labels", decoder), ("24 labels", better)):
    found = fitted.predict(embeddings[4], target_error=1.0)
    print(f"{name}: {np.mean(found.best_label == truth[4]):.0%} right")
