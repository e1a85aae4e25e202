"""The view of spikeinterface-gui: what it shows, in Qt without a screen, and in a real browser."""

import dataclasses
import json
import os
import re
import shutil
import socket

import numpy as np
import pytest
from gui_analyzers import saved_analyzer

from spikeinterface_nuclr import Decoder, InputError, open_gui, read_population
from spikeinterface_nuclr.extensions import computed_identity
from spikeinterface_nuclr.gui.content import COLOURINGS, Content
from spikeinterface_nuclr.simulation import simulate_analyzer
from spikeinterface_nuclr.unit_matches import similarity_of

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


@pytest.fixture(scope="module")
def analyzer(tmp_path_factory):
    return saved_analyzer(tmp_path_factory.mktemp("gui") / "analyzer", silent=True)[0]


@pytest.fixture(scope="module")
def content(analyzer):
    return Content(analyzer)


# --- what it shows


def test_the_map_is_that_of_the_figures(content, analyzer):
    points = content.points("PCA")
    assert points.shape == (24, 2)
    np.testing.assert_array_equal(np.isfinite(points).all(axis=1), np.arange(24) < 23)  # the last unit is silent


@pytest.mark.parametrize("by", COLOURINGS)
def test_every_colouring_names_what_it_shows(content, by):
    colouring = content.colouring(by)
    assert len(colouring.colours) == len(colouring.names) == 24
    assert all(colour.startswith("#") and len(colour) == 7 for colour in colouring.colours)
    if by == "estimate":
        assert colouring.title == "nothing: compute nuclr_estimate"
        assert colouring.legend == []
    else:
        assert {colour for _, colour in colouring.legend} <= {*colouring.colours, "#440154", "#fde725"} or by not in (
            "identity", "group")  # fmt: skip
        assert colouring.legend


def test_unknown_is_grey_and_classes_have_the_colours_of_the_figures(content, analyzer):
    from matplotlib.colors import to_hex

    from spikeinterface_nuclr.widgets.drawing import GREY, class_colours

    identities = computed_identity(analyzer).get_identities()
    colouring = content.colouring("identity")
    palette = {name: to_hex(colour) for name, colour in class_colours(identities.classes).items()}
    palette["unknown"] = to_hex(GREY)
    assert colouring.colours == [palette[label] for label in identities.label.tolist()]
    assert colouring.names == identities.label.tolist()


def test_names_from_files_are_not_markup(analyzer):
    content = Content(analyzer)
    found, markup = content.identities, "<img src=x>"
    content.identities = dataclasses.replace(
        found, classes=np.array([markup, *found.classes[1:]]),
        best_label=np.where(found.best_label == "bursting", markup, found.best_label),
    )  # fmt: skip
    assert "<img" not in content.colouring("identity").to_html()
    assert "&lt;img src=x&gt;" in content.colouring("identity").to_html()


def test_neighbours_are_the_most_similar_units(content, analyzer):
    embedding = content.embeddings.embedding
    similarity = similarity_of(embedding[:23], embedding[:23])
    unit = analyzer.unit_ids.tolist()[5]
    others = [k for k in np.argsort(-similarity[5], kind="stable") if k != 5][:3]
    assert [found[0] for found in content.nearest_units(unit, 3)] == analyzer.unit_ids[others].tolist()
    assert content.nearest_units(analyzer.unit_ids.tolist()[-1], 3) == []


def test_a_unit_is_explained(content, analyzer):
    unit, silent = analyzer.unit_ids.tolist()[-2:]
    assert content.summary(silent)[1].startswith("no embedding")
    assert content.probabilities(silent) == []
    assert content.nearest_labelled(silent) == ([], "no embedding")
    found = content.probabilities(unit)
    assert [p for _, p, _ in found] == sorted((p for _, p, _ in found), reverse=True)
    assert sum(p for _, p, _ in found) == pytest.approx(1, abs=1e-5)
    rows, reason = content.nearest_labelled(unit, 4)
    decoder = Decoder.load("simulated-cell-type")
    expected = decoder.nearest_labelled(content.embeddings, count=4).loc[unit]
    assert reason == ""
    assert [row[3] for row in rows] == expected["neuron"].tolist()
    assert "novelty" in "\n".join(content.summary(unit))
    assert re.search(r"simple features: rate \(Hz\) \d", "\n".join(content.summary(unit)))


def test_without_a_decoder_it_says_what_to_compute():
    from spikeinterface_nuclr import compute_nuclr_embedding

    analyzer = simulate_analyzer(6, 30.0)
    with pytest.raises(InputError, match="no embeddings: press compute"):
        Content(analyzer)
    compute_nuclr_embedding(analyzer, progress_bar=False)
    content, unit = Content(analyzer), analyzer.unit_ids.tolist()[0]
    assert content.colouring("identity").title == "nothing: compute nuclr_identity"
    assert content.nearest_labelled(unit) == ([], "no decoder: compute nuclr_identity")
    assert content.probabilities(unit) == []


