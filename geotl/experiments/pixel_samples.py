"""The labelled pixels of a recipe: placed in its scenes, with their features."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from geotl.arrays import Bools, Float32s, Float64s, Int64s
from geotl.console import Log, Progress, ProgressLine
from geotl.data.footprints import Footprints, locate, need_positions
from geotl.data.labels import ClassRaster, Labels, read_any
from geotl.data.pixel_labels import PixelPlacement, PixelRules, place_pixels
from geotl.data.raster_pixels import place_raster_pixels
from geotl.data.spatial_splits import Variogram, variogram
from geotl.errors import DataError
from geotl.experiments.pixel_decoders import (
    DecoderSource,
    Unlabelled,
    decoder_backbone,
    decoder_source,
    read_patches,
    unlabelled_places,
)
from geotl.experiments.pixel_networks import UNTRAINED, DeepNetworks, deep_networks
from geotl.experiments.pixel_windows import PixelPlaces, PixelWindow
from geotl.experiments.recipe import Recipe, resolve_sample
from geotl.experiments.samples import stacked_scenes, unmasked
from geotl.experiments.sections import PixelsSection
from geotl.imagery.measurable import measurable
from geotl.imagery.scene import Scene
from geotl.imagery.sensors import Sensor
from geotl.imagery.stacked import extra_sources, own_bands
from geotl.imagery.windows import Imagery, Window
from geotl.io.raster import Grid
from geotl.io.vector import positions
from geotl.language import msg
from geotl.models.deep_features import DEEP, DeepFeatures
from geotl.models.pixel_features import BANDS, WIDE, BlockFeatures, PixelFeatures
from geotl.models.pixel_model import BLOCKS
from geotl.training.pixel_members import PixelRows

LOCAL = "local"  # mean and sd in 3x3 and 5x5 pixels: of a baseline, of no member
LOCAL_PX = (3, 5)
_SIDE_PX, _PLACES = 64, 7  # of the windows that statistics of a scene are estimated from


class SceneFacts(NamedTuple):
    """What is kept of a scene once its pixels are read: name, path, grid and date."""

    name: str
    path: Path
    grid: Grid
    acquired: str | None


@dataclass(frozen=True)
class PixelSamples:
    """Labelled pixels with their features: the `Samples` of a recipe whose rows are pixels.

    Attributes:
        placement: which pixels labels gave, and which labels were rejected.
        of: how the features of the model are computed.
        features: [D,N] by block, those of the model, `LOCAL` and `UNTRAINED`.
        valid: which bands of each pixel are valid [C,N].
        sensor: of the scenes' digital numbers.
        imagery: the scenes, by the numbers that the placement gives them.
        networks: their stages are features too; None without one.
        extra_files: name of the file of each extra band.
        decoders: what decoders are trained on, None where none is.
    """

    placement: PixelPlacement
    of: PixelFeatures
    features: Mapping[str, Float32s]
    valid: Bools
    sensor: Sensor
    imagery: tuple[SceneFacts, ...]
    networks: DeepNetworks | None = None
    extra_files: tuple[str, ...] = ()
    decoders: DecoderSource | None = None

    def __len__(self) -> int:
        """Number of pixels."""
        return len(self.placement.pixels)

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks of features that members may take."""
        return tuple(block for block in BLOCKS if block in self.features)

    @property
    def reach_px(self) -> int:
        """Pixels around a pixel that its features depend on."""
        fields = self.networks.pretrained.fields.values() if self.networks else ()
        decoder = self.decoders.base.halo if self.decoders else 0
        return max([self.of.halo, decoder, *(field.reach for field in fields)])

    @property
    def reach_m(self) -> float:
        """The same in metres."""
        return self.reach_px * float(self.footprints.sides.max())

    @functools.cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, sorted."""
        return tuple(sorted({pixel.class_name for pixel in self.placement.pixels}))

    @functools.cached_property
    def labels(self) -> Int64s:
        """Class of each pixel [N]."""
        number = {name: i for i, name in enumerate(self.classes)}
        return np.array([number[p.class_name] for p in self.placement.pixels], np.int64)

    @functools.cached_property
    def weight(self) -> Float64s:
        """What each pixel counts [N]; those of one label sum to 1."""
        return np.array([pixel.weight for pixel in self.placement.pixels])

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """Label, scene, row and column of each pixel."""
        return tuple(
            f"{pixel.label_id}@{content}"
            for pixel, content in zip(self.placement.pixels, self.contents, strict=True)
        )

    @functools.cached_property
    def contents(self) -> tuple[str, ...]:
        """Scene, row and column: no two pixels are copies of each other."""
        places = (pixel.place for pixel in self.placement.pixels)
        return tuple(f"{self.imagery[p.scene].name}:{p.row},{p.col}" for p in places)

    @functools.cached_property
    def paths(self) -> tuple[Path, ...]:
        """The file of each pixel's scene."""
        return tuple(self.imagery[pixel.place.scene].path for pixel in self.placement.pixels)

    @functools.cached_property
    def groups(self) -> tuple[str, ...]:
        """The label of each pixel; pixels of one label stay on one side of a split."""
        return tuple(pixel.label_id for pixel in self.placement.pixels)

    @functools.cached_property
    def scenes(self) -> tuple[str, ...]:
        """The scene of each pixel."""
        return tuple(self.imagery[pixel.place.scene].name for pixel in self.placement.pixels)

    @property
    def sides(self) -> tuple[str | None, ...]:
        """None: pixels have no table with sides of a split."""
        return (None,) * len(self)

    @property
    def sources(self) -> tuple[frozenset[str] | None, ...]:
        """No pixel is synthetic."""
        return (None,) * len(self)

    @property
    def real(self) -> PixelSamples:
        """All of them."""
        return self

    @functools.cached_property
    def footprints(self) -> Footprints:
        """Where the pixels lie, in metres."""
        boxes, systems = [], []
        for place in (pixel.place for pixel in self.placement.pixels):
            grid = Window(place.row, place.col, 1, 1).on(self.imagery[place.scene].grid)
            boxes.append(grid.bounds)
            systems.append(grid.crs)
        return locate(boxes, systems)

    @functools.cached_property
    def band_table(self) -> Float64s:
        """The features of the bands alone [N,D], for the variogram."""
        return self.features[BANDS].T.astype(np.float64)

    @functools.cached_property
    def variogram(self) -> Variogram:
        """How far the pixels' bands resemble each other.

        Raises:
            DataError: pixels in too few places.
        """
        need_positions(self.footprints, self.names)
        return variogram(self.footprints.centres, self.band_table)

    @functools.cached_property
    def places(self) -> Float64s:
        """X and y of the pixels' middles in the first scene's reference system [N,2]."""
        first = str(self.imagery[0].grid.crs)
        xys = np.zeros((len(self), 2))
        for number, scene in enumerate(self.imagery):
            rows_of_scene = [
                i for i, p in enumerate(self.placement.pixels) if p.place.scene == number
            ]
            at = [self.placement.pixels[i].place for i in rows_of_scene]
            middles = [scene.grid.at(place.col + 0.5, place.row + 0.5) for place in at]
            if rows_of_scene:
                xy = np.array(middles, np.float64)
                xys[rows_of_scene] = positions(xy, str(scene.grid.crs), first)
        return xys

    def rows(self, positions: Int64s, blocks: Sequence[str], seed: int) -> PixelRows:
        """Some pixels with some blocks of features, as members are fitted to them."""
        features = {block: self.features[block][:, positions] for block in blocks}
        return PixelRows(
            features, self.labels[positions], self.weight[positions], len(self.classes), seed
        )

    def missing(self) -> tuple[str, ...]:
        """A line for each band that some labels lack."""
        total = len(self.placement.labels) + len(self.placement.rejected)
        lines = [
            msg(
                "{count} of {total} labels have no {band}: they are not used "
                "(pixels.missing_bands: exclude)",
                count=count,
                total=total,
                band=band,
            )
            for band, count in self.placement.without_bands.items()
        ]
        total = len(self.placement.labels)
        for band, valid in zip(self.of.bands, self.valid, strict=True):
            lost = {group for group, good in zip(self.groups, valid, strict=True) if not good}
            if lost:
                lines.append(
                    msg(
                        "{lost} of {total} labels have no {band}: it counts as its mean there",
                        lost=len(lost),
                        total=total,
                        band=band,
                    )
                )
        return tuple(lines)


