import csv

import numpy as np
import pytest
import torch

from spikeinterface_nuclr import (
    CheckpointError,
    EncoderConfig,
    InputError,
    Population,
    PretrainConfig,
    load_checkpoint,
    pretrain,
    simulate_population,
)
from spikeinterface_nuclr.training import pretrain as loop
from spikeinterface_nuclr.training.monitors import nearest_is_self, rank_me, reidentification
from spikeinterface_nuclr.training.views import Recording, draw_views

CONFIG = PretrainConfig(
    encoder=EncoderConfig(dim=16, heads=2, head_dim=8, dropout=0.1),
    steps=6,
    samples=2,
    max_distance=20.0,
    learning_rate=1e-3,
    monitor_every=2,
)


@pytest.fixture(scope="module")
def populations():
    return [simulate_population(n_units=16, duration=60.0, seed=seed) for seed in range(3)]


@pytest.fixture(scope="module")
def recording(populations):
    return Recording(populations[0], np.arange(16), CONFIG.encoder.layout)


def test_a_window_of_a_recording_holds_the_spikes_of_that_time(populations, recording):
    start = 731
    patches, units = recording.window(start, np.ones(16, dtype=bool))
    edges = start * 0.02 + np.arange(501) * 0.02
    for counts, unit in zip(patches, units, strict=True):
        expected = np.histogram(populations[0].spike_times[unit], bins=edges)[0]
        # A spike on an edge may fall to either side in the histogram.
        assert np.abs(counts.ravel() - expected).sum() <= 2
    assert set(range(16)) - set(units) == {
        u for u in range(16) if not np.histogram(populations[0].spike_times[u], bins=edges[[0, -1]])[0]
    }


def test_the_second_window_is_near_the_first(recording, rng):
    layout = CONFIG.encoder.layout
    for distance in (0.0, 5.0):
        pairs = np.array([recording.draw_starts(rng, distance) for _ in range(300)]) * layout.bin_s
        assert np.abs(np.diff(pairs)).max() <= distance + 1e-9
        assert pairs.min() >= 0
        assert pairs.max() + layout.window_s <= 60.0 + 1e-9
    assert np.abs(np.diff(pairs)).max() > 4.5


def test_views_keep_a_random_part_of_the_units_and_share_some(recording, rng):
    views = draw_views([recording], np.ones(1), rng, samples=40, max_distance=20.0, min_units=5)
    assert len(views.sizes[0]) == 40
    for patches, sizes, units in zip(views.patches, views.sizes, views.units, strict=True):
        assert patches.shape == (sizes.sum(), 10, 50)
        assert patches.any(axis=(1, 2)).all()
        assert sizes.min() >= 5
        assert sizes.max() > sizes.min()
        for part in np.split(units, np.cumsum(sizes)[:-1]):
            assert len(np.unique(part)) == len(part)


def test_large_populations_are_thinned_alike_in_both_views(recording, rng):
    options = dict(samples=40, max_distance=20.0, min_units=1)
    thinned = draw_views([recording], np.ones(1), rng, max_units=6, **options)
    assert max(s.max() for s in thinned.sizes) <= 6
    shared = [
        len(np.intersect1d(*units))
        for units in zip(
            *(np.split(u, np.cumsum(s)[:-1]) for u, s in zip(thinned.units, thinned.sizes, strict=True)), strict=True
        )
    ]
    # Of a pool of 12, two views of 3 to 6 units share some; two such views of all 16 would share fewer.
    assert min(shared) >= 1
    assert np.mean(shared) > 4.5**2 / 16


def test_units_are_part_of_windows_in_which_they_were_observed():
    population = simulate_population(n_units=12, duration=60.0, seed=0)
    late = population.between(9.0, 60.0).spike_times
    observed = [np.array([[0.0, 60.0]])] * 11 + [np.array([[9.0, 60.0]])]
    trains = [*population.spike_times[:11], late[11]]
    recording = Recording(
        Population(population.unit_ids, trains, observed=observed), np.arange(12), CONFIG.encoder.layout
    )
    everyone = np.ones(12, dtype=bool)
    assert 11 not in recording.window(0, everyone)[1]
    assert 11 in recording.window(500, everyone)[1]


