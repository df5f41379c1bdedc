"""What the decoders of a recipe of task pixels are trained on, and how they are trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from geotl.arrays import Bools, Float32s, Float64s, Int64s
from geotl.console import Progress
from geotl.data.pixel_labels import PixelPlacement
from geotl.experiments.build import make_backbone
from geotl.experiments.pixel_networks import changed
from geotl.experiments.pixel_windows import PixelPlaces
from geotl.experiments.recipe import Recipe
from geotl.experiments.samples import recipe_scenes
from geotl.imagery.sensors import Sensor
from geotl.imagery.windows import Imagery, Window
from geotl.language import msg
from geotl.models.backbone import Backbone, freeze
from geotl.models.deep_features import MAX_STRIDE
from geotl.models.pixel_decoder import PixelDecoder, pyramid_channels
from geotl.models.pixel_features import BlockFeatures, Features, PixelFeatures
from geotl.models.registry import get_backbone
from geotl.training.heads import Folds
from geotl.training.pixel_decoder import DecoderPlan, FittedDecoder, Marks, Patches, fit_decoder
from geotl.training.settings import Light, Training
from geotl.training.soft_targets import SoftTargets, Teach

MAX_UNLABELLED = 50_000  # pixels that a teacher describes: at 600 features 120 MB
FROZEN_STRIDE = 4  # stages up to this stride stay frozen by default (freeze_until)


@dataclass(frozen=True)
class Unlabelled:
    """Pixels of patches without a label.

    Attributes:
        owner: the patch of each pixel [n].
        places: its row and column there [n,2].
        features: [D,n] by block, those that members without a decoder take.
    """

    owner: Int64s
    places: Int64s
    features: Features

    def targets(self, log_probabilities: Float64s, minimum: float) -> SoftTargets:
        """Soft targets of them [n,K] with a probability of at least `minimum`."""
        return SoftTargets.confident(self.owner, self.places, log_probabilities, minimum)


@dataclass(frozen=True)
class DecoderSource:
    """What decoders are trained on and predict.

    Attributes:
        base: the network with its first weights.
        patches: about all labelled pixels.
        where: all labelled pixels lie.
        of: how the bands are standardised.
        plan: how decoders are trained.
        recipe: its scenes are read again to predict.
        sensor: of these scenes.
        unlabelled: pixels for soft targets of a teacher, None for no teacher.
    """

    base: PixelDecoder
    patches: Patches
    where: PixelPlaces
    of: PixelFeatures
    plan: DecoderPlan
    recipe: Recipe
    sensor: Sensor
    unlabelled: Unlabelled | None = None

    def fit(self, marks: Marks, folds: Folds, teach: Teach | None, *, quiet: bool) -> FittedDecoder:
        """Train a decoder on some labelled pixels, with folds inside them, and with a teacher."""
        plan, inputs = replace(self.plan, quiet=quiet), (self.base, self.patches, marks, folds)
        return fit_decoder(*inputs, plan=plan, predict=self.predict, teach=teach)

    def predict(self, network: PixelDecoder, pixels: Int64s) -> Float32s:
        """Logits [K,n] of some labelled pixels, with all that they depend on around them."""
        logits = np.zeros((network.classes, len(pixels)), np.float32)
        scenes, plain = recipe_scenes(self.recipe, self.sensor), replace(self.of, windows_px=())
        where = self.where.part(pixels)
        for one in where.windows(scenes, network.halo, network.stride):
            image = BlockFeatures(plain, one.data, one.valid).standardised()
            logits[:, one.pixels] = network.at(image, one.rows, one.cols)
        for scene in scenes:
            scene.close()
        return logits

    def words(self) -> str:
        """What is trained, for people."""
        backbone = self.base.backbone
        values = {
            "kind": self.base.kind,
            "backbone": backbone.name,
            "last": backbone.stage_names[-1],
            "frozen": ", ".join(backbone.frozen) or msg("no stages"),
        }
        if self.unlabelled is None:
            return msg("{kind} on {backbone} up to {last}, {frozen} frozen", **values)
        return msg(
            "{kind} on {backbone} up to {last}, {frozen} frozen, drawn to the other members at {n} "
            "unlabelled pixels",
            **values,
            n=len(self.unlabelled.owner),
        )


def decoder_backbone(recipe: Recipe, sensor: Sensor, bands: Sequence[str]) -> Backbone | None:
    """The encoder of a recipe's decoder, its early stages frozen; None where none is trained.

    Raises:
        WeightsError: weights that are not there or do not fit, or a random stage to be frozen.
        ModelError: a backbone that no decoder fits on, or without a stage of the recipe.
    """
    if recipe.strategy != "finetune":
        return None
    spec = get_backbone(recipe.model.backbone)
    small = [s for s, stride in zip(spec.stages, spec.strides, strict=True) if stride <= MAX_STRIDE]
    last = recipe.model.cut_after or small[-1]
    backbone, _ = make_backbone(changed(recipe, cut_after=last), sensor, bands)
    pyramid_channels(backbone)
    early = [name for name, stride in backbone.strides.items() if stride <= FROZEN_STRIDE]
    freeze(backbone, recipe.freeze_until or (early[-1] if early else None))
    return backbone


def decoder_source(
    backbone: Backbone,
    recipe: Recipe,
    sensor: Sensor,
    of: PixelFeatures,
    *,
    placed: PixelPlacement,
    patches: Patches,
) -> DecoderSource:
    """What the decoders on a backbone are trained on and predict."""
    classes = len({*placed.labels.values()})
    base = PixelDecoder(backbone, recipe.decoder.kind, classes, seed=recipe.seed)
    light = Light.of(sensor)
    training = Training(recipe.train, recipe.augment, recipe.seed, light=light)
    plan = DecoderPlan(recipe.decoder, training)
    return DecoderSource(base, patches, PixelPlaces.of(placed), of, plan, recipe, sensor)


def read_patches(
    scenes: Sequence[Imagery],
    where: PixelPlaces,
    of: PixelFeatures,
    side_px: int,
    progress: Progress,
) -> Patches:
    """Read what surrounds labelled pixels, so that windows of `side_px` can be cut at random.

    The scenes are divided into squares of half that side; a patch is a square with labelled pixels
    and half a window around it. Bands behind those of `of`, which are of extra rasters, are left
    out.
    """
    cell = side_px // 2
    keys = np.column_stack([where.scene, where.places // cell])
    squares, owner = np.unique(keys, axis=0, return_inverse=True)
    images, masks = [], []
    for number, row, col in squares.tolist():
        window = Window(row * cell - cell, col * cell - cell, 3 * cell, 3 * cell)
        data, valid = scenes[number].read(window)
        images.append(data[: len(of.bands)])
        masks.append(valid[: len(of.bands)])
        progress(len(images), len(squares))
    owner = owner.reshape(-1).astype(np.int64)
    places = where.places - squares[owner, 1:] * cell + cell
    mean, sd = np.array(of.mean), np.array(of.sd)
    return Patches(np.stack(images), _joined(np.stack(masks)), owner, places, mean, sd)


def unlabelled_places(
    patches: Patches, where: PixelPlaces, count: int, seed: int
) -> tuple[Int64s, Int64s, PixelPlaces]:
    """Valid pixels of patches without a label, drawn at random.

    Args:
        patches: about all labelled pixels.
        where: these lie.
        count: of each patch, at most; fewer where all together have more than `MAX_UNLABELLED`.
        seed: of the draw.

    Returns:
        The patch of each pixel [n], its row and column there [n,2], and its place in the scenes.
    """
    free: Bools = np.asarray(patches.valid.all(axis=1))
    free[patches.owner, patches.places[:, 0], patches.places[:, 1]] = False
    count = max(1, min(count, MAX_UNLABELLED // len(free)))
    drawn = []
    for number, one in enumerate(free):
        at = np.argwhere(one)
        chosen = np.random.default_rng([seed, number]).permutation(len(at))[:count]
        drawn.append(at[np.sort(chosen)])
    owner = np.repeat(np.arange(len(free)), [len(of_patch) for of_patch in drawn])
    places = np.concatenate(drawn)
    first = np.unique(patches.owner, return_index=True)[1]
    corners = where.places[first] - patches.places[first]
    return owner, places, PixelPlaces(where.scene[first][owner], corners[owner] + places)


def _joined(valid: Bools) -> Bools:
    """Validity [P,C,S,S], or [P,1,S,S] where it is the same in all bands."""
    return valid[:, :1].copy() if (valid == valid[:, :1]).all() else valid
