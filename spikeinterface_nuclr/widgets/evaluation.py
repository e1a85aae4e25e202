"""The figure of an evaluation of a decoder."""

import numpy as np
from spikeinterface.widgets.base import BaseWidget

from ..decoding import calibration
from ..decoding.evaluation import Evaluation
from ..decoding.scores import EMBEDDING, MAIN
from ..text import for_figure
from .drawing import GREY, new_figure, open_spines
from .methods import Style, add_legend, draw_scores, styles_of

_MAX_NUMBERED = 12  # most classes of a confusion matrix with numbers in its cells


class NuCLREvaluationWidget(BaseWidget):
    """Plot an evaluation: scores of all methods, confusion matrix, calibration and abstention.

    Parameters
    ----------
    evaluation : Evaluation
    label_efficiency, animal_scaling : pandas DataFrame, optional
        Results of the functions of these names; each adds a panel.
    backend : str, optional
        "matplotlib".
    **backend_kwargs
        As for `NuCLREmbeddingWidget`.

    Examples
    --------
    >>> from spikeinterface_nuclr import embed, evaluate, plot_nuclr_evaluation, simulate_population
    >>> populations = [simulate_population(20, 30.0, seed=seed) for seed in range(3)]
    >>> embeddings = [embed(population, progress=False) for population in populations]
    >>> labels = [population.properties["cell_type"] for population in populations]
    >>> evaluation = evaluate(embeddings, labels, shuffles=0, progress=False)
    >>> plot_nuclr_evaluation(evaluation).figure.savefig("evaluation.png")
    """

    def __init__(
        self, evaluation: Evaluation, label_efficiency=None, animal_scaling=None, backend=None, **backend_kwargs
    ):
        curves = {"share": label_efficiency, "animals": animal_scaling}
        data = {"evaluation": evaluation, "curves": {k: v for k, v in curves.items() if v is not None}}
        super().__init__(data, backend=backend, **backend_kwargs)

    def plot_matplotlib(self, data_plot, **backend_kwargs):
        """Draw scores, confusion matrix, reliability, risk and learning curves, with one legend."""
        evaluation, curves = data_plot["evaluation"], data_plot["curves"]
        rows = 2 + bool(curves)
        self.figure = new_figure((11, 4 * rows + 0.8), backend_kwargs)
        self.axes = self.figure.subplots(rows, 2)
        styles = styles_of(evaluation.methods)
        draw_scores(self.axes[0, 0], evaluation, styles)
        _draw_confusion(self.axes[0, 1], evaluation)
        _draw_reliability(self.axes[1, 0], evaluation, styles)
        _draw_risk(self.axes[1, 1], evaluation, styles)
        for axis in self.axes[2:].ravel()[len(curves) :]:
            axis.set_axis_off()
        for axis, (name, table) in zip(self.axes[2:].ravel(), curves.items(), strict=False):
            _draw_curve(axis, table, name, styles)
        add_legend(self.figure, styles)


plot_nuclr_evaluation = NuCLREvaluationWidget


def _draw_confusion(axis, evaluation: Evaluation) -> None:
    """Fractions of each true class by predicted class, with numbers of units if there is room."""
    counts = evaluation.confusion()
    fraction = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axis.imshow(fraction, cmap="Greys", vmin=0, vmax=1)
    for (i, j), value in np.ndenumerate(counts) if len(counts) <= _MAX_NUMBERED else ():
        colour = "white" if fraction[i, j] > 0.5 else "black"
        axis.text(j, i, f"{fraction[i, j]:.2f}\n{value}", ha="center", va="center", size=7, color=colour)
    names = [for_figure(name) for name in evaluation.classes]
    axis.set_xticks(range(len(counts)), names, rotation=45, ha="right")
    axis.set_yticks(range(len(counts)), names)
    axis.set(title="embedding: fraction of each true class", xlabel="predicted", ylabel="true")


def _draw_reliability(axis, evaluation: Evaluation, styles: dict[str, Style]) -> None:
    """Accuracy of the embedding's predictions by confidence, before and after calibration."""
    rows = evaluation.predictions_of(EMBEDDING)
    correct = (rows["truth"] == rows["best_label"]).to_numpy()
    colour = styles[EMBEDDING].color
    axis.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, zorder=0)
    before = calibration.reliability(rows["confidence_before"].to_numpy(), correct)
    axis.plot(before["confidence"], before["accuracy"], "o", color=colour, markerfacecolor="white", markersize=6)
    table = calibration.reliability(rows["confidence"].to_numpy(), correct)
    axis.plot(table["confidence"], table["accuracy"], "o", color=colour, markersize=5)
    fewest, most = table["count"].min(), table["count"].max()
    count = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    axis.annotate(f"{len(table['count'])} bins of {count} units", (0.03, 1.0), size=8, color="0.3")
    numbers = evaluation.scores[evaluation.scores["method"] == EMBEDDING].set_index("score")["value"]
    axis.set(
        title=f"embedding: ECE {numbers['ECE']:.3f} (before {numbers['ECE before']:.3f}, "
        f"by chance {numbers['ECE by chance']:.3f})",
        xlabel="confidence (filled: calibrated, hollow: before)",
        ylabel="accuracy",
        xlim=(0, 1.02),
        ylim=(-0.02, 1.08),
    )
    open_spines(axis)


def _draw_risk(axis, evaluation: Evaluation, styles: dict[str, Style]) -> None:
    """Error rate as a function of the fraction of units that are labelled, for every method."""
    for method, style in styles.items():
        rows = evaluation.predictions_of(method)
        table = calibration.selective_risk(
            rows["confidence"].to_numpy(), (rows["truth"] == rows["best_label"]).to_numpy()
        )
        axis.plot(
            table["coverage"], table["risk"], color=style.color, linestyle=style.linestyle, linewidth=style.linewidth
        )
    axis.set(title="abstention by confidence", xlabel="fraction labelled", ylabel="fraction of wrong labels")
    axis.set(xlim=(0, 1), ylim=(0, None))
    open_spines(axis)


def _draw_curve(axis, table, name: str, styles: dict[str, Style]) -> None:
    """A learning curve: the mean, and each test animal as a thin line."""
    means = table.groupby([name, "test_animal"])["macro_f1"].mean().unstack()
    axis.plot(means.index, means.to_numpy(), color=GREY, linewidth=1)
    axis.plot(means.index, means.mean(axis=1), "o-", color=styles[EMBEDDING].color)
    if name == "share":
        axis.set(xscale="log", title="embedding: by number of labels", xlabel="fraction of the training labels")
    else:
        axis.set(title="embedding: by number of animals", xlabel="training animals", xticks=means.index.unique())
    axis.set(ylabel=f"{MAIN} (grey: each test animal)", ylim=(0, 1.05))
    open_spines(axis)
