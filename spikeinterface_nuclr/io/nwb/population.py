"""The sorted units or ROI responses of an NWB file -> Population."""

import os
from pathlib import Path

from ...errors import InputError
from ...population import Population
from .file import open_nwb
from .rois import all_series, read_ophys
from .units import read_units


def read_nwb_path(path: Path, **options) -> Population:
    """The Population in this file (HDF5, or Zarr with the `zarr` extra)."""
    with open_nwb(path) as nwbfile:
        return read_nwbfile(nwbfile, name=os.fspath(path), **options)


def read_nwbfile(
    nwbfile,
    *,
    name: str = "NWBFile",
    group_by="group",
    observed=None,
    series: str | None = None,
    traces: str = "auto",
    keep_rejected: bool = False,
) -> Population:
    """The Population of an open NWBFile: its units; its ROI responses if it has none, or if `series` names one."""
    optical = {"series": series, "traces": traces, "keep_rejected": keep_rejected}
    if series is None and nwbfile.units is not None and len(nwbfile.units):
        if traces != "auto" or keep_rejected:
            raise InputError(
                f"{name}: its units are read: traces and keep_rejected apply to ROI responses (give series=)"
            )
        return read_units(nwbfile, name=name, group_by=group_by, observed=observed)
    if series is None and not all_series(nwbfile):
        raise InputError(f"{name}: its units table is missing or empty, and it holds no ROI responses")
    return read_ophys(nwbfile, name=name, group_by=group_by, observed=observed, **optical)
