"""What a run leaves behind for people: metrics, predictions, figures and the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from geotl.data.labels import REASONS, Rejection
from geotl.evaluation.calibration import calibration_caption, distrust
from geotl.evaluation.learning_curve import Optimism
from geotl.evaluation.next_steps import Stand, Step
from geotl.experiments.experiment import Experiment
from geotl.experiments.explain import Insight, looks, pictures_of
from geotl.experiments.label_doubts import DOUBTFUL
from geotl.experiments.recipe import shown_title, written_text
from geotl.experiments.report import Outcome
from geotl.experiments.report_words import FUSE, fusion_hint, one_of_many, stand_words, tuning_words
from geotl.experiments.results import Answers
from geotl.experiments.run_folder import METRICS, RECIPE
from geotl.experiments.run_sets import SETS
from geotl.experiments.save import colours_of
from geotl.io.files import write_text
from geotl.language import joined, msg, numeral, of_recipe, sentence
from geotl.models.weights import WeightReport
from geotl.reporting import curve_figures, figures
from geotl.reporting.answers import (
    accuracy_answer,
    classes_answer,
    comparison_answer,
    next_answer,
)
from geotl.reporting.curve_figures import standing_figure
from geotl.reporting.html import (
    Answer,
    Picture,
    ReportContent,
    Table,
    baselines_table,
    cautions,
    classes_table,
    draws_table,
    key_figures,
    predictions_csv,
    scores_table,
    write_report,
)

MOST_REJECTED = 60  # rows of a table in the report
HEAD_SETTINGS = {
    "logistic": msg("C (inverse penalty; further right is freer)"),
    "discriminant": msg("shrinkage (further left is freer)"),
}
HEAD_CHOICE = msg(
    "The head's setting is the one of least log-loss for held-out labels, after "
    "temperature scaling. Accuracy, drawn here, is a coarse picture of it and may "
    "be higher at another setting."
)


def publish(outcome: Outcome, insight: Insight | None = None) -> dict[str, Any]:
    """Write everything for people; metrics.json last, which marks the run as finished.

    `insight` explains the network that is kept, on the first of the test tiles.
    """
    samples, out, answers = outcome.experiment.samples, outcome.experiment.folder, outcome.answers
    colours = colours_of(outcome.experiment.recipe, samples)
    paths = [samples.names[row] for row in answers.rows]
    table = predictions_csv(paths, answers.truth, answers.probabilities, samples.classes)
    write_text(out / "predictions.csv", table)
    write_text(out / "weights.txt", outcome.kept.made.weights.table() + "\n")
    pictures = result_pictures(outcome)
    if insight is not None:
        pictures |= pictures_of(insight, samples, answers, colours, outcome.kfold)
    if outcome.variogram is not None:
        pictures["variogram"] = Picture(
            curve_figures.variogram_figure(
                outcome.variogram, outcome.experiment.recipe.split.block_m
            ),
            msg("Dissimilarity of tiles by distance"),
            sentence(outcome.variogram.summary()),
        )
    if outcome.doubts.found:
        rows = np.array([one.row for one in outcome.doubts.found], np.int64)
        pictures[DOUBTFUL] = outcome.doubts.picture(looks(samples.pack, rows, samples.rgb))
        outcome.doubts.write(out)
    pictures["stand"] = stand_picture(outcome.stand)
    for name, picture in pictures.items():
        figures.write_png(out / f"{name}.png", picture.png)
    write_report(out / "report.html", report_content(outcome, pictures, colours))
    metrics = outcome.metrics()
    write_text(out / METRICS, json.dumps(metrics, indent=2, sort_keys=True) + "\n")
    return metrics


def result_pictures(outcome: Outcome) -> dict[str, Picture]:
    """Pictures of the test: confusion, mistakes, learning, baselines, calibration."""
    result = outcome.evaluation
    return {
        "confusion": Picture(
            figures.confusion_figure(result.matrix, result.classes),
            msg("Confusion matrix"),
            msg("Rows are the truth, columns the predictions."),
        ),
        "mistakes": Picture(
            mistakes(outcome.experiment, outcome.answers),
            msg("Tiles classified incorrectly"),
            msg("The most confident mistakes first."),
        ),
        "curves": learning_picture(outcome),
        "baselines": Picture(
            figures.baselines_figure(baseline_rows(outcome), outcome.title()),
            msg("Accuracies of the network and the baselines"),
            msg("Overall accuracy with 95 % intervals."),
        ),
        "calibration": Picture(
            figures.calibration_figure(result.before, result.after, result.temperature),
            msg("Confidence against accuracy"),
            calibration_caption(result.after),
        ),
    }


def learning_picture(outcome: Outcome) -> Picture:
    """Training curves, or for a probe the accuracy at each setting of the head."""
    fitted, head = outcome.kept.made.fitted, outcome.experiment.recipe.probe.head
    if fitted.history is not None:
        png = figures.curves_figure(fitted.history.epochs, fitted.history.best_epoch)
        return Picture(
            png, msg("Training curves"), msg("Held-out labels lie inside the training labels.")
        )
    accuracies = fitted.chosen.fold_accuracy if fitted.chosen else {}
    chosen = fitted.chosen.setting if fitted.chosen else 0.0
    png = figures.penalties_figure(
        list(accuracies), list(accuracies.values()), chosen, HEAD_SETTINGS[head]
    )
    return Picture(png, msg("Fold accuracy by setting"), HEAD_CHOICE)


def stand_picture(stand: Stand) -> Picture:
    """Accuracies on training and test tiles, against the target."""
    verdict = stand.verdict
    rows = [
        (msg("training tiles"), verdict.train, True),
        (msg("test tiles"), verdict.validation, False),
    ]
    return Picture(
        standing_figure(rows, verdict.target),
        msg("Accuracies of training and test tiles"),
        msg("Both in evaluation mode, with 95 % intervals (Wilson)."),
    )


def baseline_rows(outcome: Outcome) -> list[tuple[str, float, float, float]]:
    """Network and rivals with their intervals, as the figure takes them."""
    own = {outcome.title(): outcome.evaluation.overall}
    rows = own | outcome.alone() | outcome.evaluation.rivals
    return [(name, *interval) for name, interval in rows.items()]


def mistakes(experiment: Experiment, answers: Answers) -> bytes:
    """The figure of tiles classified incorrectly, on one stretch for all."""
    samples, most = experiment.samples, experiment.recipe.evaluate.mistakes
    truth, chances = answers.truth, answers.probabilities
    predicted = chances.argmax(axis=1)
    wrong = np.flatnonzero((predicted != truth) & (truth >= 0))
    wrong = wrong[np.argsort(-chances[wrong].max(axis=1), kind="stable")][:most]
    shown = looks(samples.pack, answers.rows, samples.rgb)(answers.rows[wrong])
    return figures.mistakes_figure(
        shown,
        [samples.classes[i] for i in truth[wrong]],
        [samples.classes[i] for i in predicted[wrong]],
        chances[wrong].max(axis=1).tolist(),
        most=most,
    )


def optimism_table(optimism: Optimism) -> Table:
    """A random split and a spatial one of the same sizes, side by side."""
    gap = numeral(f"{100 * optimism.difference:+.1f}".replace("-", "−"))
    points = msg("{gap} points", gap=gap)
    rows = (
        (msg("random"), optimism.random),
        (optimism.how, optimism.spatial),
        (msg("difference"), points),
    )
    return Table(
        (msg("Split"), msg("Overall accuracy")),
        rows,
        note=msg("{optimism}.", optimism=optimism.words()),
        strong=1,
    )


def gain_facts(outcome: Outcome) -> dict[str, str]:
    """What unlabelled pixels added, as a row of the report's facts."""
    gain = outcome.results.gain()
    return {} if gain is None else {msg("Gain"): gain.words("fold" if outcome.kfold else "draw")}


