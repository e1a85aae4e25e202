"""nuclr convert: converts public NuCLR checkpoints to safetensors, and joins models to an ensemble."""

from pathlib import Path
from typing import Annotated

import typer

from .app import app, say
from .options import Overwrite


@app.command()
def convert(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="A public NuCLR .pt checkpoint, or several models to join: files, hf:// names, bundled names.",
            metavar="MODEL…",
        ),
    ],
    output: Annotated[Path, typer.Argument(help="File to write.", metavar="OUT.safetensors")],
    overwrite: Overwrite = False,
) -> None:
    """Convert a public NuCLR checkpoint to safetensors. No code in the file is executed.

    Several models of one architecture, such as trainings with several seeds, are joined to an ensemble: one model whose
    embeddings are theirs side by side. Decoders of it average its members and state their agreement.
    """
    from ..files import check_format, check_writable
    from ..model.checkpoint import Checkpoint
    from ..model.loading import load_checkpoint
    from ..model.public_weights import convert_checkpoint

    check_format(output, ".safetensors")
    check_writable(output, overwrite=overwrite)
    checkpoints = [
        # Public checkpoints may have any suffix.
        convert_checkpoint(source)
        if Path(source).is_file() and Path(source).suffix != ".safetensors"
        else load_checkpoint(source)
        for source in sources
    ]
    checkpoint = checkpoints[0] if len(checkpoints) == 1 else Checkpoint.joined(checkpoints)
    checkpoint.save(output, overwrite=overwrite)
    say(f"{output}: {checkpoint.config.members} network(s), sha256 {checkpoint.sha256}")
