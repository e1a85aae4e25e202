"""Compute an embedding for each neuron of a Population with a Checkpoint."""

import dataclasses
import platform
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from .errors import CheckpointError, DeviceError, InputError, RecordingWarning
from .model.checkpoint import Checkpoint
from .model.config import EncoderConfig
from .model.device import DTYPES, choose_device, choose_precision
from .model.encoder import Encoder
from .model.loading import load_checkpoint
from .population import Population
from .provenance import Provenance
from .traces import SAME_RATE, resampled
from .unit_embeddings import UnitEmbeddings
from .windows import Layout, Membership, Starts, Timeline, place_windows, timeline, windows_to_bin
from .windows.binning import iter_windows

# Tokens (neurons × patches) in a batch. On a CPU the widest activations of a batch should fit into its cache; a GPU
# needs batches large enough to keep it busy.
_TOKENS = {"cpu": 2_000, "cuda": 250_000}
# Values (units × bins) that are binned at once: 32 MB of spike counts.
_COUNTED = 16_000_000


@dataclass(frozen=True)
class EmbeddingSettings:
    """Settings for embedding many populations in the same way: keywords of `embed`.

    Examples
    --------
    >>> from spikeinterface_nuclr import EmbeddingSettings
    >>> EmbeddingSettings(overlap=0.5, progress=False).min_spikes
    1
    """

    model: str | Path | Checkpoint | None = None
    device: str = "auto"
    precision: str = "auto"
    overlap: float | None = None
    min_spikes: int = 1
    skip_silence: bool = False
    progress: bool = True

    def embed(self, population: Population, checkpoint: Checkpoint, **changes) -> UnitEmbeddings:
        """Embed a population with a loaded checkpoint; `changes` override these settings."""
        keywords = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return embed(population, **{**keywords, "model": checkpoint, **changes})


@dataclass(frozen=True, eq=False)
class _Plan:
    """Units of one group, the time when they were observed, and the positions of their windows."""

    units: np.ndarray
    line: Timeline
    starts: Starts


