"""Identities beside the embeddings in an NWB file: analyzer -> NWB -> plain pynwb -> pandas, unchanged."""

import dataclasses
import shutil
from pathlib import Path

import h5py
import numpy as np
import pynwb
import pytest
from analyzers import build_analyzer
from nwb_files import add_units, new_nwb, read_plainly, write_nwb_file

from spikeinterface_nuclr import (
    Identities,
    InputError,
    compute_nuclr_identity,
    embed,
    fit_decoder,
    read_nwb,
    simulate_population,
    write_nwb,
)

QUICK = {"precision": "float32", "device": "cpu", "progress": False}
STRANGE_OF = {"fast": "Na+", "bursting": "α", "regular": "fast spiking"}
STRANGE = np.array(["NA", "", "α", "fast spiking", "nan"])


@pytest.fixture(scope="module")
def population():
    return simulate_population(12, 60.0, seed=9)


@pytest.fixture(scope="module")
def original(population, tmp_path_factory):
    nwbfile = add_units(new_nwb(), population.spike_times, unit_name=population.unit_ids)
    return write_nwb_file(tmp_path_factory.mktemp("original") / "session.nwb", nwbfile)


@pytest.fixture
def session(original, tmp_path):
    return Path(shutil.copy(original, tmp_path / "session.nwb"))


@pytest.fixture(scope="module")
def embeddings(population, checkpoint):
    return embed(population, checkpoint, **QUICK)


@pytest.fixture(scope="module")
def with_identities(original, embeddings, tmp_path_factory):
    """The original with embeddings and the identities of `predicted`."""
    path = shutil.copy(original, tmp_path_factory.mktemp("predicted") / "session.nwb")
    return write_nwb(path, embeddings, identities=predicted(embeddings), in_place=True)


@pytest.fixture
def predicted_session(with_identities, tmp_path):
    return Path(shutil.copy(with_identities, tmp_path / "session.nwb"))


def predicted(embeddings, target="cell_type", classes=STRANGE) -> Identities:
    rng = np.random.default_rng(0)
    n, k = len(embeddings.unit_ids), len(classes)
    probability = rng.dirichlet(np.ones(k), n).astype(np.float32)
    probability[1] = np.nan
    label = np.where(np.arange(n) == 1, "", classes[np.nan_to_num(probability).argmax(axis=1)])
    label[2:7] = classes  # every one of them occurs
    reason = np.resize(["", "no embedding", "low confidence", "novel"], n)
    provenance = {
        "decoder": "/somewhere/cell_type.safetensors", "decoder_sha256": "d" * 64, "target_error": 0.1,
        "checkpoint_sha256": [embeddings.provenance.checkpoint_sha256],
        "population_fingerprint": embeddings.provenance.population_fingerprint,
    }  # fmt: skip
    novelty = rng.random(n).astype(np.float32)
    return Identities(
        target, embeddings.unit_ids, classes, label, probability, probability.max(axis=1), reason, provenance,
        novelty,
    )  # fmt: skip


def assert_same(found: Identities, want: Identities):
    for name in ("target", "unit_ids", "classes", "best_label", "probability", "confidence", "reason", "novelty"):
        a, b = np.asarray(getattr(found, name)), np.asarray(getattr(want, name))
        np.testing.assert_array_equal(a, b)
        assert a.dtype.kind == b.dtype.kind
        if a.dtype.kind != "U":
            assert a.dtype == b.dtype


def table_of(path, name):
    """The table as pandas gives it, and its classes, read with pynwb alone."""
    with pynwb.NWBHDF5IO(path, "r") as io:
        table = io.read().processing["nuclr"][name]
        frame = table.to_dataframe()
        return frame, [str(one) for one in table.classes[:]], table.target, table.embeddings.name


