"""What a diagnosis of task pixels leaves behind: figures, a page and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from geotl.evaluation.evaluate import plain
from geotl.evaluation.metrics import Interval
from geotl.experiments.pixel_page import folds_table
from geotl.experiments.pixel_report import FUSED
from geotl.experiments.recipe import shown_title, written_text
from geotl.io.files import json_text, write_text
from geotl.language import msg, numeral, sentence, stored
from geotl.reporting import figures
from geotl.reporting.curve_figures import standing_figure
from geotl.reporting.html import (
    Block,
    Picture,
    ReportContent,
    Section,
    Steps,
    Table,
    classes_table,
    page_html,
)
from geotl.studies.diagnosis_report import (
    JSON_NAME,
    MORE_LABELS,
    NEXT,
    PAGE_NAME,
    STAND,
    ends,
    last_sections,
)
from geotl.studies.pixel_diagnosis import PixelDiagnosis


def write_pixel_diagnosis(folder: Path, diagnosis: PixelDiagnosis) -> Path:
    """Write figures, page and (last) JSON; the path of the page."""
    pictures = _pictures(diagnosis)
    for name, picture in pictures.items():
        figures.write_png(folder / f"{name}.png", picture.png)
    write_text(folder / PAGE_NAME, page(diagnosis, pictures))
    write_text(folder / JSON_NAME, as_json(diagnosis))
    return folder / PAGE_NAME


def as_json(diagnosis: PixelDiagnosis) -> str:
    """Everything measured, as JSON."""
    outcome, findings = diagnosis.outcome, diagnosis.findings
    random = outcome.random
    record: dict[str, Any] = {
        "task": "pixels",
        "verdict": diagnosis.verdict.to_dict(),
        "next": [asdict(step) for step in diagnosis.steps],
        "methods": {
            name: {"training": share, "folds": outcome.race[name]}
            for name, share in diagnosis.training.items()
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
        "curve": list(diagnosis.curve[1]) if diagnosis.curve else None,
    }
    return json_text(plain(record))


def _pictures(diagnosis: PixelDiagnosis) -> dict[str, Picture]:
    """The figures, by the section in which they stand."""
    outcome, verdict, result = diagnosis.outcome, diagnosis.verdict, diagnosis.outcome.evaluation
    rows = [
        (msg("training labels"), verdict.train, True),
        (msg("test labels, folds by place"), verdict.validation, False),
    ]
    if outcome.random is not None:
        rows.append((msg("test labels, random split"), outcome.random.accuracy, False))
    pictures = {
        "standing": Picture(
            standing_figure(rows, verdict.target),
            msg("Accuracies of the fused model"),
            msg("Intervals are Wilson's for training labels, else of the block bootstrap."),
        ),
        "confusion": Picture(
            figures.confusion_figure(result.matrix, result.classes, unit=msg("labels")),
            msg("Confusion matrix"),
            msg("Rows are the truth, columns the predictions; each label counts once."),
        ),
    }
    if diagnosis.curve:
        pictures["labels"] = Picture(
            diagnosis.curve[0],
            msg("Accuracy by labels a class"),
            msg("All sizes of a fold are tested on the same labels."),
        )
    return pictures


def page(diagnosis: PixelDiagnosis, pictures: Mapping[str, Picture]) -> str:
    """The whole diagnosis as one self-contained page."""
    outcome = diagnosis.outcome
    stand = [sentence(text) for text in (diagnosis.verdict.because, diagnosis.memory_words())]
    random = [outcome.random.words()] if outcome.random else []
    trust = [*random, *outcome.warnings(), *diagnosis.findings.missing]
    pairs = [sentence(pair.words()) for pair in diagnosis.findings.pairs]
    classes = classes_table(outcome.evaluation, outcome.colours, msg("Labels"))
    every: list[tuple[str, str, Sequence[Block]]] = [
        ("stand", STAND, [*stand, pictures["standing"]]),
        ("next", NEXT, [Steps(diagnosis.steps)]),
        ("classes", msg("Class by class"), [classes, *pairs, pictures["confusion"]]),
        ("methods", msg("Training labels and test labels"), [methods_table(diagnosis)]),
        ("trust", msg("How far the accuracy can be believed"), [*map(sentence, trust)]),
        ("folds", msg("From fold to fold"), [folds_table(outcome)]),
        ("labels", MORE_LABELS, _curve(diagnosis, pictures)),
    ]
    sections = [Section(name, heading, tuple(blocks)) for name, heading, blocks in every if blocks]
    last = last_sections(outcome.facts(), written_text(outcome.recipe))
    return page_html(_top(diagnosis), [*sections, *last])


def methods_table(diagnosis: PixelDiagnosis) -> Table:
    """Accuracy on training labels and on test labels, by method."""
    race = diagnosis.outcome.race
    order = sorted(diagnosis.training, key=lambda name: -race[name].value)
    rows = tuple(
        (
            name,
            diagnosis.training[name],
            race[name].value,
            diagnosis.training[name] - race[name].value,
        )
        for name in order
    )
    return Table(
        ("", msg("Training labels"), msg("Test labels"), msg("Gap")),
        rows,
        note=msg(
            "Of all folds together; each label counts once. A forest reproduces its "
            "training labels nearly always, so that its gap says little."
        ),
        strong=order.index(FUSED),
    )


def _curve(diagnosis: PixelDiagnosis, pictures: Mapping[str, Picture]) -> list[Block]:
    """The learning curve with its sentences on more labels, if there is one."""
    if diagnosis.curve is None:
        return []
    return [
        pictures["labels"],
        *(sentence(stored(row.strip())) for row in diagnosis.curve[1] if "more labels" in row),
    ]


def _top(diagnosis: PixelDiagnosis) -> ReportContent:
    verdict, outcome = diagnosis.verdict, diagnosis.outcome
    target = msg("none stated") if verdict.target is None else numeral(verdict.target, ".3f")
    keys = [
        _key(msg("Training accuracy"), verdict.train),
        _key(msg("Accuracy in the folds"), verdict.validation),
        (msg("Target"), target, "evaluate.target"),
    ]
    if outcome.random is not None:
        keys.append(_key(msg("Random split"), outcome.random.accuracy))
    return ReportContent(
        title=shown_title(outcome.recipe),
        headline=verdict.headline,
        kind=msg("diagnosis"),
        loses=verdict.word in ("under", "over"),
        keys=tuple(keys),
    )


def _key(name: str, accuracy: Interval) -> tuple[str, str, str]:
    return name, numeral(accuracy.value, ".3f"), ends(accuracy)
