import numpy as np
import pytest
import torch
from ophys_files import activity

from spikeinterface_nuclr import (
    Checkpoint,
    Encoder,
    EncoderConfig,
    InputError,
    Population,
    RecordingWarning,
    embed,
    simulate_population,
)
from spikeinterface_nuclr.training.monitors import (
    alternating,
    embed_halves,
    monitor,
    probe_score,
    rank_me,
    reidentified,
    top_1_hits,
)


def test_halves_alternate_and_share_no_spike(population):
    first, second = alternating(population, 10.0)
    assert first.observed.tolist() == [[0, 10], [20, 30], [40, 50]]
    assert second.observed.tolist() == [[10, 20], [30, 40], [50, 60]]
    assert (first.num_spikes + second.num_spikes).tolist() == population.num_spikes.tolist()


def test_unmistakable_neurons_are_found_again(checkpoint):
    # Each unit repeats one pattern of its own in every block.
    trains = [
        np.sort(np.concatenate([w + np.arange(3 + 9 * u) / (3 + 9 * u) * 9.9 for w in range(0, 40, 10)]))
        for u in range(6)
    ]
    same = Population(range(6), trains, stop=40.0)
    assert reidentified(embed_halves(same, checkpoint, "cpu")).tolist() == [True] * 12
    # Units that swap their patterns from block to block find each other, and never themselves.
    blocks = [[t[(t >= low) & (t < low + 10)] for low in range(0, 40, 10)] for t in trains]
    swapped = [np.concatenate([blocks[(u + b % 2) % 6][b] for b in range(4)]) for u in range(6)]
    assert not reidentified(embed_halves(Population(range(6), swapped, stop=40.0), checkpoint, "cpu")).any()
    # Each is compared with those of its probe alone.
    alone = Population(range(6), swapped, stop=40.0, group=["a", "b", "c", "d", "e", "f"])
    with pytest.warns(RecordingWarning, match="6 units"):
        assert len(reidentified(embed_halves(alone, checkpoint, "cpu"))) == 0
    short = embed_halves(same.within([[0.0, 12.0]]), checkpoint, "cpu")
    assert len(short.units) == len(reidentified(short)) == 0


def test_looks_at_many_recordings(checkpoint):
    populations = [simulate_population(n_units=12, duration=80.0, seed=s) for s in range(3)]
    for number, population in enumerate(populations):
        population.metadata["subject"] = f"animal{number}"
    found = monitor(populations, checkpoint, device="cpu", probe="cell_type")
    assert list(found) == ["reidentification", "reidentification_across", "rank_me", "split_half_similarity", "probe"]
    # More candidates, fewer finds.
    assert 0 <= found["reidentification_across"] <= found["reidentification"] <= 1
    assert 0 < found["probe"] <= 1
    assert monitor([], checkpoint) == {}
    with pytest.raises(InputError, match="probe 'colour': no held-out recording has labels"):
        monitor(populations, checkpoint, device="cpu", probe="colour")
    short = monitor([populations[0].within([[0.0, 12.0]])], checkpoint, device="cpu")
    assert np.isnan(short["reidentification"])


def test_the_probe_reads_what_is_there_and_nothing_else(rng):
    labels, animals = np.tile(["x", "y", ""], 40), np.repeat(["a", "b", "c"], 40)
    rows = rng.standard_normal((120, 6))
    assert probe_score(rows, labels, animals) < 0.75
    rows[labels == "x", 0] += 8
    assert probe_score(rows, labels, animals) > 0.95
    # What marks the animal is no help on another animal.
    marked = rng.standard_normal((120, 6))
    own = np.where((labels == "x") & (animals == "a"), 8, 0)
    marked[:, 0] += own
    assert probe_score(marked, labels, animals) < 0.75
    assert np.isnan(probe_score(rows, np.repeat(["x", "y", "z"], 40), animals))


def test_the_nearest_row_is_found_by_angle():
    rows = np.eye(5) + 0.01
    assert top_1_hits(rows, 3 * rows).tolist() == [True] * 10
    assert not top_1_hits(rows, np.roll(rows, 1, axis=0)).any()
    many = np.random.default_rng(0).standard_normal((2300, 8))
    assert top_1_hits(many, 2 * many).all()
    assert top_1_hits(many[:0], many[:0]).shape == (0,)


def test_rank_me_counts_dimensions(rng):
    assert rank_me(np.outer(rng.standard_normal(200), np.ones(8))) == pytest.approx(1, abs=1e-6)
    assert rank_me(rng.standard_normal((5000, 8))) == pytest.approx(8, abs=0.1)


@pytest.mark.parametrize("rate", [1.99, 2.0, 2.01])
def test_halves_of_traces_are_made_of_whole_windows(rate):
    """Blocks of a window's length hold one at every rate that counts as the model's: nothing is stitched."""
    torch.manual_seed(0)
    config = EncoderConfig(bin_s=0.5, patch_size=4, num_patches=10, signal="traces", dim=32, heads=2, head_dim=16)
    checkpoint = Checkpoint(config, Encoder(config).state_dict())
    population = Population(range(12), traces=activity(12, 800, rate=rate), sampling_frequency=rate, start=1e6)
    halves = embed_halves(population, checkpoint, "cpu")
    first, _ = alternating(population, 40 / rate)
    expected = embed(first, checkpoint, device="cpu", progress=False)
    assert expected.provenance.stitched == ""
    assert np.array_equal(halves.first, expected.embedding)