def embed(
    population: Population,
    model: str | Path | Checkpoint | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
    overlap: float | None = None,
    min_spikes: int = 1,
    skip_silence: bool = False,
    batch_size: int | None = None,
    progress: bool = True,
) -> UnitEmbeddings:
    """Embed every neuron of a population.

    Windows tile the observed time. Within each window, the neurons that fire are embedded in the context of one
    another; a neuron's embedding is the mean over its windows, accumulated in float64. Results are deterministic.

    Traces are first `resampled` to the checkpoint's frame rate, and a window includes all observed neurons.

    Parameters
    ----------
    population : Population
    model : str, Path or Checkpoint, optional
        As in `load_checkpoint`. Default: the bundled model for the population's signal.
    device : str, default: "auto"
        "auto" (a GPU if there is one), "cpu", "cuda" or "cuda:1".
    precision : {"auto", "bfloat16", "float32", "float64"}
        "auto" is bfloat16 where the device computes it fast, else float32.
    overlap : float, optional
        Overlap of successive windows as a fraction of their length, in [0, 1). Default: the value in the checkpoint's
        card, else 0.
    min_spikes : int, default: 1
        Minimum number of spikes in a window for a neuron to be included in it.
    skip_silence : bool, default: False
        Leave out silent seconds, as in `timeline`.
    batch_size : int, optional
        Neurons × patches computed at once. Default: depends on the device. Halved when memory runs out.
    progress : bool, default: True

    Returns
    -------
    UnitEmbeddings

    Raises
    ------
    InputError
        A parameter is invalid, there is only one unit, or no window contains a neuron.
    CheckpointError
        The model cannot be loaded, or was trained on another kind of signal.
    DeviceError
        The device is not available, or its memory is too small for one window.

    Examples
    --------
    >>> from spikeinterface_nuclr import embed, simulate_population
    >>> embeddings = embed(simulate_population(10, 30.0), progress=False)
    >>> embeddings.embedding.shape
    (10, 384)
    >>> embeddings.provenance.checkpoint
    'nuclr-starter'
    """
    if not isinstance(population, Population):
        raise InputError(f"embed takes a Population, not a {type(population).__name__}: make one with read_population")
    checkpoint = load_checkpoint(model, signal=population.signal)
    device = choose_device(device)
    precision = choose_precision(precision, device)
    config, recorded = checkpoint.config, population
    check_signal(population.signal, config, checkpoint.name)
    if population.traces is not None:
        population = resampled(population, 1 / config.bin_s)
        if recorded.sampling_frequency * config.bin_s < 1 - SAME_RATE:
            warnings.warn(
                f"the traces have {recorded.sampling_frequency:.4g} frames per second and {checkpoint.name} takes "
                f"{1 / config.bin_s:.4g}: they lack the fastest signals that it was trained on",
                RecordingWarning,
                stacklevel=2,
            )
    layout = config.layout.of(population.sampling_frequency)
    if batch_size is not None and not batch_size >= 1:
        raise InputError(f"batch_size must be a whole number of at least 1, not {batch_size!r}")
    check_min_spikes(min_spikes)
    overlap = checkpoint.card.get("overlap", 0.0) if overlap is None else overlap
    plans = _plan(population, layout, overlap, skip_silence)
    _check_context(population, plans)
    encoder = checkpoint.encoder(device, DTYPES[precision])
    batcher = _Batcher(batch_size or _TOKENS.get(device.type, _TOKENS["cuda"]), layout.num_patches)
    mean, unobserved = _Mean(population.n_units, config.embedding_dim), np.zeros(population.n_units, dtype=bool)
    numbers = [windows_to_bin(population, plan.units, plan.line, plan.starts) for plan in plans]
    with tqdm(total=sum(map(len, numbers)), desc="embedding", unit="window", disable=not progress) as bar:
        for plan, number in zip(plans, numbers, strict=True):
            units, first, is_disjoint = plan.units, plan.starts.at(number), plan.starts.disjoint(number)
            membership = Membership(population, units, plan.line, layout)
            unobserved[units] = ~membership.anywhere(plan.starts)
            for begin, counts in iter_windows(population, units, plan.line, first, layout, _COUNTED):
                part = membership.of(first[begin : begin + len(counts)])
                if population.traces is None:
                    part &= counts.sum(axis=2) >= min_spikes
                disjoint = is_disjoint[begin : begin + len(counts)]
                half = mean.halves(units, part & disjoint[:, None])
                for windows, embeddings in _embed_windows(encoder, counts, part, layout, batcher):
                    for window, embedding in zip(windows, embeddings, strict=True):
                        mask = part[window]
                        mean.add(units[mask], embedding, half[window, mask] if disjoint[window] else None)
                    bar.update(len(windows))
    _check_result(population, mean, unobserved, min_spikes, layout)
    settings = EmbeddingSettings(overlap=overlap, min_spikes=min_spikes, skip_silence=skip_silence)
    return UnitEmbeddings(
        population.unit_ids,
        mean.embedding(),
        mean.count,
        mean.split_half_similarity(),
        expected_provenance(recorded, checkpoint, settings).replace(
            device=str(device), precision=precision, **_window_provenance(recorded, checkpoint, plans)
        ),
        num_spikes=recorded.num_spikes,
        num_frames=recorded.num_frames,
    )


def _plan(population: Population, layout: Layout, overlap: float, skip_silence: bool) -> list[_Plan]:
    """Place the windows of each group. InputError if no window fits, a warning if most of the time is left out."""
    plans = []
    for _, units in population.groups():
        line = timeline(population, units, layout, skip_silence=skip_silence)
        plans.append(_Plan(units, line, place_windows(line, layout, overlap)))
    if not any(len(plan.starts) for plan in plans):
        silence = " without its silent seconds" if skip_silence else ""
        raise InputError(
            f"no window of {layout.window_s:g} s fits into the observed time{silence} "
            f"({_longest(population):g} s at most without a gap): use a longer recording"
        )
    observed_s, used_s = _seconds(plans)
    if used_s < observed_s / 2:
        warnings.warn(
            f"only {used_s:g} of {observed_s:g} observed seconds lie in stretches that hold a window of "
            f"{layout.window_s:g} s: the rest is left out",
            RecordingWarning,
            stacklevel=3,
        )
    return plans


def _check_context(population: Population, plans: list[_Plan]) -> None:
    """InputError for a single unit, a warning for units alone in their group: embeddings are relative to others."""
    if population.n_units == 1:
        raise InputError(
            f"the recording holds one unit, {population.unit_ids[0]}: embeddings are relative to the "
            "simultaneously recorded population, so give two units or more"
        )
    alone = [population.unit_ids[plan.units[0]] for plan in plans if len(plan.units) == 1]
    if alone:
        warnings.warn(
            f"{len(alone)} units, such as {alone[0]}, are alone in their group and embedded without context",
            RecordingWarning,
            stacklevel=3,
        )


