"""The whole story: tiles to a trained, judged, saved model, readable at one sitting."""

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
from geotl.data.tile_array import wanted_bands
from geotl.errors import BandError, DataError
from geotl.evaluation.evaluate import evaluate, softmax
from geotl.evaluation.metrics import Interval
from geotl.evaluation.next_steps import Stand, next_steps
from geotl.evaluation.overfitting import diagnose
from geotl.evaluation.regularisers import regularisers
from geotl.experiments.build import (
    caching_note,
    check_imagery,
    make_backbone,
    read_source,
    recipe_sensor,
    settle,
)
from geotl.experiments.compare import (
    Tally,
    answers_of,
    compare,
    fit_draw,
    judge,
    judged_features,
    training_count,
    unlabelled_head,
)
from geotl.experiments.draws import Draw, Source, make_draw, split_words
from geotl.experiments.explain import Insight, gather
from geotl.experiments.recipe import Recipe, dump
from geotl.experiments.report import Answers, Outcome, publish
from geotl.experiments.save import (
    colours_of,
    finished_alike,
    holds_run,
    open_run,
    read_metrics,
    save_models,
    versions,
)
from geotl.experiments.schema import SPATIAL
from geotl.io.files import write_text
from geotl.models.backbone import batchnorm_use
from geotl.models.device import choose_device, describe
from geotl.models.weights import WeightReport
from geotl.training.features import raw_features
from geotl.training.heads import Linear
from geotl.training.strategies import Fitted, standardised

HEAD_SETTINGS = {
    "logistic": "C (inverse penalty; further right is freer)",
    "discriminant": "shrinkage (further left is freer)",
}


@dataclass(frozen=True)
class Judged:
    """The draw that is reported and kept: the first one."""

    draw: Draw
    fitted: Fitted
    logits: Floats
    weights: WeightReport
    rivals: dict[str, Interval]
    unlabelled: Linear | None


def run(
    recipe: Recipe, out: Path, *, resume: bool = False, quiet: bool = False, say: Log = print
) -> dict[str, Any]:
    """Run a recipe into a folder and return its metrics.

    Raises:
        GeoTLError: input, weights or output that cannot be used; the message says what to do.
    """
    sensor = recipe_sensor(recipe)
    check_imagery(recipe, sensor)  # told before anything else, then weights and folder
    started = time.perf_counter()
    make_backbone(recipe, sensor, wanted_bands(sensor, recipe.data.bands))
    given = recipe.model_dump(mode="json", include={"seed", "data", "labels"})
    holds_run(out, resume=resume or finished_alike(out, given))
    source = read_source(recipe, sensor, say, quiet=quiet)
    recipe = settle(recipe, source, say)
    if open_run(out, dump(recipe), resume=resume):
        metrics = read_metrics(out)
        say(f"{out}: already finished. {metrics['headline']}")
        return metrics
    say(f"computing on {describe(choose_device(), recipe.train.precision)}")
    tally = Tally()
    judged = (
        judge_draw(recipe, source, number, tally, out, resume=resume, quiet=quiet, say=say)
        for number in range(recipe.split.draws)
    )
    first = next(judged)
    deque(judged, maxlen=0)  # of the other draws only the answers are kept, in the tally
    seconds = time.perf_counter() - started
    outcome = conclude(recipe, source, first, tally, out=out, seconds=seconds)
    metrics = keep(recipe, source, first, outcome)
    for line in outcome.lines():
        say(line)
    say(f"model    {out / 'model.safetensors'}\nreport   {out / 'report.html'}")
    return metrics


def judge_draw(
    recipe: Recipe,
    source: Source,
    number: int,
    tally: Tally,
    out: Path,
    *,
    resume: bool,
    quiet: bool,
    say: Log,
) -> Judged:
    """Fit one draw, judge it and its rivals, and say how it went."""
    draw = make_draw(recipe, source, number)
    begun = time.perf_counter()
    fitted, report = fit_draw(recipe, source, draw, out, resume=resume, quiet=quiet)
    tally.seconds.append(time.perf_counter() - begun)
    if number == 0:
        if recipe.split.method in SPATIAL:
            say(split_words(recipe, draw))
        say(report.summary())
        if note := caching_note(recipe):
            say(note)
    tally.learnt.append(training_count(recipe, source, draw, fitted))
    logits = judge(recipe, source, draw, fitted)
    head, extra = None, None
    if recipe.probe.unlabelled != "none":
        head, extra = unlabelled_head(recipe, source, draw, fitted)
    rivals = compare(
        recipe, source, draw, logits, extra=extra, tally=tally, out=out, quiet=quiet, say=say
    )
    tally.answers.append(answers_of(source, draw, fitted, logits))
    if recipe.split.draws > 1:
        mean = tally.spreads()["network"]["overall"]
        if recipe.split.kfold:
            right, judged = tally.counts("network")[-1]
            say(f"fold {number + 1}/{recipe.split.draws}: {right} of {judged} tiles named rightly")
        else:
            say(f"draw {number + 1}/{recipe.split.draws}: mean overall accuracy {mean}")
    return Judged(draw, fitted, logits, report, rivals, head)


