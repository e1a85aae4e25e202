"""Embeddings in files of their own: what is written is read, what is damaged is refused in one line."""

import io
import json
import zipfile

import numpy as np
import pandas as pd
import pytest

from spikeinterface_nuclr import InputError, UnitEmbeddings


def embeddings(unit_ids=("a", "=b", "c")) -> UnitEmbeddings:
    n = len(unit_ids)
    rows = np.arange(4 * n, dtype=np.float32).reshape(n, 4)
    provenance = {"checkpoint_sha256": "s", "checkpoint": "m", "source": {"subject": "m1"}}
    return UnitEmbeddings(np.array(unit_ids), rows, np.ones(n, int), np.ones(n, np.float32), provenance, np.arange(n))


def npy(array, header=None) -> bytes:
    """An .npy file, perhaps with a header that says something else."""
    stream = io.BytesIO()
    if header is None:
        np.lib.format.write_array(stream, np.asarray(array), allow_pickle=True)
    else:
        np.lib.format.write_array_header_1_0(stream, header)
        stream.write(array)
    return stream.getvalue()


@pytest.fixture
def path(tmp_path):
    return embeddings().save(tmp_path / "x.npz")


def repacked(path, compression=zipfile.ZIP_STORED, **members: bytes):
    """The file with some members replaced, or removed (None)."""
    with zipfile.ZipFile(path) as file:
        whole = {name: file.read(name) for name in file.namelist()}
    whole |= {f"{name}.npy": data for name, data in members.items()}
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in whole.items():
            if data is not None:
                file.writestr(name, data)
    return path


def refused(path) -> str:
    with pytest.raises(InputError) as error:
        UnitEmbeddings.load(path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(path))
    assert len(str(error.value)) < len(str(path)) + 400
    return str(error.value)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_what_is_saved_is_read(path, compression):
    found, want = UnitEmbeddings.load(repacked(path, compression)), embeddings()
    for name in ("unit_ids", "embedding", "num_windows", "split_half_similarity", "num_spikes"):
        np.testing.assert_array_equal(getattr(found, name), getattr(want, name))
        assert getattr(found, name).dtype == getattr(want, name).dtype
    assert found.provenance == want.provenance


@pytest.mark.parametrize(
    "provenance",
    [
        "[]",
        "3",
        "null",
        '"text"',
        "{",
        "",
        '{"source": []}',
        '{"source": "m1"}',
        "[" * 100_000,
        '{"a": ' * 100_000 + "1" + "}" * 100_000,
    ],
)
def test_a_provenance_of_another_type_is_refused(path, provenance):
    refused(repacked(path, provenance=npy(np.array(provenance))))


@pytest.mark.parametrize(
    "members",
    [
        {"provenance": npy(np.arange(3))},
        {"provenance": npy(np.array(b"\xff"))},
        {"provenance": None},
        {"embedding": None},
        {"num_windows": None},
        {"split_half_similarity": None},
        {"embedding": npy(np.zeros((2, 4), np.float32))},
        {"embedding": npy(np.zeros(3, np.float32))},
        {"embedding": npy(np.array([["a"] * 4] * 3))},
        {"embedding": npy(np.zeros((3, 4), complex))},
        {"embedding": npy(np.array([[None] * 4] * 3))},
        {"embedding": npy(np.array([[{}] * 4] * 3, dtype=object))},
        {"embedding": b""},
        {"embedding": b"\x93NUMPY"},
        {"embedding": b"text"},
        {"unit_ids": npy(np.array("a"))},
        {"unit_ids": npy(np.array([{}] * 3))},
        {"num_windows": npy(np.array(["1"] * 3))},
        {"num_spikes": npy(np.zeros((3, 1)))},
        {"split_half_similarity": npy(np.zeros(3, dtype=[("a", "f4")]))},
        # Headers that claim more, and less, than follows.
        {"embedding": npy(b"", {"shape": (10**12, 4), "fortran_order": False, "descr": "<f4"})},
        {"embedding": npy(bytes(48), {"shape": (3, 10**18), "fortran_order": False, "descr": "<f4"})},
        {"embedding": npy(bytes(48), {"shape": (3, 0), "fortran_order": False, "descr": "<f4"})},
        {"embedding": npy(bytes(48), {"shape": (-3, -4), "fortran_order": False, "descr": "<f4"})},
        {"unit_ids": npy(bytes(12), {"shape": (3,), "fortran_order": False, "descr": "<U2147483647"})},
        {"unit_ids": npy(bytes(12), {"shape": (3,), "fortran_order": False, "descr": "|O"})},
    ],
)
def test_arrays_of_another_kind_are_refused(path, members):
    refused(repacked(path, **members))


