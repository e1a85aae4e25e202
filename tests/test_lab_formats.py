"""Folders and files of labs: ALF, CellExplorer, and formats that neo reads."""

import pickle

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

from spikeinterface_nuclr import InputError, RecordingWarning, embed, read_population, simulate_population
from spikeinterface_nuclr.io.neo_files import neo_readers


@pytest.fixture(scope="module")
def trains():
    return [np.sort(times) for times in simulate_population(6, 40.0, seed=3).spike_times]


def same(population, trains, decimals=9):
    assert population.n_units == len(trains)
    for found, times in zip(population.spike_times, trains, strict=True):
        np.testing.assert_allclose(found, times, atol=10.0**-decimals)


# --- ALF


def write_alf(folder, trains, *, first=0, uuid="", metrics=True):
    """The objects spikes, clusters and channels of one probe, in order of time as IBL writes them."""
    folder.mkdir(parents=True)
    times = np.concatenate(trains)
    which = np.repeat(np.arange(len(trains)) + first, list(map(len, trains)))
    order = np.argsort(times, kind="stable")
    count = len(trains) + first
    arrays = {
        "spikes.times": times[order], "spikes.clusters": which[order].astype(np.uint32),
        "spikes.samples": np.round(times[order] * 30_000).astype(np.int64),
        "clusters.channels": np.arange(count) * 2, "clusters.waveforms": np.zeros((count, 4, 3), dtype=np.float32),
        "channels.localCoordinates": np.stack([np.arange(2.0 * count), 20.0 * np.arange(2 * count)], axis=1),
        "channels.brainLocationIds_ccf_2017": np.arange(2 * count) + 100,
        "channels.mlapdv": np.zeros((2 * count, 3)),
    }  # fmt: skip
    for name, values in arrays.items():
        np.save(folder / f"{name}{uuid}.npy", values)
    if metrics:
        rows = [f"{k},{'noise' if k == first else 'good'},{k / 2}" for k in range(count)]
        (folder / f"clusters.metrics{uuid}.csv").write_text("cluster_id,label,amp_median\n" + "\n".join(rows))


def test_a_probe_of_alf_files(tmp_path, trains):
    write_alf(tmp_path / "probe00", trains, first=2, uuid=".0a1b2c3d-1111-2222-3333-444455556666")
    population = read_population(tmp_path / "probe00", keep_rejected=True)
    same(population, trains)
    assert population.unit_ids.tolist() == [2, 3, 4, 5, 6, 7]
    assert population.properties["atlas_id"].tolist() == [104, 106, 108, 110, 112, 114]
    assert population.properties["depth"].tolist() == [80.0, 120.0, 160.0, 200.0, 240.0, 280.0]
    assert population.properties["label"].tolist() == ["noise", *["good"] * 5]
    assert population.properties["amp_median"].tolist() == [1.0, 1.5, 2.0, 2.5, 3.0, 3.5]
    assert "waveforms" not in population.properties
    assert read_population(tmp_path / "probe00").unit_ids.tolist() == [3, 4, 5, 6, 7]
    assert read_population(tmp_path / "probe00", where="amp_median > 2").unit_ids.tolist() == [5, 6, 7]
    assert np.isfinite(embed(population, progress=False).embedding).all()


def test_a_session_with_two_probes_is_one_population(tmp_path, trains):
    session = tmp_path / "subject" / "2024-05-06" / "001"
    write_alf(session / "alf" / "probe00" / "pykilosort", trains[:3], metrics=False)
    write_alf(session / "alf" / "probe01" / "pykilosort", trains[2:3])
    write_alf(session / "alf" / "probe01" / "pykilosort" / "#2024-05-06#", trains[3:])
    population = read_population(session, keep_rejected=True)
    same(population, trains)
    assert population.unit_ids.tolist() == ["probe00:0", "probe00:1", "probe00:2", *[f"probe01:{k}" for k in range(3)]]
    assert population.group.tolist() == ["probe00"] * 3 + ["probe01"] * 3
    assert population.properties["label"].tolist() == ["", "", "", "noise", "good", "good"]
    assert np.isnan(population.properties["amp_median"][:3]).all()


