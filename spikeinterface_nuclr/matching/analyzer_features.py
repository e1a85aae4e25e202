"""Other evidence that SortingAnalyzers hold: locations of units, and similarities of templates."""

from itertools import combinations
from pathlib import Path

import numpy as np

from ..errors import InputError, reading
from ..io import kind_of
from ..io.spikeinterface import load_spikeinterface
from .evidence import RecordingEvidence

LOCATIONS, TEMPLATES = "unit_locations", "template_similarity"
NAMES = (LOCATIONS, TEMPLATES)


def features_of_analyzers(names: list[str], sources: list, recordings: list[RecordingEvidence]) -> dict:
    """Features with these names, read from the recordings' SortingAnalyzers.

    Parameters
    ----------
    names : list of str
        "unit_locations", of the extension of this name, in µm; "template_similarity", the cosine similarity of the
        templates of two analyzers, computed by SpikeInterface.
    sources : list
        SortingAnalyzers, or folders of them.
    recordings : list of RecordingEvidence
        What was read from them.

    Returns
    -------
    dict of str to list of arrays (n_units, k), or to dict of (a, b) to arrays (n_a, n_b)
        Templates are compared for any two recordings a < b.

    Raises
    ------
    InputError
        A name is unknown; a source is no analyzer; its extension is not computed; or the channels of two differ.
    """
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise InputError(f"features: {unknown[0]!r} is none of {', '.join(NAMES)}; give others as arrays, in a dict")
    analyzers = [_analyzer(source, recording.name) for source, recording in zip(sources, recordings, strict=True)]
    rows = [_rows(analyzer, recording) for analyzer, recording in zip(analyzers, recordings, strict=True)]
    features: dict = {}
    if LOCATIONS in names:
        features[LOCATIONS] = [
            np.asarray(_extension(analyzer, LOCATIONS, recording.name).get_data())[units]
            for analyzer, recording, units in zip(analyzers, recordings, rows, strict=True)
        ]
    if TEMPLATES in names:
        for analyzer, recording in zip(analyzers, recordings, strict=True):
            _extension(analyzer, "templates", recording.name)
        features[TEMPLATES] = {
            (a, b): _template_similarity(analyzers[a], analyzers[b], recordings[a].name, recordings[b].name)[
                np.ix_(rows[a], rows[b])
            ]
            for a, b in combinations(range(len(analyzers)), 2)
        }
    return features


def _analyzer(source, name: str):
    if isinstance(source, str | Path) and kind_of(source) == "analyzer":
        source = load_spikeinterface(Path(source))
    if not hasattr(source, "get_extension"):
        raise InputError(f"{name}: is no SortingAnalyzer, whose features can be named: give them as arrays, in a dict")
    return source


def _rows(analyzer, recording: RecordingEvidence) -> np.ndarray:
    """Positions, in the analyzer, of the units that were read from it."""
    position = {str(unit): k for k, unit in enumerate(analyzer.unit_ids.tolist())}
    return np.array([position[str(unit)] for unit in recording.unit_ids.tolist()], dtype=int)


def _extension(analyzer, extension: str, name: str):
    found = analyzer.get_extension(extension)
    if found is None:
        raise InputError(f"{name}: has no {extension}: analyzer.compute({extension!r}) computes it")
    return found


def _template_similarity(first, second, *names: str) -> np.ndarray:
    """Cosine similarity of the templates of two analyzers: shape (n_first, n_second)."""
    from spikeinterface.postprocessing import compute_template_similarity_by_pair

    if first.get_num_channels() != second.get_num_channels():
        raise InputError(
            f"{names[1]}: has {second.get_num_channels()} channels, {names[0]} {first.get_num_channels()}: templates "
            f"of different channels cannot be compared"
        )
    with reading(names[1], "SortingAnalyzer", f"compute its templates as those of {names[0]}"):
        return np.asarray(compute_template_similarity_by_pair(first, second))
