"""nuclr info: describes a recording, a file of embeddings, a model, a decoder or a store."""

import json
from pathlib import Path
from typing import Annotated

import typer

from .app import app, say
from .options import (
    Device,
    Precision,
    reads_recordings,
)


@app.command()
@reads_recordings
def info(
    name: Annotated[
        str,
        typer.Argument(
            help="Recording, .npz file of embeddings, model, decoder or store: a path, or the name of a bundled or "
            "hf:// model.",
            metavar="SOURCE|NPZ|MODEL|DECODER|STORE",
        ),
    ],
    *,
    reading: dict,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="For a model or decoder: check that it computes the same here as where it was made."
        ),
    ] = False,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Describe a recording, embeddings, a model, decoder or store.

    For NWB files and analyzers this includes their embeddings, and whether the spikes have changed since.

    With --check, a model or decoder computes the output of a small example, which its file holds, and compares.
    """
    from ..model.loading import PICKLED, bundled_models
    from ..model.model_file import split_member
    from ..training.store import is_store
    from . import facts

    whole, _ = split_member(name)
    path = Path(whole)
    if _is_decoder(name):
        lines = facts.check_of_decoder(name) if check else facts.of_decoder(name)
    elif name.startswith("hf://") or whole in bundled_models() or path.suffix in (".safetensors", *PICKLED):
        lines = facts.check_of_checkpoint(name, device, precision) if check else facts.of_checkpoint(name)
    elif check:
        raise typer.BadParameter("--check is for models and decoders")
    elif path.suffix == ".npz":
        lines = facts.of_embeddings_file(path)
    elif path.is_dir() and is_store(path):
        lines = facts.of_store(path)
    else:
        lines = facts.of_recording(path, reading)
    width = max(map(len, lines))
    for title, value in lines.items():
        say(f"{title:<{width}}  {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")


def _is_decoder(name: str) -> bool:
    """Whether this is the name, or a file, of a decoder; a look at the suffix saves a slow import for recordings."""
    path = Path(name)
    if path.exists() and path.suffix != ".safetensors":
        return False
    from ..decoding.storage import bundled_decoders, is_decoder

    return name in bundled_decoders() or is_decoder(path)
