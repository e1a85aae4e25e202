"""The figure of a training run's log."""

# Title, columns and unit of each panel.
_PANELS = (
    ("loss", ("loss",), "nats"),
    ("terms of the loss", ("alignment", "repulsion", "invariance", "variance", "covariance"), "nats"),
    ("top-1 re-identification accuracy", ("reidentification", "reidentification_across"), "fraction of neurons"),
    ("effective dimensionality", ("rank_me",), "RankMe"),
    ("split-half similarity", ("split_half_similarity",), "cosine similarity"),
    ("linear probe, held-out animals", ("probe",), "macro-F1"),
)


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
