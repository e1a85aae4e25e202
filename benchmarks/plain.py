"""A direct implementation of the published network, as the reference for `embedding.py` and `training.py`.

It uses float32, interleaved pairs for the rotary position, torch's attention and dropout, and batches of populations of
equal size, without any optimisation.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from spikeinterface_nuclr import EncoderConfig


class Plain(nn.Module):
    """The forward pass with the weights of an `Encoder`, whose rotary pairs are interleaved again."""

    def __init__(self, config: EncoderConfig, weights: dict[str, torch.Tensor]):
        super().__init__()
        self.config = config
        self.names = {name: name.replace(".", "_") for name in weights}
        for name, value in weights.items():
            self.register_parameter(self.names[name], nn.Parameter(self._interleave(name, value).clone()))
        pairs, half = config.rotary_pairs, config.head_dim // 2
        omega = torch.zeros(half)
        omega[:pairs] = 2 * torch.pi / torch.logspace(0, float(np.log10(8 * config.num_patches)), pairs)
        angle = torch.arange(config.num_patches)[:, None] * omega
        self.cos, self.sin = (f(angle).repeat_interleave(2, dim=1) for f in (torch.cos, torch.sin))

    def _interleave(self, name, value):
        if not (".attention.to_" in name or ".temporal.to_" in name):
            return value
        pairs, heads = self.config.rotary_pairs, (self.config.heads, self.config.head_dim)
        order = torch.arange(2 * pairs).view(2, pairs).T.flatten()
        order = torch.cat([order, torch.arange(2 * pairs, self.config.head_dim)])
        if "to_qkv" in name:
            return value.unflatten(0, (3, *heads))[:, :, order].flatten(0, 2)
        return value.unflatten(1, heads)[:, :, order].flatten(1) if name.endswith("weight") else value

    def weight(self, name):
        return getattr(self, self.names[name])

    def linear(self, name, x):
        return F.linear(x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"))

    def norm(self, name, x):
        weight, bias = self.weight(f"{name}.norm.weight"), self.weight(f"{name}.norm.bias")
        return F.layer_norm(x, (self.config.dim,), weight, bias)

    def drop(self, x):
        return F.dropout(x, self.config.dropout, self.training)

    def rotate(self, x, sign=1):
        swapped = torch.stack([-x[..., 1::2], x[..., 0::2]], dim=-1).flatten(-2)
        return x * self.cos + sign * swapped * self.sin

    def attention(self, name, x, spatial):
        """x (windows, units, L, dim)"""
        q, k, v = self.linear(f"{name}.to_qkv", self.norm(name, x)).chunk(3, dim=-1)
        q, k, v = (t.unflatten(-1, (self.config.heads, self.config.head_dim)).transpose(2, 3) for t in (q, k, v))
        if spatial:  # (windows, units, heads, L, head_dim) -> (windows, L, heads, units, head_dim)
            q, k, v = (t.permute(0, 3, 2, 1, 4) for t in (q, k, v))
            attended = F.scaled_dot_product_attention(q, k, v).permute(0, 3, 1, 2, 4)
        else:
            q, k, v = (self.rotate(t) for t in (q, k, v))
            attended = self.rotate(F.scaled_dot_product_attention(q, k, v), -1).transpose(2, 3)
        return x + self.drop(self.linear(f"{name}.to_out", attended.flatten(-2)))

    def feed_forward(self, name, x):
        y, gate = self.linear(f"{name}.in_proj", self.norm(name, x)).chunk(2, dim=-1)
        return x + self.drop(self.linear(f"{name}.out_proj", self.drop(F.gelu(gate) * y)))

    def forward(self, patches):
        """(windows, units, L, P) -> (windows, units, dim)"""
        x = self.linear("read_in", patches)
        for i in range(self.config.temporal_blocks):
            x = self.attention(f"temporal_blocks.{i}.attention", x, spatial=False)
            x = self.feed_forward(f"temporal_blocks.{i}.feed_forward", x)
        for i in range(self.config.spatiotemporal_blocks):
            block = f"spatiotemporal_blocks.{i}"
            x = self.attention(f"{block}.spatial", x, spatial=True)
            x = self.feed_forward(f"{block}.spatial_feed_forward", x)
            x = self.attention(f"{block}.temporal", x, spatial=False)
            x = self.feed_forward(f"{block}.temporal_feed_forward", x)
        return x.mean(dim=2)
