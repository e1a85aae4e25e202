"""Small NWB files for tests."""

import subprocess
import sys
from datetime import datetime, timezone

import h5py
import pynwb
from pynwb.file import Subject


def new_nwb(session="s1"):
    return pynwb.NWBFile(
        session_description="test",
        identifier="id-1",
        session_start_time=datetime(2026, 1, 1, tzinfo=timezone.utc),
        session_id=session,
        subject=Subject(subject_id="mouse-1", species="Mus musculus", age="P60D", sex="F"),
    )


def write_nwb_file(path, nwbfile):
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)
    return path


def add_units(nwbfile, trains, **columns):
    for name in columns:
        nwbfile.add_unit_column(name, name)
    for i, times in enumerate(trains):
        nwbfile.add_unit(spike_times=times, **{name: values[i] for name, values in columns.items()})
    return nwbfile


def kill_after(seconds, script, *arguments):
    """Run a script in a process of its own, and kill it so many seconds after it has printed "preprocessed"."""
    writer = subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True)
    assert writer.stdout.readline() == "ready\n"
    try:
        writer.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        writer.kill()
        writer.wait()


def replaced(path, where, data, **options):
    """Replace a dataset of an HDF5 file, as other programs would have written it; its attributes stay."""
    with h5py.File(path, "r+") as file:
        attributes = dict(file[where].attrs)
        del file[where]
        made = file.create_dataset(where, data=data, **options)
        for name, value in attributes.items():
            made.attrs[name] = value
        index = f"{where}_index"
        if index in file:
            file[index].attrs["target"] = made.ref
    return path


def add_probes(nwbfile, *names, electrodes=4, device=None):
    """Add a probe of some electrodes for each name: an electrode group, on a device of its own or a common one."""
    for name in names:
        group = nwbfile.create_electrode_group(name, "d", "CA1", device or nwbfile.create_device(f"device of {name}"))
        for _ in range(electrodes):
            nwbfile.add_electrode(group=group, location=f"area of {name}")
    return nwbfile
