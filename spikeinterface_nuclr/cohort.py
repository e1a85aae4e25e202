"""Cohort: labelled recordings of several animals, embedded, for decoders to be fitted to and scored on."""

import csv
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from .checkpoint import Checkpoint, load_checkpoint
from .commands import Settings, how_different, stored_embeddings
from .decoding.baselines import baseline_features
from .decoding.controls import CONTROLS
from .decoding.labels import as_labels, check_classes, warn_of_similar
from .decoding.regions import roll_up
from .embedding import embed
from .errors import InputError, reading
from .population import Population
from .sources import read_population
from .sources.listing import list_sources
from .unit_embeddings import UnitEmbeddings


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
    positions : list of arrays, shape (n_units,); or None
        Where each unit lies in µm, where that was asked for.
    others : dict of str to list of float arrays, shape (n_units, dim)
        What stands beside the embeddings of each recording, by its name: baselines, and embeddings of its control
        (`CONTROLS`); empty where that was not asked for.
    """

    names: list[str]
    animals: list[str]
    embeddings: list[UnitEmbeddings]
    labels: list[np.ndarray]
    probes: list[np.ndarray]
    positions: list[np.ndarray] | None
    others: dict[str, list[np.ndarray]]


@dataclass(frozen=True)
class LabelRule:
    """How labels come from a property of the units.

    Attributes
    ----------
    column : str
        The property.
    level : str
        As of `roll_up`; empty for labels that are no Allen acronyms.
    classes : dict of str to str
        Label -> class; what is not in it has none. Empty: labels are classes.
    """

    column: str
    level: str = ""
    classes: dict[str, str] = dataclasses.field(default_factory=dict)

    def labels_of(self, population: Population, name: str) -> np.ndarray:
        """The class of each unit: text, "" where there is none."""
        labels, _ = as_labels(unit_property(population, self.column, name), f"{name}: {self.column!r}")
        if self.level:
            labels = roll_up(labels, self.level)
        return np.array([self.classes.get(label, "") for label in labels], dtype=str) if self.classes else labels


def unit_property(population: Population, column: str, name: str) -> np.ndarray:
    """A property of the units; InputError that begins with the recording's name where there is none."""
    if column not in population.properties:
        known = ", ".join(population.properties) or "none at all"
        raise InputError(f"{name}: its units have no property {column!r}; they have: {known}")
    return population.properties[column]


def read_classes(path: Path) -> dict[str, str]:
    """The classes of labels, from a CSV file with the columns ``label`` and ``class``."""
    with (
        reading(path, "CSV file", "it needs the columns label and class"),
        open(path, newline="", encoding="utf-8-sig") as file,
    ):
        rows = list(csv.DictReader(file))
        classes = {row["label"].strip(): (row["class"] or "").strip() for row in rows}
    if not classes or not all(classes.values()):
        raise InputError(f"{path}: each label needs a class, and there must be one: columns label and class")
    return classes


def read_cohort(
    sources, rule: LabelRule, settings: Settings, *, group_by: str | None = "group", cache: Path | None = None,
    beside: bool = False, control: bool = False, depth: str | None = None, **keywords,
) -> Cohort:  # fmt: skip
    """Read, label and embed every recording that `sources` names, one after another.

    Parameters
    ----------
    sources
        As `list_sources`.
    rule : LabelRule
    settings : Settings
        How to embed.
    group_by : str or None
        As `read_population`.
    cache : Path, optional
        A folder for the embeddings: those that are up to date there are not computed again.
    beside : bool
        Compute the baselines of each recording.
    control : bool
        Embed each recording's control (`CONTROLS`).
    depth : str, optional
        Property with each unit's position.
    **keywords
        Of `read_population`.

    Raises
    ------
    InputError
        A recording cannot be read, has no such property, or names no subject; or the labels are no classes.

    Warns
    -----
    RecordingWarning
        Names of two animals differ by case or blanks only.
    """
    listed = list_sources(sources)
    if not listed:
        raise InputError("no recording is named: the manifest is empty")

    def read(one) -> Population:
        return read_population(one.source, group_by=None if one.probe else group_by, **keywords)

    # All are looked at before the first is embedded, which takes long. None is kept: there may be hundreds.
    facts = [_facts(one, read(one), rule, depth) for one in listed]
    animals, labels, signals = zip(*facts, strict=True)
    if len(set(signals)) > 1:
        raise InputError("some recordings hold spikes and some traces: one model cannot embed both, so name one kind")
    check_classes(labels, repr(rule.column))
    warn_of_similar(animals)
    checkpoint = load_checkpoint(settings.model, signal=signals[0])
    cohort = Cohort([one.name for one in listed], list(animals), [], [], [], [] if depth else None, {})

    def add(one, population: Population) -> None:
        cohort.labels.append(rule.labels_of(population, one.name))
        cohort.probes.append(population.group)
        cohort.embeddings.append(_embedded(population, checkpoint, settings, cache and cache / f"{one.key}.npz"))
        if depth:
            cohort.positions.append(unit_property(population, depth, one.name))
        others = baseline_features(population) if beside else {}
        if control:
            name, made = CONTROLS[population.signal]
            path = cache and cache / f"{one.key}.{name.partition(' ')[0]}.npz"
            others[f"embedding of {name}"] = _embedded(made(population), checkpoint, settings, path).embedding
        for name, rows in others.items():
            cohort.others.setdefault(name, []).append(rows)

    for one in tqdm(listed, desc="embedding", unit="recording", disable=not settings.progress):
        add(one, read(one))
    return cohort


def _facts(one, population: Population, rule: LabelRule, depth: str | None) -> tuple[str, np.ndarray, str]:
    """Animal, labels and signal of a recording."""
    if depth:
        unit_property(population, depth, one.name)
    return _animal(one, population), rule.labels_of(population, one.name), population.signal


def _animal(one, population: Population) -> str:
    animal = (one.animal or str(population.metadata.get("subject") or "")).strip()
    if not animal:
        raise InputError(f"{one.name}: names no subject: give a manifest with a column animal")
    return animal


def _embedded(population: Population, checkpoint: Checkpoint, settings: Settings, path: Path | None) -> UnitEmbeddings:
    """The embeddings in the file where they are up to date, else new ones, which are saved there."""
    existing = stored_embeddings(path) if path else None
    same = existing is not None and existing.provenance.get("population_fingerprint") == population.fingerprint()
    if same and not how_different(existing.provenance, population, checkpoint, settings):
        return existing
    found = embed(population, **{**dataclasses.asdict(settings), "model": checkpoint, "progress": False})
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        found.save(path, overwrite=True)
    return found