def test_revisions_replace_single_files(tmp_path, trains):
    write_alf(tmp_path / "probe00", trains)
    revision = tmp_path / "probe00" / "#2024-05-06#"
    revision.mkdir()
    np.save(revision / "spikes.times.npy", np.load(tmp_path / "probe00" / "spikes.times.npy") + 1.0)
    population = read_population(tmp_path / "probe00", keep_rejected=True)
    same(population, [times + 1.0 for times in trains])
    assert population.properties["depth"].tolist() == [0.0, 40.0, 80.0, 120.0, 160.0, 200.0]


def test_probes_by_any_name(tmp_path, trains):
    session = tmp_path / "probe_recordings"
    write_alf(session / "alf" / "imec0", trains[:3], metrics=False)
    write_alf(session / "alf" / "imec1", trains[3:], metrics=False)
    population = read_population(session)
    same(population, trains)
    assert population.group.tolist() == ["imec0"] * 3 + ["imec1"] * 3


def test_two_sortings_of_a_probe_are_not_mixed(tmp_path, trains):
    for sorter in ("iblsorter", "pykilosort"):
        write_alf(tmp_path / "alf" / "probe00" / sorter, trains)
    with pytest.raises(InputError, match=r"two sortings of probe00, .*iblsorter and .*pykilosort: name one of these"):
        read_population(tmp_path)
    same(read_population(tmp_path / "alf" / "probe00" / "iblsorter", keep_rejected=True), trains)


def test_a_parquet_table_of_clusters(tmp_path, trains, monkeypatch):
    write_alf(tmp_path / "p", trains, metrics=False)
    file = tmp_path / "p" / "clusters.metrics.pqt"
    file.write_bytes(b"no parquet")
    with monkeypatch.context() as patch:
        patch.setattr(pd, "read_parquet", missing_engine)
        with pytest.warns(RecordingWarning, match=r"clusters.metrics.pqt: not read, which needs pyarrow"):
            assert "label" not in read_population(tmp_path / "p").properties
    pytest.importorskip("pyarrow")
    table = pd.DataFrame({"cluster_id": [1, 0, 2, 3, 4, 5], "label": ["noise", None, *["good"] * 4], "snr": 1.5})
    table.to_parquet(file)
    population = read_population(tmp_path / "p")
    assert population.unit_ids.tolist() == [0, 2, 3, 4, 5]
    assert population.properties["label"].tolist() == ["", *["good"] * 4]
    assert population.properties["snr"].tolist() == [1.5] * 5


def missing_engine(*_, **__):
    raise ImportError("no pyarrow")


def test_a_huge_number_of_a_cluster_takes_no_memory(tmp_path, trains):
    write_alf(tmp_path / "p", trains, metrics=False)
    (tmp_path / "p" / "clusters.metrics.csv").write_text("cluster_id,label\n2000000000,x\n1,good\n")
    assert read_population(tmp_path / "p").properties["label"].tolist() == ["", "good", "", "", "", ""]


def test_a_namespace_and_columns_of_one_are_read(tmp_path, trains):
    write_alf(tmp_path / "p", trains)
    for name in ("times", "clusters"):
        file = tmp_path / "p" / f"spikes.{name}.npy"
        np.save(tmp_path / "p" / f"_ss_spikes.{name}.npy", np.load(file)[:, None])
        file.unlink()
    same(read_population(tmp_path / "p", keep_rejected=True), trains)


