"""Predictions on test units, to point at: a confusion that lists its units, or true against predicted numbers."""

import numpy as np

from ..decoding.comparison import Comparison
from ..decoding.regressor_evaluation import RegressorEvaluation
from ..decoding.scores import EMBEDDING
from .page import for_bokeh, sortable, source_columns


def confusion_of(evaluation: Comparison, recordings: list[str]):
    """Best labels of the embedding by true class; a click lists the units. A layout of Bokeh."""
    from bokeh.layouts import column
    from bokeh.models import CDSView, ColumnDataSource, CustomJS, HoverTool, IndexFilter, LinearColorMapper
    from bokeh.palettes import Blues256
    from bokeh.plotting import figure

    table = _table(evaluation, recordings)
    classes = [name for name in evaluation.classes if name in {*table["truth"], *table["best_label"]}]
    shown = dict(zip(classes, _distinct(classes), strict=True))
    counts = table.groupby(["truth", "best_label"]).size()
    cells = [(t, b, int(counts.get((t, b), 0)), int((table["truth"] == t).sum())) for t in classes for b in classes]
    source = ColumnDataSource(
        {
            "x": [shown[b] for _, b, *_ in cells], "y": [shown[t] for t, *_ in cells],
            "truth": [t for t, *_ in cells], "best": [b for _, b, *_ in cells],
            "units": [n for *_, n, _ in cells], "part": [n / max(total, 1) for *_, n, total in cells],
            "text": [str(n) if n else "" for *_, n, _ in cells],
            "ink": ["white" if n > 0.5 * max(total, 1) else "#222" for *_, n, total in cells],
        }
    )  # fmt: skip
    names = list(shown.values())
    plot = figure(
        x_range=names, y_range=names[::-1], height=120 + 34 * len(names), width=260 + 70 * len(names), tools="tap",
        x_axis_label="predicted", y_axis_label="true", title="Best labels of test units: click to list them",
    )  # fmt: skip
    mapper = LinearColorMapper(palette=Blues256[::-1], low=0, high=1)
    plot.rect("x", "y", 1, 1, source=source, line_color="white", fill_color={"field": "part", "transform": mapper},
              nonselection_alpha=1)  # fmt: skip
    plot.text("x", "y", text="text", text_color="ink", source=source, text_align="center", text_baseline="middle",
              text_font_size="10pt", nonselection_alpha=1)  # fmt: skip
    fields = {"true": "@truth", "predicted": "@best", "units": "@units", "part of the true": "@part{0 %}"}
    plot.add_tools(HoverTool(tooltips=list(fields.items())))
    plot.xaxis.major_label_orientation = 0.6
    plot.grid.visible, plot.toolbar.logo = False, None
    own, chosen = ColumnDataSource(source_columns(table.reset_index())), IndexFilter(indices=list(range(len(table))))
    arguments = {"source": source, "own": own, "filter": chosen}
    source.selected.js_on_change("indices", CustomJS(args=arguments, code=_LIST_UNITS))
    listed = sortable(table, "units.csv", source=own, view=CDSView(filter=chosen), height=360)
    return column(plot, listed, sizing_mode="stretch_width")


def numbers_of(evaluation: RegressorEvaluation, recordings: list[str]):
    """True against predicted numbers of the embedding, and a table that shares its selection. A layout of Bokeh."""
    from bokeh.layouts import column
    from bokeh.models import ColumnDataSource, HoverTool
    from bokeh.plotting import figure

    table = _table(evaluation, recordings)
    source = ColumnDataSource(source_columns(table.reset_index()))
    plot = figure(
        height=420, sizing_mode="stretch_width", tools="tap,box_select,lasso_select,pan,wheel_zoom,reset",
        x_axis_label="true", y_axis_label="predicted", title=for_bokeh(evaluation.target), active_drag="box_select",
    )  # fmt: skip
    both = table[["truth", "value"]].to_numpy(dtype=float)
    low, high = (np.nanmin(both), np.nanmax(both)) if np.isfinite(both).any() else (0, 1)
    plot.line([low, high], [low, high], color="#999999")
    plot.scatter("truth", "value", source=source, size=7, line_color="white", nonselection_alpha=0.2)
    shown = [(name, f"@{name}") for name in ("unit_id", "animal", "recording", "truth", "value")]
    plot.add_tools(HoverTool(tooltips=shown))
    plot.toolbar.logo = None
    return column(plot, sortable(table, "units.csv", source=source, height=360), sizing_mode="stretch_width")


def _table(evaluation: Comparison, recordings: list[str]):
    """Predictions of the embedding, one row per test unit."""
    table = evaluation.predictions_of(EMBEDDING)
    columns = ["animal", "recording", "truth", "best_label", "label", "confidence", "value", "low", "high"]
    table = table[["unit_id", *(name for name in columns if name in table)]].copy()
    table["recording"] = [recordings[number] for number in table["recording"]]
    return table.astype({"unit_id": str}).set_index("unit_id")


def _distinct(names: list[str]) -> list[str]:
    """Names for an axis of Bokeh, which must differ."""
    shown = [for_bokeh(name) for name in names]
    return [name if shown.count(name) == 1 else f"{name} ({k})" for k, name in enumerate(shown, start=1)]


_LIST_UNITS = """
const cells = source.data, chosen = source.selected.indices, units = own.data, found = []
const inside = (k) => chosen.some(c => cells.truth[c] === units.truth[k] && cells.best[c] === units.best_label[k])
for (let k = 0; k < units.truth.length; k++) if (!chosen.length || inside(k)) found.push(k)
filter.indices = found
own.change.emit()
"""
