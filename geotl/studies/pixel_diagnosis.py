"""`geotl diagnose` of task pixels: training accuracy, folds by place, random split, classes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from geotl.console import Log
from geotl.evaluation.metrics import Interval, wilson
from geotl.evaluation.next_steps import Step
from geotl.evaluation.overfitting import Verdict
from geotl.evaluation.overfitting import diagnose as verdict_of
from geotl.evaluation.pixel_steps import PixelFindings, mixed_pairs, pixel_steps
from geotl.experiments.pixel_draws import class_labels, kept_draw
from geotl.experiments.pixel_report import FUSED, PixelOutcome
from geotl.experiments.pixels import conclude, fit_on, open_pixels, score_folds, score_random
from geotl.experiments.recipe import Recipe, dump
from geotl.experiments.run_folder import open_run
from geotl.studies.learning_curve import kept_curve
from geotl.training.pixel_fusion import since

WORDS = {  # of a verdict on tiles, and the words for pixels
    "the test tiles": "the test labels",
    "test tiles": "test labels in the folds",
    "other tiles": "other pixels",
    "training tiles": "training labels",
    "the network": "the model",
}


@dataclass(frozen=True)
class PixelDiagnosis:
    """Results of a diagnosis of a recipe of task pixels.

    Attributes:
        outcome: folds and random split, as of a run.
        findings: what the advice rests on.
        steps: what to try next.
        training: accuracy on the training labels of the folds, by method.
        curve: figure of the learning curve and its lines, if it was asked for.
    """

    outcome: PixelOutcome
    findings: PixelFindings
    steps: tuple[Step, ...]
    training: Mapping[str, float]
    curve: tuple[bytes, tuple[str, ...]] | None = None

    @property
    def verdict(self) -> Verdict:
        """Whether the fused model under- or overfits."""
        return self.findings.verdict

    def lines(self) -> list[str]:
        """The verdict and what it rests on, in a few printed lines."""
        random, findings = self.outcome.random, self.findings
        rare = sorted(findings.labels, key=lambda name: findings.labels[name])
        counts = ", ".join(f"{name} {findings.labels[name]}" for name in rare)
        return [
            self.verdict.line(),
            f"  because {self.verdict.because}",
            self.memory_words(),
            *([random.words()] if random else []),
            f"labels per class, the rarest first: {counts}",
            *(pair.words() for pair in findings.pairs),
            *self.outcome.samples.missing(),
            *self.outcome.warnings(),
            "next, the most promising first:",
            *(f"  {n}. {step.line()}" for n, step in enumerate(self.steps, 1)),
        ]

    def memory_words(self) -> str:
        """The gap compared with that of the best linear member, in a sentence."""
        race = self.outcome.race
        linear = [name for name in self.training if name.startswith(("discriminant", "logistic"))]
        best = max(linear, key=lambda name: race[name].value)
        return (
            "forests reproduce their training labels nearly always, so the gap of the fused model "
            f"is large whatever the labels; {best} has {self.training[best]:.3f} on its training "
            f"labels and {race[best].value:.3f} in the folds"
        )


def diagnose_pixels(
    recipe: Recipe, out: Path, *, quick: bool, with_curve: bool, quiet: bool, log: Log
) -> PixelDiagnosis:
    """Measure a recipe in its folds and in a random split, without writing anything but its YAML.

    Args:
        recipe: with `evaluate.target`, or none.
        out: folder; it may hold an earlier diagnosis of the recipe.
        quick: leave the random split out.
        with_curve: the learning curve too.
        quiet: no progress.
        log: gets every line.

    Raises:
        GeoTLError: input or output that cannot be used.
    """
    begun = time.perf_counter()
    opened = open_pixels(recipe, out, log=log, quiet=quiet, resume=True)
    open_run(out, dump(without_target(opened.recipe)), resume=True)
    folds = list(score_folds(opened))
    random = None if quick else score_random(opened, folds)
    fitting = time.perf_counter()
    fusion = fit_on(opened, kept_draw(opened.recipe, opened.samples))
    seconds = (since(begun), since(fitting))
    outcome = conclude(opened, folds, fusion, seconds, random)
    shown = None
    if with_curve:
        shown = kept_curve(without_target(opened.recipe), out / "curve", quiet=quiet)
    training = training_accuracy(outcome)
    findings = findings_of(outcome, training[FUSED])
    return PixelDiagnosis(outcome, findings, pixel_steps(findings), training, shown)


def without_target(recipe: Recipe) -> Recipe:
    """The recipe without its target, which changes no measurement."""
    evaluate = recipe.evaluate.model_copy(update={"target": None})
    return recipe.model_copy(update={"evaluate": evaluate})


def training_accuracy(outcome: PixelOutcome) -> dict[str, float]:
    """Accuracy on the training labels of all folds together, by method."""
    counts = [one.labels[0] for one in outcome.folds]
    return {
        name: float(np.average([one.training[name] for one in outcome.folds], weights=counts))
        for name in outcome.folds[0].training
    }


def findings_of(outcome: PixelOutcome, training: float) -> PixelFindings:
    """What the advice rests on, from a run's outcome and the fused model's training accuracy."""
    samples, folds = outcome.samples, outcome.folds
    counts = class_labels(samples, np.arange(len(samples), dtype=np.int64)).tolist()
    matrix = outcome.evaluation.matrix
    return PixelFindings(
        verdict=verdict_on(outcome, training),
        labels=dict(zip(samples.classes, counts, strict=True)),
        lacking=tuple(sorted({name for one in folds for name in one.lacking})),
        pairs=tuple(mixed_pairs(matrix, samples.classes)),
        ahead=_ahead(outcome.differences),
        optimism=outcome.random.difference if outcome.random else None,
        reach_m=samples.reach_m,
        near=max(one.near for one in folds),
        missing=samples.missing(),
        network=samples.networks is not None,
    )


def verdict_on(outcome: PixelOutcome, training: float) -> Verdict:
    """Training accuracy against the accuracy in the folds, in words of labels."""
    count = round(np.mean([one.labels[0] for one in outcome.folds]))
    train = wilson(round(training * count), count)
    verdict = verdict_of(train, outcome.race[FUSED], outcome.recipe.evaluate.target)
    because = verdict.because
    for tiles, labels in WORDS.items():
        because = because.replace(tiles, labels)
    return replace(verdict, because=because)


def _ahead(differences: Mapping[str, Interval]) -> tuple[str, Interval] | None:
    """The method that is most clearly ahead of the fused model, whose difference is below 0."""
    better = {name: gap for name, gap in differences.items() if gap.high < 0}
    if not better:
        return None
    name = min(better, key=lambda one: better[one].value)
    value, low, high = better[name]
    return name, Interval(-value, -high, -low)
