"""Cohort: labelled recordings of several animals, embedded, for decoders to be fitted to and scored on."""

import csv
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from .checkpoint import Checkpoint, load_checkpoint
from .commands import Settings, how_different
from .decoding.controls import CONTROLS
from .decoding.labelled import as_labels
from .decoding.regions import roll_up
from .embedding import embed
from .errors import InputError
from .population import Population
from .sources import read_population
from .sources.listing import list_sources
from .unit_embeddings import UnitEmbeddings


@dataclass(frozen=True, eq=False)
class Cohort:
    """Recordings, one entry each.

    Attributes
    ----------
    names, animals : list of str
    populations : list of Population
    embeddings : list of UnitEmbeddings
    labels : list of array, shape (n_units,)
    controls : dict of str to list of float arrays, shape (n_units, dim)
        Embeddings of each recording's control (`CONTROLS`), by its name; empty where it was not asked for.
    """

    names: list[str]
    animals: list[str]
    populations: list[Population]
    embeddings: list[UnitEmbeddings]
    labels: list[np.ndarray]
    controls: dict[str, list[np.ndarray]]


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
        """The label of each unit: float64, or text, "" where there is none."""
        labels, _ = as_labels(unit_property(population, self.column, name))
        if labels.dtype.kind == "f":
            if self.level or self.classes:
                raise InputError(f"{name}: {self.column!r} holds numbers: levels and classes are of labels")
            return labels
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
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            classes = {row["label"]: row["class"] for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise InputError(f"{path}: not a readable CSV file with the columns label and class ({error})") from None
    if not classes or not all(classes.values()):
        raise InputError(f"{path}: each label needs a class, and there must be one: columns label and class")
    return classes


def read_cohort(
    sources, rule: LabelRule, settings: Settings, *, group_by: str | None = "group", cache: Path | None = None,
    control: bool = False, **reading,
) -> Cohort:  # fmt: skip
    """Read, label and embed every recording that `sources` names.

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
    control : bool
        Embed each recording's control (`CONTROLS`) too.
    **reading
        Further keywords of `read_population`.

    Raises
    ------
    InputError
        A recording cannot be read, has no such property, or names no subject; or none has a label.
    """
    listed = list_sources(sources)
    if not listed:
        raise InputError("no recording is named: the manifest is empty")
    # All labels before the first embedding, which takes long.
    populations, animals, labels = [], [], []
    for one in listed:
        population = read_population(one.source, group_by=None if one.probe else group_by, **reading)
        animal = one.animal or str(population.metadata.get("subject") or "")
        if not animal:
            raise InputError(f"{one.name}: names no subject: give a manifest with a column animal")
        populations.append(population)
        animals.append(animal)
        labels.append(rule.labels_of(population, one.name))
    checkpoint = load_checkpoint(settings.model, signal=populations[0].signal)
    embeddings, controls = [], {}
    pairs = list(zip(listed, populations, strict=True))
    for one, population in tqdm(pairs, desc="embedding", unit="recording", disable=not settings.progress):
        embeddings.append(_embedded(population, checkpoint, settings, cache and cache / f"{one.key}.npz"))
        if control:
            name, made = CONTROLS[population.signal]
            path = cache and cache / f"{one.key}.{name.partition(' ')[0]}.npz"
            found = _embedded(made(population), checkpoint, settings, path)
            controls.setdefault(f"embedding of {name}", []).append(found.embedding)
    return Cohort([one.name for one in listed], animals, populations, embeddings, labels, controls)


def _embedded(population: Population, checkpoint: Checkpoint, settings: Settings, path: Path | None) -> UnitEmbeddings:
    """The embeddings in the file where they are up to date, else new ones, which are saved there."""
    if path and path.exists():
        found = UnitEmbeddings.load(path)
        same = found.provenance.get("population_fingerprint") == population.fingerprint()
        if same and not how_different(found.provenance, population, checkpoint, settings):
            return found
    found = embed(population, **{**dataclasses.asdict(settings), "model": checkpoint, "progress": False})
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        found.save(path, overwrite=True)
    return found
