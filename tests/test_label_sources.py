"""Labels from a CSV file: rows are matched to recordings and units, and rows that match none are reported."""

import pytest
from nwb_files import add_units, new_nwb, write_nwb_file
from ophys_files import activity
from test_optical import write_plane

from spikeinterface_nuclr import Decoder, InputError, Population, read_population, simulate_population
from spikeinterface_nuclr.decoding.label_sources import LabelTable, read_classes


def written(path, *rows, header="source,unit,label"):
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def recorded(*unit_ids):
    return Population(list(unit_ids), [[1.0]] * len(unit_ids), stop=2.0)


@pytest.fixture(scope="module")
def unlabelled_mice(checkpoint, tmp_path_factory):
    """A small model, the NWB files of three simulated mice without labels, and a table of their labels."""
    folder = tmp_path_factory.mktemp("mice")
    rows = []
    for k in range(3):
        population = simulate_population(30, 30.0, seed=k)
        nwbfile = new_nwb()
        nwbfile.subject.fields["subject_id"] = f"mouse-{k}"
        write_nwb_file(folder / f"m{k}.nwb", add_units(nwbfile, population.spike_times))
        # Spreadsheets write whole numbers as 3.0; five units have no row.
        rows += [f"m{k}.nwb,{unit}.0,{label}" for unit, label in enumerate(population.properties["cell_type"][:25])]
    written(folder / "cell_types.csv", *rows)
    checkpoint.save(folder / "small.safetensors")
    return folder


def test_units_are_labelled_by_their_ids(tmp_path):
    table = LabelTable.read(written(tmp_path / "x.csv", "m.nwb,12,PV", "m.nwb, 3.0 , SST", "m.nwb,7,", "m.nwb,8,NaN"))
    assert table.labels_of(recorded(3, 7, 8, 9, 12), "data/m.nwb").tolist() == ["SST", "", "", "", "PV"]
    assert table.labels_of(recorded("12", "3", "7", "8"), "data/m.nwb").tolist() == ["PV", "SST", "", ""]
    assert table.labels_of(recorded(1, 2), "data/other.nwb").tolist() == ["", ""]


def test_labels_of_a_table_are_rolled_up_and_mapped(tmp_path):
    path = written(tmp_path / "x.csv", "m.nwb,a,VISp5", "m.nwb,b,CA1", "m.nwb,c,root", "m.nwb,d,")
    population = recorded(*"abcd")
    assert LabelTable.read(path, "cosmos").labels_of(population, "m.nwb").tolist() == ["Isocortex", "HPF", "", ""]
    table = LabelTable.read(path, "cosmos", {"Isocortex": "cortex"})
    assert table.labels_of(population, "m.nwb").tolist() == ["cortex", "", "", ""]
    with pytest.raises(InputError, match="column label: level must be one of"):
        LabelTable.read(path, "lobe")
    with pytest.raises(InputError, match=r"x\.csv: column label: 'moon' is no region"):
        LabelTable.read(written(path, "m.nwb,a,moon"), "cosmos")


def test_a_source_is_a_path_or_the_end_of_one(tmp_path, monkeypatch):
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "m.nwb").write_text("")
    monkeypatch.chdir(tmp_path / "a")
    names = ["m.nwb", "../b/m.nwb", str(tmp_path / "c" / "m.nwb"), "array"]
    for source, name in (
        ("m.nwb", "m.nwb"),  # there, from the folder of the table
        ("../b/m.nwb", "../b/m.nwb"),
        ("b/m.nwb", "../b/m.nwb"),
        (str(tmp_path / "c" / "m.nwb"), str(tmp_path / "c" / "m.nwb")),
        ("array", "array"),
    ):
        table = LabelTable.read(written(tmp_path / "a" / "x.csv", f"{source},1,PV"))
        table.check(names)
        assert [name for name in names if table.labels_of(recorded(1), name)[0]] == [name]
    table = LabelTable.read(written(tmp_path / "x.csv", "a/m.nwb,1,PV", "m.nwb,1,PV"))
    with pytest.raises(InputError, match=r"x\.csv: line 3, column source: 'm\.nwb' may be m\.nwb or \.\./b/m\.nwb"):
        table.check(names)
    table = LabelTable.read(written(tmp_path / "x.csv", "a/m.nwb,1,PV", "d.nwb,1,PV", "d.nwb,2,PV"))
    with pytest.raises(InputError, match=r"x\.csv: line 3, column source: 'd\.nwb' is none of the recordings given"):
        table.check(names)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: no column is called source: .* has: none"),
        (b"source,unit,label\n", "has no rows"),
        (b"source;unit;label\na;1;x\n", "line 1: no column is called source: .* has: source;unit;label"),
        (b"source,unit,class\na,1,x\n", "line 1: no column is called label"),
        (b"source,unit,label,label\na,1,x,y\n", "line 1: two columns are called label"),
        (b"source,unit,label\na,1,x\n\na,2\n", "line 4: has 2 entries for 3 columns"),
        (b"source,unit,label\na,1,x,y\n", "line 2: has 4 entries for 3 columns"),
        (b"source,unit,label\na,1,x\n,2,x\n", "line 3, column source: is empty"),
        (b"source,unit,label\na,,x\n", "line 2, column unit: is empty"),
        (b"source,unit,label\na,1,x\na,1.0,y\n", "line 3, column unit: unit '1' of a has a label in line 2 already"),
        (b"source,unit,label\na,1,0.5\na,2,0.7\n", "column label: holds numbers, such as 0.5"),
        (b"source,unit,label\na,1,caf\xe9\n", "not a readable CSV file .*: save it as UTF-8"),
        (b"source,unit,label\na,1,\"x\n", "not a readable CSV file"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used_is_named(tmp_path, content, message):
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"^{path}: .*{message}") as caught:
        LabelTable.read(path)
    assert "\n" not in str(caught.value)


