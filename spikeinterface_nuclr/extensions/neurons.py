"""Neurons of several recordings as a sorting property of their analyzers."""

from spikeinterface.core import SortingAnalyzer

from ..errors import InputError
from ..unit_matches import UnitMatches
from .base import RowsExtension

NEURON_ID = "nuclr_neuron_id"


def set_neuron_ids(analyzers: list[SortingAnalyzer], matches: UnitMatches) -> None:
    """Set the sorting property ``nuclr_neuron_id`` of each analyzer: the same number for the same neuron in all.

    The property is saved with analyzers on disk that are not read-only. All analyzers are checked before the first is
    changed.

    Parameters
    ----------
    analyzers : list of SortingAnalyzer
        Those of the matched recordings, in the order of `matches.recordings`.
    matches : UnitMatches

    Raises
    ------
    InputError
        An analyzer has other units than those that were matched.

    Examples
    --------
    >>> from spikeinterface_nuclr import match_units, set_neuron_ids, simulate_days
    >>> from spikeinterface_nuclr.simulation import analyzer_of
    >>> analyzers = [analyzer_of(day) for day in simulate_days(2, n_units=10, duration=120.0)]
    >>> set_neuron_ids(analyzers, match_units(analyzers, progress=False))
    >>> analyzers[0].get_sorting_property("nuclr_neuron_id").shape
    (10,)
    """
    if len(analyzers) != len(matches.recordings):
        raise InputError(f"analyzers: give the analyzer of each of the {len(matches.recordings)} recordings")
    for analyzer, name, ids in zip(analyzers, matches.recordings, matches.unit_ids, strict=True):
        if not isinstance(analyzer, SortingAnalyzer):
            raise InputError(f"analyzers: {name}: is a {type(analyzer).__name__}, not a SortingAnalyzer")
        if list(map(str, analyzer.unit_ids)) != list(map(str, ids)):
            raise InputError(f"analyzers: {name}: has other units than those that were matched: match it again")
    for analyzer, values in zip(analyzers, matches.neuron_id, strict=True):
        RowsExtension.set_properties(analyzer, {NEURON_ID: values})
