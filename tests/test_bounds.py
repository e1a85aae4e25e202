"""Memory and work grow with the input: as its number of spikes, intervals and units, and not with the clock.

Nothing here is timed. What grows with the square of an input takes sixteen times the memory for four times the input,
and comparisons are counted where memory says too little.
"""

import tracemalloc
from contextlib import nullcontext

import numpy as np
import pytest

from spikeinterface_nuclr import Checkpoint, Encoder, EncoderConfig, InputError, Population, embed
from spikeinterface_nuclr import embedding as loop
from spikeinterface_nuclr.intervals import intersection, union
from spikeinterface_nuclr.training.store import Probe
from spikeinterface_nuclr.training.views import Recording
from spikeinterface_nuclr.windows import (
    Layout,
    Membership,
    Starts,
    place_windows,
    timeline,
    windows_to_bin,
)
from spikeinterface_nuclr.windows.binning import iter_windows

LAYOUT = Layout(bin_s=0.02, patch_size=50, num_patches=10)


def peak(work):
    """Largest memory in bytes that the work holds at once."""
    work()  # what is made once is made before
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def growth(prepare, size):
    """How much more memory four times the size takes."""
    return peak(prepare(4 * size)) / peak(prepare(size))


def trials(count, length=1.0):
    return np.arange(count)[:, None] * 3.0 + np.array([[0.0, length]])


def units_with_a_stray_spike(seconds):
    rng = np.random.default_rng(0)
    trains = [np.sort(rng.uniform(0, 60, 300)) for _ in range(4)]
    trains[0] = np.append(trains[0], seconds)
    return Population(range(4), trains, start=0.0, stop=float(seconds))


@pytest.mark.parametrize("options", [{}, {"overlap": 0.5}, {"skip_silence": True}])
def test_a_stray_spike_costs_no_more_the_later_it_is(checkpoint, monkeypatch, options):
    binned, real = [], iter_windows

    def counting(*arguments):
        for begin, counts in real(*arguments):
            binned.append(len(counts))
            yield begin, counts

    monkeypatch.setattr(loop, "iter_windows", counting)

    def embedded(seconds):
        population = units_with_a_stray_spike(seconds)
        return lambda: embed(population, checkpoint, device="cpu", precision="float32", progress=False, **options)

    with pytest.warns(UserWarning, match="observed seconds") if "skip_silence" in options else nullcontext():
        expected = embedded(1e3)()
        for seconds in (1e6, 1e8, 1e10):
            found = embedded(seconds)()
            assert np.array_equal(found.embedding, expected.embedding)
            if "skip_silence" not in options:
                step = 5.0 if "overlap" in options else 10.0
                assert found.provenance.windows == round((seconds - 10) / step) + 1
        assert max(binned) < 100
        assert peak(embedded(1e10)) < 1.2 * peak(embedded(1e5)) + 100_000


@pytest.mark.parametrize("seconds", [1e15, 1e300, 1.8446744073709552e19])
def test_times_too_large_for_bins_are_named(checkpoint, seconds):
    with pytest.raises(InputError, match=r"observed time reaches .* s, where times are too coarse for bins of 0.02 s"):
        embed(units_with_a_stray_spike(seconds), checkpoint, device="cpu", progress=False)


def test_windows_that_hold_no_spike_are_not_listed():
    population = Population(["a", "b"], [[5.0, 25.0, 1e9 - 1], [7.0]], start=0.0, stop=1e9)
    units = np.arange(2)
    line = timeline(population, units, LAYOUT)
    for overlap, expected in ((0.0, [0, 2, 10**8 - 1]), (0.5, [0, 1, 4, 5, 2 * 10**8 - 2])):
        placed = place_windows(line, LAYOUT, overlap)
        numbers = windows_to_bin(population, units, line, placed)
        assert numbers.tolist() == expected
        first = placed.at(numbers)
        [(begin, counts)] = iter_windows(population, units, line, first, LAYOUT, max_bins=10**6)
        assert begin == 0
        assert counts.sum(axis=(1, 2)).tolist() == [2, 1, 1] if overlap == 0 else [2, 1, 1, 1, 1]


