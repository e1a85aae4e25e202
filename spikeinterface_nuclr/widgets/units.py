"""Figures of units as SpikeInterface widgets: a map of the embeddings, and identities along the probe."""

import numpy as np
from spikeinterface.core import SortingAnalyzer
from spikeinterface.widgets.base import BaseWidget

from ..errors import InputError
from ..extensions import computed_embedding, computed_identity
from ..extensions.base import groups_of
from ..io.untrusted import check_extension
from ..predictions import UNKNOWN, Identities
from ..text import for_figure
from ..unit_embeddings import UnitEmbeddings
from .drawing import GREY, class_colours, class_markers, new_figure, open_spines
from .maps import axis_labels, embedding_map

# Inches of a legend's column, and its rows.
_COLUMN, _ROWS = 1.3, 18


class NuCLREmbeddingWidget(BaseWidget):
    """Plot the first two principal components of the embeddings, with one panel per kind of label.

    Parameters
    ----------
    embeddings : SortingAnalyzer or UnitEmbeddings
        An analyzer with ``nuclr_embedding``.
    labels : str or list of str, or dict of str to array of shape (n_units,), optional
        Sorting properties of the analyzer; or titles and labels: text is drawn with one colour per class, numbers with
        a colour scale. Default for an analyzer: predicted identities and confidence, if
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
            labels = _analyzer_labels(analyzer, [labels] if isinstance(labels, str) else labels)
        elif not isinstance(embeddings, UnitEmbeddings):
            raise InputError(f"embeddings must be a SortingAnalyzer or UnitEmbeddings, not {type(embeddings).__name__}")
        if labels is not None and not isinstance(labels, dict):
            raise InputError("labels must be a dict of titles and values: names of properties need a SortingAnalyzer")
        labels = labels or {"split_half_similarity": embeddings.split_half_similarity}
        for title, values in labels.items():
            if np.shape(values) != (len(embeddings.unit_ids),):
                raise InputError(f"labels {title!r} has shape {np.shape(values)} for {len(embeddings.unit_ids)} units")
        classes = {title: _classes_of(np.asarray(values)) for title, values in labels.items()}
        identities = None if analyzer is None else computed_identity(analyzer)
        if identities is not None:
            # As in every other figure of these identities, also where no unit is of some class.
            classes = {title: _of_identities(names, identities) for title, names in classes.items()}
        data = {
            "points": embedding_map(embeddings.embedding, method), "labels": labels, "classes": classes,
            "axes": axis_labels(method),
        }  # fmt: skip
        super().__init__(data, backend=backend, **backend_kwargs)

    def plot_matplotlib(self, data_plot, **backend_kwargs):
        """Draw one panel per kind of label."""
        labels, classes = data_plot["labels"], data_plot["classes"]
        # A panel is wider by the columns of its legend, which stands beside it.
        widths = [4.5 + _COLUMN * _legend_columns(names) for names in classes.values()]
        self.figure = new_figure((sum(widths), 4), backend_kwargs)
        self.axes = self.figure.subplots(1, len(labels), squeeze=False, width_ratios=widths)[0]
        for axis, (title, values) in zip(self.axes, labels.items(), strict=True):
            _scatter(axis, data_plot["points"], np.asarray(values), classes[title])
            x, y = data_plot["axes"]
            axis.set(title=for_figure(title), xlabel=x, ylabel=y, xticks=[], yticks=[])
            open_spines(axis)


class NuCLRIdentityWidget(BaseWidget):
    """Plot the predicted identities along the probe, one row of panels for each group (probe) of units.

    Left: each unit at its depth, in the column of its label; symbols are larger for higher confidence and hollow where
    the decoder abstains. Right: the probabilities of all classes, units in order of depth, and the runner-up of each
    unit in a narrow strip.

    Parameters
    ----------
    identities : SortingAnalyzer or Identities
        An analyzer with ``nuclr_identity``.
    depths : array of shape (n_units,), optional
        Depth of each unit in µm. Default for an analyzer: from ``unit_locations``, or of each unit's main channel.
    groups : array of str, shape (n_units,), optional
        Group (probe) of each unit. Default: those of the analyzer, else one.
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

    def __init__(self, identities, depths=None, groups=None, backend=None, **backend_kwargs):
        if isinstance(identities, SortingAnalyzer):
            analyzer, extension = identities, computed_identity(identities)
            if extension is None:
                raise InputError("the analyzer has no nuclr_identity: compute it first")
            identities = extension.get_identities()
            depths = unit_depths(analyzer) if depths is None else depths
            groups = groups_of(analyzer) if groups is None else groups
        elif not isinstance(identities, Identities):
            raise InputError(f"identities must be a SortingAnalyzer or Identities, not {type(identities).__name__}")
        count = len(identities.unit_ids)
        groups = np.full(count, "") if groups is None else np.asarray(groups).astype(str)
        if np.shape(depths) != (count,):
            raise InputError(f"depths has shape {np.shape(depths)} for {count} units: give one depth per unit")
        if groups.shape != (count,):
            raise InputError(f"groups has shape {groups.shape} for {count} units: give one group per unit")
        data = {"identities": identities, "depths": np.asarray(depths, dtype=float), "groups": groups}
        super().__init__(data, backend=backend, **backend_kwargs)

    def plot_matplotlib(self, data_plot, **backend_kwargs):
        """Draw the units along each probe and their probabilities."""
        identities, depths, groups = (data_plot[name] for name in ("identities", "depths", "groups"))
        names = np.unique(groups)
        self.figure = new_figure((9, 2 + 4 * max(len(names), 1)), backend_kwargs)
        axes = self.figure.subplots(max(len(names), 1), 2, width_ratios=(1, 1.2), squeeze=False)
        for (probe, bars), name in zip(axes, names, strict=False):
            units = np.flatnonzero(groups == name)
            title = f"predicted {identities.target}" + (f", group {name}" if len(names) > 1 else "")
            _draw_probe(probe, identities.select(units), depths[units], title)
            _draw_probabilities(bars, identities.select(units), depths[units])
        self.axes = axes.ravel()
        for axis in self.axes:
            open_spines(axis)


