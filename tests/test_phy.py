"""Folders of phy and Kilosort as people have them."""

import numpy as np
import pandas as pd
import pytest

from spikeinterface_nuclr import Estimates, InputError, read_population, simulate_population, write_phy_columns
from spikeinterface_nuclr.errors import RecordingWarning

GROUP = "cluster_id\tgroup\n0\tnoise\n1\tgood\n2\tmua\n"


def folder(path, params="sample_rate = 30000.\n", times=None, clusters=None, **tables):
    np.save(path / "spike_times.npy", np.arange(6000, dtype=np.uint64) * 500 if times is None else times)
    np.save(path / "spike_clusters.npy", (np.arange(6000) % 6).astype(np.int32) if clusters is None else clusters)
    if params is not None:
        (path / "params.py").write_bytes(params if isinstance(params, bytes) else params.encode())
    for name, text in tables.items():
        (path / name.replace("__", ".")).write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def units(path, **tables):
    return read_population(folder(path, **tables)).unit_ids.tolist()


# --- tables of clusters ---------------------------------------------------------------------------------------------

INFO = "cluster_id\tch\tgroup\n0\t3\t\n1\t3\tgood\n2\t3\tmua\n\t3\tgood\n"


@pytest.mark.parametrize(
    "tables",
    [
        dict(cluster_group__tsv=GROUP),
        dict(cluster_group__tsv=GROUP, cluster_info__tsv=INFO),
        dict(cluster_group__tsv=GROUP, cluster_info__tsv=INFO.replace("0\t3\t", "0\t3\t  ")),
        dict(cluster_group__tsv=GROUP.replace("noise", "noise ")),
        dict(cluster_group__tsv=GROUP.replace("noise", " NOISE\t")),
        dict(cluster_group__tsv=GROUP.replace("group", " group ")),
        dict(cluster_group__tsv=GROUP.replace("group", "Group").replace("cluster_id", "Cluster_ID")),
        dict(cluster_group__tsv=GROUP.replace("\n", "\r\n")),
        dict(cluster_group__tsv=GROUP.encode("utf-8-sig")),
        dict(cluster_group__tsv=GROUP.replace("\t", ",")),
        dict(cluster_groups__csv=GROUP),
        dict(cluster_groups__csv=GROUP.replace("\t", ",")),
        dict(cluster_group__tsv=GROUP.replace("0\t", "0.0\t")),
        dict(cluster_info__tsv="id\tgroup\n0\tnoise\n"),
        dict(cluster_group__tsv=GROUP + "2.5\tnoise\nx\tnoise\n1e400\tnoise\nnan\tnoise\n"),
        dict(cluster_group__tsv=GROUP, cluster_quality__tsv="cluster_id\tquality\n0\tgood\n"),
        dict(cluster_group__tsv="cluster_id\tgroup\n0\tgood\n0\tnoise\n"),
    ],
)
def test_noise_stays_noise(tables, tmp_path, recwarn):
    assert units(tmp_path, **tables) == [1, 2, 3, 4, 5]
    assert not [w for w in recwarn if w.category is RecordingWarning]


@pytest.mark.parametrize(
    ("other", "text"),
    [
        ("cluster_groups__csv", "cluster_id\tgroup\n0\tgood\n1\tgood\n"),
        ("cluster_info__tsv", "cluster_id\tgroup\n0\tgood\n"),
        ("cluster_group__csv", "cluster_id,group\n0,unsorted\n"),
    ],
)
def test_tables_that_contradict_each_other_are_named(tmp_path, other, text):
    with pytest.warns(
        RecordingWarning, match=r"cluster_group\.tsv: contradicts .*on the group of 1 clusters, such as 0"
    ):
        assert units(tmp_path, cluster_group__tsv=GROUP, **{other: text}) == [1, 2, 3, 4, 5]


def test_the_same_number_is_no_contradiction(tmp_path, recwarn):
    tables = dict(cluster_info__tsv="cluster_id\tdepth\n0\t20\n", cluster_depth__tsv="cluster_id\tdepth\n0\t20.0\n")
    found = read_population(folder(tmp_path, **tables))
    assert found.properties["depth"][0] == 20.0
    assert np.isnan(found.properties["depth"][1:]).all()
    assert not [w for w in recwarn if w.category is RecordingWarning]


def test_labels_are_text_of_any_alphabet(tmp_path):
    table = "cluster_id\tárea\n0\tCA1\n1\tcórtex\n"
    found = read_population(folder(tmp_path, cluster_area__tsv=table.encode("latin-1")))
    assert found.properties["área"].tolist() == ["CA1", "córtex", "", "", "", ""]


def test_a_damaged_table_is_named(tmp_path):
    text = 'cluster_id\tgroup\n0\t"noise' + "x" * 200_000  # a quote that never ends
    with pytest.raises(InputError, match=r"cluster_group\.tsv: not a readable cluster table"):
        read_population(folder(tmp_path, cluster_group__tsv=text))


