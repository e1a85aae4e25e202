"""nuclr gui: opens spikeinterface-gui with the view of embeddings and identities."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from ..errors import InputError
from .app import app
from .options import check_source


@app.command()
def gui(
    analyzer: Annotated[Path, typer.Argument(help="Folder of a SortingAnalyzer.", show_default=False)],
    web: Annotated[bool, typer.Option("--web", help="Open a page in a web browser, instead of a window.")] = False,
    curation: Annotated[
        bool, typer.Option("--curation", help="Label units, and mark merges, splits and removed units.")
    ] = False,
    label: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="A label to choose from, besides the decoder's; can be repeated.", show_default=False),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page.", show_default="a free one")] = 0,
) -> None:
    """Look at embeddings and identities in spikeinterface-gui, and correct labels.

    Needs the extra gui: pip install "spikeinterface-nuclr[gui]". Traces are not shown, as the recording is not opened;
    in Python, open_gui(analyzer, recording=…) shows them.

    nuclr gui sorted_analyzer --curation: "Save curation" writes labels into the folder, where `nuclr decoder fit` finds
    them.
    """
    from ..gui.window import open_gui
    from ..io import kind_of
    from ..io.spikeinterface import load_spikeinterface

    check_source(analyzer)
    if label and not curation:
        raise typer.BadParameter("--label is for --curation")
    if port and not web:
        raise typer.BadParameter("--port is for --web")
    if kind_of(analyzer) != "analyzer":
        raise InputError(f"{analyzer}: not the folder of a SortingAnalyzer: save one there, or name another")
    loaded = load_spikeinterface(analyzer)
    page = {"port": port} if web else {}
    open_gui(loaded, mode="web" if web else "desktop", curation=curation, classes=label, with_traces=False, **page)
