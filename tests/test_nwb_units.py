"""Units tables of NWB files as other programs write and damage them."""

import os
import shutil
import subprocess
import sys
import zlib

import h5py
import numpy as np
import pynwb
import pytest
from nwb_files import add_probes, add_units, new_nwb, replaced, write_nwb_file

from spikeinterface_nuclr import InputError, read_population
from spikeinterface_nuclr.errors import RecordingWarning
from spikeinterface_nuclr.io.nwb.file import open_nwb

TRAINS = [np.linspace(0.5, 99.5, 20 + k) for k in range(8)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A file with every column that is read, and some that are not."""
    nwbfile = add_probes(new_nwb(), "probeA", "probeB")
    for name in ("unit_name", "cell_type", "depth"):
        nwbfile.add_unit_column(name, name)
    nwbfile.add_unit_column("labels", "labels", index=True)
    for k, times in enumerate(TRAINS):
        nwbfile.add_unit(
            spike_times=times,
            electrodes=[k],
            obs_intervals=[[0.0, 50.0], [50.0, 100.0]],
            unit_name=f"u{k}",
            cell_type="ab"[k % 2],
            depth=float(k),
            labels=["x"] * (k % 3),
        )
    nwbfile.add_invalid_time_interval(start_time=1.0, stop_time=2.0, tags=["probeA"])
    return write_nwb_file(tmp_path_factory.mktemp("whole") / "s.nwb", nwbfile)


@pytest.fixture
def path(whole, tmp_path):
    return shutil.copy(whole, tmp_path / "s.nwb")


def refused(path) -> str:
    with pytest.raises(InputError) as error:
        read_population(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_the_whole_file_is_read(path):
    found = read_population(path)
    assert found.unit_ids.tolist() == [f"u{k}" for k in range(8)]
    assert found.properties.keys() == {"unit_name", "cell_type", "depth", "brain_area"}


# --- columns of text and numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([b"pyr", b"int"] * 4, dtype="S3"), ["pyr", "int"] * 4),
        (np.array(["Área 1".encode(), b"x"] * 4, dtype="S10"), ["Área 1", "x"] * 4),
        (np.array(["Área 1".encode("latin-1"), b"x"] * 4, dtype="S10"), ["Área 1", "x"] * 4),
        (np.array([b"pyr", b"int"] * 4, dtype="S3")[:, None], ["pyr", "int"] * 4),
        (np.arange(8.0)[:, None], list(range(8))),
        (np.arange(8)[:, None, None], list(range(8))),
        (np.array([True, False] * 4), [True, False] * 4),
        (np.arange(8, dtype=np.uint16), list(range(8))),
    ],
    ids=["bytes", "UTF-8", "Latin-1", "bytes of shape (n, 1)", "(n, 1)", "(n, 1, 1)", "bool", "uint16"],
)
def test_a_column_of_one_value_a_unit_is_a_property(path, values, expected):
    replaced(path, "units/cell_type", values)
    assert read_population(path).properties["cell_type"].tolist() == expected


def test_text_of_variable_length_need_not_be_utf8(path):
    with h5py.File(path, "r+") as file:
        file["units/cell_type"][:] = ["Área".encode("latin-1")] * 8
    assert read_population(path).properties["cell_type"].tolist() == ["Área"] * 8


def test_names_and_areas_of_fixed_length(path):
    replaced(path, "units/unit_name", np.array([f"n{k}".encode() for k in range(8)], dtype="S2"))
    areas = np.array([f"Área {k}".encode() for k in range(8)], dtype="S10")
    replaced(path, "general/extracellular_ephys/electrodes/location", areas)
    found = read_population(path)
    assert found.unit_ids.tolist() == [f"n{k}" for k in range(8)]
    assert found.properties["brain_area"].tolist() == [f"Área {k}" for k in range(8)]


def test_several_numbers_a_unit_are_no_property(path, recwarn):
    replaced(path, "units/depth", np.zeros((8, 3)))
    assert "depth" not in read_population(path).properties
    assert not [w for w in recwarn if w.category is RecordingWarning]


def test_a_column_that_cannot_be_a_property_is_named(path):
    replaced(path, "units/depth", np.zeros(8, dtype=[("x", "f8"), ("y", "f8")]))
    with pytest.warns(RecordingWarning, match="the column depth contains neither numbers nor text and is skipped"):
        read_population(path)


@pytest.mark.parametrize(
    ("subject", "known"), [(" mouse-1 ", "mouse-1"), ("mouse-1\n", "mouse-1"), ("", None), ("  ", None), (None, None)]
)
def test_names_of_subjects_have_no_blanks_around_them(subject, known):
    nwbfile = add_units(new_nwb(), TRAINS)
    nwbfile.subject = None
    nwbfile = add_units(
        pynwb.NWBFile(
            session_description="s",
            identifier="i",
            session_start_time=nwbfile.session_start_time,
            subject=pynwb.file.Subject(subject_id=subject, species=subject),
        ),
        TRAINS,
    )
    metadata = read_population(nwbfile).metadata
    assert (metadata["subject"], metadata["species"]) == (known, known)


# --- damage -----------------------------------------------------------------------------------------------------------

INDEXED = ["spike_times", "electrodes", "obs_intervals", "labels"]


@pytest.mark.parametrize("column", INDEXED)
def test_data_that_end_before_their_index_are_refused(path, column):
    with h5py.File(path) as file:
        values = file[f"units/{column}"][:]
    replaced(path, f"units/{column}", values[:-3])
    message = refused(path)
    assert f"units/{column}_index: points to {len(values)} values, and {column} holds {len(values) - 3}" in message


@pytest.mark.parametrize("column", INDEXED)
def test_data_that_the_index_does_not_cover_are_refused(path, column):
    with h5py.File(path) as file:
        values = file[f"units/{column}"][:]
    replaced(path, f"units/{column}", np.concatenate([values, values]))
    assert f"units/{column}_index: points to {len(values)} values, and {column} holds {2 * len(values)}" in refused(
        path
    )


@pytest.mark.parametrize("column", INDEXED)
def test_an_index_that_falls_is_refused(path, column):
    with h5py.File(path) as file:
        ends = file[f"units/{column}_index"][:].astype(np.uint64)
    wrong = ends.copy()
    wrong[4] = 0 if column == "spike_times" else 2**63 + 5
    replaced(path, f"units/{column}_index", wrong)
    with h5py.File(path, "r+") as file:
        file[f"units/{column}_index"].attrs["target"] = file[f"units/{column}"].ref
    assert f"units/{column}_index: falls from" in refused(path)


def test_an_index_of_no_numbers_is_refused(path):
    replaced(path, "units/spike_times_index", np.linspace(0, 1, 8))
    assert "units/spike_times_index: does not hold whole numbers" in refused(path)


@pytest.mark.parametrize(
    ("where", "values", "says"),
    [
        ("units/obs_intervals", np.zeros(16), "obs_intervals of row 0: does not contain intervals of seconds"),
        ("units/obs_intervals", np.zeros((16, 3)), "obs_intervals of row 0: does not contain intervals of seconds"),
        ("units/spike_times", np.array([b"x"] * 188), "unit u0: spike times are not numbers of seconds"),
        ("units/electrodes", np.zeros(8), "unit u0: its electrodes are not row numbers"),
        ("intervals/invalid_times/start_time", np.array([b"x"]), "start_time: does not hold numbers of seconds"),
        ("intervals/invalid_times/start_time", np.zeros((1, 3)), "start_time: does not hold numbers of seconds"),
    ],
)
def test_columns_of_another_kind_are_named(path, where, values, says):
    replaced(path, where, values)
    assert says in refused(path)


def test_damaged_chunks_are_one_line(path):
    values = np.concatenate(TRAINS)
    replaced(path, "units/spike_times", values, chunks=(50,), compression="gzip")
    with h5py.File(path) as file:
        chunk = file["units/spike_times"].id.get_chunk_info(1)
    with open(path, "r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\xff" * chunk.size)
    assert refused(path).startswith("not a readable NWB file (Can't synchronously read data")


HUGE = 10**11


@pytest.mark.parametrize("options", [dict(chunks=(1000,)), dict(chunks=(1000,), compression="gzip"), {}])
def test_spikes_that_are_only_claimed_are_not_allocated(path, options):
    claim(path, "units/spike_times", options)
    replaced(path, "units/spike_times_index", np.array([HUGE] * 8))
    with h5py.File(path, "r+") as file:
        file["units/spike_times_index"].attrs["target"] = file["units/spike_times"].ref
    assert "units/spike_times: claims 800.0 GB and has 0.0 MB on disk" in refused(path)


def test_references_that_are_only_claimed_are_not_allocated(path):
    claim(path, "units/electrodes", dict(chunks=(1000,)))
    assert "units/electrodes: claims 800.0 GB" in refused(path)


def claim(path, where, options):
    with h5py.File(path, "r+") as file:
        attributes, kind = dict(file[where].attrs), file[where].dtype
        del file[where]
        made = file.create_dataset(where, shape=(HUGE,), dtype=kind, **options)
        for name, value in attributes.items():
            made.attrs[name] = value
        if f"{where}_index" in file:
            file[f"{where}_index"].attrs["target"] = made.ref


def test_virtual_data_count_with_their_files(path, tmp_path):
    """Views of other files, as recordings that were split have them, hold nothing themselves."""
    values = np.concatenate(TRAINS)
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file["spikes"] = values
    layout = h5py.VirtualLayout(shape=values.shape, dtype=values.dtype)
    layout[:] = h5py.VirtualSource("part.h5", "spikes", shape=values.shape)
    with h5py.File(path, "r+") as file:
        attributes = dict(file["units/spike_times"].attrs)
        del file["units/spike_times"]
        made = file.create_virtual_dataset("units/spike_times", layout)
        for name, value in attributes.items():
            made.attrs[name] = value
        file["units/spike_times_index"].attrs["target"] = made.ref
    assert read_population(path).num_spikes.tolist() == [len(t) for t in TRAINS]


def test_zarr_that_only_claims(tmp_path):
    hdmf_zarr = pytest.importorskip("hdmf_zarr")
    zarr = pytest.importorskip("zarr")
    store = tmp_path / "s.nwb.zarr"
    with hdmf_zarr.NWBZarrIO(str(store), "w") as io:
        io.write(add_units(new_nwb(), TRAINS))
    units = zarr.open_group(str(store), mode="r+")["units"]
    for name, kind, values in (("spike_times", "f8", None), ("spike_times_index", "i8", [HUGE] * 8)):
        attributes = dict(units[name].attrs)
        del units[name]
        made = units.create_dataset(name, shape=(HUGE if values is None else 8,), dtype=kind, chunks=(1000,))
        made.attrs.update(attributes)
        if values is not None:
            made[:] = values
    zarr.consolidate_metadata(str(store))
    assert "units/spike_times: claims 800.0 GB" in refused(store)


def test_pynwbs_reason_is_quoted(path):
    with h5py.File(path, "r+") as file:
        file["units"].attrs["colnames"] = "spike_times"  # one column, as MatNWB wrote it
    message = refused(path)
    assert "Could not construct Units object due to" in message
    assert "incorrect type for 'colnames' (got 'str'" in message


def test_what_is_missing_is_quoted(path):
    with h5py.File(path, "r+") as file:
        del file["session_description"]
    assert "session_description" in refused(path)


def test_errors_of_our_own_are_not_blamed_on_the_file(path, tmp_path):
    for error in (KeyError("a"), AttributeError("b"), ValueError("c"), ZeroDivisionError(), OSError("d")):
        with pytest.raises(type(error)) as caught, open_nwb(path):
            raise error
        assert caught.value is error
    with pytest.raises(InputError, match="mine"), open_nwb(path):
        raise InputError("mine")


@pytest.mark.parametrize(
    "work",
    [
        lambda nwbfile, path: nwbfile.units["spike_times"].target.data.file["no such group"],
        lambda nwbfile, path: nwbfile.units["spike_times"].target.data[10**9],
        lambda nwbfile, path: np.empty(10**15),
    ],
    ids=["missing", "beyond", "memory"],
)
def test_what_libraries_raise_while_a_file_is_open_names_it(path, work):
    with pytest.raises(InputError, match="not a readable NWB file") as error, open_nwb(path) as nwbfile:
        work(nwbfile, path)
    assert str(path) in str(error.value)


def test_a_file_that_is_being_written_is_told(path):
    hold = "import h5py, sys; file = h5py.File(sys.argv[1], 'r+'); print('open', flush=True); sys.stdin.read()"
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", hold, path], **pipes) as writer:
        writer.stdout.readline()
        assert "is open for writing in another program, or here" in refused(path)
        writer.stdin.close()


def test_units_behind_an_external_link_are_read(path, tmp_path):
    write_nwb_file(tmp_path / "session.nwb", new_nwb())
    with h5py.File(tmp_path / "session.nwb", "r+") as file:
        file["units"] = h5py.ExternalLink("sorted.nwb", "/units")
    write_nwb_file(tmp_path / "sorted.nwb", add_units(new_nwb(), TRAINS))
    assert read_population(tmp_path / "session.nwb").n_units == 8
    os.unlink(tmp_path / "sorted.nwb")
    assert "\n" not in refused(tmp_path / "session.nwb")


def test_zlib_errors_of_zarr_are_one_line(tmp_path):
    hdmf_zarr = pytest.importorskip("hdmf_zarr")
    store = tmp_path / "s.nwb.zarr"
    with hdmf_zarr.NWBZarrIO(str(store), "w") as io:
        io.write(add_units(new_nwb(), TRAINS))
    chunk = store / "units" / "spike_times" / "0"
    chunk.write_bytes(zlib.compress(b"x" * 100)[:20])
    assert refused(store).startswith("not a readable NWB file (")
