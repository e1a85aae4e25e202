"""Helpers shared by figures and the view: colours of classes and numbers, new figures, open panels.

matplotlib is imported when used.
"""

from html import escape

import numpy as np

from ..predictions import UNKNOWN
from ..text import printable

GREY = "0.75"
_SCALE = "viridis"
# Of Okabe & Ito (2008), "Color Universal Design", without black, and three of Tol (2021), SRON/EPS/TN/09-002.
_PALETTE = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"),
    *("#332288", "#882255", "#999933", "#F0E442"),
)
_MARKERS = "osD^vPX<>*"


def class_colours(classes) -> dict[str, tuple]:
    """A colour for each class: ten that the colour-blind tell apart, none of them grey; for more classes a scale."""
    from matplotlib import colormaps
    from matplotlib.colors import to_rgb

    count = len(classes)
    palette = _PALETTE if count <= len(_PALETTE) else colormaps["turbo"](np.linspace(0.05, 0.95, count))
    return {str(name): to_rgb(palette[k]) for k, name in enumerate(classes)}


def palette_of(classes) -> dict[str, str]:
    """The colour of each class, and grey for "unknown", as hexadecimal."""
    colours = hex_colours(class_colours(classes).values())
    return {**dict(zip(map(str, classes), colours, strict=True)), UNKNOWN: hex_colours([GREY])[0]}


def legend_html(names: list[tuple[str, str]]) -> str:
    """Names and their colours; names are escaped."""
    entry = '<span style="white-space: nowrap"><span style="color: {}">&#9679;</span> {}</span>'
    return " &nbsp; ".join(entry.format(colour, escape(printable(name))) for name, colour in names)


def class_markers(classes) -> dict[str, str]:
    """A marker of Matplotlib for each class, so that figures can be read in grey."""
    return {str(name): _MARKERS[k % len(_MARKERS)] for k, name in enumerate(classes)}


def scale_colours(values: np.ndarray, steps: int = 4) -> tuple[list[str], list[tuple[str, str]]]:
    """Colours of numbers (n,), grey for NaN, as hexadecimal; and of a few numbers of their range, for a legend."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    values = np.asarray(values, dtype=float)
    known = values[np.isfinite(values)]
    low, high = (known.min(), known.max()) if len(known) else (0.0, 1.0)
    shown = np.linspace(low, high, steps) if high > low else np.array([low])

    def colours(numbers):
        return [
            to_hex(colormaps[_SCALE]((number - low) / (high - low) if high > low else 0.5))
            if np.isfinite(number) else to_hex(GREY)
            for number in numbers
        ]  # fmt: skip

    return colours(values), list(zip((f"{number:.3g}" for number in shown), colours(shown), strict=True))


def hex_colours(colours) -> list[str]:
    """Colours as hexadecimal text."""
    from matplotlib.colors import to_hex

    return [to_hex(colour) for colour in colours]


def new_figure(figsize: tuple, backend_kwargs: dict):
    """The figure in `backend_kwargs`, or a new one, with its title."""
    import matplotlib.pyplot as plt

    figure = backend_kwargs.get("figure")
    if figure is None:
        figure = plt.figure(figsize=backend_kwargs.get("figsize") or figsize, layout="constrained")
    if backend_kwargs.get("figtitle"):
        figure.suptitle(backend_kwargs["figtitle"])
    return figure


def open_spines(axis) -> None:
    """Hide the top and right spines of a panel."""
    axis.spines[["top", "right"]].set_visible(False)
