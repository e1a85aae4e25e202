"""Small NWB files for tests."""

from datetime import datetime, timezone

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
