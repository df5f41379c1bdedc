"""What a diagnosis of task pixels leaves behind: figures, a page and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from geotl.evaluation.evaluate import plain
from geotl.evaluation.metrics import Interval
from geotl.experiments.pixel_report import FUSED, folds_table
from geotl.experiments.recipe import written_text
from geotl.io.files import json_text, write_text
from geotl.reporting import figures
from geotl.reporting.curve_figures import standing_figure
from geotl.reporting.html import (
    Picture,
    ReportContent,
    Table,
    classes_table,
    figure_html,
    page_html,
    section_html,
    steps_html,
    table_html,
    top_html,
)
from geotl.studies.diagnosis_report import JSON_NAME, PAGE_NAME, ends, sentence
from geotl.studies.pixel_diagnosis import PixelDiagnosis


def write_pixel_diagnosis(folder: Path, found: PixelDiagnosis) -> Path:
    """Write figures, page and (last) JSON; the path of the page."""
    pictures = _pictures(found)
    for name, picture in pictures.items():
        figures.write_png(folder / f"{name}.png", picture.png)
    write_text(folder / PAGE_NAME, page(found, pictures))
    write_text(folder / JSON_NAME, as_json(found))
    return folder / PAGE_NAME


def as_json(found: PixelDiagnosis) -> str:
    """Everything measured, as JSON."""
    outcome, findings = found.outcome, found.findings
    random = outcome.random
    record: dict[str, Any] = {
        "task": "pixels",
        "verdict": found.verdict.to_dict(),
        "next": [asdict(step) for step in found.steps],
        "methods": {
            name: {"training": share, "folds": outcome.race[name]}
            for name, share in found.training.items()
        },
        "random_split": random._asdict() if random else None,
        "labels": dict(findings.labels),
        "pairs": [asdict(pair) for pair in findings.pairs],
        "folds": [
            {"accuracy": one.accuracy, "near": one.near, "lacking": list(one.lacking)}
            for one in outcome.folds
        ],
        "missing_bands": list(findings.missing),
        "warnings": list(outcome.warnings()),
        "curve": list(found.curve[1]) if found.curve else None,
    }
    return json_text(plain(record))


def _pictures(found: PixelDiagnosis) -> dict[str, Picture]:
    """The figures, by the section in which they stand."""
    outcome, verdict, result = found.outcome, found.verdict, found.outcome.evaluation
    rows = [
        ("training labels", verdict.train, True),
        ("test labels, folds by place", verdict.validation, False),
    ]
    if outcome.random is not None:
        rows.append(("test labels, random split", outcome.random.accuracy, False))
    made = {
        "standing": Picture(
            standing_figure(rows, verdict.target),
            "Accuracies of the fused model",
            "Intervals are Wilson's for training labels, else of the block bootstrap.",
        ),
        "confusion": Picture(
            figures.confusion_figure(result.matrix, result.classes, unit="labels"),
            "Confusion matrix",
            "Rows are the truth, columns the predictions; each label counts once.",
        ),
    }
    if found.curve:
        made["labels"] = Picture(
            found.curve[0],
            "Accuracy by labels a class",
            "All sizes of a fold are tested on the same labels.",
        )
    return made


def page(found: PixelDiagnosis, pictures: Mapping[str, Picture]) -> str:
    """The whole diagnosis as one self-contained page."""
    outcome, shown = found.outcome, {n: figure_html(one) for n, one in pictures.items()}
    stand = sentence(found.verdict.because) + sentence(found.memory_words()) + shown["standing"]
    random = [outcome.random.words()] if outcome.random else []
    trust = [text.rstrip(".") for text in (*random, *outcome.warnings(), *found.findings.missing)]
    classes = table_html(classes_table(outcome.evaluation, outcome.colours, "Labels"))
    pairs = "".join(sentence(pair.words()) for pair in found.findings.pairs)
    sections = {
        ("stand", "Where do you stand"): stand,
        ("next", "What to try next"): steps_html(found.steps),
        ("methods", "Training labels and test labels"): table_html(methods_table(found)),
        ("trust", "How far the accuracy can be believed"): "".join(map(sentence, trust)),
        ("classes", "Class by class"): classes + pairs + shown["confusion"],
        ("folds", "From fold to fold"): table_html(folds_table(outcome)),
        ("labels", "What more labels bring"): _curve_html(found, shown),
        ("recipe", "The recipe, resolved"): _recipe_html(found),
    }
    parts = [section_html(*name, body) for name, body in sections.items() if body]
    top = top_html(_top(found))
    title = outcome.recipe.title or outcome.recipe.name
    return page_html(title, "\n".join([top, *parts]) + "\n", kind="diagnosis")


def methods_table(found: PixelDiagnosis) -> Table:
    """Accuracy on training labels and on test labels, by method."""
    race = found.outcome.race
    order = sorted(found.training, key=lambda name: -race[name].value)
    rows = tuple(
        (name, found.training[name], race[name].value, found.training[name] - race[name].value)
        for name in order
    )
    return Table(
        ("", "Training labels", "Test labels", "Gap"),
        rows,
        note="Of all folds together; each label counts once. A forest reproduces its training "
        "labels nearly always, so that its gap says little.",
        strong=order.index(FUSED),
    )


def _curve_html(found: PixelDiagnosis, shown: Mapping[str, str]) -> str:
    """The learning curve with its sentences on more labels, if there is one."""
    if found.curve is None:
        return ""
    said = [line.strip() for line in found.curve[1] if "more labels" in line]
    return shown["labels"] + "".join(map(sentence, said))


def _recipe_html(found: PixelDiagnosis) -> str:
    text = escape(written_text(found.outcome.recipe).strip())
    return f'<pre class="recipe"><code>{text}</code></pre>\n'


def _top(found: PixelDiagnosis) -> ReportContent:
    verdict, outcome = found.verdict, found.outcome
    target = "none stated" if verdict.target is None else f"{verdict.target:.3f}"
    keys = [
        _key("Training accuracy", verdict.train),
        _key("Accuracy in the folds", verdict.validation),
        ("Target", target, "evaluate.target"),
    ]
    if outcome.random is not None:
        keys.append(_key("Random split", outcome.random.accuracy))
    return ReportContent(
        title=outcome.recipe.title or outcome.recipe.name,
        headline=verdict.headline,
        kind="diagnosis",
        loses=verdict.word in ("under", "over"),
        keys=tuple(keys),
        facts=outcome.facts(),
    )


def _key(name: str, accuracy: Interval) -> tuple[str, str, str]:
    return name, f"{accuracy.value:.3f}", ends(accuracy)
