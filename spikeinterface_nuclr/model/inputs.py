"""Inputs of the encoder's first layer, computed from the activity in a window."""

from collections.abc import Callable

import torch
from torch.nn import functional as F

from .config import Correlograms, EncoderConfig

# Added to observed and expected numbers of coincidences before their ratio is taken.
_PSEUDOCOUNT = 0.5
# Correlations are small; this brings them to the scale of the other inputs.
_CORRELATION_SCALE = 5.0
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
Runs = list[tuple[int, int]]  # successive populations of equal size: (count, size)


def input_of(config: EncoderConfig) -> Callable[[torch.Tensor, Runs], torch.Tensor]:
    """The function that computes the input of the first layer, (n, L, width), from patches (n, L, P).

    Its second argument are the populations, as from `runs_of_equal_size`.
    """
    functions = {
        "counts": lambda patches, runs: patches,
        "log1p": lambda patches, runs: patches.log1p(),
        "log1p+acg": lambda patches, runs: torch.cat([patches, autocorrelograms(patches)], dim=-1).log1p(),
        "correlograms": lambda patches, runs: correlograms(patches, runs, config.correlograms),
    }
    return functions[config.input_scale]


def autocorrelograms(patches: torch.Tensor) -> torch.Tensor:
    """Number of pairs of spikes at each lag of 0 … P − 1 bins, from integer counts of shape (…, P)."""
    return _pairs(_spectrum(patches).abs().square())


def correlograms(patches: torch.Tensor, runs: Runs, bins: Correlograms) -> torch.Tensor:
    """Counts, and how a neuron's spikes relate to its own and to those of the others of its population.

    Lags do not cross from one patch into the next, because a window may be stitched from separate intervals.

    Parameters
    ----------
    patches : Tensor, shape (n, L, P)
        Spike counts.
    runs : list of (count, size)
    bins : Correlograms

    Returns
    -------
    Tensor, shape (n, L, bins.width)
        For each patch: log(1 + count) in coarse bins; log(1 + pairs) of the autocorrelogram. For the whole window, the
        same in all patches: log(1 + pairs) of the autocorrelogram; the logarithms of the auto- and cross-correlogram
        (the latter with the summed others) relative to those of independent Poisson neurons; population coupling and
        pairwise correlations at several bin widths; and the logarithms of numbers of spikes and neurons.
    """
    length, patch_size = patches.shape[1:]
    fine, coarse = torch.tensor(bins.lags), torch.tensor(bins.coarse_lags)
    binned = _rebinned(patches, bins.coarse)
    spectrum = _spectrum(patches)
    own = _summed(_pairs(spectrum.abs().square()), fine)
    others = _sum_of_others(patches, runs)
    cross = torch.fft.irfft((spectrum.conj() * _spectrum(others)).sum(dim=1), n=2 * patch_size).clamp(min=0)
    later, earlier = cross[:, :patch_size], cross[:, [0, *range(2 * patch_size - 1, patch_size, -1)]]
    cross = torch.cat([later[:, :1], _summed(later, coarse), _summed(earlier, coarse)], dim=1)

    # Expected numbers of pairs of two neurons with one spike per bin each.
    overlap = length * (patch_size - torch.arange(patch_size, device=patches.device, dtype=patches.dtype))
    overlap_cross = torch.cat([overlap[:1], *2 * [_summed(overlap, coarse)]])
    spikes, others_spikes = patches.sum(dim=(1, 2)), others.sum(dim=(1, 2))
    rate, others_rate = (number[:, None] / (length * patch_size) for number in (spikes, others_spikes))
    own_of_window = own.sum(dim=1)
    size = torch.cat([patches.new_full((count * size,), size) for count, size in runs])
    numbers = [spikes.log1p(), (others_spikes / (size - 1).clamp(min=1)).log1p(), size.log()]
    window = [
        own_of_window.log1p(),
        _log_ratio(own_of_window, rate**2 * _summed(overlap, fine)),
        _log_ratio(cross, rate * others_rate * overlap_cross),
        *(_correlations(_rebinned(patches, width).flatten(1), runs) for width in bins.widths),
        torch.stack(numbers, dim=1) - 3,
    ]
    window = torch.cat(window, dim=1)[:, None].expand(-1, length, -1)
    return torch.cat([binned.log1p(), own.log1p(), window], dim=-1)


def _spectrum(patches: torch.Tensor) -> torch.Tensor:
    return torch.fft.rfft(patches, n=2 * patches.shape[-1])


def _pairs(power: torch.Tensor) -> torch.Tensor:
    """Numbers of pairs at lags from 0, from spectra of counts that were padded to twice their length."""
    length = 2 * (power.shape[-1] - 1)
    # Rounded to integers, because the rounding errors of the transform differ between devices.
    return torch.fft.irfft(power, n=length)[..., : length // 2].round().clamp(min=0)


def _summed(values: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
    """Sums of values (…, P) between successive edges: shape (…, len(edges) - 1)."""
    total = F.pad(values.cumsum(dim=-1), (1, 0))[..., edges.to(values.device)]
    return total.diff(dim=-1)


def _rebinned(patches: torch.Tensor, width: int) -> torch.Tensor:
    """Counts in bins that are `width` times as long, without an incomplete last bin."""
    number = patches.shape[-1] // width
    return patches[..., : number * width].unflatten(-1, (number, width)).sum(dim=-1)


def _log_ratio(observed: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    return (observed + _PSEUDOCOUNT).log() - (expected + _PSEUDOCOUNT).log()


def _sum_of_others(values: torch.Tensor, runs: Runs) -> torch.Tensor:
    """For each neuron, the sum over the others of its population; same shape as `values` (n, …)."""
    return _by_population(lambda members: members.sum(dim=1, keepdim=True) - members, values, runs)


def _correlations(counts: torch.Tensor, runs: Runs) -> torch.Tensor:
    """Correlation of each neuron's counts (n, bins) with the summed others, and the distribution of those with each.

    Shape (n, 7): with the sum; quantiles of the pairwise correlations; and their mean absolute value. Scaled by 5.
    """

    def of_members(members: torch.Tensor) -> torch.Tensor:
        count, size, _ = members.shape
        if size == 1:
            return members.new_zeros(count, 1, 2 + len(QUANTILES))
        units, sums = _unit_length(members), _unit_length(members.sum(dim=1, keepdim=True) - members)
        pairs = units @ units.transpose(1, 2)
        pairs.diagonal(dim1=1, dim2=2).fill_(torch.inf)
        ranked = pairs.sort(dim=-1).values[..., :-1]
        at = [min(int(q * (size - 1)), size - 2) for q in QUANTILES]
        coupling = (units * sums).sum(dim=-1, keepdim=True)
        return torch.cat([coupling, ranked[..., at], ranked.abs().mean(dim=-1, keepdim=True)], dim=-1)

    return _CORRELATION_SCALE * _by_population(of_members, counts, runs)


def _by_population(function, values: torch.Tensor, runs: Runs) -> torch.Tensor:
    """Apply a function of populations of equal size, (count, size, …), to values (n, …) of all neurons."""
    parts = values.split([count * size for count, size in runs])
    parts = [function(part.unflatten(0, run)).flatten(0, 1) for part, run in zip(parts, runs, strict=True)]
    return torch.cat(parts)


def _unit_length(counts: torch.Tensor) -> torch.Tensor:
    """Counts minus their mean, divided by their length; 0 for constant counts."""
    centred = counts - counts.mean(dim=-1, keepdim=True)
    return centred / centred.norm(dim=-1, keepdim=True).clamp(min=1e-6)
