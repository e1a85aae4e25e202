"""The report of one recording: its units on a map and along the probe, in tables, and why each got its label."""

import hashlib
import html
import json
import re
from importlib.metadata import version
from pathlib import Path

import numpy as np

from ..decoding.features import unit_features
from ..errors import InputError
from ..files import check_format, written_whole
from ..population import Population
from ..predictions import UNKNOWN, Identities
from ..provenance import portable_source
from ..text import for_markdown
from ..unit_embeddings import UnitEmbeddings
from ..widgets.drawing import legend_html, palette_of, scale_colours
from ..widgets.maps import axis_labels, embedding_map
from .methods import methods_of, percent
from .page import Page, sortable, source_columns

_NEAREST = 5
_PROVENANCE = "Provenance"
_STATED = re.compile(f"<summary>{_PROVENANCE}</summary><pre>(.*?)</pre>", re.DOTALL)
# Columns that pointing at a unit shows.
_HOVER = ("unit", "label", "best label", "probability", "rate (Hz)", "depth (µm)", "group")


def write_report(
    path,
    population: Population,
    embeddings: UnitEmbeddings,
    identities: Identities | None = None,
    *,
    decoder=None,
    depths=None,
    method: str = "PCA",
    overwrite: bool = False,
) -> Path:
    """Write a report of one recording: one HTML file, which opens in a browser and loads nothing from the network.

    It shows each unit on a map of the embeddings and, with depths, along the probe. Pointing at a unit names it;
    selecting units, in either or in the table, shows which labelled neurons they resemble. Tables are sorted by a click
    and downloaded as CSV. A paragraph on methods, with versions and citations, is ready to paste.

    Parameters
    ----------
    path : str or Path
        ``.html``.
    population : Population
    embeddings : UnitEmbeddings
        Of the population's units.
    identities : Identities, optional
        Of the same units.
    decoder : Decoder, optional
        That predicted the identities, to say which labelled neurons each unit resembles.
    depths : array of shape (n_units,), optional
        Depth of each unit in µm.
    method : {"PCA", "UMAP"}, default: "PCA"
        Of the map.
    overwrite : bool, default: False

    Returns
    -------
    Path

    Raises
    ------
    InputError
        The file exists, or embeddings, identities or depths are of other units.

    Examples
    --------
    >>> from spikeinterface_nuclr import Decoder, embed, simulate_population, write_report
    >>> population = simulate_population(10, 30.0, seed=500)
    >>> embeddings = embed(population, progress=False)
    >>> decoder = Decoder.load("simulated-cell-type")
    >>> identities = decoder.predict(embeddings)
    >>> write_report("session.html", population, embeddings, identities, decoder=decoder).name
    'session.html'
    """
    path = check_format(path, ".html")
    _check(population, embeddings, identities, depths)
    page = _page(population, embeddings, identities, decoder, depths, method)
    with written_whole(path, overwrite=overwrite) as temporary:
        temporary.write_text(page.to_html(), encoding="utf-8")
    return path


def page_facts(method: str, depths) -> dict:
    """What decides how a page looks, beside the results that it shows."""
    digest = None if depths is None else hashlib.sha256(np.asarray(depths, dtype=float).tobytes()).hexdigest()
    return {"map": method, "depths_sha256": digest, "version": version("spikeinterface-nuclr")}


def as_stated(provenance: dict | None) -> dict | None:
    """A provenance as a page states it."""
    return json.loads(json.dumps(provenance, default=str))


def page_provenance(path) -> dict | None:
    """The provenance that a report states: of the page, the embeddings and the identities; None if it states none."""
    found = _STATED.search(Path(path).read_text(encoding="utf-8", errors="replace"))
    try:
        stated = json.loads(html.unescape(found[1])) if found else None
        return {name: stated[name] for name in ("page", "embeddings", "identities")} if stated else None
    except (ValueError, KeyError, TypeError):
        return None


def _check(population: Population, embeddings: UnitEmbeddings, identities: Identities | None, depths) -> None:
    if identities is not None and not isinstance(identities, Identities):
        raise InputError(f"identities must be Identities, of a decoder of labels, not {type(identities).__name__}")
    units = [str(unit) for unit in population.unit_ids]
    for what, found in (("embeddings", embeddings), ("identities", identities)):
        if found is not None and [str(unit) for unit in found.unit_ids] != units:
            raise InputError(f"{what}: are of other units than the population's: compute them from it")
    if depths is not None and (np.shape(depths) != (len(units),) or np.asarray(depths).dtype.kind not in "iuf"):
        raise InputError(f"depths: give one number, in µm, for each of the {len(units)} units")