def test_a_stale_result_says_so(tmp_path):
    analyzer, _ = saved_analyzer(tmp_path / "a", units=8)
    extension = analyzer.get_extension("nuclr_identity")
    extension.data["provenance"]["stale"] = "the decoder is gone"
    assert "stale: the decoder is gone" in Content(analyzer).summary(analyzer.unit_ids.tolist()[0 + 1])


# --- the window


def test_what_the_gui_needs_is_asked_for(analyzer):
    pytest.importorskip("spikeinterface_gui")
    with pytest.raises(InputError, match="the GUI needs random_spikes, templates, unit_locations"):
        open_gui(simulate_analyzer(4, 10.0))
    with pytest.raises(InputError, match="mode must be desktop or web"):
        open_gui(analyzer, mode="browser")
    for wrong in ("folder", analyzer.sorting):
        with pytest.raises(InputError, match="open_gui takes a SortingAnalyzer"):
            open_gui(wrong)
    with pytest.raises(InputError, match="iterative_curation"):
        open_gui(analyzer, curation=True, iterative_curation=True)
    with pytest.raises(InputError, match="give curation=True too"):
        open_gui(analyzer, classes=["x"])


def test_the_command_opens_a_saved_analyzer(copied, nuclr, monkeypatch):
    """Dense, and without its recording, which is never opened."""
    gui = pytest.importorskip("spikeinterface_gui")
    pytest.importorskip("PySide6.QtWidgets", exc_type=ImportError)
    windows, run = [], gui.run_mainwindow
    monkeypatch.setattr(gui, "run_mainwindow", lambda *a, **k: windows.append(run(*a, **{**k, "start_app": False})))
    assert copied.sparsity is None
    nuclr("gui", copied.folder, "--curation", "--label", "axon")
    [window] = windows
    assert "nuclr" in window.views
    assert "axon" in window.controller.curation_data["label_definitions"]["cell_type"]["label_options"]
    assert not window.controller.analyzer.has_recording()
    window.close()
    nuclr("gui", copied.folder, "--port", 5006, code=2)


def test_a_saved_curation_that_does_not_fit_is_named(copied):
    pytest.importorskip("spikeinterface_gui")
    path = copied.folder / "spikeinterface_gui" / "curation_data.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"format_version": "1", "unit_ids": [], "manual_labels": []}))
    with pytest.raises(InputError, match=r"curation_data.json: curation: not a curation dict of version 2: move"):
        open_gui(copied, curation=True, start_app=False)


def test_the_command_refuses_what_is_no_analyzer(nuclr, tmp_path):
    assert "no such file" in nuclr("gui", tmp_path / "none", code=3).stderr
    assert "not the folder of a SortingAnalyzer" in nuclr("gui", tmp_path, code=3).stderr
    nuclr("gui", tmp_path, "--label", "x", code=2)


@pytest.fixture
def copied(analyzer, tmp_path):
    """An analyzer of its own, with a curation that no other test has saved."""
    import spikeinterface as si

    shutil.copytree(analyzer.folder, tmp_path / "analyzer")
    return si.load_sorting_analyzer(tmp_path / "analyzer")


class Desktop:
    """The window of spikeinterface-gui in Qt."""

    def __init__(self, analyzer, **keywords):
        from spikeinterface_gui.myqt import mkQApp

        self.app = mkQApp()
        self.window = open_gui(analyzer, start_app=False, with_traces=False, **keywords)
        self.window.resize(1600, 1000)
        self.view, self.list = self.window.views["nuclr"], self.window.views["unitlist"]
        self.settle()
        self.window.docks["nuclr"].raise_()
        self.settle()
        self.view.refresh()

    def settle(self):
        for _ in range(30):
            self.app.processEvents()

    def click(self, row: int, modifiers=None):
        """A real mouse click on the point of a unit."""
        from spikeinterface_gui.myqt import QT

        QtTest = pytest.importorskip("PySide6.QtTest")
        scene = self.view.qt_map.vb.mapViewToScene(pg_point(*self.view.points()[row]))
        graphics = self.view.qt_map.scene().views()[0]
        QtTest.QTest.mouseClick(
            graphics.viewport(), QT.MouseButton.LeftButton, modifiers or QT.KeyboardModifier.NoModifier,
            graphics.mapFromScene(scene),
        )  # fmt: skip
        self.settle()

    def close(self):
        self.window.close()
        self.settle()


def pg_point(x, y):
    from spikeinterface_gui.myqt import QT

    return QT.QPointF(float(x), float(y))


@pytest.fixture
def desktop(copied):
    pytest.importorskip("spikeinterface_gui")
    pytest.importorskip("PySide6.QtWidgets", exc_type=ImportError)
    opened = Desktop(copied, curation=True)
    yield opened
    opened.close()


