"""The embeddings that BrainWideBench releases: read without running code, and joined to units by id."""

import numpy as np
import pytest
import torch

from spikeinterface_nuclr import (
    Checkpoint,
    CheckpointError,
    RecordingWarning,
    fit_decoder,
    read_brainwidebench_embeddings,
)


def written(path, kind="U", units: int = 60, dim: int = 8, **changes):
    """A file in the layout of ``nuclr_embeddings_42.pt``; returns the ids and rows of both parts."""
    rng = np.random.default_rng(0)
    uids = np.array([f"session-{k % 4}/unit-{k:05d}" for k in range(units)])
    rows = torch.tensor(rng.standard_normal((units, dim)), dtype=torch.float32)
    rows[3] = torch.nan
    half = units // 2
    text = {"U": str, "O": object, "S": "S"}[kind]
    content = {
        "train_embs": rows[:half], "eval_embs": rows[half:], "train_uids": uids[:half].astype(text),
        "eval_uids": uids[half:].astype(text), "run_seed": 42,
    }  # fmt: skip
    torch.save({**content, **changes}, path)
    return uids, rows.numpy()


@pytest.mark.parametrize("kind", ["U", "O", "S"])
def test_units_are_found_by_session_and_id(tmp_path, kind):
    uids, rows = written(tmp_path / "e.pt", kind)
    found = read_brainwidebench_embeddings(tmp_path / "e.pt")
    assert sorted(found) == [f"session-{k}" for k in range(4)]
    for session, embeddings in found.items():
        for unit, row in zip(embeddings.unit_ids.tolist(), embeddings.embedding, strict=True):
            np.testing.assert_array_equal(row, rows[uids.tolist().index(f"{session}/{unit}")])
    assert found["session-3"].num_windows.tolist() == [0, *[1] * 14]
    assert found["session-0"].provenance.other == {"released_seed": 42}
    assert len({one.provenance.checkpoint_sha256 for one in found.values()}) == 1


def test_a_decoder_is_fitted_to_them(tmp_path, checkpoint):
    written(tmp_path / "e.pt", dim=32)
    found = list(read_brainwidebench_embeddings(tmp_path / "e.pt", checkpoint=checkpoint).values())
    labels = [np.where(one.embedding[:, 0] > 0, "TH", "HPF") for one in found]
    decoder = fit_decoder(found, labels, list("abcd"), target="region")
    assert decoder.checkpoints == (checkpoint.sha256,)


def test_thousands_of_units_are_read(tmp_path):
    written(tmp_path / "e.pt", units=57_000, dim=256)
    found = read_brainwidebench_embeddings(tmp_path / "e.pt")
    assert sum(len(one.unit_ids) for one in found.values()) == 57_000


class Bomb:
    def __reduce__(self):
        return print, ("was run",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"run_seed": Bomb()}, r"refused: it asks for .*builtin.*\.print"),
        ({"train_uids": np.array([Bomb()] * 30, dtype=object)}, r"refused: it asks for .*builtin.*\.print"),
        ({"train_uids": np.arange(30)}, "an array holds no text"),
        ({"train_uids": np.array(["a/b"])}, r"train_embs has shape \(30, 8\) for 1 ids"),
        ({"train_uids": np.array(["unit"] * 30)}, "not of the form SESSION/UNIT"),
        ({"train_uids": np.array(["a/b"] * 30)}, "an id occurs twice"),
        ({"train_embs": [1.0]}, "train_embs is no tensor"),
        ({"train_uids": ["a/b"] * 30}, "train_uids no array of text"),
        ({"train_uids": np.array(["a/" + "b" * 2_000] * 30)}, "a text has more than 1000 characters"),
        ({"train_embs": torch.zeros(30, 9)}, "does not hold released embeddings"),
        ({"train_embs": torch.zeros(30)}, r"train_embs has shape \(30,\)"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, capfd, changes, message):
    written(tmp_path / "e.pt", **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_brainwidebench_embeddings(tmp_path / "e.pt")
    assert "\n" not in str(caught.value)
    assert "was run" not in capfd.readouterr().out


def test_texts_cannot_be_made_longer_than_the_file(tmp_path):
    """One text of a megabyte that is encoded a thousand times."""
    import pickle
    import zipfile

    text = "x" * 1_000_000
    calls = b"".join(b"h\x00h\x02h\x01\x86R0" for _ in range(1_000))
    content = (
        b"\x80\x02c_codecs\nencode\nq\x00X\x06\x00\x00\x00latin1q\x01" + pickle.dumps(text, 2)[2:-1].split(b"q")[0]
    )
    content += b"q\x02" + calls + b"."
    written(tmp_path / "e.pt")
    with zipfile.ZipFile(tmp_path / "e.pt") as old, zipfile.ZipFile(tmp_path / "bad.pt", "w") as new:
        for member in old.infolist():
            new.writestr(member, content if member.filename.endswith("data.pkl") else old.read(member.filename))
    with pytest.raises(CheckpointError, match="its bytes are more than its pickle holds"):
        read_brainwidebench_embeddings(tmp_path / "bad.pt")


def test_the_model_that_is_named_has_to_fit(tmp_path, checkpoint):
    written(tmp_path / "e.pt")
    with pytest.raises(CheckpointError, match="have 8 dimensions, those of random 32"):
        read_brainwidebench_embeddings(tmp_path / "e.pt", checkpoint=checkpoint)
    written(tmp_path / "f.pt", dim=32)
    other = Checkpoint(checkpoint.config, checkpoint.weights, {}, name="hf://x/y/nuclr_43.pt")
    with pytest.warns(RecordingWarning, match="is of seed 42, and .*nuclr_43.pt seems to be of another"):
        read_brainwidebench_embeddings(tmp_path / "f.pt", checkpoint=other)


def test_a_checkpoint_may_not_hold_arrays(tmp_path):
    from spikeinterface_nuclr import convert_checkpoint

    written(tmp_path / "e.pt")
    with pytest.raises(CheckpointError, match="refused: it asks for numpy"):
        convert_checkpoint(tmp_path / "e.pt")
    torch.save({"x": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="lacks train_embs and eval_embs"):
        read_brainwidebench_embeddings(tmp_path / "other.pt")
