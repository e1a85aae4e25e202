"""Brain regions at the level that a question needs: fine areas, groups of them, or ten large ones."""

import csv
from functools import cache
from pathlib import Path

import numpy as np

from ..errors import InputError
from .labels import as_labels

LEVELS = ("fine", "group", "cosmos")
# Alphabetical: the order that BrainWideBench scores.
COSMOS = ("CB", "CNU", "CTXsp", "HB", "HPF", "HY", "Isocortex", "MB", "OLF", "TH")
_TABLE = Path(__file__).with_name("allen_regions.csv")


def roll_up(acronyms, level: str) -> np.ndarray:
    """The region, at a level, that each acronym of the Allen Mouse Brain Common Coordinate Framework lies in.

    Parameters
    ----------
    acronyms : array of str, shape (n,)
    level : {"fine", "group", "cosmos"}
        As it is; one of the 306 groups of layers and subnuclei of the "Beryl" level; or one of the ten of `COSMOS`.

    Returns
    -------
    str array, shape (n,)
        Empty where there is none: `root`, `void`, fibre tracts, ventricles, what is coarser than the level, and what
        is no label in the eyes of `fit_decoder`, such as "unknown".

    Raises
    ------
    InputError
        The level or an acronym is unknown.

    Examples
    --------
    >>> roll_up(["VISp5", "CA1", "root"], "group").tolist()
    ['VISp', 'CA1', '']
    """
    if level not in LEVELS:
        raise InputError(f"level must be one of {LEVELS}, not {level!r}")
    table = _regions()
    found = []
    for acronym in as_labels(acronyms, "acronyms")[0].tolist():
        if acronym and acronym not in table:
            raise InputError(f"{acronym!r} is no region of the Allen atlas: correct the label, or leave it as it is")
        group, cosmos = table.get(acronym, ("", ""))
        # What lies in none of the ten (tracts, ventricles, root) is no region at any level.
        found.append({"fine": acronym if cosmos else "", "group": group, "cosmos": cosmos}[level])
    return np.array(found, dtype=str)


@cache
def _regions() -> dict[str, tuple[str, str]]:
    """Group and Cosmos region of each acronym."""
    with open(_TABLE, newline="", encoding="utf-8") as file:
        next(file)  # where the table is from
        return {row["acronym"]: (row["group"], row["cosmos"]) for row in csv.DictReader(file)}