def test_a_click_in_the_map_selects_the_unit_in_the_list(desktop):
    from spikeinterface_gui.myqt import QT

    controller = desktop.window.controller
    desktop.click(5)
    assert controller.get_visible_unit_ids() == [controller.unit_ids[5]]
    assert checked_rows(desktop) == {str(controller.unit_ids[5])}
    desktop.click(9, QT.KeyboardModifier.ControlModifier)
    assert checked_rows(desktop) == {str(controller.unit_ids[5]), str(controller.unit_ids[9])}
    assert desktop.view.qt_about.text().startswith(f"unit {controller.unit_ids[9]}")
    assert desktop.view.qt_labelled.rowCount() == 5


def checked_rows(desktop) -> set[str]:
    """Units that are ticked in spikeinterface-gui's own list."""
    from spikeinterface_gui.myqt import QT

    table, found = desktop.list.table, set()
    columns = {table.horizontalHeaderItem(k).text(): k for k in range(table.columnCount())}
    for row in range(table.rowCount()):
        if table.item(row, columns["visible"]).checkState() == QT.CheckState.Checked:
            found.add(table.item(row, columns["unit_id"]).text().strip())
    return found


def test_what_the_list_selects_is_marked_in_the_map(desktop):
    controller = desktop.window.controller
    controller.set_visible_unit_ids([controller.unit_ids[3]])
    desktop.list.notify_unit_visibility_changed()
    desktop.settle()
    widths = {
        spot.data()[0]: spot.pen().widthF() for spot in desktop.view.qt_points.points() if spot.pen().style().value
    }
    assert list(widths) == [3]
    assert desktop.view.qt_about.text().startswith(f"unit {controller.unit_ids[3]}")


def test_an_outline_selects_the_units_inside(desktop):
    places = desktop.view.points()[:23]
    left, low = places.min(axis=0) - 1
    right, high = np.sort(places[:, 0])[14:16].mean(), places[:, 1].max() + 1
    desktop.view._qt_on_lasso([[left, low], [right, low], [right, high], [left, high]], False)
    inside = np.flatnonzero(desktop.view.points()[:, 0] < right)
    controller = desktop.window.controller
    assert len(inside) == 15  # spikeinterface-gui shows ten at most
    assert set(controller.get_visible_unit_ids()) == set(controller.unit_ids[inside[-10:]])


def test_settings_change_the_colours(desktop):
    before = [spot.brush().color().name() for spot in desktop.view.qt_points.points()]
    desktop.view.settings["color_by"] = "depth"
    desktop.settle()
    after = [spot.brush().color().name() for spot in desktop.view.qt_points.points()]
    assert before != after
    assert "depth" in desktop.view.qt_title.text()


def test_predictions_are_columns_of_the_list(desktop):
    header = [desktop.list.table.horizontalHeaderItem(k).text() for k in range(desktop.list.table.columnCount())]
    assert {"nuclr_cell_type", "cell_type", "nuclr_cell_type_probability"} <= set(header)


def test_a_corrected_label_is_saved_and_trains_a_decoder(desktop, copied):
    """Select, correct, save: what spikeinterface-gui's own buttons call."""
    controller = desktop.window.controller
    for unit, label in zip(controller.unit_ids[:8], ["fast", "regular"] * 4, strict=True):
        controller.set_label_to_unit(unit, "cell_type", label)
    controller.save_curation_callback()
    properties = read_population(copied.folder).properties
    assert properties["cell_type"].tolist() == [*["fast", "regular"] * 4, *[""] * 16]
    again = Desktop(copied, curation=True)
    assert again.window.controller.get_unit_label(controller.unit_ids[1], "cell_type") == "regular"
    again.close()


def test_without_embeddings_it_offers_to_compute_them(copied):
    pytest.importorskip("spikeinterface_gui")
    pytest.importorskip("PySide6.QtWidgets", exc_type=ImportError)
    copied.delete_extension("nuclr_embedding")
    opened = Desktop(copied)
    try:
        assert "no embeddings: press compute" in opened.view.qt_title.text()
        opened.view.compute()
        opened.settle()
        assert len(opened.view.qt_points.points()) == 23
        assert copied.has_extension("nuclr_embedding")
    finally:
        opened.close()


# --- a browser