def test_populations_too_small_for_the_objective_are_refused(recording, rng):
    with pytest.raises(ValueError, match="no window has 17 active units"):
        draw_views([recording], np.ones(1), rng, samples=1, max_distance=20.0, min_units=17)


def test_training_is_reproducible_and_resumes_exactly(populations, tmp_path, monkeypatch):
    whole = pretrain(populations, tmp_path / "a.safetensors", CONFIG, progress=False)
    again = pretrain(populations, tmp_path / "b.safetensors", CONFIG, progress=False)
    assert all(torch.equal(whole.weights[k], again.weights[k]) for k in whole.weights)

    # The process dies at its fifth step; the state of the fourth is on disk.
    steps, real = [], loop.training_step

    def dies(*arguments):
        steps.append(1)
        if len(steps) == 5:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(loop, "training_step", dies)
    with pytest.raises(KeyboardInterrupt):
        pretrain(populations, tmp_path / "c.safetensors", CONFIG, progress=False)
    assert not (tmp_path / "c.safetensors").exists()
    monkeypatch.undo()
    resumed = pretrain(populations, tmp_path / "c.safetensors", CONFIG, resume=True, progress=False)
    assert all(torch.equal(whole.weights[k], resumed.weights[k]) for k in whole.weights)
    assert not (tmp_path / "c.state.safetensors").exists()
    rows = list(csv.DictReader((tmp_path / "c.log.csv").read_text().splitlines()))
    assert [row["step"] for row in rows] == ["2", "4", "6"]


def test_a_state_of_another_run_is_not_resumed(populations, tmp_path, monkeypatch):
    out = tmp_path / "a.safetensors"
    with pytest.raises(InputError, match="no saved state to resume from"):
        pretrain(populations, out, CONFIG, resume=True, progress=False)

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop.RunState, "write_log", die)
    with pytest.raises(KeyboardInterrupt):
        pretrain(populations[:2], out, CONFIG, progress=False)
    monkeypatch.undo()
    for sources, config in ((populations[1:], CONFIG), (populations[:2], PretrainConfig(encoder=CONFIG.encoder))):
        with pytest.raises(InputError, match="is of a run with other settings or recordings"):
            pretrain(sources, out, config, resume=True, progress=False)
    pretrain(populations[:2], out, CONFIG, resume=True, progress=False)
    out.with_suffix(".state.safetensors").write_text("damaged")
    with pytest.raises(InputError, match="not a readable state"):
        pretrain(populations[:2], out, CONFIG, resume=True, overwrite=True, progress=False)


def test_a_log_of_that_name_is_not_overwritten(populations, tmp_path):
    (tmp_path / "a.log.csv").write_text("precious")
    with pytest.raises(InputError, match="exists already"):
        pretrain(populations, tmp_path / "a.safetensors", CONFIG, progress=False)
    assert (tmp_path / "a.log.csv").read_text() == "precious"


def test_a_loss_that_explodes_is_named(populations, tmp_path):
    config = PretrainConfig(**{**CONFIG.__dict__, "learning_rate": 1e30, "steps": 50})
    with pytest.raises(InputError, match=r"the loss is not finite at step .*: lower the learning rate"):
        pretrain(populations, tmp_path / "a.safetensors", config, progress=False)
    assert not (tmp_path / "a.safetensors").exists()


