"""Rewrite the bundled models with the same weights and cards, and the identity that this version computes.

    python tools/model_identities.py

A decoder refers to its checkpoint by identity, which is updated as well.
"""

import json
from pathlib import Path

import torch
from safetensors import safe_open

from spikeinterface_nuclr import Checkpoint, Decoder, EncoderConfig, load_checkpoint
from spikeinterface_nuclr.decoding import storage
from spikeinterface_nuclr.model import loading


def content(path: Path, kind: str):
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        return arrays, json.loads(file.metadata()[kind])


def main():
    for path in sorted(loading.BUNDLED.glob("*.safetensors")):
        weights, facts = content(path, "nuclr")
        weights = {name: torch.from_numpy(values) for name, values in weights.items()}
        checkpoint = Checkpoint(EncoderConfig.from_dict(facts["config"]), weights, facts["card"], path.stem)
        checkpoint.save(path, overwrite=True)
        print(path.name, checkpoint.sha256)
    for path in sorted(storage.BUNDLED.glob("*.safetensors")):
        arrays, facts = content(path, Decoder.KIND)
        names = facts["card"]["checkpoints"]
        new = {old: load_checkpoint(name).sha256 for old, name in names.items()}
        arrays = {"/".join(new.get(part, part) for part in key.split("/")): values for key, values in arrays.items()}
        for key in ("strengths", "novelty"):
            facts[key] = {new.get(name, name): value for name, value in facts[key].items()}
        facts["card"]["checkpoints"] = {new[old]: name for old, name in names.items()}
        decoder = Decoder._from_content(arrays, facts, facts["card"], path.stem)
        decoder.save(path, overwrite=True)
        print(path.name, decoder.sha256)


if __name__ == "__main__":
    main()
