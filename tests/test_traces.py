"""dF/F, the common scale, and other frame rates."""

import numpy as np
import pytest
from ophys_files import RATE, activity, raw
from scipy.signal import resample

from spikeinterface_nuclr import (
    Checkpoint,
    Encoder,
    EncoderConfig,
    InputError,
    Population,
    embed,
    read_population,
    simulate_fluorescence,
    simulate_population,
)
from spikeinterface_nuclr.traces import delta_f, resampled, scaled


def test_delta_f_undoes_a_neurons_level():
    dff = activity(n_frames=3000)
    found = delta_f(raw(dff), RATE)
    quiet = np.percentile(dff, 8, axis=1, keepdims=True)
    assert np.corrcoef(found.ravel(), dff.ravel())[0, 1] > 0.98
    assert np.abs(np.median(found - (dff - quiet) / (1 + quiet), axis=1)).max() < 0.05
    assert found.dtype == np.float32


def test_delta_f_follows_a_baseline_that_bleaches():
    dff = activity(n_frames=6000)
    bleached = raw(dff) * np.exp(-np.arange(6000) / 6000)
    assert np.abs(delta_f(bleached, RATE) - delta_f(raw(dff), RATE)).mean() < 0.05


def test_a_baseline_that_is_not_positive_is_only_subtracted():
    dff = activity()
    shifted = dff - 5.0
    shifted[0] += 6.0
    found = delta_f(shifted, RATE)
    assert np.allclose(found[1] - found[1].min(), dff[1] - dff[1].min(), atol=0.3)
    assert found[0].std() < found[1].std()  # this one was divided by about 1.06


def test_frames_without_data_stay_so_and_change_nothing_else():
    fluorescence = raw(activity(n_frames=1000))
    gap = fluorescence.copy()
    gap[:, 400:420] = np.nan
    gap[3, 700:] = np.nan
    found, whole = delta_f(gap, RATE), delta_f(np.delete(fluorescence, np.s_[400:420], axis=1), RATE)
    assert np.isnan(found[:, 400:420]).all()
    assert np.isnan(found[3, 700:]).all()
    others = np.delete(np.delete(found, np.s_[400:420], axis=1), 3, axis=0)
    assert np.abs(others - np.delete(whole, 3, axis=0)).max() < 0.02


def test_neurons_share_a_scale():
    dff = activity() * np.arange(12)[:, None]  # the first is silent
    dff[1, :300] = np.nan
    found = scaled(dff)
    assert np.isnan(found[0]).all()
    assert np.allclose(np.nanpercentile(found[1:], 99, axis=1), 1, atol=1e-5)


def sines(frequency, rate, seconds=120.0):
    times = np.arange(round(seconds * rate)) / rate
    return Population(["a"], traces=np.sin(2 * np.pi * frequency * times)[None], sampling_frequency=rate, start=7.0)


@pytest.mark.parametrize(("rate", "to"), [(30.0, 4.2837), (1.36, 1.667), (4.0, 2.0), (2.0, 30.0)])
def test_what_the_slower_rate_can_hold_is_kept(rate, to):
    slow = 0.3 * min(rate, to)
    found, wanted = resampled(sines(slow, rate), to), sines(slow, to)
    length = int(120.0 * rate) * to / rate
    assert found.traces.shape[1] == int(length + 1e-6)
    inner = np.s_[:, int(15 * to) : int(length) - int(15 * to)]
    assert np.abs(found.traces[inner] - wanted.traces[inner]).max() < 0.01
    assert found.start == 7.0
    assert found.stop == pytest.approx(7.0 + found.traces.shape[1] / to)


def test_nothing_is_aliased():
    for fast in (2.6, 5.0, 8.4, 14.0):
        assert np.abs(resampled(sines(fast, 30.0), 4.2837).traces[:, 50:-50]).max() < 0.002


def test_rates_that_are_nearly_equal_are_left_alone():
    population = sines(0.1, 4.0)
    assert resampled(population, 4.03) is population


def test_stretches_are_resampled_apart():
    """A gap's frames, whatever they hold, reach no frame beside it."""
    traces = activity(n_frames=400)
    observed = [[0.0, 30.0], [33.3, 80.0]]
    filled = traces.copy()
    filled[:, 150:166] = 1e6
    found, other = (
        resampled(Population(range(12), traces=t, sampling_frequency=RATE, observed=observed, stop=80.0), 3.0)
        for t in (traces, filled)
    )
    assert np.array_equal(found.traces, other.traces)
    assert found.observed.shape == (2, 2)
    assert np.allclose(found.observed, observed, atol=1 / 3)
    assert (found.observed[:, 0] >= np.array(observed)[:, 0] - 0.1).all()
    grid = found.observed * 3.0
    assert np.allclose(grid, np.round(grid))


@pytest.mark.parametrize("middle", [40.04, 40.1, 40.16])
def test_halves_that_part_within_a_frame(middle):
    whole = Population(range(12), traces=activity(n_frames=401), sampling_frequency=RATE)
    for half in (whole.within([[0.0, middle]]), whole.within([[middle, 80.2]])):
        found = resampled(half, 2.0)
        assert abs(np.ptp(found.observed) - np.ptp(half.observed)) < 1
        assert np.isfinite(found.traces).all()


def test_neurons_keep_their_own_observed_time():
    observed = [[[0.0, 60.0]], [[0.0, 40.0]], [[0.0, 60.0]], np.empty((0, 2))]
    population = Population(range(4), traces=activity(4, 300), sampling_frequency=RATE, observed=observed)
    found = resampled(population, 2.0)
    assert [o.tolist() for o in found.observed] == [np.asarray(o).tolist() for o in observed]
    assert not found.traces[3].any()