def read_pixels(recipe: Recipe, sensor: Sensor, log: Log, *, quiet: bool = False) -> PixelSamples:
    """Place a recipe's labels in its scenes and compute the features of their pixels.

    Raises:
        DataError: scenes or labels that cannot be used.
    """
    scenes = stacked_scenes(recipe, sensor)
    networks = deep_networks(recipe, sensor, own_bands(scenes[0]))
    encoder = decoder_backbone(recipe, sensor, own_bands(scenes[0]))
    labels = recipe_labels(recipe, str(scenes[0].grid.crs))
    with ProgressLine(quiet=quiet) as line:
        placed = labelled_pixels(recipe, scenes, labels, line.counter("placing labels"))
        clouds = unmasked(scenes, recipe.data.mask, pixels=True)
        placed = replace(placed, notes=(*placed.notes, *clouds))
        _check(labels.path, placed, recipe.split.kfold or 2)
        of = scene_features(scenes, sensor, recipe.pixels)
        reader = PixelReader(of, networks)
        where = PixelPlaces.of(placed)
        features, valid, strange = reader.read(scenes, where, line.counter("reading pixels"))
        decoders = None
        if encoder is not None:
            side = recipe.decoder.patch_px
            of_scene = of.of_scene()
            patches = read_patches(scenes, where, of_scene, side, line.counter("reading patches"))
            decoders = decoder_source(
                encoder, recipe, sensor, of_scene, placed=placed, patches=patches
            )
            if recipe.decoder.unlabelled_weight > 0:
                progress = line.counter("reading unlabelled pixels")
                decoders = replace(
                    decoders, unlabelled=reader.unlabelled(scenes, decoders, progress)
                )
    facts = tuple(SceneFacts(s.name, s.path, s.grid, s.acquired) for s in scenes)
    for scene in scenes:
        scene.close()
    extra_files = tuple(path.name for path in extra_sources(scenes[0]))
    samples = PixelSamples(
        placed, of, features, valid, sensor, facts, networks, extra_files, decoders
    )
    weights = (networks.report.summary(),) if networks is not None else ()
    counts = (*placed.summary(), *samples.missing(), *_strange_lines(samples, strange))
    for text in (*placed.lost_classes(), *weights, *placed.notes, *counts):
        log(text)
    return samples


