"""What pages show: tables, pictures and sections as plain values, and the report of a run.

Plain values in, text out. A page has no scripts and asks nothing of the network: pictures are
inside it, and its policy forbids loading anything else. `geotl.reporting.templates` sets it.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from geotl.arrays import Bools
from geotl.data.findings import Finding
from geotl.evaluation.evaluate import Evaluation, Interval, Spread
from geotl.evaluation.metrics import UNLABELLED
from geotl.evaluation.next_steps import Step
from geotl.io.files import write_text
from geotl.io.tables import TableWriter
from geotl.language import joined, msg, numeral, small
from geotl.reporting.templates import Cell, render, shown

NAMES = {
    "overall": (msg("Overall accuracy"), msg("share of tiles classified correctly")),
    "balanced": (msg("Balanced accuracy"), msg("mean recall, every class counting alike")),
    "kappa": (msg("Kappa"), msg("agreement beyond chance (Cohen)")),
    "macro_f1": (msg("Macro F1"), msg("mean F1, every class counting alike")),
}
SECTIONS = {  # id -> heading, in the page's order: what a lab asks first, then the rest
    "baselines": msg("Compared with the baselines"),
    "race": msg("Compared with other methods, on the same folds"),
    "classes": msg("Which classes fail"),
    "pairs": msg("Classes mixed up"),
    "mistakes": msg("Mistakes"),
    "stand": msg("Where do you stand, and what to do next"),
    "doubtful_labels": msg("Labels that look like another class"),
    "scores": msg("Scores"),
    "optimism": msg("Random and spatial splits"),
    "draws": msg("Repeated draws"),
    "folds": msg("From fold to fold"),
    "calibration": msg("Calibration"),
    "sets": msg("Prediction sets"),
    "evidence": msg("What the network looks at"),
    "embedding": msg("Tiles by likeness"),
    "members": msg("Members and their weights"),
    "curves": msg("Training"),
    "rejected": msg("Labels that gave no chip"),
    "unused": msg("Labels that gave no pixel"),
    "use": msg("How to use the model"),
    "facts": msg("About this run"),
    "weights": msg("Where the weights come from"),
    "recipe": msg("The recipe, resolved"),
}
PICTURES_IN = {  # sections with a picture of another name
    "classes": ("confusion",),
    "optimism": ("variogram",),
    "folds": ("blocks",),
}


@dataclass(frozen=True)
class Table:
    """A table of plain values; floats show three decimals, nan and None a dash.

    `bar` is the column (from 0) whose shares are drawn as bars behind their numbers, `swatches`
    one #rrggbb per row shown before its first cell, `strong` the row set in bold.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    bar: int | None = None
    swatches: tuple[str, ...] = ()
    strong: int | None = None

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns hold numbers alone and are aligned right."""
        return tuple(
            all(not isinstance(row[column], str) for row in self.rows) and bool(self.rows)
            for column in range(len(self.header))
        )


@dataclass(frozen=True)
class Picture:
    """A PNG, the words for who cannot see it, and the caption under it."""

    png: bytes
    alt: str
    caption: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height on the page: the picture was drawn at 144 dots to the inch."""
        width, height = struct.unpack(">II", self.png[16:24])
        return round(width / 1.5), round(height / 1.5)


@dataclass(frozen=True)
class Note:
    """A remark in small print."""

    text: str


@dataclass(frozen=True)
class Code:
    """A command, or a `long` text such as a recipe."""

    text: str
    long: bool = False


@dataclass(frozen=True)
class Facts:
    """Names and values, side by side."""

    pairs: Mapping[str, str]


@dataclass(frozen=True)
class Steps:
    """What to try next, the most promising first."""

    steps: tuple[Step, ...]


Block = str | Note | Code | Facts | Steps | Table | Picture | Finding  # a string is a paragraph


@dataclass(frozen=True)
class Section:
    """A part of a page: its id, its heading and what stands under it."""

    name: str
    heading: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Answer:
    """One of the first questions of a reader, its answer, and the section that says more."""

    question: str
    text: str
    section: str


