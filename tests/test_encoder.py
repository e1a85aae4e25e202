"""The network computes what the published implementations compute, and keeps populations apart."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from spikeinterface_nuclr import CheckpointError, Encoder, EncoderConfig, Population, embed, read_population
from spikeinterface_nuclr.model.checkpoint import Checkpoint
from spikeinterface_nuclr.model.encoder import _PADDING, dropout, network_of
from spikeinterface_nuclr.model.public_weights import _weights

DATA = Path(__file__).parent / "data"


def parity(name):
    with safe_open(DATA / name, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = {key: json.loads(value) for key, value in (file.metadata() or {}).items() if key == "config"}
    return tensors, metadata.get("config")


def reference_checkpoint(name, **layout):
    tensors, settings = parity(name)
    config = EncoderConfig(dim=settings["dim"], heads=settings["heads"], head_dim=settings["dim_head"], **layout)
    state = {key.removeprefix("state."): value for key, value in tensors.items() if key.startswith("state.")}
    return Checkpoint(config, _weights(state, config, spatial_first=False)), tensors, settings


def test_binned_encoder_reproduces_the_reference():
    checkpoint, expected, _ = reference_checkpoint("binned_encoder.safetensors")
    with torch.no_grad():
        embedding = checkpoint.encoder()(expected["patches"], expected["units_per_window"])
    assert (embedding - expected["embedding"]).abs().max() < 1e-5


def test_binned_encoder_reproduces_the_reference_from_spike_times():
    """Through the public path: spike times -> Population -> windows -> embed."""
    checkpoint, expected, _ = reference_checkpoint("binned_encoder.safetensors")
    units = np.unique(expected["spike_unit"].numpy())
    first = 0
    for window, size in enumerate(expected["units_per_window"].tolist()):
        inside = expected["spike_window"] == window
        times = [np.sort(expected["spike_time"][inside & (expected["spike_unit"] == u)].numpy()) for u in units]
        found = embed(Population(units, times, observed=[[0.0, 10.0]]), checkpoint, precision="float32", progress=False)
        active = expected["active_unit"][first : first + size].numpy()
        assert units[found.num_windows > 0].tolist() == sorted(active.tolist())
        rows = found.embedding[np.searchsorted(units, active)]
        assert np.abs(rows - expected["embedding"][first : first + size].numpy()).max() < 1e-5
        first += size


def calcium_checkpoint():
    _, settings = parity("calcium_encoder.safetensors")
    layout = dict(
        bin_s=1 / settings["sampling_hz"],
        patch_size=settings["patch_samples"],
        num_patches=settings["num_patches"],
        signal="traces",
    )
    checkpoint, expected, settings = reference_checkpoint("calcium_encoder.safetensors", **layout)
    return checkpoint, expected, settings["sampling_hz"]


def test_calcium_encoder_reproduces_the_reference():
    checkpoint, expected, _ = calcium_checkpoint()
    with torch.no_grad():
        embedding = checkpoint.encoder()(expected["patches"], expected["units_per_window"])
    assert (embedding - expected["embedding"]).abs().max() < 1e-5


def test_calcium_encoder_reproduces_the_reference_from_traces():
    """Through the public path: an array of traces -> Population -> windows -> embed."""
    checkpoint, expected, rate = calcium_checkpoint()
    first = 0
    for size in expected["units_per_window"].tolist():
        traces = expected["patches"][first : first + size].flatten(1).numpy()
        population = read_population(traces, sampling_frequency=rate, traces="preprocessed")
        found = embed(population, checkpoint, precision="float32", progress=False)
        assert np.abs(found.embedding - expected["embedding"][first : first + size].numpy()).max() < 1e-5
        first += size


def test_published_size():
    with torch.device("meta"):
        assert sum(p.numel() for p in Encoder(EncoderConfig()).parameters()) == 6_330_624
        larger = EncoderConfig(num_patches=20, spatiotemporal_blocks=4)
        assert sum(p.numel() for p in Encoder(larger).parameters()) == 10_542_336


@pytest.fixture
def encoder():
    torch.manual_seed(1)
    return Encoder(EncoderConfig(dim=32, heads=2, head_dim=16)).double().eval()


@pytest.fixture
def patches():
    return torch.poisson(torch.full((12, 10, 50), 0.3, dtype=torch.float64), torch.Generator().manual_seed(2))


@torch.no_grad()
def test_shuffled_units_give_shuffled_embeddings(encoder, patches):
    order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    assert (encoder(patches, [12])[order] - encoder(patches[order], [12])).abs().max() < 1e-12


@torch.no_grad()
@pytest.mark.parametrize("padding", [1.0, 2.0, 10.0])
@pytest.mark.parametrize("sizes", [[7, 5], [5, 7], [6, 6], [4, 4, 4], [3, 1, 8], [7, 0, 5]])
def test_populations_of_a_batch_never_meet(encoder, patches, sizes, padding, monkeypatch):
    monkeypatch.setitem(_PADDING, "cpu", padding)
    together = encoder(patches, sizes).split(sizes)
    alone = [encoder(part, [len(part)]) for part in patches.split(sizes) if len(part)]
    for a, b in zip((t for t in together if len(t)), alone, strict=True):
        assert (a - b).abs().max() < 1e-12


def test_nobody_there_gives_nothing(encoder):
    assert encoder(torch.zeros(0, 10, 50), [0, 0]).shape == (0, 32)


@torch.no_grad()
def test_a_further_neuron_changes_its_population(encoder, patches):
    with_it, without = encoder(patches, [12])[:11], encoder(patches[:11], [11])
    assert ((with_it - without).abs().amax(dim=1) > 1e-6).all()


@torch.no_grad()
def test_position_of_a_patch_matters(encoder, patches):
    assert (encoder(patches, [12]) - encoder(patches.flip(1), [12])).abs().max() > 1e-6


@torch.no_grad()
def test_casting_to_bfloat16_keeps_the_rotation(encoder, patches):
    full = encoder(patches, [12])
    half = encoder.bfloat16()(patches, [12]).double()
    assert torch.cosine_similarity(full, half).min() > 0.999


@pytest.mark.parametrize(("shape", "sizes"), [((12, 10, 49), [12]), ((12, 9, 50), [12]), ((12, 10, 50), [5, 5])])
def test_shapes_that_do_not_fit_are_refused(encoder, shape, sizes):
    with pytest.raises(ValueError, match=r"patches have shape|sizes sum to"):
        encoder(torch.zeros(shape), sizes)


def test_log_scaled_counts_differ_from_counts(patches):
    torch.manual_seed(0)
    counts = Encoder(EncoderConfig(dim=32, heads=2, head_dim=16)).eval()
    log = Encoder(EncoderConfig(dim=32, heads=2, head_dim=16, input_scale="log1p")).eval()
    log.load_state_dict(counts.state_dict())
    with torch.no_grad():
        assert torch.allclose(log(patches, [12]), counts(torch.log1p(patches), [12]), atol=1e-6)


def test_dropout_on_the_processor_keeps_the_mean_and_the_share():
    torch.manual_seed(0)
    x = torch.ones(1000, 999)
    dropped = dropout(x, 0.2, training=True)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.2, abs=0.002)
    assert dropped.mean().item() == pytest.approx(1, abs=0.002)
    assert torch.equal(dropout(x, 0.2, training=False), x)
    assert torch.equal(dropout(x, 0.0, training=True), x)
    assert not dropout(x, 1.0, training=True).any()


def test_biases_without_an_effect_have_no_gradient(encoder, patches):
    encoder(patches, [7, 5]).sum().backward()
    block = encoder.spatiotemporal_blocks[0]
    _, spatial, _ = block.spatial.to_qkv.bias.grad.view(3, 2, 16)
    _, temporal, _ = block.temporal.to_qkv.bias.grad.view(3, 2, 16)
    assert not spatial.any()
    # Four pairs turn, the first of them by whole turns.
    assert (temporal != 0).any(0).nonzero().flatten().tolist() == [1, 2, 3, 5, 6, 7]


def test_gradients_are_those_of_fused_attention(encoder, patches):
    """What is computed for the way back equals what is computed without one."""
    with torch.no_grad():
        fused = encoder(patches, [7, 5])
    assert torch.allclose(encoder(patches, [7, 5]), fused, atol=1e-5)


@pytest.mark.parametrize(
    "bad", [dict(dim=0), dict(signal="voltage"), dict(input_scale="sqrt"), dict(heads=2.5), dict(bin_s=-1.0)]
)
def test_bad_configs_are_refused(bad):
    with pytest.raises(CheckpointError, match=next(iter(bad))):
        EncoderConfig(**bad)


@pytest.mark.gpu
def test_gpu_agrees_with_the_processor(checkpoint, population):
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    on_cpu = embed(population, checkpoint, device="cpu", precision="float32", progress=False)
    for precision, cosine in (("float32", 0.99999), ("bfloat16", 0.999)):
        on_gpu = embed(population, checkpoint, device="cuda", precision=precision, progress=False)
        a, b = torch.from_numpy(on_cpu.embedding), torch.from_numpy(on_gpu.embedding)
        assert torch.cosine_similarity(a, b).min() > cosine
        assert on_gpu.provenance.device.startswith("cuda")


@pytest.mark.gpu
def test_padded_populations_on_a_gpu_agree_with_the_processor(encoder, patches):
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    found = []
    for device, dtype in (("cpu", torch.float64), ("cuda", torch.float64), ("cuda", torch.float32)):
        x = patches.to(device, dtype).requires_grad_()
        embedding = encoder.to(device, dtype)(x, [3, 1, 5, 3])
        (gradient,) = torch.autograd.grad(embedding.square().sum(), x)
        found.append([embedding.detach().cpu().double(), gradient.cpu().double()])
    for exact, double, single in zip(*found, strict=True):
        assert (double - exact).abs().max() < 1e-9
        assert (single - exact).abs().max() < 1e-3


@pytest.mark.gpu
def test_attention_on_a_gpu_is_not_planned_for_each_size(checkpoint):
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    encoder = network_of(checkpoint.config).to("cuda", torch.bfloat16)
    sizes = list(range(11, 40))
    patches = torch.ones(sum(sizes), checkpoint.config.num_patches, checkpoint.config.patch_size, device="cuda")
    with torch.profiler.profile() as profile:
        encoder(patches, sizes).sum().backward()
    kinds = {event.name for event in profile.events() if "scaled_dot_product" in event.name}
    assert kinds
    assert not any("cudnn" in kind for kind in kinds)
