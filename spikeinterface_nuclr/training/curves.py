"""The figure of a training run's log."""

# Title, unit, and the columns of each panel with their names.
_PANELS = (
    ("loss of the training", "loss", {"loss": "loss"}),
    (
        "its terms",
        "contribution to the loss",
        {name: name for name in ("alignment", "repulsion", "invariance", "variance", "covariance")},
    ),
    (
        "top-1 re-identification",
        "fraction of held-out neurons",
        {"reidentification": "within a recording", "reidentification_across": "across recordings"},
    ),
    ("effective dimensionality", "dimensions (RankMe)", {"rank_me": "RankMe"}),
    ("split-half similarity", "cosine similarity", {"split_half_similarity": "similarity"}),
    ("linear probe, held-out animals", "macro-F1", {"probe": "probe"}),
)
# Of one panel, told apart in grey, and by the colour-blind.
_STYLES = (("#0072B2", "-", "o"), ("#E69F00", "--", "s"), ("#009E73", ":", "D"))
_IN_A_ROW = 3


def plot_training(rows: list[dict]):
    """Plot the loss and the monitors of a training run against the step.

    Parameters
    ----------
    rows : list of dict
        Rows of the log: the columns of its CSV, as numbers.

    Returns
    -------
    matplotlib Figure

    Examples
    --------
    >>> from spikeinterface_nuclr import plot_training
    >>> rows = [{"step": 10, "loss": 2.0, "rank_me": 3.1}, {"step": 20, "loss": 1.5, "rank_me": 5.8}]
    >>> plot_training(rows).savefig("curves.png")
    """
    from matplotlib.figure import Figure

    panels = [(title, unit, {k: v for k, v in names.items() if k in rows[0]}) for title, unit, names in _PANELS]
    panels = [panel for panel in panels if panel[2]]
    across = min(_IN_A_ROW, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(4 * across, 3.2 * down), layout="constrained")
    steps, every = [row["step"] for row in rows], figure.subplots(down, across, squeeze=False).ravel()
    for axes, (title, unit, names) in zip(every, panels, strict=False):
        for (column, name), (colour, line, marker) in zip(names.items(), _STYLES, strict=False):
            values = [row[column] for row in rows]
            axes.plot(
                steps, values, line, color=colour, marker=marker if len(rows) < 30 else "", markersize=4, label=name
            )
        axes.set(title=title, xlabel="step", ylabel=unit)
        if len(names) > 1:
            axes.legend(frameon=False, fontsize="small")
        axes.spines[["top", "right"]].set_visible(False)
    for axes in every[len(panels) :]:
        axes.set_axis_off()
    return figure
