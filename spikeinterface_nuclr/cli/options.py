"""Options that several commands share, and their translation into the package's parameters."""

import functools
import inspect
import json
from collections.abc import Callable
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
        show_default="nuclr-starter; for traces nuclr-starter-calcium",
    ),
]
Device = Annotated[str, typer.Option(help="auto (a GPU if available), cpu, cuda or cuda:1.")]
Precision = Annotated[
    str, typer.Option(help="auto (bfloat16 on devices with fast bfloat16, else float32), bfloat16 or float32.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing output files.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress bar.")]
GroupBy = Annotated[
    str,
    typer.Option(help="Unit property that names each unit's probe; 'none' to treat all units as one population."),
]
SamplingFrequency = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(help="Samples or frames per second, if the source does not state them.", show_default=False),
]
Where = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        help="Use only units whose properties satisfy a condition, such as \"label == 1 and qc_neural != 'FAIL'\".",
        show_default=False,
    ),
]
Within = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        help="Use only this part of the recording, in seconds, such as 0:600. Repeatable, in order of time.",
        metavar="START:STOP",
        show_default=False,
    ),
]
KeepRejected = Annotated[
    bool, typer.Option("--keep-rejected", help="Keep phy clusters labelled 'noise' and ROIs that are not cells.")
]
Series = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        help="Name of the ROI response series to read, such as DfOverF, if an NWB file has several.",
        show_default=False,
    ),
]
Traces = Annotated[
    str,
    typer.Option(help="Kind of ROI responses: fluorescence, dff or preprocessed; auto infers it from the NWB file."),
]


IfExists = Annotated[
    str,
    typer.Option(
        help="If the NWB file or analyzer already contains this result: error, replace, or (NWB only) new_name."
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
NJobs = Annotated[
    int,
    typer.Option("--n-jobs", "-j", min=1, help="Recordings at once, in processes that share the cores."),
]
Outcomes = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        help="CSV file to write with what became of each recording: done, up to date, or refused and why.",
        show_default=False,
    ),
]
Embedded = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--embeddings",
        help="What nuclr embed has written of the recording (.npz), to use in place of embedding it again. For several "
        "recordings with a field, as in --output.",
        show_default=False,
    ),
]
Label = Annotated[
    Optional[str],  # noqa: UP045 (typer reads the annotation at run time)
    typer.Option(help="Unit property (or column of the units table) with the labels.", show_default=False),
]
Labels = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        help="CSV file of labels, in place of --label, with the columns source (recording: path relative to the CSV "
        "file, or file name), unit (unit id) and label.",
        show_default=False,
    ),
]
Value = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        help="Unit property (or column of the units table) with numbers, such as depths, in place of --label.",
        show_default=False,
    ),
]
Values = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        help="CSV file of numbers, in place of --value, with the columns source, unit and value.", show_default=False
    ),
]
Embeddings = Annotated[
    Optional[list[Path]],  # noqa: UP045
    typer.Option(
        "--embeddings",
        help="Released embeddings of BrainWideBench (nuclr_embeddings_42.pt, …), in place of embedding its sessions. "
        "Repeatable: a decoder averages those of several files. With one file, --model names the model they are of.",
        show_default=False,
    ),
]
Target = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        help="Name of the predicted property.", show_default="name of the label, of the value or of the CSV file"
    ),
]
Level = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        help="Map acronyms of the Allen atlas to this level: allen (all regions), beryl or cosmos.",
        show_default=False,
    ),
]
Classes = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        help="CSV file that groups labels, with the columns label and class; labels not listed are ignored.",
        show_default=False,
    ),
]
Readout = Annotated[str, typer.Option(help="linear, or kernel, which also finds classes that no linear map separates.")]
Balanced = Annotated[bool, typer.Option(help="Weight classes equally, however many units they have.")]
Card = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(help="JSON file with a description to store in the output (data, licence, …).", show_default=False),
]


def check_outside(output: Path, sources: list[Path]) -> None:
    """A usage error if an output is one of the inputs, or lies in the folder of one."""
    for source in sources:
        if output.resolve() == Path(source).resolve() or Path(source).resolve() in output.resolve().parents:
            raise typer.BadParameter(f"{output}: is one of the inputs, or part of one: name another file to write")


