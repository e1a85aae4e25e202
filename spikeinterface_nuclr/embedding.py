"""embed: Population and Checkpoint in, one embedding for each neuron out."""

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

from .binning import iter_windows
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

# Tokens (neurons × patches) in a batch. On a processor the widest activations of a batch should stay in its cache; a
# GPU wants work enough to fill it.
_TOKENS = {"cpu": 2_000, "cuda": 250_000}
# Values (units × bins) counted at once: 32 MB of spike counts.
_COUNTED = 16_000_000


@dataclass(frozen=True)
class EmbeddingSettings:
    """How to embed many populations alike: keywords of `embed`, by the same names."""

    model: str | Path | Checkpoint | None = None
    device: str = "auto"
    precision: str = "auto"
    overlap: float | None = None
    min_spikes: int = 1
    skip_silence: bool = False
    progress: bool = True

    def embed(self, population: Population, checkpoint: Checkpoint, **changes) -> UnitEmbeddings:
        """Embed a population with a checkpoint that is loaded already, and `changes` of these settings."""
        keywords = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        return embed(population, **{**keywords, "model": checkpoint, **changes})


@dataclass(frozen=True, eq=False)
class _Plan:
    """What is to be embedded of one group: its units, the time they were observed, and where the windows lie."""

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

    Windows tile the observed time. In each, the neurons that fire are embedded in the context of one another; a
    neuron's embedding is the mean over its windows, accumulated in float64. The same input gives the same output.

    Traces are brought to the checkpoint's frame rate first, as `resampled` does; of traces, all observed neurons are
    part of a window.

    Parameters
    ----------
    population : Population
    model : str, Path or Checkpoint, optional
        As `load_checkpoint`; the default is that for what the population holds.
    device : str, default: "auto"
        "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:1".
    precision : {"auto", "bfloat16", "float32", "float64"}
        "auto" is bfloat16 where the device computes it fast, else float32.
    overlap : float, optional
        Share of a window that the next repeats, in [0, 1). Default: what the checkpoint's card asks for, else 0.
    min_spikes : int, default: 1
        Spikes that a neuron needs in a window to be part of it.
    skip_silence : bool, default: False
        As `timeline`.
    batch_size : int, optional
        Neurons × patches computed at once. Default: what suits the device. Halved when memory runs out.
    progress : bool, default: True

    Returns
    -------
    UnitEmbeddings

    Raises
    ------
    InputError
        A parameter is wrong, there is one unit only, or no window holds a neuron.
    CheckpointError
        The model cannot be had, or was trained on another kind of signal.
    DeviceError
        The device is absent, or one window exceeds its memory.

    Examples
    --------
    >>> from spikeinterface_nuclr import embed, simulate_population
    >>> embeddings = embed(simulate_population(10, 30.0), progress=False)
    >>> embeddings.embedding.shape
    (10, 128)
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
                f"{1 / config.bin_s:.4g}: they lack the fastest of what it was trained to see",
                RecordingWarning,
                stacklevel=2,
            )
    layout = config.layout.of(population.sampling_frequency)
    if batch_size is not None and not batch_size >= 1:
        raise InputError(f"batch_size must be a whole number of at least 1, not {batch_size!r}")
    if min_spikes != int(min_spikes) or min_spikes < 1:
        raise InputError(f"min_spikes must be a whole number of at least 1, not {min_spikes!r}")
    overlap = checkpoint.card.get("overlap", 0.0) if overlap is None else overlap
    plans = _plan(population, layout, overlap, skip_silence)
    _check_company(population, plans)
    encoder = checkpoint.encoder(device, DTYPES[precision])
    batcher = _Batcher(batch_size or _TOKENS.get(device.type, _TOKENS["cuda"]), layout.num_patches)
    mean, unobserved = _Mean(population.n_units, config.dim), np.zeros(population.n_units, dtype=bool)
    numbers = [windows_to_bin(population, plan.units, plan.line, plan.starts) for plan in plans]
    with tqdm(total=sum(map(len, numbers)), desc="embedding", unit="window", disable=not progress) as bar:
        for plan, number in zip(plans, numbers, strict=True):
            units, first, alone = plan.units, plan.starts.at(number), plan.starts.alone(number)
            membership = Membership(population, units, plan.line, layout)
            unobserved[units] = ~membership.anywhere(plan.starts)
            for begin, counts in iter_windows(population, units, plan.line, first, layout, _COUNTED):
                part = membership.of(first[begin : begin + len(counts)])
                if population.traces is None:
                    part &= counts.sum(axis=2) >= min_spikes
                disjoint = alone[begin : begin + len(counts)]
                half = mean.halves(units, part & disjoint[:, None])
                for windows, embeddings in _embed_windows(encoder, counts, part, layout, batcher):
                    for window, embedding in zip(windows, embeddings, strict=True):
                        of = part[window]
                        mean.add(units[of], embedding, half[window, of] if disjoint[window] else None)
                    bar.update(len(windows))
    _check_result(population, mean, unobserved, min_spikes, layout)
    settings = EmbeddingSettings(overlap=overlap, min_spikes=min_spikes, skip_silence=skip_silence)
    return UnitEmbeddings(
        population.unit_ids,
        mean.embedding(),
        mean.count,
        mean.split_half_similarity(),
        expected_provenance(recorded, checkpoint, settings).replace(
            device=str(device), precision=precision, **_of_windows(recorded, checkpoint, plans)
        ),
        num_spikes=recorded.num_spikes,
        num_frames=recorded.num_frames,
    )


