"""Helpers shared by the figures: colours of classes, new figures, open panels. matplotlib is imported when used."""

import numpy as np

GREY = "0.75"


def class_colours(classes) -> dict[str, tuple]:
    """A colour for each class: ten distinct colours, or a colour scale for more classes."""
    import matplotlib.pyplot as plt

    count = len(classes)
    palette = plt.get_cmap("tab10").colors if count <= 10 else plt.get_cmap("turbo")(np.linspace(0.05, 0.95, count))
    return {str(name): tuple(palette[k]) for k, name in enumerate(classes)}


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
