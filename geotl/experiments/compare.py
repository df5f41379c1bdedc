"""One draw of labels: a network fitted and judged, and set beside its rivals on the same tiles."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from geotl.arrays import Bools, Floats, Int64s
from geotl.console import Log
from geotl.errors import BandError, DataError
from geotl.evaluation.evaluate import Spread, commonest, summarise_draws
from geotl.evaluation.learning_curve import Gain, Optimism, gain, optimism
from geotl.evaluation.metrics import Interval, Scores, confusion, scores, wilson
from geotl.experiments.build import build_network, feature_source, make_plan
from geotl.experiments.draws import Draw, Source, random_draw, shows_random
from geotl.experiments.recipe import Recipe
from geotl.experiments.report import Answers
from geotl.models.classifier import TileClassifier
from geotl.models.first_conv import rgb_positions as rgb_bands
from geotl.models.weights import WeightReport
from geotl.training.heads import Linear, band_statistics_logits
from geotl.training.learner import Tiles
from geotl.training.semi_supervised import with_unlabelled
from geotl.training.strategies import (
    FitPlan,
    Fitted,
    fit_strategy,
    frozen_stage,
    predict_rows,
    standardised,
)

RANDOM_SPLIT = "network, random split"
MOST_TRAINING = 2000  # training tiles that a network trained whole is judged on again
HOW = {"blocks": "blocked", "group": "by group", "scene": "by scene"}


@dataclass
class Tally:
    """Scores and confusion matrices by method, draw by draw, and the network's answers.

    `paired` tells of each tile judged whether it was named rightly without and with unlabelled
    pixels; `learnt` of each draw how many training tiles the finished network names rightly, of how
    many.
    """

    scores: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    matrices: dict[str, list[Int64s]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    answers: list[Answers] = field(default_factory=list)
    paired: list[tuple[Bools, Bools]] = field(default_factory=list)
    learnt: list[tuple[int, int]] = field(default_factory=list)

    def add(self, method: str, truth: Int64s, logits: Floats, classes: int) -> None:
        """Note how a method did on one draw."""
        matrix = confusion(truth, logits.argmax(1), classes)
        self.scores.setdefault(method, []).append(_summary(scores(matrix)))
        self.matrices.setdefault(method, []).append(matrix)

    def counts(self, method: str) -> list[tuple[int, int]]:
        """Tiles named rightly and tiles judged, draw by draw."""
        return [(int(np.trace(m)), int(m.sum())) for m in self.matrices.get(method, [])]

    def pooled(self) -> dict[str, Interval]:
        """Accuracy of every method, all folds together."""
        return {m: wilson(*np.sum(self.counts(m), axis=0).tolist()) for m in self.matrices}

    def rivals(self, names: Iterable[str], truth: Int64s) -> dict[str, Interval]:
        """Intervals of the network's rivals, all folds together."""
        majority = commonest(truth, int(truth.max()) + 1)[1]
        pooled = self.pooled()
        return {name: pooled.get(name, majority) for name in names}

    def optimism(self, recipe: Recipe) -> Optimism | None:
        """Random against spatial accuracy, where both were judged."""
        random = self.counts(RANDOM_SPLIT)
        if not random:
            return None
        how, pooled = HOW[recipe.split.method], recipe.split.kfold is not None
        return optimism(how, random, self.counts("network"), pooled=pooled)

    def training(self, *, folds: bool) -> Interval:
        """Accuracy on the training tiles of the first draw, or of all folds.

        A tile learns in every fold but one; for the interval it counts once.
        """
        if not folds:
            return wilson(*self.learnt[0])
        right, looked_at = np.sum(self.learnt, axis=0).tolist()
        times = max(1, len(self.learnt) - 1)
        return wilson(round(right / times), round(looked_at / times))

    def gain(self, source: Source) -> Gain | None:
        """What unlabelled pixels added, paired over draws, or over the tiles of a single one."""
        if not self.paired:
            return None
        alone, both = self.paired[0]
        if len(self.paired) > 1:
            alone, both = (
                np.array([np.mean(named) for named in side])
                for side in zip(*self.paired, strict=True)
            )
        found, word = gain(alone, both)
        return Gain(with_what(source).removeprefix("with "), found, word, len(self.paired))

    def spreads(self) -> dict[str, dict[str, Spread]]:
        """Mean and sd of every score, by method."""
        return {method: summarise_draws(rows) for method, rows in self.scores.items()}


