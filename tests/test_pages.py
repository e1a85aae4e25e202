"""Pages of reports: what they show, that names in files stay text, and that a browser loads nothing else."""

import dataclasses
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from test_decoder import cohort, recording

from spikeinterface_nuclr import (
    Decoder,
    InputError,
    Population,
    embed,
    evaluate,
    evaluate_regressor,
    fit_decoder,
    simulate_population,
    write_report,
)
from spikeinterface_nuclr.decoding.cohort import Cohort
from spikeinterface_nuclr.reports import evaluation as evaluation_report
from spikeinterface_nuclr.reports.methods import methods_of
from spikeinterface_nuclr.reports.page import Page

MARKUP = "</script><img src=http://example.org/x onerror=\"document.title='run'\">"


@pytest.fixture(scope="module")
def session():
    population = simulate_population(24, 60.0, seed=500)
    embeddings = embed(population, progress=False)
    decoder = Decoder.load("simulated-cell-type")
    return population, embeddings, decoder.predict(embeddings), decoder


def odd_session(session):
    """The same with names that look like markup, or like formulas of spreadsheets and of MathJax."""
    population, embeddings, identities, _ = session
    ids = np.array([MARKUP, "=1+1", "$$x^2$$", *population.unit_ids[3:].tolist()])
    names = np.array([MARKUP, *identities.classes[1:]])
    renamed = np.where(identities.best_label == identities.classes[0], MARKUP, identities.best_label)
    metadata = {**population.metadata, "session": MARKUP}
    return (
        dataclasses.replace(population, unit_ids=ids, metadata=metadata),
        dataclasses.replace(embeddings, unit_ids=ids),
        dataclasses.replace(identities, unit_ids=ids, classes=names, best_label=renamed, target=MARKUP),
    )


def test_a_page_of_a_recording_is_one_file(session, tmp_path):
    population, embeddings, identities, decoder = session
    path = write_report(
        tmp_path / "s.html", population, embeddings, identities, decoder=decoder, depths=population.properties["depth"]
    )
    text = path.read_text(encoding="utf-8")
    assert not re.search(r'<(link|script|img)[^>]*(src|href)="?(https?:)?//', text)
    for expected in ("Along the probe", "Why this label", "Arora V", "Buccino", decoder.sha256[:12]):
        assert expected in text
    labelled = int((~identities.abstained).sum())
    assert f"is named for {labelled} of them" in text
    with pytest.raises(InputError, match="exists already"):
        write_report(path, population, embeddings)
    before = path.read_bytes()
    write_report(path, population, embeddings, identities, decoder=decoder, depths=population.properties["depth"],
                 overwrite=True)  # fmt: skip
    assert shown(path.read_bytes()) == shown(before)


