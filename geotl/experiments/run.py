"""`geotl run`, the whole story: open, fit and score each split, save, report."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geotl.arrays import Floats, Int64s
from geotl.console import Log
from geotl.data.chip_files import rejected_csv
from geotl.data.spatial_splits import Variogram
from geotl.errors import DataError
from geotl.evaluation.evaluate import evaluate
from geotl.evaluation.metrics import Interval
from geotl.evaluation.next_steps import Stand, next_steps
from geotl.evaluation.overfitting import diagnose
from geotl.evaluation.prediction_sets import HELD_OUT
from geotl.evaluation.regularisers import regularisers
from geotl.experiments.build import caching_note, open_experiment
from geotl.experiments.compare import (
    FittedDraw,
    answers_of,
    compare,
    fit_draw,
    judge,
    judged_features,
    labels_alone,
    training_count,
    unlabelled_head,
    with_what,
)
from geotl.experiments.draws import split_words
from geotl.experiments.experiment import Experiment
from geotl.experiments.explain import Insight, gather
from geotl.experiments.kept_model import KeptModel, fit_kept
from geotl.experiments.label_doubts import doubts_of_tiles
from geotl.experiments.recipe import Recipe, dump
from geotl.experiments.report import Outcome, publish
from geotl.experiments.results import NETWORK, POOL, Answers, DrawResult, Results
from geotl.experiments.rules import SPATIAL
from geotl.experiments.run_folder import finished_alike, open_run, read_metrics
from geotl.experiments.run_sets import sets_of_tiles
from geotl.experiments.samples import TileSamples
from geotl.experiments.save import save_models, versions
from geotl.io.files import write_text
from geotl.io.locks import locked
from geotl.models.backbone import batchnorm_use
from geotl.models.device import choose_device, describe
from geotl.training.features import raw_features
from geotl.training.heads import Linear
from geotl.training.settings import augmentation_keys
from geotl.training.strategies import Fitted, standardised


@dataclass(frozen=True)
class ScoredDraw:
    """One draw, fitted and scored.

    Attributes:
        made: the network.
        result: how it and its baselines did.
        unlabelled: the head that learnt from unlabelled pixels too, if asked for.
    """

    made: FittedDraw
    result: DrawResult
    unlabelled: Linear | None


@locked
def run(
    recipe: Recipe, out: Path, *, resume: bool = False, quiet: bool = False, say: Log = print
) -> dict[str, Any]:
    """Run a recipe into a folder and return its metrics.

    Raises:
        GeoTLError: input, weights or output that cannot be used; the message says what to do.
    """
    begun = time.perf_counter()
    given = recipe.model_dump(mode="json", include={"seed", "data", "labels"})
    known = resume or finished_alike(out, given)
    experiment = open_experiment(recipe, out, log=say, quiet=quiet, resume=known)
    if open_run(out, dump(experiment.recipe), resume=resume):
        metrics = read_metrics(out)
        say(f"{out}: already finished. {metrics['headline']}")
        return metrics
    say(f"computing on {describe(choose_device(), experiment.recipe.train.precision)}")
    first, results = score_draws(experiment)
    kept = fit_kept(experiment, first.made, first.unlabelled, results)
    seconds = time.perf_counter() - begun
    outcome = conclude(experiment, first.made, results, seconds, kept=kept)
    save(experiment, outcome)
    metrics = report(experiment, outcome)
    for line in outcome.lines():
        say(line)
    say(f"model    {out / 'model.safetensors'}\nreport   {out / 'report.html'}")
    return metrics


def score_draws(experiment: Experiment) -> tuple[ScoredDraw, Results]:
    """Fit and score every draw; the first one's network, and the results of all."""
    pooled = experiment.recipe.probe.pool is not None
    results = Results(what=POOL if pooled else with_what(experiment.samples))
    scored = (
        score_draw(experiment, number, results) for number in range(experiment.recipe.split.draws)
    )
    first = next(scored)
    deque(scored, maxlen=0)  # of the other draws only the results are kept
    return first, results


