"""How a project's scene is read and mapped: the command line, and what it leaves open.

A project keeps what was chosen. The sensor of a new one may come from the scene; its bands are
those of the sensor's that are there, and `geotl run` and `geotl map` get the names of just these.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from geotl.console import Log
from geotl.errors import BandError, DataError, MissingBandError, SettingError
from geotl.imagery.products import claim, claim_of, scene_folder
from geotl.imagery.scene import Scene, open_scene
from geotl.imagery.sensor_table import listed
from geotl.imagery.sensors import Sensor, get_sensor
from geotl.io.files import given_path
from geotl.io.images import describe
from geotl.labelling.project_recipe import SMOOTH_PX
from geotl.mapping.options import SMOOTH_PX as SIDES_PX

NONE = "none"  # in place of a file that was given before
CACHE_GB = 10.0
_PLAIN, _MOST_PLAIN = "rgb", 4  # sensor of pictures, and how many bands one has, with infrared
_OF_SATELLITE = re.compile(r"(?:^|[_\s-])B\d{1,2}A?(?:$|[_\s-])", re.IGNORECASE)  # B8A, SR_B4


@dataclass(frozen=True)
class Choices:
    """How a project's scene is read, and with what it is mapped.

    Attributes:
        sensor: its name.
        bands: names of those used, None for all.
        weights: path of a network's weights, None without.
        mask: cloud mask: auto, none or a path.
        aoi: path of the area of interest, None for the whole scene.
        sample: path of a reference sample that is labelled blind, None for labels that train.
        map: path of the map that the sample tests, None where it is not known.
        cache_gb: what features of the scene may take of the disk [GB].
        smooth_px: side of the windows in which the map is smoothed [px], odd; 1 for none.
    """

    sensor: str = "rgb"
    bands: tuple[str, ...] | None = None
    weights: str | None = None
    mask: str = "auto"
    aoi: str | None = None
    sample: str | None = None
    map: str | None = None
    cache_gb: float = CACHE_GB
    smooth_px: int = SMOOTH_PX


@dataclass(frozen=True)
class LabelOptions:
    """What the command line says; None where it says nothing.

    Attributes:
        sensor: name of the scene's.
        bands: names of those used.
        mask: cloud mask: auto, none or a path.
        weights: path of a network's weights; none for none.
        aoi: path of polygons of the area of interest; none for the whole scene.
        cache_gb: what features of the scene may take of the disk [GB].
        smooth_px: side of the windows in which the map is smoothed [px], odd; 1 for none.
        classes: path of names of classes.
        labels: path of labels to begin with.
        field: of the labels, with the class.
        layer: of the labels' file.
        sample: path of a reference sample to label without a map.
        map: path of the map that it tests.
        port: to listen on.
        browser: whether to open one.
    """

    sensor: str | None = None
    bands: tuple[str, ...] | None = None
    mask: str | None = None
    weights: str | None = None
    aoi: str | None = None
    cache_gb: float | None = None
    smooth_px: int | None = None
    classes: Path | None = None
    labels: Path | None = None
    field: str = "class"
    layer: str | None = None
    sample: Path | None = None
    map: Path | None = None
    port: int | None = None
    browser: bool = True


def chosen(options: LabelOptions, known: Choices) -> Choices:
    """The options, and what they leave open as it was in the session before.

    Args:
        options: of the command line.
        known: choices of the session before, or those of a new project.

    Raises:
        SettingError: a size that features or the windows of a filter cannot have.
        DataError: a file that is not there.
    """
    if options.cache_gb is not None and not 0 < options.cache_gb < float("inf"):
        raise SettingError(f"--cache-gb: given {options.cache_gb:g}; allowed: more than 0")
    if options.smooth_px not in (None, 1, *SIDES_PX):
        raise SettingError(
            f"--smooth-px: given {options.smooth_px}; allowed: odd numbers from {SIDES_PX[0]} to "
            f"{SIDES_PX[-1]}, and 1 for a map that is not smoothed"
        )
    same = options.sensor in (None, known.sensor)
    choices = Choices(
        options.sensor or known.sensor,
        options.bands or (known.bands if same else None),
        _kept(options.weights, known.weights),
        options.mask or known.mask,
        _kept(options.aoi, known.aoi),
        _kept(options.sample, known.sample),
        _kept(options.map, known.map),
        options.cache_gb or known.cache_gb,
        options.smooth_px or known.smooth_px,
    )
    _check_files(choices)
    return choices


def _kept(given: str | Path | None, known: str | None) -> str | None:
    """A file of the command line, or the one that is known; none takes it back."""
    if given is None:
        return known
    return None if given == NONE else str(given_path(given).resolve())


def _check_files(choices: Choices) -> None:
    """Make sure that the files of a project are there, before anything is made."""
    for option in ("weights", "aoi", "sample", "map"):
        path = getattr(choices, option)
        if path is not None and not Path(path).is_file():
            raise DataError(f"{path}: no such file; give the right one with --{option}")


def effects(before: Choices, after: Choices) -> list[str]:
    """A line on the cached features for each choice that changes them.

    Args:
        before: choices of the session before.
        after: those of this one.

    >>> effects(Choices(weights="/data/net.pth"), Choices())
    ['--weights none: the features of net.pth are deleted; those of bands and windows stay']
    """
    lines = []
    if before.weights is not None and before.weights != after.weights:
        name, old = _name(after.weights), _name(before.weights)
        others = "those of bands and windows stay"
        lines.append(f"--weights {name}: the features of {old} are deleted; {others}")
    if before.aoi != after.aoi:
        of = "the whole scene" if after.aoi is None else "the rectangle about the area"
        lines.append(f"--aoi {_name(after.aoi)}: features are deleted, and computed for {of}")
    if before.cache_gb != after.cache_gb:
        size = f"--cache-gb {after.cache_gb:g}"
        lines.append(f"{size}: of cached features those stay that fit, coarse ones first")
    return lines


def _name(path: str | None) -> str:
    return NONE if path is None else Path(path).name


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
