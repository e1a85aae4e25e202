"""Cohorts: labelled and embedded recordings of several animals, for fitting and evaluating decoders."""

import dataclasses
import inspect
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from ..embedding import EmbeddingSettings, expected_provenance
from ..errors import CheckpointError, DeviceError, InputError
from ..io import read_population
from ..io.manifest import Listed, list_sources
from ..io.where import select_where
from ..model.checkpoint import Checkpoint
from ..model.device import choose_device, choose_precision
from ..model.loading import load_checkpoint
from ..population import Population
from ..unit_embeddings import UnitEmbeddings, stored_embeddings
from .baselines import CONTROLS, CONTROLS_VERSION, BaselineFeatures
from .brainwidebench import embeddings_of, read_brainwidebench_embeddings
from .label_sources import LabelSource, unit_property
from .labelled import Recording
from .labels import LabelError, check_classes, is_labelled, warn_of_similar


@dataclass(frozen=True, eq=False)
class Cohort:
    """Embedded and labelled recordings, without their spikes. All lists have one entry per recording.

    Attributes
    ----------
    names, animals : list of str
    embeddings : list of UnitEmbeddings, or of tuples of them
    labels : list of str array, or float64 array for numbers, shape (n_units,)
    probes : list of str array, shape (n_units,)
        Probe of each unit.
    positions : list of float arrays, shape (n_units,); or None
        Position of each unit in µm, if requested.
    others : dict of str to list of float arrays, shape (n_units, dim)
        Features that embeddings are compared with, by method: the baselines, and embeddings of the control
        (`CONTROLS`). Empty unless requested.
    left_out : list of str
        One line, "FILE: reason", for each recording that could not be used.

    Examples
    --------
    >>> from spikeinterface_nuclr import EmbeddingSettings, LabelRule, read_cohort, simulate_population
    >>> cohort = read_cohort([simulate_population(20, 30.0)], LabelRule("cell_type"), EmbeddingSettings(progress=False))
    >>> cohort.embeddings[0].embedding.shape, cohort.labels[0].shape
    ((20, 384), (20,))
    """

    names: list[str]
    animals: list[str]
    embeddings: list[Recording]
    labels: list[np.ndarray]
    probes: list[np.ndarray]
    positions: list[np.ndarray] | None
    others: dict[str, list[np.ndarray]]
    left_out: list[str] = dataclasses.field(default_factory=list)


@dataclass(frozen=True, eq=False)
class _Recording:
    """The data of one recording in a cohort, and the results to save for the next run."""

    name: str
    animal: str
    signal: str
    embeddings: Recording
    labels: np.ndarray
    probes: np.ndarray
    positions: np.ndarray | None
    others: dict[str, np.ndarray]
    files: dict[Path, UnitEmbeddings | BaselineFeatures]