def test_other_columns_a_byte_order_mark_and_quotes_are_fine(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes('\ufeffdepth, label ,unit,source\r\n7,"a, b",1,m.nwb\r\n\r\n,c,2,m.nwb\r\n'.encode())
    assert LabelTable.read(path).labels_of(recorded(1, 2), "m.nwb").tolist() == ["a, b", "c"]


def test_a_unit_that_is_not_there_or_has_two_rows_is_named(tmp_path):
    table = LabelTable.read(written(tmp_path / "x.csv", "m.nwb,1,PV", "m.nwb,9,PV", "m.nwb,8,PV"))
    with pytest.raises(InputError, match=r"x\.csv: line 3, column unit: data/m\.nwb has no unit '9' \(it has 1, 2\)"):
        table.labels_of(recorded(1, 2), "data/m.nwb")
    table = LabelTable.read(written(tmp_path / "x.csv", "m.nwb,1,PV", "data/m.nwb,1,PV"))
    with pytest.raises(InputError, match=r"x\.csv: line 3, column unit: unit '1' of data/m\.nwb has a label in line 2"):
        table.labels_of(recorded(1, 2), "data/m.nwb")


# --- commands ---------------------------------------------------------------------------------------------------------


def test_a_table_labels_nwb_files(nuclr, unlabelled_mice, tmp_path):
    what = [
        unlabelled_mice,
        "--model",
        unlabelled_mice / "small.safetensors",
        "--labels",
        unlabelled_mice / "cell_types.csv",
        "-q",
    ]
    nuclr("decoder", "fit", *what, "-o", tmp_path / "d.safetensors")
    decoder = Decoder.load(tmp_path / "d.safetensors")
    assert decoder.target == "cell_types"
    assert decoder.classes.tolist() == ["bursting", "fast", "regular"]
    quick = ["--protocol", "zero-shot", "--test-animal", "mouse-2", "--no-control", "--shuffles", 0]
    nuclr("evaluate", *what, *quick, "--target", "type", "-o", tmp_path / "report")
    page = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert page.startswith("# type: zero-shot")
    assert "75 labelled units of 3 animals" in page


def test_a_table_labels_rois_of_suite2p(nuclr, tmp_path):
    rows, manifest = [], ["source,animal"]
    for k in range(2):
        folder = write_plane(tmp_path / f"mouse{k}" / "suite2p" / "plane0", activity(12, 600, seed=k)).parent
        ids = read_population(folder).unit_ids
        rows += [f"mouse{k}/suite2p,{unit},{label}" for unit, label in zip(ids, 6 * ["PV", "SST"], strict=False)]
        manifest.append(f"mouse{k}/suite2p,m{k}")
    (tmp_path / "mice.csv").write_text("\n".join(manifest))
    what = [tmp_path / "mice.csv", "-q", "--labels"]
    labels = written(tmp_path / "labels.csv", *rows)
    nuclr("decoder", "fit", *what, labels, "-o", tmp_path / "d.safetensors", "--target", "type")
    assert Decoder.load(tmp_path / "d.safetensors").animals == ("m0", "m1")
    # ROI 1 is no cell: suite2p rejected it.
    written(labels, *rows, "mouse0/suite2p,1,PV")
    result = nuclr("decoder", "fit", *what, labels, "-o", tmp_path / "e.safetensors", code=3)
    assert "line 24, column unit" in result.stderr
    assert "has no unit '1'" in result.stderr
    assert "--keep-rejected" in result.stderr
    # The second mouse has no labels.
    written(labels, *rows[:11])
    result = nuclr("decoder", "fit", *what, labels, "-o", tmp_path / "e.safetensors", code=3)
    assert f"nuclr: skipped: {tmp_path / 'mouse1' / 'suite2p'}: no unit has a usable label" in result.stderr
    assert Decoder.load(tmp_path / "e.safetensors").animals == ("m0",)


def test_labels_come_from_one_place(nuclr, unlabelled_mice, tmp_path):
    for more in ([], ["--label", "cell_type", "--labels", unlabelled_mice / "cell_types.csv"]):
        for command in (["decoder", "fit"], ["evaluate"]):
            result = nuclr(*command, unlabelled_mice, *more, "-o", tmp_path / "d.safetensors", code=2)
            assert "--labels" in result.stderr
    path = written(tmp_path / "x.csv", "m7.nwb,1,PV")
    result = nuclr("evaluate", unlabelled_mice, "--labels", path, "-o", tmp_path / "r", "-q", code=3)
    assert result.stderr.startswith(f"nuclr: {path}: line 2, column source: 'm7.nwb' is none of the recordings")
    assert not (tmp_path / "r").exists()


def test_a_label_has_one_class(tmp_path):
    path = written(tmp_path / "classes.csv", "VISp5,deep", "VISp2,upper", "VISp5,deep", header="label,class")
    assert read_classes(path) == {"VISp5": "deep", "VISp2": "upper"}
    written(path, "VISp5,deep", "VISp2,upper", "VISp5,upper", header="label,class")
    with pytest.raises(InputError, match="label 'VISp5' has two classes"):
        read_classes(path)
