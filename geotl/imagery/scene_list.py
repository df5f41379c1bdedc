"""Lists of scenes: files, folders, lists, and STAC items on disk. Headers are not read."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from geotl.errors import BandError, DataError, OutputError
from geotl.imagery.band_files import images_in, is_band_folder
from geotl.imagery.cloud_masks import rule_of
from geotl.imagery.products import claim_of
from geotl.imagery.scene import BandSet, scene_names
from geotl.imagery.sensors import Sensor, known_band

LISTS, ITEMS = (".txt", ".lst"), (".json", ".geojson")
_PLACED = frozenset({".tif", ".tiff", ".jp2", ".j2k"})  # pictures and arrays have no place
_PRODUCT = ("GRANULE", "IMG_DATA", "R10m", "R20m", "R60m")


@dataclass(frozen=True)
class SceneAsset:
    """A file of a STAC item: its key, and (name, common name) of each of its bands."""

    key: str
    path: Path
    bands: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Entry:
    """A scene that is to be mapped.

    Attributes:
        name: unique, and valid as a file name.
        path: a file or folder; of a STAC item the JSON file.
        assets: assets of a STAC item.
        acquired: date of acquisition, where the item gives it.
    """

    name: str
    path: Path
    assets: tuple[SceneAsset, ...] = ()
    acquired: str | None = None


@dataclass(frozen=True)
class Listing:
    """Scenes, and whether they were given as a single scene (not a list or folder of scenes)."""

    entries: tuple[Entry, ...]
    single: bool


def scenes_in(given: Sequence[Path], sensor: Sensor) -> Listing:
    """The scenes that arguments stand for.

    Args:
        given: image files; folders that are a scene (band files, a product) or hold scenes, at
            any depth; text files with one scene per line, relative to the file, # before a comment;
            STAC items or item collections, with assets relative to the JSON file.
        sensor: sensor whose bands the file names are compared with.

    Raises:
        DataError: nothing there, a scene given twice, or a list that cannot be read.
    """
    plain = [path for path in given if _is_plain(path, sensor)]
    single = len(given) == 1 and bool(plain)
    entries = [entry for path in given for entry in _entries(path, sensor)]
    ways = Counter(str(e.path.resolve()) for e in entries if not e.assets)
    twice = [way for way, count in ways.items() if count > 1]
    if twice:
        raise DataError(f"{twice[0]}: given more than once; give each scene once")
    return Listing(tuple(_named(entries)), single)


def check_apart(given: Sequence[Path], out: Path, sensor: Sensor) -> None:
    """Make sure that maps are not written where scenes are searched.

    Raises:
        OutputError: the output folder lies in a folder of scenes.
    """
    for path in given:
        inside = path.resolve() in (out.resolve(), *out.resolve().parents)
        if path.is_dir() and inside and not is_one_scene(path, sensor):
            raise OutputError(
                f"{out}: lies in the folder of scenes {path}, so that the maps would be taken for "
                "scenes; choose a folder outside of it"
            )


def band_set(entry: Entry, sensor: Sensor, bands: Sequence[str]) -> BandSet:
    """The file of each band of a STAC item: by key, else by the bands' names or common names.

    Raises:
        BandError: a band without an asset, with several, or with one that is not on disk.
    """
    wanted = sensor.canonical(bands)
    files = {band: _asset_of(entry, sensor, band).path for band in wanted}
    masks = [a.path for a in entry.assets if rule_of(a.key) or rule_of(a.path.stem)]
    claim = claim_of([entry.name, *(path.stem for path in files.values())])
    images = tuple(dict.fromkeys([*files.values(), *masks]))
    return BandSet(entry.path, files, images, claim, entry.acquired)


def only_file(entry: Entry, sensor: Sensor, bands: Sequence[str]) -> Path | None:
    """The one asset of a STAC item with all bands wanted, None where there is no such."""
    wanted = set(sensor.canonical(bands))
    for asset in entry.assets:
        asset_bands = {known_band(sensor, word) for pair in asset.bands for word in pair if word}
        if len(asset.bands) > 1 and wanted <= asset_bands:
            _check_on_disk(entry, asset)
            return asset.path
    return None


def _is_plain(path: Path, sensor: Sensor) -> bool:
    """Whether a path is a single scene."""
    if path.is_dir():
        return is_one_scene(path, sensor)
    return path.suffix.lower() not in (*LISTS, *ITEMS)


def is_one_scene(folder: Path, sensor: Sensor) -> bool:
    """Whether a folder is one scene: a product, or one file for each band."""
    if folder.suffix.upper() == ".SAFE" or any((folder / name).is_dir() for name in _PRODUCT):
        return True
    images = images_in(folder)
    if images:
        return is_band_folder(folder, sensor)
    inner = [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
    return len(inner) == 1 and is_one_scene(inner[0], sensor)


def _entries(path: Path, sensor: Sensor) -> list[Entry]:
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; check the path")
    if path.is_dir() and not is_one_scene(path, sensor):
        entries = list(_under(path, sensor))
        if not entries:
            raise DataError(
                f"{path}: contains no scenes; allowed in it: GeoTIFF or JPEG 2000 files, folders "
                "with "
                "a file for each band, products"
            )
        return [Entry("", scene) for scene in entries]
    if path.suffix.lower() in LISTS and path.is_file():
        return [e for line in _lines(path) for e in _entries(line, sensor)]
    if path.suffix.lower() in ITEMS and path.is_file():
        return _items(path)
    return [Entry("", path)]


def _under(folder: Path, sensor: Sensor) -> Iterator[Path]:
    """Scenes in a folder and the folders below; masks belong to the scene next to them."""
    for path in images_in(folder):
        if path.suffix.lower() in _PLACED and rule_of(path.stem) is None:
            yield path
    for path in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        if is_one_scene(path, sensor):
            yield path
        else:
            yield from _under(path, sensor)


def _lines(path: Path) -> list[Path]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); give a text file in UTF-8") from error
    lines = [line.strip() for line in text.splitlines()]
    paths = [path.parent / line for line in lines if line and not line.startswith("#")]
    if not paths:
        raise DataError(f"{path}: lists no scene; write a path a line")
    return paths


def _items(path: Path) -> list[Entry]:
    """The items of a STAC JSON file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}); save it again") from error
    kind = content.get("type") if isinstance(content, dict) else None
    features = [content] if kind == "Feature" else []
    if kind == "FeatureCollection":
        features = content.get("features") or []
    if not isinstance(features, list) or not features or not all(map(_is_item, features)):
        raise DataError(
            f"{path}: not a STAC item or item collection with assets (its type is {kind!r}); save "
            "the items of a search, such as pystac's ItemCollection.save_object"
        )
    return [_item(path, feature) for feature in features]


