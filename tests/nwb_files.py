"""Builders of small NWB files for tests: plain functions, as each test builds another file."""

import json
import os
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


def in_child(work, *arguments) -> tuple[int, str]:
    """Let a forked process do the work: its exit code, and the error that it ended in, if any."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            work(*arguments)
        except BaseException as error:
            os.write(writing, f"{type(error).__name__}: {error}".encode())
            os._exit(1)
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        text = pipe.read().decode()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text


PLAIN_READER = """
import importlib.abc, json, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('ndx_nuclr', 'spikeinterface_nuclr'):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import pynwb

files = []
for path in sys.argv[1:]:
    with pynwb.NWBHDF5IO(path, 'r') as io:
        nwbfile = io.read()
        module = nwbfile.processing['nuclr']
        table = module['UnitEmbeddings']
        units = table['neuron'].table
        assert units is nwbfile.units
        rows = table['neuron'].data[:]
        assert table['embedding'][:].ndim == 2 and table.model.sha256
        for row, count in zip(rows, table['num_spikes'][:]):
            assert len(units['spike_times'][int(row)]) == count
        names = units['unit_name'][:] if 'unit_name' in units.colnames else units.id[:]
        labels = {one.name: one.to_dataframe()['label'].tolist() for one in module.data_interfaces.values()
                  if one.neurodata_type == 'UnitIdentities'}
        files.append([[str(names[row]) for row in rows], labels])
print(json.dumps(files))
"""


def read_plainly(*paths) -> list:
    """Names of the embedded units, and labels by table, that pynwb gives of each file where ours is not installed."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", PLAIN_READER, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


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
