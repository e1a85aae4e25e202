import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spikeinterface_nuclr import (
    CheckpointError,
    EncoderConfig,
    InputError,
    Population,
    PretrainConfig,
    Store,
    build_store,
    load_checkpoint,
    pretrain,
    simulate_population,
)
from spikeinterface_nuclr.training import pretrain as loop

CONFIG = PretrainConfig(
    encoder=EncoderConfig(
        dim=16, heads=2, head_dim=8, num_patches=4, temporal_blocks=1, spatiotemporal_blocks=1, dropout=0.1
    ),
    steps=6,
    samples=2,
    max_view_distance_s=20.0,
    learning_rate=1e-3,
    monitor_every=2,
)


def other(**changes):
    return CONFIG.updated(changes)


def named(population, animal):
    return Population(
        population.unit_ids,
        population.spike_times,
        stop=population.stop,
        properties=population.properties,
        metadata={"subject": animal, "source": f"{animal}/session"},
    )


@pytest.fixture(scope="module")
def populations():
    return [named(simulate_population(n_units=16, duration=60.0, seed=s), f"animal{s}") for s in range(4)]


@pytest.fixture(scope="module")
def store(populations, tmp_path_factory):
    return build_store(populations, tmp_path_factory.mktemp("stores") / "store", progress=False)[0]


def train(sources, output, config=CONFIG, **options):
    return pretrain(sources, output, config, progress=False, device="cpu", **options)


def same(a, b):
    return all(torch.equal(a.weights[k], b.weights[k]) for k in a.weights)


def assert_close(a, b):
    for name, weight in a.weights.items():
        assert torch.allclose(weight, b.weights[name], rtol=0, atol=1e-6), name


def rows_of(path):
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture(scope="module")
def finished(store, tmp_path_factory):
    """The folder of a run that was monitored on an animal and never interrupted, and its checkpoint."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, train(store, folder / "a.safetensors", hold_out=["animal3"], plot=True)


def values_of(log):
    """The rows of a log without the times."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows_of(log)]


def interrupt_at(step, monkeypatch):
    """Interrupt training at the beginning of this step, counted from 1."""
    steps, real = [], loop.training_step

    def training_step(*arguments):
        steps.append(1)
        if len(steps) == step:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(loop, "training_step", training_step)


def test_training_is_reproducible(finished, store, tmp_path):
    folder, checkpoint = finished
    assert same(checkpoint, train(store, tmp_path / "a.safetensors", hold_out=["animal3"]))
    assert values_of(tmp_path / "a.log.csv") == values_of(folder / "a.log.csv")


