"""What is stored with a recording, and what a decoder reads from it; whether a result would come out the same now."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import typer

from ..errors import CheckpointError, InputError


@dataclass(frozen=True, eq=False)
class Stored:
    """Embeddings that are stored with a recording, and what was predicted from them."""

    name: str
    embeddings: object
    predictions: list = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Recording:
    """A recording that was read.

    Attributes
    ----------
    population : Population
    stored : list of Stored
        Those that are of all its present units.
    session : Session or None
        An NWB file's content.
    """

    population: object
    stored: list[Stored]
    session: object = None


def same_units(a, b) -> bool:
    """Whether two populations have the same spikes, groups and observed times."""
    return a.fingerprint() == b.fingerprint() and a.context_fingerprint() == b.context_fingerprint()


def read_recording(source: Path, reading: dict, embeddings: Path | None = None) -> Recording:
    """Read the units of a source, and what is stored with them, or else their embeddings in a file.

    Nothing is stored of parts of a recording. InputError if the file holds embeddings of other units.
    """
    recording = _read(source, reading)
    return recording if embeddings is None else replace(recording, stored=[_in_file(embeddings, recording.population)])


def _in_file(path: Path, population) -> Stored:
    """The embeddings of these units in a file."""
    from ..unit_embeddings import UnitEmbeddings

    embeddings = UnitEmbeddings.load(path)
    provenance = embeddings.provenance
    if not provenance.embeds(population) or provenance.context_fingerprint != population.context_fingerprint():
        source = population.metadata.get("source", "the recording")
        raise InputError(f"{path}: are not the embeddings of {source}, as it is read now: embed it again")
    return Stored(path.name, embeddings)


def _read(source: Path, reading: dict) -> Recording:
    from ..io import kind_of, read_population
    from ..io.where import selects

    kind = "part" if selects(reading) else kind_of(source)
    if kind == "nwb":
        return _session(source, reading)
    if kind == "analyzer":
        return _analyzer(source, reading)
    return Recording(read_population(source, **reading), [])


def _session(source: Path, reading: dict) -> Recording:
    from ..io.nwb.session import read_session

    session = read_session(source, **reading)
    population = session.population
    stored = [
        Stored(name, table.embeddings, list(table.predictions))
        for name, table in session.tables.items()
        if not session.outdated[name] and len(table.rows) == population.n_units
    ]
    return Recording(population, stored, session)


def _analyzer(source: Path, reading: dict) -> Recording:
    from ..extensions import computed_embedding, computed_estimate, computed_identity
    from ..io import read_population
    from ..io.spikeinterface import load_spikeinterface

    analyzer = load_spikeinterface(source)
    population, extension = read_population(analyzer, **reading), computed_embedding(analyzer)
    if not extension or extension.stale:
        return Recording(population, [])
    predicted = [computed(analyzer) for computed in (computed_identity, computed_estimate)]
    predictions = [one.get_prediction(warn=False) for one in predicted if one and not one.stale]
    return Recording(population, [Stored("nuclr_embedding", extension.get_embeddings(warn=False), predictions)])


def decoder_of(name: str):
    """The decoder of labels of this name; a usage error for one of numbers."""
    from ..decoding.decoder import Decoder
    from ..decoding.loading import load_predictor

    fitted = load_predictor(name)
    if not isinstance(fitted, Decoder):
        raise typer.BadParameter(f"{name}: predicts numbers: give a decoder of labels")
    return fitted


def model_of(fitted, model):
    """The checkpoint that a decoder was fitted with, found by its name or by `model`."""
    from ..model.loading import load_checkpoint

    if len(fitted.checkpoints) > 1:
        raise InputError(f"{fitted.name}: averages several checkpoints: use its predict in Python")
    [sha256] = fitted.checkpoints
    name = model or fitted.card.get("checkpoints", {}).get(sha256)
    try:
        return load_checkpoint(name, sha256=sha256)
    except CheckpointError as error:
        raise CheckpointError(f"{fitted.name}: needs the model that it was fitted with (--model): {error}") from None


class PredictionReader:
    """A decoder or regressor, and how it is to predict: `settings` are a keyword of its `predict`."""

    def __init__(self, fitted, name: str, target_error: float | None, coverage: float | None):
        from ..decoding.regressor import Regressor
        from ..predictions import check_coverage, check_target_error

        self.fitted, self.name = fitted, name
        self.numbers = isinstance(fitted, Regressor)
        wrong = target_error if self.numbers else coverage
        if wrong is not None:
            kind, options = ("numbers", "--coverage") if self.numbers else ("labels", "--target-error")
            raise typer.BadParameter(f"{name}: predicts {kind}, which take {options}")
        if self.numbers:
            self.settings = {"coverage": 0.9 if coverage is None else coverage}
            check_coverage(self.settings["coverage"])
        else:
            self.settings = {"target_error": 0.1 if target_error is None else target_error}
            check_target_error(self.settings["target_error"])

    def accepts(self, embeddings) -> bool:
        """Whether embeddings are of the model that the decoder was fitted with."""
        return embeddings.provenance.checkpoint_sha256 in self.fitted.checkpoints

    def stored(self, recording: Recording) -> Stored | None:
        """What is stored with a recording that the decoder can read."""
        return next((one for one in recording.stored if self.accepts(one.embeddings)), None)

    def embeddings_of(self, recording: Recording, settings, *, given: Path | None = None):
        """Embeddings of a recording for the decoder: stored ones, or new ones; InputError if the `given` do not fit."""
        stored = self.stored(recording)
        if stored is None and given is not None:
            raise InputError(f"{given}: are of another model than the decoder {self.name} reads: embed with that model")
        if stored is not None:
            return stored.embeddings
        return settings.embed(recording.population, model_of(self.fitted, settings.model))

    def predict(self, embeddings, population):
        """What it reads from the embeddings of a population."""
        return self.fitted.predict(embeddings, **self.settings, **self._places(population, embeddings.unit_ids))

    def _places(self, population, unit_ids) -> dict:
        """Positions and probes of these units, for a decoder that averages over neighbours."""
        from ..decoding.label_sources import unit_property

        if self.numbers or not self.fitted.neighbours:
            return {}
        name = str(self.fitted.card.get("position", "depth"))
        positions = unit_property(population, name, str(population.metadata.get("source", "the recording")))
        row = {str(unit): k for k, unit in enumerate(population.unit_ids.tolist())}
        rows = [row[str(unit)] for unit in unit_ids.tolist()]
        return {"positions": positions[rows], "probes": population.group[rows]}

    def would_repeat(self, provenance: dict, recording: Recording) -> bool:
        """Whether a prediction with this provenance, of these units, would come out the same."""
        population = recording.population
        return self.made(provenance, **self._places(population, population.unit_ids))

    def made(self, provenance: dict, **places) -> bool:
        """Whether a prediction with this provenance is this decoder's, with these settings and places of units."""
        expected = self.fitted.settings_of(**self.settings, **places)
        return all(provenance.get(name) == value for name, value in expected.items())

    def is_current(self, provenances, recording: Recording, settings) -> bool:
        """Whether a result in a file would come out the same now.

        Parameters
        ----------
        provenances : tuple of (dict, dict) or None
            Of the embeddings and of the prediction that the result was made of; None where there is none.
        recording : Recording
        settings : EmbeddingSettings
        """
        if provenances is None or not provenances[1]:
            return False
        stored = self.stored(recording)
        if stored is None:
            settings = replace(settings, model=model_of(self.fitted, settings.model))
        same = would_repeat(provenances[0], recording.population, stored, settings)
        return same and self.would_repeat(provenances[1], recording)


def would_repeat(provenance: dict, population, stored: Stored | None, settings) -> bool:
    """Whether embeddings with this provenance are those that are stored with a recording, or else would be computed."""
    from ..embedding import expected_provenance
    from ..model.loading import load_checkpoint
    from ..provenance import Provenance

    try:
        found = Provenance.from_dict(provenance)
    except InputError:
        return False
    if stored is not None:
        expected = stored.embeddings.provenance
    else:
        expected = expected_provenance(population, load_checkpoint(settings.model, signal=population.signal), settings)
    return found.population_fingerprint == expected.population_fingerprint and not found.difference(expected)
