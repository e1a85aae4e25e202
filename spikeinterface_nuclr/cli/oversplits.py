"""nuclr oversplits: lists pairs of units of one recording that look like one neuron which the sorter has split."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from .app import app, say
from .options import (
    Device,
    Model,
    Overwrite,
    Precision,
    Quiet,
    Source,
    check_outside,
    reads_recordings,
)


@app.command()
@reads_recordings
def oversplits(
    source: Source,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="Table of pairs to write: .csv.", show_default="printed"),
    ] = None,
    least_probability: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Leave out pairs that are less probable.")
    ] = 0.5,
    model: Model = None,
    *,
    reading: dict,
    device: Device = "auto",
    precision: Precision = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """List pairs of units of one recording that look like one neuron which the sorter has split.

    Nothing is merged. In Python, find_oversplits(analyzer).merge_groups() is what analyzer.merge_units takes.

    nuclr oversplits sorted_folder -o pairs.csv
    """
    from ..files import check_format, check_writable, written_whole
    from ..matching.oversplits import find_oversplits
    from ..text import for_csv

    if output is not None:
        check_writable(check_format(output, ".csv"), overwrite=overwrite)
        check_outside(output, [source])
    found = find_oversplits(
        source, least_probability=least_probability, model=model, device=device, precision=precision,
        progress=not quiet,
        **reading,
    )  # fmt: skip
    if output is not None:
        with written_whole(output, overwrite=overwrite) as temporary:
            for_csv(found.table).to_csv(temporary, index=False)
    elif len(found.table):
        for line in found.table.round(3).to_string(index=False).splitlines():
            say(line)
    say(f"{found}" + ("" if output is None else f"; written: {output}"))
