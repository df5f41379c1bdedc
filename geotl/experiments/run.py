"""`geotl run`, all steps in order: open, fit and score each split, save, report."""

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
from geotl.data.labels import reason_counts
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
    alone,
    answers_of,
    compare,
    features_of_test,
    fit_draw,
    fuses,
    logits_of_test,
    training_count,
    unlabelled_head,
    with_what,
)
from geotl.experiments.draws import split_words, tested_lines
from geotl.experiments.experiment import Experiment
from geotl.experiments.explain import Insight, gather
from geotl.experiments.kept_model import KeptModel, fit_kept
from geotl.experiments.label_doubts import doubts_of_tiles
from geotl.experiments.recipe import Recipe, dump
from geotl.experiments.report import Outcome
from geotl.experiments.report_page import publish
from geotl.experiments.results import NETWORK, POOL, Answers, DrawResult, Results
from geotl.experiments.rules import SPATIAL
from geotl.experiments.run_folder import finished_alike, open_run, read_metrics
from geotl.experiments.run_sets import sets_of_tiles
from geotl.experiments.samples import TileSamples
from geotl.experiments.save import save_models, versions
from geotl.io.files import write_text
from geotl.io.locks import locked
from geotl.language import joined, msg
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
        unlabelled: the head trained on unlabelled pixels too, if asked for.
    """

    made: FittedDraw
    result: DrawResult
    unlabelled: Linear | None


@locked
def run(
    recipe: Recipe, out: Path, *, resume: bool = False, quiet: bool = False, log: Log = print
) -> dict[str, Any]:
    """Run a recipe into a folder and return its metrics.

    Raises:
        GeoTLError: input, weights or output that cannot be used; the message says what to do.
    """
    begun = time.perf_counter()
    sections = recipe.model_dump(mode="json", include={"seed", "data", "labels"})
    started = resume or finished_alike(out, sections)
    experiment = open_experiment(recipe, out, log=log, quiet=quiet, resume=started)
    if open_run(out, dump(experiment.recipe), resume=resume):
        metrics = read_metrics(out)
        log(f"{out}: already finished. {metrics['headline']}")
        return metrics
    log(f"computing on {describe(choose_device(), experiment.recipe.train.precision)}")
    first, results = score_draws(experiment)
    final = fit_kept(experiment, first.made, first.unlabelled, results)
    seconds = time.perf_counter() - begun
    outcome = conclude(experiment, first.made, results, seconds, final=final)
    save(experiment, outcome)
    metrics = report(experiment, outcome)
    for line in outcome.lines():
        log(line)
    log(f"model    {out / 'model.safetensors'}\nreport   {out / 'report.html'}")
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
    """Fit and score one repeat and its baselines, and log the result, which goes to `results`."""
    draw = experiment.draw(number)
    begun = time.perf_counter()
    fit = fit_draw(experiment, draw)
    seconds = time.perf_counter() - begun
    if number == 0:
        for line in opening_lines(experiment, fit):
            experiment.log(line)
    training = training_count(experiment, fit)
    logits = logits_of_test(experiment, fit)
    head, extra = None, None
    if experiment.recipe.probe.unlabelled != "none":
        head, extra = unlabelled_head(experiment, fit)
    comparison = compare(experiment, draw, logits, extra, alone(experiment, fit))
    history, tuning = fit.fitted.history, fit.fitted.tuning
    result = DrawResult(
        comparison,
        answers_of(experiment, fit, logits),
        training,
        seconds,
        epochs=None if history is None else history.best_epoch + 1,
        share=None if tuning is None else tuning.share,
    )
    results.draws.append(result)
    if line := draw_line(experiment.recipe, results):
        experiment.log(line)
    return ScoredDraw(fit, result, head)


def opening_lines(experiment: Experiment, fit: FittedDraw) -> list[str]:
    """Log lines of the first repeat: its split, its weights, and what cannot be cached."""
    recipe = experiment.recipe
    split = [f"split {split_words(recipe, fit.draw)}"] if recipe.split.method in SPATIAL else []
    split += tested_lines(recipe, experiment.samples, fit.draw)
    weights = renderings_line(fit.fitted)
    notes = [caching_note(recipe), f"weights of renderings: {weights}" if weights else ""]
    notes += [fusion_line(recipe, fit.fitted), pool_line(fit.fitted)]
    return [*split, fit.weights.summary(), *filter(None, notes)]


def renderings_line(fitted: Fitted) -> str:
    """Weights of the heads on the renderings of a tile; "" where there is one head."""
    if fitted.chosen is None or len(fitted.chosen.parts) == 1:
        return ""
    weights = zip(fitted.network.spec.renderings, fitted.chosen.parts, strict=True)
    return joined([msg("{name} {share:.2f}", name=name, share=share) for name, share in weights])


def pool_line(fitted: Fitted) -> str:
    """How a pool of unlabelled tiles was used; "" without one."""
    return "" if fitted.pool is None else f"probe.pool: {fitted.pool}"


def fusion_line(recipe: Recipe, fitted: Fitted) -> str:
    """How a network is fused with band statistics, or that it is not though it should be."""
    if not fuses(recipe):
        return ""
    missing = msg(
        "model.fuse_statistics: no training tile is held out, so the network stays unfused"
    )
    return missing if fitted.fusion is None else str(fitted.fusion)


def draw_line(recipe: Recipe, results: Results) -> str:
    """The log line of each of several repeats, "" of a single one."""
    number, draws = len(results.draws), recipe.split.draws
    if draws == 1:
        return ""
    if recipe.split.kfold:
        right, tested = results.counts(NETWORK)[-1]
        return f"fold {number}/{draws}: {right} of {tested} test tiles correct"
    mean = results.spreads()[NETWORK]["overall"]
    return f"draw {number}/{draws}: mean overall accuracy {mean}"


def conclude(
    experiment: Experiment, first: FittedDraw, results: Results, seconds: float, *, final: KeptModel
) -> Outcome:
    """The results of the run, of its first repeat, or of all folds together."""
    recipe, samples, folds = experiment.recipe, experiment.samples, experiment.recipe.split.kfold
    one = results.draws[0]
    answers = Answers.joined([one.answers for one in results.draws]) if folds else one.answers
    evaluation = evaluate(
        answers.logits,
        answers.truth,
        samples.classes,
        temperature=answers.temperature,
        seed=recipe.seed,
        rounds=recipe.evaluate.bootstrap_rounds or 1,
        rivals=results.pooled_baselines(answers.truth) if folds else one.comparison.baselines,
    )
    return Outcome(
        experiment=experiment,
        first=first,
        kept=final,
        results=results,
        answers=answers,
        evaluation=evaluation,
        stand=stand_of(
            recipe, first.fitted, results.training(folds=bool(folds)), evaluation.overall
        ),
        facts=run_facts(experiment, first, final.made, seconds),
        doubts=doubts_of_tiles(samples, final.made, answers),
        sets=sets_of_tiles(samples, final.made, results, folds),
        variogram=variogram_of(recipe, samples),
        warnings=chip_warnings(samples),
    )


def stand_of(recipe: Recipe, fitted: Fitted, train: Interval, tested: Interval) -> Stand:
    """Whether the network under- or overfits, and what to try."""
    verdict = diagnose(train, tested, recipe.evaluate.target)
    batchnorm = batchnorm_use(fitted.network.backbone)
    used = tuple(regularisers(recipe.model_dump(), augmentation_keys(), batchnorm=batchnorm))
    steps = next_steps(verdict, used, recipe.strategy, more_tiles=False)
    return Stand(verdict, used, steps)


def variogram_of(recipe: Recipe, samples: TileSamples) -> Variogram | None:
    """The variogram of the tiles, for the report of blocks; None if unknown."""
    if recipe.split.method != "blocks":
        return None
    try:
        return samples.real.variogram
    except DataError:  # too few places: the recipe gives the side of the blocks
        return None


def save(experiment: Experiment, outcome: Outcome) -> None:
    """Write the models, and a list of labels without a chip."""
    if experiment.samples.placement is not None:
        rejected = rejected_csv(experiment.samples.placement.rejected)
        write_text(experiment.folder / "rejected.csv", rejected)
    extra = {} if outcome.sets is None else {HELD_OUT: outcome.sets.held_out.plain()}
    save_models(experiment, outcome.kept, outcome.metrics(timed=False), extra)


def report(experiment: Experiment, outcome: Outcome) -> dict[str, Any]:
    """Write all that people read; return the metrics."""
    insight, answers = None, outcome.results.draws[0].answers
    if experiment.recipe.evaluate.explain:
        insight = insight_of(experiment, outcome.first, answers)
    return publish(outcome, insight)


def insight_of(experiment: Experiment, fit: FittedDraw, answers: Answers) -> Insight:
    """The first draw's network explained, on the tiles it was tested on."""
    fitted, place = fit.fitted, {int(row): i for i, row in enumerate(answers.rows)}
    packed, precision = experiment.samples.pack, experiment.recipe.train.precision

    def features(rows: Int64s) -> Floats:
        if fitted.features is None:
            raw = raw_features(fitted.network, packed, rows, precision=precision)
            return np.asarray(standardised(fitted.network, raw).mean(axis=1))
        features_of_tiles = features_of_test(experiment, fit).mean(axis=1)
        return np.asarray(features_of_tiles[[place[int(row)] for row in rows]])

    return gather(fitted.network, packed, answers, features=features, seed=experiment.recipe.seed)


