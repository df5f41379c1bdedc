"""A model's STAC item: checked more strictly than by its schemas, and written."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import shapely

from geotl.console import Log
from geotl.data.footprints import ground_in_degrees
from geotl.errors import ModelError, OutputError
from geotl.export.pixel_mlm import pixel_item
from geotl.export.stac_assets import assets_of
from geotl.export.stac_mlm import bounds_of, mlm_item
from geotl.io.files import check_absent, sha256_of, write_text
from geotl.models.model_file import ModelFile
from geotl.models.pixel_file import PixelModelFile

_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_.\-\s]+[a-zA-Z0-9]")
_WORLD = (-180.0, -90.0, 180.0, 90.0)
_SLACK = 1e-6  # degrees


def check_item(item: Mapping[str, Any], folder: Path) -> None:
    """Reject an item with a fault.

    Args:
        item: as it will be written.
        folder: of the item; its files are named relative to it.

    Raises:
        OutputError: it has one; the message names the first and counts the others.
    """
    problems = list(faults(item, folder))
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise OutputError(f"STAC item not written: {problems[0]}{more}")


def faults(item: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """A line for each fault, such as "mlm:name 'x': ..."."""
    properties = item["properties"]
    if not _NAME.fullmatch(str(properties.get("mlm:name", ""))):
        yield (
            f"mlm:name {properties.get('mlm:name')!r}: allowed are letters, digits, blanks and "
            "_ . -, from a letter to a letter or digit; rename the recipe"
        )
    yield from _dates(properties)
    yield from place_faults(item)
    yield from _bands(properties)
    for one in properties["mlm:input"]:
        yield from _input(one, properties)
    for one in properties["mlm:output"]:
        yield from _shape(one, one["result"])
        yield from _classes(one)
    yield from _assets(item["assets"], folder)
    try:
        json.dumps(item, allow_nan=False)
    except ValueError as error:
        yield f"a figure that JSON cannot hold ({error})"


def _dates(properties: Mapping[str, Any]) -> Iterator[str]:
    """One moment, or a start that is not after an end; all in UTC."""
    start, end = properties.get("start_datetime"), properties.get("end_datetime")
    if (start is None) != (end is None) or (properties.get("datetime") is None and start is None):
        yield "dates: give datetime, or start_datetime and end_datetime"
        return
    read = {}
    for key in ("datetime", "start_datetime", "end_datetime"):
        if properties.get(key) is not None:
            try:
                read[key] = datetime.fromisoformat(properties[key].replace("Z", "+00:00"))
            except ValueError:
                yield f"{key} {properties[key]!r}: no date and time such as 2017-02-16T00:00:00Z"
                return
            if not properties[key].endswith(("Z", "+00:00")):
                yield f"{key} {properties[key]!r}: not in UTC"
    if start is not None and read["start_datetime"] > read["end_datetime"]:
        yield f"start_datetime {start} is after end_datetime {end}"


def place_faults(item: Mapping[str, Any]) -> Iterator[str]:
    """No geometry and no bbox, or a valid geometry in degrees and the bbox around it."""
    if item["geometry"] is None:
        if "bbox" in item:
            yield "bbox: given without a geometry"
        return
    ground = shapely.geometry.shape(item["geometry"])
    if ground.is_empty or not ground.is_valid:
        yield f"geometry: {shapely.is_valid_reason(ground)}"
        return
    bounds = ground.bounds
    if any(a < b for a, b in zip(bounds[:2], _WORLD[:2], strict=True)) or any(
        a > b for a, b in zip(bounds[2:], _WORLD[2:], strict=True)
    ):
        yield f"geometry: reaches beyond the world's degrees {bounds}"
    box, around = item.get("bbox", []), bounds_of(ground)
    if len(box) != 4 or any(abs(a - b) > _SLACK for a, b in zip(box, around, strict=True)):
        yield f"bbox {box}: is not the box around the geometry, {around}"


def _bands(properties: Mapping[str, Any]) -> Iterator[str]:
    names = [band.get("name") for band in properties.get("bands", [])]
    for name, count in Counter(names).items():
        if count > 1:
            yield f"bands: {name} is listed {count} times"


def _input(one: Mapping[str, Any], properties: Mapping[str, Any]) -> Iterator[str]:
    bands = [b if isinstance(b, str) else b["name"] for b in one.get("bands", [])]
    listed = [band.get("name") for band in properties.get("bands", [])]
    for name in bands:
        if name not in listed:
            yield f"input {one['name']}: band {name} is not among properties.bands"
    shape = one["input"]
    if bands and "bands" not in shape["dim_order"]:
        yield f"input {one['name']}: has bands, but no dimension 'bands' in {shape['dim_order']}"
    yield from _shape(one, shape)
    sizes = dict(zip(shape["dim_order"], shape["shape"], strict=False))
    if bands and sizes.get("bands") != len(bands):
        yield f"input {one['name']}: {len(bands)} bands, but room for {sizes.get('bands')}"
    scaling = one.get("value_scaling")
    if scaling is not None and len(scaling) not in (1, len(bands)):
        yield (
            f"input {one['name']}: value_scaling has {len(scaling)} entries; allowed: 1, or one "
            f"for each of {len(bands)} bands"
        )


def _shape(one: Mapping[str, Any], shape: Mapping[str, Any]) -> Iterator[str]:
    if len(shape["shape"]) != len(shape["dim_order"]):
        yield f"{one['name']}: shape {shape['shape']} does not fit dim_order {shape['dim_order']}"
    for size in shape["shape"]:
        if size == 0 or size < -1:
            yield f"{one['name']}: a size of {size} in its shape; allowed: 1 and more, or -1"


def _classes(one: Mapping[str, Any]) -> Iterator[str]:
    """Values from 0 upwards, names that differ, colours of six hexadecimal digits."""
    classes: Sequence[Mapping[str, Any]] = one.get("classification:classes", [])
    values = [value["value"] for value in classes]
    if values != list(range(len(values))):
        yield f"output {one['name']}: class values {values} are not 0, 1, 2 and so on"
    sizes = dict(zip(one["result"]["dim_order"], one["result"]["shape"], strict=False))
    if classes and sizes.get("class") not in (None, len(classes)):
        yield f"output {one['name']}: {len(classes)} classes, but room for {sizes['class']}"
    if len({value["name"] for value in classes}) < len(classes):
        yield f"output {one['name']}: two classes of one name"
    for value in classes:
        if not re.fullmatch(r"[0-9A-Za-z-_]+", value["name"]):
            yield f"output {one['name']}: class name {value['name']!r}: letters, digits, _ and -"
        if not re.fullmatch(r"[0-9A-Fa-f]{6}", value.get("color_hint", "000000")):
            yield f"class {value['name']}: color_hint {value['color_hint']!r} is not six hex digits"


def _assets(assets: Mapping[str, Mapping[str, Any]], folder: Path) -> Iterator[str]:
    """Every file there, at a relative address, of the size and checksum stated."""
    if not any("mlm:model" in one.get("roles", []) for one in assets.values()):
        yield "assets: none has the role mlm:model"
    for key, one in assets.items():
        address = urlsplit(one["href"])
        if address.scheme or address.netloc or one["href"].startswith("/"):
            yield f"asset {key}: href {one['href']} is not relative to the item"
            continue
        if ("mlm:artifact_type" in one) != ("mlm:model" in one.get("roles", [])):
            yield f"asset {key}: mlm:artifact_type and the role mlm:model belong together"
        path = Path(os.path.normpath(folder / unquote(address.path)))
        if not path.is_file():
            yield f"asset {key}: {path} is not there"
        elif one.get("file:size") != path.stat().st_size:
            yield f"asset {key}: {path} has {path.stat().st_size} bytes, not {one.get('file:size')}"
        elif one.get("file:checksum") != f"1220{sha256_of(path)}":
            yield f"asset {key}: file:checksum is not that of {path}"


def write_item(
    model: ModelFile | PixelModelFile,
    path: Path,
    others: Sequence[Path] = (),
    *,
    licence: str | None = None,
    overwrite: bool = False,
    log: Log = print,
) -> dict[str, Any]:
    """Write the STAC item of a model and further files, after all checks.

    Args:
        model: loaded from a file, which the item lists.
        path: to write to, ending in .json; files are named from there.
        others: further files, such as the model's exports.
        licence: of the model.
        overwrite: replace what is there.
        log: gets every line.

    Raises:
        ModelError: a file is missing, or an export of another model.
        OutputError: the item exists, cannot be written, or would be wrong.
    """
    check_absent(path, overwrite=overwrite)
    if model.path is None:
        raise ModelError("a model that lies in no file has no item; save it first")
    assets = assets_of(model.path, others, path)
    written = datetime.fromtimestamp(model.path.stat().st_mtime, UTC)
    ground = training_area_of(model)
    facts: dict[str, Any] = {"ground": ground, "written": written, "licence": licence}
    if isinstance(model, PixelModelFile):
        item = pixel_item(model, assets, **facts)
    else:
        item = mlm_item(model, assets, **facts)
    check_item(item, path.resolve().parent)
    write_text(path, json.dumps(item, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    for one in assets:
        if one.href.startswith("../"):
            log(f"{one.path.name} lies outside of the item's folder; its link is {one.href}")
    log(f"mlm      {path} ({len(assets)} asset{'s' if len(assets) > 1 else ''})")
    return item


def training_area_of(model: ModelFile | PixelModelFile) -> shapely.Geometry | None:
    """The area of a model's training samples in degrees, None where it is not known."""
    if isinstance(model, PixelModelFile):
        located = [((x, y, x, y), crs) for crs, all_ in model.ground.items() for x, y, *_ in all_]
        return ground_in_degrees([box for box, _ in located], [crs for _, crs in located])
    boxes = model.training_samples.footprints.tolist()
    systems = model.notes.get("training", {}).get("crs") or [None] * len(boxes)
    return ground_in_degrees([(box[0], box[1], box[2], box[3]) for box in boxes], systems)
