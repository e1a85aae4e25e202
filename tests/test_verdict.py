"""Verdicts: each sentence, from scores of animals and from evaluations."""

import numpy as np
import pandas as pd
import pytest
from test_decoder import cohort

from spikeinterface_nuclr import RecordingWarning, evaluate
from spikeinterface_nuclr.decoding.baselines import CONTROLS
from spikeinterface_nuclr.decoding.scores import MAIN
from spikeinterface_nuclr.decoding.verdict import BETTER, TOO_FEW, UNCLEAR, WORSE, compared, verdict_of

CONTROL = f"embedding of {CONTROLS['spikes'][0]}"


def verdict(embedding, p=1 / 21, shuffles=20, protocol="leave-one-animal-out", **others) -> str:
    """The verdict on macro-F1 in each animal, of the embedding and of others by name."""
    scores = pd.DataFrame(
        [(name, "macro-F1", f"m{k}", value)
         for name, values in {"embedding": embedding, **others}.items() for k, value in enumerate(values)],
        columns=["method", "score", "animal", "value"],
    )  # fmt: skip
    row = {"method": "embedding", "score": "macro-F1", "value": np.mean(embedding), "animals": len(embedding), "p": p}
    comparison = compared(scores, MAIN)
    return verdict_of(pd.DataFrame([row]), comparison, {"shuffles": shuffles, "protocol": protocol}, MAIN)


# --- beside baselines -------------------------------------------------------------------------------------------------


def test_better_than_every_baseline():
    text = verdict([0.7, 0.8, 0.75, 0.72], rate=[0.5, 0.6, 0.57, 0.5], intervals=[0.4, 0.5, 0.42, 0.4])
    assert text.startswith(
        "Better than every baseline: macro-F1 0.74 over 4 animals, 'rate' reaches 0.54 (difference +0.20 "
        "[+0.17, +0.23]; the embedding is ahead in 4 of 4)."
    )


def test_a_baseline_that_is_the_embedding_reads_it_as_well():
    text = verdict([0.7, 0.8, 0.75], same=[0.7, 0.8, 0.75])
    assert text.startswith("No better than the baselines, as far as these animals show: ")
    assert "ahead in 0 of 3" in text
    assert text.endswith("use the simpler features.")


def test_a_difference_that_may_be_chance_is_no_equality():
    text = verdict([0.9, 0.7, 0.8], rate=[0.5, 0.6, 0.65])
    assert text.startswith("No better than the baselines, as far as these animals show: ")
    assert "ahead in 3 of 3" in text
    assert "at least as high" not in text


def test_the_baseline_in_the_sentence_is_the_one_that_decides():
    """The best baseline is clearly behind; a worse one varies so much that it may not be."""
    text = verdict([0.8, 0.8, 0.8, 0.8], steady=[0.7, 0.71, 0.7, 0.69], wild=[0.9, 0.2, 0.9, 0.5])
    assert text.startswith("No better than the baselines, as far as these animals show: ")
    assert "'wild' reaches 0.62" in text


def test_worse_than_a_baseline():
    text = verdict([0.5, 0.52, 0.49, 0.5], rate=[0.6, 0.63, 0.6, 0.59], noise=[0.3, 0.3, 0.31, 0.3])
    assert text.startswith("No better than the baselines, and worse than 'rate': ")
    assert "'rate' reaches 0.60 (difference -0.10" in text


def test_two_animals_are_too_few_to_compare():
    text = verdict([0.9, 0.8], rate=[0.5, 0.4])
    assert text.startswith("Too few animals to compare: macro-F1 0.85 over 2 animals, 'rate' reaches 0.45")
    assert "(difference +0.40; the embedding is ahead in 2 of 2)" in text
    assert "over 1 animal," in verdict([0.9], rate=[0.5])


def test_without_baselines_there_is_no_advantage():
    assert verdict([0.9, 0.8, 0.9]).startswith("Not compared with any baseline: macro-F1 0.87 over 3 animals.")


def test_outcomes_are_those_of_the_interval_of_the_differences():
    rows = {"embedding": [0.8, 0.82, 0.81], "a": [0.6, 0.6, 0.6], "b": [0.8, 0.8, 0.83], "c": [0.9, 0.93, 0.92]}
    scores = pd.DataFrame(
        [(name, "macro-F1", str(k), value) for name, of in rows.items() for k, value in enumerate(of)],
        columns=["method", "score", "animal", "value"],
    )
    table = compared(scores, MAIN)
    assert table["outcome"].to_dict() == {"a": BETTER, "b": UNCLEAR, "c": WORSE}
    assert table["higher"].tolist() == [3, 1, 0]
    assert set(compared(scores[scores["animal"] != "2"], MAIN)["outcome"]) == {TOO_FEW}


