"""Brain regions at three levels of the Allen atlas: as annotated, Beryl, or Cosmos."""

import csv
from functools import cache
from pathlib import Path

import numpy as np

from ..errors import InputError
from .labels import as_labels

LEVELS = ("allen", "beryl", "cosmos")
# Alphabetical: the order that BrainWideBench scores.
COSMOS = ("CB", "CNU", "CTXsp", "HB", "HPF", "HY", "Isocortex", "MB", "OLF", "TH")
_TABLE = Path(__file__).with_name("allen_regions.csv")


def roll_up(acronyms, level: str) -> np.ndarray:
    """The region, at a level, that each acronym of the Allen Mouse Brain Common Coordinate Framework lies in.

    Parameters
    ----------
    acronyms : array of str, shape (n,)
    level : {"allen", "beryl", "cosmos"}
        The acronym itself; one of the 306 regions of the Beryl level, which joins layers and subnuclei; or one of the
        ten of the Cosmos level (`COSMOS`).

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
    >>> from spikeinterface_nuclr import roll_up
    >>> roll_up(["VISp5", "CA1", "root"], "beryl").tolist()
    ['VISp', 'CA1', '']
    """
    if level not in LEVELS:
        raise InputError(f"level must be one of {LEVELS}, not {level!r}")
    table = _regions()
    found = []
    for acronym in as_labels(acronyms, "acronyms")[0].tolist():
        if acronym and acronym not in table:
            raise InputError(f"{acronym!r} is no region of the Allen atlas: correct the label, or leave it as it is")
        beryl, cosmos = table.get(acronym, ("", ""))
        # What lies in none of the ten (tracts, ventricles, root) is no region at any level.
        found.append({"allen": acronym if cosmos else "", "beryl": beryl, "cosmos": cosmos}[level])
    return np.array(found, dtype=str)


@cache
def _regions() -> dict[str, tuple[str, str]]:
    """Beryl and Cosmos region of each acronym."""
    with open(_TABLE, newline="", encoding="utf-8") as file:
        next(file)  # where the table is from
        return {row["acronym"]: (row["beryl"], row["cosmos"]) for row in csv.DictReader(file)}
