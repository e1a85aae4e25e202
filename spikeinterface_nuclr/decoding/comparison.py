"""Comparison: what evaluations of decoders and of regressors have in common."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..files import write_folder
from ..text import for_csv
from .scores import EMBEDDING
from .verdict import compared, verdict_of


@dataclass(frozen=True, eq=False)
class Comparison:
    """Predictions on test units by several methods, and their scores.

    Attributes
    ----------
    target, protocol : str
    predictions, animal_scores, scores : pandas DataFrame
    provenance : dict
    """

    target: str
    protocol: str
    predictions: object
    animal_scores: object
    scores: object
    provenance: dict

    # Name of the score by which methods are compared.
    MAIN = ""

    @property
    def methods(self) -> list[str]:
        """Names of the methods with predictions, the embedding first."""
        return list(dict.fromkeys(self.predictions["method"]))

    @property
    def comparison(self):
        """Differences between the embedding and every other method, paired by animal: see `verdict.compared`."""
        return compared(self.animal_scores, self.MAIN)

    @property
    def verdict(self) -> str:
        """The conclusion in a few sentences: what the scores show, and what follows for use."""
        return verdict_of(self.scores, self.comparison, self.provenance, self.MAIN)

    def to_dataframe(self):
        """The scores as a pandas DataFrame, with one row per method and one column per score.

        The first column, "verdict", contains the verdict in the row of the embedding, and in the other rows the outcome
        of the comparison with the embedding.
        """
        order = list(dict.fromkeys(self.scores["method"]))
        table = self.scores.pivot(index="method", columns="score", values="value").reindex(order)
        outcomes = {EMBEDDING: self.verdict, **self.comparison["outcome"]}
        table.insert(0, "verdict", [outcomes.get(method, "") for method in order])
        return table

    def predictions_of(self, method: str):
        """The predictions of one method."""
        if method not in self.methods:
            raise InputError(f"there is no method {method!r}: use one of {', '.join(self.methods)}")
        return self.predictions[self.predictions["method"] == method]

    def save(self, folder, *, overwrite: bool = False) -> Path:
        """Write ``predictions.csv``, the tables of scores, and ``provenance.json`` into a folder.

        Raises
        ------
        InputError
            One of these files exists, and `overwrite` is False.
        """
        return write_folder(folder, self.writers(), overwrite=overwrite)

    def writers(self) -> dict[str, Callable[[Path], object]]:
        """Functions that write the files of `save`, by file name."""
        provenance = json.dumps({"verdict": self.verdict, **self.provenance}, indent=1, ensure_ascii=False) + "\n"
        return {
            "predictions.csv": lambda path: for_csv(self.predictions).to_csv(path, index=False),
            "scores.csv": lambda path: for_csv(self.scores).to_csv(path, index=False),
            "animal_scores.csv": lambda path: for_csv(self.animal_scores).to_csv(path, index=False),
            "provenance.json": lambda path: path.write_text(provenance, encoding="utf-8"),
        }

    def __repr__(self):
        return (
            f"{self.verdict}\n{type(self).__name__}({self.target!r}, {self.protocol}, {self.provenance['readout']} "
            f"read-out, {len(self.methods)} methods)"
        )
