"""Mapping of Allen atlas acronyms to three levels: as annotated, Beryl, or Cosmos."""

import csv
from functools import cache
from pathlib import Path

import numpy as np

from ..errors import InputError
from .labels import as_labels

LEVELS = ("allen", "beryl", "cosmos")
# Alphabetical, the order in BrainWideBench.
COSMOS = ("CB", "CNU", "CTXsp", "HB", "HPF", "HY", "Isocortex", "MB", "OLF", "TH")
_TABLE = Path(__file__).with_name("allen_regions.csv")


def roll_up(acronyms, level: str) -> np.ndarray:
    """Map acronyms of the Allen Mouse Brain Common Coordinate Framework to a coarser level.

    Parameters
    ----------
    acronyms : array of str, shape (n,)
    level : {"allen", "beryl", "cosmos"}
        "allen" keeps the acronym; "beryl" has 306 areas and nuclei, which join layers and subnuclei; "cosmos" has ten
        regions (`COSMOS`).

    Returns
    -------
    str array, shape (n,)
        Empty for `root`, `void`, fibre tracts, ventricles, regions coarser than the level, and entries that
        `fit_decoder` treats as unlabelled, such as "unknown".

    Raises
    ------
    InputError
        The level or an acronym is unknown.

    Examples
    --------
    >>> from spikeinterface_nuclr import roll_up
    >>> roll_up(["VISp5", "CA1", "root"], "beryl").tolist()
    ['VISp', 'CA1', '']
    """
    if level not in LEVELS:
        raise InputError(f"level must be one of {LEVELS}, not {level!r}")
    table = _regions()
    regions = []
    for acronym in as_labels(acronyms, "acronyms")[0].tolist():
        if acronym and acronym not in table:
            raise InputError(f"{acronym!r} is no region of the Allen atlas: correct the label, or use no level")
        beryl, cosmos = table.get(acronym, ("", ""))
        # Tracts, ventricles and root lie in none of the ten Cosmos regions and have no region at any level.
        regions.append({"allen": acronym if cosmos else "", "beryl": beryl, "cosmos": cosmos}[level])
    return np.array(regions, dtype=str)


@cache
def _regions() -> dict[str, tuple[str, str]]:
    """Beryl and Cosmos region of each acronym."""
    with open(_TABLE, newline="", encoding="utf-8") as file:
        next(file)  # a line with the source of the table
        return {row["acronym"]: (row["beryl"], row["cosmos"]) for row in csv.DictReader(file)}
