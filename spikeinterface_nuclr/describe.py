"""What `nuclr info` says: facts by name, in the order in which to read them."""

from pathlib import Path

import numpy as np

from .checkpoint import load_checkpoint
from .decoding.decoder import Decoder
from .decoding.regression import Regressor
from .decoding.storage import is_regressor
from .extensions import computed_embedding
from .nwb.neurons import fingerprint_now
from .nwb.reading import stored, table_names
from .population import Population
from .sources import kind_of
from .sources.nwb_file import open_nwb
from .sources.sortings import load_spikeinterface
from .training.store import Store
from .unit_embeddings import UnitEmbeddings
from .windows import place_windows, timeline


def population_facts(population: Population) -> dict:
    """A recording: its units, their activity, and the windows of the default model that fit."""
    groups = dict(population.groups())
    observed = [population.observed_of(i) for i in range(population.n_units)]
    seconds = [np.ptp(intervals, axis=1).sum() for intervals in observed]
    return {
        "source": str(population.metadata.get("source", "")),
        "units": population.n_units,
        "groups": {label: len(units) for label, units in groups.items()} if len(groups) > 1 else 1,
        **(_spike_facts(population) if population.signal == "spikes" else _trace_facts(population)),
        "time": f"{population.start:.10g}–{population.stop:.10g} s",
        "observed intervals": f"{np.median([len(o) for o in observed]):g} (median of the units)",
        "observed time": f"{np.median(seconds):g} s (median of the units)",
        **_window_facts(population, list(groups.values())),
        "unit properties": ", ".join(population.properties) or "none",
    }


def _spike_facts(population: Population) -> dict:
    counts = population.spike_counts
    return {"spikes": int(counts.sum()), "units without spikes": int((counts == 0).sum())}


def _trace_facts(population: Population) -> dict:
    return {
        **{key: population.metadata[key] for key in ("series",) if key in population.metadata},
        "traces": population.metadata.get("prepared", "as given"),
        "frames": population.traces.shape[1],
        "frames per second": round(population.sampling_frequency, 4),
    }


def _window_facts(population: Population, groups: list[np.ndarray]) -> dict:
    layout = load_checkpoint(signal=population.signal).config.layout
    lines = [timeline(population, units, layout) for units in groups]
    windows = sum(len(place_windows(line, layout)) for line in lines)
    stitched = next((line.stitched for line in lines if line.stitched), "no: windows are contiguous")
    return {
        f"windows of {layout.window_s:g} s": windows,
        "stitched from": stitched if windows else "no window fits",
    }


def embedding_facts(found: UnitEmbeddings) -> dict:
    """Embeddings, and where they come from."""
    known = found.window_count > 0
    several = np.isfinite(found.stability)
    return {
        "units": len(known),
        "embedded": int(known.sum()),
        "dimensions": found.embedding.shape[1],
        "windows a unit": f"{np.median(found.window_count):g} (median)",
        "stability": f"{np.median(found.stability[several]):.3f} (median)" if several.any() else "unknown",
        **found.provenance,
    }


def held_facts(path: Path, population: Population) -> dict:
    """Embeddings that an NWB file or an analyzer's folder holds beside its units; nothing for other sources."""
    kind = kind_of(path)
    if kind == "nwb":
        return _nwb_facts(path, population)
    if kind == "analyzer":
        return _analyzer_facts(path)
    return {}


def _analyzer_facts(path: Path) -> dict:
    analyzer = load_spikeinterface(path)
    extension = computed_embedding(analyzer)
    if extension is None:
        return {}
    return _beside_units("nuclr_embedding", extension.get_embeddings(warn=False), extension.stale)


def _nwb_facts(path: Path, population: Population) -> dict:
    facts = {}
    with open_nwb(path) as nwbfile:
        for name in table_names(nwbfile):
            found = stored(nwbfile, name)
            # Embeddings of an analyzer, say, were told to fit the file's units by no more than the spike counts.
            own = found.embeddings.provenance["population_fingerprint"] == found.units_fingerprint
            traces = found.embeddings.provenance.get("signal") == "traces"
            copy = "traces, of equal length" if traces else "spikes, of equal spike counts"
            note = "" if own else f" (embedded from another copy of the {copy})"
            stale = found.stale(fingerprint_now(nwbfile, found.embeddings.provenance, population))
            facts |= _beside_units(f"processing/nuclr/{name}", found.embeddings, stale, note)
            if found.identities:
                facts[f"processing/nuclr/{name}: predicted"] = ", ".join(
                    identities.target for identities in found.identities
                )
    return facts


def _beside_units(title: str, found: UnitEmbeddings, stale: str, note: str = "") -> dict:
    facts = embedding_facts(found) | {"series": found.provenance.get("source", {}).get("series")}
    told = (
        "series",
        *("units", "embedded", "dimensions", "windows a unit", "stability", "checkpoint", "checkpoint_revision"),
        *("checkpoint_sha256", "overlap", "min_spikes", "precision", "groups", "stitched", "matched_by", "context"),
    )
    return {
        title: f"STALE: {stale}" if stale else "up to date" + note,
        **{f"{title}: {name}": facts[name] for name in told if facts.get(name) not in (None, "")},
    }


def store_facts(store: Store) -> dict:
    """A store: how much it holds, of whom."""
    probes = store.probes
    return {
        "store": str(store.path),
        "sessions": len({probe.path.parent for probe in probes}),
        "animals": len(store.animals),
        "probes": len(probes),
        "units": sum(probe.n_units for probe in probes),
        "spikes": sum(probe.n_spikes for probe in probes),
        "frames per second": sorted({round(p.sampling_frequency, 4) for p in probes if p.signal == "traces"}),
        "hours": round(sum(probe.outline.stop - probe.outline.start for probe in probes) / 3600, 2),
        "names of animals": ", ".join(store.animals),
    }


def decoder_facts(name: str) -> dict:
    """A decoder of classes or a regressor of numbers: what it reads, from which embeddings, fitted to whom."""
    if is_regressor(name):
        fitted = Regressor.load(name)
        classes = {}
        trust = {f"{share:.0%} of true values within": f"± {fitted.half_width(share):.4g}" for share in (0.5, 0.9)}
    else:
        fitted = Decoder.load(name)
        classes = {"classes": ", ".join(fitted.classes)}
        trust = {f"labelled at {error:.0%} target error": _share(fitted, error) for error in (0.05, 0.1)}
    return {
        fitted.WHAT: fitted.name,
        "sha256": fitted.sha256,
        "target": fitted.target,
        **classes,
        "animals": ", ".join(fitted.animals),
        "other features": ", ".join(fitted.columns) or "none",
        **trust,
        **fitted.card,
    }


def _share(decoder: Decoder, target_error: float) -> str:
    """How many of the units that were left out while fitting are above its threshold."""
    return f"{(decoder.confidence >= decoder.threshold(target_error)).mean():.0%} of units left out of the fit"


def checkpoint_facts(model: str) -> dict:
    """A model: its size, its settings and its card."""
    checkpoint = load_checkpoint(model)
    return {
        "model": checkpoint.name,
        "revision": checkpoint.revision or "none",
        "sha256": checkpoint.sha256,
        "parameters": sum(w.numel() for w in checkpoint.weights.values()),
        **checkpoint.config.to_dict(),
        **checkpoint.card,
    }