def _is_item(value: Any) -> bool:
    """Whether a value of JSON has what is read of a STAC item."""
    if not isinstance(value, dict) or not isinstance(value.get("properties") or {}, dict):
        return False
    assets = value.get("assets")
    return isinstance(assets, dict) and bool(assets) and all(map(_is_asset, assets.values()))


def _is_asset(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return all(isinstance(value.get(key) or [], list) for key in ("eo:bands", "bands"))


def _item(path: Path, item: Mapping[str, Any]) -> Entry:
    assets = [
        SceneAsset(str(key), place, _bands(asset))
        for key, asset in item["assets"].items()
        if (place := _place(path, asset)) is not None
    ]
    when = str((item.get("properties") or {}).get("datetime") or "")
    name = str(item.get("id") or path.stem)
    return Entry(name, path, tuple(assets), when[:10] or None)


def _place(path: Path, asset: Mapping[str, Any]) -> Path | None:
    """Where an asset lies; None for one that is no image.

    One on the network stays in the list under its address, so that wanting it is an error that
    names it.
    """
    href = str(asset.get("href") or "")
    try:
        address = urlparse(href) if "://" in href else None
    except ValueError:  # no address, and no path either
        return None
    plain = unquote(address.path) if address else href
    if Path(plain).suffix.lower() not in _PLACED | {".vrt"}:
        return None
    if address and address.scheme != "file":
        return Path(href)
    return path.parent / plain


def _bands(asset: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Names and common names of an asset's bands, of STAC 1.0 (eo:bands) and 1.1 (bands)."""
    bands = asset.get("eo:bands") or asset.get("bands") or []
    return tuple(
        (str(b.get("name") or ""), str(b.get("common_name") or b.get("eo:common_name") or ""))
        for b in bands
        if isinstance(b, dict)
    )


def _asset_of(entry: Entry, sensor: Sensor, band: str) -> SceneAsset:
    """The only asset of a band.

    Raises:
        BandError: none, several, or one on the network.
    """
    alone = [
        (a, (a.key, *(a.bands[0] if a.bands else ("", ""))))
        for a in entry.assets
        if len(a.bands) <= 1
    ]
    for way in range(3):
        assets = [a for a, words in alone if words[way] and known_band(sensor, words[way]) == band]
        if len(assets) == 1:
            _check_on_disk(entry, assets[0])
            return assets[0]
        if assets:
            keys = ", ".join(a.key for a in assets)
            raise BandError(
                f"{entry.path}: item {entry.name}: band {band} of sensor {sensor.name} in several "
                f"assets ({keys}); remove all but one"
            )
    raise BandError(
        f"{entry.path}: item {entry.name}: band {band} of sensor {sensor.name} in none of its "
        f"assets ({', '.join(a.key for a in entry.assets) or 'no images'}); choose the sensor "
        "with --sensor"
    )


def _check_on_disk(entry: Entry, asset: SceneAsset) -> None:
    if re.match(r"[a-z0-9+]+:/", str(asset.path)):
        raise BandError(
            f"{entry.path}: item {entry.name}: asset {asset.key} lies at {asset.path}, not on "
            "disk; download the items' assets and save the JSON with their new places"
        )


def _named(entries: Sequence[Entry]) -> list[Entry]:
    """Entries under names that differ from each other and suit a file system."""
    paths = iter(scene_names([e.path for e in entries if not e.assets]))
    names = [e.name if e.assets else next(paths) for e in entries]
    used: set[str] = set()
    named = []
    for entry, name in zip(entries, names, strict=True):
        plain = re.sub(r"[^\w.\-+]+", "_", name).strip("._") or "scene"
        unique, number = plain, 1
        while unique.casefold() in used:
            number += 1
            unique = f"{plain}-{number}"
        used.add(unique.casefold())
        named.append(replace(entry, name=unique))
    return named