def _strange_lines(samples: PixelSamples, strange: Bools) -> list[str]:
    """How many labels lie near values that the sensor cannot have measured; nothing for none."""
    labels = {group for group, near in zip(samples.groups, strange, strict=True) if near}
    if not labels:
        return []
    return [
        f"{len(labels)} of {len(samples.placement.labels)} labels have values near them that "
        f"cannot be of sensor {samples.sensor.name}: taken as no data"
    ]


def labelled_pixels(
    recipe: Recipe,
    scenes: Sequence[Scene],
    labels: Labels | ClassRaster,
    progress: Progress | None = None,
) -> PixelPlacement:
    """The pixels of scenes that points and polygons, or a class raster, name."""
    rules = pixel_rules(recipe)
    if isinstance(labels, ClassRaster):
        return place_raster_pixels(scenes, labels, rules, progress=progress)
    return place_pixels(scenes, labels, rules, progress=progress)


def pixel_rules(recipe: Recipe) -> PixelRules:
    """How a recipe's labels become pixels."""
    return PixelRules(
        per_polygon=recipe.labels.pixels_per_polygon,
        per_class=recipe.labels.pixels_per_class,
        jitter_px=recipe.labels.jitter_px,
        all_bands=recipe.pixels.missing_bands == "exclude",
        seed=recipe.seed,
    )


def recipe_labels(recipe: Recipe, crs: str) -> Labels | ClassRaster:
    """A recipe's points and polygons in a reference system, or its class raster.

    Raises:
        DataError: as `read_any`.
    """
    config = recipe.labels
    return read_any(
        resolve_sample("labels.path", str(config.path)),
        layer=config.layer,
        field=config.field,
        crs_to=crs,
        id_field=config.id_field,
        mapping=config.names,
        crs=config.crs,
    )


def _check(path: Path, placed: PixelPlacement, folds: int) -> None:
    """Make sure that labels of two classes are left, and one for each fold at least."""
    lines = "; ".join(line.strip().rstrip(":") for line in placed.summary())
    if len({*placed.labels.values()}) < 2:
        raise DataError(
            f"{path}: labels of two classes at least are needed; label places of another class, or "
            f"see why labels were rejected: {lines}"
        )
    if len(placed.labels) < folds:
        raise DataError(
            f"{path}: {len(placed.labels)} labels can be used, fewer than the {folds} folds of "
            f"split.kfold; label more places, or lower it: {lines}"
        )


def scene_features(
    scenes: Sequence[Imagery], sensor: Sensor, settings: PixelsSection
) -> PixelFeatures:
    """How features are computed: mean and sd of the bands over windows spread over the scenes.

    No label takes part in these statistics.
    """
    bands, scene_bands = scenes[0].bands, own_bands(scenes[0])
    extra = len(bands) - len(scene_bands)
    total = np.zeros((3, len(bands)))
    for scene in scenes:
        for window in _spread(scene.grid):
            data, valid = scene.read(window)
            values = np.where(valid, data.astype(np.float64), 0.0)
            total += [x.sum(axis=(1, 2)) for x in (valid, values, values * values)]
    count = np.maximum(total[0], 1)
    mean = total[1] / count
    sd = np.sqrt(np.maximum(total[2] / count - mean * mean, 0.0))
    return PixelFeatures(
        bands,
        (*sensor.wavelengths(scene_bands), *[None] * extra),
        tuple(mean.tolist()),
        tuple(np.where(sd > 0, sd, 1.0).tolist()),
        sensor.zero_dn,
        settings.windows_px,
        settings.missing_bands,
        extra,
    )


