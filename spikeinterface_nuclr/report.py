"""The report of `nuclr evaluate`: tables, figures, and a page that shows them."""

from pathlib import Path

from .cohort import Cohort
from .decoding.evaluation import EMBEDDING, POOLED, SHUFFLED, Evaluation, check_folder, write_folder
from .text import for_csv, for_markdown

PAGE = "report.md"
_CURVES = ("share.csv", "animals.csv")
_FILES = ("predictions.csv", "scores.csv", "per_class.csv", "provenance.json", "evaluation.png", *_CURVES, PAGE)
_PROTOCOLS = {
    "leave-one-animal-out": "Each animal was left out in turn: what is said of it comes from the others.",
    "zero-shot": "The test animals took no part in the fit or in any choice.",
    "within-animal": "**Within animals: units of the same recordings are on both sides, so a decoder may read the "
    "session. This says little of a new animal.**",
}


def check_report(folder: Path, *, overwrite: bool) -> None:
    """InputError where a report is in the folder already, or cannot be written there."""
    check_folder(folder, _FILES, overwrite=overwrite)


def write_report(folder: Path, evaluation: Evaluation, cohort: Cohort, figure, curves, *, overwrite: bool) -> Path:
    """Write ``report.md`` with its figure and tables into a folder; gives the page's path.

    `curves` are tables of `label_efficiency` and `animal_scaling`.
    """
    page = _page(evaluation, cohort)
    tables = {f"{curve.columns[0]}.csv": _writer(curve) for curve in curves}
    write_folder(
        folder,
        {
            **evaluation.writers(),
            **tables,
            "evaluation.png": lambda path: figure.savefig(path, dpi=120),
            PAGE: lambda path: path.write_text(page, encoding="utf-8"),
        },
        overwrite=overwrite,
    )
    for name in set(_CURVES) - set(tables):  # of the report that was there
        (folder / name).unlink(missing_ok=True)
    return folder / PAGE


def _writer(curve):
    return lambda path: for_csv(curve).to_csv(path, index=False)


def _page(evaluation: Evaluation, cohort: Cohort) -> str:
    provenance = evaluation.provenance
    model = cohort.embeddings[0].provenance
    own = evaluation.scores[(evaluation.scores["method"] == EMBEDDING) & (evaluation.scores["score"] == "macro-F1")]
    row = own.iloc[0]
    model_name = for_markdown(Path(model["checkpoint"]).name)
    return "\n".join(
        [
            f"# {for_markdown(evaluation.target)}: {evaluation.protocol}",
            "",
            _PROTOCOLS[evaluation.protocol],
            "",
            f"{provenance['units']} labelled units of {len(provenance['animals'])} animals in {len(cohort.names)} "
            f"recordings, {int(row['animals'])} animals tested; embedded by {model_name} "
            f"(sha256 {model['checkpoint_sha256'][:12]}…).",
            "",
            "![Scores, confusions, calibration](evaluation.png)",
            "",
            "## Scores",
            "",
            "Means over the test animals and 95 % bootstrap intervals over them; p is the share of shuffles of the "
            f"labels within animals that score as high (of {provenance['shuffles']}).",
            "",
            _scores(evaluation),
            "## Classes",
            "",
            _classes(evaluation),
            "## Calibration and abstention",
            "",
            _calibration(evaluation),
            "Versions: " + ", ".join(f"{name} {version}" for name, version in provenance["versions"].items()) + ".",
            "",
        ]
    )


def _scores(evaluation: Evaluation) -> str:
    lines = ["| | macro-F1 | balanced accuracy | p |", "|---|---|---|---|"]
    table = evaluation.scores.set_index(["method", "score"])
    for method in [*evaluation.methods, *([SHUFFLED] if evaluation.provenance["shuffles"] else [])]:
        cells = []
        for score in ("macro-F1", "balanced accuracy"):
            row = table.loc[(method, score)]
            interval = f" [{row['low']:.2f}, {row['high']:.2f}]" if row["low"] == row["low"] else ""  # NaN: one animal
            cells.append(f"{row['value']:.2f}{interval}")
        p = table.loc[(method, "macro-F1")]["p"]
        lines.append(f"| {for_markdown(method)} | {' | '.join(cells)} | {f'{p:.3f}' if p == p else ''} |")
    return "\n".join([*lines, ""])


def _classes(evaluation: Evaluation) -> str:
    lines = ["| | precision | recall | f1 | support |", "|---|---|---|---|---|"]
    for name, row in evaluation.per_class().iterrows():
        cells = [f"{row[key]:.2f}" for key in ("precision", "recall", "f1")]
        lines.append(f"| {for_markdown(name)} | {' | '.join(cells)} | {int(row['support'])} |")
    return "\n".join([*lines, ""])


def _calibration(evaluation: Evaluation) -> str:
    table = evaluation.to_frame()
    lines = [
        "| | ECE before | ECE | labelled at 5 % error (true error) | at 10 % |",
        "|---|---|---|---|---|",
    ]
    for method in evaluation.methods:
        if method == POOLED:
            continue
        row = table.loc[method]
        kept = [
            f"{row[f'coverage at {error}% error']:.2f}" + _error(row[f"error at {error}% error"]) for error in (5, 10)
        ]
        lines.append(f"| {for_markdown(method)} | {row['ECE before']:.3f} | {row['ECE']:.3f} | {' | '.join(kept)} |")
    return "\n".join([*lines, ""])


def _error(value: float) -> str:
    return f" ({value:.2f})" if value == value else ""
