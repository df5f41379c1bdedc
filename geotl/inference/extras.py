"""The extra rasters that a model of pixels needs with a scene, and those given for a map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from geotl.errors import BandError, DataError
from geotl.imagery.scene import Scene
from geotl.imagery.stacked import open_extras, stacked
from geotl.inference.mapper import Mapper
from geotl.inference.onnx_pixels import ServedPixelModel
from geotl.models.pixel_file import PixelModelFile


class WantedExtras(NamedTuple):
    """Bands of extra rasters that a model was trained with, and the file name of each."""

    bands: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    @property
    def option(self) -> str:
        """The option of `geotl map` for them."""
        return " ".join(f"--extra {name}" for name in dict.fromkeys(self.files))

    @property
    def words(self) -> str:
        """Each band with its file."""
        pairs = zip(self.bands, self.files, strict=True)
        return ", ".join(f"{band} ({file})" for band, file in pairs)


def extras_of(model: Mapper) -> WantedExtras:
    """Extra rasters that a model needs; none for a model of tiles."""
    if not isinstance(model, PixelModelFile | ServedPixelModel):
        return WantedExtras()
    return WantedExtras(model.contract.extra_bands, model.contract.extra_files)


def extras_in(header: Mapping[str, Any]) -> WantedExtras:
    """The extra rasters that a model needs, from its file's header."""
    contract = header.get("contract", {})
    bands, files = (contract.get(key, ()) for key in ("extra_bands", "extra_files"))
    return WantedExtras(tuple(bands), tuple(files))


def check_extras(path: Path | None, wanted: WantedExtras, given: Sequence[str | Path]) -> None:
    """Make sure that extra rasters are given where a model wants some, and only there.

    Raises:
        DataError: some are missing, or unwanted.
    """
    if given and not wanted.bands:
        raise DataError(
            f"{path}: --extra: this model was trained without extra rasters; leave it out, or "
            "train a model of pixels with pixels.extra"
        )
    if wanted.bands and not given:
        raise DataError(
            f"{path}: trained with the extra bands {wanted.words}; give rasters of the same kind "
            f"that cover the scene: {wanted.option}"
        )


def with_extras(model: Mapper, scene: Scene, given: Sequence[str | Path]) -> Scene:
    """A scene with the bands of extra rasters, in the order that a model wants.

    Args:
        model: model to map with.
        scene: scene in the model's bands and at its resolution.
        given: files, in any order.

    Raises:
        DataError: files missing or unwanted, or one that cannot be laid on the scene.
        BandError: files with other bands than the model wants.
    """
    wanted = extras_of(model)
    check_extras(model.path, wanted, given)
    extras = open_extras(given, scene.sensor)
    there = [band for extra in extras for band in extra.bands]
    if sorted(there) != sorted(wanted.bands):
        raise BandError(
            f"{', '.join(map(str, given))}: --extra gives {', '.join(there)}, the model wants "
            f"{wanted.words}; give rasters with these bands, called so in their descriptions or "
            "after the file (dem.tif or dem.vrt gives dem_1)"
        )
    ordered = sorted(extras, key=lambda extra: wanted.bands.index(extra.bands[0]))
    with_layers = stacked(scene, ordered)
    if with_layers.bands[len(scene.bands) :] != wanted.bands:
        raise BandError(
            f"{', '.join(map(str, given))}: --extra gives the bands in another order than the "
            f"model wants, {wanted.words}; give rasters with the bands in this order"
        )
    return with_layers
