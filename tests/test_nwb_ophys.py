"""Embeddings and identities of imaged neurons in NWB files."""

import json
import shutil

import h5py
import numpy as np
import pynwb
import pytest
from h5tree import differences
from nwb_files import add_units, write_nwb_file
from ophys_files import RATE, activity, add_series, ophys_file, raw
from pynwb.ophys import DfOverF, RoiResponseSeries

from spikeinterface_nuclr import (
    InputError,
    RecordingWarning,
    embed,
    fit_decoder,
    read_nwb,
    read_population,
    write_nwb,
)

OURS = ("/processing/nuclr", "/specifications/ndx-nuclr")
QUICK = {"precision": "float32", "device": "cpu", "progress": False}
N = 24


@pytest.fixture(scope="module")
def model(calcium_checkpoint, tmp_path_factory):
    return calcium_checkpoint.save(tmp_path_factory.mktemp("model") / "calcium.safetensors")


TYPES = np.resize(["shared", "alone"], N)


def session_file(planes=(N,), seed=0, **more):
    """dF/F and raw fluorescence of the same ROIs, a few of them rejected, and other things."""
    nwbfile = ophys_file(planes, **({"cell_type": TYPES, "accepted": np.arange(N) != 3} | more))
    nwbfile.add_trial(start_time=1.0, stop_time=2.0)
    dff = np.split(activity(N, 900, seed), np.cumsum(planes)[:-1])
    for number, part in enumerate(dff):
        plane = "PlaneSegmentation" if len(planes) == 1 else f"Plane{number}"
        add_series(nwbfile, part, f"Series{number}", plane=plane)
        add_series(nwbfile, raw(part), f"Series{number}", container="Fluorescence", plane=plane)
    return nwbfile


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write_nwb_file(tmp_path_factory.mktemp("original") / "session.nwb", session_file())


@pytest.fixture
def session(original, tmp_path):
    return shutil.copy(original, tmp_path / "session.nwb")


@pytest.fixture(scope="module")
def embeddings(original, model):
    return embed(read_population(original, series="DfOverF"), model, **QUICK)


def only_ours_is_new(before, after):
    gone, new, changed = differences(before, after)
    assert (gone, changed) == ([], [])
    assert all(path.startswith(OURS) for path in new)


def check_plain(path, embeddings, table="UnitEmbeddings", plane="PlaneSegmentation"):
    """What somebody with plain pynwb sees."""
    with pynwb.NWBHDF5IO(path, "r") as io:
        nwbfile = io.read()
        found = nwbfile.processing["nuclr"][table]
        rois = nwbfile.processing["ophys"]["ImageSegmentation"][plane]
        assert found["neuron"].table is rois
        ids = np.asarray(rois.id[:])[found["neuron"].data[:]]
        assert [str(roi) for roi in ids] == [str(unit).rpartition("/")[2] for unit in embeddings.unit_ids]
        assert np.array_equal(found["embedding"].data[:], embeddings.embedding)
        assert (found["num_frames"].data[:] == 900).all()
        assert "num_spikes" not in found.colnames
        return json.loads(found.provenance)


def test_neurons_are_rows_of_the_plane_segmentation(session, original, embeddings):
    written = write_nwb(session, embeddings)
    assert session.read_bytes() == original.read_bytes()
    only_ours_is_new(original, written)
    assert pynwb.validate(path=str(written)) in ([], ([], 0))
    provenance = check_plain(written, embeddings)
    assert provenance["frame_rate"] == RATE
    assert provenance["resampled_to"] == 2.5
    assert provenance["read_as"] == {"series": "ophys/DfOverF/Series0", "traces": "auto", "keep_rejected": False}
    back, identities = read_nwb(written)
    assert back.unit_ids.tolist() == embeddings.unit_ids.tolist() == [100 + k for k in range(N) if k != 3]
    assert np.array_equal(back.embedding, embeddings.embedding)
    assert identities == []


@pytest.mark.slow
def test_zarr(session, embeddings, tmp_path):
    from hdmf_zarr import NWBZarrIO

    store = tmp_path / "session.nwb.zarr"
    with pynwb.NWBHDF5IO(session, "r") as reading, NWBZarrIO(str(store), "w") as writing:
        writing.export(src_io=reading, write_args={"link_data": False})
    assert np.array_equal(
        read_population(store, series="DfOverF").traces, read_population(session, series="DfOverF").traces
    )
    back, _ = read_nwb(write_nwb(store, embeddings))
    assert np.array_equal(back.embedding, embeddings.embedding)


