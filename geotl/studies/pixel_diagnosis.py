"""`geotl diagnose` of task pixels: training accuracy, folds by place, random split, classes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from geotl.console import Log
from geotl.evaluation.next_steps import Step
from geotl.evaluation.overfitting import Verdict
from geotl.evaluation.pixel_steps import PixelFindings, pixel_steps
from geotl.experiments.pixel_draws import kept_draw
from geotl.experiments.pixel_findings import findings_of, training_accuracy
from geotl.experiments.pixel_report import PixelOutcome
from geotl.experiments.pixels import conclude, fit_on, open_pixels, score_folds, score_random
from geotl.experiments.recipe import Recipe, dump
from geotl.experiments.run_folder import open_run
from geotl.language import msg
from geotl.studies.learning_curve import kept_curve
from geotl.training.pixel_fusion import since


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
        return msg(
            "forests reproduce their training labels nearly always, so the gap of the fused"
            " model is large whatever the labels; {best} has {training:.3f} on its training"
            " labels and {value:.3f} in the folds",
            best=best,
            training=self.training[best],
            value=race[best].value,
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
    findings = findings_of(outcome)
    return PixelDiagnosis(outcome, findings, pixel_steps(findings), training, shown)


def without_target(recipe: Recipe) -> Recipe:
    """The recipe without its target, which changes no measurement."""
    evaluate = recipe.evaluate.model_copy(update={"target": None})
    return recipe.model_copy(update={"evaluate": evaluate})
