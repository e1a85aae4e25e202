"""suite2p's settings and .npy files of any age, damaged or made to fill the memory; nothing in them runs."""

import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ophys_files import RATE, activity, raw

from spikeinterface_nuclr import InputError, RecordingWarning, read_population
from spikeinterface_nuclr.io.npy import Unreadable, load_numbers, read_settings

BAD = np.arange(600) // 10 == 10  # frames 100 to 109
GAP = [[0.0, 20.0], [22.0, 120.0]]


def write_settings(path, content, protocol=4):
    """As numpy writes an array of one object, in any of pickle's protocols."""
    write_pickle(path, pickle.dumps(np.array(content, dtype=object), protocol=protocol))
    return path


def write_pickle(path, content):
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        file.write(content)
    return path


def holding(entry):
    """A pickle of settings with one entry, given as opcodes."""
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntC\x01btR(I1\n(t"
        b"cnumpy\ndtype\n(VO8\nI0\nI1\ntRI00\n(l(dVbadframes\n" + entry + b"satb."
    )


def settings_or_refusal(path):
    """The settings in the file, or the line that says why not."""
    try:
        return read_settings(path)
    except InputError as error:
        return str(error)


@pytest.fixture
def plane(tmp_path):
    folder = tmp_path / "plane0"
    folder.mkdir()
    np.save(folder / "F.npy", raw(activity()).astype(np.float32))
    return folder


def observed(plane, **settings):
    write_settings(plane / "ops.npy", {"fs": RATE} | settings)
    return read_population(plane).observed


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("order", "<>")
def test_any_protocol_holds_what_numpy_wrote(tmp_path, protocol, order):
    content = {
        "fs": 10.0, "scalar": np.float32(2.5), "flag": np.bool_(True), "text": "é", "list": [1, 2.5, "a", None],
        "tuple": (np.int64(3), 4), "nested": {"x": np.arange(3.0)}, "empty": np.zeros(0), "bad": BAD,
        "grid": np.asfortranarray(np.arange(6).reshape(2, 3).astype(f"{order}i2")), "u": np.uint8([[255]]),
    }  # fmt: skip
    found = read_settings(write_settings(tmp_path / "ops.npy", content, protocol))
    assert found["nested"]["x"].tolist() == [0, 1, 2]
    assert found["list"] == content["list"]
    assert found["tuple"] == [3, 4]
    for key in ("fs", "scalar", "flag", "text"):
        assert found[key] == content[key]
    for key in ("empty", "bad", "grid", "u"):
        assert np.array_equal(found[key], content[key])
        assert found[key].dtype.kind == content[key].dtype.kind


def test_pickles_of_python_2(tmp_path):
    """There bytes are text, and numpy pickled them as such, in protocol 2."""
    content = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntU\x01btR(I1\n(I4\nt"
        b"cnumpy\ndtype\n(U\x02i2I0\nI1\ntR(I3\nU\x01<NNNI-1\nI-1\nI0\ntbI00\nU\x08\x01\x00\xff\xff\x02\x00\x80\x00tb"
    )
    found = read_settings(write_pickle(tmp_path / "ops.npy", holding(content)))
    assert found["badframes"].tolist() == [1, -1, 2, 128]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "kind",
    [
        np.array,
        list,
        tuple,
        np.uint8,
        np.float32,
        lambda bad: bad[:, None],
        lambda bad: list(bad.tolist()),
        lambda bad: np.flatnonzero(bad),
        lambda bad: np.flatnonzero(bad).tolist(),
        lambda bad: tuple(np.flatnonzero(bad).astype(float)),
    ],
)
def test_bad_frames_of_any_kind(plane, protocol, kind):
    write_settings(plane / "ops.npy", {"fs": RATE, "badframes": kind(BAD)}, protocol)
    assert np.allclose(read_population(plane).observed, GAP)


@pytest.mark.parametrize("none", [None, [], np.zeros(0, dtype=bool), np.zeros(600, dtype=bool), ()])
def test_no_bad_frames(plane, none):
    assert np.allclose(observed(plane, badframes=none), [[0, 120]])


@pytest.mark.parametrize(
    "badframes",
    [
        np.ones(500, dtype=bool),
        (np.arange(700) == 7).astype(np.uint8),
        np.full(600, 2.5),
        np.array([600]),
        [-1, 5],
        [5, None],
        ["5"],
        "100-110",
        {"first": 3},
        {3, 4},
        7,
        np.array([None, 5]),
        [[1, 2], [3, 4]],
        np.array([np.nan, 5.0]),
        range(5),
    ],
)
def test_bad_frames_that_are_not_understood_are_told(plane, badframes):
    with pytest.warns(RecordingWarning, match=r"plane0: badframes in its settings are neither .* give observed="):
        assert np.allclose(observed(plane, badframes=badframes), [[0, 120]])


@pytest.mark.parametrize("share", ["a", None, [0.7], np.nan, {}, np.arange(3)])
def test_a_neuropil_share_that_is_none(plane, share):
    np.save(plane / "Fneu.npy", np.ones((12, 600), dtype=np.float32))
    with pytest.raises(InputError, match=r"plane0: neucoeff in its settings is not a number"):
        observed(plane, neucoeff=share)
    assert len(observed(plane, neucoeff=np.array(0.5))) == 1


@pytest.mark.parametrize("fs", [None, "10", np.nan, -5.0, [5.0], np.arange(2.0), {}, 0])
def test_a_rate_that_is_none(plane, fs):
    with pytest.raises(InputError, match=r"does not give one frame rate \(fs\)"):
        observed(plane, fs=fs)
    assert read_population(plane, sampling_frequency=RATE).n_units == 12


def laughs(depth=60):
    content = [1]
    for _ in range(depth):
        content = [content] * 10
    return content


def nested(depth=60):
    content = {"x": 1}
    for _ in range(depth):
        content = {str(k): content for k in range(10)}
    return content


def endless():
    content = {"list": []}
    content["list"].append(content["list"])
    content["self"] = content
    return content


@pytest.mark.parametrize("content", [laughs(), nested(), endless(), tuple(laughs(5))])
def test_containers_in_containers_are_bounded(plane, content):
    began = time.perf_counter()
    assert len(observed(plane, other=content)) == 1
    with pytest.warns(RecordingWarning, match="badframes"):
        observed(plane, badframes=content)
    assert time.perf_counter() - began < 5


def array(shape=b"I4\n", kind=b"i2", content=b"C\x08AAAAAAAA", state=b"(I3\nV<\nNNNI-1\nI-1\nI0\nt"):
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntC\x01btR(I1\n(" + shape + b"t"
        b"cnumpy\ndtype\n(V" + kind + b"\nI0\nI1\ntR" + state + b"bI00\n" + content + b"tb"
    )


@pytest.mark.parametrize(
    "entry",
    [
        array(shape=b"L99999999999999999999L\n"),
        array(shape=b"I-1\n"),
        array(shape=b"I0\nL9999999999999999L\n", content=b"C\x00"),
        array(shape=b"N"),
        array(shape=b"I5\n"),
        array(kind=b"O8"),
        array(kind=b"M8"),
        array(kind=b"f16"),
        array(kind=b"V999999999"),
        array(content=b"C\x07AAAAAAA"),
        array(content=b"N"),
        array(content=b"]"),
        array(content=b"c__builtin__\nbytes\n(L9999999999999L\ntR"),
        array(content=b"c_codecs\nencode\n(V" + b"A" * 8 + b"\nVrot13\ntR"),
        array(state=b"(t"),
        array(state=b"N"),
        b"cnumpy.core.multiarray\nscalar\n(t",
        b"cnumpy.core.numeric\n_frombuffer\n(I1\nI2\nI3\nI4\ntR",
        b"cnumpy.core.numeric\n_frombuffer\n(tR",
        b"cos\nsystem\n(Vtouch evil\ntR",
    ],
)
def test_arrays_that_lie_are_not_built(plane, entry):
    write_pickle(plane / "ops.npy", holding(entry))
    found = settings_or_refusal(plane / "ops.npy")
    if isinstance(found, dict):
        numbers = found["badframes"]
        assert isinstance(numbers, Unreadable) or not numbers.size or numbers.tolist() == [16705] * 4
    else:
        assert "ops.npy: not a readable file of settings" in found
    assert not Path("evil").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"N.",
        b"}.",
        b"garbage",
        b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b"abc.",  # bytes of a terabyte
        b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"abc.",
        b"\x80\x04\x8d" + (2**40).to_bytes(8, "little") + b"abc.",
        b"\x80\x04\x95" + (2**40).to_bytes(8, "little") + b"}.",  # a frame of it
        b"\x80\x04}r" + (2**32 - 2).to_bytes(4, "little") + b".",  # a memo of 34 GB
        b"\x80\x02}p4000000000\n.",
        b"(" * 1_000_000 + b"t.",
        b"]" * 2_500_000 + b".",
        b"".join(b"cm%d\nn\n" % k for k in range(2_000)) + b".",
        b"(" * 2_000 + b"t" * 2_000 + b".",
        b"Pid\n.",
        b"\x82\x01.",
    ],
    ids=range(17),
)
def test_damaged_settings_are_refused_in_one_line(tmp_path, content):
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from spikeinterface_nuclr.errors import InputError\n"
        "from spikeinterface_nuclr.io.npy import read_settings\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (1_500_000_000,) * 2)\n"
        "try: read_settings(Path(sys.argv[1]))\n"
        "except InputError as error: print(error)\n"
    )
    path = write_pickle(tmp_path / "ops.npy", content)
    if len(content) > 10_000 or b"\xfe\xff" in content:
        done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, timeout=60)
        assert "ops.npy: not a readable file of settings" in done.stdout, done.stderr
        assert done.stdout.count("\n") == 1
    else:
        with pytest.raises(InputError, match=r"ops\.npy: not a readable file of settings"):
            read_settings(path)


