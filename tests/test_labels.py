"""Labels as tables hold them: classes and values, what counts as none, and names of animals."""

import warnings

import numpy as np
import pandas as pd
import pytest
from test_decoder import cohort, of_subject, recording

from spikeinterface_nuclr import InputError, Population, RecordingWarning, evaluate, fit_decoder, fit_regressor, roll_up
from spikeinterface_nuclr.decoding.label_sources import LabelRule
from spikeinterface_nuclr.decoding.labels import NO_LABEL, as_animals, as_labels, as_values


def labels_of(values) -> list[str]:
    labels, known = as_labels(values)
    assert ((labels != "") == known).all()
    return labels.tolist()


# --- classes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (["PV", float("nan"), None, "", "unknown", "SST"], ["PV", "", "", "", "", "SST"]),
        (np.array([b"PV", b"", b"SST "]), ["PV", "", "SST"]),  # as h5py gives text of fixed length
        (np.array([b"\xc3\xa9", "é"], dtype=object), ["é", "é"]),
        (np.array(["PV", np.nan], dtype="U3"), ["PV", ""]),  # NumPy makes text of it
        (pd.Series(["PV", pd.NA], dtype="string"), ["PV", ""]),
        (pd.Series(["b", None, "a"], dtype="category"), ["b", "", "a"]),
        (pd.Categorical([2, 1, None]), ["2", "1", ""]),
        (np.ma.masked_array(["PV", "SST"], [True, False]), ["", "SST"]),
        ([" PV ", "PV\t", "fast spiking"], ["PV", "PV", "fast spiking"]),
        (np.array([True, False]), ["True", "False"]),
        (np.array([2, 0, 1]), ["2", "0", "1"]),
        (np.array([2.0, np.nan, 1.0, np.inf]), ["2", "", "1", ""]),  # pandas makes floats of codes with a gap
        (pd.Series([2, None, 1], dtype="Int64"), ["2", "", "1"]),
        (["2", "1.0", "nan", "007"], ["2", "1", "", "007"]),  # phy's columns are text
        (["12345678901234567890", "12345678901234567891"], ["12345678901234567890", "12345678901234567891"]),
        (["1.5", "L5"], ["1.5", "L5"]),  # not all are numbers
        ([np.str_("PV"), np.int64(3), None], ["PV", "3", ""]),
        ([], []),
    ],
)
def test_labels_of_every_kind_are_understood(values, labels):
    assert labels_of(values) == labels


def test_what_tables_write_for_nothing_is_no_label():
    texts = ["nan", "NaN", "None", "n/a", "N/A", "<NA>", "null", "NULL", "", "  ", "unknown", "Unlabeled", "NaT"]
    assert labels_of(texts) == [""] * len(texts)
    assert {text.casefold() for text in NO_LABEL} == NO_LABEL


def test_na_counts_as_no_label_and_is_said():
    with pytest.warns(RecordingWarning, match="3 units are labelled 'NA', which counts as no label: rename it"):
        assert labels_of(["NA", "PV", "NA", "NA"]) == ["", "PV", "", ""]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([1.5, 2.0]), "holds numbers, such as 1.5, not classes: use fit_regressor"),
        (["0.1", "2", "nan"], "holds numbers, such as 0.1"),
        ([b"\xff"], "not UTF-8 text"),
        ([["PV"], "SST"], "is of type list"),
        (np.array(["2026-01-01"], dtype="datetime64[D]"), "neither text nor numbers"),
        (np.ones(2, dtype=complex), "neither text nor numbers"),
        (np.array([["a", "b"]]), r"has shape \(1, 2\)"),
        ("PV", r"has shape \(\)"),
    ],
)
def test_what_names_no_class_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        as_labels(values)


def test_codes_are_classes_and_scales_are_not():
    embeddings, _ = cohort(4)
    rng = np.random.default_rng(0)
    codes = [rng.integers(4, size=80) for _ in embeddings]
    assert fit_decoder(embeddings, codes, target="cluster").classes.tolist() == ["0", "1", "2", "3"]
    gap = [np.where(np.arange(80) > 5, of, np.nan) for of in codes]
    assert fit_decoder(embeddings, gap, target="cluster").classes.tolist() == ["0", "1", "2", "3"]
    depths = [rng.integers(3840, size=80) for _ in embeddings]
    for scale in (depths, [of.astype(str) for of in depths], [of + 0.5 for of in depths]):
        with pytest.raises(InputError, match=r"use fit_regressor for numbers \(--value\)$"):
            fit_decoder(embeddings, scale, target="depth")
        with pytest.raises(InputError, match="fit_regressor"):
            evaluate(embeddings, scale, progress=False)
    # Some recordings with names do not make classes of the others' numbers.
    with pytest.raises(InputError, match="different numbers in 237 units are values"):
        fit_decoder(embeddings, [np.full(80, "PV"), *depths[1:]], target="depth")


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([1, 2], dtype=np.uint16), [1, 2]),
        (np.array([1.5, np.nan, np.inf], dtype=np.float32), [1.5, np.nan, np.nan]),
        (["1.5", " 2 ", "n/a", None, b"3"], [1.5, 2, np.nan, np.nan, 3]),
        (pd.Series([1, None], dtype="Int64"), [1, np.nan]),
    ],
)
def test_values_of_every_kind_are_understood(values, expected):
    found, known = as_values(values)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(known, np.isfinite(expected))


