"""The frozen networks whose stages describe pixels: the recipe's, and a random one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from geotl.errors import BandError, ModelError
from geotl.experiments.build import make_backbone
from geotl.experiments.recipe import Recipe
from geotl.imagery.sensors import Sensor
from geotl.models.deep_features import MAX_STRIDE, DeepFeatures
from geotl.models.pixel_features import region_bands
from geotl.models.receptive_field import receptive_fields
from geotl.models.registry import get_backbone
from geotl.models.weights import WeightReport

COMPOSITES = (("red", "green", "blue"), ("nir", "red", "green"))  # true and false colour
UNTRAINED = "deep_random"  # the block of the random network: of a baseline, of no member


@dataclass(frozen=True)
class DeepNetworks:
    """Networks that describe pixels, besides bands and windows.

    Attributes:
        pretrained: the recipe's backbone with its weights.
        report: where these came from.
        untrained: the same backbone at random, None where the recipe compares with none.
    """

    pretrained: DeepFeatures
    report: WeightReport
    untrained: DeepFeatures | None


def deep_networks(recipe: Recipe, sensor: Sensor, bands: Sequence[str]) -> DeepNetworks | None:
    """The networks of a recipe; None for model.backbone or model.weights none.

    Raises:
        WeightsError: weights that do not exist or do not fit.
        ModelError: a backbone without the recipe's stages, without any of a small stride, or
            whose pixels depend on the whole image.
        BandError: the recipe asks for colour composites, which its bands do not allow.
    """
    if "none" in (recipe.model.backbone, recipe.model.weights):
        return None
    stages, composites = stages_read(recipe), composites_read(recipe, sensor, bands)
    recipe = changed(recipe, cut_after=stages[-1])
    taken = [bands[i] for i in composites[0]] if composites else bands
    backbone, report = make_backbone(recipe, sensor, taken)
    receptive_fields(backbone)
    untrained = None
    if recipe.evaluate.random_weights:
        blank, _ = make_backbone(changed(recipe, weights="none", sha256=None), sensor, taken)
        untrained = DeepFeatures.of(blank, stages, composites)
    return DeepNetworks(DeepFeatures.of(backbone, stages, composites), report, untrained)


def composites_read(
    recipe: Recipe, sensor: Sensor, bands: Sequence[str]
) -> tuple[tuple[int, ...], ...]:
    """Positions of the bands of the images that the network takes; () for all bands together.

    Raises:
        BandError: the recipe asks for colour composites, and a band of them is missing.
    """
    if recipe.pixels.network_input == "bands":
        return ()
    positions = region_bands(sensor.wavelengths(bands))
    missing = {region for composite in COMPOSITES for region in composite} - positions.keys()
    if missing:
        raise BandError(
            f"pixels.network_input composites: no band of {', '.join(bands)} is "
            f"{' or '.join(sorted(missing))}; use pixels.network_input=bands"
        )
    return tuple(tuple(positions[region] for region in composite) for composite in COMPOSITES)


def stages_read(recipe: Recipe) -> tuple[str, ...]:
    """Stages that describe pixels: the recipe's, or those with a stride of at most `MAX_STRIDE`.

    Raises:
        ModelError: the backbone has none of these.
    """
    spec, config = get_backbone(recipe.model.backbone), recipe.model
    last = config.cut_after or spec.stages[-1]
    stages = spec.stages[: spec.stages.index(last) + 1] if last in spec.stages else ()
    small = {s for s, stride in zip(spec.stages, spec.strides, strict=True) if stride <= MAX_STRIDE}
    chosen = tuple(stage for stage in stages if stage in (config.stages or small))
    missing = set(config.stages or ()) - set(chosen)
    if missing or not chosen:
        raise ModelError(
            f"model.feature_stages: {', '.join(sorted(missing)) or 'none'}: {spec.name} up to "
            f"{last} has {', '.join(stages) or 'no stage'}"
        )
    return chosen


def changed(recipe: Recipe, **values: object) -> Recipe:
    """A recipe with other values in its section model, which are not checked again."""
    return recipe.model_copy(update={"model": recipe.model.model_copy(update=values)})
