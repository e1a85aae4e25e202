"""Cohort: labelled recordings of several animals, embedded, to fit decoders to and to score them on."""

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
from ..model.checkpoint import Checkpoint
from ..model.device import choose_device, choose_precision
from ..model.loading import load_checkpoint
from ..population import Population
from ..unit_embeddings import UnitEmbeddings, stored_embeddings
from .baselines import CONTROLS, CONTROLS_VERSION, BaselineFeatures
from .label_sources import LabelRule, LabelTable, unit_property
from .labels import LabelError, check_classes, warn_of_similar


@dataclass(frozen=True, eq=False)
class Cohort:
    """Recordings, one entry each. Their spikes are not kept.

    Attributes
    ----------
    names, animals : list of str
    embeddings : list of UnitEmbeddings
    labels : list of str array, shape (n_units,)
    probes : list of str array, shape (n_units,)
        What each unit was recorded with.
    positions : list of float arrays, shape (n_units,); or None
        Where each unit lies in µm, where that was asked for.
    others : dict of str to list of float arrays, shape (n_units, dim)
        What stands beside the embeddings of each recording, by its name: baselines, and embeddings of its control
        (`CONTROLS`); empty where that was not asked for.
    left_out : list of str
        One line, "FILE: reason", for each recording that could not be used.
    """

    names: list[str]
    animals: list[str]
    embeddings: list[UnitEmbeddings]
    labels: list[np.ndarray]
    probes: list[np.ndarray]
    positions: list[np.ndarray] | None
    others: dict[str, list[np.ndarray]]
    left_out: list[str] = dataclasses.field(default_factory=list)


@dataclass(frozen=True, eq=False)
class _Recording:
    """What a cohort keeps of one recording, and the files by which the next run need not compute it."""

    name: str
    animal: str
    signal: str
    embeddings: UnitEmbeddings
    labels: np.ndarray
    probes: np.ndarray
    positions: np.ndarray | None
    others: dict[str, np.ndarray]
    files: dict[Path, UnitEmbeddings | BaselineFeatures]


def read_cohort(
    sources, rule: LabelRule | LabelTable, settings: EmbeddingSettings, *, group_by: str | None = "group",
    cache: Path | None = None, baselines: bool = False, control: bool = False, depth: str | None = None, **keywords,
) -> Cohort:  # fmt: skip
    """Read, label and embed every recording that `sources` names, one after another.

    Each is read once, and its spikes are let go before the next is read. Recordings that cannot be used are left out:
    those that are damaged, without labels, without an animal, without the property `depth`, too short or too small to
    embed, and those that hold traces where the first that can be used holds spikes, or spikes where it holds traces.

    Parameters
    ----------
    sources
        As `list_sources`.
    rule : LabelRule or LabelTable
        Where the labels come from.
    settings : EmbeddingSettings
        How to embed.
    group_by : str or None
        As `read_population`.
    cache : Path, optional
        A folder for the embeddings and the features of the baselines: those that are up to date there are not computed
        again.
    baselines : bool
        Compute the baselines of each recording.
    control : bool
        Embed each recording's control (`CONTROLS`).
    depth : str, optional
        Property with each unit's position.
    **keywords
        Of `read_population`.

    Returns
    -------
    Cohort
        With a line in `left_out` for each recording that was left out.

    Raises
    ------
    InputError
        No recording can be used, the labels are no classes, or a table of labels does not fit the recordings.
    CheckpointError, DeviceError
        As `embed`.

    Warns
    -----
    RecordingWarning
        Names of two animals differ by case or blanks only.
    """
    for name in keywords.keys() - inspect.signature(read_population).parameters.keys():
        raise TypeError(f"read_cohort() got an unexpected keyword argument {name!r}")
    listed = list_sources(sources)
    if not listed:
        raise InputError("no recording is named: the manifest is empty")
    # What is wrong for all of them is found before the first is read.
    rule.check([one.name for one in listed])
    choose_precision(settings.precision, choose_device(settings.device))
    checkpoints = {} if settings.model is None else dict.fromkeys(("spikes", "traces"), load_checkpoint(settings.model))
    reader = _Reader(rule, settings, checkpoints, {"group_by": group_by, **keywords}, cache, baselines, control, depth)

    recordings: list[_Recording] = []
    left_out = []
    for one in tqdm(listed, desc="embedding", unit="recording", disable=not settings.progress):
        try:
            recording = reader.read(one, recordings)
        except (CheckpointError, DeviceError, LabelError):  # not the fault of this recording
            raise
        except Exception as error:  # one damaged file of hundreds must not stop the others, whatever is wrong with it
            left_out.append(one.refusal(error))
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


