"""Figures of units as SpikeInterface widgets: a map of the embeddings, and identities along the probe."""

import numpy as np
from spikeinterface.core import SortingAnalyzer
from spikeinterface.widgets.base import BaseWidget

from ..errors import InputError
from ..extensions import computed_embedding, computed_identity
from ..io.untrusted import check_extension
from ..predictions import UNKNOWN, Identities
from ..text import for_figure
from ..unit_embeddings import UnitEmbeddings
from .drawing import GREY, class_colours, class_markers, new_figure, open_spines
from .maps import axis_labels, embedding_map


class NuCLREmbeddingWidget(BaseWidget):
    """Plot the first two principal components of the embeddings, with one panel per kind of label.

    Parameters
    ----------
    embeddings : SortingAnalyzer or UnitEmbeddings
        An analyzer with ``nuclr_embedding``.
    labels : dict of str to array of shape (n_units,), or list of str, optional
        Titles and labels: text is drawn with one colour per class, numbers with a colour scale. A list names sorting
        properties of the analyzer. Default for an analyzer: predicted identities and confidence, if
        ``nuclr_identity`` is computed, and depth; for `UnitEmbeddings`: ``split_half_similarity``.
    method : {"PCA", "UMAP"}, default: "PCA"
        The map: two principal components, or UMAP, which needs the extra ``umap``.
    backend : str, optional
        "matplotlib".
    **backend_kwargs
        ``figure``: a matplotlib figure to draw into. ``figsize``, ``figtitle``.

    Examples
    --------
    >>> from spikeinterface_nuclr import embed, plot_nuclr_embedding, simulate_population
    >>> population = simulate_population(10, 30.0)
    >>> embeddings = embed(population, progress=False)
    >>> widget = plot_nuclr_embedding(embeddings, {"cell type": population.properties["cell_type"]})
    >>> widget.figure.savefig("map.png")
    """

    def __init__(self, embeddings, labels=None, method="PCA", backend=None, **backend_kwargs):
        analyzer = embeddings if isinstance(embeddings, SortingAnalyzer) else None
        if analyzer is not None:
            extension = computed_embedding(analyzer)
            if extension is None:
                raise InputError("the analyzer has no nuclr_embedding: compute it first")
            embeddings = extension.get_embeddings()
            labels = _analyzer_labels(analyzer, labels)
        elif not isinstance(embeddings, UnitEmbeddings):
            raise InputError(f"embeddings must be a SortingAnalyzer or UnitEmbeddings, not {type(embeddings).__name__}")
        if labels is not None and not isinstance(labels, dict):
            raise InputError("labels must be a dict of titles and values: names of properties need a SortingAnalyzer")
        labels = labels or {"split_half_similarity": embeddings.split_half_similarity}
        for title, values in labels.items():
            if np.shape(values) != (len(embeddings.unit_ids),):
                raise InputError(f"labels {title!r} has shape {np.shape(values)} for {len(embeddings.unit_ids)} units")
        data = {"points": embedding_map(embeddings.embedding, method), "labels": labels, "axes": axis_labels(method)}
        super().__init__(data, backend=backend, **backend_kwargs)

    def plot_matplotlib(self, data_plot, **backend_kwargs):
        """Draw one panel per kind of label."""
        labels = data_plot["labels"]
        self.figure = new_figure((4.5 * len(labels), 4), backend_kwargs)
        self.axes = self.figure.subplots(1, len(labels), squeeze=False)[0]
        for axis, (title, values) in zip(self.axes, labels.items(), strict=True):
            _scatter(axis, data_plot["points"], np.asarray(values))
            x, y = data_plot["axes"]
            axis.set(title=for_figure(title), xlabel=x, ylabel=y, xticks=[], yticks=[])
            open_spines(axis)