def _draw_probe(axis, identities: Identities, depths: np.ndarray, title: str) -> None:
    """Each unit at its depth, in the column of its label."""
    colours = class_colours(identities.classes)
    size = 15 + 45 * np.nan_to_num(identities.confidence)
    columns = [*identities.classes.tolist(), UNKNOWN]
    for x, label in enumerate(columns):
        units = np.flatnonzero(identities.label == label)
        edge = {"facecolor": "none", "edgecolor": "0.5"} if label == UNKNOWN else {"color": colours[label]}
        # Shift units sideways, so that those of equal depth do not overlap.
        shift = 0.12 * (np.arange(len(units)) % 3 - 1)
        axis.scatter(x + shift, depths[units], s=size[units], **edge)
    counts = [int((identities.label == label).sum()) for label in columns]
    names = [f"{for_figure(name)}\n{count}" for name, count in zip(columns, counts, strict=True)]
    axis.set_xticks(range(len(columns)), names, rotation=0 if len(columns) <= 5 else 90)
    axis.set(title=for_figure(title), ylabel="depth (µm)", xlim=(-0.6, len(columns) - 0.4))


def _draw_probabilities(axis, identities: Identities, depths: np.ndarray) -> None:
    """Probabilities of all classes, units in order of depth; beside them the colour of each unit's runner-up."""
    colours, classes = class_colours(identities.classes), identities.classes.tolist()
    order = np.argsort(depths, kind="stable")
    probability, rows = np.nan_to_num(identities.probability[order]), np.arange(len(order))
    left = np.zeros(len(order))
    for k, label in enumerate(classes):
        axis.barh(rows, probability[:, k], left=left, height=1.0, color=colours[label], linewidth=0)
        left += probability[:, k]
    known = probability.any(axis=1)
    second = np.argsort(-probability, axis=1, kind="stable")[:, 1]
    palette = np.array([colours[label] for label in classes])
    axis.scatter(np.full(known.sum(), 1.04), rows[known], marker="s", s=9, color=palette[second[known]], linewidths=0)
    shown = np.unique(np.linspace(0, len(order) - 1, 6).round().astype(int)) if len(order) else []
    axis.set_yticks(shown, [f"{depths[order[k]]:.0f}" for k in shown])
    axis.set_xticks([0, 0.5, 1, 1.04], ["0", "0.5", "1", "  2nd"])
    axis.set(
        title="probability of each class", ylabel="depth of every unit, in order (µm)", xlim=(0, 1.07),
        ylim=(-0.5, len(order) - 0.5),
    )  # fmt: skip


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


def _classes_of(values: np.ndarray) -> list[str] | None:
    """Names of the classes; None for numbers."""
    return None if values.dtype.kind in "if" else [name for name in np.unique(values.astype(str)) if name != UNKNOWN]


def _of_identities(names: list[str] | None, extension) -> list[str] | None:
    """All classes of the decoder, if these are some of them."""
    classes = extension.data["classes"].astype(str).tolist()
    return classes if names is not None and set(names) <= set(classes) else names


def _legend_columns(names: list[str] | None) -> int:
    """Columns of the legend beside a panel; 0 for numbers, whose scale is narrow."""
    return 0 if names is None else 1 + len(names) // _ROWS


def _scatter(axis, points: np.ndarray, values: np.ndarray, names: list[str] | None) -> None:
    """Draw points (n_units, 2) coloured by number, or by class of these names."""
    if names is None:
        scatter = axis.scatter(*points.T, c=values, s=22, cmap="viridis", linewidths=0)
        axis.figure.colorbar(scatter, ax=axis)
        return
    values, markers = values.astype(str), class_markers(names)
    for name, colour in class_colours(names).items():
        if not (values == name).any():
            continue
        axis.scatter(
            *points[values == name].T, s=22, color=colour, marker=markers[name], label=for_figure(name), linewidths=0
        )
    if (values == UNKNOWN).any():
        axis.scatter(*points[values == UNKNOWN].T, s=22, facecolor="none", edgecolor=GREY, label=UNKNOWN)
    axis.legend(
        frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1), ncols=_legend_columns(names),
        borderaxespad=0,
    )  # fmt: skip
