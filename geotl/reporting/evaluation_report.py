"""What a test of a model on labelled tiles found: lines, tables and a page."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from geotl.console import aligned
from geotl.evaluation.evaluate import Evaluation
from geotl.io.files import write_text
from geotl.io.tables import TableWriter
from geotl.language import msg
from geotl.reporting.figures import calibration_figure, confusion_figure
from geotl.reporting.html import (
    Picture,
    ReportContent,
    cautions,
    classes_table,
    key_figures,
    scores_table,
    write_report,
)

JSON, CLASSES, MATRIX, PAGE = "evaluation.json", "classes.csv", "confusion.csv", "report.html"
FILES = (JSON, CLASSES, MATRIX, PAGE)
_SCORES = {"balanced": "balanced accuracy", "kappa": "kappa", "macro_f1": "macro F1"}


def evaluation_lines(result: Evaluation) -> list[str]:
    r"""Scores with 95 % intervals, a table of the classes and the confusion matrix, as text.

    >>> from geotl.evaluation.evaluate import evaluate
    >>> lines = evaluation_lines(evaluate([[9.0, 0.0], [0.0, 9.0]], [0, 1], ["field", "wood"]))
    >>> lines[0]
    'overall accuracy 1.000 [0.342, 1.000], 2 test tiles'
    >>> print(*lines[-3:], sep="\n")
                 1  2
    1 field      1  .
    2 wood       .  1
    """
    tiles = int(result.matrix.sum())
    return [
        f"{result.headline}, {tiles} test tile{'' if tiles == 1 else 's'}",
        *(f"{name} {result.intervals[key]}" for key, name in _SCORES.items()),
        f"calibration error {_number(result.after.error)} "
        f"({_number(result.before.error)} before temperature scaling)",
        "",
        *_class_lines(result),
        "",
        "confusion matrix: rows are the truth, columns the prediction",
        *_matrix_lines(result),
    ]


def write_evaluation(
    folder: Path, result: Evaluation, *, title: str, facts: dict[str, str], notes: Sequence[str]
) -> list[Path]:
    """Write the scores as JSON, classes and confusion matrix as CSV, and a page.

    Args:
        folder: made if it is not there.
        result: the test.
        title: of the page.
        facts: what was tested on what, by name, for the page.
        notes: what a reader should know, for the page.
    """
    texts = {
        JSON: json.dumps(result.to_dict(), indent=2, sort_keys=True) + "\n",
        CLASSES: _csv(("class", "tiles", "precision", "recall", "f1"), _class_rows(result)),
        MATRIX: _csv(
            ("truth", *result.classes),
            (
                (name, *row)
                for name, row in zip(result.classes, result.matrix.tolist(), strict=True)
            ),
        ),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    write_report(folder / PAGE, _page(result, title, facts, notes))
    return [folder / name for name in FILES]


def _page(
    result: Evaluation, title: str, facts: dict[str, str], notes: Sequence[str]
) -> ReportContent:
    return ReportContent(
        title=title,
        headline=result.headline,
        keys=key_figures(result),
        facts=facts,
        cautions=(*notes, *cautions(result)),
        tables={"scores": scores_table(result), "classes": classes_table(result)},
        pictures={
            "confusion": Picture(
                confusion_figure(result.matrix, result.classes),
                msg("Confusion matrix"),
                msg("Rows are the truth, columns the prediction."),
            ),
            "calibration": Picture(
                calibration_figure(result.before, result.after, result.temperature),
                msg("Confidence against accuracy"),
            ),
        },
        kind=msg("evaluation"),
    )


def _class_rows(result: Evaluation) -> list[tuple[Any, ...]]:
    """Name, test tiles, precision, recall and F1 of each class."""
    s = result.scores
    columns = (s.support, s.precision, s.recall, s.f1)
    return [
        (name, int(count), *map(float, shares))
        for name, count, *shares in zip(result.classes, *columns, strict=True)
    ]


def _class_lines(result: Evaluation) -> list[str]:
    head = ("class", "tiles", "precision", "recall", "F1")
    rows = [(name, str(n), *map(_number, shares)) for name, n, *shares in _class_rows(result)]
    return aligned([head, *rows], left=(0,))


def _matrix_lines(result: Evaluation) -> list[str]:
    """The confusion matrix, whose columns bear the numbers of the classes."""
    names = [f"{place} {name}" for place, name in enumerate(result.classes, 1)]
    rows = [
        (name, *(str(count) if count else "." for count in row))
        for name, row in zip(names, result.matrix.tolist(), strict=True)
    ]
    head = ("", *(str(place + 1) for place in range(len(names))))
    return aligned([head, *rows], left=(0,))


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    stream = io.StringIO()
    writer = TableWriter(stream)
    writer.writerow(head)
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    return stream.getvalue()


def _cell(value: Any) -> Any:
    return "" if isinstance(value, float) and math.isnan(value) else value
