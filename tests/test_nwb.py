"""write_nwb and read_nwb: what is written, what stays, and what is refused."""

import dataclasses
import json
import os
import pkgutil
import shutil
import signal
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
from nwb_files import add_units, in_child, kill_after, new_nwb, read_plainly, write_nwb_file

import spikeinterface_nuclr.io.nwb.tables
import spikeinterface_nuclr.io.nwb.verifying
from spikeinterface_nuclr import (
    Checkpoint,
    InputError,
    compute_nuclr_embedding,
    embed,
    read_nwb,
    read_population,
    write_nwb,
)
from spikeinterface_nuclr.provenance import Provenance

OURS = ("/processing/nuclr", "/specifications/ndx-nuclr")
QUICK = {"precision": "float32", "device": "cpu", "progress": False}


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
def with_table(original, embeddings, tmp_path_factory):
    """The original with the embeddings."""
    path = shutil.copy(original, tmp_path_factory.mktemp("embedded") / "embedded.nwb")
    return write_nwb(path, embeddings, in_place=True)


@pytest.fixture
def embedded(with_table, tmp_path):
    return Path(shutil.copy(with_table, tmp_path / "embedded.nwb"))


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


def test_in_place_changes_nothing_else(with_table, original, embeddings):
    only_ours_is_new(original, with_table)
    same(read_nwb(with_table)[0], embeddings)
    assert os.listdir(with_table.parent) == [with_table.name]


@pytest.mark.slow
def test_an_old_file_stays_old(recordings, checkpoint, tmp_path):
    original = recordings / "formats" / "A8604-211122.nwb"
    session = shutil.copyfile(original, tmp_path / "old.nwb")
    write_nwb(session, embed(read_population(session), checkpoint, **QUICK), in_place=True)
    only_ours_is_new(original, session)
    with h5py.File(session) as file:
        assert file.attrs["nwb_version"] == "2.4.0"
        assert list(file["specifications/core"]) == ["2.4.0"]


def test_the_file_says_all_that_is_known(session, checkpoint, model):
    write_nwb(session, embed(read_population(session), model, **QUICK), in_place=True)
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


@pytest.fixture(scope="module")
def analyzer(population, model, tmp_path_factory):
    """A saved analyzer with embeddings."""
    folder = tmp_path_factory.mktemp("analyzer") / "analyzer"
    analyzer = build_analyzer(population, format="binary_folder", folder=folder)
    compute_nuclr_embedding(analyzer, model=model, precision="float32", torch_device="cpu", progress_bar=False)
    return analyzer


def test_results_of_every_kind_are_written(session, analyzer, embeddings, tmp_path):
    saved = embeddings.save(tmp_path / "e.npz")
    expected = analyzer.get_extension("nuclr_embedding").get_data()
    for source in (analyzer, analyzer.folder):
        written = write_nwb(session, source, tmp_path / "out.nwb", overwrite=True)
        assert np.array_equal(read_nwb(written)[0].embedding, expected)
    same(read_nwb(write_nwb(session, str(saved), tmp_path / "out.nwb", overwrite=True))[0], embeddings)


def test_what_holds_no_results_is_refused(session, population, tmp_path):
    empty = build_analyzer(population, format="binary_folder", folder=tmp_path / "empty")
    recording = tmp_path / "phy"
    recording.mkdir()
    refused(session, empty, "holds no nuclr_embedding: compute it first")
    refused(session, tmp_path / "empty", "empty: holds no nuclr_embedding: compute it first")
    for source in (str(session), recording):
        refused(session, source, f"{source}: holds no results: embed it first")
    refused(session, tmp_path / "absent.npz", r"absent\.npz: no such file")
    refused(session, tmp_path / "absent", "absent: no such file or folder")
    refused(session, population, "source is a Population; accepted is a SortingAnalyzer, UnitEmbeddings")


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
        "/units/nuclr_num_windows",
        "/units/nuclr_split_half_similarity",
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


# --- a table that is there already ------------------------------------------------------------------------------------


def test_replacing_leaves_nothing_of_the_old_table(embedded, original, embeddings, other):
    wide = dataclasses.replace(embeddings, embedding=np.tile(embeddings.embedding, 100))
    for found in (wide, other):
        write_nwb(embedded, found, in_place=True, if_exists="replace")
    same(read_nwb(embedded)[0], other)
    only_ours_is_new(original, embedded)
    with pynwb.NWBHDF5IO(embedded, "r") as io:
        assert sorted(io.read().processing["nuclr"].data_interfaces) == ["NuCLRModel", "UnitEmbeddings"]


def test_nothing_is_replaced_unless_asked(embedded, other):
    before = embedded.read_bytes()
    with pytest.raises(InputError, match="it holds 'UnitEmbeddings' already"):
        write_nwb(embedded, other, in_place=True)
    assert embedded.read_bytes() == before


