"""write_nwb and read_nwb: what is written, what stays, and what is refused."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import h5py
import numpy as np
import pynwb
import pytest
from analyzers import build_analyzer
from h5tree import differences
from nwb_files import add_units, kill_after, new_nwb, write_nwb_file

import spikeinterface_nuclr.io.nwb.tables
import spikeinterface_nuclr.io.nwb.verifying
from spikeinterface_nuclr import (
    Checkpoint,
    InputError,
    UnitEmbeddings,
    compute_nuclr_embedding,
    embed,
    read_nwb,
    read_population,
    write_nwb,
)

OURS = ("/processing/nuclr", "/specifications/ndx-nuclr")
QUICK = {"precision": "float32", "device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def model(checkpoint, tmp_path_factory):
    return checkpoint.save(tmp_path_factory.mktemp("model") / "small.safetensors")


@pytest.fixture(scope="module")
def original(population, tmp_path_factory):
    """A file with units and other things: references, processed data, a compressed series, trials."""
    nwbfile = new_nwb()
    device = nwbfile.create_device("probe")
    group = nwbfile.create_electrode_group("shank", description="x", location="VISp", device=device)
    for _ in range(4):
        nwbfile.add_electrode(group=group, location="VISp")
    nwbfile.create_processing_module("behavior", "x").add(
        pynwb.TimeSeries(
            name="speed",
            data=pynwb.H5DataIO(np.arange(1000.0), compression="gzip", chunks=(100,)),
            unit="m/s",
            rate=10.0,
        )
    )
    nwbfile.add_trial(start_time=1.0, stop_time=2.0, timeseries=[nwbfile.processing["behavior"]["speed"]])
    columns = dict(unit_name=population.unit_ids, cell_type=population.properties["cell_type"])
    add_units(nwbfile, population.spike_times, **columns)
    return write_nwb_file(tmp_path_factory.mktemp("original") / "session.nwb", nwbfile)


@pytest.fixture
def session(original, tmp_path):
    return Path(shutil.copy(original, tmp_path / "session.nwb"))


@pytest.fixture(scope="module")
def embeddings(original, checkpoint):
    return embed(read_population(original), checkpoint, **QUICK)


@pytest.fixture(scope="module")
def other(original, checkpoint):
    """Embeddings of another model."""
    changed = {key: value * 1.01 for key, value in checkpoint.weights.items()}
    return embed(read_population(original), Checkpoint(checkpoint.config, changed, name="other"), **QUICK)


def same(a, b):
    assert a.unit_ids.tolist() == b.unit_ids.tolist()
    for name in ("embedding", "num_windows", "split_half_similarity", "num_spikes"):
        x, y = getattr(a, name), getattr(b, name)
        assert x.dtype == y.dtype
        assert np.array_equal(x, y, equal_nan=x.dtype.kind == "f")


def only_ours_is_new(before, after):
    gone, new, changed = differences(before, after)
    assert (gone, changed) == ([], [])
    assert all(path.startswith(OURS) for path in new)
    assert any(path.startswith(OURS[0]) for path in new)


# --- what is written --------------------------------------------------------------------------------------------------


def test_a_copy_gets_the_embeddings_and_nothing_else_changes(session, original, embeddings):
    before = session.read_bytes()
    written = write_nwb(session, embeddings)
    assert written == session.with_name("session_nuclr.nwb")
    assert session.read_bytes() == before
    only_ours_is_new(original, written)
    found, identities = read_nwb(written)
    same(found, embeddings)
    assert identities == []
    assert found.provenance.checkpoint_sha256 == embeddings.provenance.checkpoint_sha256
    assert found.provenance.matched_by == "unit_name"
    assert pynwb.validate(path=written) == []
    assert sorted(p.name for p in session.parent.iterdir()) == ["session.nwb", "session_nuclr.nwb"]


def test_in_place_changes_nothing_else(session, original, embeddings):
    assert write_nwb(session, embeddings, in_place=True) == session
    only_ours_is_new(original, session)
    same(read_nwb(session)[0], embeddings)
    assert os.listdir(session.parent) == ["session.nwb"]


def test_an_old_file_stays_old(recordings, checkpoint, tmp_path):
    original = recordings / "formats" / "A8604-211122.nwb"
    session = shutil.copyfile(original, tmp_path / "old.nwb")
    write_nwb(session, model=checkpoint, in_place=True, **QUICK)
    only_ours_is_new(original, session)
    with h5py.File(session) as file:
        assert file.attrs["nwb_version"] == "2.4.0"
        assert list(file["specifications/core"]) == ["2.4.0"]


def test_the_file_says_all_that_is_known(session, embeddings, checkpoint, model):
    write_nwb(session, model=model, in_place=True, **QUICK)
    with pynwb.NWBHDF5IO(session, "r") as io:
        nwbfile = io.read()
        table = nwbfile.processing["nuclr"]["UnitEmbeddings"]
        assert table["neuron"].table is nwbfile.units
        assert table.model.source == "small.safetensors"
        assert str(model.parent) not in table.model.source
        assert table.model.sha256 == checkpoint.sha256
        assert json.loads(table.model.config)["dim"] == 32
        assert table.model.software.startswith("spikeinterface-nuclr ")
        assert table.population_fingerprint == table.units_fingerprint == read_population(nwbfile).fingerprint()
        provenance = json.loads(table.provenance)
        assert provenance["file"] == {
            "identifier": nwbfile.identifier,
            "object_id": nwbfile.object_id,
            "units": nwbfile.units.object_id,
        }
        assert provenance["windows"] == 6
        assert str(session.parent) not in table.provenance
        assert str(model.parent) not in table.provenance


def test_sources(session, population, embeddings, checkpoint, model, tmp_path):
    out = tmp_path / "out.nwb"
    analyzer = build_analyzer(population, format="binary_folder", folder=tmp_path / "analyzer")
    with pytest.raises(InputError, match="holds no nuclr_embedding: compute it first"):
        write_nwb(session, analyzer, out)
    extension = compute_nuclr_embedding(
        analyzer, model=model, precision="float32", torch_device="cpu", progress_bar=False
    )
    saved = embeddings.save(tmp_path / "e.npz")
    phy = shutil.copytree(make_phy(population, tmp_path / "phy"), tmp_path / "phy2")
    for source, options in (
        (analyzer, {}),
        (tmp_path / "analyzer", {}),
        (saved, {}),
        (str(session), {"model": checkpoint, **QUICK}),
        (phy, {"model": checkpoint, **QUICK, "group_by": None}),
    ):
        write_nwb(session, source, out, overwrite=True, match="id" if source == phy else None, **options)
        found = read_nwb(out)[0]
        assert found.embedding.shape == (20, 32)
        if source in (analyzer, tmp_path / "analyzer"):
            assert np.array_equal(found.embedding, extension.get_data())
    with pytest.raises(InputError, match="source is a Population; accepted is"):
        write_nwb(session, population, out, overwrite=True)


def make_phy(population, folder):
    folder.mkdir()
    times = np.concatenate(population.spike_times)
    clusters = np.repeat(np.arange(population.n_units), population.num_spikes)
    order = np.argsort(times, kind="stable")
    np.save(folder / "spike_times.npy", np.round(times[order] * 30_000).astype(np.int64))
    np.save(folder / "spike_clusters.npy", clusters[order].astype(np.int32))
    (folder / "params.py").write_text("sample_rate = 30000.0\n")
    return folder


def test_side_file_of_a_file_that_nobody_may_change(session, original, embeddings, tmp_path):
    session.chmod(0o444)
    side = write_nwb(session, embeddings, tmp_path / "side.nwb", units_only=True)
    same(read_nwb(side)[0], embeddings)
    with pynwb.NWBHDF5IO(original, "r") as a, pynwb.NWBHDF5IO(side, "r") as b:
        before, after = a.read(), b.read()
        assert (after.identifier, after.session_id) == (before.identifier, before.session_id)
        assert after.subject.subject_id == before.subject.subject_id
        assert before.object_id in after.notes
        assert after.session_start_time == before.session_start_time
        assert after.units["unit_name"][:].tolist() == before.units["unit_name"][:].tolist()
        for i in range(len(before.units)):
            assert np.array_equal(after.units["spike_times"][i], before.units["spike_times"][i])
        assert after.trials is None
        assert "behavior" not in after.processing
    assert pynwb.validate(path=side) == []
    assert read_population(side).fingerprint() == read_population(original).fingerprint()


@pytest.mark.filterwarnings("ignore:.*is used as the probe of each unit")
def test_a_side_file_keeps_what_its_units_are_found_by(population, checkpoint, tmp_path):
    columns = dict(cluster=population.unit_ids, unit_name=[f"n{i}" for i in range(20)], group=["a"] * 10 + ["b"] * 10)
    nwbfile = add_units(new_nwb(), population.spike_times, **columns)
    nwbfile.add_invalid_time_interval(start_time=20.0, stop_time=25.0)
    path = write_nwb_file(tmp_path / "s.nwb", nwbfile)
    found = dataclasses.replace(embed(read_population(path), checkpoint, **QUICK), unit_ids=population.unit_ids)
    side = write_nwb(path, found, units_only=True, match="cluster")
    assert side.name == "s_nuclr.nwb"
    same(read_nwb(side)[0], found)
    a, b = read_population(path), read_population(side)
    assert a.fingerprint() == b.fingerprint()
    assert a.context_fingerprint() == b.context_fingerprint()


def test_unit_columns_are_added_when_asked_for(session, original, embeddings):
    write_nwb(session, embeddings.select(np.arange(5, 15)), in_place=True, publish=True)
    gone, new, changed = differences(original, session)
    assert (gone, changed) == ([], ["/units"])
    assert [path for path in new if not path.startswith(OURS)] == [
        "/units/nuclr_split_half_similarity",
        "/units/nuclr_num_windows",
    ]
    properties = read_population(session).properties
    assert properties["nuclr_num_windows"][5:15].tolist() == embeddings.num_windows[5:15].tolist()
    assert (properties["nuclr_num_windows"][:5] == 0).all()
    assert np.isnan(properties["nuclr_split_half_similarity"][15:]).all()
    # Another probe's units get theirs, and the first keep what they have.
    write_nwb(session, embeddings.select(np.arange(5)), in_place=True, publish=True, name="probe1")
    assert (
        read_population(session).properties["nuclr_num_windows"][:15].tolist() == embeddings.num_windows[:15].tolist()
    )
    write_nwb(session, embeddings, in_place=True, publish=True, if_exists="replace")
    assert read_population(session).properties["nuclr_num_windows"].tolist() == embeddings.num_windows.tolist()
    assert pynwb.validate(path=session) == []


def test_files_without_specifications_of_their_own(session, original, embeddings):
    with h5py.File(session, "r+") as file:
        del file["specifications"]
        del file.attrs[".specloc"]
    write_nwb(session, embeddings, in_place=True)
    same(read_nwb(session)[0], embeddings)
    assert reader_without_ndx(session) == embeddings.unit_ids.tolist()


# --- a table that is there already ------------------------------------------------------------------------------------


def test_replacing_leaves_nothing_of_the_old_table(session, original, embeddings, other):
    wide = dataclasses.replace(embeddings, embedding=np.tile(embeddings.embedding, 100))
    for found in (embeddings, wide, other):
        write_nwb(session, found, in_place=True, if_exists="replace")
    same(read_nwb(session)[0], other)
    only_ours_is_new(original, session)
    with pynwb.NWBHDF5IO(session, "r") as io:
        assert sorted(io.read().processing["nuclr"].data_interfaces) == ["NuCLRModel", "UnitEmbeddings"]


def test_without_leave_nothing_is_replaced(session, embeddings, other):
    write_nwb(session, embeddings, in_place=True)
    before = session.read_bytes()
    with pytest.raises(InputError, match="it holds 'UnitEmbeddings' already"):
        write_nwb(session, other, in_place=True)
    assert session.read_bytes() == before


def test_new_names_share_models(session, embeddings, other):
    for found in (embeddings, embeddings, other):
        write_nwb(session, found, in_place=True, if_exists="new_name")
    with pynwb.NWBHDF5IO(session, "r") as io:
        module = io.read().processing["nuclr"]
        names = ["NuCLRModel", "NuCLRModel_2", "UnitEmbeddings", "UnitEmbeddings_2", "UnitEmbeddings_3"]
        assert sorted(module.data_interfaces) == names
        assert module["UnitEmbeddings"].model is module["UnitEmbeddings_2"].model
    with pytest.raises(InputError, match="3 tables of embeddings: give name="):
        read_nwb(session)
    same(read_nwb(session, name="UnitEmbeddings_3")[0], other)
    with pytest.raises(InputError, match="no embeddings 'x', only UnitEmbeddings"):
        read_nwb(session, name="x")
    # The shared model stays with the table that still has it.
    write_nwb(session, other, in_place=True, name="UnitEmbeddings_2", if_exists="replace")
    same(read_nwb(session, name="UnitEmbeddings")[0], embeddings)
    same(read_nwb(session, name="UnitEmbeddings_2")[0], other)


def test_identities_are_read_and_go_with_their_embeddings(session, embeddings, other):
    write_nwb(session, embeddings, in_place=True)
    write_nwb(session, other, in_place=True, name="other")
    from ndx_nuclr.testing.mock import mock_UnitIdentities

    with pynwb.NWBHDF5IO(session, "a") as io:
        nwbfile = io.read()
        mock_UnitIdentities(nwbfile=nwbfile, embeddings=nwbfile.processing["nuclr"]["UnitEmbeddings"])
        io.write(nwbfile)
    found, (identities,) = read_nwb(session, name="UnitEmbeddings")
    assert identities.target == "cell_type"
    assert identities.unit_ids.tolist() == found.unit_ids.tolist()
    assert identities.classes.tolist() == ["excitatory", "inhibitory"]
    assert identities.probability.shape == (20, 2)
    assert set(identities.label) == {"excitatory", "inhibitory", "unknown"}
    assert set(identities.best_label) == {"excitatory", "inhibitory"}
    assert identities.provenance["decoder"] == "mock"
    assert read_nwb(session, name="other")[1] == []
    write_nwb(session, other, in_place=True, if_exists="replace")
    assert read_nwb(session, name="UnitEmbeddings")[1] == []
    same(read_nwb(session, name="other")[0], other)


# --- rows -------------------------------------------------------------------------------------------------------------


def units_file(path, population, trains=None, **columns):
    return write_nwb_file(path, add_units(new_nwb(), population.spike_times if trains is None else trains, **columns))


def test_rows_are_matched_by_name_not_by_place(population, embeddings, tmp_path):
    order = np.random.default_rng(0).permutation(20)
    trains = [population.spike_times[i] for i in order]
    path = units_file(tmp_path / "p.nwb", population, trains, unit_name=population.unit_ids[order])
    write_nwb(path, embeddings, in_place=True)
    with pynwb.NWBHDF5IO(path, "r") as io:
        nwbfile = io.read()
        rows = nwbfile.processing["nuclr"]["UnitEmbeddings"]["neuron"].data[:]
        assert nwbfile.units["unit_name"][:][rows].tolist() == population.unit_ids.tolist()
    same(read_nwb(path)[0], embeddings)


def test_rows_are_matched_by_id_or_by_a_named_column(population, checkpoint, tmp_path):
    numbered = dataclasses.replace(population, unit_ids=np.arange(20))
    found = embed(numbered, checkpoint, **QUICK)
    path = units_file(tmp_path / "a.nwb", population)
    write_nwb(path, found, in_place=True)
    assert read_nwb(path)[0].unit_ids.tolist() == list(range(20))
    path = units_file(tmp_path / "b.nwb", population, unit_name=population.unit_ids, cluster=np.arange(20) + 100)
    with pytest.raises(InputError, match=r"are not in the units table's 'unit_name'.*'id'.*match="):
        write_nwb(path, dataclasses.replace(found, unit_ids=np.arange(20) + 100), in_place=True)
    write_nwb(path, dataclasses.replace(found, unit_ids=np.arange(20) + 100), in_place=True, match="cluster")
    assert read_nwb(path)[0].unit_ids.tolist() == (np.arange(20) + 100).tolist()
    with pytest.raises(InputError, match=r"no column 'clster' to match units by; it has: id, .*cluster"):
        write_nwb(path, found, tmp_path / "c.nwb", match="clster")


def test_a_subset_of_rows_is_fine(session, embeddings):
    part = embeddings.select([7, 2, 11])
    write_nwb(session, part, in_place=True)
    same(read_nwb(session)[0], part)


def wrong_rows(population, embeddings):
    twice = np.array([*population.unit_ids[:19], population.unit_ids[3]])
    fewer = [t[:-1] if i == 4 else t for i, t in enumerate(population.spike_times)]
    misnamed = dataclasses.replace(embeddings, unit_ids=np.array([*embeddings.unit_ids[:19], "u999"]))
    uncounted = dataclasses.replace(embeddings, num_spikes=None)
    return [
        (
            dict(unit_name=twice),
            population.spike_times,
            embeddings,
            "'unit_name' gives several rows one name; 20 of 20",
        ),
        (dict(number=twice), population.spike_times, embeddings.select([3]), "unit u003 occurs more than once"),
        (dict(number=twice), population.spike_times, embeddings, "such as u019, are not in the units table's 'number'"),
        (dict(unit_name=population.unit_ids), fewer, embeddings, "unit u004: it had .* spikes when it was embedded"),
        (dict(unit_name=population.unit_ids), population.spike_times, misnamed, "1 of 20 units, such as u999"),
        (dict(unit_name=population.unit_ids), population.spike_times, embeddings.select([1, 1]), "name a unit twice"),
        (dict(unit_name=population.unit_ids), population.spike_times, uncounted, "do not state how many spikes"),
    ]


@pytest.mark.parametrize("case", range(7))
def test_rows_that_do_not_fit_are_refused(population, embeddings, tmp_path, case):
    columns, trains, found, says = wrong_rows(population, embeddings)[case]
    path = units_file(tmp_path / "s.nwb", population, trains, **columns)
    before = path.read_bytes()
    with pytest.raises(InputError, match=says):
        write_nwb(path, found, in_place=True, match="number" if "number" in columns else None)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["s.nwb"]


def test_several_probes_share_a_units_table(population, checkpoint, tmp_path):
    probes = [population.select(np.arange(10)), population.select(np.arange(10, 20))]
    path = units_file(tmp_path / "s.nwb", population, unit_name=population.unit_ids)
    for k, probe in enumerate(probes):
        write_nwb(path, embed(probe, checkpoint, **QUICK), in_place=True, name=f"probe{k}")
    assert read_nwb(path, name="probe1")[0].unit_ids.tolist() == probes[1].unit_ids.tolist()
    with pynwb.NWBHDF5IO(path, "r") as io:
        assert sorted(io.read().processing["nuclr"].data_interfaces) == ["NuCLRModel", "probe0", "probe1"]


def test_spikes_out_of_observed_time_do_not_count(population, checkpoint, tmp_path):
    nwbfile = add_units(new_nwb(), population.spike_times, unit_name=population.unit_ids)
    nwbfile.add_invalid_time_interval(start_time=20.0, stop_time=25.0)
    path = write_nwb_file(tmp_path / "s.nwb", nwbfile)
    write_nwb(path, model=checkpoint, in_place=True, **QUICK)
    found = read_nwb(path)[0]
    assert (found.num_spikes < population.num_spikes).any()
    # An analyzer knows nothing of invalid times, and counts all of them.
    write_nwb(path, embed(population, checkpoint, **QUICK), in_place=True, if_exists="replace")
    assert read_nwb(path)[0].num_spikes.tolist() == population.num_spikes.tolist()


# --- staleness --------------------------------------------------------------------------------------------------------


def test_stale_embeddings_are_refused_unless_told(session, population, model):
    import spikeinterface.core as si

    analyzer = build_analyzer(population)
    extension = compute_nuclr_embedding(analyzer, model=model, precision="float32", progress_bar=False)
    spikes = analyzer.sorting.to_spike_vector().copy()
    analyzer.sorting = si.NumpySorting(spikes[:-5], analyzer.sampling_frequency, analyzer.unit_ids)
    with pytest.raises(InputError, match="nuclr_embedding is stale: the units' spikes have changed"):
        write_nwb(session, analyzer, in_place=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_nwb(session, analyzer, in_place=True, allow_stale=True)
    found = read_nwb(session)[0]
    assert np.array_equal(found.embedding, extension.data["embedding"])
    assert "spikes have changed" in found.provenance.stale
    with pynwb.NWBHDF5IO(session, "r") as io:
        assert "OUT OF DATE" in io.read().processing["nuclr"]["UnitEmbeddings"].description


def test_a_selection_says_its_context(session, population, model):
    analyzer = build_analyzer(population)
    compute_nuclr_embedding(analyzer, model=model, precision="float32", progress_bar=False)
    write_nwb(session, analyzer.select_units(analyzer.unit_ids[:4]), in_place=True)
    found = read_nwb(session)[0]
    assert found.unit_ids.tolist() == population.unit_ids[:4].tolist()
    assert found.provenance.context == "embedded among 20 units, of which 4 are kept"


# --- a write that cannot be done: one line, nothing lost --------------------------------------------------------------


def refused(path, source, says, **options):
    before = path.read_bytes()
    listed = sorted(os.listdir(path.parent))
    with pytest.raises(InputError, match=says) as caught:
        write_nwb(path, source, **options)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert sorted(os.listdir(path.parent)) == listed


def test_options_without_effect_are_refused(session, embeddings, population, model, tmp_path):
    refused(session, embeddings, "no option is called 'in_plce'", in_plce=True)
    refused(session, embeddings, "model has no effect on embeddings that are computed already", model="other")
    analyzer = build_analyzer(population, format="binary_folder", folder=tmp_path / "analyzer")
    compute_nuclr_embedding(analyzer, model=model, progress_bar=False)
    refused(session, tmp_path / "analyzer", "overlap has no effect", overlap=0.5)
    refused(session, embeddings, "name 'a/b' cannot be that of a table", name="a/b")


def test_requests_that_contradict_themselves(session, embeddings, tmp_path):
    refused(session, embeddings, "leave out output", in_place=True, output=tmp_path / "o.nwb")
    refused(session, embeddings, "is the file itself: give in_place=True", output=session)
    refused(session, embeddings, r"unknown format '\.zarr': use \.nwb", output=tmp_path / "o.zarr")
    refused(session, embeddings, "if_exists must be one of error, replace, new_name", if_exists="append")
    refused(session, embeddings, "no such directory", output=tmp_path / "absent" / "o.nwb")
    (tmp_path / "o.nwb").write_text("precious")
    refused(session, embeddings, "exists already", output=tmp_path / "o.nwb")
    with pytest.raises(InputError, match=r"absent\.nwb: no such file"):
        write_nwb(tmp_path / "absent.nwb", embeddings)
    assert (tmp_path / "o.nwb").read_text() == "precious"


def test_a_read_only_file_is_not_replaced(session, embeddings):
    session.chmod(0o444)
    refused(session, embeddings, "is read-only: name an output", in_place=True)
    assert read_nwb(write_nwb(session, embeddings))[0].embedding.shape == (20, 32)
    # The copy is the user's to change.
    assert session.with_name("session_nuclr.nwb").stat().st_mode & 0o200


def test_permissions_survive(session, embeddings):
    session.chmod(0o640)
    write_nwb(session, embeddings, in_place=True)
    assert session.stat().st_mode & 0o777 == 0o640


def test_a_link_stays_a_link(session, embeddings, tmp_path):
    link = tmp_path / "link.nwb"
    link.symlink_to(session)
    assert write_nwb(link, embeddings, in_place=True) == session
    assert link.is_symlink()
    same(read_nwb(session)[0], embeddings)


HOLD = "import h5py, sys, time\nf = h5py.File(sys.argv[1], sys.argv[2])\nprint('open', flush=True)\ntime.sleep(60)"


@pytest.mark.parametrize(("mode", "options"), [("r+", {"in_place": True}), ("r", {"in_place": True}), ("r+", {})])
def test_a_file_that_another_process_holds_open(session, embeddings, mode, options):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, session, mode], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "open\n"
        refused(session, embeddings, "is open in another program, or here: close it first", **options)
        if mode == "r+":
            with pytest.raises(InputError, match="is open for writing in another program"):
                read_nwb(session)
    finally:
        holder.kill()
        holder.wait()
    write_nwb(session, embeddings, **options)


def test_a_file_that_was_changed_meanwhile_is_not_written_over(session, embeddings, other, monkeypatch):
    # Another writer is done while this one is about to replace the file.
    theirs = write_nwb(session, other)
    check = spikeinterface_nuclr.io.nwb.verifying.check_read_back

    def meanwhile(*arguments):
        os.replace(theirs, session)
        check(*arguments)

    monkeypatch.setattr(spikeinterface_nuclr.io.nwb.verifying, "check_read_back", meanwhile)
    with pytest.raises(InputError, match="was changed meanwhile by another program: write again"):
        write_nwb(session, embeddings, in_place=True, name="ours")
    same(read_nwb(session)[0], other)
    assert os.listdir(session.parent) == ["session.nwb"]


def test_a_file_that_is_only_read_elsewhere_can_be_copied(session, embeddings):
    with pynwb.NWBHDF5IO(session, "r") as io:
        io.read()
        same(read_nwb(write_nwb(session, embeddings))[0], embeddings)


FULL = """
import resource, signal, sys
from spikeinterface_nuclr import UnitEmbeddings, write_nwb
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
session, saved, limit = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
try:
    write_nwb(session, UnitEmbeddings.load(saved), in_place=True)
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_disk_that_fills_up(session, embeddings, share, tmp_path):
    # The system refuses to let any file grow beyond the limit: while copying, and while appending.
    before = session.read_bytes()
    saved = embeddings.save(tmp_path / "e.npz")
    limit = int(len(before) * share) + 2000
    done = subprocess.run([sys.executable, "-c", FULL, session, saved, str(limit)], capture_output=True, text=True)
    assert done.stdout.startswith("InputError"), done.stdout + done.stderr
    assert "could not be written" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert session.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["e.npz", "session.nwb"]


