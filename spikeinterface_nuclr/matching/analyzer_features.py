"""Other evidence that SortingAnalyzers hold: locations of units, and similarities of templates."""

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from ..errors import InputError, reading
from ..io import kind_of
from ..io.manifest import Listed
from ..io.spikeinterface import load_spikeinterface
from ..io.untrusted import check_extension
from .evidence import RecordingEvidence

LOCATIONS, TEMPLATES = "unit_locations", "template_similarity"
NAMES = (LOCATIONS, TEMPLATES)


def feature_names(features) -> list[str]:
    """The names in `features`, if it is one or a list of them; else none.

    Raises
    ------
    InputError
        A name is unknown.
    """
    names = [features] if isinstance(features, str) else features
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return []
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise InputError(f"features: {unknown[0]!r} is none of {', '.join(NAMES)}; give others as arrays, in a dict")
    return list(names)


@dataclass(frozen=True, eq=False)
class AnalyzerFeatures:
    """Features that SortingAnalyzers hold.

    Attributes
    ----------
    names : list of str
        "unit_locations", of the extension of this name, in µm; "template_similarity", the cosine similarity of the
        templates of two analyzers, computed by SpikeInterface.
    analyzers : list of SortingAnalyzer
        Of each recording.
    """

    names: list[str]
    analyzers: list

    @classmethod
    def of(cls, names: list[str], listed: list[Listed], called: list[str] | None = None) -> "AnalyzerFeatures":
        """Open the analyzers; InputError if a source is none, or does not hold what is needed."""
        if called is None or len(called) != len(listed):
            called = [one.name for one in listed]
        analyzers = []
        for source, title in zip([one.source for one in listed], called, strict=True):
            if isinstance(source, str | Path) and kind_of(source) == "analyzer":
                source = load_spikeinterface(Path(source))
            if not hasattr(source, "get_extension"):
                raise InputError(
                    f"{title}: is no SortingAnalyzer, whose features can be named: give them as arrays, in a dict"
                )
            for name in names:
                needed = "templates" if name == TEMPLATES else name
                if not source.has_extension(needed):
                    raise InputError(f"{title}: has no {needed}: analyzer.compute({needed!r}) computes it")
            analyzers.append(source)
        return cls(names, analyzers)

    def read(self, recordings: list[RecordingEvidence], linked: list[tuple[int, int]]) -> dict:
        """The features of the recordings' units.

        Parameters
        ----------
        recordings : list of RecordingEvidence
            What was read from the analyzers.
        linked : list of two ints
            Positions of the recordings that are matched.

        Returns
        -------
        dict of str to list of arrays (n_units, k), or to dict of (a, b) to arrays (n_a, n_b)
            Templates are compared for any two recordings a < b; NaN where these are not matched.

        Raises
        ------
        InputError
            An extension is damaged, or the channels or templates of two matched recordings differ.
        """
        features: dict = {}
        rows = [_rows(analyzer, one) for analyzer, one in zip(self.analyzers, recordings, strict=True)]
        names = [recording.name for recording in recordings]
        if LOCATIONS in self.names:
            locations = list(map(_locations, self.analyzers, names))
            columns = min(location.shape[1] for location in locations)  # without depth off the probe, if one has none
            features[LOCATIONS] = [location[units, :columns] for location, units in zip(locations, rows, strict=True)]
        if TEMPLATES in self.names:
            for analyzer in self.analyzers:
                check_extension(analyzer, "templates")
            pairs = list(combinations(range(len(names)), 2))
            features[TEMPLATES] = {(a, b): np.full((len(rows[a]), len(rows[b])), np.nan) for a, b in pairs}
            for a, b in linked:
                similarity = _template_similarity(*((self.analyzers[k], names[k]) for k in (a, b)))
                features[TEMPLATES][a, b] = similarity[np.ix_(rows[a], rows[b])]
        return features


def _rows(analyzer, recording: RecordingEvidence) -> np.ndarray:
    """Positions, in the analyzer, of the units that were read from it."""
    position = {str(unit): k for k, unit in enumerate(analyzer.unit_ids.tolist())}
    return np.array([position[str(unit)] for unit in recording.unit_ids.tolist()], dtype=int)


def _locations(analyzer, name: str) -> np.ndarray:
    """Locations of an analyzer's units in µm: shape (n_units, 2 or 3)."""
    check_extension(analyzer, LOCATIONS)
    with reading(name, f"extension {LOCATIONS}", "compute it again"):
        locations = np.asarray(analyzer.get_extension(LOCATIONS).get_data(), dtype=float)
        if locations.ndim != 2 or len(locations) != len(analyzer.unit_ids):
            raise InputError(f"{name}: {LOCATIONS} has not one row for each of its units: compute it again")
    return locations


def _template_similarity(first: tuple, second: tuple) -> np.ndarray:
    """Cosine similarity of the templates of two analyzers, each with its name: shape (n_first, n_second)."""
    from spikeinterface.postprocessing import compute_template_similarity_by_pair

    sites = [analyzer.get_channel_locations() for analyzer, _ in (first, second)]
    if sites[0].shape != sites[1].shape or not np.allclose(sites[0], sites[1], atol=1.0):
        raise InputError(
            f"{second[1]}: has other channels than {first[1]}, or in another order, so that templates cannot be "
            f"compared: leave out {TEMPLATES}, or select the same channels"
        )
    shapes = []
    for analyzer, name in (first, second):
        with reading(name, "extension templates", "compute it again"):
            shapes.append(analyzer.get_extension("templates").get_data().shape)
        if shapes[-1][0] != len(analyzer.unit_ids):
            raise InputError(f"{name}: templates has not one row for each of its units: compute it again")
    if shapes[0][1] != shapes[1][1]:
        raise InputError(
            f"{second[1]}: its templates have {shapes[1][1]} samples, those of {first[1]} {shapes[0][1]}: compute both "
            f"with the same ms_before and ms_after"
        )
    with reading(second[1], "SortingAnalyzer", f"compute its templates as those of {first[1]}"):
        return np.asarray(compute_template_similarity_by_pair(first[0], second[0]))
