"""One table of all units: how each was embedded, what was predicted, and which neuron it is."""

from pathlib import Path

import pandas as pd

from spikeinterface_nuclr import UnitEmbeddings
from spikeinterface_nuclr.text import for_csv

job = snakemake  # noqa: F821 (Snakemake defines it)
TEXT = {"dtype": str, "keep_default_na": False}


def read(path: str, **options) -> pd.DataFrame | None:
    """A table with the ids of units as they are written; None where it was refused."""
    return pd.read_csv(path, **options) if Path(path).stat().st_size else None


def units_of(path: str) -> pd.DataFrame:
    """The units of a recording, with ids as other tables write them."""
    embeddings, session = UnitEmbeddings.load(path), Path(path).stem
    facts = {"num_windows": embeddings.num_windows, "split_half_similarity": embeddings.split_half_similarity}
    ids = embeddings.unit_ids.astype(str)
    return for_csv(pd.DataFrame({"session": session, "animal": job.params.animals[session], "unit_id": ids, **facts}))


def joined(units: pd.DataFrame, tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Units with the columns of other tables."""
    return units.merge(pd.concat(tables), on=["session", "unit_id"], how="left", validate="1:1") if tables else units


units = [units_of(path) for path in job.input.embeddings]
empty = pd.DataFrame({name: [] for name in ("session", "animal", "unit_id", "num_windows", "split_half_similarity")})
units = pd.concat(units, ignore_index=True) if units else empty
identities = {Path(path).stem: read(path, **TEXT) for path in job.input.identities}
units = joined(units, [t.assign(session=session) for session, t in identities.items() if t is not None])
neurons = [read(path, **TEXT) for path in job.input.neurons]
units = joined(units, [t.rename(columns={"recording": "session"}) for t in neurons if t is not None])
units.to_csv(job.output.units, index=False)
outcomes = pd.concat([pd.read_csv(path, **TEXT) for path in job.input.outcomes], ignore_index=True)
outcomes.to_csv(job.output.outcomes, index=False)
