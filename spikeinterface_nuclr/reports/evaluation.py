"""The report of `nuclr evaluate`: tables, a figure, and a page that shows them, as Markdown and for a browser."""

from pathlib import Path

from ..decoding.calibration import CONFIDENCE
from ..decoding.cohort import Cohort
from ..decoding.comparison import Comparison
from ..decoding.evaluation import Evaluation
from ..decoding.labelled import by_each
from ..decoding.regressor_evaluation import AVERAGED as AVERAGED_NUMBERS
from ..decoding.regressor_evaluation import COVERAGES, RegressorEvaluation, inside
from ..decoding.scores import AVERAGED, EMBEDDING, POOLED, SHUFFLED
from ..decoding.splits import FEWEST_VALUES
from ..files import check_folder, write_folder
from ..text import for_csv, for_markdown
from .methods import methods_of
from .page import Page
from .predictions import confusion_of, numbers_of

PAGE, TEXT = "report.html", "report.md"
_IMAGE = "![Scores and predictions](evaluation.png)"
_CURVES = ("share.csv", "animals.csv")
_TABLES = ("predictions.csv", "scores.csv", "animal_scores.csv", "per_class.csv", *_CURVES)
_FILES = (*_TABLES, "provenance.json", "evaluation.png", PAGE, TEXT)
_READOUTS = {"linear": "", "kernel": " of a Gaussian kernel"}
_PROTOCOLS = {
    "leave-one-animal-out": "Each animal was left out in turn and predicted from a fit to the others.",
    "zero-shot": "The test animals were not used for fitting or for any choice.",
    "within-animal": "**Within animals: training and test units come from the same recordings, so the scores may "
    "reflect the session and say little about new animals.**",
}
_METHODS = {
    "leave-one-animal-out": "Decoders were evaluated by leaving out one animal at a time; all choices were made within "
    "the training animals.",
    "zero-shot": "Decoders were evaluated on test animals that were not used for fitting or for any choice.",
    "within-animal": "Decoders were evaluated within animals, on units of the recordings that they were fitted to.",
}


def check_report(folder: Path, *, overwrite: bool) -> None:
    """InputError if the folder already contains a report, or cannot be written."""
    check_folder(folder, _FILES, overwrite=overwrite)


def write_report(folder: Path, evaluation: Comparison, cohort: Cohort, figure, curves, *, overwrite: bool) -> Path:
    """Write ``report.html``, and ``report.md`` with its figure and tables, into a folder; return the path of the page.

    `curves` are tables of `label_efficiency` and `animal_scaling`.
    """
    text = _text(evaluation, cohort)
    page = _page(text, evaluation, cohort, figure)
    tables = {f"{curve.columns[0]}.csv": _writer(curve) for curve in curves}
    write_folder(
        folder,
        {
            **evaluation.writers(),
            **tables,
            "evaluation.png": lambda path: figure.savefig(path, dpi=120),
            TEXT: lambda path: path.write_text(text, encoding="utf-8"),
            PAGE: lambda path: path.write_text(page, encoding="utf-8"),
        },
        overwrite=overwrite,
    )
    for name in {*_TABLES} - {*evaluation.writers(), *tables}:  # of the previous report
        (folder / name).unlink(missing_ok=True)
    return folder / PAGE


def _writer(curve):
    return lambda path: for_csv(curve).to_csv(path, index=False)


def _page(text: str, evaluation: Comparison, cohort: Cohort, figure) -> str:
    """The same for a browser: with the figure inside, and the test units to point at."""
    page = Page(f"{evaluation.target}: {evaluation.protocol}")
    before, _, after = text.partition(_IMAGE)
    page.markdown(before)
    page.figure(figure, "Scores and predictions")
    page.markdown("## Test units\n\nPredictions of the embedding.")
    names = [Path(name).name for name in cohort.names]
    numbers = isinstance(evaluation, RegressorEvaluation)
    page.interactive((numbers_of if numbers else confusion_of)(evaluation, names))
    page.markdown(after)
    methods, references = methods_of(by_each(cohort.embeddings[0])[0])
    page.markdown("## Methods, to paste")
    page.note(f"{methods} {_METHODS[evaluation.protocol]}")
    page.markdown("\n".join(f"- {for_markdown(reference)}" for reference in references))
    return page.to_html()