def score_draw(experiment: Experiment, number: int, results: Results) -> ScoredDraw:
    """Fit one draw, score it and its rivals, and say how it went; `results` takes its record."""
    draw = experiment.draw(number)
    begun = time.perf_counter()
    made = fit_draw(experiment, draw)
    seconds = time.perf_counter() - begun
    if number == 0:
        for line in opening_lines(experiment, made):
            experiment.log(line)
    training = training_count(experiment, made)
    logits = judge(experiment, made)
    head, extra = None, None
    if experiment.recipe.probe.unlabelled != "none":
        head, extra = unlabelled_head(experiment, made)
    comparison = compare(experiment, draw, logits, extra, labels_alone(experiment, made))
    history, tuning = made.fitted.history, made.fitted.tuning
    result = DrawResult(
        comparison,
        answers_of(experiment, made, logits),
        training,
        seconds,
        epochs=None if history is None else history.best_epoch + 1,
        share=None if tuning is None else tuning.share,
    )
    results.draws.append(result)
    if line := draw_line(experiment.recipe, results):
        experiment.log(line)
    return ScoredDraw(made, result, head)


def opening_lines(experiment: Experiment, made: FittedDraw) -> list[str]:
    """What is said of the first draw: its split, its weights, and what cannot be cached."""
    recipe = experiment.recipe
    split = [split_words(recipe, made.draw)] if recipe.split.method in SPATIAL else []
    notes = [caching_note(recipe), fusion_line(recipe, made.fitted), pool_line(made.fitted)]
    return [*split, made.weights.summary(), *filter(None, notes)]


def pool_line(fitted: Fitted) -> str:
    """What a pool of unlabelled tiles did; "" without one."""
    return "" if fitted.pool is None else f"probe.pool: {fitted.pool}"


def fusion_line(recipe: Recipe, fitted: Fitted) -> str:
    """How a network is fused with band statistics, or that it is not though it should be."""
    if not recipe.model.fuse_statistics:
        return ""
    missing = "model.fuse_statistics: no training tile is held out, so the network is kept alone"
    return missing if fitted.fusion is None else str(fitted.fusion)


def draw_line(recipe: Recipe, results: Results) -> str:
    """What is said of each of several draws, "" of a single one."""
    number, draws = len(results.draws), recipe.split.draws
    if draws == 1:
        return ""
    if recipe.split.kfold:
        right, judged = results.counts(NETWORK)[-1]
        return f"fold {number}/{draws}: {right} of {judged} test tiles correct"
    mean = results.spreads()[NETWORK]["overall"]
    return f"draw {number}/{draws}: mean overall accuracy {mean}"


def conclude(
    experiment: Experiment, first: FittedDraw, results: Results, seconds: float, *, kept: KeptModel
) -> Outcome:
    """What the run found, from its first draw, or from all folds together."""
    recipe, samples, folds = experiment.recipe, experiment.samples, experiment.recipe.split.kfold
    one = results.draws[0]
    told = Answers.joined([one.answers for one in results.draws]) if folds else one.answers
    evaluation = evaluate(
        told.logits,
        told.truth,
        samples.classes,
        temperature=told.temperature,
        seed=recipe.seed,
        rounds=recipe.evaluate.bootstrap_rounds or 1,
        rivals=results.pooled_rivals(told.truth) if folds else one.comparison.rivals,
    )
    return Outcome(
        experiment=experiment,
        first=first,
        kept=kept,
        results=results,
        answers=told,
        evaluation=evaluation,
        stand=stand_of(
            recipe, first.fitted, results.training(folds=bool(folds)), evaluation.overall
        ),
        facts=run_facts(experiment, first, kept.made, seconds),
        doubts=doubts_of_tiles(samples, kept.made, told),
        sets=sets_of_tiles(samples, kept.made, results, folds),
        variogram=variogram_of(recipe, samples),
        warnings=chip_warnings(samples),
    )


def stand_of(recipe: Recipe, fitted: Fitted, train: Interval, judged: Interval) -> Stand:
    """Where the network stands between under- and overfitting, and what to try."""
    verdict = diagnose(train, judged, recipe.evaluate.target)
    batchnorm = batchnorm_use(fitted.network.backbone)
    found = tuple(regularisers(recipe.model_dump(), augmentation_keys(), batchnorm=batchnorm))
    steps = next_steps(verdict, found, recipe.strategy, more_tiles=False)
    return Stand(verdict, found, steps)


