"""Impossible spike times are refused by name, and those that look like another unit are warned of."""

import numpy as np
import pytest
import spikeinterface.core as si
from nwb_files import add_units, new_nwb, write_nwb_file

from spikeinterface_nuclr import InputError, embed, read_population
from spikeinterface_nuclr.errors import RecordingWarning

DRAW = np.random.default_rng(0)
TRAINS = [np.sort(DRAW.uniform(0, 100, 200)) for _ in range(12)]


def with_spike(value, unit=3, trains=TRAINS):
    trains = [np.array(t) for t in trains]
    trains[unit] = np.sort(np.append(trains[unit], value))
    return add_units(new_nwb(), trains, unit_name=[f"u{k}" for k in range(len(trains))])


@pytest.mark.parametrize("value", [1e6, 1e8, 1e10, 1.7e9, 1e15, 1.8446744073709552e19, 1e300, -1e9, -(2.0**63), -1e6])
def test_one_spike_far_from_all_others_is_named(value):
    with pytest.raises(InputError, match=r"unit u3: a spike at .* is impossible") as error:
        read_population(with_spike(value))
    assert f"a spike at {value:.10g} s" in str(error.value)
    with pytest.warns(RecordingWarning, match="1 of 2,401 spikes lie outside the observed time"):
        found = read_population(with_spike(value), observed=[[0.0, 100.0]])
    assert found.num_spikes.tolist() == [200] * 12


def test_a_sentinel_in_every_unit_is_named():
    trains = [np.append(t, 1e7) for t in TRAINS]
    with pytest.raises(InputError, match="unit 0: a spike at 10000000 s"):
        read_population(add_units(new_nwb(), trains))


def test_a_whole_train_of_sentinels_is_named():
    trains = [*TRAINS[:11], np.full(200, 2.0**62)]
    with pytest.raises(InputError, match=r"unit 11: a spike at 4\.6\d+e\+18 s"):
        read_population(add_units(new_nwb(), trains))


def test_a_spike_at_zero_of_a_clock_that_counts_from_1970_is_named():
    trains = [t + 1.7e9 for t in TRAINS]
    assert read_population(add_units(new_nwb(), trains)).start == 1.7e9
    trains[5] = np.append(0.0, trains[5])
    with pytest.raises(InputError, match="unit 5: a spike at 0 s"):
        read_population(add_units(new_nwb(), trains))


def test_whole_numbers_of_a_long_recording_are_refused():
    with pytest.raises(InputError, match=r"is impossible: the recording would last 3,7\d\d days"):
        read_population(add_units(new_nwb(), [np.floor(t * 30_000 * 108) for t in TRAINS]))


def test_unsigned_sentinels_in_the_file(tmp_path):
    nwbfile = new_nwb()
    nwbfile.add_unit(spike_times=np.array([1, 2, np.iinfo(np.uint64).max], dtype=np.uint64))
    with pytest.raises(InputError, match=r"unit 0: a spike at 1\.84\d+e\+19 s"):
        read_population(write_nwb_file(tmp_path / "s.nwb", nwbfile))


@pytest.mark.parametrize(("stop", "days"), [(1e10, "115,741"), (np.inf, "inf")])
def test_observed_time_of_more_than_a_year_is_refused(stop, days):
    nwbfile = new_nwb()
    nwbfile.add_unit(spike_times=TRAINS[0], obs_intervals=[[0.0, stop]])
    with pytest.raises(InputError, match=f"observed time would be {days} days"):
        read_population(nwbfile)
    with pytest.raises(InputError, match="give observed= in seconds"):
        read_population(add_units(new_nwb(), TRAINS), observed=[[0.0, 1e9]])


def test_spikes_outside_of_what_the_file_observed_are_left_out():
    nwbfile = new_nwb()
    nwbfile.add_unit(spike_times=[1.0, 2.0, 1e10], obs_intervals=[[0.0, 10.0]])
    with pytest.warns(RecordingWarning, match="1 of 3 spikes"):
        assert read_population(nwbfile).stop == 10.0


@pytest.mark.parametrize("scale", [30_000, 24_414, 1_000])
def test_samples_are_warned_of(scale):
    with pytest.warns(RecordingWarning, match=r"all 2,400 spike times are whole numbers: are they samples"):
        read_population(add_units(new_nwb(), [np.floor(t * scale) for t in TRAINS]))


def test_milliseconds_are_warned_of():
    with pytest.warns(RecordingWarning, match=r"its units fire every \d+ s: are their times milliseconds"):
        read_population(add_units(new_nwb(), [t * 1000 for t in TRAINS]))


@pytest.mark.parametrize(
    "trains",
    [
        TRAINS,
        [np.arange(0.0, 90.0, 10.0)],  # whole, but few
        [np.sort(DRAW.uniform(0, 3600, 80)) for _ in range(9)],  # calcium events
        [np.concatenate([t, t + 90_000.0]) for t in TRAINS],  # two days
        [np.sort(DRAW.uniform(0, 5 * 86_400, 20_000))],
        [[0.5], [100_000.0]],
        [t + 86_400 * 365 * 50 for t in TRAINS],
        [t - 86_400.0 for t in TRAINS],
    ],
    ids=["plain", "few", "events", "two days", "long", "two spikes", "epoch", "before zero"],
)
def test_times_that_can_be_are_read_without_a_word(trains, recwarn):
    read_population(add_units(new_nwb(), trains))
    assert not [w for w in recwarn if w.category is RecordingWarning]


def test_a_sorting_without_a_recording():
    samples = {unit: np.arange(100, 900_000, 1_000) for unit in "ab"}
    samples["b"] = np.append(samples["b"], 2**60)
    sorting = si.NumpySorting.from_unit_dict([samples], 30_000.0)
    with pytest.raises(InputError, match=r"unit b: a spike at 3\.84"):
        read_population(sorting)
    with pytest.warns(RecordingWarning, match="1 of 1,801 spikes"):
        assert read_population(sorting, observed=[[0.0, 30.0]]).num_spikes.tolist() == [900, 900]


def test_phy_samples_that_cannot_be(tmp_path):
    np.save(tmp_path / "spike_times.npy", np.array([*range(0, 900_000, 900), 2**62], dtype=np.uint64))
    np.save(tmp_path / "spike_clusters.npy", np.arange(1001) % 3)
    with pytest.raises(InputError, match=r"unit 1: a spike at 1\.53"):
        read_population(tmp_path, sampling_frequency=30_000.0)


def test_a_recording_on_a_clock_that_counts_from_1970_is_embedded(checkpoint):
    found = embed(read_population(add_units(new_nwb(), [t + 1.7e9 for t in TRAINS])), checkpoint, progress=False)
    assert (found.num_windows > 0).all()
