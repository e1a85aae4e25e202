"""The figure of an evaluation of a regressor."""

import numpy as np
from spikeinterface.widgets.base import BaseWidget

from ..decoding.regressor_evaluation import COVERAGES, RegressorEvaluation, inside
from ..decoding.scores import EMBEDDING
from ..text import for_figure
from .drawing import GREY, new_figure, open_spines
from .methods import add_legend, draw_scores, styles_of

_MAX_NAMED = 30  # most animals whose names are written


class NuCLRRegressorEvaluationWidget(BaseWidget):
    """Plot an evaluation of a number: scores of all methods, predictions, coverage of intervals, errors in each animal.

    Parameters
    ----------
    evaluation : RegressorEvaluation
    backend : str, optional
        "matplotlib".
    **backend_kwargs
        As for `NuCLREmbeddingWidget`.

    Examples
    --------
    >>> from spikeinterface_nuclr import embed, evaluate_regressor, plot_nuclr_regressor_evaluation, simulate_population
    >>> populations = [simulate_population(20, 30.0, seed=seed) for seed in range(3)]
    >>> embeddings = [embed(population, progress=False) for population in populations]
    >>> depths = [population.properties["depth"] for population in populations]
    >>> evaluation = evaluate_regressor(embeddings, depths, shuffles=0, progress=False)
    >>> plot_nuclr_regressor_evaluation(evaluation).figure.savefig("evaluation.png")
    """

    def __init__(self, evaluation: RegressorEvaluation, backend=None, **backend_kwargs):
        super().__init__({"evaluation": evaluation}, backend=backend, **backend_kwargs)

    def plot_matplotlib(self, data_plot, **backend_kwargs):
        """Draw scores, predictions, coverage of intervals and errors, with one legend."""
        evaluation = data_plot["evaluation"]
        self.figure = new_figure((11, 8.8), backend_kwargs)
        self.axes = self.figure.subplots(2, 2)
        styles = styles_of(evaluation.methods)
        draw_scores(self.axes[0, 0], evaluation, styles)
        _draw_predictions(self.axes[0, 1], evaluation, styles[EMBEDDING].color)
        _draw_intervals(self.axes[1, 0], evaluation, styles)
        _draw_errors(self.axes[1, 1], evaluation, styles[EMBEDDING].color)
        add_legend(self.figure, styles)


plot_nuclr_regressor_evaluation = NuCLRRegressorEvaluationWidget


def _draw_predictions(axis, evaluation: RegressorEvaluation, colour) -> None:
    """The embedding's prediction of each unit by its true value, and the typical interval."""
    rows = evaluation.predictions_of(EMBEDDING)
    truth, value = rows["truth"].to_numpy(), rows["value"].to_numpy()
    limits = [truth.min(), truth.max()]
    axis.plot(limits, limits, color=GREY, linestyle="--", linewidth=1)
    axis.plot(truth, value, "o", color=colour, markersize=2.5, alpha=min(1.0, 60 / np.sqrt(len(rows)) / 10 + 0.1))
    scores = evaluation.scores[evaluation.scores["method"] == EMBEDDING].set_index("score")["value"]
    axis.set(
        title=f"embedding: r2 {scores['r2']:.2f}, mean error {_short(scores['mean absolute error'])}",
        xlabel=f"true {for_figure(evaluation.target)}", ylabel=f"predicted {for_figure(evaluation.target)}",
    )  # fmt: skip
    open_spines(axis)


def _short(value: float) -> str:
    """A number without needless digits: 1,633 or 0.0123."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _draw_intervals(axis, evaluation: RegressorEvaluation, styles) -> None:
    """Fraction of true values inside intervals, by their nominal coverage: means, and animals as points."""
    axis.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    for k, (method, style) in enumerate(styles.items()):
        rows = evaluation.animal_scores[evaluation.animal_scores["method"] == method]
        parts = [rows.loc[rows["score"] == inside(coverage), "value"].to_numpy() for coverage in COVERAGES]
        at = np.array(COVERAGES) + 0.012 * k
        axis.plot(at, [part.mean() for part in parts], style.marker, color=style.color, markersize=6)
        if method == EMBEDDING:
            for x, part in zip(at, parts, strict=True):
                axis.plot(np.full(len(part), x - 0.02), part, "o", color=style.color, markersize=3, alpha=0.6)
    axis.set(
        title="intervals (points: animals, embedding)", xlabel="nominal coverage", ylabel="true values inside",
        xlim=(0.3, 1.05), ylim=(0, 1.05), xticks=COVERAGES,
    )  # fmt: skip
    open_spines(axis)


def _draw_errors(axis, evaluation: RegressorEvaluation, colour) -> None:
    """The embedding's errors in each animal: median, quartiles, and the 5th to 95th percentile."""
    rows = evaluation.predictions_of(EMBEDDING)
    axis.axvline(0, color=GREY, linestyle="--", linewidth=1)
    animals = []
    for y, (animal, part) in enumerate(rows.groupby("animal")):
        low, first, median, third, high = np.quantile(part["value"] - part["truth"], [0.05, 0.25, 0.5, 0.75, 0.95])
        axis.plot([low, high], [y, y], color=colour, linewidth=1)
        axis.plot([first, third], [y, y], color=colour, linewidth=4, solid_capstyle="butt")
        axis.plot(median, y, "o", color="white", markeredgecolor=colour, markersize=5)
        animals.append(f"{for_figure(animal)} ({len(part)})")
    if len(animals) <= _MAX_NAMED:
        axis.set_yticks(range(len(animals)), animals)
    axis.locator_params(axis="x", nbins=6)
    axis.set(
        title="embedding: errors in each animal (units)", xlabel="predicted minus true", ylim=(len(animals) - 0.4, -0.6)
    )
    open_spines(axis)
