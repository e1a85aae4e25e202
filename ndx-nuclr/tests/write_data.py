"""Write the file of the present version that later versions must read: python tests/write_data.py."""

from datetime import datetime, timezone
from pathlib import Path

import ndx_nuclr
import pynwb
from ndx_nuclr.testing.mock import mock_UnitEstimates, mock_UnitIdentities, mock_UnitMatches

nwbfile = pynwb.NWBFile("test", "id-1", datetime(2026, 1, 1, tzinfo=timezone.utc))
identities = mock_UnitIdentities(nwbfile=nwbfile)
mock_UnitEstimates(nwbfile=nwbfile, embeddings=identities.embeddings)
mock_UnitMatches(nwbfile=nwbfile)
with pynwb.NWBHDF5IO(Path(__file__).parent / "data" / f"ndx-nuclr-{ndx_nuclr.__version__}.nwb", "w") as io:
    io.write(nwbfile)
