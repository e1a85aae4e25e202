"""The figure of an evaluation: a method has one colour, marker and line in all panels, distinct in grey too."""

from dataclasses import dataclass
from textwrap import fill

import numpy as np
from spikeinterface.widgets.base import BaseWidget

from ..decoding import calibration
from ..decoding.evaluation import Evaluation
from ..decoding.scores import EMBEDDING, MAIN, SHUFFLED
from ..text import for_figure
from .drawing import GREY, new_figure, open_spines

_OWN_COLOUR = "#b2182b"
_MARKERS = "sD^vP<>X"
_LINES = ("--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 3)), (0, (4, 2, 1, 2, 1, 2)))
_NAME_WIDTH = 28  # characters of a line
_MOST_CELLS = 12  # classes of a confusion whose cells have room for numbers


class NuCLREvaluationWidget(BaseWidget):
    """Draw how well a property is read: the scores beside those without the embedding, confusions, and calibration.

    Parameters
    ----------
    evaluation : Evaluation
    label_efficiency, animal_scaling : pandas DataFrame, optional
        What the functions of these names gave: a panel more each.
    backend : str, optional
        "matplotlib".
    **backend_kwargs
        As of `NuCLREmbeddingWidget`.

    Examples
    --------
    >>> from spikeinterface_nuclr import embed, evaluate, plot_nuclr_evaluation, simulate_population
    >>> populations = [simulate_population(20, 30.0, seed=seed) for seed in range(3)]
    >>> embeddings = [embed(population, progress=False) for population in populations]
    >>> labels = [population.properties["cell_type"] for population in populations]
    >>> evaluation = evaluate(embeddings, labels, ["a", "b", "c"], shuffles=0, progress=False)
    >>> plot_nuclr_evaluation(evaluation).figure.savefig("evaluation.png")
    """

    def __init__(
        self, evaluation: Evaluation, label_efficiency=None, animal_scaling=None, backend=None, **backend_kwargs
    ):
        curves = {"share": label_efficiency, "animals": animal_scaling}
        data = {"evaluation": evaluation, "curves": {k: v for k, v in curves.items() if v is not None}}
        super().__init__(data, backend=backend, **backend_kwargs)

    def plot_matplotlib(self, data_plot, **backend_kwargs):
        """Scores, confusions, reliability, risk; then the learning curves; one legend for all."""
        evaluation, curves = data_plot["evaluation"], data_plot["curves"]
        rows = 2 + bool(curves)
        self.figure = new_figure((11, 4 * rows + 0.8), backend_kwargs)
        self.axes = self.figure.subplots(rows, 2)
        styles = _styles_of(evaluation.methods)
        _draw_scores(self.axes[0, 0], evaluation, styles)
        _draw_confusion(self.axes[0, 1], evaluation)
        _draw_reliability(self.axes[1, 0], evaluation, styles)
        _draw_risk(self.axes[1, 1], evaluation, styles)
        for axis in self.axes[2:].ravel()[len(curves) :]:
            axis.set_axis_off()
        for axis, (name, table) in zip(self.axes[2:].ravel(), curves.items(), strict=False):
            _draw_curve(axis, table, name, styles)
        _add_legend(self.figure, styles)


plot_nuclr_evaluation = NuCLREvaluationWidget


@dataclass(frozen=True)
class _Style:
    """How a method is drawn."""

    color: object
    marker: str
    linestyle: object
    linewidth: float


def _styles_of(methods: list[str]) -> dict[str, _Style]:
    """The embedding in red, the others from dark to light, each with a marker and a line of its own."""
    import matplotlib.pyplot as plt

    others = [method for method in methods if method != EMBEDDING]
    colours = plt.get_cmap("cividis")(np.linspace(0.1, 0.85, max(len(others), 1)))
    styles = {EMBEDDING: _Style(_OWN_COLOUR, "o", "-", 2.5)}
    for k, method in enumerate(others):
        styles[method] = _Style(tuple(colours[k]), _MARKERS[k % len(_MARKERS)], _LINES[k % len(_LINES)], 1.3)
    return styles


def _draw_scores(axis, evaluation: Evaluation, styles: dict[str, _Style]) -> None:
    """Each method's mean with its interval, and every animal as a point; what shuffled labels score as a band."""
    table = evaluation.scores[evaluation.scores["score"] == MAIN].set_index("method")
    points = evaluation.animal_scores[evaluation.animal_scores["score"] == MAIN]
    if SHUFFLED in table.index:
        axis.axvspan(table.loc[SHUFFLED, "low"], table.loc[SHUFFLED, "high"], color="0.9", linewidth=0, zorder=0)
    for place, (method, style) in enumerate(styles.items()):
        row, values = table.loc[method], points.loc[points["method"] == method, "value"]
        axis.plot(values, np.full(len(values), place + 0.25), "o", color=style.color, markersize=3, alpha=0.6)
        if np.isfinite(row["low"]):
            axis.plot([row["low"], row["high"]], [place, place], color=style.color, linewidth=2)
        axis.plot(row["value"], place, style.marker, color=style.color, markersize=7)
        axis.annotate(
            f"{row['value']:.2f}", (row["value"], place), (0, 6), textcoords="offset points", ha="center", size=8
        )
    axis.set_yticks(range(len(styles)), [fill(for_figure(method), _NAME_WIDTH) for method in styles])
    shuffled = ", shuffled labels (grey)" if SHUFFLED in table.index else ""
    axis.set(
        title=f"{for_figure(evaluation.target)}: {evaluation.protocol}", xlim=(0, 1.05), ylim=(len(styles) - 0.4, -0.7),
        xlabel=f"{MAIN}: mean, 95 % interval, each animal{shuffled}",
    )  # fmt: skip
    open_spines(axis)


def _draw_confusion(axis, evaluation: Evaluation) -> None:
    """Shares of each true class by predicted class, with the numbers of units where there is room."""
    counts = evaluation.confusion()
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axis.imshow(share, cmap="Greys", vmin=0, vmax=1)
    for (i, j), value in np.ndenumerate(counts) if len(counts) <= _MOST_CELLS else ():
        colour = "white" if share[i, j] > 0.5 else "black"
        axis.text(j, i, f"{share[i, j]:.2f}\n{value}", ha="center", va="center", size=7, color=colour)
    names = [for_figure(name) for name in evaluation.classes]
    axis.set_xticks(range(len(counts)), names, rotation=45, ha="right")
    axis.set_yticks(range(len(counts)), names)
    axis.set(title="embedding: share of each true class", xlabel="predicted", ylabel="true")


def _draw_reliability(axis, evaluation: Evaluation, styles: dict[str, _Style]) -> None:
    """How often the embedding's predictions of a confidence are right, and how many units each bin holds."""
    rows = evaluation.of(EMBEDDING)
    right = (rows["truth"] == rows["best_label"]).to_numpy()
    colour = styles[EMBEDDING].color
    axis.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, zorder=0)
    before = calibration.reliability(rows["confidence_before"].to_numpy(), right)
    axis.plot(before["confidence"], before["accuracy"], "o", color=colour, markerfacecolor="white", markersize=6)
    table = calibration.reliability(rows["confidence"].to_numpy(), right)
    axis.plot(table["confidence"], table["accuracy"], "o", color=colour, markersize=5)
    fewest, most = table["count"].min(), table["count"].max()
    count = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    axis.annotate(f"{len(table['count'])} bins of {count} units", (0.03, 1.0), size=8, color="0.3")
    numbers = evaluation.scores[evaluation.scores["method"] == EMBEDDING].set_index("score")["value"]
    axis.set(
        title=f"embedding: ECE {numbers['ECE']:.3f} (before {numbers['ECE before']:.3f}, "
        f"by chance {numbers['ECE by chance']:.3f})",
        xlabel="confidence (filled: calibrated, hollow: before)",
        ylabel="share that is right",
        xlim=(0, 1.02),
        ylim=(-0.02, 1.08),
    )
    open_spines(axis)


