"""Builders of small NWB files of ROI responses for tests: plain functions, as each test builds another file."""

import numpy as np
from nwb_files import new_nwb
from pynwb.ophys import DfOverF, Fluorescence, ImageSegmentation, OpticalChannel, RoiResponseSeries

RATE = 5.0


def activity(n_rois=12, n_frames=600, seed=0, rate=RATE):
    """dF/F (n_rois, n_frames): transients of events, some of which all share, on noise."""
    rng = np.random.default_rng(seed)
    decay = np.exp(-np.arange(0, 5, 1 / rate))
    shared = rng.random(n_frames) < 0.02
    events = (rng.random((n_rois, n_frames)) < 0.05) + shared * (np.arange(n_rois) % 2)[:, None]
    transients = np.stack([np.convolve(row, decay)[:n_frames] for row in events])
    return (transients + 0.05 * rng.standard_normal(transients.shape)).astype(np.float32)


def raw(dff, level=100.0):
    """Fluorescence of which this is dF/F, each neuron at a level of its own."""
    return level * (1 + np.arange(len(dff))[:, None]) * (1 + dff)


def ophys_file(planes=(12,), **columns):
    """A file with an image segmentation of so many ROIs a plane; `columns` are of its first plane's table."""
    nwbfile = new_nwb()
    device = nwbfile.create_device("microscope")
    channel = OpticalChannel(name="green", description="x", emission_lambda=510.0)
    segmentation = ImageSegmentation()
    nwbfile.create_processing_module("ophys", "x").add(segmentation)
    for number, rois in enumerate(planes):
        imaging = nwbfile.create_imaging_plane(
            name=f"ImagingPlane{number}", optical_channel=channel, description="x", device=device,
            excitation_lambda=920.0, indicator="GCaMP6s", location="V1",
        )  # fmt: skip
        table = segmentation.create_plane_segmentation(
            name="PlaneSegmentation" if len(planes) == 1 else f"Plane{number}", description="x", imaging_plane=imaging
        )
        given = columns if number == 0 else {}
        for name in given:
            table.add_column(name, name)
        for roi in range(rois):
            table.add_roi(
                id=100 + roi, pixel_mask=[(roi, roi, 1.0)], **{name: values[roi] for name, values in given.items()}
            )
    return nwbfile


def add_series(
    nwbfile, data, name="RoiResponseSeries", container="DfOverF", plane="PlaneSegmentation", rows=None, **how
):
    """A series of these responses (n_rois, n_frames), at RATE unless said otherwise."""
    module = nwbfile.processing["ophys"]
    if container not in module.data_interfaces:
        module.add((DfOverF if container.startswith("DfOverF") else Fluorescence)(name=container))
    table = module["ImageSegmentation"][plane]
    rows = list(range(len(data))) if rows is None else rows
    region = table.create_roi_table_region("x", region=rows)
    if "timestamps" not in how:
        how.setdefault("rate", RATE)
    series = RoiResponseSeries(name=name, data=np.asarray(data).T, rois=region, **{"unit": "n.a.", **how})
    module[container].add_roi_response_series(series)
    return series
