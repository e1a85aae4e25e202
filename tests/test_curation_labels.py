"""Identities as labels of a curation, labels that come back for training, and the units to label first."""

import json
import shutil

import numpy as np
import pytest
from gui_analyzers import saved_analyzer
from spikeinterface.curation import apply_curation, validate_curation_dict

from spikeinterface_nuclr import (
    Decoder,
    InputError,
    RecordingWarning,
    embed,
    nuclr_curation,
    read_population,
    simulate_population,
    suggest_units,
)
from spikeinterface_nuclr.extensions import computed_identity
from spikeinterface_nuclr.io.curated_labels import curated_labels, curation_file, read_curation, write_curation


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return saved_analyzer(tmp_path_factory.mktemp("gui") / "analyzer")


def set_label(curation: dict, unit, kind: str, label: str) -> None:
    """As spikeinterface-gui's controller sets it."""
    [entry] = [entry for entry in curation["manual_labels"] if entry["unit_id"] == unit]
    entry["labels"][kind] = [label]


def labels_of(curation: dict, kind: str) -> dict:
    return {e["unit_id"]: e["labels"][kind][0] for e in curation["manual_labels"] if kind in e["labels"]}


def test_predictions_are_labels_and_yours_are_apart(saved):
    analyzer, _ = saved
    curation = nuclr_curation(analyzer)
    validate_curation_dict(curation)
    identities = computed_identity(analyzer).get_identities()
    predicted = dict(zip(identities.unit_ids.tolist(), identities.label.tolist(), strict=True))
    assert labels_of(curation, "nuclr_cell_type") == predicted
    assert labels_of(curation, "cell_type") == {}
    options = {name: kind["label_options"] for name, kind in curation["label_definitions"].items()}
    assert options["cell_type"] == ["bursting", "fast", "regular"]
    assert options["nuclr_cell_type"] == ["bursting", "fast", "regular", "unknown"]
    assert nuclr_curation(analyzer, classes=["axon"])["label_definitions"]["cell_type"]["label_options"][-1] == "axon"


def test_apply_curation_takes_them(saved):
    analyzer, _ = saved
    curation = nuclr_curation(analyzer)
    first, second = analyzer.unit_ids.tolist()[:2]
    set_label(curation, first, "cell_type", "fast")
    curation["removed"] = [second]
    curated = apply_curation(analyzer, curation)
    assert second not in curated.unit_ids
    population = read_population(curated)
    assert population.properties["cell_type"].tolist() == ["fast", *[""] * (population.n_units - 1)]
    assert set(population.properties["nuclr_cell_type"]) <= {"bursting", "fast", "regular", "unknown"}


def test_an_earlier_curation_is_kept(saved):
    analyzer, _ = saved
    units = analyzer.unit_ids.tolist()
    earlier = nuclr_curation(analyzer, classes=["axon"])
    set_label(earlier, units[0], "cell_type", "axon")
    set_label(earlier, units[0], "quality", "good")
    earlier["merges"] = [{"unit_ids": units[2:4]}]
    again = nuclr_curation(analyzer, curation=json.loads(json.dumps(earlier)))
    assert labels_of(again, "cell_type") == {units[0]: "axon"}
    assert labels_of(again, "quality") == {units[0]: "good"}
    assert again["merges"] == [{"unit_ids": units[2:4]}]
    assert "axon" in again["label_definitions"]["cell_type"]["label_options"]


def test_labels_that_are_known_are_yours(saved):
    analyzer, truth = saved
    known = np.where(np.arange(len(truth)) < 3, truth, "")
    analyzer.set_sorting_property("cell_type", known, save=False)
    try:
        assert list(labels_of(nuclr_curation(analyzer), "cell_type").values()) == truth[:3].tolist()
    finally:
        analyzer.sorting.delete_property("cell_type")


@pytest.mark.parametrize("curation", [
    [], {"format_version": "1"}, {"format_version": "2", "unit_ids": [1], "manual_labels": 3},
    {"format_version": "2", "unit_ids": ["other"], "label_definitions": {}, "manual_labels": [], "merges": [],
     "splits": [], "removed": []},
])  # fmt: skip
def test_a_curation_of_something_else_is_refused(saved, curation):
    with pytest.raises(InputError, match=r"^curation: "):
        nuclr_curation(saved[0], curation=curation)


