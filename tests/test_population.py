import numpy as np
import pytest

from spikeinterface_nuclr import InputError, Population


def test_defaults_come_from_the_spikes():
    population = Population([3, 1], [[0.5, 2.0], []])
    assert (population.start, population.stop) == (0.0, 2.0)
    assert population.unit_ids.dtype.kind == "i"
    assert population.num_spikes.tolist() == [2, 0]
    assert population.observed.tolist() == [[0.0, 2.0]]
    assert [(label, units.tolist()) for label, units in population.groups()] == [("", [0, 1])]


def test_groups_keep_order_of_appearance():
    population = Population(list("abcd"), [[0.1]] * 4, group=["p1", "p0", "p1", "p0"])
    assert [(label, units.tolist()) for label, units in population.groups()] == [("p1", [0, 2]), ("p0", [1, 3])]


def test_equal_sets_of_observed_intervals_become_one():
    sets = [np.array([[0.0, 1.0], [2.0, 3.0]])] * 2
    shared = Population(["a", "b"], [[0.5], [2.5]], observed=sets)
    assert isinstance(shared.observed, np.ndarray)
    apart = Population(["a", "b"], [[0.5], [2.5]], observed=[sets[0], np.array([[2.0, 3.0]])])
    assert apart.observed_of(1).tolist() == [[2.0, 3.0]]
    never = Population(["a", "b"], [[], [2.5]], observed=[[], [[2.0, 3.0]]])
    assert never.observed_of(0).shape == (0, 2)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (dict(unit_ids=[], spike_times=[]), "no units"),
        (dict(unit_ids=["a", "a"], spike_times=[[1.0], [2.0]]), "unit id a occurs 2 times"),
        (dict(unit_ids=["a"], spike_times=[[1.0], [2.0]]), "2 entries for 1 unit_ids"),
        (dict(unit_ids=["a", "b"], spike_times=[[1.0], [2.0, 1.0]]), "unit b: spike times are not sorted"),
        (dict(unit_ids=["a", "b"], spike_times=[[1.0], [np.nan]]), "unit b: 1 spike times are NaN"),
        (dict(unit_ids=["a"], spike_times=[[-1.0, 1.0]], start=0.0), "unit a: a spike at -1 s lies outside"),
        (dict(unit_ids=["a"], spike_times=[[1.0]], start=5.0, stop=4.0), "length is negative"),
        (dict(unit_ids=["a"], spike_times=[[]]), "give stop="),
        (dict(unit_ids=["a"], spike_times=[[1.0]], observed=[[2.0, 1.0]]), "negative length"),
        (dict(unit_ids=["a"], spike_times=[[1.0]], observed=[[0.0, 2.0], [1.0, 3.0]]), "starts before the one before"),
        (dict(unit_ids=["a"], spike_times=[[1.0]], observed=[[0.0, 0.5], [2.0, 3.0]]), "unit a: 1 spikes lie outside"),
        (dict(unit_ids=["a"], spike_times=[[1.0]], group=["x", "y"]), "group has shape"),
        (dict(unit_ids=["a"], spike_times=[[1.0]], properties={"depth": [1, 2]}), "property 'depth' has (2,) values"),
        (dict(unit_ids=["a"], spike_times=[["x"]]), "unit a: spike times are not numbers"),
        (dict(unit_ids=["a"], spike_times=5), "spike_times must be a list of arrays"),
        (dict(unit_ids=["a"], spike_times=[[1.0]], stop="x"), "stop must be a number"),
        (dict(unit_ids=["a"], spike_times=[[1.0]], properties={"depth": 3}), "property 'depth' has () values"),
        (dict(unit_ids=["a"]), "give one of the two"),
        (dict(unit_ids=["a"], traces=np.zeros((1, 9))), "sampling_frequency"),
        (dict(unit_ids=["a"], traces=np.zeros((1, 9)), sampling_frequency=4.0, stop=60.0), "the traces end at 2.25 s"),
        (dict(unit_ids=["a"], traces=np.full((1, 9), np.nan), sampling_frequency=4.0), "unit a: its trace"),
    ],
)
def test_bad_input_is_named(arguments, says):
    with pytest.raises(InputError) as error:
        Population(**arguments)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_select_and_within_keep_what_is_known(population):
    part = population.select([4, 2])
    assert part.unit_ids.tolist() == population.unit_ids[[4, 2]].tolist()
    assert part.properties["cell_type"].tolist() == population.properties["cell_type"][[4, 2]].tolist()
    half = population.within([[10.0, 20.0], [30.0, 35.0]])
    assert (half.start, half.stop) == (10.0, 35.0)
    assert half.observed.tolist() == [[10.0, 20.0], [30.0, 35.0]]
    for whole, cut in zip(population.spike_times, half.spike_times, strict=True):
        kept = ((whole >= 10) & (whole < 20)) | ((whole >= 30) & (whole < 35))
        assert cut.tolist() == whole[kept].tolist()


def test_within_cuts_observed_time_and_traces():
    trials = Population(["a"], [[0.5, 4.5, 5.5, 9.0]], observed=[[0.0, 1.0], [4.0, 6.0], [8.0, 10.0]])
    part = trials.within([[4.5, 5.0], [5.25, 9.0]])
    assert part.observed.tolist() == [[4.5, 5.0], [5.25, 6.0], [8.0, 9.0]]
    assert part.spike_times[0].tolist() == [4.5, 5.5]
    traces = Population(["a"], traces=[np.arange(40.0)], sampling_frequency=4.0).within([[2.0, 5.0]])
    assert traces.traces.tolist() == [list(range(8, 20))]
    with pytest.raises(InputError, match="no interval"):
        trials.within([])


def test_a_population_cannot_be_written_to():
    population = Population(["a"], [np.array([0.5, 1.0])])
    with pytest.raises(ValueError, match="read-only"):
        population.spike_times[0][0] = 3.0


def test_fingerprint_follows_ids_counts_and_times():
    base = Population(["a", "b"], [[0.5], [1.0]])
    assert base.fingerprint() == Population(["a", "b"], [[0.5], [1.0]], properties={"x": [1, 2]}).fingerprint()
    for other in (
        Population(["a", "c"], [[0.5], [1.0]]),
        Population(["a", "b"], [[0.5], [1.1]]),
        Population(["a", "b"], [[0.5, 1.0], []], stop=1.0),
    ):
        assert base.fingerprint() != other.fingerprint()


def test_spikes_have_no_frames():
    """The sampling frequency of a sorting does not affect its windows."""
    population = Population(["a", "b"], [[0.5], [1.0]], sampling_frequency=30_000.0)
    assert population.sampling_frequency is None


def test_when_traces_were_taken_is_part_of_them():
    traces = np.ones((2, 40))
    prints = {
        Population([0, 1], traces=traces, sampling_frequency=rate, start=start).fingerprint()
        for rate, start in ((4.0, 0.0), (5.0, 0.0), (4.0, 1.0))
    }
    assert len(prints) == 3