def _text(evaluation: Comparison, cohort: Cohort) -> str:
    provenance = evaluation.provenance
    model = by_each(cohort.embeddings[0])[0].provenance
    model_name = for_markdown(Path(model.checkpoint).name)
    num_tested = evaluation.predictions_of(EMBEDDING)["animal"].nunique()
    numbers = isinstance(evaluation, RegressorEvaluation)
    known, regression = ("units with a value", "ridge") if numbers else ("labelled units", "logistic")
    return "\n".join(
        [
            f"# {for_markdown(evaluation.target)}: {evaluation.protocol}",
            "",
            f"**{for_markdown(evaluation.verdict)}**",
            "",
            _PROTOCOLS[evaluation.protocol],
            "",
            f"{provenance['units']} {known} of {len(provenance['animals'])} animals in {len(cohort.names)} "
            f"recordings, {num_tested} test animals; embedded with {model_name} "
            f"(sha256 {model.checkpoint_sha256[:12]}…). Embeddings and baselines are read by {regression} regression"
            f"{_READOUTS[provenance['readout']]}.",
            "",
            _IMAGE,
            "",
            "## Scores",
            "",
            "Means over the test animals, with 95 % t intervals if there are at least three. "
            + _p_value_text(provenance["shuffles"]),
            "",
            _scores(evaluation, AVERAGED_NUMBERS if numbers else AVERAGED),
            "## Comparison with baselines and controls",
            "",
            f"Difference in {evaluation.MAIN} between the embedding and each other method, paired by animal.",
            "",
            _comparison(evaluation),
            "## Test animals",
            "",
            _animals(evaluation),
            *(_sections_of_numbers(evaluation) if numbers else _sections_of_classes(evaluation)),
            *_left_out_lines(cohort),
            "Versions: " + ", ".join(f"{name} {version}" for name, version in provenance["versions"].items()) + ".",
            "",
        ]
    )


def _sections_of_classes(evaluation: Evaluation) -> list[str]:
    return [
        "## Classes", "", _classes(evaluation),
        "## Calibration and abstention", "", _calibration_text(evaluation), "", _calibration(evaluation),
    ]  # fmt: skip


def _sections_of_numbers(evaluation: RegressorEvaluation) -> list[str]:
    listed = ", ".join(f"{for_markdown(animal)} ({count} units)" for animal, count in evaluation.unscored.items())
    unscored = [f"Not scored, because of fewer than {FEWEST_VALUES} different values: {listed}.", ""] if listed else []
    return [
        *unscored,
        "## Intervals",
        "",
        "Fraction of true values inside the intervals, whose widths were chosen within the training animals. If it is "
        "far from the nominal coverage, new animals differ from the training animals.",
        "",
        _scores(evaluation, [inside(coverage) for coverage in COVERAGES], p_value=False),
    ]


def _p_value_text(shuffles: int) -> str:
    if not shuffles:
        return "Labels were not shuffled, so the scores are not compared with chance."
    return (
        f"p is the fraction of {shuffles} shuffles of the labels within animals that score at least as high as the "
        f"true labels, counting the true labels. It cannot be below {1 / (1 + shuffles):.3f}."
    )


def _table(header: list[str], rows: list[list[str]]) -> str:
    import pandas as pd

    # Numbers are formatted already: "1.00" must not become 1.
    return pd.DataFrame(rows, columns=header).to_markdown(index=False, disable_numparse=True) + "\n"


def _interval(low: float, high: float, form: str = ".2f") -> str:
    return f" [{low:{form}}, {high:{form}}]" if low == low else ""  # NaN: too few animals