@pytest.mark.parametrize("rate", [0.0, -1.0, np.nan, 1e-6])
def test_impossible_rates_are_named(rate):
    with pytest.raises(InputError, match=r"frame_rate must be|shorter than one frame"):
        resampled(sines(0.1, 4.0), rate)


def test_spikes_have_no_frame_rate(population):
    with pytest.raises(InputError, match="only traces have a frame rate"):
        resampled(population, 4.0)


@pytest.fixture(scope="module")
def calcium():
    """A small encoder of traces with random weights, at 2 frames per second."""
    import torch

    torch.manual_seed(0)
    config = EncoderConfig(bin_s=0.5, patch_size=4, num_patches=15, signal="traces", dim=32, heads=2, head_dim=16)
    return Checkpoint(config, Encoder(config).state_dict(), name="random")


def test_embedding_brings_traces_to_the_models_rate(calcium):
    traces = activity(n_frames=1200)
    recorded = Population(range(12), traces=scaled(traces), sampling_frequency=RATE)
    found = embed(recorded, calcium, precision="float32", progress=False)
    assert found.provenance.frame_rate == RATE
    assert found.provenance.resampled_to == 2.0
    assert found.provenance.population_fingerprint == recorded.fingerprint()
    assert found.num_frames.tolist() == [1200] * 12
    assert found.num_spikes is None
    assert (found.num_windows == 8).all()
    by_hand = embed(resampled(recorded, 2.0), calcium, precision="float32", progress=False)
    assert np.array_equal(by_hand.embedding, found.embedding)
    assert by_hand.provenance.resampled_to == by_hand.provenance.frame_rate == 2.0


def other_rates(population, factor):
    """The recording as a slower or faster microscope would have taken it, by Fourier resampling."""
    frames = round(population.traces.shape[1] * factor)
    rate = population.sampling_frequency * frames / population.traces.shape[1]
    traces = resample(population.traces, frames, axis=1)
    return Population(population.unit_ids, traces=traces, sampling_frequency=rate)


def cosines(a, b):
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_the_bundled_model_at_half_and_double_the_rate(factor):
    fluorescence = simulate_fluorescence(simulate_population(20, 300.0), 5.0)
    recorded = read_population(fluorescence, sampling_frequency=5.0, traces="fluorescence")
    found, other = (embed(p, progress=False).embedding for p in (recorded, other_rates(recorded, factor)))
    assert cosines(found, other).min() > 0.95


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the traces have")
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_real_worms_at_half_and_double_the_rate(recordings, factor):
    """Less what all neurons have in common, too: the rate is not what an embedding tells."""
    for path in sorted((recordings / "worm").glob("*.nwb")):
        recorded = read_population(path, series="DfOverF")
        found, other = (embed(p, progress=False).embedding for p in (recorded, other_rates(recorded, factor)))
        assert cosines(found, other).min() > 0.95
        assert np.median(cosines(found - found.mean(axis=0), other - other.mean(axis=0))) > 0.95


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((0, 100)),
        np.zeros((3, 0)),
        np.zeros((3, 100)),
        np.full((3, 100), np.nan),
        np.full((3, 100), 3e38, dtype=np.float32),
        np.full((3, 100), -1e-45, dtype=np.float32),
        np.ones((3, 1)),
        np.arange(300).reshape(3, 100),
        np.tile([np.nan, 1.0, -1.0, 1e30], (3, 25)),
        np.ones((3, 100), dtype=bool).astype(np.uint8),
    ],
    ids=range(10),
)
@pytest.mark.parametrize("rate", [1e-3, 5.0, 1e6])
def test_values_of_any_kind_are_scaled(values, rate, recwarn):
    found = scaled(delta_f(values, rate))
    assert found.shape == values.shape
    assert found.dtype == np.float32
    assert not np.isinf(found).any()
    assert not recwarn.list


def test_results_may_take_the_place_of_what_they_are_made_of():
    fluorescence = raw(activity()).astype(np.float32)
    fluorescence[2, 50:80] = np.nan
    expected = scaled(delta_f(fluorescence, RATE))
    assert scaled(delta_f(fluorescence, RATE, out=fluorescence), out=fluorescence) is fluorescence
    assert np.array_equal(fluorescence, expected, equal_nan=True)


@pytest.mark.parametrize("rate", [401.0, 1e9, 1e300])
def test_rates_that_would_fill_the_memory_are_refused(rate):
    with pytest.raises(InputError, match=r"traces of 4 frames per second cannot be resampled to .*: check their rate"):
        resampled(sines(0.1, 4.0), rate)


@pytest.mark.parametrize("rate", ["4", None, [4.0], np.inf])
def test_rates_that_are_no_numbers_are_named(rate):
    with pytest.raises(InputError, match="frame_rate must be a positive number of frames per second"):
        resampled(sines(0.1, 4.0), rate)


def test_stretches_of_a_frame_or_none():
    observed = [[0.0, 0.2], [0.4, 0.4], [1.0, 1.25], [10.0, 60.0]]
    population = Population(range(4), traces=activity(4, 300), sampling_frequency=RATE, observed=observed, stop=60.0)
    for rate in (2.0, 3.3, 30.0):
        found = resampled(population, rate)
        assert np.isfinite(found.traces).all()
        assert found.observed[-1].tolist() == pytest.approx([10.0, 60.0], abs=1 / rate)
