"""Sortings that SpikeInterface itself reads from NWB files."""

import numpy as np
import pytest
from nwb_files import add_probes, new_nwb, write_nwb_file
from spikeinterface.extractors import read_nwb_sorting

from spikeinterface_nuclr import read_population
from spikeinterface_nuclr.errors import RecordingWarning

TRAINS = [np.linspace(0.5, 99.5, 20 + k) for k in range(8)]


def written(path, *probes):
    """A file whose units name an electrode group in turn."""
    nwbfile = add_probes(new_nwb(), *probes)
    for k, times in enumerate(TRAINS):
        nwbfile.add_unit(spike_times=times, electrode_group=nwbfile.electrode_groups[probes[k % len(probes)]])
    return write_nwb_file(path, nwbfile)


@pytest.mark.parametrize("probes", [("probeA",), ("probeA", "probeB")])
@pytest.mark.parametrize("use_pynwb", [False, True])
def test_the_electrode_groups_of_units_are_their_probes(probes, use_pynwb, tmp_path, recwarn):
    path = written(tmp_path / "s.nwb", *probes)
    sorting = read_nwb_sorting(path, sampling_frequency=30_000.0, t_start=0.0, use_pynwb=use_pynwb)
    found = read_population(sorting)
    assert found.group.tolist() == read_population(path).group.tolist() == list(probes) * (8 // len(probes))
    assert found.properties["electrode_group"].tolist() == found.group.tolist()
    assert read_population(sorting.select_units(sorting.unit_ids[2:5])).group.tolist() == found.group[2:5].tolist()
    assert read_population(sorting, group_by=None).group.tolist() == [""] * 8
    assert not [w for w in recwarn if w.category is RecordingWarning]
