"""Invalid times are cut from the units that they concern, whatever their number."""

import numpy as np
import pytest
from nwb_files import add_probes, add_units, new_nwb, write_nwb_file

from spikeinterface_nuclr import InputError, read_population
from spikeinterface_nuclr.errors import RecordingWarning
from spikeinterface_nuclr.intervals import subtract, union

TRAINS = [np.linspace(0.5, 99.5, 100)] * 4


def tagged(*intervals, probes=("probeA", "probeB"), **options):
    """Units of two probes in turn, and intervals (start, stop, *tags)."""
    nwbfile = add_probes(new_nwb(), *probes, electrodes=1, **options)
    for k, times in enumerate(TRAINS):
        nwbfile.add_unit(spike_times=times, electrodes=[k % 2])
    for start, stop, *tags in intervals:
        nwbfile.add_invalid_time_interval(start_time=start, stop_time=stop, **({"tags": tags} if tags else {}))
    return nwbfile


CUT, WHOLE = [[0.0, 10.0], [20.0, 100.0]], [[0.0, 100.0]]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["probeB"], [WHOLE, CUT]),
        (["PROBEB "], [WHOLE, CUT]),
        (["EcephysProbe", "733744647", "probeB"], [WHOLE, CUT]),
        (["probeB, dropped frames"], [WHOLE, CUT]),
        (["device of probeB"], [WHOLE, CUT]),
        (["probeA", "probeB"], [CUT, CUT]),
        (["probeA/probeB"], [CUT, CUT]),
        (["artifact"], [CUT, CUT]),
        (["probe"], [CUT, CUT]),
        ([], [CUT, CUT]),
    ],
    ids=str,
)
def test_an_interval_concerns_the_probes_that_its_tags_name(tags, expected, tmp_path):
    nwbfile = tagged((10.0, 20.0, *tags))
    for source in (nwbfile, write_nwb_file(tmp_path / "s.nwb", nwbfile)):
        found = read_population(source)
        assert [found.observed_of(k).tolist() for k in range(4)] == expected * 2
        assert found.num_spikes.tolist() == [100 if one == WHOLE else 90 for one in expected] * 2


def test_a_probe_may_be_lost_altogether():
    found = read_population(tagged((0.0, 200.0, "probeB"), (10.0, 20.0, "artifact")))
    assert found.observed_of(0).tolist() == CUT
    assert found.observed_of(1).tolist() == []
    with pytest.raises(InputError, match=r"its invalid times cover all observed time.*give observed="):
        read_population(tagged((0.0, 200.0)))


def test_a_device_of_several_groups():
    nwbfile = new_nwb()
    nwbfile = tagged((10.0, 20.0, "array"), device=nwbfile.create_device("array"), probes=("shank0", "shank1"))
    assert read_population(nwbfile).observed.tolist() == CUT


def test_units_of_unknown_probe_lose_what_any_probe_lost():
    nwbfile = add_units(add_probes(new_nwb(), "probeA", "probeB"), TRAINS)
    nwbfile.add_invalid_time_interval(start_time=10.0, stop_time=20.0, tags=["probeB"])
    assert read_population(nwbfile, group_by=None).observed.tolist() == CUT
    nwbfile = add_units(add_probes(new_nwb(), "probeA", "probeB"), TRAINS, probe_name=["probeA", "probeB"] * 2)
    nwbfile.add_invalid_time_interval(start_time=10.0, stop_time=20.0, tags=["probeB"])
    for options in ({}, {"group_by": None}, {"group_by": "probe_name"}):
        found = read_population(nwbfile, **options)
        assert [found.observed_of(k).tolist() for k in range(2)] == [WHOLE, CUT]


def test_probes_that_only_the_units_name():
    columns = dict(probe_name=["imec0", "imec1"] * 2)
    for tag, expected in (("imec1", [WHOLE, CUT]), ("probeB", [CUT, CUT]), ("imec2", [CUT, CUT])):
        nwbfile = add_units(add_probes(new_nwb(), "probeA", "probeB"), TRAINS, **columns)
        nwbfile.add_invalid_time_interval(start_time=10.0, stop_time=20.0, tags=[tag])
        found = read_population(nwbfile)
        assert [found.observed_of(k).tolist() for k in range(2)] == expected


@pytest.mark.parametrize("interval", [(0.0, 200.0), (10.0, 20.0, "probeB"), (90.0, np.nan), (50.0, 40.0)])
def test_observed_is_in_place_of_invalid_times(interval):
    with pytest.warns(RecordingWarning, match="observed= is given, so that its 1 invalid_times are not excluded"):
        found = read_population(tagged(interval), observed=[[0.0, 90.0]])
    assert found.observed.tolist() == [[0.0, 90.0]]


@pytest.mark.parametrize("interval", [(90.0, np.nan), (np.nan, 90.0), (50.0, 40.0), (np.nan, np.nan)])
def test_an_interval_that_is_none_is_refused(interval):
    with pytest.raises(InputError, match=r"invalid_times: .* is not an interval: correct the file or give observed="):
        read_population(tagged(interval))


@pytest.mark.parametrize(("interval", "left"), [((60.0, np.inf), [0.0, 60.0]), ((-np.inf, 40.0), [40.0, 100.0])])
def test_invalid_times_may_reach_beyond_the_recording(interval, left):
    assert read_population(tagged(interval)).observed.tolist() == [left]


# --- subtracting ----------------------------------------------------------------------------------------------------


def subtracted_one_by_one(intervals, holes):
    for a, b in holes:
        left = np.stack([intervals[:, 0], np.minimum(intervals[:, 1], a)], axis=1)
        right = np.stack([np.maximum(intervals[:, 0], b), intervals[:, 1]], axis=1)
        pieces = np.concatenate([left, right])
        pieces = pieces[pieces[:, 1] > pieces[:, 0]]
        intervals = np.unique(pieces[np.argsort(pieces[:, 0])], axis=0)
    return intervals


@pytest.mark.parametrize("seed", range(40))
def test_subtracting_all_at_once_is_subtracting_one_by_one(seed):
    draw = np.random.default_rng(seed)
    # Few whole numbers, so that many borders touch; some intervals and holes have no length.
    borders = np.unique(draw.integers(0, 60, 24))
    intervals = np.stack([borders[:-1], borders[1:]], axis=1)[:: draw.integers(1, 3)].astype(float)
    holes = union(np.sort(draw.integers(0, 60, (draw.integers(1, 12), 2)), axis=1).astype(float))
    assert np.array_equal(subtract(intervals, holes), subtracted_one_by_one(intervals, holes))


def test_subtracting_many_intervals_from_many():
    """So many that to compare each with each would not end."""
    intervals = np.arange(200_000.0).reshape(-1, 2)
    left = subtract(intervals, intervals + 0.5)
    assert np.array_equal(left, np.stack([intervals[:, 0], intervals[:, 0] + 0.5], axis=1))


def test_many_invalid_times_of_units_with_intervals_of_their_own():
    nwbfile = add_units(new_nwb(), [])
    draw = np.random.default_rng(0)
    for _ in range(20):
        borders = np.sort(draw.uniform(0, 10_000, 200)).reshape(-1, 2)
        nwbfile.add_unit(spike_times=borders[:, 0], obs_intervals=borders)
    for start in range(0, 10_000, 5):
        nwbfile.add_invalid_time_interval(start_time=float(start), stop_time=start + 0.5)
    found = read_population(nwbfile)
    assert not np.isin(found.observed_of(7)[:, 0] % 5, np.linspace(0, 0.4, 5)).any()
