import os
import pickle
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from spikeinterface_nuclr import CheckpointError, convert_checkpoint, load_checkpoint

DATA = Path(__file__).parent / "data"


def test_the_authors_checkpoint_is_reproduced(tmp_path):
    checkpoint = convert_checkpoint(DATA / "reference_checkpoint.pt")
    expected = load_file(DATA / "binned_encoder.safetensors")
    saved = load_checkpoint(checkpoint.save(tmp_path / "converted.safetensors"))
    with torch.no_grad():
        embedding = saved.encoder()(expected["patches"], expected["units_per_window"])
    assert (embedding - expected["embedding"]).abs().max() < 1e-5
    assert saved.card["settings"]["views"] == {"duration": 10.0, "max_distance": 30.0}
    assert saved.card["train_step"] == 50_000


def test_brainwidebench_checkpoint_is_reproduced():
    checkpoint = load_checkpoint(DATA / "brainwidebench_checkpoint.pt")
    expected = load_file(DATA / "brainwidebench_checkpoint.safetensors")
    bins = expected["bins"].unflatten(1, (20, 50))
    with torch.no_grad():
        embedding = checkpoint.encoder()(bins, expected["units_per_probe"])
    assert (embedding - expected["embedding"]).abs().max() < 1e-5
    assert checkpoint.config.num_patches == 20
    assert checkpoint.card["overlap"] == 0.5


def test_omegaconf_is_neither_needed_nor_left_registered(monkeypatch):
    monkeypatch.setitem(sys.modules, "omegaconf", None)  # importing it fails
    before = set(torch.serialization.get_safe_globals())
    convert_checkpoint(DATA / "reference_checkpoint.pt")
    assert set(torch.serialization.get_safe_globals()) == before


def test_settings_agree_with_omegaconf():
    """What we read without OmegaConf is what OmegaConf itself would have read."""
    omegaconf = pytest.importorskip("omegaconf")
    for name in ("reference_checkpoint.pt", "brainwidebench_checkpoint.pt"):
        trusted = torch.load(DATA / name, weights_only=False)["cfg"]
        assert convert_checkpoint(DATA / name).card["settings"] == omegaconf.OmegaConf.to_container(trusted)


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_tries_to_run_code_is_refused(tmp_path):
    trace = tmp_path / "executed"
    content = torch.load(DATA / "reference_checkpoint.pt", weights_only=False)
    content["cfg"] = Attack(trace)
    torch.save(content, tmp_path / "attack.pt")
    with pytest.raises(CheckpointError, match=r"attack\.pt: refused: it asks for posix\.mkdir"):
        convert_checkpoint(tmp_path / "attack.pt")
    assert not trace.exists()
    torch.load(tmp_path / "attack.pt", weights_only=False)
    assert trace.exists(), "the attack is real"


def test_a_bare_pickle_that_tries_to_run_code_is_refused(tmp_path):
    trace = tmp_path / "executed"
    (tmp_path / "bare.pt").write_bytes(pickle.dumps({"model_state_dict": Attack(trace), "cfg": {}}, protocol=2))
    with pytest.raises(CheckpointError, match=r"bare\.pt"):
        convert_checkpoint(tmp_path / "bare.pt")
    assert not trace.exists()


@pytest.mark.parametrize("what", ["text", "empty", "truncated", "zip", "other", "missing"])
def test_files_that_are_no_checkpoint_are_refused_in_one_line(tmp_path, what):
    path = tmp_path / f"{what}.pt"
    whole = (DATA / "reference_checkpoint.pt").read_bytes()
    if what == "text":
        path.write_text("weights")
    elif what == "empty":
        path.write_bytes(b"")
    elif what == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif what == "zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("a", "b")
    elif what == "other":
        torch.save({"weights": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match=rf"{what}\.pt") as error:
        convert_checkpoint(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c["model_state_dict"].pop("read_in.bias"), "read_in.bias is missing"),
        (lambda c: c["cfg"]["model"].update(dim=128), "has shape"),
        (lambda c: c["model_state_dict"]["rotary_emb.omega"].mul_(2), "rotary frequencies"),
        (lambda c: c["cfg"]["model"].pop("dim"), "dim"),
        (lambda c: c["cfg"]["model"].update(self_heads=7), "layout is not that"),
        (lambda c: c["cfg"]["model"].update(bin_size=0.0), "layout is not that"),
        (lambda c: c.pop("loss_state_dict"), "its layout is unknown"),
        (lambda c: c["model_state_dict"].pop("read_in.weight"), "spike-token"),
    ],
)
def test_checkpoints_of_another_shape_are_refused(tmp_path, change, says):
    content = torch.load(DATA / "reference_checkpoint.pt", weights_only=False)
    change(content)
    torch.save(content, tmp_path / "changed.pt")
    with pytest.raises(CheckpointError, match=rf"changed\.pt.*{says}"):
        convert_checkpoint(tmp_path / "changed.pt")
