"""EncoderConfig: the architecture and the input of an encoder."""

from dataclasses import dataclass, fields

from ..errors import CheckpointError
from ..windows import Layout

# Input of the first layer -> number of values of a patch of P bins.
INPUT_SCALES = {
    "counts": lambda patch_size: patch_size,
    "log1p": lambda patch_size: patch_size,
    "log1p+acg": lambda patch_size: 2 * patch_size,
    "correlograms": lambda patch_size: Correlograms(patch_size).width,
}
# Inputs that count pairs of spikes.
_OF_SPIKES = ("log1p+acg", "correlograms")
SIGNALS = ("spikes", "traces")
# Fields that are always written. A field that a later version adds is written, and is part of a checkpoint's identity,
# only if it differs from its default, which then must never change.
_ALWAYS_WRITTEN = (
    *("bin_s", "patch_size", "num_patches", "signal", "input_scale", "dim", "heads", "head_dim", "temporal_blocks"),
    *("spatiotemporal_blocks", "feed_forward_multiple", "rotary_fraction", "dropout"),
)
# A config may come from an untrusted file. These limits are harmless and far beyond any trained model.
_LARGEST = {
    **dict.fromkeys(("patch_size", "dim"), 100_000),
    "num_patches": 10_000,
    **dict.fromkeys(
        ("members", "heads", "head_dim", "feed_forward_multiple", "temporal_blocks", "spatiotemporal_blocks"), 1_000
    ),
}
_MOST_PARAMETERS = 10_000_000_000
_MOST_BLOCKS = 2_000
_MOST_ANGLES = 10_000_000
_BIN_S = (1e-4, 1e3)


def check_types(config, names, error: type[Exception], where: str = "") -> None:
    """Raise `error` if a field of a dataclass has the wrong type; a float may be given as a whole number."""
    kinds = {float: (float, int), int: (int,), str: (str,)}
    for name in names:
        value, declared = getattr(config, name), type(config).__dataclass_fields__[name].type
        if not isinstance(value, kinds[declared]) or isinstance(value, bool):
            raise error(f"{where}{name} must be of type {declared.__name__}, not {shown(value)}")


def shown(value) -> str:
    """A value from a file, shortened for a message."""
    return repr(value)[:40]


