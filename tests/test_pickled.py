"""Public .pt files: nothing of them runs, nothing of the process changes, and their size bounds the work."""

import builtins
import collections
import pickle
import pickletools
import threading
import time
import zipfile
from pathlib import Path

import pytest
import torch

from spikeinterface_nuclr import CheckpointError, convert_checkpoint
from spikeinterface_nuclr.model.pickled import Pickled

DATA = Path(__file__).parent / "data"
GOOD = DATA / "reference_checkpoint.pt"


@pytest.fixture(scope="module")
def identity() -> str:
    return convert_checkpoint(GOOD).sha256


@pytest.fixture
def content() -> dict:
    return torch.load(GOOD, weights_only=False)


def refused(path) -> str:
    begin = time.perf_counter()
    with pytest.raises(CheckpointError) as error:
        convert_checkpoint(path)
    assert time.perf_counter() - begin < 5
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    assert len(str(error.value)) < len(str(path)) + 400
    return str(error.value)


def write_pickle(path, pickled: bytes, **storages: bytes) -> Path:
    """A .pt file around a pickle."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickled)
        for key, numbers in storages.items():
            file.writestr(f"archive/data/{key.removeprefix('_')}", numbers)
    return path


class Call:
    """Pickles as a call."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


# --- what stays as it was ---------------------------------------------------------------------------------------------


def test_threads_convert_at_once_and_leave_no_trace(identity):
    class Mine:
        pass

    torch.serialization.add_safe_globals([Mine])
    before = list(torch.serialization.get_safe_globals())
    found, added = [], []

    def convert():
        found.extend(convert_checkpoint(GOOD).sha256 for _ in range(5))

    def add():
        for number in range(50):
            added.append(type(f"Theirs{number}", (), {}))
            torch.serialization.add_safe_globals(added[-1:])
            time.sleep(0.001)

    threads = [*(threading.Thread(target=convert) for _ in range(6)), threading.Thread(target=add)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(found) == {identity}
        assert len(found) == 30
        assert set(torch.serialization.get_safe_globals()) == {*before, *added}
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals([one for one in before if one is not Mine])


def test_the_name_of_the_file_is_not_part_of_the_identity(identity, tmp_path):
    (tmp_path / "nuclr_42.pt").write_bytes(GOOD.read_bytes())
    found = convert_checkpoint(tmp_path / "nuclr_42.pt")
    assert found.sha256 == identity
    assert found.card["converted_from"] == "nuclr_42.pt"


def test_the_format_before_torch_1_6_is_read_as_well(identity, content, tmp_path):
    path = tmp_path / "legacy.pt"
    torch.save(content, path, _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(path)
    assert convert_checkpoint(path).sha256 == identity


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol_is_read(identity, content, tmp_path, protocol):
    torch.save(content, tmp_path / "x.pt", pickle_protocol=protocol)
    assert convert_checkpoint(tmp_path / "x.pt").sha256 == identity


def test_parameters_and_views_are_tensors(identity, content, tmp_path):
    state = content["model_state_dict"]
    content["model_state_dict"] = collections.OrderedDict(
        (name, torch.nn.Parameter(value)) if value.is_floating_point() else (name, value)
        for name, value in state.items()
    )
    torch.save(content, tmp_path / "x.pt")
    assert convert_checkpoint(tmp_path / "x.pt").sha256 == identity
    # Transposed in memory, and a part of a larger storage.
    content["model_state_dict"] = {
        name: value.T.contiguous().T if value.ndim == 2 else torch.cat([value, value])[: len(value)]
        for name, value in state.items()
    }
    torch.save(content, tmp_path / "y.pt")
    assert convert_checkpoint(tmp_path / "y.pt").sha256 == identity


def test_a_file_cannot_change_how_the_next_one_is_read(identity, content, tmp_path):
    """State that is set on classes, of which a pickle has the means, is gone with the file."""
    for name in (b"omegaconf.dictconfig\nDictConfig", b"collections\nOrderedDict", b"torch._utils\n_rebuild_tensor_v2"):
        spoilt = b"\x80\x02}c" + name + b"\n(N}X\x0c\x00\x00\x00__setstate__NstbX\x03\x00\x00\x00cfgNs."
        path = write_pickle(tmp_path / "x.pt", spoilt)
        refused(path)
        assert convert_checkpoint(GOOD).sha256 == identity


# --- code -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("call", "asks"),
    [
        (Call(eval, "open('executed', 'w')"), r".*builtin.*\.eval"),
        (Call(getattr, "a", "upper"), r".*builtin.*\.getattr"),
        (Call(pickle.loads, b"."), r"_?c?[pP]ickle\.loads"),
        (Call(torch.load, "x"), r"torch\.serialization\.load"),
        (Call(builtins.__import__, "os"), r".*builtin.*\.__import__"),
        (Call(torch.hub.load, "x"), r"torch\.hub\.load"),
    ],
)
def test_what_could_run_is_refused_by_name(content, tmp_path, monkeypatch, call, asks, protocol, zipped):
    monkeypatch.chdir(tmp_path)
    content["cfg"] = call
    torch.save(content, "x.pt", pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=rf"x\.pt: refused: it asks for {asks}, which could run code"):
        convert_checkpoint("x.pt")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "pickled",
    [
        b"(S'executed'\nios\nmkdir\n.",
        b"\x80\x04\x8c\x08builtins\x8c\x0ceval.__call__\x93.",
        b"\x80\x04\x8c\x05torch\x8c\x12serialization.load\x93.",
        b"\x80\x02\x82\x01.",  # the registry of extensions
        b"\x80\x02ctorch\n_utils\n.",
    ],
)
def test_other_ways_of_asking_are_refused(tmp_path, monkeypatch, pickled):
    monkeypatch.chdir(tmp_path)
    refused(write_pickle(Path("x.pt"), pickled))
    Path("y.pt").write_bytes(pickled)
    refused(Path("y.pt"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.pt", "y.pt"]


# --- bounds -----------------------------------------------------------------------------------------------------------


def laughs(depth: int):
    """2^depth values in a few hundred bytes."""
    value = "ha"
    for _ in range(depth):
        value = [value, value]
    return value


def itself():
    value = {}
    value["model"] = value
    return value


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (lambda: laughs(40), "too many"),
        (lambda: {"model": dict.fromkeys(range(20), laughs(25))}, "too many"),
        (lambda: ["x" * 1000] * 10_000, "too many"),
        (itself, "nested too deeply"),
        (lambda: {"model": {"dim": 10**30}}, "pickle was not written by torch: LONG1"),
        (lambda: {"model": {"dim": 10**20}}, "heads|latent_step"),
        (lambda: 7, "int"),
        (lambda: None, "NoneType"),
        (lambda: ["model"], "list"),
        (lambda: {"model": "x" * 100}, "str"),
        (lambda: {"model": {"dim": torch.zeros(3)}}, "latent_step"),
    ],
)
def test_settings_that_are_none_are_refused(content, tmp_path, settings, says):
    content["cfg"] = settings()
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=says):
        convert_checkpoint(tmp_path / "x.pt")
    refused(tmp_path / "x.pt")