def chip_warnings(samples: TileSamples) -> tuple[str, ...]:
    """Notes on labels over scenes: of their reading, and that chips share labels."""
    placed = samples.placement
    if placed is None:
        return ()
    labels, chips = len({chip.label_id for chip in placed.chips}), len(placed.chips)
    alike = msg(
        "{chips} chips come from {labels} labels. Chips of one label resemble each "
        "other, so the intervals, which count each chip alone, are too narrow.",
        chips=chips,
        labels=labels,
    )
    return (*placed.notes, *([alike] if chips > labels else []))


def chips_facts(samples: TileSamples) -> dict[str, str]:
    """What became of labels over scenes."""
    placed = samples.placement
    if placed is None:
        return {}
    used = len({chip.label_id for chip in placed.chips})
    lost = Counter(one.reason for one in placed.rejected)
    values = {"used": used, "chips": len(placed.chips), "lost": sum(lost.values())}
    words = msg("{used} used, in {chips} chips; {lost} rejected", **values)
    if lost:
        words = msg(
            "{used} used, in {chips} chips; {lost} rejected ({reasons}; listed in rejected.csv)",
            **values,
            reasons=reason_counts(lost.most_common()),
        )
    return {
        msg("Scenes"): ", ".join(sorted({chip.scene for chip in placed.chips})),
        msg("Labels"): words,
    }