def test_embeddings_of_another_source_name_the_series(session, model):
    """As of the suite2p folder that the file was made from."""
    dff = activity(N, 900)
    outside = read_population(dff, sampling_frequency=RATE, traces="dff")
    found = embed(outside, model, **QUICK)
    with pytest.raises(InputError, match="several series of ROI responses"):
        write_nwb(session, found)
    with pytest.raises(InputError, match=r"session\.nwb: 24 of 24 units, such as 0, are not in the table 'PlaneSegm"):
        write_nwb(session, found, series="DfOverF")
    found.unit_ids[:] += 100
    written = write_nwb(session, found, series="DfOverF")
    assert read_nwb(written)[0].provenance.read_as == {"series": "ophys/DfOverF/Series0"}


def test_what_does_not_fit_is_refused(session, embeddings, model, population):
    with pytest.raises(InputError, match="imaged neurons"):
        write_nwb(session, embeddings, publish=True)
    shorter = read_population(session, series="DfOverF").within([[0.0, 100.0]])
    with pytest.raises(InputError, match="had 500 frames when they were embedded, ophys/DfOverF/Series0 has 900"):
        write_nwb(session, embed(shorter, model, **QUICK))
    units = write_nwb_file(session.with_name("units.nwb"), add_units(session_file(), [[1.0], [2.0]]))
    spikes = embed(population, **QUICK)
    with pytest.raises(InputError, match="the embeddings are of spikes: leave out series='DfOverF'"):
        write_nwb(units, spikes, series="DfOverF")
    assert len(list(session.parent.iterdir())) == 2


def test_a_side_file_leaves_the_movie_behind(nuclr, model, tmp_path):
    nwbfile = add_units(session_file((10, 14), cell_type=TYPES[:10], accepted=np.ones(10)), [[1.0], [2.0]])
    movie = pynwb.ophys.TwoPhotonSeries(
        name="movie", data=np.zeros((900, 40, 40)), imaging_plane=nwbfile.imaging_planes["ImagingPlane0"], rate=RATE,
        unit="a.u.",
    )  # fmt: skip
    nwbfile.add_acquisition(movie)
    path = write_nwb_file(tmp_path / "session.nwb", nwbfile)
    with h5py.File(path, "a") as file:  # what pynwb writes for reference_images
        images = file["/processing/ophys/ImageSegmentation/Plane0"].require_group("reference_images")
        images["movie"] = h5py.SoftLink("/acquisition/movie")
    path.chmod(0o444)
    before = read_population(path, series="DfOverF")
    found = embed(before, model, **QUICK)
    side = write_nwb(path, found, units_only=True)
    assert side.stat().st_size < path.stat().st_size / 5
    assert pynwb.validate(path=str(side)) in ([], ([], 0))
    back, _ = read_nwb(side)
    assert np.array_equal(back.embedding, found.embedding)
    after = read_population(side)
    assert after.fingerprint() == before.fingerprint()
    assert after.metadata["subject"] == "mouse-1"
    assert after.properties["plane"].tolist() == before.properties["plane"].tolist()
    with pynwb.NWBHDF5IO(side, "r") as io:
        read = io.read()
        assert not read.acquisition
        assert read.units is None
        assert "Fluorescence" not in read.processing["ophys"].data_interfaces
        assert read.imaging_planes["ImagingPlane0"].indicator == "GCaMP6s"
    done = nuclr("info", side)
    assert "up to date" in done.stdout


def test_embeddings_of_another_animal_are_refused(nuclr, session, embeddings, tmp_path):
    """Though its ROIs have the same numbers, and its recording as many frames."""
    other = write_nwb_file(tmp_path / "other.nwb", session_file(seed=9))
    with pytest.raises(InputError, match=r"the traces that were embedded \(of .*session\.nwb\) differ from"):
        write_nwb(other, embeddings)
    assert not (tmp_path / "other_nuclr.nwb").exists()
    written = write_nwb(other, embeddings, allow_stale=True)
    assert "another copy of the traces" in nuclr("info", written, "--series", "DfOverF").stdout


def test_a_file_with_units_too_keeps_them_apart(embeddings, tmp_path):
    path = write_nwb_file(tmp_path / "both.nwb", add_units(session_file(), [[1.0], [2.0]]))
    check_plain(write_nwb(path, embeddings), embeddings)


