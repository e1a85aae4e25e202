"""Maps: embeddings in two dimensions."""

import numpy as np

from ..errors import InputError

METHODS = ("PCA", "UMAP")
# Fewest units of a map by UMAP.
_FEWEST = 3


def embedding_map(embedding: np.ndarray, method: str = "PCA", seed: int = 0) -> np.ndarray:
    """Two coordinates of each unit, from standardised embeddings.

    Parameters
    ----------
    embedding : float array, shape (n_units, dim)
        Rows may be NaN.
    method : {"PCA", "UMAP"}
        The first two principal components, whose distances mean something; or UMAP (McInnes et al. 2018), which keeps
        neighbours together, but neither distances between groups nor their sizes. It needs the package umap-learn.
    seed : int, default: 0
        Of UMAP.

    Returns
    -------
    float64, shape (n_units, 2)
        NaN where the row is NaN. Deterministic: the largest loading of each principal component is positive.

    Raises
    ------
    InputError
        The method is neither, there are fewer than three units for UMAP, or umap-learn is not installed.
    """
    check_method(method)
    points = np.full((len(embedding), 2), np.nan)
    embedded = np.isfinite(embedding).all(axis=1)
    rows = embedding[embedded].astype(np.float64)
    if not len(rows):
        return points
    if method == "UMAP" and len(rows) < _FEWEST:
        raise InputError(f"a map by UMAP needs three embedded units, not {len(rows)}: use PCA")
    spread = rows.std(axis=0)
    rows = (rows - rows.mean(axis=0)) / np.where(spread > 0, spread, 1)
    points[embedded] = _principal_components(rows) if method == "PCA" else _umap(rows, seed)
    return points


def check_method(method: str) -> None:
    """InputError unless this is a method."""
    if method not in METHODS:
        raise InputError(f"a map is by {' or '.join(METHODS)}, not {method!r}")


def axis_labels(method: str) -> tuple[str, str]:
    """Labels of the two axes."""
    name = "PC" if method == "PCA" else "UMAP"
    return f"{name} 1", f"{name} 2"


def _principal_components(rows: np.ndarray) -> np.ndarray:
    _, _, axes = np.linalg.svd(rows, full_matrices=False)
    axes = np.pad(axes, ((0, max(2 - len(axes), 0)), (0, 0)))  # one unit lies at the origin
    axes = axes[:2] * np.sign(axes[:2, np.abs(axes[:2]).argmax(axis=1)].diagonal())[:, None]
    return rows @ axes.T


def _umap(rows: np.ndarray, seed: int) -> np.ndarray:
    try:
        from umap import UMAP
    except ImportError:
        raise InputError('UMAP needs umap-learn: pip install "spikeinterface-nuclr[umap]"') from None
    neighbours = min(15, len(rows) - 1)
    # Of few units a spectral start is not defined. One job, because more are not reproducible.
    start = "spectral" if len(rows) > 2 * neighbours else "random"
    return UMAP(n_neighbors=neighbours, init=start, random_state=seed, n_jobs=1).fit_transform(rows)
