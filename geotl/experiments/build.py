"""What a recipe means: its tiles or scenes, its network and its plan of fitting."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geotl.arrays import Floats, Int64s
from geotl.console import Log, ProgressLine
from geotl.data.chip_files import pack_chips, pack_unlabelled
from geotl.data.chips import ChipRules, Placement, draw_windows, place_chips
from geotl.data.labels import read_any
from geotl.data.manifest import index_tiles, read_synthetic
from geotl.data.tile_array import Pack, fingerprint, pack, statistics
from geotl.data.tiles import TileIndex
from geotl.data.torchgeo_datasets import PREFIX
from geotl.errors import DataError, RecipeError, nearest
from geotl.experiments.draws import Draw, Source, make_draw, settle_split, shows_random
from geotl.experiments.presets import settled
from geotl.experiments.recipe import Recipe, resolve_root, resolve_sample, resolve_weights
from geotl.imagery.scene import Scene, open_scenes
from geotl.imagery.sensors import Sensor, custom_sensor, get_sensor
from geotl.io.files import cache_folder
from geotl.models.classifier import FeatureSpec, Normalise, TileClassifier
from geotl.models.device import choose_device
from geotl.models.normalisation import IMAGENET, as_dn
from geotl.models.registry import Backbone, build_backbone
from geotl.models.weights import WeightReport
from geotl.training.averaging import adapt_batchnorm
from geotl.training.features import cached_features
from geotl.training.settings import Training
from geotl.training.strategies import FitPlan


def survey(
    recipe: Recipe, sensor: Sensor, cache: Path, say: Log, *, quiet: bool
) -> tuple[TileIndex, Pack, Placement]:
    """Place and pack the chips of a recipe's labels; what was placed and rejected is said.

    Raises:
        DataError: scenes or labels that cannot be used.
    """
    told = recipe.labels
    scenes = recipe_scenes(recipe, sensor)
    path = resolve_sample("labels.path", str(told.path))
    labels = read_any(
        path,
        layer=told.layer,
        field=told.field,
        crs_to=scenes[0].grid.crs,
        id_field=told.id_field,
        mapping=told.names,
        crs=told.crs,
    )
    rules = chip_rules(recipe)
    with ProgressLine(quiet=quiet) as line:
        placed = place_chips(scenes, labels, rules, tell=line.counter("placing chips"))
        placed = replace(placed, notes=(*placed.notes, *unmasked(scenes, recipe.data.mask)))
        for text in (*placed.notes, *placed.summary()):
            say(text)
        _check(path, placed)
        index, packed = pack_chips(
            scenes, placed.chips, cache, where=path, progress=line.counter("reading chips")
        )
    for scene in scenes:
        scene.close()
    return index, packed, placed


def survey_unlabelled(
    recipe: Recipe,
    sensor: Sensor,
    placed: Placement,
    cache: Path,
    say: Log,
    *,
    quiet: bool,
) -> Pack | None:
    """Draw and pack the windows of labels.unlabelled, off every chip placed; None without any.

    Raises:
        DataError: no window can be drawn.
    """
    told = recipe.labels
    if not told.unlabelled:
        return None
    scenes = recipe_scenes(recipe, sensor)
    drawn = draw_windows(scenes, placed.chips, chip_rules(recipe), told.unlabelled)
    with ProgressLine(quiet=quiet) as line:
        packed = pack_unlabelled(
            scenes, drawn, cache, progress=line.counter("reading unlabelled windows")
        )
    for scene in scenes:
        scene.close()
    room = (
        "" if len(drawn) == told.unlabelled else f" of {told.unlabelled} wanted: no room for more"
    )
    say(f"{len(drawn)} unlabelled windows drawn{room}")
    return packed


def chip_rules(recipe: Recipe) -> ChipRules:
    """What a recipe's chips must be."""
    told = recipe.labels
    return ChipRules(
        told.chip_px,
        told.purity,
        told.per_polygon,
        told.step_px,
        told.min_valid,
        told.max_cloud,
        recipe.seed,
    )


def unmasked(scenes: Sequence[Scene], mask: str | None) -> tuple[str, ...]:
    """A line on the scenes in which no cloud can be told, unless the recipe wants no mask."""
    names = [scene.name for scene in scenes if scene.mask is None]
    if mask is None or not names:
        return ()
    few = ", ".join(names[:5]) + (" and more" if len(names) > 5 else "")
    return (f"{few}: no cloud mask, so chips under cloud or shadow count as ground (data.mask)",)


def _check(path: Path, placed: Placement) -> None:
    """Make sure that chips of two classes are left."""
    if len({chip.class_name for chip in placed.chips}) < 2:
        told = "; ".join(line.strip() for line in placed.summary())
        raise DataError(
            f"{path}: chips of two classes at least are needed: {told}; see labels.chip_px, "
            "labels.purity, labels.min_valid, labels.max_cloud and labels.names"
        )


