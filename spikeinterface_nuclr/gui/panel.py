"""The view in Panel, for a web browser."""

from html import escape

import numpy as np

# Columns of the two tables.
_UNITS = ("unit", "similarity", "label")
_LABELLED = ("label", "animal", "recording", "neuron", "distance")


class PanelPart:
    """What `NuCLRView` is in Panel. Its methods are those that spikeinterface-gui calls."""

    def _panel_make_layout(self):
        import panel as pn
        from bokeh.models import ColumnDataSource, HoverTool, LassoSelectTool

        self.panel_source = ColumnDataSource({name: [] for name in ("x", "y", "colour", "edge", "unit", "name", "row")})
        self.panel_map = _figure("reset,pan,wheel_zoom,tap")
        glyph = self.panel_map.scatter(
            "x", "y", source=self.panel_source, size=self.settings["point_size"], fill_color="colour",
            line_color="edge", line_width=2, nonselection_alpha=1, selection_alpha=1,
        )  # fmt: skip
        self.panel_glyph = glyph.glyph
        for same in (glyph.selection_glyph, glyph.nonselection_glyph):
            same.line_color = "edge"
        hover = HoverTool(tooltips=[("unit", "@unit"), ("", "@name")])
        self.panel_map.add_tools(LassoSelectTool(continuous=False), hover)
        # The selection of the browser is the visible units, whoever chose them.
        self._panel_selecting = False
        self.panel_source.selected.on_change("indices", self._panel_on_selected)

        self.panel_title = pn.pane.HTML(sizing_mode="stretch_width", max_height=120, styles={"overflow-y": "auto"})
        self.panel_about = pn.pane.HTML(sizing_mode="stretch_width")
        self.panel_bars_source = ColumnDataSource({name: [] for name in ("name", "value", "colour")})
        self.panel_bars = _figure("", y_range=[], height=160, x_range=(0, 1))
        self.panel_bars.xaxis.axis_label = "probability"
        self.panel_bars.hbar(
            y="name", right="value", height=0.8, color="colour", source=self.panel_bars_source, line_color=None
        )
        options = {"disabled": True, "show_index": False, "sizing_mode": "stretch_width", "selectable": False}
        self.panel_units = pn.widgets.Tabulator(_frame([], _UNITS), **options)
        self.panel_units.on_click(self._panel_on_neighbour)
        self.panel_labelled = pn.widgets.Tabulator(_frame([], _LABELLED), **options)
        self.panel_no_labelled = pn.pane.HTML(sizing_mode="stretch_width")
        self.layout = pn.Row(
            pn.Column(self.panel_title, self.panel_map, sizing_mode="stretch_both"),
            pn.Column(
                self.panel_about, self.panel_bars, pn.pane.HTML("<b>most similar units</b>"), self.panel_units,
                pn.pane.HTML("<b>labelled neurons that it resembles</b>"), self.panel_no_labelled, self.panel_labelled,
                sizing_mode="stretch_both", scroll=True,
            ),
            sizing_mode="stretch_both",
        )  # fmt: skip

    def _panel_refresh(self):
        missing = self.read()
        if missing:
            self.panel_title.object = escape(missing)
            self.panel_source.data = {name: [] for name in self.panel_source.data}
            return
        points, colouring = self.points(), self.content.colouring(self.settings["color_by"])
        visible = set(self.controller.get_visible_unit_indices())
        placed = np.flatnonzero(np.isfinite(points).all(axis=1)).tolist()
        self.panel_glyph.size = self.settings["point_size"]
        self._panel_selecting = True
        self.panel_source.data = {
            "x": points[placed, 0], "y": points[placed, 1], "row": placed,
            "colour": [colouring.colours[row] for row in placed], "name": [colouring.names[row] for row in placed],
            "edge": ["white" if row in visible else colouring.colours[row] for row in placed],
            "unit": [str(self.controller.unit_ids[row]) for row in placed],
        }  # fmt: skip
        self.panel_source.selected.indices = [k for k, row in enumerate(placed) if row in visible]
        self._panel_selecting = False
        self.panel_title.object = colouring.to_html()
        self._panel_refresh_unit()

    def _panel_refresh_unit(self):
        unit, count = self.shown_last, self.settings["neighbours"]
        about, found, neighbours, labelled, reason = [], [], [], [], ""
        if unit is not None:
            about, found = self.content.summary(unit), self.content.probabilities(unit)[::-1]
            neighbours = self.content.nearest_units(unit, count)
            labelled, reason = self.content.nearest_labelled(unit, count)
        self.panel_about.object = "<br>".join(map(escape, about))
        names, values, colours = (list(column) for column in zip(*found, strict=True)) if found else ([], [], [])
        self.panel_bars.y_range.factors = names
        self.panel_bars_source.data = {"name": names, "value": values, "colour": colours}
        self._panel_neighbours = [unit for unit, _, _ in neighbours]
        self.panel_units.value = _frame([(str(unit), f"{s:.2f}", label) for unit, s, label in neighbours], _UNITS)
        self.panel_labelled.value = _frame([(*row[:4], f"{row[4]:.2f}") for row in labelled], _LABELLED)
        self.panel_no_labelled.object = escape(reason)

    def _panel_on_selected(self, _, before, now):
        if not self._panel_selecting and now:
            self.show_units([self.panel_source.data["row"][k] for k in now], add=False)

    def _panel_on_neighbour(self, event):
        unit = self._panel_neighbours[event.row]
        self.show_units([self.controller.unit_ids.tolist().index(unit)], add=True)


def _frame(rows: list[tuple], columns: tuple[str, ...]):
    import pandas as pd

    return pd.DataFrame(rows, columns=list(columns), dtype=str)


def _figure(tools: str, **options):
    """A dark figure, as those of spikeinterface-gui."""
    import bokeh.plotting as bpl
    from spikeinterface_gui.utils_panel import _bg_color

    figure = bpl.figure(
        sizing_mode="stretch_both" if "height" not in options else "stretch_width", tools=tools,
        background_fill_color=_bg_color, border_fill_color=_bg_color, outline_line_color="white", **options,
    )  # fmt: skip
    figure.toolbar.logo = None
    figure.grid.visible = False
    figure.axis.axis_label_text_color = figure.axis.major_label_text_color = "white"
    return figure