@pytest.mark.slow
def test_planes_get_a_table_each(nuclr, model, tmp_path):
    path = write_nwb_file(tmp_path / "planes.nwb", session_file((10, 14), cell_type=TYPES[:10], accepted=np.ones(10)))
    population = read_population(path, series="DfOverF")
    found = embed(population, model, **QUICK)
    decoder = fit_decoder([found] * 3, [TYPES] * 3, ["a", "b", "c"], target="cell_type")
    identities = decoder.predict(found)
    write_nwb(path, found, identities=identities, in_place=True)
    for plane, units in (("Plane0", np.arange(10)), ("Plane1", np.arange(10, 24))):
        check_plain(path, found.select(units), f"UnitEmbeddings_{plane}", plane)
    back, [predicted] = read_nwb(path)
    assert back.unit_ids.tolist() == found.unit_ids.tolist() == predicted.unit_ids.tolist()
    assert np.array_equal(back.embedding, found.embedding)
    assert np.array_equal(predicted.probability, identities.probability)
    assert predicted.target == "cell_type"
    with pynwb.NWBHDF5IO(path, "r") as io:
        names = io.read().processing["nuclr"].data_interfaces
        tables = ("UnitEmbeddings_Plane0", "UnitEmbeddings_Plane1", "cell_type_Plane0", "cell_type_Plane1")
        assert sorted(names) == sorted(("NuCLRModel", *tables))
    with pytest.raises(InputError, match="holds 'UnitEmbeddings_Plane0' already"):
        write_nwb(path, found, in_place=True)
    write_nwb(path, found, in_place=True, if_exists="replace")
    assert read_nwb(path)[1] == []
    done = nuclr("embed", path, "--series", "DfOverF", "--in-place", "--model", model, "--precision", "float32")
    assert "up to date" in done.stdout


def test_the_commands(nuclr, session, model, tmp_path):
    options = ("--model", model, "--precision", "float32", "--quiet")
    refused = nuclr("embed", session, "--in-place", *options, code=3)
    assert "give series= (--series): one of ophys/DfOverF/Series0, ophys/Fluorescence/Series0" in refused.stderr
    refused = nuclr("embed", session, "--series", "DfOverF", "--in-place", "--model", "nuclr-starter", code=4)
    assert "takes spikes, this population holds traces" in refused.stderr
    refused = nuclr("embed", session, "--series", "DfOverF", "--in-place", "--publish", *options, code=3)
    assert "imaged neurons" in refused.stderr

    done = nuclr("embed", session, "--series", "DfOverF", "--in-place", *options)
    assert "23 of 24 units" not in done.stdout
    assert "23 of 23 units embedded" in done.stdout
    assert "up to date" in nuclr("embed", session, "--series", "DfOverF", "--in-place", *options).stdout
    refused = nuclr("embed", session, "--series", "Fluorescence", "--in-place", *options, code=3)
    assert "series is ophys/DfOverF/Series0, not ophys/Fluorescence/Series0 as requested" in refused.stderr

    facts = nuclr("info", session, "--series", "DfOverF").stdout
    for fact in (" 900", " 23", "up to date", "dF/F as given"):
        assert fact in facts
    assert "up to date" in nuclr("info", session, "--series", "Fluorescence").stdout

    with pynwb.NWBHDF5IO(session, "a") as io:
        io.read().processing["ophys"]["DfOverF"]["Series0"].data[5, 5] += 1
    stale = nuclr("info", session, "--series", "DfOverF").stdout
    assert "STALE: the neurons' traces have changed since they were embedded" in stale
    assert "embedded" in nuclr("embed", session, "--series", "DfOverF", "--in-place", *options).stdout


@pytest.mark.slow
def test_decoders_are_fitted_scored_and_asked(nuclr, model, tmp_path):
    paths = []
    for animal in range(4):
        nwbfile = session_file(seed=animal)
        nwbfile.subject.fields["subject_id"] = f"mouse{animal}"
        paths.append(write_nwb_file(tmp_path / f"{animal}.nwb", nwbfile))
    how = ("--series", "DfOverF", "--precision", "float32", "--quiet")
    fit = ("--label", "cell_type", "--model", model, *how)
    decoder = tmp_path / "cell_type.safetensors"
    nuclr("decoder", "fit", *paths[:3], "-o", decoder, *fit)
    nuclr("predict", paths[3], "--decoder", decoder, "--in-place", "--model", model, *how)
    embeddings, [identities] = read_nwb(paths[3])
    assert identities.unit_ids.tolist() == embeddings.unit_ids.tolist()
    known = read_population(paths[3], series="DfOverF").properties["cell_type"]
    assert np.mean(identities.best_label == known) > 0.7
    nuclr("predict", paths[3], "--decoder", decoder, "-o", tmp_path / "units.csv", "--model", model, *how)
    assert len((tmp_path / "units.csv").read_text().splitlines()) == N
    nuclr("evaluate", *paths, "-o", tmp_path / "report", "--shuffles", "2", *fit)
    report = (tmp_path / "report" / "report.md").read_text()
    for method in ("spectrum, autocorrelation, population", "embedding of shifted traces", "labels shuffled"):
        assert method in report


