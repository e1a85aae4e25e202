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
    if len(sources) == 1 and Path(sources[0]).is_file() and Path(sources[0]).suffix != ".safetensors":
        checkpoint = convert_checkpoint(sources[0])
    elif len(sources) == 1:
        checkpoint = load_checkpoint(sources[0])
    else:
        checkpoint = Checkpoint.joined([load_checkpoint(source) for source in sources])
    checkpoint.save(output, overwrite=overwrite)
    say(f"{output}: {checkpoint.config.members} network(s), sha256 {checkpoint.sha256}")