def read_options(
    group_by: GroupBy = "group",
    series: Series = None,
    traces: Traces = "auto",
    sampling_frequency: SamplingFrequency = None,
    keep_rejected: KeepRejected = False,
    where: Where = None,
    within: Within = None,
) -> dict:
    """The keywords of `read_population` that differ from its defaults."""
    options = {
        "sampling_frequency": (sampling_frequency, None),
        "keep_rejected": (keep_rejected, False),
        "series": (series, None),
        "traces": (traces, "auto"),
        "where": (where, None),
        "within": ([_interval(text) for text in within or ()], []),
    }
    changed = {name: value for name, (value, default) in options.items() if value != default}
    return {"group_by": None if group_by == "none" else group_by, **changed}


def _interval(text: str) -> list[float]:
    """The interval of a text such as 0:600."""
    try:
        start, stop = map(float, text.split(":"))
    except ValueError:
        raise typer.BadParameter(f"--within {text}: give START:STOP in seconds, such as 0:600") from None
    return [start, stop]


def reads_recordings(command: Callable) -> Callable:
    """Replace a command's parameter `reading` by the options of `read_options`, and give it what they amount to."""
    options = inspect.signature(read_options).parameters
    parameters = dict(inspect.signature(command).parameters)
    names = list(parameters)
    place = names.index("reading")
    shown = [parameters[name] for name in names[:place]] + list(options.values())
    shown += [parameters[name] for name in names[place + 1 :]]

    @functools.wraps(command)
    def with_options(**given):
        reading = read_options(**{name: given.pop(name) for name in options})
        return command(**given, reading=reading)

    with_options.__signature__ = inspect.Signature([p.replace(kind=p.KEYWORD_ONLY) for p in shown])
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return with_options


def read_card(path: Path) -> dict:
    """The JSON object in a file."""
    with reading(path, "JSON object"):
        return dict(json.loads(path.read_text(encoding="utf-8")))


def check_source(source: Path) -> None:
    """InputError if the path does not exist."""
    if not source.exists():
        raise InputError(f"{source}: no such file or folder")


def check_replacing(*, inside: bool, overwrite: bool, if_exists: str) -> None:
    """A usage error if the option that replaces results does not fit where they go: inside the source, or a file."""
    if inside and overwrite:
        raise typer.BadParameter(
            "--overwrite replaces an output file: to replace results inside the source, give --if-exists replace"
        )
    if not inside and if_exists != "error":
        raise typer.BadParameter(
            "--if-exists is for results inside the source: to replace an output file, give --overwrite"
        )


def open_analyzer(source: Path, if_exists: str):
    """The analyzer saved in `source`, to write results into."""
    from ..io.spikeinterface import load_spikeinterface

    if if_exists not in ("error", "replace"):
        raise typer.BadParameter("--if-exists must be error or replace for an analyzer")
    analyzer = load_spikeinterface(source)
    if analyzer.is_read_only():
        raise InputError(f"{source}: is read-only: name a file to write (-o)")
    return analyzer


def target_name(
    target: str | None, label: str | None, labels: Path | None, value: str | None, values: Path | None
) -> str:
    """The name of the predicted property; a usage error unless exactly one source of labels or numbers is given."""
    given = [source for source in (label, labels, value, values) if source is not None]
    if len(given) != 1:
        raise typer.BadParameter(
            "give one of --label (a property of the units), --labels (a CSV file), --value and --values (for numbers)"
        )
    return target or (given[0].stem if isinstance(given[0], Path) else given[0])


def label_rule(
    label: str | None, labels: Path | None, value: str | None, values: Path | None, level: str | None,
    classes: Path | None,
):  # fmt: skip
    """The source of labels or numbers: a rule for a unit property, or a table for a CSV file."""
    from ..decoding.label_sources import LabelRule, LabelTable, ValueRule, ValueTable, read_classes

    if value is not None or values is not None:
        if level or classes:
            raise typer.BadParameter("--level and --classes group labels: leave them out for numbers")
        return ValueRule(value) if values is None else ValueTable.read(values)
    mapping = read_classes(classes) if classes else {}
    return LabelRule(label, level or "", mapping) if labels is None else LabelTable.read(labels, level or "", mapping)
