"""Checkpoint: the config, weights and card of an encoder."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from ..errors import CheckpointError
from .config import EncoderConfig
from .contents import Contents
from .device import DTYPES, choose_device, choose_precision
from .encoder import Encoder, Ensemble, network_of

# Numbers of neurons in the populations of the example, and most values in it.
_EXAMPLE_SIZES = (5, 3)
_LARGEST_EXAMPLE = 1_000_000


@dataclass(frozen=True, eq=False)
class Checkpoint(Contents):
    """A trained encoder, or an ensemble of several: config, weights and card.

    Attributes
    ----------
    config : EncoderConfig
    weights : dict of str to float32 Tensor
        As from `Encoder.state_dict()`; for an ensemble, names begin with ``members.0.``, ``members.1.``, ….
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

    def __post_init__(self):
        _check_weights(self.config, self.weights, self.name or "checkpoint")

    def _content(self) -> tuple[dict[str, np.ndarray], dict]:
        arrays = {key: value.detach().cpu().numpy() for key, value in self.weights.items()}
        return arrays, {"config": self.config.to_dict()}

    @classmethod
    def _from_content(cls, arrays: dict[str, np.ndarray], facts: dict, card: dict, name: str) -> "Checkpoint":
        tensors = {key: torch.from_numpy(values) for key, values in arrays.items()}
        return super()._from_content(tensors, facts, card, name)

    def _example_input(self) -> dict[str, np.ndarray]:
        layout, rng = self.config.layout, np.random.default_rng(0)
        shape = (sum(_EXAMPLE_SIZES), layout.num_patches, layout.patch_size)
        if np.prod(shape) > _LARGEST_EXAMPLE:
            return {}
        if self.config.signal == "traces":
            return {"input": rng.normal(0, 0.3, shape).astype(np.float32)}
        rates = np.geomspace(1, 30, shape[0])[:, None, None]  # Hz
        return {"input": np.minimum(rng.poisson(rates * layout.bin_s, shape), 255).astype(np.uint8)}

    def _example_output(self, example, device: str = "cpu", precision: str = "float32") -> dict[str, np.ndarray]:
        device = choose_device(device)
        encoder = self.encoder(device, DTYPES[choose_precision(precision, device)])
        with torch.inference_mode():
            patches = torch.from_numpy(example["input"]).float().to(device)
            return {"embedding": encoder(patches, _EXAMPLE_SIZES).float().cpu().numpy()}

    @classmethod
    def joined(cls, checkpoints: "list[Checkpoint]", card: dict | None = None) -> "Checkpoint":
        """An ensemble: one checkpoint whose embeddings are those of several checkpoints, side by side.

        Parameters
        ----------
        checkpoints : list of Checkpoint
            Two or more of one architecture, such as trainings with several seeds.
        card : dict, optional
            Default: the card of the first. The cards of all are added as "members".

        Raises
        ------
        CheckpointError
            The configs differ, or a checkpoint is given twice.
        """
        parts = [member for checkpoint in checkpoints for member in checkpoint.members]
        for other in parts[1:]:
            if other.config != parts[0].config:
                raise CheckpointError(
                    f"{other.name}: its config differs from that of {parts[0].name}: an ensemble has one architecture"
                )
        if len({part.sha256 for part in parts}) < max(len(parts), 2):
            raise CheckpointError("an ensemble needs two or more different checkpoints")
        weights = {f"members.{i}.{key}": value for i, part in enumerate(parts) for key, value in part.weights.items()}
        members = [{**part.card, "sha256": part.sha256} for part in parts]
        card = {**(checkpoints[0].card if card is None else card), "members": members}
        return cls(replace(parts[0].config, members=len(parts)), weights, card)

    def encoder(self, device="cpu", dtype: torch.dtype = torch.float32) -> Encoder | Ensemble:
        """The network with these weights on `device`, in evaluation mode."""
        with torch.device("meta"):
            encoder = network_of(self.config)
        weights = {key: value.to(device=device, dtype=dtype, copy=True) for key, value in self.weights.items()}
        encoder.load_state_dict(weights, assign=True)
        return encoder.eval()

    def __repr__(self):
        return f"Checkpoint({self.name or 'unnamed'!r}, {self.num_parameters:,} parameters, sha256 {self.sha256[:12]}…)"


def _check_weights(config: EncoderConfig, weights: dict, name: str) -> None:
    with torch.device("meta"):
        expected = {key: value.shape for key, value in network_of(config).state_dict().items()}
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