def rejected_table(rejected: Sequence[Rejection]) -> Table:
    """The labels that gave no chip, by reason; the first of very many."""
    rows = sorted(
        ((REASONS[one.reason], one.class_name, one.label_id, one.detail) for one in rejected),
        key=lambda row: row[0],
    )
    listed: str = msg("All of them, with their ids, are in rejected.csv.")
    if len(rows) > MOST_REJECTED:
        first = msg("The first {shown} of {rows}.", shown=MOST_REJECTED, rows=len(rows))
        listed = joined([listed, first], " ")
    return Table(
        (msg("Reason"), msg("Class"), msg("Label"), msg("What exactly")),
        tuple(rows[:MOST_REJECTED]),
        note=listed,
    )


def first_answers(outcome: Outcome) -> tuple[Answer, ...]:
    """What a lab asks first, in a sentence each."""
    accuracy, rivals = outcome.comparison()
    result, doubts = outcome.evaluation, outcome.doubts
    return (
        accuracy_answer(accuracy, msg("{n:,} test tiles", n=int(result.matrix.sum()))),
        comparison_answer(accuracy[0], rivals),
        classes_answer(result),
        next_answer(report_steps(outcome), len(doubts), doubts.labels),
    )


def report_steps(outcome: Outcome) -> tuple[Step, ...]:
    """What to try next; band statistics first, where the network loses to them."""
    steps, fused = outcome.stand.steps, outcome.experiment.recipe.model.fuse_statistics
    return steps if fused or not fusion_hint(outcome.headline()) else (FUSE, *steps)