@pytest.mark.parametrize(
    "change",
    [
        {"dim": 10**9}, {"dim": float("nan")}, {"bin_size": float("inf")}, {"bin_size": "0.02"}, {"t_layers": 10**8},
        {"ctx_duration": 1e300}, {"lin_dropout": "much"}, {"self_heads": [1]}, {"dim": -1}, {"latent_step": {}},
        {"rot_ratio": 0.25}, {"st_layers": None},
    ],
)  # fmt: skip
def test_absurd_settings_are_refused(content, tmp_path, change):
    content["cfg"]["model"].update(change)
    torch.save(content, tmp_path / "x.pt")
    refused(tmp_path / "x.pt")


def test_texts_of_the_card_are_no_longer_than_texts_are(content, tmp_path):
    content["run_id"] = "x" * 300_000
    torch.save(content, path := tmp_path / "long.pt")
    assert "its settings are too many" in refused(path)


def test_odd_text_in_settings_reaches_the_card_as_text(content, tmp_path):
    content["cfg"]["note"] = "a\x1b[2J\ud800"
    content["run_id"] = "\udcff"
    torch.save(content, tmp_path / "x.pt")
    found = convert_checkpoint(tmp_path / "x.pt")
    assert found.card["settings"]["note"] == "a\x1b[2J?"
    found.save(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "state",
    [
        lambda state: list(state.items()),
        lambda state: {**state, 7: torch.zeros(1)},
        lambda state: {**state, "read_in.bias": 3.0},
        lambda state: {**state, "read_in.bias": [1.0]},
        lambda state: {**state, "read_in": torch.zeros(1)},
        lambda state: {**state, "t_blocks.0": torch.zeros(1)},
        lambda state: {**state, "t_blocks.x.0.norm.weight": torch.zeros(1)},
        lambda state: {**state, "st_blocks.0.9.norm.weight": torch.zeros(1)},
        lambda state: {**state, "rotary_emb.omega": torch.zeros(3, 3)},
        lambda state: {**state, "rotary_emb.omega": torch.zeros(32, dtype=torch.int64)},
        lambda state: {**state, "read_in.bias": torch.zeros(64, dtype=torch.complex64)},
        lambda state: {**state, "read_in.bias": torch.full_like(state["read_in.bias"], torch.nan)},
        lambda state: {**state, "read_in.bias": torch.zeros(1).expand(10**12)},
        lambda state: {**state, "read_in.bias": torch.zeros(0, 10**15)},
        lambda state: {**state, "read_in.bias": torch.zeros(64).to_sparse()},
        lambda state: {name: torch.zeros(100_000)[:1] for name in state},
        lambda state: {f"read_in.{number}": state["read_in.weight"] for number in range(3000)},
        lambda state: 7,
        lambda state: None,
    ],
)
def test_states_of_another_kind_are_refused(content, tmp_path, state):
    content["model_state_dict"] = state(content["model_state_dict"])
    torch.save(content, tmp_path / "x.pt")
    refused(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (10**11,), (1,)), (0, (4, 4), (1, 10**12)), (10**15, (1,), (1,)), (0, (2**40, 2**40), (0, 0)),
        (0, (4,), (-1,)), (-1, (1,), (1,)), (0, (-4,), (1,)), (0, (4, 4), (1,)), (0, (4.0,), (1,)), (0, "4", "1"),
        (0, (4,), (True,)), (True, (1,), (1,)), (0, (10**5,), (0,)),
    ],
)  # fmt: skip
def test_tensors_that_the_file_does_not_hold_are_refused(content, tmp_path, offset, size, stride):
    storage = torch.storage.TypedStorage(
        wrap_storage=torch.zeros(64).untyped_storage(), dtype=torch.float32, _internal=True
    )
    lie = Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, collections.OrderedDict())
    content["model_state_dict"]["read_in.bias"] = lie
    for zipped in (True, False):
        torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
        refused(tmp_path / "x.pt")


