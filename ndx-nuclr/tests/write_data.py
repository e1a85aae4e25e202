"""Write the files that later versions must read, in tests/data.

python tests/write_data.py            # of the present version
python tests/write_data.py --before   # of the last development version, from this repository's history
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

DATA = Path(__file__).parent / "data"
# The last commit whose columns had the names of development versions.
BEFORE = "4b08d7e"
SCRIPT = """
import sys
from datetime import datetime, timezone

import ndx_nuclr
import pynwb
from ndx_nuclr.testing import mock

nwbfile = pynwb.NWBFile("test", "id-1", datetime(2026, 1, 1, tzinfo=timezone.utc))
identities = mock.mock_UnitIdentities(nwbfile=nwbfile)
if hasattr(mock, "mock_UnitMatches"):
    mock.mock_UnitEstimates(nwbfile=nwbfile, embeddings=identities.embeddings)
    mock.mock_UnitMatches(nwbfile=nwbfile)
with pynwb.NWBHDF5IO(f"{sys.argv[1]}/ndx-nuclr-{sys.argv[2] or ndx_nuclr.__version__}.nwb", "w") as io:
    io.write(nwbfile)
"""


def write(source: Path, name: str = "") -> None:
    """Write a file with the ndx_nuclr below a folder, under its version or another name."""
    environment = {**os.environ, "PYTHONPATH": str(source / "src" / "pynwb")}
    subprocess.run([sys.executable, "-c", SCRIPT, DATA, name], env=environment, check=True)


def main() -> None:
    if "--before" not in sys.argv:
        return write(Path(__file__).parents[1])
    with tempfile.TemporaryDirectory() as folder:
        root = Path(__file__).parents[2]
        archive = subprocess.run(
            ["git", "archive", BEFORE, "ndx-nuclr/src", "ndx-nuclr/spec"], cwd=root, check=True, capture_output=True
        )
        subprocess.run(["tar", "x", "-C", folder], input=archive.stdout, check=True)
        return write(Path(folder) / "ndx-nuclr", "before-0.1.0")


if __name__ == "__main__":
    main()
