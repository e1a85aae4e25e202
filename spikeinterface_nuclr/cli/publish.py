"""nuclr publish: puts a model or a decoder on the Hugging Face Hub, with a card made from its own."""

import dataclasses
import json
import re
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from ..errors import CheckpointError, InputError
from ..text import for_markdown
from . import facts
from .app import app, say
from .options import Card, Overwrite, read_card

# Licences by the Hub's names for them; any other is named in the card.
_LICENSES = re.compile(
    r"apache-2\.0|mit|isc|zlib|unlicense|wtfpl|bsd|bsd-[23]-clause|bsd-3-clause-clear|bsl-1\.0|mpl-2\.0|ms-pl|ncsa|"
    r"[al]?gpl-[23]\.0|lgpl-2\.1|gfdl|e[cp]l-2\.0|eupl-1\.1|artistic-2\.0|afl-3\.0|osl-3\.0|ofl-1\.1|postgresql|"
    r"cc0-1\.0|cc-by(-nc)?(-nd|-sa)?-[34]\.0|cc-by-2\.[05]|cdla-(permissive-[12]|sharing-1)\.0|odbl|odc-by|pddl|openrail"
)
# Entries of our cards that have a section of their own.
_SECTIONS = {"method": "Method", "good_for": "Suitable for", "not_for": "Not for", "training_data": "Training data"}
# What a model is, as its facts call it -> the Hub's name for its task.
_TASKS = {"model": "feature-extraction", "decoder": "tabular-classification", "regressor": "tabular-regression"}


@app.command()
def publish(
    model: Annotated[str, typer.Argument(help="Model or decoder: a file, or the name of a bundled one.")],
    repo: Annotated[str, typer.Argument(help="Repository of the Hub, created if there is none.", metavar="OWNER/REPO")],
    card: Card = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    overwrite: Overwrite = False,
    show: Annotated[
        bool, typer.Option("--show", help="Print the page that the repository would have, and publish nothing.")
    ] = False,
) -> None:
    """Publish a model or decoder on the Hugging Face Hub, from where hf://OWNER/REPO loads it.

    The repository's page is made from the card of the model: what it was trained on, what it is good for and what not,
    how it was made. Its licence must be known; --card adds what is missing. Log in first: hf auth login.
    """
    from ..decoding.loading import load_predictor
    from ..decoding.storage import bundled_decoders, is_decoder
    from ..model.hub import check_repo
    from ..model.hub import publish as upload
    from ..model.loading import load_checkpoint

    check_repo(repo)
    if model.startswith("hf://"):
        raise InputError(f"{model}: is on the Hub already")
    decoder = model in bundled_decoders() or is_decoder(Path(model))
    loaded = load_predictor(model) if decoder else load_checkpoint(model)
    loaded = dataclasses.replace(loaded, card=_public(loaded.card) | (read_card(card) if card else {}))
    file = "decoder.safetensors" if decoder else "model.safetensors"
    with tempfile.TemporaryDirectory() as folder:
        saved = loaded.save(Path(folder) / file)
        lines = facts.of_decoder(str(saved)) if decoder else facts.of_checkpoint(str(saved))
        lines = {title.replace(str(saved), f"hf://{repo}"): value for title, value in lines.items()}
        page = hub_card(repo, loaded.card, lines)
        if show:
            typer.echo(page, nl=False)
            return
        files = {file: saved, "README.md": page.encode()}
        message = f"{file}, sha256 {loaded.sha256[:12]}"
        address = upload(repo, files, private=private, overwrite=overwrite, message=message)
    say(f"{address}: load it as hf://{repo}, sha256 {loaded.sha256}")


def _public(card: dict) -> dict:
    """A card, and those of an ensemble's members, without the command that trained the model: it names local files."""
    card = {name: value for name, value in card.items() if name != "command"}
    members = card.get("members")
    if isinstance(members, list):
        card["members"] = [_public(member) if isinstance(member, dict) else member for member in members]
    return card


def hub_card(repo: str, card: dict, lines: dict) -> str:
    """The page of a repository, with the metadata of the Hub, from a model's card and the facts of `nuclr info`."""
    from huggingface_hub import ModelCardData

    from ..decoding.reference_units import REFERENCE_UNITS

    license = card.get("license")
    if not isinstance(license, str) or not license.strip():
        raise CheckpointError(f"{repo}: the model names no licence: give --card with an entry 'license'")
    known = _LICENSES.fullmatch(license.lower())
    kind = next((kind for kind in _TASKS if kind in lines), "model")
    signal = lines.get("signal", "spikes")
    data = ModelCardData(
        license=license.lower() if known else "other",
        license_name=None if known else license,
        library_name="spikeinterface-nuclr",
        pipeline_tag=_TASKS[kind],
        tags=["nuclr", "neuroscience", "calcium-imaging" if signal == "traces" else "electrophysiology", "nwb"],
    )
    parts = [f"---\n{data.to_yaml()}\n---", f"# {repo.partition('/')[2]}", *_how_to_use(repo, kind)]
    for name, title in _SECTIONS.items():
        if name in card:
            parts += [f"## {title}", _prose(card[name])]
    if REFERENCE_UNITS in card:
        about = "the animal, recording, unit and label of every neuron that it was fitted to"
        parts += ["## Neurons in the file", f"The file holds {about}, to say which ones a neuron resembles."]
    elsewhere = (*_SECTIONS, *_TASKS, "name", "revision")
    rows = [f"| {_cell(name)} | {_cell(value)} |" for name, value in lines.items() if name not in elsewhere]
    parts += ["## Facts", "\n".join(["| | |", "|---|---|", *rows])]
    return "\n\n".join(parts) + "\n"


def _how_to_use(repo: str, kind: str) -> list[str]:
    if kind != "model":
        return [
            f"A {kind} of properties of neurons from their NuCLR embeddings, for spikeinterface-nuclr.",
            f"```bash\nnuclr predict session.nwb --decoder hf://{repo} -o labels.csv\n```",
        ]
    return [
        "A NuCLR model: an embedding of each neuron, seen in the context of its population, for spikeinterface-nuclr.",
        f"```bash\nnuclr embed session.nwb -o embeddings.npz --model hf://{repo}\n```",
        "```python\nfrom spikeinterface_nuclr import embed, read_population\n\n"
        f'embeddings = embed(read_population("session.nwb"), "hf://{repo}")\n```',
    ]


def _prose(value) -> str:
    """An entry of a card as text: lists as items, dicts as their values."""
    if isinstance(value, list):
        return "\n".join(f"- {_prose(entry)}" for entry in value)
    if isinstance(value, dict):
        order = sorted(value, key=("what", "citation").index) if set(value) <= {"what", "citation"} else value
        return ". ".join(_prose(value[key]) for key in order)
    return for_markdown(value)


def _cell(value) -> str:
    """A value in one cell of a table."""
    return for_markdown(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
