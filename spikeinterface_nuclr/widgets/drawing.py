"""Helpers shared by figures and the view: colours of classes and numbers, new figures, open panels.

matplotlib is imported when used.
"""

import numpy as np

GREY = "0.75"
_SCALE = "viridis"


def class_colours(classes) -> dict[str, tuple]:
    """A colour for each class: ten distinct colours, or a colour scale for more classes."""
    import matplotlib.pyplot as plt

    count = len(classes)
    palette = plt.get_cmap("tab10").colors if count <= 10 else plt.get_cmap("turbo")(np.linspace(0.05, 0.95, count))
    return {str(name): tuple(palette[k]) for k, name in enumerate(classes)}


def scale_colours(values: np.ndarray, steps: int = 4) -> tuple[list[str], list[tuple[str, str]]]:
    """Colours of numbers (n,), grey for NaN, as hexadecimal; and of a few numbers of their range, for a legend."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    values = np.asarray(values, dtype=float)
    known = values[np.isfinite(values)]
    low, high = (known.min(), known.max()) if len(known) else (0.0, 1.0)
    shown = np.linspace(low, high, steps) if high > low else np.array([low])

    def colours(numbers):
        return [
            to_hex(colormaps[_SCALE]((number - low) / (high - low) if high > low else 0.5))
            if np.isfinite(number) else to_hex(GREY)
            for number in numbers
        ]  # fmt: skip

    return colours(values), list(zip((f"{number:.3g}" for number in shown), colours(shown), strict=True))


def hex_colours(colours) -> list[str]:
    """Colours as hexadecimal text."""
    from matplotlib.colors import to_hex

    return [to_hex(colour) for colour in colours]


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
