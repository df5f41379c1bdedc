"""What a recipe means: opened as an experiment; its network, its plan of fitting, its features."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from geotl.arrays import Floats, Int64s
from geotl.console import Log
from geotl.data.tile_array import statistics
from geotl.errors import RecipeError, nearest
from geotl.experiments.draws import Draw, make_draw, settle_split, shows_random
from geotl.experiments.experiment import Experiment
from geotl.experiments.named import recipe_sensor
from geotl.experiments.presets import PRESET_STRATEGIES, settled
from geotl.experiments.recipe import Recipe, resolve_weights
from geotl.experiments.rules import SPATIAL
from geotl.experiments.run_folder import holds_run
from geotl.experiments.samples import TileSamples, check_imagery, read_samples
from geotl.imagery.sensors import Sensor, wanted_bands
from geotl.io.files import cache_folder
from geotl.models.classifier import FeatureSpec, Normalise, TileClassifier
from geotl.models.device import choose_device
from geotl.models.normalisation import IMAGENET, as_dn
from geotl.models.registry import Backbone, build_backbone, get_backbone
from geotl.models.weight_loading import InitialWeights
from geotl.models.weights import WeightReport
from geotl.training.averaging import adapt_batchnorm
from geotl.training.features import cached_features, followed_by_statistics
from geotl.training.settings import Light, Training
from geotl.training.strategies import FitPlan


def open_experiment(
    recipe: Recipe, folder: Path, *, log: Log, quiet: bool = False, resume: bool = False
) -> Experiment:
    """Check the recipe's files and names, read its samples, and resolve its open choices.

    Args:
        recipe: of the user.
        folder: for all that the experiment writes; new, or with a run to resume.
        log: takes the lines of the result.
        quiet: show no progress.
        resume: go on with what an interrupted run left in the folder.

    Raises:
        GeoTLError: input, weights or a folder that cannot be used; the message says what to do.
    """
    if recipe.task == "pixels":
        raise RecipeError(
            "task: given pixels, which this command does not take (geotl run, curve and diagnose "
            "do); allowed: tiles"
        )
    sensor = recipe_sensor(recipe)
    check_imagery(recipe, sensor)
    make_backbone(recipe, sensor, wanted_bands(sensor, recipe.data.bands))
    holds_run(folder, resume=resume)
    samples = read_samples(recipe, sensor, log, quiet=quiet)
    return Experiment(settle(recipe, samples, log), samples, folder, log, quiet, resume)


def settle(recipe: Recipe, samples: TileSamples, log: Log) -> Recipe:
    """The recipe with split and strategy chosen for its labels, where it leaves these open."""
    recipe = settle_split(recipe, samples.real, log)
    if recipe.strategy not in PRESET_STRATEGIES:
        return recipe
    drawn = make_draw(recipe, samples.real, 0).split.train
    counts = np.bincount(samples.labels[drawn], minlength=len(samples.classes))
    resolved, line = with_preset(recipe, float(np.median(counts)), samples)
    if line:
        log(line)
    return resolved


def with_preset(
    recipe: Recipe, labels_per_class: float, samples: TileSamples
) -> tuple[Recipe, str]:
    """`presets.settled` for the tiles and the network that the recipe names.

    Raises:
        ModelError: no such backbone or stage.
        RecipeError: the recipe's own keys contradict the preset.
    """
    fitting, inner = fitting_px(recipe), has_inner(recipe)
    bands = len(samples.pack.bands)
    return settled(recipe, labels_per_class, samples.tile_px, fitting, inner=inner, bands=bands)


def fitting_px(recipe: Recipe) -> Callable[[int], int]:
    """What gives the smallest side from a given one on, in pixels, that the recipe's network takes.

    Raises:
        ModelError: no such backbone or stage.
    """
    spec = get_backbone(recipe.model.backbone)
    return functools.partial(spec.fitting_px, cut_after=recipe.model.cut_after)


def has_inner(recipe: Recipe) -> bool:
    """Whether the last stage that the recipe pools ends in a residual block.

    >>> has_inner(Recipe()), has_inner(Recipe(model={"backbone": "vgg16"}))
    (True, False)
    """
    spec, config = get_backbone(recipe.model.backbone), recipe.model
    pooled = config.stages or (config.cut_after or spec.stages[-1],)
    return spec.family == "resnet" and pooled != (spec.stages[0],)


def make_backbone(
    recipe: Recipe, sensor: Sensor, bands: Sequence[str]
) -> tuple[Backbone, WeightReport]:
    """The recipe's backbone for these bands, with its weights.

    Raises:
        WeightsError: weights that are not there or do not fit; this needs no tiles, so it is
            called before they are read.
    """
    config = recipe.model
    return build_backbone(
        config.backbone,
        bands,
        sensor.wavelengths(bands),
        initial=InitialWeights(
            resolve_weights(config.weights),
            first_conv=config.first_conv,
            fresh=config.fresh,
            sha256=config.sha256,
        ),
        cut_after=config.cut_after,
        seed=recipe.seed,
    )


def build_network(experiment: Experiment, draw: Draw) -> tuple[TileClassifier, WeightReport]:
    """A network with its first weights, normalising by the draw's training tiles alone."""
    recipe, samples = experiment.recipe, experiment.samples
    backbone, report = make_backbone(recipe, samples.sensor, samples.pack.bands)
    for side in recipe.model.input_px or (samples.tile_px,):
        backbone.check_size(side, side)
    normalise, report = normalisation(experiment, draw, report)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed + draw.number)  # the head's first weights
        network = TileClassifier(
            backbone,
            normalise,
            feature_spec(recipe, backbone),
            len(samples.classes),
            dropout=recipe.model.dropout,
        )
    network.to(memory_format=torch.channels_last)
    network.to(choose_device())
    return network, adapted(experiment, draw, network, report)