@pytest.mark.slow
def test_new_names_share_models(embedded, embeddings, other):
    for found in (embeddings, other):
        write_nwb(embedded, found, in_place=True, if_exists="new_name")
    with pynwb.NWBHDF5IO(embedded, "r") as io:
        module = io.read().processing["nuclr"]
        names = ["NuCLRModel", "NuCLRModel_2", "UnitEmbeddings", "UnitEmbeddings_2", "UnitEmbeddings_3"]
        assert sorted(module.data_interfaces) == names
        assert module["UnitEmbeddings"].model is module["UnitEmbeddings_2"].model
    with pytest.raises(InputError, match="3 tables of embeddings: give name="):
        read_nwb(embedded)
    same(read_nwb(embedded, name="UnitEmbeddings_3")[0], other)
    with pytest.raises(InputError, match="no embeddings 'x', only UnitEmbeddings"):
        read_nwb(embedded, name="x")
    # The shared model stays with the table that still has it.
    write_nwb(embedded, other, in_place=True, name="UnitEmbeddings_2", if_exists="replace")
    same(read_nwb(embedded, name="UnitEmbeddings")[0], embeddings)
    same(read_nwb(embedded, name="UnitEmbeddings_2")[0], other)


def test_identities_are_read_and_go_with_their_embeddings(embedded, other):
    write_nwb(embedded, other, in_place=True, name="other")
    from ndx_nuclr.testing.mock import mock_UnitIdentities

    with pynwb.NWBHDF5IO(embedded, "a") as io:
        nwbfile = io.read()
        mock_UnitIdentities(nwbfile=nwbfile, embeddings=nwbfile.processing["nuclr"]["UnitEmbeddings"])
        io.write(nwbfile)
    found, (identities,) = read_nwb(embedded, name="UnitEmbeddings")
    assert identities.target == "cell_type"
    assert identities.unit_ids.tolist() == found.unit_ids.tolist()
    assert identities.classes.tolist() == ["excitatory", "inhibitory"]
    assert identities.probability.shape == (20, 2)
    assert set(identities.label) == {"excitatory", "inhibitory", "unknown"}
    assert set(identities.best_label) == {"excitatory", "inhibitory"}
    assert identities.provenance["decoder"] == "mock"
    assert read_nwb(embedded, name="other")[1] == []
    write_nwb(embedded, other, in_place=True, if_exists="replace")
    assert read_nwb(embedded, name="UnitEmbeddings")[1] == []
    same(read_nwb(embedded, name="other")[0], other)


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
    write_nwb(path, embed(read_population(path), checkpoint, **QUICK), in_place=True)
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


def test_a_selection_says_its_context(session, population, analyzer):
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


def test_requests_that_contradict_themselves(session, embeddings, tmp_path):
    refused(session, embeddings, "leave out output", in_place=True, output=tmp_path / "o.nwb")
    refused(session, embeddings, "is the file itself: give in_place=True", output=session)
    refused(session, embeddings, r"unknown format '\.zarr': use \.nwb", output=tmp_path / "o.zarr")
    refused(session, embeddings, "name 'a/b' is not a valid name of a table", name="a/b")
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


@pytest.mark.parametrize(("mode", "requests"), [("r+", [{}, {"in_place": True}]), ("r", [{"in_place": True}])])
def test_a_file_that_another_process_holds_open(session, embeddings, mode, requests):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, session, mode], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "open\n"
        for options in requests:
            refused(session, embeddings, "is open in another program, or here: close it first", **options)
        if mode == "r+":
            with pytest.raises(InputError, match="is open for writing in another program"):
                read_nwb(session)
    finally:
        holder.kill()
        holder.wait()


def test_a_file_that_was_changed_meanwhile_is_not_written_over(session, embeddings, other, monkeypatch):
    # Another writer is done while this one is about to replace the file.
    theirs = write_nwb(session, other)
    check = spikeinterface_nuclr.io.nwb.verifying.check_read_back

    def meanwhile(*arguments):
        os.replace(theirs, session)
        check(*arguments)

    monkeypatch.setattr(spikeinterface_nuclr.io.nwb.verifying, "check_read_back", meanwhile)
    with pytest.raises(InputError, match="was changed by another program in the meantime: write again"):
        write_nwb(session, embeddings, in_place=True, name="ours")
    same(read_nwb(session)[0], other)
    assert os.listdir(session.parent) == ["session.nwb"]


def test_a_file_that_is_only_read_elsewhere_can_be_copied(session, embeddings):
    with pynwb.NWBHDF5IO(session, "r") as io:
        io.read()
        same(read_nwb(write_nwb(session, embeddings))[0], embeddings)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("share", [0.5, 1.0], ids=["while copying", "while appending"])
def test_a_disk_that_fills_up(session, embeddings, share):
    """The system refuses to let any file of a child process grow beyond a limit."""
    import resource

    before = session.read_bytes()
    limit = int(len(before) * share) + 2000

    def write():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        write_nwb(session, embeddings, in_place=True)

    code, error = in_child(write)
    assert session.read_bytes() == before
    if code == -signal.SIGSEGV and h5py.version.hdf5_version_tuple < (2, 0, 0):
        pytest.skip("HDF5 1.14 crashes when it cannot write what is left on closing a file")
    assert code == 1
    assert error.startswith(f"InputError: {session}: could not be written (")
    assert len(error.splitlines()) == 1
    assert os.listdir(session.parent) == ["session.nwb"]


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
    unknown = dataclasses.replace(embeddings, provenance=Provenance())
    refused(session, unknown, "provenance has no 'checkpoint'", in_place=True)


