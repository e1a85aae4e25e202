"""Populations of a batch in groups, padded and back, and losses of samples that share a group."""

import numpy as np
import pytest
import torch

from spikeinterface_nuclr import ContrastiveLoss, VICRegLoss
from spikeinterface_nuclr.model.groups import grouped, padded_by
from spikeinterface_nuclr.training import losses

CPU = torch.device("cpu")


def sizes_of(groups):
    return [group.sizes.tolist() for group in groups]


def test_groups_hold_as_many_populations_as_the_padding_allows():
    assert sizes_of(grouped([3, 3, 5, 5, 0, 5, 3], CPU, 1.0)) == [[3, 3], [5, 5, 5], [3]]
    assert sizes_of(grouped([3, 3, 5, 5, 0, 5, 3], CPU, 2.0)) == [[3, 3, 5, 5, 5, 3]]
    assert sizes_of(grouped([1, 2, 4, 40, 60], CPU, 2.0)) == [[1, 2, 4], [40, 60]]
    assert grouped([0, 0], CPU, 2.0) == []
    for first, second in grouped([[3, 0, 9], [4, 2, 0]], CPU, 3.0):
        assert (first.sizes.tolist(), second.sizes.tolist()) == ([3, 0, 9], [4, 2, 0])


@pytest.mark.parametrize("padding", [1.0, 1.5, 100.0])
@pytest.mark.parametrize("dim", [0, 1])
def test_padded_populations_come_back(padding, dim):
    sizes = [4, 4, 1, 9, 2, 7]
    values = torch.randn(2, 27, 3).transpose(0, 1 - dim)
    groups = grouped(sizes, CPU, padding)
    back = []
    for group, padded in zip(groups, padded_by(groups, values, dim), strict=True):
        assert padded.shape[dim : dim + 2] == group.shape
        assert group.is_even == (len(set(group.sizes)) == 1)
        assert padded.movedim((dim, dim + 1), (0, 1))[~group.is_neuron].eq(0).all()
        back.append(group.flat(padded, dim))
    assert torch.equal(torch.cat(back, dim), values)


@pytest.mark.parametrize(
    "loss",
    [
        VICRegLoss(8),
        *(ContrastiveLoss(8, 0.1, form, scope) for form in losses.FORMS for scope in losses.TEMPERATURE_SCOPES),
    ],
)
def test_a_loss_does_not_depend_on_how_samples_are_grouped(loss, monkeypatch):
    rng = np.random.default_rng(0)
    sizes = np.array([[5, 12, 3, 30], [7, 9, 30, 4]])
    units = [torch.from_numpy(np.concatenate([rng.permutation(40)[:n] for n in view])) for view in sizes]
    views = [torch.randn(len(names), 8, generator=torch.Generator().manual_seed(1)) for names in units]
    values, gradients = [], []
    for padding in (1.0, 100.0):
        monkeypatch.setattr(losses, "_PADDING", padding)
        inputs = [view.clone().requires_grad_() for view in views]
        value = sum(loss(*inputs, *sizes, *units).values())
        gradients.append(torch.cat(torch.autograd.grad(value, inputs)))
        values.append(value.item())
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    assert torch.allclose(*gradients, atol=1e-6)
    assert gradients[0].isfinite().all()


def test_samples_that_share_no_neuron_have_no_loss():
    names = torch.arange(4)
    parts = ContrastiveLoss(8)(torch.randn(4, 8), torch.randn(4, 8), [4, 0], [2, 2], names, names + 4)
    assert sum(parts.values()) == 0