def recipe_scenes(recipe: Recipe, sensor: Sensor) -> list[Scene]:
    """The scenes a recipe names, opened.

    Raises:
        DataError: a scene that cannot be used.
        BandError: bands missing.
    """
    data = recipe.data
    paths = [resolve_sample("data.scenes", text) for text in data.scenes]
    return open_scenes(paths, sensor, data.bands, file_bands=data.file_bands, mask=data.mask)


def recipe_sensor(recipe: Recipe) -> Sensor:
    """The sensor a recipe means."""
    own = recipe.data.custom_sensor
    if own is None:
        return get_sensor(recipe.data.sensor)
    bands = [band.model_dump() for band in own.bands]
    return custom_sensor("custom", bands, own.scale, own.offset, own.nodata)


def check_imagery(recipe: Recipe, sensor: Sensor) -> None:
    """Make sure that what a recipe names is there; no pixel is read.

    Raises:
        RecipeError: no root is given.
        DataError: nothing lies there, or a scene that cannot be used.
        BandError: bands missing from a scene.
    """
    if recipe.data.scenes:
        recipe_scenes(recipe, sensor)
        return
    root = resolve_root(recipe.data.root)
    if not (str(root).startswith(PREFIX) or root.exists()):
        raise DataError(
            f"{root}: no such folder or manifest; set data.root to the folder of class folders, or "
            "to a manifest"
        )


def read_source(recipe: Recipe, sensor: Sensor, say: Log, *, quiet: bool = False) -> Source:
    """Index the tiles, or place chips in scenes, and pack them or find them packed."""
    placed, extra = None, None
    if recipe.data.scenes:
        packs = cache_folder() / "packs"
        index, packed, placed = survey(recipe, sensor, packs, say, quiet=quiet)
        extra = survey_unlabelled(recipe, sensor, placed, packs, say, quiet=quiet)
    else:
        index, packed = read_tiles(recipe, sensor, say, quiet=quiet)
    px = packed.images.shape[-1]
    say(
        f"{len(index)} tiles of {len(index.classes)} classes, {px}x{px} px, "
        f"bands {', '.join(packed.bands)}"
    )
    return Source(index, sensor, packed, quiet, placed, extra)


def read_tiles(recipe: Recipe, sensor: Sensor, say: Log, *, quiet: bool) -> tuple[TileIndex, Pack]:
    """Index and pack the tiles below a recipe's root."""
    data = recipe.data
    index = index_tiles(
        resolve_root(data.root),
        cache=cache_folder() / "datasets",
        sensor=sensor,
        table=data.table,
        class_depth=data.class_depth,
        say=say,
    )
    if data.synthetic is not None:
        made = read_synthetic(data.synthetic, index.classes, sensor)
        index = replace(index, tiles=(*index.tiles, *made))
        say(f"{data.synthetic}: {len(made)} synthetic tiles, which are learnt from alone")
    names = ("bands", "file_bands", "tile_px", "fit")
    options: dict[str, Any] = {name: getattr(data, name) for name in names}
    folder = cache_folder() / "packs" / fingerprint(index, sensor, **options)[:32]
    with ProgressLine(quiet=quiet) as line:
        told = line.counter("reading tiles")
        return index, pack(index, sensor, folder=folder, progress=told, **options)


def settle(recipe: Recipe, source: Source, say: Log) -> Recipe:
    """The recipe with a strategy for the labels at hand, where it leaves that open."""
    recipe = settle_split(recipe, source.real, say)
    if recipe.strategy != "auto":
        return recipe
    drawn = make_draw(recipe, source.real, 0).split.train
    counts = np.bincount(source.labels[drawn], minlength=len(source.index.classes))
    found, line = settled(recipe, float(np.median(counts)), source.pack.images.shape[-1])
    say(line)
    return found


def make_backbone(
    recipe: Recipe, sensor: Sensor, bands: Sequence[str]
) -> tuple[Backbone, WeightReport]:
    """The recipe's backbone for these bands, with its weights.

    Raises:
        WeightsError: weights that are not there or do not fit; this needs no tiles, so it is
            called before they are read.
    """
    told = recipe.model
    return build_backbone(
        told.backbone,
        bands,
        sensor.wavelengths(bands),
        weights=resolve_weights(told.weights),
        cut_after=told.cut_after,
        first_conv=told.first_conv,
        fresh=told.fresh,
        sha256=told.sha256,
        seed=recipe.seed,
    )


