"""The report of a run: one HTML page that carries everything with it, and the predictions table.

Plain values in, text out. The page has no scripts and asks nothing of the network: pictures
are inside it, and its policy forbids loading anything else. Every text given is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import io
import math
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from geotl.arrays import Bools
from geotl.evaluation.evaluate import Evaluation, Interval, Spread
from geotl.evaluation.metrics import UNLABELLED
from geotl.evaluation.next_steps import Step
from geotl.io.files import asset, write_text
from geotl.io.tables import TableWriter

Cell = str | int | float | None

NAMES = {
    "overall": ("Overall accuracy", "share of tiles classified correctly"),
    "balanced": ("Balanced accuracy", "mean recall, every class counting alike"),
    "kappa": ("Kappa", "agreement beyond chance (Cohen)"),
    "macro_f1": ("Macro F1", "mean F1, every class counting alike"),
}
SECTIONS = {  # id -> heading, in the page's order
    "baselines": "Against the baselines",
    "race": "The race on the same folds",
    "members": "Members and their weights",
    "stand": "Where do you stand",
    "scores": "Scores",
    "optimism": "Random and spatial splits",
    "draws": "Repeated draws",
    "folds": "From fold to fold",
    "classes": "Class by class",
    "pairs": "Classes mixed up",
    "mistakes": "Mistakes",
    "doubtful_labels": "Labels that look like another class",
    "evidence": "What the network looks at",
    "embedding": "Tiles by likeness",
    "curves": "Training",
    "calibration": "Calibration",
    "sets": "Prediction sets",
    "rejected": "Labels that gave no chip",
    "unused": "Labels that gave no pixel",
    "use": "How to use the model",
    "weights": "Where the weights come from",
    "recipe": "The recipe, resolved",
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


@dataclass(frozen=True)
class Picture:
    """A PNG, the words for who cannot see it, and the caption under it."""

    png: bytes
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class ReportContent:
    """What a report says. Sections without content are left out.

    `words` (sentences), `tables` and `pictures` are put under the section they are keyed by: one of
    SECTIONS (a picture named "confusion" stands with "classes", "variogram" with "optimism").
    `keys` are the figures on top: label, value, remark. `steps` are what to try next, `commands`
    pairs of what a command does and the command.
    """

    title: str
    headline: str
    loses: bool = False
    summary: str = ""
    keys: tuple[tuple[str, str, str], ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    cautions: tuple[str, ...] = ()
    tables: Mapping[str, Table] = field(default_factory=dict)
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    commands: tuple[tuple[str, str], ...] = ()
    recipe: str = ""
    kind: str = "report"


def key_figures(result: Evaluation) -> tuple[tuple[str, str, str], ...]:
    """The four figures on top of the page."""
    balanced, kappa = result.intervals["balanced"], result.intervals["kappa"]
    return (
        ("Overall accuracy", _shown(result.overall.value), _ends(result.overall)),
        ("Balanced accuracy", _shown(balanced.value), _ends(balanced)),
        ("Kappa", _shown(kappa.value), _ends(kappa)),
        (
            "Calibration error",
            _shown(result.after.error),
            f"{_shown(result.before.error)} before scaling",
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
        ("Score", "Value", "95 % Wilson", "95 % bootstrap", "What it says"),
        tuple(rows),
        note=f"Judged on {int(result.matrix.sum()):,} tiles that chose nothing.",
    )


def classes_table(result: Evaluation, colours: Sequence[str] = (), what: str = "Tiles") -> Table:
    """Precision, recall and F1 of each class, those with few tiles marked with an asterisk."""
    s = result.scores
    rows: list[tuple[Cell, ...]] = []
    for i, name in enumerate(result.classes):
        shares = (float(values[i]) for values in (s.precision, s.recall, s.f1))
        marked = f"{name} *" if name in result.few else name
        rows.append((marked, round(float(s.support[i])), *shares))
    return Table(
        ("Class", what, "Precision", "Recall", "F1"),
        tuple(rows),
        note=f"* judged on fewer than 5 {what.lower()}: read with care." if result.few else "",
        bar=4,
        swatches=tuple(colours),
    )


def baselines_table(result: Evaluation, name: str = "This network") -> Table:
    """The network among its rivals, best first."""
    everyone = {name: result.overall} | result.rivals
    ranked = sorted(everyone.items(), key=lambda pair: -pair[1].value)
    return Table(
        ("", "Overall accuracy", "95 % interval", "Difference"),
        tuple(
            (
                who,
                interval.value,
                _ends(interval),
                "" if who == name else _points(interval.value - result.overall.value),
            )
            for who, interval in ranked
        ),
        note="Difference from the network in percentage points, on the same tiles.",
        strong=[who for who, _ in ranked].index(name),
    )


def draws_table(
    rows: Mapping[str, Mapping[str, Spread]], what: str = "draws of the training labels"
) -> Table:
    """Mean and sd over draws: a row per method, a column per score that any of them has."""
    known = [key for key in NAMES if any(key in spreads for spreads in rows.values())]
    draws = max((s.draws for spreads in rows.values() for s in spreads.values()), default=0)
    return Table(
        ("", *(NAMES[key][0] for key in known)),
        tuple(
            (name, *(_mean_sd(spreads.get(key)) for key in known)) for name, spreads in rows.items()
        ),
        note=f"Mean ± standard deviation over {draws} {what}.",
    )


def cautions(result: Evaluation) -> tuple[str, ...]:
    """What a reader should know before relying on the figures.

    >>> from geotl.evaluation.evaluate import evaluate
    >>> cautions(evaluate([[1.0, 0.0]] * 9, [0] * 9, ["wood", "field"]))[0]
    'Fewer than 5 test tiles: field. Their scores say next to nothing.'
    """
    found = []
    better = [name for name, r in result.rivals.items() if r.value > result.overall.value]
    if result.loses:
        found.append(f"The network is worse than: {', '.join(better)}. Use that instead.")
    if result.few:
        found.append(
            f"Fewer than 5 test tiles: {', '.join(result.few)}. Their scores say next to nothing."
        )
    width = result.overall.high - result.overall.low
    if width > 0.15:
        found.append(
            f"The accuracy is known to ±{50 * width:.0f} points only; more tiles to judge on "
            "would narrow it."
        )
    if result.after.error > result.before.error + 0.01:
        found.append("Temperature scaling did not help here: calibration error rose.")
    return tuple(found)


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
    held = None if sets is None else [[_set_words(own, classes)] for own in sets.tolist()]
    stream = io.StringIO()
    writer = TableWriter(stream)
    writer.writerow([*head, *(f"p_{name}" for name in classes), *(["set"] if held else [])])
    for path, label, row, own in zip(paths, labels, rows, held or [[]] * len(rows), strict=True):
        best = int(row.argmax())
        cells = [str(path), classes[best], f"{row[best]:.6f}"]
        if label is not None:
            known = label != UNLABELLED
            cells.insert(1, classes[label] if known else "")
            cells.append(str(int(best == label)) if known else "")
        writer.writerow([*cells, *(f"{share:.6f}" for share in row), *own])
    return stream.getvalue()


def _set_words(held: Sequence[bool], classes: Sequence[str]) -> str:
    """Names of the classes of a set.

    >>> _set_words([True, False, True], ["water", "field", "reed"])
    'water|reed'
    """
    return "|".join(name for name, inside in zip(classes, held, strict=True) if inside)


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
    sections = {name: _section_body(name, content) for name in SECTIONS}
    filled = {name: body for name, body in sections.items() if body}
    body = "\n".join(section_html(name, SECTIONS[name], text) for name, text in filled.items())
    links = "".join(f'<li><a href="#{name}">{SECTIONS[name]}</a></li>' for name in filled)
    nav = f'<nav aria-label="Sections"><ul>{links}</ul></nav>' if len(filled) > 2 else ""
    return page_html(content.title, f"{top_html(content)}{nav}\n{body}\n")


def section_html(name: str, heading: str, body: str) -> str:
    """A section of a page, with its heading."""
    return (
        f'<section id="{escape(name)}" aria-labelledby="{escape(name)}-heading">\n'
        f'<h2 id="{escape(name)}-heading">{escape(heading)}</h2>\n{body}</section>'
    )


def report_style() -> str:
    """How every page looks, on screens and on paper."""
    return asset("geotl.reporting", "report.css")


def page_html(
    title: str, body: str, *, kind: str = "report", style: str = "", script: str = ""
) -> str:
    """A self-contained page in the report's look, from the HTML of its body.

    Args:
        title: of the page.
        body: HTML.
        kind: what the page is, after its title.
        style: CSS besides that of every page.
        script: JavaScript, the only one that the page's policy lets run; the last thing in it.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    policy = f"; script-src 'sha256-{digest}'" if script else ""
    last = f"<script>{script}</script>\n" if script else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        f"img-src data:; style-src 'unsafe-inline'{policy}\">\n"
        f"<title>{escape(title)}: {kind}</title>\n<style>{report_style()}{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}</main>\n{last}</body>\n</html>\n"
    )


