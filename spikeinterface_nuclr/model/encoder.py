"""Encoder: the network that maps a window of a population's activity to one embedding per neuron; and ensembles."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from . import device as _device  # noqa: F401 (limits torch's threads after a fork)
from .config import EncoderConfig
from .groups import Group, grouped, padded_by
from .inputs import input_of

# Rows that a feed-forward layer computes at once. On a CPU the widened rows should fit into its cache.
_ROWS = {"cpu": 2048}
# Places for neurons, relative to their number, in populations that are padded to share a call. A CPU waits for the
# arithmetic, a GPU for its next task.
_PADDING = {"cpu": 1.0, "cuda": 2.0}
# On recent GPUs torch prefers cuDNN's attention, which plans every new size and stride for tens of milliseconds. The
# sizes of populations change from window to window.
_WITHOUT_PLANS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


class Encoder(nn.Module):
    """NuCLR's spatiotemporal transformer (Arora et al. 2025, arXiv 2512.01199).

    The residual stream has the shape (patch, neuron, dim), which both kinds of attention can read without a copy.
    Attention among neurons is computed once for each `Group` of populations, on a CPU without padding.

    Parameters
    ----------
    config : EncoderConfig
        Of one member.

    Examples
    --------
    >>> import torch
    >>> from spikeinterface_nuclr import Encoder, EncoderConfig
    >>> encoder = Encoder(EncoderConfig(dim=32, heads=2, head_dim=16)).eval()
    >>> encoder(torch.ones(5, 10, 50), torch.tensor([3, 2])).shape
    torch.Size([5, 32])
    """

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config = config
        self._compute_input = input_of(config)
        self.read_in = nn.Linear(config.input_width, config.dim)
        self.temporal_blocks = nn.ModuleList(TemporalBlock(config) for _ in range(config.temporal_blocks))
        self.spatiotemporal_blocks = nn.ModuleList(
            SpatiotemporalBlock(config) for _ in range(config.spatiotemporal_blocks)
        )
        # Not a buffer, because casting the module to bfloat16 would round the angles, which reach tens of radians.
        self._angles = rotary_angles(config)

    def forward(self, patches: torch.Tensor, sizes) -> torch.Tensor:
        """Embed the neurons of one or more populations.

        Parameters
        ----------
        patches : Tensor, shape (n, L, P)
            Activity of all neurons, one population after another. Cast to the dtype of the weights.
        sizes : sequence of int or int Tensor, shape (k,)
            Number of neurons in each population; sums to n. Neurons attend only to their own population.

        Returns
        -------
        Tensor, shape (n, dim)
        """
        return self.embed_inputs(*self.inputs(patches, sizes))

    def inputs(self, patches: torch.Tensor, sizes) -> tuple[torch.Tensor, list[Group]]:
        """Input of the first layer, (n, L, width), and the populations in groups; arguments as in `forward`."""
        expected = (self.config.num_patches, self.config.patch_size)
        if patches.ndim != 3 or tuple(patches.shape[1:]) != expected:
            raise ValueError(
                f"patches have shape {tuple(patches.shape)}, this encoder takes (n, L, P) = (n, {expected})"
            )
        sizes = [int(s) for s in sizes]
        if sum(sizes) != len(patches) or min(sizes, default=0) < 0:
            raise ValueError(f"sizes sum to {sum(sizes)} for {len(patches)} neurons")
        groups = grouped(sizes, patches.device, _PADDING.get(patches.device.type, _PADDING["cuda"]))
        if not groups:
            return patches.new_zeros((0, self.config.num_patches, self.config.input_width)), groups
        # In float32, because bfloat16 cannot represent all counts above 256.
        with torch.autocast(patches.device.type, enabled=False):
            patches = patches.to(torch.promote_types(self.read_in.weight.dtype, torch.float32))
            return self._compute_input(patches, groups), groups

    def embed_inputs(self, inputs: torch.Tensor, groups: list[Group]) -> torch.Tensor:
        """Embed the neurons from what `inputs` returns."""
        dtype = self.read_in.weight.dtype
        if not groups:
            return inputs.new_zeros((0, self.config.dim), dtype=dtype)
        x = self.read_in(inputs.to(dtype).transpose(0, 1))
        rotation = tuple(t.to(x.device, dtype) for t in (self._angles.cos(), self._angles.sin()))
        for block in self.temporal_blocks:
            x = block(x, rotation)
        for block in self.spatiotemporal_blocks:
            x = block(x, rotation, groups)
        return x.mean(0)


class Ensemble(nn.Module):
    """Several encoders of one architecture, which see the same input; their embeddings are concatenated.

    Parameters
    ----------
    config : EncoderConfig
        With the number of `members`.
    """

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config = config
        self.members = nn.ModuleList(Encoder(replace(config, members=1)) for _ in range(config.members))

    def forward(self, patches: torch.Tensor, sizes) -> torch.Tensor:
        """Like `Encoder.forward`; shape (n, members · dim)."""
        inputs = self.members[0].inputs(patches, sizes)
        return torch.cat([member.embed_inputs(*inputs) for member in self.members], dim=1)


def network_of(config: EncoderConfig) -> nn.Module:
    """An Encoder, or an Ensemble if the config has several members."""
    return Encoder(config) if config.members == 1 else Ensemble(config)


class TemporalBlock(nn.Module):
    """Attention along each neuron's own patches."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.attention = TemporalAttention(config)
        self.feed_forward = FeedForward(config)

    def forward(self, x, rotation):
        return self.feed_forward(self.attention(x, rotation))