def save(name, values):
    return lambda folder: np.save(folder / f"{name}.npy", values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: (p / "spikes.clusters.npy").unlink(), "it has no spikes.clusters.npy"),
        (save("spikes.clusters", np.zeros(3, dtype=int)), "spikes.times for 3 spikes.clusters"),
        (save("spikes.times", np.array([{}], dtype=object)), "spikes.times.npy: holds Python objects"),
        (save("spikes.times", np.zeros((4, 2))), "not one number for each spike"),
        (save("spikes.clusters", np.zeros(4)), "for 4 spikes.clusters"),
        (save("clusters.channels", np.full(6, -1)), "has 12 channels, the clusters name number -1"),
        (save("clusters.channels", np.full(6, 99)), "has 12 channels, the clusters name number 99"),
        (lambda p: (p / "clusters.metrics.csv").write_text("cluster_id,label\nx,y"), "not a readable table"),
    ],
)
def test_damaged_alf_files_are_named(tmp_path, trains, change, message):
    write_alf(tmp_path / "p", trains)
    change(tmp_path / "p")
    with pytest.raises(InputError, match=message):
        read_population(tmp_path / "p")


def test_other_folders_are_not_searched(tmp_path, trains):
    write_alf(tmp_path / "a" / "b", trains)
    with pytest.raises(InputError, match="a folder of no known kind"):
        read_population(tmp_path)


# --- CellExplorer


def cells(values):
    made = np.empty((1, len(values)), dtype=object)
    for k, value in enumerate(values):
        made[0, k] = value
    return made


def write_cellexplorer(folder, trains, session="rat1_day1", metrics=True):
    """As MATLAB writes version 5 files."""
    folder.mkdir(parents=True, exist_ok=True)
    count = len(trains)
    spikes = {
        "UID": np.arange(1.0, count + 1)[None], "times": cells([times[:, None] for times in trains]),
        "shankID": np.resize([1.0, 2.0], count)[None], "cluID": np.arange(10.0, 10 + count)[None], "sr": 20_000.0,
        "rawWaveform": cells([np.zeros((1, 40))] * count), "basename": session,
    }  # fmt: skip
    path = folder / f"{session}.spikes.cellinfo.mat"
    savemat(path, {"spikes": spikes})
    if metrics:
        table = {
            "UID": np.arange(count, 0.0, -1)[None],  # in another order
            "putativeCellType": cells([f"type {k}" for k in range(count, 0, -1)]),
            "brainRegion": cells(["CA1"] * count), "firingRate": np.arange(count, 0.0, -1)[None],
            "general": {"basename": session}, "animal": cells(["rat1"] * count),
        }  # fmt: skip
        savemat(folder / f"{session}.cell_metrics.cellinfo.mat", {"cell_metrics": table})
    return path


def test_a_session_of_cellexplorer(tmp_path, trains):
    path = write_cellexplorer(tmp_path, trains)
    for source in (path, tmp_path):
        population = read_population(source)
        same(population, trains)
        assert population.unit_ids.tolist() == [1, 2, 3, 4, 5, 6]
        assert population.properties["cell_type"].tolist() == [f"type {k}" for k in range(1, 7)]
        assert population.properties["brain_area"].tolist() == ["CA1"] * 6
        assert population.properties["firingRate"].tolist() == [1, 2, 3, 4, 5, 6]
        assert population.group.tolist() == [""] * 6
        assert read_population(source, group_by="shank").group.tolist() == ["1", "2"] * 3
        assert population.metadata["session"] == "rat1_day1"


def test_a_session_without_metrics_or_of_one_unit(tmp_path, trains):
    same(read_population(write_cellexplorer(tmp_path / "a", trains, metrics=False)), trains)
    same(read_population(write_cellexplorer(tmp_path / "b", trains[:1], metrics=False)), trains[:1])


def test_empty_cells_and_units_of_one_spike(tmp_path, trains):
    path = write_cellexplorer(tmp_path, trains[:2], metrics=False)
    table = {
        "UID": np.arange(1.0, 3.0)[None], "labels": cells(["x", np.empty((0, 0))]),
        "theta": cells([2.5, np.empty((0, 0))]), "acg": cells([np.ones(4), np.ones(3)]),
    }  # fmt: skip
    savemat(tmp_path / "rat1_day1.cell_metrics.cellinfo.mat", {"cell_metrics": table})
    properties = read_population(path).properties
    assert properties["labels"].tolist() == ["x", ""]
    np.testing.assert_array_equal(properties["theta"], [2.5, np.nan])
    same(read_population(write_cellexplorer(tmp_path / "one", [np.array([3.5])], metrics=False)), [np.array([3.5])])
    short = [np.array([3.5]), trains[0]]
    same(read_population(write_cellexplorer(tmp_path / "two", short, metrics=False)), short)


