"""What the view shows of an analyzer: places and colours of all units, and facts about one. Without a toolkit."""

from dataclasses import dataclass
from functools import cached_property
from html import escape

import numpy as np

from ..decoding.features import unit_features
from ..decoding.loading import local_decoder
from ..errors import InputError
from ..extensions import computed_embedding, computed_estimate, computed_identity
from ..extensions.base import groups_of
from ..io import read_population
from ..predictions import UNKNOWN, Estimates, Identities
from ..text import printable
from ..unit_embeddings import UnitEmbeddings
from ..unit_matches import similarity_of
from ..widgets.drawing import GREY, class_colours, hex_colours, legend_html, palette_of, scale_colours
from ..widgets.maps import embedding_map
from ..widgets.units import unit_depths

COLOURINGS = ("identity", "probability", "novelty", "estimate", "depth", "group")
# Most probable classes of a unit that are shown.
MOST_CLASSES = 12


@dataclass(frozen=True)
class Colouring:
    """Colours of all units.

    Attributes
    ----------
    title : str
        What is coloured, or why nothing is.
    colours : list of str
        One of each unit, such as "#1f77b4".
    legend : list of (str, str)
        Names or numbers, and their colours.
    names : list of str
        What the colour of each unit stands for.
    """

    title: str
    colours: list[str]
    legend: list[tuple[str, str]]
    names: list[str]

    def to_html(self) -> str:
        """Title and legend, as both toolkits show them; names are escaped."""
        return f"<b>{escape(self.title)}</b> &nbsp; {legend_html(self.legend)}"


