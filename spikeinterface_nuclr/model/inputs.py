"""Inputs of the encoder's first layer, computed from the activity in a window."""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

from .config import Correlograms, EncoderConfig
from .groups import Group, padded_by

# Added to observed and expected numbers of coincidences before their ratio is taken.
_PSEUDOCOUNT = 0.5
# Correlations are small; this brings them to the scale of the other inputs.
_CORRELATION_SCALE = 5.0
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def input_of(config: EncoderConfig) -> Callable[[torch.Tensor, list[Group]], torch.Tensor]:
    """The function that computes the input of the first layer, (n, L, width), from patches (n, L, P).

    Its second argument are the populations, as from `grouped`.
    """
    functions = {
        "counts": lambda patches, groups: patches,
        "log1p": lambda patches, groups: patches.log1p(),
        "log1p+acg": lambda patches, groups: torch.cat([patches, autocorrelograms(patches)], dim=-1).log1p(),
        "correlograms": lambda patches, groups: correlograms(patches, groups, config.correlograms),
    }
    return functions[config.input_scale]


def autocorrelograms(patches: torch.Tensor) -> torch.Tensor:
    """Number of pairs of spikes at each lag of 0 … P − 1 bins, from integer counts of shape (…, P)."""
    length = 2 * patches.shape[-1]
    pairs = torch.fft.irfft(_power(torch.fft.rfft(patches, n=length)), n=length)[..., : length // 2]
    # Rounded to integers, because the rounding errors of the transform differ between devices.
    return pairs.round().clamp(min=0)


def correlograms(patches: torch.Tensor, groups: list[Group], bins: Correlograms) -> torch.Tensor:
    """Counts, and how a neuron's spikes relate to its own and to those of the others of its population.

    Lags do not cross from one patch into the next, because a window may be stitched from separate intervals.

    Parameters
    ----------
    patches : Tensor, shape (n, L, P)
        Spike counts.
    groups : list of Group
    bins : Correlograms

    Returns
    -------
    Tensor, shape (n, L, bins.width)
        For each patch, log(1 + count) in coarse bins. For the window, the same in all patches: the autocorrelogram as
        log(1 + pairs), and relative to a Poisson neuron; the cross-correlogram with the summed others relative to
        independent Poisson neurons (both logarithms of ratios); population coupling and pairwise correlations at
        several bin widths; and the logarithms of numbers of spikes and neurons.
    """
    length, patch_size = patches.shape[1:]
    fine, coarse = torch.tensor(bins.lags), torch.tensor(bins.coarse_lags)
    own, cross = _pairs_in_window(patches, groups)
    spikes = patches.sum(dim=(1, 2))
    own = torch.cat([own[:, :1] - spikes[:, None], _summed(own, fine)], dim=1)  # without pairs of a spike with itself
    later, earlier = cross[:, :patch_size], torch.cat([cross[:, :1], cross[:, patch_size + 1 :].flip(1)], dim=1)
    cross = torch.cat([later[:, :1], _summed(later, coarse), _summed(earlier, coarse)], dim=1)

    # Expected numbers of pairs of two neurons with one spike per bin each.
    overlap = length * (patch_size - torch.arange(patch_size, device=patches.device, dtype=patches.dtype))
    overlap_own = torch.cat([overlap[:1], _summed(overlap, fine)])
    overlap_cross = torch.cat([overlap[:1], *2 * [_summed(overlap, coarse)]])
    spikes_of_others = _by_population(lambda members, group: members.sum(1, keepdim=True) - members, spikes, groups)
    rate, rate_of_others = (number[:, None] / (length * patch_size) for number in (spikes, spikes_of_others))
    size = _by_population(
        lambda members, group: members + group.size_of_each[:, None], torch.zeros_like(spikes), groups
    )
    numbers = [spikes.log1p(), (spikes_of_others / (size - 1).clamp(min=1)).log1p(), size.log()]
    correlations, binned, width = [], patches, 1
    for wider in bins.widths:
        binned, width = _rebinned(binned, wider // width), wider
        correlations.append(_correlations(binned.flatten(1), groups))
    window = [
        own.log1p(),
        _log_ratio(own, rate**2 * overlap_own),
        _log_ratio(cross, rate * rate_of_others * overlap_cross),
        *correlations,
        torch.stack(numbers, dim=1) - 3,
    ]
    window = torch.cat(window, dim=1)[:, None].expand(-1, length, -1)
    return torch.cat([_rebinned(patches, bins.coarse).log1p(), window], dim=-1)


def _pairs_in_window(patches: torch.Tensor, groups: list[Group]) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers of pairs of spikes, summed over patches: with the neuron itself, and with the others of its population.

    Shapes (n, P), at lags from 0, and (n, 2 P), at lags of the others from 0, after P at negative lags.
    """
    length = 2 * patches.shape[-1]
    spectrum = torch.fft.rfft(patches, n=length)
    power = _power(spectrum).sum(dim=1)
    # Transforms are linear, so that the others' is the total minus the neuron's.
    product = _by_population(
        lambda members, group: (members.conj() * members.sum(dim=1, keepdim=True)).sum(2), spectrum, groups
    )
    own, cross = torch.fft.irfft(power, n=length), torch.fft.irfft(product - power, n=length)
    return own[:, : length // 2].round().clamp(min=0), cross.clamp(min=0)


def _power(spectrum: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(spectrum).square().sum(dim=-1)


def _summed(values: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
    """Sums of values (…, P) between successive edges: shape (…, len(edges) - 1)."""
    total = F.pad(values.cumsum(dim=-1), (1, 0))[..., edges.to(values.device)]
    return total.diff(dim=-1)


def _rebinned(patches: torch.Tensor, width: int) -> torch.Tensor:
    """Counts in bins that are `width` times as long, without an incomplete last bin."""
    number = patches.shape[-1] // width
    return patches if width == 1 else patches[..., : number * width].unflatten(-1, (number, width)).sum(dim=-1)


def _log_ratio(observed: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    return (observed + _PSEUDOCOUNT).log() - (expected + _PSEUDOCOUNT).log()


def _correlations(counts: torch.Tensor, groups: list[Group]) -> torch.Tensor:
    """Correlation of each neuron's counts (n, bins) with the summed others, and the distribution of those with each.

    Shape (n, 7): with the sum; quantiles of the pairwise correlations; and their mean absolute value. Scaled by 5.
    """
    return _CORRELATION_SCALE * _by_population(_correlations_of, counts, groups)


def _correlations_of(members: torch.Tensor, group: Group) -> torch.Tensor:
    """`_correlations` without the scale, of padded populations (k, largest, bins)."""
    (count, largest), length = group.shape, members.shape[-1]
    if largest == 1:
        return members.new_zeros(count, 1, 2 + len(QUANTILES))
    products, sums = members @ members.transpose(1, 2), members.sum(dim=-1)
    covariance = products - sums[:, :, None] * sums[:, None] / length
    deviation = _deviation(covariance.diagonal(dim1=1, dim2=2), products.diagonal(dim1=1, dim2=2))
    deviation_of_others = _deviation(_sums_of_others(covariance), _sums_of_others(products))
    with_others = covariance.sum(dim=2) - covariance.diagonal(dim1=1, dim2=2)
    coupling = with_others / (deviation * deviation_of_others)
    pairs = covariance / (deviation[:, :, None] * deviation[:, None])
    pairs.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    if not group.is_even:
        pairs = pairs.masked_fill(~group.is_neuron[:, None], torch.inf)
    others = (group.size_of_each - 1)[:, None]
    # Of those with the others, in ascending order; behind them are those with itself and with nobody.
    ranked = pairs.sort(dim=-1).values[..., :-1]
    at = np.outer(group.sizes - 1, QUANTILES).astype(np.int64)
    at = np.minimum(at, np.maximum(group.sizes - 2, 0)[:, None])
    quantiles = ranked.gather(-1, torch.from_numpy(at).to(ranked.device)[:, None].expand(count, largest, -1))
    with_other = torch.arange(largest - 1, device=members.device) < others
    size_of_pairs = torch.where(with_other[:, None], ranked.abs(), 0).sum(dim=-1) / others.clamp(min=1)
    found = torch.cat([coupling[..., None], quantiles, size_of_pairs[..., None]], dim=-1)
    return torch.where(others[..., None] > 0, found, 0)


def _sums_of_others(products: torch.Tensor) -> torch.Tensor:
    """Square of the sum of all but one, for each of the neurons whose products are (count, size, size)."""
    with_all = products.sum(dim=2)
    return with_all.sum(dim=1, keepdim=True) - 2 * with_all + products.diagonal(dim1=1, dim2=2)


def _deviation(variance: torch.Tensor, square: torch.Tensor) -> torch.Tensor:
    """Root of the variance; infinite for constant counts, whose variance is a rounding error of their square."""
    return torch.where(variance > 1e-5 * square, variance, torch.inf).sqrt()


def _by_population(function, values: torch.Tensor, groups: list[Group]) -> torch.Tensor:
    """Apply a function of padded populations (k, largest, …) and their group to values (n, …) of all neurons."""
    parts = zip(padded_by(groups, values), groups, strict=True)
    return torch.cat([group.flat(function(part, group)) for part, group in parts])
