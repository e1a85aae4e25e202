"""nuclr convert: converts a public NuCLR checkpoint to safetensors."""

from pathlib import Path
from typing import Annotated

import typer

from .app import app, say
from .options import Overwrite


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="A public NuCLR .pt checkpoint.", metavar="FILE.pt")],
    output: Annotated[Path, typer.Argument(help="File to write.", metavar="OUT.safetensors")],
    overwrite: Overwrite = False,
) -> None:
    """Convert a public NuCLR checkpoint to safetensors. No code in the file is executed."""
    from ..files import check_format, check_writable
    from ..model.public_weights import convert_checkpoint

    check_format(output, ".safetensors")
    check_writable(output, overwrite=overwrite)
    checkpoint = convert_checkpoint(source)
    checkpoint.save(output, overwrite=overwrite)
    say(f"{output}: {checkpoint.card['implementation']}, sha256 {checkpoint.sha256}")