class Content:
    """The units of an analyzer with ``nuclr_embedding``.

    Attributes
    ----------
    analyzer : SortingAnalyzer
    embeddings : UnitEmbeddings
    identities : Identities or None
    estimates : Estimates or None
    stale : str
        Why these are not of the present units; empty where they are.
    """

    def __init__(self, analyzer):
        embedding, identity, estimate = (
            computed(analyzer) for computed in (computed_embedding, computed_identity, computed_estimate)
        )
        if embedding is None:
            raise InputError("no embeddings: press compute, or run analyzer.compute('nuclr_embedding')")
        self.analyzer = analyzer
        self.embeddings: UnitEmbeddings = embedding.get_embeddings(warn=False)
        self.identities: Identities | None = identity.get_identities(warn=False) if identity else None
        self.estimates: Estimates | None = estimate.get_estimates(warn=False) if estimate else None
        self.stale: str = next((e.stale for e in (identity, estimate, embedding) if e and e.stale), "")
        self._decoder_of = identity
        self._maps: dict[str, np.ndarray] = {}
        self._row = {unit: row for row, unit in enumerate(analyzer.unit_ids.tolist())}

    def points(self, method: str) -> np.ndarray:
        """The map: float64, shape (n_units, 2); NaN for units without an embedding."""
        if method not in self._maps:
            self._maps[method] = embedding_map(self.embeddings.embedding, method)
        return self._maps[method]

    # --- all units

    def colouring(self, by: str) -> Colouring:
        """Colours of all units by one of `COLOURINGS`."""
        if by == "identity" and self.identities is not None:
            return self._classes(self.identities.target, self.identities.label, self.identities.classes)
        if by == "group":
            groups = self._groups.astype(str)
            return self._classes("group", groups, np.unique(groups))
        title, values = self._numbers(by)
        if values is None:
            n = len(self.embeddings.unit_ids)
            return Colouring(title, hex_colours([GREY]) * n, [], [""] * n)
        colours, legend = scale_colours(values)
        return Colouring(title, colours, legend, [f"{value:.3g}" for value in values])

    def _classes(self, title: str, labels: np.ndarray, classes: np.ndarray) -> Colouring:
        palette, present = palette_of(classes), set(labels.tolist())
        legend = [(printable(name), colour) for name, colour in palette.items() if name in present]
        return Colouring(
            printable(title), [palette[str(label)] for label in labels], legend, [printable(label) for label in labels]
        )

    def _numbers(self, by: str) -> tuple[str, np.ndarray | None]:
        """What numbers are called, and one of each unit; or why there are none."""
        if by == "depth":
            return "depth (µm)", unit_depths(self.analyzer)
        if by == "estimate":
            found = self.estimates
            return (printable(found.target), found.value) if found else ("nothing: compute nuclr_estimate", None)
        found = self.identities
        if found is None:
            return "nothing: compute nuclr_identity", None
        return (f"probability of {printable(found.target)}", found.confidence) if by == "probability" else (
            "novelty (1: a typical new neuron)", found.novelty)  # fmt: skip

    @cached_property
    def _groups(self) -> np.ndarray:
        """The group (probe) of each unit."""
        return groups_of(self.analyzer)

    # --- one unit

    def summary(self, unit) -> list[str]:
        """What is known of a unit, in lines."""
        row = self._row[unit]
        lines = [f"unit {printable(unit)}"]
        if not np.isfinite(self.embeddings.embedding[row]).all():
            return [*lines, "no embedding: too few spikes, or no window"]
        found = self.identities
        if found is not None:
            best = f"{printable(found.best_label[row])}, {found.confidence[row]:.0%}"
            reason = found.reason[row]
            lines.append(f"{printable(found.target)}: {f'{UNKNOWN} ({reason}; best: {best})' if reason else best}")
            if found.novelty is not None:
                limit = found.provenance.get("novelty_limit")
                above = f" (novel above {limit:.2g})" if isinstance(limit, float) else ""
                lines.append(f"novelty {found.novelty[row]:.2g}{above}; 1 is a typical new neuron")
        if self.estimates is not None:
            value, low, high = (getattr(self.estimates, name)[row] for name in ("value", "low", "high"))
            target = printable(self.estimates.target)
            lines.append(f"{target}: {value:.4g} [{low:.4g}, {high:.4g}], {self.estimates.coverage:.0%} interval")
        features = self._features.iloc[row].dropna()
        lines.append("simple features: " + ", ".join(f"{name} {value:.3g}" for name, value in features.items()))
        return [*lines, *([f"stale: {self.stale}"] if self.stale else [])]

    @cached_property
    def _features(self):
        return unit_features(read_population(self.analyzer))

    def probabilities(self, unit) -> list[tuple[str, float, str]]:
        """The most probable classes of a unit, the most probable first: name, probability, colour."""
        if self.identities is None:
            return []
        probability = self.identities.probability[self._row[unit]]
        colours = hex_colours(class_colours(self.identities.classes).values())
        if np.isnan(probability).any():
            return []
        order = np.argsort(-probability, kind="stable")[:MOST_CLASSES]
        return [(printable(self.identities.classes[k]), float(probability[k]), colours[k]) for k in order]

    def nearest_units(self, unit, count: int = 5) -> list[tuple[object, float, str]]:
        """The units of this recording whose embeddings are most similar: unit id, similarity, label."""
        rows = np.flatnonzero(np.isfinite(self.embeddings.embedding).all(axis=1))
        own = self._row[unit]
        if own not in rows:
            return []
        similarity = self._similarity[np.searchsorted(rows, own)].copy()
        similarity[np.searchsorted(rows, own)] = -np.inf
        order = np.argsort(-similarity, kind="stable")[: min(count, len(rows) - 1)]
        labels = np.full(len(self._row), "") if self.identities is None else self.identities.label
        ids = self.analyzer.unit_ids.tolist()
        return [(ids[rows[k]], float(similarity[k]), printable(labels[rows[k]])) for k in order]

    @cached_property
    def _similarity(self) -> np.ndarray:
        rows = self.embeddings.embedding
        rows = rows[np.isfinite(rows).all(axis=1)]
        return similarity_of(rows, rows)

    def nearest_labelled(self, unit, count: int = 5) -> tuple[list[tuple[str, str, str, str, float]], str]:
        """The labelled neurons that a unit resembles: label, animal, recording, unit, distance; or why there are none.

        Distances are in units of how far a typical neuron of a new animal lies from its nearest labelled ones.
        """
        if self._decoder_of is None:
            return [], "no decoder: compute nuclr_identity"
        try:
            found = self._labelled.loc[[unit]].head(count)
        except InputError as error:
            return [], str(error)
        except KeyError:
            return [], "no embedding"
        texts = found[["label", "animal", "recording", "neuron"]].map(printable).itertuples(index=False)
        return [(*text, float(d)) for text, d in zip(texts, found["distance"], strict=True)], ""

    @cached_property
    def _labelled(self):
        name = self._decoder_of.model_file
        decoder = local_decoder(name, self._decoder_of.model_sha256)
        if decoder is None:
            raise InputError(f"{printable(name)}: the decoder is not on this machine")
        return decoder.nearest_labelled(self.embeddings, count=10)
