"""Which kind of recording a folder holds, by the names of its files."""

from pathlib import Path

from .alf import alf_folders
from .cellexplorer import cellexplorer_file
from .phy import is_phy_folder
from .suite2p import is_suite2p_folder


def recording_in(path: Path) -> tuple[str, Path]:
    """The kind of the recording that a folder is, and the folder or file that its reader takes.

    Kinds are "phy", "suite2p", "nwb", "cellexplorer", "spikeinterface", "alf", or "" for any other folder.
    """
    from .nwb.file import is_zarr_nwb
    from .spikeinterface import is_saved

    # SpikeInterface keeps a sorter's output in a folder called sorter_output, and suite2p a run in one called suite2p.
    for kind, is_kind, inside in (("phy", is_phy_folder, "sorter_output"), ("suite2p", is_suite2p_folder, "suite2p")):
        for folder in (path, path / inside):
            if is_kind(folder):
                return kind, folder
    if is_zarr_nwb(path):
        return "nwb", path
    if (session := cellexplorer_file(path)) is not None:
        return "cellexplorer", session
    if is_saved(path):
        return "spikeinterface", path
    return ("alf", path) if alf_folders(path) else ("", path)
