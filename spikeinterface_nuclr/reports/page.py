"""A page: Markdown, figures and interactive parts in one HTML file, which loads nothing from the network."""

import base64
import html
import io

import numpy as np

from ..text import for_csv, printable

# Whatever a name in a file may contain, the browser fetches nothing and runs only what is in the page.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; "
    "font-src data:"
)
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1200px; margin: 2em auto; padding: 0 1em; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 1.6em; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; margin: 1em 0; display: block; overflow-x: auto; }
th, td { padding: .25em .7em; border-bottom: 1px solid #e4e4e4; text-align: left; }
img { max-width: 100%; } pre { background: #f5f5f5; padding: 1em; overflow: auto; white-space: pre-wrap; }
.note { background: #f5f5f5; padding: .8em 1em; border-left: 4px solid #888; }
"""
# A letter of no width: Bokeh takes text between two pairs of dollars for a formula.
_BETWEEN = "$\u200b$"


class Page:
    """Parts of a page, in order.

    Parameters
    ----------
    title : str
    """

    def __init__(self, title: str):
        self.title = title
        self._parts: list[str | object] = []

    def markdown(self, text: str) -> None:
        """Add Markdown, in which names are escaped by `text.for_markdown`. HTML in it stays text."""
        from markdown_it import MarkdownIt

        self._parts.append(MarkdownIt("commonmark", {"html": False}).enable("table").render(text))

    def note(self, text: str) -> None:
        """Add a paragraph to copy."""
        self._parts.append(f'<p class="note">{html.escape(text)}</p>')

    def figure(self, figure, description: str) -> None:
        """Add a Matplotlib figure, as an image."""
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=120)
        data = base64.b64encode(file.getvalue()).decode()
        self._parts.append(f'<img src="data:image/png;base64,{data}" alt="{html.escape(description)}">')

    def interactive(self, model) -> None:
        """Add a figure, table or layout of Bokeh."""
        self._parts.append(model)

    def details(self, summary: str, text: str) -> None:
        """Add text that is hidden until it is asked for."""
        self._parts.append(
            f"<details><summary>{html.escape(summary)}</summary><pre>{html.escape(text)}</pre></details>"
        )

    def to_html(self) -> str:
        """The file."""
        from bokeh.embed import components
        from bokeh.resources import Resources

        models = {f"part_{k}": part for k, part in enumerate(self._parts) if not isinstance(part, str)}
        script, places = components(models, wrap_plot_info=True) if models else ("", {})
        # `render` would add links to what other packages that are loaded, such as Panel, have registered with Bokeh.
        inlined = Resources(mode="inline", components=["bokeh", "bokeh-widgets", "bokeh-tables"]).js_raw
        library = "\n".join(f"<script>\n{code}\n</script>" for code in inlined)
        body = [part if isinstance(part, str) else places[f"part_{k}"] for k, part in enumerate(self._parts)]
        return "\n".join(
            [
                '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
                f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
                '<meta name="viewport" content="width=device-width, initial-scale=1">',
                f"<title>{html.escape(printable(self.title))}</title>\n<style>{_STYLE}</style>",
                library if models else "",
                "</head>\n<body>",
                *body,
                script,
                "</body>\n</html>\n",
            ]
        )


def for_bokeh(text) -> str:
    """Text for labels and legends of Bokeh, so that it is not drawn as a formula."""
    return printable(text).replace("$$", _BETWEEN)


def sortable(frame, file_name: str, *, source=None, view=None, height: int = 300):
    """A table that a click on its header sorts, and a button that downloads it as CSV.

    Parameters
    ----------
    frame : pandas DataFrame
        Its index becomes the first column.
    file_name : str
        Of the download.
    source, view : ColumnDataSource and CDSView, optional
        With the columns of the frame, by name; default: new ones. A shared source shares its selection.
    height : int
        Pixels.
    """
    from bokeh.layouts import column
    from bokeh.models import (
        Button,
        ColumnDataSource,
        CustomJS,
        DataTable,
        NumberFormatter,
        StringFormatter,
        TableColumn,
    )

    frame = frame.reset_index()
    text = for_csv(frame).to_csv(index=False)
    columns = []
    for name in frame.columns:
        kind = frame[name].dtype.kind
        formatter = NumberFormatter(format="0.[000]", nan_format="") if kind == "f" else StringFormatter()
        columns.append(TableColumn(field=str(name), title=html.escape(str(name)), formatter=formatter))
    options = {"view": view} if view is not None else {}
    table = DataTable(
        source=source or ColumnDataSource(source_columns(frame)), columns=columns, sizing_mode="stretch_width",
        height=min(height, 40 + 26 * max(len(frame), 1)), index_position=None, reorderable=False, **options,
    )  # fmt: skip
    button = Button(label="Download CSV", width=140)
    button.js_on_event(
        "button_click",
        CustomJS(
            args={"text": text, "name": file_name},
            code="""
            const link = document.createElement('a')
            link.href = URL.createObjectURL(new Blob([text], {type: 'text/csv'}))
            link.download = name
            link.click()
            """,
        ),
    )
    return column(table, button, sizing_mode="stretch_width")


def source_columns(frame) -> dict[str, np.ndarray]:
    """Columns of a frame for a ColumnDataSource: numbers as they are, everything else as text on one line."""
    return {
        str(name): values.to_numpy() if values.dtype.kind in "fiu" else np.array([printable(v) for v in values])
        for name, values in frame.items()
    }
