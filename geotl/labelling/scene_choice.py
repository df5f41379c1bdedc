"""The sensor and bands with which `geotl label` reads a scene, where the command line is short.

A page shows what a scene has, so that it takes those of the sensor's bands that are there;
`geotl run` and `geotl map` then get the names of just these.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from geotl.console import Log
from geotl.errors import BandError, DataError, MissingBandError, SettingError
from geotl.imagery.products import claim, claim_of, scene_folder
from geotl.imagery.scene import Scene, open_scene
from geotl.imagery.sensor_table import listed
from geotl.imagery.sensors import Sensor, get_sensor
from geotl.io.images import describe
from geotl.labelling.folder import Choices

_PLAIN, _MOST_PLAIN = "rgb", 4  # sensor of pictures, and how many bands one has, with infrared
_OF_SATELLITE = re.compile(r"(?:^|[_\s-])B\d{1,2}A?(?:$|[_\s-])", re.IGNORECASE)  # B8A, SR_B4


def sensor_of(path: Path) -> str:
    """Name of a scene's sensor where none is given: its product's, or rgb for a picture.

    Args:
        path: image file or folder of band files.

    Raises:
        DataError: the scene cannot be read.
        SettingError: it is no picture in red, green and blue, and does not say what it is.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; check the path")
    if path.is_dir():
        folder, images = scene_folder(path)
        stated, names = claim(folder, images), [image.stem for image in images]
    else:
        stated = claim_of([path.stem])
        names = [name or "" for name in describe(path).band_names]
    if stated is not None and stated.sensor is not None:
        return stated.sensor
    satellite = [name for name in names if _OF_SATELLITE.search(name)]
    if satellite or len(names) > _MOST_PLAIN:
        what = f"band {satellite[0]}" if satellite else f"{len(names)} bands"
        raise SettingError(
            f"{path}: has {what}, and does not say which sensor it is of; name that with --sensor "
            "(geotl sensors lists them)"
        )
    return _PLAIN


def opened(path: Path, choices: Choices, log: Log) -> tuple[Scene, Choices]:
    """A scene, and the choices with the bands that it was opened with.

    Without bands in the choices it has those of the sensor's that are there, in the sensor's order.

    Args:
        path: image file or folder of band files.
        choices: how it is read.
        log: takes a line on bands of the sensor that are not there.

    Raises:
        DataError: as `open_scene`; of bands, with the option that mends it.
    """
    sensor = get_sensor(choices.sensor)
    with _options_named(path, sensor):
        try:
            return _open(path, sensor, choices), choices
        except MissingBandError as error:
            there = tuple(name for name in sensor.names if name not in error.bands)
            if choices.bands is not None or not there:
                raise
            chosen = replace(choices, bands=there)
            scene = _open(path, sensor, chosen)
            log(f"{path.name}: without {listed(error.bands)} of {sensor.name}; takes the others")
            return scene, chosen


def file_order(path: Path, sensor: Sensor, bands: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The bands of a file in its order where --bands alone names them; None elsewhere.

    Args:
        path: image file or folder of band files.
        sensor: of the scene.
        bands: names that were given, None for none.
    """
    if bands is None or path.is_dir() or not path.exists():
        return None
    info = describe(path)
    named = info.names_from == "descriptions" and any(info.band_names)
    ordered = len(sensor.file_order) == len(info.band_names)
    return None if named or ordered or len(bands) != len(info.band_names) else bands


def _open(path: Path, sensor: Sensor, choices: Choices) -> Scene:
    mask = None if choices.mask == "none" else choices.mask
    order = file_order(path, sensor, choices.bands)
    return open_scene(path, sensor, choices.bands, file_bands=order, mask=mask)


@contextlib.contextmanager
def _options_named(path: Path, sensor: Sensor) -> Iterator[None]:
    """Name options in place of a recipe's keys, which the command does not have."""
    try:
        yield
    except MissingBandError as error:
        raise BandError(
            f"{path}: band {listed(error.bands)}: not there; choose others with --bands, or name "
            f"the sensor that made the file with --sensor (now {sensor.name})"
        ) from error
    except BandError as error:
        words = str(error).replace("data.file_bands", "--bands").replace("data.bands", "--bands")
        raise BandError(words) from error
