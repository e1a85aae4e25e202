"""Files of decoders and regressors: finding them by name, and validating their content."""

from pathlib import Path

import numpy as np

from ..errors import CheckpointError
from ..model import model_file
from .readout import Kernel, Readout

BUNDLED = Path(__file__).parent / "bundled"
# Key of the JSON in the file -> message for a reader of the other kind.
KINDS = {
    "nuclr_decoder": "reads classes: use Decoder.load, or nuclr_identity in an analyzer",
    "nuclr_regressor": "reads numbers: use Regressor.load, or nuclr_estimate in an analyzer",
}
_EXAMPLE_ROWS = 8
_MOST_LANDMARKS = 10_000
_PARTS = ("mean", "scale", "weight", "bias")


class Fitted(model_file.Saved):
    """Base class of decoders and regressors, which are saved to a file and loaded by name.

    Attributes
    ----------
    readouts : dict of str to Readout
    """

    REMEDY = "fit it again"

    def _example_input(self) -> dict[str, np.ndarray]:
        """A few rows of each table, distributed like the training units."""
        rng = np.random.default_rng(0)
        return {
            f"input/{name}": readout.mean + readout.scale * rng.standard_normal((_EXAMPLE_ROWS, len(readout.mean)))
            for name, readout in self.readouts.items()
        }

    def _example_tables(self, example: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The tables of an example; ValueError if they have other shapes."""
        return {
            name: array_of(example, f"input/{name}", np.float64, (_EXAMPLE_ROWS, len(readout.mean)))
            for name, readout in self.readouts.items()
        }

    @classmethod
    def load(cls, name: str | Path, *, sha256: str | None = None):
        """Load a saved file by path, bundled name, or ``hf://owner/repo[/file][@revision]``.

        Parameters
        ----------
        name : str or Path
        sha256 : str, optional
            Expected `sha256`. If the path does not exist any more, a bundled file with this sha256 is loaded.

        Raises
        ------
        CheckpointError
            The file cannot be found or downloaded, is damaged, was written by an older version, or has another
            `sha256`.
        """
        path, name = _find(name, cls.KIND, sha256)
        kind = model_file.kind_of_model(path)
        if kind in KINDS and kind != cls.KIND:
            raise CheckpointError(f"{name}: {KINDS[kind]}")
        loaded = cls._read(path, name)
        model_file.check_sha256(loaded, name, sha256)
        return loaded


def _find(name: str | Path, kind: str, sha256: str | None = None) -> tuple[Path, str]:
    path, name, _ = model_file.find(
        str(name), BUNDLED, kind, "decoder", sha256=sha256, default_file="decoder.safetensors"
    )
    return path, name


def place_of(name: str | Path) -> Path:
    """The file of a decoder or regressor of this name; CheckpointError if there is none."""
    return _find(name, "nuclr_decoder")[0]


def bundled_decoders() -> list[str]:
    """Names of the decoders that come with the package."""
    return model_file.bundled(BUNDLED)


def is_decoder(path) -> bool:
    """Whether a file contains a decoder or a regressor, according to its metadata."""
    return model_file.kind_of_model(path) in KINDS


def readout_arrays(readouts: dict[str, Readout]) -> dict[str, np.ndarray]:
    """The arrays of read-outs, by their names in a file."""
    arrays = {f"{name}/{part}": getattr(readout, part) for name, readout in readouts.items() for part in _PARTS}
    kernels = {name: readout.kernel for name, readout in readouts.items() if readout.kernel}
    return arrays | {f"{name}/landmarks": kernel.landmarks for name, kernel in kernels.items()}


def readout_facts(readouts: dict[str, Readout]) -> dict:
    """The other facts of read-outs; widths only if there are kernels."""
    widths = {name: readout.width for name, readout in readouts.items() if readout.kernel}
    strengths = {name: readout.strength for name, readout in readouts.items()}
    return {"strengths": strengths} | ({"widths": widths} if widths else {})


def read_readouts(arrays: dict[str, np.ndarray], facts: dict, outputs: int) -> dict[str, Readout]:
    """The read-outs in a file, with this number of outputs each; ValueError if a part is invalid."""
    readouts, widths = {}, facts.get("widths", {})
    if not widths.keys() <= facts["strengths"].keys():
        raise ValueError("its parts do not match")
    for name, strength in facts["strengths"].items():
        size, kernel = len(arrays[f"{name}/mean"]), None
        if name in widths:
            landmarks = array_of(arrays, f"{name}/landmarks", np.float64, (None, size))
            kernel = Kernel(landmarks, positive_of(widths[name], "width"))
            if len(landmarks) > _MOST_LANDMARKS or not 1e-3 <= kernel.width <= 1e3:
                raise ValueError(f"{name} has a kernel of {len(landmarks)} landmarks and width {kernel.width:g}")
        shapes = {"mean": (size,), "scale": (size,), "bias": (outputs,)}
        shapes["weight"] = (outputs, len(kernel.landmarks) if kernel else size)
        parts = {part: array_of(arrays, f"{name}/{part}", np.float64, shapes[part]) for part in _PARTS}
        if not (parts["scale"] > 0).all():
            raise ValueError(f"{name}/scale is not positive")
        readouts[name] = Readout(**parts, strength=positive_of(strength, "strength"), kernel=kernel)
    if not readouts:
        raise ValueError("it reads nothing")
    return readouts


def array_of(arrays: dict[str, np.ndarray], name: str, dtype, shape: tuple) -> np.ndarray:
    """An array of a file; ValueError unless it has this dtype and shape (None: any length) and finite values."""
    values = arrays[name]
    matches = len(shape) == values.ndim and all(n in (None, m) for n, m in zip(shape, values.shape, strict=True))
    if values.dtype != dtype or not matches or not values.size:
        raise ValueError(f"{name} has dtype {values.dtype} and shape {values.shape}")
    # A class without training units has the bias -inf.
    finite = np.isfinite(values) | (np.isneginf(values) if name.endswith("/bias") else False)
    if not finite.all():
        raise ValueError(f"{name} holds numbers that are not finite")
    return values


def positive_of(value, name: str) -> float:
    """A finite number above 0; ValueError otherwise."""
    if not isinstance(value, float | int) or isinstance(value, bool) or not 0 < value < np.inf:
        raise ValueError(f"{name} is not a positive number")
    return float(value)


def texts_of(values, name: str) -> tuple[str, ...]:
    """A tuple of distinct strings, from a list; ValueError otherwise."""
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{name} is not a list of names")
    if len(set(values)) < len(values):
        raise ValueError(f"{name} contains a name twice")
    return tuple(values)


def text_of(value, name: str) -> str:
    """A string that is not empty; ValueError otherwise."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is not a name")
    return value


def card_of(card: dict) -> dict:
    """The card; ValueError if the entries that this package reads are invalid."""
    checkpoints = card.get("checkpoints", {})
    if not isinstance(checkpoints, dict) or not all(isinstance(name, str) for name in checkpoints.values()):
        raise ValueError("checkpoints of its card are not names")
    for name in ("calibrated_on", "readout"):
        if not isinstance(card.get(name, ""), str):
            raise ValueError(f"{name} of its card is not text")
    return card