def _seconds(plans: list[_Plan]) -> tuple[float, float]:
    """Observed seconds, and the part of them in which windows fit."""
    return sum(p.line.observed_s for p in plans), sum(p.line.num_bins * p.line.bin_s for p in plans)


def _check_result(population: Population, mean: "_Mean", unobserved: np.ndarray, min_spikes, layout: Layout) -> None:
    """InputError if no unit has a window, a warning if some were not observed throughout any window."""
    active = population.num_spikes > 0 if population.signal == "spikes" else np.ones(population.n_units, dtype=bool)
    missing = unobserved & active
    if not mean.count.any():
        reason = "was observed throughout" if missing.any() else f"has {min_spikes} spike(s) in"
        raise InputError(f"no unit {reason} any window of {layout.window_s:g} s: there is nothing to embed")
    if missing.any():
        warnings.warn(
            f"{missing.sum()} units, such as {population.unit_ids[missing][0]}, were observed throughout no window of "
            f"{layout.window_s:g} s: their rows are NaN",
            RecordingWarning,
            stacklevel=3,
        )


def check_min_spikes(min_spikes: int) -> None:
    """InputError if it is no number of spikes."""
    if min_spikes != int(min_spikes) or min_spikes < 1:
        raise InputError(f"min_spikes must be a whole number of at least 1, not {min_spikes!r}")


def expected_provenance(population: Population, checkpoint: Checkpoint, settings: EmbeddingSettings) -> Provenance:
    """Provenance that embeddings of this population would have, as far as it is known before computing them."""
    return Provenance(
        checkpoint=checkpoint.name,
        checkpoint_revision=checkpoint.revision,
        checkpoint_sha256=checkpoint.sha256,
        precision=None if settings.precision == "auto" else settings.precision,
        overlap=checkpoint.card.get("overlap", 0.0) if settings.overlap is None else settings.overlap,
        min_spikes=int(settings.min_spikes),
        skip_silence=bool(settings.skip_silence),
        signal=population.signal,
        units=population.n_units,
        groups={label: len(units) for label, units in population.groups()},
        population_fingerprint=population.fingerprint(),
        context_fingerprint=population.context_fingerprint(),
        source={key: value for key, value in population.metadata.items() if isinstance(value, str | int | float)},
        model={
            "config": checkpoint.config.to_dict(),
            "license": checkpoint.card.get("license"),
            "training_data": checkpoint.card.get("training_data") or checkpoint.card.get("data"),
        },
        versions={name: version(name) for name in ("spikeinterface-nuclr", "torch", "numpy")}
        | {"python": platform.python_version()},
    )


def _window_provenance(population: Population, checkpoint: Checkpoint, plans: list[_Plan]) -> dict:
    """Entries of the provenance that depend on the windows."""
    observed_s, used_s = _seconds(plans)
    values = {
        "window_s": round(checkpoint.config.layout.window_s, 6),
        "windows": sum(len(plan.starts) for plan in plans),
        "observed_s": round(observed_s, 3),
        "used_s": round(used_s, 3),
        "stitched": next((plan.line.stitched for plan in plans if plan.line.stitched), ""),
    }
    if population.signal == "traces":
        # Frame rate inside the windows: as recorded, or that of the checkpoint after resampling.
        embedded_rate = 1 / next(plan.line.bin_s for plan in plans)
        values |= {"frame_rate": population.sampling_frequency, "resampled_to": embedded_rate}
    return values


def check_signal(signal: str, config: EncoderConfig, name: str) -> None:
    """CheckpointError if an encoder of this config takes another signal than the population holds."""
    if signal != config.signal:
        raise CheckpointError(f"{name}: takes {config.signal}, this population holds {signal}: choose another model")


def _longest(population: Population) -> float:
    intervals = [population.observed_of(i) for i in range(population.n_units)]
    return max((np.ptp(o, axis=1).max() for o in intervals if len(o)), default=0.0)


