"""nuclr match: finds the same neurons in several recordings, and writes tables, a figure, or into the NWB files."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Optional

import typer

from .app import app, say
from .many import Done, check_settings, exit_if_refused, outcomes_of
from .options import (
    Device,
    IfExists,
    Model,
    NJobs,
    Outcomes,
    Overwrite,
    Precision,
    Quiet,
    Sources,
    check_outside,
    check_replacing,
    reads_recordings,
)


@app.command()
@reads_recordings
def match(
    sources: Sources,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="Table of pairs to write: .csv or .npz.", show_default=False),
    ] = None,
    neurons: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Table to write with the neuron of each unit: .csv.", show_default=False),
    ] = None,
    figure: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Figure to write: .png, .pdf or .svg.", show_default=False),
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Write the matches into the NWB files themselves, each in one safe step.")
    ] = False,
    target_error: Annotated[
        float, typer.Option(help="Largest acceptable fraction of wrong pairs among those named.")
    ] = 0.05,
    feature: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            help="Other evidence that the analyzers hold: unit_locations or template_similarity; may be repeated.",
            show_default=False,
        ),
    ] = None,
    matcher: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="Matcher (.json) that was fitted to other recordings.", show_default="fitted to these recordings"
        ),
    ] = None,
    cache: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="Folder that keeps what was computed, for a run that was stopped or for more recordings.",
            show_default="OUTPUT.cache beside the output; for --in-place, beside the first recording",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the calibration.")] = 0,
    model: Model = None,
    *,
    reading: dict,
    device: Device = "auto",
    precision: Precision = "auto",
    overwrite: Overwrite = False,
    if_exists: IfExists = "error",
    n_jobs: NJobs = 1,
    outcomes: Outcomes = None,
    quiet: Quiet = False,
) -> None:
    """Find the same neurons in several recordings, such as sessions of one animal on several days.

    Units are compared by their activity and their relations to other units; probabilities are learnt from the
    recordings themselves, without labels.

    nuclr match monday.nwb tuesday.nwb friday.nwb -o matches.csv: a table of pairs and their probabilities.

    nuclr match 'mouse1/*.nwb' --in-place: in each file, as processing/nuclr/UnitMatches.

    Recordings that cannot be read are listed and left out; the exit code is then 3.
    """
    from ..embedding import EmbeddingSettings
    from ..errors import InputError
    from ..files import check_format, check_writable
    from ..io.manifest import list_sources
    from ..io.nwb import write_matches
    from ..io.nwb.match_tables import check_targets
    from ..io.where import selects
    from ..matching.analyzer_features import AnalyzerFeatures, feature_names
    from ..matching.cache import Cache
    from ..matching.match import check_request, match_evidence, names_of
    from ..matching.matcher import Matcher
    from ..unit_matches import FORMATS

    if output is None and neurons is None and figure is None and not in_place:
        raise typer.BadParameter("name what to write: -o FILE.csv, --neurons FILE.csv, --figure FILE.png or --in-place")
    if overwrite and output is None and neurons is None and figure is None:
        check_replacing(inside=True, overwrite=overwrite, if_exists=if_exists)
    if if_exists != "error" and not in_place:
        check_replacing(inside=False, overwrite=overwrite, if_exists=if_exists)
    if in_place and selects(reading):
        raise typer.BadParameter("--where and --within are for output files: leave out --in-place")
    for path, formats in ((output, FORMATS), (neurons, (".csv",)), (figure, (".png", ".pdf", ".svg"))):
        if path is not None:
            check_writable(check_format(path, *formats), overwrite=overwrite)
    try:
        names = feature_names(feature or [])
    except InputError as error:
        raise typer.BadParameter(str(error)) from None
    listed = list_sources(sources)
    outputs = [path for path in (output, neurons, figure, outcomes) if path is not None]
    _check_paths(outputs, [one.source for one in listed], matcher)
    fitted = None if matcher is None else Matcher.load(matcher)
    check_request(target_error, seed, fitted)
    if in_place:
        check_targets([one.source for one in listed], if_exists, skip_unreadable=True)
    beside = next((path for path in (output, neurons, figure) if path is not None), Path(listed[0].name))
    cache = cache or beside.with_name(f"{beside.name}.cache")
    job = _Evidence(EmbeddingSettings(model, device, precision), reading, cache)
    rows = outcomes_of(listed, [None] * len(listed), job, n_jobs=n_jobs, outcomes=outcomes, quiet=quiet, lines=False)
    # In the order in which they were given.
    found = {(row.source, row.result.probe): row.result for row in rows if row.result is not None}
    listed = [one for one in listed if (one.name, one.probe) in found]
    if len(listed) < 2:
        raise InputError(f"two recordings or more are matched, and {len(listed)} can be read")
    recordings = [
        replace(found[one.name, one.probe], name=name) for one, name in zip(listed, names_of(listed), strict=True)
    ]
    features = AnalyzerFeatures.of(names, listed, None) if names else None
    matches = match_evidence(
        recordings, Cache.of(cache), features, matcher=fitted, target_error=target_error, seed=seed, progress=not quiet
    )
    written = []
    if in_place:
        written += write_matches(matches, [one.source for one in listed], in_place=True, if_exists=if_exists)
    if output is not None:
        written.append(matches.save(output, overwrite=overwrite))
    if neurons is not None:
        written.append(_write_neurons(matches, neurons, overwrite=overwrite))
    if figure is not None:
        written.append(_write_figure(matches, figure, overwrite=overwrite))
    for line in matches.summary().round({"expected": 1}).to_string(index=False).splitlines():
        say(line)
    say(f"{matches}; written: {', '.join(str(path) for path in written)}")
    exit_if_refused(rows)


@dataclass(frozen=True)
class _Evidence:
    """How each recording is read, and what is computed of it and kept in the cache."""

    settings: object
    reading: dict
    cache: Path

    def check(self) -> None:
        """Raise what would be wrong with every recording."""
        check_settings(self.settings)

    def __call__(self, listed, output: None, *, alone: bool) -> Done:
        """Read one recording."""
        from ..matching.cache import Cache
        from ..matching.sources import EvidenceReader

        reader = EvidenceReader(self.settings, self.reading, Cache.of(self.cache))
        evidence = reader.read(listed.source, listed.name, probe=listed.probe)
        return Done(f"{listed.name}: {len(evidence.unit_ids)} units", result=evidence)


def _check_paths(outputs: list[Path], sources: list[Path], matcher: Path | None) -> None:
    """A usage error if an output is given twice, or would replace an input."""
    resolved = [path.resolve() for path in outputs]
    if len(set(resolved)) < len(resolved):
        raise typer.BadParameter("--output, --neurons, --figure and --outcomes: name a different file for each")
    for path in outputs:
        check_outside(path, [*sources, *([] if matcher is None else [matcher])])


def _write_neurons(matches, path: Path, *, overwrite: bool) -> Path:
    """Write the neuron of each unit."""
    from ..files import written_whole
    from ..text import for_csv

    with written_whole(path, overwrite=overwrite) as temporary:
        for_csv(matches.neurons()).to_csv(temporary, index=False)
    return path


def _write_figure(matches, path: Path, *, overwrite: bool) -> Path:
    """Draw the matches."""
    from ..files import written_whole
    from ..widgets import plot_nuclr_matches

    with written_whole(path, overwrite=overwrite) as temporary:
        plot_nuclr_matches(matches).figure.savefig(temporary, dpi=120)
    return path