def _plan(population: Population, layout: Layout, overlap: float, skip_silence: bool) -> list[_Plan]:
    """Where the windows of each group lie. InputError where there is none, a warning where most time holds none."""
    plans = []
    for _, units in population.groups():
        line = timeline(population, units, layout, skip_silence=skip_silence)
        plans.append(_Plan(units, line, place_windows(line, layout, overlap)))
    if not any(len(plan.starts) for plan in plans):
        silence = " less its silent seconds" if skip_silence else ""
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


def _check_company(population: Population, plans: list[_Plan]) -> None:
    """InputError for a single unit, a warning for units alone on their probe: embeddings are relative to others."""
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
    """Seconds that were observed, and those of them that lie where windows may."""
    return sum(p.line.observed_s for p in plans), sum(p.line.num_bins * p.line.bin_s for p in plans)


def _check_result(population: Population, mean: "_Mean", unobserved: np.ndarray, min_spikes, layout: Layout) -> None:
    """InputError where no unit has a window, a warning where some were never observed for one."""
    active = population.num_spikes > 0 if population.signal == "spikes" else np.ones(population.n_units, dtype=bool)
    lost = unobserved & active
    if not mean.count.any():
        reason = "was observed throughout" if lost.any() else f"has {min_spikes} spike(s) in"
        raise InputError(f"no unit {reason} any window of {layout.window_s:g} s: there is nothing to embed")
    if lost.any():
        warnings.warn(
            f"{lost.sum()} units, such as {population.unit_ids[lost][0]}, were observed throughout no window of "
            f"{layout.window_s:g} s: their rows are NaN",
            RecordingWarning,
            stacklevel=3,
        )


def expected_provenance(population: Population, checkpoint: Checkpoint, settings: EmbeddingSettings) -> Provenance:
    """What embeddings of this population would state about their origin, as far as that is known beforehand."""
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


def _of_windows(population: Population, checkpoint: Checkpoint, plans: list[_Plan]) -> dict:
    """The part of the provenance that the windows decide."""
    observed_s, used_s = _seconds(plans)
    values = {
        "window_s": round(checkpoint.config.layout.window_s, 6),
        "windows": sum(len(plan.starts) for plan in plans),
        "observed_s": round(observed_s, 3),
        "used_s": round(used_s, 3),
        "stitched": next((plan.line.stitched for plan in plans if plan.line.stitched), ""),
    }
    if population.signal == "traces":
        # What the windows are made of: the traces as they came, or at the checkpoint's rate.
        embedded_rate = 1 / next(plan.line.bin_s for plan in plans)
        values |= {"frame_rate": population.sampling_frequency, "resampled_to": embedded_rate}
    return values