def read_cohort(
    sources, rule: LabelSource, settings: EmbeddingSettings, *, group_by: str | None = "group",
    cache: Path | None = None, baselines: bool = False, control: bool = False, depth: str | None = None, released=(),
    **keywords,
) -> Cohort:  # fmt: skip
    """Read, label and embed every recording in `sources`, one at a time.

    Each is read once, and its spikes are released before the next is read. Recordings that cannot be used are left out:
    those that are damaged, have no labels, no animal or no property `depth`, are too short or too small to embed, or
    contain another signal (spikes or traces) than the first usable recording.

    Parameters
    ----------
    sources
        As in `list_sources`.
    rule : LabelRule, LabelTable, ValueRule or ValueTable
        Source of the labels, or of numbers.
    settings : EmbeddingSettings
        How to embed.
    group_by : str or None
        As in `read_population`.
    cache : Path, optional
        Folder for embeddings and features of baselines; those that are up to date are reused.
    baselines : bool
        Compute the baselines of each recording.
    control : bool
        Embed each recording's control (`CONTROLS`).
    depth : str, optional
        Property with each unit's position.
    released : list of paths
        Released embeddings of BrainWideBench (`read_brainwidebench_embeddings`), by which sessions are looked up in
        place of embedding them. With several files, a recording has a tuple of embeddings. With one file,
        `settings.model` may name the model that they are of, which decoders then name.
    **keywords
        Passed to `read_population`.

    Returns
    -------
    Cohort

    Raises
    ------
    InputError
        No recording can be used, the labels are not classes, or a table of labels does not match the recordings.
    CheckpointError, DeviceError
        As in `embed`.

    Warns
    -----
    RecordingWarning
        Names of two animals differ only by case or blanks.

    Examples
    --------
    >>> from spikeinterface_nuclr import EmbeddingSettings, LabelRule, fit_decoder, read_cohort, simulate_population
    >>> recordings = [simulate_population(20, 30.0, seed=seed) for seed in range(3)]
    >>> cohort = read_cohort(recordings, LabelRule("cell_type"), EmbeddingSettings(progress=False))
    >>> cohort.animals
    ['simulation-0', 'simulation-1', 'simulation-2']
    >>> decoder = fit_decoder(cohort.embeddings, cohort.labels, cohort.animals, target="cell_type")
    """
    for name in keywords.keys() - inspect.signature(read_population).parameters.keys():
        raise TypeError(f"read_cohort() got an unexpected keyword argument {name!r}")
    listed = list_sources(sources)
    if not listed:
        raise InputError("no recording is listed: the manifest is empty")
    # Errors that affect all recordings are raised before the first is read.
    rule.check([source.name for source in listed])
    choose_precision(settings.precision, choose_device(settings.device))
    released = [released] if isinstance(released, str | Path) else list(released)
    checkpoints = {} if settings.model is None else dict.fromkeys(("spikes", "traces"), load_checkpoint(settings.model))
    tables = released_tables(released, settings.model, checkpoints.get("spikes"), control)
    reading = {"group_by": group_by, **keywords}
    reader = _Reader(rule, settings, checkpoints, reading, cache, baselines, control, depth, tables)

    recordings: list[_Recording] = []
    left_out = []
    for source in tqdm(listed, desc="embedding", unit="recording", disable=not settings.progress):
        try:
            recording = reader.read(source, recordings)
        except (CheckpointError, DeviceError, LabelError):  # not caused by this recording
            raise
        except Exception as error:  # one damaged file among hundreds must not stop the others
            left_out.append(source.refusal(error))
            continue
        for path, content in recording.files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            content.save(path, overwrite=True)
        recordings.append(dataclasses.replace(recording, files={}))
    if not recordings:
        more = f" (and {len(left_out) - 1} more)" if len(left_out) > 1 else ""
        raise InputError(f"no recording can be used: {left_out[0]}{more}")
    check_classes([recording.labels for recording in recordings], rule.name)
    warn_of_similar([recording.animal for recording in recordings])
    return Cohort(
        *([getattr(recording, name) for recording in recordings]
          for name in ("name", "animal", "embeddings", "labels", "probes")),
        [recording.positions for recording in recordings] if depth else None,
        {name: [recording.others[name] for recording in recordings] for name in recordings[0].others},
        left_out,
    )  # fmt: skip


def released_tables(
    paths: list, model, checkpoint: Checkpoint | None, control: bool
) -> list[dict[str, UnitEmbeddings]]:
    """The released embeddings in these files, of the model's checkpoint if it is named."""
    if paths and control:
        raise InputError("released embeddings come without a control: leave out the control")
    if len(paths) > 1 and model is not None:
        raise InputError(
            "several files of released embeddings are of several models: leave out the model, or fit to one"
        )
    return [read_brainwidebench_embeddings(path, checkpoint=checkpoint) for path in paths]


