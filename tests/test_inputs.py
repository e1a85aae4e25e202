"""Inputs of the encoder's first layer, compared with plain loops over neurons, patches and lags."""

import itertools

import numpy as np
import pytest
import torch

from spikeinterface_nuclr import CheckpointError, Encoder, EncoderConfig
from spikeinterface_nuclr.model.config import Correlograms
from spikeinterface_nuclr.model.encoder import _PADDING
from spikeinterface_nuclr.model.groups import grouped
from spikeinterface_nuclr.model.inputs import QUANTILES, autocorrelograms, correlograms, input_of

SIZES = [6, 6, 1, 4]
PATCH, PATCHES = 120, 3


@pytest.fixture
def counts():
    """Spike counts of four populations with common input."""
    rng = np.random.default_rng(0)
    rows = [rng.poisson(0.1 * rng.gamma(1, 1, (1, PATCHES, PATCH)), (size, PATCHES, PATCH)) for size in SIZES]
    counts = np.concatenate(rows).astype(np.float32)
    counts[:, 0, 0] += 1  # none is silent
    return counts


def parts_of(values: np.ndarray, bins: Correlograms) -> dict[str, np.ndarray]:
    """The named parts of the last axis."""
    own, cross = len(bins.lags), 2 * len(bins.coarse_lags) - 1
    widths = {"counts": bins.patch_size // bins.coarse, "own": own, "ratio own": own}
    widths |= {"ratio cross": cross, "correlations": 7 * len(bins.widths), "numbers": 3}
    edges = np.cumsum([0, *widths.values()])
    assert edges[-1] == values.shape[-1] == bins.width
    return {name: values[..., a:b] for name, a, b in zip(widths, edges, edges[1:], strict=False)}


def pairs_at_lags(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Products of counts (patches, P) at each lag of b behind a from 0, summed over patches."""
    return np.array([(a[:, : PATCH - lag] * b[:, lag:]).sum() for lag in range(PATCH)])


def summed(values: np.ndarray, edges: list[int]) -> np.ndarray:
    return np.array([values[a:b].sum() for a, b in itertools.pairwise(edges)])


@pytest.mark.parametrize("padding", [1.0, 10.0])
def test_correlograms_are_those_of_plain_loops(counts, padding):
    bins = Correlograms(PATCH)
    groups = grouped(SIZES, torch.device("cpu"), padding)
    assert [group.is_even for group in groups] == ([True] * 3 if padding == 1 else [False])
    parts = parts_of(correlograms(torch.from_numpy(counts), groups, bins).numpy(), bins)
    spare = np.arange(PATCH, 0, -1) * PATCHES  # pairs of bins at each lag
    fine, coarse, first = bins.lags, bins.coarse_lags, 0
    for size in SIZES:
        members = counts[first : first + size].astype(float)
        for unit, own in enumerate(members):
            row = {name: values[first + unit] for name, values in parts.items()}
            others = members.sum(axis=0) - own
            np.testing.assert_allclose(row["counts"], np.log1p(own), atol=1e-6)
            pairs = pairs_at_lags(own, own)
            pairs = np.r_[(own * (own - 1)).sum(), summed(pairs, fine)]
            np.testing.assert_allclose(row["own"], np.tile(np.log1p(pairs), (PATCHES, 1)), atol=1e-5)
            rate, others_rate = own.mean(), others.mean()
            expected = np.log((pairs + 0.5) / (rate**2 * np.r_[spare[0], summed(spare, fine)] + 0.5))
            np.testing.assert_allclose(row["ratio own"][0], expected, atol=1e-4)
            later, earlier = pairs_at_lags(own, others), pairs_at_lags(others, own)
            pairs = np.r_[later[0], summed(later, coarse), summed(earlier, coarse)]
            poisson = rate * others_rate * np.r_[spare[0], summed(spare, coarse), summed(spare, coarse)]
            np.testing.assert_allclose(row["ratio cross"][2], np.log((pairs + 0.5) / (poisson + 0.5)), atol=1e-4)
            mean_of_others = others.sum() / max(size - 1, 1)
            expected = np.log([1 + own.sum(), 1 + mean_of_others, size]) - 3
            np.testing.assert_allclose(row["numbers"][0], expected, atol=1e-5)
            np.testing.assert_allclose(row["correlations"][1], correlations_of(members, unit, bins), atol=1e-4)
        first += size


def correlations_of(members: np.ndarray, unit: int, bins: Correlograms) -> np.ndarray:
    if len(members) == 1:
        return np.zeros(7 * len(bins.widths))
    values = []
    for width in bins.widths:
        whole = members[..., : PATCH // width * width]
        binned = whole.reshape(*whole.shape[:2], -1, width).sum(axis=-1).reshape(len(members), -1)
        others = np.delete(binned, unit, axis=0)
        pairs = np.sort([np.corrcoef(binned[unit], other)[0, 1] for other in others])
        at = [min(int(q * len(pairs)), len(pairs) - 1) for q in QUANTILES]
        values += [np.corrcoef(binned[unit], others.sum(axis=0))[0, 1], *pairs[at], np.abs(pairs).mean()]
    return 5 * np.array(values)


@pytest.mark.parametrize("patch_size", [1, 2, 7, 50, 101, 400])
def test_every_patch_size_has_its_bins(patch_size):
    bins = Correlograms(patch_size)
    shown = correlograms(torch.ones(5, 2, patch_size), grouped([5], torch.device("cpu"), 1.0), bins)
    assert shown.shape == (5, 2, bins.width)
    assert torch.isfinite(shown).all()
    assert bins.lags[0] == 1
    assert bins.lags[-1] == patch_size


def test_bins_of_the_documented_layout():
    bins = Correlograms(400)  # 2 s of 5 ms
    assert (bins.coarse, bins.widths) == (4, [1, 5, 25, 125])
    assert bins.lags[:5] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("padding", [1.0, 10.0])
def test_the_order_of_neurons_and_the_batch_do_not_matter(counts, padding, monkeypatch):
    monkeypatch.setitem(_PADDING, "cpu", padding)
    torch.manual_seed(0)
    config = EncoderConfig(
        patch_size=PATCH, num_patches=PATCHES, input_scale="correlograms", dim=32, heads=2, head_dim=16
    )
    encoder, patches = Encoder(config).eval(), torch.from_numpy(counts)
    with torch.inference_mode():
        together = encoder(patches, SIZES)
        for part, alone in zip(patches.split(SIZES), together.split(SIZES), strict=True):
            order = torch.randperm(len(part))
            assert torch.allclose(encoder(part[order], [len(part)]), alone[order], atol=1e-5)


def test_silent_neurons_give_finite_inputs(counts):
    counts[[0, 12]] = 0
    for scale in ("counts", "log1p", "log1p+acg", "correlograms"):
        config = EncoderConfig(patch_size=PATCH, num_patches=PATCHES, input_scale=scale)
        shown = input_of(config)(torch.from_numpy(counts), grouped(SIZES, torch.device("cpu"), 1.0))
        assert shown.shape == (len(counts), PATCHES, config.input_width)
        assert torch.isfinite(shown).all()


@pytest.mark.parametrize("scale", ["log1p+acg", "correlograms"])
def test_pairs_of_spikes_are_not_for_traces(scale):
    with pytest.raises(CheckpointError, match=r"counts pairs of spikes: not for traces"):
        EncoderConfig(signal="traces", input_scale=scale)


def test_the_autocorrelogram_counts_pairs_of_spikes():
    rng = np.random.default_rng(0)
    counts = torch.from_numpy(rng.poisson(2.0, (4, 50))).float()
    pairs = autocorrelograms(counts)
    expected = [[(row[: 50 - lag] * row[lag:]).sum() for lag in range(50)] for row in counts]
    assert torch.equal(pairs, torch.tensor(expected))
    # It does not depend on the position in the patch.
    moved = torch.nn.functional.pad(counts, (7, 3))
    assert torch.equal(autocorrelograms(moved)[..., :50], pairs)