@dataclass(frozen=True)
class EncoderConfig:
    """Architecture and input of an `Encoder`.

    The defaults are the published 10 s / 1 s / 20 ms layout with 6,330,624 parameters (Arora et al. 2025).

    Parameters
    ----------
    bin_s : float
        Length of a bin in seconds; for traces, of a frame.
    patch_size : int
        Bins in a patch (P).
    num_patches : int
        Patches in a window (L).
    signal : {"spikes", "traces"}
        Content of a bin: a spike count, or a frame of a trace.
    input_scale : {"counts", "log1p", "log1p+acg", "correlograms"}
        Input of the first layer for a patch. Its values; log(1 + value); the latter together with log(1 + c), where c
        is the patch's autocorrelogram; or counts together with, for the whole window, correlograms of the neuron
        with itself and with the summed others, and its correlations with the others (`model.inputs`). From
        correlograms, a linear layer can read intervals between spikes independently of their position in the patch, and
        how a neuron fires relative to its population.
    dim : int
        Width of the residual stream.
    heads : int
        Number of attention heads.
    head_dim : int
        Width of a head.
    temporal_blocks : int
        Number of blocks in which each neuron attends to its own patches.
    spatiotemporal_blocks : int
        Number of blocks in which neurons attend to one another.
    feed_forward_multiple : int
        Width of the gated feed-forward layers, in units of `dim`.
    rotary_fraction : float
        Fraction of a head's pairs of dimensions that rotate with the position of the patch.
    dropout : float
        Dropout in training, on the output of each sub-layer and inside the feed-forward layers.
    members : int
        Number of networks of this architecture, whose embeddings are concatenated: `Checkpoint.joined`.

    Examples
    --------
    >>> from spikeinterface_nuclr import EncoderConfig
    >>> EncoderConfig(num_patches=30).layout.window_s
    30.0
    """

    bin_s: float = 0.02
    patch_size: int = 50
    num_patches: int = 10
    signal: str = "spikes"
    input_scale: str = "counts"
    dim: int = 256
    heads: int = 4
    head_dim: int = 64
    temporal_blocks: int = 2
    spatiotemporal_blocks: int = 2
    feed_forward_multiple: int = 4
    rotary_fraction: float = 0.5
    dropout: float = 0.2
    members: int = 1

    def __post_init__(self):
        check_types(self, [f.name for f in fields(self)], CheckpointError, "encoder config: ")
        low, high = _BIN_S
        if not low <= self.bin_s <= high:
            raise CheckpointError(f"encoder config: bin_s must lie in [{low:g}, {high:g}] s, not {shown(self.bin_s)}")
        for name, largest in _LARGEST.items():
            least = 0 if name.endswith("blocks") else 1
            if not least <= getattr(self, name) <= largest:
                raise CheckpointError(
                    f"encoder config: {name} must lie in [{least}, {largest}], not {shown(getattr(self, name))}"
                )
        for name in ("rotary_fraction", "dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise CheckpointError(f"encoder config: {name} must lie in [0, 1], not {shown(getattr(self, name))}")
        if self.signal not in SIGNALS:
            raise CheckpointError(f"encoder config: signal must be one of {SIGNALS}, not {shown(self.signal)}")
        if self.signal == "traces" and self.input_scale in _OF_SPIKES:
            raise CheckpointError(
                f"encoder config: input_scale {self.input_scale!r} counts pairs of spikes: not for traces"
            )
        if self.input_scale not in INPUT_SCALES:
            raise CheckpointError(
                f"encoder config: input_scale must be one of {tuple(INPUT_SCALES)}, not {shown(self.input_scale)}"
            )
        if self.members * max(self.temporal_blocks + self.spatiotemporal_blocks, 1) > _MOST_BLOCKS:
            raise CheckpointError(f"encoder config: all members together may have at most {_MOST_BLOCKS} blocks")
        if self.members * self.num_patches * self.head_dim > _MOST_ANGLES:
            raise CheckpointError(f"encoder config: members × num_patches × head_dim may be at most {_MOST_ANGLES:,}")
        if self.num_parameters > _MOST_PARAMETERS:
            raise CheckpointError(
                f"encoder config: {self.num_parameters:,} parameters, at most {_MOST_PARAMETERS:,} are supported: "
                "choose smaller dimensions"
            )
        for name in ("bin_s", "rotary_fraction", "dropout"):
            object.__setattr__(self, name, float(getattr(self, name)))  # 1 and 1.0 give the same config

    @property
    def num_parameters(self) -> int:
        """Number of weights of a network with this config, computed without building it."""
        inner, wide = self.heads * self.head_dim, self.feed_forward_multiple * self.dim
        norm = 2 * self.dim
        attention = norm + 3 * inner * (self.dim + 1) + self.dim * (inner + 1)
        feed_forward = norm + 2 * wide * (self.dim + 1) + self.dim * (wide + 1)
        read_in = self.dim * (self.input_width + 1)
        layers = self.temporal_blocks + 2 * self.spatiotemporal_blocks
        return self.members * (read_in + layers * (attention + feed_forward))

    @property
    def embedding_dim(self) -> int:
        """Width of an embedding: that of all members."""
        return self.members * self.dim

    @property
    def input_width(self) -> int:
        """Number of values of the first layer's input for a patch."""
        return INPUT_SCALES[self.input_scale](self.patch_size)

    @property
    def correlograms(self) -> "Correlograms":
        """Bins of the input "correlograms"."""
        return Correlograms(self.patch_size)

    @property
    def layout(self) -> Layout:
        """Layout of this encoder's windows."""
        return Layout(self.bin_s, self.patch_size, self.num_patches)

    @property
    def rotary_pairs(self) -> int:
        """Number of a head's pairs of dimensions that rotate."""
        return int(self.head_dim // 2 * self.rotary_fraction)

    def to_dict(self) -> dict:
        """A JSON-serialisable dict: all fields of the first version, and later ones that differ from their default."""
        values = {f: getattr(self, f.name) for f in fields(self)}
        return {f.name: value for f, value in values.items() if f.name in _ALWAYS_WRITTEN or value != f.default}

    @classmethod
    def from_dict(cls, values: dict) -> "EncoderConfig":
        """Inverse of `to_dict`; CheckpointError if an entry is unknown or invalid."""
        if not isinstance(values, dict):
            raise CheckpointError(f"encoder config: must be a JSON object, not of type {type(values).__name__}")
        unknown = sorted(map(str, set(values) - {f.name for f in fields(cls)}))
        if unknown:
            raise CheckpointError(f"encoder config: unknown entries {unknown[:5]}: a newer version may support them")
        return cls(**values)


@dataclass(frozen=True)
class Correlograms:
    """Bins of the encoder's input "correlograms".

    Counts are in 100 to 199 coarse bins per patch (in all bins of a shorter one). Bins of lags widen with the lag, by a
    quarter or half of an octave. Correlations are those of counts in 1, 5, 25, … bins, up to a third of a patch.

    Parameters
    ----------
    patch_size : int
        Bins in a patch (P).
    """

    patch_size: int

    @property
    def coarse(self) -> int:
        """Width of a coarse bin of counts, in bins."""
        return max(self.patch_size // 100, 1)

    @property
    def lags(self) -> list[int]:
        """Edges of the lags of autocorrelograms, in bins, from 1: lag 0 has a bin of its own."""
        return self._edges(4)

    @property
    def coarse_lags(self) -> list[int]:
        """Edges of the lags of cross-correlograms, in bins, from 1."""
        return self._edges(2)

    @property
    def widths(self) -> list[int]:
        """Bin widths of the correlations, in bins."""
        return [5**power for power in range(10) if 5**power <= max(self.patch_size // 3, 1)]

    @property
    def width(self) -> int:
        """Number of values of a patch."""
        counts, own, cross = self.patch_size // self.coarse, len(self.lags), 2 * len(self.coarse_lags) - 1
        return counts + 2 * own + cross + 7 * len(self.widths) + 3

    def _edges(self, per_octave: int) -> list[int]:
        edges = [1]
        while edges[-1] < self.patch_size:
            wider = max(edges[-1] + 1, round(edges[-1] * 2 ** (1 / per_octave)))
            edges.append(min(wider, self.patch_size))
        return edges