def test_an_interrupted_run_resumes_exactly(finished, store, tmp_path, monkeypatch):
    folder, checkpoint = finished
    out, options = tmp_path / "a.safetensors", {"hold_out": ["animal3"]}
    interrupt_at(5, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(store, out, **options)
    monkeypatch.undo()
    assert load_checkpoint(out).card["monitors"]["step"] in (2, 4)
    with pytest.raises(InputError, match="an unfinished run: continue it with --resume"):
        train(store, out, **options)
    assert same(checkpoint, train(store, out, resume=True, **options))
    assert not (tmp_path / "a.state.safetensors").exists()
    assert [row["step"] for row in rows_of(out.with_suffix(".log.csv"))] == ["2", "4", "6"]
    assert values_of(tmp_path / "a.log.csv") == values_of(folder / "a.log.csv")


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch is older than 2.9")
def test_an_interrupted_run_with_two_optimisers_resumes_exactly(store, tmp_path, monkeypatch):
    config = other(optimizer="muon")
    whole = train(store, tmp_path / "a.safetensors", config)
    interrupt_at(5, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(store, tmp_path / "b.safetensors", config)
    monkeypatch.undo()
    assert same(whole, train(store, tmp_path / "b.safetensors", config, resume=True))


@pytest.mark.slow
def test_a_killed_process_goes_on_to_the_same_weights(store, tmp_path):
    arguments = [sys.executable, "-m", "spikeinterface_nuclr", "train", store.path, "--device", "cpu", "-q"]
    arguments += ["--hold-out", "animal3"]
    encoder = ("dim=16", "heads=2", "head_dim=8", "num_patches=4", "temporal_blocks=1", "spatiotemporal_blocks=1")
    for setting in (*(f"encoder.{value}" for value in encoder), "steps=40", "samples=2", "monitor_every=2"):
        arguments += ["--set", setting]
    subprocess.run([*arguments, "-o", tmp_path / "whole.safetensors"], check=True, capture_output=True)
    killed = tmp_path / "killed.safetensors"
    process = subprocess.Popen([*arguments, "-o", killed], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    state = tmp_path / "killed.state.safetensors"
    deadline = time.monotonic() + 60
    while not state.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert state.exists()
    subprocess.run([*arguments, "-o", killed, "--resume"], check=True, capture_output=True)
    assert same(load_checkpoint(tmp_path / "whole.safetensors"), load_checkpoint(killed))


def test_a_state_of_another_run_is_not_resumed(store, tmp_path, monkeypatch):
    out = tmp_path / "a.safetensors"
    with pytest.raises(InputError, match="no saved state to resume from"):
        train(store, out, resume=True)

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop.Run, "_log_to_tensorboard", die)
    with pytest.raises(KeyboardInterrupt):
        train(store, out)
    monkeypatch.undo()
    with pytest.raises(InputError, match="belongs to a run with another config"):
        train(store, out, other(seed=5), resume=True)
    with pytest.raises(InputError, match="belongs to a run with another exclude"):
        train(store, out, exclude=["animal1"], resume=True)
    out.with_suffix(".state.safetensors").write_text("damaged")
    with pytest.raises(InputError, match="not a readable state"):
        train(store, out, resume=True)


@pytest.mark.parametrize("name", ["a.safetensors", "a.log.csv", "a.last.safetensors"])
def test_files_that_are_there_are_not_overwritten(store, tmp_path, name):
    (tmp_path / name).write_text("precious")
    with pytest.raises(InputError, match="exists already"):
        train(store, tmp_path / "a.safetensors")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [(name, "precious")]


def test_sources_are_stored_for_the_time_of_the_run(populations, store, tmp_path):
    checkpoint = train(populations, tmp_path / "a.safetensors")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.log.csv", "a.safetensors", "a.tensorboard"]
    # What an earlier run left is not trained on, and nobody's own store is touched.
    build_store(populations[:1], tmp_path / "b.run-store", progress=False)
    build_store(populations, tmp_path / "b.store", progress=False)
    assert same(checkpoint, train(populations, tmp_path / "b.safetensors"))
    assert (tmp_path / "b.store").exists()
    assert not (tmp_path / "b.run-store").exists()
    (tmp_path / "b.safetensors").unlink()
    (tmp_path / "b.log.csv").unlink()
    with pytest.raises(InputError, match=r"b.tensorboard: exists already"):
        train(store, tmp_path / "b.safetensors")
    shutil.rmtree(tmp_path / "b.tensorboard")
    assert same(checkpoint, train(store, tmp_path / "b.safetensors"))
    (tmp_path / "bad.nwb").write_text("nothing")
    with pytest.raises(InputError, match=r"bad.nwb: not a readable NWB file"):
        train([*populations, tmp_path / "bad.nwb"], tmp_path / "c.safetensors")


def test_a_step_is_the_same_however_it_is_cut_into_batches(store, tmp_path):
    config = other(samples=5, encoder={"dropout": 0.0}, learning_rate=3e-4)
    whole = train(store, tmp_path / "a.safetensors", config, precision="float32")
    cut = train(store, tmp_path / "b.safetensors", config.updated({"batch_size": 120}), precision="float32")
    assert_close(whole, cut)


def test_views_drawn_by_other_processes_are_the_same(store, tmp_path):
    assert same(train(store, tmp_path / "a.safetensors"), train(store, tmp_path / "b.safetensors", n_jobs=2))


TWO = """
import json, sys
from spikeinterface_nuclr import PretrainConfig, pretrain
config = PretrainConfig().updated(json.loads(sys.argv[3]))
options = {"devices": int(sys.argv[4]), "device": "cpu", "precision": "float32", "progress": False}
pretrain(sys.argv[1], sys.argv[2], config, hold_out=["animal3"], **options)
"""


def started(script, *arguments, **environment):
    outside = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    environment = {**outside, "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True)


def by_itself(*arguments):
    return [started(*arguments)]


def by_slurm(*arguments, processes=2):
    """As srun starts two tasks on one node."""
    # The port follows from the job's number.
    job = {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NAME": "pretrain",
        "SLURM_NODELIST": "127.0.0.1",
        "SLURM_NNODES": "1",
    }
    job |= {"SLURM_NTASKS": str(processes), "SLURM_NTASKS_PER_NODE": str(processes), "SLURM_NODEID": "0"}
    return [started(*arguments, **job, SLURM_PROCID=str(k), SLURM_LOCALID=str(k)) for k in range(processes)]


def three_by_slurm(*arguments):
    return by_slurm(*arguments, processes=3)


@pytest.mark.parametrize(
    ("start", "objective"),
    [
        pytest.param(by_itself, "dcl_full", marks=pytest.mark.slow),
        pytest.param(by_itself, "infonce", marks=pytest.mark.slow),
        pytest.param(by_slurm, "dcl", marks=pytest.mark.slow),
    ],
)
def test_two_processes_equal_one(store, tmp_path, start, objective):
    script = tmp_path / "two.py"
    script.write_text(TWO)
    changes = {"samples": 5, "learning_rate": 3e-4, "batch_size": 160, "objective": objective}
    config = other(encoder={"dropout": 0.0}, **changes)
    processes = start(script, store.path, tmp_path / "2.safetensors", json.dumps(config.to_dict()), 2)
    one = train(store, tmp_path / "1.safetensors", config, precision="float32", hold_out=["animal3"])
    for process in processes:
        errors = process.communicate(timeout=120)[1]
        assert process.returncode == 0, errors
    two = load_checkpoint(tmp_path / "2.safetensors")
    assert_close(one, two)
    for a, b in zip(*(rows_of(tmp_path / f"{devices}.log.csv") for devices in (1, 2)), strict=True):
        for name in ("loss", "alignment", "repulsion"):
            assert float(a[name]) == pytest.approx(float(b[name]), abs=1e-6)
    assert (one.card["training_processes"], two.card["training_processes"]) == (1, 2)


def children_of(process):
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize(
    ("start", "rank", "number", "said"),
    [
        (by_slurm, 0, signal.SIGKILL, "process 1 of 2 ended"),
        (by_slurm, 1, signal.SIGKILL, "process 2 of 2 ended"),
        (three_by_slurm, 2, signal.SIGSTOP, "process 3 of 3 ended"),
        (by_itself, 0, signal.SIGKILL, "process 1 of 2 ended"),
        (by_itself, 1, signal.SIGKILL, "process 2 of 2 ended"),
    ],
)
def test_all_processes_end_within_a_minute_of_one(store, tmp_path, start, rank, number, said):
    script = tmp_path / "two.py"
    script.write_text(TWO)
    config = other(steps=100_000, monitor_every=2, samples=3)
    number_of_them = 3 if start is three_by_slurm else 2
    output = tmp_path / "2.safetensors"
    processes = start(script, store.path, output, json.dumps(config.to_dict()), number_of_them)
    until(lambda: (tmp_path / "2.log.csv").exists() or processes[0].poll() is not None, 120)
    pids = [process.pid for process in processes]
    pids += children_of(processes[0]) if start is by_itself else []
    try:
        os.kill(pids[rank], number)
        others = [pid for pid in pids if pid != pids[rank]]
        until(lambda: not any(map(is_running, others)), 60)
    finally:
        for pid in filter(is_running, pids):
            os.kill(pid, signal.SIGKILL)
    lines = "".join(process.communicate(timeout=60)[1] for process in processes).splitlines()
    assert [line for line in lines if "nuclr:" in line] == [
        f"nuclr: {said} without a word (was it killed, or out of memory?): continue with --resume"
    ]
    assert "Traceback" not in "".join(lines)


def is_running(pid):
    """Whether a process runs, other than as a zombie that nobody has waited for."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def until(condition, seconds):
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds
        time.sleep(0.1)


@pytest.mark.slow
def test_what_one_process_refuses_is_said_once(store, tmp_path):
    script = tmp_path / "two.py"
    script.write_text(TWO)
    config = other(learning_rate=1e30, steps=50, monitor_every=50)
    processes = by_slurm(script, store.path, tmp_path / "2.safetensors", json.dumps(config.to_dict()), 2)
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert "".join(errors).count("InputError: the loss is not finite at step") == 1
    assert all(process.returncode for process in processes)


def test_several_processes_want_a_store_and_a_sample_each(populations, store, tmp_path):
    with pytest.raises(InputError, match="train from one store"):
        train(populations, tmp_path / "a.safetensors", devices=2)


def test_a_loss_that_explodes_is_named(store, tmp_path):
    with pytest.raises(InputError, match=r"the loss is not finite at step .*: lower the learning rate"):
        train(store, tmp_path / "a.safetensors", other(learning_rate=1e30, steps=50, monitor_every=50))
    assert not (tmp_path / "a.safetensors").exists()


def test_only_the_signal_of_the_encoder_is_trained_on(tmp_path):
    traces = Population(range(12), traces=np.random.default_rng(0).random((12, 400)), sampling_frequency=4.0)
    with pytest.raises(CheckpointError, match=r"on Population 0\): takes spikes, this population holds traces"):
        train([traces], tmp_path / "a.safetensors")
    config = other(encoder={"signal": "traces", "bin_s": 0.25, "patch_size": 4})
    assert train([traces], tmp_path / "b.safetensors", config).config.signal == "traces"


def test_traces_are_trained_on_at_the_encoders_rate(tmp_path):
    traces = Population(range(12), traces=np.random.default_rng(0).random((12, 4000)), sampling_frequency=20.0)
    config = other(encoder={"signal": "traces", "bin_s": 0.25, "patch_size": 4})
    assert train([traces], tmp_path / "a.safetensors", config).card["recordings"] == 1
    store, _ = build_store(traces, tmp_path / "store", progress=False)
    with pytest.raises(InputError, match=r"holds it at 20 frames per second, the encoder takes 4 .*--frame-rate 4"):
        train(store, tmp_path / "b.safetensors", config)
    np.save(tmp_path / "dff.npy", traces.traces)
    reading = {"sampling_frequency": 20.0, "traces": "dff"}
    assert train(tmp_path / "dff.npy", tmp_path / "c.safetensors", config, reading=reading).card["recordings"] == 1


@pytest.mark.parametrize("objective", ["dcl_full", pytest.param("vicreg", marks=pytest.mark.slow)])
def test_training_learns(store, tmp_path, objective):
    config = other(steps=40, samples=4, learning_rate=3e-3, objective=objective)
    checkpoint = train(store, tmp_path / "a.safetensors", config)
    losses = [float(row["loss"]) for row in rows_of(tmp_path / "a.log.csv")]
    assert np.mean(losses[-5:]) < 0.95 * np.mean(losses[:5])
    assert checkpoint.card["training"]["steps"] == 40


def test_held_out_animals_are_monitored_and_excluded_ones_are_not(store, tmp_path, monkeypatch):
    looked, trained, real, drawn = [], [], loop.monitor, loop.draw_sample

    def looks(populations, *arguments, **options):
        looked.append({p.metadata["subject"] for p in populations})
        return real(populations, *arguments, **options)

    def draws(recordings, *arguments, **options):
        trained.append({r.probe.animal for r in recordings})
        return drawn(recordings, *arguments, **options)

    monkeypatch.setattr(loop, "monitor", looks)
    monkeypatch.setattr(loop, "draw_sample", draws)
    card = {"held_out": "nothing", "license": "CC0"}
    out = tmp_path / "a.safetensors"
    checkpoint = train(store, out, other(probe="cell_type"), hold_out=["animal1"], exclude=["animal[23]"], card=card)
    assert all(animals == {"animal1"} for animals in looked)
    assert all(animals == {"animal0"} for animals in trained)
    monitors = checkpoint.card["monitors"]
    for name in ("reidentification", "reidentification_across"):
        assert 0 <= monitors[name] <= 1
    assert monitors["rank_me"] >= 1
    assert -1 <= monitors["split_half_similarity"] <= 1
    assert np.isnan(monitors["probe"])  # one animal is not enough
    assert (checkpoint.card["license"], checkpoint.card["held_out"]) == ("CC0", ["animal1"])
    assert (checkpoint.card["recordings"], checkpoint.card["excluded"]) == (1, ["animal[23]"])
    for options in ({"hold_out": ["animal9"]}, {"exclude": ["animal1", "x*"]}):
        with pytest.raises(InputError, match=r"'(animal9|x\*)' matches no animal"):
            train(store, tmp_path / "b.safetensors", **options)
    with pytest.raises(InputError, match="no recording is left"):
        train(store, tmp_path / "b.safetensors", exclude=["*"])
    with pytest.raises(InputError, match="probe 'colour': no held-out recording has labels"):
        train(store, tmp_path / "b.safetensors", other(probe="colour"), hold_out=["animal1"])


def test_the_best_weights_are_kept(store, tmp_path, monkeypatch):
    shares = iter([0.3, 0.9, 0.5])
    monkeypatch.setattr(loop, "monitor", lambda *_, **__: {"reidentification": next(shares)})
    best = train(store, tmp_path / "a.safetensors", hold_out=["animal3"])
    assert best.card["monitors"]["step"] == 4
    last = load_checkpoint(tmp_path / "a.last.safetensors")
    assert last.card["monitors"]["step"] == 6
    assert not same(best, last)


def test_fine_tuning_starts_from_the_weights(store, tmp_path, checkpoint):
    checkpoint.save(tmp_path / "start.safetensors")
    config = PretrainConfig(encoder=checkpoint.config, steps=1, samples=2, learning_rate=1e-9, max_view_distance_s=20.0)
    tuned = train(store, tmp_path / "a.safetensors", config, initial=tmp_path / "start.safetensors")
    assert all(torch.allclose(tuned.weights[k], v, atol=1e-6) for k, v in checkpoint.weights.items())
    assert tuned.card["initial"]["sha256"] == checkpoint.sha256
    with pytest.raises(InputError, match=r"encoder.num_patches is 4, the weights of .* have 10: use the same"):
        train(store, tmp_path / "b.safetensors", CONFIG, initial=checkpoint)
    less = config.updated({"encoder": {"dropout": 0.0}})
    assert train(store, tmp_path / "c.safetensors", less, initial=checkpoint).config.dropout == 0.0


def test_curves_and_tensorboard_show_the_log(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, _ = finished
    with Image.open(folder / "a.curves.png") as image:
        assert image.size[0] > 3 * image.size[1] / 2
    log = rows_of(folder / "a.log.csv")
    events = EventAccumulator(str(folder / "a.tensorboard")).Reload()
    for name in ("loss", "alignment", "repulsion", "reidentification", "rank_me", "split_half_similarity"):
        assert [e.step for e in events.Scalars(name)] == [2, 4, 6]
        assert np.allclose([e.value for e in events.Scalars(name)], [float(row[name]) for row in log])


def test_weight_decay_spares_biases_and_norms():
    network = loop.Network(CONFIG)
    [optimizer] = loop.optimizers_of(network, CONFIG)
    decayed, spared = optimizer.param_groups
    assert {p.ndim for p in decayed["params"]} == {2}
    assert {p.ndim for p in spared["params"]} == {1}
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.01, 0.0)
    if hasattr(torch.optim, "Muon"):
        split = loop.optimizers_of(network, other(optimizer="muon"))
        counted = sum(len(group["params"]) for o in split for group in o.param_groups)
        assert counted == len(list(network.parameters()))


def test_the_gradient_of_all_parameters_is_clipped(store, monkeypatch):
    from lightning_fabric import Fabric

    if not hasattr(torch.optim, "Muon"):
        pytest.skip("torch is older than 2.9")
    config = other(optimizer="muon")
    network = loop.Network(config)
    fabric = Fabric(accelerator="cpu", devices=1)
    model, *optimizers = fabric.setup(network, *loop.optimizers_of(network, config))
    recordings = [loop.Recording(probe, config.encoder.layout) for probe in store.probes]
    loop.training_step(fabric, model, optimizers, loop.Steps(recordings, config, 0, 1)[0], 1e-3)
    norm = torch.stack([p.grad.norm() for p in network.parameters()]).norm()
    assert norm.item() == pytest.approx(1e-3, rel=0.01)


def test_errors_of_drawing_processes_are_one_line(tmp_path):
    # More than ten units, but never in one window.
    trains = [np.arange(k * 5.0, k * 5.0 + 4, 0.1) for k in range(12)]
    sparse = named(Population(range(12), trains, stop=60.0), "a")
    store, _ = build_store(sparse, tmp_path / "store", progress=False)
    for workers in (0, 1):
        with pytest.raises(InputError, match=r"^no window has more than 10 active units in both views: .*$"):
            train(store, tmp_path / "a.safetensors", n_jobs=workers)


def test_the_learning_rate_climbs_and_falls_to_nothing():
    config = PretrainConfig(steps=100, warmup=0.1)
    rates = [loop._schedule(step, config) for step in range(100)]
    assert np.allclose(rates[:10], np.arange(1, 11) / 10)
    assert (np.diff(rates[10:]) < 0).all()
    assert rates[-1] < 1e-3


def test_a_store_can_be_given_as_a_path(store, tmp_path):
    assert same(train(store.path, tmp_path / "a.safetensors"), train([str(store.path)], tmp_path / "b.safetensors"))
    assert isinstance(Store(store.path).animals, list)