@dataclass(frozen=True)
class ReportContent:
    """What a report says. Sections without content are left out.

    `words` (sentences), `tables` and `pictures` are put under the section they are keyed by: one of
    SECTIONS (a picture named "confusion" stands with "classes", "variogram" with "optimism").
    `keys` are the figures on top: label, value, remark. `answers` follow them. `steps` are what to
    try next, `commands` pairs of what a command does and the command.
    """

    title: str
    headline: str
    loses: bool = False
    summary: str = ""
    keys: tuple[tuple[str, str, str], ...] = ()
    answers: tuple[Answer, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    cautions: tuple[str, ...] = ()
    tables: Mapping[str, Table] = field(default_factory=dict)
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    commands: tuple[tuple[str, str], ...] = ()
    recipe: str = ""
    kind: str = msg("report")


def key_figures(result: Evaluation) -> tuple[tuple[str, str, str], ...]:
    """The four figures on top of the page."""
    balanced, kappa = result.intervals["balanced"], result.intervals["kappa"]
    return (
        (msg("Overall accuracy"), shown(result.overall.value), _ends(result.overall)),
        (msg("Balanced accuracy"), shown(balanced.value), _ends(balanced)),
        (msg("Kappa"), shown(kappa.value), _ends(kappa)),
        (
            msg("Calibration error"),
            shown(result.after.error),
            msg("{shown} before scaling", shown=shown(result.before.error)),
        ),
    )


def scores_table(result: Evaluation) -> Table:
    """Overall, balanced, kappa and macro F1 with their intervals."""
    rows: list[tuple[Cell, ...]] = []
    for key, interval in result.intervals.items():
        name, meaning = NAMES[key]
        wilson = _ends(result.overall) if key == "overall" else None
        rows.append((name, interval.value, wilson, _ends(interval), meaning))
    return Table(
        (
            msg("Score"),
            msg("Value"),
            msg("95 % Wilson"),
            msg("95 % bootstrap"),
            msg("What it says"),
        ),
        tuple(rows),
        note=msg("Tested on {sum:,} tiles that chose nothing.", sum=int(result.matrix.sum())),
    )


def classes_table(
    result: Evaluation, colours: Sequence[str] = (), what: str = msg("Tiles")
) -> Table:
    """Precision, recall and F1 of each class, those with few tiles marked with an asterisk."""
    s = result.scores
    rows: list[tuple[Cell, ...]] = []
    for i, name in enumerate(result.classes):
        shares = (float(values[i]) for values in (s.precision, s.recall, s.f1))
        marked = f"{name} *" if name in result.few else name
        rows.append((marked, round(float(s.support[i])), *shares))
    return Table(
        (msg("Class"), what, msg("Precision"), msg("Recall"), msg("F1")),
        tuple(rows),
        note=msg("* tested on fewer than 5 {what}: read with care.", what=small(what))
        if result.few
        else "",
        bar=4,
        swatches=tuple(colours),
    )


def baselines_table(
    result: Evaluation,
    name: str = msg("This network"),
    beside: Mapping[str, Interval] | None = None,
) -> Table:
    """The network among the baselines, and what else stands beside it, best first."""
    everyone = {name: result.overall} | dict(beside or {}) | result.rivals
    ranked = sorted(everyone.items(), key=lambda pair: -pair[1].value)
    return Table(
        ("", msg("Overall accuracy"), msg("95 % interval"), msg("Difference")),
        tuple(
            (
                who,
                interval.value,
                _ends(interval),
                "" if who == name else _points(interval.value - result.overall.value),
            )
            for who, interval in ranked
        ),
        note=msg(
            "Difference from {name} in percentage points, on the same tiles.", name=small(name)
        ),
        strong=[who for who, _ in ranked].index(name),
    )


def draws_table(
    rows: Mapping[str, Mapping[str, Spread]], what: str = msg("draws of the training labels")
) -> Table:
    """Mean and sd over draws: a row per method, a column per score that any of them has."""
    known = [key for key in NAMES if any(key in spreads for spreads in rows.values())]
    draws = max((s.draws for spreads in rows.values() for s in spreads.values()), default=0)
    return Table(
        ("", *(NAMES[key][0] for key in known)),
        tuple(
            (name, *(_mean_sd(spreads.get(key)) for key in known)) for name, spreads in rows.items()
        ),
        note=msg("Mean ± standard deviation over {draws} {what}.", draws=draws, what=what),
    )


def cautions(result: Evaluation) -> tuple[str, ...]:
    """What a reader should know before relying on the figures.

    >>> from geotl.evaluation.evaluate import evaluate
    >>> cautions(evaluate([[1.0, 0.0]] * 9, [0] * 9, ["wood", "field"]))[0]
    'Fewer than 5 test tiles: field. Their scores say next to nothing.'
    """
    texts = []
    better = [name for name, r in result.rivals.items() if r.value > result.overall.value]
    if result.loses:
        texts.append(
            msg("The network is worse than: {names}. Use that instead.", names=joined(better))
        )
    if result.few:
        texts.append(
            msg(
                "Fewer than 5 test tiles: {names}. Their scores say next to nothing.",
                names=joined(result.few),
            )
        )
    width = result.overall.high - result.overall.low
    if width > 0.15:
        texts.append(
            msg(
                "The accuracy is known to ±{width:.0f} points only; more test tiles would "
                "narrow it.",
                width=50 * width,
            )
        )
    if result.after.error > result.before.error + 0.01:
        texts.append(msg("Temperature scaling did not help here: calibration error rose."))
    return tuple(texts)


def predictions_csv(
    paths: Iterable[str],
    truth: ArrayLike | None,
    probabilities: ArrayLike,
    classes: Sequence[str],
    sets: Bools | None = None,
) -> str:
    """Lay out predictions.csv: path, truth, predicted, confidence, correct and each p_CLASS.

    Without truths those two columns are left out; a truth of -1 is an empty cell. With prediction
    sets [n,K] a last column holds the classes of each, such as water|reed.

    >>> print(predictions_csv(["a.tif"], [0], [[0.75, 0.25]], ["wood", "field"]).strip())
    path,truth,predicted,confidence,correct,p_wood,p_field
    a.tif,wood,wood,0.750000,1,0.750000,0.250000
    """
    rows = np.asarray(probabilities, dtype=np.float64)
    labels: list[int | None] = [None] * len(rows)
    if truth is not None:
        labels = [int(label) for label in np.asarray(truth)]
    head = ["path", "truth", "predicted", "confidence", "correct"]
    if truth is None:
        head = ["path", "predicted", "confidence"]
    set_words = None if sets is None else [[_set_words(own, classes)] for own in sets.tolist()]
    stream = io.StringIO()
    writer = TableWriter(stream)
    writer.writerow([*head, *(f"p_{name}" for name in classes), *(["set"] if set_words else [])])
    for path, label, row, own in zip(
        paths, labels, rows, set_words or [[]] * len(rows), strict=True
    ):
        best = int(row.argmax())
        cells = [str(path), classes[best], f"{row[best]:.6f}"]
        if label is not None:
            known = label != UNLABELLED
            cells.insert(1, classes[label] if known else "")
            cells.append(str(int(best == label)) if known else "")
        writer.writerow([*cells, *(f"{share:.6f}" for share in row), *own])
    return stream.getvalue()


def _set_words(included: Sequence[bool], classes: Sequence[str]) -> str:
    """Names of the classes of a set.

    >>> _set_words([True, False, True], ["water", "field", "reed"])
    'water|reed'
    """
    return "|".join(name for name, inside in zip(classes, included, strict=True) if inside)


def write_report(path: Path, content: ReportContent) -> None:
    """Write report.html whole or not at all."""
    write_text(path, report_html(content))


def report_html(content: ReportContent) -> str:
    """Set a report as one self-contained HTML page, for screen (wide or narrow) and A4 paper.

    >>> page = report_html(ReportContent("Wood & field", "overall accuracy 0.850"))
    >>> "<h1>Wood &amp; field</h1>" in page
    True

    Raises:
        ValueError: content of a section that the page does not have.
    """
    given = {*content.tables, *content.words, *content.pictures}
    if lost := sorted(given - {*SECTIONS, *chain(*PICTURES_IN.values())}):
        raise ValueError(f"no section of the report: {', '.join(lost)}; enter it in SECTIONS")
    every = (Section(name, SECTIONS[name], tuple(_blocks(name, content))) for name in SECTIONS)
    return page_html(content, [section for section in every if section.blocks])


def page_html(content: ReportContent, sections: Sequence[Section]) -> str:
    """Set a page of its top (title, headline, figures, answers, cautions) and of sections."""
    return render("page.html", content=content, sections=sections)


def _blocks(name: str, content: ReportContent) -> Iterator[Block]:
    """Everything that stands under one heading of the report."""
    yield from content.words.get(name, ())
    if name in content.tables:
        yield content.tables[name]
    keys = (name, *PICTURES_IN.get(name, ()))
    yield from (content.pictures[key] for key in keys if key in content.pictures)
    if name == "stand" and content.steps:
        yield from (msg("What to try next, the most promising first:"), Steps(content.steps))
    if name == "use":
        for purpose, command in content.commands:
            yield from (purpose, Code(command))
    if name == "facts" and content.facts:
        yield Facts(content.facts)
    if name == "recipe" and content.recipe:
        yield Code(content.recipe, long=True)


def _points(difference: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return numeral(f"{100 * difference:+.1f}".replace("-", "−"))


def _ends(interval: Interval) -> str:
    """The ends of an interval, a dash where there are none."""
    if math.isnan(interval.low) or math.isnan(interval.high):
        return "–"
    return msg("{low:.3f} to {high:.3f}", low=interval.low, high=interval.high)


def _mean_sd(spread: Spread | None) -> str:
    """Mean ± sd, or the mean alone of a single draw."""
    if spread is None:
        return "–"
    mean = f"{spread.mean:.3f}"
    return numeral(mean if math.isnan(spread.sd) else f"{mean} ± {spread.sd:.3f}")