def conclude(
    recipe: Recipe, source: Source, first: Judged, tally: Tally, *, out: Path, seconds: float
) -> Outcome:
    """What the run found, from its first draw, or from all folds together."""
    fitted, draw, folds = first.fitted, first.draw, recipe.split.kfold
    told = Answers.joined(tally.answers) if folds else tally.answers[0]
    rivals = tally.rivals(first.rivals, told.truth) if folds else first.rivals
    result = evaluate(
        told.logits,
        told.truth,
        source.index.classes,
        temperature=told.temperature,
        seed=recipe.seed,
        rounds=recipe.evaluate.bootstrap_rounds or 1,
        rivals=rivals,
    )
    return Outcome(
        out=out,
        title=recipe.title or recipe.name,
        recipe=dump(recipe),
        result=result,
        spreads=tally.spreads(),
        fit_seconds=tally.seconds,
        facts=run_facts(recipe, source, draw, seconds),
        weights=first.weights,
        history=fitted.history,
        chosen=fitted.chosen,
        head_setting=HEAD_SETTINGS[recipe.probe.head],
        answers=told,
        kfold=folds,
        optimism=tally.optimism(recipe),
        gain=tally.gain(source),
        variogram=variogram_of(recipe, source),
        block_m=recipe.split.block_m,
        pooled=tally.pooled() if folds else {},
        note=recipe.note,
        warnings=chip_warnings(source),
        rejected=source.placement.rejected if source.placement else (),
        stand=stand_of(recipe, fitted, tally.training(folds=bool(folds)), result.overall),
    )


def stand_of(recipe: Recipe, fitted: Fitted, train: Interval, judged: Interval) -> Stand:
    """Where the network stands between under- and overfitting, and what to try."""
    verdict = diagnose(train, judged, recipe.evaluate.target)
    batchnorm = batchnorm_use(fitted.network.backbone)
    found = tuple(regularisers(recipe.model_dump(), batchnorm=batchnorm))
    steps = next_steps(verdict, found, recipe.strategy, more_tiles=False)
    return Stand(verdict, found, steps)


def variogram_of(recipe: Recipe, source: Source) -> Variogram | None:
    """How far tiles resemble each other, for blocks whose report shows it; None if unknown."""
    if recipe.split.method != "blocks":
        return None
    try:
        return source.real.variogram
    except DataError:  # too few places: the side of the blocks was given by hand
        return None


def keep(recipe: Recipe, source: Source, first: Judged, outcome: Outcome) -> dict[str, Any]:
    """Write the models and all that people read; return the metrics."""
    if source.placement is not None:
        write_text(outcome.out / "rejected.csv", rejected_csv(source.placement.rejected))
    save_models(
        recipe,
        source,
        first.draw,
        first.fitted,
        report=first.weights,
        metrics=outcome.metrics(),
        out=outcome.out,
        unlabelled=first.unlabelled,
    )
    return publish(
        outcome,
        source.pack,
        names=source.index.names,
        most=recipe.evaluate.mistakes,
        colours=colours_of(recipe, source),
        rgb=rgb_positions(source),
        insight=insight_of(recipe, source, first) if recipe.evaluate.explain else None,
    )


def insight_of(recipe: Recipe, source: Source, first: Judged) -> Insight:
    """The kept network explained, on the tiles it was judged on."""
    told = answers_of(source, first.draw, first.fitted, first.logits)
    fitted, place = first.fitted, {int(row): i for i, row in enumerate(told.rows)}

    def features(rows: Int64s) -> Floats:
        if fitted.features is None:
            raw = raw_features(fitted.network, source.pack, rows, precision=recipe.train.precision)
            return np.asarray(standardised(fitted.network, raw).mean(axis=1))
        held = judged_features(recipe, source, first.draw, fitted).mean(axis=1)
        return np.asarray(held[[place[int(row)] for row in rows]])

    return gather(
        fitted.network,
        source.pack,
        told.rows,
        told.truth,
        softmax(told.logits, told.temperature),
        features=features,
        seed=recipe.seed,
    )


def rgb_positions(source: Source) -> tuple[int, int, int]:
    """Bands to show as red, green and blue: those, else the first three (or the only one)."""
    bands = source.pack.bands
    try:
        wanted = source.sensor.canonical(["red", "green", "blue"])
    except BandError:
        wanted = ()
    shown = [bands.index(name) for name in wanted if name in bands]
    if len(shown) < 3:
        shown = [min(i, len(bands) - 1) for i in range(3)]
    return shown[0], shown[1], shown[2]


def chip_warnings(source: Source) -> tuple[str, ...]:
    """What labels over scenes need said: notes of their reading, and that chips share labels."""
    placed = source.placement
    if placed is None:
        return ()
    labels, chips = len({chip.label_id for chip in placed.chips}), len(placed.chips)
    alike = (
        f"{chips} chips come from {labels} labels. Chips of one label resemble each other, so the "
        "intervals, which count each chip alone, are too narrow."
    )
    return (*placed.notes, *([alike] if chips > labels else []))


def chips_facts(source: Source) -> dict[str, str]:
    """Where labels lie over scenes: what became of them."""
    placed = source.placement
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


def run_facts(recipe: Recipe, source: Source, draw: Draw, seconds: float) -> dict[str, str]:
    """What a reader wants to know of a run."""
    split = draw.split
    sizes = f"{len(split.train)} to learn from, {len(split.test)} judged, "
    words = split_words(recipe, draw).removeprefix("split ")
    spatial = recipe.split.method in SPATIAL
    return {
        "Recipe": recipe.name,
        "Strategy": recipe.strategy,
        **chips_facts(source),
        **({"Split": words} if spatial else {"Tiles": f"{sizes}{len(split.set_aside)} set aside"}),
        "Bands": ", ".join(source.pack.bands),
        "Sensor": source.sensor.title,
        "Seed": str(recipe.seed),
        "Device": describe(choose_device(), recipe.train.precision),
        "Time": f"{seconds:.0f} s in all",
        "Versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
    }
