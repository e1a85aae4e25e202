"""The verdict of an evaluation in words: better than the baselines, no better, or no better than chance."""

import numpy as np

from .baselines import CONTROLS
from .scores import EMBEDDING, FUSED, POOLED, interval

# Significance level of the comparison with chance.
_LEVEL = 0.05
# Number of shuffles that the verdict recommends.
_SHUFFLES = 200
# Embeddings of controls, which lack the relations between neurons.
_CONTROLS = [f"embedding of {name}" for name, _ in CONTROLS.values()]
BETTER, UNCLEAR, WORSE, TOO_FEW = "embedding better", "no clear difference", "embedding worse", "too few animals"


def compared(animal_scores, main: str):
    """Compare the embedding with every other method, paired by animal.

    Parameters
    ----------
    animal_scores : pandas DataFrame
        As in `Evaluation`.
    main : str
        The score to compare.

    Returns
    -------
    pandas DataFrame
        One row per method that does not include the embedding. Columns: ``mean`` (mean score of the method over
        animals), ``difference`` (mean score of the embedding minus that of the method), ``low`` and ``high`` (95 %
        t interval of the difference over animals), ``higher`` (number of animals in which the embedding is ahead),
        ``animals`` and ``outcome``: "embedding better" or "embedding worse" if the interval excludes 0, otherwise "no
        clear difference"; "too few animals" below three animals.
    """
    import pandas as pd

    table = animal_scores[animal_scores["score"] == main].pivot(index="animal", columns="method", values="value")
    rows = {}
    for method in table.columns.drop([EMBEDDING, FUSED, POOLED], errors="ignore"):
        difference = (table[EMBEDDING] - table[method]).to_numpy()
        low, high = interval(difference)
        outcome = TOO_FEW if np.isnan(low) else BETTER if low > 0 else WORSE if high < 0 else UNCLEAR
        rows[method] = (
            table[method].mean(), difference.mean(), low, high, int((difference > 0).sum()), len(table), outcome,
        )  # fmt: skip
    columns = ["mean", "difference", "low", "high", "higher", "animals", "outcome"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def verdict_of(scores, comparison, provenance: dict, main: str) -> str:
    """The conclusion of an evaluation in a few sentences: what it shows, and what follows for use.

    Parameters
    ----------
    scores : pandas DataFrame
        As in `Evaluation`.
    comparison : pandas DataFrame
        Result of `compared`.
    provenance : dict
        As in `Evaluation`; "protocol" and "shuffles" are used.
    main : str
        The score by which methods are compared.
    """
    row = scores[(scores["method"] == EMBEDDING) & (scores["score"] == main)].iloc[0]
    score = f"{main} {row['value']:.2f} over {_animals(row['animals'])}"
    controls = comparison.index.isin(_CONTROLS)
    chance = _chance_sentence(row, score, provenance["shuffles"])
    sentences = [chance or _baseline_sentences(score, comparison[~controls])]
    if not chance:
        sentences += _control_sentences(comparison[controls])
    elif len(comparison[~controls]):
        best = comparison[~controls]["mean"].idxmax()
        sentences.append(f"The best baseline is {best!r}, {comparison.loc[best, 'mean']:.2f}.")
    if not provenance["shuffles"]:
        sentences.append("Labels were not shuffled: whether this is better than chance was not tested.")
    if provenance["protocol"] == "within-animal":
        sentences.append("Training and test units are from the same animals: this says little about new animals.")
    return " ".join(sentences)


def _chance_sentence(row, score: str, shuffles: int) -> str:
    """The sentence for a score that may be chance; empty if it is not, or if chance was not tested."""
    from scipy.stats import binom

    if not shuffles or row["p"] <= _LEVEL:
        return ""
    reached = round(row["p"] * (1 + shuffles)) - 1
    outcome = f"{score}, and {reached} of {shuffles} shuffles of the labels score as high (p = {row['p']:.2f})"
    if binom.sf(reached - 1, shuffles, _LEVEL) > _LEVEL:  # more shuffles may bring p below the level
        return f"Chance is not excluded: {outcome}. Shuffle the labels more often, such as {_SHUFFLES} times."
    return (
        f"No better than chance: {outcome}. There is no evidence that these embeddings predict this property: do not "
        "use a decoder of it."
    )


def _baseline_sentences(score: str, comparison) -> str:
    """The comparison with the baselines, and what follows for use."""
    if not len(comparison):
        return f"Not compared with any baseline: {score}. Give the populations, to compare with simpler features."
    # The least favourable outcome decides, and the best baseline with that outcome is named.
    outcome = next(name for name in (TOO_FEW, WORSE, UNCLEAR, BETTER) if name in set(comparison["outcome"]))
    deciding = comparison[comparison["outcome"] == outcome]
    best = deciding.loc[deciding["mean"].idxmax()]
    difference = (
        f"{score}, {best.name!r} reaches {best['mean']:.2f} (difference {best['difference']:+.2f}"
        + (f" [{best['low']:+.2f}, {best['high']:+.2f}]" if np.isfinite(best["low"]) else "")
        + f"; the embedding is ahead in {best['higher']} of {best['animals']})."
    )
    if outcome == TOO_FEW:
        return f"Too few animals to compare: {difference} At least three are needed to say which is better."
    if outcome == WORSE:
        names = ", ".join(map(repr, deciding.index))
        return (
            f"No better than the baselines, and worse than {names}: {difference} Use those features to predict this "
            "property."
        )
    if outcome == BETTER:
        return (
            f"Better than every baseline: {difference} In animals like these, embeddings predict this property better "
            "than simpler features."
        )
    return (
        f"No better than the baselines, as far as these animals show: {difference} The interval includes 0: until "
        "more animals show a difference, use the simpler features."
    )


def _control_sentences(comparison) -> list[str]:
    """A sentence for each control that the embedding is not better than."""
    alone = "what each unit does alone, not its relation to others."
    not_worse = comparison[comparison["outcome"].isin([UNCLEAR, WORSE])]
    return [
        f"{name!r} is not clearly worse: the score may reflect {alone}"
        if difference > 0
        else f"{name!r} scores at least as high: the score reflects {alone}"
        for name, difference in not_worse["difference"].items()
    ]


def _animals(count) -> str:
    return "1 animal" if count == 1 else f"{int(count)} animals"