def test_a_damaged_file_is_refused(session, embeddings):
    session.write_bytes(session.read_bytes()[:5000])
    refused(session, embeddings, "not a readable NWB file", in_place=True)


def test_a_file_without_embeddings_says_so(session):
    with pytest.raises(InputError, match="holds no embeddings: write some with nuclr embed"):
        read_nwb(session)


# --- killed at any moment ---------------------------------------------------------------------------------------------

MOMENTS = {  # of a write: a function that it calls, and how much of its work this one does before the process stops
    "while it copies": ("shutil:copyfile", "half"),
    "after it appends": ("spikeinterface_nuclr.io.nwb.tables:append", "all"),
    "before the copy is on the disk": ("os:fsync", "none"),
    "before the swap": ("os:replace", "none"),
    "after the swap": ("os:replace", "all"),
}


def stop_at(moment, monkeypatch, stop):
    """Let stop() be called at this moment."""
    place, part = MOMENTS[moment]
    function = pkgutil.resolve_name(place)

    def stopping(*arguments, **options):
        if part == "half":
            source, target = arguments
            Path(target).write_bytes(Path(source).read_bytes()[:20_000])
        elif part == "all":
            function(*arguments, **options)
        stop()

    monkeypatch.setattr(place.replace(":", "."), stopping)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_kill_leaves_the_old_file_or_the_new_one(embedded, other, monkeypatch):
    before = embedded.read_bytes()

    def write(moment):
        stop_at(moment, monkeypatch, lambda: os._exit(9))
        write_nwb(embedded, other, in_place=True, if_exists="replace")

    for moment in MOMENTS:
        code, _ = in_child(write, moment)
        assert code == 9
        if moment == "after the swap":
            same(read_nwb(embedded)[0], other)
            assert pynwb.validate(path=embedded) == []
        else:
            assert embedded.read_bytes() == before
            assert len(os.listdir(embedded.parent)) > 1  # what the next write removes
    write_nwb(embedded, other, in_place=True, if_exists="replace")
    assert os.listdir(embedded.parent) == [embedded.name]


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_interrupt_leaves_nothing_behind(session, embeddings, moment, monkeypatch):
    before = session.read_bytes()

    def interrupt():
        raise KeyboardInterrupt

    stop_at(moment, monkeypatch, interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_nwb(session, embeddings, in_place=True)
    monkeypatch.undo()
    assert os.listdir(session.parent) == ["session.nwb"]
    if moment == "after the swap":
        same(read_nwb(session)[0], embeddings)
    else:
        assert session.read_bytes() == before


KILLED = """
import sys
from spikeinterface_nuclr import UnitEmbeddings, write_nwb
import pynwb, ndx_nuclr
found = UnitEmbeddings.load(sys.argv[2])
print('ready', flush=True)
write_nwb(sys.argv[1], found, in_place=True, if_exists="replace")
"""


@pytest.mark.slow
def test_kills_at_random_moments_leave_the_old_file_or_the_new_one(embedded, embeddings, other, tmp_path, rng):
    saved = other.save(tmp_path / "e.npz")
    before = embedded.read_bytes()
    for moment in rng.uniform(0, 3.0, 10):
        embedded.write_bytes(before)
        kill_after(moment, KILLED, embedded, saved)
        same(read_nwb(embedded)[0], embeddings if embedded.read_bytes() == before else other)
        assert read_population(embedded).n_units == 20


# --- without ndx-nuclr ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_reading_does_not_register_the_namespace(embedded):
    code = (
        "import sys, spikeinterface_nuclr as n\n"
        f"n.read_nwb({str(embedded)!r})\n"
        "assert 'ndx_nuclr' not in sys.modules\n"
        "import pynwb\n"
        "assert 'ndx-nuclr' not in pynwb.available_namespaces()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- real files -------------------------------------------------------------------------------------------------------

REAL = ["human/*/*.nwb", "steinmetz/*/*.nwb", "formats/A8604-211122.nwb"]


@pytest.mark.slow
@pytest.mark.parametrize("pattern", REAL, ids=[pattern.partition("/")[0] for pattern in REAL])
def test_real_files(recordings, checkpoint, pattern, tmp_path):
    original = sorted(recordings.glob(pattern))[0]
    session = shutil.copyfile(original, tmp_path / "session.nwb")
    faults = inspected(session)
    write_nwb(session, embed(read_population(session), checkpoint, **QUICK), in_place=True)
    only_ours_is_new(original, session)
    assert pynwb.validate(path=session) == []
    new = inspected(session) - faults
    assert {check for check, _, _ in new} <= {"check_processing_module_name"}
    population, found = read_population(original), read_nwb(session)[0]
    assert read_plainly(session) == [[population.unit_ids.astype(str).tolist(), {}]]
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