def _page(population, embeddings, identities, decoder, depths, method) -> Page:
    name = str(population.metadata.get("session") or Path(str(population.metadata.get("source") or "")).name)
    page = Page(f"{name or 'recording'}: neuron identities")
    page.markdown(f"# {for_markdown(name or 'Recording')}\n\n{_summary(population, embeddings, identities)}")
    units = _units(population, embeddings, identities, depths)
    nearest = None if decoder is None or decoder.reference_units is None else decoder.nearest_labelled(
        embeddings, count=_NEAREST)  # fmt: skip
    for part in _interactive(units, embeddings, identities, nearest, method):
        page.markdown(part) if isinstance(part, str) else page.interactive(part)
    text, references = methods_of(embeddings, identities)
    page.markdown("## Methods, to paste")
    page.note(text)
    page.markdown("\n".join(f"- {for_markdown(reference)}" for reference in references))
    provenance = {
        "page": page_facts(method, depths),
        "embeddings": {**embeddings.provenance.to_dict(), "source": portable_source(embeddings.provenance.source)},
        "identities": None if identities is None else identities.provenance,
    }
    page.details(_PROVENANCE, json.dumps(as_stated(provenance), indent=1))
    return page


def _summary(population: Population, embeddings: UnitEmbeddings, identities: Identities | None) -> str:
    facts = [
        f"{population.n_units} units in {len(np.unique(population.group))} group(s), "
        f"{(population.stop - population.start) / 60:.3g} min; "
        f"{int(np.isfinite(embeddings.embedding).all(axis=1).sum())} have an embedding."
    ]
    if identities is None:
        return facts[0]
    labelled = ~identities.abstained
    names, counts = np.unique(identities.label[labelled], return_counts=True)
    named = ", ".join(f"{for_markdown(name)} {count}" for name, count in zip(names, counts, strict=True))
    error, target = identities.provenance.get("target_error"), for_markdown(identities.target)
    facts.append(f"**{target}** is named for {labelled.sum()} of them" + (f": {named}." if named else "."))
    if error == 1:
        facts.append("Every label is given, however uncertain.")
    elif error and named:
        facts.append(
            f"Of these labels at most {percent(error)} are expected to be wrong, in animals like those that the "
            "decoder was fitted to."
        )
    elif error:
        facts.append(f"The decoder is not sure enough of any label, if at most {percent(error)} of them may be wrong.")
    reasons, counts = np.unique(identities.reason[~labelled], return_counts=True)
    if len(reasons):
        why = ", ".join(f"{reason} {count}" for reason, count in zip(reasons, counts, strict=True))
        facts.append(f"{'The others' if named else 'All'} are unknown: {why}.")
    return "\n\n".join(facts)


def _units(population: Population, embeddings: UnitEmbeddings, identities: Identities | None, depths):
    """One row for each unit."""
    import pandas as pd

    columns: dict = {}
    if identities is not None:
        order = np.argsort(-np.nan_to_num(identities.probability), axis=1, kind="stable")
        runner_up = np.where(identities.best_label != "", identities.classes[order[:, 1]], "")
        columns |= {
            "label": identities.label, "best label": identities.best_label, "probability": identities.confidence,
            "runner-up": runner_up, "reason": identities.reason,
        }  # fmt: skip
        columns |= {} if identities.novelty is None else {"novelty": identities.novelty}
    columns |= {name: values.to_numpy() for name, values in unit_features(population).items()}
    if depths is not None:
        columns["depth (µm)"] = np.asarray(depths, dtype=float)
    if len(set(population.group.tolist())) > 1:
        columns["group"] = population.group.astype(str)
    columns |= {
        "windows": embeddings.num_windows, "split-half similarity": embeddings.split_half_similarity,
    }  # fmt: skip
    return pd.DataFrame(columns, index=pd.Index([str(unit) for unit in population.unit_ids], name="unit"))