def test_a_disk_without_room_is_seen_beforehand(session, embeddings, monkeypatch):
    usage = shutil.disk_usage(session)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=1000))
    refused(session, embeddings, "MB are needed in .*, 0 MB are free", in_place=True)


def test_links_to_files_beside_it_are_not_broken(session, embeddings, tmp_path):
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file["data"] = np.arange(5)
    with h5py.File(session, "r+") as file:
        file["acquisition/linked"] = h5py.ExternalLink("raw.h5", "/data")
    (tmp_path / "elsewhere").mkdir()
    refused(session, embeddings, "points to raw.h5 beside it", output=tmp_path / "elsewhere" / "o.nwb")
    with h5py.File(write_nwb(session, embeddings)) as file:
        assert file["acquisition/linked"][:].tolist() == list(range(5))


def test_a_copy_that_would_differ_elsewhere_is_thrown_away(session, embeddings, monkeypatch):
    # What a fault of ours, or of the libraries below, would do.
    append = spikeinterface_nuclr.io.nwb.tables.append
    place = "units/spike_times"

    def and_more(path, *arguments):
        new = append(path, *arguments)
        with h5py.File(path, "r+") as file:
            file[place][0] += 1
        return new

    monkeypatch.setattr(spikeinterface_nuclr.io.nwb.tables, "append", and_more)
    refused(session, embeddings, "would differ at /units/spike_times", in_place=True)
    monkeypatch.undo()
    write_nwb(session, embeddings, in_place=True)
    # Other tables of the module are not ours to change either.
    monkeypatch.setattr(spikeinterface_nuclr.io.nwb.tables, "append", and_more)
    place = "processing/nuclr/UnitEmbeddings/num_windows"
    refused(session, embeddings, f"would differ at /{place}", in_place=True, name="another")


