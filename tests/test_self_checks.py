"""Self-checks: models and decoders hold a small input and its output, which other machines compute again."""

import dataclasses

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from spikeinterface_nuclr import (
    Checkpoint,
    CheckpointError,
    Decoder,
    DeviceError,
    Encoder,
    EncoderConfig,
    Regressor,
    embed,
    fit_decoder,
    fit_regressor,
    load_checkpoint,
    simulate_population,
)
from spikeinterface_nuclr.decoding.storage import bundled_decoders
from spikeinterface_nuclr.model.loading import bundled_models


@pytest.fixture(scope="module")
def decoders(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("decoders")
    populations = [simulate_population(20, 30.0, seed=seed) for seed in range(3)]
    embeddings = [embed(population, checkpoint, progress=False) for population in populations]
    labels = [population.properties["cell_type"] for population in populations]
    depths = [population.properties["depth"] for population in populations]
    return [
        fit_decoder(embeddings, labels, target="type", readout="kernel").save(folder / "type.safetensors"),
        fit_regressor(embeddings, depths, target="depth").save(folder / "depth.safetensors"),
    ]


def rewritten(path, output, changed: dict):
    """A copy of a file with other arrays."""
    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
    save_file(load_file(path) | changed, output, metadata)
    return output


@pytest.mark.parametrize("name", bundled_models())
def test_bundled_models_compute_here_what_they_did_there(nuclr, name):
    assert load_checkpoint(name).check() < 1e-4
    assert "computes the same here" in nuclr("info", "--check", name).stdout


@pytest.mark.gpu
@pytest.mark.parametrize("name", bundled_models())
def test_bundled_models_compute_the_same_on_a_gpu(name):
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    assert load_checkpoint(name).check(device="cuda", precision="float32") < 1e-3
    assert load_checkpoint(name).check(device="cuda", precision="bfloat16") < 0.05


@pytest.mark.parametrize("name", bundled_decoders())
def test_bundled_decoders_compute_here_what_they_did_there(nuclr, name):
    assert Decoder.load(name).check() < 1e-4
    assert "computes the same here" in nuclr("info", "--check", name).stdout


def test_saved_models_hold_an_example_that_does_not_change_them(nuclr, checkpoint, decoders, tmp_path):
    path = checkpoint.save(tmp_path / "small.safetensors")
    loaded = load_checkpoint(path)
    assert loaded.sha256 == checkpoint.sha256
    assert loaded.example["input"].dtype == np.uint8
    assert loaded.check() < 1e-6
    assert path.read_bytes() == loaded.save(tmp_path / "again.safetensors").read_bytes()
    for decoder, kind in zip(decoders, (Decoder, Regressor), strict=True):
        assert kind.load(decoder).check() < 1e-9
        assert "computes the same here" in nuclr("info", "--check", decoder).stdout


def test_traces_have_an_example_too(calcium_checkpoint, tmp_path):
    path = calcium_checkpoint.save(tmp_path / "traces.safetensors")
    assert load_checkpoint(path).check() < 1e-6


def test_the_example_of_the_file_is_kept(checkpoint, tmp_path):
    """A model that is saved again still says what it computed where it was made."""
    path = checkpoint.save(tmp_path / "a.safetensors")
    loaded = load_checkpoint(path)
    changed = {"example/embedding": loaded.example["embedding"] + 0.5}
    other = load_checkpoint(rewritten(path, tmp_path / "b.safetensors", changed))
    assert load_checkpoint(other.save(tmp_path / "c.safetensors")).check() > 0.01
    edited = dataclasses.replace(loaded, card={"note": "edited"}).save(tmp_path / "d.safetensors")
    assert load_checkpoint(edited).check() < 1e-6


def test_another_result_is_reported(nuclr, checkpoint, decoders, tmp_path):
    path = checkpoint.save(tmp_path / "a.safetensors")
    for saved, key in ((path, "example/embedding"), (decoders[0], "example/probability")):
        changed = {key: load_file(saved)[key] + 0.1}
        other = rewritten(saved, tmp_path / "other.safetensors", changed)
        done = nuclr("info", "--check", other, code=4)
        assert "other.safetensors: computes something else here" in done.stderr


def test_files_without_or_with_damaged_examples_say_so(nuclr, checkpoint, tmp_path):
    path = checkpoint.save(tmp_path / "a.safetensors")
    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
    arrays = load_file(path)
    without = {name: values for name, values in arrays.items() if not name.startswith("example/")}
    save_file(without, tmp_path / "without.safetensors", metadata)
    done = nuclr("info", "--check", tmp_path / "without.safetensors", code=4)
    assert "holds no example to check: save it again" in done.stderr
    old = load_checkpoint(tmp_path / "without.safetensors")
    assert old.sha256 == checkpoint.sha256
    assert load_checkpoint(old.save(tmp_path / "again.safetensors")).check() < 1e-6
    for changed in (
        {"example/input": arrays["example/input"][:0], "example/embedding": arrays["example/embedding"][:0]},
        {"example/input": arrays["example/input"][:, :1]},
        {"example/input": arrays["example/input"][:3]},
        {"example/embedding": arrays["example/embedding"][:2]},
        {"example/embedding": np.full_like(arrays["example/embedding"], np.nan)},
    ):
        other = rewritten(path, tmp_path / "damaged.safetensors", changed)
        done = nuclr("info", "--check", other, code=4)
        assert "damaged.safetensors: its example is damaged" in done.stderr


def test_only_what_a_file_states_is_compared(checkpoint, tmp_path):
    """Comparing a result with itself would say nothing."""
    with pytest.raises(CheckpointError, match="holds no example"):
        checkpoint.check()
    torch.manual_seed(1)
    other = Checkpoint(checkpoint.config, Encoder(checkpoint.config).state_dict())
    path = Checkpoint.joined([checkpoint, other]).save(tmp_path / "two.safetensors")
    assert max(member.check() for member in load_checkpoint(path).members) < 1e-6
    changed = {"example/embedding": load_file(path)["example/embedding"]}
    changed["example/embedding"][:, -1] += 1
    first, second = load_checkpoint(rewritten(path, tmp_path / "b.safetensors", changed)).members
    assert first.check() < 1e-6
    assert second.check() > 0.01


def test_an_output_that_is_no_number_is_not_the_same(decoders, monkeypatch):
    decoder = Decoder.load(decoders[0])
    monkeypatch.setattr(Decoder, "_novelty", lambda self, tables: np.full(8, np.nan))
    assert not decoder.check() <= 1


def test_a_device_that_is_absent_is_no_damage(checkpoint, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(DeviceError):
        load_checkpoint(checkpoint.save(tmp_path / "a.safetensors")).check(device="cuda")


def test_a_window_that_is_not_small_has_no_example(tmp_path):
    config = EncoderConfig(dim=8, heads=1, head_dim=8, patch_size=10_000, num_patches=20, temporal_blocks=0)
    large = Checkpoint(config, Encoder(config).state_dict())
    assert not large.example
    with pytest.raises(CheckpointError, match="holds no example"):
        load_checkpoint(large.save(tmp_path / "large.safetensors")).check()


def test_damaged_examples_of_decoders_say_so(nuclr, decoders, tmp_path):
    for path, output in zip(decoders, ("example/probability", "example/value"), strict=True):
        arrays = load_file(path)
        name = next(key for key in arrays if key.startswith("example/input/"))
        other = rewritten(path, tmp_path / "x.safetensors", {name: arrays[name][:0], output: arrays[output][:0]})
        assert "x.safetensors: its example is damaged" in nuclr("info", "--check", other, code=4).stderr


def test_only_models_can_be_checked(nuclr, units_file):
    assert "--check is for models and decoders" in nuclr("info", "--check", units_file, code=2).stderr
