"""The facts that `nuclr info` lists, by name and in reading order."""

from pathlib import Path

import numpy as np

from ..errors import CheckpointError

# Largest difference of an example's output, relative to its largest value.
_LARGEST_DIFFERENCE = {"float64": 1e-4, "float32": 1e-4, "bfloat16": 0.05}


def of_recording(path: Path, reading: dict) -> dict:
    """Facts of a recording: its units, their activity, and its embeddings if there are any."""
    from ..io import kind_of, read_population
    from ..io.where import selects

    kind = kind_of(path)
    if kind == "nwb" and not selects(reading):
        from ..io.nwb.session import read_session

        session = read_session(path, **reading)
        return _population(session.population) | _in_session(session)
    if kind == "analyzer" and not selects(reading):
        from ..io.spikeinterface import load_spikeinterface

        analyzer = load_spikeinterface(path)
        return _population(read_population(analyzer, **reading)) | _in_analyzer(analyzer)
    return _population(read_population(path, **reading))


def _population(population) -> dict:
    """Units, their activity, and the number of windows of the default model."""
    groups = dict(population.groups())
    observed = [population.observed_of(i) for i in range(population.n_units)]
    seconds = [np.ptp(intervals, axis=1).sum() for intervals in observed]
    return {
        "source": str(population.metadata.get("source", "")),
        "units": population.n_units,
        "groups": {label: len(units) for label, units in groups.items()} if len(groups) > 1 else 1,
        **(_spike_facts(population) if population.signal == "spikes" else _trace_facts(population)),
        "time": f"{population.start:.10g}–{population.stop:.10g} s",
        "observed intervals": f"{np.median([len(intervals) for intervals in observed]):g} (median over units)",
        "observed time": f"{np.median(seconds):g} s (median over units)",
        **_window_facts(population, list(groups.values())),
        "unit properties": ", ".join(population.properties) or "none",
    }


def _spike_facts(population) -> dict:
    counts = population.num_spikes
    return {"spikes": int(counts.sum()), "units without spikes": int((counts == 0).sum())}


def _trace_facts(population) -> dict:
    return {
        **{key: population.metadata[key] for key in ("series",) if key in population.metadata},
        "traces": population.metadata.get("prepared", "as given"),
        "frames": population.traces.shape[1],
        "frames per second": round(population.sampling_frequency, 4),
    }


def _window_facts(population, groups: list[np.ndarray]) -> dict:
    from ..model.loading import load_contents
    from ..windows import place_windows, timeline

    layout = load_contents(signal=population.signal).config.layout
    lines = [timeline(population, units, layout) for units in groups]
    windows = sum(len(place_windows(line, layout)) for line in lines)
    stitched = next((line.stitched for line in lines if line.stitched), "no: windows are contiguous")
    return {
        f"windows of {layout.window_s:g} s": windows,
        "stitched from": stitched if windows else "no window fits",
    }


def of_embeddings_file(path: Path) -> dict:
    """Facts of an ``.npz`` file of embeddings."""
    from ..unit_embeddings import UnitEmbeddings

    return _embeddings(UnitEmbeddings.load(path))


def _embeddings(embeddings) -> dict:
    """Facts of embeddings, with their provenance."""
    embedded, similarity = embeddings.num_windows > 0, embeddings.split_half_similarity
    similarity = similarity[np.isfinite(similarity)]
    return {
        "units": len(embedded),
        "embedded": int(embedded.sum()),
        "dimensions": embeddings.embedding.shape[1],
        "windows per unit": f"{np.median(embeddings.num_windows):g} (median)",
        "split-half similarity": f"{np.median(similarity):.3f} (median)" if len(similarity) else "unknown",
        **{name: value for name, value in embeddings.provenance.to_dict().items() if name != "model"},
    }


def _in_analyzer(analyzer) -> dict:
    """Facts of the embeddings in an analyzer."""
    from ..extensions import computed_embedding

    extension = computed_embedding(analyzer)
    if extension is None:
        return {}
    return _stored_with_units("nuclr_embedding", extension.get_embeddings(warn=False), extension.stale)


def _in_session(session) -> dict:
    """Facts of the embeddings in an NWB file."""
    lines = {}
    for name, outdated in session.outdated.items():
        title = f"processing/nuclr/{name}"
        if name not in session.tables:
            lines[title] = outdated
            continue
        table = session.tables[name]
        provenance = table.embeddings.provenance
        # Embeddings of an analyzer, for example, were matched to the file's units by spike counts alone.
        copy = "traces, of equal length" if provenance.signal == "traces" else "spikes, of equal spike counts"
        same = provenance.population_fingerprint == provenance.units_fingerprint
        note = "" if same else f" (embedded from another copy of the {copy})"
        lines |= _stored_with_units(title, table.embeddings, outdated, note)
        if table.predictions:
            lines[f"{title}: predicted"] = ", ".join(one.target for one in table.predictions)
    return lines