def _spread(grid: Grid) -> Iterator[Window]:
    """Windows spread evenly over a grid, its corners included."""
    height, width = min(_SIDE_PX, grid.height), min(_SIDE_PX, grid.width)
    rows = np.unique(np.linspace(0, grid.height - height, _PLACES).astype(int))
    for row in rows.tolist():
        for col in np.unique(np.linspace(0, grid.width - width, _PLACES).astype(int)).tolist():
            yield Window(row, col, height, width)


class PixelRead(NamedTuple):
    """Features [D,N] by block, valid bands [C,N], and which see impossible values [N]."""

    features: dict[str, Float32s]
    valid: Bools
    strange: Bools


@dataclass(frozen=True)
class PixelReader:
    """Reads features of single pixels, square by square.

    Attributes:
        of: how bands and windows describe pixels.
        networks: their stages do so too.
    """

    of: PixelFeatures
    networks: DeepNetworks | None

    @property
    def deep(self) -> dict[str, DeepFeatures]:
        """The networks by the name of their block."""
        if self.networks is None:
            return {}
        several = {DEEP: self.networks.pretrained, UNTRAINED: self.networks.untrained}
        return {block: one for block, one in several.items() if one is not None}

    def read(self, scenes: Sequence[Scene], where: PixelPlaces, progress: Progress) -> PixelRead:
        """Features of pixels, and whether their values are valid."""
        count = len(where.scene)
        table: dict[str, Float32s] = {}
        valid = np.zeros((len(self.of.bands), count), bool)
        out_of_range, scene_bands = np.zeros(count, bool), own_bands(scenes[0])
        ends = measurable(scenes[0].sensor, scene_bands)
        halo = max(self.of.halo, max(LOCAL_PX) // 2, *(one.halo for one in self.deep.values()))
        step = max([1, *(one.stride for one in self.deep.values())])
        done = 0
        for one in where.windows(scenes, halo, step):
            blocks = self._of_window(one.data, one.valid, one.rows, one.cols)
            for block, values in blocks.items():
                empty = np.zeros((len(values), count), np.float32)
                table.setdefault(block, empty)[:, one.pixels] = values
            valid[:, one.pixels] = one.valid[:, one.rows, one.cols]
            out_of_range[one.pixels] = _near(
                ends.undeclared_at(one.data[: len(scene_bands)]), one, halo
            )
            done += len(one.pixels)
            progress(done, count)
        return PixelRead(table, valid, out_of_range)

    def unlabelled(
        self, scenes: Sequence[Scene], decoders: DecoderSource, progress: Progress
    ) -> Unlabelled:
        """Pixels of the decoders' patches without a label, described as their teachers need."""
        count, seed = decoders.plan.settings.unlabelled_px, decoders.recipe.seed
        owner, places, where = unlabelled_places(decoders.patches, decoders.where, count, seed)
        trained = None if self.networks is None else replace(self.networks, untrained=None)
        table = PixelReader(self.of, trained).read(scenes, where, progress).features
        return Unlabelled(owner, places, {name: table[name] for name in BLOCKS if name in table})

    def _of_window(
        self, data: NDArray[np.generic], good: Bools, rows: Int64s, cols: Int64s
    ) -> dict[str, Float32s]:
        """Features [D,n] by block of the pixels of a window."""
        block = BlockFeatures(self.of, data, good)
        local = BlockFeatures(replace(self.of, windows_px=LOCAL_PX), data, good)
        blocks = block.at(rows, cols)
        blocks[LOCAL] = _local(local.at(rows, cols)[WIDE], self.of)
        for name, deep in self.deep.items():
            blocks[name] = deep.at(block.standardised(), rows, cols)
        return blocks


def _near(wrong: Bools | None, one: PixelWindow, reach_px: int) -> Bools:
    """Which pixels [n] of a window have a wrong value [C,H,W] within `reach_px`."""
    near = np.zeros(len(one.pixels), bool)
    if wrong is not None and wrong.any():
        _, rows, cols = np.nonzero(wrong)
        for i, (row, col) in enumerate(zip(one.rows, one.cols, strict=True)):
            near[i] = (np.maximum(abs(rows - row), abs(cols - col)) <= reach_px).any()
    return near


def _local(wide: Float32s, of: PixelFeatures) -> Float32s:
    """Mean and sd, without the gradient, of the windows of `LOCAL_PX` [D,n]."""
    by_window = wide.reshape(len(LOCAL_PX), 3, len(of.bands), -1)[:, :2]
    return by_window.reshape(-1, wide.shape[1])
