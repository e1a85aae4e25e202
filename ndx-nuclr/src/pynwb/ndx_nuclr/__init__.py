"""NWB types for neuron embeddings, what was predicted from them, and the same neurons in other recordings.

Importing this package registers the namespace ``ndx-nuclr`` with pynwb.
"""

from importlib.metadata import version
from pathlib import Path

from pynwb import load_namespaces

_here = Path(__file__).parent
# The specification is inside the installed package, or at the root of the source tree.
_spec = next(folder for folder in (_here / "spec", _here.parents[2] / "spec") if folder.is_dir())
load_namespaces(str(_spec / "ndx-nuclr.namespace.yaml"))

from .types import (  # noqa: E402 (they need the namespace)
    NuCLRModel,
    UnitEmbeddings,
    UnitEstimates,
    UnitIdentities,
    UnitMatches,
)

__version__ = version("ndx-nuclr")
__all__ = ["NuCLRModel", "UnitEmbeddings", "UnitEstimates", "UnitIdentities", "UnitMatches"]
