"""What a training run finds when it begins: the files of an earlier one, and a state to go on from that may lie."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from spikeinterface_nuclr import (
    DeviceError,
    EncoderConfig,
    InputError,
    Population,
    PretrainConfig,
    build_store,
    simulate_population,
)
from spikeinterface_nuclr import pretrain as train
from spikeinterface_nuclr.training import runs

CONFIG = PretrainConfig(
    encoder=EncoderConfig(dim=8, heads=1, head_dim=8, num_patches=4, temporal_blocks=1, spatiotemporal_blocks=1),
    steps=4,
    samples=1,
    max_view_distance_s=20.0,
    monitor_every=2,
)
HOW = {"device": "cpu", "precision": "float32", "progress": False}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    base = simulate_population(n_units=14, duration=40.0, seed=0)
    known = {"stop": 40.0, "metadata": {"subject": "a", "source": "a"}}
    population = Population(base.unit_ids, base.spike_times, **known)
    return build_store([population], tmp_path_factory.mktemp("stores") / "store", progress=False)[0]


def files_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def earlier(tmp_path):
    """What an earlier, unfinished run has left, and must not lose to one that never begins."""
    for name in ("m.safetensors", "m.log.csv", "m.last.safetensors", "m.curves.png", "m.state.safetensors"):
        (tmp_path / name).write_bytes(b"a week of training")
    (tmp_path / "m.tensorboard").mkdir()
    (tmp_path / "m.tensorboard" / "events.out.tfevents.1").write_bytes(b"a week of curves")
    return tmp_path / "m.safetensors"


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"device": "cuda:9"}, DeviceError),
        ({"precision": "float64"}, InputError),
        ({"hold_out": ["mouse_7"]}, InputError),
        ({"exclude": ["*"]}, InputError),
        ({"sources": "no/such/store"}, InputError),
        ({"sources": []}, InputError),
        ({"config": CONFIG.updated({"samples": 1, "probe": "area"}), "hold_out": ["*"]}, InputError),
        ({"config": CONFIG.updated({"encoder": {"signal": "traces"}})}, ValueError),
        ({"config": CONFIG.updated({"encoder": {"num_patches": 400}})}, InputError),
        ({"config": CONFIG.updated({"learning_rate": 1e30, "steps": 50, "monitor_every": 50})}, InputError),
        ({"initial": "no-such-model"}, ValueError),
    ],
)
def test_a_run_that_never_begins_leaves_what_was_there(earlier, store, wrong, kind):
    before = files_of(earlier.parent)
    options = {"sources": store, "output": earlier, "config": CONFIG, **HOW, **wrong}
    with pytest.raises(kind):
        train(**options, overwrite=True)
    assert files_of(earlier.parent) == before


def test_a_run_that_begins_replaces_what_was_there(earlier, store):
    train(store, earlier, CONFIG, overwrite=True, **HOW)
    left = files_of(earlier.parent)
    assert not any(b"a week" in content for name, content in left.items() if "curves" not in name)
    assert [name for name in left if "tensorboard" in name] != []


@pytest.fixture(scope="module")
def begun(store, tmp_path_factory):
    """A run that died after its first look."""
    folder = tmp_path_factory.mktemp("begun")

    def die(*_):
        raise KeyboardInterrupt

    real, runs.Run._log_to_tensorboard = runs.Run._log_to_tensorboard, die
    try:
        with pytest.raises(KeyboardInterrupt):
            train(store, folder / "m.safetensors", CONFIG, **HOW)
    finally:
        runs.Run._log_to_tensorboard = real
    return files_of(folder)


def resumed(begun, folder, store, change):
    for name, content in begun.items():
        (folder / name).write_bytes(content)
    state = folder / "m.state.safetensors"
    with safe_open(state, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        content = json.loads(file.metadata()["state"])
    content = change(content, tensors) or content
    text = content if isinstance(content, str) else json.dumps(content)
    save_file(tensors, state, {"state": text})
    return train(store, folder / "m.safetensors", CONFIG, resume=True, **HOW)


def without(key):
    return lambda content, tensors: tensors.pop(next(k for k in tensors if key in k)) is None


def changed(key, change):
    def apply(_, tensors):
        name = next(k for k in sorted(tensors) if key in k)
        tensors[name] = change(tensors[name]).contiguous()

    return apply


def with_entries(**entries):
    return lambda content, _: content.update(entries)


ADAMW = ("step", "exp_avg", "exp_avg_sq")
LIES = {
    "deep": lambda *_: '{"run": ' + "[" * 50_000,
    "no JSON": lambda *_: "{",
    "a list": lambda *_: "[]",
    "nothing": lambda *_: "{}",
    "run is a list": with_entries(run=[]),
    "step is a text": with_entries(step="2"),
    "step is a fraction": with_entries(step=2.0),
    "step is a truth value": with_entries(step=True),
    "step is negative": with_entries(step=-2),
    "step is another than the log's": with_entries(step=3),
    "step is beyond the end": lambda c, _: c.update(step=40, rows=[{**c["rows"][0], "step": 40}]),
    "seconds are a list": with_entries(seconds=[1]),
    "seconds are NaN": with_entries(seconds=float("nan")),
    "rows are a number": with_entries(rows=5),
    "rows are empty": with_entries(rows=[]),
    "rows are texts": with_entries(rows=["x"]),
    "a row has a text": lambda c, _: c["rows"][0].update(loss="low"),
    "rows differ": lambda c, _: c.update(rows=[{"step": 1}, *c["rows"]]),
    "rows go back": lambda c, _: c.update(rows=[{**c["rows"][0], "step": 9}, *c["rows"]]),
    "a weight is missing": without("model.encoder.read_in.weight"),
    "a moment is missing": without("exp_avg_sq"),
    "a parameter's memory is missing": lambda _, t: (
        [t.pop(k) for k in list(t) if k.startswith("optimizer.3.")] and None
    ),
    "an unknown tensor": lambda _, t: t.update(other=torch.zeros(3)),
    "a weight of another shape": changed("model.encoder.read_in.weight", lambda x: x[1:]),
    "a weight of another type": changed("model.encoder.read_in.weight", torch.Tensor.double),
    "a weight of NaN": changed("model.encoder.read_in.bias", lambda x: x * torch.nan),
    "a moment of another shape": changed("exp_avg_sq", lambda x: x[None]),
    "a moment of whole numbers": changed("exp_avg", torch.Tensor.long),
    "a step of a vector": changed(".step", lambda x: x[None]),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_state_that_lies_is_named(begun, store, tmp_path, lie):
    with pytest.raises(InputError, match=r"m\.state\.safetensors: .*: start without --resume$") as error:
        resumed(begun, tmp_path, store, LIES[lie])
    assert "\n" not in str(error.value)


def test_a_state_that_does_not_lie_is_gone_on_with(begun, store, tmp_path):
    (tmp_path / "whole").mkdir()
    whole = train(store, tmp_path / "whole" / "m.safetensors", CONFIG, **HOW)
    checkpoint = resumed(begun, tmp_path, store, lambda *_: None)
    assert all(torch.equal(whole.weights[key], value) for key, value in checkpoint.weights.items())