def report_words(outcome: Outcome) -> dict[str, tuple[str, ...]]:
    """The report's sentences, by the section they stand in."""
    recipe, tuning = str(outcome.experiment.folder / RECIPE), outcome.kept.made.fitted.tuning
    words = {"stand": stand_words(outcome.stand, recipe), DOUBTFUL: outcome.doubts.words()}
    return words if tuning is None else words | {"curves": tuning_words(tuning)}


def report_tables(outcome: Outcome, colours: Sequence[str]) -> dict[str, Table]:
    """The report's tables, by the section they stand in."""
    result = outcome.evaluation
    tables = {
        "baselines": baselines_table(result, outcome.title(), outcome.alone()),
        "scores": scores_table(result),
        "classes": classes_table(result, colours),
        "weights": weights_table(outcome.kept.made.weights),
    }
    spreads = {outcome.results.title(n): own for n, own in outcome.results.spreads().items()}
    if outcome.kfold:
        tables["folds"] = draws_table(spreads, msg("folds, each counting alike"))
    elif outcome.draws > 1:
        tables["draws"] = draws_table(spreads)
    if outcome.sets is not None:
        tables[SETS] = outcome.sets.table()
    if outcome.doubts.found:
        tables[DOUBTFUL] = outcome.doubts.table()
    placement = outcome.experiment.samples.placement
    if placement is not None and placement.rejected:
        tables["rejected"] = rejected_table(placement.rejected)
    if optimism := outcome.results.optimism(outcome.experiment.recipe):
        tables["optimism"] = optimism_table(optimism)
    return tables


def weights_table(weights: WeightReport) -> Table:
    """Where the network's first weights came from."""
    rows = (
        (msg("Source"), weights.source),
        ("SHA-256", weights.sha256),
        (msg("Tensors"), weights.counted()),
        *((msg("Note"), note) for note in weights.notes),
    )
    return Table(
        (msg("What"), msg("Value")), rows, note=msg("Every tensor is listed in weights.txt.")
    )


def report_content(
    outcome: Outcome, pictures: dict[str, Picture], colours: Sequence[str]
) -> ReportContent:
    """The report's parts in place."""
    result, experiment = outcome.evaluation, outcome.experiment
    headline, model = outcome.headline(), experiment.folder / "model.safetensors"
    placement = experiment.samples.placement
    lost = placement.lost if placement is not None else ()  # the first of the warnings
    return ReportContent(
        title=shown_title(experiment.recipe),
        headline=headline,
        loses=outcome.loses,
        keys=key_figures(result),
        answers=first_answers(outcome),
        facts=outcome.facts | gain_facts(outcome),
        summary=of_recipe(experiment.recipe.note),
        cautions=(
            *lost,
            *one_of_many(outcome.draws, outcome.kfold, outcome.kept.estimate),
            *outcome.warnings,
            *cautions(result),
            *filter(None, [distrust(result.after)]),
        ),
        tables=report_tables(outcome, colours),
        words=report_words(outcome),
        steps=report_steps(outcome),
        pictures=pictures,
        commands=(
            (msg("Classify new tiles"), f"geotl predict {model} TILES -o predictions.csv"),
            (msg("Test it on other labelled tiles"), f"geotl evaluate {model} FOLDER"),
            (msg("See what it holds"), f"geotl inspect {model}"),
        ),
        recipe=written_text(experiment.recipe),
    )
