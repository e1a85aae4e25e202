"""Predicted identities as labels of a curation, to be corrected by hand."""

import numpy as np
from spikeinterface.core import SortingAnalyzer

from ..errors import InputError, reason_of
from ..io.curated_labels import is_of_units, labels_of
from ..predictions import UNKNOWN
from .identity import computed_identity
from .prediction import property_name


def nuclr_curation(
    analyzer: SortingAnalyzer, *, classes: list[str] | None = None, curation: dict | None = None
) -> dict:
    """The curation of an analyzer, with its predicted identities and room for your own.

    It has two more kinds of labels, both with the decoder's classes as options. ``nuclr_<target>`` holds the
    predictions. ``<target>`` is yours: it is empty, or holds the sorting property of this name; what you enter there,
    and nothing else, is what `fit_decoder` learns from. Predictions are kept apart, so that no decoder is fitted to
    what another has guessed.

    Parameters
    ----------
    analyzer : SortingAnalyzer
        With ``nuclr_identity``.
    classes : list of str, optional
        Further options, which the decoder does not know.
    curation : dict, optional
        An earlier curation of this analyzer (version 2), whose labels, merges, splits and removed units are kept.

    Returns
    -------
    dict
        Of version 2, as `spikeinterface.curation.apply_curation` and spikeinterface-gui (``curation_dict=``) take it.

    Raises
    ------
    InputError
        There is no ``nuclr_identity``, or the curation is of other units or of another version.

    Examples
    --------
    >>> from spikeinterface_nuclr import compute_nuclr_embedding, compute_nuclr_identity, nuclr_curation
    >>> from spikeinterface_nuclr.simulation import simulate_analyzer
    >>> analyzer = simulate_analyzer(10, 30.0, seed=500)
    >>> _ = compute_nuclr_embedding(analyzer, progress_bar=False)
    >>> _ = compute_nuclr_identity(analyzer, "simulated-cell-type")
    >>> list(nuclr_curation(analyzer)["label_definitions"])
    ['quality', 'nuclr_cell_type', 'cell_type']
    """
    if classes is not None and (isinstance(classes, str) or not all(isinstance(name, str) for name in classes)):
        raise InputError(f"classes must be a list of names, not {classes!r}")
    extension = computed_identity(analyzer)
    if extension is None:
        raise InputError("the analyzer has no nuclr_identity: compute it first")
    identities = extension.get_identities()
    result = _empty(analyzer) if curation is None else _copied(curation, analyzer)
    own = _own_labels(analyzer, identities.target)
    options = list(dict.fromkeys([*identities.classes.tolist(), *sorted({*own.values()}), *(classes or ())]))
    predicted = property_name(identities.target)
    labels = {entry["unit_id"]: dict(entry["labels"]) for entry in result["manual_labels"]}
    known = result["label_definitions"].get(identities.target, {}).get("label_options", [])
    result["label_definitions"] |= {
        predicted: {"label_options": [*identities.classes.tolist(), UNKNOWN], "exclusive": True},
        identities.target: {"label_options": list(dict.fromkeys([*known, *options])), "exclusive": True},
    }
    for unit, label in zip(analyzer.unit_ids.tolist(), identities.label.tolist(), strict=True):
        entry = labels.setdefault(unit, {})
        entry[predicted] = [label]
        if unit in own and identities.target not in entry:
            entry[identities.target] = [own[unit]]
    result["manual_labels"] = [{"unit_id": unit, "labels": entry} for unit, entry in labels.items()]
    return result


def _empty(analyzer: SortingAnalyzer) -> dict:
    """A curation without labels, with spikeinterface-gui's options of quality."""
    return {
        "format_version": "2", "unit_ids": analyzer.unit_ids.tolist(), "manual_labels": [], "merges": [], "splits": [],
        "removed": [],
        "label_definitions": {"quality": {"label_options": ["good", "noise", "MUA"], "exclusive": True}},
    }  # fmt: skip


def _copied(curation: dict, analyzer: SortingAnalyzer) -> dict:
    """A valid curation of this analyzer, as a new dict; InputError if it is none."""
    from spikeinterface.curation import validate_curation_dict

    if not isinstance(curation, dict) or curation.get("format_version") != "2":
        raise InputError("curation: not a curation dict of version 2")
    try:
        validate_curation_dict(curation)
    except Exception as error:
        raise InputError(f"curation: invalid ({reason_of(error)})") from None
    if not is_of_units(curation, analyzer):
        raise InputError("curation: is of other units than the analyzer's")
    empty = _empty(analyzer)
    result = empty | {name: curation[name] for name in empty if curation.get(name) is not None}
    # Units are listed in the analyzer's order and type.
    unit_of = {str(unit): unit for unit in empty["unit_ids"]}
    labels = [
        {"unit_id": unit_of[str(entry["unit_id"])], "labels": labels_of(entry)} for entry in result["manual_labels"]
    ]
    return result | {
        "unit_ids": empty["unit_ids"], "manual_labels": labels,
        "label_definitions": dict(result["label_definitions"]),
    }  # fmt: skip


def _own_labels(analyzer: SortingAnalyzer, target: str) -> dict:
    """The labels that the sorting property of this name holds, by unit."""
    from ..decoding.labels import as_labels

    if target not in analyzer.get_sorting_property_keys():
        return {}
    values = np.asarray(analyzer.get_sorting_property(target))
    if values.ndim != 1 or values.dtype.kind not in "UOSi":
        return {}
    labels, known = as_labels(values, target)
    return {unit: str(label) for unit, label, has in zip(analyzer.unit_ids.tolist(), labels, known, strict=True) if has}