def shown(content: bytes) -> bytes:
    """A page without the random names that Bokeh gives its parts."""
    return re.sub(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|p\d{4,}", b"", content)


def test_a_page_has_no_links_where_panel_is_loaded(session, tmp_path):
    """Panel registers stylesheets of a network with Bokeh."""
    pytest.importorskip("panel")
    code = (
        "import sys; import panel; panel.extension('tabulator'); from spikeinterface_nuclr import *\n"
        "p = simulate_population(6, 30.0); write_report(sys.argv[1], p, embed(p, progress=False))"
    )
    path = tmp_path / "s.html"
    subprocess.run([sys.executable, "-c", code, path], check=True, capture_output=True)
    assert not re.search(r'<(link|script|img)[^>]*(src|href)="?(https?:)?//', path.read_text(encoding="utf-8"))


def test_a_page_without_identities_or_with_traces(session, tmp_path, rng):
    population, embeddings, _, _ = session
    text = write_report(tmp_path / "a.html", population, embeddings).read_text(encoding="utf-8")
    assert "Why this label" not in text
    assert "Along the probe" not in text
    traces = Population(
        [f"r{k}" for k in range(6)], traces=rng.standard_normal((6, 3000)).astype(np.float32), sampling_frequency=5.0
    )
    found = embed(traces, progress=False)
    assert "rate (Hz)" not in write_report(tmp_path / "b.html", traces, found).read_text(encoding="utf-8")


def test_what_does_not_belong_together_is_refused_and_nothing_is_written(session, tmp_path):
    population, embeddings, identities, _ = session
    path = tmp_path / "s.html"
    with pytest.raises(InputError, match="embeddings: are of other units"):
        write_report(path, population, embeddings.select(np.arange(5)))
    with pytest.raises(InputError, match="identities: are of other units"):
        write_report(path, population, embeddings, identities.select(np.arange(5)))
    for depths in (np.arange(3), np.array(["a"] * 24)):
        with pytest.raises(InputError, match="depths: give one number"):
            write_report(path, population, embeddings, depths=depths)
    with pytest.raises(InputError, match="html"):
        write_report(tmp_path / "s.pdf", population, embeddings)
    with pytest.raises(InputError, match="identities must be Identities"):
        write_report(path, population, embeddings, embeddings)
    assert list(tmp_path.iterdir()) == []


def test_two_units_have_a_page(session, tmp_path):
    population, embeddings, identities, _ = session
    parts = (one.select([0, 1]) for one in (population, embeddings, identities))
    assert "Map of the embeddings" in write_report(tmp_path / "two.html", *parts).read_text(encoding="utf-8")


def test_the_methods_name_model_decoder_and_versions(session):
    from importlib.metadata import version

    _, embeddings, identities, decoder = session
    text, references = methods_of(embeddings, identities)
    assert "in windows of 20 s" in text
    assert embeddings.provenance.checkpoint_sha256[:12] in text
    assert decoder.sha256[:12] in text
    assert f"spikeinterface-nuclr {version('spikeinterface-nuclr')}" in text
    assert f"{int(identities.abstained.sum())} of 24 units were left unknown" in text
    assert "at most 10 % of them" in text
    # Of this decoder no temperature was found to help.
    assert decoder.card["calibration"] == "none"
    assert "temperature" not in text
    assert len(references) == 2
    facts = {**identities.provenance, "calibration": "one temperature", "target_error": 0.025}
    text, references = methods_of(embeddings, dataclasses.replace(identities, provenance=facts))
    assert "temperature scaling (Guo et al. 2017)" in text
    assert "at most 2.5 % of them" in text
    assert len(references) == 3
    assert len(methods_of(embeddings)[1]) == 2


def test_markdown_of_a_page_has_no_html():
    page = Page("a <b>")
    page.markdown("<script>alert(1)</script>\n\n| a | b |\n|---|---|\n| <i> | 2 |")
    page.note("<u>")
    page.details("<s>", "<q>")
    text = page.to_html()
    assert not re.search(r"<(script|i|u|s|q|b)>", text)
    assert "<td>&lt;i&gt;</td>" in text


def test_an_evaluation_has_a_page_with_its_units(tmp_path):
    embeddings, labels = cohort(3, units=40)
    found = evaluate(embeddings, labels, shuffles=0, target="type", progress=False)
    members = Cohort(["a", "b", "c"], ["x/a.nwb", "x/b.nwb", "x/c.nwb"], embeddings, labels, [], None, {})
    page = evaluation_report.write_report(tmp_path, found, members, Figure(), [], overwrite=False)
    assert page.name == "report.html"
    text = page.read_text(encoding="utf-8")
    for expected in (found.verdict.split(":")[0], "click to list them", "data:image/png", "leaving out one animal"):
        assert expected in text
    assert "evaluation.png" not in text.split("<body>")[1]
    numbers = [np.arange(40.0) + k for k in range(3)]
    found = evaluate_regressor(embeddings, numbers, shuffles=0, target="depth", progress=False)
    page = evaluation_report.write_report(tmp_path, found, members, Figure(), [], overwrite=True)
    assert '"truth"' in page.read_text(encoding="utf-8")


def test_the_command_writes_what_is_asked_for_or_stored(nuclr, tmp_path):
    import spikeinterface as si
    from gui_analyzers import saved_analyzer
    from nwb_files import add_units, new_nwb, write_nwb_file

    population = simulate_population(12, 60.0, seed=501)
    path = write_nwb_file(tmp_path / "s.nwb", add_units(new_nwb(), population.spike_times))
    done = nuclr("report", path, "-o", tmp_path / "a.html", "-q")
    assert done.stdout.strip() == f"{tmp_path / 'a.html'}: 12 units"
    done = nuclr("report", path, "--decoder", "simulated-cell-type", "-o", tmp_path / "b.html", "-q")
    assert "cell_type named for" in done.stdout
    nuclr("predict", path, "--decoder", "simulated-cell-type", "--in-place", "-q")
    stored = nuclr("report", path, "-o", tmp_path / "c.html", "-q")
    assert stored.stdout.replace("c.html", "b.html") == done.stdout
    assert "Why this label" in (tmp_path / "c.html").read_text(encoding="utf-8")
    content = (tmp_path / "c.html").read_bytes()
    assert "c.html: is up to date" in nuclr("report", path, "-o", tmp_path / "c.html", "-q").stdout
    other = ("report", path, "-o", tmp_path / "c.html", "-q", "--decoder", "simulated-cell-type")
    assert "c.html: is up to date" in nuclr(*other).stdout  # as stored
    assert "exists already" in nuclr(*other, "--target-error", 0.3, code=3).stderr
    assert "exists already" in nuclr("report", path, "-o", tmp_path / "a.html", "-q", code=3).stderr  # has labels now
    assert (tmp_path / "c.html").read_bytes() == content
    nuclr("report", path, "-o", tmp_path / "c.txt", code=3)
    assert "a map is by" in nuclr("report", path, "-o", tmp_path / "d.html", "--map", "x", code=3).stderr
    assert "have no property" in nuclr("report", path, "-o", tmp_path / "d.html", "--depth", "x", code=3).stderr
    nuclr("report", path, "-o", tmp_path / "d.html", "--target-error", 0.2, code=2)
    nuclr("report", path, "-o", tmp_path / "d.html", "--model", "none", code=4)
    both = ["--decoder", "simulated-cell-type", "--model", "nuclr-starter-calcium"]
    assert (
        "needs the model that it was fitted with"
        in nuclr("report", path, "-o", tmp_path / "d.html", *both, code=4).stderr
    )
    analyzer, _ = saved_analyzer(tmp_path / "analyzer")
    assert isinstance(analyzer, si.SortingAnalyzer)
    done = nuclr("report", tmp_path / "analyzer", "-o", tmp_path / "e.html", "-q")
    assert "24 units, cell_type named for" in done.stdout
    assert "Along the probe" in (tmp_path / "e.html").read_text(encoding="utf-8")


def test_the_table_with_identities_is_shown(nuclr, checkpoint, tmp_path):
    from nwb_files import add_units, new_nwb, write_nwb_file

    model = checkpoint.save(tmp_path / "small.safetensors")
    population = simulate_population(12, 60.0, seed=501)
    path = write_nwb_file(tmp_path / "s.nwb", add_units(new_nwb(), population.spike_times))
    nuclr("embed", path, "--model", model, "--in-place", "-q")
    nuclr("predict", path, "--decoder", "simulated-cell-type", "--in-place", "-q")
    assert "cell_type named for" in nuclr("report", path, "-o", tmp_path / "a.html", "-q").stdout
    other = nuclr("report", path, "-o", tmp_path / "b.html", "--model", model, "-q").stdout
    assert other.strip() == f"{tmp_path / 'b.html'}: 12 units"


def test_names_in_a_file_do_not_reach_the_network(monkeypatch):
    import socket

    from spikeinterface_nuclr.decoding.loading import local_decoder

    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("asked the network"))
    for name in ("hf://somebody/something", "https://example.org/d.safetensors", "", None, "/dev/zero", "\0"):
        assert local_decoder(name, "0" * 64) is None
    decoder = Decoder.load("simulated-cell-type")
    assert local_decoder("simulated-cell-type", decoder.sha256).sha256 == decoder.sha256
    assert local_decoder("simulated-cell-type", "0" * 64) is None