class SpatiotemporalBlock(nn.Module):
    """Attention among the neurons of a population within each patch, then along each neuron's own patches."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.spatial = SpatialAttention(config)
        self.spatial_feed_forward = FeedForward(config)
        self.temporal = TemporalAttention(config)
        self.temporal_feed_forward = FeedForward(config)

    def forward(self, x, rotation, groups):
        x = self.spatial_feed_forward(self.spatial(x, groups))
        return self.temporal_feed_forward(self.temporal(x, rotation))


class Attention(nn.Module):
    """Base of both kinds of attention: pre-norm, one linear layer to q, k and v, one linear layer back, residual."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        inner = config.heads * config.head_dim
        self.heads, self.head_dim, self.dropout = config.heads, config.head_dim, config.dropout
        self.norm = nn.LayerNorm(config.dim)
        self.to_qkv = nn.Linear(config.dim, 3 * inner)
        self.to_out = nn.Linear(inner, config.dim)

    def bias(self, rotating) -> torch.Tensor:
        """Biases of q, k and v, shape (3, heads, head_dim); those of keys only where `rotating` (head_dim,) is 1.

        Elsewhere, key biases add a constant to a query's scores, which the softmax cancels. Their gradient is pure
        rounding error, which AdamW would turn into steps.
        """
        q, k, v = self.to_qkv.bias.view(3, self.heads, self.head_dim)
        return torch.stack([q, k * rotating, v])


class TemporalAttention(Attention):
    """Attention along patches, with rotary position embedding of q, k and v, and its inverse on the output.

    A patch's rotation is the same for all neurons, so the weights are rotated instead of the activity, which has many
    more values. Each patch is multiplied by its own rotated weights.
    """

    def forward(self, x, rotation):
        heads = (self.heads, self.head_dim)
        weight = rotate(self.to_qkv.weight.unflatten(0, (3, *heads)), *rotation).flatten(1, 3).transpose(1, 2)
        # The first pair has a period of one patch and is therefore constant.
        pairs = (rotation[0].amin(0) < 1 - 1e-3).to(rotation[0]).repeat(2)
        bias = self.bias(F.pad(pairs, (0, self.head_dim - len(pairs))))
        bias = rotate(bias.unsqueeze(-1), *rotation).view(len(x), 1, -1)
        qkv = torch.baddbmm(bias, self.norm(x), weight).unflatten(-1, (3, *heads))
        q, k, v = qkv.permute(2, 1, 3, 0, 4).flatten(1, 2)  # (n * heads, L, head_dim)
        attended = attend_unfused(q, k, v).unflatten(0, (-1, self.heads)).permute(2, 0, 1, 3).flatten(-2)
        # Rotating back and then applying the weights equals applying the rotated weights.
        weight = rotate(self.to_out.weight.T.unflatten(0, heads), *rotation).flatten(1, 2)
        change = torch.baddbmm(self.to_out.bias, attended, weight)
        return x + dropout(change, self.dropout, self.training)


class SpatialAttention(Attention):
    """Attention among the neurons of one population within one patch, without any order of the neurons."""

    def forward(self, x, groups):
        qkv = F.linear(self.norm(x), self.to_qkv.weight, self.bias(0.0).flatten())
        parts = [self._attended(*part) for part in zip(padded_by(groups, qkv, dim=1), groups, strict=True)]
        attended = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        return x + dropout(self.to_out(attended), self.dropout, self.training)

    def _attended(self, qkv, group):
        """Weighted values, (L, neurons, heads · head_dim), from padded (L, k, largest, 3 · heads · head_dim)."""
        patches = len(qkv)
        keys = None if group.is_even else group.is_neuron.repeat(patches, 1)[:, None, None]
        q, k, v = qkv.flatten(0, 1).unflatten(-1, (3, self.heads, self.head_dim)).permute(2, 0, 3, 1, 4)
        attended = attend(q, k, v, keys).transpose(1, 2).flatten(2)
        return group.flat(attended.unflatten(0, (patches, -1)), dim=1)


