"""From recordings to evidence: reading them, embedding them whole and in halves, and keeping what was computed."""

import dataclasses
import hashlib
import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..decoding.label_sources import unit_property
from ..decoding.labels import as_labels
from ..embedding import EmbeddingSettings, expected_provenance
from ..errors import DeviceError, InputError, RecordingWarning
from ..intervals import alternating, union
from ..io import kind_of, read_population
from ..io.nwb.session import read_session
from ..io.spikeinterface import load_spikeinterface
from ..io.where import selects
from ..model.checkpoint import Checkpoint
from ..model.loading import load_checkpoint
from ..population import Population
from ..provenance import Provenance
from ..unit_embeddings import UnitEmbeddings
from .cache import Cache
from .evidence import Evidence, GroupEvidence, RecordingEvidence, correlations

_PARTS = ("whole", "first", "second")


@dataclass
class EvidenceReader:
    """Reads the evidence of one recording after another, all with one model for each signal.

    Attributes
    ----------
    settings : EmbeddingSettings
    reading : dict
        Keywords of `read_population`.
    cache : Cache
    progress : bool
        Whether to show how far each embedding is.
    checkpoints : dict of str to Checkpoint
        Those loaded so far, by signal.
    """

    settings: EmbeddingSettings
    reading: dict
    cache: Cache
    progress: bool = False
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)

    def read(self, source, name: str, *, neurons=None, probe: str = "") -> RecordingEvidence:
        """The evidence of a recording: a source of `read_population`, or UnitEmbeddings, or the ``.npz`` of these.

        `neurons` are the name of each unit's neuron, or the property that holds them. With `probe`, all units are of
        this one.
        """
        evidence, population = self._read(source, name, probe)
        evidence = dataclasses.replace(evidence, probe=probe)
        if neurons is None:
            return evidence
        return dataclasses.replace(evidence, neurons=neuron_names(neurons, evidence.unit_ids, population, name))

    def _read(self, source, name: str, probe: str) -> tuple[RecordingEvidence, Population | None]:
        """The evidence of a recording, and its units; None for embeddings."""
        if not isinstance(source, UnitEmbeddings) and Path(str(source)).suffix == ".npz":
            source = UnitEmbeddings.load(source)
        if isinstance(source, UnitEmbeddings):
            return _of_embeddings(source, name), None
        population, stored = self._population(source, {"group_by": None} if probe else {})
        checkpoint = self._checkpoint(population.signal)
        expected = expected_provenance(population, checkpoint, self.settings)

        def compute() -> dict[str, np.ndarray]:
            current = (e for e in stored if e.provenance.embeds(population) and not e.provenance.difference(expected))
            embeddings = next(current, None) or self.settings.embed(population, checkpoint, progress=self.progress)
            return _to_arrays(embeddings, self._groups(population, embeddings, checkpoint))

        key = _key(expected)
        arrays = self.cache.arrays("evidence", key, compute)
        source_facts = {k: value for k, value in population.metadata.items() if isinstance(value, str | int | float)}
        evidence = RecordingEvidence(
            name, population.unit_ids, arrays["embedding"], _from_arrays(arrays), population.fingerprint(),
            population.signal, checkpoint.sha256, key, source_facts,
        )  # fmt: skip
        return evidence, population

    def _population(self, source, changes: dict) -> tuple[Population, list[UnitEmbeddings]]:
        """The units of a source, read with these keywords changed, and the embeddings that are stored with them."""
        reading = {**self.reading, **changes}
        if isinstance(source, str | Path) and not Path(source).exists():
            raise InputError(f"{source}: no such file or folder")
        if isinstance(source, str | Path) and kind_of(source) == "nwb" and not selects(reading):
            session = read_session(Path(source), **reading)
            return session.population, [t.embeddings for k, t in session.tables.items() if not session.outdated[k]]
        if isinstance(source, str | Path) and kind_of(source) == "analyzer":
            source = load_spikeinterface(Path(source))
        population = read_population(source, **reading)
        extension = source.get_extension("nuclr_embedding") if hasattr(source, "get_extension") else None
        stored = [] if extension is None or extension.stale else [extension.get_embeddings(warn=False)]
        return population, stored

    def _checkpoint(self, signal: str) -> Checkpoint:
        if signal not in self.checkpoints:
            self.checkpoints[signal] = load_checkpoint(self.settings.model, signal=signal)
        return self.checkpoints[signal]

    def _groups(
        self, population: Population, embeddings: UnitEmbeddings, checkpoint: Checkpoint
    ) -> dict[str, GroupEvidence]:
        halves = self._halves(population, checkpoint)
        groups = {}
        for label, units in population.groups():
            units = units[np.isfinite(embeddings.embedding[units]).all(axis=1)]
            whole = Evidence(embeddings.embedding[units], correlations(population, units))
            pair = None
            if halves is not None:
                both = units[np.all([np.isfinite(half.embedding[units]).all(axis=1) for _, half in halves], axis=0)]
                pair = tuple(Evidence(half.embedding[both], correlations(part, both)) for part, half in halves)
            groups[label] = GroupEvidence(units, whole, pair, units[:0] if halves is None else both)
        return groups

    def _halves(self, population: Population, checkpoint: Checkpoint):
        """Halves of a recording of alternating blocks, and their embeddings; None if they hold no window."""
        parts = halves_of(population, checkpoint.config.layout.of(population.sampling_frequency).window_s)
        if parts is None:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RecordingWarning)  # the same as of the whole recording
            try:
                return [(part, self.settings.embed(part, checkpoint, progress=self.progress)) for part in parts]
            except DeviceError:
                raise
            except InputError:
                return None