def _draw_risk(axis, evaluation: Evaluation, styles: dict[str, _Style]) -> None:
    """Share of wrong labels by share of labelled units, of every method."""
    for method, style in styles.items():
        rows = evaluation.of(method)
        table = calibration.selective_risk(
            rows["confidence"].to_numpy(), (rows["truth"] == rows["best_label"]).to_numpy()
        )
        axis.plot(
            table["coverage"], table["risk"], color=style.color, linestyle=style.linestyle, linewidth=style.linewidth
        )
    axis.set(title="abstaining from the less confident", xlabel="share that is labelled", ylabel="share that is wrong")
    axis.set(xlim=(0, 1), ylim=(0, None))
    open_spines(axis)


def _draw_curve(axis, table, name: str, styles: dict[str, _Style]) -> None:
    """A learning curve: the mean, and every animal as a thin line."""
    means = table.groupby([name, "animal_tested"])["macro_f1"].mean().unstack()
    axis.plot(means.index, means.to_numpy(), color=GREY, linewidth=1)
    axis.plot(means.index, means.mean(axis=1), "o-", color=styles[EMBEDDING].color)
    if name == "share":
        axis.set(xscale="log", title="embedding: share of the labels", xlabel="share of the labels that is fitted to")
    else:
        axis.set(title="embedding: number of animals", xlabel="animals that are fitted to", xticks=means.index.unique())
    axis.set(ylabel=f"{MAIN} (grey: each animal)", ylim=(0, 1))
    open_spines(axis)


def _add_legend(figure, styles: dict[str, _Style]) -> None:
    """One legend for all panels, below them."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [], [], color=s.color, marker=s.marker, linestyle=s.linestyle, linewidth=s.linewidth, label=for_figure(m)
        )
        for m, s in styles.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize="small", handlelength=4)