def test_embeddings_of_unknown_origin_are_refused(session, embeddings):
    refused(session, dataclasses.replace(embeddings, provenance={}), "provenance has no 'checkpoint'", in_place=True)


def test_a_damaged_file_is_refused(session, embeddings):
    session.write_bytes(session.read_bytes()[:5000])
    refused(session, embeddings, "not a readable NWB file", in_place=True)


def test_a_file_without_embeddings_says_so(session):
    with pytest.raises(InputError, match="holds no embeddings: write some with nuclr embed"):
        read_nwb(session)


# --- killed at any moment ---------------------------------------------------------------------------------------------

KILLED = """
import sys
from spikeinterface_nuclr import UnitEmbeddings, read_nwb, write_nwb
import pynwb, ndx_nuclr
found = UnitEmbeddings.load(sys.argv[2])
print('ready', flush=True)
write_nwb(sys.argv[1], found, in_place=True, if_exists="replace")
print('done', flush=True)
"""


@pytest.mark.parametrize("replaced", [False, True], ids=["first", "replacing"])
def test_a_kill_leaves_the_old_file_or_the_new_one(session, embeddings, other, replaced, tmp_path, rng):
    saved = other.save(tmp_path / "e.npz")
    if replaced:
        write_nwb(session, embeddings, in_place=True)
    before = session.read_bytes()
    taken = _time_of_a_write(session, saved)
    same(read_nwb(session)[0], other)
    outcomes = []
    for moment in rng.uniform(0, 1.1 * taken, 20):
        session.write_bytes(before)
        kill_after(moment, KILLED, session, saved)
        new = session.read_bytes() != before
        outcomes.append(new)
        if new:
            same(read_nwb(session)[0], other)
            assert pynwb.validate(path=session) == []
        elif replaced:
            same(read_nwb(session)[0], embeddings)
        assert read_population(session).n_units == 20
    assert not all(outcomes)
    # What the killed ones left behind is cleared away by the next.
    session.write_bytes(before)
    write_nwb(session, other, in_place=True, if_exists="replace")
    assert sorted(os.listdir(tmp_path)) == ["e.npz", "session.nwb"]


