"""Which trains of several neo segments are of one neuron."""

import neo
import numpy as np
import pytest
import quantities as pq

from spikeinterface_nuclr import InputError, read_population

SPIKES = [np.linspace(0.5, 99, n) for n in (100, 200, 300, 400)]


def block(*segments):
    """A Block; each segment a list of (number of the neuron, name, annotations)."""
    made = neo.Block()
    for trains in segments:
        segment = neo.Segment()
        for neuron, name, annotations in trains:
            train = neo.SpikeTrain(SPIKES[neuron] * pq.s, t_stop=100 * pq.s, name=name, **annotations)
            segment.spiketrains.append(train)
        made.segments.append(segment)
    return made


def counts(source):
    found = read_population(source)
    return dict(zip(found.unit_ids.tolist(), found.num_spikes.tolist(), strict=True))


@pytest.mark.parametrize("how", ["name", "unit_id", "unit_name", "id", "channel", "cluster_id"])
def test_trains_are_joined_by_what_names_them(how):
    def train(k):
        return (k, f"n{k}", {}) if how == "name" else (k, None, {how: f"n{k}"})

    source = block([train(0), train(1), train(2), train(3)], [train(3), train(0), train(2)])
    assert counts(source) == {"n0": 200, "n1": 200, "n2": 600, "n3": 800}
    found = read_population(source)
    assert found.observed_of(1).tolist() == [[0.0, 100.0]]
    assert found.observed_of(0).tolist() == [[0.0, 100.0], [101.0, 201.0]]


@pytest.mark.parametrize("kind", [int, np.int64, lambda k: np.array([k]), lambda k: np.array(k)])
def test_numbers_name_trains(kind):
    source = block(*[[(k, None, {"unit_id": kind(7 + k)}) for k in ks] for ks in ((0, 1, 2), (2, 0))])
    assert counts(source) == {7: 200, 8: 200, 9: 600}


def test_a_name_counts_before_an_annotation_unless_it_repeats():
    both = [[(k, f"n{k}", {"unit_id": 9 - k}) for k in ks] for ks in ((0, 1), (1, 0))]
    assert counts(block(*both)) == {"n0": 200, "n1": 400}
    same = [[(k, "spikes", {"unit_id": f"u{k}"}) for k in ks] for ks in ((0, 1), (1, 0))]
    assert counts(block(*same)) == {"u0": 200, "u1": 400}


def test_positions_name_trains_of_equally_many():
    source = block(*[[(k, None, {}) for k in range(3)]] * 2)
    assert counts(source) == {0: 200, 1: 400, 2: 600}
    assert counts(block(*[[(k, "spikes", {}) for k in range(2)]] * 2)) == {0: 200, 1: 400}


@pytest.mark.parametrize(
    ("segments", "says"),
    [
        ([[(0, None, {}), (1, None, {})], [(1, None, {})]], "segments have 1 to 2 trains without names"),
        ([[(0, "a", {}), (1, "b", {})], [(0, "a", {}), (1, "a", {})]], "name does not identify them, because a occurs"),
        ([[(0, "a", {}), (1, "a", {})], [(0, "a", {})]], "a occurs more than once in segment 0"),
        ([[(0, "a", {}), (1, "b", {})], [(0, None, {}), (1, None, {})]], "it names only some of them"),
        ([[(0, None, {}), (1, None, {})], [(0, "a", {}), (1, "b", {})]], "it names only some of them"),
        ([[(0, None, {"unit_id": 1})], [(0, None, {})]], "unit_id does not identify them"),
    ],
)  # fmt: skip
def test_trains_that_nothing_joins_are_refused(segments, says):
    with pytest.raises(InputError, match=says) as error:
        read_population(block(*segments))
    assert "\n" not in str(error.value)


def test_trains_of_one_segment_need_no_names():
    assert counts(block([(0, "a", {}), (1, "a", {}), (2, None, {})])) == {0: 100, 1: 200, 2: 300}
    assert counts(block([(0, None, {"unit_id": "x"}), (1, None, {"unit_id": "y"})])) == {"x": 100, "y": 200}


def test_annotations_become_properties():
    source = block(
        [
            (0, "a", {"area": "CA1", "depth": np.float64(3.5), "array": [1, 2], "ok": True}),
            (1, "b", {"depth": 4, "ok": False}),
        ]
    )
    found = read_population(source)
    assert found.properties["area"].tolist() == ["CA1", ""]
    assert found.properties["depth"].tolist() == [3.5, 4.0]
    assert found.properties["ok"].tolist() == [True, False]
    assert "array" not in found.properties


def test_groups_of_curation_are_no_probes():
    source = block([(k, f"n{k}", {"group": ("good", "mua")[k % 2]}) for k in range(4)])
    assert set(read_population(source).group) == {""}
    source = block([(k, f"n{k}", {"group": k % 2}) for k in range(4)])
    assert read_population(source).group.tolist() == ["0", "1", "0", "1"]
