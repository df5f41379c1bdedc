"""How good the model of a project is, and which of its labels look like another class.

Accuracy is measured as `geotl run` of task pixels does, with the same folds over blocks of the
scene and intervals from drawn blocks. Beside it stands what a random split would say. The curve of
accuracy against labels is that of the quick model at all its points: it is there seconds after a
click, and points of different models could not be compared.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geotl.arrays import Bools
from geotl.evaluation.doubtful_labels import Doubt, doubtful_labels
from geotl.evaluation.evaluate import Evaluation
from geotl.evaluation.metrics import Interval
from geotl.evaluation.weighted import WeightedRows, evaluate_weighted, weighted_accuracies
from geotl.experiments.draws import spatial_units
from geotl.experiments.label_doubts import held_out
from geotl.experiments.pixel_draws import class_labels, random_draws
from geotl.experiments.results import Answers
from geotl.io.files import write_text
from geotl.labelling.fitting import Fitting
from geotl.labelling.workers import Stale

LISTED = 5  # one doubtful label for so many, at most
_POINT = ("labels", "value", "low", "high", "block_m")  # of the curve; the last not in older files
MIN_LABELS = 20  # below, an interval of accuracy says next to nothing


@dataclass(frozen=True)
class Measured:
    """What held-out predictions say.

    Attributes:
        evaluation: in folds over blocks.
        random: accuracy in folds of labels anywhere.
        doubts: labels that look like another class, the most doubtful first, by their numbers.
        labels: how many there are.
        by_class: labels of each class, in the order of the classes.
        blocks: how many hold labels.
        block_m: side of the blocks [m], which follows the labels; None for folds of other units.
    """

    evaluation: Evaluation
    random: Interval
    doubts: Mapping[int, Doubt]
    labels: int
    by_class: tuple[int, ...]
    blocks: int
    block_m: float | None

    def event(self) -> dict[str, Any]:
        """The event `accuracy`, without the revision."""
        scores = self.evaluation.scores
        rows = zip(
            self.evaluation.classes,
            scores.recall.tolist(),
            scores.precision.tolist(),
            self.by_class,
            strict=True,
        )
        return {
            "blocked": shown(self.evaluation.intervals["overall"]),
            "random": shown(self.random),
            "classes": {
                name: {"recall": _number(recall), "precision": _number(precision), "labels": count}
                for name, recall, precision, count in rows
            },
            "labels": self.labels,
            "blocks": self.blocks,
            "block_m": self.block_m,
        }

    def doubtful(self) -> list[dict[str, Any]]:
        """The labels of the event `doubts`: at most a fifth of all, the most doubtful first.

        In trials most wrong labels stood there (docs/BENCHMARKS.md), and many of those further down
        were right.
        """
        classes = self.evaluation.classes
        return [
            {
                "id": label,
                "looks_like": classes[doubt.likely],
                "probability": round(doubt.probability_likely, 4),
            }
            for label, doubt in [*self.doubts.items()][: -(-self.labels // LISTED)]
        ]


def measure(fitting: Fitting, stale: Stale, *, quick: bool) -> Measured | None:
    """Test the model in folds over blocks, and in random ones; None where the labels changed.

    Args:
        fitting: with blocks.
        stale: whether the labels changed.
        quick: linear members alone.
    """
    samples, recipe = fitting.samples, fitting.recipe
    parts = []
    for draw in fitting.draws:
        if stale():
            return None
        fusion = fitting.fusion(draw, quick=quick)
        test = samples.rows(draw.split.test, samples.blocks, recipe.seed)
        logits = fusion.model(samples.of, samples.classes).log_probabilities(test.features)
        temperatures = np.full(len(test.labels), fusion.temperature)
        parts.append(
            Answers(draw.split.test, test.labels, logits * fusion.temperature, temperatures)
        )
    answers = Answers.joined(parts)
    correct = _random(fitting, stale, quick=quick)
    if correct is None:
        return None
    unit = spatial_units(recipe, samples, recipe.seed)[0][answers.rows]
    block = np.unique(unit, return_inverse=True)[1].reshape(-1).astype(np.int64)
    rows = WeightedRows(answers.truth, samples.weight[answers.rows], block)
    chance = {"seed": recipe.seed, "rounds": recipe.evaluate.bootstrap_rounds}
    evaluation = evaluate_weighted(
        np.asarray(answers.logits, np.float64),
        rows,
        samples.classes,
        temperature=answers.temperature,
        **chance,
    )
    (random,) = weighted_accuracies(rows, {"random": correct[answers.rows]}, **chance).values()
    every = np.arange(len(samples), dtype=np.int64)
    return Measured(
        evaluation,
        random,
        _doubts(fitting, answers),
        len(samples.placement.labels),
        tuple(class_labels(samples, every).tolist()),
        int(block.max()) + 1,
        recipe.split.block_m,
    )


def _random(fitting: Fitting, stale: Stale, *, quick: bool) -> Bools | None:
    """Which pixels [N] are correct in folds of labels anywhere; None where the labels changed."""
    samples, correct = fitting.samples, np.zeros(len(fitting.samples), bool)
    for draw in random_draws(fitting.recipe, samples, fitting.draws):
        if stale():
            return None
        model = fitting.fusion(draw, quick=quick).model(samples.of, samples.classes)
        test = samples.rows(draw.split.test, samples.blocks, fitting.recipe.seed)
        after = model.log_probabilities(test.features)
        correct[draw.split.test] = after.argmax(axis=1) == test.labels
    return correct


def _doubts(fitting: Fitting, answers: Answers) -> dict[int, Doubt]:
    """Doubtful labels by their numbers."""
    groups = [fitting.samples.groups[row] for row in answers.rows]
    doubts = doubtful_labels(held_out(answers), groups)
    return {int(fitting.samples.groups[one.row]): one for one in doubts}


def too_few(labels: int) -> str | None:
    """Why there is no blocked accuracy yet, and what helps; None from `MIN_LABELS` labels on.

    >>> too_few(12)
    'a blocked accuracy needs 20 labels spread over the scene; there are 12'
    """
    if labels >= MIN_LABELS:
        return None
    count = f"there is {labels}" if labels == 1 else f"there are {labels}"
    return f"a blocked accuracy needs {MIN_LABELS} labels spread over the scene; {count}"


def no_accuracy(fitting: Fitting) -> str | None:
    """Why the model of a project cannot be measured over blocks; None where it can."""
    labels = len(fitting.samples.placement.labels)
    if fitting.blocked:
        return too_few(labels)
    return too_few(labels) or (
        f"a blocked accuracy needs labels in more places: the {labels} labels lie too near each "
        "other for five blocks"
    )


def shown(interval: Interval) -> dict[str, float | None]:
    """An interval as plain numbers, None where it is not known."""
    parts = {"value": interval.value, "low": interval.low, "high": interval.high}
    return {name: _number(value) for name, value in parts.items()}


def _number(value: float) -> float | None:
    return round(float(value), 4) if math.isfinite(value) else None


class Curve:
    """Blocked accuracy of a project against its number of labels, a line of a file for each."""

    def __init__(self, path: Path) -> None:
        """Read the points of earlier sessions; a truncated line is passed over."""
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        self._points: dict[int, dict[str, Any]] = {}
        for point in filter(None, map(_point, lines)):
            self._points[point["labels"]] = point

    @property
    def points(self) -> list[dict[str, Any]]:
        """The newest point of each number of labels, in their order."""
        return [self._points[count] for count in sorted(self._points)]

    def add(self, measured: Measured) -> None:
        """Add a point in place of one of as many labels, and write the file.

        Raises:
            OutputError: the file cannot be written.
        """
        overall = shown(measured.evaluation.intervals["overall"])
        point = {"labels": measured.labels, **overall, "block_m": measured.block_m}
        self._points[measured.labels] = point
        write_text(self.path, "".join(json.dumps(one) + "\n" for one in self.points))


def _point(line: str) -> dict[str, Any] | None:
    """A point of the curve's file; None where the line is none."""
    try:
        point = json.loads(line)
    except ValueError:
        return None
    known = isinstance(point, dict) and isinstance(point.get("labels"), int)
    if not known or not isinstance(point.get("value"), float | int):
        return None
    return {name: point.get(name) for name in _POINT}
