"""Pictures of docs/gui.md: spikeinterface-gui with our view, and reports, of rats' Neuropixels recordings.

    python tools/screenshots.py DATA

DATA holds the folder rat-neuropixels. A decoder of waveform classes is fitted to three rats and read on a fourth; the
evaluation is of the same four. Needs the extra gui, playwright and Chromium. The spikes are real, the waveforms of the
GUI simulated, as the recordings hold none.
"""

import argparse
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import spikeinterface as si

from spikeinterface_nuclr import (
    compute_nuclr_embedding,
    compute_nuclr_identity,
    embed,
    fit_decoder,
    open_gui,
    read_population,
    write_report,
)
from spikeinterface_nuclr.cli import app

IMAGES = Path(__file__).parents[1] / "docs" / "images"
RATS, SHOWN, LABEL = ("t179", "t181", "t182"), "t209", "waveform_class"


def recording_of(data: Path, rat: str) -> Path:
    """The recording of a rat with most units."""
    return max((data / "rat-neuropixels" / rat).glob("*.nwb"), key=lambda path: path.stat().st_size)


def analyzer_of(population, folder: Path):
    """An analyzer of real spikes, in a recording that is simulated with them."""
    from spikeinterface.core import NumpySorting, create_sorting_analyzer
    from spikeinterface.generation import generate_ground_truth_recording

    fs, duration = 20_000.0, 120.0
    samples = {
        unit: (times[times < duration - 1] * fs).astype(int)
        for unit, times in zip(population.unit_ids.tolist(), population.spike_times, strict=True)
    }
    sorting = NumpySorting.from_unit_dict([samples], fs)
    recording, sorting = generate_ground_truth_recording(
        sorting=sorting, durations=[duration], sampling_frequency=fs, num_channels=64, seed=0,
        generate_probe_kwargs={"num_columns": 2, "xpitch": 30, "ypitch": 40},
    )  # fmt: skip
    analyzer = create_sorting_analyzer(sorting, recording, format="binary_folder", folder=folder)
    analyzer.compute(
        ["random_spikes", "noise_levels", "waveforms", "templates", "unit_locations", "correlograms", "isi_histograms",
         "template_similarity"]
    )  # fmt: skip
    return analyzer


def picture_of_gui(analyzer, path: Path) -> None:
    """The window, without a screen."""
    from spikeinterface_gui.myqt import mkQApp

    app = mkQApp()
    window = open_gui(analyzer, curation=True, start_app=False, with_traces=False)
    window.resize(1800, 1000)
    view = window.views["nuclr"]
    for _ in range(50):
        app.processEvents()
    window.docks["nuclr"].raise_()
    labelled = np.flatnonzero(view.content.identities.label != "unknown")
    view.show_units(labelled[:1] if len(labelled) else [0], add=False)
    for _ in range(50):
        app.processEvents()
    window.grab().save(str(path))
    window.close()


def picture_of_page(page: Path, path: Path, prepare, height: int) -> None:
    """A page in Chromium, after it was prepared."""
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        opened = browser.new_page(viewport={"width": 1250, "height": height})
        opened.goto(page.as_uri())
        opened.wait_for_selector(".slick-row")
        prepare(opened)
        opened.wait_for_timeout(800)
        opened.screenshot(path=path)
        browser.close()


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    os.environ.setdefault("MPLBACKEND", "Agg")
    warnings.simplefilter("ignore")
    populations = {rat: read_population(recording_of(data, rat)) for rat in (*RATS, SHOWN)}
    embeddings = {rat: embed(one, progress=False) for rat, one in populations.items()}
    labels = {rat: one.properties[LABEL] for rat, one in populations.items()}
    decoder = fit_decoder([embeddings[r] for r in RATS], [labels[r] for r in RATS], list(RATS), target=LABEL)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = decoder.save(folder / "waveform_class.safetensors")
        analyzer = analyzer_of(populations[SHOWN], folder / "analyzer")
        compute_nuclr_embedding(analyzer, progress_bar=False)
        compute_nuclr_identity(analyzer, file, target_error=1.0)
        picture_of_gui(si.load_sorting_analyzer(folder / "analyzer"), IMAGES / "gui.png")
        identities = decoder.predict(embeddings[SHOWN], target_error=1.0)
        depths = populations[SHOWN].properties["dist_from_tip_um"]
        page = write_report(
            folder / "session.html", populations[SHOWN], embeddings[SHOWN], identities, decoder=decoder, depths=depths
        )
        row = ".slick-row >> nth=4 >> .slick-cell >> nth=1"
        picture_of_page(page, IMAGES / "report.png", lambda opened: opened.locator(row).click(), 1750)
        paths = [str(recording_of(data, rat)) for rat in (*RATS, SHOWN)]
        command = ["evaluate", *paths, "--label", LABEL, "-o", str(folder / "report"), "--shuffles", "0", "-q"]
        app([*command, "--no-control"], standalone_mode=False)
        scroll = "() => document.querySelector('h2').scrollIntoView()"
        picture_of_page(
            folder / "report" / "report.html", IMAGES / "report_evaluation.png",
            lambda opened: opened.evaluate(scroll), 900,
        )  # fmt: skip


if __name__ == "__main__":
    main()
