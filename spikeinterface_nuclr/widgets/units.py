"""Figures of units, as SpikeInterface widgets: embeddings as a map, identities along the probe."""

import numpy as np
from spikeinterface.core import SortingAnalyzer
from spikeinterface.widgets.base import BaseWidget

from ..errors import InputError
from ..extensions import computed_embedding, computed_identity
from ..identities import UNKNOWN, Identities
from ..io.untrusted import check_extension
from ..text import for_figure
from ..unit_embeddings import UnitEmbeddings
from .drawing import GREY, class_colours, new_figure, open_spines


class NuCLREmbeddingWidget(BaseWidget):
    """Draw the map of the embeddings (their first two principal components), once for each kind of label.

    Parameters
    ----------
    embeddings : SortingAnalyzer or UnitEmbeddings
        An analyzer with ``nuclr_embedding``.
    labels : dict of str to array of shape (n_units,), or list of str, optional
        Titles and labels; text gives a colour a class, numbers a colour scale. A list names sorting properties of the
        analyzer. Default, of an analyzer: the identities that were predicted and how sure that is, where
        ``nuclr_identity`` is computed; and the depth of each unit.
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

    def __init__(self, embeddings, labels=None, backend=None, **backend_kwargs):
        analyzer = embeddings if isinstance(embeddings, SortingAnalyzer) else None
        if analyzer is not None:
            found = computed_embedding(analyzer)
            if found is None:
                raise InputError("the analyzer holds no nuclr_embedding: compute it first")
            embeddings = found.get_embeddings()
            labels = _labels_of(analyzer, labels)
        elif not isinstance(embeddings, UnitEmbeddings):
            raise InputError(f"a map is of a SortingAnalyzer or of UnitEmbeddings, not {type(embeddings).__name__}")
        if labels is not None and not isinstance(labels, dict):
            raise InputError("labels must be a dict of titles and values: only an analyzer knows properties by name")
        labels = labels or {"split_half_similarity": embeddings.split_half_similarity}
        for title, values in labels.items():
            if np.shape(values) != (len(embeddings.unit_ids),):
                raise InputError(f"labels {title!r} has shape {np.shape(values)} for {len(embeddings.unit_ids)} units")
        data = {"place": embedding_map(embeddings.embedding), "labels": labels}
        super().__init__(data, backend=backend, **backend_kwargs)

    def plot_matplotlib(self, data_plot, **backend_kwargs):
        """One panel a kind of label."""
        labels = data_plot["labels"]
        self.figure = new_figure((4.5 * len(labels), 4), backend_kwargs)
        self.axes = self.figure.subplots(1, len(labels), squeeze=False)[0]
        for axis, (title, values) in zip(self.axes, labels.items(), strict=True):
            _scatter(axis, data_plot["place"], np.asarray(values))
            axis.set(title=for_figure(title), xlabel="PC 1", ylabel="PC 2", xticks=[], yticks=[])
            open_spines(axis)


class NuCLRIdentityWidget(BaseWidget):
    """Draw the predicted identities along the probe.

    On the left each unit at its depth, in the column of its label, hollow where the decoder abstains, larger the surer
    it is; on the right the probabilities of all classes, unit by unit in order of depth.

    Parameters
    ----------
    identities : SortingAnalyzer or Identities
        An analyzer with ``nuclr_identity``.
    depths : array of shape (n_units,), optional
        Of each unit in µm. Default, of an analyzer: those of its ``unit_locations``, or of each unit's main channel.
    backend : str, optional
        "matplotlib".
    **backend_kwargs
        As of `NuCLREmbeddingWidget`.

    Examples
    --------
    >>> from spikeinterface_nuclr import Decoder, embed, plot_nuclr_identity, simulate_population
    >>> population = simulate_population(10, 30.0, seed=500)
    >>> identities = Decoder.load("simulated-cell-type").predict(embed(population, progress=False))
    >>> plot_nuclr_identity(identities, population.properties["depth"]).figure.savefig("identities.png")
    """

    def __init__(self, identities, depths=None, backend=None, **backend_kwargs):
        if isinstance(identities, SortingAnalyzer):
            analyzer, found = identities, computed_identity(identities)
            if found is None:
                raise InputError("the analyzer holds no nuclr_identity: compute it first")
            identities = found.get_identities()
            depths = unit_depths(analyzer) if depths is None else depths
        elif not isinstance(identities, Identities):
            raise InputError(f"identities are of a SortingAnalyzer, or Identities, not {type(identities).__name__}")
        if np.shape(depths) != (len(identities.unit_ids),):
            raise InputError(
                f"depths has shape {np.shape(depths)} for {len(identities.unit_ids)} units: give µm a unit"
            )
        data = {"identities": identities, "depths": np.asarray(depths, dtype=float)}
        super().__init__(data, backend=backend, **backend_kwargs)

    def plot_matplotlib(self, data_plot, **backend_kwargs):
        """The probe, and the probabilities beside it."""
        identities, depths = data_plot["identities"], data_plot["depths"]
        self.figure = new_figure((9, 6), backend_kwargs)
        self.axes = self.figure.subplots(1, 2, width_ratios=(1, 1.2))
        probe, bars = self.axes
        colours = class_colours(identities.classes)
        size = 15 + 45 * np.nan_to_num(identities.confidence)
        columns = [*identities.classes.tolist(), UNKNOWN]
        for place, label in enumerate(columns):
            of = np.flatnonzero(identities.label == label)
            edge = {"facecolor": "none", "edgecolor": "0.5"} if label == UNKNOWN else {"color": colours[label]}
            # Units of equal depth side by side.
            aside = 0.12 * (np.arange(len(of)) % 3 - 1)
            probe.scatter(place + aside, depths[of], s=size[of], **edge)
        counts = [int((identities.label == label).sum()) for label in columns]
        names = [f"{for_figure(name)}\n{count}" for name, count in zip(columns, counts, strict=True)]
        probe.set_xticks(range(len(columns)), names, rotation=0 if len(columns) <= 5 else 90)
        probe.set(
            title=for_figure(f"predicted {identities.target}"), ylabel="depth (µm)", xlim=(-0.6, len(columns) - 0.4)
        )
        order = np.argsort(depths, kind="stable")
        left = np.zeros(len(order))
        for k, label in enumerate(identities.classes.tolist()):
            share = np.nan_to_num(identities.probability[order, k])
            bars.barh(np.arange(len(order)), share, left=left, height=1.0, color=colours[label], linewidth=0)
            left += share
        bars.set(
            title="probability of each class", ylabel="units in order of depth", xlim=(0, 1),
            ylim=(-0.5, len(order) - 0.5), yticks=[],
        )  # fmt: skip
        for axis in self.axes:
            open_spines(axis)


plot_nuclr_embedding = NuCLREmbeddingWidget
plot_nuclr_identity = NuCLRIdentityWidget


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


def unit_depths(analyzer: SortingAnalyzer) -> np.ndarray:
    """Depth of each unit in µm, shape (n_units,): of its ``unit_locations`` where computed, else its main channel's."""
    if analyzer.has_extension("unit_locations"):
        check_extension(analyzer, "unit_locations")
        return analyzer.get_extension("unit_locations").get_data(outputs="numpy")[:, 1]
    channels = analyzer.get_main_channels(outputs="index")
    return np.asarray(analyzer.get_channel_locations(), dtype=float)[channels, 1]