def top_html(content: ReportContent) -> str:
    """Title, verdict, key figures, cautions and facts."""
    headline = content.headline[:1].upper() + content.headline[1:]
    kind = "verdict loses" if content.loses else "verdict"
    parts = [
        f'<header>\n<p class="eyebrow">geotl {escape(content.kind)}</p>\n',
        f"<h1>{escape(content.title)}</h1>\n",
        f'<p class="{kind}">{escape(headline)}</p>\n',
    ]
    if content.summary:
        parts.append(f"<p>{escape(content.summary)}</p>\n")
    if content.keys:
        cards = "".join(
            f"<div><dt>{escape(label)}</dt><dd><b>{escape(value)}</b>"
            f"<span>{escape(remark)}</span></dd></div>"
            for label, value, remark in content.keys
        )
        parts.append(f'<dl class="keys">{cards}</dl>\n')
    if content.cautions:
        items = "".join(f"<li>{escape(text)}</li>" for text in content.cautions)
        parts.append(
            f'<aside class="cautions" aria-label="Cautions"><h2>Read with care</h2>'
            f"<ul>{items}</ul></aside>\n"
        )
    if content.facts:
        pairs = "".join(
            f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>"
            for name, value in content.facts.items()
        )
        parts.append(f'<dl class="facts">{pairs}</dl>\n')
    return "".join(parts) + "</header>\n"


