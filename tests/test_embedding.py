import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch

from spikeinterface_nuclr import (
    Checkpoint,
    CheckpointError,
    DeviceError,
    Encoder,
    InputError,
    Population,
    RecordingWarning,
    UnitEmbeddings,
    embed,
)


def quick(population, checkpoint, **options):
    return embed(population, checkpoint, **{"precision": "float32", "progress": False, **options})


def test_an_embedding_is_the_mean_over_windows_of_what_the_encoder_says(population, checkpoint):
    found = quick(population, checkpoint)
    encoder = checkpoint.encoder()
    rows = [[] for _ in population.unit_ids]
    for start in range(0, 60, 10):
        counts = np.stack(
            [np.histogram(t, bins=start + np.arange(501) * 0.02)[0] for t in population.spike_times]
        ).astype(np.float32)
        active = np.flatnonzero(counts.any(axis=1))
        with torch.no_grad():
            out = encoder(torch.from_numpy(counts[active]).view(-1, 10, 50), [len(active)]).numpy()
        for unit, row in zip(active, out, strict=True):
            rows[unit].append(row)
    assert found.num_windows.tolist() == [len(r) for r in rows]
    for unit, windows in enumerate(rows):
        windows = np.array(windows, dtype=np.float64)
        assert np.abs(found.embedding[unit] - windows.mean(axis=0)).max() < 1e-5
        odd, even = windows[0::2].mean(axis=0), windows[1::2].mean(axis=0)
        agreement = odd @ even / np.linalg.norm(odd) / np.linalg.norm(even)
        assert found.split_half_similarity[unit] == pytest.approx(agreement, abs=1e-5)


def test_units_without_a_window_are_nan_and_zero(checkpoint):
    population = Population(["a", "b", "late"], [[1.0, 12.0], [5.0], [29.5]], start=0.0, stop=30.0)
    found = quick(population, checkpoint)
    assert found.num_windows.tolist() == [2, 1, 1]
    silent = Population(["a", "silent"], [[1.0, 12.0], []], start=0.0, stop=30.0)
    found = quick(silent, checkpoint)
    assert found.num_windows.tolist() == [2, 0]
    assert np.isnan(found.embedding[1]).all()
    assert np.isfinite(found.embedding[0]).all()
    assert np.isnan(found.split_half_similarity[1])
    assert np.isfinite(found.split_half_similarity[0])


def test_the_result_is_the_same_again(population, checkpoint):
    for precision in ("float32", "bfloat16"):
        a, b = (quick(population, checkpoint, precision=precision) for _ in range(2))
        assert np.array_equal(a.embedding, b.embedding)
        assert a.provenance == b.provenance


def test_the_order_of_units_does_not_matter(population, checkpoint):
    order = np.random.default_rng(0).permutation(population.n_units)
    a = quick(population, checkpoint, precision="float64").embedding[order]
    b = quick(population.select(order), checkpoint, precision="float64").embedding
    assert np.abs(a - b).max() < 1e-6


def test_groups_never_see_each_other(population, checkpoint):
    halves = [np.arange(10), np.arange(10, 20)]
    both = Population(
        population.unit_ids, population.spike_times, stop=population.stop, group=np.repeat(["left", "right"], 10)
    )
    together = quick(both, checkpoint)
    alone = np.concatenate([quick(population.select(half), checkpoint).embedding for half in halves])
    assert np.abs(together.embedding - alone).max() < 1e-6
    assert np.abs(quick(population, checkpoint).embedding - alone).max() > 1e-4
    assert together.provenance.groups == {"left": 10, "right": 10}


def test_a_neuron_without_company(checkpoint):
    with pytest.raises(InputError, match=r"holds one unit, a: .* give two units or more"):
        quick(Population(["a"], [[1.0, 12.0]], stop=20.0), checkpoint)
    lonely = Population(["a", "b", "c"], [[1.0], [2.0], [3.0]], start=0.0, stop=10.0, group=["x", "x", "y"])
    with pytest.warns(RecordingWarning, match="1 units, such as c, are alone in their group"):
        assert quick(lonely, checkpoint).num_windows.tolist() == [1, 1, 1]