def _interactive(units, embeddings: UnitEmbeddings, identities: Identities | None, nearest, method: str):
    """The map, the probe and the tables, which share a selection; and Markdown between them."""
    from bokeh.layouts import column, row
    from bokeh.models import CDSView, ColumnDataSource, CustomJS, Div, IndexFilter, Select

    frame = units.reset_index()
    points, colourings = embedding_map(embeddings.embedding, method), _colourings(units, identities)
    first = next(iter(colourings.values()))
    places = {"map x": points[:, 0], "map y": points[:, 1], "colour": first[0]}
    source = ColumnDataSource({**source_columns(frame), **places})
    hover = [(name, f"@{{{name}}}") for name in _HOVER if name in frame]
    figures = [_scatter(source, "map x", "map y", axis_labels(method), "Map of the embeddings", hover)]
    if "depth (µm)" in frame:
        x = "probability" if identities is not None else "split-half similarity"
        figures.append(_scatter(source, x, "depth (µm)", (x, "depth (µm)"), "Along the probe", hover))
    choice = Select(title="Colour", value=next(iter(colourings)), options=list(colourings), width=200)
    legend = Div(text=first[1], sizing_mode="stretch_width")
    choice.js_on_change("value", CustomJS(args={"source": source, "legend": legend, "all": colourings}, code=_RECOLOUR))
    yield "## Units\n\nPoint at a unit to see what it is; select units by a click, a box or a lasso."
    yield column(row(choice, legend), row(*figures, sizing_mode="stretch_width"), sizing_mode="stretch_width")
    yield sortable(units, "units.csv", source=source, height=420)
    if nearest is None:
        return
    yield (
        "## Why this label\n\nThe labelled neurons that each selected unit resembles most. Distances are in units of "
        "how far a typical neuron of a new animal lies from its nearest labelled neurons. What simpler features would "
        "tell (rate, intervals, population coupling) is in the table of units."
    )
    table = nearest.reset_index().rename(columns={"unit_id": "unit"})
    table["unit"] = table["unit"].astype(str)
    table = table.set_index("unit")
    chosen = IndexFilter(indices=list(range(min(_NEAREST, len(table)))))
    own = ColumnDataSource(source_columns(table.reset_index()))
    source.selected.js_on_change(
        "indices", CustomJS(args={"source": source, "own": own, "filter": chosen}, code=_SHOW_CHOSEN)
    )
    yield sortable(table, "nearest_labelled.csv", source=own, view=CDSView(filter=chosen), height=300)


def _colourings(units, identities: Identities | None) -> dict[str, list]:
    """Ways to colour the units, by name: a colour of each, and a legend as HTML."""
    found = {}
    if identities is not None:
        of_class = palette_of(identities.classes)
        for name in ("label", "best label"):
            labels = [label or UNKNOWN for label in units[name].tolist()]
            shown = [(label, colour) for label, colour in of_class.items() if label in set(labels)]
            found[name] = [[of_class[label] for label in labels], legend_html(shown)]
    for name in ("probability", "novelty", "rate (Hz)", "depth (µm)", "split-half similarity"):
        if name in units:
            colours, steps = scale_colours(units[name].to_numpy())
            found[name] = [colours, legend_html(steps)]
    return found


def _scatter(source, x: str, y: str, labels, title: str, hover):
    from bokeh.models import HoverTool
    from bokeh.plotting import figure

    plot = figure(
        title=title, x_axis_label=labels[0], y_axis_label=labels[1], height=420, sizing_mode="stretch_width",
        tools="tap,box_select,lasso_select,pan,wheel_zoom,reset,save", active_drag="box_select",
    )  # fmt: skip
    plot.add_tools(HoverTool(tooltips=hover))
    plot.scatter(x, y, source=source, size=9, color="colour", line_color="white", nonselection_alpha=0.2)
    plot.toolbar.logo = None
    return plot


_RECOLOUR = """
const [colours, text] = Object.fromEntries(all instanceof Map ? all : Object.entries(all))[cb_obj.value]
source.data = {...source.data, colour: colours}
legend.text = text
"""
_SHOW_CHOSEN = """
const names = new Set(source.selected.indices.map(k => source.data['unit'][k]))
const all = own.data['unit'], found = []
for (let k = 0; k < all.length; k++) if (names.has(all[k])) found.push(k)
filter.indices = found
own.change.emit()
"""
