"""match_units: which unit of one recording is which of another. fit_matcher: how probably, learnt from recordings."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from itertools import chain, combinations
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from ..decoding.splits import check_seed
from ..embedding import EmbeddingSettings
from ..errors import InputError
from ..io.manifest import Listed, list_sources
from ..predictions import check_target_error
from ..provenance import portable_source
from ..unit_embeddings import UnitEmbeddings
from ..unit_matches import UnitMatches
from .analyzer_features import AnalyzerFeatures, feature_names
from .cache import Cache
from .calibration import FEATURES, MOST_CALIBRATED, can_be_imitated, imitations
from .combination import Combination, check_features
from .compared import Compared, named_matches, possible_pairs, similarities
from .evidence import RecordingEvidence
from .links import Ends, correspondences, links_of
from .matcher import Matcher, fitted
from .sources import EvidenceReader
from .threads import in_threads


def match_units(
    *sources,
    names: list[str] | None = None,
    features=None,
    matcher: Matcher | str | Path | None = None,
    target_error: float = 0.05,
    model=None,
    device: str = "auto",
    precision: str = "auto",
    group_by: str | None = "group",
    cache: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
    **keywords,
) -> UnitMatches:
    """Find the same neurons in several recordings, such as sessions of one animal on several days.

    Units are compared by their embeddings and by their correlations with the other units, which are matched at the same
    time. Probabilities are learnt from halves of the same recordings, made harder to imitate drift and units that are
    lost or new (`matching.calibration`); no labels are needed. Units of one group (probe) are compared with those of
    the group of the same name.

    Parameters
    ----------
    *sources : two or more recordings, or one list of them
        Sources of `read_population`: populations, analyzers, sortings, NWB files, folders. In a list of paths also
        patterns and manifests, as in `list_sources`. Embeddings that are stored with a recording, up to date and of the
        model, are used. UnitEmbeddings (or their ``.npz``) can be matched with a `matcher`, but hold no correlations.
    names : list of str, optional
        Names of the recordings. Default: names of files, or sessions.
    features : list of str, or dict of str to list, optional
        Other evidence about the units. Of SortingAnalyzers, names of what they hold: "unit_locations",
        "template_similarity" (computed between any two of them). Else, for each kind, one array (n_units, k) for each
        recording, such as locations in µm or waveforms, in the order of the units; or an array (n_first, n_second) of
        similarities, for more than two recordings a dict of these with keys (0, 1), (0, 2), … Weights are learnt from
        the recordings to be matched (`matching.combination`).
    matcher : Matcher or path, optional
        From `fit_matcher`. Default: fitted to these recordings.
    target_error : float, default: 0.05
        Pairs are named so that a fraction of at most this is expected to be wrong.
    model, device, precision
        As in `embed`.
    group_by : str or None, default: "group"
        As in `read_population`. None compares all units with one another.
    cache : str or Path, optional
        Folder in which to keep what was computed of each recording, so that a run that was stopped goes on from there.
    seed : int, default: 0
        Of the units that are removed and mixed in the calibration.
    progress : bool, default: True
    **keywords
        Passed to `read_population`.

    Returns
    -------
    UnitMatches

    Raises
    ------
    InputError
        A recording cannot be read or embedded, signals or groups do not correspond, or there is too little activity to
        calibrate.
    CheckpointError, DeviceError
        As in `embed`.

    Examples
    --------
    >>> from spikeinterface_nuclr import match_units, simulate_days
    >>> first, second = simulate_days(2, n_units=30, duration=180.0)
    >>> matches = match_units(first, second, progress=False)
    >>> matches.to_dataframe().columns[:6].tolist()
    ['recording_a', 'unit_a', 'recording_b', 'unit_b', 'probability', 'named']
    """
    check_request(target_error, seed, matcher)
    named, listed = feature_names(features), _listed(sources)
    settings = EmbeddingSettings(model, device, precision)
    kept = Cache.of(cache)
    reader = EvidenceReader(settings, {"group_by": group_by, **keywords}, kept)
    analyzers = AnalyzerFeatures.of(named, listed, names) if named else None
    recordings = read_evidence(listed, names, reader, progress=progress)
    choices = {"matcher": matcher, "target_error": target_error, "seed": seed, "progress": progress}
    return match_evidence(recordings, kept, analyzers or features, **choices)


def match_evidence(
    recordings: list[RecordingEvidence],
    kept: Cache,
    features=None,
    *,
    matcher: Matcher | str | Path | None,
    target_error: float,
    seed: int,
    progress: bool,
) -> UnitMatches:
    """Match recordings whose evidence has been read; `features` are AnalyzerFeatures, or as of `match_units`."""
    check_request(target_error, seed, matcher)
    matcher = Matcher.load(matcher) if isinstance(matcher, str | Path) else matcher
    if len(recordings) < 2:
        raise InputError("give two recordings or more")
    _check_alike(recordings)
    ends_of = _by_recordings(correspondences(recordings), len(recordings))
    linked = [numbers for numbers, ends in ends_of.items() if ends]
    if isinstance(features, AnalyzerFeatures):
        features = features.read(recordings, linked)
    tables = check_features(features, recordings)
    if matcher is None:
        matcher = fit_to_halves(recordings, seed, kept, progress=progress)
    links = links_of(recordings, list(chain(*ends_of.values())), kept, progress=progress)
    compared = [
        Compared.of(numbers, recordings, {one: links[one] for one in ends}, matcher)
        for numbers, ends in ends_of.items()
    ]
    about = _about(recordings, "", seed) | {
        "matcher": json.loads(json.dumps(asdict(matcher))),
        "target_error": target_error,
    }
    if tables:
        combination = Combination(list(tables))
        possible = [possible_pairs(recordings[a], recordings[b], ends) for (a, b), ends in ends_of.items()]
        for one, pairs in zip(compared, possible, strict=True):
            combination.add(one.dense(one.probability), similarities(tables, *one.recordings), pairs)
        combination.fit()
        about["features"] = combination.to_dict()
        compared = [
            one.combined(combination, similarities(tables, *one.recordings), pairs)
            for one, pairs in zip(compared, possible, strict=True)
        ]
    return named_matches(recordings, compared, target_error, about)


def fit_matcher(
    *sources, truth=None, names: list[str] | None = None, model=None, device: str = "auto", precision: str = "auto",
    group_by: str | None = "group", cache: str | Path | None = None, seed: int = 0, progress: bool = True, **keywords,
) -> Matcher:  # fmt: skip
    """Learn how probably two units are the same neuron.

    Parameters
    ----------
    *sources : one or more recordings, or one list of them
        As in `match_units`.
    truth : list of array-like of str, or str, optional
        Name of each unit's neuron in each recording, the same in all recordings, empty where it is not known; or the
        property that holds these names. The matcher is then fitted to all pairs of these recordings. Units of unknown
        neurons are left out. Default: fitted without labels, to halves of each recording.
    names, model, device, precision, group_by, cache, seed, progress, **keywords
        As in `match_units`.

    Returns
    -------
    Matcher

    Raises
    ------
    InputError
        As in `match_units`; or the names of neurons do not fit the recordings.

    Examples
    --------
    >>> from spikeinterface_nuclr import fit_matcher, simulate_days
    >>> days = simulate_days(2, n_units=30, duration=120.0)
    >>> matcher = fit_matcher(days, truth="neuron", progress=False)
    >>> matcher.provenance["fitted_to"]
    'labelled pairs'
    """
    settings = EmbeddingSettings(model, device, precision)
    kept = Cache.of(cache)
    reader = EvidenceReader(settings, {"group_by": group_by, **keywords}, kept)
    check_seed(seed)
    recordings = read_evidence(_listed(sources), names, reader, truth=truth, progress=progress)
    _check_alike(recordings)
    if truth is None:
        return fit_to_halves(recordings, seed, kept, progress=progress)
    rows, same = [], []
    for ends, link in links_of(recordings, correspondences(recordings), kept, progress=progress).items():
        neurons = [recordings[a].neurons[recordings[a].groups[label].units] for a, label in ends]
        first, second = (neurons[side][link.pairs[:, side]] for side in (0, 1))
        known = (first != "") & (second != "")
        rows.append(link.rows[known])
        same.append((first == second)[known])
    if not rows:
        raise InputError("give two recordings or more, or leave out truth")
    return fitted(np.concatenate(rows), np.concatenate(same), _about(recordings, "labelled pairs", seed))


def fit_to_halves(recordings: list[RecordingEvidence], seed: int, kept: Cache, *, progress: bool) -> Matcher:
    """The matcher for these recordings, from comparisons of halves of up to `MOST_CALIBRATED` of them."""

    def learnt_from(recording: RecordingEvidence) -> dict[str, np.ndarray]:
        def compute() -> dict[str, np.ndarray]:
            rng = np.random.default_rng(seed)
            parts = [part for group in recording.groups.values() for part in imitations(group, rng)]
            rows = np.concatenate([rows for rows, _ in parts]) if parts else np.empty((0, len(FEATURES)))
            return {"rows": rows, "same": np.concatenate([np.empty(0, dtype=bool), *(same for _, same in parts)])}

        return kept.arrays("halves", [recording.key, int(seed)], compute)

    usable = [recording for recording in recordings if any(map(can_be_imitated, recording.groups.values()))]
    chosen = np.unique(np.linspace(0, len(usable) - 1, min(len(usable), MOST_CALIBRATED)).round().astype(int))
    learnt = in_threads(learnt_from, [usable[k] for k in chosen], "calibrating", "recording", progress=progress)
    if not learnt:
        raise InputError(
            "no recording is long enough, or holds enough units, to be compared with itself: give longer ones, or a "
            "matcher that was fitted to others (matcher=, --matcher)"
        )
    rows, same = (np.concatenate([arrays[name] for arrays in learnt]) for name in ("rows", "same"))
    return fitted(rows, same, _about(recordings, "halves of recordings", seed))


def read_evidence(
    listed: list[Listed], names: list[str] | None, reader: EvidenceReader, *, truth=None, progress: bool
) -> list[RecordingEvidence]:
    """The evidence of each recording; with names of neurons if `truth` is given."""
    if isinstance(names, str) or (names is not None and not all(isinstance(name, str) for name in names)):
        raise InputError("names: give a list of texts, one for each recording")
    names = names_of(listed) if names is None else list(names)
    for name in names:
        if "\0" in name or name.encode("utf-8", "replace").decode() != name:
            raise InputError(f"names: {name!r} contains characters that files cannot hold: give another")
    if len(names) != len(listed) or len(set(names)) < len(names):
        raise InputError(f"names: give a different one for each of the {len(listed)} recordings")
    if truth is not None and not isinstance(truth, str) and len(truth) != len(listed):
        raise InputError(f"truth: give the names of the neurons of each of the {len(listed)} recordings")
    recordings = []
    for number, (source, name) in enumerate(
        tqdm(list(zip(listed, names, strict=True)), desc="reading", unit="recording", disable=not progress)
    ):
        try:
            known = truth if truth is None or isinstance(truth, str) else truth[number]
            recordings.append(reader.read(source.source, name, neurons=known, probe=source.probe))
        except InputError as error:
            raise InputError(source.refusal(error)) from None
    return recordings


def _check_alike(recordings: list[RecordingEvidence]) -> None:
    """InputError unless recordings are of one signal and model."""
    for recording in recordings:
        first = recordings[0]
        if recording.signal != first.signal:
            raise InputError(
                f"{recording.name}: holds {recording.signal}, {first.name} {first.signal}: match recordings of one kind"
            )
        if recording.checkpoint_sha256 != first.checkpoint_sha256:
            raise InputError(
                f"{recording.name}: was embedded by another model than {first.name}: embed both with one model"
            )


def _by_recordings(all_ends: list[Ends], count: int) -> dict[tuple[int, int], list[Ends]]:
    """Corresponding groups of any two recordings."""
    result: dict[tuple[int, int], list[Ends]] = {numbers: [] for numbers in combinations(range(count), 2)}
    for ends in all_ends:
        result[ends[0][0], ends[1][0]].append(ends)
    return result


def check_request(target_error, seed, matcher) -> None:
    """InputError for a wrong parameter, before anything is read."""
    if isinstance(target_error, bool) or not isinstance(target_error, int | float | np.number):
        raise InputError(f"target_error must be a number in (0, 1], not {target_error!r}")
    check_target_error(target_error)
    check_seed(seed)
    if not isinstance(matcher, Matcher | str | Path | None):
        raise InputError(f"matcher must be a Matcher or the path of one, not a {type(matcher).__name__}")


def _about(recordings: list[RecordingEvidence], fitted_to: str, seed: int) -> dict:
    """What the result was computed from, as plain values for JSON."""
    about = {
        "recordings": {
            recording.name: {"fingerprint": recording.fingerprint, "source": portable_source(recording.source)}
            for recording in recordings
        },
        "checkpoint_sha256": recordings[0].checkpoint_sha256, "signal": recordings[0].signal, "seed": int(seed),
        "versions": {name: version(name) for name in ("spikeinterface-nuclr", "torch", "numpy", "scikit-learn")},
    }  # fmt: skip
    return about | ({"fitted_to": fitted_to} if fitted_to else {})


def _listed(sources) -> list[Listed]:
    """The recordings of `match_units(a, b, …)` or `match_units([a, b, …])`."""
    if len(sources) == 1 and isinstance(sources[0], list | tuple):
        sources = sources[0]
    listed = []
    for number, source in enumerate(sources):
        if isinstance(source, str | Path):
            listed += list_sources(source)
        else:
            listed.append(Listed(source, _name_of(source) or f"recording {number + 1}"))
    if not listed:
        raise InputError("no recording is listed")
    return listed


def _name_of(source) -> str:
    """The session of a population or of embeddings; empty if it is not stated."""
    about = source.provenance.source if isinstance(source, UnitEmbeddings) else getattr(source, "metadata", {})
    return str(about.get("session") or about.get("source") or "") if isinstance(about, dict | Mapping) else ""


def names_of(listed: list[Listed]) -> list[str]:
    """Different names: sessions of a manifest, else names of files with as many folders as it takes, or numbered."""
    sessions = [source.session for source in listed]
    if all(sessions) and len(set(sessions)) == len(sessions):
        return sessions
    names = [source.name for source in listed]
    paths = [Path(name).parts if isinstance(source.source, Path) else (name,)
             for name, source in zip(names, listed, strict=True)]  # fmt: skip
    for depth in range(1, 1 + max(map(len, paths))):
        short = ["/".join(parts[-depth:]) for parts in paths]
        if len(set(short)) == len(short):
            return short
    return [f"{name} ({number})" for number, name in enumerate(short, start=1)]