# --- a browser


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no Chromium")
    flags = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser):
    """Opens a page, with what it requested and what went wrong."""

    def open_page(path):
        page = browser.new_page(viewport={"width": 1300, "height": 1300})
        page.requests, page.errors = [], []
        page.on("request", lambda one: page.requests.append(one.url))
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda one: page.errors.append(one.text) if one.type == "error" else None)
        page.goto(path.as_uri())
        page.wait_for_selector(".slick-row", timeout=30_000)
        return page

    return open_page


@pytest.mark.slow
def test_a_recording_can_be_pointed_at(opened, session, tmp_path):
    population, embeddings, identities, decoder = session
    path = write_report(tmp_path / "s.html", population, embeddings, identities, decoder=decoder,
                        depths=population.properties["depth"])  # fmt: skip
    page = opened(path)
    page.locator("select").first.select_option("rate (Hz)")
    row = page.locator(".slick-row").nth(3)
    unit = row.locator(".slick-cell").first.inner_text()
    row.locator(".slick-cell").nth(1).click()
    page.wait_for_timeout(800)
    tables = page.locator(".bk-data-table")
    near = tables.nth(1).locator(".slick-row")
    expected = decoder.nearest_labelled(embeddings).loc[unit]
    assert [near.nth(k).locator(".slick-cell").nth(5).inner_text() for k in range(5)] == expected["neuron"].tolist()
    with page.expect_download() as download:
        page.get_by_text("Download CSV").first.click()
    table = pd.read_csv(download.value.path())
    assert table["unit"].tolist() == population.unit_ids.tolist()
    assert table["label"].tolist() == identities.label.tolist()
    assert page.errors == []
    assert [url for url in page.requests if not url.startswith(("file:", "data:", "blob:"))] == []


