"""Sessions of brainsets, as temporaldata writes them, and the selection of units by their properties."""

import h5py
import numpy as np
import pytest

from spikeinterface_nuclr import InputError, Population, UnitEmbeddings, embed, read_population
from spikeinterface_nuclr.io import kind_of

REGIONS = np.array(["TH", "HPF", "Isocortex", "root"])


def session(
    path, units: int = 24, duration: float = 60.0, rate: float = 5.0, seed: int = 0, gap=True, text="S",
    subject: str = "NYU-11", session_id: str = "6713a4a7", region=REGIONS,
):  # fmt: skip
    """A session of two probes in the layout of BrainWideBench; returns the spike times of each unit."""
    temporaldata = pytest.importorskip("temporaldata")
    Data, ArrayDict, Interval = temporaldata.Data, temporaldata.ArrayDict, temporaldata.Interval
    rng = np.random.default_rng(seed)
    index = rng.integers(units, size=int(units * rate * duration))
    times = rng.uniform(0, duration, len(index))
    ends = [duration / 2 - 1, duration / 2, duration] if gap else [duration]
    domain = Interval(
        start=np.array([0.0, *ends[1:-1]]), end=np.array([*ends[:1], *ends[2:]]) if gap else np.array(ends)
    )
    keep = (times < ends[0]) | (times >= ends[1]) if gap else np.ones(len(times), dtype=bool)
    times, index = times[keep], index[keep]
    order = np.argsort(times)
    times, index = times[order], index[order]
    columns = {
        "id": np.array([f"unit-{k:05d}" for k in range(units)]).astype(text),
        "probe_id": np.repeat(["probe-a", "probe-b"], [units // 2, units - units // 2]).astype(text),
        "depths": 20.0 * np.arange(units), "location": rng.standard_normal((units, 3)),
        "region_cosmos": np.resize(region, units).astype(text), "label": np.resize([1.0, 0.5, 1.0], units),
        "qc_neural": np.resize(["PASS", "FAIL"], units).astype(text), "firing_rate": np.full(units, rate),
    }  # fmt: skip
    data = Data(
        brainset=Data(id="ibl_brain_wide_bench_2026", unit_filtering="selected_units", derived_version="1.0"),
        subject=Data(id=subject, species="MUS_MUSCULUS"),
        session=Data(id=session_id),
        spikes=temporaldata.IrregularTimeSeries(timestamps=times, unit_index=index, domain=domain),
        units=ArrayDict(**columns),
        probes=ArrayDict(id=np.array(["probe-a", "probe-b"]).astype(text)),
        domain=domain,
    )
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        data.to_hdf5(file)
    return [times[index == k] for k in range(units)]


def test_a_session_is_read_as_one_population_a_probe(tmp_path):
    trains = session(tmp_path / "s.h5")
    population = read_population(tmp_path / "s.h5")
    for found, written in zip(population.spike_times, trains, strict=True):
        np.testing.assert_array_equal(found, written)
    assert population.unit_ids.tolist() == [f"unit-{k:05d}" for k in range(24)]
    assert population.group.tolist() == ["probe-a"] * 12 + ["probe-b"] * 12
    assert population.observed.tolist() == [[0.0, 29.0], [30.0, 60.0]]
    assert population.properties["region_cosmos"][:4].tolist() == REGIONS.tolist()
    assert population.properties["depths"].tolist() == [20.0 * k for k in range(24)]
    assert "location" not in population.properties
    facts = {key: population.metadata[key] for key in ("subject", "session", "species", "dataset")}
    assert facts == {"subject": "NYU-11", "session": "6713a4a7", "species": "MUS_MUSCULUS",
                     "dataset": "ibl_brain_wide_bench_2026"}  # fmt: skip
    assert kind_of(tmp_path / "s.h5") == "other"


def test_text_that_is_no_bytes_is_read_as_well(tmp_path):
    session(tmp_path / "s.h5", text=str)
    assert read_population(tmp_path / "s.h5").unit_ids[0] == "unit-00000"


def test_older_brainsets_with_fewer_columns_and_a_domain_at_the_top(tmp_path):
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file["spikes/timestamps"] = [0.5, 1.5, 2.5]
        file["spikes/unit_index"] = [1, 0, 1]
        file["units/unit_number"] = [7, 9]
        file["domain/start"], file["domain/end"] = [0.0], [10.0]
    population = read_population(tmp_path / "old.h5")
    assert [times.tolist() for times in population.spike_times] == [[1.5], [0.5, 2.5]]
    assert population.unit_ids.tolist() == [0, 1]
    assert population.observed.tolist() == [[0.0, 10.0]]


def damage(what):
    def change(file):
        if what == "index":
            file["spikes/unit_index"][0] = 99
        elif what == "lengths":
            del file["spikes/unit_index"]
            file["spikes/unit_index"] = [0, 1]
        elif what == "columns":
            file["units/extra"] = [1, 2, 3]
        elif what == "domain":
            file["spikes/domain/end"][0] = -1.0
        elif what == "units":
            del file["units"]
            file.create_group("units")
        elif what == "times":
            file["spikes/timestamps"][0] = np.nan

    return change


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("index", "spikes/unit_index has 0 to 99, of 24 units"),
        ("lengths", "do not match"),
        ("columns", "columns of units have 3 to 24 rows"),
        ("domain", "spikes/domain does not hold intervals"),
        ("units", "it has no units"),
        ("times", "spike times"),
    ],
)
def test_damaged_sessions_are_refused_in_one_line(tmp_path, what, message):
    path = tmp_path / "s.h5"
    session(path)
    with h5py.File(path, "r+") as file:
        damage(what)(file)
    with pytest.raises(InputError, match=message) as caught:
        read_population(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_data_of_other_files_are_refused(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("0123456789" * 24)
    for name, add in (
        ("storage", lambda file: file.create_dataset("units/x", (24,), "S10", external=[(str(secret), 0, 240)])),
        ("link", lambda file: file["units"].__setitem__("x", h5py.ExternalLink(str(tmp_path / "other.h5"), "/x"))),
    ):
        path = tmp_path / f"{name}.h5"
        session(path)
        with h5py.File(path, "r+") as file:
            add(file)
        with pytest.raises(InputError, match="other file") as caught:
            read_population(path)
        assert "0123" not in str(caught.value)


def test_more_data_than_the_file_holds_are_refused(tmp_path):
    path = tmp_path / "s.h5"
    session(path)
    with h5py.File(path, "r+") as file:
        for name, kind in (("timestamps", "f8"), ("unit_index", "i8")):
            del file[f"spikes/{name}"]
            file.create_dataset(f"spikes/{name}", (600_000_000,), kind, chunks=(10_000,))
    with pytest.raises(InputError, match=r"claims .* GB and has .* MB on disk"):
        read_population(path)


def test_a_truncated_session_is_refused(tmp_path):
    path = tmp_path / "s.h5"
    session(path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match=r"s\.h5"):
        read_population(path)


@pytest.mark.slow
def test_a_session_of_real_size_is_read(tmp_path):
    """360 units of two probes, 65 minutes."""
    session(tmp_path / "s.h5", units=360, duration=3900.0, rate=6.0, gap=False)
    population = read_population(tmp_path / "s.h5", where="label == 1")
    assert population.n_units == 240
    assert population.num_spikes.sum() > 5_000_000


# --- selection --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def population() -> Population:
    properties = {
        "label": np.array([1.0, 0.5, 1.0, np.nan]), "region": np.array(["TH", "HPF", "root", "TH"]),
        "good": np.array([True, False, True, True]), "ks": np.array(["1", "2", "x", ""]),
    }  # fmt: skip
    return Population(list("abcd"), [[1.0], [2.0], [3.0], [4.0]], stop=5.0, properties=properties)


@pytest.mark.parametrize(
    ("where", "selected"),
    [
        ("label == 1", "ac"),
        ("label == 1.0 and region != 'root'", "a"),
        ("label < 1 or good", "abcd"),
        ("not good", "b"),
        ("good == True", "acd"),
        ("label != 1", "bd"),
        ("region in ['TH', 'HPF'] and not (label == 1)", "bd"),
        ("region not in ('TH',)", "bc"),
        ("ks >= 1", "ab"),
        ("ks == 'x'", "c"),
        ("label >= -1", "abc"),
    ],
)
def test_units_are_selected_by_their_properties(population, where, selected):
    assert "".join(read_population(population, where=where).unit_ids) == selected


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("label ==", "is no condition, such as"),
        ("colour == 1", "its units have no property 'colour'; they have: label, region, good, ks"),
        ("label == region", "'region' is no number or text: quote text"),
        ("__import__('os').system('true')", "compares no property with a value"),
        ("label.real == 1", "compares no property with a value"),
        ("0 < label", "compares no property with a value"),
        ("0 < label < 1", "compares no property with a value"),
        ("label < 1 < 2", "join comparisons by 'and'"),
        ("region in 'TH'", "give a list"),
        ("label == [1]", "is no comparison with a number or a text"),
        ("label > 3", "no unit satisfies 'label > 3'"),
        ("label", "label holds no truth values"),
        ("ks and good", "ks holds no truth values"),
        ("label < 0x" + 400 * "f", "is no condition"),
        ("label in [None]", "give a list"),
        ("label in [[1]]", "give a list"),
        ("label < " + 900 * "-" + "1", "is no"),
        ("good or " * 300 + "good", "where has 2,404 characters"),
    ],
)
def test_conditions_that_cannot_be_are_refused(population, where, message):
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        read_population(population, where=where)


