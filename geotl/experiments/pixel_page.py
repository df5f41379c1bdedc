"""What a run of task pixels leaves behind for people: metrics, predictions, figures and report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from geotl.data.spatial_splits import Variogram
from geotl.errors import DataError
from geotl.evaluation.metrics import Interval
from geotl.evaluation.next_steps import Step
from geotl.evaluation.pixel_steps import pixel_steps
from geotl.experiments.label_doubts import DOUBTFUL, scene_look
from geotl.experiments.pixel_findings import findings_of
from geotl.experiments.pixel_report import FUSED, RANDOM, PixelOutcome, negative, points
from geotl.experiments.recipe import shown_title, written_text
from geotl.experiments.report_page import rejected_table
from geotl.experiments.run_folder import METRICS
from geotl.experiments.run_sets import SETS
from geotl.io.files import write_text
from geotl.language import msg, numeral, of_recipe, sentence
from geotl.models.pixel_model import title_of
from geotl.reporting import curve_figures, figures
from geotl.reporting.answers import (
    accuracy_answer,
    classes_answer,
    comparison_answer,
    next_answer,
)
from geotl.reporting.html import (
    Answer,
    Picture,
    ReportContent,
    Table,
    classes_table,
    key_figures,
    predictions_csv,
    write_report,
)


def publish_pixels(outcome: PixelOutcome, out: Path) -> dict[str, Any]:
    """Write everything for people; metrics.json last, which marks the run as finished."""
    samples, answers = outcome.samples, outcome.answers
    names = [samples.names[row] for row in answers.rows]
    table = predictions_csv(names, answers.truth, answers.probabilities, samples.classes)
    write_text(out / "predictions.csv", table)
    pictures = result_pictures(outcome)
    if outcome.doubts.found:
        pictures[DOUBTFUL] = outcome.doubts.picture(scene_look(outcome.recipe, samples))
        outcome.doubts.write(out)
    for name, picture in pictures.items():
        figures.write_png(out / f"{name}.png", picture.png)
    write_report(out / "report.html", report_content(outcome, pictures, out))
    metrics = outcome.metrics()
    write_text(out / METRICS, json.dumps(metrics, indent=2, sort_keys=True) + "\n")
    return metrics


def result_pictures(outcome: PixelOutcome) -> dict[str, Picture]:
    """Pictures of the race, the confusion matrix, the calibration and the variogram."""
    result = outcome.evaluation
    pictures = {
        "race": Picture(
            figures.baselines_figure([(n, *i) for n, i in outcome.race.items()], FUSED),
            msg("Accuracies of all methods"),
            msg(
                "Accuracy on the same folds, with 95 % intervals over {blocks} blocks.",
                blocks=outcome.blocks,
            ),
        ),
        "confusion": Picture(
            figures.confusion_figure(result.matrix, result.classes, unit=msg("labels")),
            msg("Confusion matrix"),
            msg("Rows are the truth, columns the predictions; each label counts once."),
        ),
        "calibration": Picture(
            figures.calibration_figure(result.before, result.after, result.temperature),
            msg("Confidence against accuracy"),
            msg(
                "Before and after the fusion's temperature. On the dashed line confidence is "
                "the share of correct labels."
            ),
        ),
    }
    if (variogram := variogram_of(outcome)) is not None:
        pictures["blocks"] = Picture(
            curve_figures.variogram_figure(variogram, outcome.recipe.split.block_m, msg("labels")),
            msg("Dissimilarity of labelled pixels by distance"),
            sentence(variogram.summary(msg("labels"))),
        )
    return pictures


def variogram_of(outcome: PixelOutcome) -> Variogram | None:
    """How far labelled pixels resemble each other, for folds by blocks; None if unknown."""
    if outcome.recipe.split.method != "blocks":
        return None
    try:
        return outcome.samples.variogram
    except DataError:  # too few places: the recipe gives the side of the blocks
        return None


def report_content(outcome: PixelOutcome, pictures: dict[str, Picture], out: Path) -> ReportContent:
    """The report's parts in place."""
    steps = pixel_steps(findings_of(outcome))
    result, samples = outcome.evaluation, outcome.samples
    notes = (*samples.missing(), *samples.placement.notes)
    lost = samples.placement.lost_classes()  # the first of the warnings
    tables = {
        "race": race_table(outcome),
        "members": members_table(outcome),
        "classes": classes_table(result, outcome.colours, msg("Labels")),
        "folds": folds_table(outcome),
        SETS: outcome.sets.table(),
    }
    if outcome.doubts.found:
        tables[DOUBTFUL] = outcome.doubts.table()
    if samples.placement.rejected:
        tables["unused"] = rejected_table(samples.placement.rejected)
    model = out / "model.safetensors"
    return ReportContent(
        title=shown_title(outcome.recipe),
        headline=outcome.headline(),
        loses=outcome.ranked()[0] != FUSED,
        keys=key_figures(result),
        answers=first_answers(outcome, steps),
        steps=steps,
        facts=outcome.facts(),
        summary=of_recipe(outcome.recipe.note),
        cautions=(*lost, outcome.estimate(), *outcome.warnings()[len(lost) :], *notes),
        tables=tables,
        words={DOUBTFUL: outcome.doubts.words()},
        pictures=pictures,
        commands=((msg("Map a scene"), f"geotl map {model} SCENE -o map.tif"),),
        recipe=written_text(outcome.recipe),
    )