def build_network(
    recipe: Recipe, source: Source, draw: Draw
) -> tuple[TileClassifier, WeightReport]:
    """A network with its first weights, normalising by the draw's training tiles alone."""
    told, bands = recipe.model, source.pack.bands
    backbone, report = make_backbone(recipe, source.sensor, bands)
    smallest = min(told.input_px or (source.pack.images.shape[-1],))
    backbone.check_size(smallest, smallest)
    own = statistics(source.pack, draw.split.train)
    mean, sd = own.mean.tolist(), own.sd.tolist()
    if told.normalise == "weights":
        eight_bit = source.pack.images.dtype == np.uint8
        known = report.normalisation or IMAGENET
        mean, sd = as_dn(known, source.sensor, bands, eight_bit=eight_bit)
        report = replace(report, notes=(*report.notes, "inputs: standardised as the weights' were"))
    normalise = Normalise(mean, sd, own.fill.tolist(), source.sensor.nodata)
    names = list(backbone.stages)
    stages = told.stages or tuple(names[1:] if len(names) > 1 else names)
    spec = FeatureSpec(
        tuple(stages),
        told.pool,
        tuple(told.input_px),
        recipe.probe.views,
        told.unit_length,
        told.padding,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed + draw.number)  # the head's first weights
        network = TileClassifier(
            backbone, normalise, spec, len(source.index.classes), dropout=told.dropout
        )
    network.to(memory_format=torch.channels_last)
    network.to(choose_device())
    return network, adapted(recipe, source, draw, network, report)


def adapted(
    recipe: Recipe, source: Source, draw: Draw, network: TileClassifier, report: WeightReport
) -> WeightReport:
    """Measure batch normalisation anew where the recipe says so, and note it in the report."""
    kind = recipe.model.adabn
    if kind == "none":
        return report
    everything = np.arange(len(source.index), dtype=np.int64)
    rows = everything if kind == "transductive" else draw.split.train
    adapt_batchnorm(
        network, source.pack, rows, folded=report.folded_batchnorm, seed=recipe.seed + draw.number
    )
    of = "all tiles, those judged on included (transductive)"
    whose = of if kind == "transductive" else "the training tiles"
    note = f"batch normalisation: measured anew on {whose} (AdaBN)"
    return replace(report, notes=(*report.notes, note))


def make_plan(
    recipe: Recipe,
    source: Source,
    report: WeightReport,
    draw: Draw,
    *,
    resume: bool,
    quiet: bool,
) -> FitPlan:
    """The recipe's settings as the strategies take them."""
    training = training_of(recipe, source, recipe.seed + draw.number)
    if recipe.strategy == "auto":
        raise RecipeError("strategy: given auto, which must be settled for the labels first")
    return FitPlan(
        strategy=recipe.strategy,
        head=recipe.probe.head,
        head_settings=recipe.probe.head_settings,
        freeze_until=recipe.freeze_until,
        hold_batchnorm=report.folded_batchnorm or recipe.model.hold_batchnorm,
        training=training,
        quiet=quiet,
        resume=resume,
    )


def training_of(recipe: Recipe, source: Source, seed: int) -> Training:
    """The recipe's training on these tiles, from a seed.

    Raises:
        RecipeError: class weights that name another class, or not every one.
    """
    classes = tuple(source.index.classes)
    if isinstance(recipe.train.class_weights, dict):
        _check_names(recipe.train.class_weights, classes)
    return Training(recipe.train, recipe.augment, seed, classes, source.sensor.zero_dn)


def _check_names(weights: Mapping[str, float], classes: Sequence[str]) -> None:
    """Make sure that weights name every class and no other."""
    for name in weights:
        if name not in classes:
            raise RecipeError(f"train.class_weights: given {name}; {nearest(name, classes)}")
    missing = [name for name in classes if name not in weights]
    if missing:
        raise RecipeError(
            f"train.class_weights: no weight for {', '.join(missing)}; give every class one"
        )


def caching_note(recipe: Recipe) -> str | None:
    """Why frozen stages are computed anew in each epoch, where they could have been cached."""
    frozen = recipe.strategy in ("finetune", "probe_then_finetune")
    reasons = recipe.augment.beyond_views
    if not (frozen and recipe.train.cache_views and reasons):
        return None
    named = ", ".join(f"augment.{name}" for name in reasons)
    return f"frozen stages are computed anew in each epoch, for the new pixels of {named}"


def feature_source(recipe: Recipe, source: Source) -> Callable[[TileClassifier, Int64s], Floats]:
    """Frozen features, computed once and then found in the cache.

    Repeated draws share the features of all tiles; a single draw computes what it needs.
    """
    everything = np.arange(len(source.pack), dtype=np.int64)
    shared = recipe.split.draws > 1 or shows_random(recipe)

    def features(network: TileClassifier, rows: Int64s) -> Floats:
        wanted = everything if shared else rows
        with ProgressLine(quiet=source.quiet) as line:
            held = cached_features(
                network,
                source.pack,
                wanted,
                cache_folder() / "features",
                precision=recipe.train.precision,
                progress=line.counter("computing features"),
            )
        return np.asarray(held[rows] if shared else held)

    return features
