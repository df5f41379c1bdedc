"""Products of satellites: which files they have, and what their metadata claims."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from geotl.errors import DataError
from geotl.imagery.band_files import images_in
from geotl.imagery.sensors import SENSORS, Sensor

_SAFE = re.compile(r"S2[A-Z]_MSI(L1C|L2A)_\d{8}T\d{6}_N(\d\d)(\d\d)_", re.IGNORECASE)
_LANDSAT = re.compile(
    r"L[A-Z]0([4-9])_(L\d[A-Z]{2})_\d{6}_\d{8}_\d{8}_(\d\d)_(?:T1|T2|RT)", re.IGNORECASE
)
_BASELINE = re.compile(r"<PROCESSING_BASELINE>\s*(\d\d)\.(\d\d)\s*</")
_ADDED = re.compile(r"<(?:RADIO|BOA)_ADD_OFFSET\b[^<>]*>\s*(-?\d+)")
_MSI_LEVEL = re.compile(r"MTD_MSI(L1C|L2A)", re.IGNORECASE)
_PRODUCT_ID = re.compile(r'LANDSAT_PRODUCT_ID\s*=\s*"(\w{20,60})"')
_DATE = re.compile(r"(?<!\d)(\d{4})(-?)(\d{2})\2(\d{2})(?=T\d{4}|\D|$)")
_METADATA_BYTES = 1 << 20
_METADATA = ("MTD_MSI*.xml", "*_MTL.txt")
_ABOVE = 4  # folders between a band's file and its SAFE


@dataclass(frozen=True)
class Claim:
    """What a product is by its metadata or name: a sentence, and the sensor that fits, if any."""

    says: str
    sensor: str | None
    remedy: str


def claim_of(names: Iterable[str]) -> Claim | None:
    """The product claim of the first file name that gives one.

    >>> claim_of(["S2A_MSIL2A_20220706T085611_N0400_R007_T33NZA_20220706T153419.SAFE"]).sensor
    'sentinel2_l2a_n0400'
    >>> claim_of(["LC08_L2SP_193023_20200401_20200410_02_T1_SR_B4"]).sensor
    'landsat8_sr'
    >>> claim_of(["T33UUU_20170216T102101_B04"])
    """
    for name in names:
        if match := _SAFE.search(name):
            return _sentinel(match[1], match[2], match[3])
        if match := _LANDSAT.search(name):
            return _landsat(match[1], match[2].upper(), match[3])
    return None


def claim_in(files: Iterable[Path]) -> Claim | None:
    """The product claim of the first metadata file that gives one (MTD_MSIL2A.xml, _MTL.txt).

    The text is searched, not parsed: nothing in it is expanded or followed.
    """
    for path in files:
        with path.open(encoding="utf-8", errors="replace") as stream:
            text = stream.read(_METADATA_BYTES)
        level, baseline = _MSI_LEVEL.match(path.name), _BASELINE.search(text)
        if level and baseline:
            added = {int(number) for number in _ADDED.findall(text)}
            return _sentinel(level[1], baseline[1], baseline[2], added or None)
        if match := _PRODUCT_ID.search(text):
            return claim_of([match[1]])
    return None


def check_claim(path: Path, claim: Claim | None, sensor: Sensor, dtype: np.dtype[Any]) -> None:
    """Make sure that a product's own word and the sensor chosen agree.

    A custom sensor is the user's own word, and stands against the product's. Fractions under the
    name of a Level-1 product are no longer its digital numbers.

    Raises:
        DataError: they do not.
    """
    if claim is None or sensor.source == "custom" or sensor.name == claim.sensor:
        return
    if claim.sensor is None and dtype.kind == "f":
        return
    claimed = SENSORS.get(claim.sensor or "")
    if claimed and _meaning(claimed) == _meaning(sensor):
        return
    raise DataError(f"{path}: {claim.says}, data.sensor is {sensor.name}; {claim.remedy}")


def check_scaling(
    path: Path, scaling: Sequence[tuple[float, float]], sensor: Sensor, bands: Sequence[str]
) -> None:
    """Make sure that a scale and offset which a file declares are the sensor's.

    Args:
        path: the file, for the message.
        scaling: (scale, offset) of each band wanted; (1, 0) declares nothing.
        sensor: the sensor chosen.
        bands: the bands wanted, by the sensor's names.

    Raises:
        DataError: they are others.
    """
    for band, (scale, offset) in zip(bands, scaling, strict=True):
        if (scale, offset) == (1.0, 0.0) or _agrees(sensor, scale, offset):
            continue
        fit = [s.name for s in SENSORS.values() if _agrees(s, scale, offset) and _has(s, bands)]
        nearest = difflib.get_close_matches(sensor.name, fit, n=1, cutoff=0.0)
        remedy = f"set data.sensor={nearest[0]}" if fit else _stated(sensor, scale, offset)
        raise DataError(
            f"{path}: band {band} declares scale {scale:g} and offset {offset:g}, sensor "
            f"{sensor.name} has {sensor.scale:g} and {sensor.offset:g}; {remedy}, or take the "
            "declaration out (gdal_edit.py -unsetscale -unsetoffset)"
        )


def _stated(sensor: Sensor, scale: float, offset: float) -> str:
    """How the declared numbers are set: in one line for a known sensor."""
    if sensor.name not in SENSORS:
        return "state them under data.custom_sensor"
    values = f"{{base: {sensor.name}, scale: {scale:g}, offset: {offset:g}}}"
    return f"set data.sensor='{values}'"


def date_in(names: Iterable[str]) -> str | None:
    """The first date that stands in a name, as YYYY-MM-DD.

    >>> date_in(["LC08_L2SP_193023_20200401_20200410_02_T1"]), date_in(["x_2021-02-30"])
    ('2020-04-01', None)
    """
    for name in names:
        for match in _DATE.finditer(name):
            date = f"{match[1]}-{match[3]}-{match[4]}"
            if "1972" <= date[:4] <= "2100" and _is_date(date):
                return date
    return None


def _meaning(sensor: Sensor) -> tuple[Any, ...]:
    return sensor.bands, sensor.scale, sensor.offset


def _sentinel(level: str, major: str, minor: str, added: set[int] | None = None) -> Claim | None:
    """The claim of a Sentinel-2 product, with the offset by its metadata, else by the baseline.

    Baseline 99.99 stands for processing by hand, such as BigEarthNet's, and gives no information.
    """
    if added is None and major == "99":
        return None
    shifted = int(major) >= 4 if added is None else added != {0}
    sensor = f"sentinel2_{level[-3:].lower()}" + "_n0400" * shifted
    formula = "(DN - 1000) / 10000" if shifted else "DN / 10000"
    says = (
        f"this product is Sentinel-2 {level.upper()} of processing baseline {major}.{minor} "
        f"(reflectance = {formula})"
    )
    return Claim(says, sensor, f"set data.sensor={sensor}")


def _landsat(craft: str, level: str, collection: str) -> Claim:
    says = f"this product is Landsat {craft} Collection {int(collection)} {level}"
    sensor = {"4": "landsat5_sr"}.get(craft, f"landsat{craft}_sr")
    if level.startswith("L2") and collection == "02" and sensor in SENSORS:
        return Claim(
            f"{says} (reflectance = DN * 0.0000275 - 0.2)", sensor, f"set data.sensor={sensor}"
        )
    return Claim(
        f"{says}, whose digital numbers no sensor of geotl describes",
        None,
        "take the Collection 2 Level-2 product, or state what its numbers mean: "
        f"data.sensor='{{base: landsat{'5' if craft == '4' else craft}_toa, scale: ..., "
        "offset: ...}'",
    )


def _agrees(sensor: Sensor, scale: float, offset: float) -> bool:
    return math.isclose(sensor.scale, scale, rel_tol=1e-4) and math.isclose(
        sensor.offset, offset, rel_tol=1e-4, abs_tol=1e-9
    )


def _has(sensor: Sensor, bands: Sequence[str]) -> bool:
    return set(bands) <= set(sensor.names)


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def scene_folder(path: Path) -> tuple[Path, list[Path]]:
    """The folder of a scene, and the images in which its bands may be.

    A folder with nothing but one sub-folder stands for that one. In a Sentinel-2 product they
    lie in GRANULE/*/IMG_DATA, there (L2A) again in R10m, R20m and R60m.

    Raises:
        DataError: no images, or a product of several granules.
    """
    granules = sorted(p for p in path.glob("GRANULE/*") if (p / "IMG_DATA").is_dir())
    if len(granules) > 1:
        raise DataError(
            f"{path}: contains {len(granules)} granules ({_listed(granules)}); give the folder of "
            "one"
        )
    inner = granules[0] / "IMG_DATA" if granules else path / "IMG_DATA"
    inside = inner if inner.is_dir() else path
    images = [p for folder in (inside, *sorted(inside.glob("R*m"))) for p in images_of(folder)]
    if images:
        return path, images
    folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(folders) == 1:
        return scene_folder(folders[0])
    content = (
        f"folders ({_listed(folders)}): give one of them" if folders else "none: check the path"
    )
    raise DataError(f"{path}: no images of bands in this folder, but {content}")


def images_of(folder: Path) -> list[Path]:
    """The image files in a folder; none in what is no folder."""
    return images_in(folder) if folder.is_dir() else []


def sibling_images(path: Path) -> list[Path]:
    """Images whose names extend that of a file: scene_SCL.tif next to scene.tif."""
    return [
        p for p in images_in(path.parent) if p.stem.startswith((f"{path.stem}_", f"{path.stem}-"))
    ]


def claim(folder: Path, images: Sequence[Path]) -> Claim | None:
    """The product claim of a folder: from its metadata, else from its file names."""
    above = [folder, *folder.absolute().parents[:_ABOVE]]
    root = next((p for p in above if p.suffix.lower() == ".safe"), folder)
    files = [p for pattern in _METADATA for p in sorted(root.glob(pattern))]
    return claim_in(files) or claim_of(_names(root, images))


def _names(root: Path, images: Iterable[Path]) -> list[str]:
    return [root.absolute().name, *(path.stem for path in images)]


def _listed(paths: Sequence[Path], most: int = 5) -> str:
    return ", ".join(p.name for p in paths[:most]) + ", ..." * (len(paths) > most)