@pytest.fixture
def page(copied, tmp_path):
    """The view, and spikeinterface-gui's list of units and curation beside it, in Chromium."""
    pytest.importorskip("spikeinterface_gui")
    panel = pytest.importorskip("panel")
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no Chromium")
    window = open_gui(
        copied, mode="web", curation=True, start_app=False, panel_window_servable=False, with_traces=False
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    layouts = [window.view_layouts[name] for name in ("nuclr", "unitlist", "curation")]
    shown = panel.Row(*layouts, sizing_mode="stretch_both")
    server = panel.serve({"/": shown}, port=port, address="127.0.0.1", show=False, threaded=True)
    flags = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
    outside = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        page = browser.new_page(viewport={"width": 1800, "height": 900})
        page.on("request", lambda request: outside.append(request.url) if "127.0.0.1" not in request.url else None)
        # Keyboard shortcuts of spikeinterface-gui load React from the network, without which nothing is shown.
        page.route("https://esm.sh/**", lambda route: route.fulfill(body=_NO_REACT, content_type="text/javascript"))
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_selector("text=most similar units", timeout=60_000)
        page.wait_for_timeout(2000)
        page.outside, page.window = outside, window
        yield page
        browser.close()
    server.stop()


# What Panel asks of React, without an effect.
_NO_REACT = """
const nothing = () => null, root = {render: nothing, unmount: nothing};
export const createElement = nothing, useState = () => [[], nothing], useEffect = nothing, useMemo = nothing,
  useRef = () => ({}), useCallback = nothing, Fragment = nothing, createRoot = () => root, version = "0";
export class Component {}
export default {createElement, useState, useEffect, useMemo, useRef, useCallback, Fragment, createRoot, Component};
"""


def place_of(page, point) -> list[float]:
    """Where on the page bokeh has drawn a point of the map."""
    return page.evaluate(
        """([x, y]) => {
          const found = [];
          const walk = (v) => { if (v.model && v.model.type === 'Figure') found.push(v);
            for (const child of (v.child_views || [])) walk(child); };
          for (const root of Bokeh.index.roots) walk(root);
          const figure = found[0], frame = figure.frame, box = figure.el.getBoundingClientRect();
          return [box.x + frame.x_scale.compute(x), box.y + frame.y_scale.compute(y)];
        }""",
        np.asarray(point).tolist(),
    )


@pytest.mark.slow
def test_in_a_browser_an_outline_selects_the_units_inside(page):
    view, controller = page.window.views["nuclr"], page.window.controller
    points = view.points()[:23]
    middle = points[np.argsort(np.linalg.norm(points - np.median(points, axis=0), axis=1))[:4]].mean(axis=0)
    inside = np.argsort(np.linalg.norm(points - middle, axis=1))
    distance = np.linalg.norm(points - middle, axis=1)[inside]
    count = 2 + int(np.argmax(np.diff(distance)[1:5]))  # two to six units, where a gap follows
    radius = distance[count - 1 : count + 1].mean()
    page.locator("[title^='Lasso'], .bk-tool-icon-lasso-select").first.click()
    corners = [middle + radius * np.array([np.cos(a), np.sin(a)]) for a in np.linspace(0, 2 * np.pi, 60)]
    page.mouse.move(*place_of(page, corners[0]))
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*place_of(page, corner))
    page.mouse.up()
    page.wait_for_timeout(2000)
    assert set(controller.get_visible_unit_ids()) == set(controller.unit_ids[inside[:count]])
    ticked = [k for k, shown in enumerate(page.window.views["unitlist"].table.value["visible"]) if shown]
    assert ticked == sorted(inside[:count].tolist())


@pytest.mark.slow
def test_in_a_browser_the_list_follows_the_map_and_labels_are_saved(page, copied):
    window = page.window
    view, controller = window.views["nuclr"], window.controller
    # Where bokeh has drawn the point of a unit.
    row = 7
    page.mouse.click(*place_of(page, view.points()[row]))
    page.wait_for_timeout(2000)
    assert controller.get_visible_unit_ids() == [controller.unit_ids[row]]
    assert page.locator(f"text=unit {controller.unit_ids[row]}").count() == 1
    ticked = [k for k, shown in enumerate(window.views["unitlist"].table.value["visible"]) if shown]
    assert ticked == [row]
    # The cell of its label in spikeinterface-gui's list, and an option of the editor that opens there.
    table = page.locator(".tabulator", has=page.locator('.tabulator-cell[tabulator-field="cell_type"]')).first
    table.locator('.tabulator-cell[tabulator-field="cell_type"]').nth(row).click()
    page.wait_for_timeout(500)
    page.locator(".tabulator-edit-list-item", has_text="fast").click()
    page.wait_for_timeout(1500)
    assert controller.get_unit_label(controller.unit_ids[row], "cell_type") == "fast"
    page.get_by_text("Save curation").click()
    page.wait_for_timeout(1500)
    saved = json.loads((copied.folder / "spikeinterface_gui" / "curation_data.json").read_text())
    assert {e["unit_id"]: e["labels"].get("cell_type") for e in saved["manual_labels"]}[
        str(controller.unit_ids[row])
    ] == ["fast"]
    assert all(url.startswith("https://esm.sh/react") for url in page.outside)