def test_a_column_with_a_micro_sign_can_be_named():
    population = Population(["a", "b"], [[1.0], [2.0]], stop=3.0, properties={"depth_\u00b5m": np.array([10.0, 20.0])})
    assert read_population(population, where="depth_\u00b5m > 15").unit_ids.tolist() == ["b"]


def test_units_that_are_left_out_are_no_context(checkpoint, tmp_path):
    session(tmp_path / "s.h5")
    chosen = read_population(tmp_path / "s.h5", where="qc_neural == 'PASS'")
    assert chosen.n_units == 12
    alone = embed(chosen, checkpoint, precision="float32", progress=False)
    every = embed(read_population(tmp_path / "s.h5"), checkpoint, precision="float32", progress=False)
    assert not np.allclose(alone.embedding, every.embedding[::2])


# --- commands ---------------------------------------------------------------------------------------------------------


def test_commands_select_units(nuclr, mice, tmp_path):
    exact, out = ("--model", mice / "small.safetensors", "-q"), tmp_path / "e.npz"
    nuclr("embed", mice / "m0.nwb", "-o", out, "--where", "depth > 1000", *exact)
    kept = read_population(mice / "m0.nwb", where="depth > 1000")
    assert UnitEmbeddings.load(out).unit_ids.tolist() == kept.unit_ids.tolist()
    decoder = tmp_path / "d.safetensors"
    fit = ("decoder", "fit", mice, "--where", "depth > 1000", *exact, "-o", decoder)
    table = tmp_path / "labels.csv"
    every = read_population(mice / "m0.nwb")
    rows = zip(every.unit_ids, every.properties["cell_type"], strict=True)
    table.write_text("source,unit,label\n" + "".join(f"m0.nwb,{unit},{label}\n" for unit, label in rows))
    nuclr(*fit, "--label", "cell_type")
    nuclr("decoder", "fit", mice / "m0.nwb", "--where", "depth > 1000", *exact, "-o", tmp_path / "t.safetensors",
          "--labels", table)  # fmt: skip
    nuclr("predict", mice / "m0.nwb", "--decoder", decoder, "-o", tmp_path / "u.csv", "--where", "depth > 1000", *exact)
    assert len((tmp_path / "u.csv").read_text().splitlines()) == kept.n_units + 1
    inside = ("--in-place", "--where", "depth > 1", *exact)
    for wrong in (("embed", mice / "m0.nwb"), ("predict", mice / "m0.nwb", "--decoder", decoder)):
        assert "--where and --within are for output files" in nuclr(*wrong, *inside, code=2).stderr
    nuclr("store", "build", mice / "m0.nwb", "-o", tmp_path / "store", "-q", "--where", "depth > 1000")
    train = ("train", tmp_path / "store", "-o", tmp_path / "m.safetensors", "--where", "depth > 1", "-q")
    assert "when a store is built" in nuclr(*train, code=3).stderr
    within = ("--within", "0:20", "--within", "30:50")
    nuclr("embed", mice / "m0.nwb", "-o", tmp_path / "w.npz", *within, *exact)
    part = read_population(mice / "m0.nwb", within=[[0, 20], [30, 50]])
    assert UnitEmbeddings.load(tmp_path / "w.npz").provenance.population_fingerprint == part.fingerprint()
    assert "--within 20: give START:STOP" in nuclr("embed", mice / "m0.nwb", "-o", out, "--within", "20", code=2).stderr
    assert "--within are for output files" in nuclr("embed", mice / "m0.nwb", "--in-place", *within, code=2).stderr
    assert "is no condition" in nuclr(*fit, "--label", "cell_type", "--where", "depth >", "--overwrite", code=3).stderr
