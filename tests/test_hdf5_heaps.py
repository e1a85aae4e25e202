"""Damaged heaps of an HDF5 file, at which HDF5 itself would hang, are refused before it looks."""

import subprocess
import sys

import numpy as np
import pytest

from spikeinterface_nuclr import InputError, read_population
from spikeinterface_nuclr.io.nwb.file import check_heaps


def heaps(path):
    content, places, place = path.read_bytes(), [], -1
    while (place := content.find(b"GCOL", place + 1)) >= 0:
        places.append(place)
    return places


@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_zeroed_heap_is_refused_at_once(session, which):
    assert len(heaps(session)) > 2
    content = bytearray(session.read_bytes())
    begin = heaps(session)[which] + 16
    content[begin : begin + 64] = bytes(64)
    session.write_bytes(content)
    with pytest.raises(InputError, match=r"session\.nwb: not a readable NWB file \(a heap of its texts is damaged\)"):
        read_population(session)


@pytest.mark.slow
def test_hdf5_itself_would_hang(session):
    """The day on which this fails, the check can go."""
    content = bytearray(session.read_bytes())
    for place in heaps(session):
        content[place + 16 : place + 80] = bytes(64)
    session.write_bytes(content)
    script = (
        "import sys, h5py\n"
        "def look(name, thing): isinstance(thing, h5py.Dataset) and thing[()]\n"
        "h5py.File(sys.argv[1]).visititems(look)"
    )
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run([sys.executable, "-c", script, str(session)], capture_output=True, timeout=5)


def test_whole_files_pass_and_so_do_these_letters_elsewhere(session, tmp_path):
    check_heaps(session)
    (tmp_path / "a").write_bytes(b"GCOL\x01" + bytes(3) + np.int64(10**12).tobytes() + bytes(100))
    check_heaps(tmp_path / "a")
    (tmp_path / "b").write_bytes(b"GCOL" + bytes(100))
    check_heaps(tmp_path / "b")
    (tmp_path / "empty").touch()
    check_heaps(tmp_path / "empty")


@pytest.mark.slow
def test_real_files_pass(recordings):
    for path in sorted(recordings.rglob("*.nwb"))[::10]:
        check_heaps(path)
