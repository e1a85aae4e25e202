"""Checkpoint: the config, weights and card of an encoder."""

from dataclasses import dataclass, field

import numpy as np
import torch

from ..errors import CheckpointError
from . import model_file
from .config import EncoderConfig
from .encoder import Encoder


@dataclass(frozen=True, eq=False)
class Checkpoint(model_file.Saved):
    """A trained encoder: its config, weights and card.

    Attributes
    ----------
    config : EncoderConfig
    weights : dict of str to float32 Tensor
        As from `Encoder.state_dict()`.
    card : dict
        Training data, training settings, intended use and limitations. JSON-serialisable.
    name, revision : str
        Where it was loaded from: a bundled name, a path or an ``hf://`` name, and the commit on the Hub.

    Examples
    --------
    >>> from spikeinterface_nuclr import Checkpoint, Encoder, EncoderConfig, load_checkpoint
    >>> config = EncoderConfig(dim=32, heads=2, head_dim=16)
    >>> checkpoint = Checkpoint(config, Encoder(config).state_dict(), {"license": "CC0-1.0"})
    >>> path = checkpoint.save("small.safetensors")
    >>> load_checkpoint(path).sha256 == checkpoint.sha256
    True
    """

    KIND = "nuclr"
    WHAT = "NuCLR checkpoint"
    REMEDY = "fetch it again"

    config: EncoderConfig
    weights: dict[str, torch.Tensor]
    card: dict = field(default_factory=dict)
    name: str = ""
    revision: str = ""

    def __post_init__(self):
        _check_weights(self.config, self.weights, self.name or "checkpoint")

    def _content(self) -> tuple[dict[str, np.ndarray], dict]:
        arrays = {key: value.detach().cpu().numpy() for key, value in self.weights.items()}
        return arrays, {"config": self.config.to_dict()}

    @classmethod
    def _from_content(cls, arrays: dict[str, np.ndarray], facts: dict, card: dict, name: str) -> "Checkpoint":
        try:
            config = EncoderConfig.from_dict(facts.get("config"))
        except CheckpointError as error:
            raise CheckpointError(f"{name}: {error}") from None
        return cls(config, {key: torch.from_numpy(values) for key, values in arrays.items()}, card, name)

    def encoder(self, device="cpu", dtype: torch.dtype = torch.float32) -> Encoder:
        """The network with these weights on `device`, in evaluation mode."""
        with torch.device("meta"):
            encoder = Encoder(self.config)
        weights = {key: value.to(device=device, dtype=dtype, copy=True) for key, value in self.weights.items()}
        encoder.load_state_dict(weights, assign=True)
        return encoder.eval()

    def __repr__(self):
        n = sum(w.numel() for w in self.weights.values())
        return f"Checkpoint({self.name or 'unnamed'!r}, {n:,} parameters, sha256 {self.sha256[:12]}…)"


def _check_weights(config: EncoderConfig, weights: dict, name: str) -> None:
    with torch.device("meta"):
        expected = {key: value.shape for key, value in Encoder(config).state_dict().items()}
    for key in sorted(expected.keys() | weights.keys()):
        if key not in weights:
            raise CheckpointError(f"{name}: the weight {key} is missing")
        if key not in expected:
            raise CheckpointError(f"{name}: the weight {key} is unknown")
        if weights[key].shape != expected[key]:
            shape, required = tuple(weights[key].shape), tuple(expected[key])
            raise CheckpointError(f"{name}: the weight {key} has shape {shape}, its config requires {required}")
        if weights[key].dtype != torch.float32 or not torch.isfinite(weights[key]).all():
            raise CheckpointError(f"{name}: the weight {key} is not finite float32")