def fit_draw(
    recipe: Recipe, source: Source, draw: Draw, out: Path, *, resume: bool, quiet: bool
) -> tuple[Fitted, WeightReport]:
    """Build the network for a draw's training tiles and fit it to them."""
    network, report = build_network(recipe, source, draw)
    rows = draw.split.train
    plan = make_plan(recipe, source, report, draw, resume=resume, quiet=quiet)
    fitted = fit_strategy(
        network,
        Tiles(source.pack, rows, source.labels[rows]),
        draw.folds,
        plan,
        folder=out / "draws" / f"{draw.number:02d}",
        features=feature_source(recipe, source),
    )
    return fitted, with_training_note(report, network, plan)


def with_training_note(
    report: WeightReport, network: TileClassifier, plan: FitPlan
) -> WeightReport:
    """The report, saying so where the first stage trains, so that no stage can be cached."""
    if plan.strategy == "probe" or frozen_stage(network, plan) is not None:
        return report
    first = network.backbone.stage_names[0]
    note = f"{first}, the first stage, is trained: no stage is cached, each epoch computes them all"
    return replace(report, notes=(*report.notes, note))


def judge(recipe: Recipe, source: Source, draw: Draw, fitted: Fitted) -> Floats:
    """Logits of the tiles judged on, averaged over views."""
    if fitted.features is None:
        return predict_rows(
            fitted.network, source.pack, draw.split.test, precision=recipe.train.precision
        )
    return head_logits(fitted, judged_features(recipe, source, draw, fitted))


def head_logits(fitted: Fitted, features: Floats) -> Floats:
    """Logits [n, K] of a fitted head on standardised features [n, V, D], averaged over views."""
    weight = fitted.network.head.weight.detach().cpu().numpy()
    bias = fitted.network.head.bias.detach().cpu().numpy()
    return np.asarray(features.mean(axis=1) @ weight.T + bias)


def training_count(
    recipe: Recipe, source: Source, draw: Draw, fitted: Fitted, most: int = MOST_TRAINING
) -> tuple[int, int]:
    """How many training tiles the finished network names rightly, in evaluation mode, and of many.

    At most `most` tiles are looked at, drawn by the recipe's seed; of a probe, all.
    """
    rows = draw.split.train
    if fitted.features is not None:
        said = head_logits(fitted, fitted.features)
    else:
        random = np.random.default_rng([recipe.seed, draw.number, 7])
        rows = np.sort(random.permutation(rows)[:most])
        said = predict_rows(fitted.network, source.pack, rows, precision=recipe.train.precision)
    return int((said.argmax(axis=1) == source.labels[rows]).sum()), len(rows)


def answers_of(source: Source, draw: Draw, fitted: Fitted, logits: Floats) -> Answers:
    """What a network said of the tiles it was judged on, as the report takes it."""
    rows = draw.split.test
    heat = np.full(len(rows), float(fitted.network.temperature))
    return Answers(rows, source.labels[rows], logits, heat)


def judged_features(recipe: Recipe, source: Source, draw: Draw, fitted: Fitted) -> Floats:
    """Standardised features [n, V, D] of the tiles judged on, from the cache."""
    return standardised(
        fitted.network, feature_source(recipe, source)(fitted.network, draw.split.test)
    )


def compare(
    recipe: Recipe,
    source: Source,
    draw: Draw,
    logits: Floats,
    *,
    extra: Floats | None,
    tally: Tally,
    out: Path,
    quiet: bool,
    say: Log,
) -> dict[str, Interval]:
    """Judge the baselines on the same tiles, note every method's scores, return intervals.

    `extra` are the logits of the head that saw the unlabelled tiles, if there is one.
    """
    classes, truth = len(source.index.classes), source.labels[draw.split.test]
    others: dict[str, Floats] = {}
    if recipe.evaluate.baselines:
        others["band mean and sd, logistic"] = band_statistics_logits(
            source.band_table,
            draw.split.train,
            source.labels[draw.split.train],
            draw.split.test,
            folds=draw.folds,
            classes=classes,
        )
    for name, variant in variants(recipe, source).items():
        try:
            made, _ = fit_draw(
                variant,
                source,
                draw,
                out / "beside" / name.replace(" ", "_"),
                resume=False,
                quiet=quiet,
            )
        except BandError as error:  # weights that know no red, green or blue
            if recipe.evaluate.rgb_only:
                raise
            say(f"{name}: not shown beside; {error}")
            continue
        others[name] = judge(variant, source, draw, made)
    tally.add("network", truth, logits, classes)
    if shows_random(recipe):
        other = random_draw(recipe, source, draw)
        made, _ = fit_draw(
            quiet_probe(recipe),
            source,
            other,
            out / "beside" / "random_split",
            resume=False,
            quiet=quiet,
        )
        held = judge(recipe, source, other, made)
        tally.add(RANDOM_SPLIT, source.labels[other.split.test], held, classes)
    if extra is not None:
        tally.add(f"network, {with_what(source)}", truth, extra, classes)
        tally.paired.append((logits.argmax(1) == truth, extra.argmax(1) == truth))
    for name, held in others.items():
        tally.add(name, truth, held, classes)
    rivals = {
        name: wilson(int((held.argmax(1) == truth).sum()), len(truth))
        for name, held in others.items()
    }
    if recipe.evaluate.baselines:
        rivals["majority class"] = commonest(truth, classes)[1]
    return rivals


