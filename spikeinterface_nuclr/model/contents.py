"""Contents: the config, weights and card in a checkpoint's file, as arrays, for which PyTorch is not needed."""

from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import CheckpointError
from . import model_file
from .config import EncoderConfig


@dataclass(frozen=True, eq=False)
class Contents(model_file.Saved):
    """What a checkpoint's file holds: the attributes of `Checkpoint`, with arrays as weights."""

    KIND = "nuclr"
    WHAT = "NuCLR checkpoint"
    REMEDY = "fetch it again"

    config: EncoderConfig
    weights: dict
    card: dict = field(default_factory=dict)
    name: str = ""
    revision: str = ""

    @property
    def num_parameters(self) -> int:
        """Number of weights of all members."""
        return sum(int(np.prod(w.shape)) for w in self.weights.values())

    def _content(self) -> tuple[dict[str, np.ndarray], dict]:
        return dict(self.weights), {"config": self.config.to_dict()}

    @classmethod
    def _from_content(cls, arrays: dict[str, np.ndarray], facts: dict, card: dict, name: str):
        try:
            config = EncoderConfig.from_dict(facts.get("config"))
        except CheckpointError as error:
            raise CheckpointError(f"{name}: {error}") from None
        return cls(config, arrays, card, name)

    @property
    def members(self) -> list:
        """The checkpoints of an ensemble, named ``NAME#1``, ``NAME#2``, …; otherwise the checkpoint itself."""
        if self.config.members == 1:
            return [self]
        config, number = replace(self.config, members=1), self.config.members
        cards = self.card.get("members")
        if not isinstance(cards, list) or [type(card) for card in cards] != [dict] * number:
            cards = [{}] * number  # edited by hand
        parts = np.split(self.example["embedding"], number, axis=1) if self.example else []
        checkpoints = []
        for i in range(number):
            start = f"members.{i}."
            weights = {key.removeprefix(start): w for key, w in self.weights.items() if key.startswith(start)}
            card = {key: value for key, value in cards[i].items() if key != "sha256"}
            member = type(self)(config, weights, card, f"{self.name}#{i + 1}", self.revision)
            checkpoints.append(member._with_example({**self.example, "embedding": parts[i]}) if parts else member)
        return checkpoints