def test_bombs_are_refused(path):
    zeros = npy(bytes(120_000_000), {"shape": (3, 10_000_000), "fortran_order": False, "descr": "<f4"})
    repacked(path, zipfile.ZIP_DEFLATED, embedding=zeros)
    assert path.stat().st_size < 120_000
    assert "claims 0.1 GB" in refused(path)


@pytest.mark.parametrize(
    "what", ["text", "empty", "truncated", "folder", "absent", "npy", "pickle", "encrypted", "method"]
)
def test_what_is_no_npz_is_refused(path, tmp_path, what):
    whole = path.read_bytes()
    if what in ("folder", "absent"):
        path.unlink()
        if what == "folder":
            path.mkdir()
    contents = {
        "text": b"embeddings", "empty": b"", "truncated": whole[: len(whole) // 2], "npy": npy(np.zeros(3)),
        "pickle": b"\x80\x04N.",
        # Flags and methods of the first member, at its own header and in the directory.
        "encrypted": whole[:6] + b"\x01" + whole[7:], "method": whole[:8] + b"\x63" + whole[9:],
    }  # fmt: skip
    if what in contents:
        place = whole.rindex(b"PK\x01\x02") if what in ("encrypted", "method") else 0
        data = bytearray(contents[what])
        while place > 0:  # every entry of the directory
            data[place + (8 if what == "encrypted" else 10)] = 1 if what == "encrypted" else 99
            place = whole.rfind(b"PK\x01\x02", 0, place)
        path.write_bytes(data)
    refused(path)


def test_a_damaged_member_is_refused(path):
    whole = bytearray(repacked(path, zipfile.ZIP_DEFLATED).read_bytes())
    whole[120] ^= 0xFF
    path.write_bytes(whole)
    refused(path)


@pytest.mark.parametrize(
    ("provenance", "message"),
    [
        (None, "provenance must be a dict, not NoneType"),
        ([], "provenance must be a dict, not list"),
        (3, "provenance must be a dict, not int"),
        ({"source": []}, "provenance: source cannot be a list"),
        ({"overlap": "0.5"}, "provenance: overlap cannot be a str"),
    ],
)
def test_provenance_is_a_dict(provenance, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        UnitEmbeddings(np.arange(2), np.zeros((2, 3)), np.ones(2, int), np.ones(2), provenance)


def test_a_table_holds_no_formulas(tmp_path):
    path = embeddings(["=1+1", "-5", "@x"]).save(tmp_path / "x.csv")
    beside = tmp_path / "x.provenance.json"
    assert json.loads(beside.read_text(encoding="utf-8"))["checkpoint"] == "m"
    assert pd.read_csv(path, index_col="unit_id").index.tolist() == ["'=1+1", "-5", "'@x"]


def test_a_table_and_its_provenance_are_written_together_or_not_at_all(tmp_path):
    (tmp_path / "x.provenance.json").write_text("mine")
    with pytest.raises(InputError, match=r"x.provenance.json: exists already"):
        embeddings(["a"]).save(tmp_path / "x.csv")
    assert not (tmp_path / "x.csv").exists()
    (tmp_path / "x.provenance.json").unlink()
    embeddings(["a"]).save(tmp_path / "x.csv")
    with pytest.raises(InputError, match="exists already"):
        embeddings(["a", "b"]).save(tmp_path / "x.csv")
    embeddings(["a", "b"]).save(tmp_path / "x.csv", overwrite=True)
    assert len(pd.read_csv(tmp_path / "x.csv")) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"x.csv", "x.provenance.json"}