@pytest.mark.parametrize("format", ["binary_folder", "zarr"])
def test_labels_come_back_for_training(tmp_path, format, nuclr):
    """What a person has entered is a property of the units, for Python and the command line; predictions are not."""
    folders = []
    for seed in (501, 502, 503):
        analyzer, truth = saved_analyzer(tmp_path / f"a{seed}", format=format, seed=seed)
        curation = nuclr_curation(analyzer)
        units = analyzer.unit_ids.tolist()
        for unit, label in list(zip(units, truth.tolist(), strict=True))[:18]:
            set_label(curation, unit, "cell_type", label)
        write_curation(curation_file(analyzer), curation)
        properties = read_population(analyzer.folder).properties
        assert properties["cell_type"].tolist() == [*truth[:18].tolist(), *[""] * 6]
        folders.append(analyzer.folder)
    decoder = tmp_path / "own.safetensors"
    table = tmp_path / "animals.csv"
    table.write_text("source,animal\n" + "".join(f"{folder},mouse{k}\n" for k, folder in enumerate(folders)))
    done = nuclr("decoder", "fit", table, "--label", "cell_type", "-o", decoder, "-q")
    assert "3 animals" in done.stdout
    fitted = Decoder.load(decoder)
    assert fitted.card["units"] == 54
    assert fitted.classes.tolist() == ["bursting", "fast", "regular"]


def test_a_property_is_completed_by_what_a_person_enters(tmp_path):
    analyzer, _ = saved_analyzer(tmp_path / "a")
    analyzer.set_sorting_property("cell_type", np.array(["fast", "axon", *[""] * 22]))
    curation = {
        "format_version": "2", "unit_ids": analyzer.unit_ids.tolist(), "merges": [], "splits": [], "removed": [],
        "label_definitions": {"cell_type": {"label_options": ["regular"], "exclusive": True},
                              "notes": {"label_options": ["a", "b"], "exclusive": False}},
        "manual_labels": [{"unit_id": analyzer.unit_ids[1], "labels": {"cell_type": ["regular"], "notes": ["a", "b"]}}],
    }  # fmt: skip
    path = write_curation(curation_file(analyzer), curation)
    properties = read_population(analyzer.folder).properties
    assert properties["cell_type"].tolist()[:3] == ["fast", "regular", ""]
    assert "notes" not in properties
    before = read_population(analyzer.folder).fingerprint()
    path.unlink()
    assert read_population(analyzer.folder).fingerprint() == before


@pytest.mark.parametrize("text", [
    "", "{", "[1]", '{"manual_labels": 3, "label_definitions": {"x": {"exclusive": true}}}',
    '{"manual_labels": [{"labels": {}}], "label_definitions": {}}',
    '{"unit_ids": ["other"], "manual_labels": [], "label_definitions": {}}',
])  # fmt: skip
def test_a_damaged_curation_names_its_file(tmp_path, text):
    analyzer, _ = saved_analyzer(tmp_path / "a", units=6)
    path = curation_file(analyzer)
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(InputError, match=r"curation_data.json: "):
        curated_labels(analyzer)
    with pytest.warns(RecordingWarning, match=r"labels are not read: .*curation_data.json: "):
        assert read_population(analyzer).n_units == 6


def test_a_curation_of_an_earlier_sorting_is_not_read(tmp_path):
    """Beside a Zarr analyzer it survives when the analyzer is created again."""
    analyzer, _ = saved_analyzer(tmp_path / "a", format="zarr", units=6)
    curation = nuclr_curation(analyzer)
    for unit in analyzer.unit_ids.tolist():
        set_label(curation, unit, "cell_type", "fast")
    write_curation(curation_file(analyzer), curation)
    shutil.rmtree(tmp_path / "a.zarr")
    again, _ = saved_analyzer(tmp_path / "a", format="zarr", units=9, seed=7)
    with pytest.warns(RecordingWarning, match="a curation of other units than the analyzer's: move the file away"):
        assert "cell_type" not in read_population(again.folder).properties


