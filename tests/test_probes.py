"""Which unit belongs to which probe, in every kind of source."""

import h5py
import numpy as np
import pytest
import spikeinterface.core as si
from nwb_files import add_probes, add_units, new_nwb, replaced, write_nwb_file
from spikeinterface.generation import NoiseGeneratorRecording

from spikeinterface_nuclr import InputError, read_population
from spikeinterface_nuclr.errors import RecordingWarning

FS = 30_000.0
TRAINS = [[0.5, 1.0 + k / 10] for k in range(8)]
TWO = ["probeA", "probeB"] * 4


def groups_of(source, **options):
    return read_population(source, **options).group.tolist()


# --- NWB files whose units name no electrodes ----------------------------------------------------------------------


@pytest.mark.parametrize("column", ["peak_channel_id", "main_channel_id", "electrode_id"])
def test_electrodes_are_named_by_their_ids(column, tmp_path):
    nwbfile = add_units(add_probes(new_nwb(), "probeA", "probeB"), TRAINS, **{column: [0, 4, 1, 5, 2, 6, 3, 7]})
    for source in (nwbfile, write_nwb_file(tmp_path / "s.nwb", nwbfile)):
        found = read_population(source)
        assert found.group.tolist() == TWO
        assert found.properties["brain_area"].tolist() == [f"area of {probe}" for probe in TWO]


@pytest.mark.parametrize("none", [-1, np.nan])
def test_a_unit_without_an_id_has_no_electrode(none):
    ids = np.array([0, 4, 1, 5, 2, none, 3, none])
    with pytest.warns(RecordingWarning, match="the peak_channel_id of 2 units, such as 5, is not an electrode"):
        found = groups_of(add_units(add_probes(new_nwb(), "probeA", "probeB"), TRAINS, peak_channel_id=ids))
    assert found == ["probeA", "probeB"] * 2 + ["probeA", ""] * 2


def test_ids_of_electrodes_need_not_count_from_zero():
    nwbfile = new_nwb()
    for name in ("probeA", "probeB"):
        group = nwbfile.create_electrode_group(name, "d", "CA1", nwbfile.create_device(name))
        for k in range(4):
            nwbfile.add_electrode(group=group, location="CA1", id=850_000_000 + k + 100 * (name == "probeB"))
    ids = [850_000_000, 850_000_103] * 4
    assert groups_of(add_units(nwbfile, TRAINS, peak_channel_id=ids)) == TWO


def test_channels_are_named_by_text():
    nwbfile = new_nwb()
    for name in ("probeA", "probeB"):
        group = nwbfile.create_electrode_group(name, "d", "CA1", nwbfile.create_device(name))
        if name == "probeA":
            nwbfile.add_electrode_column("channel_name", "name")
        for k in range(4):
            nwbfile.add_electrode(group=group, location="CA1", channel_name=f"{name}#AP{k}")
    channels = ["probeA#AP3", "probeB#AP0"] * 4
    assert groups_of(add_units(nwbfile, TRAINS, main_channel_id=channels)) == TWO


@pytest.mark.parametrize(
    "columns",
    [
        dict(probe_name=TWO),
        dict(device_name=["device of probeA", "device of probeB"] * 4),
        dict(probe=[0, 1] * 4),
        dict(probe_id=[733_744_647, 733_744_649] * 4),
        dict(electrode_group_name=TWO),
        dict(group_name=TWO),
        dict(Probe=["imec0", "imec1"] * 4),
    ],
    ids=lambda columns: next(iter(columns)),
)
def test_a_column_names_the_probe(columns):
    found = groups_of(add_units(add_probes(new_nwb(), "probeA", "probeB"), TRAINS, **columns))
    assert found == [str(value) for value in next(iter(columns.values()))]


@pytest.mark.parametrize(
    "columns",
    [
        {},
        dict(peak_channel=[0, 1] * 4),  # of the probe, or of the file?
        dict(peak_channel_id=[0, 99] * 4),
        dict(probe_name=["probeC"] * 8),
        dict(shank=[0, 1] * 4),
        dict(group=["good", "mua"] * 4),
        dict(group=["SUA", "MUA"] * 4),
    ],
    ids=["none", "peak_channel", "unknown id", "one unknown probe", "shank", "phy's labels", "other labels"],
)
def test_several_probes_that_cannot_be_told_are_asked_for(columns):
    nwbfile = add_units(add_probes(new_nwb(), "probeA", "probeB"), TRAINS, **columns)
    with pytest.raises(InputError, match="its electrodes form 2 groups, and which unit belongs to which is unknown"):
        read_population(nwbfile)
    assert set(groups_of(nwbfile, group_by=None)) == {""}