def write_version_7_3(path, trains):
    """As MATLAB writes version 7.3: HDF5, with references in cells."""
    with h5py.File(path, "w", userblock_size=512) as file:
        spikes = file.create_group("spikes")
        spikes.attrs["MATLAB_class"] = np.bytes_("struct")
        references = np.empty((len(trains), 1), dtype=h5py.ref_dtype)
        for k, times in enumerate(trains):
            dataset = file.create_dataset(f"#refs#/{k}", data=times[None])
            dataset.attrs["MATLAB_class"] = np.bytes_("double")
            references[k, 0] = dataset.ref
        cell = spikes.create_dataset("times", data=references, dtype=h5py.ref_dtype)
        cell.attrs["MATLAB_class"] = np.bytes_("cell")
        uid = spikes.create_dataset("UID", data=np.arange(1.0, len(trains) + 1)[:, None])
        uid.attrs["MATLAB_class"] = np.bytes_("double")
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    return path


def test_a_session_of_matlab_7_3(tmp_path, trains):
    same(read_population(write_version_7_3(tmp_path / "s.spikes.cellinfo.mat", trains)), trains)


def test_what_is_no_session_of_cellexplorer_is_named(tmp_path, trains):
    path = tmp_path / "s.spikes.cellinfo.mat"
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"s.spikes.cellinfo.mat: not a readable file of CellExplorer"):
        read_population(path)
    savemat(path, {"other": {"a": 1.0}})
    with pytest.raises(InputError, match="holds no spikes"):
        read_population(path)
    savemat(path, {"spikes": {"UID": np.arange(3.0)}})
    with pytest.raises(InputError, match="no field times"):
        read_population(path)
    savemat(path, {"spikes": {"UID": np.arange(3.0)[None], "times": cells([trains[0][:, None]] * 2)}})
    with pytest.raises(InputError, match="2 trains for 3 units"):
        read_population(path)
    write_cellexplorer(tmp_path / "m", trains)
    savemat(tmp_path / "m" / "rat1_day1.cell_metrics.cellinfo.mat", {"cell_metrics": {"UID": np.arange(3.0)[None]}})
    with pytest.raises(InputError, match="has no unit 3, which the spikes have"):
        read_population(tmp_path / "m")


# --- formats of neo


def block_of(trains):
    import neo
    import quantities as pq

    block, segment = neo.Block(), neo.Segment()
    for k, times in enumerate(trains):
        train = neo.SpikeTrain(times * pq.s, t_stop=100.0 * pq.s, name=f"unit {k}")
        segment.spiketrains.append(train)
    block.segments.append(segment)
    return block


def test_a_nix_file(tmp_path, trains):
    pytest.importorskip("nixio")
    from neo.io import NixIO

    path = tmp_path / "s.nix"
    with NixIO(str(path), "ow") as file:
        file.write_block(block_of(trains))
    population = read_population(path)
    same(population, trains)
    assert population.unit_ids.tolist() == [f"unit {k}" for k in range(6)]
    assert population.metadata["source"] == str(path)


def test_a_nix_file_is_not_touched_and_its_blocks_are_not_mixed(tmp_path, trains):
    pytest.importorskip("nixio")
    import neo
    from neo.io import NixIO

    path = tmp_path / "s.nix"
    with NixIO(str(path), "ow") as file:
        file.write_all_blocks([neo.Block(), block_of(trains)])
    before = path.stat().st_mtime_ns
    same(read_population(path), trains)
    assert path.stat().st_mtime_ns == before
    with NixIO(str(path), "ow") as file:
        file.write_all_blocks([block_of(trains[:3]), block_of(trains[3:])])
    with pytest.raises(InputError, match="holds 2 blocks with spike trains: read it by neo, and give one of them"):
        read_population(path)


