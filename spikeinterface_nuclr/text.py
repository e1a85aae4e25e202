"""Escape text from untrusted files for terminals, Markdown, figures and spreadsheets.

Names of units, labels and groups may contain newlines, terminal commands or formulas.
"""

import re
import unicodedata

# Control characters, line and paragraph separators, surrogates.
_UNPRINTABLE = {"Cc", "Zl", "Zp", "Cs"}
# Bidirectional marks, which can make a line read as something else.
_DIRECTIONS = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_MARKUP = re.compile(r"([\\`*_\[\]|#!~])")
# Text that spreadsheets take for a formula: it begins like one, possibly after blanks, and is not a number.
_FORMULA = re.compile(r"\s*[=@+\-\uff1d\uff20\uff0b\uff0d]|[\t\r\n]")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def printable(text) -> str:
    r"""Return the text on one line, with line breaks, control characters and bidirectional marks escaped.

    Examples
    --------
    >>> from spikeinterface_nuclr.text import printable
    >>> printable("unit\n7\x1b[2J")
    'unit\\n7\\x1b[2J'
    """
    # A damaged array of text can hold invalid characters, over which not even a loop is safe.
    valid = str(text).encode("utf-8", "backslashreplace").decode("utf-8", "replace")
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in _UNPRINTABLE or char in _DIRECTIONS
        else char
        for char in valid
    )  # fmt: skip


def for_figure(text) -> str:
    """Escape text for Matplotlib, so that it is not drawn as a formula."""
    return printable(text).replace("$", r"\$")


def for_markdown(text) -> str:
    """Escape markup, HTML and formulas in text for a Markdown page."""
    escaped = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # Not every renderer accepts a backslash before "$…$".
    return _MARKUP.sub(r"\\\1", escaped).replace("$", "&#36;")


def for_csv(frame):
    """Return a copy of a pandas DataFrame with an apostrophe before text that a spreadsheet would run as a formula.

    Text in the index and column names is escaped too; numbers are unchanged.
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