def test_ids_that_count_each_probes_channels_are_no_ids():
    nwbfile = add_probes(new_nwb(), "probeA", "probeB")
    found = read_population(add_units(nwbfile, TRAINS, channel_id=[0, 0, 1, 1, 2, 2, 3, 3], probe_name=TWO))
    assert found.group.tolist() == TWO
    assert "brain_area" not in found.properties
    nwbfile = add_probes(new_nwb(), "probeA", "probeB")
    nwbfile.add_unit_column("channel_id", "id")
    for k, times in enumerate(TRAINS):
        nwbfile.add_unit(spike_times=times, channel_id=k // 2, electrode_group=nwbfile.electrode_groups[TWO[k]])
    found = read_population(nwbfile)
    assert found.group.tolist() == TWO
    assert "brain_area" not in found.properties
    nwbfile = add_units(add_probes(new_nwb(), "probeA", "probeB"), TRAINS, channel_id=[0, 0, 1, 1, 2, 2, 3, 3])
    with pytest.warns(RecordingWarning, match="channel_id names electrodes of one of 2 groups only, probeA"):
        read_population(nwbfile)


def test_one_probe_needs_no_telling():
    assert set(groups_of(add_units(add_probes(new_nwb(), "probeA"), TRAINS))) == {""}
    assert set(groups_of(add_units(new_nwb(), TRAINS))) == {""}


def test_groups_that_share_a_name_are_told_apart():
    nwbfile = new_nwb()
    for name in ("probeA", "probeB"):
        group = nwbfile.create_electrode_group(name, "d", "CA1", nwbfile.create_device(f"device of {name}"))
        for _ in range(4):
            nwbfile.add_electrode(group=group, location="CA1", group_name="shank0")
    for k, times in enumerate(TRAINS):
        nwbfile.add_unit(spike_times=times, electrodes=[4 * (k % 2)])
    assert groups_of(nwbfile) == TWO


def test_names_divide_what_one_group_holds():
    nwbfile = new_nwb()
    group = nwbfile.create_electrode_group("all", "d", "CA1", nwbfile.create_device("d"))
    for k in range(4):
        nwbfile.add_electrode(group=group, location="CA1", group_name=f"tetrode{k // 2}")
    for k, times in enumerate(TRAINS):
        nwbfile.add_unit(spike_times=times, electrodes=[2 * (k % 2)])
    assert groups_of(nwbfile) == ["tetrode0", "tetrode1"] * 4


def minus_one(tmp_path, *rows):
    nwbfile = add_probes(new_nwb(), "probeA", "probeB")
    for times in TRAINS:
        nwbfile.add_unit(spike_times=times, electrodes=[0])
    path = write_nwb_file(tmp_path / "s.nwb", nwbfile)
    with h5py.File(path, "r+") as file:
        file["units/electrodes"][:] = rows
    return path


def test_electrode_minus_one_is_nobody(tmp_path):
    path = minus_one(tmp_path, 0, 1, 2, 4, 5, -1, -1, -1)
    with pytest.warns(RecordingWarning, match="the electrode -1 of 3 units, such as 5, is not an electrode"):
        found = read_population(path)
    assert found.group.tolist() == ["probeA"] * 3 + ["probeB"] * 2 + [""] * 3
    assert found.properties["brain_area"][5:].tolist() == [""] * 3


@pytest.mark.parametrize("row", [8, 400, -2])
def test_an_electrode_that_there_is_not_is_named(tmp_path, row):
    with pytest.raises(InputError, match=f"unit 6: electrode {row} is not in the table of 8 electrodes"):
        read_population(minus_one(tmp_path, 0, 1, 2, 4, 5, 6, row, 0))


def everywhere(*probes, **columns):
    """Every unit lists all electrodes, as files of dense waveforms do."""
    nwbfile = add_probes(new_nwb(), *probes)
    for name in columns:
        nwbfile.add_unit_column(name, name)
    for k, times in enumerate(TRAINS):
        entries = {name: values[k] for name, values in columns.items()}
        nwbfile.add_unit(spike_times=times, electrodes=list(range(4 * len(probes))), **entries)
    return nwbfile


def test_electrodes_that_every_unit_lists_locate_none():
    warned = pytest.warns(RecordingWarning, match="every unit lists the same 8 electrodes")
    with warned, pytest.raises(InputError, match="its electrodes form 2 groups"):
        read_population(everywhere("probeA", "probeB"))
    with pytest.warns(RecordingWarning, match="every unit lists"):
        found = read_population(everywhere("probeA", "probeB", probe_name=TWO))
    assert found.group.tolist() == TWO
    assert "brain_area" not in found.properties
    with pytest.warns(RecordingWarning, match="every unit lists"):
        found = read_population(everywhere("probeA", "probeB", peak_channel_id=[0, 4, 1, 5, 2, 6, 3, 7]))
    assert found.group.tolist() == TWO
    assert found.properties["brain_area"].tolist() == [f"area of {probe}" for probe in TWO]


def test_all_electrodes_of_a_probe_name_no_area():
    nwbfile = add_probes(new_nwb(), "probeA")
    device = nwbfile.create_device("d")
    group = nwbfile.create_electrode_group("probeB", "d", "CA1", device)
    for area in ("CA1", "CA1", "DG"):
        nwbfile.add_electrode(group=group, location=area)
    for k, times in enumerate(TRAINS):
        nwbfile.add_unit(spike_times=times, electrodes=[4, 5, 6] if k % 2 else [0, 1, 2, 3])
    with pytest.warns(RecordingWarning, match="all 4 units of group probeB list the same electrodes"):
        found = read_population(nwbfile)
    assert found.group.tolist() == TWO
    assert found.properties["brain_area"].tolist() == ["area of probeA", ""] * 4


def test_all_electrodes_of_a_tetrode_locate_its_units(recwarn):
    found = read_population(everywhere("tetrode"))
    assert found.properties["brain_area"].tolist() == ["area of tetrode"] * 8
    assert not [w for w in recwarn if w.category is RecordingWarning]


def test_minus_one_throughout_says_nothing(tmp_path):
    with (
        pytest.warns(RecordingWarning, match="electrode -1 of 8 units"),
        pytest.raises(InputError, match="form 2 groups"),
    ):
        read_population(minus_one(tmp_path, *[-1] * 8))


# --- a property called group ----------------------------------------------------------------------------------------

CURATION = [
    ["good", "mua"],
    ["SU", "MUA"],
    ["good", "mua", "su"],
    ["Single Unit", "multi-unit"],
    ["good", "bad"],
    ["artefact", "neuron"],
    ["accepted", "rejected", ""],
    ["unit_1", "noise"],
    [True, False],
]


@pytest.mark.parametrize("labels", CURATION, ids=str)
def test_labels_of_curation_are_no_probes(labels):
    labels = (labels * 8)[:8]
    nwbfile = add_probes(new_nwb(), "probe0")
    nwbfile.add_unit_column("group", "label")
    for label, times in zip(labels, TRAINS, strict=True):
        nwbfile.add_unit(spike_times=times, group=label, electrodes=[0])
    assert set(groups_of(nwbfile)) == {"probe0"}
    assert set(groups_of(sorting(group=labels))) == {""}


def sorting(recording=None, **properties):
    samples = {unit: np.arange(100 + 7 * k, 500_000, 900) for k, unit in enumerate("abcdefgh")}
    made = si.NumpySorting.from_unit_dict([samples], FS)
    for name, values in properties.items():
        made.set_property(name, values)
    if recording is not None:
        made.register_recording(recording)
    return made


def recorded(*groups):
    recording = NoiseGeneratorRecording(num_channels=len(groups), sampling_frequency=FS, durations=[20.0], seed=0)
    recording.set_property("group", np.array(groups))
    return recording


@pytest.mark.parametrize(
    "labels",
    [[0, 1], [1.0, 2.0], ["0", "1"], ["shank0", "shank1"], ["tetrode 7", "tetrode 8"], ["imec0", "imec1"], TWO[:2]],
    ids=str,
)
def test_numbers_and_names_of_probes_are_probes(labels, recwarn):
    expected = [str(label).removesuffix(".0") for label in labels] * 4
    assert groups_of(sorting(group=labels * 4)) == expected
    assert groups_of(add_units(new_nwb(), TRAINS, group=labels * 4)) == expected
    assert not [w for w in recwarn if w.category is RecordingWarning]


def test_values_that_divide_the_only_group_are_listed():
    """Shanks, or codes of curation: nothing in the source says which."""
    with pytest.warns(RecordingWarning, match=r"group is used as the probe of each unit \(0, 1, 2, 3\)"):
        assert groups_of(sorting(recorded(5, 5, 5, 5), group=[0, 1, 2, 3] * 2)) == list("0123") * 2
    nwbfile = add_probes(new_nwb(), "probe0")
    nwbfile.add_unit_column("group", "label")
    for k, times in enumerate(TRAINS):
        nwbfile.add_unit(spike_times=times, group=f"tier{k % 2}", electrodes=[k % 4])
    with pytest.warns(RecordingWarning, match=r"used as the probe of each unit \(tier0, tier1\)"):
        assert groups_of(nwbfile) == ["tier0", "tier1"] * 4


def test_values_for_each_group_of_the_recording_need_no_warning(recwarn):
    recording = recorded("a", "a", "b", "b")
    numbered = sorting(recording, main_channel_id=np.repeat(recording.channel_ids, 2), group=[0] * 4 + [1] * 4)
    assert groups_of(numbered) == list("00001111")
    assert not [w for w in recwarn if w.category is RecordingWarning]


def test_groups_of_the_recording_are_known_whatever_they_are_called(recwarn):
    assert groups_of(sorting(recorded("good", "bad"), group=["good", "bad"] * 4))[:2] == ["good", "bad"]
    assert groups_of(sorting(recorded("red", "blue"), group=["red", "blue"] * 4))[:2] == ["red", "blue"]
    assert not [w for w in recwarn if w.category is RecordingWarning]


def test_groups_of_unknown_kind_are_named_in_a_warning():
    with pytest.warns(RecordingWarning, match=r"group is used as the probe of each unit \(blue, red\)"):
        assert groups_of(sorting(group=["red", "blue"] * 4)) == ["red", "blue"] * 4
    with pytest.warns(RecordingWarning, match=r"group \(blue, red\) does not name its probes, so all units are one"):
        assert set(groups_of(sorting(recorded(0, 0), group=["red", "blue"] * 4))) == {""}
    nwbfile = add_probes(new_nwb(), "probeA", "probeB")
    nwbfile.add_unit_column("group", "label")
    for k, times in enumerate(TRAINS):
        nwbfile.add_unit(spike_times=times, group=("pyramidal", "interneuron")[k % 2], electrodes=[k])
    with pytest.warns(RecordingWarning, match=r"grouped by its electrodes \(probeA, probeB\)"):
        assert groups_of(nwbfile) == ["probeA"] * 4 + ["probeB"] * 4


def test_values_that_join_units_of_several_probes_are_not_taken():
    """Shanks that are counted on each probe from 0."""
    recording = recorded("a", "a", "b", "b")
    channels = np.repeat(recording.channel_ids, 2)
    crossing = sorting(recording, main_channel_id=channels, group=[0, 0, 1, 1] * 2)
    with pytest.warns(RecordingWarning, match=r"group \(0, 1\) does not name its probes.*channels \(a, b\)"):
        assert groups_of(crossing) == ["a"] * 4 + ["b"] * 4
    finer = sorting(recording, main_channel_id=channels, group=[0, 0, 1, 1, 2, 2, 3, 3])
    assert groups_of(finer) == list("00112233")
    recording = recorded(*"abcd")
    shanks = sorting(recording, main_channel_id=np.repeat(recording.channel_ids, 2), group=[0] * 4 + [1] * 4)
    assert groups_of(shanks) == list("00001111")


def test_one_value_for_units_of_several_probes_says_nothing():
    recording = recorded("a", "a", "b", "b")
    same = sorting(recording, main_channel_id=np.repeat(recording.channel_ids, 2), group=[0] * 8)
    with pytest.warns(RecordingWarning, match="does not name its probes"):
        assert groups_of(same) == ["a"] * 4 + ["b"] * 4


def test_text_of_fixed_length_names_groups(tmp_path):
    nwbfile = add_probes(new_nwb(), "probeA", "probeB")
    for k, times in enumerate(TRAINS):
        nwbfile.add_unit(spike_times=times, electrodes=[k])
    path = write_nwb_file(tmp_path / "s.nwb", nwbfile)
    names = np.array([b"probeA"] * 4 + [b"probeB"] * 4, dtype="S8")
    replaced(path, "general/extracellular_ephys/electrodes/group_name", names)
    assert groups_of(path) == ["probeA"] * 4 + ["probeB"] * 4