@dataclass(frozen=True)
class _Reader:
    """How each recording is read: the arguments of `read_cohort`, and by signal the checkpoints loaded so far."""

    rule: LabelRule | LabelTable
    settings: EmbeddingSettings
    checkpoints: dict[str, Checkpoint]
    reading: dict
    cache: Path | None
    baselines: bool
    control: bool
    depth: str | None

    def read(self, one: Listed, before: list[_Recording]) -> _Recording:
        """Read, label and embed a recording; `before` are those that could be used.

        Raises whatever is wrong with it; a LabelError where something is wrong with the labels of all.
        """
        population = read_population(one.source, **one.reading(self.reading))
        animal = _animal(one, population)
        positions = _positions(population, self.depth, one.name) if self.depth else None
        labels = self.rule.labels_of(population, one.name)
        if not (labels != "").any():
            raise InputError(f"{one.name}: no unit has a usable label ({self.rule.name})")
        if before and population.signal != before[0].signal:
            raise InputError(f"{one.name}: holds {population.signal}, {before[0].name} holds {before[0].signal}")
        check_classes([*(recording.labels for recording in before), labels], self.rule.name, more=True)
        files: dict[Path, UnitEmbeddings | BaselineFeatures] = {}
        embeddings = self._embedded(population, self._path(one), files)
        others = self._features(population, self._path(one, ".features"), files) if self.baselines else {}
        if self.control:
            name, make = CONTROLS[population.signal]
            path = self._path(one, f".{name.partition(' ')[0]}")
            others[f"embedding of {name}"] = self._embedded(population, path, files, make).embedding
        return _Recording(
            one.name, animal, population.signal, embeddings, labels, population.group, positions, others, files
        )

    def _path(self, one: Listed, what: str = "") -> Path | None:
        return self.cache and self.cache / f"{one.key}{what}.npz"

    def _embedded(self, population: Population, path: Path | None, files: dict, control=None) -> UnitEmbeddings:
        """The embeddings in the file where they are up to date, else new ones, which are put among the `files`.

        Of the population, or of its control, which the function `control` makes: slowly, so only to embed it.
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
        embedded = control(population) if control else population
        embeddings = self.settings.embed(embedded, checkpoint, progress=False)
        embeddings = dataclasses.replace(embeddings, provenance=embeddings.provenance.replace(**origin))
        if path:
            files[path] = embeddings
        return embeddings

    def _features(self, population: Population, path: Path | None, files: dict) -> dict[str, np.ndarray]:
        """The features of the baselines in the file where they are up to date, else new ones, as `_embedded`."""
        existing = _stored_features(path) if path else None
        if existing is not None and existing.provenance == BaselineFeatures.provenance_of(population):
            return dict(existing.features)
        found = BaselineFeatures.compute(population)
        if path:
            files[path] = found
        return dict(found.features)


def _animal(one: Listed, population: Population) -> str:
    animal = (one.animal or str(population.metadata.get("subject") or "")).strip()
    if not animal:
        raise InputError(f"{one.name}: names no subject: give a manifest with a column animal")
    return animal


def _positions(population: Population, depth: str, name: str) -> np.ndarray:
    """The property with each unit's position, as numbers."""
    values = unit_property(population, depth, name)
    try:
        return values.astype(np.float64)
    except (ValueError, TypeError):
        raise InputError(f"{name}: its property {depth!r} holds no numbers: name one in µm") from None


def _stored_features(path: Path) -> BaselineFeatures | None:
    """The features in a file, if there are any."""
    try:
        return BaselineFeatures.load(path)
    except InputError:
        return None
