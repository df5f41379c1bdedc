"""What a run leaves behind for people: metrics, predictions, figures and the report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from geotl.arrays import Float64s, Floats, Int64s
from geotl.data.labels import Rejection
from geotl.data.spatial_splits import Variogram
from geotl.data.tile_array import Pack
from geotl.evaluation.calibration import calibration_caption, distrust
from geotl.evaluation.evaluate import Evaluation, Spread, headline, plain, softmax
from geotl.evaluation.learning_curve import Gain, Optimism
from geotl.evaluation.metrics import Interval
from geotl.evaluation.next_steps import Stand
from geotl.experiments.explain import Insight, looks, pictures_of
from geotl.experiments.save import METRICS
from geotl.io.files import write_text
from geotl.models.weights import WeightReport
from geotl.reporting import curve_figures, figures
from geotl.reporting.curve_figures import standing_figure
from geotl.reporting.html import (
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
from geotl.training.heads import Chosen
from geotl.training.learner import History

MOST_REJECTED = 60  # rows of a table in the report
HEAD_CHOICE = (
    "The head's setting is the one of least log-loss in the folds, after temperature scaling. "
    "Accuracy, drawn here, is a coarse picture of it and may be higher at another setting."
)


@dataclass(frozen=True)
class Answers:
    """What a network said of the tiles it was judged on.

    Attributes:
        rows: the tiles [n].
        truth: their classes [n].
        logits: [n, K].
        temperature: that each row of logits is divided by [n]; folds differ in it.
    """

    rows: Int64s
    truth: Int64s
    logits: Floats
    temperature: Float64s

    @classmethod
    def joined(cls, parts: Sequence[Answers]) -> Answers:
        """Those of several folds, one after the other."""
        names = [field.name for field in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True)
class Outcome:
    """What a run found, before it is written.

    `pooled` holds the accuracy of every method over all folds together, where there are folds;
    `note` is the recipe's own, `warnings` are about the labels.
    """

    out: Path
    title: str
    recipe: str
    result: Evaluation
    spreads: dict[str, dict[str, Spread]]
    fit_seconds: list[float]
    facts: dict[str, str]
    weights: WeightReport
    history: History | None
    chosen: Chosen | None
    answers: Answers
    head_setting: str = "setting of the head"
    kfold: int | None = None
    optimism: Optimism | None = None
    gain: Gain | None = None
    variogram: Variogram | None = None
    block_m: float | None = None
    pooled: Mapping[str, Interval] = field(default_factory=dict)
    note: str = ""
    warnings: tuple[str, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    stand: Stand | None = None

    @property
    def draws(self) -> int:
        """How often labels were drawn."""
        return len(self.fit_seconds)

    def headline(self) -> str:
        """The first line: whom the network loses to, if anybody, then its accuracy."""
        if self.kfold:
            return f"{self.result.headline}, {self.kfold} folds together"
        if self.draws == 1:
            return self.result.headline
        rivals = {
            n: s["overall"].mean for n, s in self.spreads.items() if not n.startswith("network")
        }
        if "majority class" in self.result.rivals:
            rivals["majority class"] = self.result.rivals["majority class"].value
        return headline(self.spreads["network"]["overall"], rivals)

    def lines(self) -> list[str]:
        """The result in a few printed lines."""
        width = max(map(len, self.spreads))
        what = "fold" if self.kfold else "draw"
        means = {name: told["overall"].over(what) for name, told in self.spreads.items()}
        told = {name: str(accuracy) for name, accuracy in self.pooled.items()} or means
        rows = [f"  {name.ljust(width)}  {accuracy}" for name, accuracy in told.items()]
        seconds = np.median(self.fit_seconds)
        said = [self.optimism.words()] if self.optimism else []
        said += [self.gain.words(what)] if self.gain else []
        which = "" if self.draws == 1 or self.kfold else " (first draw, whose model is kept)"
        said += [self.stand.verdict.line() + which] if self.stand else []
        said += [doubt] if (doubt := distrust(self.result.after)) else []
        return [self.headline(), *rows, *said, f"fitted in {seconds:.1f} s a {what} (median)"]

    def metrics(self) -> dict[str, Any]:
        """What metrics.json holds."""
        told = self.result.to_dict() | {"headline": self.headline()}
        told["draws"] = {
            name: {key: spread._asdict() for key, spread in spreads.items()}
            for name, spreads in self.spreads.items()
        }
        told["fit_seconds"] = self.fit_seconds
        if self.stand is not None:
            told["diagnosis"] = self.stand.verdict.to_dict()
        if self.kfold:
            told["kfold"] = self.kfold
        if self.optimism is not None:
            told["optimism"] = {
                "random": self.optimism.random,
                "spatial": self.optimism.spatial,
                "difference": self.optimism.interval,
            }
        if self.gain is not None:
            told["unlabelled"] = asdict(self.gain)
        if self.variogram is not None:
            told["variogram"] = self.variogram
        if self.chosen is not None:
            told["head"] = {
                "setting": self.chosen.setting,
                "fold_accuracy": self.chosen.fold_accuracy,
            }
        if self.history is not None:
            told["training"] = asdict(self.history)
        found: dict[str, Any] = plain(told)
        return found


def publish(
    outcome: Outcome,
    pack: Pack,
    *,
    names: Sequence[str],
    most: int,
    colours: Sequence[str],
    rgb: Sequence[int],
    insight: Insight | None = None,
) -> dict[str, Any]:
    """Write everything for people; metrics.json last, which marks the run as finished.

    `insight` explains the network that is kept, on the first of the tiles judged.
    """
    out, result, told = outcome.out, outcome.result, outcome.answers
    rows, truth = told.rows, told.truth
    chances = softmax(told.logits, told.temperature)
    paths = [names[i] for i in rows]
    write_text(out / "predictions.csv", predictions_csv(paths, truth, chances, result.classes))
    write_text(out / "weights.txt", outcome.weights.table() + "\n")
    pictures = {
        "confusion": Picture(
            figures.confusion_figure(result.matrix, result.classes),
            "Confusion matrix",
            "Rows are the truth, columns what the network said.",
        ),
        "mistakes": Picture(
            mistakes(pack, rows, truth, chances, result.classes, most=most, rgb=rgb),
            "Tiles named wrongly",
            "The most confident mistakes first.",
        ),
        "curves": learning_picture(outcome),
        "baselines": Picture(
            figures.baselines_figure(baseline_rows(outcome), "This network"),
            "Accuracies of the network and its rivals",
            "Overall accuracy with 95 % intervals.",
        ),
        "calibration": Picture(
            figures.calibration_figure(result.before, result.after, result.temperature),
            "Confidence against accuracy",
            calibration_caption(result.after),
        ),
    }
    if insight is not None:
        pictures |= pictures_of(
            insight,
            pack,
            rows,
            truth,
            chances,
            classes=result.classes,
            colours=colours,
            rgb=rgb,
            folds=outcome.kfold,
        )
    if outcome.variogram is not None:
        pictures["variogram"] = Picture(
            curve_figures.variogram_figure(outcome.variogram, outcome.block_m),
            "Dissimilarity of tiles by distance",
            outcome.variogram.summary() + ".",
        )
    if outcome.stand is not None:
        pictures["stand"] = stand_picture(outcome.stand)
    for name, picture in pictures.items():
        figures.write_png(out / f"{name}.png", picture.png)
    write_report(out / "report.html", report_content(outcome, pictures, colours))
    metrics = outcome.metrics()
    write_text(out / METRICS, json.dumps(metrics, indent=2, sort_keys=True) + "\n")
    return metrics


def learning_picture(outcome: Outcome) -> Picture:
    """Training curves, or for a probe the accuracy at each setting of the head."""
    if outcome.history is not None:
        png = figures.curves_figure(outcome.history.epochs, outcome.history.best_epoch)
        return Picture(png, "Training curves", "Held-out labels lie inside the training labels.")
    told = outcome.chosen.fold_accuracy if outcome.chosen else {}
    chosen = outcome.chosen.setting if outcome.chosen else 0.0
    png = figures.penalties_figure(list(told), list(told.values()), chosen, outcome.head_setting)
    return Picture(png, "Fold accuracy by setting", HEAD_CHOICE)


def stand_picture(stand: Stand) -> Picture:
    """Accuracies on tiles learnt from and on others, against the target."""
    found = stand.verdict
    rows = [("training tiles", found.train, True), ("judged tiles", found.validation, False)]
    return Picture(
        standing_figure(rows, found.target),
        "Accuracies of training and judged tiles",
        "Both in evaluation mode, with 95 % intervals (Wilson).",
    )


def stand_words(stand: Stand, recipe: str) -> tuple[str, ...]:
    """Where the network stands and what that rests on, in sentences."""
    because = stand.verdict.because
    return (
        f"{stand.verdict.title}. {because[:1].upper()}{because[1:]}.",
        f"Regularisers on, explicit: {stand.on('explicit')}; implicit: {stand.on('implicit')}.",
        f"Whether the network can overfit at all, its learning curves against the target and the "
        f"learning rates that suit it: geotl diagnose {recipe}",
    )


def one_of_many(draws: int, kfold: int | None = None) -> tuple[str, ...]:
    """What figures of a single draw, or of folds together, need said about them.

    >>> one_of_many(1)
    ()
    """
    if kfold:
        return (
            f"Figures and pictures are of all {kfold} folds together, each tile judged by a "
            "network that did not learn from its fold. The model kept is the first fold's.",
        )
    if draws == 1:
        return ()
    return (
        f"The headline and the repeated draws are means of {draws} draws; cards, scores, classes "
        "and pictures are of the first draw, whose model was kept.",
    )


def baseline_rows(outcome: Outcome) -> list[tuple[str, float, float, float]]:
    """Network and rivals with their intervals, as the figure takes them."""
    rows = {"This network": outcome.result.overall} | outcome.result.rivals
    return [(name, *interval) for name, interval in rows.items()]


def mistakes(
    pack: Pack,
    rows: Int64s,
    truth: Int64s,
    chances: Floats,
    classes: Sequence[str],
    *,
    most: int,
    rgb: Sequence[int],
) -> bytes:
    """The figure of tiles named wrongly, on one stretch for all."""
    said = chances.argmax(axis=1)
    wrong = np.flatnonzero((said != truth) & (truth >= 0))
    wrong = wrong[np.argsort(-chances[wrong].max(axis=1), kind="stable")][:most]
    shown = looks(pack, rows, rgb)(rows[wrong])
    return figures.mistakes_figure(
        shown,
        [classes[i] for i in truth[wrong]],
        [classes[i] for i in said[wrong]],
        chances[wrong].max(axis=1).tolist(),
        most=most,
    )


def optimism_table(found: Optimism) -> Table:
    """A random split and a spatial one of the same sizes, side by side."""
    points = f"{100 * found.difference:+.1f} points".replace("-", "−")
    rows = (("random", found.random), (found.how, found.spatial), ("difference", points))
    return Table(("Split", "Overall accuracy"), rows, note=f"{found.words()}.", strong=1)


def gain_facts(outcome: Outcome) -> dict[str, str]:
    """What unlabelled pixels added, as a row of the report's facts."""
    if outcome.gain is None:
        return {}
    return {"Gain": outcome.gain.words("fold" if outcome.kfold else "draw")}


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