@pytest.mark.parametrize("values", [["1.5", "deep"], [True, False], [[1.0]]])
def test_what_is_no_number_is_refused(values):
    with pytest.raises(InputError, match=r"no number: use fit_decoder for classes|of type list"):
        as_values(values)


def test_a_regressor_is_asked_for_by_name():
    embeddings, _ = cohort(3)
    whole = [np.round(100 * one.embedding[:, 0]).astype(object) for one in embeddings]
    text = [np.array([f"{value:.0f}" for value in of]) for of in whole]
    one, other = (fit_regressor(embeddings, of, target="depth", seed=1) for of in (whole, text))
    assert one.sha256 == other.sha256
    assert one.card["units"] == 3 * 79  # the first unit of each has no value, and no embedding
    with pytest.raises(InputError, match="recording 0: labels: 'PV' is no number"):
        fit_regressor(embeddings, [np.full(80, "PV")] * 3, target="depth")
    with pytest.raises(InputError, match="10 labelled units or more"):
        fit_regressor(embeddings[0], np.where(np.arange(80) < 5, 1.0, np.nan), target="depth")
    with pytest.raises(InputError, match="target must name"):
        fit_regressor(embeddings, whole, target="")


# --- regions ----------------------------------------------------------------------------------------------------------


def test_units_without_a_region_stop_no_level():
    areas = ["VISp5", "unknown", "CA1", "nan", "None", "n/a", " CA1"]
    assert roll_up(areas, "cosmos").tolist() == ["Isocortex", "", "HPF", "", "", "", "HPF"]
    population = Population(range(7), [[1.0]] * 7, stop=2.0, properties={"area": np.array(areas)})
    rule = LabelRule("area", "cosmos", {"Isocortex": "cortex"})
    assert rule.labels_of(population, "x").tolist() == ["cortex", "", "", "", "", "", ""]
    population.properties["area"] = np.arange(7) / 2
    with pytest.raises(InputError, match=r"x\.nwb: 'area': holds numbers"):
        rule.labels_of(population, "x.nwb")


# --- animals ----------------------------------------------------------------------------------------------------------


def test_names_of_animals_are_stripped_and_similar_ones_named_once():
    embeddings, labels = cohort(4)
    with pytest.warns(RecordingWarning, match="animals 'M1' and 'm1' count as two") as caught:
        decoder = fit_decoder(embeddings, labels, ["M1", " M1 ", "m1", "M2"], target="type")
    assert len(caught) == 1
    assert decoder.animals == ("M1", "M2", "m1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fit_decoder(embeddings, labels, ["M1", "M1\n", "M3", b"M2"], target="type").animals == ("M1", "M2", "M3")


def test_subjects_of_recordings_are_stripped():
    embeddings, labels = cohort(2)
    embeddings[0] = of_subject(embeddings[0], " animal1 ")
    with pytest.warns(RecordingWarning, match=r"one animal only \(animal1\)"):
        decoder = fit_decoder(embeddings, labels, target="type")
    new, _ = recording("new")
    with pytest.warns(RecordingWarning, match="was fitted to animal ANIMAL1"):
        decoder.predict(of_subject(new, "ANIMAL1"))
    embeddings[0] = of_subject(embeddings[0], "  ")
    with pytest.raises(InputError, match="recording 0: names no subject"):
        fit_decoder(embeddings, labels, target="type")


@pytest.mark.parametrize(
    ("animals", "names"),
    [
        (7, ["7"] * 3),
        (np.array("m"), ["m"] * 3),
        (np.array([1.0, 2.0, 2.0]), ["1", "2", "2"]),
        (["a", b"b", "c "], list("abc")),
    ],
)
def test_animals_of_every_kind_are_named(animals, names):
    assert as_animals(animals, 3, "x").tolist() == names


@pytest.mark.parametrize(
    "animals", [["a", None, "b"], ["a", np.nan, "b"], np.array([1.0, np.nan, 2.0]), ["a", " ", "b"]]
)
def test_units_without_an_animal_are_refused(animals):
    with pytest.raises(InputError, match="x: the animal of some units is not named"):
        as_animals(animals, 3, "x")


def test_names_with_underscores_are_no_numbers():
    labels, _ = as_labels(["1_2", "12", "1_0", "10"])
    assert labels.tolist() == ["1_2", "12", "1_0", "10"]
    with pytest.raises(InputError, match="'1_000' is no number"):
        as_values(["1_000"])
