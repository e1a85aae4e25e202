"""Embeddings and predictions from an NWB file into an analyzer of the same units."""

import dataclasses

import numpy as np
import pytest
import spikeinterface as si
from analyzers import build_analyzer
from nwb_files import add_units, new_nwb, write_nwb_file

from spikeinterface_nuclr import (
    Decoder,
    InputError,
    RecordingWarning,
    compute_nuclr_identity,
    embed,
    fit_regressor,
    load_nuclr,
    read_nwb,
    read_population,
    simulate_population,
    write_nwb,
)
from spikeinterface_nuclr.extensions import computed_embedding, computed_estimate, computed_identity


@pytest.fixture(scope="module")
def population():
    return simulate_population(16, 60.0, seed=500)


@pytest.fixture(scope="module")
def session(population, tmp_path_factory):
    """An NWB file with embeddings, identities and estimates."""
    path = tmp_path_factory.mktemp("nwb") / "session.nwb"
    names = population.unit_ids.astype(str).tolist()
    write_nwb_file(path, add_units(new_nwb(), rounded(population), unit_name=names))
    embeddings = embed(read_population(path), progress=False)
    others = [embed(simulate_population(20, 60.0, seed=k), progress=False) for k in range(3)]
    regressor = fit_regressor(others, [np.arange(20.0)] * 3, ["a", "b", "c"], target="depth_um")
    predictions = [Decoder.load("simulated-cell-type").predict(embeddings), regressor.predict(embeddings)]
    write_nwb(path, embeddings, identities=predictions, in_place=True)
    return path


def rounded(population):
    """Spike times that an analyzer of 20 kHz holds exactly."""
    return [np.unique(np.floor(times * 20_000)) / 20_000 for times in population.spike_times]


@pytest.fixture
def analyzer(population, tmp_path, request):
    format = getattr(request, "param", "memory")
    folder = {"memory": None, "binary_folder": tmp_path / "a", "zarr": tmp_path / "a.zarr"}[format]
    return build_analyzer(
        dataclasses.replace(population, spike_times=rounded(population)), format=format, folder=folder
    )


@pytest.mark.parametrize("analyzer", ["memory", "binary_folder", "zarr"], indirect=True)
def test_everything_arrives_and_is_saved(analyzer, session):
    made = load_nuclr(analyzer, session, publish=True)
    assert [one.extension_name for one in made] == ["nuclr_embedding", "nuclr_identity", "nuclr_estimate"]
    embeddings, [identities, estimates] = read_nwb(session)
    for one in (analyzer, *([si.load_sorting_analyzer(analyzer.folder)] if analyzer.format != "memory" else [])):
        assert computed_embedding(one).stale == computed_identity(one).stale == computed_estimate(one).stale == ""
        np.testing.assert_array_equal(computed_embedding(one).get_data(), embeddings.embedding)
        found = computed_identity(one).get_identities()
        assert found.label.tolist() == identities.label.tolist()
        np.testing.assert_array_equal(found.probability, identities.probability)
        np.testing.assert_array_equal(computed_estimate(one).get_estimates().low, estimates.low)
        assert one.get_sorting_property("nuclr_cell_type").tolist() == identities.label.tolist()
        assert computed_embedding(one).get_embeddings().provenance.checkpoint == "nuclr-starter"
        assert computed_identity(one).params["target_error"] == 0.1


def test_what_arrived_is_used_as_if_computed_here(analyzer, session):
    load_nuclr(analyzer, session)
    before = computed_identity(analyzer).get_identities()
    compute_nuclr_identity(analyzer, "simulated-cell-type")
    assert computed_identity(analyzer).get_identities().label.tolist() == before.label.tolist()
    merged = analyzer.merge_units([analyzer.unit_ids[:2].tolist()])
    assert np.isfinite(computed_embedding(merged).get_data()).all()


def test_an_analyzer_may_hold_fewer_units_in_another_order(analyzer, session):
    part = analyzer.select_units(analyzer.unit_ids[[5, 2, 9]])
    load_nuclr(part, session)
    embeddings, _ = read_nwb(session)
    np.testing.assert_array_equal(computed_embedding(part).get_data(), embeddings.embedding[[5, 2, 9]])
    assert computed_embedding(part).stale == ""


def test_units_that_do_not_fit_are_refused_and_nothing_changes(analyzer, session, population, tmp_path):
    with pytest.raises(InputError, match=r"1 of the analyzer's 16 units, such as x, are not among its embeddings"):
        load_nuclr(build_analyzer(dataclasses.replace(population, unit_ids=["x", *population.unit_ids[1:]])), session)
    other = build_analyzer(population.select(np.arange(16)).within([[0.0, 50.0]]))
    with pytest.raises(InputError, match=r"unit u000 had .* spikes when it was embedded, and has"):
        load_nuclr(other, session)
    assert other.get_loaded_extension_names() == []
    load_nuclr(other, session, allow_stale=True)
    with pytest.warns(RecordingWarning, match="nuclr_embedding is stale: unit u000 had"):
        computed_embedding(other).get_data()
    with pytest.raises(InputError, match="the analyzer has nuclr_embedding already: give overwrite=True"):
        load_nuclr(other, session, allow_stale=True)
    empty = write_nwb_file(tmp_path / "e.nwb", add_units(new_nwb(), rounded(population)))
    with pytest.raises(InputError, match="holds no embeddings"):
        load_nuclr(analyzer, empty)
    with pytest.raises(InputError, match="takes a SortingAnalyzer"):
        load_nuclr(population, session)
