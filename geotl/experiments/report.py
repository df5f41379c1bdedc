"""What a run leaves behind for people: metrics, predictions, figures and the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from geotl.console import aligned
from geotl.data.labels import Rejection
from geotl.data.spatial_splits import Variogram
from geotl.evaluation.calibration import calibration_caption, distrust
from geotl.evaluation.evaluate import (
    Evaluation,
    Interval,
    Spread,
    headline,
    losses,
    plain,
)
from geotl.evaluation.learning_curve import Optimism
from geotl.evaluation.next_steps import Stand, Step
from geotl.experiments.compare import FittedDraw
from geotl.experiments.experiment import Experiment
from geotl.experiments.explain import Insight, looks, pictures_of
from geotl.experiments.kept_model import KeptModel
from geotl.experiments.label_doubts import DOUBTFUL, LabelDoubts
from geotl.experiments.recipe import written_text
from geotl.experiments.report_words import FUSE, fusion_hint, one_of_many, stand_words, tuning_words
from geotl.experiments.results import FUSED, NETWORK, NETWORK_ALONE, Answers, Results
from geotl.experiments.run_folder import METRICS, RECIPE
from geotl.experiments.run_sets import SETS, RunSets
from geotl.experiments.save import colours_of
from geotl.io.files import write_text
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
    "logistic": "C (inverse penalty; further right is freer)",
    "discriminant": "shrinkage (further left is freer)",
}
HEAD_CHOICE = (
    "The head's setting is the one of least log-loss for held-out labels, after temperature "
    "scaling. "
    "Accuracy, drawn here, is a coarse picture of it and may be higher at another setting."
)


@dataclass(frozen=True)
class Outcome:
    """What a run found, before it is written.

    Attributes:
        experiment: that was run.
        first: the first draw's network.
        kept: what is written as the model: this network, or one fitted on all labels.
        results: of every draw.
        answers: what networks said of the test tiles: the first draw's, or those of all folds.
        evaluation: scores of these answers.
        stand: where the network stands between under- and overfitting, and what to try.
        facts: what a reader wants to know of the run.
        doubts: labels that look like another class.
        sets: prediction sets; None where the kept model has no held-out predictions.
        variogram: of the tiles, where blocks were laid by it.
        warnings: about the labels.
    """

    experiment: Experiment
    first: FittedDraw
    kept: KeptModel
    results: Results
    answers: Answers
    evaluation: Evaluation
    stand: Stand
    facts: dict[str, str]
    doubts: LabelDoubts
    sets: RunSets | None = None
    variogram: Variogram | None = None
    warnings: tuple[str, ...] = ()

    @property
    def kfold(self) -> int | None:
        """Number of folds that are tested together, None where labels are drawn."""
        return self.experiment.recipe.split.kfold

    @property
    def draws(self) -> int:
        """How often labels were drawn."""
        return len(self.results.draws)

    def headline(self) -> str:
        """The first line: methods that are more accurate, if any, then the network's accuracy."""
        name = "network with band statistics" if self.results.fused else "network"
        line = headline(*self.comparison(), name)
        return f"{line}, {self.kfold} folds together" if self.kfold else line

    @property
    def loses(self) -> bool:
        """Whether another method is more accurate."""
        accuracy, rivals = self.comparison()
        return bool(losses(accuracy[0], rivals))

    def title(self) -> str:
        """The name of what the report is about, in its own tables and figures."""
        if not self.alone():
            return "This network"
        return f"This {self.results.title(NETWORK) if self.kfold else FUSED}"

    def alone(self) -> dict[str, Interval]:
        """The network's accuracy before it was fused with band statistics, if it was."""
        draws = self.results.draws if self.kfold else self.results.draws[:1]
        shown = Results(draws)
        return {NETWORK_ALONE: shown.pooled()[NETWORK_ALONE]} if shown.fused else {}

    def comparison(self) -> tuple[Interval | Spread, dict[str, float]]:
        """Overall accuracy of the network and of its rivals; means where there are repeats."""
        rivals = {name: rival.value for name, rival in self.evaluation.rivals.items()}
        if self.kfold or self.draws == 1:
            return self.evaluation.overall, rivals
        spreads = self.results.spreads()
        means = {n: s["overall"].mean for n, s in spreads.items() if not n.startswith("network")}
        majority = {n: value for n, value in rivals.items() if n == "majority class"}
        return spreads[NETWORK]["overall"], means | majority

    def lines(self) -> list[str]:
        """The result in a few printed lines."""
        what = "fold" if self.kfold else "draw"
        seconds = np.median(self.results.seconds)
        return [
            self.headline(),
            *self._methods(what),
            *self._remarks(what),
            f"fitted in {seconds:.1f} s a {what} (median)",
            *filter(None, [self.kept.estimate]),
            *self.doubts.line(),
        ]

    def _methods(self, what: str) -> list[str]:
        """A line for each method: its accuracy over all folds, or its mean over the draws."""
        spreads = self.results.spreads()
        rows = {name: own["overall"].over(what) for name, own in spreads.items()}
        if self.kfold:
            rows = {name: str(accuracy) for name, accuracy in self.results.pooled().items()}
        titled = [(self.results.title(name), accuracy) for name, accuracy in rows.items()]
        return [f"  {line}" for line in aligned(titled, left=(0, 1))]

    def _remarks(self, what: str) -> list[str]:
        """What must be said beside the accuracies."""
        optimism, gain = self.results.optimism(self.experiment.recipe), self.results.gain()
        whose = "" if self.kept.estimate else ", whose model is kept"
        which = "" if self.draws == 1 or self.kfold else f" (first draw{whose})"
        remarks = [optimism.words()] if optimism else []
        remarks += [gain.words(what)] if gain else []
        tuning = self.kept.made.fitted.tuning
        remarks += [tuning.words() + which] if tuning else []
        remarks += [self.stand.verdict.line() + which]
        remarks += [doubt] if (doubt := distrust(self.evaluation.after)) else []
        fused = self.experiment.recipe.model.fuse_statistics
        return remarks if fused else [*remarks, *filter(None, [fusion_hint(self.headline())])]

    def metrics(self, *, timed: bool = True) -> dict[str, Any]:
        """What metrics.json holds; without times, the same in every run."""
        recipe, fitted = self.experiment.recipe, self.kept.made.fitted
        record = self.evaluation.to_dict() | {"headline": self.headline()}
        record["draws"] = {
            name: {key: spread._asdict() for key, spread in spreads.items()}
            for name, spreads in self.results.spreads().items()
        }
        if timed:
            record["fit_seconds"] = self.results.seconds
        record["diagnosis"] = self.stand.verdict.to_dict()
        record[DOUBTFUL] = len(self.doubts)
        if self.sets is not None:
            record[SETS] = self.sets.to_dict()
        if self.kfold:
            record["kfold"] = self.kfold
        if optimism := self.results.optimism(recipe):
            record["optimism"] = {
                "random": optimism.random,
                "spatial": optimism.spatial,
                "difference": optimism.interval,
            }
        if gain := self.results.gain():
            record["unlabelled"] = asdict(gain)
        if self.variogram is not None:
            record["variogram"] = self.variogram
        if (chosen := fitted.chosen) is not None:
            record["head"] = {"setting": chosen.setting, "fold_accuracy": chosen.fold_accuracy}
        if fitted.pool is not None:
            record["pool"] = fitted.pool.to_dict()
        record |= self._fusion()
        if fitted.history is not None:
            record["training"] = asdict(fitted.history)
        if fitted.tuning is not None:
            record["tuning"] = asdict(fitted.tuning)
        if self.kept.estimate:
            record |= self._kept(timed)
        metrics: dict[str, Any] = plain(record)
        return metrics

    def _fusion(self) -> dict[str, Any]:
        """How the kept model is fused, and what `network` then stands for in metrics.json."""
        fusion = self.kept.made.fitted.fusion
        record = {} if fusion is None else {"fusion": asdict(fusion)}
        names = {"names": {NETWORK: self.results.title(NETWORK)}} if self.results.fused else {}
        return record | names

    def _kept(self, timed: bool) -> dict[str, Any]:
        """What metrics.json says of a model that was fitted on all labels."""
        made = self.kept.made
        own = {
            "labels": self.kept.labels,
            "tiles": len(made.draw.split.train),
            "temperature": float(made.fitted.network.temperature),
        }
        own |= {"seconds": self.kept.seconds} if timed else {}
        return {"estimate": self.kept.estimate, "kept": own}


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
            "Dissimilarity of tiles by distance",
            outcome.variogram.summary() + ".",
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
            "Confusion matrix",
            "Rows are the truth, columns the predictions.",
        ),
        "mistakes": Picture(
            mistakes(outcome.experiment, outcome.answers),
            "Tiles classified incorrectly",
            "The most confident mistakes first.",
        ),
        "curves": learning_picture(outcome),
        "baselines": Picture(
            figures.baselines_figure(baseline_rows(outcome), outcome.title()),
            "Accuracies of the network and the baselines",
            "Overall accuracy with 95 % intervals.",
        ),
        "calibration": Picture(
            figures.calibration_figure(result.before, result.after, result.temperature),
            "Confidence against accuracy",
            calibration_caption(result.after),
        ),
    }