def halves_of(population: Population, block_s: float) -> list[Population] | None:
    """Halves of a recording, of alternating blocks of its observed time; None if it is shorter than two blocks."""
    intervals = union(np.concatenate(population.observed_sets(range(population.n_units))[0]))
    blocks = alternating(intervals, block_s)
    return [population.within(half) for half in blocks] if all(map(len, blocks)) else None


def neuron_names(neurons, unit_ids: np.ndarray, population: Population | None, name: str) -> np.ndarray:
    """The name of each unit's neuron, str (n_units,), empty where it is not known, from an array or a property."""
    if isinstance(neurons, str):
        if population is None:
            raise InputError(f"truth: {neurons!r}: embeddings have no properties: give the recordings, or names")
        neurons = unit_property(population, neurons, name)
    names, _ = as_labels(neurons, f"truth: {name}")
    if len(names) != len(unit_ids):
        raise InputError(f"truth: {name} has {len(unit_ids)} units, not {len(names)}")
    unique, counts = np.unique(names[names != ""], return_counts=True)
    if (counts > 1).any():
        raise InputError(f"truth: {name}: two units are called {unique[counts > 1][0]}: a neuron is one unit of it")
    return names


def _of_embeddings(embeddings: UnitEmbeddings, name: str) -> RecordingEvidence:
    """Evidence of embeddings alone: one group, without correlations or halves."""
    units = np.flatnonzero(np.isfinite(embeddings.embedding).all(axis=1))
    whole = Evidence(embeddings.embedding[units], np.zeros((0, len(units), len(units)), dtype=np.float32))
    provenance = embeddings.provenance
    return RecordingEvidence(
        name, embeddings.unit_ids, embeddings.embedding, {"": GroupEvidence(units, whole, None, units[:0])},
        provenance.population_fingerprint or "", provenance.signal, provenance.checkpoint_sha256 or "",
        [hashlib.sha256(np.ascontiguousarray(embeddings.embedding)).hexdigest()], dict(provenance.source),
    )  # fmt: skip


def _key(expected: Provenance) -> list:
    """All that decides the evidence, as values for JSON."""
    names = (
        "checkpoint_sha256", "precision", "overlap", "min_spikes", "skip_silence", "population_fingerprint",
        "context_fingerprint",
    )  # fmt: skip
    return [getattr(expected, name) for name in names]


def _to_arrays(embeddings: UnitEmbeddings, groups: dict[str, GroupEvidence]) -> dict[str, np.ndarray]:
    """The evidence as arrays to keep."""
    about = {"groups": list(groups), "halves": [group.halves is not None for group in groups.values()]}
    arrays = {"about": np.array(json.dumps(about)), "embedding": embeddings.embedding}
    for k, group in enumerate(groups.values()):
        arrays |= {f"units_{k}": group.units, f"halved_{k}": group.halved}
        for part, one in zip(_PARTS, (group.whole, *(group.halves or ())), strict=False):
            arrays |= {f"{part}_{k}_embedding": one.embedding, f"{part}_{k}_correlations": one.correlations}
    return arrays


def _from_arrays(arrays: dict[str, np.ndarray]) -> dict[str, GroupEvidence]:
    """Inverse of `_to_arrays`, for the groups."""
    about, groups = json.loads(str(arrays["about"])), {}
    for k, (label, halved) in enumerate(zip(about["groups"], about["halves"], strict=True)):
        whole, *halves = (
            Evidence(arrays[f"{part}_{k}_embedding"], arrays[f"{part}_{k}_correlations"])
            for part in (_PARTS if halved else _PARTS[:1])
        )
        groups[str(label)] = GroupEvidence(
            arrays[f"units_{k}"], whole, tuple(halves) if halved else None, arrays[f"halved_{k}"]
        )
    return groups
