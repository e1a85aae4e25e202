"""The view in Qt."""

from contextlib import suppress
from html import escape

import numpy as np


class QtPart:
    """What `NuCLRView` is in Qt. Its methods are those that spikeinterface-gui calls."""

    def _qt_make_layout(self):
        import pyqtgraph as pg
        from spikeinterface_gui.myqt import QT
        from spikeinterface_gui.utils_qt import ViewBoxHandlingLasso

        self.layout = QT.QVBoxLayout()
        self.qt_select = QT.QPushButton("select", checkable=True)
        self.qt_widget.view_toolbar.addWidget(self.qt_select)
        self.qt_title = QT.QLabel()
        self.qt_title.setTextFormat(QT.Qt.RichText)
        self.qt_title.setWordWrap(True)
        self.layout.addWidget(self.qt_title)
        halves = QT.QSplitter()
        self.layout.addWidget(halves)

        box = ViewBoxHandlingLasso()
        self.qt_select.clicked.connect(lambda on: setattr(box, "lasso_active", on))
        box.lasso_drawing.connect(lambda points: self.qt_lasso.setData(*np.transpose(points)))
        box.lasso_finished.connect(self._qt_on_lasso)
        self.qt_map = pg.PlotItem(viewBox=box)
        self.qt_map.hideButtons()
        view = pg.GraphicsView()
        view.setCentralItem(self.qt_map)
        halves.addWidget(view)
        self.qt_points = pg.ScatterPlotItem(pxMode=True, hoverable=True, tip=self._qt_tip)
        self.qt_points.sigClicked.connect(self._qt_on_click)
        self.qt_lasso = pg.PlotCurveItem(pen="#7FFF00")
        self.qt_map.addItem(self.qt_points)
        self.qt_map.addItem(self.qt_lasso)

        side = QT.QSplitter(QT.Qt.Vertical)
        halves.addWidget(side)
        self.qt_about = QT.QLabel()
        self.qt_about.setTextFormat(QT.Qt.PlainText)
        self.qt_about.setWordWrap(True)
        side.addWidget(self.qt_about)
        self.qt_bars = pg.PlotItem()
        self.qt_bars.setXRange(0, 1)
        self.qt_bars.setMouseEnabled(x=False, y=False)
        self.qt_bars.setLabel("bottom", "probability")
        view = pg.GraphicsView()
        view.setCentralItem(self.qt_bars)
        side.addWidget(view)
        self.qt_units = _table(QT, ["unit", "similarity", "label"])
        self.qt_units.cellClicked.connect(self._qt_on_neighbour)
        side.addWidget(self.qt_units)
        self.qt_labelled = _table(QT, ["resembles", "animal", "recording", "neuron", "distance"])
        side.addWidget(self.qt_labelled)
        halves.setSizes([600, 400])
        side.setSizes([90, 170, 150, 150])

    def _qt_refresh(self):
        import pyqtgraph as pg

        missing = self.read()
        if missing:
            self.qt_title.setText(escape(missing))
            self.qt_points.clear()
            return
        points, colouring = self.points(), self.content.colouring(self.settings["color_by"])
        self.qt_title.setText(colouring.to_html())
        visible = set(self.controller.get_visible_unit_indices())
        placed = np.flatnonzero(np.isfinite(points).all(axis=1))
        self.qt_points.setData(
            pos=points[placed], size=self.settings["point_size"], data=list(zip(placed.tolist(), strict=True)),
            brush=[pg.mkBrush(colouring.colours[row]) for row in placed],
            pen=[pg.mkPen("w", width=2) if row in visible else pg.mkPen(None) for row in placed],
        )  # fmt: skip
        self._names = colouring.names
        self._qt_refresh_unit()

    def _qt_refresh_unit(self):
        import pyqtgraph as pg

        unit, count = self.shown_last, self.settings["neighbours"]
        self.qt_bars.clear()
        if unit is None:
            self.qt_about.setText("")
            self._qt_neighbours = []
            _fill(self.qt_units, [])
            _fill(self.qt_labelled, [])
            return
        self.qt_about.setText("\n".join(self.content.summary(unit)))
        found = self.content.probabilities(unit)[::-1]
        if found:
            names, values, colours = zip(*found, strict=True)
            y = np.arange(len(names))
            self.qt_bars.addItem(
                pg.BarGraphItem(x0=0, y=y, height=0.8, width=values, brushes=list(map(pg.mkBrush, colours)), pen=None)
            )
            self.qt_bars.getAxis("left").setTicks([list(zip(y.tolist(), names, strict=True))])
            self.qt_bars.setYRange(-0.5, len(names) - 0.5)
        self._qt_neighbours = self.content.nearest_units(unit, count)
        _fill(self.qt_units, [(str(u), f"{s:.2f}", label) for u, s, label in self._qt_neighbours])
        rows, reason = self.content.nearest_labelled(unit, count)
        _fill(self.qt_labelled, [(*row[:4], f"{row[4]:.2f}") for row in rows] or [(reason, "", "", "", "")])

    def _qt_tip(self, x, y, data) -> str:
        [row] = data
        return escape(f"unit {self.controller.unit_ids[row]}: {self._names[row]}")  # Qt would read markup

    def _qt_on_click(self, _, spots, event):
        from spikeinterface_gui.myqt import QT

        if not self.qt_select.isChecked():
            [row] = spots[0].data()
            self.show_units([row], add=event.modifiers() == QT.Qt.ControlModifier)

    def _qt_on_lasso(self, points, shift: bool):
        from matplotlib.path import Path

        self.qt_lasso.setData([], [])
        if self.content is not None:
            places = self.points()
            placed = np.flatnonzero(np.isfinite(places).all(axis=1))
            self.show_units(placed[Path(points).contains_points(places[placed])], add=shift)

    def _qt_on_neighbour(self, row: int, _):
        with suppress(IndexError):
            unit = self._qt_neighbours[row][0]
            self.show_units([self.controller.unit_ids.tolist().index(unit)], add=True)


def _table(QT, header: list[str]):
    table = QT.QTableWidget(0, len(header))
    table.setHorizontalHeaderLabels(header)
    table.verticalHeader().hide()
    table.setEditTriggers(QT.QAbstractItemView.NoEditTriggers)
    table.setSelectionBehavior(QT.QAbstractItemView.SelectRows)
    return table


def _fill(table, rows: list[tuple[str, ...]]) -> None:
    from spikeinterface_gui.myqt import QT

    table.setRowCount(len(rows))
    for i, row in enumerate(rows):
        for j, text in enumerate(row):
            table.setItem(i, j, QT.QTableWidgetItem(text))
    table.resizeColumnsToContents()