def variogram_of(recipe: Recipe, samples: TileSamples) -> Variogram | None:
    """How far tiles resemble each other, for blocks whose report shows it; None if unknown."""
    if recipe.split.method != "blocks":
        return None
    try:
        return samples.real.variogram
    except DataError:  # too few places: the side of the blocks was given by hand
        return None


def save(experiment: Experiment, outcome: Outcome) -> None:
    """Write the models, and which labels gave no chip."""
    if experiment.samples.placement is not None:
        rejected = rejected_csv(experiment.samples.placement.rejected)
        write_text(experiment.folder / "rejected.csv", rejected)
    held = {} if outcome.sets is None else {HELD_OUT: outcome.sets.held_out.plain()}
    save_models(experiment, outcome.kept, outcome.metrics(timed=False), held)


def report(experiment: Experiment, outcome: Outcome) -> dict[str, Any]:
    """Write all that people read; return the metrics."""
    insight, answers = None, outcome.results.draws[0].answers
    if experiment.recipe.evaluate.explain:
        insight = insight_of(experiment, outcome.first, answers)
    return publish(outcome, insight)


def insight_of(experiment: Experiment, made: FittedDraw, told: Answers) -> Insight:
    """The first draw's network explained, on the tiles it was tested on."""
    fitted, place = made.fitted, {int(row): i for i, row in enumerate(told.rows)}
    packed, precision = experiment.samples.pack, experiment.recipe.train.precision

    def features(rows: Int64s) -> Floats:
        if fitted.features is None:
            raw = raw_features(fitted.network, packed, rows, precision=precision)
            return np.asarray(standardised(fitted.network, raw).mean(axis=1))
        held = judged_features(experiment, made).mean(axis=1)
        return np.asarray(held[[place[int(row)] for row in rows]])

    return gather(fitted.network, packed, told, features=features, seed=experiment.recipe.seed)


def chip_warnings(samples: TileSamples) -> tuple[str, ...]:
    """What labels over scenes need said: notes of their reading, and that chips share labels."""
    placed = samples.placement
    if placed is None:
        return ()
    labels, chips = len({chip.label_id for chip in placed.chips}), len(placed.chips)
    alike = (
        f"{chips} chips come from {labels} labels. Chips of one label resemble each other, so the "
        "intervals, which count each chip alone, are too narrow."
    )
    return (*placed.notes, *([alike] if chips > labels else []))


def chips_facts(samples: TileSamples) -> dict[str, str]:
    """Where labels lie over scenes: what became of them."""
    placed = samples.placement
    if placed is None:
        return {}
    used = len({chip.label_id for chip in placed.chips})
    lost = Counter(one.reason for one in placed.rejected)
    told = ", ".join(f"{reason} {count}" for reason, count in lost.most_common())
    return {
        "Scenes": ", ".join(sorted({chip.scene for chip in placed.chips})),
        "Labels": f"{used} used, in {len(placed.chips)} chips; {sum(lost.values())} rejected"
        + (f" ({told}; listed in rejected.csv)" if lost else ""),
    }


def run_facts(
    experiment: Experiment, first: FittedDraw, kept: FittedDraw, seconds: float
) -> dict[str, str]:
    """What a reader wants to know of a run."""
    recipe, samples, draw = experiment.recipe, experiment.samples, first.draw
    split, fusion = draw.split, fusion_line(recipe, first.fitted)
    sizes = f"{len(split.train)} to learn from, {len(split.test)} judged, "
    words = split_words(recipe, draw).removeprefix("split ")
    spatial = recipe.split.method in SPATIAL
    return {
        "Recipe": recipe.name,
        "Strategy": recipe.strategy,
        **chips_facts(samples),
        **({"Split": words} if spatial else {"Tiles": f"{sizes}{len(split.set_aside)} set aside"}),
        **({"Band statistics": fusion} if fusion else {}),
        **({"Unlabelled tiles": str(kept.fitted.pool)} if kept.fitted.pool else {}),
        "Bands": ", ".join(samples.pack.bands),
        "Sensor": samples.sensor.title,
        "Seed": str(recipe.seed),
        "Device": describe(choose_device(), recipe.train.precision),
        "Time": f"{seconds:.0f} s in all",
        "Versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
    }
