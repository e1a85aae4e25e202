"""Decoders that average over neighbouring units, from every door."""

import numpy as np
import pandas as pd
import pytest
from analyzers import build_analyzer
from nwb_files import add_units, new_nwb, write_nwb_file
from test_decoder import CLASSES, recording

from spikeinterface_nuclr import Decoder, InputError, fit_decoder, read_nwb, simulate_population
from spikeinterface_nuclr.decoding.neighbours import pooled


def animal(name: str, units: int = 90):
    """Embeddings of units whose neighbours are of their class, which a single embedding shows weakly; and depths."""
    embeddings, labels = recording(name, units=units, shift=1.2)
    order = np.argsort(labels, kind="stable")
    depths = np.empty(units)
    depths[order] = 20.0 * np.arange(units)
    return embeddings, labels, depths


@pytest.fixture(scope="module")
def made():
    return [animal(f"m{k}") for k in range(8)]


@pytest.fixture(scope="module")
def decoders(made):
    embeddings, labels, depths = (list(of) for of in zip(*made, strict=True))
    alone = fit_decoder(embeddings, labels, target="region")
    return alone, fit_decoder(embeddings, labels, target="region", positions=depths)


def test_averages_are_those_of_the_evaluation_and_read_more(decoders):
    alone, together = decoders
    embeddings, labels, depths = animal("new")
    single, found = alone.predict(embeddings), together.predict(embeddings, positions=depths)
    expected = pooled(single.probability.astype(float), depths, np.zeros(90))
    np.testing.assert_allclose(found.probability, expected, atol=1e-6)
    right = [np.mean(one.best_label[1:] == labels[1:]) for one in (single, found)]
    assert right[1] > right[0] + 0.1
    np.testing.assert_allclose(found.confidence[1:], found.probability[1:].max(axis=1))
    assert found.label[0] == "unknown"


def test_thresholds_are_chosen_for_the_averages(decoders):
    alone, together = decoders
    assert together.correct.mean() > alone.correct.mean() + 0.1
    labelled = wrong = 0
    for k in range(20):
        embeddings, labels, depths = animal(f"new{k}")
        found = together.predict(embeddings, positions=depths, target_error=0.1)
        labelled += (~found.abstained).sum()
        wrong += (found.label != labels)[~found.abstained].sum()
    assert labelled > 300
    assert wrong / labelled < 0.1


def test_neighbours_on_another_probe_do_not_count(decoders):
    _, together = decoders
    embeddings, _, depths = animal("new")
    apart = together.predict(embeddings, positions=depths, probes=np.arange(90))
    np.testing.assert_allclose(apart.probability, decoders[0].predict(embeddings).probability, atol=1e-6)


def test_it_is_saved_and_asks_for_positions(decoders, tmp_path):
    alone, together = decoders
    loaded = Decoder.load(together.save(tmp_path / "d.safetensors"))
    assert loaded.neighbours
    assert loaded.sha256 == together.sha256
    assert not Decoder.load(alone.save(tmp_path / "a.safetensors")).neighbours
    embeddings, _, depths = animal("new")
    for settings, message in (
        ({}, "averages over neighbouring units: give positions="),
        ({"positions": depths[:3]}, r"positions \(3,\) and probes \(90,\) do not match 90 units"),
        ({"positions": np.full(90, "deep")}, "positions must be numbers, in µm"),
        ({"positions": depths, "probes": ["a"]}, "do not match 90 units"),
    ):
        with pytest.raises(InputError, match=message):
            loaded.predict(embeddings, **settings)
    with pytest.raises(InputError, match="was fitted without positions: leave them out"):
        alone.predict(embeddings, positions=depths)
    with pytest.raises(InputError, match="positions: recording 0 has 3 rows for 90 units"):
        fit_decoder([embeddings] * 2, [np.resize(CLASSES, 90)] * 2, ["a", "b"], target="x", positions=[depths[:3]] * 2)


@pytest.fixture(scope="module")
def fitted(nuclr, mice, tmp_path_factory):
    path = tmp_path_factory.mktemp("fitted") / "area.safetensors"
    nuclr("decoder", "fit", mice, "--label", "cell_type", "--depth", "depth", "--model", mice / "small.safetensors",
          "-o", path, "-q")  # fmt: skip
    return path


def test_commands_take_the_depths_of_the_recording(nuclr, fitted, mice, new_mouse, tmp_path):
    exact = ("--model", mice / "small.safetensors", "--precision", "float32", "-q")
    nuclr("predict", new_mouse, "--decoder", fitted, "-o", tmp_path / "units.csv", *exact)
    nuclr("predict", new_mouse, "--decoder", fitted, "-o", tmp_path / "out.nwb", *exact)
    _, [found] = read_nwb(tmp_path / "out.nwb")
    table = pd.read_csv(tmp_path / "units.csv")
    np.testing.assert_allclose(table["confidence"], found.confidence, atol=1e-4)
    population = simulate_population(12, 60.0, seed=9)
    nwbfile = add_units(new_nwb(), population.spike_times, unit_name=population.unit_ids)
    path = write_nwb_file(tmp_path / "flat.nwb", nwbfile)
    refused = nuclr("predict", path, "--decoder", fitted, "-o", tmp_path / "no.csv", *exact, code=3)
    assert "its units have no property 'depth'" in refused.stderr
    assert "leave it out for numbers" in nuclr("decoder", "fit", mice, "--value", "depth", "--depth", "depth", "-o",
                                               tmp_path / "d.safetensors", code=2).stderr  # fmt: skip


def test_an_analyzer_takes_them_from_unit_locations(fitted, mice):
    analyzer = build_analyzer(simulate_population(12, 60.0, seed=9))
    analyzer.compute("nuclr_embedding", model=mice / "small.safetensors", precision="float32")
    with pytest.raises(InputError, match="compute unit_locations first"):
        analyzer.compute("nuclr_identity", decoder=fitted)
    analyzer.compute(["random_spikes", "templates", "unit_locations"])
    analyzer.compute("nuclr_identity", decoder=fitted)
    found = analyzer.get_extension("nuclr_identity").get_identities()
    embeddings = analyzer.get_extension("nuclr_embedding").get_embeddings()
    locations = analyzer.get_extension("unit_locations").get_data()[:, :2]
    expected = Decoder.load(fitted).predict(embeddings, positions=locations)
    np.testing.assert_allclose(found.probability, expected.probability, atol=1e-6)
    merged = analyzer.merge_units([analyzer.unit_ids[:2].tolist()])
    assert len(merged.get_extension("nuclr_identity").get_identities().unit_ids) == 11