@dataclass(frozen=True)
class _Reader:
    """Reads recordings with the arguments of `read_cohort`; `checkpoints` are those loaded so far, by signal."""

    rule: LabelSource
    settings: EmbeddingSettings
    checkpoints: dict[str, Checkpoint]
    reading: dict
    cache: Path | None
    baselines: bool
    control: bool
    depth: str | None
    released: list[dict[str, UnitEmbeddings]]

    def read(self, source: Listed, previous: list[_Recording]) -> _Recording:
        """Read, label and embed a recording, after the `previous` ones.

        Raises any error of this recording; a LabelError if the labels of all recordings cannot be used.
        """
        where = self.reading.get("where")
        reading = {key: value for key, value in self.reading.items() if key != "where"}
        whole = read_population(source.source, **source.reading(reading))
        # Labels may name units that are left out.
        population = whole if where is None else select_where(whole, where, source.name)
        animal = _animal(source, population)
        positions = depths_of(population, self.depth, source.name) if self.depth else None
        labels = self.rule.labels_of(whole, source.name)[_positions_in(whole, population)]
        if not is_labelled(labels).any():
            raise InputError(f"{source.name}: no unit has a usable label ({self.rule.name})")
        if previous and population.signal != previous[0].signal:
            raise InputError(
                f"{source.name}: holds {population.signal}, {previous[0].name} holds {previous[0].signal}: evaluate "
                "them separately"
            )
        check_classes([*(recording.labels for recording in previous), labels], self.rule.name, more=True)
        files: dict[Path, UnitEmbeddings | BaselineFeatures] = {}
        if self.released:
            embeddings = embeddings_of(population, self.released, source.name)
        else:
            embeddings = self._embed(population, self._path(source), files)
        others = self._features(population, self._path(source, ".features"), files) if self.baselines else {}
        if self.control:
            name, function = CONTROLS[population.signal]
            path = self._path(source, f".{name.partition(' ')[0]}")
            others[f"embedding of {name}"] = self._embed(population, path, files, function).embedding
        return _Recording(
            source.name, animal, population.signal, embeddings, labels, population.group, positions, others, files
        )

    def _path(self, source: Listed, suffix: str = "") -> Path | None:
        return self.cache and self.cache / f"{source.key}{suffix}.npz"

    def _embed(self, population: Population, path: Path | None, files: dict, control=None) -> UnitEmbeddings:
        """The embeddings in the file if they are up to date, else new ones, which are added to `files`.

        With the function `control`, embeddings of the population's control, which is computed only if needed.
        """
        signal = population.signal
        if signal not in self.checkpoints:
            self.checkpoints[signal] = load_checkpoint(self.settings.model, signal=signal)
        checkpoint = self.checkpoints[signal]
        existing = stored_embeddings(path) if path else None
        expected = expected_provenance(population, checkpoint, self.settings)
        origin = {"population_fingerprint": expected.population_fingerprint}
        if control:
            origin = {"control_of": expected.population_fingerprint, "control_version": CONTROLS_VERSION}
        if existing is not None and existing.provenance.states(origin) and not existing.provenance.difference(expected):
            return existing
        input_population = control(population) if control else population
        embeddings = self.settings.embed(input_population, checkpoint, progress=False)
        embeddings = dataclasses.replace(embeddings, provenance=embeddings.provenance.replace(**origin))
        if path:
            files[path] = embeddings
        return embeddings

    def _features(self, population: Population, path: Path | None, files: dict) -> dict[str, np.ndarray]:
        """The features in the file if they are up to date, else new ones, which are added to `files`."""
        existing = _stored_features(path) if path else None
        if existing is not None and existing.provenance == BaselineFeatures.provenance_of(population):
            return dict(existing.features)
        computed = BaselineFeatures.compute(population)
        if path:
            files[path] = computed
        return dict(computed.features)


def _positions_in(whole: Population, part: Population) -> np.ndarray:
    """Position of each unit of a part in the whole population."""
    row = {unit: k for k, unit in enumerate(whole.unit_ids.tolist())}
    return np.array([row[unit] for unit in part.unit_ids.tolist()], dtype=np.int64)


def _animal(source: Listed, population: Population) -> str:
    animal = (source.animal or str(population.metadata.get("subject") or "")).strip()
    if not animal:
        raise InputError(f"{source.name}: names no subject: give a manifest with a column animal")
    return animal


def depths_of(population: Population, depth: str, name: str) -> np.ndarray:
    """The property with each unit's position, as numbers."""
    values = unit_property(population, depth, name)
    try:
        return values.astype(np.float64)
    except (ValueError, TypeError):
        raise InputError(f"{name}: property {depth!r} is not numeric: name a property with depths in µm") from None


def _stored_features(path: Path) -> BaselineFeatures | None:
    """The features in a file, or None if it cannot be read."""
    try:
        return BaselineFeatures.load(path)
    except InputError:
        return None