def test_windows_far_apart_hold_what_they_hold_side_by_side(rng):
    """Windows that were left out between others change nothing of these."""
    trains = [np.sort(rng.uniform(0, 400, 900)) for _ in range(3)]
    population = Population(range(3), trains, start=0.0, stop=400.0)
    units = np.arange(3)
    line = timeline(population, units, LAYOUT)
    for overlap in (0.0, 0.3, 0.9):
        placed = place_windows(line, LAYOUT, overlap)
        for share in (0.05, 0.3, 0.9):
            numbers = np.flatnonzero(rng.random(len(placed)) < share)
            first = placed.at(numbers)
            chunks = list(iter_windows(population, units, line, first, LAYOUT, max_bins=6_000))
            assert sum(len(counts) for _, counts in chunks) == len(numbers)
            assert max(counts.size for _, counts in chunks) <= 6_000
            for begin, counts in chunks:
                for window, got in enumerate(counts, start=begin):
                    edges = line.time(first[window : window + 1]) + np.arange(501) * 0.02
                    assert np.array_equal(got, [np.histogram(t, bins=edges)[0] for t in trains])


def brute_union(intervals):
    merged = []
    for a, b in np.unique(intervals, axis=0):
        if merged and a < merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], b)
        else:
            merged.append([a, b])
    return np.array(merged, dtype=float).reshape(-1, 2)


def brute_intersection(a, b):
    low = np.maximum(a[:, None, 0], b[None, :, 0]).ravel()
    high = np.minimum(a[:, None, 1], b[None, :, 1]).ravel()
    return np.stack([low, high], axis=1)[low < high]


def test_intervals_are_joined_and_cut_as_by_comparing_each_with_each():
    for seed in range(300):
        rng = np.random.default_rng(seed)
        # Whole numbers touch, coincide and are empty more often than others.
        draw = (lambda n, r=rng: r.integers(0, 30, n)) if seed % 2 else (lambda n, r=rng: r.uniform(0, 30, n))
        some = [np.sort(draw(2 * rng.integers(0, 10)).astype(float)).reshape(-1, 2) for _ in range(4)]
        assert np.array_equal(union(np.concatenate(some)), brute_union(np.concatenate(some)))
        assert np.array_equal(intersection(some[0], some[1]), brute_intersection(some[0], some[1]))


def brute_members(population, units, line, first):
    """Bin by bin: in which interval of each unit it lies whole, and windows whose bins all lie in (one of) them."""
    found = np.zeros((len(first), len(units)), dtype=bool)
    for row, unit in enumerate(units):
        number = np.full(line.num_bins, -1)
        for start, low, high in zip(line.piece_start, line.piece_first[:-1], line.piece_first[1:], strict=True):
            begins = start + np.arange(high - low) * line.bin_s
            for k, (a, b) in enumerate(population.observed_of(unit)):
                number[low:high][(begins >= a - 1e-9) & (begins + line.bin_s <= b + 1e-9)] = k
        for window, begin in enumerate(first):
            inside = number[begin : begin + LAYOUT.window_bins]
            found[window, row] = (inside >= 0).all() and (line.stitched != "" or len(set(inside)) == 1)
    return found


@pytest.mark.parametrize("length", [0.4, 2.7, 12.0, 35.0])
def test_membership_is_what_looking_at_every_bin_says(length, rng):
    every = np.arange(0, min(100 * length, 240), 1.25 * length)[:, None] + np.array([[0.0, length]])
    observed = [every, every[3:], every[rng.random(len(every)) < 0.8], every[:0], np.array([[1.37, 160.0]])]
    for sets in (observed, observed[:3]):
        population = Population(range(len(sets)), [[]] * len(sets), observed=sets, start=0.0, stop=260.0)
        units = np.arange(len(sets))
        line = timeline(population, units, LAYOUT)
        for placed in (place_windows(line, LAYOUT, 0.4), Starts(line, LAYOUT, 100)):
            first = placed.at(np.arange(len(placed)))
            expected = brute_members(population, units, line, first)
            membership = Membership(population, units, line, LAYOUT)
            assert np.array_equal(membership.of(first), expected)
            assert np.array_equal(membership.anywhere(placed), expected.any(axis=0))