def test_a_mat_file_of_neo(tmp_path, trains):
    from neo.io import NeoMatlabIO

    NeoMatlabIO(str(tmp_path / "s.mat")).write_block(block_of(trains))
    same(read_population(tmp_path / "s.mat"), trains)


def write_nex(path, trains, frequency=40_000.0):
    """A file of NeuroExplorer: header, one header for each neuron, then the timestamps in ticks."""
    ticks = [np.round(times * frequency).astype(np.int32) for times in trains]
    begin = 544 + 208 * len(trains)
    header = b"NEX1" + np.int32(104).tobytes() + b"".ljust(256, b"\x00") + np.float64(frequency).tobytes()
    header += np.array([0, int(40 * frequency), len(trains), 0], dtype=np.int32).tobytes()
    content = header.ljust(544, b"\x00")
    offset = begin
    for k, one in enumerate(ticks):
        name = f"sig00{k}a".encode().ljust(64, b"\x00")
        entry = np.array([0, 100], dtype=np.int32).tobytes() + name
        entry += np.array([offset, len(one), 0, 0, 0, 0], dtype=np.int32).tobytes()
        content += entry.ljust(208, b"\x00")
        offset += 4 * len(one)
    path.write_bytes(content + b"".join(one.tobytes() for one in ticks))
    return path


def test_a_nex_file(tmp_path, trains):
    population = read_population(write_nex(tmp_path / "s.nex", trains))
    same(population, trains, decimals=4)
    assert population.unit_ids.tolist() == [f"sig00{k}a" for k in range(6)]


class Runs:
    def __reduce__(self):
        return exec, ("raise SystemExit('the file ran code')",)


@pytest.mark.parametrize("suffix", ["pkl", "pickle"])
def test_pickles_are_refused(tmp_path, suffix):
    path = tmp_path / f"s.{suffix}"
    path.write_bytes(pickle.dumps(Runs()))
    with pytest.raises(InputError, match=rf"s.{suffix}: neo's reader of .{suffix} files would run code"):
        read_population(path)


@pytest.mark.parametrize("name", ["s.pl2", "s.dat"])
def test_readers_that_fetch_or_evaluate_are_not_used(tmp_path, name):
    (tmp_path / name).write_bytes(b"x" * 100)
    with pytest.raises(InputError, match=name):
        read_population(tmp_path / name)


@pytest.mark.parametrize("name", ["s.nev", "s.nex", "s.plx", "s.nix", "s.mat", "s.smr"])
def test_damaged_files_are_one_line(tmp_path, name):
    for content in (b"", b"x" * 1000):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name) as raised:
            read_population(tmp_path / name)
        assert "\n" not in str(raised.value)


def test_every_reader_is_one_that_was_looked_at():
    """A new version of neo may bring a reader that runs code: it has to be looked at before it is used."""
    import neo.io

    found = {reader.__name__ for suffix in neo.io.io_by_extension for reader in neo_readers(_named(suffix))}
    assert found <= KNOWN


def _named(suffix):
    from pathlib import Path

    return Path(f"s.{suffix}")


# Read in neo 0.14.6 for pickle, eval, exec, imports by name, subprocesses and downloads.
KNOWN = {
    *("AlphaOmegaIO", "AsciiSpikeTrainIO", "AxographIO", "AxonaIO", "AxonIO", "BCI2000IO", "BiocamIO", "BlackrockIO"),
    *("BrainVisionIO", "BrainwareF32IO", "BrainwareSrcIO", "CedIO", "EDFIO", "ElanIO", "ElphyIO", "IntanIO", "KwikIO"),
    *("MEArecIO", "MaxwellIO", "MedIO", "MicromedIO", "NixIO", "NeoMatlabIO", "NestIO", "NeuralynxIO"),
    *("NeuroExplorerIO", "NeuroNexusIO", "NeuroScopeIO", "NeurosharectypesIO", "OpenEphysIO", "OpenEphysBinaryIO"),
    *("PickleIO", "PlexonIO", "Plexon2IO", "RawMCSIO", "Spike2IO", "SpikeGadgetsIO", "SpikeGLXIO", "TdtIO", "WinEdrIO"),
    "WinWcpIO",
}