def _time_of_a_write(session, saved):
    import time

    with subprocess.Popen([sys.executable, "-c", KILLED, session, saved], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "ready\n"
        began = time.perf_counter()
        assert writer.stdout.readline() == "done\n"
        return time.perf_counter() - began


# --- without ndx-nuclr ------------------------------------------------------------------------------------------------

READER = """
import sys, importlib.abc
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('ndx_nuclr', 'spikeinterface_nuclr'):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import json, numpy, pynwb
with pynwb.NWBHDF5IO(sys.argv[1], 'r') as io:
    nwbfile = io.read()
    table = nwbfile.processing['nuclr']['UnitEmbeddings']
    units = table['neuron'].table
    assert units is nwbfile.units
    rows = table['neuron'].data[:]
    assert table['embedding'][:].ndim == 2 and table.model.sha256
    for row, count in zip(rows, table['num_spikes'][:]):
        assert len(units['spike_times'][int(row)]) == count
    names = units['unit_name'][:] if 'unit_name' in units.colnames else units.id[:]
    print(json.dumps([str(names[row]) for row in rows]))
"""


def reader_without_ndx(path):
    done = subprocess.run([sys.executable, "-c", READER, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_plain_pynwb_finds_each_unit(session, embeddings):
    write_nwb(session, embeddings, in_place=True)
    assert reader_without_ndx(session) == embeddings.unit_ids.tolist()


def test_reading_does_not_register_the_namespace(session, embeddings):
    write_nwb(session, embeddings, in_place=True)
    code = (
        "import sys, spikeinterface_nuclr as n\n"
        f"n.read_nwb({str(session)!r})\n"
        "assert 'ndx_nuclr' not in sys.modules\n"
        "import pynwb\n"
        "assert 'ndx-nuclr' not in pynwb.available_namespaces()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- real files -------------------------------------------------------------------------------------------------------

REAL = ["human/*/*.nwb", "steinmetz/*/*.nwb", "formats/A8604-211122.nwb"]


@pytest.mark.parametrize("pattern", REAL, ids=[pattern.partition("/")[0] for pattern in REAL])
def test_real_files(recordings, checkpoint, pattern, tmp_path):
    original = sorted(recordings.glob(pattern))[0]
    session = shutil.copyfile(original, tmp_path / "session.nwb")
    faults = inspected(session)
    write_nwb(session, model=checkpoint, in_place=True, **QUICK)
    only_ours_is_new(original, session)
    assert pynwb.validate(path=session) == []
    new = inspected(session) - faults
    assert {check for check, _, _ in new} <= {"check_processing_module_name"}
    population, found = read_population(original), read_nwb(session)[0]
    assert reader_without_ndx(session) == population.unit_ids.astype(str).tolist()
    same(found, dataclasses.replace(embed(population, checkpoint, **QUICK), unit_ids=found.unit_ids))
    still_read(original, session)


def inspected(path):
    """What nwbinspector says of a file: check, object and importance."""
    from nwbinspector import inspect_nwbfile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {(m.check_function_name, m.location, m.importance.name) for m in inspect_nwbfile(nwbfile_path=path)}


def still_read(original, session):
    """SpikeInterface and neo read the units as before."""
    from spikeinterface.extractors import read_nwb_sorting

    a, b = (read_nwb_sorting(path, sampling_frequency=16384.0, t_start=0.0) for path in (original, session))
    assert a.unit_ids.tolist() == b.unit_ids.tolist()
    assert np.array_equal(a.to_spike_vector(), b.to_spike_vector())
    assert read_by_neo(session) == read_by_neo(original)


def read_by_neo(path):
    """Spikes of each train; or what neo, which wants one observed interval for each unit, says against the file."""
    import neo

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            (block,) = neo.NWBIO(str(path), mode="r").read_all_blocks()
        except (KeyError, NotImplementedError) as error:
            return repr(error)
    return [train.shape for segment in block.segments for train in segment.spiketrains]


def test_neo_reads_the_units_as_before(population, embeddings, tmp_path):
    nwbfile = new_nwb()
    nwbfile.add_unit_column("unit_name", "x")
    for unit, times in zip(population.unit_ids, population.spike_times, strict=True):
        nwbfile.add_unit(spike_times=times, obs_intervals=[[0.0, 60.0]], unit_name=unit)
    path = write_nwb_file(tmp_path / "s.nwb", nwbfile)
    before = read_by_neo(shutil.copy(path, tmp_path / "before.nwb"))  # neo leaves it open
    write_nwb(path, embeddings, in_place=True)
    assert read_by_neo(path) == before
    assert before == [(count,) for count in population.num_spikes]


def test_embeddings_loaded_from_a_file_are_as_good(session, embeddings, tmp_path):
    write_nwb(session, UnitEmbeddings.load(embeddings.save(tmp_path / "e.npz")), in_place=True)
    same(read_nwb(session)[0], embeddings)
