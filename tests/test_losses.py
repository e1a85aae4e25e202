from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from spikeinterface_nuclr import ContrastiveLoss, VICRegLoss

DATA = Path(__file__).parent / "data"


def run(loss, data):
    loss.load_state_dict({k.removeprefix("state."): v for k, v in data.items() if k.startswith("state.")})
    x1, x2 = data["x1"].clone().requires_grad_(), data["x2"].clone().requires_grad_()
    sizes = data["units_per_sample_1"], data["units_per_sample_2"]
    value = sum(loss(x1, x2, *sizes, data["unit_id_1"], data["unit_id_2"]).values())
    value.backward()
    return value, x1.grad, x2.grad


@pytest.mark.parametrize("form", ["dcl_full", "dcl", "infonce"])
def test_contrastive_loss_and_gradients_reproduce_the_reference(form):
    data = load_file(DATA / "contrastive_loss.safetensors")
    value, grad_1, grad_2 = run(ContrastiveLoss(64, 0.2, form), data)
    assert abs(value - data[f"{form}.loss"]) < 1e-5
    assert (grad_1 - data[f"{form}.grad_x1"]).abs().max() < 1e-5
    assert (grad_2 - data[f"{form}.grad_x2"]).abs().max() < 1e-5


def test_vicreg_loss_and_gradients_reproduce_the_reference():
    data = load_file(DATA / "vicreg_loss.safetensors")
    value, grad_1, grad_2 = run(VICRegLoss(64), data)
    assert abs(value - data["loss"]) < 1e-5
    assert (grad_1 - data["grad_x1"]).abs().max() < 1e-5
    assert (grad_2 - data["grad_x2"]).abs().max() < 1e-5


def test_dividing_all_similarities_changes_the_gradient_of_the_full_form_only():
    data = load_file(DATA / "contrastive_loss.safetensors")
    for form, differs in (("dcl_full", True), ("dcl", False), ("infonce", False)):
        _, cross, _ = run(ContrastiveLoss(64, 0.2, form, "cross-view"), data)
        _, every, _ = run(ContrastiveLoss(64, 0.2, form, "all"), data)
        assert ((cross - every).abs().max() > 1e-5) == differs


def test_dividing_all_equals_a_direct_computation():
    """One sample, written out pair by pair."""
    torch.manual_seed(0)
    loss = ContrastiveLoss(8, 0.1, "dcl_full", "all")
    x1, x2 = torch.randn(4, 8), torch.randn(3, 8)
    units_1, units_2 = torch.tensor([5, 1, 7, 2]), torch.tensor([1, 9, 5])
    p1, p2 = (torch.nn.functional.normalize(loss.projector(x), dim=-1).tolist() for x in (x1, x2))

    def similarity(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True)) / 0.1

    def repulsion(row, own, other, match):
        negatives = [similarity(own[row], q) for k, q in enumerate(other) if k != match]
        negatives += [similarity(own[row], q) for k, q in enumerate(own) if k != row]
        return float(sum(torch.tensor(negatives).exp()).log())

    terms = []
    for i, j in ((0, 2), (1, 0)):
        terms.append(-similarity(p1[i], p2[j]) + (repulsion(i, p1, p2, j) + repulsion(j, p2, p1, i)) / 2)
    expected = sum(terms) / 2
    parts = loss(x1, x2, [4], [3], units_1, units_2)
    assert list(parts) == ["alignment", "repulsion"]
    assert sum(parts.values()).item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("loss", [ContrastiveLoss(64, 0.05, temperature_scope="all"), VICRegLoss(64)])
def test_the_loss_is_float32_under_autocast(loss):
    data = load_file(DATA / "contrastive_loss.safetensors")
    names = ("units_per_sample_1", "units_per_sample_2", "unit_id_1", "unit_id_2")
    loss.projector = torch.nn.Identity()  # whose own precision is not the matter here
    arguments = [data["x1"], data["x2"], *(data[name] for name in names)]
    plain = loss(*arguments)
    with torch.autocast("cpu", torch.bfloat16):
        cast = loss(*arguments)
    for name, part in plain.items():
        assert cast[name].dtype == torch.float32
        assert torch.equal(cast[name], part)


def test_samples_never_meet():
    torch.manual_seed(0)
    loss = ContrastiveLoss(8)
    x1, x2, units = torch.randn(6, 8), torch.randn(6, 8), torch.tensor([0, 1, 2, 0, 1, 2])
    both = sum(loss(x1, x2, [3, 3], [3, 3], units, units).values())
    apart = [loss(x1[part], x2[part], [3], [3], units[part], units[part]) for part in (slice(0, 3), slice(3, 6))]
    assert both.item() == pytest.approx(sum(sum(parts.values()).item() for parts in apart) / 2, abs=1e-5)


@pytest.mark.parametrize("options", [dict(form="simclr"), dict(temperature_scope="none")])
def test_unknown_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ContrastiveLoss(8, **options)
