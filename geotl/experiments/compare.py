"""One repeat of a split: a network fitted, tested and compared with baselines on the same tiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from geotl.arrays import Floats, Int64s
from geotl.errors import BandError, DataError
from geotl.evaluation.evaluate import commonest
from geotl.evaluation.metrics import confusion
from geotl.experiments.build import build_network, feature_source, make_plan
from geotl.experiments.draws import Draw, random_draw, shows_random
from geotl.experiments.experiment import Experiment
from geotl.experiments.presets import without_tuning
from geotl.experiments.recipe import Recipe
from geotl.experiments.results import (
    BAND_STATISTICS,
    LABELS_ALONE,
    NETWORK,
    NETWORK_ALONE,
    RANDOM_SPLIT,
    Answers,
    Comparison,
    compared,
)
from geotl.experiments.samples import TileSamples
from geotl.language import msg
from geotl.models.classifier import TileClassifier
from geotl.models.first_conv import rgb_positions as rgb_bands
from geotl.models.weights import WeightReport
from geotl.training.heads import Linear, band_statistics_logits
from geotl.training.learner import Tiles
from geotl.training.semi_supervised import with_unlabelled
from geotl.training.strategies import (
    FitPlan,
    Fitted,
    TileFusion,
    fit_strategy,
    frozen_stage,
    predict_rows,
    standardised,
)
from geotl.training.tile_fusion import ASKED, AUTO, fuse
from geotl.training.tile_pool import with_pool

MAX_TRAINING = 2000  # training tiles that a trained network classifies again


@dataclass(frozen=True)
class FittedDraw:
    """A network fitted to a draw's training tiles.

    Attributes:
        draw: the split, and its folds.
        fitted: the network with what was chosen or recorded while fitting.
        weights: where its first weights came from.
    """

    draw: Draw
    fitted: Fitted
    weights: WeightReport


def fit_draw(
    experiment: Experiment,
    draw: Draw,
    epochs: int | None = None,
    *,
    fusion: TileFusion | None = None,
    share: float | None = None,
) -> FittedDraw:
    """Build the network for a draw's training tiles and fit it to them.

    `epochs` and `fusion` of a training, and `share` of a fine-tuning from a probe, are given where
    they are chosen already.
    """
    network, report = build_network(experiment, draw)
    samples, rows = experiment.samples, draw.split.train
    plan = replace(make_plan(experiment, report, draw), share=share)
    train = Tiles(samples.pack, rows, samples.labels[rows])
    fitted = fit_strategy(
        network,
        train,
        draw.folds,
        plan,
        folder=experiment.folder / "draws" / f"{draw.number:02d}",
        features=feature_source(experiment),
        epochs=epochs,
    )
    if fuses(experiment.recipe):
        bar = AUTO if experiment.recipe.model.fuse_statistics == "auto" else ASKED
        fitted = fuse(fitted, train, draw.folds, plan, fusion, bar=bar)
    if (pool := pool_features(experiment, draw, fitted)) is not None:
        fitted = with_pool(fitted, train.labels, pool, draw.folds, experiment.recipe.probe)
    return FittedDraw(draw, fitted, with_training_note(report, network, plan))


def fuses(recipe: Recipe) -> bool:
    """Whether heads on band statistics are tried beside the network's own.

    `auto` leaves out heads that unlabelled tiles have a part in.

    >>> fuses(Recipe()), fuses(Recipe(model={"fuse_statistics": "auto"}))
    (False, True)
    """
    unlabelled = recipe.probe.pool is not None or recipe.probe.unlabelled != "none"
    return bool(recipe.model.fuse_statistics) and not unlabelled


def with_training_note(
    report: WeightReport, network: TileClassifier, plan: FitPlan
) -> WeightReport:
    """The report, saying so where the first stage trains, so that no stage can be cached."""
    if plan.strategy == "probe" or frozen_stage(network, plan) is not None:
        return report
    first = network.backbone.stage_names[0]
    note = msg(
        "{first}, the first stage, is trained: no stage is cached, each epoch computes them all",
        first=first,
    )
    return replace(report, notes=(*report.notes, note))


def logits_of_test(experiment: Experiment, fit: FittedDraw) -> Floats:
    """Logits of the test tiles, averaged over views."""
    if fit.fitted.features is None:
        rows, precision = fit.draw.split.test, experiment.recipe.train.precision
        return predict_rows(fit.fitted.network, experiment.samples.pack, rows, precision=precision)
    return head_logits(fit.fitted, features_of_test(experiment, fit))


def head_logits(fitted: Fitted, features: Floats) -> Floats:
    """Logits [n, K] of a fitted head on standardised features [n, V, D], averaged over views."""
    weight = fitted.network.head.weight.detach().cpu().numpy()
    bias = fitted.network.head.bias.detach().cpu().numpy()
    return np.asarray(features.mean(axis=1) @ weight.T + bias)


def training_count(
    experiment: Experiment, fit: FittedDraw, maximum: int = MAX_TRAINING
) -> tuple[int, int]:
    """Training tiles that the finished network classifies correctly, and how many were tried.

    At most `maximum` tiles are classified, drawn by the recipe's seed; of a probe, all.
    """
    recipe, samples, fitted = experiment.recipe, experiment.samples, fit.fitted
    rows = fit.draw.split.train
    if fitted.features is not None:
        logits = head_logits(fitted, fitted.features)
    else:
        random = np.random.default_rng([recipe.seed, fit.draw.number, 7])
        rows = np.sort(random.permutation(rows)[:maximum])
        logits = predict_rows(fitted.network, samples.pack, rows, precision=recipe.train.precision)
    return int((logits.argmax(axis=1) == samples.labels[rows]).sum()), len(rows)


def answers_of(experiment: Experiment, fit: FittedDraw, logits: Floats) -> Answers:
    """Predictions of a network for its test tiles, as the report takes them."""
    rows = fit.draw.split.test
    temperatures = np.full(len(rows), float(fit.fitted.network.temperature))
    return Answers(rows, experiment.samples.labels[rows], logits, temperatures)


def features_of_test(experiment: Experiment, fit: FittedDraw) -> Floats:
    """Standardised features [n, V, D] of the test tiles, from the cache."""
    network = fit.fitted.network
    return standardised(network, feature_source(experiment)(network, fit.draw.split.test))


def compare(
    experiment: Experiment,
    draw: Draw,
    logits: Floats,
    extra: Floats | None,
    alone: Mapping[str, Floats] | None = None,
) -> Comparison:
    """Test the baselines on a repeat's test tiles, and compare them with the network.

    Args:
        experiment: its baselines are fitted.
        draw: its split.
        logits: of the network [n,K].
        extra: of the head trained on unlabelled tiles too [n,K], if there is one.
        alone: of the network before it took a pool of unlabelled tiles or was fused with band
            statistics [n,K], by the name of the row.
    """
    samples, test = experiment.samples, draw.split.test
    classes, truth = len(samples.classes), samples.labels[test]
    baseline_logits = dict(baselines(experiment, draw))
    methods = {} if extra is None else {msg("network, {what}", what=with_what(samples)): extra}
    methods |= alone or {}
    rest = compared(truth, methods, baseline_logits, classes)
    matrices = {NETWORK: confusion(truth, logits.argmax(1), classes)}
    if shows_random(experiment.recipe):
        matrices[RANDOM_SPLIT] = on_random_split(experiment, draw)
    intervals = dict(rest.baselines)
    if experiment.recipe.evaluate.baselines:
        intervals[msg("majority class")] = commonest(truth, classes)[1]
    paired = None
    if extra is not None:
        paired = (logits.argmax(1) == truth, extra.argmax(1) == truth)
    if alone and LABELS_ALONE in alone:
        paired = (alone[LABELS_ALONE].argmax(1) == truth, logits.argmax(1) == truth)
    return Comparison(matrices | dict(rest.matrices), intervals, paired)


def baselines(experiment: Experiment, draw: Draw) -> Iterator[tuple[str, Floats]]:
    """Name and logits [n,K] of each baseline on a draw's test tiles, as they are fitted."""
    recipe, samples = experiment.recipe, experiment.samples
    train, test = draw.split.train, draw.split.test
    if recipe.evaluate.baselines:
        yield (
            BAND_STATISTICS,
            band_statistics_logits(
                samples.band_table,
                train,
                samples.labels[train],
                test,
                folds=draw.folds,
                classes=len(samples.classes),
            ),
        )
    for name, variant in variants(recipe, samples).items():
        beside = experiment.of(variant).inside("beside", name.replace(" ", "_"))
        try:
            fit = fit_draw(beside, draw)
        except BandError as error:  # weights that know no red, green or blue
            if recipe.evaluate.rgb_only:
                raise
            experiment.log(f"baseline {name} skipped: {error}")
            continue
        yield name, logits_of_test(beside, fit)