# --- params.py ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params",
    [
        "sample_rate = 20000.\nsample_rate = 30000.\n",
        '"""\nsample_rate = 20000.\n"""\nsample_rate = 30000.\n',
        "sample_rate = 30000\n'sample_rate = 20000'\n# sample_rate = 20000\n",
        "sample_rate: float = 30000.0  # Hz\n",
        "sample_rate = 20000.\nsample_rate: float\nsample_rate = 3e4\n",
        "sample_rate = fs = 30_000\nfs = 7\n",
        "x = 1; sample_rate = +30000\n",
        "if False:\n    sample_rate = 7\nsample_rate = 30000.\n",
        "def f():\n    sample_rate = 7\nclass A:\n    sample_rate = 8\nsample_rate = 30000.\n",
        "sample_rate = (\n    30000.\n)\n",
        "dat_path = r'C:\\data'\nsample_rate = 30000.\n",
        "dat_path = 'C:\\users\\x'\nsample_rate = 30000.\n",
        "dat_path = 'C:\\data\\'\nsample_rate = 30000.\n",
        "dat_path = ['a', 'b']\nn_channels_dat = 385\noffset = 0\nhp_filtered = False\nsample_rate = 30000.\n",
        b"\xef\xbb\xbfsample_rate = 30000.\r\n",
        "dat_path = 'caf\xe9'\nsample_rate = 30000.\n".encode("latin-1"),
        "print(open('/etc/passwd').read())\nsample_rate = 30000.\n",
    ],
)
def test_the_sample_rate_is_what_python_would_assign(tmp_path, params):
    assert read_population(folder(tmp_path, params)).stop == 100.0


@pytest.mark.parametrize(
    "params",
    [
        "sample_rate = 3 * 10_000\n",
        "sample_rate = rate\n",
        "sample_rate = '30000'\n",
        "sample_rate = True\n",
        "sample_rate = None\n",
        "sample_rate = 30000.\nsample_rate *= 2\n",
        "sample_rate = 30000.\nif True:\n    sample_rate = 20000.\n",
        "sample_rate = 30000.\nfor sample_rate in (1, 2):\n    pass\n",
        "sample_rate = 30000.\n(sample_rate := 2)\n",
        "sample_rate = 30000.\ndel sample_rate\n",
        "sample_rate = 30000.\nfrom other import *\n",
        "sample_rate = 30000.\nimport x as sample_rate\n",
        "sample_rate, x = 30000., 2\n",
        "sample_rate: float\n",
        "Sample_rate = 30000.\n",
        "'sample_rate = 30000.'\n",
        "",
        "sample_rate = " + "(" * 5000 + "1" + ")" * 5000,
        "sample_rate = " + "-" * 100_000 + "1",
        "sample_rate = 30000.\n(",
        b"sample_rate = 30000.\0\n",
        "#" * 2_000_000,
        "sample_rate = 1" + "0" * 400 + "\n",
        "sample_rate = 1e999\n",
        "sample_rate = -1\n",
        "sample_rate = 0\n",
    ],
)
def test_a_rate_that_is_not_plain_is_asked_for(tmp_path, params):
    path = folder(tmp_path, params)
    with pytest.raises(InputError, match="give sampling_frequency=") as error:
        read_population(path)
    assert "\n" not in str(error.value)
    assert read_population(path, sampling_frequency=30_000.0).stop == 100.0


# --- spikes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spikes", "says"),
    [
        (dict(times=np.arange(6000) - 1), r"spike_times\.npy: entry 0 is -1, and samples are whole numbers"),
        (dict(times=np.arange(6000) + 0.25), r"spike_times\.npy: entry 0 is 0\.25, and samples are whole numbers"),
        (dict(clusters=np.arange(6000) / 2), r"spike_clusters\.npy: entry 1 is 0\.5, and clusters are whole numbers"),
        (dict(clusters=np.arange(6000) - 6), r"spike_clusters\.npy: entry 0 is -6"),
        (dict(clusters=np.full(6000, 2**64 - 1, dtype=np.uint64)), r"spike_clusters\.npy: entry 0 is 1844674407370955"),
        (dict(times=np.zeros((6000, 2))), "12,000 spike times for 6,000 cluster labels"),
    ],
)
def test_samples_and_clusters_are_whole_numbers(tmp_path, spikes, says):
    with pytest.raises(InputError, match=says):
        read_population(folder(tmp_path, **spikes))


def test_whole_numbers_may_be_floats(tmp_path):
    found = read_population(folder(tmp_path, times=np.arange(6000.0)[:, None] * 500, clusters=np.arange(6000.0) % 6))
    assert found.unit_ids.tolist() == [0, 1, 2, 3, 4, 5]
    assert found.observed.tolist() == [[0.0, 100.0]]


def test_a_recording_begins_at_sample_0(tmp_path):
    found = read_population(folder(tmp_path, times=600_000 + np.arange(6000) * 500))
    assert found.observed.tolist() == [[0.0, 120.0]]