def test_silence_is_left_out_as_second_by_second(rng):
    for _ in range(30):
        edges = np.sort(rng.uniform(0, 90, 6)).reshape(-1, 2)
        times = np.sort(rng.uniform(0, 90, 120))
        times = times[[((edges[:, 0] <= t) & (t < edges[:, 1])).any() for t in times]]
        population = Population([0], [times], observed=edges, start=0.0, stop=90.0)
        kept = []
        for a, b in edges:
            seconds = int(b - a)
            active = [((times >= a + s) & (times < a + s + 1)).any() for s in range(seconds)]
            kept += [a + s for s in range(seconds) if all(active[max(s - 1, 0) : s + 2])]
        line = timeline(population, np.array([0]), Layout(0.02, 10, 2), skip_silence=True)
        whole_seconds = np.concatenate([a + np.arange(int(b - a)) for a, b in edges])
        found = whole_seconds[line.locate(whole_seconds + 0.5) >= 0]
        assert np.allclose(found, kept)


def test_memory_grows_with_intervals_and_not_with_their_square():
    def within(count):
        population = Population([0, 1], [[0.1], [0.2]], observed=trials(count))
        return lambda: population.within(trials(count, 0.5) + 0.25)

    def members(count):
        sets = [trials(count, 0.3)[k:] for k in range(3)]
        population = Population(range(3), [[]] * 3, observed=sets, start=0.0, stop=3.0 * count)
        units = np.arange(3)

        def look():
            line = timeline(population, units, LAYOUT)
            starts = place_windows(line, LAYOUT)
            return Membership(population, units, line, LAYOUT).of(starts.at(np.arange(len(starts))))

        return look

    assert growth(within, 3_000) < 6
    assert growth(members, 3_000) < 6


def test_training_holds_intervals_and_not_every_window_of_every_unit(tmp_path):
    def recording(hours, units=60):
        rng = np.random.default_rng(0)
        observed = [np.array([[0.0, hours * 3600 * share]]) for share in rng.uniform(0.9, 1, units)]
        outline = Population(range(units), [[]] * units, observed=observed, start=0.0, stop=hours * 3600.0)
        return lambda: Recording(Probe(tmp_path, "animal", "session", "", outline, "spikes"), LAYOUT)

    assert peak(recording(8)) < 1.1 * peak(recording(1))
    assert peak(recording(2)) < 200_000
    assert growth(lambda units: recording(1, units), 100) < 6


def test_memory_grows_with_units_but_for_the_attention():
    config = EncoderConfig(dim=8, heads=1, head_dim=8, temporal_blocks=0, spatiotemporal_blocks=0)
    model = Checkpoint(config, Encoder(config).state_dict(), name="linear")

    def embedded(units):
        rng = np.random.default_rng(0)
        population = Population(range(units), [np.sort(rng.uniform(0, 30, 60)) for _ in range(units)], stop=30.0)
        return lambda: embed(population, model, device="cpu", precision="float32", progress=False)

    assert growth(embedded, 100) < 6


@pytest.mark.parametrize("offset", [3.7, 1e5 + 0.123, 1.7e9 + 0.3])
def test_the_same_spikes_on_a_later_clock_have_the_same_embedding(population, checkpoint, offset):
    later = Population(
        population.unit_ids, [t + offset for t in population.spike_times], start=offset, stop=offset + 60.0
    )
    here, there = (embed(p, checkpoint, precision="float32", progress=False) for p in (population, later))
    assert np.array_equal(here.embedding, there.embedding)