def _labels_of(analyzer: SortingAnalyzer, labels) -> dict:
    """Labels of an analyzer's units by title."""
    if isinstance(labels, dict):
        return labels
    if labels is not None:
        known = analyzer.get_sorting_property_keys()
        for name in labels:
            if name not in known:
                raise InputError(f"the analyzer has no sorting property {name!r}; it has: {', '.join(known)}")
        return {name: analyzer.get_sorting_property(name) for name in labels}
    found, chosen = computed_identity(analyzer), {}
    if found is not None:
        identities = found.get_identities()
        chosen = {f"predicted {identities.target}": identities.label, "confidence": identities.confidence}
    return chosen | {"depth (µm)": unit_depths(analyzer)}


def _scatter(axis, place: np.ndarray, values: np.ndarray) -> None:
    if values.dtype.kind in "if":
        points = axis.scatter(*place.T, c=values, s=22, cmap="viridis", linewidths=0)
        axis.figure.colorbar(points, ax=axis)
        return
    values = values.astype(str)
    names = [name for name in np.unique(values) if name != UNKNOWN]
    for name, colour in class_colours(names).items():
        axis.scatter(*place[values == name].T, s=22, color=colour, label=for_figure(name), linewidths=0)
    if (values == UNKNOWN).any():
        axis.scatter(*place[values == UNKNOWN].T, s=22, facecolor="none", edgecolor=GREY, label=UNKNOWN)
    axis.legend(frameon=False, fontsize="small")