class NuCLRIdentityWidget(BaseWidget):
    """Plot the predicted identities along the probe.

    Left: each unit at its depth, in the column of its label; symbols are larger for higher confidence and hollow where
    the decoder abstains. Right: the probabilities of all classes, units in order of depth.

    Parameters
    ----------
    identities : SortingAnalyzer or Identities
        An analyzer with ``nuclr_identity``.
    depths : array of shape (n_units,), optional
        Depth of each unit in µm. Default for an analyzer: from ``unit_locations``, or of each unit's main channel.
    backend : str, optional
        "matplotlib".
    **backend_kwargs
        As for `NuCLREmbeddingWidget`.

    Examples
    --------
    >>> from spikeinterface_nuclr import Decoder, embed, plot_nuclr_identity, simulate_population
    >>> population = simulate_population(10, 30.0, seed=500)
    >>> identities = Decoder.load("simulated-cell-type").predict(embed(population, progress=False))
    >>> plot_nuclr_identity(identities, population.properties["depth"]).figure.savefig("identities.png")
    """

    def __init__(self, identities, depths=None, backend=None, **backend_kwargs):
        if isinstance(identities, SortingAnalyzer):
            analyzer, extension = identities, computed_identity(identities)
            if extension is None:
                raise InputError("the analyzer has no nuclr_identity: compute it first")
            identities = extension.get_identities()
            depths = unit_depths(analyzer) if depths is None else depths
        elif not isinstance(identities, Identities):
            raise InputError(f"identities must be a SortingAnalyzer or Identities, not {type(identities).__name__}")
        if np.shape(depths) != (len(identities.unit_ids),):
            raise InputError(
                f"depths has shape {np.shape(depths)} for {len(identities.unit_ids)} units: give one depth per unit"
            )
        data = {"identities": identities, "depths": np.asarray(depths, dtype=float)}
        super().__init__(data, backend=backend, **backend_kwargs)

    def plot_matplotlib(self, data_plot, **backend_kwargs):
        """Draw the units along the probe and their probabilities."""
        identities, depths = data_plot["identities"], data_plot["depths"]
        self.figure = new_figure((9, 6), backend_kwargs)
        self.axes = self.figure.subplots(1, 2, width_ratios=(1, 1.2))
        probe, bars = self.axes
        colours = class_colours(identities.classes)
        size = 15 + 45 * np.nan_to_num(identities.confidence)
        columns = [*identities.classes.tolist(), UNKNOWN]
        for x, label in enumerate(columns):
            units = np.flatnonzero(identities.label == label)
            edge = {"facecolor": "none", "edgecolor": "0.5"} if label == UNKNOWN else {"color": colours[label]}
            # Shift units sideways, so that those of equal depth do not overlap.
            shift = 0.12 * (np.arange(len(units)) % 3 - 1)
            probe.scatter(x + shift, depths[units], s=size[units], **edge)
        counts = [int((identities.label == label).sum()) for label in columns]
        names = [f"{for_figure(name)}\n{count}" for name, count in zip(columns, counts, strict=True)]
        probe.set_xticks(range(len(columns)), names, rotation=0 if len(columns) <= 5 else 90)
        probe.set(
            title=for_figure(f"predicted {identities.target}"), ylabel="depth (µm)", xlim=(-0.6, len(columns) - 0.4)
        )
        order = np.argsort(depths, kind="stable")
        left = np.zeros(len(order))
        for k, label in enumerate(identities.classes.tolist()):
            width = np.nan_to_num(identities.probability[order, k])
            bars.barh(np.arange(len(order)), width, left=left, height=1.0, color=colours[label], linewidth=0)
            left += width
        bars.set(
            title="probability of each class", ylabel="units in order of depth", xlim=(0, 1),
            ylim=(-0.5, len(order) - 0.5), yticks=[],
        )  # fmt: skip
        for axis in self.axes:
            open_spines(axis)


plot_nuclr_embedding = NuCLREmbeddingWidget
plot_nuclr_identity = NuCLRIdentityWidget


def unit_depths(analyzer: SortingAnalyzer) -> np.ndarray:
    """Depth of each unit in µm, shape (n_units,): from ``unit_locations`` if computed, else of its main channel."""
    if analyzer.has_extension("unit_locations"):
        check_extension(analyzer, "unit_locations")
        return analyzer.get_extension("unit_locations").get_data(outputs="numpy")[:, 1]
    channels = analyzer.get_main_channels(outputs="index")
    return np.asarray(analyzer.get_channel_locations(), dtype=float)[channels, 1]


def _analyzer_labels(analyzer: SortingAnalyzer, labels) -> dict:
    """Labels of an analyzer's units by title."""
    if isinstance(labels, dict):
        return labels
    if labels is not None:
        properties = analyzer.get_sorting_property_keys()
        for name in labels:
            if name not in properties:
                raise InputError(f"the analyzer has no sorting property {name!r}; it has: {', '.join(properties)}")
        return {name: analyzer.get_sorting_property(name) for name in labels}
    extension, predictions = computed_identity(analyzer), {}
    if extension is not None:
        identities = extension.get_identities()
        predictions = {f"predicted {identities.target}": identities.label, "confidence": identities.confidence}
    return predictions | {"depth (µm)": unit_depths(analyzer)}


def _scatter(axis, points: np.ndarray, values: np.ndarray) -> None:
    """Draw points (n_units, 2) coloured by number or by class."""
    if values.dtype.kind in "if":
        scatter = axis.scatter(*points.T, c=values, s=22, cmap="viridis", linewidths=0)
        axis.figure.colorbar(scatter, ax=axis)
        return
    values = values.astype(str)
    names = [name for name in np.unique(values) if name != UNKNOWN]
    markers = class_markers(names)
    for name, colour in class_colours(names).items():
        axis.scatter(
            *points[values == name].T, s=22, color=colour, marker=markers[name], label=for_figure(name), linewidths=0
        )
    if (values == UNKNOWN).any():
        axis.scatter(*points[values == UNKNOWN].T, s=22, facecolor="none", edgecolor=GREY, label=UNKNOWN)
    axis.legend(frameon=False, fontsize="small")
