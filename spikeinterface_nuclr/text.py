"""Text that came out of a file, on its way to a person: a terminal, a Markdown page, a figure, a spreadsheet's table.

Names of units, labels and groups are anybody's words. They may hold newlines, terminal commands or formulas.
"""

import re
import unicodedata

# Controls, line and paragraph separators, halves of surrogate pairs.
_UNPRINTABLE = {"Cc", "Zl", "Zp", "Cs"}
# Marks that make text run in the other direction, so that a line reads as something else.
_DIRECTIONS = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_MARKUP = re.compile(r"([\\`*_\[\]|#!~])")
# What spreadsheets take for a formula: text that begins like one, also after blanks, unless it is a number.
_FORMULA = re.compile(r"\s*[=@+\-\uff1d\uff20\uff0b\uff0d]|[\t\r\n]")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def printable(text) -> str:
    r"""The text on one line: line breaks, terminal controls and marks of direction as escapes.

    Examples
    --------
    >>> from spikeinterface_nuclr.text import printable
    >>> printable("unit\n7\x1b[2J")
    'unit\\n7\\x1b[2J'
    """
    # A damaged array of text can hold what is no character; not even a loop over it is safe.
    valid = str(text).encode("utf-8", "backslashreplace").decode("utf-8", "replace")
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in _UNPRINTABLE or char in _DIRECTIONS
        else char
        for char in valid
    )  # fmt: skip


def for_figure(text) -> str:
    """The text as Matplotlib draws it, without formulas of its own."""
    return printable(text).replace("$", r"\$")


def for_markdown(text) -> str:
    """The text as a Markdown page shows it, without markup or HTML of its own."""
    escaped = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # A backslash does not keep "$…$" from being a formula everywhere.
    return _MARKUP.sub(r"\\\1", escaped).replace("$", "&#36;")


def for_csv(frame):
    """The pandas DataFrame with an apostrophe before text that a spreadsheet would run as a formula.

    Texts in the index and the columns' names are escaped too; numbers stay as they are.
    """
    import pandas as pd

    safe = frame.copy()
    for column in safe.columns:
        if not pd.api.types.is_numeric_dtype(safe[column]):
            safe[column] = safe[column].map(_safe_cell)
    safe.columns = safe.columns.map(_safe_cell)
    if not isinstance(safe.index, pd.MultiIndex):
        safe.index = safe.index.map(_safe_cell)
    return safe


def _safe_cell(value):
    formula = isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value)
    return f"'{value}" if formula else value
