"""The frozen networks whose stages describe pixels: the recipe's, and a random one beside it."""

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
UNTRAINED = "deep_random"  # the block of the random network: of a rival in the race, of no member


@dataclass(frozen=True)
class DeepNetworks:
    """What pixels are described by beside bands and windows.

    Attributes:
        given: the recipe's backbone with its weights.
        report: where these came from.
        untrained: the same backbone at random, None where the recipe compares with none.
    """

    given: DeepFeatures
    report: WeightReport
    untrained: DeepFeatures | None


def deep_networks(recipe: Recipe, sensor: Sensor, bands: Sequence[str]) -> DeepNetworks | None:
    """The networks of a recipe; None for model.backbone or model.weights none.

    Raises:
        WeightsError: weights that are not there or do not fit.
        ModelError: a backbone without the stages named, without any of a stride small enough, or
            whose pixels depend on the whole image.
        BandError: colour composites are wanted of bands that do not give any.
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
        BandError: colour composites are wanted, and a band of them is not there.
    """
    if recipe.pixels.network_input == "bands":
        return ()
    found = region_bands(sensor.wavelengths(bands))
    missing = {region for composite in COMPOSITES for region in composite} - found.keys()
    if missing:
        raise BandError(
            f"pixels.network_input composites: no band of {', '.join(bands)} is "
            f"{' or '.join(sorted(missing))}; use pixels.network_input=bands"
        )
    return tuple(tuple(found[region] for region in composite) for composite in COMPOSITES)


def stages_read(recipe: Recipe) -> tuple[str, ...]:
    """Stages that describe pixels: those named, or those whose stride is at most `MAX_STRIDE`.

    Raises:
        ModelError: the backbone has none of these.
    """
    spec, given = get_backbone(recipe.model.backbone), recipe.model
    last = given.cut_after or spec.stages[-1]
    kept = spec.stages[: spec.stages.index(last) + 1] if last in spec.stages else ()
    small = {s for s, stride in zip(spec.stages, spec.strides, strict=True) if stride <= MAX_STRIDE}
    found = tuple(stage for stage in kept if stage in (given.stages or small))
    missing = set(given.stages or ()) - set(found)
    if missing or not found:
        raise ModelError(
            f"model.feature_stages: {', '.join(sorted(missing)) or 'none'}: {spec.name} up to "
            f"{last} has {', '.join(kept) or 'no stage'}"
        )
    return found


def changed(recipe: Recipe, **values: object) -> Recipe:
    """A recipe with other values in its section model, which are not checked again."""
    return recipe.model_copy(update={"model": recipe.model.model_copy(update=values)})
