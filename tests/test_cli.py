"""The command as users run it: in a process of its own."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pynwb
import pytest
import spikeinterface.core
from nwb_files import add_units, new_nwb, write_nwb_file

from spikeinterface_nuclr import UnitEmbeddings, load_checkpoint, read_nwb, read_population
from spikeinterface_nuclr.simulation import analyzer_of

DATA = Path(__file__).parent / "data"
NUCLR = [sys.executable, "-c", "from spikeinterface_nuclr.cli import main; main()"]


def nuclr(*arguments, cwd=None):
    return subprocess.run([*NUCLR, *map(str, arguments)], capture_output=True, text=True, timeout=300, cwd=cwd)


@pytest.fixture(scope="module")
def session(population, tmp_path_factory):
    path = tmp_path_factory.mktemp("session") / "session.nwb"
    columns = dict(unit_name=population.unit_ids, cell_type=population.properties["cell_type"])
    return write_nwb_file(path, add_units(new_nwb(), population.spike_times, **columns))


@pytest.fixture(scope="module")
def model(checkpoint, tmp_path_factory):
    return checkpoint.save(tmp_path_factory.mktemp("model") / "small.safetensors")


def refused(done, code, *says):
    assert done.returncode == code, done.stderr
    lines = done.stderr.strip().splitlines()
    assert lines[-1].startswith("nuclr: ")
    assert sum(line.startswith("nuclr: ") for line in lines) == 1
    assert "Traceback" not in done.stderr
    for text in says:
        assert str(text) in lines[-1]


def test_demo_runs_the_main_job(tmp_path):
    done = nuclr("demo", "--units", 24, "--duration", 60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 6
    assert "Traceback" not in done.stderr
    folder = tmp_path / "nuclr_demo"
    names = ["embedding_map.png", "embeddings.npz", "identities.png", "units.csv"]
    assert sorted(p.name for p in folder.iterdir()) == names
    assert UnitEmbeddings.load(folder / "embeddings.npz").embedding.shape[0] == 24
    assert (folder / "units.csv").read_text().splitlines()[0] == (
        "unit_id,cell_type,brain_area,depth,num_windows,split_half_similarity,label,best_label,reason,confidence"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["nuclr_demo"]
    refused(nuclr("demo", cwd=tmp_path), 3, "nuclr_demo: exists already")
    refused(nuclr("demo", "-o", "x", "--units", 2, cwd=tmp_path), 3, "three units or more")
    (folder / "thesis.txt").write_text("precious")
    done = nuclr("demo", "--units", 12, "--duration", 30, "--overwrite", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (folder / "thesis.txt").read_text() == "precious"
    assert UnitEmbeddings.load(folder / "embeddings.npz").embedding.shape[0] == 12


def test_embed_writes_both_formats(session, model, tmp_path):
    for name in ("out.npz", "out.csv"):
        done = nuclr("embed", session, "-o", tmp_path / name, "--model", model)
        assert done.returncode == 0, done.stderr
        assert "20 of 20 units embedded, 32 dimensions, 6 windows of 10 s" in done.stdout
        assert "embedding" in done.stderr
    found = UnitEmbeddings.load(tmp_path / "out.npz")
    assert np.isfinite(found.embedding).all()
    assert not nuclr("embed", session, "-o", tmp_path / "q.npz", "--model", model, "-q").stderr
    arguments = ("embed", session, "-o", tmp_path / "q.npz", "--model", model, "-q")
    assert "up to date, nothing to do" in nuclr(*arguments).stdout
    refused(nuclr(*arguments, "--overlap", 0.5), 3, "q.npz: holds other embeddings already")
    refused(nuclr("embed", tmp_path / "absent.nwb", "--in-place"), 3, "absent.nwb: no such file or folder")


def test_embed_takes_an_analyzer_folder(population, model, tmp_path):
    analyzer_of(population).save_as(folder=tmp_path / "analyzer", format="binary_folder")
    done = nuclr("embed", tmp_path / "analyzer", "-o", tmp_path / "out.npz", "--model", model)
    assert done.returncode == 0, done.stderr
    assert UnitEmbeddings.load(tmp_path / "out.npz").unit_ids.tolist() == population.unit_ids.tolist()


def test_info_on_everything(session, model, tmp_path):
    nuclr("embed", session, "-o", tmp_path / "out.npz", "--model", model)
    for what, says in ((session, "windows of 20 s"), (model, "sha256"), (tmp_path / "out.npz", "checkpoint_sha256")):
        done = nuclr("info", what)
        assert done.returncode == 0, done.stderr
        assert says in done.stdout
        assert not done.stderr


def test_convert(tmp_path):
    out = tmp_path / "out.safetensors"
    done = nuclr("convert", DATA / "brainwidebench_checkpoint.pt", out)
    assert done.returncode == 0, done.stderr
    assert load_checkpoint(out).sha256 in done.stdout
    refused(nuclr("convert", DATA / "brainwidebench_checkpoint.pt", out), 3, "exists already")
    refused(nuclr("convert", DATA / "binned_encoder.safetensors", tmp_path / "b.safetensors"), 4, "binned_encoder")


def test_train_then_embed(session, tmp_path):
    out, store, config = tmp_path / "model.safetensors", tmp_path / "store", tmp_path / "run.toml"
    (tmp_path / "bad.nwb").write_text("nothing")
    done = nuclr("store", "build", session, tmp_path / "bad.nwb", "-o", store, "-q")
    assert done.returncode == 3
    assert done.stdout == f"{store}: 1 sessions of 1 animals, 1 probes, 20 units\n"
    assert "skipped" in done.stderr
    assert "bad.nwb: not a readable NWB file" in done.stderr
    assert nuclr("store", "build", session, "-o", store, "-q").returncode == 0
    assert re.search(r"animals +1", nuclr("info", store).stdout)

    config.write_text(nuclr("train", "--show-config").stdout)
    options = ["--config", config, "--device", "cpu"]
    for setting in ("steps=2", "samples=2", "encoder.dim=16", "encoder.heads=2", "encoder.head_dim=8"):
        options += ["--set", setting]
    done = nuclr("train", store, "-o", out, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{out}: sha256 {load_checkpoint(out).sha256}\n"
    assert "neuron-windows/s" in done.stderr
    card = load_checkpoint(out).card
    assert card["command"].startswith("nuclr train")
    assert card["training"]["steps"] == 2
    assert nuclr("embed", session, "-o", tmp_path / "e.npz", "--model", out).returncode == 0

    tuned = tmp_path / "tuned.safetensors"
    options = ["--set", "steps=1", "--set", "samples=2", "--device", "cpu", "-q"]
    done = nuclr("train", store, "-o", tuned, "--from", out, *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert load_checkpoint(tuned).card["initial"]["sha256"] == load_checkpoint(out).sha256


def test_help_is_worth_reading():
    done = nuclr("--help")
    assert done.returncode == 0
    for command in ("demo", "embed", "info", "convert", "train", "store"):
        assert command in done.stdout
        explained = nuclr(command, "--help")
        assert explained.returncode == 0, explained.stderr
        assert "Usage" in explained.stdout
    assert "hf://owner/repo[/file][@revision]" in " ".join(nuclr("embed", "--help").stdout.split())


def test_training_never_writes_over_a_recording(session, tmp_path):
    refused(nuclr("train", session, "-o", session, "--overwrite"), 3, "unknown format '.nwb'")
    card = tmp_path / "card.json"
    card.write_text("[1, 2]")
    refused(nuclr("train", session, "-o", tmp_path / "m.safetensors", "--card", card), 3, "card.json")
    refused(
        nuclr("train", session, "-o", tmp_path / "m.safetensors", "--set", "seed=-1"), 3, "seed must not be negative"
    )


# --- into NWB files and analyzers -------------------------------------------------------------------------------------


@pytest.fixture
def own(session, tmp_path):
    """A copy of the session to write into."""
    return Path(shutil.copy(session, tmp_path / "own.nwb"))


def test_embed_into_a_copy_of_an_nwb_file(own, model, tmp_path):
    before = own.read_bytes()
    arguments = ("embed", own, "-o", tmp_path / "out.nwb", "--model", model)
    done = nuclr(*arguments)
    assert done.returncode == 0, done.stderr
    assert (
        "20 of 20 units embedded, 32 dimensions, 6 windows of 10 s, in processing/nuclr/UnitEmbeddings" in done.stdout
    )
    assert read_nwb(tmp_path / "out.nwb")[0].embedding.shape == (20, 32)
    assert own.read_bytes() == before
    written = (tmp_path / "out.nwb").read_bytes()
    done = nuclr(*arguments)
    assert (done.returncode, "up to date, nothing to do" in done.stdout) == (0, True)
    assert (tmp_path / "out.nwb").read_bytes() == written
    # Another result under the same name is not written over by chance, nor is another file.
    refused(
        nuclr(*arguments, "--overlap", 0.5), 3, "out.nwb: it holds another 'UnitEmbeddings' already (overlap 0.0 there"
    )
    (tmp_path / "thesis.nwb").write_bytes(before)
    refused(nuclr("embed", own, "-o", tmp_path / "thesis.nwb", "--model", model), 3, "thesis.nwb: exists already")
    assert nuclr(*arguments, "--overlap", 0.5, "--force", "-q").returncode == 0
    assert read_nwb(tmp_path / "out.nwb")[0].provenance.overlap == 0.5


def test_embed_in_place_is_idempotent(own, model):
    arguments = ("embed", own, "--in-place", "--model", model, "-q")
    assert nuclr(*arguments).returncode == 0
    written = own.read_bytes()
    done = nuclr(*arguments)
    assert "up to date, nothing to do (--force computes it again)" in done.stdout
    assert own.read_bytes() == written
    done = nuclr(*arguments, "--publish")
    assert "20 of 20 units embedded" in done.stdout
    assert read_population(own).properties["nuclr_num_windows"].max() == 6
    # Other parameters or groups make another result, which replaces the old one only when told.
    refused(nuclr(*arguments, "--overlap", 0.5), 3, "overlap is 0.0, not 0.5 as requested): give --force")
    refused(nuclr(*arguments, "--group-by", "cell_type"), 3, "(other groups or observed times): give --force")
    assert "20 of 20" in nuclr(*arguments, "--overlap", 0.5, "--force").stdout
    assert read_nwb(own)[0].provenance.overlap == 0.5
    # Published columns say what the table says.
    assert read_population(own).properties["nuclr_num_windows"].max() == 11
    assert "20 of 20" in nuclr(*arguments, "--name", "another").stdout
    own.chmod(0o444)
    refused(nuclr(*arguments, "--force"), 3, "is read-only: name an output (-o)")
    assert nuclr("embed", own, "--units-only", "-o", own.with_name("side.nwb"), "--model", model).returncode == 0


def test_info_tells_what_an_nwb_file_holds_and_whether_it_is_stale(own, model, population):
    assert "nuclr" not in nuclr("info", own).stdout
    nuclr("embed", own, "--in-place", "--model", model, "-q")
    told = nuclr("info", own).stdout
    assert re.search(r"processing/nuclr/UnitEmbeddings +up to date", told)
    assert re.search(r"checkpoint +.*small.safetensors", told)
    with h5py.File(own, "r+") as file:
        file["units/spike_times"][3] += 0.001
    done = nuclr("info", own)
    assert "STALE: the units' spikes have changed since the table was written" in done.stdout
    assert "20 of 20 units" in nuclr("embed", own, "--in-place", "--model", model, "-q").stdout
    assert "STALE" not in nuclr("info", own).stdout


@pytest.mark.parametrize("format", ["binary_folder", "zarr"])
def test_embed_computes_an_analyzer_in_place(population, model, format, tmp_path):
    folder = tmp_path / ("a.zarr" if format == "zarr" else "a")
    analyzer_of(population).save_as(folder=folder, format=format)
    arguments = ("embed", folder, "--model", model, "-q")
    assert "STALE" not in nuclr("info", folder).stdout
    done = nuclr(*arguments)
    assert "20 of 20 units embedded, 32 dimensions, 6 windows of 10 s, as nuclr_embedding" in done.stdout, done.stderr
    done = nuclr(*arguments, "--publish")
    assert "up to date, nothing to do" in done.stdout
    assert re.search(r"nuclr_embedding +up to date", nuclr("info", folder).stdout)
    assert "20 of 20" in nuclr(*arguments, "--overlap", 0.5).stdout
    analyzer = spikeinterface.core.load_sorting_analyzer(folder)
    assert analyzer.get_extension("nuclr_embedding").params["overlap"] == 0.5
    assert analyzer.get_sorting_property("nuclr_num_windows").max() > 6
    refused(nuclr(*arguments, "--model", "absent"), 4, "absent: no such checkpoint")
    assert re.search(r"nuclr_embedding +up to date", nuclr("info", folder).stdout)


def test_embed_asks_where_to_write(session, model, tmp_path):
    for arguments, says in (
        ((session,), "-o FILE.npz, -o FILE.nwb or --in-place"),
        ((tmp_path, "--in-place"), "--in-place and --units-only are for NWB files"),
        ((session, "--in-place", "-o", "x.nwb"), "leave out --output and --units-only"),
        ((session, "-o", "x.npz", "--publish"), "--publish is for NWB files and analyzers"),
    ):
        done = nuclr("embed", *arguments)
        assert done.returncode == 2
        assert says in " ".join(done.stderr.replace("│", " ").split())


# --- bad input: one line, the right exit code, nothing written, nothing lost ------------------------------------------


def one_unit(times):
    return lambda path: write_nwb_file(path, add_units(new_nwb(), [times]))


def truncated(path):
    whole = write_nwb_file(path, add_units(new_nwb(), [np.arange(0, 60, 0.1)] * 5)).read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])


def before_observed(path):
    nwbfile = new_nwb()
    for _ in range(2):
        nwbfile.add_unit(spike_times=[-5.0, -4.0], obs_intervals=[[0.0, 30.0]])
    write_nwb_file(path, nwbfile)


BAD = {
    "no units": (lambda path: write_nwb_file(path, new_nwb()), "units table is missing or empty"),
    "one unit": (one_unit(np.arange(0.05, 30, 0.1)), "holds one unit, 0:"),
    "no spikes": (one_unit([]), "no unit has a spike"),
    "short": (one_unit([0.5, 6.0]), "no window of 10 s fits"),
    "nan": (one_unit([0.5, np.nan, 30.0]), "unit 0: 1 spike times are NaN"),
    "unsorted": (one_unit([30.0, 0.5]), "unit 0: spike times are not sorted"),
    "before start": (before_observed, "there is nothing to embed"),
    "directory": (lambda path: path.mkdir(), "a folder of no known kind"),
    "text": (lambda path: path.write_text("spikes"), "not a readable NWB file"),
    "truncated": (truncated, "not a readable NWB file"),
    "missing": (lambda path: None, "no such file or folder"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_recordings(what, model, tmp_path):
    make, says = BAD[what]
    source = tmp_path / "bad.nwb"
    make(source)
    before = sorted(tmp_path.iterdir())
    done = nuclr("embed", source, "-o", tmp_path / "out.npz", "--model", model, "-q")
    assert done.returncode == 3, done.stderr
    lines = [line for line in done.stderr.strip().splitlines() if "warning" not in line]
    assert len(lines) == 1
    assert lines[0].startswith("nuclr: ")
    assert says in lines[0]
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--model", "absent.safetensors"], 4, "absent.safetensors: no such checkpoint"),
        (["--model", DATA / "vicreg_loss.safetensors"], 4, "not a NuCLR checkpoint"),
        (["--model", DATA / "calcium_encoder.safetensors"], 4, "not a NuCLR checkpoint"),
        (["--device", "cuda:77"], 5, "is absent"),
        (["--overlap", "1.2"], 3, "overlap must lie"),
        (["--group-by", "shank"], 3, "no unit property 'shank'"),
    ],
)
def test_bad_options(session, model, tmp_path, options, code, says):
    given = ["--model", model] if "--model" not in options else []
    refused(nuclr("embed", session, "-o", tmp_path / "out.npz", "-q", *given, *options), code, says)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_other_dimensions_is_named(session, checkpoint, tmp_path):
    from safetensors.torch import save_file

    content = {"format": 1, "config": {**checkpoint.config.to_dict(), "dim": 64}, "card": {}}
    save_file(checkpoint.weights, tmp_path / "odd.safetensors", {"nuclr": json.dumps(content)})
    done = nuclr("embed", session, "-o", tmp_path / "o.npz", "--model", tmp_path / "odd.safetensors", "-q")
    refused(done, 4, "odd.safetensors", "its config requires")
    assert not (tmp_path / "o.npz").exists()


def test_outputs_are_checked_before_the_work(session, model, tmp_path):
    out = tmp_path / "out.npz"
    out.write_text("precious")
    refused(nuclr("embed", session, "-o", out, "--model", model, "-q"), 3, "exists already: give --overwrite")
    assert out.read_text() == "precious"
    refused(nuclr("embed", session, "-o", tmp_path, "--model", model, "-q"), 3, "unknown format")
    refused(nuclr("embed", session, "-o", tmp_path / "no" / "o.npz", "--model", model, "-q"), 3, "no such directory")
    refused(nuclr("embed", session, "-o", tmp_path / "o.txt", "--model", model, "-q"), 3, "unknown format '.txt'")
    assert nuclr("embed", session, "-o", out, "--model", model, "-q", "--overwrite").returncode == 0
    assert UnitEmbeddings.load(out).embedding.shape == (20, 32)


def test_a_folder_that_cannot_be_written_is_named(session, model):
    # Not even root creates files in /proc.
    if not Path("/proc").is_dir():
        pytest.skip("no /proc")
    refused(nuclr("embed", session, "-o", "/proc/o.npz", "--model", model, "-q"), 3, "/proc: cannot write there")


def test_usage_errors_have_their_own_code(session):
    assert nuclr("embed", session).returncode == 2
    assert nuclr("embed", session, "-o", "x.npz", "--nonsense").returncode == 2


def test_an_interrupted_run_leaves_nothing(tmp_path):
    trains = [np.sort(np.random.default_rng(i).uniform(0, 7200, 40_000)) for i in range(40)]
    write_nwb_file(tmp_path / "long.nwb", add_units(new_nwb(), trains))
    process = subprocess.Popen(
        [*NUCLR, "embed", tmp_path / "long.nwb", "-o", tmp_path / "out.npz", "--precision", "float32"],
        stderr=subprocess.PIPE,
        text=True,
        # A background job of a shell, and whatever it starts, ignores the interrupt.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    seen = ""
    while "embedding:" not in seen and process.poll() is None:
        seen += process.stderr.read(1)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "nuclr: interrupted" in rest
    assert "Traceback" not in rest
    assert sorted(p.name for p in tmp_path.iterdir()) == ["long.nwb"]


def test_the_written_file_does_not_touch_the_source(session, model, tmp_path):
    before = session.read_bytes()
    nuclr("embed", session, "-o", tmp_path / "out.npz", "--model", model, "-q")
    assert session.read_bytes() == before
    with pynwb.NWBHDF5IO(session, "r") as io:
        assert len(io.read().units) == 20