def test_settings_cut_anywhere_are_refused(tmp_path):
    whole = write_settings(tmp_path / "ops.npy", {"fs": 10.0, "badframes": BAD, "list": [1, 2]}, 2).read_bytes()
    rng = np.random.default_rng(0)
    for length in range(0, len(whole) - 1, 7):
        (tmp_path / "ops.npy").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"ops\.npy: not a readable file of settings"):
            read_settings(tmp_path / "ops.npy")
    for _ in range(300):
        changed = bytearray(whole)
        changed[rng.integers(len(whole))] = rng.integers(256)
        (tmp_path / "ops.npy").write_bytes(changed)
        found = settings_or_refusal(tmp_path / "ops.npy")
        assert isinstance(found, dict) or "ops.npy: not a readable file of settings" in found


# --- headers of .npy --------------------------------------------------------------------------------------------------


def npy(header, content=b"", version=b"\x01\x00"):
    text = header.encode() + b"\n"
    size = len(text).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    return b"\x93NUMPY" + version + size + text + content


def described(descr="'<f8'", shape="(3, 4)", order="False"):
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize(
    "content",
    [
        npy(described(), bytes(95)),
        npy(described(shape="(1000000000, 1000000000)"), bytes(96)),
        npy(described(shape="(99999999999999999999999, 0, 1)"), b""),
        npy(described(shape="(-3, -4)"), bytes(96)),
        npy(described(shape="(-1, 4)"), bytes(96)),
        npy(described(shape="(3.0, 4)"), bytes(96)),
        npy(described(shape="'a'"), bytes(96)),
        npy(described(descr="'|O'"), b"cos\nsystem\n(Vtouch evil\ntR."),
        npy(described(descr="[('a', '<f8'), ('b', '|O')]"), bytes(300)),
        npy(described(descr="[('a', '<f8')]"), bytes(96)),
        npy(described(descr="'<U4'"), bytes(12 * 16)),
        npy(described(descr="'V1000000000'"), bytes(96)),
        npy(described(descr="'nonsense'"), bytes(96)),
        npy(described(descr="'<c16'"), bytes(300)),
        npy("(" * 5_000, bytes(96)),
        npy("[" * 9_000 + "]" * 9_000, bytes(96)),
        npy("{" + " " * 60_000 + "}", bytes(96)),
        npy("__import__('os').system('touch evil')", bytes(96)),
        npy(described(), bytes(96), version=b"\x07\x00"),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}",
        b"\x93NUMPY",
        b"",
        b"PK\x03\x04 a zip",
        pickle.dumps([1, 2]),
    ],
    ids=range(24),
)
def test_damaged_arrays_are_refused_in_one_line(tmp_path, content, mapped):
    path = tmp_path / "F.npy"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"^\S*F\.npy: ") as refusal:
        load_numbers(path, 2, mapped=mapped)
    assert "\n" not in str(refusal.value)
    assert not Path("evil").exists()


@pytest.mark.parametrize("mapped", [False, True])
def test_arrays_of_any_order_are_read(tmp_path, mapped):
    values = np.arange(12.0).reshape(3, 4)
    for kind in (np.ascontiguousarray, np.asfortranarray, lambda v: v.astype(">f4"), lambda v: v > 3):
        np.save(tmp_path / "F.npy", kind(values))
        assert np.array_equal(load_numbers(tmp_path / "F.npy", 2, mapped=mapped), kind(values))


def test_a_folder_of_empty_arrays(plane):
    for shape in ((0, 600), (12, 0)):
        np.save(plane / "F.npy", np.zeros(shape, dtype=np.float32))
        with pytest.raises(InputError, match=r"F\.npy|no ROI is classified as a cell|nothing to read"):
            read_population(plane, sampling_frequency=RATE)
