"""What a recipe names, looked up without a network's library: its sensor, bands and backbone."""

from __future__ import annotations

from collections.abc import Callable

from geotl.errors import GeoTLError, RecipeError
from geotl.experiments.recipe import Recipe
from geotl.imagery.sensors import (
    Sensor,
    custom_sensor,
    get_sensor,
    sensor_variant,
    wanted_bands,
)
from geotl.models.backbone_names import TIMM_PREFIX, check_backbone_name


def recipe_sensor(recipe: Recipe) -> Sensor:
    """The sensor a recipe means.

    Raises:
        DataError: a name that no sensor has, or a scale that cannot be.
    """
    named, own = recipe.data.sensor, recipe.data.custom_sensor
    if own is not None:
        bands = [band.model_dump() for band in own.bands]
        given = own.scale, own.offset, own.nodata
        return custom_sensor("custom", bands, *given, measures=own.measures)
    if isinstance(named, str):
        return get_sensor(named)
    return sensor_variant(named.base, named.model_dump(exclude={"base"}))


def check_names(recipe: Recipe) -> None:
    """Make sure that sensor, bands and backbone of a recipe exist; no file of tiles is opened.

    Raises:
        RecipeError: some do not; every fault with its key, one a line.
    """
    faults = dict[str, str]()
    lookups: dict[str, Callable[[], object]] = {
        "data.sensor": lambda: recipe_sensor(recipe),
        "data.bands": lambda: wanted_bands(recipe_sensor(recipe), recipe.data.bands),
        "augment.kornia": lambda: _check_kornia(recipe),
        "model.backbone": lambda: _check_backbone(recipe.model.backbone),
    }
    for key, look_up in lookups.items():
        try:
            look_up()
        except GeoTLError as error:
            faults.setdefault(str(error), key)  # an unknown sensor's fault is also its bands'
    if faults:
        raise RecipeError("\n".join(f"{key}: {text}" for text, key in faults.items()))


def _check_kornia(recipe: Recipe) -> None:
    if recipe.augment.kornia:  # Kornia takes seconds to import
        from geotl.training.kornia_steps import check_steps

        bands = wanted_bands(recipe_sensor(recipe), recipe.data.bands)
        check_steps(recipe.augment.kornia, len(bands))


def _check_backbone(name: str) -> None:
    if name.startswith(TIMM_PREFIX):  # timm alone knows them, and takes seconds to import
        from geotl.models.registry import get_backbone

        get_backbone(name)
    elif name != "none":
        check_backbone_name(name)
