"""What the figures share: colours of classes, a new figure, open panels. matplotlib is imported where it draws."""

import numpy as np

GREY = "0.75"


def class_colours(classes) -> dict[str, tuple]:
    """A colour for each class, of ten that are told apart, then of a scale."""
    import matplotlib.pyplot as plt

    count = len(classes)
    palette = plt.get_cmap("tab10").colors if count <= 10 else plt.get_cmap("turbo")(np.linspace(0.05, 0.95, count))
    return {str(name): tuple(palette[k]) for k, name in enumerate(classes)}


def new_figure(figsize: tuple, backend_kwargs: dict):
    """The figure to draw into, given or new, with its title."""
    import matplotlib.pyplot as plt

    figure = backend_kwargs.get("figure")
    if figure is None:
        figure = plt.figure(figsize=backend_kwargs.get("figsize") or figsize, layout="constrained")
    if backend_kwargs.get("figtitle"):
        figure.suptitle(backend_kwargs["figtitle"])
    return figure


def open_spines(axis) -> None:
    """Hide the lines above and right of a panel."""
    axis.spines[["top", "right"]].set_visible(False)