def run_facts(
    experiment: Experiment, first: FittedDraw, kept: FittedDraw, seconds: float
) -> dict[str, str]:
    """What a reader wants to know of a run."""
    recipe, samples, draw = experiment.recipe, experiment.samples, first.draw
    split, fusion = draw.split, fusion_line(recipe, first.fitted)
    weights = renderings_line(kept.fitted)
    sizes = msg(
        "{train} training tiles, {test} test tiles, {excluded} excluded",
        train=len(split.train),
        test=len(split.test),
        excluded=len(split.set_aside),
    )
    words = split_words(recipe, draw)
    spatial = recipe.split.method in SPATIAL
    return {
        msg("Recipe"): recipe.name,
        msg("Strategy"): recipe.strategy,
        **chips_facts(samples),
        **({msg("Split"): words} if spatial else {msg("Tiles"): sizes}),
        **({msg("Weights of renderings"): weights} if weights else {}),
        **({msg("Band statistics"): fusion} if fusion else {}),
        **({msg("Unlabelled tiles"): str(kept.fitted.pool)} if kept.fitted.pool else {}),
        msg("Bands"): ", ".join(samples.pack.bands),
        msg("Sensor"): samples.sensor.title,
        msg("Seed"): str(recipe.seed),
        msg("Device"): describe(choose_device(), recipe.train.precision),
        msg("Time"): msg("{seconds:.0f} s in all", seconds=seconds),
        msg("Versions"): ", ".join(f"{name} {number}" for name, number in versions().items()),
    }
