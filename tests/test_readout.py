"""Read-outs: linear and kernel maps, their choices, and their files."""

import dataclasses
import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from sklearn.gaussian_process.kernels import RBF
from sklearn.kernel_ridge import KernelRidge

from spikeinterface_nuclr import (
    CheckpointError,
    Decoder,
    InputError,
    Regressor,
    UnitEmbeddings,
    evaluate,
    fit_decoder,
    fit_regressor,
)
from spikeinterface_nuclr.decoding.readout import Basis, choose_of_values

SHA256 = "ab" * 32


def rings(animal: int, n: int = 120) -> tuple[UnitEmbeddings, np.ndarray]:
    """Embeddings of two classes on concentric rings, which no linear map separates."""
    rng = np.random.default_rng(animal)
    inner = np.arange(n) % 2 == 0
    angle = rng.uniform(0, 2 * np.pi, n)
    rows = np.stack([np.cos(angle), np.sin(angle), *rng.normal(0, 0.3, (2, n))], axis=1)
    rows[:, :2] *= np.where(inner, 0.4, 1.0)[:, None] + rng.normal(0, 0.05, (n, 1))
    provenance = {"checkpoint_sha256": SHA256, "source": {"subject": f"animal {animal}"}}
    embeddings = UnitEmbeddings(
        np.arange(n), rows.astype(np.float32), np.full(n, 5), np.ones(n, np.float32), provenance, num_spikes=np.ones(n)
    )
    return embeddings, np.where(inner, "inner", "outer")


@pytest.fixture(scope="module")
def recordings():
    return tuple(map(list, zip(*map(rings, range(4)), strict=True)))


def test_a_kernel_reads_what_no_linear_map_does(recordings):
    scores = {}
    for readout in ("linear", "kernel"):
        evaluation = evaluate(*recordings, readout=readout, shuffles=0, progress=False)
        scores[readout] = evaluation.to_dataframe().loc["embedding", "macro-F1"]
        assert evaluation.provenance["readout"] == readout
        assert f"{readout} read-out" in repr(evaluation)
    assert scores["linear"] < 0.6
    assert scores["kernel"] > 0.95


def test_the_features_of_a_kernel_approximate_it():
    rows = np.random.default_rng(0).normal(3, 2, (300, 5))
    basis = Basis(rows, width=1.0)
    standard = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    expected = RBF(np.sqrt(2 * 5))(standard)  # the typical distance of standardised rows
    np.testing.assert_allclose(basis.features @ basis.features.T / 5, expected, atol=1e-4)


def test_a_ridge_of_the_kernel_is_kernel_ridge_regression():
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 1, (200, 3))
    values = np.sin(2 * rows[:, 0])
    values -= values.mean()
    readout = Basis(rows, width=0.5).values(values, strength=1.0)
    standard = readout.standardised(rows)
    expected = KernelRidge(alpha=1 / 3, kernel="rbf", gamma=1 / (4 * 0.5**2 * 3)).fit(standard, values)
    # The ridge has an intercept in addition.
    np.testing.assert_allclose(readout(rows)[:, 0], expected.predict(standard), atol=0.05)


def test_the_choice_is_made_on_units_left_out():
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 1, (200, 3))
    folds = np.array_split(rng.permutation(200), 4)
    noise = rng.normal(0, 1, 200)
    strength, _, predicted = choose_of_values(rows, noise, folds, "kernel")
    assert strength <= 1e-2  # nothing can be learnt from noise
    assert np.mean((predicted - noise) ** 2) > 0.95 * noise.var()
    _, width, predicted = choose_of_values(rows, np.sin(3 * rows[:, 0]), folds, "kernel")
    assert width == 0.5
    assert np.corrcoef(predicted, np.sin(3 * rows[:, 0]))[0, 1] > 0.6


def test_decoders_with_a_kernel_are_saved_and_loaded(recordings, tmp_path):
    decoder = fit_decoder(*recordings, target="ring", readout="kernel")
    path = decoder.save(tmp_path / "ring.safetensors")
    loaded = Decoder.load(path)
    new, truth = rings(9)
    expected, identities = (d.predict(new, target_error=1) for d in (decoder, loaded))
    np.testing.assert_array_equal(identities.probability, expected.probability)
    assert np.mean(identities.best_label == truth) > 0.95
    assert identities.provenance["readout"] == loaded.card["readout"] == "kernel"
    assert loaded.sha256 == decoder.sha256
    assert fit_decoder(*recordings, target="ring", readout="kernel").sha256 == decoder.sha256


def test_regressors_with_a_kernel_are_saved_and_loaded(recordings, tmp_path):
    embeddings, _ = recordings
    radius = [np.hypot(*e.embedding[:, :2].T) for e in embeddings]
    found = {r: fit_regressor(embeddings, radius, target="radius", readout=r) for r in ("linear", "kernel")}
    assert found["linear"].card["r2_left_out"] < 0.2
    assert found["kernel"].card["r2_left_out"] > 0.9
    loaded = Regressor.load(found["kernel"].save(tmp_path / "radius.safetensors"))
    np.testing.assert_array_equal(loaded.predict(embeddings[0]).value, found["kernel"].predict(embeddings[0]).value)


def test_damaged_kernels_are_refused(recordings, tmp_path):
    path = fit_decoder(*recordings, target="ring", readout="kernel").save(tmp_path / "ring.safetensors")
    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
    arrays = load_file(path)
    name = f"{SHA256}/landmarks"
    for bad in (None, arrays[name][:, :2], arrays[name][:-1], np.full_like(arrays[name], np.nan)):
        damaged = {k: v for k, v in arrays.items() if k != name} | ({} if bad is None else {name: bad})
        save_file({k: np.ascontiguousarray(v) for k, v in damaged.items()}, tmp_path / "bad.safetensors", metadata)
        with pytest.raises(CheckpointError, match=r"bad\.safetensors"):
            Decoder.load(tmp_path / "bad.safetensors")
    widths = json.loads(metadata["nuclr_decoder"])["widths"]
    for bad in ({"other": 1.0}, {SHA256: -1.0}, {SHA256: 1e-200}, {SHA256: 1e9}, {}):
        changed = {k: v.replace(json.dumps(widths), json.dumps(bad)) for k, v in metadata.items()}
        assert changed != metadata
        save_file(arrays, tmp_path / "bad.safetensors", changed)
        with pytest.raises(CheckpointError, match=r"bad\.safetensors"):
            Decoder.load(tmp_path / "bad.safetensors")


@pytest.mark.parametrize("readout", ["linear", "kernel"])
def test_a_recording_in_which_no_unit_is_embedded(recordings, readout):
    embeddings, labels = recordings
    radius = [np.hypot(*e.embedding[:, :2].T) for e in embeddings]
    nothing = dataclasses.replace(embeddings[0], embedding=np.full_like(embeddings[0].embedding, np.nan))
    decoder = fit_decoder(embeddings, labels, target="ring", readout=readout)
    assert set(decoder.predict(nothing).reason) == {"no embedding"}
    regressor = fit_regressor(embeddings, radius, target="radius", readout=readout)
    assert np.isnan(regressor.predict(nothing).value).all()


def test_an_unknown_readout_is_refused(recordings):
    embeddings, labels = recordings
    for call in (evaluate, fit_decoder):
        with pytest.raises(InputError, match="readout must be one of linear, kernel, not 'mlp'"):
            call(embeddings, labels, target="ring", readout="mlp")
