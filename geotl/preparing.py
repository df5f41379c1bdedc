"""What a recipe means: its tiles, its draws, its network and its plan of fitting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geotl import splits
from geotl.augment import Augmentation
from geotl.backbones import build_backbone
from geotl.device import choose_device
from geotl.errors import RecipeError
from geotl.features import cached_features
from geotl.heads import Folds
from geotl.loading import Pack, fingerprint, pack, statistics
from geotl.model import FeatureSpec, Normalise, TileClassifier
from geotl.recipe import Recipe, resolve_weights
from geotl.runfolder import cache_folder
from geotl.sensors import Sensor, custom_sensor, get_sensor
from geotl.strategies import Plan
from geotl.tiles import TileIndex, index_folder
from geotl.training import TrainSettings
from geotl.weights import IMAGENET, WeightReport

Ints = NDArray[np.int64]
Floats = NDArray[np.floating]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Source:
    """The labelled tiles of a run, packed."""

    index: TileIndex
    sensor: Sensor
    pack: Pack

    @property
    def labels(self) -> Ints:
        """Class of each tile."""
        return self.index.labels


@dataclass(frozen=True)
class Draw:
    """One drawing of training labels: its split and the folds inside the training part."""

    number: int
    split: splits.Split
    folds: Folds


def recipe_sensor(recipe: Recipe) -> Sensor:
    """The sensor a recipe means."""
    own = recipe.data.custom_sensor
    if own is None:
        return get_sensor(recipe.data.sensor)
    bands = [band.model_dump() for band in own.bands]
    return custom_sensor("custom", bands, own.scale, own.offset, own.nodata)


def read_source(recipe: Recipe, root: Path, sensor: Sensor, say: Say) -> Source:
    """Index the tiles, and pack them or find them packed."""
    data = recipe.data
    index = index_folder(root, table=data.table)
    names = ("bands", "file_bands", "tile_px", "fit")
    options: dict[str, Any] = {name: getattr(data, name) for name in names}
    folder = cache_folder() / "packs" / fingerprint(index, sensor, **options)[:32]
    packed = pack(index, sensor, folder=folder, **options)
    px = packed.images.shape[-1]
    say(
        f"{len(index)} tiles of {len(index.classes)} classes, {px}x{px} px, "
        f"bands {', '.join(packed.bands)}"
    )
    return Source(index, sensor, packed)


def make_draw(recipe: Recipe, source: Source, number: int) -> Draw:
    """Split the tiles for one draw; draw n of seed s is draw 0 of seed s + n."""
    told, index = recipe.split, source.index
    labels, seed = source.labels, recipe.seed + number
    same: dict[str, Any] = {"content": index.contents, "names": index.classes}
    groups = [tile.group for tile in index.tiles]
    if told.method == "shots":
        split = splits.k_shot(labels, told.shots or 1, seed=seed, **same)
    elif told.method == "stratified":
        split = splits.stratified(labels, told.test_fraction, seed=seed, **same)
    elif told.method == "column":
        split = splits.by_column([t.split for t in index.tiles], labels=labels, **same)
    else:
        split = splits.by_group(groups, labels, told.test_fraction, seed=seed, **same)
    kept = [groups[i] for i in split.train]
    inside = kept if told.method == "group" and all(g is not None for g in kept) else None
    folds = splits.folds(labels[split.train], told.folds, seed=seed, groups=inside)
    return Draw(number, split, folds)


def build_network(
    recipe: Recipe, source: Source, draw: Draw
) -> tuple[TileClassifier, WeightReport]:
    """A network with its first weights, normalising by the draw's training tiles alone."""
    told, bands = recipe.model, source.pack.bands
    backbone, report = build_backbone(
        told.backbone, bands, source.sensor.wavelengths(bands),
        weights=resolve_weights(told.weights), cut_after=told.cut_after,
        first_conv=told.first_conv, fresh=told.fresh, sha256=told.sha256, seed=recipe.seed,
    )  # fmt: skip
    smallest = min(told.input_px or (source.pack.images.shape[-1],))
    backbone.check_size(smallest, smallest)
    own = statistics(source.pack, draw.split.train)
    mean, sd = own.mean.tolist(), own.sd.tolist()
    if told.normalise == "weights":
        mean, sd = published_normalisation(source, report)
    normalise = Normalise(mean, sd, nodata=source.sensor.nodata)
    names = list(backbone.stages)
    stages = told.stages or tuple(names[1:] if len(names) > 1 else names)
    spec = FeatureSpec(
        tuple(stages), told.pool, tuple(told.input_px), recipe.probe.views, told.unit_length
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed + draw.number)  # the head's first weights
        network = TileClassifier(
            backbone, normalise, spec, len(source.index.classes), dropout=told.dropout
        )
    network.to(memory_format=torch.channels_last)
    return network.to(choose_device()), report


def published_normalisation(
    source: Source, report: WeightReport
) -> tuple[list[float], list[float]]:
    """Mean and sd that came with RGB weights, in 8-bit DN and the pack's band order.

    Raises:
        RecipeError: the tiles are not 8-bit red, green and blue.
    """
    colours = [source.sensor.band(name).name for name in ("red", "green", "blue")]
    if sorted(colours) != sorted(source.pack.bands) or source.pack.images.dtype != np.uint8:
        raise RecipeError(
            "model.normalise: given weights, for tiles that are not 8-bit red, green and blue; "
            "allowed: training"
        )
    mean, sd = report.normalisation or IMAGENET
    place = [colours.index(band) for band in source.pack.bands]
    return [255.0 * mean[i] for i in place], [255.0 * sd[i] for i in place]


def make_plan(
    recipe: Recipe, report: WeightReport, draw: Draw, *, resume: bool, quiet: bool
) -> Plan:
    """The recipe's settings as the strategies take them."""
    train, probe = recipe.train, recipe.probe
    settings = TrainSettings(
        **{name: getattr(train, name) for name in type(train).model_fields},
        seed=recipe.seed + draw.number,
        augmentation=Augmentation(**recipe.augment.model_dump()),
    )
    return Plan(
        strategy=recipe.strategy,
        head=probe.head,
        head_settings=probe.penalties if probe.head == "logistic" else probe.shrinkages,
        freeze_until=recipe.freeze_until,
        hold_batchnorm=report.folded_batchnorm,
        settings=settings,
        quiet=quiet,
        resume=resume,
    )


def feature_source(recipe: Recipe, source: Source) -> Callable[[TileClassifier, Ints], Floats]:
    """Frozen features, computed once and then found in the cache.

    Repeated draws share the features of all tiles; a single draw computes what it needs.
    """
    everything = np.arange(len(source.index), dtype=np.int64)

    def features(network: TileClassifier, rows: Ints) -> Floats:
        wanted = everything if recipe.split.draws > 1 else rows
        held = cached_features(
            network, source.pack, wanted, cache_folder() / "features",
            precision=recipe.train.precision,
        )  # fmt: skip
        return np.asarray(held[rows] if recipe.split.draws > 1 else held)

    return features
