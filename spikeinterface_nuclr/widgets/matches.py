"""Figure of matches as a SpikeInterface widget: probabilities by assignment, their distribution, survival."""

import numpy as np
from spikeinterface.widgets.base import BaseWidget

from ..errors import InputError
from ..text import for_figure
from ..unit_matches import UnitMatches
from .drawing import GREY, new_figure, open_spines


class NuCLRMatchesWidget(BaseWidget):
    """Plot which units of two recordings are the same neuron, and how long neurons are followed.

    Left: probability of each pair of units of two recordings; units in the order of the most probable assignment, so
    that certain pairs lie on the diagonal. Middle: probabilities of all units' best partners, and of the pairs that are
    named. Right: for recordings further and further apart in the given order, the fraction of units (of the
    recording with fewer) that are named; the title says how many neurons are followed through how many recordings.

    Parameters
    ----------
    matches : UnitMatches
    pair : tuple of two ints, default: (0, 1)
        Positions of the recordings on the left.
    backend : str, optional
        "matplotlib".
    **backend_kwargs
        ``figure``: a matplotlib figure to draw into. ``figsize``, ``figtitle``.

    Examples
    --------
    >>> from spikeinterface_nuclr import match_units, plot_nuclr_matches, simulate_days
    >>> matches = match_units(simulate_days(3, n_units=20, duration=120.0), progress=False)
    >>> plot_nuclr_matches(matches).figure.savefig("matches.png")
    """

    def __init__(self, matches, pair=(0, 1), backend=None, **backend_kwargs):
        if not isinstance(matches, UnitMatches):
            raise InputError(f"matches must be UnitMatches, not {type(matches).__name__}")
        if not np.iterable(pair) or len(tuple(pair)) != 2:
            raise InputError(f"pair: give the positions of two recordings, not {pair!r}")
        super().__init__({"matches": matches, "pair": tuple(pair)}, backend=backend, **backend_kwargs)

    def plot_matplotlib(self, data_plot, **backend_kwargs):
        """Draw the three panels."""
        matches, pair = data_plot["matches"], data_plot["pair"]
        self.figure = new_figure((13, 4), backend_kwargs)
        self.axes = self.figure.subplots(1, 3, width_ratios=(1.2, 1, 1))
        _matrix(self.figure, self.axes[0], matches, *pair)
        _distribution(self.axes[1], matches)
        _survival(self.axes[2], matches)


def _matrix(figure, axis, matches: UnitMatches, first: int, second: int) -> None:
    from scipy.optimize import linear_sum_assignment

    probability = matches.probability_between(first, second)
    rows, columns = linear_sum_assignment(probability, maximize=True)
    order = np.argsort(-probability[rows, columns], kind="stable")
    rows, columns = rows[order], columns[order]
    sides = [
        np.concatenate([used, np.setdiff1d(np.arange(n), used)])
        for used, n in zip((rows, columns), probability.shape, strict=True)
    ]
    image = axis.imshow(
        probability[np.ix_(*sides)], cmap="Greys", vmin=0, vmax=1, aspect="auto", interpolation="nearest"
    )
    figure.colorbar(image, ax=axis, label="probability of the same neuron")
    named = int(matches.named_between(first, second).sum())
    axis.set(
        title=f"{named} pairs named", xlabel=f"units of {for_figure(matches.recordings[second])}",
        ylabel=f"units of {for_figure(matches.recordings[first])}",
    )  # fmt: skip


def _distribution(axis, matches: UnitMatches) -> None:
    bins, best = np.linspace(0, 1, 21), []
    for pairs in (matches.rows_of(a, b) for a, b in _pairs(matches)):
        for side in (0, 1):
            units = matches.pair_units[pairs, side]
            largest = np.zeros(units.max() + 1 if len(units) else 0)
            np.maximum.at(largest, units, matches.probability[pairs])
            best.append(largest[np.unique(units)])
    axis.hist(np.concatenate([np.empty(0), *best]), bins, color=GREY, label="best partner of a unit")
    axis.hist(np.repeat(matches.probability[matches.named], 2), bins, color="C0", alpha=0.7, label="named")
    axis.set(title="How certain", xlabel="probability of the same neuron", ylabel="units")
    axis.legend(frameon=False)
    open_spines(axis)


def _survival(axis, matches: UnitMatches) -> None:
    distances, fractions = [], []
    for first, second in _pairs(matches):
        smaller = min(len(matches.unit_ids[first]), len(matches.unit_ids[second]))
        distances.append(second - first)
        fractions.append(matches.named[matches.rows_of(first, second)].sum() / max(smaller, 1))
    distances, fractions = np.array(distances), np.array(fractions)
    axis.plot(distances, fractions, ".", color=GREY)
    steps = np.unique(distances)
    axis.plot(steps, [fractions[distances == step].mean() for step in steps], "o-", color="C0")
    counts = np.bincount(matches.neurons().groupby("neuron_id").size())
    followed = "; ".join(f"{counts[k]} in {k}" for k in range(2, len(counts)) if counts[k])
    axis.set(
        title=f"Neurons followed: {followed}" if followed and len(matches.recordings) < 6 else "Survival",
        xlabel="recordings apart", ylabel="fraction of units named", ylim=(0, 1), xticks=steps,
    )  # fmt: skip
    open_spines(axis)


def _pairs(matches: UnitMatches):
    count = len(matches.recordings)
    return [(first, second) for first in range(count) for second in range(first + 1, count)]


plot_nuclr_matches = NuCLRMatchesWidget
