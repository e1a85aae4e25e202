"""Options that several commands share, and what they mean to the functions of the package."""

import json
from pathlib import Path
from typing import Annotated, Optional

import typer

from ..errors import InputError, reading

Source = Annotated[
    Path,
    typer.Argument(
        help="NWB file (HDF5 or Zarr), SortingAnalyzer or sorting folder, phy, Kilosort or suite2p folder, or .npy.",
        show_default=False,
    ),
]
Model = Annotated[
    Optional[str],  # noqa: UP045 (typer reads the annotation at run time)
    typer.Option(
        help="Bundled name, path to a .safetensors or public .pt file, or hf://owner/repo[/file][@revision].",
        show_default="nuclr-starter, of traces nuclr-starter-calcium",
    ),
]
Device = Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu, cuda or cuda:1.")]
Precision = Annotated[str, typer.Option(help="auto (bfloat16 where the device is fast at it), bfloat16 or float32.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output where it exists.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]
GroupBy = Annotated[str, typer.Option(help="Unit property that names each unit's probe; 'none' for one population.")]
SamplingFrequency = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(help="Samples or frames per second, where the source does not say.", show_default=False),
]
KeepRejected = Annotated[
    bool, typer.Option("--keep-rejected", help="Keep phy's clusters of group 'noise', and ROIs that are no cells.")
]
Series = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        help="ROI responses of an NWB file to read, such as DfOverF, where it has several.", show_default=False
    ),
]
Traces = Annotated[
    str, typer.Option(help="What ROI responses are: fluorescence, dff or preprocessed; auto tells from the NWB file.")
]


IfExists = Annotated[
    str,
    typer.Option(
        help="What to do with results that the NWB file or the analyzer holds already: error, replace, or in NWB "
        "files new_name."
    ),
]
Sources = Annotated[
    list[str],
    typer.Argument(
        help="Recordings, patterns ('data/*/*.nwb'), folders of NWB files, or CSV manifests with a column source and, "
        "optionally, animal, session and probe.",
        show_default=False,
    ),
]
Label = Annotated[
    Optional[str],  # noqa: UP045 (typer reads the annotation at run time)
    typer.Option(help="Unit property that holds the labels.", show_default=False),
]
Labels = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        help="CSV file of labels, in place of --label: columns source (path of the recording, relative to the CSV "
        "file's folder, or its file name), unit (its id) and label.",
        show_default=False,
    ),
]
Target = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Name of the predicted property.", show_default="that of the label, or of the CSV file"),
]
Level = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        help="Level of the Allen atlas that acronyms are mapped to: allen, beryl or cosmos.", show_default=False
    ),
]
Classes = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        help="CSV file with the columns label and class; labels that it does not list are ignored.", show_default=False
    ),
]
Balanced = Annotated[bool, typer.Option(help="Weight classes equally, however many units they have.")]
Card = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(help="JSON file that describes the result (data, licence, …); stored with it.", show_default=False),
]


def read_options(
    group_by: str,
    series: str | None,
    traces: str,
    keep_rejected: bool = False,
    sampling_frequency: float | None = None,
) -> dict:
    """The keywords of `read_population` that differ from its defaults."""
    given = {
        "sampling_frequency": (sampling_frequency, None),
        "keep_rejected": (keep_rejected, False),
        "series": (series, None),
        "traces": (traces, "auto"),
    }
    changed = {name: value for name, (value, default) in given.items() if value != default}
    return {"group_by": None if group_by == "none" else group_by, **changed}


def read_card(path: Path) -> dict:
    """The JSON object in a file."""
    with reading(path, "JSON object"):
        return dict(json.loads(path.read_text(encoding="utf-8")))


def check_source(source: Path) -> None:
    """InputError where there is nothing at the path."""
    if not source.exists():
        raise InputError(f"{source}: no such file or folder")


def target_name(target: str | None, label: str | None, labels: Path | None) -> str:
    """The name of what is predicted; a usage error unless the labels come from one place."""
    if (label is None) == (labels is None):
        raise typer.BadParameter("give either --label, a property of the units, or --labels, a CSV file")
    return target or label or labels.stem


def label_rule(label: str | None, labels: Path | None, level: str | None, classes: Path | None):
    """Where labels come from: the LabelRule of a property, or the LabelTable of a CSV file."""
    from ..decoding.label_sources import LabelRule, LabelTable, read_classes

    mapping = read_classes(classes) if classes else {}
    return LabelRule(label, level or "", mapping) if labels is None else LabelTable.read(labels, level or "", mapping)
