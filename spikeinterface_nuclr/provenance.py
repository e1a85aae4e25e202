"""Provenance: what embeddings were computed from, and whether they are up to date."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from .errors import InputError
from .population import Population

# Keywords of `read_population` that the metadata of imaged neurons records.
READING = ("series", "traces", "keep_rejected")


@dataclass(frozen=True)
class Provenance:
    """What embeddings were computed from. A value is None or empty if it is unknown or does not apply.

    Attributes
    ----------
    checkpoint, checkpoint_revision, checkpoint_sha256 : str
        Name of the checkpoint, its revision on the Hub, and its identity (`Checkpoint.sha256`).
    device, precision : str
    overlap : float
    min_spikes : int
    skip_silence : bool
        As in `embed`.
    frame_rate, resampled_to : float
        Frames per second of the traces, as recorded and as embedded.
    signal : {"spikes", "traces"}
    window_s : float
        Length of a window in seconds.
    windows : int
    observed_s, used_s : float
        Observed seconds, and the part of them in which windows fit.
    stitched : str
        As in `Timeline`; empty where windows are contiguous.
    units : int
        Number of units.
    groups : dict of str to int
        Number of units of each group; groups are embedded separately.
    population_fingerprint, context_fingerprint : str
        As in `Population`.
    units_fingerprint : str
        Fingerprint of the units with which the embeddings are stored, at the time of storing.
    source : dict
        The population's metadata.
    model : dict
        ``config``, ``license`` and ``training_data`` of the checkpoint.
    versions : dict of str to str
        Versions of Python and of packages.
    stale : str
        Why the embeddings no longer match the units with which they are stored.
    context : str
        Which units were embedded together, if some of them were removed afterwards.
    matched_by : str
        Column of an NWB table by which units were matched to its rows.
    file : dict
        Identifiers of the NWB file and of the table that holds the neurons.
    read_as : dict
        Keywords of `read_population` with which the neurons of that file are read.
    control_of : str
        Fingerprint of the population whose control (`decoding.baselines.CONTROLS`) was embedded.
    control_version : int
        Version of that control.
    other : dict
        Entries that another version of this package recorded.

    Examples
    --------
    >>> from spikeinterface_nuclr import embed, simulate_population
    >>> provenance = embed(simulate_population(10, 30.0), progress=False).provenance
    >>> provenance.checkpoint, provenance.windows
    ('nuclr-starter', 2)
    >>> provenance.to_dict()["units"]
    10
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
        for entry in dataclasses.fields(self):
            value, is_float = getattr(self, entry.name), isinstance(0.0, entry.type)
            if not (isinstance(value, entry.type) or (is_float and isinstance(value, int))):
                raise InputError(f"provenance: {entry.name} cannot be a {type(value).__name__}")

    @classmethod
    def from_dict(cls, values) -> "Provenance":
        """Inverse of `to_dict`; InputError if a value has the wrong type."""
        if not isinstance(values, dict):
            raise InputError(f"provenance must be a dict, not {type(values).__name__}")
        names = {entry.name for entry in dataclasses.fields(cls)} - {"other"}
        other = {name: value for name, value in values.items() if name not in names}
        return cls(**{name: value for name, value in values.items() if name in names}, other=other)

    def to_dict(self) -> dict:
        """A JSON-serialisable dict of the values that are not None."""
        values = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self) if entry.name != "other"}
        return {**{name: value for name, value in values.items() if value is not None}, **self.other}

    def replace(self, **changes) -> "Provenance":
        """A copy with some values changed."""
        return dataclasses.replace(self, **changes)

    @property
    def subject(self) -> str:
        """The animal, as named by the source; empty if the source does not name it."""
        subject = self.source.get("subject")
        return "" if subject is None else str(subject).strip()

    @property
    def reading(self) -> dict:
        """Keywords of `read_population` with which the embedded neurons of an NWB file are read; empty for units."""
        values = self.read_as or (self.source if self.signal == "traces" else {})
        return {key: values[key] for key in READING if "series" in values and key in values}

    def outdated(self, fingerprint: str) -> str:
        """Why the embeddings do not match units with this fingerprint; empty if they do."""
        if self.stale:
            return self.stale
        if fingerprint != (self.units_fingerprint or self.population_fingerprint):
            activity = "neurons' traces" if self.signal == "traces" else "units' spikes"
            return f"the {activity} have changed since they were embedded"
        return ""

    def states(self, values: dict) -> bool:
        """Whether these attributes have these values."""
        return all(getattr(self, name) == value for name, value in values.items())

    def embeds(self, population: Population) -> bool:
        """Whether exactly this population was embedded, by its fingerprint."""
        return self.population_fingerprint == population.fingerprint()

    def difference(self, requested: "Provenance", *, spikes_changed: bool = False) -> str:
        """How existing embeddings differ from requested ones; empty if recomputing would give the same result.

        The device is not compared, nor is the precision unless it is requested. If the spikes have changed, groups and
        observed times are not compared either, because they change with the spikes.

        Parameters
        ----------
        requested : Provenance
            As returned by `embedding.expected_provenance`.
        spikes_changed : bool, default: False
        """
        if self.checkpoint_sha256 != requested.checkpoint_sha256:
            return "another model"
        names = ["overlap", "min_spikes", "skip_silence", *(["precision"] if requested.precision else [])]
        pairs = {name: (getattr(self, name), getattr(requested, name)) for name in names}
        if requested.signal == "traces":
            pairs |= {name: (self.source.get(name), requested.source.get(name)) for name in READING}
        for name, (old, new) in pairs.items():
            if old != new:
                return f"{name} is {old}, not {new} as requested"
        if not spikes_changed and self.context_fingerprint != requested.context_fingerprint:
            return "other groups or observed times"
        return ""

    def same_embeddings(self, other: "Provenance") -> bool:
        """Whether the same model embedded the same population."""
        names = ("checkpoint_sha256", "population_fingerprint")
        return self.states({name: getattr(other, name) for name in names})

    def predicts(self, prediction: dict) -> bool:
        """Whether identities with this provenance were predicted from the embeddings."""
        read = prediction.get("checkpoint_sha256", [])
        models = [read] if isinstance(read, str) else read
        return (
            prediction.get("population_fingerprint") == self.population_fingerprint and self.checkpoint_sha256 in models
        )

    def portable(self) -> "Provenance":
        """A copy with the names of files instead of their paths, which are private or meaningless elsewhere."""
        checkpoint = self.checkpoint or ""
        return self.replace(
            checkpoint=checkpoint if checkpoint.startswith("hf://") else Path(checkpoint).name,
            source=portable_source(self.source),
        )


def portable_source(source: dict) -> dict:
    """The identifiers of a recording with the name of its file instead of its path."""
    path = source.get("source")
    return {**source, "source": Path(path).name} if isinstance(path, str) else dict(source)