def test_strange_labels_come_back_from_plain_pynwb(predicted_session, embeddings):
    want = predicted(embeddings)
    frame, classes, target, table = table_of(predicted_session, "cell_type")
    assert classes == STRANGE.tolist()
    assert (target, table) == ("cell_type", "UnitEmbeddings")
    for name in ("label", "best_label", "reason"):
        assert frame[name].tolist() == getattr(want, name).tolist()
    for name in ("confidence", "novelty"):
        values = frame[name].to_numpy()
        np.testing.assert_array_equal(values, getattr(want, name))
        assert values.dtype == getattr(want, name).dtype
    probability = np.stack(frame["probability"].to_numpy())
    np.testing.assert_array_equal(probability, want.probability)
    assert probability.dtype == np.float32
    _, [found] = read_nwb(predicted_session)
    assert_same(found, want)
    assert found.provenance["decoder"] == "cell_type.safetensors"  # a name, not a path
    assert found.provenance["decoder_sha256"] == "d" * 64
    assert found.provenance["target_error"] == 0.1


def test_an_analyzer_brings_its_identities(session, population, checkpoint, tmp_path):
    model = checkpoint.save(tmp_path / "small.safetensors")
    simulated = [simulate_population(30, 60.0, seed=k) for k in range(3)]
    decoder = fit_decoder(
        [embed(one, model, **QUICK) for one in simulated],
        [np.vectorize(STRANGE_OF.get)(one.properties["cell_type"]) for one in simulated],
        ["a", "b", "c"], target="cell_type",
    ).save(tmp_path / "decoder.safetensors")  # fmt: skip
    silent = dataclasses.replace(population, spike_times=[*population.spike_times[:-1], []])
    analyzer = build_analyzer(silent)
    analyzer.compute("nuclr_embedding", model=model, precision="float32", torch_device="cpu", progress_bar=False)
    compute_nuclr_identity(analyzer, decoder, target_error=0.05)
    want = analyzer.get_extension("nuclr_identity").get_identities()
    assert {"Na+", "α", ""} <= set(want.best_label)
    assert (want.label[-1], want.reason[-1]) == ("unknown", "no embedding")  # the silent unit
    write_nwb(session, analyzer, in_place=True, allow_stale=True)
    assert_same(read_nwb(session)[1][0], want)
    frame, *_ = table_of(session, "cell_type")
    assert frame["label"].tolist() == want.label.tolist()
    assert frame["best_label"].tolist() == want.best_label.tolist()


def test_a_process_without_ndx_nuclr_reads_them(session, with_identities, embeddings):
    """Also where the file had no specifications of its own."""
    with h5py.File(session, "r+") as file:
        del file["specifications"]
        del file.attrs[".specloc"]
    write_nwb(session, embeddings, identities=predicted(embeddings), in_place=True)
    assert_same(read_nwb(session)[1][0], predicted(embeddings))
    labels = {"cell_type": predicted(embeddings).label.tolist()}
    assert read_plainly(session, with_identities) == [[embeddings.unit_ids.tolist(), labels]] * 2


def test_they_are_added_to_embeddings_that_the_file_holds(predicted_session, embeddings):
    region = predicted(embeddings, "brain_area", np.array(["VISp", "CA1", "CP", "LP", "SCs"]))
    write_nwb(predicted_session, embeddings, identities=[region], in_place=True)
    found, identities = read_nwb(predicted_session)
    np.testing.assert_array_equal(found.embedding, embeddings.embedding)
    assert {one.target for one in identities} == {"cell_type", "brain_area"}
    assert not pynwb.validate(path=str(predicted_session))
    with pynwb.NWBHDF5IO(predicted_session, "r") as io:
        assert len(io.read().processing["nuclr"].data_interfaces) == 4  # a model, embeddings, two targets


def test_identities_of_a_target_are_replaced_only_where_asked(predicted_session, embeddings):
    first = predicted(embeddings)
    other = dataclasses.replace(first, reason=first.reason[::-1])
    before = predicted_session.read_bytes()
    with pytest.raises(InputError, match="it holds 'cell_type' already"):
        write_nwb(predicted_session, embeddings, identities=other, in_place=True)
    assert predicted_session.read_bytes() == before
    write_nwb(predicted_session, embeddings, identities=other, in_place=True, if_exists="replace")
    [found] = read_nwb(predicted_session)[1]
    assert_same(found, other)
    write_nwb(predicted_session, embeddings, identities=first, in_place=True, if_exists="new_name")
    assert len(read_nwb(predicted_session)[1]) == 2


