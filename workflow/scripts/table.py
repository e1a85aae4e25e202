"""One table of all units: how each was embedded, what was predicted, and which neuron it is."""

from pathlib import Path

import pandas as pd

from spikeinterface_nuclr import UnitEmbeddings

RESULTS = Path(snakemake.params.folder)  # noqa: F821 (Snakemake defines it)
TABLE = snakemake.params.table  # noqa: F821


def units_of(session: str) -> pd.DataFrame:
    """The units of a recording."""
    embeddings = UnitEmbeddings.load(RESULTS / "embeddings" / f"{session}.npz")
    rows = pd.DataFrame(
        {
            "unit_id": embeddings.unit_ids.astype(str),
            "num_windows": embeddings.num_windows,
            "split_half_similarity": embeddings.split_half_similarity,
        }
    )
    rows.insert(0, "animal", TABLE[session].get("animal", ""))
    rows.insert(0, "session", session)
    identities = RESULTS / "identities" / f"{session}.csv"
    if identities.is_file():
        predicted = pd.read_csv(identities, dtype={"unit_id": str}, keep_default_na=False, na_values=[""])
        rows = rows.merge(predicted, on="unit_id", how="left", validate="1:1")
    return rows


units = pd.concat([units_of(session) for session in snakemake.params.sessions], ignore_index=True)  # noqa: F821
neurons = [pd.read_csv(path, dtype=str) for path in snakemake.input.neurons]  # noqa: F821
if neurons:
    named = pd.concat(neurons).rename(columns={"recording": "session"})
    units = units.merge(named, on=["session", "unit_id"], how="left", validate="1:1")
units.to_csv(snakemake.output.units, index=False)  # noqa: F821
outcomes = [pd.read_csv(path) for path in snakemake.input.outcomes]  # noqa: F821
pd.concat(outcomes, ignore_index=True).to_csv(snakemake.output.outcomes, index=False)  # noqa: F821