def first_answers(outcome: PixelOutcome, steps: tuple[Step, ...]) -> tuple[Answer, ...]:
    """What a lab asks first, in a sentence each."""
    others = {name: own.value for name, own in outcome.race.items() if name != FUSED}
    accuracy, doubts = outcome.race[FUSED], outcome.doubts
    tested = msg(
        "{labels} test labels ({folds_words})",
        labels=len(outcome.samples.placement.labels),
        folds_words=outcome.folds_words(),
    )
    return (
        accuracy_answer(accuracy, tested, "race"),
        comparison_answer(accuracy.value, others, "race", outcome.differences),
        classes_answer(outcome.evaluation, msg("labels")),
        next_answer(steps, len(doubts), doubts.labels),
    )


def race_table(outcome: PixelOutcome) -> Table:
    """All methods on the same folds, the most accurate first."""
    rows = []
    for name in outcome.ranked():
        accuracy = outcome.race[name]
        gap = "" if name == FUSED else points(negative(outcome.differences[name]))
        spent = outcome.seconds_of(name)
        shown = None if spent is None else numeral(spent, ".1f")
        rows.append((name, accuracy.value, ends_of(accuracy), gap, shown))
    if outcome.random is not None:
        accuracy, gap = outcome.random.accuracy, points(outcome.random.difference)
        rows.append((RANDOM, accuracy.value, ends_of(accuracy), gap, None))
    return Table(
        (
            "",
            msg("Accuracy"),
            msg("95 % interval"),
            msg("Difference from fused"),
            msg("Seconds a fold"),
        ),
        tuple(rows),
        note=msg(
            "Each label counts once. The most accurate method wins if the interval of its "
            "difference from the next lies above zero; otherwise it leads within chance. "
            "Intervals are of the block bootstrap over {blocks} blocks; differences are "
            "paired. The time of fused is that of all its members.",
            blocks=outcome.blocks,
        ),
        strong=outcome.ranked().index(FUSED),
    )


def ends_of(accuracy: Interval) -> str:
    """The ends of an accuracy's interval.

    >>> ends_of(Interval(0.85, 0.7093, 0.9294))
    '[0.709, 0.929]'
    """
    return msg("[{low:.3f}, {high:.3f}]", low=accuracy.low, high=accuracy.high)


def members_table(outcome: PixelOutcome) -> Table:
    """Members of the model that is kept, with what the folds chose."""
    rows = tuple(
        (title_of(name), outcome.fusion.weights[name], numeral(one.setting, "g"), one.temperature)
        for name, one in outcome.fusion.members.items()
    )
    return Table(
        (msg("Member"), msg("Weight"), msg("Setting"), msg("Temperature")),
        rows,
        note=msg(
            "The setting is a discriminant's shrinkage, C of a logistic member, a forest's "
            "trees, or a decoder's epochs. Weights are of calibrated log-probabilities."
        ),
        bar=1,
    )


def folds_table(outcome: PixelOutcome) -> Table:
    """Labels and accuracy of each fold."""
    rows = tuple(
        (msg("fold {number}", number=one.draw.number + 1), *one.labels, one.near, one.accuracy)
        for one in outcome.folds
    )
    return Table(
        (
            "",
            msg("Training labels"),
            msg("Test labels"),
            msg("Training labels near a test pixel"),
            msg("Accuracy"),
        ),
        rows,
        note=msg("Near means within the features' windows."),
    )