def learning_picture(outcome: Outcome) -> Picture:
    """Training curves, or for a probe the accuracy at each setting of the head."""
    fitted, head = outcome.kept.made.fitted, outcome.experiment.recipe.probe.head
    if fitted.history is not None:
        png = figures.curves_figure(fitted.history.epochs, fitted.history.best_epoch)
        return Picture(png, "Training curves", "Held-out labels lie inside the training labels.")
    accuracies = fitted.chosen.fold_accuracy if fitted.chosen else {}
    chosen = fitted.chosen.setting if fitted.chosen else 0.0
    png = figures.penalties_figure(
        list(accuracies), list(accuracies.values()), chosen, HEAD_SETTINGS[head]
    )
    return Picture(png, "Fold accuracy by setting", HEAD_CHOICE)


def stand_picture(stand: Stand) -> Picture:
    """Accuracies on training and test tiles, against the target."""
    verdict = stand.verdict
    rows = [("training tiles", verdict.train, True), ("test tiles", verdict.validation, False)]
    return Picture(
        standing_figure(rows, verdict.target),
        "Accuracies of training and test tiles",
        "Both in evaluation mode, with 95 % intervals (Wilson).",
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
    points = f"{100 * optimism.difference:+.1f} points".replace("-", "−")
    rows = (("random", optimism.random), (optimism.how, optimism.spatial), ("difference", points))
    return Table(("Split", "Overall accuracy"), rows, note=f"{optimism.words()}.", strong=1)


def gain_facts(outcome: Outcome) -> dict[str, str]:
    """What unlabelled pixels added, as a row of the report's facts."""
    gain = outcome.results.gain()
    return {} if gain is None else {"Gain": gain.words("fold" if outcome.kfold else "draw")}


def rejected_table(rejected: Sequence[Rejection]) -> Table:
    """The labels that gave no chip, by reason; the first of very many."""
    rows = sorted(
        ((one.reason, one.class_name, one.label_id, one.detail) for one in rejected),
        key=lambda row: row[0],
    )
    more = f" The first {MOST_REJECTED} of {len(rows)}." if len(rows) > MOST_REJECTED else ""
    return Table(
        ("Reason", "Class", "Label", "What exactly"),
        tuple(rows[:MOST_REJECTED]),
        note=f"All of them, with their ids, are in rejected.csv.{more}",
    )


def first_answers(outcome: Outcome) -> tuple[Answer, ...]:
    """What a lab asks first, in a sentence each."""
    accuracy, rivals = outcome.comparison()
    result, doubts = outcome.evaluation, outcome.doubts
    return (
        accuracy_answer(accuracy, f"{int(result.matrix.sum()):,} test tiles"),
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
        tables["folds"] = draws_table(spreads, "folds, each counting alike")
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
        ("Source", weights.source),
        ("SHA-256", weights.sha256),
        ("Tensors", weights.counted()),
        *(("Note", note) for note in weights.notes),
    )
    return Table(("What", "Value"), rows, note="Every tensor is listed in weights.txt.")


def report_content(
    outcome: Outcome, pictures: dict[str, Picture], colours: Sequence[str]
) -> ReportContent:
    """The report's parts in place."""
    result, experiment = outcome.evaluation, outcome.experiment
    headline, model = outcome.headline(), experiment.folder / "model.safetensors"
    placement = experiment.samples.placement
    lost = placement.lost if placement is not None else ()  # the first of the warnings
    return ReportContent(
        title=experiment.recipe.title or experiment.recipe.name,
        headline=headline,
        loses=outcome.loses,
        keys=key_figures(result),
        answers=first_answers(outcome),
        facts=outcome.facts | gain_facts(outcome),
        summary=experiment.recipe.note,
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
            ("Classify new tiles", f"geotl predict {model} TILES -o predictions.csv"),
            ("Test it on other labelled tiles", f"geotl evaluate {model} FOLDER"),
            ("See what it holds", f"geotl inspect {model}"),
        ),
        recipe=written_text(experiment.recipe),
    )
