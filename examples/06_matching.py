"""
The same neurons on three days
==============================

Match the units of three sessions of one animal, look at the result, write it
into the three NWB files, and read it back with nothing but PyNWB.
"""

# %%
# Three session files
# -------------------
# We simulate three days of recording with one probe. From day to day, the
# neurons drift a little, some are lost and others appear. The simulation knows
# which neuron each unit is; the files do not.

import tempfile
from datetime import datetime, timezone
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pynwb

import spikeinterface_nuclr as nuclr

folder = Path(tempfile.mkdtemp())
days = nuclr.simulate_days(3, n_units=50, duration=300.0, drift=0.05)
paths = [folder / f"{name}.nwb" for name in ("monday", "tuesday", "wednesday")]
for number, (day, path) in enumerate(zip(days, paths, strict=True), start=1):
    start = datetime(2026, 1, number, tzinfo=timezone.utc)
    nwbfile = pynwb.NWBFile(f"day {number}", f"session-{number}", start)
    for spike_times in day.spike_times:
        nwbfile.add_unit(spike_times=spike_times, obs_intervals=[[0.0, 300.0]])
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)

# %%
# Match
# -----
# :func:`~spikeinterface_nuclr.match_units` compares the embeddings of the units
# and their relations to the other units. It learns from halves of the sessions
# how probably two units are the same neuron, and names pairs so that about 5 %
# of them are wrong at most.

matches = nuclr.match_units(paths, progress=False)
print(matches)
print(matches.summary().round(1).to_string(index=False))

# %%
# The most probable pairs of the first two days:

print(matches.to_dataframe().head().to_string(index=False))

# %%
# How certain is it, and how long are neurons followed?

nuclr.plot_nuclr_matches(matches)
plt.show()

# %%
# Here we know the truth, so we can count. With real recordings, the truth may
# come from positions or from a dye.

right = 0
for first, second in ((0, 1), (1, 2), (0, 2)):
    same = np.equal.outer(
        days[first].properties["neuron"], days[second].properties["neuron"]
    )
    right += int((matches.named_between(first, second) & same).sum())
print(f"{right} of {int(matches.named.sum())} named pairs are right")

# %%
# Neurons over all days
# ---------------------
# Every unit has a ``neuron_id``, which is the same on all days.

neurons = matches.neurons()
print(neurons.query("num_recordings == 3").sort_values("neuron_id").head(6))

# %%
# Write the matches into the files
# --------------------------------
# Each file gets a table of the units of the other files that its units may be.

nuclr.write_matches(matches, paths, in_place=True)

# %%
# Read them with PyNWB
# --------------------
# No other package is needed.

with pynwb.NWBHDF5IO(paths[0], "r") as io:
    table = io.read().processing["nuclr"]["UnitMatches"]
    rows = table.to_dataframe(index=True)
print(
    rows.loc[
        rows["named"],
        ["neuron", "neuron_id", "other_identifier", "other_unit", "probability"],
    ].head()
)
