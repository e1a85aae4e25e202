"""How the methods of an evaluation are drawn: one colour, marker and line style each, distinct in grey."""

from dataclasses import dataclass
from textwrap import fill

import numpy as np

from ..decoding.comparison import Comparison
from ..decoding.scores import EMBEDDING, SHUFFLED
from ..text import for_figure
from .drawing import open_spines

_EMBEDDING_COLOUR = "#b2182b"
_MARKERS = "sD^vP<>X"
_LINES = ("--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 3)), (0, (4, 2, 1, 2, 1, 2)))
_NAME_WIDTH = 28  # characters per line


@dataclass(frozen=True)
class Style:
    """Colour, marker and line of a method."""

    color: object
    marker: str
    linestyle: object
    linewidth: float


def styles_of(methods: list[str]) -> dict[str, Style]:
    """The embedding in red, the others from dark to light, each with its own marker and line style."""
    import matplotlib.pyplot as plt

    others = [method for method in methods if method != EMBEDDING]
    colours = plt.get_cmap("cividis")(np.linspace(0.1, 0.85, max(len(others), 1)))
    styles = {EMBEDDING: Style(_EMBEDDING_COLOUR, "o", "-", 2.5)}
    for k, method in enumerate(others):
        styles[method] = Style(tuple(colours[k]), _MARKERS[k % len(_MARKERS)], _LINES[k % len(_LINES)], 1.3)
    return styles


def draw_scores(axis, evaluation: Comparison, styles: dict[str, Style]) -> None:
    """Mean and interval of each method, each animal as a point, and the range of shuffled labels as a band."""
    table = evaluation.scores[evaluation.scores["score"] == evaluation.MAIN].set_index("method")
    points = evaluation.animal_scores[evaluation.animal_scores["score"] == evaluation.MAIN]
    if SHUFFLED in table.index:
        axis.axvspan(table.loc[SHUFFLED, "low"], table.loc[SHUFFLED, "high"], color="0.9", linewidth=0, zorder=0)
    for y, (method, style) in enumerate(styles.items()):
        row, values = table.loc[method], points.loc[points["method"] == method, "value"]
        axis.plot(values, np.full(len(values), y + 0.25), "o", color=style.color, markersize=3, alpha=0.6)
        if np.isfinite(row["low"]):
            axis.plot([row["low"], row["high"]], [y, y], color=style.color, linewidth=2)
        axis.plot(row["value"], y, style.marker, color=style.color, markersize=7)
        axis.annotate(f"{row['value']:.2f}", (row["value"], y), (0, 6), textcoords="offset points", ha="center", size=8)
    axis.set_yticks(range(len(styles)), [fill(for_figure(method), _NAME_WIDTH) for method in styles])
    shuffled = "; grey: shuffled labels" if SHUFFLED in table.index else ""
    readout = evaluation.provenance["readout"]
    axis.set(
        title=f"{for_figure(evaluation.target)}: {evaluation.protocol}, {readout} read-out",
        xlim=(min(0, points["value"].min() - 0.03), 1.05), ylim=(len(styles) - 0.4, -0.7),
        xlabel=f"{evaluation.MAIN}\n(mean, 95 % interval; points: animals{shuffled})",
    )  # fmt: skip
    open_spines(axis)


def add_legend(figure, styles: dict[str, Style]) -> None:
    """One legend below all panels."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [],
            [],
            color=style.color,
            marker=style.marker,
            linestyle=style.linestyle,
            linewidth=style.linewidth,
            label=for_figure(method),
        )
        for method, style in styles.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize="small", handlelength=4)