# --- predictions as columns -----------------------------------------------------------------------------------------


@pytest.fixture
def sorted_folder(tmp_path):
    """A folder of twelve simulated units, one of them noise, as phy has it."""
    population = simulate_population(12, 60.0, seed=4)
    times = np.concatenate([np.round(30_000 * train).astype(np.int64) for train in population.spike_times])
    clusters = np.repeat(np.arange(12, dtype=np.int32) + 3, population.num_spikes)
    order = np.argsort(times, kind="stable")
    group = "cluster_id\tgroup\n3\tnoise\n4\tgood\n"
    return folder(tmp_path, times=times[order], clusters=clusters[order], cluster_group__tsv=group)


def test_phy_shows_predicted_labels(sorted_folder, nuclr):
    before = {path.name: path.read_bytes() for path in sorted_folder.iterdir()}
    done = nuclr("predict", sorted_folder, "--decoder", "simulated-cell-type", "--to-phy", "-q")
    assert "cluster_nuclr_cell_type.tsv" in done.stdout
    after = {path.name: path.read_bytes() for path in sorted_folder.iterdir()}
    new = {"cluster_nuclr_cell_type.tsv", "cluster_nuclr_cell_type_probability.tsv", "nuclr_cell_type.provenance.json"}
    assert set(after) - set(before) == new
    assert all(after[name] == content for name, content in before.items())
    nuclr("predict", sorted_folder, "--decoder", "simulated-cell-type", "-o", sorted_folder.parent / "p.csv", "-q")
    expected = pd.read_csv(sorted_folder.parent / "p.csv", index_col=0)
    shown = pd.read_csv(sorted_folder / "cluster_nuclr_cell_type.tsv", sep="\t", index_col="cluster_id")
    assert shown.index.tolist() == list(range(4, 15))
    assert shown["nuclr_cell_type"].tolist() == expected["label"].tolist()
    probability = pd.read_csv(sorted_folder / "cluster_nuclr_cell_type_probability.tsv", sep="\t", index_col=0)
    assert np.allclose(probability["nuclr_cell_type_probability"], expected["confidence"], rtol=1e-3)
    # What was written does not change what is read.
    assert read_population(sorted_folder).unit_ids.tolist() == list(range(4, 15))
    again = ("predict", sorted_folder, "--decoder", "simulated-cell-type", "--to-phy", "-q")
    (sorted_folder / "cluster_nuclr_cell_type.tsv").write_text("cluster_id\tnuclr_cell_type\n4\tcorrected\n")
    assert "is up to date" in nuclr(*again).stdout
    assert "exists already" in nuclr(*again, "--target-error", 0.3, code=3).stderr
    assert "corrected" in (sorted_folder / "cluster_nuclr_cell_type.tsv").read_text()
    nuclr(*again, "--overwrite")
    assert "corrected" not in (sorted_folder / "cluster_nuclr_cell_type.tsv").read_text()


def test_phylib_reads_the_columns(sorted_folder, nuclr):
    model = pytest.importorskip("phylib.io.model")
    nuclr("predict", sorted_folder, "--decoder", "simulated-cell-type", "--to-phy", "-q")
    for name in new_columns(sorted_folder):
        columns = model.load_metadata(sorted_folder / f"cluster_{name}.tsv")
        assert list(columns) == [name]
        assert sorted(columns[name]) == list(range(4, 15))


def new_columns(path):
    return sorted(file.stem.removeprefix("cluster_") for file in path.glob("cluster_nuclr_*.tsv"))


def test_numbers_have_columns_of_their_intervals(sorted_folder):
    ids = np.arange(4, 15)
    value = np.where(ids == 6, np.nan, ids * 10.0)
    estimates = Estimates("depth (µm)", ids, value, value - 1, value + 1, 0.9, {})
    files = write_phy_columns(sorted_folder, estimates)
    assert [file.name for file in files] == [f"cluster_nuclr_depth_m_{end}.tsv" for end in ("", "_low", "_high")]
    rows = pd.read_csv(files[0], sep="\t")
    assert 6 not in rows["cluster_id"].tolist()
    assert rows.iloc[0].tolist() == [4, 40.0]


def test_columns_go_into_phy_folders_only(sorted_folder, nuclr, tmp_path_factory):
    ids = np.array(["a", "b"])
    estimates = Estimates("depth", ids, np.ones(2), np.ones(2), np.ones(2), 0.9, {})
    with pytest.raises(InputError, match="no cluster id"):
        write_phy_columns(sorted_folder, estimates)
    with pytest.raises(InputError, match=r"holds no spike_times\.npy"):
        write_phy_columns(tmp_path_factory.mktemp("other"), estimates)
    for extra in (("-o", "x.csv"), ("--in-place",)):
        nuclr("predict", sorted_folder, "--decoder", "simulated-cell-type", "--to-phy", *extra, code=2)