def on_random_split(experiment: Experiment, draw: Draw) -> Int64s:
    """Confusion matrix [K,K] of the same network on a random split of a spatial draw's sizes."""
    samples = experiment.samples
    other = random_draw(experiment.recipe, samples, draw)
    beside = experiment.of(quiet_probe(experiment.recipe)).inside("beside", "random_split")
    logits = logits_of_test(beside, fit_draw(beside, other))
    return confusion(samples.labels[other.split.test], logits.argmax(1), len(samples.classes))


def variants(recipe: Recipe, samples: TileSamples) -> dict[str, Recipe]:
    """The same recipe from random weights, on red, green and blue alone, and as a probe.

    None is fused with band statistics, which are a baseline of their own. Unless the recipe
    chooses, a frozen probe on red, green and blue is a baseline of pretrained networks of these and
    other bands.
    """
    plain = recipe.model.model_copy(update={"fuse_statistics": False})
    base = quiet_probe(recipe).model_copy(update={"model": plain})
    recipes: dict[str, Recipe] = {}
    pretrained = recipe.model.weights != "none"
    if recipe.evaluate.random_weights and pretrained:
        blank = {"weights": "none", "sha256": None, "fresh": (), "adabn": "none"}
        trains = {"finetune", "probe_then_finetune", "full"}
        recipes[msg("random weights")] = without_tuning(base).model_copy(
            update={
                "model": plain.model_copy(update=blank),
                "strategy": "scratch" if recipe.strategy in trains else recipe.strategy,
                "freeze_until": None,
            }
        )
    rgb = {"model": plain.model_copy(update={"first_conv": "rgb_only"})}
    as_probe = {"strategy": "probe", "freeze_until": None}
    choice = recipe.evaluate.rgb_only
    if choice or (
        choice is None and recipe.strategy == "probe" and rgb_worth_showing(recipe, samples)
    ):
        recipes[msg("red, green and blue alone")] = base.model_copy(update=rgb)
    elif choice is None and rgb_worth_showing(recipe, samples):
        recipes[msg("frozen probe, red, green and blue alone")] = base.model_copy(
            update=rgb | as_probe
        )
    if recipe.evaluate.baselines and pretrained and recipe.strategy != "probe":
        recipes[msg("frozen probe")] = base.model_copy(update=as_probe)
    return recipes