class FeedForward(nn.Module):
    """Gated feed-forward layer: GELU(gate) * y."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        inner = config.feed_forward_multiple * config.dim
        self.dropout = config.dropout
        self.norm = nn.LayerNorm(config.dim)
        self.in_proj = nn.Linear(config.dim, 2 * inner)
        self.out_proj = nn.Linear(inner, config.dim)

    def forward(self, x):
        rows = x.flatten(0, 1)
        # Two products, because the halves of a single one are not contiguous, which doubles the time of the GELU.
        parts = *self.in_proj.weight.chunk(2), *self.in_proj.bias.chunk(2)
        change = torch.cat([self._change(part, *parts) for part in rows.split(_ROWS.get(x.device.type, len(rows)))])
        return x + dropout(change.view_as(x), self.dropout, self.training)

    def _change(self, rows, y_weight, gate_weight, y_bias, gate_bias):
        rows = self.norm(rows)
        gated = F.gelu(F.linear(rows, gate_weight, gate_bias)) * F.linear(rows, y_weight, y_bias)
        return self.out_proj(dropout(gated, self.dropout, self.training))


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, keys: torch.Tensor | None = None) -> torch.Tensor:
    """Scaled dot-product attention of (batch, heads, n, head_dim), to those `keys` (batch, 1, 1, n) that are True."""
    if q.device.type == "cpu" and torch.is_grad_enabled() and keys is None:
        # The backward pass of torch's fused kernel takes six times as long as these products (64 neurons).
        return attend_unfused(*(t.flatten(0, 1) for t in (q, k, v))).unflatten(0, q.shape[:2])
    with sdpa_kernel(_WITHOUT_PLANS) if q.device.type == "cuda" else nullcontext():
        return F.scaled_dot_product_attention(q, k, v, keys)


def attend_unfused(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Scaled dot-product attention of (batch, n, head_dim) in two products, with all n × n scores in memory."""
    nothing = q.new_empty(()).expand(1, 1, 1)
    scores = torch.baddbmm(nothing, q, k.transpose(1, 2), beta=0, alpha=q.shape[-1] ** -0.5)
    return torch.bmm(scores.softmax(dim=-1).to(v), v)


def dropout(x: torch.Tensor, share: float, training: bool) -> torch.Tensor:
    """Faster `torch.nn.functional.dropout` for CPUs, where that takes a third of a training step.

    It draws one random byte per element, so that `share` is rounded to a multiple of 1/256. Other devices use torch's.
    """
    if x.device.type != "cpu" or not training or share in (0, 1):
        return F.dropout(x, share, training)
    dropped = min(round(256 * share), 255)
    words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
    # 1 from `dropped` on, 0 below: arithmetic is vectorised, comparisons of bytes are not.
    keep = words.view(torch.int8)[: x.numel()].view(x.shape).to(x.dtype).add_(129 - dropped).clamp_(0, 1)
    return x * keep.mul_(256 / (256 - dropped))


def rotary_angles(config: EncoderConfig) -> torch.Tensor:
    """Angle of each rotating pair at each patch, float64 radians, shape (L, rotary_pairs).

    Periods are log-spaced from 1 to 8 L patches, both included.
    """
    periods = np.logspace(0.0, np.log10(8 * config.num_patches), config.rotary_pairs)
    return torch.from_numpy(np.outer(np.arange(config.num_patches), 2 * np.pi / periods))


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate the pairs of dimensions of each head by the angles of each patch.

    Pair i consists of the dimensions i and i + rotary_pairs of a head. The public weights interleave their pairs
    (2i, 2i + 1); `public_weights.py` reorders them.

    Parameters
    ----------
    x : Tensor, shape (..., head_dim, m)
    cos, sin : Tensor, shape (L, rotary_pairs)

    Returns
    -------
    Tensor, shape (L, ..., head_dim, m)
    """
    patches, pairs = cos.shape
    cos, sin = (t.view(patches, *[1] * (x.ndim - 2), pairs, 1) for t in (cos, sin))
    a, b, rest = x.split([pairs, pairs, x.shape[-2] - 2 * pairs], dim=-2)
    return torch.cat([a * cos - b * sin, a * sin + b * cos, rest.expand(patches, *rest.shape)], dim=-2)