def _scores(evaluation: Comparison, names, *, p_value: bool = True) -> str:
    table, rows = evaluation.scores.set_index(["method", "score"]), []
    shuffled = [SHUFFLED] if p_value and evaluation.provenance["shuffles"] else []
    for method in [*evaluation.methods, *shuffled]:
        cells = [table.loc[(method, name)] for name in names]
        p = cells[0]["p"]
        means = [_cell(name, cell) for name, cell in zip(names, cells, strict=True)]
        rows.append([for_markdown(method), *means, *([f"{p:.3f}" if p == p else ""] if p_value else [])])
    return _table(["", *names, *(["p"] if p_value else [])], rows)


def _cell(name: str, cell) -> str:
    form = ".3g" if name == "mean absolute error" else ".2f"  # in the unit of the values
    return f"{cell['value']:{form}}{_interval(cell['low'], cell['high'], form)}"


def _comparison(evaluation: Comparison) -> str:
    comparison = evaluation.comparison
    rows = [
        [
            for_markdown(method), f"{row.difference:+.2f}{_interval(row.low, row.high, '+.2f')}",
            f"{row.higher} of {row.animals}", row.outcome,
        ]
        for method, row in zip(comparison.index, comparison.itertuples(), strict=True)
    ]  # fmt: skip
    return _table(["", "difference", "embedding ahead in", "outcome"], rows)


def _animals(evaluation: Comparison) -> str:
    scores = evaluation.animal_scores
    table = scores[scores["score"] == evaluation.MAIN].pivot(index="animal", columns="method", values="value")
    units = evaluation.predictions_of(EMBEDDING)["animal"].value_counts()
    rows = [
        [for_markdown(animal), str(units[animal]), *(f"{value:.2f}" for value in row[evaluation.methods])]
        for animal, row in table.iterrows()
    ]
    return _table([evaluation.MAIN, "units", *map(for_markdown, evaluation.methods)], rows)


def _classes(evaluation: Evaluation) -> str:
    rows = []
    for name, row in evaluation.per_class().iterrows():
        cells = [f"{row[key]:.2f}" if row[key] == row[key] else "" for key in ("precision", "recall", "f1")]
        rows.append([for_markdown(name), *cells, str(int(row["support"]))])
    text = _table(["", "precision", "recall", "f1", "support"], rows)
    if evaluation.unscored:
        listed = ", ".join(f"{for_markdown(name)} ({count} units)" for name, count in evaluation.unscored.items())
        text += f"\nNot scored, because no training animal has the class: {listed}.\n"
    return text


def _calibration_text(evaluation: Evaluation) -> str:
    chosen = ", ".join(f"{name} in {count}" for name, count in evaluation.provenance["calibration"].items())
    return (
        f"Temperatures were chosen within the training animals ({evaluation.provenance['splits']} splits): {chosen}. "
        "ECE by chance is that of a perfectly calibrated decoder with as many units. At a target error of 5 % (10 %), "
        "units are labelled only as far as at most 5 % (10 %) of the labels are wrong in new animals, with "
        f"{CONFIDENCE:.0%} confidence. If no unit is labelled, there were too few training animals or too many errors."
    )


def _calibration(evaluation: Evaluation) -> str:
    table, rows = evaluation.to_dataframe(), []
    for method in evaluation.methods:
        if method == POOLED:
            continue
        row = table.loc[method]
        coverages = [
            f"{row[f'coverage at {error}% error']:.2f}" + _error(row[f"error at {error}% error"]) for error in (5, 10)
        ]
        numbers = [f"{row[name]:.3f}" for name in ("ECE before", "ECE", "ECE by chance", "Brier before", "Brier")]
        rows.append([for_markdown(method), *numbers, *coverages])
    return _table(
        ["", "ECE before", "ECE", "ECE by chance", "Brier before", "Brier", "labelled at 5 % (wrong)", "at 10 %"], rows
    )


def _error(value: float) -> str:
    return f" ({value:.2f})" if value == value else ""


def _left_out_lines(cohort: Cohort) -> list[str]:
    if not cohort.left_out:
        return []
    return ["## Recordings left out", "", *(f"- {for_markdown(line)}" for line in cohort.left_out), ""]