def quiet_probe(recipe: Recipe) -> Recipe:
    """The recipe without its unlabelled tiles."""
    probe = recipe.probe.model_copy(update={"unlabelled": "none", "pool": None})
    return recipe.model_copy(update={"probe": probe})


def rgb_worth_showing(recipe: Recipe, samples: TileSamples) -> bool:
    """Whether a network with pretrained weights takes more bands than red, green and blue."""
    bands, model = samples.pack.bands, recipe.model
    if model.weights == "none" or model.first_conv == "rgb_only":
        return False
    try:
        return len(bands) > len(rgb_bands(bands, samples.sensor.wavelengths(bands)))
    except BandError:
        return False


def unlabelled_head(experiment: Experiment, fit: FittedDraw) -> tuple[Linear, Floats]:
    """The head trained on unlabelled pixels too, and its logits of the test tiles.

    The pixels are those of windows drawn from the scenes, where there are any, so that nothing of
    the test tiles is used (inductive); else the test tiles' own (transductive).
    """
    pixels = features_of_test(experiment, fit)
    alone = experiment.samples.unlabelled is None
    others = pixels if alone else scene_features(experiment, fit.fitted)
    head = head_with(experiment, fit, others)
    return head, head.logits(pixels)


def head_with(experiment: Experiment, fit: FittedDraw, others: Floats) -> Linear:
    """The head trained on unlabelled pixels [m, V, D] too.

    Raises:
        DataError: the network is no probe, or the recipe has no rule in probe.unlabelled.
    """
    recipe, fitted = experiment.recipe, fit.fitted
    if fitted.features is None or fitted.chosen is None or recipe.probe.unlabelled == "none":
        raise DataError("probe.semi_supervised: only a probe can be trained on unlabelled tiles")
    labels = experiment.samples.labels[fit.draw.split.train]
    return with_unlabelled(fitted.features, labels, others, fitted.chosen, recipe.probe)


def with_what(samples: TileSamples) -> str:
    """The unlabelled pixels that the other head was trained on, in words."""
    if samples.unlabelled is None:
        return msg("with unlabelled tiles")
    return msg("with unlabelled scene")


def pool_features(experiment: Experiment, draw: Draw, fitted: Fitted) -> Floats | None:
    """Standardised features [m, V, D] of the pool of unlabelled tiles; None without a pool."""
    if experiment.recipe.probe.pool is None:
        return None
    if experiment.samples.unlabelled is not None:
        return scene_features(experiment, fitted)
    return standardised(fitted.network, feature_source(experiment)(fitted.network, draw.pool))


def alone(experiment: Experiment, fit: FittedDraw) -> dict[str, Floats]:
    """Logits [n, K] of the test tiles by the network before it took a pool or was fused."""
    pool, unfused = fit.fitted.pool, fit.fitted.alone
    if pool is not None:
        return {LABELS_ALONE: pool.alone.logits(features_of_test(experiment, fit))}
    if unfused is not None:
        return {NETWORK_ALONE: logits_of_test(experiment, replace(fit, fitted=unfused))}
    return {}


def scene_features(experiment: Experiment, fitted: Fitted) -> Floats:
    """Standardised features [m, V, D] of the unlabelled windows, from the cache."""
    windows = experiment.samples.unlabelled
    if windows is None:
        raise DataError("labels.unlabelled_windows: no windows were drawn")
    rows = np.arange(len(windows), dtype=np.int64)
    of_windows = experiment.on(replace(experiment.samples, pack=windows))
    return standardised(fitted.network, feature_source(of_windows)(fitted.network, rows))