# --- controls ---------------------------------------------------------------------------------------------------------


def test_a_control_that_reads_it_as_well_is_named():
    own, rate = [0.8, 0.82, 0.81, 0.8], [0.6, 0.62, 0.6, 0.61]
    assert CONTROL not in verdict(own, rate=rate, **{CONTROL: rate})
    text = verdict(own, rate=rate, **{CONTROL: own})
    assert text.startswith("Better than every baseline: ")
    assert f"{CONTROL!r} scores at least as high: the score reflects what each unit does alone" in text
    text = verdict(own, rate=rate, **{CONTROL: [0.8, 0.7, 0.5, 0.8]})
    assert f"{CONTROL!r} is not clearly worse" in text


def test_an_embedding_of_something_else_is_a_baseline():
    text = verdict([0.8, 0.82, 0.81], **{"embedding of another model": [0.8, 0.82, 0.81]})
    assert text.startswith("No better than the baselines, as far as ")
    assert "alone" not in text


# --- chance -----------------------------------------------------------------------------------------------------------


def test_no_better_than_chance():
    text = verdict([0.34, 0.35, 0.33], p=5 / 21, rate=[0.2, 0.2, 0.2], **{CONTROL: [0.4, 0.4, 0.4]})
    assert text == (
        "No better than chance: macro-F1 0.34 over 3 animals, and 4 of 20 shuffles of the labels score as high "
        "(p = 0.24). There is no evidence that these embeddings predict this property: do not use a decoder of it. "
        "The best baseline is 'rate', 0.20."
    )


@pytest.mark.parametrize(
    ("reached", "shuffles", "begins"),
    [
        (0, 19, "Better than every baseline"),
        (9, 199, "Better than every baseline"),  # p = 0.05
        (0, 18, "Chance is not excluded"),  # the least p that so few shuffles can show is 0.053
        (3, 20, "Chance is not excluded"),  # more of them may still show a p below 0.05
        (4, 20, "No better than chance"),
        (20, 199, "No better than chance"),
    ],
)
def test_chance_is_told_from_too_few_shuffles(reached, shuffles, begins):
    text = verdict([0.8, 0.82, 0.81], p=(1 + reached) / (1 + shuffles), shuffles=shuffles, rate=[0.5, 0.5, 0.5])
    assert text.startswith(begins)
    assert ("Shuffle the labels more often" in text) == begins.startswith("Chance")


def test_without_shuffles_the_verdict_says_that_chance_was_not_tested():
    text = verdict([0.8, 0.82, 0.81], p=np.nan, shuffles=0, rate=[0.5, 0.5, 0.5])
    assert text.startswith("Better than every baseline")
    assert text.endswith("whether this is better than chance was not tested.")


def test_within_animals_it_says_little_of_a_new_one():
    assert verdict([0.8, 0.8, 0.8], protocol="within-animal").endswith("this says little about new animals.")


# --- evaluations ------------------------------------------------------------------------------------------------------


def test_an_evaluation_begins_with_its_verdict():
    embeddings, labels = cohort(3)
    noise = [np.random.default_rng(k).standard_normal((80, 3)) for k in range(3)]
    others = {"noise": noise, "same": [one.embedding for one in embeddings]}
    found = evaluate(embeddings, labels, others=others, shuffles=19, progress=False)
    assert found.verdict.startswith("No better than the baselines, as far as ")
    assert repr(found).startswith(found.verdict)
    column = found.to_dataframe()["verdict"]
    assert column.index[0] == "embedding"
    assert column.iloc[0] == found.verdict
    assert column["noise"] == BETTER
    assert column["same"] == UNCLEAR
    assert column["labels shuffled within animals"] == ""


def test_animals_of_one_class_each_say_nothing_of_chance():
    """Shuffling within animals changes nothing then: every p would be 1, however good the decoder."""
    embeddings, labels = cohort(4)
    one_each = ["a", "a", "b", "b"]
    for one, name in zip(embeddings, one_each, strict=True):
        one.embedding[:, 0] += 9 * (name == "a")
    labels = [np.full(80, name) for name in one_each]
    with pytest.warns(RecordingWarning, match="labels are not shuffled, since each animal holds one class"):
        found = evaluate(embeddings, labels, shuffles=3, progress=False)
    assert found.provenance["shuffles"] == 0
    assert found.verdict.startswith("Not compared with any baseline: macro-F1 1.00 over 4 animals")
    assert "chance was not tested" in found.verdict