def test_bfloat16_agrees(population, checkpoint):
    a, b = (quick(population, checkpoint, precision=p).embedding for p in ("float32", "bfloat16"))
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosine.min() > 0.999


def test_batches_of_any_size_give_the_same(population, checkpoint):
    a = quick(population, checkpoint, batch_size=1)
    b = quick(population, checkpoint, batch_size=10**9)
    assert np.abs(a.embedding - b.embedding).max() < 1e-5
    assert np.array_equal(a.num_windows, b.num_windows)
    assert np.allclose(a.split_half_similarity, b.split_half_similarity, atol=1e-6)


def test_min_spikes_leaves_sparse_units_out_of_a_window(checkpoint):
    population = Population(["a", "b"], [[1.0, 2.0, 11.0], [1.0, 2.0, 3.0, 11.0, 12.0]], start=0.0, stop=20.0)
    assert quick(population, checkpoint).num_windows.tolist() == [2, 2]
    assert quick(population, checkpoint, min_spikes=2).num_windows.tolist() == [1, 2]
    with pytest.raises(InputError, match="no unit has 9 spike"):
        quick(population, checkpoint, min_spikes=9)
    with pytest.raises(InputError, match="min_spikes must be a whole number"):
        quick(population, checkpoint, min_spikes=0)


def test_the_checkpoints_overlap_is_the_default(population, checkpoint):
    half = Checkpoint(checkpoint.config, checkpoint.weights, {"overlap": 0.5}, name="half")
    assert quick(population, half).provenance.windows == 11
    assert quick(population, half, overlap=0.0).provenance.windows == 6


def test_memory_that_runs_out_halves_the_batch(population, checkpoint, monkeypatch):
    """The real network in a device of limited memory."""
    most, real = 45, Encoder.forward
    seen = []

    def limited(self, patches, sizes):
        seen.append(len(patches))
        if len(patches) > most:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate")
        return real(self, patches, sizes)

    expected = quick(population, checkpoint)
    monkeypatch.setattr(Encoder, "forward", limited)
    found = quick(population, checkpoint, batch_size=10**6)
    assert max(seen) > most
    assert np.abs(found.embedding - expected.embedding).max() < 1e-5
    assert np.array_equal(found.num_windows, expected.num_windows)
    most = 3
    with pytest.raises(DeviceError, match="memory does not hold one window of"):
        quick(population, checkpoint)


def test_other_errors_are_not_taken_for_lack_of_memory(population, checkpoint, monkeypatch):
    def broken(*_):
        raise RuntimeError("something else")

    monkeypatch.setattr(Encoder, "forward", broken)
    with pytest.raises(RuntimeError, match="something else"):
        quick(population, checkpoint)


@pytest.mark.parametrize(
    ("options", "kind", "says"),
    [
        (dict(device="abacus"), DeviceError, "device 'abacus' is unknown"),
        (dict(device="cuda:99"), DeviceError, "is absent"),
        (dict(precision="float8"), InputError, "precision 'float8' is unknown"),
        (dict(overlap=1.5), InputError, "overlap must lie"),
    ],
)
def test_bad_parameters_are_named(population, checkpoint, options, kind, says):
    with pytest.raises(kind, match=says):
        quick(population, checkpoint, **options)


def test_a_short_recording_says_how_long_it_should_be(checkpoint):
    with pytest.raises(InputError, match=r"no window of 10 s fits .*\(6 s at most"):
        quick(Population(["a"], [[1.0]], start=0.0, stop=6.0), checkpoint)


def test_time_that_holds_no_window_is_spoken_of(checkpoint):
    observed = [[0.0, 20.0], *([100.0 + 6 * i, 105.0 + 6 * i] for i in range(50))]
    population = Population(["a", "b"], [[1.0, 12.0], [2.0]], observed=observed)
    with pytest.warns(RecordingWarning, match="only 20 of 270 observed seconds"):
        found = quick(population, checkpoint)
    assert (found.provenance.used_s, found.provenance.observed_s) == (20.0, 270.0)


