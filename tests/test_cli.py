"""The commands: what they say and write, how they refuse, their exit codes."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pynwb
import pytest
import spikeinterface.core
import torch
from nwb_files import add_units, new_nwb, write_nwb_file

from spikeinterface_nuclr import PretrainConfig, UnitEmbeddings, load_checkpoint, read_nwb, read_population
from spikeinterface_nuclr.simulation import analyzer_of
from spikeinterface_nuclr.training.config import read_config

DATA = Path(__file__).parent / "data"
PROCESS = [sys.executable, "-m", "spikeinterface_nuclr"]


def refused(done, *says):
    lines = done.stderr.strip().splitlines()
    assert lines[-1].startswith("nuclr: ")
    assert sum(line.startswith("nuclr: ") for line in lines) == 1
    for text in says:
        assert str(text) in lines[-1]


def test_demo_runs_the_main_job(nuclr, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = nuclr("demo", "--units", 24, "--duration", 60)
    assert len(done.stdout.splitlines()) == 6
    folder = tmp_path / "nuclr_demo"
    names = ["embedding_map.png", "embeddings.npz", "identities.png", "units.csv"]
    assert sorted(p.name for p in folder.iterdir()) == names
    assert UnitEmbeddings.load(folder / "embeddings.npz").embedding.shape[0] == 24
    assert (folder / "units.csv").read_text().splitlines()[0] == (
        "unit_id,cell_type,brain_area,depth,num_windows,split_half_similarity,label,best_label,reason,confidence"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["nuclr_demo"]
    refused(nuclr("demo", code=3), "nuclr_demo: exists already")
    refused(nuclr("demo", "-o", "x", "--units", 2, code=3), "three units or more")
    (folder / "thesis.txt").write_text("precious")
    done = nuclr("demo", "--units", 12, "--duration", 30, "--overwrite")
    assert (folder / "thesis.txt").read_text() == "precious"
    assert UnitEmbeddings.load(folder / "embeddings.npz").embedding.shape[0] == 12


def test_embed_writes_both_formats(nuclr, units_file, model, tmp_path):
    for name in ("out.npz", "out.csv"):
        done = nuclr("embed", units_file, "-o", tmp_path / name, "--model", model)
        assert "20 of 20 units embedded, 32 dimensions, 6 windows of 10 s" in done.stdout
        assert "embedding" in done.stderr
    found = UnitEmbeddings.load(tmp_path / "out.npz")
    assert np.isfinite(found.embedding).all()
    assert not nuclr("embed", units_file, "-o", tmp_path / "q.npz", "--model", model, "-q").stderr
    arguments = ("embed", units_file, "-o", tmp_path / "q.npz", "--model", model, "-q")
    assert "up to date, nothing to do" in nuclr(*arguments).stdout
    refused(nuclr(*arguments, "--overlap", 0.5, code=3), "q.npz: holds other embeddings already")
    refused(nuclr("embed", tmp_path / "absent.nwb", "--in-place", code=3), "absent.nwb: no such file or folder")


def test_embed_takes_an_analyzer_folder(nuclr, population, model, tmp_path):
    analyzer_of(population).save_as(folder=tmp_path / "analyzer", format="binary_folder")
    nuclr("embed", tmp_path / "analyzer", "-o", tmp_path / "out.npz", "--model", model)
    assert UnitEmbeddings.load(tmp_path / "out.npz").unit_ids.tolist() == population.unit_ids.tolist()


def test_info_on_everything(nuclr, units_file, model, tmp_path):
    nuclr("embed", units_file, "-o", tmp_path / "out.npz", "--model", model)
    for what, says in ((units_file, "windows of 20 s"), (model, "sha256"), (tmp_path / "out.npz", "checkpoint_sha256")):
        done = nuclr("info", what)
        assert says in done.stdout
        assert not done.stderr


def test_convert(nuclr, tmp_path):
    out = tmp_path / "out.safetensors"
    done = nuclr("convert", DATA / "brainwidebench_checkpoint.pt", out)
    assert load_checkpoint(out).sha256 in done.stdout
    refused(nuclr("convert", DATA / "brainwidebench_checkpoint.pt", out, code=3), "exists already")
    refused(nuclr("convert", DATA / "binned_encoder.safetensors", tmp_path / "b.safetensors", code=4), "binned_encoder")


def test_train_then_embed(nuclr, units_file, tmp_path):
    out, store, config = tmp_path / "model.safetensors", tmp_path / "store", tmp_path / "run.toml"
    (tmp_path / "bad.nwb").write_text("nothing")
    done = nuclr("store", "build", units_file, tmp_path / "bad.nwb", "-o", store, "-q", code=3)
    assert done.stdout == f"{store}: 1 sessions of 1 animals, 1 probes, 20 units\n"
    assert "skipped" in done.stderr
    assert "bad.nwb: not a readable NWB file" in done.stderr
    nuclr("store", "build", units_file, "-o", store, "-q")
    assert re.search(r"animals +1", nuclr("info", store).stdout)

    config.write_text(nuclr("train", "--config", "published", "--show-config").stdout)
    options = ["--config", config, "--device", "cpu"]
    for setting in ("steps=2", "samples=2", "encoder.dim=16", "encoder.heads=2", "encoder.head_dim=8"):
        options += ["--set", setting]
    done = nuclr("train", store, "-o", out, *options)
    assert done.stdout.startswith(f"{out}: sha256 {load_checkpoint(out).sha256}; log {out.with_suffix('.log.csv')}")
    assert "neuron-window" in done.stderr  # the rest of the line may be cut
    card = load_checkpoint(out).card
    assert card["command"].startswith("nuclr train")
    assert card["training"]["steps"] == 2
    nuclr("embed", units_file, "-o", tmp_path / "e.npz", "--model", out)

    tuned = tmp_path / "tuned.safetensors"
    options = ["--set", "steps=1", "--set", "samples=2", "--device", "cpu", "-q"]
    done = nuclr("train", store, "-o", tuned, "--from", out, *options)
    assert done.stderr == ""
    assert load_checkpoint(tuned).card["initial"]["sha256"] == load_checkpoint(out).sha256


def test_help_is_worth_reading(nuclr):
    done = nuclr("--help")
    for command in ("demo", "embed", "info", "convert", "train", "store"):
        assert command in done.stdout
        explained = nuclr(command, "--help")
        assert "Usage" in explained.stdout
    assert "hf://owner/repo[/file][@revision]" in " ".join(nuclr("embed", "--help").stdout.split())


def test_training_never_writes_over_a_recording(nuclr, units_file, tmp_path):
    refused(nuclr("train", units_file, "-o", units_file, "--overwrite", code=3), "unknown format '.nwb'")
    card = tmp_path / "card.json"
    card.write_text("[1, 2]")
    refused(nuclr("train", units_file, "-o", tmp_path / "m.safetensors", "--card", card, code=3), "card.json")
    refused(
        nuclr("train", units_file, "-o", tmp_path / "m.safetensors", "--set", "seed=-1", code=3),
        "seed must not be negative",
    )


# --- into NWB files and analyzers -------------------------------------------------------------------------------------


def test_embed_into_a_copy_of_an_nwb_file(nuclr, session, model, tmp_path):
    before = session.read_bytes()
    arguments = ("embed", session, "-o", tmp_path / "out.nwb", "--model", model)
    done = nuclr(*arguments)
    assert (
        "20 of 20 units embedded, 32 dimensions, 6 windows of 10 s, in processing/nuclr/UnitEmbeddings" in done.stdout
    )
    assert read_nwb(tmp_path / "out.nwb")[0].embedding.shape == (20, 32)
    assert session.read_bytes() == before
    written = (tmp_path / "out.nwb").read_bytes()
    assert "up to date, nothing to do (--overwrite recomputes it)" in nuclr(*arguments).stdout
    assert (tmp_path / "out.nwb").read_bytes() == written
    # Another result under the same name is not written over by chance, nor is another file.
    refused(
        nuclr(*arguments, "--overlap", 0.5, code=3),
        "out.nwb: it holds another 'UnitEmbeddings' already (overlap is 0.0, not 0.5 as requested): give --overwrite",
    )
    (tmp_path / "thesis.nwb").write_bytes(before)
    refused(
        nuclr("embed", session, "-o", tmp_path / "thesis.nwb", "--model", model, code=3), "thesis.nwb: exists already"
    )
    nuclr(*arguments, "--overlap", 0.5, "--overwrite", "-q")
    assert read_nwb(tmp_path / "out.nwb")[0].provenance.overlap == 0.5


def test_embed_in_place_is_idempotent(nuclr, session, model):
    arguments = ("embed", session, "--in-place", "--model", model, "-q")
    nuclr(*arguments)
    written = session.read_bytes()
    done = nuclr(*arguments)
    assert "up to date, nothing to do (--if-exists replace recomputes it)" in done.stdout
    assert session.read_bytes() == written
    done = nuclr(*arguments, "--publish")
    assert "20 of 20 units embedded" in done.stdout
    assert read_population(session).properties["nuclr_num_windows"].max() == 6
    # Other parameters or groups make another result, which replaces the old one only when told.
    refused(
        nuclr(*arguments, "--overlap", 0.5, code=3), "overlap is 0.0, not 0.5 as requested): give --if-exists replace"
    )
    refused(
        nuclr(*arguments, "--group-by", "cell_type", code=3),
        "(other groups or observed times): give --if-exists replace",
    )
    assert "20 of 20" in nuclr(*arguments, "--overlap", 0.5, "--if-exists", "replace").stdout
    assert read_nwb(session)[0].provenance.overlap == 0.5
    # Published columns say what the table says.
    assert read_population(session).properties["nuclr_num_windows"].max() == 11
    assert "20 of 20" in nuclr(*arguments, "--name", "another").stdout
    session.chmod(0o444)
    refused(nuclr(*arguments, "--if-exists", "replace", code=3), "is read-only: name an output (-o)")
    nuclr("embed", session, "--units-only", "-o", session.with_name("side.nwb"), "--model", model)


def test_info_tells_what_an_nwb_file_holds_and_whether_it_is_stale(nuclr, session, model, population):
    assert "nuclr" not in nuclr("info", session).stdout
    nuclr("embed", session, "--in-place", "--model", model, "-q")
    facts = nuclr("info", session).stdout
    assert re.search(r"processing/nuclr/UnitEmbeddings +up to date", facts)
    assert re.search(r"checkpoint +.*small.safetensors", facts)
    with h5py.File(session, "r+") as file:
        file["units/spike_times"][3] += 0.001
    done = nuclr("info", session)
    assert "STALE: the units' spikes have changed since they were embedded" in done.stdout
    assert "20 of 20 units" in nuclr("embed", session, "--in-place", "--model", model, "-q").stdout
    assert "STALE" not in nuclr("info", session).stdout


@pytest.mark.parametrize("format", ["binary_folder", "zarr"])
def test_embed_computes_an_analyzer_in_place(nuclr, population, model, format, tmp_path):
    folder = tmp_path / ("a.zarr" if format == "zarr" else "a")
    analyzer_of(population).save_as(folder=folder, format=format)
    arguments = ("embed", folder, "--model", model, "-q")
    assert "STALE" not in nuclr("info", folder).stdout
    done = nuclr(*arguments)
    assert "20 of 20 units embedded, 32 dimensions, 6 windows of 10 s, as nuclr_embedding" in done.stdout
    done = nuclr(*arguments, "--publish")
    assert "up to date, nothing to do" in done.stdout
    assert re.search(r"nuclr_embedding +up to date", nuclr("info", folder).stdout)
    other = (*arguments, "--overlap", 0.5)
    refused(
        nuclr(*other, code=3), "it holds another nuclr_embedding already (overlap is 0.0, not 0.5 as requested): give"
    )
    assert "20 of 20" in nuclr(*other, "--if-exists", "replace", "--publish").stdout
    analyzer = spikeinterface.core.load_sorting_analyzer(folder)
    assert analyzer.get_extension("nuclr_embedding").params["overlap"] == 0.5
    assert analyzer.get_sorting_property("nuclr_num_windows").max() > 6
    refused(nuclr(*arguments, "--model", "absent", code=4), "absent: no such checkpoint")
    assert re.search(r"nuclr_embedding +up to date", nuclr("info", folder).stdout)


def test_embed_asks_where_to_write(nuclr, units_file, model, tmp_path):
    for arguments, says in (
        ((units_file,), "-o FILE.npz, -o FILE.nwb or --in-place"),
        ((tmp_path, "--in-place"), "--in-place and --units-only are for NWB files"),
        ((units_file, "--in-place", "-o", "x.nwb"), "leave out --output and --units-only"),
        ((units_file, "-o", "x.npz", "--publish"), "--publish is for NWB files and analyzers"),
        ((units_file, "--in-place", "--overwrite"), "to replace results inside the source, give --if-exists replace"),
        ((units_file, "-o", "x.nwb", "--if-exists", "replace"), "to replace an output file, give --overwrite"),
    ):
        done = nuclr("embed", *arguments, code=2)
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
def test_bad_recordings(nuclr, what, model, tmp_path):
    make, says = BAD[what]
    source = tmp_path / "bad.nwb"
    make(source)
    before = sorted(tmp_path.iterdir())
    done = nuclr("embed", source, "-o", tmp_path / "out.npz", "--model", model, "-q", code=3)
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
def test_bad_options(nuclr, units_file, model, tmp_path, options, code, says):
    given = ["--model", model] if "--model" not in options else []
    refused(nuclr("embed", units_file, "-o", tmp_path / "out.npz", "-q", *given, *options, code=code), says)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_other_dimensions_is_named(nuclr, units_file, checkpoint, tmp_path):
    from safetensors.torch import save_file

    content = {"format": 1, "config": {**checkpoint.config.to_dict(), "dim": 64}, "card": {}}
    save_file(checkpoint.weights, tmp_path / "odd.safetensors", {"nuclr": json.dumps(content)})
    done = nuclr("embed", units_file, "-o", tmp_path / "o.npz", "--model", tmp_path / "odd.safetensors", "-q", code=4)
    refused(done, "odd.safetensors", "its config requires")
    assert not (tmp_path / "o.npz").exists()


def test_outputs_are_checked_before_the_work(nuclr, units_file, model, tmp_path):
    out = tmp_path / "out.npz"
    out.write_text("precious")
    refused(nuclr("embed", units_file, "-o", out, "--model", model, "-q", code=3), "exists already: give --overwrite")
    assert out.read_text() == "precious"
    for output, says in (
        (tmp_path, "unknown format"),
        (tmp_path / "no" / "o.npz", "no such directory"),
        (tmp_path / "o.txt", "unknown format '.txt'"),
    ):
        refused(nuclr("embed", units_file, "-o", output, "--model", model, "-q", code=3), says)
    nuclr("embed", units_file, "-o", out, "--model", model, "-q", "--overwrite")
    assert UnitEmbeddings.load(out).embedding.shape == (20, 32)


def test_a_folder_that_cannot_be_written_is_named(nuclr, units_file, model):
    # Not even root creates files in /proc.
    if not Path("/proc").is_dir():
        pytest.skip("no /proc")
    done = nuclr("embed", units_file, "-o", "/proc/o.npz", "--model", model, "-q", code=3)
    refused(done, "/proc: cannot write there")


def test_usage_errors_have_their_own_code(nuclr, units_file):
    nuclr("embed", units_file, code=2)
    nuclr("embed", units_file, "-o", "x.npz", "--nonsense", code=2)


def test_an_interrupted_run_leaves_nothing(nuclr, units_file, model, tmp_path, monkeypatch):
    class Interrupted:
        def __init__(self, *_, **__):
            raise KeyboardInterrupt

    monkeypatch.setattr("spikeinterface_nuclr.embedding.tqdm", Interrupted)
    done = nuclr("embed", units_file, "-o", tmp_path / "out.npz", "--model", model, code=130)
    assert done.stderr == "nuclr: interrupted\n"
    assert not list(tmp_path.iterdir())


def test_a_process_ends_with_the_exit_code_and_keeps_its_streams_apart(tmp_path):
    command = [*PROCESS, "embed", tmp_path / "absent.nwb", "-o", tmp_path / "out.npz"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr == f"nuclr: {tmp_path / 'absent.nwb'}: no such file or folder\n"


@pytest.mark.slow
def test_an_interrupted_process_leaves_nothing(tmp_path):
    trains = [np.sort(np.random.default_rng(i).uniform(0, 7200, 40_000)) for i in range(40)]
    write_nwb_file(tmp_path / "long.nwb", add_units(new_nwb(), trains))
    process = subprocess.Popen(
        [*PROCESS, "embed", tmp_path / "long.nwb", "-o", tmp_path / "out.npz", "--precision", "float32"],
        stderr=subprocess.PIPE,
        text=True,
        # A background job of a shell, and whatever it starts, ignores the interrupt.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    seen = ""
    while "embedding:" not in seen and process.poll() is None:
        seen += process.stderr.read(1)
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "nuclr: interrupted" in rest
    assert "Traceback" not in rest
    assert sorted(p.name for p in tmp_path.iterdir()) == ["long.nwb"]


def test_the_written_file_does_not_touch_the_source(nuclr, units_file, model, tmp_path):
    before = units_file.read_bytes()
    nuclr("embed", units_file, "-o", tmp_path / "out.npz", "--model", model, "-q")
    assert units_file.read_bytes() == before
    with pynwb.NWBHDF5IO(units_file, "r") as io:
        assert len(io.read().units) == 20


def test_train_begins_with_what_the_machine_can_run(nuclr, units_file, model, tmp_path):
    store = tmp_path / "store"
    nuclr("store", "build", units_file, "-o", store, "-q")
    little = [part for name in ("steps=1", "samples=1", "max_units=11") for part in ("--set", name)]
    nuclr("train", store, "-o", tmp_path / "a.safetensors", "--device", "cpu", "-q", *little)
    training = load_checkpoint(tmp_path / "a.safetensors").card["training"]
    laptop = read_config("laptop", ["steps=1", "samples=1", "max_units=11"])
    assert training == laptop.to_dict()
    assert (laptop.optimizer, laptop.encoder.dim) == ("muon" if hasattr(torch.optim, "Muon") else "adamw", 128)
    # The network of given weights is theirs.
    nuclr("train", store, "-o", tmp_path / "b.safetensors", "--from", model, "--device", "cpu", "-q", *little)
    tuned = load_checkpoint(tmp_path / "b.safetensors")
    assert tuned.config.dim == load_checkpoint(model).config.dim
    assert tuned.card["training"]["optimizer"] == laptop.optimizer
    assert read_config("published") == PretrainConfig()
    shown = nuclr("train", "--show-config", "--config", "laptop", "--set", "seed=7").stdout
    assert "steps = 3000 " in shown
    assert "seed = 7 " in shown
    assert "steps = 50000 " in nuclr("train", "--show-config", "--set", "encoder.signal=traces").stdout
    assert "name a store" in nuclr("train", code=2).stderr
    assert "-o FILE" in nuclr("train", store, code=2).stderr