@pytest.mark.slow
def test_a_real_worm(recordings, model, tmp_path):
    worm = recordings / "worm" / "worm-2022-07-26-31.nwb"
    path = shutil.copy(worm, tmp_path / "worm.nwb")
    path.chmod(0o644)
    population = read_population(path, series="DfOverF")
    with pytest.warns(RecordingWarning, match=r"1\.662 frames per second and .* takes 2\.5"):
        found = embed(population, model, **QUICK)
    assert found.provenance.frame_rate == pytest.approx(1.662, abs=0.001)
    write_nwb(path, found, in_place=True)
    side = write_nwb(path, found, tmp_path / "side.nwb", units_only=True)
    assert read_population(side).fingerprint() == population.fingerprint()
    only_ours_is_new(worm, path)
    assert pynwb.validate(path=str(path)) in ([], ([], 0))
    back, _ = read_nwb(path)
    assert back.unit_ids.tolist() == population.unit_ids.tolist()
    assert np.array_equal(back.embedding, found.embedding)


# --- what is out of date, and what is somebody else's -----------------------------------------------------------------


def state(nuclr, path, *options):
    facts = nuclr("info", path, *options).stdout
    return next(line for line in facts.splitlines() if line.startswith("processing/nuclr/UnitEmbeddings  "))


def test_a_ratio_is_up_to_date_when_it_is_read_again(nuclr, model, tmp_path):
    nwbfile = ophys_file((N,))
    add_series(nwbfile, activity(N, 900) + 1, unit="F/F20")
    path = write_nwb_file(tmp_path / "ratio.nwb", nwbfile)
    write_nwb(path, embed(read_population(path), model, **QUICK), in_place=True)
    assert state(nuclr, path).endswith("up to date")


def test_a_corrected_frame_rate_is_noticed(nuclr, session, embeddings):
    write_nwb(session, embeddings, in_place=True)
    with h5py.File(session, "a") as file:
        file["processing/ophys/DfOverF/Series0/starting_time"].attrs["rate"] = 2.5
    assert "STALE" in state(nuclr, session, "--series", "DfOverF")


def test_other_readings_are_other_settings(nuclr, session, model):
    how = ("--in-place", "--model", model, "--precision", "float32", "--quiet")
    nuclr("embed", session, "--series", "Fluorescence", *how)
    refused = nuclr("embed", session, "--series", "Fluorescence", "--traces", "preprocessed", *how, code=3)
    assert "traces is auto, not preprocessed as requested" in refused.stderr
    refused = nuclr("embed", session, "--series", "Fluorescence", "--keep-rejected", *how, code=3)
    assert "give --if-exists replace" in refused.stderr


def test_series_and_reading_go_together(nuclr, session, model):
    population = read_population(session, series="Fluorescence", keep_rejected=True, traces="dff")
    written = write_nwb(session, embed(population, model, **QUICK))
    back, _ = read_nwb(written)
    assert len(back.unit_ids) == N
    reading = ("--series", "Fluorescence", "--traces", "dff", "--keep-rejected")
    assert state(nuclr, written, *reading).endswith("up to date")


@pytest.mark.slow
def test_planes_are_never_joined_with_anything_else(population, checkpoint, model, tmp_path):
    nwbfile = add_units(session_file((10, 14), cell_type=TYPES[:10], accepted=np.ones(10)), population.spike_times)
    path = write_nwb_file(tmp_path / "both.nwb", nwbfile)
    spikes = embed(read_population(path), checkpoint, **QUICK)
    traces = embed(read_population(path, series="DfOverF"), model, **QUICK)
    write_nwb(path, spikes, in_place=True)
    write_nwb(path, traces, in_place=True)
    assert np.array_equal(read_nwb(path, name="UnitEmbeddings")[0].embedding, spikes.embedding)
    assert len(read_nwb(path, name="UnitEmbeddings_Plane0")[0].unit_ids) == 10
    write_nwb(path, traces, in_place=True, if_exists="new_name")
    assert read_nwb(path, name="UnitEmbeddings_2")[0].unit_ids.tolist() == traces.unit_ids.tolist()


def test_a_side_file_keeps_what_is_linked(model, tmp_path):
    """Timestamps and ROIs of another series."""
    nwbfile = ophys_file((N,))
    dff = activity(N, 900)
    first = add_series(nwbfile, raw(dff), container="Fluorescence", timestamps=np.arange(900) / RATE + 5.0)
    nwbfile.processing["ophys"].add(DfOverF())
    nwbfile.processing["ophys"]["DfOverF"].add_roi_response_series(
        RoiResponseSeries(name="Series0", data=dff.T, rois=first.rois, timestamps=first, unit="n.a.")
    )
    path = write_nwb_file(tmp_path / "linked.nwb", nwbfile)
    with h5py.File(path) as file:
        inside = file["processing/ophys/DfOverF/Series0"]
        assert {type(inside.get(name, getlink=True)) for name in ("rois", "timestamps")} == {h5py.SoftLink}
    before = read_population(path, series="DfOverF")
    side = write_nwb(path, embed(before, model, **QUICK), units_only=True)
    assert read_population(side).fingerprint() == before.fingerprint()