def _section_body(name: str, content: ReportContent) -> str:
    """Everything that stands under one heading; empty where there is nothing."""
    parts = [f"<p>{escape(text)}</p>\n" for text in content.words.get(name, ())]
    if name in content.tables:
        parts.append(table_html(content.tables[name]))
    shown = PICTURES_IN.get(name, ())
    keys = (name, *shown)
    parts += [figure_html(content.pictures[key]) for key in keys if key in content.pictures]
    if name == "stand" and content.steps:
        parts += ["<p>What to try next, the most promising first:</p>\n", steps_html(content.steps)]
    if name == "use":
        parts += [
            f"<p>{escape(does)}</p>\n<pre><code>{escape(command)}</code></pre>\n"
            for does, command in content.commands
        ]
    if name == "recipe" and content.recipe:
        text = escape(content.recipe.strip())
        parts.append(f'<pre class="recipe"><code>{text}</code></pre>\n')
    return "".join(parts)


def steps_html(steps: Sequence[Step]) -> str:
    """Steps as a list, each with the keys to change and what it should do."""
    items = "".join(
        f'<li><p class="said">{escape(step.do)}</p>'
        + (f"<pre><code>{escape(step.change)}</code></pre>" if step.change else "")
        + f"<p>{escape(step.why[:1].upper() + step.why[1:])}.</p></li>\n"
        for step in steps
    )
    return f'<ol class="steps">{items}</ol>\n'


def table_html(table: Table) -> str:
    """Set a table; number columns are aligned right, the first column is the row's heading."""
    numeric = [
        all(not isinstance(row[column], str) for row in table.rows) and bool(table.rows)
        for column in range(len(table.header))
    ]
    head = "".join(
        f'<th scope="col"{_numbers(is_number)}>{escape(text)}</th>'
        for text, is_number in zip(table.header, numeric, strict=True)
    )
    rows = "".join(_row(table, place, numeric) for place in range(len(table.rows)))
    note = f'<p class="note">{escape(table.note)}</p>\n' if table.note else ""
    return (
        f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}</tbody>\n</table></div>\n{note}"
    )


def _row(table: Table, place: int, numeric: Sequence[bool]) -> str:
    """One row of a table."""
    swatch = ""
    if place < len(table.swatches) and re.fullmatch(r"#[0-9a-fA-F]{6}", table.swatches[place]):
        swatch = f'<i class="swatch" style="background:{table.swatches[place]}"></i>'
    cells = []
    for column, value in enumerate(table.rows[place]):
        text = escape(_shown(value))
        if column == 0:
            cells.append(f'<th scope="row">{swatch}{text}</th>')
        elif column == table.bar and isinstance(value, float) and 0.0 <= value <= 1.0:
            cells.append(
                f'<td class="number bar"><i style="width:{4 * value:.2f}rem"></i>{text}</td>'
            )
        else:
            cells.append(f"<td{_numbers(numeric[column])}>{text}</td>")
    strong = ' class="strong"' if place == table.strong else ""
    return f"<tr{strong}>{''.join(cells)}</tr>\n"


def figure_html(picture: Picture) -> str:
    """A picture inside the page, at the size it was drawn for (144 dots to the inch)."""
    width, height = (round(side / 1.5) for side in struct.unpack(">II", picture.png[16:24]))
    data = base64.b64encode(picture.png).decode("ascii")
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>" if picture.caption else ""
    return (
        f'<figure><img src="data:image/png;base64,{data}" width="{width}" height="{height}" '
        f'style="--width:{width}px" alt="{escape(picture.alt)}">{caption}</figure>\n'
    )


def _points(difference: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def _numbers(right: bool) -> str:
    return ' class="number"' if right else ""


def _shown(value: Cell) -> str:
    """A cell's text: three decimals for floats, a dash for what is undefined."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else value


def _ends(interval: Interval) -> str:
    """The ends of an interval, a dash where there are none."""
    if math.isnan(interval.low) or math.isnan(interval.high):
        return "–"
    return f"{interval.low:.3f} to {interval.high:.3f}"


def _mean_sd(spread: Spread | None) -> str:
    """Mean ± sd, or the mean alone of a single draw."""
    if spread is None:
        return "–"
    sd = "" if math.isnan(spread.sd) else f" ± {spread.sd:.3f}"
    return f"{spread.mean:.3f}{sd}"