def _stored_with_units(title: str, embeddings, outdated: str, note: str = "") -> dict:
    """Facts of embeddings that are stored with their units, and whether they are up to date."""
    lines = _embeddings(embeddings) | {"series": embeddings.provenance.source.get("series")}
    listed = (
        *("series", "units", "embedded", "dimensions", "windows per unit", "split-half similarity", "checkpoint"),
        *("checkpoint_revision", "checkpoint_sha256", "overlap", "min_spikes", "precision", "groups", "stitched"),
        *("matched_by", "context"),
    )
    return {
        title: f"STALE: {outdated}" if outdated else "up to date" + note,
        **{f"{title}: {name}": lines[name] for name in listed if lines.get(name) not in (None, "")},
    }


def of_store(path: Path) -> dict:
    """Facts of a store: its size and its animals."""
    from ..training.store import Store

    store = Store(path)
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


def of_decoder(name: str) -> dict:
    """Facts of a decoder or regressor: target, training animals, expected coverage and card."""
    from ..decoding.loading import load_predictor
    from ..decoding.reference_units import REFERENCE_UNITS
    from ..decoding.regressor import Regressor

    fitted = load_predictor(name)
    if isinstance(fitted, Regressor):
        classes = {}
        trust = {f"{part:.0%} of true values within": f"± {fitted.half_width(part):.4g}" for part in (0.5, 0.9)}
    else:
        classes = {"classes": ", ".join(fitted.classes)}
        if fitted.neighbours:
            classes["averaged over"] = "neighbouring units on the probe"
        trust = {f"labelled at {error:.0%} target error": _coverage(fitted, error) for error in (0.05, 0.1)}
    return {
        fitted.WHAT: fitted.name,
        "sha256": fitted.sha256,
        "target": fitted.target,
        **classes,
        "animals": ", ".join(fitted.animals),
        "other features": ", ".join(fitted.columns) or "none",
        **trust,
        **{name: value for name, value in fitted.card.items() if name != REFERENCE_UNITS},
    }


def _coverage(decoder, target_error: float) -> str:
    """The fraction of left-out training units whose confidence reaches the threshold."""
    return f"{(decoder.confidence >= decoder.threshold(target_error)).mean():.0%} of units left out of the fit"


def check_of_decoder(name: str) -> dict:
    """Whether a decoder or regressor computes the same here as where it was made."""
    from ..decoding.loading import load_predictor

    fitted = load_predictor(name)
    return _check(fitted.name, fitted.check(), "float64")


def check_of_checkpoint(model: str, device: str, precision: str) -> dict:
    """Whether a model computes the same here as where it was made."""
    from ..model.device import choose_device, choose_precision
    from ..model.loading import load_checkpoint

    checkpoint, chosen = load_checkpoint(model), choose_device(device)
    precision = choose_precision(precision, chosen)
    difference = checkpoint.check(device=str(chosen), precision=precision)
    return {"device": str(chosen), **_check(checkpoint.name, difference, precision)}


def _check(name: str, difference: float, precision: str) -> dict:
    allowed = _LARGEST_DIFFERENCE[precision]
    if not difference <= allowed:
        raise CheckpointError(
            f"{name}: computes something else here: its example differs by {difference:.1g} (at most "
            f"{allowed:g} in {precision}): report this, with your versions and device"
        )
    return {"precision": precision, "check": f"computes the same here (largest difference {difference:.1g})"}


def of_checkpoint(model: str) -> dict:
    """Facts of a model: its size, config and card. Those of an ensemble's members are in brief."""
    from ..model.loading import load_contents

    checkpoint = load_contents(model)
    card = dict(checkpoint.card)
    if checkpoint.config.members > 1:
        card.pop("members", None)
        card |= {member.name: _training_of(member) for member in checkpoint.members}
    if isinstance(animals := card.get("training_animals"), list):
        card["training_animals"] = f"{len(animals)}: {', '.join(map(str, animals))}"
    return {
        "model": checkpoint.name,
        "revision": checkpoint.revision or "none",
        "sha256": checkpoint.sha256,
        "parameters": checkpoint.num_parameters,
        **checkpoint.config.to_dict(),
        **card,
    }


def _training_of(member) -> str:
    """A member of an ensemble in one line. `nuclr info MODEL#1` describes it in full."""
    parts = [f"sha256 {member.sha256[:12]}…"]
    if isinstance(animals := member.card.get("training_animals"), list):
        parts.append(f"trained on {len(animals)} animals")
    if excluded := [name for key in ("held_out", "excluded") for name in member.card.get(key) or []]:
        parts.append(f"not on {', '.join(map(str, excluded))}")
    return ", ".join(parts)