class _Batcher:
    """Split windows into batches that fit into the device's memory."""

    def __init__(self, tokens: int, num_patches: int):
        self.neurons = max(tokens // num_patches, 1)

    def batches(self, windows: np.ndarray, sizes: np.ndarray) -> Iterator[np.ndarray]:
        """Successive slices of `windows` with at most `neurons` neurons, but at least one window."""
        before, begin = np.concatenate([[0], np.cumsum(sizes[windows])]), 0
        while begin < len(windows):
            limit = int(np.searchsorted(before, before[begin] + self.neurons, side="right")) - 1
            end = max(limit, begin + 1)
            yield windows[begin:end]
            begin = end

    def shrink(self, batch: np.ndarray, sizes: np.ndarray) -> None:
        """Halve the batch size after this batch did not fit; DeviceError if it was a single window."""
        if len(batch) == 1:
            raise DeviceError(
                f"the device's memory does not hold one window of {sizes[batch[0]]} units: use device='cpu', "
                "precision='bfloat16' or group_by= to split the population by probe"
            )
        self.neurons = max(int(sizes[batch].sum()) // 2, 1)


@torch.inference_mode()
def _embed_windows(
    encoder: Encoder, counts: np.ndarray, part: np.ndarray, layout: Layout, batcher: _Batcher
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Embed windows, batching those of similar size.

    Parameters
    ----------
    counts : uint16 or float32, shape (k, n, window_bins)
    part : bool, shape (k, n)
        Which units are part of each window.

    Yields
    ------
    windows : int array, shape (b,)
        Positions in `counts`.
    embeddings : list of b float32 arrays, shapes (units in the window, dim)
    """
    sizes = part.sum(axis=1)
    # Adjacent windows of equal size share one attention call.
    remaining = np.argsort(sizes, kind="stable")
    weight = next(encoder.parameters())
    device, dtype = weight.device, weight.dtype
    while len(remaining):
        for batch in batcher.batches(remaining, sizes):
            try:
                # Counts are moved as they are, uint16, in half as many bytes as in float32.
                patches = np.concatenate([counts[w, part[w]] for w in batch])
                patches = torch.from_numpy(patches.reshape(-1, layout.num_patches, layout.patch_size)).to(device)
                embedding = encoder(patches, sizes[batch]).to("cpu", torch.promote_types(dtype, torch.float32))
            except (MemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
                batcher.shrink(batch, sizes)
                break
            remaining = remaining[len(batch) :]
            yield batch, np.split(embedding.numpy(), np.cumsum(sizes[batch])[:-1])


def _out_of_memory(error: Exception) -> bool:
    # torch's CPU allocator raises a plain RuntimeError.
    return isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or "not enough memory" in str(error)


class _Mean:
    """Running float64 means over each unit's windows, and over its odd and its even disjoint windows."""

    def __init__(self, n_units: int, dim: int):
        self.sum, self.count = np.zeros((n_units, dim)), np.zeros(n_units, dtype=np.int64)
        self.half_sum, self.half_count = np.zeros((2, n_units, dim)), np.zeros((2, n_units), dtype=np.int64)

    def halves(self, units: np.ndarray, part: np.ndarray) -> np.ndarray:
        """Half (0 or 1) of each of the next windows for each unit, shape (k, n): a unit's windows alternate."""
        return (self.half_count[:, units].sum(axis=0) + np.cumsum(part, axis=0) + 1) % 2

    def add(self, units: np.ndarray, embedding: np.ndarray, half: np.ndarray | None) -> None:
        """Add the embeddings (n, dim) of distinct units in one window, and to the halves (n,) if these are given."""
        self.sum[units] += embedding
        self.count[units] += 1
        if half is not None:
            self.half_sum[half, units] += embedding
            self.half_count[half, units] += 1

    def embedding(self) -> np.ndarray:
        """Mean embeddings: float32, shape (n_units, dim); NaN rows for units without a window."""
        return _divide(self.sum, self.count[:, None]).astype(np.float32)

    def split_half_similarity(self) -> np.ndarray:
        """Cosine similarity of the two halves: float32, shape (n_units,); NaN where one is empty."""
        even, odd = self.half_sum
        length = np.linalg.norm(even, axis=1) * np.linalg.norm(odd, axis=1)
        return _divide((even * odd).sum(axis=1), length).astype(np.float32)


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.full(np.broadcast_shapes(a.shape, b.shape), np.nan), where=b != 0)