def variants(recipe: Recipe, source: Source) -> dict[str, Recipe]:
    """The same recipe from random weights, on red, green and blue alone, and as a probe.

    Unless told whether to, red, green and blue stand beside pretrained networks of these and
    other bands, as a frozen probe.
    """
    base = quiet_probe(recipe)
    found: dict[str, Recipe] = {}
    pretrained = recipe.model.weights != "none"
    if recipe.evaluate.random_weights and pretrained:
        blank = {"weights": "none", "sha256": None, "fresh": (), "adabn": "none"}
        trains = {"finetune", "probe_then_finetune", "full"}
        found["random weights"] = base.model_copy(
            update={
                "model": recipe.model.model_copy(update=blank),
                "strategy": "scratch" if recipe.strategy in trains else recipe.strategy,
                "freeze_until": None,
            }
        )
    rgb = {"model": recipe.model.model_copy(update={"first_conv": "rgb_only"})}
    as_probe = {"strategy": "probe", "freeze_until": None}
    told = recipe.evaluate.rgb_only
    if told or (told is None and recipe.strategy == "probe" and rgb_worth_showing(recipe, source)):
        found["red, green and blue alone"] = base.model_copy(update=rgb)
    elif told is None and rgb_worth_showing(recipe, source):
        found["frozen probe, red, green and blue alone"] = base.model_copy(update=rgb | as_probe)
    if recipe.evaluate.baselines and pretrained and recipe.strategy != "probe":
        found["frozen probe"] = base.model_copy(update=as_probe)
    return found


def quiet_probe(recipe: Recipe) -> Recipe:
    """The recipe without its unlabelled tiles."""
    probe = recipe.probe.model_copy(update={"unlabelled": "none"})
    return recipe.model_copy(update={"probe": probe})


def rgb_worth_showing(recipe: Recipe, source: Source) -> bool:
    """Whether a network with pretrained weights sees other bands beside red, green and blue."""
    bands, model = source.pack.bands, recipe.model
    if model.weights == "none" or model.first_conv == "rgb_only":
        return False
    try:
        return len(bands) > len(rgb_bands(bands, source.sensor.wavelengths(bands)))
    except BandError:
        return False


def unlabelled_head(
    recipe: Recipe, source: Source, draw: Draw, fitted: Fitted
) -> tuple[Linear, Floats]:
    """The head that learns from unlabelled pixels too, and its logits of the judged tiles.

    The pixels are those of windows drawn from the scenes, where there are any, so that nothing of
    the judged tiles is used (inductive); else the judged tiles' own (transductive).
    """
    if fitted.features is None or fitted.chosen is None or recipe.probe.unlabelled == "none":
        raise DataError("probe.unlabelled: only a probe learns from unlabelled tiles")
    pixels = judged_features(recipe, source, draw, fitted)
    others = pixels if source.unlabelled is None else scene_features(recipe, source, fitted)
    head = with_unlabelled(
        fitted.features,
        source.labels[draw.split.train],
        others,
        fitted.chosen,
        recipe.probe,
    )
    return head, head.logits(pixels)


def with_what(source: Source) -> str:
    """Whose pixels the other head saw, in words."""
    return "with unlabelled tiles" if source.unlabelled is None else "with unlabelled scene"


def scene_features(recipe: Recipe, source: Source, fitted: Fitted) -> Floats:
    """Standardised features [m, V, D] of the windows that nobody labelled, from the cache."""
    if source.unlabelled is None:
        raise DataError("labels.unlabelled: no windows were drawn")
    rows = np.arange(len(source.unlabelled), dtype=np.int64)
    features = feature_source(recipe, replace(source, pack=source.unlabelled))
    return standardised(fitted.network, features(fitted.network, rows))


def _summary(result: Scores) -> dict[str, float]:
    return {
        "overall": result.overall,
        "balanced": result.balanced,
        "kappa": result.kappa,
        "macro_f1": result.macro_f1,
    }