@pytest.mark.parametrize(
    "bad",
    [
        dict(samples=0),
        dict(temperature=0.0),
        dict(warmup=-1.0),
        dict(max_units=5),
        dict(objective="x"),
        dict(scaling="x"),
    ],
)
def test_settings_that_cannot_be_are_named(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        PretrainConfig(**bad)


def test_only_the_signal_of_the_encoder_is_trained_on(tmp_path):
    traces = Population(range(12), traces=np.random.default_rng(0).random((12, 400)), sampling_frequency=4.0)
    with pytest.raises(CheckpointError, match="takes spikes, this population holds traces"):
        pretrain([traces], tmp_path / "a.safetensors", CONFIG, progress=False)


def test_training_learns(populations, tmp_path):
    """The loss on views that were not trained on falls."""
    config = PretrainConfig(**{**CONFIG.__dict__, "steps": 60, "samples": 4, "learning_rate": 3e-3, "temperature": 0.2})
    checkpoint = pretrain(populations[:2], tmp_path / "a.safetensors", config, progress=False)
    log = list(csv.DictReader((tmp_path / "a.log.csv").read_text().splitlines()))
    first = np.mean([float(row["loss"]) for row in log[:5]])
    last = np.mean([float(row["loss"]) for row in log[-5:]])
    assert last < first - 0.2
    assert checkpoint.card["training"]["steps"] == 60


def test_held_out_recordings_are_monitored_and_not_trained_on(tmp_path, populations, monkeypatch):
    class Named:
        def __init__(self, name, population):
            self.name, self.population = name, population

        def __str__(self):
            return self.name

    sources = [Named(f"animal{i}/x", p) for i, p in enumerate(populations)]
    monkeypatch.setattr(loop, "read_population", lambda source: source.population)
    with pytest.raises(InputError, match=r"hold_out 'animal9/\*' matches no source"):
        pretrain(sources, tmp_path / "a.safetensors", CONFIG, hold_out=["animal1/*", "animal9/*"], progress=False)
    checkpoint = pretrain(
        sources,
        tmp_path / "a.safetensors",
        CONFIG,
        hold_out=["animal1/*"],
        card={"held_out": "nothing", "license": "CC0"},
        progress=False,
    )
    assert checkpoint.card["license"] == "CC0"
    assert checkpoint.card["recordings"] == 2
    assert 0 <= checkpoint.card["monitors"]["reidentification"] <= 1
    assert checkpoint.card["monitors"]["rank_me"] >= 1
    found = load_checkpoint(tmp_path / "a.safetensors")
    assert found.card["held_out"] == ["animal1/*"]


def test_weight_decay_spares_biases_and_norms(checkpoint):
    optimizer = loop._optimizer(checkpoint.encoder(), CONFIG)
    decayed, spared = optimizer.param_groups
    assert {p.ndim for p in decayed["params"]} == {2}
    assert {p.ndim for p in spared["params"]} == {1}
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.01, 0.0)


def test_the_learning_rate_climbs_and_falls_to_nothing():
    config = PretrainConfig(steps=100, warmup=0.1)
    rates = [loop._schedule(step, config) for step in range(100)]
    assert np.allclose(rates[:10], np.arange(1, 11) / 10)
    assert (np.diff(rates[10:]) < 0).all()
    assert rates[-1] < 1e-3


def test_reidentification_finds_neurons_that_are_unmistakable(checkpoint):
    # Each unit repeats one pattern of its own, in both halves.
    trains = [
        np.sort(np.concatenate([w + np.arange(3 + 9 * u) / (3 + 9 * u) * 9.9 for w in range(0, 40, 10)]))
        for u in range(6)
    ]
    same = Population(range(6), trains, stop=40.0)
    hits, embedding = reidentification(same, checkpoint, device="cpu")
    assert hits.tolist() == [True] * 12
    assert embedding.shape == (6, 32)
    # Units that swap their patterns halfway find each other, and never themselves.
    halves = [[t[t < 20] for t in trains], [t[t >= 20] for t in trains[1:] + trains[:1]]]
    swapped = Population(range(6), [np.concatenate(pair) for pair in zip(*halves, strict=True)], stop=40.0)
    assert not reidentification(swapped, checkpoint, device="cpu")[0].any()
    hits, embedding = reidentification(same.between(0.0, 12.0), checkpoint, device="cpu")
    assert (len(hits), len(embedding)) == (0, 0)


def test_the_nearest_row_is_found_by_angle():
    rows = np.eye(5) + 0.01
    assert nearest_is_self(rows, 3 * rows).all()
    assert not nearest_is_self(rows, np.roll(rows, 1, axis=0)).any()


def test_rank_me_counts_dimensions(rng):
    assert rank_me(np.outer(rng.standard_normal(200), np.ones(8))) == pytest.approx(1, abs=1e-6)
    assert rank_me(rng.standard_normal((5000, 8))) == pytest.approx(8, abs=0.1)
