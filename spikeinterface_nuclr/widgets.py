"""Figures of embeddings."""

import numpy as np

from .errors import InputError
from .unit_embeddings import UnitEmbeddings


def embedding_map(embedding: np.ndarray) -> np.ndarray:
    """The first two principal components of standardised embeddings.

    Parameters
    ----------
    embedding : float array, shape (n_units, dim)
        Rows may be NaN.

    Returns
    -------
    float64, shape (n_units, 2)
        NaN where the row is NaN. Deterministic: each axis points to where its largest loading is positive.
    """
    placed = np.full((len(embedding), 2), np.nan)
    known = np.isfinite(embedding).all(axis=1)
    rows = embedding[known].astype(np.float64)
    if len(rows) < 3:
        raise InputError(f"a map needs at least three embedded units, not {len(rows)}")
    spread = rows.std(axis=0)
    rows = (rows - rows.mean(axis=0)) / np.where(spread > 0, spread, 1)
    _, _, axes = np.linalg.svd(rows, full_matrices=False)
    axes = axes[:2] * np.sign(axes[:2, np.abs(axes[:2]).argmax(axis=1)].diagonal())[:, None]
    placed[known] = rows @ axes.T
    return placed


def plot_nuclr_embedding(embeddings: UnitEmbeddings, labels: dict[str, np.ndarray], figure=None):
    """Draw the map of the embeddings, once for each kind of label.

    Parameters
    ----------
    embeddings : UnitEmbeddings
    labels : dict of str to array of shape (n_units,)
        Titles and labels; text gives a colour a class, numbers a colour scale.
    figure : matplotlib Figure, optional

    Returns
    -------
    matplotlib Figure
    """
    from matplotlib.figure import Figure

    place = embedding_map(embeddings.embedding)
    figure = figure or Figure(figsize=(4.5 * len(labels), 4), layout="constrained")
    axes = figure.subplots(1, len(labels), squeeze=False)[0]
    for axis, (title, values) in zip(axes, labels.items(), strict=True):
        values = np.asarray(values)
        if values.dtype.kind in "if":
            points = axis.scatter(*place.T, c=values, s=22, cmap="viridis", linewidths=0)
            figure.colorbar(points, ax=axis)
        else:
            for label in np.unique(values):
                axis.scatter(*place[values == label].T, s=22, label=label, linewidths=0)
            axis.legend(frameon=False, fontsize="small")
        axis.set(title=title, xlabel="PC 1", ylabel="PC 2", xticks=[], yticks=[])
        axis.spines[["top", "right"]].set_visible(False)
    return figure