def report_content(
    outcome: Outcome, pictures: dict[str, Picture], colours: Sequence[str]
) -> ReportContent:
    """The report's parts in place."""
    result, weights = outcome.result, outcome.weights
    tables = {
        "baselines": baselines_table(result),
        "scores": scores_table(result),
        "classes": classes_table(result, colours),
        "weights": Table(
            ("What", "Value"),
            (
                ("Source", weights.source),
                ("SHA-256", weights.sha256),
                ("Tensors", weights.counted()),
                *(("Note", note) for note in weights.notes),
            ),
            note="Every tensor is listed in weights.txt.",
        ),
    }
    if outcome.kfold:
        tables["folds"] = draws_table(outcome.spreads, "folds, each counting alike")
    elif outcome.draws > 1:
        tables["draws"] = draws_table(outcome.spreads)
    words = {}
    if outcome.stand is not None:
        words["stand"] = stand_words(outcome.stand, str(outcome.out / "recipe.yaml"))
    if outcome.rejected:
        tables["rejected"] = rejected_table(outcome.rejected)
    if outcome.optimism is not None:
        tables["optimism"] = optimism_table(outcome.optimism)
    model = outcome.out / "model.safetensors"
    return ReportContent(
        title=outcome.title,
        headline=outcome.headline(),
        loses=outcome.headline().startswith("The network loses"),
        keys=key_figures(result),
        facts=outcome.facts | gain_facts(outcome),
        summary=outcome.note,
        cautions=(
            *one_of_many(outcome.draws, outcome.kfold),
            *outcome.warnings,
            *cautions(result),
            *filter(None, [distrust(result.after)]),
        ),
        tables=tables,
        words=words,
        steps=outcome.stand.steps if outcome.stand else (),
        pictures=pictures,
        commands=(
            ("Name new tiles", f"geotl predict {model} TILES -o predictions.csv"),
            ("Judge it on other labelled tiles", f"geotl evaluate {model} FOLDER"),
            ("See what it holds", f"geotl inspect {model}"),
        ),
        recipe=outcome.recipe,
    )
