"""NWB files that are old, incomplete, or full of other people's things are written into all the same."""

import dataclasses
import json
import shutil

import h5py
import numpy as np
import pynwb
import pytest
from h5tree import differences
from hdmf.common import DynamicTable, VectorData
from nwb_files import add_units, new_nwb, write_nwb_file

from spikeinterface_nuclr import InputError, RecordingWarning, embed, fit_decoder, read_nwb, read_population, write_nwb
from spikeinterface_nuclr.io.nwb.reading import table_names
from spikeinterface_nuclr.io.nwb.specification import wants_ascii_names

QUICK = {"precision": "float32", "device": "cpu", "progress": False}
OURS = ("/processing/nuclr", "/specifications/ndx-nuclr")


def units_file(path, population, names=None, more=None):
    nwbfile = add_units(new_nwb(), population.spike_times, unit_name=population.unit_ids if names is None else names)
    if more:
        more(nwbfile)
    return write_nwb_file(path, nwbfile)


def only_ours_is_new(before, after):
    gone, new, changed = differences(before, after)
    assert (gone, changed) == ([], [])
    assert all(path.startswith(OURS) for path in new)


def plain_rows(path, name="UnitEmbeddings"):
    """Rows and shape of the embeddings, as plain pynwb reads them."""
    with pynwb.NWBHDF5IO(path, "r") as io:
        table = io.read().processing["nuclr"][name]
        return table["neuron"].data[:].tolist(), table["embedding"].data.shape


# --- specifications inside the file -----------------------------------------------------------------------------------


def add_incomplete_namespace(path):
    """A namespace of which the file holds the name, and not the sources."""
    with h5py.File(path, "r+") as file:
        root = file[file.attrs[".specloc"]]
        version = next(iter(root["hdmf-common"]))
        names = json.loads(root[f"hdmf-common/{version}/namespace"][()])
        one = {**names["namespaces"][0], "name": "hdmf-experimental", "full_name": "x", "version": "0.1.0"}
        names["namespaces"].append({**one, "schema": [{"namespace": "hdmf-common"}, {"source": "experimental.yaml"}]})
        root[f"hdmf-common/{version}/namespace"][()] = json.dumps(names)
        root.pop("hdmf-experimental", None)
    return path


def test_specifications_without_their_sources(population, checkpoint, tmp_path):
    path = add_incomplete_namespace(units_file(tmp_path / "s.nwb", population))
    before = shutil.copy(path, tmp_path / "before.nwb")
    found = embed(read_population(path), checkpoint, **QUICK)
    with pytest.warns(RecordingWarning, match=r"s\.nwb: pynwb cannot validate it \(.*experimental\.yaml"):
        written = write_nwb(path, found)
    only_ours_is_new(before, written)
    assert plain_rows(written) == (list(range(20)), (20, 32))
    with pytest.warns(RecordingWarning, match="pynwb cannot validate it"):
        write_nwb(written, found, in_place=True, if_exists="replace")


def in_ascii(path, length):
    """The specification of column names as in NWB 2.0 and 2.1; names of that kind, of fixed or any length."""
    with h5py.File(path, "r+") as file:
        texts = []
        root = file[file.attrs[".specloc"]]
        root.visititems(lambda name, thing: texts.append(thing.name) if isinstance(thing, h5py.Dataset) else None)

        def old(specification):
            if specification.get("name") == "colnames":
                specification["dtype"] = "ascii"
            return specification

        for name in texts:
            content = json.dumps(json.loads(file[name][()], object_hook=old))
            del file[name]
            file[name] = content

        def rename(_, thing):
            if "colnames" in thing.attrs:
                thing.attrs.create("colnames", np.array([str(n) for n in thing.attrs["colnames"]], dtype=length))

        file.visititems(rename)
    return path


def test_column_names_in_ascii(population, checkpoint, tmp_path):
    path = in_ascii(units_file(tmp_path / "s.nwb", population), "S")
    with h5py.File(path) as file:
        assert wants_ascii_names(file)
    assert pynwb.validate(path=str(path)) == []
    before = shutil.copy(path, tmp_path / "before.nwb")
    found = embed(read_population(path), checkpoint, **QUICK)
    write_nwb(path, found, in_place=True)
    only_ours_is_new(before, path)
    assert pynwb.validate(path=str(path)) == []
    write_nwb(path, found, in_place=True, publish=True, if_exists="replace")
    assert pynwb.validate(path=str(path)) == []
    assert np.array_equal(read_nwb(path)[0].embedding, found.embedding)
    assert plain_rows(path) == (list(range(20)), (20, 32))
    assert read_population(path).properties["nuclr_num_windows"].tolist() == found.num_windows.tolist()


