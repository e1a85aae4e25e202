"""The figure of a training run's log."""

# What each panel shows, and the unit of its axis.
_PANELS = (
    ("loss", ("loss",), "nats"),
    ("parts of the loss", ("alignment", "repulsion", "invariance", "variance", "covariance"), "nats"),
    ("found again", ("reidentification", "reidentification_across"), "share of neurons"),
    ("dimensions in use", ("rank_me",), "RankMe"),
    ("odd and even windows agree", ("split_half_similarity",), "cosine"),
    ("probe of held-out animals", ("probe",), "macro-F1"),
)


def plot_training(rows: list[dict]):
    """Draw the loss and the monitors of a run over its steps.

    Parameters
    ----------
    rows : list of dict
        Of the log: the columns of its CSV, as numbers.

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

    panels = [(title, [name for name in names if name in rows[0]], unit) for title, names, unit in _PANELS]
    panels = [panel for panel in panels if panel[1]]
    figure = Figure(figsize=(4 * len(panels), 3.2), layout="constrained")
    steps = [row["step"] for row in rows]
    for axes, (title, names, unit) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name in names:
            axes.plot(steps, [row[name] for row in rows], marker="." if len(rows) < 30 else "", label=name)
        axes.set(title=title, xlabel="step", ylabel=unit)
        if len(names) > 1:
            axes.legend(frameon=False, fontsize="small")
        axes.spines[["top", "right"]].set_visible(False)
    return figure