def repacked(path, compression=zipfile.ZIP_STORED, change=lambda name, data: data) -> Path:
    with zipfile.ZipFile(GOOD) as whole, zipfile.ZipFile(path, "w", compression) as file:
        for name in whole.namelist():
            file.writestr(name, change(name, whole.read(name)))
    return path


def test_bombs_of_zeros_are_refused(tmp_path):
    def swell(name, data):
        return bytes(200_000_000) if name.endswith("/data/0") else data

    path = repacked(tmp_path / "x.pt", zipfile.ZIP_DEFLATED, swell)
    assert path.stat().st_size < 3_000_000
    assert "compressed, or declares more data than it holds" in refused(path)


def test_members_that_share_their_bytes_are_refused(tmp_path):
    """A directory that lists one member many times."""
    path = repacked(tmp_path / "x.pt")
    with zipfile.ZipFile(path, "a") as file:
        largest = max(file.infolist(), key=lambda member: member.file_size)
        for number in range(200):
            copy = zipfile.ZipInfo(f"reference_checkpoint/data/{1000 + number}")
            copy.header_offset, copy.file_size, copy.compress_size, copy.CRC = (
                largest.header_offset, largest.file_size, largest.compress_size, largest.CRC,
            )  # fmt: skip
            file.filelist.append(copy)
            file.NameToInfo[copy.filename] = copy
        file._didModify = True
    refused(path)


@pytest.mark.parametrize("what", ["storage", "order", "two"])
def test_files_that_torch_does_not_write_are_refused(tmp_path, what):
    def change(name, data):
        if what == "storage" and name.endswith("/data/3"):
            return data[:-1]
        return b"big" if what == "order" and name.endswith("/byteorder") else data

    path = repacked(tmp_path / "x.pt", change=change)
    if what == "two":
        with zipfile.ZipFile(path, "a") as file:
            file.writestr("other/data.pkl", b"N.")
    refused(path)


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # a memo of 2^31 entries
        b"\x80\x02Np2147483647\n.",
        b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",  # 8 EB of bytes
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x02B\xff\xff\xff\x7f.",
        b"\x80\x02}" + b")\x85" * 1 + b"\x85" * 200_000 + b"Ns.",  # a key of tuples in tuples
        b"\x80\x02\x8b\x00\x00\x00\x10" + bytes(10),
        b"\x80\x02\x8a\xff" + b"\x01" * 255 + b".",
        b"I" + b"9" * 10_000 + b"\n.",
        b"]" * 300_000 + b"." ,
        b"(" * 300_000 + b"t.",
        b"\x80\x02]" + b"0" * 10 + b".",
        b"\x80\x02.",
        b"\x80\x09N.",
        b"",
    ],
)  # fmt: skip
def test_pickles_that_would_take_more_than_they_are_long_are_refused(tmp_path, pickled):
    refused(write_pickle(tmp_path / "x.pt", pickled))
    (tmp_path / "y.pt").write_bytes(pickled)
    refused(tmp_path / "y.pt")


def test_what_is_not_asked_for_is_not_read(content, tmp_path):
    content["optimizer_state_dict"] = {"moment": torch.zeros(5_000_000)}
    torch.save(content, tmp_path / "x.pt")
    with Pickled(tmp_path / "x.pt") as file:
        assert not file._storages
        described = file.content["model_state_dict"]["read_in.bias"]
        assert torch.equal(file.tensor(described), content["model_state_dict"]["read_in.bias"])
        assert len(file._storages) == 1


def test_the_pickles_of_public_files_name_only_what_is_known():
    for name in ("reference_checkpoint.pt", "brainwidebench_checkpoint.pt"):
        with zipfile.ZipFile(DATA / name) as file:
            [pickled] = [file.read(member) for member in file.namelist() if member.endswith("data.pkl")]
        assert {op.name for op, _, _ in pickletools.genops(pickled)} >= {"GLOBAL", "BINPERSID"}
        convert_checkpoint(DATA / name)
