"""The recordings of `benchmarks/quality.py`: how animals are divided, and which model has not seen them."""

from pathlib import Path

from spikeinterface_nuclr import Checkpoint, Population, read_population

VALIDATION = {
    "human": ["p10hmh", "p14hmh", "p16hmh", "p18hmh", "p21hmh"],
    "aplysia": ["jun0214"],
    "rats": ["t223", "t224"],
    "days": ["c6m4"],
}
TEST = {
    "human": ["p43cs", "p44cs", "p47cs", "p48cs", "p51hmh"],
    "aplysia": ["jun0914", "may2214"],
    "rats": ["t179", "t181", "t182", "t209"],
    "days": ["c7m4"],
}


def read(data: Path, folder: str, animals=None) -> dict[str, list[Population]]:
    """Recordings of each animal."""
    folders = [path for path in sorted((data / folder).iterdir()) if animals is None or path.name in animals]
    return {path.name: [read_population(file) for file in sorted(path.glob("*.nwb"))] for path in folders}


def unseen(model: Checkpoint, animal: str) -> Checkpoint:
    """The model if no member was trained on an animal, otherwise its first member that was not."""
    others = [member for member in model.members if not _trained_on(member, animal)]
    if not others:
        raise SystemExit(f"{model.name}: every member was trained on {animal}")
    return model if len(others) == len(model.members) else others[0]


def _trained_on(member: Checkpoint, animal: str) -> bool:
    if "training_animals" not in member.card:
        raise SystemExit(f"{member.name}: its card does not name its training_animals, which this benchmark needs")
    return animal.upper() in map(str.upper, member.card["training_animals"])
