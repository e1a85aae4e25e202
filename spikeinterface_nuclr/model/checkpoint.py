"""Checkpoint: the config, weights and card of an encoder."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from ..errors import CheckpointError
from ..files import written_whole
from . import model_file
from .config import EncoderConfig
from .encoder import Encoder

# Key of the JSON in the file.
KIND = "nuclr"


@dataclass(frozen=True, eq=False)
class Checkpoint:
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
    """

    config: EncoderConfig
    weights: dict[str, torch.Tensor]
    card: dict = field(default_factory=dict)
    name: str = ""
    revision: str = ""

    def __post_init__(self):
        _check_weights(self.config, self.weights, self.name or "checkpoint")

    @cached_property
    def sha256(self) -> str:
        """Identity of the model: a hash (hex) of its config and weights, which determine the embeddings.

        It does not depend on the card, the name of the file, or the format that the weights were read from.
        """
        return model_file.identity_of(KIND, self._arrays, {"config": self.config.to_dict()})

    @property
    def _arrays(self) -> dict[str, np.ndarray]:
        return {key: value.detach().cpu().numpy() for key, value in self.weights.items()}

    @cached_property
    def _bytes(self) -> bytes:
        return model_file.to_bytes(KIND, self._arrays, {"config": self.config.to_dict()}, self.card, self.sha256)

    def save(self, path, *, overwrite: bool = False) -> Path:
        """Write a ``.safetensors`` file atomically."""
        with written_whole(path, overwrite=overwrite) as temporary:
            temporary.write_bytes(self._bytes)
        return Path(path)

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
