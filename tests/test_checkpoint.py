import json

import pytest
import torch
from safetensors.torch import save_file

from spikeinterface_nuclr import Checkpoint, CheckpointError, Encoder, EncoderConfig, InputError, load_checkpoint
from spikeinterface_nuclr.model.loading import bundled_models


def test_a_saved_checkpoint_is_the_same_checkpoint(checkpoint, tmp_path):
    path = checkpoint.save(tmp_path / "model.safetensors")
    found = load_checkpoint(path)
    assert found.config == checkpoint.config
    assert found.card == checkpoint.card
    assert found.sha256 == checkpoint.sha256
    assert all(torch.equal(found.weights[key], value) for key, value in checkpoint.weights.items())
    assert load_checkpoint(path, sha256=checkpoint.sha256).sha256 == checkpoint.sha256


def test_an_unexpected_hash_is_refused(checkpoint, tmp_path):
    path = checkpoint.save(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="not the expected"):
        load_checkpoint(path, sha256="0" * 64)


def test_training_an_encoder_leaves_the_checkpoint_alone(checkpoint):
    before = checkpoint.weights["read_in.bias"].clone()
    with torch.no_grad():
        checkpoint.encoder().read_in.bias.add_(1)
    assert torch.equal(checkpoint.weights["read_in.bias"], before)


def test_the_default_is_bundled_and_carries_its_card():
    checkpoint = load_checkpoint()
    assert checkpoint.name == "nuclr-starter"
    assert "nuclr-starter" in bundled_models()
    assert {"training_data", "date", "license", "good_for", "not_for"} <= checkpoint.card.keys()
    assert all({"command", "training", "training_animals"} <= member.card.keys() for member in checkpoint.members)
    assert checkpoint.config.layout.window_s == 20


@pytest.mark.parametrize("what", ["text", "empty", "truncated", "flipped header", "no metadata", "not ours", "future"])
def test_damaged_files_are_refused_in_one_line_that_names_them(checkpoint, tmp_path, what):
    path = tmp_path / "bad.safetensors"
    whole = checkpoint._bytes
    if what == "text":
        path.write_text("weights")
    elif what == "empty":
        path.write_bytes(b"")
    elif what == "truncated":
        path.write_bytes(whole[:-1000])
    elif what == "flipped header":
        path.write_bytes(whole[:20] + b"\xff" + whole[21:])
    elif what == "no metadata":
        save_file(checkpoint.weights, path)
    elif what == "not ours":
        save_file({"a": torch.zeros(2)}, path, {"nuclr": "{"})
    else:
        content = {"format": 99, "config": checkpoint.config.to_dict(), "card": {}}
        save_file(checkpoint.weights, path, {"nuclr": json.dumps(content)})
    with pytest.raises(CheckpointError, match=r"bad\.safetensors") as error:
        load_checkpoint(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda w: w.pop("read_in.bias"), "read_in.bias is missing"),
        (lambda w: w.update(extra=torch.zeros(1)), "extra is unknown"),
        (lambda w: w.update({"read_in.bias": torch.zeros(33)}), "read_in.bias has shape"),
        (lambda w: w.update({"read_in.bias": torch.full((32,), torch.nan)}), "read_in.bias is not finite"),
    ],
)
def test_weights_that_do_not_fit_the_config_are_named(checkpoint, tmp_path, change, says):
    weights = dict(checkpoint.weights)
    change(weights)
    content = {"format": 1, "config": checkpoint.config.to_dict(), "card": {}}
    save_file(weights, tmp_path / "odd.safetensors", {"nuclr": json.dumps(content)})
    with pytest.raises(CheckpointError, match=rf"odd\.safetensors.*{says}"):
        load_checkpoint(tmp_path / "odd.safetensors")


def test_unknown_names_say_what_there_is(tmp_path):
    with pytest.raises(CheckpointError, match=r"no-such-model: no such checkpoint: .*nuclr-starter"):
        load_checkpoint("no-such-model")
    with pytest.raises(CheckpointError, match="is a directory"):
        load_checkpoint(tmp_path)


def test_an_existing_file_is_replaced_on_request_only(checkpoint, tmp_path):
    path = checkpoint.save(tmp_path / "model.safetensors")
    before = path.read_bytes()
    other = Checkpoint(EncoderConfig(dim=16, heads=1), Encoder(EncoderConfig(dim=16, heads=1)).state_dict())
    with pytest.raises(InputError, match="exists already"):
        other.save(path)
    assert path.read_bytes() == before
    other.save(path, overwrite=True)
    assert load_checkpoint(path).sha256 == other.sha256
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]