def check_signal(signal: str, config: EncoderConfig, name: str) -> None:
    """CheckpointError where an encoder of this config does not take what a population holds."""
    if signal != config.signal:
        raise CheckpointError(f"{name}: takes {config.signal}, this population holds {signal}: choose another model")


def _longest(population: Population) -> float:
    intervals = [population.observed_of(i) for i in range(population.n_units)]
    return max((np.ptp(o, axis=1).max() for o in intervals if len(o)), default=0.0)


class _Batcher:
    """Cuts windows into batches of a number of tokens that fits the device's memory."""

    def __init__(self, tokens: int, num_patches: int):
        self.neurons = max(tokens // num_patches, 1)

    def batches(self, windows: np.ndarray, sizes: np.ndarray) -> Iterator[np.ndarray]:
        """Successive slices of `windows` with at most `neurons` neurons, but always one window."""
        before, begin = np.concatenate([[0], np.cumsum(sizes[windows])]), 0
        while begin < len(windows):
            fit = int(np.searchsorted(before, before[begin] + self.neurons, side="right")) - 1
            end = max(fit, begin + 1)
            yield windows[begin:end]
            begin = end

    def shrink(self, batch: np.ndarray, sizes: np.ndarray) -> None:
        """Halve the batches after this one did not fit; DeviceError where it was one window already."""
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
    """Embed windows of similar size together.

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
    # Equal sizes side by side: the encoder attends to them in one call.
    left = np.argsort(sizes, kind="stable")
    device, dtype = encoder.read_in.weight.device, encoder.read_in.weight.dtype
    while len(left):
        for batch in batcher.batches(left, sizes):
            try:
                patches = np.concatenate([counts[w, part[w]] for w in batch]).astype(np.float32, copy=False)
                patches = torch.from_numpy(patches.reshape(-1, layout.num_patches, layout.patch_size)).to(device)
                embedding = encoder(patches, sizes[batch]).to("cpu", torch.promote_types(dtype, torch.float32))
            except (MemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
                batcher.shrink(batch, sizes)
                break
            left = left[len(batch) :]
            yield batch, np.split(embedding.numpy(), np.cumsum(sizes[batch])[:-1])


def _out_of_memory(error: Exception) -> bool:
    # GPUs have an error of their own for it; the processor's allocator raises a bare RuntimeError.
    known = isinstance(error, MemoryError | torch.cuda.OutOfMemoryError)
    return known or "not enough memory" in str(error)


class _Mean:
    """Running float64 means over each unit's windows, and over odd and even ones of those that share no time."""

    def __init__(self, n_units: int, dim: int):
        self.sum, self.count = np.zeros((n_units, dim)), np.zeros(n_units, dtype=np.int64)
        self.half_sum, self.half_count = np.zeros((2, n_units, dim)), np.zeros((2, n_units), dtype=np.int64)

    def halves(self, units: np.ndarray, part: np.ndarray) -> np.ndarray:
        """For each coming window (k,) and unit (n,), to which half it belongs: a unit's windows alternate."""
        return (self.half_count[:, units].sum(axis=0) + np.cumsum(part, axis=0) + 1) % 2

    def add(self, units: np.ndarray, embedding: np.ndarray, half: np.ndarray | None) -> None:
        """Add one window's embeddings (n, dim) of different units, to a half each where one is given."""
        self.sum[units] += embedding
        self.count[units] += 1
        if half is not None:
            self.half_sum[half, units] += embedding
            self.half_count[half, units] += 1

    def embedding(self) -> np.ndarray:
        """float32, shape (n_units, dim); NaN rows where there is no window."""
        return _divide(self.sum, self.count[:, None]).astype(np.float32)

    def split_half_similarity(self) -> np.ndarray:
        """Cosine of the two halves: float32, shape (n_units,); NaN where one is empty."""
        even, odd = self.half_sum
        length = np.linalg.norm(even, axis=1) * np.linalg.norm(odd, axis=1)
        return _divide((even * odd).sum(axis=1), length).astype(np.float32)


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.full(np.broadcast_shapes(a.shape, b.shape), np.nan), where=b != 0)