@pytest.mark.slow
def test_names_that_look_like_markup_stay_text(opened, session, tmp_path):
    population, embeddings, identities = odd_session(session)
    embeddings_of, labels = zip(*(recording(f"{MARKUP}{k}") for k in range(3)), strict=True)
    kinds = dict(zip(np.unique(labels[0]), [MARKUP, "$$x$$", "=1"], strict=True))
    labels = [np.array([kinds[label] for label in one]) for one in labels]
    decoder = fit_decoder(list(embeddings_of), labels, target=MARKUP)
    found = evaluate(list(embeddings_of), labels, shuffles=0, target=MARKUP, progress=False)
    members = Cohort([MARKUP] * 3, [MARKUP] * 3, list(embeddings_of), labels, [], None, {})
    pages = [
        write_report(tmp_path / "s.html", population, embeddings, identities, decoder=None),
        evaluation_report.write_report(tmp_path / "e", found, members, Figure(), [], overwrite=False),
    ]
    units, _ = recording("new")
    one = Population(units.unit_ids, [np.arange(0, 10.0)] * 80, stop=10.0, metadata={"session": MARKUP})
    pages.append(write_report(tmp_path / "n.html", one, units, decoder.predict(units), decoder=decoder))
    for path in pages:
        page = opened(path)
        page.wait_for_timeout(500)
        assert page.title() != "run"
        assert page.locator("img[src^=http]").count() == 0
        assert "onerror" in page.locator("body").inner_text() or "example.org" in page.locator("body").inner_text()
        assert [url for url in page.requests if not url.startswith(("file:", "data:", "blob:"))] == []
        assert page.errors == []
        page.close()


@pytest.mark.slow
def test_a_cell_of_the_confusion_lists_its_units(opened, tmp_path):
    embeddings, labels = cohort(3, units=40)
    found = evaluate(embeddings, labels, shuffles=0, target="type", progress=False)
    members = Cohort(["a", "b", "c"], ["a.nwb", "b.nwb", "c.nwb"], embeddings, labels, [], None, {})
    page = opened(evaluation_report.write_report(tmp_path, found, members, Figure(), [], overwrite=False))
    x, y = page.evaluate(
        """() => { const walk = v => v.model && v.model.type === 'Figure' ? v :
             (v.child_views || []).map(walk).find(Boolean);
           const figure = Bokeh.index.roots.map(walk).find(Boolean), box = figure.el.getBoundingClientRect();
           const [truth, best] = [figure.model.y_range.factors[0], figure.model.x_range.factors[0]];
           return [box.x + figure.frame.x_scale.compute(best), box.y + figure.frame.y_scale.compute(truth)]; }"""
    )
    page.mouse.click(x, y)
    page.wait_for_timeout(800)
    predictions = found.predictions_of("embedding")
    truth, best = found.classes[-1], found.classes[0]
    expected = predictions[(predictions["truth"] == truth) & (predictions["best_label"] == best)]
    rows = page.locator(".slick-row")
    assert rows.count() == len(expected)
    assert [rows.nth(k).locator(".slick-cell").first.inner_text() for k in range(rows.count())] == expected[
        "unit_id"
    ].astype(str).tolist()
