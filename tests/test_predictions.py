"""Identities: labels that count only what the decoder answers for, and what is refused."""

import dataclasses

import numpy as np
import pytest

from spikeinterface_nuclr import Identities, InputError
from spikeinterface_nuclr.predictions import join_predictions

REASONS = np.array(["", "low confidence", "novel", "no embedding", ""])
NOVELTY = np.array([1, 1, 9, np.nan, 1], np.float32)


def predicted(reason=REASONS, novelty=NOVELTY) -> Identities:
    probability = np.array([[0.9, 0.1], [0.4, 0.6], [0.99, 0.01], [np.nan, np.nan], [0.2, 0.8]], np.float32)
    best = np.array(["PV", "SST", "PV", "", "SST"])
    return Identities(
        "type", np.arange(5), np.array(["PV", "SST"]), best, probability, probability.max(axis=1), reason, {}, novelty
    )


def test_a_label_is_unknown_wherever_there_is_a_reason():
    found = predicted()
    assert found.label.tolist() == ["PV", "unknown", "unknown", "unknown", "SST"]
    assert found.abstained.tolist() == [False, True, True, True, False]
    assert repr(found) == "Identities('type', 5 units, 2 labelled, 2 classes)"


def test_the_frame_counts_no_refused_label():
    frame = predicted().to_dataframe()
    assert frame.groupby("label").size().to_dict() == {"PV": 1, "SST": 1, "unknown": 3}
    assert list(frame) == ["label", "best_label", "reason", "confidence", "novelty", "p(PV)", "p(SST)"]
    assert frame["best_label"].tolist() == ["PV", "SST", "PV", "", "SST"]
    assert "novelty" not in predicted(novelty=None).to_dataframe()


def test_rows_are_selected_and_joined():
    found = predicted()
    some = found.select([3, 0])
    assert (some.label.tolist(), some.reason.tolist()) == (["unknown", "PV"], ["no embedding", ""])
    joined = join_predictions([found.select([0, 1]), found.select(np.arange(5) > 1)])
    for name in ("unit_ids", "label", "best_label", "reason", "novelty"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(found, name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"reason": np.array(["", "tired", "", "", ""])},
            "one of low confidence, novel, no embedding, or empty, not 'ti",
        ),
        ({"reason": REASONS != ""}, "or empty, not False"),
        ({"reason": REASONS[:4]}, r"type: reason has shape \(4,\), not \(5,\)"),
        ({"best_label": np.array(["PV"])}, r"best_label has shape \(1,\)"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(InputError, match=message) as caught:
        dataclasses.replace(predicted(), **change)
    assert "\n" not in str(caught.value)