def test_a_table_of_an_older_version_is_named_and_can_be_replaced(predicted_session, embeddings):
    with h5py.File(predicted_session, "r+") as file:
        table = file["processing/nuclr/cell_type"]
        table.attrs["colnames"] = [name for name in table.attrs["colnames"] if name not in ("best_label", "reason")]
        del table["best_label"], table["reason"]
    with pytest.raises(InputError, match=r"session.nwb: its 'cell_type' has no column 'best_label'") as caught:
        read_nwb(predicted_session)
    assert "\n" not in str(caught.value)
    # What `nuclr embed --in-place --if-exists replace` does takes the old table away.
    write_nwb(predicted_session, embeddings, in_place=True, if_exists="replace")
    write_nwb(predicted_session, embeddings, identities=predicted(embeddings), in_place=True)
    assert_same(read_nwb(predicted_session)[1][0], predicted(embeddings))


def test_a_reason_that_is_none_names_the_file(predicted_session, embeddings):
    with h5py.File(predicted_session, "r+") as file:
        file["processing/nuclr/cell_type/reason"][0] = "tired"
    with pytest.raises(InputError, match=r"session.nwb: cell_type: a reason .* not 'tired'"):
        read_nwb(predicted_session)


def test_a_side_file_holds_them(session, embeddings, tmp_path):
    want = predicted(embeddings)
    side = write_nwb(session, embeddings, tmp_path / "side.nwb", identities=want, units_only=True)
    assert_same(read_nwb(side)[1][0], want)


@pytest.mark.slow
def test_they_are_written_to_zarr(session, embeddings, tmp_path):
    pytest.importorskip("hdmf_zarr")
    from hdmf_zarr.nwb import NWBZarrIO

    store = tmp_path / "session.nwb.zarr"
    with pynwb.NWBHDF5IO(session, "r") as read, NWBZarrIO(str(store), mode="w") as write:
        write.export(src_io=read, write_args={"link_data": False})
    want = predicted(embeddings)
    output = write_nwb(store, embeddings, tmp_path / "with.nwb.zarr", identities=want)
    assert_same(read_nwb(output)[1][0], want)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: [one, one], "two of the predictions are of cell_type"),
        (lambda one: dataclasses.replace(one, unit_ids=np.array([f"x{k}" for k in range(12)])), "unit x0 is not among"),
        (lambda one: dataclasses.replace(one, provenance={}), "predicted from other embeddings"),
        (
            lambda one: dataclasses.replace(one, provenance={**one.provenance, "checkpoint_sha256": ["0"]}),
            "predicted from other embeddings",
        ),
    ],
)
def test_what_does_not_belong_is_refused(session, embeddings, change, message):
    before = session.read_bytes()
    with pytest.raises(InputError, match=message):
        write_nwb(session, embeddings, identities=change(predicted(embeddings)), in_place=True)
    assert session.read_bytes() == before


def test_target_of_any_name_has_a_table(session, embeddings):
    want = predicted(embeddings, "layer/depth: group")
    write_nwb(session, embeddings, identities=want, in_place=True)
    assert read_nwb(session)[1][0].target == "layer/depth: group"


def test_the_command_says_what_it_replaces(original, nuclr, tmp_path):
    path = shutil.copy(original, tmp_path / "s.nwb")
    nuclr("predict", path, "--decoder", "simulated-cell-type", "--in-place", "-q")
    said = nuclr("embed", path, "--in-place", "--overlap", 0, "--if-exists", "replace", "-q").stdout
    assert "replaced the previous UnitEmbeddings and what was predicted from it (cell_type): predict it again" in said
    assert (
        "replaced" not in nuclr("embed", path, "--in-place", "--overlap", 0.5, "--if-exists", "new_name", "-q").stdout
    )
    kept = nuclr("embed", path, "--in-place", "--overlap", 0.5, "-q", code=3)
    assert "replaced" not in kept.stdout
