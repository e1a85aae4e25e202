"""Provenance: what embeddings were computed from, and whether they would come out the same now."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from .errors import InputError
from .population import Population

# What the source of imaged neurons states about how it was read: the keywords of `read_population`.
READING = ("series", "traces", "keep_rejected")


@dataclass(frozen=True)
class Provenance:
    """What embeddings were computed from. None, or empty, where a value is unknown or does not apply.

    Attributes
    ----------
    checkpoint, checkpoint_revision, checkpoint_sha256 : str
        Name of the checkpoint, its revision on the Hub, and its identity (`Checkpoint.sha256`).
    device, precision : str
    overlap : float
    min_spikes : int
    skip_silence : bool
        As of `embed`.
    frame_rate, resampled_to : float
        Frames per second of the traces, as recorded and as embedded.
    signal : {"spikes", "traces"}
    window_s : float
        Length of a window in seconds.
    windows : int
    observed_s, used_s : float
        Observed seconds, and the part of them in which windows fit.
    stitched : str
        What windows were stitched from; empty where they are contiguous.
    units : int
    groups : dict of str to int
        Units of each group that was embedded on its own.
    population_fingerprint, context_fingerprint : str
        As of `Population`.
    units_fingerprint : str
        Fingerprint of the units beside which the embeddings are stored, at the time when they were stored.
    source : dict
        The population's metadata.
    model : dict
        Of the checkpoint: ``config``, ``license`` and ``training_data``.
    versions : dict of str to str
    stale : str
        Why the embeddings are known not to be those of the units that they are stored beside.
    context : str
        Which units were embedded together, where some of them were removed afterwards.
    matched_by : str
        Column of an NWB table by which units were matched to its rows.
    file : dict
        Identifiers of the NWB file and of the table that holds the neurons.
    read_as : dict
        Keywords of `read_population` by which the neurons of that file are read.
    control_of, control_version
        Fingerprint of the population whose control (`decoding.baselines.CONTROLS`) was embedded.
    other : dict
        What another version of this package has recorded.
    """

    checkpoint: str | None = None
    checkpoint_revision: str | None = None
    checkpoint_sha256: str | None = None
    device: str | None = None
    precision: str | None = None
    overlap: float | None = None
    min_spikes: int | None = None
    skip_silence: bool | None = None
    frame_rate: float | None = None
    resampled_to: float | None = None
    signal: str | None = None
    window_s: float | None = None
    windows: int | None = None
    observed_s: float | None = None
    used_s: float | None = None
    stitched: str | None = None
    units: int | None = None
    groups: dict | None = None
    population_fingerprint: str | None = None
    context_fingerprint: str | None = None
    source: dict = field(default_factory=dict)
    model: dict | None = None
    versions: dict | None = None
    units_fingerprint: str | None = None
    stale: str | None = None
    context: str | None = None
    matched_by: str | None = None
    file: dict | None = None
    read_as: dict | None = None
    control_of: str | None = None
    control_version: int | None = None
    other: dict = field(default_factory=dict)

    def __post_init__(self):
        for one in dataclasses.fields(self):
            value, number = getattr(self, one.name), isinstance(0.0, one.type)
            if not (isinstance(value, one.type) or (number and isinstance(value, int))):
                raise InputError(f"provenance: {one.name} cannot be a {type(value).__name__}")

    @classmethod
    def from_dict(cls, values) -> "Provenance":
        """The provenance in a plain dict, as `to_dict` gives it; InputError where a value has another type."""
        if not isinstance(values, dict):
            raise InputError(f"provenance must be a dict, not {type(values).__name__}")
        names = {one.name for one in dataclasses.fields(cls)} - {"other"}
        other = {name: value for name, value in values.items() if name not in names}
        return cls(**{name: value for name, value in values.items() if name in names}, other=other)

    def to_dict(self) -> dict:
        """Plain values for JSON, without those that are unknown."""
        values = {one.name: getattr(self, one.name) for one in dataclasses.fields(self) if one.name != "other"}
        return {**{name: value for name, value in values.items() if value is not None}, **self.other}

    def replace(self, **changes) -> "Provenance":
        """A copy with other values."""
        return dataclasses.replace(self, **changes)

    @property
    def subject(self) -> str:
        """The animal, as the source names it; empty where it does not."""
        return str(self.source.get("subject") or "").strip()

    @property
    def reading(self) -> dict:
        """Keywords of `read_population` by which the embedded neurons of an NWB file are read; empty for units."""
        values = self.read_as or (self.source if self.signal == "traces" else {})
        return {key: values[key] for key in READING if "series" in values and key in values}

    def outdated(self, fingerprint: str) -> str:
        """Why the embeddings do not belong to units of this fingerprint; empty where they do."""
        if self.stale:
            return self.stale
        if fingerprint != (self.units_fingerprint or self.population_fingerprint):
            what = "neurons' traces" if self.signal == "traces" else "units' spikes"
            return f"the {what} have changed since they were embedded"
        return ""

    def states(self, values: dict) -> bool:
        """Whether these attributes have these values."""
        return all(getattr(self, name) == value for name, value in values.items())

    def embeds(self, population: Population) -> bool:
        """Whether exactly this population was embedded."""
        return self.population_fingerprint == population.fingerprint()

    def difference(self, wanted: "Provenance", *, spikes_changed: bool = False) -> str:
        """How the embeddings differ from those that `wanted` asks for; empty where they would come out the same.

        The device makes no difference, nor does a precision that is not asked for. Where the spikes have changed since,
        groups and observed times are not compared, as they change with the spikes.

        Parameters
        ----------
        wanted : Provenance
            As `embedding.expected_provenance` gives it.
        spikes_changed : bool, default: False
        """
        if self.checkpoint_sha256 != wanted.checkpoint_sha256:
            return "another model"
        names = ["overlap", "min_spikes", "skip_silence", *(["precision"] if wanted.precision else [])]
        pairs = {name: (getattr(self, name), getattr(wanted, name)) for name in names}
        if wanted.signal == "traces":
            pairs |= {name: (self.source.get(name), wanted.source.get(name)) for name in READING}
        for name, (existing, asked) in pairs.items():
            if existing != asked:
                return f"{name} {existing} there, {asked} asked for"
        if not spikes_changed and self.context_fingerprint != wanted.context_fingerprint:
            return "other groups or observed times"
        return ""

    def same_embeddings(self, other: "Provenance") -> bool:
        """Whether the same model embedded the same population."""
        names = ("checkpoint_sha256", "population_fingerprint")
        return self.states({name: getattr(other, name) for name in names})

    def predicts(self, prediction: dict) -> bool:
        """Whether identities of this provenance were predicted from the embeddings."""
        read = prediction.get("checkpoint_sha256", [])
        models = [read] if isinstance(read, str) else read
        return (
            prediction.get("population_fingerprint") == self.population_fingerprint and self.checkpoint_sha256 in models
        )

    def portable(self) -> "Provenance":
        """A copy with names of files in place of their paths, which are private or meaningless elsewhere."""
        source = dict(self.source)
        if isinstance(source.get("source"), str):
            source["source"] = Path(source["source"]).name
        checkpoint = self.checkpoint or ""
        return self.replace(
            checkpoint=checkpoint if checkpoint.startswith("hf://") else Path(checkpoint).name, source=source
        )