def test_column_names_in_unicode_stay(population, checkpoint, tmp_path):
    path = units_file(tmp_path / "s.nwb", population)
    with h5py.File(path) as file:
        assert not wants_ascii_names(file)
    write_nwb(path, embed(read_population(path), checkpoint, **QUICK), in_place=True)
    with h5py.File(path) as file:
        names = file["processing/nuclr/UnitEmbeddings"].attrs.get_id("colnames").dtype
    assert h5py.check_string_dtype(names).encoding == "utf-8"


# --- a module that others use, too ------------------------------------------------------------------------------------


def others(nwbfile):
    module = nwbfile.create_processing_module("nuclr", "somebody's own")
    column = VectorData(name="x", description="d", data=[1.0, 2.0])
    module.add(DynamicTable(name="table", description="d", columns=[column]))
    module.add(pynwb.TimeSeries(name="series", data=np.arange(5.0), unit="V", rate=1.0))


def test_what_others_keep_in_the_module_stays(population, checkpoint, tmp_path):
    path = units_file(tmp_path / "s.nwb", population, more=others)
    before = shutil.copy(path, tmp_path / "before.nwb")
    found = embed(read_population(path), checkpoint, **QUICK)
    for name in ("table", "series"):
        with pytest.raises(InputError, match=f"holds a '{name}' that is not UnitEmbeddings: give another name="):
            write_nwb(path, found, in_place=True, name=name, if_exists="replace")
    for part in (found, found.select([2, 1])):
        write_nwb(path, part, in_place=True, if_exists="replace")
        only_ours_is_new(before, path)
        assert len(read_nwb(path)[0].unit_ids) == len(part.unit_ids)
    write_nwb(path, found, in_place=True, name="table", if_exists="new_name")
    with pynwb.NWBHDF5IO(path, "r") as io:
        nwbfile = io.read()
        assert sorted(table_names(nwbfile)) == ["UnitEmbeddings", "table_2"]
        assert nwbfile.processing["nuclr"]["table"]["x"][:].tolist() == [1.0, 2.0]
    assert pynwb.validate(path=str(path)) == []


def test_a_module_of_others_alone_holds_no_embeddings(population, tmp_path):
    path = units_file(tmp_path / "s.nwb", population, more=others)
    with pytest.raises(InputError, match="it holds no embeddings: write some with nuclr embed"):
        read_nwb(path)


# --- whatever words there are -----------------------------------------------------------------------------------------

HOSTILE = ["a\nb", "\x1b[2J", "=1+1", "<script>", "|", "../x", "é", "\u202eabc", " ", ".zgroup", "x" * 300, "a:b/c"]


def test_names_are_anybodys_words(population, checkpoint, tmp_path):
    names = [*HOSTILE, *(f"u{k}" for k in range(20 - len(HOSTILE)))]
    path = units_file(tmp_path / "s.nwb", population, names)
    found = embed(read_population(path), checkpoint, **QUICK)
    found = dataclasses.replace(found, provenance=found.provenance.replace(source={"source": "half\udcffname.nwb"}))
    labels = np.resize(["a\nb", "<script>"], 20)
    decoder = fit_decoder([found] * 3, [labels] * 3, ["1", "2", "3"], target="../cell\ntype:\x1b")
    identities = decoder.predict(found)
    write_nwb(path, found, identities=identities, in_place=True)
    back, [predicted] = read_nwb(path)
    assert back.unit_ids.tolist() == names
    assert predicted.target == identities.target
    assert predicted.label.tolist() == identities.label.tolist()
    with h5py.File(path) as file:
        assert sorted(file["processing/nuclr"]) == ["NuCLRModel", "UnitEmbeddings", "_.._cell_type__"]
    side = write_nwb(path, found, units_only=True)
    assert read_nwb(side)[0].unit_ids.tolist() == names


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a:b", "a\nb", ".zattrs", "a\0b"])
def test_names_of_tables_that_cannot_be(population, checkpoint, name, tmp_path):
    path = units_file(tmp_path / "s.nwb", population)
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"is not a valid name of a table: '.*' is") as caught:
        write_nwb(path, embed(population, checkpoint, **QUICK), in_place=True, name=name)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("UnitEmbeddings/provenance", "{"),
        ("UnitEmbeddings/provenance", "[1]"),
        ("UnitEmbeddings/provenance", '{"overlap": "much"}'),
        ("NuCLRModel/config", "none"),
    ],
)
def test_damaged_json_is_one_line_and_can_be_replaced(nuclr, session, embeddings, model, place, text):
    write_nwb(session, embeddings, in_place=True)
    with h5py.File(session, "r+") as file:
        file[f"processing/nuclr/{place}"][()] = text
    with pytest.raises(InputError, match=r"session\.nwb: '\w+': .*damaged") as caught:
        read_nwb(session)
    assert "\n" not in str(caught.value)
    assert "damaged" in nuclr("info", session).stdout
    nuclr("embed", session, "--in-place", "--if-exists", "replace", "--model", model, "-q")
    assert read_nwb(session)[0].num_windows.max() > 0
