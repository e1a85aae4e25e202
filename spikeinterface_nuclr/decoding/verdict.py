"""A verdict on an evaluation, in words that its numbers choose: better than the baselines, like them, or by chance."""

import numpy as np

from .baselines import CONTROLS
from .scores import EMBEDDING, FUSED, MAIN, POOLED, interval

# A p above this is taken for chance.
_LEVEL = 0.05
_SHUFFLES = 200
# Embeddings that lack the relations between neurons.
_CONTROLS = [f"embedding of {name}" for name, _ in CONTROLS.values()]
BETTER, ALIKE, WORSE, TOO_FEW = "embedding better", "alike", "embedding worse", "too few animals to tell"


def compared(animal_scores):
    """The embedding beside every other method, animal by animal.

    Parameters
    ----------
    animal_scores : pandas DataFrame
        As of `Evaluation`.

    Returns
    -------
    pandas DataFrame
        A row a method that does not contain the embedding itself: ``mean`` (of its macro-F1 over animals),
        ``difference`` (mean of the embedding's less its own), ``low`` and ``high`` (95 % t interval of the difference
        over animals), ``higher`` (animals in which the embedding is ahead), ``animals`` and ``outcome``: "embedding
        better" or "embedding worse" where the interval excludes 0, else "alike"; below three animals "too few animals
        to tell".
    """
    import pandas as pd

    table = animal_scores[animal_scores["score"] == MAIN].pivot(index="animal", columns="method", values="value")
    rows = {}
    for method in table.columns.drop([EMBEDDING, FUSED, POOLED], errors="ignore"):
        difference = (table[EMBEDDING] - table[method]).to_numpy()
        low, high = interval(difference)
        outcome = TOO_FEW if np.isnan(low) else BETTER if low > 0 else WORSE if high < 0 else ALIKE
        rows[method] = (
            table[method].mean(), difference.mean(), low, high, int((difference > 0).sum()), len(table), outcome,
        )  # fmt: skip
    columns = ["mean", "difference", "low", "high", "higher", "animals", "outcome"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def verdict_of(scores, comparison, provenance: dict) -> str:
    """What an evaluation shows, and what follows for use, in a few sentences.

    Parameters
    ----------
    scores : pandas DataFrame
        As of `Evaluation`.
    comparison : pandas DataFrame
        Of `compared`.
    provenance : dict
        As of `Evaluation`: "protocol" and "shuffles".
    """
    row = scores[(scores["method"] == EMBEDDING) & (scores["score"] == MAIN)].iloc[0]
    own = f"macro-F1 {row['value']:.2f} over {_animals(row['animals'])}"
    controls = comparison.index.isin(_CONTROLS)
    chance = _by_chance(row, own, provenance["shuffles"])
    sentences = [chance or _beside_baselines(own, comparison[~controls])]
    if not chance:
        sentences += _beside_controls(comparison[controls])
    elif len(comparison[~controls]):
        best = comparison[~controls]["mean"].idxmax()
        sentences.append(f"The best baseline is {best!r}, {comparison.loc[best, 'mean']:.2f}.")
    if not provenance["shuffles"]:
        sentences.append("Labels were not shuffled: whether this is better than chance was not tested.")
    if provenance["protocol"] == "within-animal":
        sentences.append("Units of the same animals were fitted to: this says little of a new animal.")
    return " ".join(sentences)


def _by_chance(row, own: str, shuffles: int) -> str:
    """What to say where the score may be chance; empty where it is not, or was not compared."""
    from scipy.stats import binom

    if not shuffles or row["p"] <= _LEVEL:
        return ""
    reached = round(row["p"] * (1 + shuffles)) - 1
    outcome = f"{own}, and {reached} of {shuffles} shuffles of the labels score as high (p = {row['p']:.2f})"
    if binom.sf(reached - 1, shuffles, _LEVEL) > _LEVEL:  # more shuffles may bring p below the level
        return f"Chance is not excluded: {outcome}; shuffle more often to tell, such as {_SHUFFLES} times."
    return (
        f"No better than chance: {outcome}. Nothing shows that a decoder of these embeddings knows this property: do "
        "not use it."
    )


def _beside_baselines(own: str, comparison) -> str:
    if not len(comparison):
        return f"Not compared with any baseline: {own}. Give the populations, to see what their spikes alone tell."
    # The least favourable outcome decides, and the best baseline of that outcome stands in the sentence.
    outcome = next(one for one in (TOO_FEW, WORSE, ALIKE, BETTER) if one in set(comparison["outcome"]))
    deciding = comparison[comparison["outcome"] == outcome]
    best = deciding.loc[deciding["mean"].idxmax()]
    beside = (
        f"{own}, {best.name!r} reaches {best['mean']:.2f} (difference {best['difference']:+.2f}"
        + (f" [{best['low']:+.2f}, {best['high']:+.2f}]" if np.isfinite(best["low"]) else "")
        + f"; the embedding is ahead in {best['higher']} of {best['animals']})."
    )
    if outcome == TOO_FEW:
        return f"Too few animals to compare: {beside} Three or more are needed to say which is better."
    if outcome == WORSE:
        names = ", ".join(map(repr, deciding.index))
        return f"No better than the baselines, and worse than {names}: {beside} Read the property from those features."
    if outcome == BETTER:
        return (
            f"Better than every baseline: {beside} In animals like these, a decoder of these embeddings tells "
            "what simpler features do not."
        )
    return (
        f"No better than the baselines, as far as these animals show: {beside} The interval includes 0: until more "
        "animals show a difference, use the simpler features."
    )


def _beside_controls(comparison) -> list[str]:
    """A sentence for each control that the embedding is not better than."""
    alone = "what each neuron does alone, not its relation to others."
    alike = comparison[comparison["outcome"].isin([ALIKE, WORSE])]
    return [
        f"{name!r} is not shown to read it worse: what is read may be {alone}"
        if difference > 0
        else f"{name!r} reads it as well: what is read is {alone}"
        for name, difference in alike["difference"].items()
    ]


def _animals(count) -> str:
    return "1 animal" if count == 1 else f"{int(count)} animals"