def feature_spec(recipe: Recipe, backbone: Backbone) -> FeatureSpec:
    """The features that the head takes: of the recipe's stages, or of the default ones."""
    config = recipe.model
    return FeatureSpec(
        tuple(config.stages or backbone.read),
        config.pool,
        tuple(config.input_px),
        recipe.probe.views,
        config.unit_length,
        config.padding,
        inner=config.inner_activations,
        renderings=tuple(config.renderings),
    )


def normalisation(
    experiment: Experiment, draw: Draw, report: WeightReport
) -> tuple[Normalise, WeightReport]:
    """Mean and sd of the training tiles' bands, or those that the weights were trained with."""
    samples, config = experiment.samples, experiment.recipe.model
    stats = statistics(samples.pack, draw.split.train)
    mean, sd = stats.mean.tolist(), stats.sd.tolist()
    if config.normalise == "weights":
        eight_bit = samples.pack.images.dtype == np.uint8
        trained_with = report.normalisation or IMAGENET
        mean, sd = as_dn(trained_with, samples.sensor, samples.pack.bands, eight_bit=eight_bit)
        report = replace(report, notes=(*report.notes, "inputs: standardised as the weights' were"))
    return Normalise(mean, sd, stats.fill.tolist(), samples.sensor.nodata), report


def adapted(
    experiment: Experiment, draw: Draw, network: TileClassifier, report: WeightReport
) -> WeightReport:
    """Re-estimate batch normalisation where the recipe asks for it, and note it in the report."""
    recipe, samples = experiment.recipe, experiment.samples
    kind = recipe.model.adabn
    if kind == "none":
        return report
    everything = np.arange(len(samples), dtype=np.int64)
    rows = everything if kind == "transductive" else draw.split.train
    adapt_batchnorm(
        network, samples.pack, rows, folded=report.folded_batchnorm, seed=recipe.seed + draw.number
    )
    of = "all tiles, test tiles included (transductive)"
    tiles = of if kind == "transductive" else "the training tiles"
    note = f"batch normalisation: re-estimated on {tiles} (AdaBN)"
    return replace(report, notes=(*report.notes, note))


def make_plan(experiment: Experiment, report: WeightReport, draw: Draw) -> FitPlan:
    """The recipe's settings as the strategies take them."""
    recipe = experiment.recipe
    training = training_of(recipe, experiment.samples, recipe.seed + draw.number)
    if recipe.strategy == "auto":
        raise RecipeError("strategy: given auto, which must be resolved for the labels first")
    return FitPlan(
        strategy=recipe.strategy,
        head=recipe.probe.head,
        head_settings=recipe.probe.head_settings,
        freeze_until=recipe.freeze_until,
        hold_batchnorm=report.folded_batchnorm or recipe.model.hold_batchnorm,
        training=training,
        one_by_one=by_single_tiles(experiment, draw),
        quiet=experiment.quiet,
        resume=experiment.resume,
    )


def by_single_tiles(experiment: Experiment, draw: Draw) -> bool:
    """Whether training tiles may be left out one by one: random splits of tiles that all differ.

    A synthetic tile resembles those that its generator saw, and a copy is no other tile.
    """
    samples, rows = experiment.samples, draw.split.train
    if experiment.recipe.split.method in SPATIAL or (rows >= len(samples.real)).any():
        return False
    return len({samples.contents[row] for row in rows}) == len(rows)


def training_of(recipe: Recipe, samples: TileSamples, seed: int) -> Training:
    """The recipe's training on these tiles, from a seed.

    Raises:
        RecipeError: class weights that name another class, or not every one.
    """
    if isinstance(recipe.train.class_weights, dict):
        check_names("train.class_weights", recipe.train.class_weights, samples.classes)
    light = Light.of(samples.sensor)
    return Training(recipe.train, recipe.augment, seed, samples.classes, light)


def check_names(key: str, numbers: Mapping[str, float], classes: Sequence[str]) -> None:
    """Make sure that the numbers of a key name every class and no other.

    Raises:
        RecipeError: a class is missing, or a name is no class.
    """
    for name in numbers:
        if name not in classes:
            raise RecipeError(f"{key}: given {name}; {nearest(name, classes)}")
    missing = [name for name in classes if name not in numbers]
    if missing:
        raise RecipeError(f"{key}: no number for {', '.join(missing)}; give every class one")


def caching_note(recipe: Recipe) -> str | None:
    """Why frozen stages are computed again in each epoch, where they could have been cached."""
    frozen = recipe.strategy in ("finetune", "probe_then_finetune")
    reasons = recipe.augment.beyond_views
    if not (frozen and recipe.train.cache_views and reasons):
        return None
    named = ", ".join(f"augment.{name}" for name in reasons)
    return f"frozen stages are computed again in each epoch, for the new pixels of {named}"


def feature_source(experiment: Experiment) -> Callable[[TileClassifier, Int64s], Floats]:
    """Frozen features, computed once and then read from the cache.

    Repeated draws share the features of all tiles; a single draw computes what it needs.
    """
    recipe, packed = experiment.recipe, experiment.samples.pack
    everything = np.arange(len(packed), dtype=np.int64)
    shared = recipe.split.draws > 1 or shows_random(recipe)

    def features(network: TileClassifier, rows: Int64s) -> Floats:
        computed = everything if shared else rows
        with experiment.progress() as line:
            stored = cached_features(
                network,
                packed,
                computed,
                cache_folder() / "features",
                precision=recipe.train.precision,
                progress=line.counter("computing features"),
            )
        deep = np.asarray(stored[rows] if shared else stored)
        return followed_by_statistics(network, packed, rows, deep)

    return features