def test_units_never_observed_for_a_window_are_spoken_of(checkpoint):
    trials = np.arange(40)[:, None] * 1.0 + np.array([[0.0, 0.4]])
    population = Population(["a", "b"], [[0.1], [0.1, 12.0]], observed=[trials, [[0.0, 40.0]]])
    with pytest.warns(RecordingWarning, match="1 units, such as a, were observed throughout no window"):
        found = quick(population, checkpoint)
    assert found.num_windows.tolist() == [0, 2]
    nobody = Population(["a", "b"], [[1.0], [14.0]], observed=[[[0.0, 6.0], [8.0, 14.0]], [[5.0, 9.0], [13.0, 20.0]]])
    with pytest.raises(InputError, match="no unit was observed throughout any window"):
        quick(nobody, checkpoint)


def test_the_wrong_kind_of_signal_is_refused(checkpoint):
    traces = Population(["a"], traces=np.zeros((1, 900)), sampling_frequency=4.0)
    with pytest.raises(CheckpointError, match="takes spikes, this population holds traces"):
        quick(traces, checkpoint)


def test_embeddings_are_saved_whole_and_read_back(population, checkpoint, tmp_path):
    found = quick(population, checkpoint)
    back = UnitEmbeddings.load(found.save(tmp_path / "e.npz"))
    for name in ("unit_ids", "embedding", "num_windows", "split_half_similarity", "num_spikes"):
        assert np.array_equal(getattr(back, name), getattr(found, name), equal_nan=name == "split_half_similarity")
    assert back.provenance == found.provenance
    lines = found.save(tmp_path / "e.csv").read_text().splitlines()
    assert json.loads((tmp_path / "e.provenance.json").read_text()) == found.provenance.to_dict()
    assert lines[1].startswith("u000,6,")
    assert len(lines) == 1 + population.n_units
    frame = pd.read_csv(tmp_path / "e.csv", index_col="unit_id")
    assert np.allclose(frame.filter(like="embedding_"), found.embedding, rtol=1e-6)
    assert frame["num_spikes"].tolist() == population.num_spikes.tolist()
    with pytest.raises(InputError, match="exists already"):
        found.save(tmp_path / "e.npz")
    with pytest.raises(InputError, match=r"unknown format '\.txt'"):
        found.save(tmp_path / "e.txt")


def test_embeddings_hold_one_row_a_unit(population, checkpoint):
    found = quick(population, checkpoint)
    part = found.select([3, 1])
    assert part.unit_ids.tolist() == ["u003", "u001"]
    assert np.array_equal(part.embedding, found.embedding[[3, 1]])
    assert part.to_dataframe().loc["u001", "num_spikes"] == population.num_spikes[1]
    with pytest.raises(InputError, match=r"split_half_similarity has shape \(19,\), not \(n\) of 20 units"):
        dataclasses.replace(found, split_half_similarity=found.split_half_similarity[1:])
    with pytest.raises(InputError, match=r"embedding has shape \(20,\), not \(n, dim\)"):
        dataclasses.replace(found, embedding=found.num_windows)


def test_provenance_says_what_ran(population, checkpoint):
    provenance = quick(population, checkpoint).provenance
    assert provenance.checkpoint_sha256 == checkpoint.sha256
    assert provenance.precision == "float32"
    assert provenance.device == "cpu"
    assert provenance.population_fingerprint == population.fingerprint()
    assert provenance.versions.keys() >= {"torch", "spikeinterface-nuclr"}
    json.dumps(provenance.to_dict())


def test_a_file_that_holds_no_embeddings_is_named(tmp_path):
    np.savez(tmp_path / "other.npz", a=1)
    with pytest.raises(InputError, match=r"other\.npz: not a readable \.npz file of embeddings"):
        UnitEmbeddings.load(tmp_path / "other.npz")


def test_split_half_similarity_is_of_windows_that_share_no_time(population, checkpoint):
    plain = embed(population, checkpoint, precision="float32", progress=False)
    for overlap in (0.5, 0.75, 0.3):
        found = embed(population, checkpoint, precision="float32", overlap=overlap, progress=False)
        assert found.num_windows.max() > plain.num_windows.max()
        if overlap != 0.3:  # every second or fourth of these windows is one of the plain ones
            np.testing.assert_allclose(found.split_half_similarity, plain.split_half_similarity, atol=1e-6)