def test_predictions_that_were_saved_are_no_labels(tmp_path):
    analyzer, _ = saved_analyzer(tmp_path / "a", units=6)
    write_curation(curation_file(analyzer), nuclr_curation(analyzer))
    assert "nuclr_cell_type" not in read_population(analyzer.folder).properties


@pytest.mark.parametrize("classes", ["interneuron", [1]])
def test_classes_that_are_no_list_are_refused(saved, classes):
    with pytest.raises(InputError, match="classes must be a list of names"):
        nuclr_curation(saved[0], classes=classes)


def test_an_analyzer_in_memory_has_no_file():
    from spikeinterface_nuclr.simulation import simulate_analyzer

    assert curated_labels(simulate_analyzer(4, 10.0)) == {}


def test_writing_replaces_a_curation_completely(tmp_path):
    analyzer, _ = saved_analyzer(tmp_path / "a", units=6)
    path = write_curation(curation_file(analyzer), {"manual_labels": [1] * 500})
    write_curation(path, {"manual_labels": []})
    assert read_curation(path) == {"manual_labels": []}


# --- suggestions


@pytest.fixture(scope="module")
def predicted():
    embeddings = [embed(simulate_population(30, 60.0, seed=seed), progress=False) for seed in (600, 601)]
    decoder = Decoder.load("simulated-cell-type")
    return [decoder.predict(one) for one in embeddings], embeddings


def test_suggestions_are_different_units_of_all_recordings(predicted):
    table = suggest_units(*predicted, count=15)
    assert table.index.tolist() == list(range(1, 16))
    assert not table.duplicated(["recording", "unit_id"]).any()
    assert set(table["recording"]) == {0, 1}
    assert table["resembled_by"].sum() == 60
    identities, _ = predicted
    for row in table.itertuples():
        k = identities[row.recording].unit_ids.tolist().index(row.unit_id)
        assert row.best_label == identities[row.recording].best_label[k]
        assert row.runner_up != row.best_label
        assert row.reason == identities[row.recording].reason[k]


def test_each_suggestion_covers_most_of_the_doubt_that_is_left(predicted):
    """The greedy choice, from its definition."""
    from spikeinterface_nuclr.unit_matches import similarity_of

    [identities, _], [embeddings, _] = predicted
    table = suggest_units(identities, embeddings, count=5)
    similarity = np.maximum(similarity_of(embeddings.embedding, embeddings.embedding), 0)
    top = np.sort(identities.probability, axis=1)
    doubt = np.where(identities.reason == "novel", 1, np.maximum(1 - top[:, -1] + top[:, -2], 0.05))
    covered = np.zeros(len(doubt))
    for unit in table["unit_id"]:
        gains = [np.maximum(row - covered, 0) @ doubt for row in similarity]
        k = identities.unit_ids.tolist().index(unit)
        assert gains[k] == pytest.approx(max(gains), abs=1e-4)
        covered = np.maximum(covered, similarity[k])


def test_units_with_a_label_are_not_suggested_nor_their_likes(predicted):
    [identities, _], [embeddings, _] = predicted
    first = suggest_units(identities, embeddings, count=1)["unit_id"].iloc[0]
    labelled = identities.unit_ids == first
    table = suggest_units(identities, embeddings, labelled=labelled, count=30)
    assert first not in table["unit_id"].tolist()
    assert len(table) == 29
    assert len(suggest_units(identities, embeddings, labelled=np.ones(30, dtype=bool))) == 0


def test_wrong_suggestions_are_refused(predicted):
    identities, embeddings = predicted
    with pytest.raises(InputError, match="count must be"):
        suggest_units(identities, embeddings, count=0)
    with pytest.raises(InputError, match="of the same recordings"):
        suggest_units(identities, embeddings[:1])
    with pytest.raises(InputError, match="recording 1: its identities are of other units"):
        suggest_units(identities, [embeddings[0], embeddings[1].select(np.arange(29))])
    with pytest.raises(InputError, match="recording 0: give Identities and UnitEmbeddings"):
        suggest_units(embeddings[0], embeddings[0])
    with pytest.raises(InputError, match="needs one truth value"):
        suggest_units(identities[0], embeddings[0], labelled=np.zeros(3, dtype=bool))
